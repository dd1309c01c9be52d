"""OpenRouter's `provider` object: its fields, and how two wishes meet.

Law: a value and pure functions, shared by the layers that read or write the object. No layer lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orrouter.core.call import Call, Key
from orrouter.core.errors import InvalidRequest, NoRoute
from orrouter.core.facts import ProviderIgnored

Quantization = Literal[
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown"
]
Percentiles = Annotated[dict[Literal["p50", "p75", "p90", "p99"], Annotated[float, Field(gt=0)]], Field(min_length=1)]


class Sort(BaseModel):
    """`sort` with its pool: `partition: none` sorts the endpoints of all models together."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    by: Literal["price", "throughput", "latency", "exacto"]
    """What is best."""
    partition: Literal["model", "none"] = "model"
    """Whether the endpoints of each model are sorted on their own."""


class MaxPrice(BaseModel):
    """The dearest endpoint that may serve: `prompt` and `completion` in USD for a million tokens, the others each."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    prompt: Annotated[float | None, Field(ge=0)] = None
    """USD for a million tokens read."""
    completion: Annotated[float | None, Field(ge=0)] = None
    """USD for a million tokens written."""
    request: Annotated[float | None, Field(ge=0)] = None
    """USD a request."""
    image: Annotated[float | None, Field(ge=0)] = None
    """USD an image."""
    audio: Annotated[float | None, Field(ge=0)] = None
    """USD for audio, in the upstream's unit."""


class Preferences(BaseModel):
    """OpenRouter's `provider` object, every field. Names are provider slugs, as in `endpoints[].tag`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    order: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    """Providers to try first, in this order."""
    only: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    """The only providers that may serve."""
    ignore: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    """Providers that may not serve."""
    allow_fallbacks: bool | None = None
    """Whether providers beyond `order` may serve (OpenRouter: true)."""
    require_parameters: bool | None = None
    """Whether only providers may serve that take every field of the request."""
    data_collection: Literal["allow", "deny"] | None = None
    """deny: only providers that do not keep prompts."""
    zdr: bool | None = None
    """Whether only endpoints of zero data retention may serve."""
    enforce_distillable_text: bool | None = None
    """Whether only models may serve whose answers may be used for training."""
    quantizations: Annotated[tuple[Quantization, ...] | None, Field(min_length=1)] = None
    """The precisions that may serve."""
    sort: Literal["price", "throughput", "latency", "exacto"] | Sort | None = None
    """What the best provider is best at; without it OpenRouter balances price and uptime."""
    max_price: MaxPrice | None = None
    """The dearest endpoint that may serve."""
    preferred_min_throughput: float | Percentiles | None = None
    """Tokens a second below which an endpoint is asked later; a number or one for each percentile."""
    preferred_max_latency: float | Percentiles | None = None
    """Seconds to the first token above which an endpoint is asked later; a number or one for each percentile."""
    options: dict[str, dict[str, Any]] | None = None
    """Further fields for single providers, by their slug."""

    def sent(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"models"})


def meet(policy: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Both preferences at once: the narrower of each field. Raises NoRoute when nothing fits both.

    An `order` without fallbacks is a list of who may serve, like `only`, and is met as one.
    """
    met = dict(policy)
    for field, value in asked.items():
        if value is None or value in ([], ()):
            continue
        narrower = _NARROWER.get(field)
        met[field] = value if field not in met or narrower is None else narrower(met[field], value)
        if met[field] == []:
            raise _nobody(field, policy[field], value)
    if strict_order(policy) or strict_order(asked):
        _meet_strictly(met, policy, asked)
    return _without_strangers(met)


def _without_strangers(met: dict[str, Any]) -> dict[str, Any]:
    """Without those in `order` whom `only` does not let serve."""
    order = met.pop("order", None)
    known = order if "only" not in met else [name for name in _names(order) if _is_one_of(name, met["only"])]
    return {**met, "order": known} if known else met


def _meet_strictly(met: dict[str, Any], policy: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Narrow `only` where an order of either side says who may serve at all. Raises NoRoute when nobody is left."""
    named = [side.get("order") or side.get("only") for side in (policy, asked)]
    allowed = [names for side in (policy, asked) if (names := who_may_serve(side)) is not None]
    left = _both(*allowed) if len(allowed) > 1 else list(allowed[0])
    if not left:
        raise _nobody("order", *named)
    if all(named):
        met["only"] = left


def _nobody(field: str, ours: Any, theirs: Any) -> NoRoute:
    return NoRoute(
        f"no provider is left: provider.{field} of the policy ({', '.join(_names(ours))}) and of the call "
        f"({', '.join(_names(theirs))}) share none"
    )


def refine(general: Mapping[str, Any], special: Mapping[str, Any]) -> dict[str, Any]:
    """What the same hand wrote for all and for some: met, but the special word for `order` and `sort` stands.

    Raises NoRoute when nothing fits both.
    """
    orderly = {name: value for name, value in general.items() if name not in special or name not in _TASTE}
    return meet(orderly, special)


def strict_order(wanted: Mapping[str, Any]) -> bool:
    """Whether nobody beyond `order` may serve."""
    return bool(wanted.get("order")) and wanted.get("allow_fallbacks") is False


def who_may_serve(wanted: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The providers that `only`, or an `order` without fallbacks, leaves; None: any."""
    only = _names(wanted.get("only")) or None
    if not strict_order(wanted):
        return only
    order = _names(wanted.get("order"))
    return order if only is None else tuple(name for name in order if _is_one_of(name, only))


def _slug(name: str) -> str:
    """A provider's name as its slug: upstreams answer with `Amazon Bedrock`, lists say `amazon-bedrock`."""
    return name.lower().replace(" ", "-")


def _base(name: str) -> str:
    """A provider's slug without a variant: `deepinfra` of `deepinfra/turbo`."""
    return _slug(name).partition("/")[0]


def _is_one_of(name: str, names: Iterable[str]) -> bool:
    """Whether one of the names means this provider; a slug means all of its variants too."""
    own = {_slug(name), _base(name)}
    return any(_slug(one) in own for one in names)


def _both(one: Any, other: Any) -> list[str]:
    ours, theirs = _names(one), _names(other)
    kept = [name for name in theirs if _is_one_of(name, ours)]
    return kept + [name for name in ours if _is_one_of(name, theirs) and not _is_one_of(name, kept)]


def _order(one: Any, other: Any) -> list[str]:
    """The caller's order among the policy's providers, then the rest of the policy's."""
    ours = _names(one)
    kept = [name for name in _names(other) if _is_one_of(name, ours)]
    return kept + [name for name in ours if not _is_one_of(name, kept)]


def _either(one: Any, other: Any) -> list[str]:
    return list(dict.fromkeys((*_names(one), *_names(other))))


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(name) for name in value) if isinstance(value, list | tuple) else ()


def _least(one: Any, other: Any) -> Any:
    """The lower of two numbers or, key by key, of two objects of numbers (`max_price`, percentiles)."""
    return _by_key(one, other, min)


def _most(one: Any, other: Any) -> Any:
    return _by_key(one, other, max)


def _by_key(one: Any, other: Any, pick: Callable[..., Any]) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {**other, **{key: _by_key(one[key], other.get(key, one[key]), pick) for key in one}}
    if isinstance(one, Mapping) or isinstance(other, Mapping):
        return one  # A number and percentiles cannot be compared: the policy's word stands.
    try:
        return pick(one, other, key=lambda number: Decimal(str(number)))
    except ArithmeticError:
        return one


_NARROWER: Mapping[str, Callable[[Any, Any], Any]] = {
    "order": _order,
    "only": _both,
    "ignore": _either,
    "quantizations": _both,
    "allow_fallbacks": lambda one, other: bool(one) and bool(other),
    "require_parameters": lambda one, other: bool(one) or bool(other),
    "zdr": lambda one, other: bool(one) or bool(other),
    "enforce_distillable_text": lambda one, other: bool(one) or bool(other),
    "data_collection": lambda one, other: "deny" if "deny" in (one, other) else other,
    "sort": lambda one, _: one,
    "max_price": _least,
    "preferred_max_latency": _least,
    "preferred_min_throughput": _most,
    "options": lambda one, other: {**other, **one},
}
"""How two values of a field meet. A field that nobody here knows takes the caller's value."""
_TASTE = ("order", "sort")
"""Fields that say who is liked best and not who may serve."""


_NOTHING: Mapping[str, Any] = {}


def asked_of(call: Call) -> Mapping[str, Any]:
    """The `provider` object of the request; empty without one. Raises InvalidRequest when it is no object."""
    asked = call.body.get("provider")
    if not asked:
        return _NOTHING
    if not isinstance(asked, Mapping):
        raise InvalidRequest(f"provider must be an object, as in {{'sort': 'price'}}, not {asked!r}")
    return asked


def may_serve(call: Call, provider: str) -> bool:
    """Whether the request lets this provider serve; where it lists nobody, everybody may."""
    wanted = asked_of(call)
    if _is_one_of(provider, _names(wanted.get("ignore"))):
        return False
    listed = who_may_serve(wanted)
    return listed is None or any(_is_one_of(one, (provider,)) or _is_one_of(provider, (one,)) for one in listed)


def ignoring(call: Call, providers: Sequence[str], reason: str, added_by: Key[tuple[str, ...]]) -> Call:
    """`call` with these providers left out, where another may remain.

    What was added hangs on the call under `added_by`, so that the layer which added it, and no other, can take
    it back. Another provider remains unless `only`, or `order` without fallbacks, says otherwise.
    """
    wanted = dict(asked_of(call))
    before = _names(wanted.get("ignore"))
    listed = who_may_serve(wanted)
    if listed is not None and all(_is_one_of(name, (*before, *providers)) for name in listed):
        return call
    added = tuple(name for name in providers if not _is_one_of(name, before))
    if not added:
        return call
    for name in added:
        call.note(ProviderIgnored(model=call.target.model, provider=name, reason=reason))
    wanted["ignore"] = [*before, *added]
    return call.to(body={**call.body, "provider": wanted}).hang(added_by, added)
