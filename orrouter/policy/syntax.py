"""What PyYAML complains about, in the words of the person who wrote the file.

Law: pure translation of one parser error to a place and a sentence. It quotes no more of the file than
single characters, so that a key written into a broken file does not end up in a log.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from yaml import YAMLError
from yaml.error import Mark, MarkedYAMLError
from yaml.reader import ReaderError

Place = tuple[int, int]
"""Line and column, both from 1."""

VARIABLE_IN_FLOW = (
    "a variable cannot stand inside {...} or [...]",
    "write the list or mapping in lines of its own, one 'key: ${NAME}' or '- ${NAME}' a line",
)
"""Message and hint for a `${NAME}` in flow style."""


class _Mark(Protocol):
    """A mark of PyYAML, of its Python parser or its C one."""

    line: int
    column: int


class Complaint(NamedTuple):
    """A syntax error: where (line and column from 1), what, and what to do."""

    place: Place
    message: str
    hint: str


class _Phrase(NamedTuple):
    problem: str  # a regular expression over PyYAML's context and problem
    message: str
    hint: str
    at_opening: bool = False  # the useful place is where the construct began, not where it went wrong


_PHRASES = (
    _Phrase(r"character '\\t'", "a tab stands where YAML wants spaces", "indent and separate with spaces"),
    _Phrase(r"character '(?P<found>.+)' that cannot", "text cannot begin with {found}", "put the text in quotes"),
    _Phrase(r"(alias|anchor): ", "anchors and aliases are not allowed", "quote text that begins with * or &", True),
    _Phrase(r"tag", "tags are not allowed", "remove the '!word', or quote text that begins with !", True),
    _Phrase(
        r"mapping values are not allowed",
        "a ':' is not expected here",
        "indent the line like its neighbours, or quote text that contains ': '",
    ),
    _Phrase(r"mapping keys", "text cannot begin with '? ' here", "put the text in quotes"),
    _Phrase(r"but found ':'", "there is no key before this ':'", "write key: value"),
    _Phrase(r"sequence entries", "a list item cannot begin here", "begin the list on a line of its own"),
    _Phrase(r"could not find expected ':'", "this line has no ': '", "write key: value, or - item", True),
    _Phrase(r"quoted scalar: found unexpected", "this quoted text is never closed", "add the closing quote", True),
    _Phrase(
        r"unknown escape|hexadecimal numbers",
        "this is no escape of double quotes",
        r"write \\ for a backslash, or use single quotes",
    ),
    _Phrase(
        r"expected <block end>, but found '<scalar>'",
        "text follows a value that is complete",
        "put the whole value in quotes; inside single quotes write '' for a quote",
    ),
    _Phrase(
        r"expected <block end>",
        "this line does not belong to the block above it",
        "indent it like the other lines of its block",
    ),
    _Phrase(r"expected the node content", "a value is missing here", "write the value, or quote it"),
    _Phrase(r"block scalar", "'|' and '>' begin a text block here", "put the text in quotes", True),
    _Phrase(r"expected '<document start>'", "this text does not belong to what stands above", "remove it"),
    _Phrase(r"version 1|directive", "this '%' directive cannot be read", "remove it", True),
)


def complaint(error: YAMLError, text: str) -> Complaint:
    """The parser's error about `text` as a place, a sentence and a hint."""
    if isinstance(error, ReaderError):
        found = f"the character U+{ord(text[error.position]):04X} is not allowed"
        return Complaint(place_in(text, error.position), found, "remove it, or write it as an escape in double quotes")
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return _in_flow(error, error.problem_mark, text) or _translated(error, error.problem_mark)
    return Complaint((1, 1), "this cannot be read as YAML", "")


def place_of(mark: _Mark | None) -> Place:
    """Line and column from 1; PyYAML counts from 0, and may have no mark at all."""
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def place_in(text: str, index: int) -> Place:
    """Line and column, from 1, of the character at `index`."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _in_flow(error: MarkedYAMLError, mark: Mark, text: str) -> Complaint | None:
    """What is wrong between `{` and `}` or `[` and `]`: a variable, or a missing comma or bracket."""
    match = re.match(r"expected ',' or '(.)'", error.problem or "")
    if match is None or error.context_mark is None:
        return None
    if text[mark.index - 1 : mark.index + 1] == "${":
        line, column = place_of(mark)
        return Complaint((line, column - 1), *VARIABLE_IN_FLOW)
    opened = "{" if match[1] == "}" else "["
    line = error.context_mark.line + 1
    return Complaint(
        place_of(mark), f"',' or '{match[1]}' is missing here", f"the '{opened}' was opened on line {line}"
    )


def _translated(error: MarkedYAMLError, mark: Mark) -> Complaint:
    said = f"{error.context or ''}: {error.problem or ''}"
    for phrase in _PHRASES:
        match = re.search(phrase.problem, said)
        if match:
            at = (error.context_mark if phrase.at_opening else None) or mark
            return Complaint(place_of(at), phrase.message.format(**match.groupdict()), phrase.hint)
    return Complaint(place_of(mark), f"this cannot be read as YAML ({said.strip(': ')})", "")
