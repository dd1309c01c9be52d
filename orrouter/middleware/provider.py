"""provider: OpenRouter's `provider` object, for all models and for some, met with what the caller asks.

Law: preferences of the policy, the target and the caller are intersected, never united: a caller may tighten
and never loosen. Which providers are ill is the breaker's affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from orrouter.core.call import Call
from orrouter.core.errors import NoRoute
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.middleware.base import Middleware, Options, World
from orrouter.middleware.preferences import Preferences, asked_of, meet, refine

REMEMBERED = 1000
"""Models whose preferences are kept ready; a caller who invents models must not fill the memory."""


class ProviderOptions(Preferences, Options):
    """Options of `provider`: every field of OpenRouter's object, and `models` for some models only."""

    kind: ClassVar[str] = "provider"
    models: dict[str, Preferences] = Field(default_factory=dict)
    """Preferences by model, as a glob (`anthropic/*`): an order fits one model's providers. The first that matches is
    met with those for all, but its own order and sort stand."""

    @field_validator("models")
    @classmethod
    def _globs(cls, models: dict[str, Preferences], info: ValidationInfo) -> dict[str, Preferences]:
        for_all = Preferences(**info.data).sent()
        for pattern, preferences in models.items():
            if not pattern or not preferences.sent():
                raise ValueError(f"models: {pattern!r} says nothing")
            try:
                refine(for_all, preferences.sent())
            except NoRoute as error:
                raise ValueError(f"models: {pattern!r}: {error.message}") from None
        return models

    def build(self, world: World) -> Middleware:  # noqa: ARG002  # every kind of layer is built from a world
        """The layer at work."""
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
        """Forward `call` with what policy, target and caller want of a provider. Raises NoRoute, InvalidRequest."""
        target = call.target
        if call.method == "GET" or target.dialect != "openrouter":
            return forward(call)
        wanted = self._wanted(target.model)
        if target.provider:
            wanted = refine(wanted, target.provider)
        if call.body.get("provider"):
            wanted = meet(wanted, asked_of(call))
        return forward(call.replaced("body", {**call.body, "provider": wanted}) if wanted else call)

    def _wanted(self, model: str) -> Mapping[str, Any]:
        """What the policy says for this model; looked up once."""
        wanted = self._made.get(model)
        if wanted is None:
            some = next((some for pattern, some in self._some.items() if fnmatchcase(model, pattern)), {})
            wanted = refine(self._all, some)
            if len(self._made) < REMEMBERED:
                self._made[model] = wanted
        return wanted
