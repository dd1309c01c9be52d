"""Which stacks cannot be meant: mistakes that no single layer sees, found before anything is built.

Law: pure; it reads a policy and yields errors with their places. Building raises the first, checking shows them all.
What is only unwise is said in `advice`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orrouter.core.errors import PolicyError
from orrouter.middleware.budget import BudgetOptions
from orrouter.middleware.deadline import DeadlineOptions
from orrouter.middleware.fallback import FallbackOptions, TargetOptions
from orrouter.middleware.record import RecordOptions
from orrouter.middleware.reserve import ReserveOptions
from orrouter.policy import kinds
from orrouter.policy.hints import nearest
from orrouter.policy.load import KeyPath
from orrouter.policy.schema import Layer, Policy

Stack = tuple[Layer, ...]

_REPEATING: Final = ("retry", "fallback")
"""Layers that ask more than once: below them a clock is for each try."""


def mistakes(policy: Policy) -> Iterator[PolicyError]:
    """Everything that stops a policy from being built, stack by stack."""
    yield from _two_zones(policy)
    for stack in policy.stacks.values():
        yield from _repeated(policy, stack)
        yield from _record_below(policy, stack)
        yield from _reserve_above(policy, stack)
        yield from _total_below(policy, stack)
        yield from _unknown_upstreams(policy, stack)
        yield from _vain_preferences(policy, stack)


def _two_zones(policy: Policy) -> Iterator[PolicyError]:
    """One account whose days begin at two hours: what is left of it would depend on who asks."""
    zones: dict[str, str] = {}
    for stack in policy.stacks.values():
        for layer in stack:
            options = layer.options
            if not isinstance(options, BudgetOptions):
                continue
            zone = zones.setdefault(options.account, options.time_zone)
            if zone != options.time_zone:
                message = f"the account {options.account} has the time zone {zone} in another budget"
                yield policy.document.error((*layer.place, "time_zone"), message, hint="write the same in both")


def _repeated(policy: Policy, stack: Stack) -> Iterator[PolicyError]:
    seen: dict[str, Layer] = {}
    for layer in stack:
        first = seen.setdefault(layer.kind, layer)
        if first is not layer and layer.kind in kinds.OURS.keys() - kinds.MAY_REPEAT:
            message = f"{layer.kind} stands twice in this policy{_line(policy, first)}"
            yield policy.document.error(layer.place, message, hint="keep one of the two", key_itself=True)


def _record_below(policy: Policy, stack: Stack) -> Iterator[PolicyError]:
    for layer in stack[1:]:
        if layer.kind == RecordOptions.kind:
            message = f"record must be the first layer: below {stack[0].kind} it would not see every call"
            yield policy.document.error(layer.place, message, hint="move it to the top of the policy", key_itself=True)


def _reserve_above(policy: Policy, stack: Stack) -> Iterator[PolicyError]:
    for layer in stack[:-1]:
        if layer.kind == ReserveOptions.kind:
            message = f"reserve must be the last layer: {stack[-1].kind} below it would send what nobody has priced"
            yield policy.document.error(layer.place, message, hint="move it to the end of the policy", key_itself=True)


def _total_below(policy: Policy, stack: Stack) -> Iterator[PolicyError]:
    for at, layer in enumerate(stack):
        over = next((upper.kind for upper in stack[:at] if upper.kind in _REPEATING), None)
        if over is not None and isinstance(layer.options, DeadlineOptions) and layer.options.total is not None:
            message = f"a total is for the whole call, and this one stands below {over}"
            hint = f"write attempt: for the time of each try, or move the total above {over}"
            yield policy.document.error((*layer.place, "total"), message, hint=hint, key_itself=True)


def _unknown_upstreams(policy: Policy, stack: Stack) -> Iterator[PolicyError]:
    for target, path in targets_in(stack):
        if target.upstream is not None and target.upstream not in policy.upstreams:
            hint = nearest(target.upstream, policy.upstreams)
            yield policy.document.error((*path, "upstream"), f"there is no upstream {target.upstream!r}", hint=hint)


def _vain_preferences(policy: Policy, stack: Stack) -> Iterator[PolicyError]:
    """Preferences that would be dropped: who writes `data_collection: deny` must not believe it holds."""
    for target, path in targets_in(stack):
        upstream = upstream_named(policy, target)
        if target.provider is not None and is_foreign(policy, upstream):
            message = f"{upstream} is not OpenRouter: its provider preferences mean nothing"
            yield policy.document.error((*path, "provider"), message, hint="remove them", key_itself=True)


def upstream_named(policy: Policy, target: TargetOptions) -> str:
    """The name of the upstream that a target asks: the first where it names none."""
    return target.upstream or next(iter(policy.upstreams))


def is_foreign(policy: Policy, upstream: str) -> bool:
    """Whether an upstream of the policy knows none of OpenRouter's fields."""
    options = policy.upstreams.get(upstream)
    return options is not None and options.dialect != "openrouter"


def targets_in(stack: Stack) -> Iterator[tuple[TargetOptions, KeyPath]]:
    """Every target that the chains of a stack name, and where it is written."""
    for layer in stack:
        if isinstance(layer.options, FallbackOptions):
            for at, target in enumerate(layer.options.targets()):
                yield target, (*layer.place, "models", at)


def _line(policy: Policy, layer: Layer) -> str:
    line, _ = policy.document.place(layer.path)
    return f", first on line {line}" if line else ""
