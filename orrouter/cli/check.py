"""`orrouter check`: reads policies and says everything that is wrong or unwise in them.

Law: what is wrong is the policy package's to say; here it is printed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orrouter.cli import show
from orrouter.cli.command import OK, WRONG, command

if TYPE_CHECKING:
    from orrouter.policy.check import Finding


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What `check` is asked."""

    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE…", help="The policies to read.")] = None
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="A further policy, by its option.")] = None

    def every(self) -> list[Path]:
        """The files to read. Raises BadParameter when there are none."""
        found = [*(self.files or ()), *([self.policy] if self.policy is not None else ())]
        if not found:
            raise typer.BadParameter("name at least one policy", param_hint="FILE")
        return found


@command(CheckOptions)
def check(options: CheckOptions) -> int:
    """Say everything that is wrong or unwise in policies; exits 2 when one cannot be used."""
    from orrouter.catalog.catalog import Catalog
    from orrouter.policy.check import check_file

    catalog, code = Catalog(), OK
    for file in options.every():
        policy, findings = check_file(file, os.environ, catalog)
        show.say([line_of(finding) for finding in findings])
        errors = sum(finding.severity == "error" for finding in findings)
        if errors or policy is None:
            code = WRONG
        told = f"{file}: {verdict(errors, len(findings) - errors)}"
        show.say([show.Line(told, "red" if errors else "green")])
    return code


def line_of(finding: Finding) -> show.Line:
    """A finding as one line, its place first."""
    return show.Line(str(finding), "red" if finding.severity == "error" else "yellow")


def verdict(errors: int, warnings: int) -> str:
    """How many there are of each."""
    found = [show.count(errors, "error")] if errors else []
    found += [show.count(warnings, "warning")] if warnings else []
    return ", ".join(found) or "well formed, nothing to say"
