"""budget: which account a call pays from, by its tags."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orrouter.core.call import Call, Target, Trail
from orrouter.core.errors import MissingTag
from orrouter.core.limit import Account
from orrouter.middleware.base import World
from orrouter.middleware.budget import BudgetOptions, account_name, pattern_of

LIMITS = {"day": "$5", "month": "$50"}


def charged(options: BudgetOptions, tags: dict[str, str], method: str = "POST") -> tuple:
    """The limits that a call bears below the layer."""
    seen = []
    layer = options.build(World())
    layer(Call(trail=Trail("r", lambda: 0.0), target=Target(), tags=tags, method=method), seen.append)
    return seen[0].limits


def test_an_account_without_a_tag_is_everybodys():
    """`org` is charged whoever calls, with every window that is written."""
    (account,) = charged(BudgetOptions(account="org", limits=LIMITS), {})
    assert Account("org", (("day", 5 * 10**9), ("month", 50 * 10**9)), soft=(0.5, 0.8, 1.0)) == account


def test_an_account_is_named_by_a_tag():
    """`team:{team}` charges the team that the call names."""
    (account,) = charged(BudgetOptions(account="team:{team}", limits=LIMITS), {"team": "search"})
    assert "team:search" == account.name


def test_the_same_tags_give_the_same_account():
    """The ledger sees one object for many calls."""
    layer = BudgetOptions(account="team:{team}", limits=LIMITS).build(World())
    assert layer.account({"team": "a"}) is layer.account({"team": "a", "tier": "x"})


def test_a_missing_tag_is_refused_and_says_what_to_do():
    """Who must name a team and does not is told how."""
    with pytest.raises(MissingTag, match=re.escape("pass tags={'team': …}, or write {team:-none} in the policy")):
        charged(BudgetOptions(account="team:{team}", limits=LIMITS), {"tier": "x"})


def test_an_empty_tag_is_a_missing_one():
    """An empty text names no team."""
    with pytest.raises(MissingTag):
        charged(BudgetOptions(account="team:{team}", limits=LIMITS), {"team": ""})


def test_a_default_takes_calls_without_the_tag():
    """`{team:-none}` charges team:none."""
    (account,) = charged(BudgetOptions(account="team:{team:-none}", limits=LIMITS), {})
    assert "team:none" == account.name


def test_a_question_to_an_upstream_pays_nothing():
    """GET passes untouched, also without the tag."""
    assert () == charged(BudgetOptions(account="team:{team}", limits=LIMITS), {}, method="GET")


@pytest.mark.parametrize("value", ["x\ny", "x" * 300, "{team}"])
def test_a_tag_that_makes_no_name_is_refused(value):
    """Control characters, braces and endless texts name no account."""
    with pytest.raises(MissingTag):
        account_name("team:{team}", {"team": value})


@given(
    st.text(min_size=1, max_size=9),
    st.text(min_size=1, max_size=9),
    st.text(min_size=1, max_size=9),
    st.text(min_size=1, max_size=9),
)
def test_two_tags_never_make_one_account_of_two(a, b, c, d):
    """Whatever stands in the tags, different pairs have different accounts."""
    try:
        one = account_name("{team}:{user}", {"team": a, "user": b})
        other = account_name("{team}:{user}", {"team": c, "user": d})
    except MissingTag:
        return
    assert ((a, b) == (c, d)) == (one == other)


def test_a_pattern_finds_the_accounts_of_a_template():
    """And no others."""
    pattern = pattern_of("team:{team:-none}.x")
    assert [True, False] == [bool(re.fullmatch(pattern, name)) for name in ("team:search.x", "org")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"account": "", "limits": LIMITS}, "names no account"),
        ({"account": "team:{team", "limits": LIMITS}, "names no account"),
        ({"account": "org", "limits": {}}, "limits"),
        ({"account": "org", "limits": {"year": "$5"}}, "year"),
        ({"account": "org", "limits": {"day": 5}}, r"\$0\.50"),
        ({"account": "org", "limits": LIMITS, "time_zone": "Mars/Olympus"}, "there is no time zone"),
        ({"account": "org", "limits": LIMITS, "soft": [0.8]}, "80%"),
        ({"account": "org", "limits": LIMITS, "soft": ["120%"]}, "less than or equal to 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said):
    """Each says what is wrong."""
    with pytest.raises(ValidationError, match=said):
        BudgetOptions(**options)


def test_what_it_says_of_itself():
    """Account, limits, time zone and what happens while the ledger is down."""
    options = BudgetOptions(account="org", limits=LIMITS, time_zone="Europe/Berlin", on_store_error="fail_open")
    assert (
        "charges the account org: at most $5.00 a day, $50.00 a month (Europe/Berlin); "
        "goes on while the ledger is down, and counts it later"
    ) == options.says()
