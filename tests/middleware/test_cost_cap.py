"""cost_cap: one purse for one logical call, wherever the layer stands."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orrouter.core.call import Call, Target, Trail
from orrouter.middleware.base import World
from orrouter.middleware.cost_cap import CostCapOptions


def passes(layer, trail: Trail, method: str = "POST") -> tuple:
    """The limits that a call bears below the layer."""
    seen = []
    layer(Call(trail=trail, target=Target(), method=method), seen.append)
    return seen[0].limits


def trail() -> Trail:
    return Trail("r", lambda: 0.0)


def test_a_call_bears_its_purse():
    """As large as the policy says, and whole."""
    (cap,) = passes(CostCapOptions(per_call="$0.25", when_short="cheaper", min_tokens=20).build(World()), trail())
    assert (250_000_000, 0, "cheaper", 20) == (cap.purse.amount, cap.purse.charged, cap.when_short, cap.min_tokens)


def test_passing_the_layer_again_finds_the_same_purse():
    """A retry or a fallback above it does not fill it anew."""
    layer, one = CostCapOptions().build(World()), trail()
    assert passes(layer, one) == passes(layer, one)


def test_another_call_has_another_purse():
    """What one call spends is not missing in the next."""
    layer = CostCapOptions().build(World())
    assert passes(layer, trail())[0].purse is not passes(layer, trail())[0].purse


def test_two_layers_are_two_purses():
    """Each keeps its own amount."""
    one = trail()
    caps = [passes(CostCapOptions(per_call=sum_).build(World()), one)[0] for sum_ in ("$1", "$2")]
    assert [10**9, 2 * 10**9] == [cap.purse.amount for cap in caps]


def test_a_question_to_an_upstream_costs_nothing():
    """GET passes untouched."""
    assert () == passes(CostCapOptions().build(World()), trail(), method="GET")


def test_a_sum_without_a_dollar_is_refused():
    """0.5 may be dollars or cents: it has to be written."""
    with pytest.raises(ValidationError, match=r"\$0\.50"):
        CostCapOptions(per_call=0.5)


@pytest.mark.parametrize(
    ("when_short", "said"),
    [("clamp", "fewer tokens when short, down to 64"), ("cheaper", "cheaper target"), ("refuse", "refuses when short")],
)
def test_what_it_says_of_itself(when_short, said):
    """The sum, and what is done when it is short."""
    assert said in CostCapOptions(when_short=when_short).says()
