"""Errors and warnings about a policy, each at its place, before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.policy.check import Finding, check, check_file
from orrouter.policy.load import load_text
from orrouter.policy.schema import read_policy

CONFIG = Path(__file__).parents[2] / "config"
ROWS = [
    {"id": "anthropic/claude-sonnet-4.5", "canonical_slug": "anthropic/claude-4.5-sonnet-20250929"},
    {"id": "openai/gpt-4o"},
    {"id": "openai/gpt-old", "expiration_date": "2026-01-31"},
    {"id": "openai/gpt-soon", "expiration_date": "2026-12-31"},
]
CATALOG = Catalog([Model.read(row) for row in ROWS], as_of="2026-06-01")
UPSTREAM = "version: 1\nupstreams:\n  openrouter:\n    base_url: https://openrouter.ai/api/v1\n    api_key: ${KEY:-k}\n"


def findings(text: str, upstream: str = UPSTREAM) -> list[str]:
    return [str(found) for found in check(read_policy(load_text(upstream + text, file="p.yaml", env={})), CATALOG)]


def of_stack(*items: str) -> list[str]:
    """What is said of a policy whose layers stand on line 8 and below, from column 7."""
    return findings("policies:\n  default:\n" + "".join(f"    - {item}\n" for item in items))


def test_a_good_policy_is_not_talked_about():
    """Silence means that all is well."""
    chain = "fallback: {models: [anthropic/claude-sonnet-4.5, openai/gpt-4o]}"
    prefer = 'provider: {models: {"anthropic/*": {order: [anthropic]}}}'
    clocks = "deadline: {connect: 5s, first_token: 15s, stall: 30s, attempt: 60s}"
    assert [] == of_stack("record: {}", "deadline: {total: 2m}", chain, prefer, "retry: {}", "breaker: {}", clocks)


def test_a_finding_without_a_place_shows_none():
    """A policy made in code has no lines."""
    assert "warning: it is risky" == str(Finding("warning", "it is risky"))
    assert "<policy>: error: it is wrong; mend it" == str(Finding("error", "it is wrong", "mend it", "<policy>"))


# --- errors ---------------------------------------------------------------------------------------------

CHAIN = "fallback: {models: [openai/gpt-4o]}"
ERRORS = [
    (
        ["retry: {}", "deadline: {total: 1m}"],
        (
            "9:18: error: a total is for the whole call, and this one stands below retry; "
            "write attempt: for the time of each try, or move the total above retry"
        ),
    ),
    (
        [CHAIN, "deadline: {connect: 1s, total: 1m}"],
        (
            "9:31: error: a total is for the whole call, and this one stands below fallback; "
            "write attempt: for the time of each try, or move the total above fallback"
        ),
    ),
    (["retry: {}", "retry: {}"], "9:7: error: retry stands twice in this policy, first on line 8; keep one of the two"),
    (
        ["retry: {}", "record: {}"],
        (
            "9:7: error: record must be the first layer: below retry it would not see every call; "
            "move it to the top of the policy"
        ),
    ),
    (
        ["fallback: {models: [openai/gpt-4o, {model: x, upstream: openruter}]}"],
        "8:63: error: there is no upstream 'openruter'; did you mean 'openrouter'?",
    ),
]


@pytest.mark.parametrize(("items", "error"), ERRORS)
def test_a_stack_that_cannot_be_meant_is_an_error(items: list[str], error: str):
    """What no single layer sees: order, repetition, names of upstreams."""
    assert [f"p.yaml:{error}"] == of_stack(*items)


def test_every_error_is_told():
    """Not only the first, so that one look is enough; in the order of the file."""
    told = of_stack("retry: {}", "deadline: {total: 1m}", "record: {}", "retry: {}")
    assert ["p.yaml:9:18", "p.yaml:10:7", "p.yaml:11:7"] == [found.partition(": ")[0] for found in told]


# --- risky orders and clocks ----------------------------------------------------------------------------

RISKY = [
    (["provider: {zdr: true}", CHAIN], "provider stands above fallback: it does not know yet which target is asked; move provider below fallback"),
    (["retry: {}", CHAIN], "retry stands above fallback: every retry asks the whole chain again; move retry below fallback"),
    (["breaker: {}", CHAIN, "retry: {}"], "breaker stands above fallback: it does not know yet which target is asked; move breaker below fallback"),
    (["breaker: {}", "retry: {}"], "breaker stands above retry: it sees one call where several tries are made; move breaker below retry"),
]  # fmt: skip


@pytest.mark.parametrize(("items", "warning"), RISKY)
def test_a_risky_order_is_a_warning(items: list[str], warning: str):
    """It can be built, and does not do what most would expect; said once a layer."""
    assert [f"p.yaml:8:7: warning: {warning}"] == of_stack(*items)


CLOCKS = [
    ("total: 1m", "attempt: 90s", "9:27: warning: attempt (1m30s) is longer than total (1m): it never rings; make it shorter than 1m, or leave it out"),
    ("total: 20s", "first_token: 30s", "9:31: warning: first_token (30s) is longer than total (20s): it never rings; make it shorter than 20s, or leave it out"),
    ("attempt: 20s", "stall: 30s", "9:25: warning: stall (30s) is longer than attempt (20s): it never rings; make it shorter than 20s, or leave it out"),
    ("total: 60s", "attempt: 20s, dead: 25s", "9:38: warning: dead (25s) is longer than attempt (20s): it never rings; make it shorter than 20s, or leave it out"),
    ("total: 60s", "first_token: 9s, last_first_token: 2m", "9:53: warning: last_first_token (2m) is longer than total (1m): it never rings; make it shorter than 1m, or leave it out"),
]  # fmt: skip


@pytest.mark.parametrize(("above", "below", "warning"), CLOCKS)
def test_a_clock_that_never_rings_is_a_warning(above: str, below: str, warning: str):
    """A shorter one always comes before it."""
    assert [f"p.yaml:{warning}"] == of_stack(f"deadline: {{{above}}}", f"deadline: {{{below}}}")


def test_a_clock_as_long_as_the_total_is_none_to_talk_about():
    """Only what is longer is odd."""
    assert [] == of_stack("deadline: {total: 60s}", "deadline: {attempt: 60s, stall: 60s}")


# --- models ---------------------------------------------------------------------------------------------

MODELS = {
    "anthropic/claude-sonet-4.5": "warning: no catalog knows 'anthropic/claude-sonet-4.5'; did you mean 'anthropic/claude-sonnet-4.5'?",
    "zzz/unheard-of": "warning: no catalog knows 'zzz/unheard-of'; check the slug; a new model may be newer than the catalog",
    "openai/gpt-old": "warning: openai/gpt-old expired on 2026-01-31; choose another model",
    "openai/gpt-soon": "warning: openai/gpt-soon expires on 2026-12-31; choose another model",
}


@pytest.mark.parametrize(("slug", "warning"), MODELS.items())
def test_a_doubtful_model_is_a_warning(slug: str, warning: str):
    """Only a warning: the list of models ages."""
    assert [f"p.yaml:8:27: {warning}"] == of_stack(f"fallback: {{models: [{slug}]}}")
    assert [f"p.yaml:8:35: {warning}"] == of_stack(f"fallback: {{models: [{{model: {slug}}}]}}")


@pytest.mark.parametrize(
    "slug", ["openai/gpt-4o:online", "anthropic/claude-4.5-sonnet-20250929", "~anthropic/claude-latest", "'@preset/mine'", "openrouter/auto"]
)  # fmt: skip
def test_what_is_no_row_of_the_list_may_still_be_right(slug: str):
    """Suffixes, dated names, aliases, presets and OpenRouter's own routers."""
    assert [] == of_stack(f"fallback: {{models: [{slug}]}}")


def spare(prices: str) -> list[str]:
    upstream = (
        f"{UPSTREAM}  spare:\n    base_url: https://s.example\n    api_key: ${{KEY:-k}}\n    dialect: openai\n{prices}"
    )
    return findings("policies:\n  default:\n    - fallback: {models: [{model: gpt-4p, upstream: spare}]}\n", upstream)


def test_a_model_of_another_dialect_is_unknown_only_where_prices_are_listed():
    """Nobody knows what such an upstream serves, unless the policy says it."""
    listed = "    prices: {gpt-4o: {prompt: $1/M, completion: $1/M}}\n"
    warning = "p.yaml:13:35: warning: the prices of spare do not list 'gpt-4p'; did you mean 'gpt-4o'?"
    assert ([], [warning]) == (spare(""), spare(listed))


def test_preferences_for_a_model_that_is_not_asked_are_a_warning():
    """A misspelt glob would do nothing in silence."""
    warning = "p.yaml:9:27: warning: no model of the chain fits 'antropic/*'; one of 'openai/gpt-4o'"
    prefer = 'provider: {models: {"antropic/*": {order: [anthropic]}}}'
    assert [warning] == of_stack(CHAIN, prefer)
    assert [] == of_stack("fallback: {models: [openai/gpt-4o], open: true}", prefer)
    assert [] == of_stack(prefer)


FOREIGN = f"{UPSTREAM}  spare: {{base_url: 'https://s.example', dialect: openai}}\n"
MIXED = "policies:\n  default:\n    - fallback: {models: [openai/gpt-4o, {model: m, upstream: spare%s}]}\n"


def test_preferences_of_a_target_that_is_not_openrouters_are_an_error():
    """`data_collection: deny` would be dropped, and its writer would believe it holds."""
    error = "spare is not OpenRouter: its provider preferences mean nothing; remove them"
    assert [f"p.yaml:9:70: error: {error}"] == findings(MIXED % ", provider: {data_collection: deny}", FOREIGN)


def test_a_provider_layer_warns_of_targets_that_are_not_openrouters():
    """Each is named; where no chain is written, it is whatever the first upstream serves."""
    said = "at spare gets none of these preferences: spare is not OpenRouter"
    hint = "take it out of this policy if they must hold, or write them below models: for the others"
    zdr = "    - provider: {zdr: true}\n"
    assert [f"p.yaml:10:7: warning: m {said}; {hint}"] == findings(MIXED % "" + zdr, FOREIGN)
    assert [] == findings(MIXED % "" + '    - provider: {models: {"openai/*": {zdr: true}}}\n', FOREIGN)
    alone = UPSTREAM.replace("openrouter:", "spare:") + "    dialect: openai\n"
    told = [f"p.yaml:9:7: warning: every model {said}; {hint}"]
    assert told == findings("policies:\n  default:\n" + zdr, alone)


# --- upstreams, routes, environment ---------------------------------------------------------------------


def test_an_upstream_that_no_chain_uses_is_a_warning():
    """The first is used wherever none is named."""
    upstream = f"{UPSTREAM}  spare: {{base_url: https://s.example}}\n"
    hint = "write {model: …, upstream: spare} in a fallback, or remove it"
    assert [f"p.yaml:6:3: warning: no chain uses spare; {hint}"] == findings("policies: {a: [retry: ]}", upstream)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://api.example/v1", ["p.yaml:4:15: warning: the key and every prompt travel in clear; use https://"]),
        ("http://10.0.0.1", ["p.yaml:4:15: warning: the key and every prompt travel in clear; use https://"]),
        ("http://localhost:8000", []),
        ("http://127.0.0.1:8000", []),
        ("http://[::1]:8000", []),
        ("https://api.example/v1", []),
    ],
)
def test_an_upstream_in_clear_text_is_a_warning(url: str, found: list[str]):
    """Unless it is this very machine."""
    upstream = f"version: 1\nupstreams:\n  a:\n    base_url: {url}\n    api_key: ${{KEY:-k}}\n"
    assert found == findings("policies: {a: [retry: ]}", upstream)


def test_a_policy_without_any_key_is_a_warning():
    """Every target would be skipped."""
    message = "no upstream has a key: every target would be skipped; write api_key: ${NAME}"
    upstream = UPSTREAM.replace("${KEY:-k}", "${KEY:-}")
    assert [f"p.yaml:2:1: warning: {message}"] == findings("policies: {a: [retry: ]}", upstream)


def test_a_variable_that_is_not_set_is_a_warning():
    """A policy may be checked where its secrets are not."""
    message = "the environment has no KEY; set KEY, or write ${KEY:-} where it may be missing"
    upstream = UPSTREAM.replace("${KEY:-k}", "${KEY}")
    assert [f"p.yaml:5:14: warning: {message}"] == findings("policies: {a: [retry: ]}", upstream)


def test_a_policy_that_no_route_leads_to_is_a_warning():
    """Where routes are written; without them all but the default are there to be named."""
    policies = "policies: {default: [retry: ], other: [retry: ]}\n"
    message = "no route leads to other: only a call that names it takes it; add a route, or ignore this"
    assert [f"p.yaml:6:32: warning: {message}"] == findings(f"{policies}routes: [{{policy: default}}]\n")
    assert [] == findings(policies)


# --- files ----------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path):
    """The first mistake, with its place, and no policy."""
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nupstream: {}\n")
    error = Finding("error", "a policy has no 'upstream'", "did you mean 'upstreams'?", str(file), 2, 1)
    assert (None, (error,)) == check_file(file, {}, CATALOG)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path):
    """Nothing is raised: the command shows it like any other."""
    policy, (found,) = check_file(tmp_path / "none.yaml", {}, CATALOG)
    assert (None, "error", "the policy cannot be read: No such file or directory") == (
        policy,
        found.severity,
        found.message,
    )


SHIPPED = sorted(CONFIG.glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_a_policy_that_ships_has_nothing_against_it(file: Path):
    """With the bundled catalog and a key nothing; without, only that the key is missing."""
    env = {"OPENROUTER_API_KEY": "k"}
    assert [] == [found.message for found in check_file(file, env, Catalog())[1]]
    assert ["the environment has no OPENROUTER_API_KEY"] == [
        found.message for found in check_file(file, {}, Catalog())[1]
    ]


def test_the_policies_that_ship_are_there():
    """The tests above look at files; this one sees that there are any."""
    assert {"default.yaml", "frugal.yaml", "resilient.yaml"} <= {file.name for file in SHIPPED}


def test_a_file_that_an_upstream_names_must_be_there(tmp_path: Path):
    """A key file that is missing is a warning at its place: it may still come."""
    file = tmp_path / "p.yaml"
    upstream = UPSTREAM.replace("api_key: ${KEY:-k}", f"api_key_file: {tmp_path}/none.key")
    file.write_text(upstream + "policies:\n  default:\n    - retry: {}\n", encoding="utf-8")
    _, found = check_file(file, {}, CATALOG)
    (one,) = [one for one in found if "no file" in one.message]
    assert ("warning", 5) == (one.severity, one.line)


def test_a_budget_in_memory_is_a_warning():
    """Every process would have its own; a ledger that is named is silent."""
    budget = 'budget: {account: org, limits: {day: "$5"}}'
    (found,) = of_stack(budget)
    assert "p.yaml:8:7: warning: this budget is kept in memory: every process has its own" in found
    assert [] == findings(f"policies:\n  default:\n    - {budget}\n", UPSTREAM + "ledger: sqlite:///spend.db\n")


def test_reserve_stands_last_or_not_at_all():
    """What stands below it would send what nobody has priced."""
    (found,) = of_stack("reserve: {}", "retry: {}")
    assert "p.yaml:8:7: error: reserve must be the last layer" in found


def test_an_account_has_one_time_zone():
    """Its days cannot begin at two hours."""
    one, other = (
        f'budget: {{account: org, limits: {{day: "$5"}}, time_zone: {zone}}}' for zone in ("UTC", "Asia/Tokyo")
    )
    (found,) = [one for one in of_stack(one, other) if "error" in one]
    assert "the account org has the time zone UTC in another budget; write the same in both" in found
