"""A call goes down, a reply comes up, facts go out at the side.

orrouter calls LLMs through OpenRouter (or any OpenAI-compatible upstream) and still answers when models, providers or
the network misbehave. `Router` is the class most users meet; a YAML policy says what it does.

The public names are imported when first used, so that `import orrouter` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orrouter.content import audio, file, image
    from orrouter.core.completion import Completion
    from orrouter.core.errors import (
        AuthFailed,
        BudgetExceeded,
        CapReached,
        CircuitOpen,
        ConnectionFailed,
        ContextOverflow,
        CoolingDown,
        CostCapExceeded,
        CreditsExhausted,
        DeadlineExceeded,
        EmptyReply,
        InvalidRequest,
        KeyLimitReached,
        LedgerUnavailable,
        LimitReached,
        MissingTag,
        ModelNotAllowed,
        ModelNotFound,
        Moderated,
        NoRoute,
        OutputInvalid,
        Overloaded,
        PolicyError,
        RateLimited,
        Refused,
        Rejected,
        RouterError,
        ServerError,
        StreamBroken,
        Transient,
        Unpriced,
        UpstreamError,
        UpstreamTimeout,
    )
    from orrouter.core.events import Chunk, End, Event, Whole
    from orrouter.core.facts import AttemptRecord, Fact, Record
    from orrouter.core.reply import EventStream, Reply
    from orrouter.core.tags import tags
    from orrouter.observe.log import log_facts
    from orrouter.readiness import Readiness
    from orrouter.router import OldSpelling, Router

__version__ = "0.1.0"

_HOMES = {
    "content": ("audio", "file", "image"),
    "core.completion": ("Completion",),
    "core.errors": (
        "AuthFailed", "BudgetExceeded", "CapReached", "CircuitOpen", "ConnectionFailed", "ContextOverflow",
        "CoolingDown", "CostCapExceeded", "CreditsExhausted", "DeadlineExceeded", "EmptyReply", "InvalidRequest",
        "KeyLimitReached", "LedgerUnavailable", "LimitReached", "MissingTag", "Moderated", "ModelNotAllowed",
        "ModelNotFound", "NoRoute", "OutputInvalid", "Overloaded", "PolicyError", "RateLimited", "Refused",
        "Rejected", "RouterError", "ServerError", "StreamBroken", "Transient", "Unpriced", "UpstreamError",
        "UpstreamTimeout",
    ),
    "core.events": ("Chunk", "End", "Event", "Whole"),
    "core.facts": ("AttemptRecord", "Fact", "Record"),
    "core.reply": ("EventStream", "Reply"),
    "core.tags": ("tags",),
    "observe.log": ("log_facts",),
    "readiness": ("Readiness",),
    "router": ("OldSpelling", "Router"),
}  # fmt: skip
"""Where each public name lives."""

_PLACES = {name: f"orrouter.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "AttemptRecord",
    "AuthFailed",
    "BudgetExceeded",
    "CapReached",
    "Chunk",
    "CircuitOpen",
    "Completion",
    "ConnectionFailed",
    "ContextOverflow",
    "CoolingDown",
    "CostCapExceeded",
    "CreditsExhausted",
    "DeadlineExceeded",
    "EmptyReply",
    "End",
    "Event",
    "EventStream",
    "Fact",
    "InvalidRequest",
    "KeyLimitReached",
    "LedgerUnavailable",
    "LimitReached",
    "MissingTag",
    "ModelNotAllowed",
    "ModelNotFound",
    "Moderated",
    "NoRoute",
    "OldSpelling",
    "OutputInvalid",
    "Overloaded",
    "PolicyError",
    "RateLimited",
    "Readiness",
    "Record",
    "Refused",
    "Rejected",
    "Reply",
    "Router",
    "RouterError",
    "ServerError",
    "StreamBroken",
    "Transient",
    "Unpriced",
    "UpstreamError",
    "UpstreamTimeout",
    "Whole",
    "audio",
    "file",
    "image",
    "log_facts",
    "tags",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'orrouter' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(place), name)
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
