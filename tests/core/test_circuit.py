"""The circuit as a pure machine: what opens it, who may probe, what closes it, and that it never sticks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from orrouter.core.circuit import (
    CLOSED,
    GOOD,
    HALF_OPEN,
    OPEN,
    REFUSED,
    SLOW,
    Circuit,
    Outcome,
    Rules,
    Window,
    pause,
    tripped,
)

BAD = Outcome(failed=True)
RULES = Rules()


def circuit_of(rules: Rules = RULES, draw: float = 0.5) -> Circuit:
    return Circuit("model", rules, lambda: draw)


def tell(circuit: Circuit, outcomes: str, now: float = 0.0, *, last: bool = True) -> None:
    """`.` good, `x` failed, `s` slow: each asked and recorded at `now`."""
    for letter in outcomes:
        outcome = {".": GOOD, "x": BAD, "s": SLOW}[letter]
        circuit.record(circuit.admit(now), outcome, now, last=last)


def opened(now: float = 0.0, rules: Rules = RULES, *, last: bool = True) -> Circuit:
    circuit = circuit_of(rules)
    tell(circuit, "xxxxx", now, last=last)
    return circuit


# --- what opens it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ("xxxx", ""),
        ("xxxxx", "5 failures in a row"),
        ("xxxx.xxxx", ""),
        ("xx.xx.xx.", ""),
        ("xx.xx.xx.x", "7 of 10 calls failed within 2m"),
        ("x.x.x.x.x", ""),
        ("x.x.x.x.x.", ""),
        (".x.x.x.x.x", "5 of 10 calls failed within 2m"),
        ("x..x..x..xx.", ""),
        ("sssssssss", ""),
        ("sssssss...", ""),
        ("ssssssss..", ""),
        ("..ssssssss", "8 of 10 calls were slow within 2m"),
        ("." * 40, ""),
    ],
)
def test_a_run_of_failures_or_a_rate_from_ten_calls_opens(outcomes: str, reason: str) -> None:
    """Five failures in a row open it, and from ten calls on half failed or four fifths slow."""
    circuit = circuit_of()
    tell(circuit, outcomes)
    assert (OPEN if reason else CLOSED) == circuit.state
    assert reason == circuit.reason


def test_failures_older_than_the_window_do_not_count() -> None:
    """What the window has left behind opens nothing."""
    circuit = circuit_of()
    tell(circuit, "xxxx....", 0.0)
    tell(circuit, "x.", 120.0)
    assert CLOSED == circuit.state
    assert 2 == circuit.show(120.0)["calls"]


def test_the_window_forgets_slice_by_slice() -> None:
    """A slice goes as a whole when it is older than the window."""
    window = Window(120.0)
    window.add(BAD, 5.0)
    window.add(GOOD, 15.0)
    window.roll(119.9)
    assert (2, 1) == (window.calls, window.failures)
    window.roll(120.0)
    assert (1, 0) == (window.calls, window.failures)
    window.roll(130.0)
    assert (0, 0) == (window.calls, window.failures)


def test_a_window_left_alone_for_long_is_empty() -> None:
    """However long nothing came, nothing of before is left."""
    window = Window(120.0)
    for second in range(0, 120, 5):
        window.add(Outcome(failed=True, slow=True), float(second))
    window.roll(1e9)
    assert (0, 0, 0) == (window.calls, window.failures, window.slow)


def test_a_silent_failure_is_slow_too() -> None:
    """One outcome may count on both scores, and the rate of slow ones then opens it."""
    circuit = circuit_of(replace(RULES, failure_rate=1.0, consecutive=math.inf))
    tell(circuit, "....")
    for outcome in (Outcome(failed=True, slow=True), SLOW) * 8:
        circuit.record(circuit.admit(0.0), outcome, 0.0)
    assert "16 of 20 calls were slow within 2m" == circuit.reason


def test_a_circuit_that_only_counts_never_opens() -> None:
    """The rules of metrics_only keep the counters and trip on nothing."""
    circuit = circuit_of(RULES.never())
    tell(circuit, "x" * 500)
    shown = circuit.show(0.0)
    assert (CLOSED, 500, 500) == (shown["state"], shown["calls"], shown["failures"])


def test_tripped_compares_the_quotient() -> None:
    """A rate that is met exactly opens, whatever its binary fraction."""
    window = Window(120.0)
    for place in range(20):
        window.add(BAD if place % 2 else GOOD, 0.0)
    window.add(BAD, 0.0)
    assert "" != tripped(window, replace(RULES, failure_rate=11 / 21))


# --- for how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strikes", "longest", "draw", "seconds"),
    [
        (1, 300.0, 0.5, 5.0),
        (2, 300.0, 0.5, 10.0),
        (3, 300.0, 0.5, 20.0),
        (7, 300.0, 0.5, 300.0),
        (3, 15.0, 0.5, 15.0),
        (1, 300.0, 0.0, 4.5),
        (1, 300.0, 1.0, 5.5),
        (10_000, 300.0, 0.5, 300.0),
    ],
)
def test_pauses_double_up_to_the_longest(strikes: int, longest: float, draw: float, seconds: float) -> None:
    """Five seconds, doubled each time, capped, within a tenth."""
    assert pytest.approx(seconds) == pause(strikes, 5.0, longest, draw)


def test_a_failed_probe_opens_for_longer() -> None:
    """Each failure of a probe doubles the pause."""
    circuit, now = opened(), 0.0
    for seconds in (5.0, 10.0, 20.0, 40.0):
        assert pytest.approx(seconds) == circuit.wait(now)
        now += seconds
        tell(circuit, "x", now)


@pytest.mark.parametrize(("last", "longest"), [(False, 15.0), (True, 300.0)])
def test_the_longest_pause_depends_on_whether_another_could_serve(last: bool, longest: float) -> None:
    """Fifteen seconds where a fallback exists, three hundred where none does."""
    circuit, now = opened(last=last), 0.0
    for _ in range(9):
        now += circuit.wait(now)
        tell(circuit, "x", now, last=last)
    assert pytest.approx(longest) == circuit.wait(now)


def test_a_pause_is_never_shorter_than_the_far_end_asked_for() -> None:
    """Retry-After raises the end of the pause, and never lowers it."""
    circuit = circuit_of()
    tell(circuit, "xxxx")
    circuit.record(circuit.admit(0.0), Outcome(failed=True, retry_after=70.0), 0.0)
    assert 70.0 == circuit.wait(0.0)
    circuit = opened()
    circuit.record(circuit.admit(5.0), Outcome(failed=True, retry_after=1.0), 5.0)
    assert pytest.approx(10.0) == circuit.wait(5.0)


@pytest.mark.parametrize(("closed_for", "seconds"), [(599.0, 10.0), (600.0, 5.0)])
def test_strikes_are_forgotten_after_ten_minutes_closed(closed_for: float, seconds: float) -> None:
    """A circuit that was well for long opens as if for the first time."""
    circuit = opened()
    tell(circuit, "..", 5.0)
    tell(circuit, "xxxxx", 5.0 + closed_for)
    assert pytest.approx(seconds) == circuit.wait(5.0 + closed_for)


# --- probes -------------------------------------------------------------------------------------------


def test_an_open_circuit_refuses_until_its_pause_is_over() -> None:
    """Nobody is admitted before, and the first one at that instant."""
    circuit = opened()
    assert REFUSED == circuit.admit(4.999)
    assert OPEN == circuit.state
    assert REFUSED != circuit.admit(5.0)
    assert HALF_OPEN == circuit.state


def test_one_probe_at_a_time() -> None:
    """While a probe is under way everybody else is refused."""
    circuit = opened()
    permit = circuit.admit(5.0)
    assert [REFUSED, REFUSED] == [circuit.admit(5.0), circuit.admit(50.0)]
    circuit.record(permit, GOOD, 50.0)
    assert REFUSED != circuit.admit(50.0)


def test_two_successes_close() -> None:
    """One good probe is not enough, two are; the window begins anew."""
    circuit = opened()
    tell(circuit, ".", 5.0)
    assert HALF_OPEN == circuit.state
    tell(circuit, ".", 5.0)
    assert CLOSED == circuit.state
    assert 0 == circuit.show(5.0)["calls"]


def test_a_success_between_failures_of_probes_is_forgotten() -> None:
    """Successes must follow one another: a failure between them starts the count anew."""
    circuit = opened()
    tell(circuit, ".x", 5.0)
    tell(circuit, ".", 15.0)
    assert HALF_OPEN == circuit.state


def test_a_probe_that_says_nothing_gives_its_permit_back() -> None:
    """After a cancelled probe the next request is the probe."""
    circuit = opened()
    circuit.give_back(circuit.admit(5.0), 6.0)
    assert not circuit.probing
    assert REFUSED != circuit.admit(6.0)


def test_a_probe_without_a_verdict_lapses() -> None:
    """After the patience it is open again for the same pause, counted from that instant."""
    circuit = opened()
    circuit.admit(5.0)
    assert REFUSED == circuit.admit(64.999)
    assert REFUSED == circuit.admit(65.0)
    assert (OPEN, 5.0) == (circuit.state, pytest.approx(circuit.wait(65.0)))
    assert "a probe had no verdict after 1m" == circuit.reason
    assert REFUSED != circuit.admit(70.0)


def test_a_lapsed_probe_that_succeeds_late_still_counts() -> None:
    """Where every good answer takes longer than the patience, the circuit closes all the same."""
    circuit, probes, now = opened(), [], 5.0
    for _ in range(2):
        probes.append(circuit.admit(now))
        circuit.admit(now + 60.0)
        now += 60.0 + circuit.wait(now + 60.0)
    for permit in probes:
        circuit.record(permit, GOOD, now)
    assert CLOSED == circuit.state


def test_a_lapsed_probe_does_not_free_the_place_of_the_next() -> None:
    """Its late return leaves the probe that is under way alone."""
    circuit = opened()
    first = circuit.admit(5.0)
    circuit.admit(65.0)
    circuit.admit(70.0)
    circuit.give_back(first, 71.0)
    assert REFUSED == circuit.admit(71.0)
    circuit.record(first, GOOD, 72.0)
    assert REFUSED == circuit.admit(72.0)


def test_a_lapsed_probe_that_succeeds_admits_the_next_at_once() -> None:
    """It has shown what the rest of the pause would wait for."""
    circuit = opened()
    permit = circuit.admit(5.0)
    circuit.admit(65.0)
    circuit.record(permit, GOOD, 66.0)
    assert REFUSED != circuit.admit(66.0)


def test_a_lapse_never_shortens_a_pause() -> None:
    """What the far end asked for holds, also where a probe ahead of its time gave no verdict."""
    circuit = circuit_of()
    for _ in range(5):
        circuit.record(circuit.admit(0.0), Outcome(failed=True, retry_after=300.0), 0.0)
    circuit.admit(1.0, early=True)
    assert REFUSED == circuit.admit(100.0)
    assert 200.0 == circuit.wait(100.0)


def test_a_stream_that_breaks_after_its_success_reopens() -> None:
    """A probe whose success was told early may still fail, while half open."""
    circuit = opened()
    permit = circuit.admit(5.0)
    circuit.record(permit, GOOD, 6.0)
    circuit.record(permit, BAD, 7.0)
    assert (OPEN, "a probe failed") == (circuit.state, circuit.reason)


def test_a_stream_that_breaks_after_the_circuit_closed_is_an_ordinary_failure() -> None:
    """It counts in the new window and no more."""
    circuit = opened()
    permit = circuit.admit(5.0)
    circuit.record(permit, GOOD, 6.0)
    tell(circuit, ".", 6.0)
    circuit.record(permit, BAD, 7.0)
    shown = circuit.show(7.0)
    assert (CLOSED, 1, 1) == (shown["state"], shown["calls"], shown["failures"])


# --- epochs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_what_was_asked_before_the_opening_says_nothing_any_more(outcome: Outcome) -> None:
    """A late outcome neither closes nor opens, in whatever state it comes."""
    circuit = circuit_of()
    late = circuit.admit(0.0)
    tell(circuit, "xxxxx")
    seen = []
    for at, act in [(1.0, ""), (5.0, "."), (6.0, ".")]:
        tell(circuit, act, at)
        before = circuit.show(at)
        circuit.record(late, outcome, at)
        seen.append(before == circuit.show(at))
    assert [True, True, True] == seen


def test_a_late_return_frees_no_probe() -> None:
    """Giving back a permit of before the opening leaves the probe its place."""
    circuit = circuit_of()
    late = circuit.admit(0.0)
    tell(circuit, "xxxxx")
    circuit.admit(5.0)
    circuit.give_back(late, 5.0)
    assert REFUSED == circuit.admit(5.0)


def test_who_was_not_admitted_by_name_counts_only_while_it_was_closed() -> None:
    """A request counts without a permit if the circuit has been closed since it began."""
    circuit = circuit_of()
    assert circuit.epoch == circuit.permit_since(0.0)
    tell(circuit, "xxxxx", 1.0)
    assert REFUSED == circuit.permit_since(2.0)
    tell(circuit, "..", 10.0)
    assert REFUSED == circuit.permit_since(2.0)
    assert circuit.epoch == circuit.permit_since(10.0)


# --- ahead of time ------------------------------------------------------------------------------------


def test_a_probe_ahead_of_its_time_comes_once_a_second() -> None:
    """Who has nobody else left may probe an open circuit, at most once a second."""
    circuit = opened()
    permits = []
    for now in (0.1, 0.2, 1.0, 1.1, 1.2, 2.1):
        permit = circuit.admit(now, early=True)
        permits.append(permit != REFUSED)
        if permit:
            circuit.record(permit, BAD, now)
    assert [True, False, False, True, False, True] == permits


def test_an_early_probe_that_fails_does_not_lengthen_the_pause() -> None:
    """The pause and its number stay as they were."""
    circuit = opened()
    circuit.record(circuit.admit(1.0, early=True), BAD, 2.0)
    assert pytest.approx(3.0) == circuit.wait(2.0)
    tell(circuit, "x", 5.0)
    assert pytest.approx(10.0) == circuit.wait(5.0)


def test_an_early_probe_given_back_leaves_the_circuit_open() -> None:
    """The others still wait for the end of the pause."""
    circuit = opened()
    circuit.give_back(circuit.admit(1.0, early=True), 2.0)
    assert (OPEN, REFUSED) == (circuit.state, circuit.admit(4.0))
    assert REFUSED != circuit.admit(5.0)


def test_an_early_probe_that_succeeds_admits_the_next() -> None:
    """Recovery is not held up by the rest of the pause, nor by a probe that says nothing."""
    circuit = opened()
    circuit.record(circuit.admit(1.0, early=True), GOOD, 1.0)
    circuit.give_back(circuit.admit(1.25), 1.25)
    tell(circuit, ".", 1.5)
    assert CLOSED == circuit.state


def test_a_probe_under_way_is_not_doubled_by_an_early_one() -> None:
    """Half open with a probe out, even an early request is refused, and told a first pause."""
    circuit = opened()
    circuit.admit(5.0)
    assert REFUSED == circuit.admit(10.0, early=True)
    assert 5.0 == circuit.wait(10.0)


# --- shown --------------------------------------------------------------------------------------------


def test_show_tells_why_and_for_how_long() -> None:
    """An open circuit shows the counters that opened it, its reason and the rest of its pause."""
    circuit = circuit_of()
    tell(circuit, "...xxxxx")
    expected = {
        "state": "open",
        "calls": 8,
        "failures": 5,
        "failure_rate": 0.625,
        "slow": 0,
        "open_for_s": 4.0,
        "epoch": 2,
        "reason": "5 failures in a row",
    }
    assert expected == circuit.show(1.0)


# --- any history --------------------------------------------------------------------------------------


@dataclass
class Asked:
    permit: int
    probe: bool
    opening: int
    """How many openings there had been."""
    told: bool = False
    """A success was told before its end."""


class AnyHistory(RuleBasedStateMachine):
    """Requests begin and end in any order while time passes; the four invariants hold at every step."""

    asked = Bundle("asked")

    @initialize(draw=st.floats(0, 1, exclude_max=True), fallback=st.booleans())
    def begin(self, draw: float, fallback: bool) -> None:
        self.circuit, self.last = circuit_of(draw=draw), not fallback
        self.now = 1000.0
        self.flying: list[Asked] = []
        self.openings = 0
        self.closed_until = 0.0
        """No request but an early one before this instant."""
        self.early_at = -math.inf

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 4.25, 6.0, 20.0, 61.0, 130.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=asked, early=st.booleans())
    def ask(self, early: bool) -> Asked:
        was_open = self.circuit.state == OPEN
        permit = self.circuit.admit(self.now, early=early)
        asked = Asked(permit, self.circuit.state != CLOSED, self.openings)
        if permit == REFUSED:
            assert self.circuit.state != CLOSED
            return asked
        if was_open and self.now < self.closed_until:
            assert early, "C2: an open circuit got a request before its time"
            assert self.now - self.early_at >= 1.0, "C2: early probes came closer than a second"
        if was_open:
            self.early_at = self.now
        self.flying.append(asked)
        return asked

    @rule(asked=consumes(asked), how=st.sampled_from(["good", "slow", "bad", "bad", "bad", "nothing"]))
    def end(self, asked: Asked, how: str) -> None:
        if asked.permit == REFUSED:
            return
        self.flying.remove(asked)
        if how == "nothing" and not asked.told:
            self.circuit.give_back(asked.permit, self.now)
        elif how == "bad" or (how != "nothing" and not asked.told):
            self.record(asked, {"good": GOOD, "slow": SLOW, "bad": BAD}[how])

    @rule(asked=asked)
    def tell_early(self, asked: Asked) -> None:
        if asked.probe and asked in self.flying and not asked.told:
            asked.told = True
            self.record(asked, GOOD)

    @rule(retry_after=st.sampled_from([0.0, 30.0]))
    def outage(self, retry_after: float) -> None:
        """Five failures in a row, as far as anybody is admitted."""
        for _ in range(5):
            permit = self.circuit.admit(self.now)
            if permit:
                probe = self.circuit.state != CLOSED
                self.record(Asked(permit, probe, self.openings), Outcome(failed=True, retry_after=retry_after))

    def record(self, asked: Asked, outcome: Outcome) -> None:
        circuit, before = self.circuit, (self.circuit.epoch, self.circuit.show(self.now))
        was, until = circuit.state, circuit.until
        circuit.record(asked.permit, outcome, self.now, last=self.last)
        if asked.opening != self.openings:
            assert before == (circuit.epoch, circuit.show(self.now)), "a stale outcome changed the state"
        elif circuit.state == OPEN and circuit.epoch != before[0]:
            self.openings += 1
            ahead_of_time = was != CLOSED and self.now < until
            told = self.now + max(0.0 if ahead_of_time else 4.5, outcome.retry_after)
            self.closed_until = told if was == CLOSED else max(self.closed_until, told)
        elif outcome.failed:
            assert circuit.state == CLOSED, "a probe failed and nothing opened"

    @invariant()
    def one_probe_at_most_and_its_place_is_never_lost(self) -> None:
        """C1 and C4: the place is taken exactly while one probe of this epoch is under way."""
        live = [one for one in self.flying if one.probe and not one.told and one.permit == self.circuit.epoch]
        assert len(live) <= 1
        assert bool(live) == self.circuit.probing

    @invariant()
    def an_open_circuit_knows_when_it_ends(self) -> None:
        """The pause is at most the longest and its jitter, or what the far end asked for."""
        longest = 300.0 if self.last else 15.0
        assert self.circuit.wait(self.now) <= max(longest * 1.1, 30.0) + 1e-6

    def teardown(self) -> None:
        """C3: from wherever it stands two good requests close it, lost permits or not."""
        if not hasattr(self, "circuit"):
            return
        if self.circuit.probing:
            self.now += 60.0
        for _ in range(2):
            permit = self.circuit.admit(self.now)
            if permit == REFUSED:
                self.now += self.circuit.wait(self.now)
                permit = self.circuit.admit(self.now)
            assert permit != REFUSED
            self.circuit.record(permit, GOOD, self.now)
        assert self.circuit.state == CLOSED
        assert not self.circuit.probing


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
