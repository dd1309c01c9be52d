"""A purse: what the tries of one call cost or may cost never exceeds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.limit import Purse


def test_what_fits_is_taken_and_what_does_not_is_not():
    """The last nano fits; where it does not, nothing is taken."""
    purse = Purse(100)
    assert [True, False, True, False] == [
        purse.take("a", 60), purse.take("b", 41), purse.take("c", 40), purse.take("d", 1),
    ]  # fmt: skip
    assert (100, 0) == (purse.charged, purse.room)


def test_taking_twice_is_taking_once():
    """The same hold is the same money."""
    purse = Purse(100)
    assert [True, True] == [purse.take("a", 60), purse.take("a", 60)]
    assert 60 == purse.charged


def test_a_known_cost_gives_back_the_rest():
    """Once: a second word changes nothing."""
    purse = Purse(100)
    purse.take("a", 60)
    for cost in (25, 0, 60):
        purse.settle("a", cost)
    assert 75 == purse.room


def test_nothing_spent_gives_back_everything():
    """A cost of 0 is a release."""
    purse = Purse(100)
    purse.take("a", 60)
    purse.settle("a", 0)
    assert 100 == purse.room


def test_what_nobody_settles_stays_taken():
    """A try whose cost is unknown is charged at its worst case."""
    purse = Purse(100)
    purse.take("unknown", 60)
    assert [False, True] == [purse.take("b", 41), purse.take("c", 40)]


def test_a_cost_above_the_hold_is_charged_whole():
    """The truth first: the purse is empty then, and more than that."""
    purse = Purse(100)
    purse.take("a", 60)
    purse.settle("a", 130)
    assert (-30, False) == (purse.room, purse.take("b", 0))


def test_a_word_about_a_hold_that_was_never_taken_changes_nothing():
    """It is somebody else's."""
    purse = Purse(100)
    purse.settle("x", 50)
    assert 100 == purse.room


def test_less_than_nothing_is_refused():
    """A negative sum would fill the purse."""
    purse = Purse(100)
    purse.take("a", 10)
    for wrong in (lambda: Purse(-1), lambda: purse.take("b", -1), lambda: purse.settle("a", -1)):
        with pytest.raises(ValueError, match="0 or more"):
            wrong()
    assert 10 == purse.charged


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.none() | st.integers(0, 30))))
def test_a_purse_is_never_overdrawn_by_costs_within_their_holds(amount, tries):
    """Whatever is taken and settled in whatever order, spent plus open stays within the amount."""
    purse, open_, spent = Purse(amount), {}, 0
    for name, worst, cost in tries:
        if cost is None:
            if str(name) not in open_ and purse.take(str(name), worst):
                open_[str(name)] = worst
        elif str(name) in open_:
            true = min(cost, open_.pop(str(name)))
            purse.settle(str(name), true)
            spent += true
        assert spent + sum(open_.values()) == purse.charged <= amount
