"""What costs a fee of its own: plugins, server tools, searches, models that search by themselves.

Law: an allow-list. What is named here as free is free; of everything else either the fee and the number of uses are
known, or a policy names a sum for it, or it has no worst case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from orrouter.catalog.bounds import Bounds, Unbounded
from orrouter.core.money import NANO

FREE_TOOLS: Final = frozenset({"function", "custom"})
FREE_PLUGINS: Final = frozenset(
    {"response-healing", "context-compression", "moderation", "auto-router", "auto-beta-router", "pareto-router"}
)
"""Plugins without a price. Those that choose a model are bounded by the price that every model is."""
FREE_PARSERS: Final = frozenset({"native", "cloudflare-ai", "pdf-text"})

_SEARCH: Final = {"exa": 15 * NANO // 1000, "parallel": 5 * NANO // 1000, "perplexity": 5 * NANO // 1000}
"""The most that one search costs by engine, in nano-USD. Source: OpenRouter's page on web search."""
_RESULT: Final = NANO // 1000
"""A search costs so much more for each result beyond ten."""
_RESULTS: Final = 10
_MOST_USES: Final = 1_000

_CHOICES: Final = FREE_TOOLS | {"allowed_tools"}
_SEARCHERS: Final = ("-online", "-search-preview", "deep-research", "sonar-pro-search")
_MANY: Final = frozenset({"openrouter/fusion", "openrouter/bodybuilder"})
"""Routers that ask several models for one answer."""


@dataclass(frozen=True, slots=True)
class Extra:
    """Something with a fee: `name` is what a policy calls it, `field` where it stands.

    `uses` is how often at most, `turns` how many times the model then answers at most, `engine` and `results` say
    what one search costs; None: nobody said.
    """

    name: str
    field: str
    uses: int | None = None
    turns: int | None = None
    engine: str = ""
    results: int = 5


@dataclass(frozen=True, slots=True)
class Fee:
    """So many nano-USD for an extra, in a request of so many turns; `searched`: what was found fills the context."""

    nano: int = 0
    turns: int = 1
    searched: bool = False


def fee_of(extra: Extra, bounds: Bounds, listed: int | None) -> Fee:
    """What to hold for an extra; `listed` is the model's own price of a search, in nano-USD. Raises Unbounded."""
    flat = bounds.fees.get(extra.name)
    if flat is not None:
        return Fee(flat)
    search = _search_price(extra, listed)
    if search is None or extra.uses is None or extra.turns is None:
        raise Unbounded(
            extra.field,
            f"`{extra.field}` uses {extra.name}, whose fees have no bound" + _missing(extra),
            f'fees: {{"{extra.name}": $0.05}}',
        )
    beyond = max(extra.results - _RESULTS, 0) * _RESULT
    return Fee(extra.uses * (search + beyond), extra.turns, searched=True)


def _missing(extra: Extra) -> str:
    if extra.name == "web":
        return " (`max_uses` and an `engine` with a known price give it one)"
    if extra.name == "openrouter:web_search":
        return " (`max_uses`, a known `engine` and `stop_server_tools_when` with a `step_count_is` give it one)"
    return ""


def _search_price(extra: Extra, listed: int | None) -> int | None:
    if extra.engine == "native":
        return listed
    if extra.engine in ("", "auto"):
        return None if listed is None else max(listed, *_SEARCH.values())
    return _SEARCH.get(extra.engine)


@lru_cache(maxsize=4096)
def of_slug(slug: str) -> tuple[tuple[Extra, ...], tuple[str, ...]]:
    """The extras that a model's name asks for, and what else it asks for that a policy must admit by name."""
    base, *ways = slug.partition("@")[0].split(":")
    extras = []
    if "online" in ways:
        extras.append(Extra("web", "model"))
    if base.startswith("perplexity/sonar") or base.endswith(_SEARCHERS):
        extras.append(Extra("web_search", "model"))
    if base in _MANY:
        extras.append(Extra(base, "model"))
    wishes = [*(["preset"] if "@preset/" in slug else []), *(["service_tier"] if "nitro" in ways else [])]
    return tuple(extras), tuple(wishes)


def of_body(body: Mapping[str, Any], dialect: str, *, files: bool, reads_files: bool) -> Iterator[Extra]:
    """The extras that the fields of a request ask for. Raises Unbounded for a list that cannot be read."""
    if body.get("web_search_options") is not None:
        yield Extra("web_search_options", "web_search_options")
    turns = _turns(body.get("stop_server_tools_when"))
    for tool in _objects(body.get("tools"), "tools"):
        kind = str(tool.get("type", "function"))
        if kind not in FREE_TOOLS and not (dialect == "openai" and kind.startswith("openrouter:")):
            yield _tool(kind, tool.get("parameters"), turns)
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and str(choice.get("type")) not in _CHOICES and dialect != "openai":
        yield _tool(str(choice.get("type")), None, turns)
    if dialect != "openai":
        yield from _plugins(body.get("plugins"), files=files, reads_files=reads_files)


def _plugins(plugins: Any, *, files: bool, reads_files: bool) -> Iterator[Extra]:
    parser = None
    for plugin in _objects(plugins, "plugins"):
        name = str(plugin.get("id"))
        if plugin.get("enabled") is False or name in FREE_PLUGINS:
            continue
        if name == "file-parser":
            pdf = plugin.get("pdf")
            parser = pdf.get("engine") if isinstance(pdf, Mapping) else None
        elif name == "web":
            uses = _count(plugin.get("max_uses"))
            yield _searches("web", "plugins", plugin, uses, None if uses is None else uses + 1)
        else:
            yield Extra(name, "plugins")
    # Without an engine OpenRouter takes the model's own reader, and where there is none perhaps one that costs.
    if files and not (reads_files if parser is None else str(parser) in FREE_PARSERS):
        yield Extra("file-parser", "file")


def _tool(kind: str, parameters: Any, turns: int | None) -> Extra:
    if kind != "openrouter:web_search" or not isinstance(parameters, Mapping):
        return Extra(kind, "tools")
    return _searches(kind, "tools", parameters, _count(parameters.get("max_uses")), turns)


def _searches(name: str, field: str, said: Mapping[str, Any], uses: int | None, turns: int | None) -> Extra:
    results = said.get("max_results")
    if results is not None and _count(results) is None:
        uses = None
    return Extra(name, field, uses, turns, str(said.get("engine") or ""), _count(results) or 5)


def _turns(conditions: Any) -> int | None:
    """How often the model answers at most where a loop of server tools ends after some steps: one more than those."""
    steps = [
        steps
        for condition in (conditions if isinstance(conditions, list | tuple) else ())
        if isinstance(condition, Mapping) and condition.get("type") == "step_count_is"
        if (steps := _count(condition.get("step_count"))) is not None
    ]
    return min(steps) + 1 if steps else None


def _objects(values: Any, field: str) -> Iterator[Mapping[str, Any]]:
    if values is None:
        return
    if not isinstance(values, list | tuple) or not all(isinstance(value, Mapping) for value in values):
        raise Unbounded(field, f"`{field}` is no list of objects")
    yield from values


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= _MOST_USES else None
