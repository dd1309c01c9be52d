"""Everything that can be said against a policy before it is used: errors that stop it, and warnings.

Law: pure but for the files that `check_file` reads or looks for. What an error is, is said by `schema` and
`structure`, what a warning is by `advice`; here they become findings in the order of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orrouter.catalog.catalog import Catalog
from orrouter.core.errors import PolicyError
from orrouter.ledger.open import MEMORY, file_of
from orrouter.policy.advice import warnings
from orrouter.policy.known import Known
from orrouter.policy.ledger import base_of
from orrouter.policy.load import load_file
from orrouter.policy.schema import Policy, read_policy
from orrouter.policy.structure import mistakes

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about a place of a policy; line and column from 1, 0 where it was not read from text."""

    severity: Severity
    message: str
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        said = f"{self.severity}: {self.message}" + (f"; {self.hint}" if self.hint else "")
        return f"{place}: {said}" if place else said


def check(policy: Policy, catalog: Catalog) -> tuple[Finding, ...]:
    """What is wrong or unwise in a policy that is well formed, in the order of the file."""
    found = [
        *(_finding("error", error) for error in mistakes(policy)),
        *(_finding("warning", error) for error in warnings(policy, Known(policy, catalog))),
    ]
    return tuple(sorted(found, key=lambda one: (one.line, one.column, one.severity)))


def check_file(
    path: str | os.PathLike[str], env: Mapping[str, str], catalog: Catalog
) -> tuple[Policy | None, tuple[Finding, ...]]:
    """The policy in a file and what is to be said about it; None where it cannot be read at all. Raises nothing."""
    try:
        policy = read_policy(load_file(path, env=env))
    except PolicyError as error:
        return None, (_finding("error", error),)
    found = (*check(policy, catalog), *(_finding("warning", error) for error in _missing_files(policy)))
    return policy, tuple(sorted(found, key=lambda one: (one.line, one.column, one.severity)))


def _missing_files(policy: Policy) -> Iterator[PolicyError]:
    """Files and the ledger's folder that are not there now; they may still come before a Router is built."""
    if policy.ledger.url != MEMORY:
        folder = (base_of(policy.document.file) / file_of(policy.ledger.url, "process")[0].expanduser()).parent
        if not folder.is_dir():
            yield policy.document.error(("ledger",), f"there is no folder {folder} for the ledger", hint="make it")
    for name, options in policy.upstreams.items():
        for key in ("api_key_file", "ca_file"):
            file = getattr(options, key)
            if file and not Path(file).is_file():
                path = ("upstreams", name, key)
                hint = "a relative path begins in the working directory"
                yield policy.document.error(path, f"there is no file {file}", hint=hint)


def _finding(severity: Severity, error: PolicyError) -> Finding:
    return Finding(severity, error.message, error.hint, error.file, error.line, error.column)
