"""What one scalar of a policy means: a number, a word, or a place for a variable of the environment.

Law: pure functions over the text of one scalar. Files, places and the environment itself are not known here.

The numbers are those of the YAML 1.2 core schema in decimal. Whatever YAML 1.1 and 1.2 read differently is
a trap: it gets no meaning, but a sentence that says how to write it instead.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

LONGEST_NUMBER = 32
"""Characters; a longer run of digits is an identifier that wants quotes."""

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_DIGITS = re.compile(r"[-+.:_0-9]+")
_REFERENCE = re.compile(r"\$\{(?P<variable>[A-Z_][A-Z0-9_]*)(?::-(?P<default>[^{}]*))?\}")
_SURROGATE = re.compile("[\ud800-\udfff]")

_OR_QUOTE = "or put it in quotes"


class Trap(NamedTuple):
    """Why a scalar is refused, and what to write instead."""

    message: str
    hint: str


class Reference(NamedTuple):
    """`${variable}` or `${variable:-default}`; `default` is None where none is written."""

    variable: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands in the data where a `${variable}` without default is not set; null is None, and never this."""

    variable: str


_TRAPS: tuple[tuple[re.Pattern[str], Trap], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), Trap(message, hint))
    for pattern, message, hint in (
        (r"y|n|yes|no|on|off", "a boolean", f"write true or false, {_OR_QUOTE}"),
        (
            r"[-+]?[0-9][0-9_]*(?::[0-9_]+)+(?:\.[0-9_]*)?",
            "a base-60 number",
            f"write a duration with its unit, such as 90s, {_OR_QUOTE}",
        ),
        (r"[-+]?0(?:[0-9_]+|o[0-7_]+)", "an octal number", f"write it without the leading 0, {_OR_QUOTE}"),
        (r"[-+]?0(?:x[0-9a-f_]+|b[01_]+)", "a number of another base", f"write it in decimal, {_OR_QUOTE}"),
        (
            r"[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?|[-+]?[0-9][0-9_]*\.[0-9_]*_[0-9_]*",
            "a number with underscores",
            f"write the digits without underscores, {_OR_QUOTE}",
        ),
        (
            r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:t|[ \t]+)[0-9]{1,2}:[0-9]{2}.*)?",
            "a date",
            "put it in quotes",
        ),
        (r"[-+]?\.inf|\.nan", "infinity or no number at all", f"write a finite number, {_OR_QUOTE}"),
    )
)


_TOO_LONG = Trap(f"a number has at most {LONGEST_NUMBER} characters", "put it in quotes if it is an identifier")


def trap_in(text: str) -> Trap | None:
    """Why this unquoted text must not be guessed at, or None where its meaning is plain."""
    if len(text) > LONGEST_NUMBER:  # no trap is longer, and no pattern below ever sees a long text
        return _TOO_LONG if _DIGITS.fullmatch(text) else None
    for pattern, trap in _TRAPS:
        if pattern.fullmatch(text):
            return Trap(f"{text!r} is {trap.message} to some YAML readers", trap.hint)
    if _FLOAT.fullmatch(text) and math.isinf(float(text)):
        return Trap(f"{text!r} is too large for a number", f"write a smaller one, {_OR_QUOTE}")
    return None


def plain_value(text: str) -> str | int | float | bool | None:
    """The value of unquoted text in which `trap_in` finds no trap."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def reference_in(text: str) -> Reference | Trap | None:
    """The variable that this scalar stands for; None for ordinary text; a trap for a `${` that is no reference.

    A trap never repeats the text: it may hold half of a secret.
    """
    if "${" not in text:
        return None
    match = _REFERENCE.fullmatch(text)
    if match:
        return Reference(match["variable"], match["default"])
    if text.startswith("${") and text.endswith("}") and text.count("${") == 1:
        return Trap(
            "this is no variable of the environment",
            "write ${NAME} or ${NAME:-default}: the name of A-Z, 0-9 and _, the default without braces",
        )
    if text.startswith("${") and "}" not in text:
        return Trap("the '}' of this variable is missing", "put the value in quotes if its default contains ' #'")
    return Trap(
        "a variable must be the whole value, not a part of it",
        "write ${NAME} alone, and put the rest of the text into the variable",
    )


def is_unicode(text: str) -> bool:
    """Whether the text can be sent at all: a lone surrogate has no bytes in UTF-8."""
    return _SURROGATE.search(text) is None
