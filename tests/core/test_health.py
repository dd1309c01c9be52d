"""What calls share about the far end: gates that never shorten, budgets that bound a flood, a shelf that stays small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Key, Target
from orrouter.core.health import SHELF, Bucket, Draw, Gate, Health, Subject, subject_of

GATE, OTHER = Key[Gate]("gate"), Key[Gate]("other")
TARGET = Target("openrouter", "big", "key")


# --- Gate -----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e6)), st.floats(0, 1e6))
def test_a_gate_stands_until_the_furthest_it_was_armed_to(instants, now):
    """Arming never shortens, and says whether it changed anything."""
    gate, furthest = Gate(), 0.0
    for instant in instants:
        assert (instant > furthest) is gate.arm(instant)
        furthest = max(furthest, instant)
    assert max(0.0, furthest - now) == gate.wait(now)


def test_a_gate_shows_how_long_it_waits():
    """In seconds, rounded for people; nothing when it is open."""
    gate = Gate()
    gate.arm(10.0)
    assert ({"waits_s": 7.667}, {"waits_s": 0.0}) == (gate.show(2.3333), gate.show(11.0))


# --- Bucket ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.floats(0, 100), st.sampled_from(["draw", "refund", "success"]), st.sampled_from([5.0, 14.0])),
    max_size=60,
)


@given(STEPS, st.integers(0, 60), st.floats(1, 600), st.floats(0, 20))
def test_over_any_window_a_target_bears_no_flood(steps, first, capacity, refill):
    """Withdrawn less given back is at most the capacity, what was refilled, and one for each success."""
    bucket, now, began, drawn, given_back = Bucket(Draw(capacity, refill), 0.0), 0.0, None, 0.0, 0.0
    for number, (later, act, cost) in enumerate(steps):
        now += later
        if number == first:
            began = now
        units = cost if act == "refund" else 1.0
        taken = bucket.draw(cost, now) if act == "draw" else bucket.give(units, now)
        if began is not None:
            drawn += cost if taken else 0.0
            given_back += 0.0 if act == "draw" else units
    window = 0.0 if began is None else now - began
    assert drawn - given_back <= capacity + refill * window + 1e-6


def test_a_bucket_that_is_too_low_gives_nothing():
    """And keeps what it has."""
    bucket = Bucket(Draw(20.0, 1.0), 0.0)
    assert [True, False, True, False] == [bucket.draw(cost, 0.0) for cost in (14.0, 7.0, 6.0, 0.1)]


def test_a_bucket_is_refilled_with_time_and_never_above_its_brim():
    """So many units a second."""
    bucket = Bucket(Draw(20.0, 2.0), 0.0)
    bucket.draw(20.0, 0.0)
    assert [{"retry_units": 6.0}, {"retry_units": 20.0}] == [bucket.show(3.0), bucket.show(1e9)]
    bucket.give(50.0, 1e9)
    assert {"retry_units": 20.0} == bucket.show(1e9)


def test_a_clock_that_steps_back_fills_nothing_twice():
    """The same seconds count once."""
    bucket = Bucket(Draw(100.0, 1.0), 0.0)
    bucket.draw(100.0, 10.0)
    assert [{"retry_units": 2.0}] * 5 == [bucket.show(now) for now in (12.0, 10.0, 12.0, 11.0, 12.0)]


def test_an_outage_gets_at_most_seven_retries_in_ten_seconds():
    """With the default rules, once the reserve is spent, whatever the traffic."""
    bucket = Bucket(Draw(), 0.0)
    while bucket.draw(14.0, 0.0):
        pass
    asked = [bucket.draw(14.0, tenth / 10) for tenth in range(1, 1001)]
    assert 71 <= sum(asked) <= 72


# --- Health ---------------------------------------------------------------------------------------------


def test_each_kind_and_subject_has_a_state_of_its_own():
    """Made once, when first asked for."""
    health = Health()
    one, other = health.of(GATE, "a", Gate), health.of(OTHER, "a", Gate)
    assert one is not other
    assert one is health.of(GATE, "a", Gate)
    assert (one, None, None) == (health.peek(GATE, "a"), health.peek(GATE, "b"), health.peek(Key("gate"), "a"))


def test_peeking_makes_nothing():
    """Most calls only look."""
    health = Health()
    health.peek(GATE, "a")
    assert {} == health.show(0.0)


def test_the_shelf_forgets_its_oldest_when_it_is_full():
    """A caller who invents names does not fill the memory; the newest stay."""
    health = Health()
    for number in range(SHELF + 5):
        health.of(GATE, number, Gate)
    kept = [subject for subject, _ in health.each(GATE)]
    assert (SHELF, 5, SHELF + 4) == (len(kept), kept[0], kept[-1])


def test_each_may_be_walked_while_states_come_and_go():
    """It is the list of that moment."""
    health = Health()
    health.of(GATE, "a", Gate)
    for _ in health.each(GATE):
        health.of(GATE, "b", Gate)
        health.reset("a")
    assert ["b"] == [subject for subject, _ in health.each(GATE)]
    assert [] == list(health.each(OTHER))


@pytest.mark.parametrize(("text", "gone"), [("", 3), ("big", 2), ("@Acme", 1), ("nobody", 0)])
def test_reset_forgets_every_subject_that_is_named(text, gone):
    """By a part of its name; all of them without one."""
    health = Health()
    subjects = (Subject("u", "k", "big"), Subject("u", "k", "big", "Acme"), Subject("u", "k", "small"))
    for subject in subjects:
        health.of(GATE, subject, Gate)
    assert (gone, 3 - gone) == (health.reset(text), len(list(health.each(GATE))))


def test_health_is_shown_as_plain_values():
    """Kind, subject, state; the key's name is nobody's business."""
    health = Health()
    health.of(GATE, Subject("openrouter", "secret", "big", "Acme"), Gate).arm(3.0)
    assert {"gate": {"openrouter/big@Acme": {"waits_s": 2.0}}} == health.show(1.0)


@pytest.mark.parametrize(
    ("scope", "provider", "subject"),
    [
        ("key", "Acme", Subject("openrouter", "key")),
        ("free", None, Subject("openrouter", "key", ":free")),
        ("provider", "Acme", Subject("openrouter", "key", "big", "Acme")),
        ("provider", None, Subject("openrouter", "key", "big")),
        ("target", "Acme", Subject("openrouter", "key", "big")),
    ],
)
def test_whom_a_limit_concerns(scope, provider, subject):
    """A provider's limit without a known provider concerns the whole target."""
    assert subject == subject_of(TARGET, scope, provider)
