"""`orrouter doctor`: what is installed, what is configured, and whether the upstream can be reached.

Law: it looks and tells, and mends nothing. Of a key it says whether there is one, never what it is.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal

from orrouter import __version__
from orrouter.cli import show
from orrouter.cli.command import FAILED, OK, WRONG, Calling, command
from orrouter.core.errors import PolicyError

if TYPE_CHECKING:
    from orrouter.router import Router

NEEDED: Final = {
    "aiohttp": (3, 14, 3),
    "orjson": (3, 10),
    "pydantic": (2, 7),
    "PyYAML": (6, 0, 1),
    "structlog": (24, 1),
    "tenacity": (9,),
}
"""Packages without which nothing works, each with the lowest version that does."""
USEFUL: Final = ("typer", "rich", "uvloop", "openai")
OLD_DAYS: Final = 90
"""From this age on the bundled list of models is called old."""

_USER: Final = re.compile(r"//[^/@]*@")

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `note` is worth knowing and nothing wrong."""

    what: str
    state: State
    told: str


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(Calling):
    """What `doctor` is asked."""


@command(DoctorOptions)
def doctor(options: DoctorOptions) -> int:
    """Look at the installation, the policy, the key and the upstream."""
    found = [*machine(), *packages(), catalog(datetime.now(UTC).date())]
    code = OK
    try:
        with show.waiting("asking the upstream …", quiet=options.log is not None):
            found += asyncio.run(_upstreams(options))
    except PolicyError as error:
        found.append(Finding("policy", "wrong", str(error)))
        code = WRONG if options.policy is not None else FAILED
    made = show.table("", "what", "found", whole=("what",))
    for finding in found:
        made.add_row(_MARKS[finding.state], finding.what, show.safe(finding.told), style=_STYLES[finding.state])
    show.print_table(made)
    if code == OK and any(finding.state == "wrong" for finding in found):
        code = FAILED
    show.say([show.Line("all is well" if code == OK else "something is wrong: see the lines marked no", "bold")])
    return code


_MARKS: Final[dict[State, str]] = {"ok": "yes", "note": "", "wrong": "no"}
_STYLES: Final[dict[State, str]] = {"ok": "", "note": "dim", "wrong": "red"}


def machine() -> list[Finding]:
    """Python, this library, and what they stand on."""
    import sqlite3
    import ssl

    new_enough = sys.version_info >= (3, 11)
    return [
        Finding("orrouter", "ok", __version__),
        Finding(
            "python", "ok" if new_enough else "wrong", f"{platform.python_version()} on {platform.system().lower()}"
        ),
        Finding("openssl", "note", ssl.OPENSSL_VERSION),
        Finding("sqlite", "note", sqlite3.sqlite_version),
        Finding("event loop", "note", _loop()),
    ]


def _loop() -> str:
    fast = " (uvloop is installed; use uvloop.run to have it)" if _version("uvloop") else ""
    return f"asyncio{fast}"


def packages() -> list[Finding]:
    """The versions of what is needed and of what is useful."""
    needed = [judged(name, _version(name), least) for name, least in NEEDED.items()]
    useful = [Finding(name, "note", _version(name) or "not installed; nothing here needs it") for name in USEFUL]
    return needed + useful


def judged(name: str, installed: str | None, least: tuple[int, ...]) -> Finding:
    """Whether a package that is needed is there and new enough."""
    wanted = ".".join(map(str, least))
    if installed is None:
        return Finding(name, "wrong", f"not installed; at least {wanted} is needed")
    numbers = tuple(int(part) for part in installed.split(".")[: len(least)] if part.isdecimal())
    return Finding(name, "ok", installed) if numbers >= least else Finding(name, "wrong", f"{installed} < {wanted}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def catalog(today: date) -> Finding:
    """The bundled list of models: how old it is, and where it comes from."""
    from orrouter.catalog.catalog import Catalog

    bundled = Catalog()
    age = (today - date.fromisoformat(bundled.as_of)).days
    told = f"{len(bundled)} models of {bundled.as_of}, from {bundled.source}"
    return Finding("model list", "note", told + ("; it is old: a newer orrouter has newer prices" * (age > OLD_DAYS)))


async def _upstreams(options: Calling) -> list[Finding]:
    """The policy, its keys, and what each upstream says. Raises PolicyError."""
    async with options.router() as router:
        place = "the environment" if options.policy is None else str(options.policy)
        found = [Finding("policy", "ok", f"{place}: {', '.join(router.policy.stacks)}"), *_keys(router)]
        ready = await router.ready()
        return found + [
            Finding(f"{check.name} answers", "ok" if check.ok else "wrong", check.detail) for check in ready.checks
        ]


def _keys(router: Router) -> list[Finding]:
    found = []
    for name, upstream in router.policy.upstreams.items():
        given = router.policy.upstream(name).has_key
        told = f"{_address(upstream.base_url)}, {'with a key' if given else 'without a key: its targets are skipped'}"
        found.append(Finding(f"upstream {name}", "ok" if given else "note", told))
    if os.environ.get("OPENROUTER_BASE_URL"):
        found.append(Finding("OPENROUTER_BASE_URL", "note", _address(os.environ["OPENROUTER_BASE_URL"])))
    return found


def _address(url: str) -> str:
    """An address without the name and password that may stand in it."""
    return _USER.sub("//", url)
