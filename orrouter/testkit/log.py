"""What the fake upstream saw: every request with what was done to it, what it truly cost, and its generation.

Law: memory only, behind a lock, because the server may run in another thread than the test that reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Finished = Literal["open", "done", "cut", "client_gone"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. `at` is monotonic seconds, `wall` epoch seconds; header names are lower case, the key is masked.

    `model` is the first one asked for, `served` the one that answered. `true_cost_nano` is what the upstream charges,
    in nano-USD, also for what the client never saw; it is final when `finished` is no longer `open`.
    """

    number: int
    at: float
    wall: float
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    stream: bool = False
    fault: str = ""
    status: int = 0
    served: str = ""
    provider: str = ""
    generation_id: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    true_cost_nano: int = 0
    finished: Finished = "open"


class Log:
    """Every request in the order of its arrival; reading gives a snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def open(self, **facts: Any) -> int:
        """Writes down an arrival; returns its number, counted from zero since the start."""
        with self._lock:
            number = len(self._seen)
            self._seen.append(Seen(number=number, **facts))
            return number

    def update(self, number: int, **facts: Any) -> None:
        """Adds what became known of a request."""
        with self._lock:
            self._seen[number] = replace(self._seen[number], **facts)

    def snapshot(self) -> tuple[Seen, ...]:
        """All of it as it stands now."""
        with self._lock:
            return tuple(self._seen)

    def cost(self) -> int:
        """Nano-USD that all requests together are charged so far."""
        return sum(one.true_cost_nano for one in self.snapshot())


class Generations:
    """What `GET /generation?id=` knows, hiding each for its first `misses` look-ups and for `delay` seconds."""

    def __init__(self, misses: int = 0, delay: float = 0.0) -> None:
        self._misses = misses
        self._delay = delay
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        self._asked: dict[str, int] = {}

    def keep(self, data: dict[str, Any], at: float) -> None:
        """Remembers a generation that ended at this monotonic second."""
        with self._lock:
            self._kept[data["id"]] = (at, data)

    def find(self, generation: str, at: float) -> dict[str, Any] | None:
        """The generation, or None while it is unknown or not indexed."""
        with self._lock:
            ended, data = self._kept.get(generation, (at, None))
            self._asked[generation] = asked = self._asked.get(generation, 0) + 1
        hidden = asked <= self._misses or at < ended + self._delay
        return None if hidden else data


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by lower-case name; of a key only the last four characters are left, where it is long enough to spare."""
    plain = {name.lower(): value for name, value in headers.items()}
    if "authorization" in plain:
        scheme, _, key = plain["authorization"].partition(" ")
        plain["authorization"] = f"{scheme} ***{key[-4:] if len(key) >= 16 else ''}"
    return plain
