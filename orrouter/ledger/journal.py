"""Words that a store could not write, as lines of a file: whoever finds the file of a dead owner says them again.

Law: pure. Every word may be said twice, so a line that was written after all does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from orrouter.core.limit import Account
from orrouter.ledger.base import Hold

Word = tuple[str, tuple[Any, ...]]
"""The name of an operation, and what it is told."""

WORDS: Final = frozenset({"settle", "suspend", "release", "identify", "adjust", "post"})


def lines_of(words: Iterable[Word]) -> bytes:
    """One line of JSON for each word; one that JSON cannot say is left out."""
    lines = []
    for name, args in words:
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            lines.append(json.dumps([name, *args], default=_listed).encode() + b"\n")
    return b"".join(lines)


def words_in(content: bytes) -> list[Word]:
    """The words of a file in order. What is torn, as the last line of a process that was killed, is left out."""
    words = []
    for line in content.split(b"\n"):
        try:
            name, *args = json.loads(line)
            if name in WORDS:
                words.append((name, tuple(_hold_of(*one) if isinstance(one, list) else one for one in args)))
        except (ValueError, TypeError, RecursionError):
            continue
    return words


def _listed(value: Any) -> list[Any]:
    if isinstance(value, Hold):
        return [getattr(value, name) for name in Hold.__slots__]
    account: Account = value
    return [account.name, account.limits, account.zone, account.soft]


def _hold_of(id_: str, amount: int, accounts: list[Any], *rest: Any) -> Hold:
    """A hold from the list that JSON makes of it and its accounts."""
    return Hold(id_, amount, tuple(_account_of(*account) for account in accounts), *rest)


def _account_of(name: str, limits: list[Any], zone: str, soft: list[float]) -> Account:
    return Account(name, tuple((period, amount) for period, amount in limits), zone, tuple(soft))
