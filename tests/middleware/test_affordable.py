"""affordable: how many tokens the purses can pay, as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.ceiling import Ceiling
from orrouter.core.errors import CostCapExceeded
from orrouter.core.limit import Cap, Purse
from orrouter.middleware.affordable import Fit, fit

DOLLAR = 10**9


def worst(tokens: int = 1000, fixed: int = 100_000, rate: int = 1000) -> Ceiling:
    """1,000 nano-USD a token out, 100,000 for the prompt."""
    return Ceiling(10, tokens, 1, fixed, rate * 10**9, {}, "")


def cap(amount: int, when_short: str = "clamp", min_tokens: int = 64) -> Cap:
    return Cap(Purse(amount), when_short, min_tokens)


def fitting(caps: list[Cap], *, last: bool = True, of: Ceiling | None = None) -> Fit:
    return fit(of or worst(), caps, last=last, model="m")


def fits(tokens: int, room: int | None = None, of: Ceiling | None = None) -> Fit:
    """So many tokens, at what they cost."""
    return Fit(tokens, (of or worst()).cost(tokens), room)


def test_without_a_purse_nothing_is_cut():
    """A budget never clamps."""
    assert fits(1000) == fitting([])


def test_enough_room_is_enough():
    """The whole answer fits."""
    assert fits(1000) == fitting([cap(1_100_000)])


def test_too_little_room_asks_for_fewer_tokens():
    """What the rest buys: 500,000 less the prompt's 100,000 are 400 tokens."""
    assert fits(400, 500_000) == fitting([cap(500_000)])


def test_while_another_target_could_serve_half_is_taken():
    """A silent provider must not eat the cap of the one that answers."""
    assert fits(450, 1_100_000) == fitting([cap(1_100_000)], last=False)


def test_all_is_taken_where_half_does_not_buy_the_least_answer():
    """Better one that answers than two that cannot."""
    assert fits(130, 230_000) == fitting([cap(230_000)], last=False)


def test_less_than_the_least_answer_is_refused():
    """63 tokens are not worth asking for; the error says what is short of what."""
    with pytest.raises(CostCapExceeded, match=r"cost_cap allows \$0.000163 for this call, and m may cost \$0.000164"):
        fitting([cap(163_000)])


def test_a_short_answer_that_was_asked_for_is_no_cut():
    """Who asks for 10 tokens gets them though the least is 64."""
    assert fits(10, of=worst(tokens=10)) == fitting([cap(110_000)], of=worst(tokens=10))


def test_a_refusal_knows_its_sums():
    """Cap, what remains, what is needed: in nano-USD."""
    with pytest.raises(CostCapExceeded) as caught:
        fitting([cap(100)])
    assert (100, 100, 164_000, "cheaper") == (
        caught.value.cap, caught.value.remaining, caught.value.needed, caught.value.onward,
    )  # fmt: skip


def test_the_tightest_purse_counts():
    """Of several, the one with the least room."""
    assert fits(400, 500_000) == fitting([cap(DOLLAR), cap(500_000), cap(DOLLAR)])


def test_what_was_spent_before_is_missing():
    """A try that may have been billed stays charged, and the error tells of it."""
    short = cap(1_100_000)
    short.purse.take("h1", 1_000_000)
    with pytest.raises(CostCapExceeded, match=r"after \$0.001 for the tries before it"):
        fitting([short])


def test_cheaper_goes_to_a_cheaper_target_first():
    """While there is another target nothing is cut."""
    with pytest.raises(CostCapExceeded) as caught:
        fitting([cap(500_000, "cheaper")], last=False)
    assert "cheaper" == caught.value.onward


def test_cheaper_takes_the_whole_room_where_the_whole_answer_fits():
    """Half is only for answers that are cut."""
    assert fits(1000) == fitting([cap(1_200_000, "cheaper")], last=False)


def test_cheaper_cuts_at_the_last_target():
    """A short answer is better than none."""
    assert fits(400, 500_000) == fitting([cap(500_000, "cheaper")])


def test_refuse_ends_the_call():
    """Nobody else is asked."""
    with pytest.raises(CostCapExceeded) as caught:
        fitting([cap(500_000, "refuse")], last=False)
    assert "never" == caught.value.onward


def test_the_strictest_word_counts():
    """One purse that refuses is enough."""
    with pytest.raises(CostCapExceeded) as caught:
        fitting([cap(500_000), cap(500_000, "refuse"), cap(500_000, "cheaper")])
    assert "never" == caught.value.onward


def test_a_free_model_fits_an_empty_purse():
    """What costs nothing needs no room."""
    assert fits(1000, of=worst(fixed=0, rate=0)) == fitting([cap(0)], of=worst(fixed=0, rate=0))


def test_no_fewer_tokens_than_the_bound_allows():
    """Where thinking needs room, a shorter answer has no worst case."""
    with pytest.raises(CostCapExceeded):
        fitting([cap(500_000)], of=worst()._replace(least=500))
    assert 400 == fitting([cap(500_000)], of=worst()._replace(least=300)).tokens


@given(
    room=st.integers(0, 10**7),
    tokens=st.integers(1, 10_000),
    fixed=st.integers(0, 10**6),
    rate=st.integers(0, 5000),
    last=st.booleans(),
    mode=st.sampled_from(["clamp", "cheaper", "refuse"]),
)
def test_what_fits_is_never_more_than_the_room(room, tokens, fixed, rate, last, mode):
    """Whatever is asked for, its worst case fits in the purse, and is never more than was wanted."""
    ceiling = worst(tokens, fixed, rate)
    try:
        found = fitting([cap(room, mode)], last=last, of=ceiling)
    except CostCapExceeded:
        return
    assert ceiling.cost(found.tokens) <= room
    assert found.tokens <= tokens
