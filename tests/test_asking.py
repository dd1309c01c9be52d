"""What a caller says, read before anything is sent."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from orrouter.asking import Asked, Wish, cap_of, read_wish, warner
from orrouter.core.errors import InvalidRequest, PolicyError
from orrouter.wire.spelling import Spelling

HELLO = [{"role": "user", "content": "Hello"}]


class City(BaseModel):
    name: str


def wish(asked: Asked | None = None, **body) -> Wish:
    return read_wish(body, asked or Asked())


def test_a_plain_request_is_handed_on_as_it_is():
    """No model, no policy, nothing translated."""
    body = {"messages": HELLO, "temperature": 1}
    read = read_wish(body, Asked())
    assert Wish({"messages": HELLO, "temperature": 1}, (), None, {}, None, ()) == read
    assert read.body["messages"] is HELLO


@pytest.mark.parametrize(
    ("body", "policy", "models"),
    [
        ({"model": "a/1"}, None, ("a/1",)),
        ({"models": ["a/1", "b/2"]}, None, ("a/1", "b/2")),
        ({"model": "a/1", "models": ("b/2", "a/1", "c/3")}, None, ("a/1", "b/2", "c/3")),
        ({"models": [f"a/{number}" for number in range(9)]}, None, tuple(f"a/{number}" for number in range(9))),
        ({"model": None, "models": None}, None, ()),
        ({"model": "policy/frugal"}, "frugal", ()),
        ({"model": "policy/frugal", "models": ["a/1"]}, "frugal", ("a/1",)),
        ({"model": "auto"}, None, ("openrouter/auto",)),
    ],
)
def test_models_and_policies_are_named_in_the_body(body, policy, models):
    """Each model once, the first choice first; `policy/NAME` stands for a policy."""
    read = wish(**body)
    assert ({}, policy, models) == (read.body, read.policy, read.models)


def test_a_policy_said_aloud_wins_over_one_named_as_a_model():
    """The argument is more explicit than the model."""
    assert "said" == wish(Asked(policy="said"), model="policy/named").policy


@pytest.mark.parametrize(
    "body", [{"model": 5}, {"model": ""}, {"models": "a/1"}, {"models": [None]}, {"models": {"a/1": 1}}]
)
def test_a_model_that_is_no_slug_is_the_callers_mistake(body):
    """Told in words, before anything is sent."""
    with pytest.raises(InvalidRequest, match=r"model"):
        wish(**body)


TIMEOUTS = [0, -1, float("nan"), float("inf"), "20", 10**400, -(10**5000)]


@pytest.mark.parametrize("timeout", TIMEOUTS, ids=lambda timeout: type(timeout).__name__)
def test_a_timeout_is_a_number_of_seconds(timeout):
    """Zero, for ever, a text: none of them is one."""
    with pytest.raises(InvalidRequest, match="timeout must be a number of seconds above 0"):
        wish(Asked(timeout=timeout))


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        (Asked(headers=[("a", "b")]), InvalidRequest, "headers must be a mapping of texts by name, not list"),
        (Asked(headers=[]), InvalidRequest, "headers must be a mapping of texts by name, not list"),
        (Asked(tags=[1]), InvalidRequest, "tags must be a mapping, as in {'team': 'search'}, not list"),
        (Asked(tags="x"), InvalidRequest, "tags must be a mapping, as in {'team': 'search'}, not str"),
        (Asked(tags={"n": 1}), InvalidRequest, "the tag 'n' must be a text with a text as its name"),
        (Asked(policy=5), PolicyError, "policy must be the name of a policy, a text, not int"),
        (Asked(policy=[]), PolicyError, "policy must be the name of a policy, a text, not list"),
    ],
)
def test_what_is_of_the_wrong_type_is_told_in_words(asked, error, told):
    """Never a TypeError from deep inside."""
    with pytest.raises(error) as caught:
        wish(asked)
    assert told == caught.value.message


@pytest.mark.parametrize("name", ["X-Max-Cost", "x-max-cost"])
def test_a_header_that_looks_like_a_limit_is_refused(name):
    """No upstream knows it: sent on, it would look like a limit and be none."""
    with pytest.raises(InvalidRequest, match=r"pass max_cost='\$0.01'"):
        wish(Asked(headers={name: "0.01"}))


@pytest.mark.parametrize("sum_", ["0.01", "$", "$-1", "1 cent", "", 0.01, True])
def test_a_cap_that_is_no_sum_is_refused(sum_):
    """A number without its unit could be dollars or cents."""
    with pytest.raises(InvalidRequest, match="max_cost must be a sum of money"):
        wish(Asked(max_cost=sum_))


def test_a_callers_cap_is_a_purse():
    """As large as he says, and named so in the error."""
    cap = cap_of("$0.01")
    assert (10_000_000, "max_cost", "clamp") == (cap.purse.amount, cap.named, cap.when_short)


def test_a_stream_is_not_asked_for_in_the_body():
    """`stream=False` says nothing new; `stream=True` has its own method."""
    assert {"messages": HELLO} == wish(messages=HELLO, stream=False).body
    with pytest.raises(InvalidRequest, match=r"router\.stream"):
        wish(messages=HELLO, stream=True)


def test_a_pydantic_model_becomes_a_schema_and_is_remembered():
    """The schema goes out, the model reads the answer."""
    read = wish(response_format=City)
    assert (City, "json_schema") == (read.parse, read.body["response_format"]["type"])
    plain = wish(response_format={"type": "json_object"})
    assert (None, {"type": "json_object"}) == (plain.parse, plain.body["response_format"])
    with pytest.raises(InvalidRequest, match="not the class dict"):
        wish(response_format=dict)


def test_headers_of_one_call_are_checked_and_translated():
    """Today's spelling goes out."""
    read = wish(Asked(headers={"X-Title": "App", "x-session-id": "s"}))
    assert ({"X-OpenRouter-Title": "App", "x-session-id": "s"}, ["X-Title"]) == (
        read.headers,
        [one.old for one in read.spellings],
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "b\r\nAuthorization: stolen"}, {"A": "b\nc"}, {"A": "b\0"}, {"A": "\x7f"}, {"A\r\nB": "c"}, {"A B": "c"}, {"A:": "b"},
        {"": "b"}, {"A": 5}, {"A": b"b"}, {5: "b"}, {"A": None},
    ],
)  # fmt: skip
def test_a_header_is_one_line_of_text(headers):
    """Line breaks would smuggle headers, and what is no text cannot be sent."""
    with pytest.raises(InvalidRequest, match="header"):
        wish(Asked(headers=headers))


def test_every_old_spelling_of_one_request_is_named_once():
    """Models, body and headers together."""
    read = wish(
        Asked(headers={"X-Title": "App"}), model="auto", models=["auto"], transforms=["middle-out"], route="fallback",
        provider={"quantization": "fp16", "require": ["a"]},
    )  # fmt: skip
    olds = [
        "model: auto",
        "model: auto",
        "route",
        "transforms: middle-out",
        "provider.quantization",
        "provider.require",
        "X-Title",
    ]
    assert olds == [spelling.old for spelling in read.spellings]
    assert {
        "plugins": [{"id": "context-compression"}],
        "provider": {"quantizations": ["fp16"], "only": ["a"]},
    } == read.body


def test_each_old_spelling_is_warned_of_once():
    """A service that sends it a million times has one warning in its log."""
    heard: list[str] = []
    tell = warner(heard.append)
    for spelling in [Spelling("a", "b"), Spelling("a", "b"), Spelling("c", "d")]:
        tell(spelling)
    assert ["'a'", "'c'"] == [text.split()[3] for text in heard]


def test_a_route_that_a_caller_invents_is_no_new_spelling():
    """Who sends a thousand of them is warned once, and none is kept."""
    heard: list[str] = []
    tell = warner(heard.append)
    for number in range(3):
        for spelling in wish(route=f"r{number}").spellings:
            tell(spelling)
    assert ["OpenRouter now spells 'route' as 'models': the request was translated"] == heard
