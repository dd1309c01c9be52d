"""What the fake upstream remembers."""

from __future__ import annotations

from orrouter.testkit.log import Generations, Log, masked


def test_a_snapshot_does_not_change():
    """What was read stays as it was."""
    log = Log()
    number = log.open(at=0.0, wall=0.0, path="x")
    before = log.snapshot()
    log.update(number, status=200)
    assert (0, 200) == (before[0].status, log.snapshot()[0].status)


def test_a_short_key_is_masked_whole():
    """Four characters of a short key would be too much of it."""
    assert {"authorization": "Bearer ***"} == masked({"Authorization": "Bearer sk-short"})


def test_a_generation_hides_for_a_while():
    """Before its delay is over it is unknown."""
    kept = Generations(delay=10)
    kept.keep({"id": "gen-1"}, at=100.0)
    assert [None, {"id": "gen-1"}] == [kept.find("gen-1", at) for at in (105.0, 110.0)]


def test_an_unknown_generation_stays_unknown():
    """Asking often does not make it appear."""
    kept = Generations(misses=1)
    assert [None] * 3 == [kept.find("gen-0", 0.0) for _ in range(3)]
