"""Spellings that the upstream has changed since: accepted, translated, and said once.

Law: pure. A table of what was and what is; the router tells the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from orrouter.core.errors import InvalidRequest

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spelling:
    """An old spelling and what it was translated to."""

    old: str
    new: str


OLD_FIELDS: Final = frozenset({"route", "transforms"})
OLD_PROVIDER_FIELDS: Final = frozenset({"quantization", "require"})
OLD_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "x-title": ("X-Title", "X-OpenRouter-Title"),
    "x-openrouter-experimental-metadata": ("X-OpenRouter-Experimental-Metadata", "X-OpenRouter-Metadata"),
}
"""By lower-case name: how the header was and is written."""
OLD_MODELS: Final[Mapping[str, str]] = {"auto": "openrouter/auto"}


def translate(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Spelling, ...]]:
    """`body` in today's spelling, and what was changed; the same object when nothing was."""
    provider = body.get("provider")
    old_provider = (
        provider is not None and isinstance(provider, Mapping) and not OLD_PROVIDER_FIELDS.isdisjoint(provider)
    )
    if OLD_FIELDS.isdisjoint(body) and not old_provider:
        return body, ()
    new: Body = dict(body)
    said: list[Spelling] = []
    for field, rewrite in _FIELDS.items():
        if field in new:
            said += rewrite(new)
    if old_provider:
        new["provider"], changes = translate_provider(new["provider"])
        said += changes
    return new, tuple(said)


def translate_provider(provider: Mapping[str, Any]) -> tuple[Body, tuple[Spelling, ...]]:
    """OpenRouter's `provider` object in today's spelling: `quantizations`, `only`."""
    new: Body = dict(provider)
    said: list[Spelling] = []
    if "quantization" in new:
        one = new.pop("quantization")
        new.setdefault("quantizations", [one] if isinstance(one, str) else one)
        said.append(Spelling("provider.quantization", "provider.quantizations"))
    if "require" in new:
        only = new.pop("require")
        today = "require_parameters" if isinstance(only, bool) else "only"
        new.setdefault(today, [only] if isinstance(only, str) else only)
        said.append(Spelling("provider.require", f"provider.{today}"))
    return new, tuple(said)


def _route(body: Body) -> list[Spelling]:
    route = body.pop("route")
    if route == "sort":
        provider = body.get("provider")
        if not isinstance(provider, Mapping | None):
            raise InvalidRequest(f"provider must be a mapping, not {type(provider).__name__}")
        body["provider"] = {"sort": {"by": "price", "partition": "none"}, **(provider or {})}
        return [Spelling("route: sort", "provider.sort.partition: none")]
    return [Spelling("route", "models")]  # Without its value, which may be anything and is kept by who tells it.


def _transforms(body: Body) -> list[Spelling]:
    transforms = body.pop("transforms")
    if transforms is None:
        return []
    if not isinstance(transforms, list | tuple | str):
        raise InvalidRequest(f"transforms must be a list, not {type(transforms).__name__}")
    if "middle-out" not in transforms:
        # An empty list switched the default off.
        _add_plugin(body, {"id": "context-compression", "enabled": False})
        return [Spelling("transforms: []", "plugins: context-compression, enabled: false")]
    _add_plugin(body, {"id": "context-compression"})
    return [Spelling("transforms: middle-out", "plugins: context-compression")]


def _add_plugin(body: Body, plugin: Body) -> None:
    plugins = body.get("plugins") or ()
    if not isinstance(plugins, list | tuple):
        raise InvalidRequest(f"plugins must be a list, not {type(plugins).__name__}")
    if not any(isinstance(known, Mapping) and known.get("id") == plugin["id"] for known in plugins):
        body["plugins"] = [*plugins, plugin]


_FIELDS: Final[Mapping[str, Callable[[Body], list[Spelling]]]] = {"route": _route, "transforms": _transforms}


def translate_model(model: str) -> tuple[str, tuple[Spelling, ...]]:
    """A model's slug in today's spelling. Raises InvalidRequest for what never was one of OpenRouter's."""
    new = OLD_MODELS.get(model)
    if new is not None:
        return new, (Spelling(f"model: {model}", new),)
    if model.startswith("@cf/"):
        raise InvalidRequest(f"{model} is a Cloudflare model and no OpenRouter slug: write author/model")
    return model, ()


def translate_headers(headers: Mapping[str, str]) -> tuple[Mapping[str, str], tuple[Spelling, ...]]:
    """Headers in today's spelling."""
    if not headers:
        return headers, ()
    if OLD_HEADERS.keys().isdisjoint(map(str.lower, headers)):
        return headers, ()
    new: dict[str, str] = {}
    said: list[Spelling] = []
    written = {name.lower() for name in headers}
    for name, value in headers.items():
        old, today = OLD_HEADERS.get(name.lower(), ("", name))
        if old:
            said.append(Spelling(old, today))
        if not old or today.lower() not in written:  # Who writes both means the one of today.
            new[today] = value
    return new, tuple(said)
