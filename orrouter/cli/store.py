"""The policy and the ledger behind the commands about money.

Law: reads the one, opens the other, and says why where there is nothing to look at. No upstream is asked.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orrouter.core.errors import LedgerUnavailable, PolicyError

if TYPE_CHECKING:
    from orrouter.ledger.base import Ledger
    from orrouter.policy.schema import Policy


def policy_of(file: Path | None) -> Policy:
    """The policy in a file, or the environment's. Raises PolicyError."""
    from orrouter.policy.env import policy_from_env
    from orrouter.policy.load import load_file
    from orrouter.policy.schema import read_policy

    return read_policy(policy_from_env(os.environ) if file is None else load_file(file, env=os.environ))


def must_be_kept(policy: Policy, ledger: Ledger) -> None:
    """See that there is a ledger to look at. Raises PolicyError for one in memory, LedgerUnavailable for no file."""
    from orrouter.ledger.open import MEMORY

    if policy.ledger.url == MEMORY:
        raise PolicyError(
            "this policy keeps its accounts in memory: nothing is kept beyond the process that calls",
            file=str(policy.document.file),
            hint="write `ledger: sqlite:///spend.db` in it",
        )
    path = getattr(ledger, "path", None)
    if isinstance(path, Path) and not path.exists():
        raise LedgerUnavailable(f"{path} does not exist: no call has been made under a budget yet")


@asynccontextmanager
async def opened(policy: Policy) -> AsyncIterator[Ledger]:
    """The ledger that a policy names; the first word to it opens it. Raises PolicyError, LedgerUnavailable."""
    from orrouter.accounts import ledger_of
    from orrouter.core.clock import LoopClock

    ledger = ledger_of(policy, LoopClock(), None)
    must_be_kept(policy, ledger)
    try:
        yield ledger
    finally:
        await ledger.aclose()
