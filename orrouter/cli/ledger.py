"""`orrouter ledger`: recover, reconcile and audit the accounts that a policy keeps.

Law: options become one pass over the ledger, and what came of it is printed. The accounts' arithmetic is the ledger's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orrouter.cli import show
from orrouter.cli.command import FAILED, OK, Calling, command
from orrouter.core.errors import RouterError
from orrouter.core.facts import Fact, HoldReconciled, ReconcileFailed
from orrouter.core.money import show as show_money
from orrouter.core.units import parse_duration

if TYPE_CHECKING:
    from orrouter.core.clock import Clock
    from orrouter.ledger.base import Ledger
    from orrouter.ledger.keyusage import Figure
    from orrouter.ledger.lane import Fetch
    from orrouter.ledger.reconcile import Reconciler

DRIFT: Final = 10_000_000
"""Nano-USD, $0.01, by which ledger and upstream may differ at any rate."""
DRIFT_PART: Final = 1000
"""Or by a thousandth of what the upstream says."""

app = typer.Typer(name="ledger", help="Look after the accounts that a policy keeps.", no_args_is_help=True)


class Window(StrEnum):
    """Since when an audit compares."""

    day = "day"
    week = "week"
    month = "month"
    lifetime = "lifetime"


FIGURES: Final[Mapping[Window, Figure]] = {
    Window.day: "usage_daily", Window.week: "usage_weekly", Window.month: "usage_monthly", Window.lifetime: "usage",
}  # fmt: skip
"""Which figure of the upstream tells of each."""


@dataclass(frozen=True, kw_only=True)
class RecoverOptions:
    """What `ledger recover` is asked."""

    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="The policy whose ledger is looked at.")] = None
    clock: Annotated[
        bool, typer.Option("--clock", help="Also go by the clock again, after it was in the future once.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ReconcileOptions(Calling):
    """What `ledger reconcile` is asked."""

    wait: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait for what is due later: 15m.")] = "0s"

    def patience(self) -> float:
        """Seconds. Raises BadParameter."""
        try:
            return parse_duration(self.wait)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--wait") from error


@dataclass(frozen=True, kw_only=True)
class AuditOptions(Calling):
    """What `ledger audit` is asked."""

    window: Annotated[
        Window, typer.Option(help="The current UTC day, week or month, or all that the key ever spent.")
    ] = Window.day


# --- recover ------------------------------------------------------------------------------------------


@command(RecoverOptions)
def recover(options: RecoverOptions) -> int:
    """Put what processes that are gone had under way in suspense: its cost is unknown, and it stays charged."""
    from orrouter.cli.store import opened, policy_of

    async def recovered() -> list[show.Line]:
        async with opened(policy_of(options.policy)) as ledger:
            lines = [show.Line(recovered_line(await ledger.recover()))]
            return [*lines, *reset_lines(*await ledger.reset_clock())] if options.clock else lines

    show.say(asyncio.run(recovered()))
    return OK


def recovered_line(number: int) -> str:
    """How many there were, and what comes of them."""
    if not number:
        return "nobody left anything under way"
    held = show.count(number, "hold")
    return f"{held} of processes that are gone: their cost is unknown now; `orrouter ledger reconcile` asks for it"


def reset_lines(before: float, now: float) -> list[show.Line]:
    """From when to when the latest time seen was set, both in unix seconds, and what that may open."""
    if before <= now:
        return [show.Line("the ledger goes by the clock already")]
    told = f"the latest time seen was {instant(before)}; it is {instant(now)} now"
    return [
        show.Line(told),
        show.Line("windows that were used since may open anew, and be used a second time", "yellow"),
    ]


def instant(at: float) -> str:
    """An instant in UTC; the bare number where no calendar reaches."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f} s since 1970"


# --- reconcile ----------------------------------------------------------------------------------------


@command(ReconcileOptions)
def reconcile(options: ReconcileOptions) -> int:
    """Ask the upstreams what tries cost whose answer never told, and settle what is known."""
    return asyncio.run(_reconcile(options, options.patience()))


async def _reconcile(options: ReconcileOptions, patience: float) -> int:
    from orrouter.cli.store import must_be_kept

    heard: list[Fact] = []
    with show.waiting("asking what unknown tries cost …", quiet=options.log is not None) as watching:

        def hear(fact: Fact) -> None:
            watching(fact)
            if isinstance(fact, HoldReconciled | ReconcileFailed):
                heard.append(fact)

        async with options.router(hear) as router:
            ledger, reconciler = router.world.ledger, router.reconciler
            must_be_kept(router.policy, ledger)
            await ledger.recover()
            if (await unknown(ledger))[0]:
                await until_nothing_is_due(reconciler, router.world.clock, patience)
            left = await unknown(ledger)
    show.say(reconciled_lines(heard, left, reconciler.due_in))
    return FAILED if any(isinstance(fact, ReconcileFailed) for fact in heard) else OK


async def until_nothing_is_due(reconciler: Reconciler, clock: Clock, patience: float) -> None:
    """Pass after pass until nothing is due within `patience` seconds from the start."""
    end = clock.now() + patience
    while True:
        await reconciler.once()
        if reconciler.due_in is None or clock.now() + reconciler.due_in > end:
            return
        await clock.sleep(reconciler.due_in)


async def unknown(ledger: Ledger) -> tuple[int, int]:
    """How many holds are in suspense, and how much they hold together, in nano-USD."""
    amounts = [entry.amount for entry in await ledger.unsettled() if entry.state == "suspense"]
    return len(amounts), sum(amounts)


def reconciled_lines(heard: list[Fact], left: tuple[int, int], due_in: float | None) -> list[show.Line]:
    """Each hold that was resolved, each failure, and what is left."""
    from orrouter.cli.story import tell

    lines = [show.Line(tell(fact), "red" if isinstance(fact, ReconcileFailed) else "") for fact in heard]
    resolved = [fact for fact in heard if isinstance(fact, HoldReconciled)]
    cost, held = sum(fact.cost_nano for fact in resolved), sum(fact.held_nano for fact in resolved)
    done = f"{show.count(len(resolved), 'hold')} resolved"
    if resolved:
        done += f": {show_money(cost)} of {show_money(held)} held"
    number, amount = left
    rest = "nothing is unknown" if not number else f"{number} still unknown, {show_money(amount)}"
    later = f"; asks again in {show.duration(due_in)}" if number and due_in is not None else ""
    return [*lines, show.Line(f"{done}; {rest}{later}", "bold")]


# --- audit --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audited:
    """What an upstream and the ledger say that a key has spent, in nano-USD; `failed` says why nobody can tell."""

    upstream: str
    said: int = 0
    settled: int = 0
    open: int = 0
    failed: str = ""

    @property
    def drift(self) -> int:
        """What upstream says beyond what the ledger knows; below zero what it lacks. What is open may be either."""
        if self.said < self.settled:
            return self.said - self.settled
        return max(0, self.said - self.settled - self.open)

    @property
    def sound(self) -> bool:
        """Whether both agree, up to a cent or a thousandth."""
        return not self.failed and abs(self.drift) <= max(DRIFT, self.said // DRIFT_PART)


@command(AuditOptions)
def audit(options: AuditOptions) -> int:
    """Compare what the ledger has settled with what each upstream says that its key has spent."""
    found = asyncio.run(_audit(options))
    sums_of = ("it says", "ledger", "open", "drift")
    made = show.table("", "upstream", *sums_of, right=sums_of, whole=("upstream",))
    for one in found:
        sums = [show_money(amount) for amount in (one.said, one.settled, one.open, one.drift)]
        cells = [show.NOTHING] * 4 if one.failed else sums
        made.add_row("yes" if one.sound else "no", one.upstream, *cells, style="" if one.sound else "red")
    show.print_table(made)
    show.say(verdict(found, options.window))
    return OK if all(one.sound for one in found) else FAILED


async def _audit(options: AuditOptions) -> list[Audited]:
    from orrouter.cli.store import must_be_kept
    from orrouter.ledger.reconcile import askable

    with show.waiting("asking what the keys have spent …", quiet=options.log is not None) as heard:
        async with options.router(heard) as router:
            must_be_kept(router.policy, router.world.ledger)
            keys = askable(router.world.upstreams)
            if not keys:
                raise RouterError("no upstream of this policy can be asked: each needs a key and OpenRouter's dialect")
            return await compare(router.world.ledger, router.fetch, keys, options.window, router.world.clock.wall())


async def compare(ledger: Ledger, fetch: Fetch, keys: Mapping[str, str], window: Window, now: float) -> list[Audited]:
    """Each upstream's figure beside the ledger's. Raises LedgerUnavailable."""
    from orrouter.ledger.windows import window as window_at

    name = FIGURES[window]
    since = window_at(window.value, "UTC", now).start
    lines = await ledger.statement(since)
    found = []
    for upstream, key in keys.items():
        mine = [line for line in lines if line.upstream == upstream and line.key == key]
        try:
            said = await said_by(fetch, upstream, name)
        except RouterError as error:
            found.append(Audited(upstream, failed=str(error)))
        else:
            found.append(Audited(upstream, said, sum(one.cost for one in mine), sum(one.open for one in mine)))
    return found


async def said_by(fetch: Fetch, upstream: str, name: Figure) -> int:
    """What an upstream says that its key has spent, in nano-USD. Raises RouterError."""
    from orrouter.ledger.keyusage import read_key

    try:
        answer = await fetch("key", upstream)
    except RouterError as error:
        if getattr(error, "status", None) != 404:
            raise
        answer = await fetch("auth/key", upstream)
    reading = read_key(answer)
    if reading is None or name not in reading.figures:
        raise RouterError(f"{upstream} does not say what its key has spent ({name})")
    return reading.figures[name]


def verdict(found: list[Audited], window: Window) -> list[show.Line]:
    """What is wrong with each, and the sum of it."""
    lines = [show.Line(f"{one.upstream}: {wrong(one)}", "red") for one in found if not one.sound]
    when = "in all" if window is Window.lifetime else f"this UTC {window.value}"
    if any(one.failed for one in found):
        return [*lines, show.Line("not every upstream could be asked", "bold")]
    told = "differ" if lines else "agree"
    return [*lines, show.Line(f"ledger and upstreams {told} {when}", "bold")]


def wrong(one: Audited) -> str:
    """What a difference means."""
    if one.failed:
        return f"could not be asked: {one.failed}"
    if one.drift > 0:
        return f"{show_money(one.drift)} were spent with the key that the ledger knows nothing of"
    return f"the ledger has {show_money(-one.drift)} more than the upstream, whose usage may lag by minutes"


for one in (audit, recover, reconcile):
    app.command()(one)
