"""OpenRouter's `provider` object: its fields, and how two wishes meet.

Law: a value and pure functions, shared by the layers that read or write the object. No layer lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orrouter.core.call import Call, Key
from orrouter.core.errors import InvalidRequest
from orrouter.core.facts import ProviderIgnored

Quantization = Literal[
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown"
]
Percentiles = Annotated[dict[Literal["p50", "p75", "p90", "p99"], Annotated[float, Field(gt=0)]], Field(min_length=1)]


class Sort(BaseModel):
    """`sort` with its pool: `partition: none` sorts the endpoints of all models together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    by: Literal["price", "throughput", "latency", "exacto"]
    partition: Literal["model", "none"] = "model"


class MaxPrice(BaseModel):
    """The dearest endpoint that may serve: `prompt` and `completion` in USD for a million tokens, the others each."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt: Annotated[float | None, Field(ge=0)] = None
    completion: Annotated[float | None, Field(ge=0)] = None
    request: Annotated[float | None, Field(ge=0)] = None
    image: Annotated[float | None, Field(ge=0)] = None
    audio: Annotated[float | None, Field(ge=0)] = None


class Preferences(BaseModel):
    """OpenRouter's `provider` object, every field. Names are provider slugs, as in `endpoints[].tag`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    order: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    only: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    ignore: Annotated[tuple[str, ...] | None, Field(min_length=1)] = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    quantizations: Annotated[tuple[Quantization, ...] | None, Field(min_length=1)] = None
    sort: Literal["price", "throughput", "latency", "exacto"] | Sort | None = None
    max_price: MaxPrice | None = None
    preferred_min_throughput: float | Percentiles | None = None
    preferred_max_latency: float | Percentiles | None = None
    options: dict[str, dict[str, Any]] | None = None

    def sent(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"models"})


def meet(policy: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Both preferences at once: the narrower of each field. Raises InvalidRequest when nothing fits both."""
    met = dict(policy)
    for field, value in asked.items():
        if value is None:
            continue
        narrower = _NARROWER.get(field)
        met[field] = value if field not in met or narrower is None else narrower(field, met[field], value)
    if "order" in met and "only" in met:
        allowed = {name.lower() for name in met["only"]}
        met["order"] = [name for name in met["order"] if name.lower() in allowed] or list(met["only"])
    return met


def _both(field: str, one: Any, other: Any) -> list[str]:
    kept = [name for name in _names(other) if name.lower() in {known.lower() for known in _names(one)}]
    if not kept:
        raise InvalidRequest(
            f"provider.{field} of the policy ({', '.join(_names(one))}) and of the call ({', '.join(_names(other))}) "
            "share nothing: no provider could serve"
        )
    return kept


def _order(field: str, one: Any, other: Any) -> list[str]:
    """The caller's order among the policy's providers; the policy's own where they share none."""
    known = {name.lower() for name in _names(one)}
    kept = [name for name in _names(other) if name.lower() in known]
    return kept + [name for name in _names(one) if name.lower() not in {name.lower() for name in kept}]


def _either(field: str, one: Any, other: Any) -> list[str]:
    return list(dict.fromkeys((*_names(one), *_names(other))))


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(name) for name in value) if isinstance(value, list | tuple) else ()


def _least(field: str, one: Any, other: Any) -> Any:
    """The lower of two numbers or, key by key, of two objects of numbers (`max_price`, percentiles)."""
    return _by_key(one, other, min)


def _most(field: str, one: Any, other: Any) -> Any:
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


_NARROWER: Mapping[str, Callable[[str, Any, Any], Any]] = {
    "order": _order,
    "only": _both,
    "ignore": _either,
    "quantizations": _both,
    "allow_fallbacks": lambda field, one, other: bool(one) and bool(other),
    "require_parameters": lambda field, one, other: bool(one) or bool(other),
    "zdr": lambda field, one, other: bool(one) or bool(other),
    "enforce_distillable_text": lambda field, one, other: bool(one) or bool(other),
    "data_collection": lambda field, one, other: "deny" if "deny" in (one, other) else other,
    "sort": lambda field, one, other: one,
    "max_price": _least,
    "preferred_max_latency": _least,
    "preferred_min_throughput": _most,
    "options": lambda field, one, other: {**other, **one},
}
"""How two values of a field meet. A field that nobody here knows takes the caller's value."""

def ignoring(call: Call, providers: list[str], reason: str, added_by: Key[tuple[str, ...]]) -> Call:
    """`call` with these providers left out, where another may remain.

    What was added hangs on the call under `added_by`, so that the layer which added it, and no other, can take
    it back. Another provider remains unless `only`, or `order` without fallbacks, says otherwise.
    """
    wanted: dict[str, Any] = dict(call.body.get("provider") or {})
    listed = wanted.get("only") or (wanted.get("order") if wanted.get("allow_fallbacks") is False else None)
    if listed and not {name.lower() for name in _names(listed)} - {name.lower() for name in providers}:
        return call
    before = list(_names(wanted.get("ignore")))
    added = tuple(name for name in providers if name not in before)
    if not added:
        return call
    for name in added:
        call.note(ProviderIgnored(model=call.target.model, provider=name, reason=reason))
    wanted["ignore"] = [*before, *added]
    return call.to(body={**call.body, "provider": wanted}).hang(added_by, added)
