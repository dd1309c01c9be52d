"""What calls share about the far end: who has to wait until when, and how many retries an outage may cost.

Law: small pure machines that are told the time, and the shelf they stand on. No layer, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from orrouter.core.call import Key, Target
from orrouter.core.errors import Scope

S = TypeVar("S", bound="Shown")
SHELF = 10_000
"""Subjects kept of one kind; a caller who invents model names must not fill the memory."""


class Subject(NamedTuple):
    """Whom a state concerns; an empty field means all of them."""

    upstream: str
    key: str = ""
    model: str = ""
    provider: str = ""

    def __str__(self) -> str:
        name = "/".join(part for part in (self.upstream, self.model) if part)
        return f"{name}@{self.provider}" if self.provider else name


def subject_of(target: Target, scope: Scope, provider: str | None) -> Subject:
    """Whom a limit of `scope` concerns; a provider's limit without a known provider concerns the target."""
    if scope == "key":
        return Subject(target.upstream, target.key)
    if scope == "free":
        return Subject(target.upstream, target.key, ":free")
    if scope == "provider" and provider:
        return Subject(target.upstream, target.key, target.model, provider)
    return Subject(target.upstream, target.key, target.model)


class Shown(Protocol):
    """A state that `router.health()` can show."""

    def show(self, now: float) -> Mapping[str, Any]:
        """Plain values for people and metrics."""
        ...


class Gate:
    """Nobody asks before `until` (loop time). Arming extends it and never shortens it."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = 0.0

    def arm(self, until: float) -> bool:
        """Extend to `until`; False when it stood at least as far already."""
        if until <= self.until:
            return False
        self.until = until
        return True

    def wait(self, now: float) -> float:
        """Seconds until it opens; 0 when it is open."""
        return max(0.0, self.until - now)

    def show(self, now: float) -> Mapping[str, Any]:
        """Seconds until it opens."""
        return {"waits_s": round(self.wait(now), 3)}


@dataclass(frozen=True, slots=True)
class Draw:
    """What retries may cost a target: `capacity` units, refilled by `refill` a second."""

    capacity: float = 500.0
    refill: float = 10.0


class Bucket:
    """A retry budget: each retry draws on it, so that an outage is never answered by a flood of retries.

    With the default cost of 14 a retry, sustained failure lets 0.7 retries a second through for each target.
    The numbers are those of the AWS SDKs' standard retry mode, with a refill for services with little traffic.
    """

    __slots__ = ("_at", "_level", "_rules")

    def __init__(self, rules: Draw, now: float) -> None:
        self._rules, self._level, self._at = rules, rules.capacity, now

    def _fill(self, now: float) -> None:
        if now > self._at:  # A clock that steps back must not fill the same seconds twice.
            elapsed, self._at = now - self._at, now
            self._level = min(self._rules.capacity, self._level + elapsed * self._rules.refill)

    def draw(self, cost: float, now: float) -> bool:
        """Take `cost` units; False, and nothing taken, when there are too few."""
        self._fill(now)
        if cost > self._level:
            return False
        self._level -= cost
        return True

    def give(self, units: float, now: float) -> None:
        """Put units back: the last cost after a retry that succeeded, 1 after a success without one."""
        self._fill(now)
        self._level = min(self._rules.capacity, self._level + units)

    @property
    def full(self) -> bool:
        """Whether it takes nothing more."""
        return self._level >= self._rules.capacity

    def show(self, now: float) -> Mapping[str, Any]:
        """The units that are left."""
        self._fill(now)
        return {"retry_units": round(self._level, 1)}


@dataclass(slots=True)
class Worked:
    """When a key was last accepted (loop time)."""

    at: float = 0.0

    def show(self, now: float) -> Mapping[str, Any]:
        """Plain values for people and metrics."""
        return {"worked_s_ago": round(now - self.at, 1)}


class Health:
    """The shelf: one state of each kind for each subject, made when first asked for."""

    __slots__ = ("_shelves", "forgotten")

    def __init__(self) -> None:
        self._shelves: dict[Key[Any], dict[Hashable, Any]] = {}
        self.forgotten = 0
        """How many states were dropped so far: as long as it stays, one that was looked up is still the one."""

    def of(self, kind: Key[S], subject: Hashable, make: Callable[[], S]) -> S:
        """The state of `kind` for `subject`, made by `make` if there is none yet."""
        shelf = self._shelves.get(kind)
        if shelf is None:
            shelf = self._shelves[kind] = {}
        state: S | None = shelf.get(subject)
        if state is None:
            if len(shelf) >= SHELF:
                del shelf[next(iter(shelf))]
                self.forgotten += 1
            state = shelf[subject] = make()
        return state

    def peek(self, kind: Key[S], subject: Hashable) -> S | None:
        """The state of `kind` for `subject`, if there is one."""
        shelf = self._shelves.get(kind)
        return None if shelf is None else shelf.get(subject)

    def each(self, kind: Key[S]) -> Iterator[tuple[Hashable, S]]:
        """Every subject of a kind with its state."""
        yield from tuple(self._shelves.get(kind, {}).items())

    def show(self, now: float) -> dict[str, dict[str, Mapping[str, Any]]]:
        """Everything as plain values: kind, subject, state."""
        return {
            kind.name: {str(subject): state.show(now) for subject, state in shelf.items()}
            for kind, shelf in self._shelves.items()
        }

    def reset(self, text: str = "") -> int:
        """Forget every state whose subject contains `text` (all: empty); how many were forgotten."""
        gone = 0
        for shelf in self._shelves.values():
            for subject in [subject for subject in shelf if text in str(subject)]:
                del shelf[subject]
                gone += 1
        self.forgotten += gone
        return gone
