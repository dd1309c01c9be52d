"""Whether a request is well formed, by OpenRouter's own words when it is not.

Law: pure, from parsed JSON to a failure or nothing. Which provider may serve a well formed request is decided
in `routing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from orrouter.testkit import failures
from orrouter.testkit.failures import Failure, zod
from orrouter.testkit.speech import instance

PROVIDER_FIELDS = frozenset(
    {
        *("order", "only", "ignore", "allow_fallbacks", "require_parameters", "data_collection", "zdr"),
        *("enforce_distillable_text", "quantizations", "sort", "max_price", "preferred_min_throughput"),
        *("preferred_max_latency", "options"),
    }
)
"""What `provider` may hold; OpenRouter refuses any other key."""

PROMPTS = {"chat/completions": ("messages", "prompt"), "completions": ("prompt", "messages"), "embeddings": ("input",)}
"""Where each endpoint takes its input from."""


def parse(data: bytes) -> dict[str, Any] | Failure:
    """The body as a JSON object, or what OpenRouter says to anything else."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return failures.no_tokens()
    return body if isinstance(body, dict) else failures.no_tokens()


def check(endpoint: str, body: Mapping[str, Any]) -> Failure | None:
    """The first thing that is wrong with the request, or None."""
    return next((found for found in _findings(endpoint, body) if found is not None), None)


def _findings(endpoint: str, body: Mapping[str, Any]) -> Iterator[Failure | None]:
    yield _input(endpoint, body)
    yield _models(body)
    yield _provider(body.get("provider"))
    for name, (fits, expected) in RANGES.items():
        value = body.get(name)
        if value is not None and not fits(value):
            yield zod("invalid_value", [name], f"Invalid input: expected {expected}")


def _input(endpoint: str, body: Mapping[str, Any]) -> Failure | None:
    fields = PROMPTS[endpoint]
    given = next((body[name] for name in fields if name in body), None)
    if given is None:
        return failures.input_required()
    if not given or not isinstance(given, (str, list)):
        return failures.no_tokens()
    messages = body.get("messages")
    if messages and not (_are_objects(messages) and all(isinstance(one.get("role"), str) for one in messages)):
        return zod("invalid_type", ["messages", 0, "role"], "Invalid input: expected string", expected="string")
    return None


def _models(body: Mapping[str, Any]) -> Failure | None:
    models = body.get("models") or []
    if not isinstance(models, list) or not all(isinstance(slug, str) for slug in models):
        return zod("invalid_type", ["models"], "Invalid input: expected array of strings", expected="array")
    if len(models) > 3:
        return failures.too_many_models()
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        return zod("invalid_type", ["model"], "Invalid input: expected string", expected="string")
    return None if model or models else failures.no_models()


def _provider(wish: Any) -> Failure | None:
    if wish is None:
        return None
    if not isinstance(wish, Mapping):
        return zod("invalid_type", ["provider"], "Invalid input: expected object", expected="object")
    unknown = sorted(set(wish) - PROVIDER_FIELDS)
    if unknown:
        keys = ", ".join(f'"{key}"' for key in unknown)
        return zod("unrecognized_keys", ["provider"], f"Unrecognized keys: {keys}", keys=unknown)
    for name, (fits, expected) in PROVIDER_RANGES.items():
        if wish.get(name) is not None and not fits(wish[name]):
            return zod("invalid_value", ["provider", name], f"Invalid input: expected {expected}")
    return None


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low <= value <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _is_reasoning(value: Any) -> bool:
    return isinstance(value, Mapping) and (value.get("max_tokens") is None or _is_count(value["max_tokens"]))


def _are_tools(value: Any) -> bool:
    return _are_objects(value) and all(_is_function(one["function"]) for one in value if "function" in one)


def _is_function(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and isinstance(value.get("name"), str) and _is_schema(value.get("parameters") or {})
    )


def _is_choice(value: Any) -> bool:
    if isinstance(value, Mapping):
        return isinstance(value.get("function", {}), Mapping)
    return isinstance(value, str)


def _is_format(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    wish = value.get("json_schema")
    return value.get("type") != "json_schema" or (isinstance(wish, Mapping) and _is_schema(wish.get("schema")))


def _is_schema(value: Any) -> bool:
    """Whether an instance can be made of it: not of a wrong type, and not one that needs itself for ever."""
    try:
        instance(value)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError):
        return False
    return isinstance(value, Mapping)


def _is_stop(value: Any) -> bool:
    return isinstance(value, str) or (_are_texts(value) and len(value) <= 4)


def _is_sort(value: Any) -> bool:
    by = value.get("by") if isinstance(value, Mapping) else value
    return by in ("price", "throughput", "latency", "exacto")


def _are_prices(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_price(one) for one in value.values())


def _is_price(value: Any) -> bool:
    if _is_number(value):
        return True
    try:
        return isinstance(value, str) and float(value) >= 0
    except ValueError:
        return False


Check = tuple[Callable[[Any], bool], str]

RANGES: Mapping[str, Check] = {
    "temperature": (_between(0, 2), "number between 0 and 2"),
    "top_p": (_between(0, 1), "number between 0 and 1"),
    "frequency_penalty": (_between(-2, 2), "number between -2 and 2"),
    "presence_penalty": (_between(-2, 2), "number between -2 and 2"),
    "max_tokens": (_is_count, "integer of at least 1"),
    "max_completion_tokens": (_is_count, "integer of at least 1"),
    "stream": (_is_bool, "boolean"),
    "stop": (_is_stop, "string or at most 4 strings"),
    "tools": (_are_tools, "array of tools"),
    "tool_choice": (_is_choice, "string or object"),
    "modalities": (_are_texts, "array of strings"),
    "reasoning": (_is_reasoning, "object"),
    "response_format": (_is_format, "object"),
    "dimensions": (_is_count, "integer of at least 1"),
}
"""Fields of the request that have a range, and how the range is called."""

PROVIDER_RANGES: Mapping[str, Check] = {
    "order": (_are_texts, "array of strings"),
    "only": (_are_texts, "array of strings"),
    "ignore": (_are_texts, "array of strings"),
    "quantizations": (_are_texts, "array of strings"),
    "allow_fallbacks": (_is_bool, "boolean"),
    "require_parameters": (_is_bool, "boolean"),
    "zdr": (_is_bool, "boolean"),
    "data_collection": (lambda value: value in ("allow", "deny"), 'one of "allow"|"deny"'),
    "sort": (_is_sort, 'one of "price"|"throughput"|"latency"|"exacto"'),
    "max_price": (_are_prices, "object of prices"),
}
"""The same for the fields of `provider`."""
