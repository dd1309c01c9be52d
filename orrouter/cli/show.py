"""What commands print: the decision record, errors, durations and money; colours on a terminal, plain elsewhere.

Law: values become lines here, and nothing is decided. rich is imported when something is printed.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from orrouter.core.errors import PolicyError, RouterError
from orrouter.core.facts import AttemptRecord, Fact, Record
from orrouter.core.money import nano
from orrouter.core.money import show as show_money
from orrouter.core.units import show_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from orrouter.core.completion import Completion

NOTHING: Final = "-"
PLAIN_WIDTH: Final = 200
"""Columns where the output is no terminal and nobody said how wide it is: wide enough that no table is cut."""


_CONTROLS: Final = {code: "�" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Line(NamedTuple):
    """One line of output and its colour, by rich's names."""

    text: str
    style: str = ""


def console(*, err: bool = False) -> Console:
    """Standard output (or stderr) as it is now."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    wide = PLAIN_WIDTH if not stream.isatty() and "COLUMNS" not in os.environ else None
    return Console(file=stream, width=wide, highlight=False, markup=False, emoji=False)


def say(lines: Sequence[Line], *, err: bool = False) -> None:
    """Print lines, each as it is: nothing is wrapped."""
    to = console(err=err)
    for line in lines:
        to.print(safe(line.text), style=line.style or None, soft_wrap=True)


def table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """An empty table; `right` names the columns of numbers, `whole` those that are never broken."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        made.add_column(column, justify=justify, no_wrap=column in right or column in whole, overflow="fold")
    return made


def print_table(made: Table) -> None:
    """Print a table; no line ends in blanks."""
    to = console()
    with to.capture() as printed:
        to.print(made)
    sys.stdout.write("".join(f"{row.rstrip()}\n" for row in printed.get().splitlines()))
    sys.stdout.flush()


def safe(text: str) -> str:
    """The text without control characters, which could move the cursor or rename the window of a terminal."""
    return text.translate(_CONTROLS)


def answer(text: str, end: str = "\n") -> None:
    """Print what a model said, at once; on a terminal made safe, in a file as it came."""
    sys.stdout.write((safe(text) if sys.stdout.isatty() else text) + end)
    sys.stdout.flush()


def print_json(value: Any, *, indent: bool = True) -> None:
    """Print one JSON value."""
    import orjson

    data = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 if indent else None)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


# --- small values -------------------------------------------------------------------------------------


def money(amount: int | None) -> str:
    """Nano-USD for people."""
    return NOTHING if amount is None else show_money(amount)


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    return NOTHING if seconds is None else show_duration(seconds)


def count(number: int, one: str, several: str = "") -> str:
    """`1 try`, `2 tries`."""
    return f"{number} {one if number == 1 else several or one + 's'}"


# --- the record ---------------------------------------------------------------------------------------

_HEAD: Final = ("#", "model", "provider", "HTTP", "outcome", "began", "first", "took", "cost")
_HELD: Final = "held"
"""A further column, where something was under a limit."""
_RIGHT: Final = frozenset({"#", "HTTP", "began", "first", "took", "cost", _HELD})


def record_lines(record: Record) -> list[Line]:
    """The decision record of a call: its tries in order, and between them what was decided."""
    from orrouter.cli.story import tell

    limited = any(attempt.held_nano is not None for attempt in record.attempts)
    head = (*_HEAD, _HELD) if limited else _HEAD
    cells = [_cells(attempt)[: len(head)] for attempt in record.attempts]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    happened: list[tuple[float, int, Line]] = [
        (attempt.started_s, 1, Line(_row(one, head, widths), _colour(attempt.outcome)))
        for attempt, one in zip(record.attempts, cells, strict=True)
    ]
    happened += [(fact.at_s, 0, Line(" " * (widths[0] + 2) + tell(fact), "dim")) for fact in record.facts]
    happened.sort(key=lambda one: one[:2])
    return [Line(_row(head, head, widths), "bold"), *(line for _, _, line in happened), Line(_total(record), "dim")]


def _cells(attempt: AttemptRecord) -> tuple[str, ...]:
    first = None if attempt.first_token_s is None else attempt.first_token_s - attempt.started_s
    return (
        str(attempt.number),
        attempt.model or attempt.upstream,
        attempt.provider or NOTHING,
        str(attempt.status or NOTHING),
        attempt.outcome,
        duration(attempt.started_s),
        duration(first),
        duration(attempt.duration_s),
        "unknown" if attempt.provenance == "unknown" else money(attempt.cost_nano),
        money(attempt.held_nano),
    )


def _row(cells: Sequence[str], heads: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        cell.rjust(width) if head in _RIGHT else cell.ljust(width)
        for head, cell, width in zip(heads, cells, widths, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _colour(outcome: str) -> str:
    return {"ok": "green", "open": "", "left": "yellow", "cancelled": "yellow"}.get(outcome, "red")


def _total(record: Record) -> str:
    tries = count(len(record.attempts), "try", "tries")
    waited = f", {duration(record.waited_s)} of it waiting" if record.waited_s else ""
    took = f"{record.outcome} after {tries} in {duration(record.duration_s)}{waited}"
    return f"{took}; policy {record.policy}, request {record.request_id}"


def record_json(record: Record) -> dict[str, Any]:
    """The record as plain values; each fact bears its kind."""
    plain = dataclasses.asdict(record)
    plain["facts"] = [{"kind": type(fact).__name__, **vars(fact)} for fact in record.facts]
    return plain


def summary(completion: Completion) -> str:
    """One line about an answer: who gave it, how long it took, what it cost."""
    record = completion.record
    parts = [
        f"{completion.model} via {completion.provider}" if completion.provider else completion.model,
        duration(record.duration_s),
        _dollars(completion.cost),
        count(len(record.attempts), "try", "tries"),
    ]
    if completion.finish_reason not in (None, "stop"):
        parts.append(f"ended by {completion.finish_reason}")
    return " · ".join(part for part in parts if part)


def _dollars(cost: Decimal | None) -> str:
    return "cost unknown" if cost is None else show_money(nano(cost))


# --- errors -------------------------------------------------------------------------------------------


def error_lines(error: RouterError) -> list[Line]:
    """What happened, where, and what to do."""
    from orrouter.cli.advice import advice_for

    text = str(error)
    plain = isinstance(error, PolicyError) or text.startswith(error.code)
    lines = [Line(f"error: {text if plain else f'{error.code}: {text}'}", "red")]
    if len(error.attempts) > 1:
        tried = ", ".join(f"{one.model or one.upstream} {one.outcome}" for one in error.attempts)
        lines.append(Line(f"tried: {tried}", "dim"))
    advice = advice_for(error)
    if advice:
        lines.append(Line(f" help: {advice}"))
    return lines


def tell_error(error: RouterError) -> None:
    """Print an error to stderr."""
    say(error_lines(error), err=True)


def error_json(error: RouterError) -> dict[str, Any]:
    """An error as plain values."""
    told: dict[str, Any] = {"code": error.code, "message": str(error)}
    for name in ("status", "model", "provider", "request_id", "retry_after", "partial"):
        value = getattr(error, name, None)
        if value:
            told[name] = value
    return {"error": told}


# --- waiting ------------------------------------------------------------------------------------------


@contextmanager
def waiting(words: str, *, quiet: bool = False) -> Iterator[Callable[[Fact], None]]:
    """A spinner on stderr while something takes long, told anew by each fact; nothing where it is no terminal."""
    from orrouter.cli.story import tell

    to = console(err=True)
    if quiet or not to.is_terminal:
        yield _nothing
        return
    with to.status(words) as status:
        yield lambda fact: status.update(safe(tell(fact)))


def _nothing(_: Fact) -> None:
    """Hears a fact where nobody looks."""
