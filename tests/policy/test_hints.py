"""A hint names what was meant, or the choices when they are few."""

from __future__ import annotations

from orrouter.policy.hints import FEW, nearest


def test_a_misspelt_word_gets_the_nearest_choice():
    """One letter is missing: the right word is named."""
    assert "did you mean 'attempts'?" == nearest("attempt", ["attempts", "initial", "max"])


def test_capitals_are_no_difference():
    """`Retry` is near to `retry`, and the choice is shown as it is spelt."""
    assert "did you mean 'retry'?" == nearest("Retry", ["retry", "budget"])


def test_few_choices_are_listed_when_nothing_is_near():
    """A word out of the blue is answered with all that could stand there, in order of the alphabet."""
    assert "one of 'budget', 'retry'" == nearest("zzz", ["retry", "budget"])


def test_many_choices_are_not_listed():
    """A list that nobody reads is no hint."""
    assert "" == nearest("zzz", [f"choice{number}" for number in range(FEW + 1)])


def test_no_choice_is_no_hint():
    """Where nothing may stand, nothing is proposed."""
    assert "" == nearest("anything", [])


def test_a_page_of_text_is_not_compared():
    """A long text is never taken for a misspelt word, however alike."""
    assert nearest("a" * 100, ["a" * 99, "b"]).startswith("one of ")
