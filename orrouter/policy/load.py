"""A policy file as plain data, with the line and column of everything in it.

Law: strict YAML and the `${NAME}` of the environment, no more. What a key means, and whether it may stand
where it stands, is said by the schema; here only what YAML itself leaves open is closed.

Strict means: one document of at most 1 MiB, 10,000 nodes and 32 levels; no tags, anchors, aliases or merge
keys; keys are text and stand once; whatever YAML 1.1 and 1.2 read differently is refused with a hint.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from orrouter.core.errors import PolicyError
from orrouter.policy.scalars import Missing, Reference, Trap, is_unicode, plain_value, reference_in, trap_in
from orrouter.policy.syntax import VARIABLE_IN_FLOW, Place, complaint, place_in, place_of

MAX_BYTES = 2**20
MAX_NODES = 10_000
MAX_DEPTH = 32

KeyPath = tuple[str | int, ...]
"""The keys and indices that lead from the top of a document to one value; `()` is the document itself."""

_PLAIN_KEY = re.compile(r"[^\s.\[\]\"'\x00-\x1f]+")


@dataclass(frozen=True, slots=True)
class Unset:
    """A `${variable}` without default that the environment does not have, and where it is written (from 1)."""

    path: KeyPath
    variable: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """A policy as data that remembers where it was written.

    `data` is made of dict, list, str, int, float, bool and None, and of `Missing` at each path of `unset`.
    `from_env` holds every path written as `${…}`: the value there may be a secret, always is a str (or
    `Missing`), and must not be repeated in an error. A document made without places has errors without lines.
    """

    data: Any = field(repr=False)
    file: str
    unset: tuple[Unset, ...] = ()
    from_env: frozenset[KeyPath] = frozenset()
    key_places: Mapping[KeyPath, Place] = field(default_factory=dict, repr=False)
    value_places: Mapping[KeyPath, Place] = field(default_factory=dict, repr=False)

    def place(self, path: KeyPath, key: bool = False) -> Place:
        """Line and column, from 1, of the value at `path`, or of its key; of the nearest ancestor if it is unknown.

        (0, 0) where the document was not read from text. A list item has no key: its value is meant.
        """
        while path and path not in self.value_places:
            path = path[:-1]
        value = self.value_places.get(path, (0, 0))
        return self.key_places.get(path, value) if key else value

    def error(self, path: KeyPath, message: str, *, hint: str = "", key_itself: bool = False) -> PolicyError:
        """The error to raise about the value at `path`, or about its key."""
        return _error(self.file, self.place(path, key_itself), path, message, hint)


def load_file(path: str | os.PathLike[str], *, env: Mapping[str, str]) -> Document:
    """The policy in a file, which errors name as the caller gave it. Raises PolicyError."""
    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:  # noqa: PTH123  # Path() would rewrite the name that errors show
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        hint = "check the path and its permissions"
        raise PolicyError(f"the policy cannot be read: {reason}", file=file, hint=hint) from error
    return load_text(content, file=file, env=env)


def load_text(text: str | bytes, *, file: str = "<policy>", env: Mapping[str, str]) -> Document:
    """The policy in a text, or in bytes of UTF-8, with its `${NAME}` taken from `env`. Raises PolicyError."""
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise PolicyError("the policy is larger than 1 MiB", file=file, hint="split it into several policies")
    decoded = _decoded(text, file) if isinstance(text, bytes) else text
    return _Builder(_events(decoded, file), file, env).document()


def show_path(path: KeyPath) -> str:
    """A path for people: `policies.default[3].retry.attempts`; a key with dots or spaces is quoted in brackets."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            shown += f".{step}" if shown else step
        else:
            shown += f"[{json.dumps(step)}]"
    return shown


def _error(file: str, place: Place, path: KeyPath, message: str, hint: str) -> PolicyError:
    return PolicyError(message, file=file, line=place[0], column=place[1], key=show_path(path), hint=hint)


def _decoded(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
    # Raised out here, so that no __context__ carries the bytes of the file.
    raise _error(file, place_in(before, len(before)), (), "the policy is not text in UTF-8", "save the file as UTF-8")


def _events(text: str, file: str) -> Iterator[yaml.Event]:
    """The file as PyYAML's parser reads it, piece by piece: nothing deep or large is ever built."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        take: Callable[[], yaml.Event] = loader.get_event
        while loader.check_event():
            yield take()
    except yaml.YAMLError as error:
        found = complaint(error, text)
    except (ValueError, OverflowError):  # a number in an escape or a directive that Python cannot hold
        place = place_of(loader.get_mark()) if loader is not None else (1, 1)
        found = complaint(yaml.YAMLError(), text)._replace(place=place)
    else:
        return
    # Raised out here, so that no __context__ carries PyYAML's copy of the text.
    raise _error(file, found.place, (), found.message, found.hint)


class _Builder:
    """Builds one document from its events. Recursion is as deep as the document, and that is limited."""

    def __init__(self, events: Iterator[yaml.Event], file: str, env: Mapping[str, str]) -> None:
        self.events, self.file, self.env = events, file, env
        self.nodes = 0
        self.key_places: dict[KeyPath, Place] = {}
        self.value_places: dict[KeyPath, Place] = {}
        self.unset: list[Unset] = []
        self.from_env: set[KeyPath] = set()

    def document(self) -> Document:
        next(self.events)  # the start of the stream
        start = next(self.events)
        data = None
        if isinstance(start, yaml.DocumentStartEvent):
            if start.tags:
                raise self.error(start, (), "tags are not allowed", "remove the %TAG line")
            data = self.value(next(self.events), (), flow=False)
        if data is None:
            raise _error(self.file, (1, 1), (), "the policy is empty", "begin with 'version: 1'")
        next(self.events)  # the end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self.error(after, (), "a second document begins here", "a policy is one document: remove the '---'")
        unset, from_env = tuple(self.unset), frozenset(self.from_env)
        return Document(data, self.file, unset, from_env, self.key_places, self.value_places)

    def value(self, event: yaml.Event, path: KeyPath, *, flow: bool) -> Any:
        self.admit(event, path)
        self.value_places[path] = place_of(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, path, flow=flow)
        if len(path) >= MAX_DEPTH:
            raise self.error(event, path, f"this is nested more than {MAX_DEPTH} levels deep", "")
        return self.mapping(event, path) if isinstance(event, yaml.MappingStartEvent) else self.sequence(event, path)

    def admit(self, event: yaml.Event, path: KeyPath) -> None:
        """Refuse what no policy needs: aliases, anchors, tags, too many nodes, characters that have no bytes."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.error(event, path, f"the policy has more than {MAX_NODES} values", "split it into several")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            hint = "write the value out each time, or quote text that begins with * or &"
            raise self.error(event, path, "anchors and aliases are not allowed", hint)
        if getattr(event, "tag", None) is not None:
            hint = "remove the '!word', or quote text that begins with !; a secret is written ${NAME}"
            raise self.error(event, path, "tags are not allowed", hint)
        if isinstance(event, yaml.ScalarEvent) and not is_unicode(event.value):
            raise self.error(event, path, "half of a surrogate pair is no character", r"write it as \U and 8 digits")

    def sequence(self, start: yaml.Event, path: KeyPath) -> list[Any]:
        flow = _is_flow(start)
        items = self.until(yaml.SequenceEndEvent)
        return [self.value(event, (*path, index), flow=flow) for index, event in enumerate(items)]

    def mapping(self, start: yaml.Event, path: KeyPath) -> dict[str, Any]:
        flow, data = _is_flow(start), dict[str, Any]()
        for event in self.until(yaml.MappingEndEvent):
            key = self.key(event, path)
            child = (*path, key)
            if key in data:
                first = self.key_places[child][0]
                raise self.error(event, child, f"{key!r} already stands on line {first}", "keep one of the two")
            self.key_places[child] = place_of(event.start_mark)
            data[key] = self.value(next(self.events), child, flow=flow)
        return data

    def until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        """The events up to the end of this collection; whoever takes one takes all that belongs to it."""
        while not isinstance(event := next(self.events), end):
            yield event

    def key(self, event: yaml.Event, path: KeyPath) -> str:
        self.admit(event, path)
        if not isinstance(event, yaml.ScalarEvent):
            raise self.error(event, path, "a key must be text, not a list or mapping", "quote a key that begins so")
        text: str = event.value
        if "${" in text:
            raise self.error(event, path, "a variable cannot be a key", "write the key out")
        if event.style is not None:
            return text
        if text == "<<":
            raise self.error(event, path, "merge keys are not allowed", "write the keys out")
        if trap := trap_in(text):
            raise self.error(event, path, trap.message, "put the key in quotes")
        if not isinstance(plain_value(text), str):
            what = f"a key must be text, and {text!r} is none" if text else "there is no key before this ':'"
            raise self.error(event, path, what, "put the key in quotes" if text else "write key: value")
        return text

    def scalar(self, event: yaml.ScalarEvent, path: KeyPath, *, flow: bool) -> Any:
        reference = reference_in(event.value)
        if isinstance(reference, Trap):
            raise self.error(event, path, reference.message, reference.hint)
        if reference is not None:
            return self.interpolated(event, reference, path, flow=flow)
        if event.style is not None:
            return event.value
        if trap := trap_in(event.value):
            raise self.error(event, path, trap.message, trap.hint)
        return plain_value(event.value)

    def interpolated(
        self, event: yaml.ScalarEvent, reference: Reference, path: KeyPath, *, flow: bool
    ) -> str | Missing:
        """The variable's text; as in a shell, `:-` also stands in for one that is set but empty."""
        if flow:
            raise self.error(event, path, *VARIABLE_IN_FLOW)
        if event.style in ("|", ">"):
            raise self.error(event, path, "a variable cannot stand in a text block", "write key: ${NAME} on one line")
        self.from_env.add(path)
        text = self.env.get(reference.variable)
        if reference.default is not None and not text:
            return reference.default
        if text is None:
            self.unset.append(Unset(path, reference.variable, *place_of(event.start_mark)))
            return Missing(reference.variable)
        if not is_unicode(text):
            message = f"the environment's {reference.variable} is not text in UTF-8"
            raise self.error(event, path, message, "set the variable again")
        return text

    def error(self, event: yaml.Event, path: KeyPath, message: str, hint: str) -> PolicyError:
        return _error(self.file, place_of(event.start_mark), path, message, hint)


def _is_flow(event: yaml.Event) -> bool:
    return bool(getattr(event, "flow_style", False))
