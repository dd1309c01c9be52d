"""Whether a router can do its work now: what is asked, and what is told."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.call import Target
from orrouter.core.errors import AuthFailed, InvalidRequest, NoRoute
from orrouter.readiness import Check, Readiness, check_upstreams
from orrouter.router import Router
from orrouter.testkit.clock import virtual
from orrouter.testkit.desk import Rules
from orrouter.testkit.server import FakeOpenRouter

KEY = "sk-or-v1-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]


def policy_of(**upstreams: dict) -> dict:
    return {
        "version": 1,
        "upstreams": upstreams,
        "policies": {"default": [{"retry": {"attempts": 2, "initial": "1ms"}}]},
    }


def at(url: str, **more: str) -> dict:
    return {"base_url": url, "api_key": KEY, **more}


async def ready(policy: dict) -> Readiness:
    async with Router.from_policy(policy, env={}) as router:
        return await router.ready()


def told(readiness: Readiness) -> list[tuple[str, bool, str]]:
    return [(check.name, check.ok, check.detail) for check in readiness.checks]


async def test_a_key_that_is_known_is_enough():
    """No model is asked, and so nothing is charged."""
    async with FakeOpenRouter(keys=[KEY]) as fake:
        found = await ready(policy_of(openrouter=at(fake.url)))
        assert ((), ["key"]) == (fake.requests, [seen.path for seen in fake.lookups])
    assert (True, [("openrouter", True, "the key is accepted")]) == (bool(found), told(found))


async def test_a_wrong_key_is_told():
    """And the key is not repeated."""
    async with FakeOpenRouter(keys=["another"]) as fake:
        found = await ready(policy_of(openrouter=at(fake.url)))
    assert (False, False) == (found.ok, bool(found))
    assert found.checks[0].detail.startswith("auth_failed: ")
    assert KEY not in found.checks[0].detail


async def test_an_upstream_that_is_gone_is_told():
    """Nothing is raised."""
    async with FakeOpenRouter() as fake:
        url = fake.url
    found = await ready(policy_of(openrouter=at(url)))
    assert (False, True) == (found.ok, found.checks[0].detail.startswith("connection_failed: "))


async def test_the_old_path_of_the_key_is_asked_where_the_new_one_is_not():
    """As older gateways have it."""
    async with FakeOpenRouter(rules=Rules(key_paths=("auth/key",))) as fake:
        found = await ready(policy_of(openrouter=at(fake.url)))
        assert ["key", "auth/key"] == [seen.path for seen in fake.lookups]
    assert [("openrouter", True, "the key is accepted")] == told(found)


async def test_an_upstream_that_knows_neither_path_is_not_ready():
    """It says what it was answered."""
    async with FakeOpenRouter(rules=Rules(key_paths=())) as fake:
        found = await ready(policy_of(openrouter=at(fake.url)))
    assert (False, True) == (found.ok, "HTTP 404" in found.checks[0].detail)


async def test_an_upstream_of_openais_kind_is_asked_for_its_models():
    """It has no path for the key."""
    async with FakeOpenRouter() as fake:
        found = await ready(policy_of(spare=at(fake.url, dialect="openai")))
        assert ["models"] == [seen.path for seen in fake.lookups]
    assert [("spare", True, "answers")] == told(found)


async def test_every_upstream_with_a_key_is_asked():
    """One without is left out: its targets are skipped anyway. One that fails spoils the whole."""
    async with FakeOpenRouter() as fake:
        well = policy_of(openrouter=at(fake.url), spare={"base_url": "http://spare.invalid/v1"})
        ill = policy_of(openrouter=at(fake.url), spare=at(fake.url.replace("/v1", "/v2")))
        one, other = await ready(well), await ready(ill)
    assert [("openrouter", True, "the key is accepted")] == told(one)
    assert (True, [True, False]) == (one.ok, [check.ok for check in other.checks])
    assert not other


async def test_without_any_key_nothing_is_ready():
    """And nobody is asked."""
    async with FakeOpenRouter() as fake:
        found = await ready(policy_of(openrouter={"base_url": fake.url}))
        assert ((), ()) == (fake.requests, fake.lookups)
    assert (False, [("openrouter", False, "no key is set")]) == (found.ok, told(found))


async def test_what_is_left_of_a_limit_is_told():
    """A key whose limit is used up can do nothing."""
    async with FakeOpenRouter(rules=Rules(credits="0.5")) as fake:
        some = await ready(policy_of(openrouter=at(fake.url)))
    async with FakeOpenRouter(rules=Rules(credits="0")) as fake:
        none = await ready(policy_of(openrouter=at(fake.url)))
    assert [("openrouter", True, "the key is accepted, $0.5 left of its limit")] == told(some)
    assert [
        ("openrouter", False, "the key is accepted, but its limit is used up: raise it, or wait until it resets")
    ] == told(none)


UPSTREAMS = {name: Target(upstream=name, key=f"{name}:key") for name in ("one", "two")}


@virtual
async def test_upstreams_are_asked_side_by_side_and_told_in_their_order():
    """The slowest is waited for, and no sum of them."""

    async def fetch(path: str, upstream: str) -> dict:
        await asyncio.sleep(3 if upstream == "one" else 1)
        return {"data": {}}

    found = await check_upstreams(UPSTREAMS, fetch)
    assert (3.0, ["one", "two"]) == (asyncio.get_running_loop().time(), [check.name for check in found.checks])


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        ({"data": [1, 2]}, Check("one", True, "answers")),
        ({}, Check("one", True, "answers")),
        ({"data": {"limit_remaining": None}}, Check("one", True, "the key is accepted")),
        ({"data": {"limit_remaining": "soon"}}, Check("one", True, "the key is accepted")),
        (AuthFailed("no such key"), Check("one", False, "auth_failed: no such key")),
        (NoRoute("nothing here"), Check("one", False, "no_route: nothing here")),
        (InvalidRequest("nothing here", status=404), Check("one", False, "invalid_request: nothing here (HTTP 404)")),
    ],
)
async def test_each_answer_becomes_a_check(answer, check):
    """Odd ones too."""

    async def fetch(path: str, upstream: str) -> dict:
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert (check,) == (await check_upstreams({"one": UPSTREAMS["one"]}, fetch)).checks
