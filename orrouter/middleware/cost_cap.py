"""cost_cap: one logical call, with all its tries, costs no more than this.

Law: it attaches the call's own purse and nothing else; the money gate prices, clamps and takes. The purse lives in the
trail, so wherever the layer stands, and however often a call passes it, there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, ClassVar

from pydantic import Field

from orrouter.catalog.ceiling import SHORTEST
from orrouter.core import money
from orrouter.core.call import Call
from orrouter.core.limit import Cap, Purse, WhenShort
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.core.values import made
from orrouter.middleware.base import Middleware, Money, Options, World


class CostCapOptions(Options):
    """Options of `cost_cap`."""

    kind: ClassVar[str] = "cost_cap"
    per_call: Annotated[Money, Field(ge=0)] = money.NANO // 2
    """The most that one call may cost, with its retries and fallbacks."""
    when_short: WhenShort = "clamp"
    """clamp: fewer tokens are asked for, else a cheaper target; cheaper: a cheaper target, and only the last one is
    asked for fewer tokens; refuse: the call is refused."""
    min_tokens: Annotated[int, Field(ge=SHORTEST)] = 64
    """An answer of fewer tokens is not worth asking for; below 16 some providers answer with 16 all the same."""

    def build(self, world: World) -> Middleware:  # noqa: ARG002  # every kind of layer is built from a world
        """The layer at work."""
        return CostCap(self)

    def says(self) -> str:
        """What it does with these options, in words."""
        short = {
            "clamp": f"asks for fewer tokens when short, down to {self.min_tokens}",
            "cheaper": "goes to a cheaper target when short",
            "refuse": "refuses when short",
        }
        return f"spends at most {money.show(self.per_call)} on one call, {short[self.when_short]}"


class CostCap:
    """The layer."""

    def __init__(self, options: CostCapOptions) -> None:
        self.options, self._amount = options, options.per_call
        self._how = options.when_short, options.min_tokens, options.kind

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward `call` with its purse."""
        if call.method == "GET":
            return forward(call)
        purses = call.trail.purses
        cap = purses.get(self)
        if cap is None:
            cap = purses[self] = made(Cap, (Purse(self._amount), *self._how))
        return forward(call.charge(cap))
