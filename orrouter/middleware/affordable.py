"""What a call's purses can pay: how many tokens may be asked for, and the refusal where that is too few.

Law: pure; prices come as a ceiling, purses as caps. Nothing is taken here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orrouter.catalog.ceiling import Ceiling
from orrouter.core import money
from orrouter.core.errors import CostCapExceeded
from orrouter.core.limit import Cap, WhenShort
from orrouter.core.values import made

_STRICTNESS: Final[Sequence[WhenShort]] = ("clamp", "cheaper", "refuse")


class Fit(NamedTuple):
    """So many tokens are asked for, which may cost `cost`; `room` is what the purses had, where it was too little."""

    tokens: int
    cost: int
    room: int | None = None


def fit(ceiling: Ceiling, caps: Sequence[Cap], *, last: bool, model: str) -> Fit:
    """How many tokens the purses can pay. Raises CostCapExceeded.

    While another target could serve, one may take half of what is left, so that a silent provider does not eat the cap
    of the one that answers; all of it where half does not buy the prompt and the least answer.
    """
    wanted, needed = ceiling.tokens, ceiling.cost()
    if caps:
        tightest = caps[0] if len(caps) == 1 else min(caps, key=lambda cap: cap.purse.room)
        purse = tightest.purse
        share = purse.amount - purse.charged
        if not last:
            share //= 2
        if needed > share:
            return _short(ceiling, caps, tightest, share, model, last=last)
    return made(Fit, (wanted, needed, None))


def _short(ceiling: Ceiling, caps: Sequence[Cap], tightest: Cap, share: int, model: str, *, last: bool) -> Fit:
    """What to do where the purses cannot pay what was wanted. Raises CostCapExceeded."""
    wanted, needed, room = ceiling.tokens, ceiling.cost(), tightest.purse.room
    mode = max((cap.when_short for cap in caps), key=_STRICTNESS.index)
    if mode == "refuse" or (mode == "cheaper" and not last):
        if needed <= room:
            return Fit(wanted, needed)
        raise _refused(ceiling, tightest, model, wanted, for_good=mode == "refuse")
    least = min(wanted, max(ceiling.least, *(cap.min_tokens for cap in caps)))
    for part in (share, room):
        tokens = min(ceiling.affordable(part), wanted)
        if tokens >= least:
            return Fit(tokens, ceiling.cost(tokens), None if tokens == wanted else room)
    raise _refused(ceiling, tightest, model, least, for_good=False)


def _refused(ceiling: Ceiling, cap: Cap, model: str, tokens: int, *, for_good: bool) -> CostCapExceeded:
    needed, room = ceiling.cost(tokens), max(cap.purse.room, 0)
    spent = cap.purse.charged
    gone = f" after {money.show(spent)} for the tries before it" if spent else ""
    answer = f" with an answer of {tokens} tokens" if tokens else ""
    who = model or "this request"
    error = CostCapExceeded(
        f"{cap.named} allows {money.show(cap.purse.amount)} for this call{gone}, and {who} may cost "
        f"{money.show(needed)}{answer}: raise it, shorten the prompt or name a cheaper model"
    )
    error.cap, error.remaining, error.needed = cap.purse.amount, room, needed
    if for_good:
        error.onward = "never"
    return error
