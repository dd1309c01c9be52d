"""The ledger of a policy: where budgets are kept, and what a hold survives.

Law: a typed value and how it is read. Nothing is opened here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from orrouter.core.errors import PolicyError
from orrouter.ledger.open import MEMORY, check_address
from orrouter.policy.code import CODE
from orrouter.policy.env import FILE
from orrouter.policy.load import Document
from orrouter.policy.upstreams import Part
from orrouter.policy.validation import validate


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
        WithJsonSchema({"type": "string", "pattern": "^(memory://|sqlite:///.+)$", "examples": ["sqlite:///spend.db"]}),
    ] = MEMORY
    """`memory://` (one process, until it ends) or `sqlite:///FILE`, relative to the policy's file."""
    durable: Literal["process", "power"] = "process"
    """What a hold survives: the end of its process; or of the machine's power too, and each waits for the disk."""
    retention_days: Annotated[int, Field(ge=1)] = 400
    """How long a line of the statement is kept."""


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
