"""The fields of a request by what they may cost: an allow-list, and what is read from those that cost something.

Law: reading only. A field that is not named here is refused, because nobody knows what it costs; a policy may admit
it by name. What the counts come to in money is `ceiling.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from orrouter.catalog.bounds import Bounds, Unbounded
from orrouter.catalog.weight import TOOLS, Weight, add_messages, add_prompts, in_json, of_texts, size
from orrouter.core.values import made

CHAT: Final = "chat/completions"
TEXT: Final = "completions"
EMBED: Final = "embeddings"

HARMLESS: Final = frozenset(
    {
        "audio", "cache_control", "debug", "dimensions", "encoding_format", "frequency_penalty", "function_call",
        "image_config", "include_reasoning", "input_type", "logit_bias", "logprobs", "metadata", "min_p", "model",
        "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "reasoning",
        "reasoning_effort", "repetition_penalty", "route", "safety_identifier", "seed", "session_id", "stop",
        "stop_server_tools_when", "store", "stream", "stream_options", "temperature", "top_a", "top_k", "top_logprobs",
        "top_p", "trace", "transforms", "usage", "user", "verbosity",
    }
)  # fmt: skip
"""Fields that change neither how many tokens are billed beyond the bounds nor what one costs.

Reasoning is billed as completion and held within `max_tokens`; caching is within the ceiling of the input.
"""
LENGTH: Final = ("max_tokens", "max_completion_tokens")
"""The two names of the same field."""
_READ: Final = frozenset(
    {
        *LENGTH, "deferred_tools", "functions", "input", "messages", "modalities", "n", "plugins", "prediction",
        "prompt", "provider", "response_format", "service_tier", "suffix", "tool_choice", "tools",
        "web_search_options",
    }
)  # fmt: skip
KNOWN: Final = HARMLESS | _READ
_LITTLE: Final = HARMLESS | {"messages", "provider", *LENGTH}
"""The fields of most requests: no more is to be read of them than texts, a length and how it thinks."""
_LENGTHS: Final = frozenset(LENGTH)
_THINKING: Final = frozenset({"reasoning", "reasoning_effort"})

_SCHEMAS: Final = ("tools", "functions", "deferred_tools", "response_format")
_TIERS: Final = frozenset({None, "auto", "default", "flex"})
"""Tiers that cost no more than the usual one."""


@dataclass(slots=True)
class Asked:
    """What a request asks for.

    `tokens` of output for each of `choices`, None where it names none; `copies` is how often the whole prompt may be
    billed, `prompts` how many stand side by side in it; `guessed` tokens of a prediction, billed as output when they
    are wrong; `modalities` None where it names none; `doubts` is why the bound is no proof.
    """

    weight: Weight
    tokens: int | None = None
    choices: int = 1
    copies: int = 1
    prompts: int = 1
    guessed: int = 0
    modalities: frozenset[str] | None = None
    doubts: list[str] = field(default_factory=list)


class Little(NamedTuple):
    """A chat that is texts and a length, and nothing else that costs: tokens read, asked for, and of thinking."""

    read: int
    asked: int | None
    thought: int


def little(body: Mapping[str, Any]) -> Little | None:
    """What a chat asks that asks little; None when there is more to read in it. Raises Unbounded for its length."""
    if not _LITTLE.issuperset(body):
        return None
    provider = body.get("provider")
    if provider is not None and (type(provider) is not dict or "options" in provider or "max_price" in provider):
        return None
    thinks = 0
    if not _THINKING.isdisjoint(body):
        if not _thinks_plainly(body.get("reasoning")):
            return None
        thinks = thought(body)
    texts = of_texts(body.get("messages"))
    if texts is None:
        return None
    return made(Little, (texts, None if _LENGTHS.isdisjoint(body) else length_of(body), thinks))


def read(body: Mapping[str, Any], endpoint: str, dialect: str, bounds: Bounds) -> Asked:
    """What this request asks for. Raises Unbounded, which names the field and what may be done about it."""
    asked = Asked(Weight())
    _check(body, asked, bounds)
    asked.copies = _choices(body)
    _weigh(body, endpoint, asked, bounds.admit)
    if endpoint != EMBED:
        asked.tokens = length_of(body)
        asked.choices = asked.copies * (asked.prompts if endpoint == TEXT else 1)
    asked.modalities = _modalities(body.get("modalities"))
    _check_tier(body.get("service_tier"), asked, bounds)
    if dialect != "openai":
        _check_provider(body.get("provider"), asked, bounds)
        if not _thinks_plainly(body.get("reasoning")):
            admit("reasoning.mode", "`reasoning.mode` may cost more than is listed", asked, bounds)
    return asked


def _weigh(body: Mapping[str, Any], endpoint: str, asked: Asked, admit: frozenset[str]) -> None:
    weight = asked.weight
    if endpoint == CHAT or "messages" in body:
        add_messages(weight, body.get("messages"), admit)
    for name in ("prompt", "input"):
        if body.get(name) is not None:
            asked.prompts = add_prompts(weight, body[name], admit)
    for name in _SCHEMAS:
        if body.get(name):
            weight.tokens += TOOLS + in_json(body[name], name)
    suffix = body.get("suffix")
    if suffix is not None:
        weight.tokens += size(suffix) if isinstance(suffix, str) else in_json(suffix, "suffix")
    if body.get("prediction") is not None:
        asked.guessed = in_json(body["prediction"], "prediction")
        weight.tokens += asked.guessed


def admit(name: str, reason: str, asked: Asked, bounds: Bounds) -> None:
    """Let something through that the policy admits, as a doubt. Raises Unbounded when it does not."""
    if name not in bounds.admit:
        raise Unbounded.unknown(name, reason)
    asked.doubts.append(f"{name} is admitted")


def _check(body: Mapping[str, Any], asked: Asked, bounds: Bounds) -> None:
    if KNOWN.issuperset(body):
        return
    for name in sorted(str(name) for name in body.keys() - KNOWN):
        if body.get(name) is not None:
            admit(name, f"nobody here knows what the field `{name}` costs", asked, bounds)


def _check_tier(tier: Any, asked: Asked, bounds: Bounds) -> None:
    if not (tier is None or (isinstance(tier, str) and tier in _TIERS)):
        admit("service_tier", f"the service tier {tier!r} may cost more than is listed", asked, bounds)


def _check_provider(provider: Any, asked: Asked, bounds: Bounds) -> None:
    if isinstance(provider, Mapping) and provider.get("options"):
        admit("provider.options", "`provider.options` goes to a provider unread", asked, bounds)


def _thinks_plainly(reasoning: Any) -> bool:
    return not isinstance(reasoning, Mapping) or reasoning.get("mode") in (None, "standard")


THOUGHT: Final = 1024
"""Tokens that a model may think at least when it is asked to. Source: OpenRouter's guide to reasoning (Anthropic)."""


def thought(body: Mapping[str, Any]) -> int:
    """Tokens of thinking for which an upstream may raise `max_tokens`, where that leaves no room for them; or 0."""
    reasoning, effort = body.get("reasoning"), body.get("reasoning_effort")
    if isinstance(reasoning, Mapping):
        if reasoning.get("enabled") is False or reasoning.get("effort") == "none":
            return 0
        most = reasoning.get("max_tokens")
        return max(most, THOUGHT) if type(most) is int else THOUGHT
    return 0 if effort in (None, "none") else THOUGHT


def length_of(body: Mapping[str, Any]) -> int | None:
    """The output asked for. Raises Unbounded for what an upstream might read in another way than we do."""
    asked = {name: body[name] for name in LENGTH if body.get(name) is not None}
    for name, length in asked.items():
        if type(length) is not int or length < 1:
            raise Unbounded(name, f"`{name}` is {length!r}: write a whole number above 0")
    if len({*asked.values()}) > 1:
        raise Unbounded("max_tokens", "`max_tokens` and `max_completion_tokens` differ: write one of them")
    return next(iter(asked.values()), None)


def _choices(body: Mapping[str, Any]) -> int:
    n = body.get("n")
    if n is None:
        return 1
    if type(n) is not int or n < 1:
        raise Unbounded("n", f"`n` is {n!r}: write a whole number above 0")
    return n


def _modalities(value: Any) -> frozenset[str] | None:
    return frozenset(str(one) for one in value) if isinstance(value, list | tuple) and value else None
