"""The `ledger` key of a policy: an address, or a mapping with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrouter.core.errors import PolicyError
from orrouter.policy.code import CODE
from orrouter.policy.ledger import LedgerOptions, base_of
from orrouter.policy.load import load_text
from orrouter.policy.schema import read_policy

REST = "version: 1\nupstreams: {openrouter: {base_url: https://a.b}}\npolicies: {default: [{retry: {}}]}\n"


def ledger(text: str) -> LedgerOptions:
    return read_policy(load_text(REST + text, file="p.yaml", env={})).ledger


def test_without_a_ledger_budgets_are_kept_in_memory():
    """The default is the one that needs nothing."""
    assert LedgerOptions() == ledger("")
    assert "memory://" == LedgerOptions().url


def test_a_ledger_is_an_address():
    """One word is enough."""
    assert LedgerOptions(url="sqlite:///spend.db") == ledger("ledger: sqlite:///spend.db")


def test_a_ledger_is_a_mapping():
    """With what a hold survives, and how long the statement is kept."""
    expected = LedgerOptions(url="sqlite:///spend.db", durable="power", retention_days=30)
    assert expected == ledger("ledger: {url: 'sqlite:///spend.db', durable: power, retention_days: 30}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ledger: redis://localhost", "p.yaml:4:9: .*redis is no ledger yet"),
        ("ledger: spend.db", "p.yaml:4:9: .*write memory:// or sqlite:///FILE"),
        ("ledger: sqlite:///", "p.yaml:4:9: .*write memory:// or sqlite:///FILE"),
        ("ledger: {url: 'memory://', durable: ever}", "p.yaml:4:.*durable must be 'process' or 'power'"),
        ("ledger: 5", "p.yaml:4:9: .*must be a mapping"),
    ],
)
def test_what_is_no_ledger_is_refused_at_its_place(text, said):
    """File, line, column and what to write."""
    with pytest.raises(PolicyError, match=said):
        ledger(text)


def test_a_file_is_relative_to_the_policy():
    """Or to the working directory where the policy is no file."""
    assert [Path("/etc/x"), Path()] == [base_of("/etc/x/p.yaml"), base_of(CODE)]
