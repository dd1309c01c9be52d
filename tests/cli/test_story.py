"""Facts in words."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

import pytest

from orrouter.cli.story import tell
from orrouter.core import facts
from orrouter.core.facts import BreakerOpened, Fact, RetryScheduled

KINDS = [one for one in vars(facts).values() if isinstance(one, type) and issubclass(one, Fact) and one is not Fact]
SAMPLES = {"str": "word", "int": 3, "float": 1.5, "str | None": None, "int | None": None, "tuple[str, ...]": ("a", "b")}


def sample(kind: type[Fact]) -> Fact:
    wanted = [one for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    return kind(**{one.name: SAMPLES[str(one.type)] for one in wanted})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fact_has_a_sentence_of_its_own(kind):
    """No fact of ours is told by the names of its fields."""
    assert kind.__name__ not in tell(sample(kind))


def test_a_sentence_tells_the_numbers_with_their_units():
    """Seconds are told as people write them."""
    assert "rate_limited: asks again in 1.5s" == tell(RetryScheduled(model="a/b", error="rate_limited", delay_s=1.5))
    assert "breaker of a/b opened for 5s: 4 failures in a row" == tell(
        BreakerOpened(subject="a/b", for_s=5.0, reason="4 failures in a row")
    )


def test_a_fact_of_somebody_else_tells_its_fields():
    """A package that adds a layer may note facts that nobody here knows."""

    @dataclass(frozen=True, kw_only=True)
    class CacheHit(Fact):
        key: str

    assert "CacheHit: key abc" == tell(CacheHit(key="abc"))
