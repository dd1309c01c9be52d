"""A policy becomes pipelines: each stack folded over the transport, once.

Law: putting together what `schema` read. The YAML list is the order; three layers are added that nobody writes:
`record` outermost, and innermost `attempt` and the money gate, `reserve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from orrouter.core.call import Target
from orrouter.core.errors import PolicyError
from orrouter.core.pipeline import Handler, Middleware, Pipeline
from orrouter.middleware.attempt import AttemptOptions
from orrouter.middleware.base import Options, World
from orrouter.middleware.record import RecordOptions
from orrouter.middleware.reserve import ReserveOptions
from orrouter.policy.hints import nearest
from orrouter.policy.schema import Layer, Policy, Route
from orrouter.policy.structure import mistakes
from orrouter.policy.upstreams import listed_model
from orrouter.policy.validation import unset_error

POLICY_PREFIX: Final = "policy/"
"""`model: policy/NAME` chooses a policy, for callers who can only name a model."""


@dataclass(frozen=True, slots=True)
class Built:
    """The pipelines of a policy, by name, and the routes to them."""

    policy: Policy
    pipelines: Mapping[str, Pipeline]
    routes: tuple[Route, ...]

    def choose(self, name: str | None, endpoint: str, model: str, tags: Mapping[str, str]) -> tuple[str, Pipeline]:
        """The pipeline for a call: the one named, else that of the first route that matches.

        Raises PolicyError when no policy has the name.
        """
        if name is None:
            first = self.routes[0]
            name = first.policy if first.when is None else route_for(self.routes, endpoint, model, tags).policy
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            raise no_policy(name, self.pipelines)
        return name, pipeline


def route_for(routes: Iterable[Route], endpoint: str, model: str, tags: Mapping[str, str]) -> Route:
    """The first route that is meant for such a call; the last one of a policy always is."""
    return next(route for route in routes if matches(route, endpoint, model, tags))


def matches(route: Route, endpoint: str, model: str, tags: Mapping[str, str]) -> bool:
    """Whether a route is meant for such a call: all that its `when` says must fit."""
    when = route.when
    if when is None:
        return True
    if when.endpoint is not None and not fnmatchcase(endpoint, when.endpoint):
        return False
    if when.model is not None and not fnmatchcase(model, when.model):
        return False
    return all(tags.get(name) == value for name, value in when.tag.items())


def no_policy(name: str, known: Iterable[str]) -> PolicyError:
    """The error to raise for a name that no policy has."""
    return PolicyError(f"there is no policy {name!r}", hint=nearest(name, known))


def targets_of(policy: Policy) -> dict[str, Target]:
    """For each upstream a target without a model, with its key's name."""
    targets = {}
    for name, options in policy.upstreams.items():
        upstream = policy.upstream(name)
        targets[name] = Target(upstream=name, key=upstream.key_name, dialect=options.dialect)
    return targets


def build(policy: Policy, world: World, transport: Handler) -> Built:
    """The pipelines of a policy over a transport, whose upstreams and listed prices the world then knows.

    Raises PolicyError, also for a variable that is not set; then the world is as it was.
    """
    for unset in policy.document.unset:
        raise unset_error(policy.document, unset.path, unset.variable)
    for mistake in mistakes(policy):
        raise mistake
    targets = targets_of(policy)
    at_work = replace(world, upstreams=targets)
    pipelines = {name: Pipeline(_layers(policy, stack, at_work), transport) for name, stack in policy.stacks.items()}
    world.upstreams = targets
    for name, options in policy.upstreams.items():
        if options.prices:
            world.catalog.add(name, [listed_model(slug, price) for slug, price in options.prices.items()])
    return Built(policy, pipelines, policy.routes)


def whole_stack(stack: tuple[Layer, ...]) -> list[Options]:
    """The options of every layer of a stack, those included that nobody writes, outermost first."""
    written: list[Options] = [layer.options for layer in stack]
    if not stack or stack[0].kind != RecordOptions.kind:
        written.insert(0, RecordOptions())
    gate = written.pop() if isinstance(written[-1], ReserveOptions) else ReserveOptions()
    return [*written, AttemptOptions(), gate]


def _layers(policy: Policy, stack: tuple[Layer, ...], world: World) -> list[Middleware]:
    written = {id(layer.options): layer for layer in stack}
    return [_layer(policy, options, written.get(id(options)), world) for options in whole_stack(stack)]


def _layer(policy: Policy, options: Options, written: Layer | None, world: World) -> Middleware:
    """One layer at work. What a layer refuses, or an installed package fails at, is said at its place."""
    try:
        layer: Any = options.build(world)  # an installed package may give anything
    except Exception as error:
        if written is None:
            raise
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise policy.document.error(written.place, f"{written.kind} cannot be built: {said}") from error
    if written is not None and not callable(layer):
        hint = "its build() must return an async function of a call and a handler"
        raise policy.document.error(written.place, f"{written.kind} built no layer", hint=hint)
    return cast("Middleware", layer)
