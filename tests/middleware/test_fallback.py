"""fallback: who is asked next, why somebody is skipped, and what is raised when nobody could."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.core.call import PROBE, Target
from orrouter.core.errors import (
    AuthFailed,
    BudgetExceeded,
    CapReached,
    CircuitOpen,
    ConnectionFailed,
    ContextOverflow,
    CoolingDown,
    CostCapExceeded,
    CreditsExhausted,
    DeadlineExceeded,
    EmptyReply,
    InvalidRequest,
    KeyLimitReached,
    LedgerUnavailable,
    LimitReached,
    MissingTag,
    ModelNotAllowed,
    ModelNotFound,
    Moderated,
    NoRoute,
    Overloaded,
    RateLimited,
    Refused,
    RouterError,
    ServerError,
    StreamBroken,
    Transient,
    UpstreamError,
    UpstreamTimeout,
)
from orrouter.core.facts import FallbackTaken, TargetSkipped
from orrouter.middleware.base import Options
from orrouter.middleware.fallback import (
    FallbackOptions,
    Link,
    barred,
    chain_for,
    last_place,
    links_of,
    obstacle,
    verdict_for,
    verdict_of,
)
from orrouter.middleware.provider import ProviderOptions
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import EOF, SENT, Finish

AB = FallbackOptions(models=("a", "b"))
ABC = FallbackOptions(models=("a", "b", "c"))
DOWN = ServerError("down")


def model(
    slug: str, context: int | None = None, price: str | None = None, *parameters: str, inputs: tuple = ("text",)
) -> Model:
    row = {"id": slug, "context_length": context, "architecture": {"input_modalities": list(inputs)}}
    if price is not None:
        row["pricing"] = {"prompt": price, "completion": price}
    if parameters:
        row["supported_parameters"] = list(parameters)
    return Model.read(row)


def link(slug: str, *when: str) -> Link:
    return Link(Target("openrouter", slug, "main"), when or None)


def skips(run) -> list[tuple[str, str]]:
    return [(fact.model, fact.reason) for fact in run.facts(TargetSkipped)]


# --- which errors lead on: the verdict ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "onward"),
    [
        *((kind("x"), "always") for kind in (RateLimited, Overloaded, UpstreamTimeout, ConnectionFailed, ServerError)),
        *((kind("x"), "always") for kind in (EmptyReply, StreamBroken, Transient, ModelNotFound, NoRoute)),
        *((kind("x"), "always") for kind in (CircuitOpen, CoolingDown, LimitReached, UpstreamError)),
        *((kind("x"), "never") for kind in (InvalidRequest, Moderated, ModelNotAllowed, MissingTag, LedgerUnavailable)),
        *((kind("x"), "never") for kind in (DeadlineExceeded, CapReached)),
        *((kind("x"), "other_key") for kind in (AuthFailed, CreditsExhausted, KeyLimitReached)),
        *((kind("x"), "cheaper") for kind in (BudgetExceeded, CostCapExceeded)),
        (ContextOverflow("x"), "larger_context"),
    ],
)  # fmt: skip
def test_where_an_error_leads_by_itself(error, onward):
    """Without a `when` each kind has its verdict."""
    assert onward == verdict_of(error, None)


@pytest.mark.parametrize(
    ("error", "when", "onward"),
    [
        (RateLimited("x"), ["transient"], "always"),
        (NoRoute("x"), ["transient"], "never"),
        (ContextOverflow("x"), ["transient"], "never"),
        (ContextOverflow("x"), ["rejected"], "larger_context"),
        (InvalidRequest("x"), ["rejected"], "never"),
        (Moderated("x"), ["upstream_error"], "never"),
        (ServerError("x"), ["rate_limited"], "never"),
    ],
)
def test_a_branch_narrows(error, when, onward):
    """Errors outside of it end the chain; those inside keep their own verdict, also that of ending it."""
    assert onward == verdict_of(error, when)


@pytest.mark.parametrize(
    ("error", "when", "onward"),
    [
        (Moderated("x"), ["transient", "moderated"], "always"),
        (InvalidRequest("x"), ["invalid_request"], "always"),
        (ContextOverflow("x"), ["context_overflow"], "larger_context"),
        (AuthFailed("x"), ["auth_failed"], "other_key"),
        (Transient("x"), ["transient"], "always"),
    ],
)
def test_a_leaf_forces(error, when, onward):
    """Written out it leads on where it would have ended the chain, and still only where that can help."""
    assert onward == verdict_of(error, when)


@pytest.mark.parametrize("error", [CircuitOpen("x"), CoolingDown("x"), LimitReached("x")])
def test_a_refusal_needs_no_when(error):
    """`when` is about errors of upstreams; what we refuse ourselves always moves on."""
    assert "always" == verdict_for(error, ["context_overflow"], link("b", "moderated"))


@pytest.mark.parametrize(
    ("error", "chain", "own", "onward"),
    [
        (ServerError("x"), None, ["transient"], "always"),
        (NoRoute("x"), None, ["transient"], "never"),
        (Moderated("x"), None, ["moderated"], "always"),
        (Moderated("x"), ["transient"], ["moderated"], "always"),
        (Moderated("x"), None, ["rejected"], "never"),
        (ServerError("x"), ["rate_limited"], ["transient"], "never"),
        (Transient("x"), ["rate_limited"], ["transient"], "never"),
        (ContextOverflow("x"), ["transient"], ["context_overflow"], "larger_context"),
    ],
)
def test_a_targets_own_when(error, chain, own, onward):
    """It narrows what the chain admits, and a leaf in it forces for this target."""
    assert onward == verdict_for(error, chain, link("b", *own))


@pytest.mark.parametrize(
    ("error", "chain", "own", "told"),
    [
        (DOWN, None, (), ""),
        (InvalidRequest("x"), None, (), None),
        (InvalidRequest("x"), None, ("transient",), None),
        (NoRoute("x"), None, ("transient",), "it is not for no_route"),
        (Moderated("x"), None, ("moderated",), ""),
    ],
)
def test_why_an_error_leads_nowhere(error, chain, own, told):
    """A reason where only this target is closed, None where the chain ends, nothing where it goes on."""
    assert told == obstacle(error, chain, Target(model="a", key="k"), link("b", *own), Catalog(()))


@pytest.mark.parametrize(("other", "told"), [("main", "it uses the same key"), ("second", "")])
def test_a_bad_key_leads_to_another_key(other, told):
    """The same key at the same upstream would fail again."""
    assert told == barred("other_key", Target(model="a", key="main"), Target(model="b", key=other), Catalog(()))


def test_the_same_key_at_another_upstream_is_another_key():
    """Whether it is good there is not known."""
    failed, candidate = Target("one", "a", "main"), Target("two", "b", "main")
    assert "" == barred("other_key", failed, candidate, Catalog(()))


@pytest.mark.parametrize(
    ("sizes", "told"),
    [((8000, 16000), ""), ((8000, 8000), "its context is no larger"), ((8000, 4000), "its context is no larger")]
    + [((None, 4000), ""), ((8000, None), "")],
)
def test_an_overflow_leads_to_a_larger_window_only(sizes, told):
    """What is unknown may be larger."""
    known = Catalog([model("a", sizes[0]), model("b", sizes[1])])
    assert told == barred("larger_context", Target(model="a"), Target(model="b"), known)


@pytest.mark.parametrize(
    ("prices", "told"), [(("2", "1"), ""), (("1", "1"), "it is no cheaper"), (("1", "2"), "it is no cheaper")]
)
def test_a_cost_refusal_leads_to_a_cheaper_target_only(prices, told):
    """A dearer one would be refused again."""
    known = Catalog([model("a", price=prices[0]), model("b", price=prices[1])])
    assert told == barred("cheaper", Target(model="a"), Target(model="b"), known)


# --- the chain ----------------------------------------------------------------------------------------


def test_without_a_named_model_the_chain_is_the_policys():
    """As written."""
    links = (link("a"), link("b"))
    assert links is chain_for((), links, Target(), is_open=False)


@settings(deadline=None)
@given(named=st.lists(st.sampled_from("abcd"), max_size=6))
def test_named_models_go_first_and_nobody_is_lost_or_doubled(named):
    """In the order named, then the others in theirs."""
    links = tuple(link(slug) for slug in "abcd")
    asked = [one.target.model for one in chain_for(named, links, Target(), is_open=False)]
    first = list(dict.fromkeys(named))
    assert [*first, *(slug for slug in "abcd" if slug not in first)] == asked


def test_a_named_model_needs_no_error_before_it():
    """Its `when` is about being a fallback, and it is none now; the others keep theirs."""
    links = (link("a"), link("b", "moderated"), link("c", "no_route"))
    assert [None, None, ("no_route",)] == [one.when for one in chain_for(("b",), links, Target(), is_open=False)]


def test_a_model_of_two_upstreams_brings_both():
    """Named once, asked at each."""
    links = (link("a"), Link(Target("one", "b", "k")), Link(Target("two", "b", "k")))
    asked = [(one.target.upstream, one.target.model) for one in chain_for(("b",), links, Target(), is_open=False)]
    assert [("one", "b"), ("two", "b"), ("openrouter", "a")] == asked


def test_an_unlisted_model_is_refused():
    """The message lists what may be named."""
    with pytest.raises(ModelNotAllowed, match=r"z is not in the policy's chain \(a, b\)"):
        chain_for(("z",), (link("a"), link("b")), Target(), is_open=False)


def test_an_open_chain_takes_any_model():
    """At the first upstream, and the chain stands behind it."""
    asked = chain_for(("z",), (link("a"),), Target("openrouter", "", "main"), is_open=True)
    assert [("openrouter", "z", "main"), ("openrouter", "a", "main")] == [
        (one.target.upstream, one.target.model, one.target.key) for one in asked
    ]


@pytest.mark.parametrize(
    ("links", "when", "place"),
    [
        ([link("a"), link("b"), link("c")], None, 2),
        ([link("a"), link("b", "context_overflow")], None, 0),
        ([link("a"), link("b", "rate_limited"), link("c", "moderated")], None, 1),
        ([link("a"), link("b", "upstream_error")], None, 1),
        ([link("a"), link("b")], ["context_overflow"], 0),
        ([link("a"), link("b")], ["transient", "moderated"], 1),
    ],
)
def test_who_is_the_last_that_could_take_over(links, when, place):
    """A target for other errors only is nobody who could serve while this one is down."""
    assert place == last_place(links, when)


def test_an_unknown_upstream_is_refused_when_built(road):
    """The message says which there are."""
    with pytest.raises(ValueError, match=r"a names the upstream 'nowhere'; known are openrouter, spare"):
        road({}, FallbackOptions(models=({"model": "a", "upstream": "nowhere"},)))


def test_a_link_bears_its_upstream_and_preferences(road):
    """Key, dialect and provider preferences of each target."""
    world = road({}).world
    (one, other) = links_of(
        FallbackOptions(models=({"model": "a", "provider": {"sort": "price"}}, {"model": "b", "upstream": "spare"})),
        world,
    )
    assert (("main", {"sort": "price"}), ("other", "openai")) == (
        (one.target.key, one.target.provider),
        (other.target.key, other.target.dialect),
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"models": ["a", "a"]}, "the chain names a twice"),
        (
            {"models": [{"model": "a", "upstream": "x"}, {"model": "a", "upstream": "x"}]},
            "the chain names a at x twice",
        ),
        ({"models": ["a"], "when": ["overload"]}, "'overload' is no error of an upstream"),
        ({"models": ["a"], "when": ["circuit_open"]}, "'circuit_open' is no error of an upstream"),
        ({"models": [{"model": "a", "when": ["nope"]}]}, "'nope' is no error of an upstream"),
        ({"models": []}, "at least 1 item"),
        ({"models": ["a"], "midstream": "continue"}, "'continue' does not exist yet"),
        ({"models": ["a"], "hold": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_chain_is_refused(options, told):
    """With a sentence that says what is wrong."""
    with pytest.raises(ValidationError, match=told):
        FallbackOptions(**options)


def test_one_model_may_stand_at_two_upstreams():
    """They are two targets."""
    assert 2 == len(FallbackOptions(models=("a", {"model": "a", "upstream": "x"})).targets())


# --- the layer ----------------------------------------------------------------------------------------


@virtual
async def test_the_next_target_serves(road):
    """At once, and the record says who failed, of what, and who took over."""
    run = road({"a": DOWN, "b": "served"}, AB)
    done = await run.chat()
    (taken,) = run.facts(FallbackTaken)
    assert ("served", "b", [0.0, 0.0], ("a", "server_error", "b")) == (
        done.text,
        done.model,
        run.times,
        (taken.failed, taken.error, taken.model),
    )


@virtual
async def test_a_failure_that_was_overcome_leaves_nothing_to_the_garbage_collector(road):
    """An error knows the frames of its try, and these know the error: that ring is opened."""
    run = road({"a": DOWN, "b": "served"}, AB)
    done = await run.chat()
    assert [None, None] == [getattr(attempt.error, "__traceback__", None) for attempt in done._trail.attempts]
    assert [True, False] == [isinstance(attempt.error, ServerError) for attempt in done._trail.attempts]


@virtual
async def test_whoever_serves_ends_the_chain(road):
    """Nobody else is asked."""
    run = road({"a": "served", "b": "never"}, AB)
    await run.chat()
    assert ["a"] == run.far.models


@virtual
async def test_the_first_error_is_raised(road):
    """With every try attached."""
    run = road({"a": DOWN, "b": RateLimited("slow"), "c": NoRoute("nobody")}, ABC)
    error = await run.fails()
    assert (ServerError, ["server_error", "rate_limited", "no_route"], "server_error") == (
        type(error),
        [one.outcome for one in error.attempts],
        error.record.outcome,
    )


@virtual
async def test_a_fallbacks_400_never_masks_the_failure(road):
    """B calls the request wrong, which ends the chain; what a said is what is raised."""
    run = road({"a": DOWN, "b": InvalidRequest("no prefill"), "c": "never"}, ABC)
    error = await run.fails()
    assert ("down", ["a", "b"]) == (error.message, run.far.models)


@pytest.mark.parametrize("error", [InvalidRequest("x"), Moderated("x")])
def test_a_callers_own_fault_ends_the_chain(road, error):
    """Exactly one call is made, and no other target is said to be skipped."""

    @virtual
    async def story():
        run = road({"a": error, "b": "never"}, AB)
        raised = await run.fails()
        return type(raised), run.far.models, skips(run)

    assert (type(error), ["a"], []) == story()


@virtual
async def test_a_refusal_of_content_is_routed_around_when_the_policy_says_so(road):
    """`when: [transient, moderated]`."""
    run = road(
        {"a": Moderated("x"), "b": "served"}, FallbackOptions(models=("a", "b"), when=("transient", "moderated"))
    )
    assert "served" == (await run.chat()).text


@virtual
async def test_one_target_may_be_there_for_refused_content(road):
    """The chain ends for b, and c is written for it."""
    chain = FallbackOptions(models=("a", "b", {"model": "c", "when": ("moderated",)}))
    run = road({"a": Moderated("x"), "b": "never", "c": "served"}, chain)
    done = await run.chat()
    assert ("served", ["a", "c"]) == (done.text, run.far.models)


@virtual
async def test_a_target_for_other_errors_is_skipped(road):
    """With its reason."""
    chain = FallbackOptions(models=("a", {"model": "b", "when": ("context_overflow",)}, "c"))
    run = road({"a": DOWN, "b": "never", "c": "served"}, chain)
    await run.chat()
    assert (["a", "c"], [("b", "it is not for server_error")]) == (run.far.models, skips(run))


@virtual
async def test_an_overflow_skips_smaller_windows(road):
    """16k does not help against 32k; 128k does."""
    known = (model("a", 32_000), model("b", 16_000), model("c", 128_000))
    run = road({"a": ContextOverflow("long"), "b": "never", "c": "served"}, ABC, models=known)
    await run.chat()
    assert (["a", "c"], [("b", "its context is no larger")]) == (run.far.models, skips(run))


@virtual
async def test_a_bad_key_goes_to_another_upstream(road):
    """B bears the same key and is not asked."""
    chain = FallbackOptions(models=("a", "b", {"model": "c", "upstream": "spare"}))
    run = road({"a": AuthFailed("no"), "b": "never", "c": "served"}, chain)
    await run.chat()
    assert (["a", "c"], [("b", "it uses the same key")]) == (run.far.models, skips(run))


@virtual
async def test_a_target_without_a_key_is_skipped(road):
    """Nothing is sent there."""
    upstreams = (Target("openrouter", key="main"), Target("spare", dialect="openai"))
    chain = FallbackOptions(models=({"model": "a", "upstream": "spare"}, "b"))
    run = road({"a": "never", "b": "served"}, chain, upstreams=upstreams)
    await run.chat()
    assert (["b"], [("a", "upstream spare has no key")]) == (run.far.models, skips(run))


@virtual
async def test_a_target_that_lacks_an_ability_is_skipped(road):
    """Tools, images and length, each with its reason; what is unknown is asked."""
    known = (model("a", None, None, "temperature"), model("b", 1000), model("c", None, None, "tools"))
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 9000}, {"type": "image_url"}]}],
        "tools": [{"type": "function"}],
    }
    run = road({"d": "served"}, FallbackOptions(models=("a", "b", "c", "d")), models=known)
    await run.chat(body=body)
    reasons = [
        ("a", "takes no tools"),
        ("b", "the prompt does not fit a context of 1000 tokens"),
        ("c", "takes no image"),
    ]
    assert (["d"], reasons) == (run.far.models, skips(run))


@virtual
async def test_nobody_who_could_serve_is_an_error_that_says_why(road):
    """Nothing is sent."""
    run = road({}, AB, models=(model("a", None, None, "x"), model("b", None, None, "x")))
    error = await run.fails(body={"tools": [{"type": "function"}]})
    assert ("no target of the chain can serve this request: a: takes no tools; b: takes no tools", []) == (
        error.message,
        run.far.models,
    )


@virtual
async def test_whoever_is_left_is_the_last(road):
    """Skipped targets do not count as others who could serve."""
    upstreams = (Target("openrouter", key="main"), Target("spare", dialect="openai"))
    run = road({"a": "served"}, FallbackOptions(models=("a", {"model": "b", "upstream": "spare"})), upstreams=upstreams)
    await run.chat()
    assert [True] == [played.call.last for played in run.far.tries]


@virtual
async def test_only_the_last_target_is_told_so(road):
    """`last` tells the layers below how patient to be."""
    run = road({"a": DOWN, "b": DOWN, "c": "served"}, ABC)
    await run.chat()
    assert [False, False, True] == [played.call.last for played in run.far.tries]


@virtual
async def test_a_target_for_other_errors_does_not_make_one_before_it_impatient(road):
    """Overloaded is retried once where nobody could take over."""
    chain = FallbackOptions(models=("a", {"model": "b", "when": ("context_overflow",)}))
    run = road({"a": [Overloaded("busy"), "served"], "b": "never"}, chain, RetryOptions())
    assert "served" == (await run.chat()).text


@virtual
async def test_the_callers_model_goes_first(road):
    """Then the chain, without it."""
    run = road({"a": "served", "b": DOWN, "c": "never"}, ABC)
    done = await run.chat(models=("b",))
    assert ("a", ["b", "a"], [(), ()]) == (done.model, run.far.models, [played.call.models for played in run.far.tries])


@virtual
async def test_a_model_outside_of_the_chain_is_refused(road):
    """Nothing is sent."""
    run = road({}, AB)
    error = await run.fails(models=("z",))
    assert (ModelNotAllowed, []) == (type(error), run.far.models)


@virtual
async def test_an_open_chain_asks_any_model(road):
    """And falls back into the chain."""
    run = road({"z": DOWN, "a": "served"}, FallbackOptions(models=("a", "b"), open=True))
    await run.chat(models=("z",))
    assert ["z", "a"] == run.far.models


@virtual
async def test_a_question_about_the_upstream_is_no_question_to_a_model(road):
    """A GET passes untouched, whatever its target."""
    run = road({"x": {"data": []}, "a": "never"}, AB, ProviderOptions(sort="price"))
    await run.chat("x", method="GET", endpoint="models")
    played = run.far.tries[0].call
    assert (["x"], 1, False) == (run.far.models, len(run.far.tries), "provider" in played.body)


@virtual
async def test_a_targets_own_preferences_are_sent(road):
    """Also where no `provider` layer stands in the policy, met with what the caller wants."""
    chain = FallbackOptions(models=({"model": "a", "provider": {"only": ("x", "y"), "sort": "price"}}, "b"))
    run = road({"a": DOWN, "b": "served"}, chain)
    await run.chat(body={"provider": {"only": ["y", "z"]}})
    assert [{"only": ["y"], "sort": "price"}, {"only": ["y", "z"]}] == [
        played.call.body.get("provider") for played in run.far.tries
    ]


@virtual
async def test_a_targets_preferences_that_nobody_fits_skip_to_the_next(road):
    """The caller's provider does not serve there: no call is made, the next is asked."""
    chain = FallbackOptions(models=({"model": "a", "provider": {"only": ("x",)}}, "b"))
    run = road({"a": "never", "b": "served"}, chain)
    done = await run.chat(body={"provider": {"only": ["z"]}})
    assert ("served", ["b"]) == (done.text, run.far.models)


@virtual
async def test_preferences_are_not_sent_to_an_upstream_that_knows_none(road):
    """They are OpenRouter's."""
    chain = FallbackOptions(models=({"model": "a", "upstream": "spare", "provider": {"only": ("x",)}},))
    run = road({"a": "served"}, chain)
    await run.chat()
    assert "provider" not in run.far.tries[0].call.body


# --- refusals -----------------------------------------------------------------------------------------


class Says(Options):
    """A layer that refuses targets by model; `refusals` of a model are used up one by one."""

    refusals: dict[str, list[Exception]]

    def build(self, world):
        left = {slug: list(errors) for slug, errors in self.refusals.items()}
        self.__dict__["seen"] = []

        async def layer(call, forward):
            self.__dict__["seen"].append((call.target.model, call.last, call.get(PROBE), call.buffer))
            if left.get(call.target.model):
                raise left[call.target.model].pop(0)
            return await forward(call)

        return layer


@virtual
async def test_a_refused_target_is_skipped_with_the_words_of_the_refusal(road):
    """Nothing is sent to it, and the next serves."""
    run = road({"a": "never", "b": "served"}, AB, Says(refusals={"a": [CircuitOpen("a is left alone")]}))
    await run.chat()
    assert (["b"], [("a", "a is left alone")]) == (run.far.models, skips(run))


@pytest.mark.parametrize("kind", [CircuitOpen, CoolingDown, LimitReached])
def test_when_all_refuse_the_soonest_is_asked_again(road, kind):
    """As the last, with the probe's word hung on, and with the same buffer."""

    @virtual
    async def story():
        says = Says(refusals={"a": [kind("a", retry_after=9.0)], "b": [kind("b", retry_after=3.0)]})
        run = road({"a": "never", "b": "served"}, FallbackOptions(models=("a", "b"), hold=3), says)
        reply = await run.ask()
        reply.close()
        return says.__dict__["seen"]

    assert [("a", False, None, 3), ("b", True, None, 3), ("b", True, True, 3)] == story()


@virtual
async def test_when_the_soonest_refuses_again_the_first_refusal_is_raised(road):
    """Nothing was sent, so a refusal is all there is to say."""
    says = Says(refusals={"a": [CoolingDown("a", retry_after=9.0)], "b": [CircuitOpen("b", retry_after=3.0)] * 2})
    run = road({}, AB, says)
    error = await run.fails()
    assert (CoolingDown, "a", ()) == (type(error), error.message, error.attempts)


@virtual
async def test_what_the_soonest_says_is_raised(road):
    """An upstream's word tells more than our refusals."""
    says = Says(refusals={"a": [CoolingDown("a", retry_after=9.0)], "b": [CircuitOpen("b", retry_after=3.0)]})
    run = road({"b": DOWN}, AB, says)
    assert ServerError is type(await run.fails())


@virtual
async def test_an_upstreams_error_goes_before_a_refusal(road):
    """Also when the refusal came first; nobody is probed, because something was sent."""
    run = road({"b": DOWN}, AB, Says(refusals={"a": [CircuitOpen("a")] * 2}))
    error = await run.fails()
    assert (ServerError, ["b"]) == (type(error), run.far.models)


@virtual
async def test_a_target_too_dear_and_one_that_cools_down(road):
    """The cheaper one would serve later: it is asked as the soonest, though the first refusal was about money."""
    says = Says(refusals={"a": [BudgetExceeded("a")], "b": [CoolingDown("b", retry_after=2.0)]})
    run = road({"b": "served"}, AB, says, models=(model("a", price="2"), model("b", price="1")))
    assert "served" == (await run.chat()).text


@virtual
async def test_a_target_too_dear_leads_to_a_cheaper_one_only(road):
    """C costs as much and is not asked."""
    known = (model("a", price="2"), model("b", price="2"), model("c", price="1"))
    run = road({"c": "served"}, ABC, Says(refusals={"a": [CostCapExceeded("too dear")]}), models=known)
    await run.chat()
    assert (["c"], [("a", "too dear"), ("b", "it is no cheaper")]) == (run.far.models, skips(run))


@virtual
async def test_a_refusal_for_good_ends_the_chain(road):
    """A ledger that cannot be asked cannot be asked for the next target either."""
    run = road({}, AB, Says(refusals={"a": [LedgerUnavailable("down")]}))
    error = await run.fails()
    assert (LedgerUnavailable, [], []) == (type(error), run.far.models, skips(run))


# --- with retry below: moving on, and staying away -----------------------------------------------------


@virtual
async def test_a_long_pause_moves_on_at_once_and_keeps_the_next_call_away(road):
    """Told 5 s with a healthy alternative: no wait; the next call skips the first target without asking it."""
    run = road({"a": [RateLimited("slow", retry_after=5.0)], "b": "served"}, AB, RetryOptions())
    await run.chat()
    await run.chat()
    reason = "a asked for a pause of another 5s"
    assert (["a", "b", "b"], [0.0, 0.0, 0.0], [("a", reason)]) == (run.far.models, run.times, skips(run))


@virtual
async def test_the_first_target_is_back_when_its_pause_is_over(road):
    """Nothing sticks."""
    run = road({"a": [RateLimited("slow", retry_after=5.0), "back"], "b": "served"}, AB, RetryOptions())
    await run.chat()
    await asyncio.sleep(5.1)
    assert "back" == (await run.chat()).text


@virtual
async def test_when_all_cool_down_the_soonest_is_waited_for(road):
    """A in 20 s, b in 10 s: b is waited for, and not asked a moment early."""
    slow = {"a": [RateLimited("x", retry_after=20.0)], "b": [RateLimited("x", retry_after=10.0), "served"]}
    run = road(slow, AB, RetryOptions(attempts=1), draw=0.0)
    await run.fails()
    done = await run.chat()
    assert ("served", ["a", "b", "b"], [0.0, 0.0, 10.0]) == (done.text, run.far.models, run.times)


@virtual
async def test_when_all_cool_down_for_long_the_call_fails_at_once(road):
    """Forty seconds are more than anybody waits; the error says when."""
    slow = RateLimited("x", retry_after=40.0)
    run = road({"a": slow, "b": slow}, AB, RetryOptions(attempts=1))
    await run.fails()
    error = await run.fails()
    assert (CoolingDown, 40.0, 2, 0.0) == (type(error), error.retry_after, len(run.times), run.world.clock.now())


@virtual
async def test_a_paid_model_takes_over_from_a_free_one(road):
    """The free tier's limit closes free models only."""
    limit = RateLimited("free", retry_after=60.0)
    limit.scope = "free"
    run = road(
        {"a:free": limit, "b:free": "never", "c": "served"},
        FallbackOptions(models=("a:free", "b:free", "c")),
        RetryOptions(),
    )
    done = await run.chat()
    assert ("served", ["a:free", "c"]) == (done.text, run.far.models)


@virtual
async def test_an_account_wide_limit_leads_to_another_key(road):
    """B bears the same key, so it is skipped; the spare upstream serves."""
    limit = RateLimited("in flight", retry_after=60.0)
    limit.scope = "key"
    chain = FallbackOptions(models=("a", "b", {"model": "c", "upstream": "spare"}))
    run = road({"a": limit, "b": "never", "c": "served"}, chain, RetryOptions())
    await run.chat()
    assert (["a", "c"], "b") == (run.far.models, skips(run)[0][0])


@virtual
async def test_a_retry_above_the_chain_is_sound(road):
    """It asks the whole chain again, after the pause that the first target asked for, and no more often than it may."""
    run = road({"a": RateLimited("x", retry_after=2.0), "b": [DOWN, "served"]}, RetryOptions(), AB, draw=0.0)
    done = await run.chat()
    assert ("served", ["a", "b", "a", "b"], [0.0, 0.0, 2.0, 2.0]) == (done.text, run.far.models, run.times)


# --- time ---------------------------------------------------------------------------------------------


@virtual
async def test_nobody_is_asked_in_the_last_second(road):
    """The first fails with 0.5 s left: the second is skipped, and the record says why."""
    run = road({"a": [[1.5, DOWN]], "b": "never"}, AB)
    error = await run.fails(timeout=2.0)
    assert (ServerError, ["a"], [("b", "less than 1s is left")]) == (type(error), run.far.models, skips(run))


@virtual
async def test_a_deadline_that_passed_ends_the_chain(road):
    """Nobody is asked after it."""
    run = road({"a": [[SENT, 5.0, "late"]], "b": "never"}, AB)
    error = await run.fails(timeout=2.0)
    assert (DeadlineExceeded, ["a"], 2.0) == (type(error), run.far.models, run.world.clock.now())


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [["Hel", "lo", EOF], ["Hel", ServerError("in band")], ["Hel", Finish("error")]])
def test_a_chat_that_breaks_at_any_time_goes_to_the_next(road, broken):
    """Its caller has seen nothing of it, and gets one whole answer."""

    @virtual
    async def story():
        run = road({"a": [broken], "b": "Hello there"}, AB)
        done = await run.chat()
        return done.text, run.far.models, run.far.open

    assert ("Hello there", ["a", "b"], 0) == story()


@virtual
async def test_a_stream_that_breaks_before_its_first_word_goes_to_the_next(road):
    """The reader sees one clean stream."""
    run = road({"a": [[SENT, "", EOF]], "b": "Hello there"}, AB)
    reply = await run.ask()
    assert ("Hello there", "b", 0) == ("".join([event.text async for event in reply.events]), reply.model, run.far.open)


@virtual
async def test_a_stream_that_breaks_later_says_so(road):
    """Nobody else is asked: what was said stays said, and the end is no clean one."""
    run = road({"a": [["Hel", "lo", EOF]], "b": "never"}, AB)
    reply = await run.ask()
    said = []
    with pytest.raises(StreamBroken) as caught:
        async for event in reply.events:
            said.append(event.text)
    assert (["Hel", "lo"], "Hello", ["a"], "stream_broken") == (
        said,
        caught.value.partial,
        run.far.models,
        caught.value.record.outcome,
    )


@pytest.mark.parametrize(("words", "models"), [(2, ["a", "b"]), (3, ["a"])])
def test_held_events_are_asked_for_elsewhere(road, words, models):
    """`hold: 3`: what breaks before the third event is never seen; behind it the stream is out."""

    @virtual
    async def story():
        run = road(
            {"a": [[*["word "] * words, EOF]], "b": "one two three four"}, FallbackOptions(models=("a", "b"), hold=3)
        )
        reply = await run.ask()
        reply.close()
        return run.far.models

    assert models == story()


@virtual
async def test_an_answer_shorter_than_the_hold_is_an_answer(road):
    """A clean end is no break."""
    run = road({"a": "short"}, FallbackOptions(models=("a", "b"), hold=50))
    reply = await run.ask()
    assert "short" == "".join([event.text async for event in reply.events])


# --- anything at all ----------------------------------------------------------------------------------

_ACTS = {
    "ok": "fine", "503": Overloaded("x"), "500": DOWN, "429": RateLimited("x", retry_after=1.0),
    "429 long": RateLimited("x", retry_after=90.0), "400": InvalidRequest("x"), "401": AuthFailed("x"),
    "cut": ["Hel", EOF], "empty": EmptyReply("x"), "silent": [SENT, 40.0, UpstreamTimeout("x")],
}  # fmt: skip


@settings(deadline=None)
@given(
    acts=st.tuples(*[st.lists(st.sampled_from(list(_ACTS)), min_size=1, max_size=4)] * 3),
    order=st.sampled_from(["usual", "retry above", "no retry"]),
    timeout=st.one_of(st.none(), st.floats(0.1, 60.0)),
    calls=st.integers(1, 2),
)
def test_whatever_happens_the_conduct_is_sound(road, acts, order, timeout, calls):
    """The text is whole or an error is raised; nothing is open, nobody waits past the deadline, tries are bounded."""

    @virtual
    async def story():
        stacks = {
            "usual": ([ABC, RetryOptions()], 5),
            "retry above": ([RetryOptions(), ABC], 9),
            "no retry": ([ABC], 3),
        }
        layers, most = stacks[order]
        script = {slug: [_ACTS[act] for act in chosen] for slug, chosen in zip("abc", acts, strict=True)}
        run = road(script, *layers)
        for _ in range(calls):
            began, before = run.world.clock.now(), len(run.far.tries)
            try:
                assert "fine" == (await run.chat(timeout=timeout)).text
            except (UpstreamError, Refused, DeadlineExceeded) as error:
                assert isinstance(error, RouterError) and error.record.outcome == error.code
            tries = run.far.tries[before:]
            assert len(tries) <= most
            assert timeout is None or run.world.clock.now() <= began + timeout + 1e-6
            assert all(one.at <= other.at for one, other in pairwise(tries))
        assert 0 == run.far.open

    story()


def test_it_says_what_it_does():
    """In words, with its conditions."""
    said = FallbackOptions(models=("a", "b"), when=("transient",), open=True, hold=4).says()
    assert (
        "asks 2 targets in order until one answers; goes on only after transient; a caller may name other models too; "
        "keeps back the first 4 events of a stream: what breaks before is asked elsewhere"
    ) == said
    assert "asks one target" == FallbackOptions(models=("a",)).says()
