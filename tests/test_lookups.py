"""What an upstream tells about itself, asked through the same pipeline as every call."""

from __future__ import annotations

import pytest

from orrouter.core.errors import ConnectionFailed, PolicyError, ServerError, UpstreamError
from orrouter.lookups import Lookups
from orrouter.router import Router
from orrouter.testkit.clock import virtual
from orrouter.testkit.desk import Rules
from orrouter.testkit.script import ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter

KEY = "sk-or-v1-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
GPT = "openai/gpt-4o"
STACK = [
    {"deadline": {"total": "60s"}},
    {"fallback": {"models": [GPT]}},
    {"provider": {"data_collection": "deny"}},
    {"retry": {"attempts": 2, "initial": "1ms"}},
    {"breaker": {}},
    {"deadline": {"first_token": "15s"}},
]


def policy_of(url: str) -> dict:
    upstreams = {"openrouter": {"base_url": url, "api_key": KEY}, "spare": {"base_url": f"{url}/spare", "api_key": KEY}}
    return {"version": 1, "upstreams": upstreams, "policies": {"default": STACK}}


@pytest.fixture
async def fake():
    async with FakeOpenRouter() as running:
        yield running


@pytest.fixture
async def router(fake):
    async with Router.from_policy(policy_of(fake.url), env={"OPENROUTER_DEFAULT_MODEL": "env/one"}) as built:
        yield built


async def test_each_question_has_its_answer(router):
    """Models, who serves one, a generation, the account and the key; through every layer of a policy."""
    done = await router.chat(HELLO)
    assert GPT in {model.id for model in await router.models()}
    assert "OpenAI" in {endpoint.provider_name for endpoint in await router.endpoints(GPT)}
    assert (done.id, float(done.cost)) == ((found := await router.generation(done.id))["id"], found["total_cost"])
    assert {"total_credits": 0.0, "total_usage": float(done.cost)} == await router.credits()
    assert float(done.cost) == (await router.key())["usage"]


async def test_the_key_is_asked_under_its_old_path_too():
    """Where the new one is not there."""
    async with FakeOpenRouter(rules=Rules(key_paths=("auth/key",))) as fake:
        async with Router.from_policy(policy_of(fake.url)) as router:
            assert "usage" in await router.key()


async def test_what_is_not_known_is_an_error(router):
    """As for any call."""
    with pytest.raises(UpstreamError, match="404"):
        await router.generation("gen-none")
    with pytest.raises(UpstreamError, match="404"):
        await router.endpoints("no/model")


async def test_a_question_about_no_model_counts_for_no_model(router, fake):
    """An upstream that fails at it says nothing of the model that calls take by default."""
    await fake.stop()
    with pytest.raises(ConnectionFailed) as caught:
        await router.credits()
    assert caught.value.model in (None, "")
    assert not [
        subject for kind in router.health().values() for subject in kind if "env/one" in subject or GPT in subject
    ]


async def test_a_path_is_asked_of_the_upstream_that_is_named(router, fake):
    """The first where none is; an unknown one is told with the nearest name."""
    with pytest.raises(UpstreamError, match="404"):
        await router.fetch("key", upstream="spare")
    with pytest.raises(PolicyError, match="there is no upstream 'sparre'; did you mean 'spare'\\?"):
        await router.fetch("key", upstream="sparre")


async def test_a_query_travels_as_it_was_written(router, fake):
    """In the path, escaped as in a link, or by name."""
    await router.fetch("models?output_modalities=text%2Cimage&limit=5", offset="1")
    assert ["models?output_modalities=text,image&limit=5&offset=1"] == [
        seen.path.replace("%2C", ",").replace(
            "offset=1&output_modalities=text,image&limit=5", "output_modalities=text,image&limit=5&offset=1"
        )
        for seen in fake.lookups
    ]


class Pages(Lookups):
    """Answers from a table."""

    def __init__(self, pages: dict[str, dict]) -> None:
        self.pages = pages

    async def fetch(self, path: str, upstream: str | None = None, **query: str) -> dict:
        return self.pages[path]


def _row(name: str) -> dict:
    return {"id": name, "pricing": {"prompt": "0.1", "completion": "0.2"}}


async def test_a_list_of_models_is_read_to_its_last_page():
    """Whoever asks wants all of them."""
    first = "models?output_modalities=all&limit=1000"
    pages = Pages(
        {
            first: {"data": [_row("a/b")], "links": {"next": "/models?offset=1"}},
            "models?offset=1": {"data": [_row("c/d")], "links": {}},
        }
    )
    assert ["a/b", "c/d"] == [model.id for model in await pages.models()]


@virtual
async def test_a_list_of_models_that_is_none_is_a_server_error():
    """It says what is wrong with it."""
    policy = policy_of("http://far.invalid/v1")
    async with Router.from_policy(policy, transport=ScriptedTransport(lambda call: {"data": []})) as router:
        with pytest.raises(ServerError, match="holds no models"):
            await router.models()
