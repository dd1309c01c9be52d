"""What a policy does, in words: its routes, its layers from the outermost inward, its targets in order.

Law: pure values, made of the policy and the catalog alone; nothing is built, asked or sent. How they are shown in
colour is the command's affair, `str()` shows them plain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.ceiling import Ceiling
from orrouter.catalog.model import Model
from orrouter.core.call import Call, Target, Trail
from orrouter.core.errors import ModelNotAllowed, Unpriced
from orrouter.core.money import nano, show, usd
from orrouter.middleware.base import World
from orrouter.middleware.budget import BudgetOptions
from orrouter.middleware.cost_cap import CostCapOptions
from orrouter.middleware.fallback import FallbackOptions, Link, chain_for, links_of
from orrouter.middleware.fitness import needs_of, unfit
from orrouter.middleware.reserve import ReserveOptions, bound
from orrouter.policy.build import POLICY_PREFIX, no_policy, route_for, targets_of, whole_stack
from orrouter.policy.known import Known
from orrouter.policy.schema import Layer, Policy, Route
from orrouter.policy.structure import mistakes

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a stack; `added` where nobody wrote it."""

    kind: str
    says: str
    added: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One target of a chain. `model` None: no catalog knows it; `slug` empty: the call names no model.

    `when` are the errors after which alone it is asked; `skipped` says why it would not be asked, if so. `worst` is the
    most that the request may cost there under a limit; None where nobody can say, and `unpriced` says why.
    """

    slug: str
    upstream: str
    model: Model | None
    when: tuple[str, ...] = ()
    skipped: str = ""
    worst: Ceiling | None = None
    unpriced: str = ""

    @property
    def cost(self) -> Decimal | None:
        """USD that the request may cost at most; None where nobody can say."""
        return None if self.worst is None else usd(self.worst.cost())

    @property
    def ceiling(self) -> str:
        """The same in words; empty where it was not asked."""
        if self.worst is None:
            return f"refused under a limit: {self.unpriced}" if self.unpriced else ""
        worst = self.worst
        kind = f", an estimate: {worst.estimate}" if worst.estimate else ""
        return f"at most {show(worst.cost())} for {worst.input_tokens:,} tokens in and {worst.tokens:,} out{kind}"

    @property
    def price(self) -> str:
        """What a million tokens cost, in and out; empty when unknown."""
        prompt, completion = (self.model.price.prompt, self.model.price.completion) if self.model else (None, None)
        if prompt is None or completion is None:
            return ""
        return f"{show(nano(prompt * _MILLION))}/M in, {show(nano(completion * _MILLION))}/M out"

    @property
    def abilities(self) -> tuple[str, ...]:
        """What it is known to take and give."""
        return tuple(_abilities(self.model)) if self.model is not None else ()

    def __str__(self) -> str:
        shown = f"{self.slug or 'the default model'} at {self.upstream}"
        if self.when:
            shown += f", only after {' or '.join(self.when)}"
        if self.slug and self.model is None:
            shown += ": no catalog knows it"
        context = f"{self.model.context_length:,} tokens" if self.model and self.model.context_length else ""
        facts = [fact for fact in (self.price, context, ", ".join(self.abilities)) if fact]
        return f"{shown}: {'; '.join(facts)}" if facts else shown


@dataclass(frozen=True, slots=True)
class Stack:
    """One policy. `refused` says why the request would not be sent at all, if so; `limited` that its money is."""

    name: str
    steps: tuple[Step, ...]
    targets: tuple[Candidate, ...]
    refused: str = ""
    limited: bool = False

    def lines(self) -> Iterator[str]:
        """The policy, plain."""
        yield f"policy {self.name}, from the outermost layer inward"
        width = max(len(step.kind) for step in self.steps)
        for step in self.steps:
            yield f"  {step.kind:<{width}}  {step.says}{' (always there)' if step.added else ''}"
        if self.refused:
            yield f"  refused: {self.refused}"
        if self.targets:
            yield "  asks"
        for number, target in enumerate(self.targets, 1):
            yield f"  {number}. {target}"
            if target.skipped:
                yield f"     skipped: {target.skipped}"
            if self.limited and target.ceiling:
                yield f"     {target.ceiling}"


@dataclass(frozen=True, slots=True)
class Explained:
    """A policy file in words: each route with the policy it leads to, and the policies asked about.

    Given a request, `chosen` is the policy it takes and `because` why. `unset` are variables that must be set first.
    """

    file: str
    routes: tuple[tuple[str, str], ...]
    stacks: tuple[Stack, ...]
    chosen: str = ""
    because: str = ""
    unset: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.file]
        lines += [f"not set: {', '.join(self.unset)}"] if self.unset else []
        lines += [f"{calls} -> {policy}" for calls, policy in self.routes]
        lines += [f"this request takes {self.chosen}: {self.because}"] if self.chosen else []
        for stack in self.stacks:
            lines += ["", *stack.lines()]
        return "\n".join(lines)


def explain(
    policy: Policy,
    catalog: Catalog,
    name: str | None = None,
    request: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Explained:
    """What a policy does; with a request body, what it would do with that.

    Without a name every policy is told or, given a request, the one that it takes. Raises PolicyError for a name
    that no policy has and for a policy that cannot be built; a variable that is not set stops nothing here.
    """
    for mistake in mistakes(policy):
        raise mistake
    chosen, because = _choose(policy, name, request, tags or {}) if request is not None else ("", "")
    wanted = name or chosen
    if wanted and wanted not in policy.stacks:
        raise no_policy(wanted, policy.stacks)
    view = _View(policy, catalog, request)
    return Explained(
        file=policy.document.file,
        routes=tuple((_calls(route, at), route.policy) for at, route in enumerate(policy.routes)),
        stacks=tuple(view.stack(one) for one in ([wanted] if wanted else policy.stacks)),
        chosen=chosen,
        because=because,
        unset=tuple(dict.fromkeys(unset.variable for unset in policy.document.unset)),
    )


def _choose(policy: Policy, name: str | None, request: Mapping[str, Any], tags: Mapping[str, str]) -> tuple[str, str]:
    """The policy that a request takes, and why."""
    if name is not None:
        return name, "it was asked for by name"
    said = [slug for slug in _models(request) if slug.startswith(POLICY_PREFIX)]
    if said:
        return said[0].removeprefix(POLICY_PREFIX), f"its model is {said[0]}"
    model = next(iter(_models(request)), "")
    route = route_for(policy.routes, _endpoint(request), model, tags)
    return route.policy, f"the route for {_calls(route, policy.routes.index(route))}"


def _endpoint(request: Mapping[str, Any]) -> str:
    """Where a body of this shape goes."""
    if "messages" in request:
        return "chat/completions"
    return "embeddings" if "input" in request else "completions" if "prompt" in request else "chat/completions"


def _models(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that a request names, first choice first."""
    named = [request.get("model"), *(request.get("models") or ())]
    return tuple(dict.fromkeys(slug for slug in named if isinstance(slug, str) and slug))


def _calls(route: Route, at: int) -> str:
    """Which calls take a route, in words."""
    when = route.when
    if when is None:
        return "every other call" if at else "every call"
    words = [f"to {when.endpoint}"] if when.endpoint is not None else []
    words += [f"that name {when.model}"] if when.model is not None else []
    words += [f"with the tag {' and '.join(f'{tag}={value}' for tag, value in when.tag.items())}"] if when.tag else []
    return f"calls {' '.join(words)}"


def _abilities(model: Model) -> Iterator[str]:
    known = {
        "tools": model.supports("tools"),
        "structured output": model.supports("structured_outputs") or model.supports("response_format"),
        "reasoning": model.reasons(),
        "images": model.takes("image"),
        "files": model.takes("file"),
        "audio": model.takes("audio"),
        "video": model.takes("video"),
    }
    return (word for word, can in known.items() if can)


class _View:
    """How the policies of one file treat one request, or any."""

    def __init__(self, policy: Policy, catalog: Catalog, request: Mapping[str, Any] | None) -> None:
        self._policy, self._known = policy, Known(policy, catalog)
        self._needs = needs_of(request or {})
        asked = {"messages": []} if request is None else request  # Without one: what an empty prompt may cost.
        self._request = {name: value for name, value in asked.items() if name not in ("model", "models")}
        self._named = [slug for slug in _models(request or {}) if not slug.startswith(POLICY_PREFIX)]
        self._world = World(catalog=catalog, upstreams=_as_if_set(policy))

    def stack(self, name: str) -> Stack:
        """One policy of the file."""
        layers = self._policy.stacks[name]
        written = {id(layer.options) for layer in layers}
        whole = whole_stack(layers)
        steps = [Step(one.kind, one.says(), added=id(one) not in written) for one in whole]
        gate = whole[-1]
        assert isinstance(gate, ReserveOptions), "the money gate is always there"
        sent = self._sent(layers)
        try:
            targets, refused = tuple(self._candidate(link, gate, sent) for link in self._chain(layers)), ""
        except ModelNotAllowed as error:
            targets, refused = (), error.message
        if targets and all(target.skipped for target in targets):
            refused = "no target can serve this request"
        limited = any(isinstance(layer.options, CostCapOptions | BudgetOptions) for layer in layers)
        return Stack(name, tuple(steps), targets, refused, limited)

    def _chain(self, layers: Sequence[Layer]) -> Sequence[Link]:
        first = next(iter(self._world.upstreams.values()))
        for layer in layers:
            if isinstance(layer.options, FallbackOptions):
                links = links_of(layer.options, self._world)
                return chain_for(self._named, links, first, is_open=layer.options.open)
        return [Link(replace(first, model=slug)) for slug in self._named[:1] or [""]]

    def _sent(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """The models that are sent on, for the upstream to choose from; a chain of ours stands in their place."""
        ours = any(isinstance(layer.options, FallbackOptions) for layer in layers)
        return () if ours else tuple(self._named)

    def _candidate(self, link: Link, gate: ReserveOptions, models: tuple[str, ...]) -> Candidate:
        target, request = link.target, self._request
        model = self._known.get(target.model, target.upstream) if target.model else None
        skipped = unfit(self._needs, target, model)
        try:
            trail, endpoint = Trail("", lambda: 0.0), _endpoint(request)
            call = Call(trail=trail, endpoint=endpoint, body=request, target=target, models=models)
            worst, unpriced = bound(call, call.body, self._known.get, gate), ""
        except Unpriced as error:
            worst, unpriced = None, error.message
        return Candidate(target.model, target.upstream, model, link.when or (), skipped, worst, unpriced)


def _as_if_set(policy: Policy) -> dict[str, Target]:
    """The upstreams, where a key that is still to be set counts as there."""
    unset = {variable.path for variable in policy.document.unset}
    return {
        name: replace(target, key="unset") if ("upstreams", name, "api_key") in unset else target
        for name, target in targets_of(policy).items()
    }
