"""The book of accounts over the rows of a file: what is asked of a ledger, as steps of one transaction.

Law: sums are made by `rules`, SQL is in `sqlite_rows`. What is in hand is a cache: it is dropped when somebody else has
written, save our own holds, which nobody else touches without saying so (`epoch`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from orrouter.core.limit import Account, Period
from orrouter.ledger.base import Balance, Bucket, BucketKey, Crossed, Denied, Entry, Hold, Line, Provenance
from orrouter.ledger.rules import DONE, Book
from orrouter.ledger.shown import balances_of, refusal
from orrouter.ledger.sqlite_rows import Rows
from orrouter.ledger.statement import Statement, begun, hour_of, seen_until

SEEN_S: Final = 1.0
"""The latest time seen is written so often, and with every new window: one that has ended is never opened anew."""


class KeptBook:
    """A book that is written down. `rows` is set whenever the file is opened; `me` is the owner of new holds."""

    rows: Rows

    def __init__(self) -> None:
        self.book = Book(self._load_bucket, self._load_entry, self._load_kept, seen=self._met)
        self.me = ""
        self.made = False
        """Whether the last admission made a hold."""
        self.finished: list[str] = []
        """Holds of this transaction that are over."""
        self.careful = False
        """Whether each id is looked up before it is admitted. It is not at first: the row of one that was used before
        is refused by the file, and then the turn is done again with care."""
        self._own: dict[str, Entry] = {}
        self._seen = 0.0
        self._epoch = -1.0
        self._epoch_moved = False

    # --- the cache --------------------------------------------------------------------------------------

    def refresh(self, meta: dict[str, float]) -> None:
        """Somebody else has written: drop what may be wrong."""
        if meta["epoch"] != self._epoch:
            self._epoch = meta["epoch"]
            self._own.clear()
            self.book.entries.clear()
        self._drop()
        if meta["seen"] < self._seen:  # Somebody has reset the clock; what was not committed does not count either.
            self.book.rewind(meta["seen"])
        self._seen = meta["seen"]
        self.book.calendar.at(self._seen)

    def abandon(self) -> None:
        """The transaction never was."""
        self.book.forget()
        self._own.clear()
        self.finished.clear()
        self._epoch_moved = False

    def committed(self) -> None:
        """Everything is written."""
        if self._epoch_moved:
            self._epoch, self._epoch_moved = self._epoch + 1, False
        for hold in self.finished:
            self.rows.over(hold)
        self.finished.clear()
        if self.rows.full:
            self._drop()

    def _drop(self) -> None:
        """Forget all but our own open holds, whose windows are looked up when they are needed."""
        self._own.update({id_: entry for id_, entry in self.book.entries.items() if entry.owner == self.me})
        self.book.forget()
        self.rows.forget()
        self.book.limits.update(self.rows.limits())

    def save(self) -> None:
        """Write what changed; also in the midst of a transaction, before rows are counted."""
        book, rows, changes = self.book, self.rows, self.book.changes
        new = False
        if changes.entries:
            entries = changes.entries.values()
            new = rows.write_buckets(changes.buckets)
            for entry in entries:
                if entry.state in DONE:
                    self.finished.append(entry.hold.id)
                if entry.owner != self.me and not self._epoch_moved:
                    self._move_epoch()  # An owner keeps his holds in hand: let him know that we have changed one.
            rows.write_entries(entries)
        if changes.corrections:
            rows.write_corrections(changes.corrections)
        changes.clear()
        rows.write_lines()
        if new or book.calendar.now - self._seen >= SEEN_S:
            self._seen = book.calendar.now
            rows.write_meta("seen", self._seen)

    def _move_epoch(self) -> None:
        """Every owner is to look at his holds anew."""
        self._epoch_moved = True
        self.rows.write_meta("epoch", self._epoch + 1)

    def _load_kept(self, account: str) -> list[Bucket]:
        return self.rows.kept(account, self.book.calendar.now)

    def _load_bucket(self, key: BucketKey) -> Bucket:
        found = self.rows.bucket(key)
        if found is not None:
            return found
        self.save()
        until = seen_until(key, self.book.calendar.now)
        entries = [entry for entry in map(self.book.entry, self.rows.open_of(key.account, key.start, until)) if entry]
        bucket = begun(key, self.rows.paid(key.account, hour_of(key.start), until), entries, until)
        self.book.changes.entries.update({entry.id: entry for entry in entries if bucket in entry.buckets})
        return bucket

    def _met(self, hold: str) -> bool:
        """Whether an id that is not in hand was admitted before, as far as it is known without asking the file."""
        return (self.careful or hold in self._own or self.rows.knows(hold)) and self._load_entry(hold) is not None

    def _load_entry(self, hold: str) -> Entry | None:
        entry = self._own.pop(hold, None)
        if entry is not None:
            self.rows.known(entry)
            entry.buckets = tuple([self.book.bucket(bucket.key) for bucket in entry.buckets])
        else:
            entry = self.rows.entry(hold, self.book.bucket)
        if entry is not None:
            if entry.state in ("held", "suspense"):
                self.book.entries[hold] = entry
            else:
                self.finished.append(hold)
        return entry

    # --- the operations ---------------------------------------------------------------------------------

    def nothing(self) -> None:
        """Only wait for one's turn."""

    def admit(self, hold: Hold) -> tuple[Crossed, ...]:
        """Hold the amount in every account or in none. Raises BudgetExceeded."""
        known = hold.id in self.book.entries
        admitted = self.book.admit(hold, self.me)
        if isinstance(admitted, Denied):
            raise refusal(admitted, hold, self.book.calendar.now)
        self.made = not known and hold.id in self.book.changes.entries
        return admitted

    def settle(  # noqa: PLR0917  # a word is a name and what it says, in order
        self, hold: str, cost: int, provenance: Provenance, provider: str, model: str, generation_id: str = ""
    ) -> None:
        """It cost so much."""
        entry = self.book.settle(hold, cost, provenance=provenance, provider=provider, model=model)
        if entry is not None and generation_id:
            entry.generation_id = generation_id
        self._pay(entry, cost)

    def release(self, hold: str) -> None:
        """Nothing can have been billed."""
        self.book.release(hold)

    def suspend(self, hold: str, reason: str) -> None:
        """Nobody knows whether it was billed."""
        self.book.suspend(hold, reason)

    def identify(self, hold: str, generation_id: str) -> None:
        """The upstream has named the work."""
        self.book.identify(hold, generation_id)

    def adjust(self, hold: str, cost: int, provenance: Provenance) -> None:
        """A settled hold cost something else."""
        entry = self.book.entry(hold)
        if entry is not None and entry.cost is not None:
            for name in entry.accounts:  # It also counts in windows that are kept only since.
                if name not in self.book.kept:
                    self.book.kept[name] = self._load_kept(name)
            before = entry.cost
            self._pay(self.book.adjust(hold, cost, provenance), cost - before, tries=0)

    def post(self, hold: Hold, cost: int) -> None:
        """A cost that was never held."""
        self._pay(self.book.post(hold, cost, self.me), cost)

    def _pay(self, entry: Entry | None, cost: int, tries: int = 1) -> None:
        """Add to the statement."""
        if entry is not None:
            self.rows.pay(entry, cost, tries)

    def suspend_held_by(self, owner: str, reason: str) -> int:
        """Nobody will tell what became of the holds of an owner; how many there were."""
        self.save()
        return sum([self.book.suspend(hold, reason) is not None for hold in self.rows.held_by(owner)])

    def reset_clock(self, now: float) -> None:
        """The latest time seen is `now`. Whoever has seen a later one heeds it at his next turn."""
        self.save()
        self.rows.write_meta("seen", now)
        self.rows.end_by(now)
        if not self._epoch_moved:
            self._move_epoch()
        self._seen = now
        self.book.rewind(now)
        self._drop()
        self._own.clear()

    def balances(self, account: Account) -> tuple[Balance, ...]:
        """Every window of an account that has a limit."""
        return balances_of(self.book, account)

    def set_limit(self, account: str, period: Period, amount: int | None) -> None:
        """Change a limit for every process."""
        self.book.set_limit(account, period, amount)
        self.rows.write_limit(account, period, amount)

    def unsettled(self) -> list[Entry]:
        """Every hold that is held or in suspense, oldest first."""
        self.save()
        return [replace(entry) for entry in map(self.book.entry, self.rows.open_ids()) if entry]

    def statement(self, since: float, until: float) -> list[Line]:
        """What was paid, with what is still open."""
        lines = {_place(line): line for line in Statement().lines(self.unsettled(), since, until)}
        for line in self.rows.lines(since, until):
            still = lines.get(_place(line), replace(line, tries=0))
            lines[_place(line)] = replace(line, tries=line.tries + still.tries, open=still.open)
        return [lines[place] for place in sorted(lines)]


def _place(line: Line) -> tuple[int, tuple[str, ...], str, str, str, str]:
    return line.at, line.accounts, line.upstream, line.model, line.provider, line.key
