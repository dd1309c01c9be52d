"""fallback: asks the next target of the chain when one cannot serve.

Law: whether an error moves the chain is its verdict (`core/errors.py`), which `when` may narrow or force; which
target is next is decided by pure functions. Gates and breakers refuse in their own layers: what they refuse is
skipped here and written down. A chain that fails raises its first upstream error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orrouter.catalog.catalog import Catalog
from orrouter.core.call import PROBE, Call, Target
from orrouter.core.errors import (
    AuthFailed,
    BudgetExceeded,
    CircuitOpen,
    CoolingDown,
    CostCapExceeded,
    LimitReached,
    ModelNotAllowed,
    NoRoute,
    Onward,
    Refused,
    RouterError,
    Transient,
    UpstreamError,
    descendants,
)
from orrouter.core.facts import FallbackTaken, TargetSkipped
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.core.units import show_duration
from orrouter.middleware.base import Middleware, Options, World
from orrouter.middleware.fitness import asks_little, cheaper, larger, needs_of, unfit
from orrouter.middleware.preferences import Preferences, asked_of, meet

MIN_ATTEMPT_S = 1.0
"""No further target is asked with less time left than this."""
LATER = (CircuitOpen, CoolingDown, LimitReached)
"""Refusals that pass with time: if nothing else is left, the soonest is asked again."""


def _words(words: tuple[str, ...]) -> tuple[str, ...]:
    known = {kind.code for kind in descendants(UpstreamError)}
    for word in words:
        if word not in known:
            raise ValueError(f"{word!r} is no error of an upstream; known are {', '.join(sorted(known))}")
    return words


class TargetOptions(BaseModel):
    """A target of a chain: a model's slug, or a mapping."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    model: Annotated[str, Field(min_length=1)]
    """The model's slug at its upstream."""
    upstream: str | None = None
    """The name of an upstream of this policy; the first one where none is given."""
    provider: Preferences | None = None
    """Provider preferences for this target only."""
    when: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Take this target only after an error of one of these kinds."""

    _known = field_validator("when")(lambda words: words if words is None else _words(words))

    def __str__(self) -> str:
        return f"{self.model} at {self.upstream}" if self.upstream else self.model


class FallbackOptions(Options):
    """Options of `fallback`."""

    kind: ClassVar[str] = "fallback"
    models: Annotated[tuple[str | TargetOptions, ...], Field(min_length=1)]
    """The targets in order."""
    when: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Errors that move the chain: a branch (`transient`) narrows, a leaf written out (`moderated`) forces."""
    open: bool = False
    """Whether a caller may name a model that is not in the chain."""
    hold: Annotated[int, Field(ge=1)] = 1
    """Events kept back before a stream's caller sees the first: what breaks before is asked elsewhere."""
    midstream: Literal["fail"] = "fail"
    """What a stream does that breaks after its caller has seen something: it fails, and says what had been said."""

    _known = field_validator("when")(lambda words: words if words is None else _words(words))

    @field_validator("midstream", mode="before")
    @classmethod
    def _not_yet(cls, value: object) -> object:
        if value == "continue":
            raise ValueError("'continue' does not exist yet: write fail")
        return value

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        seen: set[tuple[str | None, str]] = set()
        for target in self.targets():
            place = (target.upstream, target.model)
            if place in seen:
                raise ValueError(f"the chain names {target} twice")
            seen.add(place)
        return self

    def targets(self) -> tuple[TargetOptions, ...]:
        """The targets, each as a mapping."""
        return tuple(TargetOptions(model=one) if isinstance(one, str) else one for one in self.models)

    def build(self, world: World) -> Middleware:
        """The layer at work. Raises ValueError for an upstream that the policy does not list."""
        return Fallback(self, world)

    def says(self) -> str:
        """What it does with these options, in words."""
        several = len(self.models) > 1
        parts = [f"asks {len(self.models)} targets in order until one answers" if several else "asks one target"]
        if self.when is not None:
            parts.append(f"goes on only after {' or '.join(self.when)}")
        if self.open:
            parts.append("a caller may name other models too")
        if self.hold > 1:
            parts.append(f"keeps back the first {self.hold} events of a stream: what breaks before is asked elsewhere")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Link:
    """One target of a chain at work."""

    target: Target
    when: tuple[str, ...] | None = None


def links_of(options: FallbackOptions, world: World) -> tuple[Link, ...]:
    """The chain with its upstreams looked up. Raises ValueError for an upstream that the policy does not list."""
    links = []
    for one in options.targets():
        name = one.upstream or next(iter(world.upstreams), "openrouter")
        upstream = world.upstreams.get(name)
        if upstream is None:
            raise ValueError(f"{one.model} names the upstream {name!r}; known are {', '.join(world.upstreams)}")
        provider = one.provider.sent() if one.provider is not None else {}
        links.append(Link(replace(upstream, model=one.model, provider=provider), one.when))
    return tuple(links)


def chain_for(named: Sequence[str], links: tuple[Link, ...], default: Target, *, is_open: bool) -> tuple[Link, ...]:
    """The chain of a call: the models its caller named go first. Raises ModelNotAllowed for one that is not listed."""
    if not named:
        return links
    first: list[Link] = []
    for model in named:
        known = [link for link in links if link.target.model == model]
        if not known and not is_open:
            listed = ", ".join(dict.fromkeys(link.target.model for link in links))
            raise ModelNotAllowed(
                f"{model} is not in the policy's chain ({listed}): name one of those, or set open: true"
            )
        first += known or [Link(replace(default, model=model, provider={}))]
    first = list(dict.fromkeys(first))
    return tuple([Link(link.target) for link in first] + [link for link in links if link not in first])


def verdict_of(error: RouterError, when: Sequence[str] | None) -> Onward:
    """To which further target this error leads, as `when` narrows or forces it.

    A branch (`transient`) only narrows. A leaf written out (`moderated`) forces what would end the chain; one that
    leads to some targets only, as a context overflow to larger windows, still does.
    """
    if when is None or not isinstance(error, UpstreamError):
        return error.onward
    if names_leaf(error, when):
        return "always" if error.onward == "never" else error.onward
    branches = {kind.code for kind in type(error).__mro__ if issubclass(kind, UpstreamError)}
    return error.onward if branches & set(when) else "never"


def names_leaf(error: RouterError, when: Sequence[str]) -> bool:
    """Whether exactly this kind of error is written out."""
    return error.code in when and not type(error).__subclasses__()


def verdict_for(error: RouterError, when: Sequence[str] | None, link: Link) -> Onward:
    """As `verdict_of`, for one target: its own `when` narrows the chain's further, and a leaf in it forces too."""
    if link.when is None or not isinstance(error, UpstreamError):
        return verdict_of(error, when)
    own = verdict_of(error, link.when)
    return own if own == "never" or names_leaf(error, link.when) else verdict_of(error, when)


def last_place(chain: Sequence[Link], when: Sequence[str] | None) -> int:
    """Behind which place of the chain nobody takes over from a target that is down, slow or busy."""
    if not _mends(when):
        return 0
    return max((place for place, link in enumerate(chain) if _mends(link.when)), default=0)


def _mends(when: Sequence[str] | None) -> bool:
    """Whether errors that pass by themselves are among those of `when`."""
    return when is None or not _PASSING.isdisjoint(when)


_PASSING = frozenset({UpstreamError.code, *(kind.code for kind in descendants(Transient))})


def barred(verdict: Onward, failed: Target, candidate: Target, catalog: Catalog) -> str:
    """Why an error at `failed` does not lead to `candidate`; empty when it does."""
    if verdict == "other_key" and (failed.upstream, failed.key) == (candidate.upstream, candidate.key):
        return "it uses the same key"
    if verdict in ("larger_context", "cheaper"):
        one = catalog.get(candidate.model, candidate.upstream)
        other = catalog.get(failed.model, failed.upstream)
        if verdict == "larger_context" and not larger(one, other):
            return "its context is no larger"
        if verdict == "cheaper" and not cheaper(one, other):
            return "it is no cheaper"
    return ""


def obstacle(
    error: RouterError, when: Sequence[str] | None, failed: Target, link: Link, catalog: Catalog
) -> str | None:
    """Why an error at `failed` does not lead to this link; empty when it does, None where the chain ends at it."""
    verdict = verdict_for(error, when, link)
    if verdict != "never":
        return barred(verdict, failed, link.target, catalog)
    return None if verdict_of(error, when) == "never" else f"it is not for {error.code}"


class Fallback:
    """The layer."""

    def __init__(self, options: FallbackOptions, world: World) -> None:
        self.options, self._world = options, world
        self.links = links_of(options, world)
        self._keyed = all(link.target.key for link in self.links)
        self._last, self._hold = last_place(self.links, options.when), options.hold
        self._default = next(iter(world.upstreams.values()), Target())

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Answer `call` from the first target of its chain that can. Raises what the first upstream said."""
        if call.method == "GET":
            return await forward(call)
        chain = self._able(call)
        last = self._last if chain is self.links else last_place(chain, self.options.when)
        buffer = max(call.buffer, self._hold)
        first: RouterError | None = None
        refused: list[tuple[Refused, Link]] = []
        at: int | None = 0
        while at is not None:
            link = chain[at]
            try:
                asked = call.to(target=link.target, last=at >= last, models=(), buffer=buffer)
                return await forward(_preferring(asked) if link.target.provider else asked)
            except (UpstreamError, Refused) as error:
                first = _first(first, error)
                if isinstance(error, LATER):
                    refused.append((error, link))
                at = self._after(call, chain, at, error)
                if at is not None:
                    # The error would keep the frames of its try, and they the error, until the garbage collector
                    # comes by: a failure must not cost more than an answer.
                    error.__traceback__ = None
        assert first is not None
        if refused and isinstance(first, Refused):
            return await self._soonest(call.to(models=(), buffer=buffer), forward, refused, first)
        raise first

    def _able(self, call: Call) -> tuple[Link, ...]:
        """The chain of this call without those who cannot serve it. Raises NoRoute or AuthFailed if nobody is left."""
        if self._keyed and not call.models and asks_little(call.body):
            return self.links
        chain = chain_for(call.models, self.links, self._default, is_open=self.options.open)
        needs, catalog = needs_of(call.body), self._world.catalog
        able, reasons = [], []
        for link in chain:
            target = link.target
            reason = unfit(needs, target, catalog.get(target.model, target.upstream))
            if reason:
                reasons.append(f"{target}: {reason}")
                call.note(TargetSkipped(model=target.model, upstream=target.upstream, reason=reason))
            else:
                able.append(link)
        if not able and not any(link.target.key for link in chain):
            raise AuthFailed(f"no upstream of the chain has a key: {'; '.join(reasons)}")
        if not able:
            raise NoRoute(f"no target of the chain can serve this request: {'; '.join(reasons)}")
        return tuple(able)

    def _after(self, call: Call, chain: tuple[Link, ...], at: int, error: RouterError) -> int | None:
        """The place of the next target; None when the chain ends here."""
        failed = chain[at].target
        if isinstance(error, Refused) and error.onward != "never":
            call.note(TargetSkipped(model=failed.model, upstream=failed.upstream, reason=error.message))
        late = call.deadline is not None and call.deadline - self._world.clock.now() < MIN_ATTEMPT_S
        for place in range(at + 1, len(chain)):
            link = chain[place]
            reason = obstacle(error, self.options.when, failed, link, self._world.catalog)
            if reason is None:
                continue
            if not reason and late:
                reason = f"less than {show_duration(MIN_ATTEMPT_S)} is left"
            if not reason:
                call.note(FallbackTaken(failed=failed.model, error=error.code, model=link.target.model))
                return place
            call.note(TargetSkipped(model=link.target.model, upstream=link.target.upstream, reason=reason))
        return None

    async def _soonest(
        self, call: Call, forward: Handler, refused: list[tuple[Refused, Link]], first: RouterError
    ) -> Reply:
        """Everybody refused and nothing was sent: ask the soonest again, as the last."""
        _, link = min(refused, key=lambda pair: pair[0].retry_after or 0.0)
        try:
            asked = call.to(target=link.target, last=True).hang(PROBE, True)
            return await forward(_preferring(asked) if link.target.provider else asked)
        except Refused:
            raise first from None


def _preferring(call: Call) -> Call:
    """The call with what its target wants of a provider, met with what it asks itself. Raises NoRoute."""
    if call.target.dialect != "openrouter":
        return call
    return call.to(body={**call.body, "provider": meet(call.target.provider, asked_of(call))})


_SHORT = (BudgetExceeded, CostCapExceeded)


def _first(first: RouterError | None, error: RouterError) -> RouterError:
    """The error that a failed chain raises: the first of an upstream, a refusal only if nothing was sent."""
    if first is None or (isinstance(first, Refused) and isinstance(error, UpstreamError)):
        return error
    if isinstance(first, _SHORT) and isinstance(error, _SHORT) and error.needed < first.needed:
        return error  # Of several that are too dear, the one that lacks least.
    return first
