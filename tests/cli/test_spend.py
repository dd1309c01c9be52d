"""`orrouter spend`: the statement added up and printed."""

from __future__ import annotations

import csv
import io
import json

import pytest
import typer

from orrouter.cli.spend import (
    BAR,
    By,
    Report,
    Row,
    SpendOptions,
    bar_of,
    brief,
    csv_of,
    ending,
    json_of,
    left_of,
    print_report,
    report,
    rows_of,
)
from orrouter.core.limit import Account
from orrouter.ledger.base import Hold, Line
from orrouter.ledger.memory import MemoryLedger
from orrouter.policy.load import Document
from orrouter.policy.schema import read_policy
from orrouter.testkit.clock import EPOCH

CENT = 10_000_000
DAY = 86_400
START = int(EPOCH) // 3600 * 3600
LINES = [
    Line(START, ("org", "team:a"), "openrouter", "x/big", "P", 3, 30 * CENT, 5 * CENT),
    Line(START, ("org", "team:b"), "openrouter", "x/small", "", 1, 2 * CENT),
    Line(START - DAY, ("org", "team:b"), "openrouter", "x/small", "Q", 2, 4 * CENT),
]
BUDGETS = [
    {"budget": {"account": "team:{team}", "limits": {"day": "$50", "lifetime": "$800"}}},
    {"budget": {"account": "org", "limits": {"month": "$1000"}}},
    {"budget": {"account": "spare", "limits": {"day": "$1"}}},
]
POLICY = {
    "version": 1,
    "upstreams": {"openrouter": {"base_url": "http://far.invalid"}},
    "policies": {"default": BUDGETS},
}


def a_policy():
    return read_policy(Document(POLICY, "policy.yaml"))


async def spent() -> MemoryLedger:
    """A ledger with what LINES of the epoch's hour say."""
    ledger = MemoryLedger(lambda: EPOCH)
    for team, cost in (("team:a", 30 * CENT), ("team:b", 2 * CENT), ("team:a", None)):
        accounts = (Account(team, (("day", 5000 * CENT),)), Account("org", (("month", 100_000 * CENT),)))
        hold = Hold(f"{team}-{cost}", 40 * CENT, accounts, "openrouter", "k", "x/big")
        await ledger.reserve(hold)
        if cost is not None:
            ledger.settle(hold.id, cost, provider="P")
    return ledger


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        (By.account, [("org", 36, 5, 6), ("team:a", 30, 5, 3), ("team:b", 6, 0, 3)]),
        (By.model, [("x/big", 30, 5, 3), ("x/small", 6, 0, 3)]),
        (By.provider, [("P", 30, 5, 3), ("Q", 4, 0, 2), ("(not known, at openrouter)", 2, 0, 1)]),
        (By.day, [("2026-09-20", 4, 0, 2), ("2026-09-21", 32, 5, 4)]),
    ],
)
def test_lines_are_added_up_by_what_was_asked(by, rows):
    """The dearest first, days in their order; what is open is told apart."""
    found = [(row.name, row.settled // CENT, row.open // CENT, row.tries) for row in rows_of(LINES, by)]
    assert rows == found


async def test_accounts_are_told_with_what_they_have_left():
    """Each window that the policy limits; an account that is named outright also before it has spent."""
    told = await report(a_policy(), await spent(), By.account, START)
    assert ["org", "team:a", "team:b", "spare"] == [row.name for row in told.rows]
    assert "month $999.28 of $1000.00" == left_of(told.rows[0])
    assert "day $49.30 of $50.00, lifetime $799.30 of $800.00" == left_of(told.rows[1])
    assert "day $1.00 of $1.00" == left_of(told.rows[3])
    assert (32 * CENT, 40 * CENT, 3) == (told.total.settled, told.total.open, told.total.tries)


async def test_an_account_of_another_policy_is_told_without_limits():
    """Two policies may share a ledger."""
    ledger = await spent()
    await ledger.reserve(Hold("h", CENT, (Account("key:7", (("day", CENT),)),)))
    told = await report(a_policy(), ledger, By.account, START)
    assert () == next(row for row in told.rows if row.name == "key:7").balances


def test_the_end_says_all_of_it_once():
    """A try that two accounts pay for was paid once."""
    total = Row("total", 36 * CENT, 5 * CENT, 6)
    rows = tuple(rows_of(LINES, By.account))
    assert (
        "$0.36 in 6 tries since 2026-09-21 14:00 UTC, $0.05 still open; a try stands under each account that pays for it"
    ) == ending(Report(By.account, START, rows, total))
    assert "nothing was spent since 2026-09-21 14:00 UTC" == ending(Report(By.day, START, (), Row("total", 0, 0, 0)))


@pytest.mark.parametrize(
    ("settled", "still", "bar"),
    [(0, 0, ""), (1, 0, "█"), (50, 50, "█" * 12 + "░" * 12), (100, 0, "█" * 24), (0, 100, "░" * 24)],
)
def test_a_bar_shows_spent_and_open(settled, still, bar):
    """Together never longer than the longest, and never nothing where there is something."""
    assert bar == bar_of(Row("x", settled, still, 1), 100)
    assert len(bar) <= BAR


@pytest.mark.parametrize(
    ("amount", "up", "shown"),
    [
        (3_527_777_760, True, "$3.5278"),
        (3_527_777_760, False, "$3.5277"),
        (36_300, True, "$0.0000363"),
        (0, True, "$0.00"),
        (-15_000_000, False, "-$0.015"),
        (-1_500_000_001, False, "-$1.5001"),
    ],
)
def test_a_sum_is_short_and_never_flatters(amount, up, shown):
    """What was spent is rounded up, what is left down; a sum below a cent stands in full."""
    assert shown == brief(amount, up=up)


def test_no_bar_is_drawn_where_nothing_was_spent():
    """Free models cost nothing, however many tries there were."""
    assert "" == bar_of(Row("x", 0, 0, 9), 0)


def test_csv_is_exact_and_safe_to_open():
    """Sums as decimals in full, and no name that a spreadsheet would run."""
    rows = (Row("team:a", 1, 10**12, 2), Row("=cmd()", 0, 0, 1), Row('say "x", y', 0, 0, 1))
    read = list(csv.reader(io.StringIO(csv_of(Report(By.account, START, rows, rows[0])))))
    assert ["account", "spent_usd", "open_usd", "tries"] == read[0]
    assert ["team:a", "0.000000001", "1000", "2"] == read[1]
    assert ["'=cmd()", 'say "x", y'] == [row[0] for row in read[2:]]


async def test_json_has_every_window():
    """Sums are exact decimals in text; a lifetime never ends."""
    told = json_of(await report(a_policy(), await spent(), By.account, START))
    json.dumps(told)
    team = told["rows"][1]
    assert {"spent_usd": "0.32", "open_usd": "0.4", "tries": 3} == told["total"]
    assert ["day", "lifetime"] == [window["period"] for window in team["windows"]]
    assert (None, "799.3") == (team["windows"][1]["resets_at"], team["windows"][1]["remaining_usd"])


def test_plain_output_has_no_bars_and_no_colours(capsys):
    """Where it is no terminal, a line of the table can be cut by blanks."""
    rows = tuple(rows_of(LINES, By.model))
    print_report(Report(By.model, START, rows, Row("total", 36 * CENT, 5 * CENT, 6)), SpendOptions(by=By.model))
    out = capsys.readouterr().out
    assert ["model", "spent", "open", "tries"] == out.splitlines()[0].split()
    assert ["x/big", "$0.30", "$0.05", "3"] == out.splitlines()[1].split()
    assert "\x1b" not in out


@pytest.mark.parametrize("wrong", [{"since": "7"}, {"since": "soon"}, {"csv": True, "json": True}])
def test_wrong_options_are_told(wrong):
    """A time without its unit, and two formats at once."""
    with pytest.raises(typer.BadParameter):
        SpendOptions(**wrong).begin(EPOCH)


def test_it_counts_from_the_hour_in_which_the_time_begins():
    """The statement knows hours: the whole first one is told."""
    assert START - 7 * DAY == SpendOptions().begin(EPOCH)
    assert 0 == SpendOptions(since="999999d").begin(EPOCH)


def test_a_ledger_in_memory_has_nothing_to_tell(run, env, policy):
    """It exits 2 and says what to write in the policy."""
    result = run("spend", "--policy", policy, env=env)
    assert 2 == result.exit_code
    assert "nothing is kept beyond the process" in result.stderr
    assert "sqlite:///spend.db" in result.stderr
