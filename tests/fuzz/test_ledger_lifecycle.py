"""The life of a hold, explored whole: every state of a small world is reached, and the theorem holds in each.

Three holds of two owners on two windows, upstreams that bill anything up to the hold, owners that die at any moment, an
oracle that may not know yet. The sums are made by the rules that every store applies. Six designs that are in use
elsewhere, or lie near, are explored by the same means: each loses money, and the shortest way there is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import pytest

from orrouter.core.limit import Account
from orrouter.ledger.base import Bucket, Denied, Entry, Hold
from orrouter.ledger.rules import Book

WINDOWS: Final = (Account("a", (("lifetime", 3),)), Account("b", (("lifetime", 2),)))
HOLDS: Final = (Hold("both", 2, WINDOWS), Hold("a only", 2, WINDOWS[:1]), Hold("b only", 1, WINDOWS[1:]))
OWNERS: Final = (0, 1, 0)
"""Which of two processes each hold belongs to."""
LIMITS: Final = tuple(dict(account.limits)["lifetime"] for account in WINDOWS)


class Life(NamedTuple):
    """A hold: its state, what the upstream has billed for it (None: nothing was sent), how much is held for it."""

    state: str = "new"
    billed: int | None = None
    amount: int = 0
    written: bool = True


class World(NamedTuple):
    """Every hold, the sums of every window (settled, held, suspense), and which owners live."""

    lives: tuple[Life, ...] = (Life(),) * len(HOLDS)
    sums: tuple[tuple[int, int, int], ...] = ((0, 0, 0),) * len(WINDOWS)
    alive: tuple[bool, ...] = (True, True)

    def with_life(self, place: int, life: Life) -> World:
        return self._replace(lives=(*self.lives[:place], life, *self.lives[place + 1 :]))

    def owned(self, place: int) -> bool:
        return self.alive[OWNERS[place]]

    @property
    def over(self) -> bool:
        """Nothing is held and nothing unknown any more."""
        return all(held == suspense == 0 for _, held, suspense in self.sums)

    def spent(self, account: Account) -> int:
        """What the upstreams have truly billed."""
        return sum(life.billed or 0 for hold, life in zip(HOLDS, self.lives, strict=True) if account in hold.accounts)

    @property
    def overspent(self) -> bool:
        """More money is gone than a limit allows."""
        return any(self.spent(account) > limit for account, limit in zip(WINDOWS, LIMITS, strict=True))

    def broken(self) -> str:
        """Which half of the theorem does not hold here; empty where both do."""
        for account, limit, sums in zip(WINDOWS, LIMITS, self.sums, strict=True):
            charged, spent = sum(sums), self.spent(account)
            if charged > limit:
                return f"{charged} charged to {account.name}, over its limit of {limit}"
            if spent > charged:
                return f"{spent} spent of {account.name}, and {charged} charged"
        return ""


class Desk:
    """The rules over the sums of a world: one operation of a book, and the world after it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.buckets: dict[str, Bucket] = {}
        self.book = Book(self.load, self.entry)
        for account in WINDOWS:
            self.book.standing(account)

    def load(self, key) -> Bucket:
        place = [account.name for account in WINDOWS].index(key.account)
        return self.buckets.setdefault(key.account, Bucket(key, *self.world.sums[place]))

    def entry(self, name: str) -> Entry | None:
        place = [hold.id for hold in HOLDS].index(name)
        life, hold = self.world.lives[place], HOLDS[place]
        if life.state in ("new", "checked"):
            return None
        names = tuple(account.name for account in hold.accounts)
        buckets = tuple(self.buckets[name] for name in names)
        return Entry(replace(hold, amount=life.amount), names, buckets, 0.0, state=life.state)

    def does(self, place: int, step: Callable[[Book], object], life: Life) -> World:
        """The world after a step, and that the same step again changes nothing."""
        step(self.book)
        once = self.sums()
        step(self.book)
        assert once == self.sums(), "the same word again has changed something"
        return self.world._replace(sums=once).with_life(place, life)

    def sums(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((one.settled, one.held, one.suspense) for one in self.buckets.values())


Moves = Iterator[tuple[str, World]]


class Design:
    """How orrouter does it. A move is a word of an owner, of the upstream, of fate, or of whoever reconciles."""

    def moves(self, world: World) -> Moves:
        for place, (hold, life) in enumerate(zip(HOLDS, world.lives, strict=True)):
            for name, after in self.moves_of(world, place, life):
                yield f"{name} {hold.id}", after
        for owner, alive in enumerate(world.alive):
            if alive:
                yield f"owner {owner} dies", self.crash(world, owner)

    def moves_of(self, world: World, place: int, life: Life) -> Moves:
        if world.owned(place):
            if life.state == "new":
                yield "admit", self.admit(world, place)
            if life.state == "held" and life.billed is None:
                yield "release", self.resolve(world, place, "released", 0)
                yield from self.send(world, place)
            if life.state == "held" and life.billed is not None:
                yield "settle", self.resolve(world, place, "settled", life.billed)
                yield "lose the end of", self.lose(world, place)
                if life.billed == 0:
                    yield "learn that nothing was billed for", self.resolve(world, place, "released", 0)
        elif life.state == "held":
            yield "find the orphan", self.lose(world, place, orphan=True)
        if life.state == "suspense":
            yield "reconcile", self.resolve(world, place, "settled", life.billed or 0)
            yield "not find yet", self.not_found(world, place)

    def admit(self, world: World, place: int) -> World:
        desk = Desk(world)
        denied = isinstance(desk.book.admit(HOLDS[place], "me"), Denied)
        life = Life("denied" if denied else "held", None, 0 if denied else HOLDS[place].amount)
        return Desk(world).does(place, lambda book: book.admit(HOLDS[place], "me"), life)

    def send(self, world: World, place: int) -> Moves:
        """The upstream bills anything up to the worst case."""
        for billed in range(HOLDS[place].amount + 1):
            yield f"send, at {billed},", world.with_life(place, world.lives[place]._replace(billed=billed))

    def resolve(self, world: World, place: int, state: str, cost: int) -> World:
        id_, life = HOLDS[place].id, world.lives[place]
        step = (lambda book: book.release(id_)) if state == "released" else (lambda book: book.settle(id_, cost))
        return Desk(world).does(place, step, life._replace(state=state))

    def lose(self, world: World, place: int, *, orphan: bool = False) -> World:
        """Nobody knows how it ended."""
        suspended = world.lives[place]._replace(state="suspense")
        return Desk(world).does(place, lambda book: book.suspend(HOLDS[place].id, "left"), suspended)

    def not_found(self, world: World, place: int) -> World:
        """GET /generation does not know it, or not yet: no cost is known by that."""
        return world

    def crash(self, world: World, owner: int) -> World:
        alive = tuple(one and number != owner for number, one in enumerate(world.alive))
        return world._replace(alive=alive)


# --- six designs that lose money --------------------------------------------------------------------------


class ReleaseOnTtl(Design):
    """An orphaned hold ages out."""

    def moves_of(self, world: World, place: int, life: Life) -> Moves:
        yield from super().moves_of(world, place, life)
        if life.state == "held":
            yield "age out", self.resolve(world, place, "released", 0)


class ReleaseAfterSend(Design):
    """A cancelled call gives its hold back."""

    def lose(self, world: World, place: int, *, orphan: bool = False) -> World:
        return super().lose(world, place, orphan=True) if orphan else self.resolve(world, place, "released", 0)


class ResizeToWhatRemains(Design):
    """A hold that does not fit is made to fit."""

    def admit(self, world: World, place: int) -> World:
        hold = HOLDS[place]
        room = min(
            limit - sum(sums)
            for account, limit, sums in zip(WINDOWS, LIMITS, world.sums, strict=True)
            if account in hold.accounts
        )
        smaller = replace(hold, amount=min(hold.amount, room))
        if room <= 0:
            return super().admit(world, place)
        return Desk(world).does(place, lambda book: book.admit(smaller, "me"), Life("held", None, smaller.amount))


class CheckThenSpend(Design):
    """What is spent is added when it is known; until then only the sum so far is looked at."""

    def moves_of(self, world: World, place: int, life: Life) -> Moves:
        if life.state == "checked" and world.owned(place):
            if life.billed is None:
                yield from self.send(world, place)
            else:
                cost = life.billed
                spent = life._replace(state="settled")
                yield "add up", Desk(world).does(place, lambda book: book.post(HOLDS[place], cost, "me"), spent)
        elif life.state == "new":
            yield from super().moves_of(world, place, life)

    def admit(self, world: World, place: int) -> World:
        fits = super().admit(world, place).lives[place].state == "held"
        return world.with_life(place, Life("checked" if fits else "denied"))


class SendBeforeTheJournal(Design):
    """A hold is written some time after it was taken: with its owner dies what he had not written."""

    def admit(self, world: World, place: int) -> World:
        after = super().admit(world, place)
        return after.with_life(place, after.lives[place]._replace(written=False))

    def moves_of(self, world: World, place: int, life: Life) -> Moves:
        yield from super().moves_of(world, place, life)
        if not life.written and world.owned(place):
            yield "write", world.with_life(place, life._replace(written=True))

    def crash(self, world: World, owner: int) -> World:
        for place, life in enumerate(world.lives):
            if OWNERS[place] == owner and life.state == "held" and not life.written:
                world = self.resolve(world, place, "released", 0)
        return super().crash(world, owner)


class ZeroOn404(Design):
    """What the upstream does not find has cost nothing."""

    def not_found(self, world: World, place: int) -> World:
        return self.resolve(world, place, "settled", 0)


BAD: Final = {
    ReleaseOnTtl: "admit both, send, at 1, both, age out both",
    ReleaseAfterSend: "admit both, send, at 1, both, lose the end of both",
    ResizeToWhatRemains: "admit a only, admit both, send, at 2, both",
    CheckThenSpend: "admit both, send, at 1, both",
    SendBeforeTheJournal: "admit both, send, at 1, both, owner 0 dies",
    ZeroOn404: "admit both, send, at 1, both, lose the end of both, not find yet both",
}
"""Each with the shortest way on which more is spent than is charged."""


# --- all states -------------------------------------------------------------------------------------------


class Explored(NamedTuple):
    """Every state with the way it was first reached by, and every step."""

    came: dict[World, tuple[str, World | None]]
    steps: list[tuple[World, World]]

    def way(self, world: World) -> list[str]:
        """The shortest way to a state."""
        way: list[str] = []
        step: tuple[str, World | None] = self.came[world]
        while step[1] is not None:
            way.insert(0, step[0])
            step = self.came[step[1]]
        return way

    def broken(self) -> World | None:
        """The first state in which the theorem does not hold."""
        return next((world for world in self.came if world.broken()), None)


def explore(design: Design) -> Explored:
    """Breadth first, until nothing new comes."""
    found = Explored({World(): ("", None)}, [])
    waiting = deque(found.came)
    while waiting:
        world = waiting.popleft()
        for name, after in design.moves(world):
            found.steps.append((world, after))
            if after not in found.came:
                found.came[after] = name, world
                waiting.append(after)
    return found


@pytest.fixture(scope="module")
def explored() -> Explored:
    return explore(Design())


def test_the_theorem_holds_in_every_state(explored):
    """In none of 5,363 states, reached by 15,464 steps, is more charged than the limit or more spent than is charged."""
    world = explored.broken()
    assert None is world, f"{world.broken()}: {', '.join(explored.way(world))}"
    assert (5_363, 15_464) == (len(explored.came), len(explored.steps))


def test_every_state_can_come_to_rest(explored):
    """From every state there is a way on which all that is held or unknown becomes known: no hold is stuck."""
    before: dict[World, list[World]] = {}
    for world, after in explored.steps:
        before.setdefault(after, []).append(world)
    resting = [world for world in explored.came if world.over]
    reached, waiting = set(resting), deque(resting)
    while waiting:
        for world in before.get(waiting.popleft(), ()):
            if world not in reached:
                reached.add(world)
                waiting.append(world)
    assert set() == set(explored.came) - reached


def test_every_turn_of_a_life_is_taken(explored):
    """The small world is not too small: each step from one state of a hold to another is seen, and no other."""
    seen = {
        (before.state, after.state)
        for world, next_ in explored.steps
        for before, after in zip(world.lives, next_.lives, strict=True)
        if before.state != after.state
    }
    assert {
        ("new", "held"), ("new", "denied"), ("held", "settled"), ("held", "released"), ("held", "suspense"),
        ("suspense", "settled"),
    } == seen  # fmt: skip


@pytest.mark.parametrize(("design", "way"), BAD.items(), ids=[design.__name__ for design in BAD])
def test_a_design_that_loses_money_is_found_out(design, way):
    """The same exploration finds the shortest way to a broken theorem, and states in which a limit is truly overspent."""
    found = explore(design())
    world = found.broken()
    assert world is not None, f"{design.__name__} is not found out"
    assert way == ", ".join(found.way(world))
    assert any(world.overspent for world in found.came)
