"""Which store an address means."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrouter.core.errors import PolicyError
from orrouter.ledger.memory import MemoryLedger
from orrouter.ledger.open import file_of, open_ledger
from orrouter.ledger.sqlite import SqliteLedger


def wall() -> float:
    return 1_800_000_000.0


def test_memory():
    """memory:// is a ledger in memory."""
    assert isinstance(open_ledger("memory://", wall=wall), MemoryLedger)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///spend.db", "/etc/policies/spend.db"),
        ("sqlite:///money/spend.db", "/etc/policies/money/spend.db"),
        ("sqlite:////var/lib/spend.db", "/var/lib/spend.db"),
        ("sqlite:///our%20money.db", "/etc/policies/our money.db"),
    ],
)
def test_a_file_lies_beside_the_policy_unless_its_path_is_absolute(url, path):
    """A relative FILE lies below the base, an absolute one where it says; percent signs are decoded."""
    ledger = open_ledger(url, wall=wall, base=Path("/etc/policies"))
    assert isinstance(ledger, SqliteLedger)
    assert Path(path) == ledger.path


def test_nothing_is_opened_before_it_is_asked(tmp_path):
    """Making a ledger touches no file."""
    open_ledger("sqlite:///folder/spend.db", wall=wall, base=tmp_path)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "durable", "meant"),
    [
        ("sqlite:///a.db", "process", "process"),
        ("sqlite:///a.db", "power", "power"),
        ("sqlite:///a.db?durable=power", "process", "power"),
        ("sqlite:///a.db?durable=process", "power", "process"),
    ],
)
def test_the_address_says_how_durable(url, durable, meant):
    """`?durable=` in the address stands above the argument."""
    assert (Path("a.db"), meant) == file_of(url, durable)
    ledger = open_ledger(url, wall=wall, durable=durable)
    assert isinstance(ledger, SqliteLedger)
    assert meant == ledger.durable


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://localhost", "redis is no ledger yet; write memory:// or sqlite:///FILE"),
        ("postgresql://localhost/a", "postgresql is no ledger yet; write memory:// or sqlite:///FILE"),
        ("sqlite://spend.db", "there is no ledger 'sqlite://spend.db'; write memory:// or sqlite:///FILE"),
        ("sqlite:///", "there is no ledger 'sqlite:///'; write memory:// or sqlite:///FILE"),
        ("sqlite:///folder/", "there is no ledger 'sqlite:///folder/'; write memory:// or sqlite:///FILE"),
        ("sqlite:///:memory:", "a ledger in memory is no file; write memory://"),
        ("spend.db", "there is no ledger 'spend.db'; write memory:// or sqlite:///FILE"),
        ("sqlite:///a.db?mode=ro", "a ledger has no option 'mode'; write ?durable=process or ?durable=power"),
        ("sqlite:///a.db?durable=", "a ledger cannot be durable ''; write process or power"),
    ],
)
def test_an_address_that_nobody_knows_is_refused(url, message):
    """The error says what would be right."""
    with pytest.raises(PolicyError) as caught:
        open_ledger(url, wall=wall)
    assert message == str(caught.value)
