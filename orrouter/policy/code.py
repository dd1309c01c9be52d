"""A policy written in code: a mapping in the shape of a policy file.

Law: a mapping becomes a `Document`, so that nothing is treated in a second way. Keys may stand in it, for code has
other ways to keep them; `${NAME}` means what it means in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orrouter.core.errors import PolicyError
from orrouter.policy.load import Document, KeyPath, Unset, show_path
from orrouter.policy.scalars import Missing, Trap, reference_in

CODE: Final = "<policy>"
"""What errors call a policy that no file holds."""


def policy_in_code(data: Mapping[str, Any], env: Mapping[str, str]) -> Document:
    """The mapping as a document, its `${NAME}` taken from `env`. Raises PolicyError for a key that is not text."""
    reader = _Reader(env)
    read = reader.value(data, ())
    upstreams = read.get("upstreams")
    keys = {("upstreams", name, "api_key") for name in (upstreams if isinstance(upstreams, dict) else ())}
    return Document(read, CODE, tuple(reader.unset), frozenset(reader.from_env | keys))


class _Reader:
    """Copies a mapping as plain data and puts variables in."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.unset: list[Unset] = []
        self.from_env: set[KeyPath] = set()

    def value(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, Mapping):
            return {self.key(key, path): self.value(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, (*path, at)) for at, item in enumerate(value)]
        return self.text(value, path) if isinstance(value, str) else value

    def key(self, key: Any, path: KeyPath) -> str:
        if not isinstance(key, str):
            raise PolicyError(f"a key must be text, and {key!r} is none", file=CODE, key=show_path(path))
        return key

    def text(self, text: str, path: KeyPath) -> str | Missing:
        reference = reference_in(text)
        if reference is None:
            return text
        if isinstance(reference, Trap):
            raise PolicyError(reference.message, file=CODE, key=show_path(path), hint=reference.hint)
        self.from_env.add(path)
        found = self.env.get(reference.variable)
        if reference.default is not None and not found:
            return reference.default
        if found is None:
            self.unset.append(Unset(path, reference.variable, 0, 0))
            return Missing(reference.variable)
        return found
