"""Use cases: for each, what a model must be able to do, and which of those that can come first.

Law: a table and pure functions over the catalog. The catalog knows abilities and prices and no quality, so a use
case names families of models, best first, and takes the newest version of each; without families it goes by price
or by context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final

from orrouter.catalog.model import Model

_VERSION: Final = re.compile(r"\d+(?:\.\d+)*")
_DATE: Final = 4
"""Digits from which a number is a date (2407, 20250929) and no version."""


@dataclass(frozen=True, slots=True)
class UseCase:
    """What a model is looked for. Context in tokens; `families` are globs of slugs, best first."""

    says: str
    fits: Callable[[Model], bool]
    families: tuple[str, ...] = ()
    order: Callable[[Model], Any] | None = None


def price_of(model: Model) -> Decimal | None:
    """USD a token, prompt and completion together; None when either is unknown."""
    prompt, completion = model.price.prompt, model.price.completion
    return None if prompt is None or completion is None else prompt + completion


def _cheapest(model: Model) -> Any:
    price = price_of(model)
    return (price is None, price or 0, model.id)


def _roomiest(model: Model) -> Any:
    return (-(model.context_length or 0), *_cheapest(model))


def _talks(model: Model) -> bool:
    """Whether it answers in text, as far as is known, right away, and under a name of its own."""
    return model.makes("text") is not False and not model.id.endswith(":batch") and not model.id.startswith("~")


def _room(tokens: int) -> Callable[[Model], bool]:
    return lambda model: (model.context_length or 0) >= tokens


def _all(*wants: Callable[[Model], bool]) -> Callable[[Model], bool]:
    return lambda model: _talks(model) and all(want(model) for want in wants)


def _costs(model: Model) -> bool:
    return (price_of(model) or 0) > 0


def _tools(model: Model) -> bool:
    """A family is chosen by people: what is not known of its newest member does not rule it out."""
    return model.supports("tools") is not False


def _surely_tools(model: Model) -> bool:
    return model.supports("tools") is True


def _sees(model: Model) -> bool:
    return model.takes("image") is not False


def _hears(model: Model) -> bool:
    return model.takes("audio") is True


def _thinks(model: Model) -> bool:
    return model.reasons() is not False


def _free(model: Model) -> bool:
    return model.is_free


_FLAGSHIPS: Final = (
    "anthropic/claude-opus-*",
    "openai/gpt-*-pro",
    "google/gemini-*-pro*",
    "x-ai/grok-*",
    "deepseek/deepseek-r*",
    "qwen/qwen3*-thinking*",
)
_BALANCED: Final = (
    "anthropic/claude-sonnet-*",
    "openai/gpt-[0-9]*",
    "google/gemini-*-pro*",
    "google/gemini-*-flash",
    "mistralai/mistral-large*",
    "deepseek/deepseek-*v*",
)
_CODERS: Final = (
    "anthropic/claude-sonnet-*",
    "openai/gpt-*-codex*",
    "anthropic/claude-opus-*",
    "google/gemini-*-pro*",
    "qwen/qwen3*-coder*",
    "deepseek/deepseek-*v*",
)
_QUICK: Final = (
    "google/gemini-*-flash-lite",
    "google/gemini-*-flash",
    "openai/gpt-*-mini",
    "anthropic/claude-haiku-*",
    "openai/gpt-*-nano",
    "mistralai/ministral-*",
)

USE_CASES: Final[Mapping[str, UseCase]] = {
    "general": UseCase("writes and talks well at a fair price", _all(_tools), _BALANCED),
    "coding": UseCase("takes tools, reads 100,000 tokens of a repository", _all(_tools, _room(100_000)), _CODERS),
    "reasoning": UseCase("thinks before it speaks", _all(_thinks), _FLAGSHIPS),
    "vision": UseCase("looks at pictures", _all(_sees), _BALANCED),
    "audio": UseCase("listens to sound; the cheapest first", _all(_hears, _costs), order=_cheapest),
    "fast": UseCase("small models that answer at once", _all(), _QUICK),
    "cheap": UseCase("takes tools; the cheapest first, none free", _all(_surely_tools, _costs), order=_cheapest),
    "free": UseCase("costs nothing, serves few requests a day; the roomiest first", _all(_free), order=_roomiest),
    "long-context": UseCase("reads a million tokens; the cheapest first", _all(_room(10**6), _costs), order=_cheapest),
}
"""Every use case by its word."""

MOST: Final = 10
"""How many models are recommended at most."""


def recommended(use_case: UseCase, models: Iterable[Model]) -> list[Model]:
    """The models for a use case, best first, at most `MOST`: the newest of each family, or the first by its order."""
    fitting = [model for model in models if use_case.fits(model)]
    if not use_case.families:
        return sorted(fitting, key=use_case.order or _cheapest)[:MOST]
    found: dict[str, Model] = {}
    for family in use_case.families:
        members = [model for model in fitting if fnmatchcase(model.id, family) and model.id not in found]
        if members:
            newest = max(members, key=_newness)
            found[newest.id] = newest
    return list(found.values())[:MOST]


def _newness(model: Model) -> Any:
    """A higher version is newer; of one version the plain name comes before its variants."""
    name = model.id.rpartition("/")[2]
    numbers = [part for part in _VERSION.findall(name) if len(part.partition(".")[0]) < _DATE]
    version = tuple(int(number) for number in numbers[0].split(".")) if numbers else ()
    return (version, -len(name), model.id)
