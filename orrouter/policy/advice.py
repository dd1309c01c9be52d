"""What is unwise in a policy: it can be built, and would not do what its writer expects.

Law: pure; one function a rule, each yields a PolicyError (a sentence with its place) that nobody raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from orrouter.core.errors import PolicyError
from orrouter.core.units import show_duration
from orrouter.ledger.open import MEMORY
from orrouter.middleware.base import Options
from orrouter.middleware.budget import BudgetOptions
from orrouter.middleware.deadline import DeadlineOptions
from orrouter.middleware.fallback import FallbackOptions, TargetOptions
from orrouter.middleware.provider import ProviderOptions
from orrouter.policy.hints import nearest
from orrouter.policy.known import Known
from orrouter.policy.load import KeyPath
from orrouter.policy.schema import Layer, Policy
from orrouter.policy.structure import Stack, is_foreign, targets_in, upstream_named
from orrouter.policy.upstreams import UpstreamOptions
from orrouter.policy.validation import unset_error

Warnings = Iterator[PolicyError]

_RISKY: Final = {
    "provider": {"fallback": "it does not know yet which target is asked"},
    "retry": {"fallback": "every retry asks the whole chain again"},
    "breaker": {
        "fallback": "it does not know yet which target is asked",
        "retry": "it sees one call where several tries are made",
    },
}
"""For a kind those it should not stand above, the worst first, and why."""

_PER_TRY: Final = ("connect", "first_token", "stall", "dead", "last_first_token")
_ELSEWHERE: Final = ("@", "~", "openrouter/")
"""Slugs that name no model of the list: presets, aliases of the latest, and OpenRouter's own routers."""


def warnings(policy: Policy, known: Known) -> Warnings:
    """Everything to be said about a policy that can be built."""
    yield from _unset(policy)
    yield from _clear_text(policy)
    yield from _unused_upstreams(policy)
    yield from _keyless(policy)
    yield from _unrouted(policy)
    for stack in policy.stacks.values():
        yield from _risky_order(policy, stack)
        yield from _mute_clocks(policy, stack)
        yield from _unknown_models(policy, stack, known)
        yield from _unmatched_preferences(policy, stack)
        yield from _unsent_preferences(policy, stack)
        yield from _forgetful_budgets(policy, stack)


def _forgetful_budgets(policy: Policy, stack: Stack) -> Warnings:
    if policy.ledger.url != MEMORY:
        return
    for layer in stack:
        if isinstance(layer.options, BudgetOptions):
            message = "this budget is kept in memory: every process has its own, and a restart begins it anew"
            hint = "write ledger: sqlite:///spend.db at the top of the policy"
            yield policy.document.error(layer.place, message, hint=hint, key_itself=True)


def _unset(policy: Policy) -> Warnings:
    for unset in policy.document.unset:
        yield unset_error(policy.document, unset.path, unset.variable)


def _clear_text(policy: Policy) -> Warnings:
    for name, options in policy.upstreams.items():
        url = urlsplit(options.base_url)
        if url.scheme == "http" and not _is_loopback(url.hostname or ""):
            what = "the key and every prompt travel" if _has_key(options) else "every prompt travels"
            yield policy.document.error(("upstreams", name, "base_url"), f"{what} in clear", hint="use https://")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _has_key(options: UpstreamOptions) -> bool:
    return bool(options.api_key or options.api_key_file)


def _unused_upstreams(policy: Policy) -> Warnings:
    first, *others = policy.upstreams
    used = {target.upstream or first for stack in policy.stacks.values() for target, _ in targets_in(stack)}
    for name in others:
        if name not in used:
            hint = f"write {{model: …, upstream: {name}}} in a fallback, or remove it"
            yield policy.document.error(("upstreams", name), f"no chain uses {name}", hint=hint, key_itself=True)


def _keyless(policy: Policy) -> Warnings:
    """No upstream has a key, and no variable is to blame that is reported already."""
    unset = {variable.path for variable in policy.document.unset}
    if not any(
        _has_key(options) or ("upstreams", name, "api_key") in unset for name, options in policy.upstreams.items()
    ):
        message = "no upstream has a key: every target would be skipped"
        yield policy.document.error(("upstreams",), message, hint="write api_key: ${NAME}", key_itself=True)


def _unrouted(policy: Policy) -> Warnings:
    """Only where routes are written: without them every policy but one is there to be named."""
    if not policy.document.data.get("routes"):
        return
    reached = {route.policy for route in policy.routes}
    for name in policy.stacks:
        if name not in reached:
            message = f"no route leads to {name}: only a call that names it takes it"
            yield policy.document.error(
                ("policies", name), message, hint="add a route, or ignore this", key_itself=True
            )


def _risky_order(policy: Policy, stack: Stack) -> Warnings:
    for at, layer in enumerate(stack):
        under = {lower.kind for lower in stack[at + 1 :]}
        for below, why in _RISKY.get(layer.kind, {}).items():
            if below in under:
                message, hint = f"{layer.kind} stands above {below}: {why}", f"move {layer.kind} below {below}"
                yield policy.document.error(layer.place, message, hint=hint, key_itself=True)
                break


def _mute_clocks(policy: Policy, stack: Stack) -> Warnings:
    """Clocks that a shorter one always comes before."""
    deadlines = [(layer, layer.options) for layer in stack if isinstance(layer.options, DeadlineOptions)]
    total = min((options.total for _, options in deadlines if options.total is not None), default=None)
    attempts = [options.attempt for _, options in deadlines if options.attempt is not None]
    attempt = attempts[-1] if attempts else None
    for layer, options in deadlines:
        if options.attempt is not None:
            yield from _longer(policy, layer, "attempt", "total", total)
        for clock in _PER_TRY:
            yield from (
                _longer(policy, layer, clock, "attempt", attempt)
                if attempt is not None
                else _longer(policy, layer, clock, "total", total)
            )


def _longer(policy: Policy, layer: Layer, clock: str, other: str, limit: float | None) -> Warnings:
    value: float | None = getattr(layer.options, clock)
    if value is not None and limit is not None and value > limit:
        message = f"{clock} ({show_duration(value)}) is longer than {other} ({show_duration(limit)}): it never rings"
        hint = f"make it shorter than {show_duration(limit)}, or leave it out"
        yield policy.document.error((*layer.place, clock), message, hint=hint)


def _unknown_models(policy: Policy, stack: Stack, known: Known) -> Warnings:
    first = next(iter(policy.upstreams))
    for target, path in targets_in(stack):
        upstream = target.upstream or first
        options = policy.upstreams.get(upstream)
        if options is not None:
            yield from _about_model(policy, target, upstream, path, known)


def _about_model(policy: Policy, target: TargetOptions, upstream: str, path: KeyPath, known: Known) -> Warnings:
    slug, place = target.model, (*path, "model")
    model = known.get(slug, upstream)
    listed = known.lists(upstream)
    if (
        model is None
        and not listed
        and (policy.upstreams[upstream].dialect != "openrouter" or slug.startswith(_ELSEWHERE))
    ):
        return
    if model is None:
        near = known.nearest(slug, upstream)
        where = f"the prices of {upstream} do not list" if listed else "no catalog knows"
        hint = f"did you mean {near!r}?" if near else "check the slug; a new model may be newer than the catalog"
        yield policy.document.error(place, f"{where} {slug!r}", hint=hint)
    elif model.expiration_date is not None:
        tense = "expired" if model.expiration_date <= known.as_of else "expires"
        yield policy.document.error(place, f"{slug} {tense} on {model.expiration_date}", hint="choose another model")


def _unmatched_preferences(policy: Policy, stack: Stack) -> Warnings:
    chains = [layer.options for layer in stack if isinstance(layer.options, FallbackOptions)]
    models = [target.model for chain in chains for target in chain.targets()]
    if not chains or any(chain.open for chain in chains):
        return
    for layer in stack:
        if isinstance(layer.options, ProviderOptions):
            for pattern in layer.options.models:
                if not any(fnmatchcase(model, pattern) for model in models):
                    place: KeyPath = (*layer.place, "models", pattern)
                    message = f"no model of the chain fits {pattern!r}"
                    yield policy.document.error(place, message, hint=nearest(pattern, models), key_itself=True)


def _unsent_preferences(policy: Policy, stack: Stack) -> Warnings:
    """Targets that a provider layer says nothing to, because only OpenRouter knows preferences."""
    asked = [(target.model, upstream_named(policy, target)) for target, _ in targets_in(stack)]
    if not asked:  # Whatever model a caller names, the first upstream is asked for it.
        asked = [("every model", next(iter(policy.upstreams)))]
    for layer in stack:
        for model, upstream in asked:
            if is_foreign(policy, upstream) and _prefers(layer.options, model):
                message = f"{model} at {upstream} gets none of these preferences: {upstream} is not OpenRouter"
                hint = "take it out of this policy if they must hold, or write them below models: for the others"
                yield policy.document.error(layer.place, message, hint=hint, key_itself=True)


def _prefers(options: Options, model: str) -> bool:
    """Whether a layer has preferences for this model, or for all."""
    if not isinstance(options, ProviderOptions):
        return False
    return bool(options.sent()) or any(fnmatchcase(model, pattern) for pattern in options.models)
