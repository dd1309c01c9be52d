"""What happened lately is remembered, and no more than that."""

from __future__ import annotations

from orrouter.ledger.recent import Recent


def test_the_last_so_many_are_remembered():
    """Whatever was told among the last `size` things is found."""
    recent: Recent[int] = Recent(10)
    for number in range(1000):
        recent.add(str(number), number)
        assert list(range(max(0, number - 9), number + 1)) == [
            recent.get(str(last)) for last in range(max(0, number - 9), number + 1)
        ]


def test_no_more_are_kept():
    """A thousand things take the room of ten."""
    recent: Recent[int] = Recent(10)
    for number in range(1000):
        recent.add(str(number), number)
    assert 10 == len(recent)
    assert None is recent.get("0")
