"""The ledger of a policy: where budgets are kept, and what a hold survives.

Law: a typed value and how it is read. Nothing is opened here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from orrouter.core.errors import PolicyError
from orrouter.ledger.base import Durable
from orrouter.ledger.open import MEMORY, check_address
from orrouter.ledger.statement import DAY_S, KEPT_S
from orrouter.policy.code import CODE
from orrouter.policy.env import FILE
from orrouter.policy.load import Document
from orrouter.policy.upstreams import Part
from orrouter.policy.validation import validate

ADDRESS: Final = {"type": "string", "pattern": "^(memory://|sqlite:///.+)$", "examples": ["sqlite:///spend.db"]}
"""An address as an editor knows it."""


def _address(url: str) -> str:
    try:
        check_address(url)
    except PolicyError as error:
        raise ValueError(f"{error.message}: {error.hint}") from None
    return url


class LedgerOptions(Part):
    """Where budgets are kept: an address, or a mapping with it."""

    url: Annotated[
        str,
        AfterValidator(_address),
        WithJsonSchema(ADDRESS),
    ] = MEMORY
    """`memory://` (one process, until it ends) or `sqlite:///FILE`, relative to the policy's file."""
    durable: Durable = "process"
    """What a hold survives: the end of its process; or of the machine's power too, and each waits for the disk."""
    retention_days: Annotated[int, Field(ge=1)] = KEPT_S // DAY_S
    """How long a line of the statement is kept."""

    @property
    def retention_s(self) -> float:
        """The same in seconds."""
        return float(self.retention_days * DAY_S)


def read_ledger(document: Document, value: Any) -> LedgerOptions:
    """The ledger that a document says; in memory where it says none. Raises PolicyError."""
    if value is None:
        return LedgerOptions()
    if isinstance(value, str):
        return validate(LedgerOptions, {"url": value}, document, ("ledger",))
    return validate(LedgerOptions, value, document, ("ledger",))


def base_of(file: str | os.PathLike[str]) -> Path:
    """The folder that a ledger's FILE is relative to: the policy's, or the working directory where that is no file."""
    return Path() if file in (FILE, CODE) else Path(file).parent
