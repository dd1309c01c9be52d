"""The arithmetic of accounts: what is admitted, and what each step does to the sums."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from orrouter.core.limit import Account
from orrouter.ledger.base import Bucket, BucketKey, Crossed, Denied, Entry, Hold
from orrouter.ledger.rules import REMEMBERED_DENIALS, Book
from orrouter.ledger.standing import Calendar
from orrouter.ledger.statement import begun
from orrouter.ledger.windows import FOREVER

MONDAY = 1_795_392_000.0  # 2026-11-23 00:00 UTC
DAY, HOUR = 86_400.0, 3_600.0


class Store:
    """A store of dicts beneath a book, and the book."""

    def __init__(self, at: float = MONDAY + 10) -> None:
        self.written: dict[str, Entry] = {}
        self.windows: dict[BucketKey, Bucket] = {}
        self.paid: dict[str, int] = {}
        self.book = Book(self.bucket, self.written.get, self.kept)
        self.book.calendar.at(at)

    def bucket(self, key: BucketKey) -> Bucket:
        known = self.windows.get(key)
        if known is not None:
            return known
        open_ = {id_: entry for id_, entry in self.written.items() if entry.state in ("held", "suspense")}
        bucket = begun(key, self.paid.get(key.account, 0), (open_ | self.book.entries).values())
        self.book.changes.entries |= {id_: entry for id_, entry in open_.items() if bucket in entry.buckets}
        return bucket

    def kept(self, account: str) -> Iterable[Bucket]:
        return [bucket for key, bucket in self.windows.items() if key.account == account]

    def write(self) -> None:
        """Everything is written, and nothing is in hand any more."""
        self.written |= self.book.changes.entries
        for bucket in self.book.changes.buckets:
            self.windows[bucket.key] = bucket
        limits = dict(self.book.limits)
        self.book.forget()
        self.book.limits.update(limits)


@pytest.fixture
def book() -> Book:
    return Store().book


def org(day: int = 100, **more: int) -> Account:
    return Account("org", (("day", day), *more.items()))  # type: ignore[arg-type]  # a period's name is a keyword here


def hold(name: str, amount: int, *accounts: Account) -> Hold:
    return Hold(name, amount, accounts or (org(),), "openrouter", "key", "model")


def sums(book: Book, account: Account) -> list[tuple[int, int, int]]:
    return [(bucket.settled, bucket.held, bucket.suspense) for bucket, _ in book.standing(account).windows]


# --- admission --------------------------------------------------------------------------------------------


def test_the_last_nano_is_admitted_and_one_more_is_not(book):
    """A hold fits when it fills a window exactly."""
    assert () == book.admit(hold("a", 99), "me")
    assert () == book.admit(hold("b", 1), "me")
    assert Denied("org", "day", 100, 0, MONDAY + DAY, "UTC") == book.admit(hold("c", 1), "me")


def test_a_hold_of_nothing_is_admitted_on_a_full_account(book):
    """A free model needs no room."""
    book.admit(hold("a", 100), "me")
    assert () == book.admit(hold("free", 0), "me")


def test_all_accounts_or_none(book):
    """Where one account has no room, no other is charged."""
    poor, rich = Account("poor", (("day", 5),)), Account("rich", (("day", 100),))
    denied = book.admit(hold("a", 6, rich, poor), "me")
    assert ("poor", 5) == (denied.account, denied.remaining)
    assert [(0, 0, 0)] == sums(book, rich)


def test_a_denied_id_stays_denied(book):
    """An id that was refused is refused for ever, also when there is room: whoever asks again takes a new one."""
    denied = book.admit(hold("a", 101), "me")
    book.set_limit("org", "day", 1000)
    assert denied is book.admit(hold("a", 1), "me")
    assert () == book.admit(hold("b", 1), "me")


def test_an_admitted_id_is_not_charged_twice(book):
    """The same hold again changes nothing, whatever has become of it."""
    for step in (None, book.suspend, None):
        assert () == book.admit(hold("a", 60), "me")
        if step is not None:
            step("a", "left")
    assert [(0, 0, 60)] == sums(book, org())


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ((("day", 10), ("month", 9)), "month"),
        ((("month", 10), ("day", 9)), "day"),
        ((("day", 9), ("lifetime", 9), ("week", 9)), "lifetime"),
        ((("hour", 9), ("day", 9)), "day"),
    ],
)
def test_a_refusal_names_the_narrowest_window_and_of_several_the_longest(book, limits, named):
    """The caller learns the limit that stops him, and the instant before which it is no use to ask again."""
    assert named == book.admit(hold("a", 11, Account("org", limits)), "me").period


def test_an_account_without_limits_is_charged_nowhere_and_refuses_nobody(book):
    """Its tries are in the books all the same."""
    book.admit(hold("a", 10**18, Account("free", ())), "me")
    assert (("free",), ()) == (book.entries["a"].accounts, book.entries["a"].buckets)


def test_one_account_named_twice_is_charged_once_and_held_to_both_limits(book):
    """Two budgets may name the same account: the sum is one, and each limit stands."""
    accounts = (org(100), org(50))
    book.admit(hold("a", 30, *accounts), "me")
    assert [(0, 30, 0)] == sums(book, org())
    assert ("org",) == book.entries["a"].accounts
    assert 50 == book.admit(hold("b", 30, *accounts), "me").limit


def test_less_than_nothing_is_refused(book):
    """A negative amount would make room where there is none; then nothing has happened."""
    for wrong in (
        lambda: book.admit(hold("a", -1), "me"),
        lambda: book.post(hold("a", 1), -1, "me"),
        lambda: book.set_limit("org", "day", -1),
    ):
        with pytest.raises(ValueError, match="0 or more"):
            wrong()
    book.admit(hold("b", 10), "me")
    with pytest.raises(ValueError, match="0 or more"):
        book.settle("b", -1)
    assert [(0, 10, 0)] == sums(book, org())


def test_denials_are_forgotten_before_they_fill_the_memory(book):
    """So many of the last refusals are remembered, and a bounded number at all."""
    for number in range(3 * REMEMBERED_DENIALS):
        book.admit(hold(f"hold{number}", 101), "me")
    assert REMEMBERED_DENIALS <= len(book._denied) <= 2 * REMEMBERED_DENIALS


# --- limits that are changed ------------------------------------------------------------------------------


def test_a_limit_below_what_is_charged_stops_admissions_and_nothing_else(book):
    """What is held stays held and settles; nothing more is admitted until there is room."""
    book.admit(hold("a", 60), "me")
    book.set_limit("org", "day", 20)
    assert -40 == book.admit(hold("b", 1), "me").remaining
    book.settle("a", 10)
    assert () == book.admit(hold("c", 10), "me")
    assert isinstance(book.admit(hold("d", 1), "me"), Denied)


def test_a_limit_is_lifted_again_to_what_the_policy_says(book):
    """None takes back a change."""
    book.set_limit("org", "day", 20)
    book.set_limit("org", "day", None)
    assert () == book.admit(hold("a", 100), "me")


def test_a_new_limit_counts_what_is_spent_and_held_already(book):
    """A window that begins to be kept while holds are open settles them as if it had been kept all along."""
    store = Store()
    book, store.paid["org"] = store.book, 30
    book.admit(hold("a", 20), "me")
    store.write()
    book.admit(hold("b", 10), "me")
    book.suspend("b", "left")
    store.write()
    book.set_limit("org", "month", 65)
    assert 5 == book.admit(hold("c", 6), "me").remaining
    store.write()
    book.settle("a", 15)
    book.settle("b", 4)
    assert (49, 0, 0) == sums(book, org(month=65))[1]


def test_a_limit_taken_away_and_set_again_has_missed_nothing(book):
    """A window stays charged while no limit stands on it."""
    book.set_limit("org", "month", 50)
    book.admit(hold("a", 10), "me")
    book.set_limit("org", "month", None)
    book.admit(hold("b", 30), "me")
    book.settle("b", 25)
    book.set_limit("org", "month", 50)
    assert (25, 10, 0) == sums(book, org())[1]


def test_a_policy_charges_the_windows_that_another_policy_keeps():
    """While a new policy with a monthly limit is rolled out, the old one knows only days: the month misses nothing."""
    store = Store()
    old, new = org(100), org(100, month=150)
    for number, account in enumerate((new, old, new, old)):
        assert () == store.book.admit(hold(str(number), 10, account), "me")
        store.write()
    assert [(0, 40, 0), (0, 40, 0)] == sums(store.book, new)


def test_a_window_that_comes_in_hand_later_is_charged_from_then_on():
    """A store may bring one in with an old hold that is charged to it."""
    store = Store()
    store.book.admit(hold("a", 10), "me")
    month = Bucket(BucketKey("org", "month", int(MONDAY - 22 * DAY)), settled=30, until=MONDAY + 8 * DAY)
    store.windows[month.key] = month
    assert month is store.book.bucket(month.key)
    store.book.admit(hold("b", 5), "me")
    assert 5 == month.held


# --- time -------------------------------------------------------------------------------------------------


def test_a_new_day_has_its_own_room(book):
    """At midnight the window is empty; a hold from yesterday settles yesterday."""
    book.admit(hold("a", 100), "me")
    yesterday = book.entries["a"].buckets[0]
    book.calendar.at(MONDAY + DAY)
    assert () == book.admit(hold("b", 90), "me")
    book.settle("a", 70)
    assert (70, 0) == (yesterday.settled, yesterday.held)
    assert [(0, 90, 0)] == sums(book, org())


def test_a_clock_set_back_opens_no_old_window(book):
    """Time never runs backward: a day that was used up does not come again, nor does one that is over."""
    book.calendar.at(MONDAY + DAY + 1)
    book.admit(hold("a", 100), "me")
    assert 2 * HOUR == book.calendar.at(MONDAY + DAY + 1 - 2 * HOUR)
    assert isinstance(book.admit(hold("b", 1), "me"), Denied)


def test_a_calendar_tells_the_window_of_its_own_time():
    """The window is the one of the latest time seen."""
    calendar = Calendar()
    assert 0 == calendar.at(MONDAY + 5)
    assert MONDAY == calendar.window("day", "UTC").start
    assert 0 == calendar.at(MONDAY + DAY)
    assert MONDAY + DAY == calendar.window("day", "UTC").start


def test_windows_that_are_over_and_empty_are_let_go_of(book):
    """Users come and go, each with an account: what is in hand stays within what is in use."""
    for day in range(30):
        book.calendar.at(MONDAY + day * DAY)
        for user in range(20):
            account = Account(f"user:{day}:{user}", (("day", 9),))
            book.admit(hold(account.name, 1, account), "me")
            book.release(account.name)
            book.changes.clear()
    assert len(book.kept) <= 60
    assert len(book._standings) <= len(book.kept)


def test_a_window_that_still_holds_something_is_kept(book):
    """However long it is over: what is in suspense is resolved in the window in which it was admitted."""
    book.admit(hold("late", 9), "me")
    book.suspend("late", "left")
    kept = book.entries["late"].buckets[0]
    for number in range(100):
        book.calendar.at(MONDAY + 40 * DAY + number)
        book.changes.clear()
        book.standing(Account(f"user:{number}", (("hour", 9),)))
    assert kept in book.kept["org"]
    assert kept is book.bucket(kept.key)


# --- thresholds -------------------------------------------------------------------------------------------


def test_a_soft_threshold_is_told_once_in_a_window(book):
    """Also where one admission passes two, where the sum falls again, and again in the next window."""
    account = Account("org", (("day", 100),), soft=(0.5, 0.8))
    assert () == book.admit(hold("a", 49, account), "me")
    assert (Crossed("org", "day", 0.5, 50, 100),) == book.admit(hold("b", 1, account), "me")
    book.release("a")
    assert () == book.admit(hold("c", 49, account), "me")
    book.calendar.at(MONDAY + DAY)
    crossed = book.admit(hold("d", 90, account), "me")
    assert [(0.5, 90), (0.8, 90)] == [(one.part, one.charged) for one in crossed]


def test_a_raised_limit_does_not_tell_a_threshold_again(book):
    """Once is once in a window, whatever its limit becomes."""
    account = Account("org", (("day", 100),), soft=(0.5,))
    book.admit(hold("a", 60, account), "me")
    book.set_limit("org", "day", 200)
    assert () == book.admit(hold("b", 60, account), "me")


def test_a_threshold_of_a_part_that_no_float_can_say_is_exact(book):
    """7 % of 100 is 7, although 0.07 times 100 is a little more; half of 5 is more than 2."""
    account = Account("org", (("day", 100), ("month", 5_000)), soft=(0.07,))
    assert [7] == [one.charged for one in book.admit(hold("a", 7, account), "me")]
    odd = Account("odd", (("day", 5),), soft=(0.5,))
    assert [0, 1] == [len(book.admit(hold(name, amount, odd), "me")) for name, amount in (("b", 2), ("c", 1))]


# --- the life of a hold -----------------------------------------------------------------------------------


def test_what_cost_more_than_was_held_is_charged_whole(book):
    """The truth first: the window is over its limit then, and admits nothing."""
    book.admit(hold("a", 100), "me")
    book.settle("a", 130)
    assert [(130, 0, 0)] == sums(book, org())
    assert -30 == book.admit(hold("b", 0), "me").remaining


def test_an_unknown_outcome_stays_charged_until_its_cost_is_known(book):
    """From suspense there is no way back but a known cost."""
    book.admit(hold("a", 60), "me")
    assert book.suspend("a", "cancelled")
    assert None is book.release("a")
    assert None is book.suspend("a", "again")
    assert ("suspense", "cancelled") == (book.entries["a"].state, book.entries["a"].reason)
    assert [(0, 0, 60)] == sums(book, org())
    assert book.settle("a", 20, provenance="reconciled")
    assert [(20, 0, 0)] == sums(book, org())


@pytest.mark.parametrize("first", ["settle", "release"])
def test_what_is_over_is_over(book, first):
    """Behind the end of a hold no second word changes a sum, or brings it back among the open ones."""
    book.admit(hold("a", 60), "me")
    assert book.settle("a", 20) if first == "settle" else book.release("a")
    before = sums(book, org())
    assert [None] * 4 == [book.settle("a", 30), book.release("a"), book.suspend("a", "left"), book.identify("a", "g")]
    assert () == book.admit(hold("a", 60), "me")
    assert before == sums(book, org())
    assert {} == book.entries


def test_a_correction_moves_the_sum_and_is_written_down(book):
    """A settled cost may turn out to be another, up or down; the same again changes nothing."""
    book.admit(hold("a", 60), "me")
    assert None is book.adjust("a", 1, "reconciled")
    book.settle("a", 20)
    assert [True, False, True] == [bool(book.adjust("a", cost, "reconciled")) for cost in (70, 70, 5)]
    assert [(5, 0, 0)] == sums(book, org())
    assert [(20, 70), (70, 5)] == [(one.before, one.after) for one in book.changes.corrections]


def test_a_correction_reaches_a_window_that_began_to_be_kept_since():
    """What was settled before a limit was set counts in it, and so does its correction."""
    store = Store()
    store.book.admit(hold("a", 60), "me")
    store.book.settle("a", 20)
    store.paid["org"] = 20
    store.book.set_limit("org", "month", 500)
    assert (20, 0, 0) == sums(store.book, org())[1]
    store.book.adjust("a", 50, "reconciled")
    assert [(50, 0, 0), (50, 0, 0)] == sums(store.book, org())


def test_a_cost_that_was_never_held_is_charged_once_over_any_limit(book):
    """It was spent while the store was down."""
    assert [True, False] == [bool(book.post(hold("a", 60), 130, "me")) for _ in range(2)]
    assert [(130, 0, 0)] == sums(book, org())


def test_a_cost_whose_hold_was_written_after_all_settles_it(book):
    """Only the answer of the store was lost: the cost is charged once, and nothing stays held."""
    book.admit(hold("a", 60), "me")
    book.post(hold("a", 60), 25, "me")
    assert [(25, 0, 0)] == sums(book, org())


def test_nobody_knows_an_id_that_was_never_admitted(book):
    """A word about a hold that there is not changes nothing."""
    assert [None] * 5 == [
        book.settle("x", 1), book.release("x"), book.suspend("x", "left"), book.identify("x", "g"),
        book.adjust("x", 1, "reconciled"),
    ]  # fmt: skip


# --- what is to be written --------------------------------------------------------------------------------


def test_changes_name_what_a_store_has_to_write():
    """Every step leaves the entry and its windows; cleared, there is nothing."""
    store = Store()
    book = store.book
    book.admit(hold("a", 60, org(), Account("free", ())), "me")
    for step in (
        lambda: None,
        lambda: book.identify("a", "gen-1"),
        lambda: book.suspend("a", "left"),
        lambda: book.settle("a", 5),
        lambda: book.adjust("a", 6, "reconciled"),
    ):
        step()
        assert ["a"] == list(book.changes.entries)
        assert [("org", "day", MONDAY)] == [bucket.key for bucket in book.changes.buckets]
        store.written |= book.changes.entries
        book.changes.clear()
        assert (set(), {}, []) == (book.changes.buckets, book.changes.entries, book.changes.corrections)


def test_a_hold_that_is_over_is_found_until_it_is_written(book):
    """It is not among the open ones, and a second word about it still changes nothing."""
    book.admit(hold("a", 60), "me")
    book.settle("a", 5)
    assert ({}, "settled") == (book.entries, book.entry("a").state)
    book.changes.clear()
    assert None is book.entry("a")


def test_forgetting_drops_what_is_in_hand_and_reads_it_again():
    """Another process may have changed it."""
    store = Store()
    store.book.admit(hold("a", 60), "me")
    store.write()
    assert ({}, {}) == (store.book.entries, dict(store.book.kept))
    store.windows[BucketKey("org", "day", int(MONDAY))].settled += 40
    assert isinstance(store.book.admit(hold("b", 1), "me"), Denied)
    assert store.book.settle("a", 1)


def test_the_end_of_a_lifetime_is_infinite(book):
    """Its refusal names no reset."""
    assert FOREVER == book.admit(hold("a", 10, Account("org", (("lifetime", 9),))), "me").resets_at
