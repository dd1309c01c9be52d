"""provider: OpenRouter's `provider` object, for all models and for some, met with what the caller asks.

Law: preferences of the policy, the target and the caller are intersected, never united: a caller may tighten
and never loosen. Which providers are ill is the breaker's affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from pydantic import field_validator

from orrouter.core.call import Call
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.middleware.base import Middleware, Options, World
from orrouter.middleware.preferences import Preferences, meet

class ProviderOptions(Preferences, Options):
    """Options of `provider`: every field of OpenRouter's object, and `models` for some models only."""

    kind: ClassVar[str] = "provider"
    models: dict[str, Preferences] = {}
    """Preferences by model, as a glob (`anthropic/*`): an order fits one model's providers. The first that matches is met too."""

    @field_validator("models")
    @classmethod
    def _globs(cls, models: dict[str, Preferences]) -> dict[str, Preferences]:
        for pattern, preferences in models.items():
            if not pattern or not preferences.sent():
                raise ValueError(f"models: {pattern!r} says nothing")
        return models

    def build(self, world: World) -> Middleware:
        return Provider(self)

    def says(self) -> str:
        """What it does with these options, in words."""
        some = [f"for {pattern} {_listed(wanted.sent())}" for pattern, wanted in self.models.items()]
        wishes = [_listed(self.sent()), *some] if self.sent() else some
        return f"asks OpenRouter for providers with {'; '.join(wishes)}" if wishes else "passes on what the caller asks"


def _listed(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in wanted.items())


def _shown(value: Any) -> str:
    """A value of the object for people: a list as `a then b`, an object in brackets."""
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    if isinstance(value, list | tuple):
        return " then ".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


class Provider:
    """The layer."""

    def __init__(self, options: ProviderOptions) -> None:
        self._all = options.sent()
        self._some = {pattern: preferences.sent() for pattern, preferences in options.models.items()}
        self._made: dict[str, Mapping[str, Any]] = {}

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        if call.method == "GET" or call.target.dialect != "openrouter":
            return forward(call)
        wanted = self._wanted(call.target.model)
        if call.target.provider:
            wanted = meet(wanted, call.target.provider)
        asked = call.body.get("provider")
        if asked:
            wanted = meet(wanted, asked)
        return forward(call.to(body={**call.body, "provider": wanted}) if wanted else call)

    def _wanted(self, model: str) -> Mapping[str, Any]:
        """What the policy says for this model; looked up once."""
        wanted = self._made.get(model)
        if wanted is None:
            wanted = self._all
            for pattern, some in self._some.items():
                if fnmatchcase(model, pattern):
                    wanted = meet(wanted, some)
                    break
            if len(self._made) < 1000:
                self._made[model] = wanted
        return wanted
