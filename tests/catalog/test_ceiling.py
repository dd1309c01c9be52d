"""The worst case of a request: tables, the proof that no usage costs more, and every model of the snapshot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.ceiling import ENDLESS, Bounds, Ceiling, Unbounded, ceiling
from orrouter.catalog.model import Model
from orrouter.catalog.price import Price

CHAT = "chat/completions"
PLAIN = Price.read({"prompt": "0.000002", "completion": "0.000008"})
MODEL = Model("a/plain", PLAIN, context_length=100_000, max_completion_tokens=8_000)
FREE = Model("a/plain:free", Price.read({"prompt": "0", "completion": "0"}), context_length=100_000)
TIERED = {
    "prompt": "0.00000125",
    "completion": "0.00001",
    "input_cache_read": "0.000000125",
    "input_cache_write": "0.0000015",
    "internal_reasoning": "0.000012",
    "overrides": [
        {"min_prompt_tokens": 2000, "prompt": "0.0000025", "completion": "0.000015"},
        {"utc_start": 800, "utc_end": 2000, "completion": "0.00002"},
    ],
}
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
AROUND = 1024 + 16
"""Tokens held for the template and for one message."""


def worst(body=HELLO, model=MODEL, *, endpoint=CHAT, dialect="openrouter", capped=None, slug="", also=None, **options):
    body = body if capped is None else {**body, "provider": {"max_price": capped}}
    return ceiling(
        body, endpoint, model, dialect=dialect, bounds=Bounds(**options), slug=slug,
        also=also or {},
    )  # fmt: skip


# --- tables ---------------------------------------------------------------------------------------------


def test_a_short_chat():
    """Bytes, a template and a message at the listed rates and a quarter more; the same rates are sent."""
    expected = Ceiling(
        input_tokens=AROUND + 5,
        tokens=500,
        choices=1,
        fixed=(AROUND + 5) * 2_500,
        atto=10**13,
        max_price={"prompt": 2.5, "completion": 10.0, "request": 1e-9},
        estimate="",
    )
    assert expected == worst({**HELLO, "max_tokens": 500})


@pytest.mark.parametrize(
    ("tokens", "cost"), [(0, 2_612_500), (1, 2_622_500), (500, 7_612_500), (None, 7_612_500)]
)  # fmt: skip
def test_the_cost_is_what_is_fixed_and_the_tokens(tokens, cost):
    """Each token asked for adds its rate; without a number it is those of the request."""
    assert cost == worst({**HELLO, "max_tokens": 500}).cost(tokens)


def test_a_part_of_a_nano_is_a_whole_one():
    """What is owed is rounded up, once for the prompt and once for the answer."""
    odd = Ceiling(1, 3, 1, 10, 100_000_000, None, "")
    assert [10, 11, 11, 11, 12] == [odd.cost(tokens) for tokens in (0, 1, 3, 10, 11)]


@pytest.mark.parametrize(
    ("model", "bounds", "tokens"),
    [
        (MODEL, {}, 4096),
        (MODEL, {"max_tokens": 9_000}, 8_000),
        (replace(MODEL, max_completion_tokens=None), {"max_tokens": 9_000}, 9_000),
        (replace(MODEL, context_length=4096), {}, 2048),
    ],
)
def test_a_length_is_put_in_where_none_is_named(model, bounds, tokens):
    """The policy's length, lowered to what the model can write and leaves room for a prompt."""
    assert tokens == worst(model=model, **bounds).tokens


def test_a_length_that_is_named_stands():
    """The caller's length is the bound even where it is beyond the model: what is sent is what is held."""
    assert 9_999 == worst({**HELLO, "max_completion_tokens": 9_999}).tokens


def test_the_shortest_answer_is_held():
    """Providers answer a tiny length as if it were sixteen, so that is held, though the length stands."""
    tiny = worst({**HELLO, "max_tokens": 1})
    assert (1, worst({**HELLO, "max_tokens": 16}).cost()) == (tiny.tokens, tiny.cost())


def test_several_choices_multiply_everything():
    """A provider without `n` is asked several times, prompt and all."""
    one, three = worst({**HELLO, "max_tokens": 100}), worst({**HELLO, "max_tokens": 100, "n": 3})
    assert (3, 3 * one.cost()) == (three.choices, three.cost())


def test_a_free_model_is_held_at_nothing():
    """Nothing is held, and the cap that is sent is above 0, because the upstream compares strictly."""
    free = worst(model=FREE)
    assert (0, {"prompt": 1e-9, "completion": 1e-9, "request": 1e-9}) == (free.cost(), free.max_price)
    assert ENDLESS == free.affordable(0)


def test_an_embedding_has_no_output():
    """Texts and token lists are read, and nothing is written."""
    model = Model("a/embedder", Price.read({"prompt": "0.00000002"}))
    bound = worst({"input": ["hello", [1, 2, 3]]}, model, endpoint="embeddings")
    assert (40, 0, Decimal(0), 1_000) == (bound.input_tokens, bound.tokens, bound.rate, bound.cost())
    assert {"prompt": 0.025, "request": 1e-9} == bound.max_price


def test_prompts_side_by_side_are_each_answered():
    """A completion of two prompts has two answers, and twice as many for two choices."""
    bound = worst({"prompt": ["one", "two"], "n": 2, "max_tokens": 10}, endpoint="completions")
    assert (4, 38) == (bound.choices, bound.input_tokens)


def test_another_dialect_gets_no_cap_and_no_proof():
    """An OpenAI-compatible upstream takes no price cap, so a caller's cap lowers nothing and the bound is a guess."""
    bound = worst(dialect="openai", capped={"prompt": 0.1, "completion": 0.1})
    assert (None, "openai dialect: no price cap can be sent") == (bound.max_price, bound.estimate)
    assert worst().cost() == bound.cost()


def test_nobody_knows_what_another_endpoint_bills():
    """An endpoint that is not priced by tokens here is refused, with the option that holds a sum for it."""
    with pytest.raises(Unbounded, match="rerank") as refused:
        worst(endpoint="rerank")
    assert "unknown_price" == refused.value.option


# --- several models -------------------------------------------------------------------------------------


def test_of_several_models_the_dearest_is_held():
    """A list that the server chooses from is held at the dearest of each rate, and capped there."""
    dear = Model("b/dear", Price.read({"prompt": "0.000001", "completion": "0.00004"}), max_completion_tokens=1_000)
    bound = worst(also={"b/dear": dear})
    assert (Decimal("0.00005"), 1_000) == (bound.rate, bound.tokens)
    assert {"prompt": 2.5, "completion": 50.0, "request": 1e-9} == bound.max_price
    swapped = worst(model=dear, also={"a/plain": MODEL})
    assert (bound.rate, bound.fixed, bound.max_price) == (swapped.rate, swapped.fixed, swapped.max_price)


def test_of_several_models_each_needs_a_price():
    """One model of a list without a price makes the whole list unbounded."""
    with pytest.raises(Unbounded, match="prompt price of b/new"):
        worst(also={"b/new": None})


# --- regression: long context and priority under-priced ---------------------------------------------------


def test_a_long_prompt_is_held_at_its_dearer_tier():
    """A model that costs more above some length or at some hour is held at the dearest of all of them."""
    model = Model("g/tiered", Price.read(TIERED))
    bound = worst({"messages": [{"role": "user", "content": "x" * 3_000}], "max_tokens": 1_000}, model)
    usage = {"prompt_tokens": 3_000, "completion_tokens": 1_000}
    assert 27_500_000 == model.price.cost(usage, datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert 27_500_000 <= bound.cost()
    assert {"prompt": 3.125, "completion": 25.0, "request": 1e-9} == bound.max_price


def test_a_tier_that_a_prompt_cannot_reach_is_not_held():
    """A short prompt is held at the short prompt's price, and no dearer endpoint is let through."""
    model = Model("g/tiered", Price.read({**TIERED, "overrides": TIERED["overrides"][:1]}))
    short, long = (worst({"messages": [{"role": "user", "content": "x" * size}]}, model) for size in (100, 3_000))
    assert {"prompt": 1.5625, "completion": 12.5, "request": 1e-9} == short.max_price
    assert {"prompt": 3.125, "completion": 18.75, "request": 1e-9} == long.max_price
    assert short.atto < long.atto


def test_a_tier_is_reachable_to_the_token():
    """The entry holds above its value: a prompt of exactly so many tokens does not reach it."""
    model = Model("g/tiered", Price.read({**TIERED, "overrides": TIERED["overrides"][:1]}))
    at, above = (
        worst({"messages": [{"role": "user", "content": "x" * (2_000 - AROUND + more)}]}, model) for more in (0, 1)
    )
    assert (2_000, 2_001) == (at.input_tokens, above.input_tokens)
    assert at.atto < above.atto


@pytest.mark.parametrize("tier", ["priority", "fast", "scale", "ultrafast", 7, ["priority"]])
def test_a_dearer_service_tier_is_refused(tier):
    """A tier beyond the listed price has no bound; the error names the option that admits it."""
    with pytest.raises(Unbounded, match="service tier") as refused:
        worst({**HELLO, "service_tier": tier})
    assert "admit: [service_tier]" == refused.value.option
    assert (
        "service_tier is admitted" == worst({**HELLO, "service_tier": tier}, admit=frozenset({"service_tier"})).estimate
    )


def test_the_priority_suffix_is_a_dearer_tier():
    """`:nitro` lets dearer endpoints serve, so it is admitted as their tier is."""
    with pytest.raises(Unbounded, match="a/plain:nitro may cost more"):
        worst(slug="a/plain:nitro")


# --- the proof ------------------------------------------------------------------------------------------

RATE = st.integers(0, 10**7).map(lambda n: str(Decimal(n).scaleb(-11)))
PRICE = st.fixed_dictionaries(
    {"prompt": RATE, "completion": RATE},
    optional={
        "request": RATE, "input_cache_read": RATE, "input_cache_write": RATE, "input_cache_write_1h": RATE,
        "internal_reasoning": RATE, "discount": st.sampled_from(["0", "0.25"]),
        "overrides": st.lists(
            st.fixed_dictionaries(
                {"prompt": RATE, "completion": RATE},
                optional={"min_prompt_tokens": st.integers(0, 3000), "utc_start": st.just(800), "request": RATE},
            ),
            max_size=3,
        ),
    },
).map(Price.read)  # fmt: skip


def share(draw, whole):
    part = draw(st.integers(0, whole))
    return part, whole - part


@given(st.data(), PRICE, st.text(max_size=40), st.integers(1, 3000), st.integers(1, 3))
def test_no_usage_within_the_bounds_costs_more(data, price, text, tokens, n):
    """However the tokens are cached, written and thought, the bill is no higher than the ceiling."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "n": n}
    bound = worst(body, Model("m", price))
    prompt = data.draw(st.integers(0, bound.input_tokens))
    cached, rest = share(data.draw, prompt)
    written, _ = share(data.draw, rest)
    completion = data.draw(st.integers(0, max(tokens, 16) * n))
    reasoning, _ = share(data.draw, completion)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    cost = price.cost(usage, data.draw(st.sampled_from([None, datetime(2026, 11, 23, 12, tzinfo=UTC)])))
    assert cost is None or cost <= bound.cost()


@given(PRICE, st.integers(0, 10**12), st.integers(1, 5000), st.integers(1, 3))
def test_what_is_affordable_is_exact(price, room, tokens, n):
    """So many tokens fit and one more does not; below 0 not even none do."""
    bound = worst({**HELLO, "max_tokens": tokens, "n": n}, Model("m", price))
    most = bound.affordable(room)
    if most == ENDLESS:
        assert bound.cost(1 << 30) == bound.fixed <= room
    elif most < 0:
        assert bound.fixed > room
    else:
        assert bound.cost(most) <= room < bound.cost(most + 1)


@given(PRICE, st.lists(st.text(max_size=20), min_size=1, max_size=4), st.text(max_size=9), st.integers(1, 999))
def test_more_is_never_cheaper(price, texts, more, tokens):
    """A longer text, another message, a longer answer and another choice: none lowers the ceiling."""

    def cost(words, length, n=None):
        body = {"messages": [{"role": "user", "content": word} for word in words], "max_tokens": length}
        return worst(body if n is None else {**body, "n": n}, Model("m", price)).cost()

    base = cost(texts, tokens)
    for dearer in (
        cost([texts[0] + more, *texts[1:]], tokens),
        cost([*texts, more], tokens),
        cost(texts, tokens + 1),
        cost(texts, tokens, 2),
    ):
        assert base <= dearer


@given(PRICE, st.lists(st.text(max_size=20), max_size=4), st.none() | st.integers(1, 999))
def test_the_short_way_leads_to_the_same_place(price, texts, tokens):
    """A plain chat is bounded by a kept line; a field that changes nothing takes it the long way, to the same."""
    body = {"messages": [{"role": "user", "content": text} for text in texts], "max_tokens": tokens}
    assert worst(body, Model("m", price)) == worst({**body, "n": 1}, Model("m", price))


def test_a_kept_line_is_nobody_elses():
    """Another model, bounds, name or dialect do not find the line of the first, and its cap is a copy."""
    bounds, dear = Bounds(), Model("a/plain", Price.read({"prompt": "0.000004", "completion": "0"}))

    def cap(model=MODEL, bounds=bounds, dialect="openrouter"):
        bound = ceiling(HELLO, CHAT, model, dialect=dialect, bounds=bounds)
        return bound.max_price and bound.max_price.pop("prompt")

    assert [2.5, 2.5, 5.0, 2.0, None, 2.5] == [
        cap(), cap(), cap(dear), cap(bounds=Bounds(headroom=Decimal(1))), cap(dialect="openai"), cap(),
    ]  # fmt: skip


# --- the snapshot ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", Catalog().models(), ids=lambda model: model.id)
def test_every_model_has_a_worst_case_or_a_reason(model):
    """Each model of the bundled list is bounded above its own bill, or refused with an option that helps."""
    try:
        bound = worst(model=model)
    except Unbounded as refused:
        assert refused.option.partition(":")[0] in ("unknown_price", "admit", "fees")
        assert refused.option in str(refused) or refused.option == "unknown_price"
        return
    usage = {"prompt_tokens": bound.input_tokens, "completion_tokens": bound.tokens}
    assert model.price.cost(usage) <= bound.cost()
    assert ("" if model.price.completion else 0) == ("" if bound.rate else 0)


# --- thinking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"reasoning": {"effort": "high"}}, 100 + 1024),
        ({"reasoning_effort": "low"}, 100 + 1024),
        ({"reasoning": {"max_tokens": 5000}}, 100 + 5000),
        ({"reasoning": {"effort": "none"}}, 100),
        ({"reasoning": {"enabled": False}}, 100),
        ({"reasoning_effort": "none"}, 100),
    ],
)
def test_thinking_that_has_no_room_may_come_on_top(asked, given):
    """An upstream may raise `max_tokens` to what it thinks at least: that is held too."""
    plain = worst({**HELLO, "max_tokens": given})
    assert plain.cost() == worst({**HELLO, "max_tokens": 100, **asked}).cost()


def test_thinking_within_the_length_costs_no_more():
    """Where there is room for it, it is part of the answer."""
    long = {**HELLO, "max_tokens": 6000}
    assert worst(long).cost() == worst({**long, "reasoning": {"max_tokens": 5000}}).cost()


def test_a_thinking_answer_is_not_cut_below_its_thoughts():
    """A cap asks for no fewer tokens than leave room for them."""
    assert (16, 1025, 5001) == tuple(
        worst({**HELLO, **more}).least
        for more in ({}, {"reasoning_effort": "low"}, {"reasoning": {"max_tokens": 5000}})
    )
