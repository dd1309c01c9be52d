"""The road: a call goes down through the layers, a reply comes up.

Law: folding and nothing else. A layer is any `async (call, forward) -> Reply`; the list is the order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from orrouter.core.call import Call
from orrouter.core.reply import Reply

Handler = Callable[[Call], Awaitable[Reply]]


class Middleware(Protocol):
    """A layer: acts before `forward`, calls it, watches events, is told of the end."""

    def __call__(self, call: Call, forward: Handler, /) -> Awaitable[Reply]:
        """Answer `call`, as a rule by way of `forward`."""
        ...


class Pipeline:
    """Layers over a transport, folded once; `layers` stays to be shown."""

    __slots__ = ("handler", "layers", "transport")

    def __init__(self, layers: Sequence[Middleware], transport: Handler) -> None:
        self.layers, self.transport = tuple(layers), transport
        handler = transport
        for layer in reversed(self.layers):
            handler = _over(layer, handler)
        self.handler: Handler = handler

    def __call__(self, call: Call) -> Awaitable[Reply]:
        """Send a call down the road."""
        return self.handler(call)


def _over(layer: Middleware, forward: Handler) -> Handler:
    ask = layer.__call__  # Bound once: looking it up costs as much as calling it.
    return lambda call: ask(call, forward)
