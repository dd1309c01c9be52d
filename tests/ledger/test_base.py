"""The values of the ledger, and ids that nobody else ever makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orrouter.ledger.base import Balance, Bucket, BucketKey, new_hold_id

ROOT = Path(__file__).resolve().parents[2]
FORKS = """
import os
from orrouter.ledger.base import new_hold_id
first = new_hold_id()
if os.fork() == 0:
    print(new_hold_id(), flush=True)
    os._exit(0)
os.wait()
print(first, new_hold_id(), flush=True)
"""


def test_ids_are_counted_behind_what_this_process_drew():
    """No two are the same, and each is short enough to read."""
    ids = {new_hold_id() for _ in range(1000)}
    assert (1000, 1, {33}) == (len(ids), len({one[:25] for one in ids}), {len(one) for one in ids})
    assert all(one.startswith("hold_") for one in ids)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_draws_its_own():
    """A child never makes an id that its parent makes."""
    said = subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    child, first, second = said.split()
    assert first[:25] == second[:25] != child[:25]


def test_what_is_charged_is_settled_held_and_in_suspense():
    """What is gone or may be gone."""
    assert 111 == Bucket(BucketKey("org", "day", 0), settled=1, held=10, suspense=100).charged


def test_what_remains_may_be_less_than_nothing():
    """Where a limit was lowered, or a try cost more than was held."""
    assert -11 == Balance("org", "day", 100, 1, 10, 100, 0, 1).remaining
