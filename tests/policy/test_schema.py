"""A document becomes a policy, or an error that says where, what and what instead."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from orrouter.core.errors import PolicyError
from orrouter.middleware.base import Options
from orrouter.middleware.fallback import TargetOptions
from orrouter.middleware.preferences import MaxPrice, Preferences, Sort
from orrouter.policy import kinds
from orrouter.policy.load import Document, load_text
from orrouter.policy.schema import Policy, When, read_policy
from orrouter.policy.upstreams import CLOSED_HEADERS, ListedPrice, UpstreamOptions
from orrouter.transport import base, http

UPSTREAM = """\
version: 1
upstreams:
  openrouter:
    base_url: https://openrouter.ai/api/v1
    api_key: ${KEY}
"""
SECRET = "sk-or-v1-0123456789"


def read(text: str, **env: str) -> Policy:
    return read_policy(load_text(text, file="p.yaml", env={"KEY": SECRET, **env}))


def refusal(text: str, **env: str) -> str:
    with pytest.raises(PolicyError) as caught:
        read(text, **env)
    return str(caught.value)


def layer(item: str) -> str:
    """A policy of one layer, which stands on line 8 from column 7."""
    return f"{UPSTREAM}policies:\n  default:\n    - {item}\n"


# --- what is read ---------------------------------------------------------------------------------------


def test_a_policy_is_upstreams_routes_and_stacks():
    """What is written is what there is, and a layer remembers where it stands."""
    policy = read(layer("retry: {attempts: 5, initial: 250ms}"))
    assert ["openrouter"] == list(policy.upstreams)
    assert [("default", None)] == [(route.policy, route.when) for route in policy.routes]
    (retry,) = policy.stacks["default"]
    assert ("retry", {"attempts": 5, "initial": 0.25}, ("policies", "default", 0)) == (
        retry.kind,
        retry.options.model_dump(include={"attempts", "initial"}),
        retry.path,
    )


@pytest.mark.parametrize("options", ["", " {}", " null"])
def test_a_layer_without_options_has_its_defaults(options: str):
    """`- retry:` and `- retry: {}` mean the same."""
    (retry,) = read(layer(f"retry:{options}")).stacks["default"]
    assert type(retry.options)() == retry.options


def test_a_single_policy_needs_no_route():
    """With one policy every call takes it, whatever its name."""
    policy = read(f"{UPSTREAM}policies:\n  mine:\n    - retry: {{}}\n")
    assert ["mine"] == [route.policy for route in policy.routes]


def test_an_upstream_is_as_the_transport_wants_it():
    """The site goes into OpenRouter's headers, the key into a secret."""
    text = layer("retry: {}").replace("policies:", "    site_url: https://a.example\n    site_name: A\npolicies:")
    upstream = read(text).upstream("openrouter")
    assert {"HTTP-Referer": "https://a.example", "X-OpenRouter-Title": "A"} == upstream.headers
    assert SECRET == upstream.api_key.reveal()


def test_another_dialect_gets_no_header_of_openrouters():
    """`site_url` is OpenRouter's affair."""
    text = layer("retry: {}").replace("policies:", "    site_url: https://a.example\n    dialect: openai\npolicies:")
    assert {} == read(text).upstream("openrouter").headers


def test_a_policy_shows_no_secret():
    """Neither a key nor what may hold one is in any repr."""
    text = layer("retry: {}").replace(
        "policies:", "    proxy: ${PROXY}\n    headers:\n      X-Token: ${TOKEN}\npolicies:"
    )
    policy = read(text, PROXY="http://me:hush@proxy", TOKEN="Bearer hush")
    shown = f"{policy!r} {policy.upstream('openrouter').api_key!r} {policy.upstreams!r}"
    assert (False, False) == (SECRET in shown, "hush" in shown)


def test_a_variable_may_give_a_number():
    """An option takes the text of a variable as if it were written there."""
    (retry,) = read(layer("retry:\n        attempts: ${TRIES}"), TRIES="5").stacks["default"]
    assert 5 == retry.options.model_dump()["attempts"]


def test_an_option_that_is_not_set_is_as_by_default():
    """A policy can be looked at without its environment; building it says what is missing."""
    policy = read(layer("retry:\n        attempts: ${TRIES}"))
    assert 3 == policy.stacks["default"][0].options.model_dump()["attempts"]
    assert ["TRIES"] == [unset.variable for unset in policy.document.unset]


@pytest.mark.parametrize(
    "url", ["https://me:hush@a.example", "https://hush@a.example", "ftp://me:hush@x", "me:hush@x", "https://me:hush@[x"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str):
    """It would take the key's place in silence; whether written out or from the environment."""
    told = [
        refusal(layer("retry: {}").replace("https://openrouter.ai/api/v1", written), URL=url)
        for written in (f"'{url}'", "${URL}")
    ]
    hint = "take out what stands before the @, and write api_key: ${NAME}"
    assert [f"p.yaml:4:15: a name or a password must not stand in an address; {hint}"] * 2 == told


def test_an_at_sign_in_a_path_is_no_password():
    """Only what stands before the host is."""
    policy = read(layer("retry: {}").replace("openrouter.ai/api/v1", "a.example:80/@me/v1"))
    assert "https://a.example:80/@me/v1" == policy.upstreams["openrouter"].base_url


def test_headers_that_a_policy_may_not_set_are_the_transports():
    """The two lists are one: reading a policy does not load the transport."""
    assert CLOSED_HEADERS is http.CLOSED_HEADERS is base.CLOSED_HEADERS


def test_an_address_that_is_not_set_stops_no_look_at_the_policy():
    """`base_url: ${NAME}` is a warning of check, not an error of reading."""
    policy = read(layer("retry: {}").replace("https://openrouter.ai/api/v1", "${URL}"))
    assert "https://unset.invalid" == policy.upstreams["openrouter"].base_url


# --- what is refused ------------------------------------------------------------------------------------

TOP = {
    "- a": "p.yaml:1:1: a policy is a mapping; begin with 'version: 1'",
    "version: 2": "p.yaml:1:10: the version must be 1; write 'version: 1'",
    "version: true": "p.yaml:1:10: the version must be 1; write 'version: 1'",
    "upstreams: {}": "p.yaml:1:1: the version must be 1; write 'version: 1'",
    "version: 1": "p.yaml:1:1: there are no upstreams; add 'upstreams:' with base_url and api_key",
    "version: 1\nupstream: {}": "p.yaml:2:1: a policy has no 'upstream'; did you mean 'upstreams'?",
    "version: 1\nupstreams: []": "p.yaml:2:12: upstreams must be a mapping by name; write 'upstreams:' and names below it",
    "version: 1\nupstreams: {a b: {}}": "p.yaml:2:13: 'a b' is no name; use letters, digits, - _ .",
    UPSTREAM: "p.yaml:1:1: there are no policies; add 'policies:' with 'default:' below it",
    f"{UPSTREAM}policies: {{default: {{}}}}": "p.yaml:6:21: policy 'default' must be a list of layers; write '- retry: {}'",
    f"{UPSTREAM}policies: {{default: []}}": "p.yaml:6:21: policy 'default' must be a list of layers; write '- retry: {}'",
    f"{UPSTREAM}policies: {{a: [retry: ], b: [retry: ]}}": "p.yaml:6:11: no route says which policy is taken; call one of them default",
}


@pytest.mark.parametrize(("text", "error"), TOP.items())
def test_a_wrong_frame_is_refused_at_its_place(text: str, error: str):
    """Each mistake at the top of a policy has its line, its column and its cure."""
    assert error == refusal(text)


UPSTREAMS = {
    "a: ": "p.yaml:2:15: a must be a mapping",
    "a: {}": "p.yaml:2:13: a needs 'base_url'",
    "a: {base_url: ftp://x}": "p.yaml:2:27: a.base_url: write an address that begins with http:// or https:// (it is 'ftp://x')",
    "a: {base_url: 'https://[x'}": "p.yaml:2:27: a.base_url: write an address that begins with http:// or https:// (it is 'https://[x')",
    "a: {base_url: 5}": "p.yaml:2:27: a.base_url must be text (it is 5)",
    "a: {base_url: https://x, api_key: sk-1}": "p.yaml:2:47: a key must not stand in a policy; write api_key: ${NAME}, or use api_key_file",
    "a: {base_url: https://x, dialect: openia}": "p.yaml:2:47: a.dialect must be 'openrouter' or 'openai' (it is 'openia'); did you mean 'openai'?",
    "a: {base_url: https://x, connections: 0}": "p.yaml:2:51: a.connections must be at least 1 (it is 0)",
    "a: {base_url: https://x, max_body: 20}": "p.yaml:2:48: a.max_body: write it with its unit, as in 20MiB (it is 20)",
    'a: {base_url: https://x, headers: {X: "a\\nb"}}': "p.yaml:2:47: a.headers: the header 'X' holds a line break",
    "a: {base_url: https://x, headers: {Content-Length: '3'}}": "p.yaml:2:48: the header Content-Length is written by the router itself; remove it",
    "a: {base_url: https://x, headers: {AUTHORIZATION: x}}": "p.yaml:2:48: the header AUTHORIZATION is written by the router itself; write api_key: ${NAME}, or use api_key_file",
    "a: {base_url: https://x, headers: {'Host ': x}}": "p.yaml:2:47: a.headers: 'Host ' is no name of a header",
    "a: {base_url: https://x, prices: {m: {prompt: 3, completion: $1/M}}}": "p.yaml:2:59: a.prices.m.prompt must be text (it is 3)",
    "a: {base_url: https://x, prices: {m: {prompt: $3/L, completion: $1/M}}}": "p.yaml:2:59: a.prices.m.prompt: '$3/L' is no price: write $3/M (a million tokens) or $0.01 (each)",
    "a: {base_url: https://x, prices: {m: {prompt: $3/M}}}": "p.yaml:2:47: a.prices.m needs 'completion'",
}


@pytest.mark.parametrize(("written", "error"), UPSTREAMS.items())
def test_a_wrong_upstream_is_refused_at_its_place(written: str, error: str):
    """Each mistake in an upstream names the option as its path below the upstream."""
    assert error == refusal(f"version: 1\nupstreams: {{{written}}}\n")


LAYERS = {
    "retry": "8:7: 'retry' stands alone; write '- retry: {}'",
    "[]": "8:7: each item of a policy is one layer; write '- retry: {attempts: 3}'",
    "{retry: {}, breaker: {}}": "8:7: each item of a policy is one layer; write '- retry: {attempts: 3}'",
    "retries: {}": "8:7: no layer is called 'retries'; did you mean 'retry'?",
    "retry: 3": "8:14: the options of retry must be a mapping; write '- retry: {}'",
    "retry: {attempts: many}": "8:25: retry.attempts must be a whole number (it is 'many')",
    "retry: {attempts: 2.5}": "8:25: retry.attempts must be a whole number (it is 2.5)",
    "retry: {attempts: 99}": "8:25: retry.attempts must be at most 10 (it is 99)",
    "retry: {initial: 5}": "8:24: retry.initial: write it with its unit, as in 500ms or 30s (it is 5)",
    "retry: {initial: 5 s}": "8:24: retry.initial: '5 s' is no duration: write 250ms, 1.5s, 2m, 1h or 7d",
    "retry: {initial: 0s}": "8:24: retry.initial must be above 0 (it is '0s')",
    "record: {content: 7}": "8:25: record.content must be true or false (it is 7)",
    "deadline: {}": "8:17: deadline needs at least one of total, connect, first_token, stall, dead, attempt",
    "fallback: {}": "8:7: fallback needs 'models'",
    "fallback: {model: [a/b]}": "8:18: fallback has no 'model'; did you mean 'models'?",
    "fallback: {models: a/b}": "8:26: fallback.models must be a list (it is 'a/b')",
    "fallback: {models: []}": "8:26: fallback.models must not be empty",
    "fallback: {models: [7]}": "8:27: fallback.models[0] must be text (it is 7)",
    "fallback: {models: [a/b, {upstream: x}]}": "8:32: fallback.models[1] needs 'model'",
    "fallback: {models: [{model: ''}]}": "8:35: fallback.models[0].model must not be empty (it is '')",
    "fallback: {models: [a/b, a/b]}": "8:17: fallback: the chain names a/b twice",
    "fallback: {models: [a/b], midstream: continue}": "8:44: fallback.midstream: 'continue' does not exist yet: write fail",
    "provider: {sort: prise}": "8:24: provider.sort must be 'price', 'throughput', 'latency' or 'exacto' (it is 'prise'); did you mean 'price'?",
    "provider: {sort: {partition: none}}": "8:18: provider.sort needs 'by'",
    "provider: {models: {'a/*': {}}}": "8:26: provider.models: models: 'a/*' says nothing",
    "attempt: {}": "8:7: attempt is always there and has no options; remove it",
}


@pytest.mark.parametrize(("item", "error"), LAYERS.items())
def test_a_wrong_layer_is_refused_at_its_place(item: str, error: str):
    """Each mistake in a layer names the option as its path below the layer."""
    assert f"p.yaml:{error}" == refusal(layer(item))


@pytest.mark.parametrize("kind", ["limit", "hedge"])
def test_a_layer_that_is_to_come_is_refused(kind: str):
    """What nobody would keep must not be written: a limit that does nothing is worse than none."""
    error = f"{kind} does not exist yet: it comes with a later version; remove it: nothing would keep what it promises"
    assert f"p.yaml:8:7: {error}" == refusal(layer(f"{kind}: {{per_call: $0.50}}"))


ROUTES = {
    "{}": "9:9: routes must be a list; write '- {policy: default}'",
    "[5]": "9:10: routes[0] must be a mapping (it is 5)",
    "[{policy: defualt}]": "9:19: there is no policy 'defualt'; did you mean 'default'?",
    "[{when: {model: a/b}}]": "9:10: routes[0] needs 'policy'",
    "[{policy: default, when: {model: a/b}}]": "9:10: the last route must take every call that is left; write '- {policy: default}' below it",
    "[{policy: default}, {policy: default}]": "9:10: this route takes every call: none below is reached; add a 'when', or move it to the end",
    "[{policy: default, when: {}}, {policy: default}]": "9:34: routes[0].when: write at least one of tag, model, endpoint",
    "[{policy: default, when: {tag: {tier: 1}}}, {policy: default}]": "9:47: routes[0].when.tag.tier must be text (it is 1)",
}


@pytest.mark.parametrize(("routes", "error"), ROUTES.items())
def test_a_wrong_route_is_refused_at_its_place(routes: str, error: str):
    """Each mistake in a route names it by its number in the list."""
    assert f"p.yaml:{error}" == refusal(f"{layer('retry: {}')}routes: {routes}\n")


# --- misspelt keys --------------------------------------------------------------------------------------


def typos(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Every field of a model, and how it may be misspelt."""
    return [(name, name + name[-1]) for name in model.model_fields]


OPTIONS: list[type[Options]] = [kinds.kind(name) for name in kinds.OURS]


@pytest.mark.parametrize(
    ("kind", "right", "typo"), [(options.kind, right, typo) for options in OPTIONS for right, typo in typos(options)]
)
def test_a_misspelt_option_of_any_layer_is_suggested(kind: str, right: str, typo: str):
    """Every option of every kind: the error stands at the key and names the one that was meant."""
    column = 7 + len(f"{kind}: {{")
    error = f"p.yaml:8:{column}: {kind} has no {typo!r}; did you mean {right!r}?"
    assert error == refusal(layer(f"{kind}: {{{typo}: 1}}"))


INNER = [
    (TargetOptions, "fallback: {models: [{model: x, TYPO: 1}]}", "fallback.models[0]"),
    (Preferences, "fallback: {models: [{model: x, provider: {TYPO: 1}}]}", "fallback.models[0].provider"),
    (Preferences, "provider: {models: {'a/*': {TYPO: 1}}}", "provider.models.a/*"),
    (Sort, "provider: {sort: {by: price, TYPO: 1}}", "provider.sort"),
    (MaxPrice, "provider: {max_price: {TYPO: 1}}", "provider.max_price"),
]


@pytest.mark.parametrize(
    ("item", "name", "right", "typo"),
    [(item, name, right, typo) for model, item, name in INNER for right, typo in typos(model)],
)
def test_a_misspelt_option_inside_of_another_is_suggested(item: str, name: str, right: str, typo: str):
    """Also below a layer, where a text or a mapping may stand, or below a name that the writer chose."""
    error = f"p.yaml:8:{7 + item.index('TYPO')}: {name} has no {typo!r}; did you mean {right!r}?"
    assert error == refusal(layer(item.replace("TYPO", typo)))


FRAME = [
    (UpstreamOptions, "upstreams: {a: {TYPO: 1}}", "a"),
    (ListedPrice, "upstreams: {a: {base_url: https://x, prices: {m: {TYPO: 1}}}}", "a.prices.m"),
]


@pytest.mark.parametrize(
    ("line", "name", "right", "typo"),
    [(line, name, right, typo) for model, line, name in FRAME for right, typo in typos(model)],
)
def test_a_misspelt_option_of_an_upstream_is_suggested(line: str, name: str, right: str, typo: str):
    """Every key of an upstream and of its prices."""
    error = f"p.yaml:2:{1 + line.index('TYPO')}: {name} has no {typo!r}; did you mean {right!r}?"
    assert error == refusal(f"version: 1\n{line.replace('TYPO', typo)}\n")


@pytest.mark.parametrize(("right", "typo"), typos(When))
def test_a_misspelt_condition_of_a_route_is_suggested(right: str, typo: str):
    """Every word of `when`."""
    line = f"routes: [{{policy: default, when: {{{typo}: x}}}}, {{policy: default}}]"
    error = f"p.yaml:9:{1 + line.index(typo)}: routes[0].when has no {typo!r}; did you mean {right!r}?"
    assert error == refusal(f"{layer('retry: {}')}{line}\n")


# --- the environment ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "said"),
    [("initial", "cannot be what its variable holds"), ("attempts", "must be a whole number")],
)
def test_what_a_variable_holds_is_not_repeated(option: str, said: str):
    """It may be a secret that was put in the wrong place."""
    column = 9 + len(f"{option}: ")
    assert f"p.yaml:9:{column}: retry.{option} {said}" == refusal(layer(f"retry:\n        {option}: ${{X}}"), X=SECRET)


def test_a_needed_value_that_is_not_set_names_its_variable():
    """Where nothing can stand in, reading says which variable is missing."""
    error = "the environment has no MODEL; set MODEL, or write ${MODEL:-} where it may be missing"
    assert f"p.yaml:10:13: {error}" == refusal(layer("fallback:\n        models:\n          - ${MODEL}"))
    assert f"p.yaml:10:20: {error}" == refusal(layer("fallback:\n        models:\n          - model: ${MODEL}"))


def test_two_keys_of_one_upstream_are_refused():
    """Which of them would be sent is not guessed."""
    text = layer("retry: {}").replace("policies:", "    api_key_file: key.txt\npolicies:")
    assert "p.yaml:6:19: api_key and api_key_file are both written; keep one" == refusal(text)


# --- anything ---------------------------------------------------------------------------------------------

WHOLE: dict[str, Any] = {
    "version": 1,
    "upstreams": {"a": {"base_url": "https://x", "prices": {"m": {"prompt": "$1/M", "completion": "$1/M"}}}},
    "routes": [{"policy": "default", "when": {"tag": {"tier": "batch"}}}, {"policy": "default"}],
    "policies": {
        "default": [
            {"deadline": {"total": "1m"}},
            {"fallback": {"models": ["a/b", {"model": "m", "upstream": "a", "when": ["transient"]}]}},
            {"provider": {"sort": {"by": "price"}, "models": {"a/*": {"order": ["x"]}}}},
            {"retry": {"attempts": 3}},
        ]
    },
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    if not path:
        return other
    if isinstance(value, dict):
        return {key: replaced(item, path[1:], other) if key == path[0] else item for key, item in value.items()}
    return [replaced(item, path[1:], other) if key == path[0] else item for key, item in enumerate(value)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(places(WHOLE)), JSON)
def test_whatever_stands_anywhere_is_read_or_refused(path: tuple[str | int, ...], value: Any):
    """Any value in any place gives a policy or a PolicyError, and nothing else."""
    try:
        assert isinstance(read_policy(Document(replaced(WHOLE, path, value), "p.yaml")), Policy)
    except PolicyError as error:
        assert str(error).startswith("p.yaml: ")
