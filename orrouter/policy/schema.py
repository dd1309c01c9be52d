"""What may stand in a policy: upstreams, routes and stacks, each value with its type.

Law: a document becomes a `Policy`, a frozen value, or a PolicyError with its place. Nothing is built, opened or
looked up in the environment here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import Field, model_validator

from orrouter.core.errors import PolicyError
from orrouter.middleware.base import Options
from orrouter.policy import kinds
from orrouter.policy.hints import nearest
from orrouter.policy.ledger import LedgerOptions, read_ledger
from orrouter.policy.load import Document, KeyPath
from orrouter.policy.upstreams import Part, UpstreamOptions, read_upstream, upstream_of
from orrouter.policy.validation import validate
from orrouter.transport.base import Upstream

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What the name of an upstream or a policy looks like."""


class When(Part):
    """What a route matches: all that is written must fit."""

    tag: dict[str, str] = Field(default={})
    """Tags of the call with these values."""
    model: str | None = None
    """The model the caller named, as a glob: `anthropic/*`."""
    endpoint: str | None = None
    """The endpoint, as a glob: `embeddings`."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.tag and self.model is None and self.endpoint is None:
            raise ValueError("write at least one of tag, model, endpoint")
        return self


class Route(Part):
    """Which policy a call takes when it names none."""

    policy: str
    """The name of a policy of this file."""
    when: When | None = None
    """For which calls; the last route has no `when` and takes all that are left."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One item of a stack, and where it is written."""

    kind: str
    options: Options
    path: KeyPath

    @property
    def place(self) -> KeyPath:
        """The path of its kind, below which its options stand."""
        return (*self.path, self.kind)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file that is well formed. `document` remembers the places."""

    document: Document
    upstreams: Mapping[str, UpstreamOptions]
    routes: tuple[Route, ...]
    stacks: Mapping[str, tuple[Layer, ...]]
    ledger: LedgerOptions

    def upstream(self, name: str) -> Upstream:
        """An upstream as the transport wants it."""
        return upstream_of(name, self.upstreams[name])


_KEYS: Final = ("version", "upstreams", "ledger", "routes", "policies")


def read_policy(document: Document) -> Policy:
    """The policy that a document says. Raises PolicyError at the first mistake."""
    data = document.data
    if not isinstance(data, dict):
        raise document.error((), "a policy is a mapping", hint="begin with 'version: 1'")
    for key in data:
        _check_key(document, key)
    if data.get("version") != 1 or isinstance(data["version"], bool):
        raise document.error(("version",), "the version must be 1", hint="write 'version: 1'")
    upstreams = _upstreams(document, data.get("upstreams"))
    stacks = _stacks(document, data.get("policies"))
    ledger = read_ledger(document, data.get("ledger"))
    return Policy(document, upstreams, _routes(document, data.get("routes"), stacks), stacks, ledger)


def _check_key(document: Document, key: str) -> None:
    if key not in _KEYS:
        raise document.error((key,), f"a policy has no {key!r}", hint=nearest(key, _KEYS), key_itself=True)


def _named(document: Document, value: Any, key: str) -> dict[str, Any]:
    """The mapping by name at a key of the document."""
    if not isinstance(value, dict) or not value:
        raise document.error((key,), f"{key} must be a mapping by name", hint=f"write '{key}:' and names below it")
    for name in value:
        if not re.fullmatch(NAME, name):
            hint = "use letters, digits, - _ ."
            raise document.error((key, name), f"{name!r} is no name", hint=hint, key_itself=True)
    return value


def _upstreams(document: Document, value: Any) -> dict[str, UpstreamOptions]:
    if value is None:
        raise document.error((), "there are no upstreams", hint="add 'upstreams:' with base_url and api_key")
    return {
        name: read_upstream(document, options, ("upstreams", name))
        for name, options in _named(document, value, "upstreams").items()
    }


def _stacks(document: Document, value: Any) -> dict[str, tuple[Layer, ...]]:
    if value is None:
        raise document.error((), "there are no policies", hint="add 'policies:' with 'default:' below it")
    stacks = {}
    for name, items in _named(document, value, "policies").items():
        path: KeyPath = ("policies", name)
        if not isinstance(items, list) or not items:
            raise document.error(path, f"policy {name!r} must be a list of layers", hint="write '- retry: {}'")
        stacks[name] = tuple(_layer(document, item, (*path, at)) for at, item in enumerate(items))
    return stacks


def _layer(document: Document, item: Any, path: KeyPath) -> Layer:
    if isinstance(item, str):
        raise document.error(path, f"{item!r} stands alone", hint=f"write '- {item}: {{}}'")
    if not isinstance(item, dict) or len(item) != 1:
        raise document.error(path, "each item of a policy is one layer", hint="write '- retry: {attempts: 3}'")
    name, options = next(iter(item.items()))
    place: KeyPath = (*path, name)
    found = _kind(document, name, place)
    if options is not None and not isinstance(options, dict):
        raise document.error(place, f"the options of {name} must be a mapping", hint=f"write '- {name}: {{}}'")
    return Layer(name, validate(found, options or {}, document, place), path)


def _kind(document: Document, name: str, place: KeyPath) -> type[Options]:
    if name == kinds.ALWAYS:
        raise document.error(place, "attempt is always there and has no options", hint="remove it", key_itself=True)
    if name in kinds.LATER:
        message = f"{name} does not exist yet: it comes with a later version"
        raise document.error(place, message, hint="remove it: nothing would keep what it promises", key_itself=True)
    try:
        found = kinds.kind(name)
    except PolicyError as error:
        raise document.error(place, error.message, hint=error.hint, key_itself=True) from error
    if found is None:
        hint = nearest(name, kinds.known())
        raise document.error(place, f"no layer is called {name!r}", hint=hint, key_itself=True)
    return found


def _routes(document: Document, value: Any, stacks: Mapping[str, Any]) -> tuple[Route, ...]:
    if value is None:
        if "default" not in stacks and len(stacks) > 1:
            raise document.error(("policies",), "no route says which policy is taken", hint="call one of them default")
        return (Route(policy="default" if "default" in stacks else next(iter(stacks))),)
    if not isinstance(value, list) or not value:
        raise document.error(("routes",), "routes must be a list", hint="write '- {policy: default}'")
    return tuple(_route(document, item, ("routes", at), at == len(value) - 1, stacks) for at, item in enumerate(value))


def _route(document: Document, item: Any, path: KeyPath, is_last: bool, stacks: Mapping[str, Any]) -> Route:
    route = validate(Route, item, document, path)
    if route.policy not in stacks:
        hint = nearest(route.policy, stacks)
        raise document.error((*path, "policy"), f"there is no policy {route.policy!r}", hint=hint)
    if is_last and route.when is not None:
        hint = "write '- {policy: default}' below it"
        raise document.error(path, "the last route must take every call that is left", hint=hint)
    if not is_last and route.when is None:
        hint = "add a 'when', or move it to the end"
        raise document.error(path, "this route takes every call: none below is reached", hint=hint)
    return route
