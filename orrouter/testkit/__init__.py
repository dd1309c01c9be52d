"""Floor 4, shipped to users: a scripted far end, virtual time, and a fake OpenRouter to test a service against.

Law: the library never imports it. The names most tests want can be had from here; they are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orrouter.testkit.clock import VirtualClock, run_virtual, virtual
    from orrouter.testkit.script import COMMENT, EOF, SENT, Finish, ScriptedTransport
    from orrouter.testkit.server import FakeOpenRouter

_PLACES = {
    "COMMENT": "script",
    "EOF": "script",
    "FakeOpenRouter": "server",
    "Finish": "script",
    "SENT": "script",
    "ScriptedTransport": "script",
    "VirtualClock": "clock",
    "run_virtual": "clock",
    "virtual": "clock",
}

__all__ = [
    "COMMENT",
    "EOF",
    "SENT",
    "FakeOpenRouter",
    "Finish",
    "ScriptedTransport",
    "VirtualClock",
    "run_virtual",
    "virtual",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'orrouter.testkit' has no attribute {name!r}")
    return getattr(import_module(f"orrouter.testkit.{place}"), name)
