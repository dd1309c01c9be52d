"""`orrouter spend`: what was paid, by account, model, provider or day, and what accounts have left.

Law: lines of the ledger's statement become rows, which are printed. No upstream is asked.
"""

from __future__ import annotations

import asyncio
import csv
import io
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orrouter.cli import show
from orrouter.cli.command import OK, command
from orrouter.core.money import show as show_money
from orrouter.core.money import usd
from orrouter.core.units import parse_duration

if TYPE_CHECKING:
    from orrouter.ledger.base import Balance, Ledger, Line
    from orrouter.policy.schema import Policy

BAR: Final = 24
"""Columns of the longest bar."""
CENT: Final = 10_000_000
FINE: Final = CENT // 100


class By(StrEnum):
    """What the rows are."""

    account = "account"
    model = "model"
    provider = "provider"
    day = "day"


@dataclass(frozen=True, kw_only=True)
class SpendOptions:
    """What `spend` is asked."""

    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="The policy whose ledger is looked at.")] = None
    by: Annotated[By, typer.Option(help="What each row is; days are UTC days.")] = By.account
    since: Annotated[str, typer.Option(metavar="DURATION", help="How far back: 24h, 7d, 30d.")] = "7d"
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, sums in USD.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print JSON, sums in USD.")] = False

    def begin(self, now: float) -> int:
        """The start of the hour from which on is counted, unix seconds. Raises BadParameter."""
        from orrouter.ledger.statement import hour_of

        if self.csv and self.json:
            raise typer.BadParameter("choose one of --csv and --json", param_hint="--csv")
        try:
            seconds = parse_duration(self.since)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--since") from error
        return hour_of(max(now - seconds, 0))


@dataclass(frozen=True, slots=True)
class Row:
    """What one account, model, provider or day has spent, in nano-USD; `open` may still become a cost."""

    name: str
    settled: int
    open: int
    tries: int
    balances: tuple[Balance, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The rows, and all of it together, each try counted once. `since` is unix seconds."""

    by: By
    since: int
    rows: tuple[Row, ...]
    total: Row


@command(SpendOptions)
def spend(options: SpendOptions) -> int:
    """Say what was paid, and what the accounts of the policy have left."""
    from orrouter.cli.store import policy_of

    since = options.begin(time.time())
    policy = policy_of(options.policy)
    print_report(asyncio.run(_asked(policy, options.by, since)), options)
    return OK


async def _asked(policy: Policy, by: By, since: int) -> Report:
    from orrouter.cli.store import opened

    async with opened(policy) as ledger:
        return await report(policy, ledger, by, since)


async def report(policy: Policy, ledger: Ledger, by: By, since: int) -> Report:
    """What the ledger says from an hour on; accounts with what they have left. Raises LedgerUnavailable."""
    lines = await ledger.statement(since)
    rows = list(rows_of(lines, by))
    if by is By.account:
        rows = [await _with_limits(policy, ledger, row) for row in _with_unspent(policy, rows)]
    return Report(by, since, tuple(rows), _row("total", lines))


def rows_of(lines: Sequence[Line], by: By) -> Iterator[Row]:
    """The statement added up: the dearest first, days in their order."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        for name in names_of(line, by):
            groups.setdefault(name, []).append(line)
    rows = [_row(name, group) for name, group in groups.items()]
    if by is By.day:
        yield from sorted(rows, key=lambda row: row.name)
    else:
        yield from sorted(rows, key=lambda row: (-row.settled - row.open, row.name))


def names_of(line: Line, by: By) -> tuple[str, ...]:
    """The rows to which a line belongs: one, or one for each account that pays."""
    if by is By.account:
        return line.accounts
    if by is By.model:
        return (line.model or "(not known)",)
    if by is By.provider:
        return (line.provider or f"(not known, at {line.upstream})",)
    return (f"{datetime.fromtimestamp(line.at, UTC):%Y-%m-%d}",)


def _row(name: str, lines: Iterable[Line]) -> Row:
    group = list(lines)
    return Row(
        name, sum(line.cost for line in group), sum(line.open for line in group), sum(line.tries for line in group)
    )


def _with_unspent(policy: Policy, rows: list[Row]) -> list[Row]:
    """The rows, and an empty one for each account that the policy names outright and that has spent nothing."""
    from orrouter.accounts import budgets_of

    spent = {row.name for row in rows}
    named = dict.fromkeys(one.account for one in budgets_of(policy) if "{" not in one.account)
    return rows + [Row(name, 0, 0, 0) for name in named if name not in spent]


async def _with_limits(policy: Policy, ledger: Ledger, row: Row) -> Row:
    from orrouter.accounts import account_of
    from orrouter.core.errors import PolicyError

    try:
        account = account_of(policy, row.name)
    except PolicyError:  # Another policy of the same ledger has it.
        return row
    return Row(row.name, row.settled, row.open, row.tries, await ledger.balances(account))


# --- printing -----------------------------------------------------------------------------------------


def print_report(told: Report, options: SpendOptions) -> None:
    """Print it as asked: CSV, JSON, or a table with bars where it is a terminal."""
    if options.csv:
        sys.stdout.write(csv_of(told))
    elif options.json:
        show.print_json(json_of(told))
    else:
        _print_table(told)


def _print_table(told: Report) -> None:
    bars = sys.stdout.isatty()
    if told.rows:
        limited = any(row.balances for row in told.rows)
        columns = (told.by.value, "spent", "open", "tries", *(["share"] * bars), *(["left"] * limited))
        made = show.table(*columns, right=("spent", "open", "tries"), whole=(told.by.value, "share"))
        most = max(row.settled + row.open for row in told.rows)
        for row in told.rows:
            sums = (brief(row.settled), brief(row.open), f"{row.tries:,}")
            made.add_row(show.safe(row.name), *sums, *([bar_of(row, most)] * bars), *([left_of(row)] * limited))
        show.print_table(made)
    show.say([show.Line(ending(told), "dim")], err=True)


def brief(amount: int, *, up: bool = True) -> str:
    """A sum from a cent on in hundredths of a cent, rounded up, or down for what is left; smaller ones in full."""
    if abs(amount) < CENT:
        return show_money(amount)
    return show_money((-(-amount // FINE) if up else amount // FINE) * FINE)


def bar_of(row: Row, most: int) -> str:
    """Spent as full blocks and open as shaded ones, of at most 24 columns; what is there at all shows one."""
    if not most:
        return ""
    full = -(-row.settled * BAR // most)
    return "█" * full + "░" * (-(-(row.settled + row.open) * BAR // most) - full)


def left_of(row: Row) -> str:
    """What an account may still spend in each of its windows."""
    lefts = (f"{one.period} {brief(one.remaining, up=False)} of {show_money(one.limit)}" for one in row.balances)
    return ", ".join(lefts)


def ending(told: Report) -> str:
    """All of it in one line."""
    since = f"{datetime.fromtimestamp(told.since, UTC):%Y-%m-%d %H:%M} UTC"
    total = told.total
    if not total.tries:
        return f"nothing was spent since {since}"
    opened = f", {brief(total.open)} still open" if total.open else ""
    each = "; a try stands under each account that pays for it" if _shared(told) else ""
    return f"{brief(total.settled)} in {show.count(total.tries, 'try', 'tries')} since {since}{opened}{each}"


def _shared(told: Report) -> bool:
    return sum(row.tries for row in told.rows) > told.total.tries


def csv_of(told: Report) -> str:
    """A line for each row, sums as exact decimals."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([told.by.value, "spent_usd", "open_usd", "tries"])
    lines.writerows([_cell(row.name), _exact(row.settled), _exact(row.open), row.tries] for row in told.rows)
    return text.getvalue()


def json_of(told: Report) -> dict[str, Any]:
    """Plain values; sums are exact decimals in text, a window without an end has null."""
    return {
        "by": told.by.value,
        "since": datetime.fromtimestamp(told.since, UTC).isoformat(),
        "rows": [_row_json(row) for row in told.rows],
        "total": _sums_json(told.total),
    }


def _row_json(row: Row) -> dict[str, Any]:
    windows = {"windows": [_window_json(one) for one in row.balances]} if row.balances else {}
    return {"name": row.name, **_sums_json(row), **windows}


def _sums_json(row: Row) -> dict[str, Any]:
    return {"spent_usd": _exact(row.settled), "open_usd": _exact(row.open), "tries": row.tries}


def _window_json(one: Balance) -> dict[str, Any]:
    ends = None if one.resets_at == float("inf") else datetime.fromtimestamp(one.resets_at, UTC).isoformat()
    return {
        "period": one.period,
        "limit_usd": _exact(one.limit),
        "spent_usd": _exact(one.settled),
        "open_usd": _exact(one.held + one.suspense),
        "remaining_usd": _exact(one.remaining),
        "resets_at": ends,
    }


def _exact(amount: int) -> str:
    return f"{usd(amount):f}"


def _cell(text: str) -> str:
    """A name that no spreadsheet takes for a formula: tags are chosen by callers."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
