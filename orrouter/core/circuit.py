"""A circuit breaker: whoever keeps failing is left alone for a while, then asked by one request at a time.

::

    CLOSED ──trips──▶ OPEN ──until──▶ HALF_OPEN ──successes──▶ CLOSED
                       ▲                  │
                       └──── a failure ───┘

Each transition begins a new epoch, and a permit is the epoch in which it was given: what was asked before the
circuit opened says nothing about how things are now. Law: a pure machine that is told the time and chance. Who is
asked, and which outcome is a failure, is said by the layer that owns it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from orrouter.core.units import show_duration

State = Literal["closed", "open", "half_open"]
CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"

SLICES: Final = 12
"""Parts of the sliding window; the oldest is forgotten as a whole."""
JITTER: Final = 0.1
"""A pause is drawn from so much below its length to so much above, so that routers do not probe in step."""
EARLY_EVERY_S: Final = 1.0
"""A probe ahead of its time comes no sooner than this after the last one."""
REFUSED: Final = 0
"""As a permit: there is none. What is recorded under it is not counted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a circuit opens, for how long, and when it closes again. Times in seconds.

    It opens after `consecutive` failures in a row, or when among at least `min_calls` of the last `window`
    seconds the share of failures or of slow answers reaches its rate. `patience` is how long a probe may go
    without a verdict.
    """

    window: float = 120.0
    min_calls: float = 10
    failure_rate: float = 0.5
    consecutive: float = 5
    slow_rate: float = 0.8
    open: float = 5.0
    max_open: float = 300.0
    max_open_with_fallback: float = 15.0
    closes_after: int = 2
    forget: float = 600.0
    patience: float = 60.0

    def never(self) -> Rules:
        """The same window in a circuit that only counts and never opens."""
        return Rules(window=self.window, min_calls=math.inf, consecutive=math.inf)


class Outcome(NamedTuple):
    """How a request went; `retry_after` is the pause in seconds that the far end asked for."""

    failed: bool = False
    slow: bool = False
    retry_after: float = 0.0


GOOD: Final = Outcome()
SLOW: Final = Outcome(slow=True)


class Window:
    """What the last `span` seconds brought: counters in slices, and their sums."""

    __slots__ = ("_at", "_per_s", "_slices", "calls", "failures", "in_a_row", "slow")

    def __init__(self, span: float) -> None:
        self._per_s = SLICES / span
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failures = self.slow = self.in_a_row = self._at = 0
        self._slices = [[0, 0, 0] for _ in range(SLICES)]

    def add(self, outcome: Outcome, now: float) -> None:
        """Count one outcome."""
        before = self.in_a_row
        self.well(now)
        counters = self._slices[self._at % SLICES]
        if outcome.failed:
            counters[1] += 1
            self.failures += 1
            self.in_a_row = before + 1
        if outcome.slow:
            counters[2] += 1
            self.slow += 1

    def well(self, now: float) -> None:
        """Count one that was neither failed nor slow."""
        if int(now * self._per_s) != self._at:
            self.roll(now)
        self._slices[self._at % SLICES][0] += 1
        self.calls += 1
        self.in_a_row = 0

    def roll(self, now: float) -> None:
        """Forget the slices that have gone by."""
        at = int(now * self._per_s)
        gone = at - self._at
        if gone <= 0:
            return
        for place in range(at - min(gone, SLICES) + 1, at + 1):
            counters = self._slices[place % SLICES]
            self.calls -= counters[0]
            self.failures -= counters[1]
            self.slow -= counters[2]
            counters[:] = (0, 0, 0)
        self._at = at


def tripped(window: Window, rules: Rules) -> str:
    """Why a closed circuit opens; empty while it does not."""
    calls = window.calls
    if window.in_a_row >= rules.consecutive:
        return f"{window.in_a_row} failures in a row"
    if calls < rules.min_calls:
        return ""
    if window.failures / calls >= rules.failure_rate:
        return f"{window.failures} of {calls} calls failed within {show_duration(rules.window)}"
    if window.slow / calls >= rules.slow_rate:
        return f"{window.slow} of {calls} calls were slow within {show_duration(rules.window)}"
    return ""


def pause(strikes: int, first: float, longest: float, draw: float) -> float:
    """Seconds for which a circuit opens the `strikes`-th time (from 1) in a row.

    `first`, doubled each time, at most `longest`; then within a tenth of that, as `draw` in [0, 1) says.
    """
    return min(longest, first * 2.0 ** min(strikes - 1, 60)) * (1.0 - JITTER + 2.0 * JITTER * draw)


class Circuit:
    """The breaker of one subject, which is named for those who read of it.

    `admit` before asking, then exactly one of `record` and `give_back` with the permit. After a success that was
    recorded before the answer was complete, a failure may follow under the same permit. `ill` names those behind
    the subject (providers of a model) whose own circuit may not be closed; it is kept by the layer.
    """

    __slots__ = (
        "_chance", "_changed_at", "_opened", "_pause", "_probed_at", "_rules", "_strikes", "_successes", "_window",
        "epoch", "ill", "probing", "reason", "state", "subject", "until",
    )  # fmt: skip

    def __init__(self, subject: str, rules: Rules, chance: Callable[[], float]) -> None:
        self.subject, self._rules, self._chance = subject, rules, chance
        self._window = Window(rules.window)
        self.state: State = CLOSED
        self.epoch = REFUSED + 1
        self.until = 0.0
        """When an open circuit admits its first probe."""
        self.reason = ""
        """Why it opened last."""
        self.probing = False
        """Whether a probe is under way."""
        self.ill: set[str] = set()
        self._opened = REFUSED
        """The epoch begun by the last failure that opened it: older permits say nothing any more."""
        self._strikes = self._successes = 0
        self._pause = 0.0
        self._changed_at = self._probed_at = -math.inf

    # --- asking ---------------------------------------------------------------------------------------

    def admit(self, now: float, *, early: bool = False) -> int:
        """A permit, or REFUSED: open, or half open with a probe under way.

        `early` asks an open circuit for a probe ahead of its time, because nobody else is left.
        """
        if self.state == CLOSED:
            return self.epoch
        if self.state == HALF_OPEN and self.probing and now - self._probed_at >= self._rules.patience:
            self._lapse()
        if self.state == OPEN:
            if now < self.until and not (early and now - self._probed_at >= EARLY_EVERY_S):
                return REFUSED
            self._turn(HALF_OPEN, now)
        elif self.probing:
            return REFUSED
        self.probing, self._probed_at = True, now
        return self.epoch

    def permit_since(self, began: float) -> int:
        """The permit of a request that began at `began` and was not admitted by name.

        REFUSED unless the circuit has been closed all the while: only a probe speaks for one that is not.
        """
        return self.epoch if self.state == CLOSED and began >= self._changed_at else REFUSED

    def wait(self, now: float) -> float:
        """Seconds until a request may be admitted; while a probe is under way, one first pause."""
        if self.state == OPEN:
            return max(0.0, self.until - now)
        return self._rules.open if self.probing else 0.0

    # --- being told -----------------------------------------------------------------------------------

    def record(self, permit: int, outcome: Outcome, now: float, *, last: bool = True) -> None:
        """Count how a request went. `last`: nobody else could serve, so an opening may grow longer."""
        if permit <= self._opened:
            return
        if self.state == CLOSED:
            self._window.add(outcome, now)
            if outcome.failed or outcome.slow:  # Good news never opens, whatever came before.
                reason = tripped(self._window, self._rules)
                if reason:
                    self._open(reason, outcome, now, last)
        elif outcome.failed:
            self._open("a probe failed", outcome, now, last)
        else:
            self._succeeded(permit, now)

    def well(self, permit: int, now: float) -> None:
        """Count a request that went well, on a closed circuit: `record` of nearly every request, in fewer steps."""
        if permit > self._opened:
            self._window.well(now)

    def give_back(self, permit: int, now: float) -> None:
        """The request said nothing about the subject: cancelled, refused further down, the caller's own fault."""
        if self.state == HALF_OPEN and permit == self.epoch:
            self.probing = False
            if not self._successes and now < self.until:
                self._turn(OPEN, now)  # It was ahead of its time: the others still wait.

    # --- transitions ----------------------------------------------------------------------------------

    def _succeeded(self, permit: int, now: float) -> None:
        if permit == self.epoch:
            self.probing = False
        self._successes += 1
        if self._successes >= self._rules.closes_after:
            self._window.clear()
            self._turn(CLOSED, now)
        elif self.state == OPEN:
            self._turn(HALF_OPEN, now)  # A probe that took longer than the patience with it, and was well.

    def _open(self, reason: str, outcome: Outcome, now: float, last: bool) -> None:
        rules = self._rules
        if self.state == CLOSED and now - self._changed_at >= rules.forget:
            self._strikes = 0
        if self.state == CLOSED or now >= self.until:
            self._strikes += 1
            longest = rules.max_open if last else rules.max_open_with_fallback
            self._pause = pause(self._strikes, rules.open, longest, self._chance())
            self.until = now + self._pause
        # Else a probe ahead of its time has failed: the pause goes on as it was.
        self.until = max(self.until, now + outcome.retry_after)
        self.reason = reason
        self._turn(OPEN, now)
        self._opened = self.epoch

    def _lapse(self) -> None:
        """A probe has given no verdict for too long: the same pause again, counted from when patience ended."""
        ended = self._probed_at + self._rules.patience
        self.reason = f"a probe had no verdict after {show_duration(self._rules.patience)}"
        self.until = max(self.until, ended + self._pause)
        self._turn(OPEN, ended)

    def _turn(self, state: State, now: float) -> None:
        self.state, self._changed_at, self.probing = state, now, False
        self.epoch += 1
        if state == OPEN:
            self._successes = 0

    # --- being shown ----------------------------------------------------------------------------------

    def show(self, now: float) -> Mapping[str, Any]:
        """Plain values; the counters of a circuit that is not closed are those that opened it."""
        window = self._window
        if self.state == CLOSED:
            window.roll(now)
        return {
            "state": self.state,
            "calls": window.calls,
            "failures": window.failures,
            "failure_rate": round(window.failures / window.calls, 3) if window.calls else 0.0,
            "slow": window.slow,
            "open_for_s": round(max(0.0, self.until - now), 3) if self.state == OPEN else 0.0,
            "epoch": self.epoch,
            "reason": "" if self.state == CLOSED else self.reason,
        }
