"""What is asked: a call that never changes, the ids of calls, and the trail that they leave."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Call, Clocks, Key, Target, Trail, new_request_id
from orrouter.core.errors import Overloaded
from orrouter.core.facts import AttemptStarted, Fact, RetryScheduled

SIZE, NAME = Key[int]("size"), Key[str]("name")


def trail_of(*times: float, listener=None) -> Trail:
    """A trail whose clock reads these times, the last one for ever."""
    left = list(times)
    return Trail("req_1", lambda: left.pop(0) if len(left) > 1 else left[0], listener)


def call_of(**fields) -> Call:
    return Call(trail=trail_of(0.0), **fields)


# --- Call -----------------------------------------------------------------------------------------------


def test_to_makes_another_call_and_leaves_the_first():
    """Only what is named differs."""
    call = call_of(body={"a": 1}, target=Target(model="big"))
    other = call.to(target=Target(model="small"), last=False)
    assert ("big", True) == (call.target.model, call.last)
    assert ("small", False, {"a": 1}, call.trail) == (other.target.model, other.last, other.body, other.trail)


@given(st.sets(st.sampled_from(["modle", "deadlines", "bodies"]), min_size=1))
def test_to_refuses_what_a_call_has_not(names):
    """A misspelled field is told, also beside a good one, and would not silently do nothing."""
    with pytest.raises(TypeError, match=", ".join(sorted(names))):
        call_of().to(last=False, **dict.fromkeys(names))


@pytest.mark.parametrize(("one", "name"), [(call_of(), "last"), (Target(), "model"), (Clocks(), "stall")])
def test_words_are_frozen(one, name):
    """A layer that wants another makes another."""
    with pytest.raises(FrozenInstanceError):
        setattr(one, name, None)


def test_one_field_is_replaced_in_another_call():
    """As `to` does it; the new one is as frozen as the first."""
    call = call_of(body={"a": 1})
    other = call.replaced("body", {"b": 2})
    assert ({"a": 1}, {"b": 2}, call.trail) == (call.body, other.body, other.trail)
    with pytest.raises(FrozenInstanceError):
        other.body = {}


def test_charge_adds_who_pays():
    """In the order of the layers; the call above is not charged."""
    call = call_of().charge("cap")
    assert (("cap",), ("cap", "team")) == (call.limits, call.charge("team").limits)


def test_an_extension_hangs_a_value_on_a_call():
    """For layers further down; each key its own, and the call above has none."""
    call = call_of()
    below = call.hang(SIZE, 3).hang(NAME, "x").hang(SIZE, 4)
    assert (None, 4, "x") == (call.get(SIZE), below.get(SIZE), below.get(NAME))


def test_two_keys_are_never_the_same():
    """Two extensions that chose one name do not read each other's values."""
    assert call_of().hang(Key[int]("size"), 1).get(SIZE) is None


@pytest.mark.parametrize(
    ("endpoint", "completes"),
    [("chat/completions", True), ("completions", True), ("embeddings", False), ("models", False)],
)
def test_only_what_a_model_writes_completes(endpoint, completes):
    """The rest cannot be streamed."""
    assert completes is call_of(endpoint=endpoint).completes


def test_a_target_shows_its_model_and_never_more():
    """Or its upstream, where no model is named."""
    assert ("big", "spare") == (str(Target("spare", "big", "key")), str(Target("spare")))


def test_preferences_do_not_make_another_target():
    """State is kept for the target, however it is asked."""
    one, other = Target(model="m", provider={"only": ["a"]}), Target(model="m")
    assert {one} == {one, other}


# --- ids ------------------------------------------------------------------------------------------------


def test_ids_are_unique_and_short():
    """`req_` and 18 characters of one prefix for the process."""
    ids = [new_request_id() for _ in range(1000)]
    assert 1000 == len(set(ids))
    assert all(re.fullmatch(r"req_[0-9a-f]{18}", one) for one in ids)
    assert 1 == len({one[:14] for one in ids})


FORKS = """
import os
from orrouter.core.call import new_request_id
new_request_id()
child = os.fork()
os.write(1, new_request_id().encode() + b"\\n")
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_makes_ids_of_its_own():
    """Though it counts on from where its parent was."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    one, other = done.stdout.split()
    assert one[-8:] == other[-8:]
    assert one[:14] != other[:14]


# --- Attempt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (None, None),
        ({}, None),
        ({"cost": None}, None),
        ({"cost": 0}, 0),
        ({"cost": 0.00001234}, 12_340),
        ({"cost": 1e-10}, 1),
        ({"cost": -0.5}, None),
        ({"cost": "0.1"}, None),
        ({"cost": True}, None),
        ({"cost": float("nan")}, None),
        ({"cost": float("inf")}, None),
    ],
)
def test_the_cost_is_what_the_upstream_said_or_unknown(usage, cost):
    """In nano-USD, rounded up; what is no sum is no cost."""
    attempt = Attempt(1, Target(), 0.0)
    attempt.usage = usage
    assert cost == attempt.cost


def test_a_try_becomes_a_value_with_times_of_its_call():
    """Counted from when the call began; the message of its error stands in it."""
    attempt = Attempt(2, Target("spare", "big"), 12.0)
    attempt.first_token, attempt.ended, attempt.outcome = 13.0, 15.0, "overloaded"
    attempt.provider, attempt.error, attempt.usage = "Acme", Overloaded("busy"), {"cost": 0.5}
    record = attempt.record(10.0)
    assert (2, "spare", "big", "Acme") == (record.number, record.upstream, record.model, record.provider)
    assert (2.0, 3.0, 5.0, 3.0) == (record.started_s, record.first_token_s, record.ended_s, record.duration_s)
    assert ("overloaded", "busy", 500_000_000) == (record.outcome, record.message, record.cost_nano)


def test_a_try_under_way_has_no_end():
    """Nor a duration; a foreign error has no message that could be shown."""
    attempt = Attempt(1, Target(model="big"), 1.0)
    attempt.error = KeyError("sk-secret")
    record = attempt.record(1.0)
    assert (None, None, None, "open", "") == (
        record.ended_s,
        record.duration_s,
        record.first_token_s,
        record.outcome,
        record.message,
    )


def test_the_record_of_a_try_keeps_no_live_usage():
    """What the upstream's dict becomes later does not change it."""
    attempt = Attempt(1, Target(), 0.0)
    attempt.usage = usage = {"cost": 1}
    record = attempt.record(0.0)
    usage["cost"] = 2
    assert {"cost": 1} == record.usage


# --- Trail ----------------------------------------------------------------------------------------------


def test_a_noted_fact_stands_in_the_record_and_is_told():
    """Stamped with the call's id and its time in the call."""
    heard: list[Fact] = []
    trail = trail_of(10.0, 12.5, listener=heard.append)
    fact = RetryScheduled(model="big", error="overloaded", delay_s=1.0)
    trail.note(fact)
    assert ([fact], (fact,), "req_1", 2.5) == (heard, trail.record().facts, fact.request_id, fact.at_s)


def test_told_progress_stands_in_the_record_in_another_form():
    """It is heard and not kept."""
    heard: list[Fact] = []
    trail = trail_of(10.0, 11.0, listener=heard.append)
    trail.tell(AttemptStarted(number=1, upstream="openrouter", model="big"))
    assert (["req_1"], ()) == ([fact.request_id for fact in heard], trail.record().facts)


def test_without_a_listener_facts_are_kept_all_the_same():
    """Nobody has to listen."""
    trail = trail_of(0.0)
    trail.note(RetryScheduled(model="big", error="overloaded", delay_s=1.0))
    trail.tell(AttemptStarted(number=1, upstream="openrouter", model="big"))
    assert 1 == len(trail.record().facts)


def test_a_record_is_the_state_of_its_moment():
    """What happens later stands in the next one."""
    trail = trail_of(10.0, 14.0)
    trail.tags, trail.policy, trail.endpoint = {"team": "a"}, "default", "chat/completions"
    trail.attempts.append(Attempt(1, Target(model="big"), 10.0))
    before = trail.record()
    trail.ended, trail.outcome = 13.0, "ok"
    trail.attempts[0].outcome = "ok"
    after = trail.record()
    assert ("open", 4.0, "open") == (before.outcome, before.duration_s, before.attempts[0].outcome)
    assert ("ok", 3.0, "ok") == (after.outcome, after.duration_s, after.attempts[0].outcome)
    assert ("req_1", "default", "chat/completions", {"team": "a"}) == (
        after.request_id,
        after.policy,
        after.endpoint,
        after.tags,
    )
