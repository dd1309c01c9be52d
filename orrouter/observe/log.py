"""Facts as log events by structlog: one event for each, as JSON or for a console.

Nobody hears of it before a listener is asked for: `Router(..., on_fact=log_facts())`.

Law: it makes lines of facts. It changes no global configuration of structlog or `logging`, decides nothing, and
never fails the call whose facts it writes down. Facts hold no prompt and no answer; what looks like a key is
blotted out all the same.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Literal, Protocol, TextIO

from orrouter.core.facts import (
    AttemptEnded,
    AttemptStarted,
    BreakerOpened,
    BudgetThresholdPassed,
    CallEnded,
    CatalogKept,
    EventsSkipped,
    Fact,
    FallbackTaken,
    GateArmed,
    HoldExceeded,
    HoldSuspended,
    IgnoreDropped,
    LedgerBypassed,
    LedgerTroubled,
    ProviderIgnored,
    ReconcileFailed,
    RetryDeclined,
    RetryScheduled,
    TargetSkipped,
    TokensClamped,
    TokensLowered,
)

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning"]
Listener = Callable[[Fact], None]

LEVELS: Final[Mapping[Level, int]] = {"debug": 10, "info": 20, "warning": 30}
"""The levels that facts have, as `logging` counts them."""

_WARNINGS: Final = (
    RetryScheduled,
    RetryDeclined,
    TokensLowered,
    GateArmed,
    TargetSkipped,
    FallbackTaken,
    BreakerOpened,
    ProviderIgnored,
    IgnoreDropped,
    EventsSkipped,
    CatalogKept,
    TokensClamped,
    HoldSuspended,
    HoldExceeded,
    BudgetThresholdPassed,
    LedgerBypassed,
    LedgerTroubled,
    ReconcileFailed,
)
_WELL: Final = frozenset({"ok", "left", "cancelled"})
"""Outcomes of a try or a call that are nobody's failure."""

_SECRET: Final = re.compile(r"\b(?:sk-[A-Za-z0-9_-]{6,}|Bearer +\S+)")
_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160)), " ")
_STEP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Logger(Protocol):
    """What is needed of a logger: structlog's bound loggers have it."""

    def log(self, level: int, event: str, **fields: Any) -> Any:
        """Write one event."""
        ...


def log_facts(
    format: Format = "json",  # noqa: A002  # the option's name in the command line and elsewhere
    level: Level = "info",
    stream: TextIO | None = None,
    *,
    wall: Callable[[], float] = time.time,
) -> Listener:
    """A listener that writes each fact of at least `level` as one line to `stream` (None: stderr as it is now).

    `wall` gives the seconds since 1970 that stand in `timestamp`. Raises ValueError for an unknown format or level.
    """
    import structlog

    if level not in LEVELS:
        raise ValueError(f"{level!r} is no level; known are {', '.join(LEVELS)}")
    out = sys.stderr if stream is None else stream
    logger = structlog.wrap_logger(
        structlog.WriteLogger(out),
        processors=[structlog.processors.add_log_level, _stamp(wall), _renderer(format, out)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        context_class=dict,
    )
    return log_to(logger.bind(), LEVELS[level])


def log_to(logger: Logger, least: int = 0) -> Listener:
    """A listener that hands each fact of at least that level (as `logging` counts) to a logger of the host's own."""

    def listen(fact: Fact) -> None:
        level = level_of(fact)
        if level >= least:
            # A full disk, a closed pipe or an odd value must not fail a call that went well.
            with suppress(Exception):
                logger.log(level, event_of(type(fact)), **fields_of(fact))

    return listen


def level_of(fact: Fact) -> int:
    """10 for each try that begins, 30 for what went wrong or was left out, 20 for the rest."""
    if isinstance(fact, AttemptStarted):
        return LEVELS["debug"]
    if isinstance(fact, AttemptEnded | CallEnded):
        return LEVELS["info" if fact.outcome in _WELL else "warning"]
    return LEVELS["warning" if isinstance(fact, _WARNINGS) else "info"]


def event_of(kind: type[Fact]) -> str:
    """The name of a kind of fact in a log: `RetryScheduled` is `orrouter.retry_scheduled`."""
    return _event(kind.__name__)


@cache
def _event(name: str) -> str:
    return "orrouter." + _STEP.sub("_", name).lower()


def fields_of(fact: Fact) -> dict[str, Any]:
    """The fields of a fact as they stand in its line: seconds to the microsecond, no keys, no empty request id."""
    fields = {name: _shown(value) for name, value in vars(fact).items()}
    if not fact.request_id:  # a fact of the router, and of no call
        del fields["request_id"], fields["at_s"]
    return fields


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str):
        return _SECRET.sub("****", value if value.isascii() and value.isprintable() else _clean(value))
    if isinstance(value, Mapping):
        return {str(name): _shown(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_shown(one) for one in value]
    return value


def _clean(text: str) -> str:
    """Without control characters, which a terminal would obey, and halves of surrogate pairs, which have no bytes."""
    return text.translate(_CONTROLS).encode("utf-8", "replace").decode()


def _stamp(wall: Callable[[], float]) -> Callable[[Any, str, Any], Any]:
    def stamp(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        at = datetime.fromtimestamp(wall(), UTC).isoformat(timespec="milliseconds")
        return {"timestamp": at, "level": event.pop("level"), "event": event.pop("event"), **event}

    return stamp


def _renderer(form: Format, out: TextIO) -> Any:
    import structlog

    if form == "json":
        return structlog.processors.JSONRenderer(serializer=_json)
    if form == "console":
        return structlog.dev.ConsoleRenderer(colors=out.isatty())
    raise ValueError(f"{form!r} is no format of a log; known are json, console")


def _json(event: Mapping[str, Any], **_: Any) -> str:
    import orjson

    return orjson.dumps(event, default=str).decode()
