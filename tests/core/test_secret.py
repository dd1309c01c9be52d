"""A value that shows itself to nobody."""

from __future__ import annotations

import copy
import json
import pickle
import traceback

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.secret import Secret

TEXT = "sk-or-v1-0123456789"
SHOWS = {
    "str": str,
    "repr": repr,
    "f-string": lambda secret: f"{secret} {secret!r} {secret!s}",
    "%": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "in a list": lambda secret: str([secret, {"key": secret}]),
    "in an error": lambda secret: "".join(traceback.format_exception_only(ValueError(secret))),
}


@pytest.mark.parametrize("show", SHOWS.values(), ids=SHOWS)
def test_no_way_of_showing_it_shows_it(show):
    """Stars, wherever it is printed."""
    shown = show(Secret(TEXT))
    assert "****" in shown
    assert [] == [TEXT[at : at + 3] for at in range(len(TEXT) - 2) if TEXT[at : at + 3] in shown]


TAKES = (pickle.dumps, copy.deepcopy, copy.copy, json.dumps, orjson.dumps, vars, iter)


@pytest.mark.parametrize("take", TAKES, ids=lambda take: take.__name__)
def test_it_is_not_taken_out_in_passing(take):
    """Neither pickled, copied nor serialised: only `reveal` gives the text."""
    with pytest.raises(TypeError) as caught:
        take(Secret(TEXT))
    assert TEXT not in str(caught.value)
    assert TEXT == Secret(TEXT).reveal()


@given(st.text(), st.text())
def test_two_secrets_are_equal_when_their_texts_are(one, other):
    """And no text equals a secret."""
    assert (one == other) is (Secret(one) == Secret(other))
    assert (one == other) is (Secret(one).name == Secret(other).name)
    assert one != Secret(one)
    assert 1 == len({Secret(one), Secret(one)})


@given(st.text(min_size=13))
def test_its_name_gives_nothing_away(text):
    """Twelve digits of a hash."""
    name = Secret(text).name
    assert (12, set()) == (len(name), set(name) - set("0123456789abcdef"))
    assert text not in name


def test_an_empty_secret_is_no_key():
    """As where a variable was set to nothing."""
    assert (False, True) == (bool(Secret("")), bool(Secret("x")))
