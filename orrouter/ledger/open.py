"""Which store a ledger's address means: `memory://`, `sqlite:///FILE`.

Law: the one module that names a store, and each is imported where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, get_args
from urllib.parse import parse_qsl, unquote

from orrouter.core.errors import PolicyError
from orrouter.ledger.base import Durable, Ledger
from orrouter.ledger.statement import KEPT_S

MEMORY: Final = "memory://"
SQLITE: Final = "sqlite:///"
LATER: Final = ("redis://", "rediss://", "postgres://", "postgresql://")
DURABLE: Final[tuple[Durable, ...]] = get_args(Durable)
HINT: Final = "write memory:// or sqlite:///FILE"


def open_ledger(
    url: str,
    *,
    wall: Callable[[], float],
    base: Path | None = None,
    durable: str = "process",
    retention_s: float = KEPT_S,
    tell: Callable[[str], None] | None = None,
) -> Ledger:
    """The ledger at an address; nothing is opened before it is first asked.

    `wall` gives unix seconds. A relative FILE lies below `base` (None: the working directory). What is written
    survives the death of the `process`, or of the machine's `power` (also `?durable=power` behind the FILE). Lines of
    the statement are kept for `retention_s` seconds; `tell` is told a sentence when the clock was set back or a
    word cannot be written.
    Raises PolicyError for an address that nobody knows, LedgerUnavailable on a system without file locks.
    """
    if url == MEMORY:
        from orrouter.ledger.memory import MemoryLedger

        return MemoryLedger(wall, retention_s, tell)
    check_address(url)
    path, durable = file_of(url, durable)
    from orrouter.ledger.sqlite import SqliteLedger

    where = (base or Path()) / path.expanduser()
    return SqliteLedger(
        where, wall, durable="power" if durable == "power" else "process", retention_s=retention_s, tell=tell
    )


def check_address(url: str) -> None:
    """Whether it is the address of a ledger. Raises PolicyError where it is none."""
    if url.startswith(LATER):
        raise PolicyError(f"{url.partition(':')[0]} is no ledger yet", hint=HINT)
    if url != MEMORY:
        file_of(url, DURABLE[0])


def file_of(url: str, durable: str) -> tuple[Path, str]:
    """The file that an address names, and how durable it is to be. Raises PolicyError."""
    address, _, query = url.partition("?")
    file = unquote(address.removeprefix(SQLITE))
    if not address.startswith(SQLITE) or not file or file.endswith("/"):
        raise PolicyError(f"there is no ledger {url!r}", hint=HINT)
    if file == ":memory:":
        raise PolicyError("a ledger in memory is no file", hint="write memory://")
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "durable":
            raise PolicyError(f"a ledger has no option {name!r}", hint="write ?durable=process or ?durable=power")
        durable = value
    if durable not in DURABLE:
        raise PolicyError(f"a ledger cannot be durable {durable!r}", hint="write process or power")
    return Path(file), durable
