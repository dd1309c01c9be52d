"""The road: a call goes down through the layers, a reply comes up."""

from __future__ import annotations

from typing import Any

import pytest

from orrouter.core.call import Call, Trail
from orrouter.core.pipeline import Pipeline

CALL = Call(trail=Trail("req_1", lambda: 0.0))


class Named:
    """A layer that writes down when it is passed, on both ways."""

    def __init__(self, name: str, road: list[str]) -> None:
        self.name, self.road = name, road

    async def __call__(self, call: Call, forward: Any) -> Any:
        self.road.append(f"{self.name} down")
        try:
            return await forward(call.to(tags={**call.tags, self.name: ""}))
        finally:
            self.road.append(f"{self.name} up")


async def test_a_call_passes_the_layers_in_the_order_of_the_list():
    """Down and, in reverse, up; the transport sees what all of them made of the call."""
    road: list[str] = []

    async def transport(call: Call) -> Any:
        road.append("transport " + " ".join(call.tags))
        return "reply"

    pipeline = Pipeline([Named("a", road), Named("b", road)], transport)
    assert "reply" == await pipeline(CALL)
    assert ["a down", "b down", "transport a b", "b up", "a up"] == road
    assert ({}, ("a", "b")) == (CALL.tags, tuple(layer.name for layer in pipeline.layers))


async def test_a_plain_function_is_a_layer():
    """One that need not wait may hand on what the next one gives."""
    pipeline = Pipeline([lambda call, forward: forward(call.to(last=False))], _tells)
    assert False is await pipeline(CALL)


async def _tells(call: Call) -> Any:
    return call.last


async def test_without_layers_the_transport_answers():
    """The empty list is a road too."""
    assert True is await Pipeline([], _tells)(CALL)


async def test_an_error_comes_up_through_every_layer():
    """As a plain exception."""
    road: list[str] = []

    async def transport(call: Call) -> Any:
        raise KeyError

    with pytest.raises(KeyError):
        await Pipeline([Named("a", road), Named("b", road)], transport)(CALL)
    assert ["a down", "b down", "b up", "a up"] == road


async def test_a_layer_may_ask_again():
    """The road below it is walked anew each time."""
    road: list[str] = []

    async def twice(call: Call, forward: Any) -> Any:
        return await forward(call), await forward(call)

    assert (True, True) == await Pipeline([twice, Named("b", road)], _tells)(CALL)
    assert ["b down", "b up"] * 2 == road
