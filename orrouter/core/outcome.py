"""How something ended, in one word.

Law: one pure function over what was raised.
"""

from __future__ import annotations

from orrouter.core.errors import RouterError


def outcome_of(error: BaseException | None) -> str:
    """How something ended: `ok`, the code of an error, `left` when nobody read on, else `cancelled`.

    An error that is none of ours (a layer or a watcher is broken) counts as `router_error`.
    """
    if error is None:
        return "ok"
    if isinstance(error, RouterError):
        return error.code
    if isinstance(error, Exception):
        return RouterError.code
    return "left" if isinstance(error, GeneratorExit) else "cancelled"
