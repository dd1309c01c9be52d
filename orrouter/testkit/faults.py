"""The faults by name, and which one comes next: `503`, `cut_mid:3`, a script for a model.

Law: the registry, its small grammar `name:number`, and the scenarios. What each fault does stands in `plain.py`
and `twists.py`.
"""

from __future__ import annotations

import difflib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from orrouter.testkit.answers import Turn
from orrouter.testkit.plain import PLAIN
from orrouter.testkit.plans import Fault, Plan
from orrouter.testkit.twists import TWISTS

FAULTS: Mapping[str, Fault] = {one.name: one for one in (*PLAIN, *TWISTS)}
"""Every fault by its name."""

PREFIX = "fault/"
"""A model slug that begins so names its fault: `fault/503`, `fault/cut_mid:3`."""


@dataclass(frozen=True, slots=True)
class Step:
    """A fault with its number, as a scenario holds it; `text` is how it was written."""

    text: str
    fault: Fault
    number: float

    def play(self, turn: Turn) -> Plan:
        """The reply to a turn under this fault."""
        return self.fault.play(turn, self.number)


def parse_fault(text: str) -> Step:
    """`503` or `cut_mid:3` as a step. Raises ValueError with the nearest name when there is no such fault."""
    name, colon, number = text.partition(":")
    fault = FAULTS.get(name)
    if fault is None:
        near = difflib.get_close_matches(name, FAULTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(FAULTS))}"
        raise ValueError(f"there is no fault {name!r}; {hint}")
    try:
        return Step(text, fault, float(number) if colon else fault.usual)
    except ValueError:
        raise ValueError(f"fault {text!r}: {number!r} is no number; write {name}:{fault.usual:g}") from None


OK = parse_fault("ok")


class Scenarios:
    """What goes wrong, by model: a script is used up step by step, then what was set for always, then nothing.

    A key is a slug, a pattern (`*`, `openai/*`), or either with a provider (`openai/gpt-4o@azure`), which then
    applies only while that provider serves. The narrower key wins. Safe to change from another thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts: dict[str, deque[Step]] = {}
        self._always: dict[str, Step] = {}

    def script(self, key: str, faults: Sequence[str]) -> None:
        """The faults of the next requests for a model, one each; afterwards all is well. Raises ValueError."""
        steps = deque(parse_fault(one) for one in faults)
        with self._lock:
            self._scripts[key] = steps

    def always(self, key: str, fault: str) -> None:
        """The fault of every request for a model that no script covers. Raises ValueError."""
        step = parse_fault(fault)
        with self._lock:
            self._always[key] = step

    def clear(self, key: str | None = None) -> None:
        """All is well again for one key, or for all."""
        with self._lock:
            for kept in (self._scripts, self._always):
                for one in [key] if key is not None else list(kept):
                    kept.pop(one, None)

    def next(self, slug: str, tag: str) -> Step:
        """The step of a request for this model, served by the provider of this tag."""
        if slug.startswith(PREFIX):
            return parse_fault(slug.removeprefix(PREFIX))
        with self._lock:
            keys = sorted({*self._scripts, *self._always}, key=_width)
            for key in keys:
                if not _covers(key, slug, tag):
                    continue
                if self._scripts.get(key):
                    return self._scripts[key].popleft()
                if key in self._always:
                    return self._always[key]
        return OK


def _width(key: str) -> tuple[bool, bool]:
    """Narrow keys first: exact before pattern, with a provider before without."""
    return "*" in key, "@" not in key


def _covers(key: str, slug: str, tag: str) -> bool:
    model, _, provider = key.partition("@")
    return fnmatchcase(slug, model) and provider in {"", tag, tag.partition("/")[0]}
