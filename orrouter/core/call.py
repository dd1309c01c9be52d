"""What is asked: the call that goes down, the target it is for, and the trail it leaves.

Law: a `Call` is frozen; a layer that wants another one makes one with `.to(...)`. The one mutable thing is
the `Trail`, one per logical call, with the `Attempt`s in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar, cast, final

from orrouter.core.cost import said_cost
from orrouter.core.errors import RouterError
from orrouter.core.facts import AttemptRecord, Fact, Record
from orrouter.core.ids import Ids
from orrouter.core.limit import Cap, Limit

T = TypeVar("T")
F = TypeVar("F", bound=Fact)
Phase = Literal["not_sent", "sent", "headers", "committed"]
Dialect = Literal["openrouter", "openai"]
LONGEST_ID = 256
"""Characters of a generation's id; what is longer is none."""
ALL = 1 << 62
"""As `Call.buffer`: hold everything back until the answer is whole."""

_EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a try goes.

    `key` names the upstream's key, never the secret; empty: there is none. `provider` is this target's own
    preference.
    """

    upstream: str = "openrouter"
    model: str = ""
    key: str = ""
    dialect: Dialect = "openrouter"
    provider: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    def __str__(self) -> str:
        return self.model or self.upstream


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the transport keeps for each try, in seconds; None: not kept.

    `connect` until a connection is there; `first_token` until the first semantic event; `stall` between
    semantic events; `dead` without any byte (SSE only); `attempt` for the whole try.
    """

    connect: float = 5.0
    first_token: float | None = None
    stall: float | None = None
    dead: float = 45.0
    attempt: float | None = None


class Attempt:
    """One try at one target. The transport writes what happened, the money gate what it cost; times are the loop's."""

    __slots__ = (
        "_generation_id", "began", "ended", "error", "estimate", "finish_reason", "first_token", "held", "malformed",
        "model", "number", "on_named", "outcome", "phase", "provenance", "provider", "settled", "status", "target",
        "tokens", "usage",
    )  # fmt: skip

    def __init__(self, number: int, target: Target, began: float) -> None:
        self.number, self.target, self.began = number, target, began
        self.phase: Phase = "not_sent"
        self.status: int | None = None
        self.model: str = target.model
        """The model that answered, which is the one that is billed."""
        self.provider: str | None = None
        self._generation_id: str | None = None
        self.on_named: Callable[[str], None] | None = None
        """Told the generation's id as soon as it is known."""
        self.first_token: float | None = None
        self.ended: float | None = None
        self.outcome = "open"
        self.error: BaseException | None = None
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.malformed = 0
        self.held: int | None = None
        """What was held for its worst case, in nano-USD; None: it was under no limit."""
        self.settled: int | None = None
        """What it cost in nano-USD, as the money gate found; None: not known (yet), or under no limit."""
        self.provenance = ""
        """How its cost is known: `billed`, `computed`, `free` or `unknown`; empty while open or under no limit."""
        self.estimate = ""
        """Why the hold is no proof but an estimate; empty where it is one."""
        self.tokens: int | None = None
        """To how many tokens a limit cut the answer; None: to none."""

    @property
    def generation_id(self) -> str | None:
        """What `GET /generation?id=` asks for."""
        return self._generation_id

    @generation_id.setter
    def generation_id(self, made: str) -> None:
        if len(made) > LONGEST_ID or not (made.isascii() and made.isprintable()):
            return  # Nobody can be asked for it, and no ledger should have to keep it.
        if self.on_named is not None and made != self._generation_id:
            self.on_named(made)
        self._generation_id = made

    @property
    def cost(self) -> int | None:
        """What it cost, in nano-USD: as settled, else as the upstream said; None: unknown."""
        return said_cost(self.usage) if self.settled is None else self.settled

    def record(self, began: float) -> AttemptRecord:
        """The try as a frozen value, its times counted from `began`."""
        error, cost = self.error, self.cost
        return AttemptRecord(
            number=self.number,
            upstream=self.target.upstream,
            model=self.model or self.target.model,
            provider=self.provider,
            outcome=self.outcome,
            status=self.status,
            message=error.message if isinstance(error, RouterError) else "",
            started_s=self.began - began,
            first_token_s=None if self.first_token is None else self.first_token - began,
            ended_s=None if self.ended is None else self.ended - began,
            generation_id=self.generation_id,
            finish_reason=self.finish_reason,
            usage=dict(self.usage) if self.usage else None,
            cost_nano=cost,
            provenance=self.provenance or ("" if cost is None else "billed"),
            held_nano=self.held,
            estimate=self.estimate,
        )


new_request_id: Final = Ids("req_", 5)
"""`req_` and 18 characters: ten drawn once per process, eight counted."""


class Trail:
    """What has happened to one logical call so far: the one mutable thing on the road."""

    __slots__ = (
        "attempts", "began", "content", "ended", "endpoint", "facts", "listener", "now", "outcome", "owned", "policy",
        "purses", "request_id", "retries", "sent", "tags",
    )  # fmt: skip

    def __init__(
        self, request_id: str, now: Callable[[], float], listener: Callable[[Fact], None] | None = None
    ) -> None:
        self.request_id, self.now, self.listener = request_id, now, listener
        self.began = now()
        self.ended: float | None = None
        self.endpoint = self.policy = ""
        self.tags: Mapping[str, str] = {}
        self.attempts: list[Attempt] = []
        self.retries = 0
        self.purses: dict[object, Cap] = {}
        """The caps of this call, by the layer that set them."""
        self.owned: dict[int, tuple[Any, Any]] = {}
        """What the money gate has copied, so that what it priced is what is sent, in every try."""
        self.facts: list[Fact] = []
        self.outcome = "open"
        self.content: dict[str, Any] | None = None
        self.sent: Any = None
        """What the wire keeps so that a long prompt is serialised once for all tries."""

    def note(self, fact: Fact) -> None:
        """Keep a decision in the record, and tell it to whoever listens."""
        self._stamp(fact)
        self.facts.append(fact)
        if self.listener is not None:
            self.listener(fact)

    def tell(self, fact: Fact) -> None:
        """Tell progress to whoever listens; it stands in the record in another form already."""
        if self.listener is not None:
            self._stamp(fact)
            self.listener(fact)

    def _stamp(self, fact: Fact) -> None:
        # A fact is frozen for everybody who reads it; here it is being born.
        object.__setattr__(fact, "request_id", self.request_id)
        object.__setattr__(fact, "at_s", self.now() - self.began)

    def record(self) -> Record:
        """The decision record as it stands now."""
        return Record(
            request_id=self.request_id,
            policy=self.policy,
            endpoint=self.endpoint,
            tags=dict(self.tags),
            outcome=self.outcome,
            duration_s=(self.now() if self.ended is None else self.ended) - self.began,
            attempts=tuple(attempt.record(self.began) for attempt in self.attempts),
            facts=tuple(self.facts),
            content=self.content,
        )


class Key(Generic[T]):
    """Names a value that an extension hangs on a call: `SIZE = Key[int]("size")`. Two keys are never the same."""

    def __init__(self, name: str) -> None:
        self.name = name


PROBE = Key[bool]("probe")
"""Hung on a call that asks a refusing target once more because nobody else is left."""


@final
@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Call:
    """What is asked.

    `body` is the request without model and stream; `models` the models the caller named, first choice first;
    `streamed` that the caller reads events as they come; `deadline` the loop time at which the whole call ends;
    `buffer` how many semantic events are in hand before anybody above sees the reply; `last` says that no further
    target could serve.
    """

    endpoint: str = "chat/completions"
    method: Literal["POST", "GET"] = "POST"
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)
    trail: Trail
    limits: tuple[Limit, ...] = ()
    clocks: Clocks = field(default_factory=Clocks)
    deadline: float | None = None
    streamed: bool = False
    buffer: int = 1
    last: bool = True
    attempt: Attempt | None = None
    extras: Mapping[Key[Any], Any] = field(default_factory=dict)

    def to(self, **changes: Any) -> Call:
        """This call with some fields changed; unknown names are a TypeError."""
        other = _draft(self)
        try:
            for name, value in changes.items():
                setattr(other, name, value)
        except AttributeError:
            raise TypeError(f"a Call has no {', '.join(sorted(changes.keys() - {*Call.__slots__}))}") from None
        other.__class__ = Call
        changed: Call = other
        return changed

    def replaced(self, name: str, value: Any) -> Call:
        """`to` for one field, in two thirds of the time: for layers that every call passes."""
        other = _draft(self)
        setattr(other, name, value)
        other.__class__ = Call
        changed: Call = other
        return changed

    def charge(self, limit: Limit) -> Call:
        """This call with one more who pays."""
        other = _draft(self)
        other.limits = (*self.limits, limit)
        other.__class__ = Call
        charged: Call = other
        return charged

    def note(self, fact: Fact) -> None:
        """Keep a decision in the record of the call."""
        self.trail.note(fact)

    def get(self, key: Key[T]) -> T | None:
        """What an extension hung on this call under `key`."""
        return cast("T | None", self.extras.get(key))

    def hang(self, key: Key[T], value: T) -> Call:
        """This call with `value` under `key`, for a layer further down."""
        return self.to(extras={**self.extras, key: value})

    @property
    def completes(self) -> bool:
        """Whether the answer is written by a model, so that it can be streamed."""
        return self.endpoint in ("chat/completions", "completions")


class _Draft:
    """A call that is being made out of another one: the same fields, which can still be set.

    It becomes a `Call`, which nobody changes any more, by its class.
    """

    __slots__ = Call.__slots__


def _draft(call: Call) -> Any:
    # Field by field: dataclasses.replace costs ten times as much, and a call is copied by every other layer.
    other: Any = _new(_Draft)
    other.endpoint = call.endpoint
    other.method = call.method
    other.body = call.body
    other.query = call.query
    other.tags = call.tags
    other.headers = call.headers
    other.models = call.models
    other.target = call.target
    other.trail = call.trail
    other.limits = call.limits
    other.clocks = call.clocks
    other.deadline = call.deadline
    other.streamed = call.streamed
    other.buffer = call.buffer
    other.last = call.last
    other.attempt = call.attempt
    other.extras = call.extras
    return other


_new: Final = object.__new__
