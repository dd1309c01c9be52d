"""Facts and the decision record: frozen values that say what happened."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from orrouter.core import facts
from orrouter.core.facts import Fact, FallbackTaken, GateAwaited, Record, RetryScheduled, TargetSkipped

KINDS = [
    kind for kind in vars(facts).values() if isinstance(kind, type) and issubclass(kind, Fact) and kind is not Fact
]
SKIPPED = TargetSkipped(model="small", upstream="openrouter", reason="no tools")


def made(kind: type[Fact]) -> Fact:
    """A fact with a value in each field."""
    return kind(**{field.name: "x" for field in dataclasses.fields(kind)})


def record_of(*noted: Fact) -> Record:
    return Record("req_1", "default", "chat/completions", {}, "ok", 1.0, (), noted)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_fact_is_a_frozen_value_that_travels(kind):
    """It can be compared, pickled, and not changed; it says what it is in its docstring."""
    fact = made(kind)
    assert fact == pickle.loads(pickle.dumps(fact))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fact.request_id = "y"
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_length_of_time_has_its_unit_in_its_name(kind):
    """Every number that is no count, no id and no money ends in `_s`."""
    floats = [field.name for field in dataclasses.fields(kind) if "float" in str(field.type)]
    assert [] == [name for name in floats if not name.endswith("_s")]


def test_a_record_tells_who_was_skipped():
    """In order, with the reasons."""
    taken = FallbackTaken(failed="big", error="overloaded", model="tiny")
    assert (SKIPPED,) == record_of(taken, SKIPPED).skipped


def test_a_record_sums_what_was_waited():
    """Before retries and at gates."""
    retried = RetryScheduled(model="big", error="overloaded", delay_s=1.5)
    assert 2.0 == record_of(retried, SKIPPED, GateAwaited(model="big", delay_s=0.5)).waited_s


def test_a_record_travels():
    """A worker process can send it home."""
    record = record_of(SKIPPED)
    assert record == pickle.loads(pickle.dumps(record))
