"""The router: what a caller asks, and what becomes of it on the way down and up."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from pydantic import BaseModel

import orrouter
from orrouter.core.clock import LoopClock
from orrouter.core.errors import (
    AuthFailed,
    CircuitOpen,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotAllowed,
    OutputInvalid,
    Overloaded,
    PolicyError,
    RouterError,
    ServerError,
    StreamBroken,
    Unpriced,
)
from orrouter.core.facts import CallStarted, Fact, PolicyReloaded, SpellingTranslated
from orrouter.policy.code import policy_in_code
from orrouter.policy.schema import read_policy
from orrouter.router import OldSpelling, Router
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import EOF, SENT, Finish, ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.speech import CANONICAL

HELLO = [{"role": "user", "content": "Hello"}]
GPT = "openai/gpt-4o"
KEY = "sk-or-v1-0123456789abcdef"
NEVER = [SENT, 3600.0, "late", Finish()]
PLAIN = [{"deadline": {"total": "60s"}}]


def policy_of(url: str = "http://far.invalid/v1", **more: object) -> dict:
    upstreams = {"openrouter": {"base_url": url, "api_key": KEY}}
    return {"version": 1, "upstreams": upstreams, "policies": {"default": PLAIN}, **more}


def over(far, *, policies: dict | None = None, routes: list | None = None, **options: object) -> Router:
    """A router over a scripted far end, with the environment of nobody."""
    policy = policy_of(policies=policies or {"default": PLAIN})
    if routes is not None:
        policy["routes"] = routes
    return Router.from_policy(policy, transport=far, **{"env": {}, **options})


def bodies(far: ScriptedTransport) -> list[dict]:
    return [dict(played.call.body) for played in far.tries]


# --- chat, stream and the other endpoints ---------------------------------------------------------------


@virtual
async def test_a_chat_is_answered_whole():
    """Its text, the model that answered, and the record of one try."""
    async with over(ScriptedTransport({"a/b": "one two"})) as router:
        done = await router.chat(HELLO, model="a/b")
    assert ("one two", "a/b", "Scripted", "stop") == (done.text, done.model, done.provider, done.finish_reason)
    assert ("ok", ["ok"]) == (done.record.outcome, [attempt.outcome for attempt in done.record.attempts])


@virtual
async def test_a_stream_is_read_as_it_is_written():
    """Word by word, and whole behind the last one."""
    async with over(ScriptedTransport({"a/b": "one two three"})) as router:
        async with router.stream(HELLO, model="a/b") as events:
            said = [event.text async for event in events if event.text]
    assert (["one ", "two ", "three"], "one two three") == (said, events.completion.text)


@virtual
async def test_a_stream_that_breaks_says_what_had_been_said():
    """It raises, and never ends as if it were whole."""
    async with over(ScriptedTransport({"a/b": [[SENT, "one ", EOF]]})) as router:
        with pytest.raises(StreamBroken) as caught:
            async with router.stream(HELLO, model="a/b") as events:
                async for _ in events:
                    pass
    assert ("one ", "stream_broken") == (caught.value.partial, caught.value.record.outcome)


@virtual
async def test_a_stream_fails_before_its_first_word_as_a_chat_does():
    """On entering it."""
    async with over(ScriptedTransport({"a/b": Overloaded("busy")})) as router:
        with pytest.raises(Overloaded, match="busy"):
            async with router.stream(HELLO, model="a/b"):
                pytest.fail("there is no first word")


@virtual
async def test_a_stream_left_early_is_let_go():
    """Nothing is open when its `async with` is left, by `break` or by an exception."""
    far = ScriptedTransport({"a/b": "one two three"})
    async with over(far) as router:
        async with router.stream(HELLO, model="a/b") as events:
            async for _ in events:
                break
        left = far.open
        with pytest.raises(ZeroDivisionError):
            async with router.stream(HELLO, model="a/b"):
                raise ZeroDivisionError
    assert (0, 0) == (left, far.open)


@virtual
async def test_a_stream_entered_again_asks_again():
    """What was asked is kept as it was."""
    far = ScriptedTransport({"a/b": ["one", "two"]})
    async with over(far) as router:
        asked = router.stream(HELLO, model="a/b", seed=1)
        said = []
        for _ in range(2):
            async with asked as events:
                said.append("".join([event.text async for event in events]))
    assert (["one", "two"], ["a/b", "a/b"]) == (said, far.models)
    assert bodies(far)[0] == bodies(far)[1]


@virtual
async def test_nothing_is_asked_before_a_stream_is_entered():
    """Asking for one costs nothing."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        router.stream(HELLO, model="a/b")
    assert [] == far.models


@virtual
async def test_every_field_travels_untouched():
    """Of a chat and of a stream: the same objects, and nothing added."""
    body = {
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "reasoning": {"effort": "high"},
        "provider": {"sort": "price"},
        "stop": None,
        "a_field_of_tomorrow": {"deep": [1, {"x": "ü"}]},
    }
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        await router.chat(HELLO, model="a/b", **body)
        async with router.stream(HELLO, model="a/b", **body):
            pass
    assert [{"messages": HELLO, **body}] * 2 == bodies(far)
    assert bodies(far)[0]["tools"] is body["tools"]


async def test_over_http_the_body_is_what_was_asked():
    """Model and stream are the only fields that the router writes."""
    async with FakeOpenRouter() as fake, Router.from_policy(policy_of(fake.url)) as router:
        await router.chat(HELLO, model=GPT, temperature=0.5, metadata={"order": "17"})
        async with router.stream(HELLO, model=GPT, seed=7):
            pass
        chat, stream = (seen.body for seen in fake.requests)
    assert {"model": GPT, "messages": HELLO, "temperature": 0.5, "metadata": {"order": "17"}} == chat
    assert {"model": GPT, "messages": HELLO, "seed": 7, "stream": True} == stream


async def test_embeddings_and_completions_go_to_their_own_endpoints():
    """They take what `chat` takes: how to treat the call, and any field."""
    async with FakeOpenRouter() as fake, Router.from_policy(policy_of(fake.url)) as router:
        vectors = await router.embeddings(
            ["one", "two"], model="openai/text-embedding-3-small", dimensions=3, request_id="v", tags={"team": "x"}
        )
        more = await router.completions("Once upon", model=GPT, timeout=20, max_tokens=500)
        asked = [(seen.path, dict(seen.body)) for seen in fake.requests]
    assert [3, 3] == [len(row["embedding"]) for row in vectors.raw["data"]]
    assert ("v", {"team": "x"}, "embeddings") == (vectors.request_id, vectors.record.tags, vectors.record.endpoint)
    assert CANONICAL == more.text
    model = "openai/text-embedding-3-small"
    assert ("embeddings", {"model": model, "input": ["one", "two"], "dimensions": 3}) == asked[0]
    assert ("completions", {"model": GPT, "prompt": "Once upon", "max_tokens": 500}) == asked[1]


@virtual
async def test_stream_true_is_refused_with_a_hint():
    """A stream has a method of its own; `stream=False` is what a chat is anyway."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        with pytest.raises(InvalidRequest, match=r"router\.stream\(\.\.\.\), which needs no stream=True"):
            await router.chat(HELLO, model="a/b", stream=True)
        done = await router.chat(HELLO, model="a/b", stream=False)
    assert ("hi", [{"messages": HELLO}]) == (done.text, bodies(far))


@virtual
async def test_a_text_for_messages_is_refused_with_a_hint():
    """The commonest slip, told before anything is sent."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        with pytest.raises(InvalidRequest, match="messages must be a list: write"):
            await router.chat("Hello", model="a/b")
        with pytest.raises(InvalidRequest, match="messages must be a list: write"):
            async with router.stream("Hello", model="a/b"):
                pass
    assert [] == far.models


# --- which policy, which model --------------------------------------------------------------------------

CHAIN = {"fallback": {"models": ["a/b", "c/d"]}}


@virtual
async def test_the_policy_is_the_one_that_is_named():
    """By `policy=`, or by a model named `policy/NAME`; the first goes before."""
    policies = {"default": PLAIN, "frugal": [{"fallback": {"models": ["small"]}}], "big": [CHAIN]}
    far = ScriptedTransport({"small": "s", "a/b": "b"})
    async with over(far, policies=policies) as router:
        named = await router.chat(HELLO, policy="frugal")
        by_model = await router.chat(HELLO, model="policy/frugal")
        in_models = await router.chat(HELLO, models=["policy/big", "a/b"])
        both = await router.chat(HELLO, policy="big", model="policy/frugal")
    ways = [(done.record.policy, done.model) for done in (named, by_model, in_models, both)]
    assert [("frugal", "small"), ("frugal", "small"), ("big", "a/b"), ("big", "a/b")] == ways


@pytest.mark.parametrize("asked", [{"policy": "frugall"}, {"model": "policy/frugall"}])
@virtual
async def test_an_unknown_policy_is_told_with_the_nearest_name(asked):
    """Before anything is sent."""
    far = ScriptedTransport({})
    async with over(far, policies={"default": PLAIN, "frugal": PLAIN}) as router:
        with pytest.raises(PolicyError) as caught:
            await router.chat(HELLO, **asked)
    assert "there is no policy 'frugall'; did you mean 'frugal'?" == str(caught.value)
    assert [] == far.models


@virtual
async def test_routes_choose_by_tag_model_and_endpoint():
    """The first that fits; the last takes what is left."""
    routes = [
        {"when": {"tag": {"tier": "batch"}}, "policy": "batch"},
        {"when": {"model": "deep/*"}, "policy": "deep"},
        {"when": {"endpoint": "embeddings"}, "policy": "vectors"},
        {"policy": "default"},
    ]
    far = ScriptedTransport(lambda call: {"data": [{"embedding": [0.5]}]} if call.endpoint == "embeddings" else "hi")
    async with over(
        far, policies=dict.fromkeys(("default", "batch", "deep", "vectors"), PLAIN), routes=routes
    ) as router:
        took = [
            (await router.chat(HELLO, model="a/b", tags={"tier": "batch"})).record.policy,
            (await router.chat(HELLO, model="deep/one")).record.policy,
            (await router.embeddings("x", model="a/b")).record.policy,
            (await router.chat(HELLO, model="a/b", tags={"tier": "day"})).record.policy,
        ]
    assert ["batch", "deep", "vectors", "default"] == took


@virtual
async def test_a_model_that_is_named_goes_first_in_the_chain():
    """And another than those of the chain is refused."""
    far = ScriptedTransport({"a/b": "first", "c/d": [Overloaded("busy")]})
    async with over(far, policies={"default": [CHAIN]}) as router:
        done = await router.chat(HELLO, model="c/d")
        with pytest.raises(ModelNotAllowed, match="x/y is not in the policy's chain"):
            await router.chat(HELLO, model="x/y")
    assert ("a/b", ["c/d", "a/b"]) == (done.model, far.models)


async def test_without_a_chain_models_are_the_servers_affair():
    """The list is sent as it was given, its first as the model."""
    async with FakeOpenRouter() as fake, Router.from_policy(policy_of(fake.url)) as router:
        await router.chat(HELLO, models=[GPT, "openai/gpt-4o-mini"])
        body = fake.requests[0].body
    assert (GPT, [GPT, "openai/gpt-4o-mini"]) == (body["model"], body["models"])


@pytest.mark.parametrize("named", [{"model": 5}, {"model": ""}, {"models": GPT}, {"models": [None]}])
@virtual
async def test_what_is_no_model_is_refused(named):
    """With what a model is named by."""
    async with over(ScriptedTransport({})) as router:
        with pytest.raises(InvalidRequest, match="slug"):
            await router.chat(HELLO, **named)


@virtual
async def test_the_environment_names_the_model_where_nobody_does():
    """A caller's goes before it, and so does a chain."""
    far = ScriptedTransport({"env/one": "e", "a/b": "b"})
    env = {"OPENROUTER_DEFAULT_MODEL": "env/one"}
    async with over(far, policies={"default": PLAIN, "chain": [CHAIN]}, env=env) as router:
        await router.chat(HELLO)
        await router.chat(HELLO, model="a/b")
        await router.chat(HELLO, policy="chain")
    assert ["env/one", "a/b", "a/b"] == far.models


# --- tags and request ids -------------------------------------------------------------------------------


@virtual
async def test_tags_of_the_context_and_of_the_call_are_joined():
    """The call's own win, and inner contexts over outer ones; behind the context they are gone."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        with orrouter.tags(team="search", tier="day"), orrouter.tags(tier="batch"):
            await router.chat(HELLO, model="a/b", tags={"team": "ads"})
            done = await router.chat(HELLO, model="a/b")
        await router.chat(HELLO, model="a/b")
    seen = [dict(played.call.tags) for played in far.tries]
    assert [{"team": "ads", "tier": "batch"}, {"team": "search", "tier": "batch"}, {}] == seen
    assert {"team": "search", "tier": "batch"} == done.record.tags


@virtual
async def test_tags_of_tasks_side_by_side_do_not_mix():
    """Each task has its own, also while it waits."""

    async def ask(team: str) -> str:
        with orrouter.tags(team=team):
            await asyncio.sleep(1)
            return (await router.chat(HELLO, model="a/b")).record.tags["team"]

    async with over(ScriptedTransport({"a/b": [[SENT, 1.0, "hi", Finish()]]})) as router:
        teams = await asyncio.gather(*(ask(f"team-{number}") for number in range(20)))
    assert [f"team-{number}" for number in range(20)] == teams


@virtual
async def test_a_callers_dict_of_tags_may_be_used_again():
    """What it holds later changes no record, and nothing is written into it."""
    async with over(ScriptedTransport({"a/b": "hi"})) as router:
        mine = {"team": "search"}
        with orrouter.tags(tier="day"):
            done = await router.chat(HELLO, model="a/b", tags=mine)
        kept = dict(mine)
        mine["team"] = "other"
    assert ({"team": "search"}, {"team": "search", "tier": "day"}) == (kept, done.record.tags)


@virtual
async def test_a_request_id_is_in_every_fact_and_record():
    """The one given; and of those made no two are the same."""
    facts: list[Fact] = []
    async with over(ScriptedTransport({"a/b": "hi"}), on_fact=facts.append) as router:
        given = await router.chat(HELLO, model="a/b", request_id="order-17")
        told = {fact.request_id for fact in facts}
        made = {(await router.chat(HELLO, model="a/b")).request_id for _ in range(50)}
        async with router.stream(HELLO, model="a/b", request_id="order-18") as events:
            async for _ in events:
                pass
    assert ("order-17", "order-17", {"order-17"}) == (given.request_id, given.record.request_id, told)
    assert (50, True) == (len(made), all(one.startswith("req_") for one in made))
    assert "order-18" == events.completion.record.request_id == facts[-1].request_id


@pytest.mark.parametrize("failing", [ServerError("it broke"), [SENT, "one ", EOF], NEVER])
@virtual
async def test_a_request_id_is_in_every_error(failing):
    """In its record, and in its words where it has a place."""
    async with over(ScriptedTransport({"a/b": [failing]})) as router:
        with pytest.raises(RouterError) as caught:
            await router.chat(HELLO, model="a/b", request_id="order-17", timeout=5)
    error = caught.value
    assert "order-17" == error.record.request_id == getattr(error, "request_id", "order-17")


@virtual
async def test_an_error_of_a_layer_bears_the_request_id_too():
    """Here nobody has a key, and nothing was tried."""
    upstreams = {"far": {"base_url": "http://far.invalid/v1"}}
    policy = policy_of(upstreams=upstreams, policies={"default": [CHAIN]})
    async with Router.from_policy(policy, transport=ScriptedTransport({})) as router:
        with pytest.raises(AuthFailed, match="request order-17") as caught:
            await router.chat(HELLO, request_id="order-17")
    assert ("order-17", 0) == (caught.value.record.request_id, len(caught.value.attempts))


# --- a caller may tighten and never loosen --------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "after"), [(5, 5.0), (0.25, 0.25), (600, 60.0)])
@virtual
async def test_a_timeout_tightens_the_total_and_never_loosens_it(timeout, after):
    """The nearer of both ends the call."""
    async with over(ScriptedTransport({"a/b": [NEVER]})) as router:
        with pytest.raises(DeadlineExceeded):
            await router.chat(HELLO, model="a/b", timeout=timeout)
        assert after == asyncio.get_running_loop().time()


@virtual
async def test_a_timeout_holds_in_a_policy_without_clocks():
    """The record, the facts and the error say what it was."""
    facts: list[Fact] = []
    async with over(
        ScriptedTransport({"a/b": [NEVER]}), policies={"default": [{"retry": {}}]}, on_fact=facts.append
    ) as router:
        with pytest.raises(DeadlineExceeded, match="no answer within 5s") as caught:
            await router.chat(HELLO, model="a/b", timeout=5)
    assert ("deadline_exceeded", "deadline_exceeded") == (caught.value.record.outcome, facts[-1].outcome)


@virtual
async def test_a_timeout_ends_a_stream_in_its_middle():
    """It is for the whole call, and says what had been said."""
    async with over(ScriptedTransport({"a/b": [[SENT, "one ", 100.0, "two", Finish()]]})) as router:
        with pytest.raises(DeadlineExceeded) as caught:
            async with router.stream(HELLO, model="a/b", timeout=7) as events:
                async for _ in events:
                    pass
        assert (7.0, "one ") == (asyncio.get_running_loop().time(), caught.value.partial)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "20"])
@virtual
async def test_a_timeout_that_is_none_is_refused(timeout):
    """It says what was given."""
    async with over(ScriptedTransport({})) as router:
        with pytest.raises(InvalidRequest, match="timeout must be a number of seconds above 0"):
            await router.chat(HELLO, model="a/b", timeout=timeout)


@virtual
async def test_a_callers_cap_is_kept_without_one_in_the_policy():
    """What nobody can price is refused under it, and nothing is sent."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        with pytest.raises(Unpriced, match="unknown_price"):
            await router.chat(HELLO, model="a/b", max_cost="$0.01")
    assert [] == far.models


# --- headers --------------------------------------------------------------------------------------------


async def test_headers_of_a_call_are_sent_and_the_key_is_not_theirs():
    """With that one call only."""
    async with FakeOpenRouter(keys=[KEY]) as fake, Router.from_policy(policy_of(fake.url)) as router:
        await router.chat(HELLO, model=GPT, headers={"X-Session": "s-1", "Authorization": "Bearer other"})
        await router.chat(HELLO, model=GPT)
        first, second = (seen.headers for seen in fake.requests)
    assert ("s-1", None) == (first["x-session"], second.get("x-session"))
    assert first["authorization"] == second["authorization"] == f"Bearer ***{KEY[-4:]}"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "one\r\nX-B: two"},
        {"X-A": "one\ntwo"},
        {"X-A": "\0"},
        {"X-A\r\nX-B": "1"},
        {"X A": "1"},
        {"X-A": 5},
        {"": "1"},
    ],
)
@virtual
async def test_a_header_that_is_no_line_of_text_is_refused(headers):
    """Nobody smuggles a second one in."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        with pytest.raises(InvalidRequest, match="header"):
            await router.chat(HELLO, model="a/b", headers=headers)
    assert [] == far.models


# --- answers in the shape of a type ---------------------------------------------------------------------


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


@virtual
async def test_an_answer_becomes_the_type_asked_for():
    """The schema travels in its place."""
    far = ScriptedTransport({"a/b": '{"name":"Paris","people":2100000}'})
    async with over(far) as router:
        done = await router.chat(HELLO, model="a/b", response_format=City)
    form = bodies(far)[0]["response_format"]
    assert City(name="Paris", people=2_100_000) == done.parsed
    assert ("json_schema", "City", True) == (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"])


@virtual
async def test_an_answer_that_does_not_fit_is_kept_in_the_error():
    """With its text and the record of the call."""
    async with over(ScriptedTransport({"a/b": '{"name":"Paris"}'})) as router:
        with pytest.raises(OutputInvalid, match=r"does not fit City: people: ") as caught:
            await router.chat(HELLO, model="a/b", response_format=City, request_id="order-17")
    error = caught.value
    assert ('{"name":"Paris"}', "order-17", 1) == (error.text, error.record.request_id, len(error.attempts))


@virtual
async def test_a_response_format_that_is_a_mapping_travels_untouched():
    """And nothing is parsed; a class that is no pydantic model is refused."""
    far = ScriptedTransport({"a/b": "{}"})
    async with over(far) as router:
        done = await router.chat(HELLO, model="a/b", response_format={"type": "json_object"})
        with pytest.raises(InvalidRequest, match="not the class int"):
            await router.chat(HELLO, model="a/b", response_format=int)
    assert (None, {"type": "json_object"}) == (done.parsed, bodies(far)[0]["response_format"])


# --- where a policy comes from --------------------------------------------------------------------------


async def test_the_environment_alone_is_enough():
    """Key, address, model and who we are."""
    async with FakeOpenRouter(keys=[KEY]) as fake:
        env = {
            "OPENROUTER_API_KEY": KEY,
            "OPENROUTER_BASE_URL": fake.url,
            "OPENROUTER_DEFAULT_MODEL": GPT,
            "OPENROUTER_SITE_URL": "https://shop.example",
            "OPENROUTER_SITE_NAME": "Shop",
        }
        async with Router.from_env(env=env) as router:
            done = await router.chat(HELLO)
        seen = fake.requests[0]
    assert (CANONICAL, GPT) == (done.text, seen.model)
    assert ("https://shop.example", "Shop") == (seen.headers["http-referer"], seen.headers["x-openrouter-title"])


async def test_the_environment_is_that_of_the_process_where_none_is_handed_in(monkeypatch):
    """Read when the router is built."""
    async with FakeOpenRouter(keys=[KEY]) as fake:
        monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
        monkeypatch.setenv("OPENROUTER_BASE_URL", fake.url)
        monkeypatch.setenv("OPENROUTER_DEFAULT_MODEL", GPT)
        async with Router.from_env() as router:
            assert (CANONICAL, GPT) == ((done := await router.chat(HELLO)).text, done.model)


@virtual
async def test_the_environments_timeout_is_in_milliseconds():
    """It is the total of every call."""
    env = {"OPENROUTER_API_KEY": KEY, "OPENROUTER_TIMEOUT": "2500"}
    async with Router.from_env(env=env, transport=ScriptedTransport({"a/b": [NEVER]})) as router:
        with pytest.raises(DeadlineExceeded):
            await router.chat(HELLO, model="a/b")
        assert 2.5 == asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("OPENROUTER_API_KEY", "", "the environment has no OPENROUTER_API_KEY"),
        ("OPENROUTER_TIMEOUT", "20s", "OPENROUTER_TIMEOUT must be whole milliseconds above 0"),
        ("OPENROUTER_TIMEOUT", "0", "OPENROUTER_TIMEOUT must be whole milliseconds above 0"),
        ("OPENROUTER_BASE_URL", "openrouter.ai", "base_url"),
    ],
)
def test_a_bad_variable_is_told_by_its_name(name, value, says):
    """When the router is built, and without the key."""
    env = {"OPENROUTER_API_KEY": KEY, name: value}
    with pytest.raises(PolicyError, match=says) as caught:
        Router.from_env(env=env)
    assert KEY not in str(caught.value)


@virtual
async def test_a_policy_may_be_a_mapping_or_already_read():
    """Both are the same."""
    for policy in (policy_of(), read_policy(policy_in_code(policy_of(), {}))):
        async with Router.from_policy(policy, transport=ScriptedTransport({"a/b": "hi"})) as router:
            assert "hi" == (await router.chat(HELLO, model="a/b")).text


async def test_a_mapping_may_name_variables_as_a_file_does():
    """They are taken from the environment handed in."""
    async with FakeOpenRouter(keys=[KEY]) as fake:
        policy = policy_of("${FAR:-http://nowhere.invalid/v1}")
        policy["upstreams"]["openrouter"]["api_key"] = "${MY_KEY}"
        async with Router.from_policy(policy, env={"MY_KEY": KEY, "FAR": fake.url}) as router:
            assert CANONICAL == (await router.chat(HELLO, model=GPT)).text
        with pytest.raises(PolicyError, match="the environment has no MY_KEY"):
            Router.from_policy(policy, env={})


def test_no_key_stands_in_a_repr():
    """Of the router's policy, its upstreams and its built transport."""
    router = Router.from_policy(policy_of())
    shown = f"{router!r} {router.policy!r} {router.world!r} {vars(router)!r}"
    assert KEY not in shown


# --- old spellings --------------------------------------------------------------------------------------


async def _ask_with_old_headers(router: Router) -> int:
    """Ask in every way with one more old spelling; the line of each is the one of its call."""
    await router.chat(HELLO, model="a/b", headers={"X-Title": "Shop"})
    async with router.stream(HELLO, model="auto"):
        pass
    await router.completions("Hi", model="a/b", transforms=["middle-out"])
    return _ask_with_old_headers.__code__.co_firstlineno


@virtual
async def test_an_old_spelling_is_told_once_at_the_callers_line():
    """Each spelling once for a router, whichever method was called."""
    far = ScriptedTransport({"a/b": "hi", "openrouter/auto": "hi"})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with over(far) as router:
            first = await _ask_with_old_headers(router)
            await _ask_with_old_headers(router)
    old = [one for one in told if one.category is OldSpelling]
    assert [(__file__, first + 2), (__file__, first + 3), (__file__, first + 5)] == [
        (one.filename, one.lineno) for one in old
    ]
    assert "OpenRouter now spells 'X-Title' as 'X-OpenRouter-Title'" in str(old[0].message)


@virtual
async def test_an_old_spelling_is_a_fact_of_each_call():
    """And goes out in today's spelling."""
    facts: list[Fact] = []
    far = ScriptedTransport({"a/b": "hi"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldSpelling)
        async with over(far, on_fact=facts.append) as router:
            for _ in range(2):
                await router.chat(HELLO, model="a/b", headers={"X-Title": "Shop"})
    assert 2 == sum(isinstance(fact, SpellingTranslated) for fact in facts)
    assert {"X-OpenRouter-Title": "Shop"} == dict(far.tries[0].call.headers)


# --- facts ----------------------------------------------------------------------------------------------


@virtual
async def test_a_listener_that_fails_costs_no_call_anything():
    """Its error is told to the loop's exception handler, each time."""
    told: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def listen(fact: Fact) -> None:
        raise ZeroDivisionError(type(fact).__name__)

    async with over(ScriptedTransport({"a/b": "hi"}), on_fact=listen) as router:
        done = await router.chat(HELLO, model="a/b")
        async with router.stream(HELLO, model="a/b") as events:
            said = [event.text async for event in events]
    assert ("hi", "hi") == (done.text, "".join(said))
    assert {"CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"} == {str(one["exception"]) for one in told}
    assert "on_fact failed at CallStarted" == told[0]["message"]


# --- health ---------------------------------------------------------------------------------------------

CAREFUL = {"default": [{"breaker": {"consecutive": 1}}]}


@virtual
async def test_health_is_shown_and_can_be_forgotten():
    """By a part of the subject's name."""
    far = ScriptedTransport({"a/b": [ServerError("it broke"), "well"], "c/d": [ServerError("it broke"), "well"]})
    async with over(far, policies=CAREFUL) as router:
        for model in ("a/b", "c/d"):
            with pytest.raises(ServerError):
                await router.chat(HELLO, model=model)
        shown = router.health()["breaker"]
        forgotten = router.reset_health("a/b")
        text = (await router.chat(HELLO, model="a/b")).text
        with pytest.raises(CircuitOpen):
            await router.chat(HELLO, model="c/d")
    assert {"openrouter/a/b", "openrouter/c/d"} <= shown.keys()
    assert (True, "well") == (forgotten >= 1, text)


# --- a changed policy -----------------------------------------------------------------------------------

FILE = """\
version: 1
upstreams:
  openrouter:
    base_url: http://far.invalid/v1
policies:
  default:
    - breaker: {consecutive: 1}
    - deadline: {total: TOTAL}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(FILE.replace("TOTAL", "60s"))
    return path


@virtual
async def test_a_changed_policy_is_taken(file):
    """By the calls to come, and told as a fact; calls under way end as they began."""
    facts: list[Fact] = []
    far = ScriptedTransport({"slow": [NEVER]})
    async with Router.from_file(file, env={}, transport=far, on_fact=facts.append) as router:
        old = asyncio.create_task(router.chat(HELLO, model="slow"))
        await asyncio.sleep(1)
        file.write_text(FILE.replace("TOTAL", "10s"))
        router.reload()
        with pytest.raises(DeadlineExceeded, match="no answer within 10s"):
            await router.chat(HELLO, model="slow")
        with pytest.raises(DeadlineExceeded, match="no answer within 1m"):
            await old
    assert [str(file)] == [fact.file for fact in facts if isinstance(fact, PolicyReloaded)]


@virtual
async def test_a_bad_policy_changes_nothing(file):
    """It raises with its place, and calls go on as before."""
    far = ScriptedTransport({"slow": [NEVER]})
    async with Router.from_file(file, env={}, transport=far) as router:
        before, upstreams = router.policy, router.world.upstreams
        for wrong in (
            "version: 1\nwrong: true\n",
            FILE.replace("TOTAL", "10s").replace("http://far.invalid/v1", "${GONE}"),
        ):
            file.write_text(wrong)
            with pytest.raises(PolicyError, match=str(file)):
                router.reload()
        assert before is router.policy
        assert upstreams is router.world.upstreams
        with pytest.raises(DeadlineExceeded, match="no answer within 1m"):
            await router.chat(HELLO, model="slow")


@virtual
async def test_health_is_kept_over_a_reload(file):
    """Who was left alone still is."""
    async with Router.from_file(file, env={}, transport=ScriptedTransport({"a/b": ServerError("it broke")})) as router:
        with pytest.raises(ServerError):
            await router.chat(HELLO, model="a/b")
        file.write_text(FILE.replace("TOTAL", "10s"))
        router.reload()
        with pytest.raises(CircuitOpen):
            await router.chat(HELLO, model="a/b")


def test_another_file_may_be_taken_and_is_the_one_read_from_then_on(file, tmp_path):
    """`reload(path)`, then `reload()`."""
    other = tmp_path / "other.yaml"
    other.write_text(FILE.replace("TOTAL", "9s"))
    router = Router.from_file(file, env={}, transport=ScriptedTransport({}))
    router.reload(other)
    other.write_text(FILE.replace("default:", "second:").replace("TOTAL", "9s"))
    router.reload()
    assert ["second"] == list(router.policy.stacks)


@pytest.mark.parametrize("make", [Router.from_policy, lambda _: Router.from_env(env={"OPENROUTER_API_KEY": KEY})])
def test_a_policy_that_was_no_file_is_not_read_again(make):
    """It says what to do."""
    router = make(policy_of())
    with pytest.raises(PolicyError, match=r"was read from no file; name one: router\.reload\(path\)"):
        router.reload()


def test_a_reload_needs_no_loop_even_when_the_listener_fails(file, caplog):
    """What the listener did wrong is written where the loop would write it."""

    def listen(fact: Fact) -> None:
        raise ZeroDivisionError("mine")

    router = Router.from_file(file, env={}, transport=ScriptedTransport({}), on_fact=listen)
    router.reload()
    assert ["on_fact failed at PolicyReloaded"] == [record.message for record in caplog.records]


# --- the doors of the testkit ---------------------------------------------------------------------------


@virtual
async def test_the_clock_handed_in_tells_the_time_of_the_record():
    """Nothing else is asked."""

    class Ahead(LoopClock):
        def now(self) -> float:
            return super().now() + 1_000_000

    facts: list[Fact] = []
    async with over(
        ScriptedTransport({"a/b": [[SENT, 3.0, "hi", Finish()]]}),
        clock=Ahead(),
        policies={"default": [{"retry": {}}]},
        on_fact=facts.append,
    ) as router:
        done = await router.chat(HELLO, model="a/b")
    assert (3.0, 0.0) == (done.record.duration_s, next(fact.at_s for fact in facts if isinstance(fact, CallStarted)))
