"""Tags that a whole piece of work bears: who asks, for which team, in which tier.

Law: one context variable and the way to set it. What tags mean is said by routes and accounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TypeGuard

from orrouter.core.errors import InvalidRequest

_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
_TAGS: ContextVar[Mapping[str, str]] = ContextVar("orrouter_tags", default=_EMPTY)


@contextmanager
def tags(**more: str) -> Iterator[None]:
    """Every call made inside bears these tags, and those of the contexts around it.

    ``with orrouter.tags(team="search"): await router.chat(...)``

    Raises InvalidRequest for a value that is no text.
    """
    check(more)
    token = _TAGS.set({**_TAGS.get(), **more})
    try:
        yield
    finally:
        _TAGS.reset(token)


def current(own: Mapping[str, str] | None) -> Mapping[str, str]:
    """The tags of the context with a call's own over them; never the caller's dict, which it may use again."""
    return {**_TAGS.get(), **own} if own else _TAGS.get()


def check(own: object) -> None:
    """Raises InvalidRequest for what are no tags: texts by name."""
    if not isinstance(own, Mapping):
        raise InvalidRequest(f"tags must be a mapping, as in {{'team': 'search'}}, not {type(own).__name__}")
    for name, value in own.items():
        if not is_text(name) or not is_text(value):
            raise InvalidRequest(f"the tag {name!r} must be a text with a text as its name")


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be written down: one with half of a surrogate pair in it cannot."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False
