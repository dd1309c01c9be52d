"""Which provider serves a request: OpenRouter's filters, one after the other, and the funnel they leave.

Law: pure, from a request and a model to a provider or a failure. Nothing is sent and nothing is remembered; the
choice among the survivors is the first of the table (or of the caller's order), so that a test can foretell it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orrouter.testkit import failures
from orrouter.testkit.ask import Ask
from orrouter.testkit.failures import Failure
from orrouter.testkit.table import SAMPLING, STRUCTURED, THINKING, TOOLS, FakeModel, FakeProvider

ROUTED = frozenset((*SAMPLING, *TOOLS, *STRUCTURED, *THINKING))
"""Request fields that `require_parameters` compares with what a model supports."""

Endpoints = tuple[FakeProvider, ...]
Survivors = tuple[FakeProvider, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """One routing step: who stays, and what is said (with which metadata) when nobody does."""

    step: str
    keeps: Callable[[FakeProvider], bool]
    message: str
    metadata: Mapping[str, Any] | None = None


def route(ask: Ask, model: FakeModel, variant: str = "") -> FakeProvider | Failure:
    """The provider that serves, or the failure of the step that left none. `variant` is `nitro`, `floor` or nothing."""
    left = model.providers
    funnel = [("Initial Endpoints", len(left))]
    for one in _filters(ask, model):
        survivors = tuple(filter(one.keeps, left))
        if not survivors:
            return failures.no_route(one.message, funnel, one.step, one.metadata)
        if len(survivors) < len(left):
            funnel.append((one.step, len(survivors)))
        left = survivors
    roomy = tuple(one for one in left if one.context >= ask.prompt_tokens + (ask.max_tokens or 0))
    if not roomy:
        return failures.context_overflow(max(one.context for one in left), ask.prompt_tokens, ask.max_tokens or 0)
    return arranged(roomy, ask.provider, variant)[0]


def named(provider: FakeProvider, names: list[str]) -> bool:
    """Whether one of the names means this provider: its slug, its base slug, or its display name, in any case."""
    base = provider.tag.partition("/")[0]
    own = {provider.tag.lower(), base.lower(), provider.name.lower()}
    return any(name.lower() in own for name in names)


def arranged(left: Survivors, wish: Mapping[str, Any], variant: str) -> Survivors:
    """The survivors in the order in which they are asked: the caller's order first, then by the wished quality."""
    sort = wish.get("sort") or {"nitro": "throughput", "floor": "price"}.get(variant, "")
    by = sort.get("by", "") if isinstance(sort, Mapping) else sort
    keys: dict[str, Callable[[FakeProvider], Any]] = {
        "price": lambda one: sum(one.prices),
        "throughput": lambda one: -one.throughput,
        "latency": lambda one: -one.throughput,
    }
    ranked = tuple(sorted(left, key=keys[by])) if by in keys else left
    order: list[str] = wish.get("order") or []
    first = tuple(one for name in order for one in ranked if named(one, [name]))
    return tuple(dict.fromkeys((*first, *ranked)))


def _filters(ask: Ask, model: FakeModel) -> Iterator[Filter]:
    """Every filter that this request sets in motion, in OpenRouter's order."""
    yield from _abilities(ask, model)
    yield from _policies(ask.provider)
    yield from _names(ask.provider, model)
    yield from _prices(ask.provider.get("max_price") or {}, model)
    yield from _parameters(ask, model)


def _abilities(ask: Ask, model: FakeModel) -> Iterator[Filter]:
    """What the model cannot do, no provider of it can."""
    outputs = ask.needed_outputs
    yield Filter(
        "Filter by Model Output Modalities",
        lambda _: set(outputs) <= set(model.outputs),
        f"No endpoints found that support the requested output modalities: {', '.join(outputs)}",
    )
    spoken = {"image": "image input", "audio": "input audio", "file": "file input", "video": "input video"}
    for kind in sorted(ask.needed_inputs - set(model.inputs) - {"file"}):
        yield Filter(f"Filter by {kind.title()} Support", _nobody, f"No endpoints found that support {spoken[kind]}")
    if ask.tools and "tools" not in model.parameters:
        first = ask.tools[0].get("function", {}).get("name", "tools")
        yield Filter(
            "Filter by Tool Compatibility",
            _nobody,
            f'No endpoints found that support tool use. Try disabling "{first}". To learn more about provider '
            "routing, visit: https://openrouter.ai/docs/guides/routing/provider-selection",
        )


def _policies(wish: Mapping[str, Any]) -> Iterator[Filter]:
    message = "No endpoints found matching your data policy ({}). Configure: " + failures.PRIVACY
    if wish.get("data_collection") == "deny":
        yield Filter("Filter by Guardrails", _keeps_nothing, message.format("Paid model training"))
    if wish.get("zdr"):
        yield Filter("Filter by Guardrails", _keeps_nothing, message.format("Zero data retention"))


def _names(wish: Mapping[str, Any], model: FakeModel) -> Iterator[Filter]:
    only, ignore, order = wish.get("only"), wish.get("ignore"), wish.get("order")
    serving = sorted({one.tag.partition("/")[0] for one in model.providers})
    if only:
        yield Filter(
            "Filter by Allowed Providers",
            lambda one: named(one, only),
            f"No allowed providers are available for the selected model. Providers serving {model.slug}: "
            f"{', '.join(serving)}, but your request's `provider.only` preference permits only: {', '.join(only)}.",
            {"requested_providers": only, "available_providers": serving},
        )
    if ignore:
        yield Filter(
            "Filter by Ignored Providers",
            lambda one: not named(one, ignore),
            "All providers have been ignored. To change your default ignored providers, visit: " + failures.PRIVACY,
        )
    if order and wish.get("allow_fallbacks") is False:
        yield Filter("Filter by Fallback", lambda one: named(one, order), f"No endpoints found for {model.slug}.")


def _prices(caps: Mapping[str, Any], model: FakeModel) -> Iterator[Filter]:
    """Caps in USD per million tokens. A price that equals its cap is refused, as it is by OpenRouter."""
    for place, kind in enumerate(("prompt", "completion")):
        if caps.get(kind) is None:
            continue
        cap = Decimal(str(caps[kind])) / 1_000_000
        yield Filter(
            "Filter by Max Price", _below(place, cap), f"No endpoints found for {model.slug} within your max price."
        )


def _parameters(ask: Ask, model: FakeModel) -> Iterator[Filter]:
    quantizations = ask.provider.get("quantizations")
    if quantizations:
        keeps: Callable[[FakeProvider], bool] = lambda one: one.quantization in quantizations  # noqa: E731  # as above
        yield Filter("Filter by Quantization", keeps, f"No endpoints found for {model.slug}.")
    if ask.provider.get("require_parameters"):
        missing = (set(ask.body) & ROUTED) - set(model.parameters)
        message = "No endpoints found that can handle the requested parameters."
        yield Filter("Filter by Parameters", lambda _: not missing, message)


def _nobody(_: FakeProvider) -> bool:
    return False


def _keeps_nothing(provider: FakeProvider) -> bool:
    return not provider.keeps_data


def _below(place: int, cap: Decimal) -> Callable[[FakeProvider], bool]:
    return lambda one: one.prices[place] < cap or not one.prices[place]
