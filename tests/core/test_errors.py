"""The tree of errors: drawn as it is, each class with its word, status and verdict, and every one of them travels."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core import errors
from orrouter.core.call import Attempt, Target, Trail
from orrouter.core.errors import (
    CapReached,
    CoolingDown,
    CreditsExhausted,
    DeadlineExceeded,
    Moderated,
    NoRoute,
    OutputInvalid,
    Overloaded,
    PolicyError,
    RateLimited,
    RouterError,
    StreamBroken,
    Transient,
    UpstreamError,
    descendants,
)
from orrouter.core.outcome import outcome_of

KINDS = list(descendants())
CODES = re.compile(r"[a-z]+(_[a-z]+)*")


def trail_of(outcome: str = "open") -> Trail:
    trail = Trail("req_1", lambda: 5.0)
    trail.attempts.append(Attempt(1, Target(model="big"), 5.0))
    trail.outcome = outcome
    return trail


# --- the tree -------------------------------------------------------------------------------------------


def drawn() -> dict[str, str | None]:
    """The tree in the module's docstring: each class with its parent."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").split("::", 1)[1].splitlines():
        names = re.findall(r"\b[A-Z][a-z]+[A-Za-z]*\b", line.split("    ", 2)[-1] if "RouterError" in line else line)
        if not names:
            continue
        column = re.search(r"[A-Z]", line).start()
        while above and above[-1][0] >= column:
            above.pop()
        parents.update(dict.fromkeys(names, above[-1][1] if above else None))
        above.append((column, names[0]))
    return parents


def test_the_tree_in_the_docstring_is_the_real_one():
    """Whoever reads it catches the right branch."""
    real = {kind.__name__: None if kind is RouterError else kind.__mro__[1].__name__ for kind in KINDS}
    assert real == drawn()


def test_descendants_names_each_once_from_the_root_downward():
    """A branch begins with itself."""
    assert len(set(KINDS)) == len(KINDS)
    assert all(KINDS.index(kind.__mro__[1]) < KINDS.index(kind) for kind in KINDS[1:])
    assert [Transient, *Transient.__subclasses__()] == list(descendants(Transient))


def test_each_code_is_one_word_of_its_own():
    """The same word in YAML, metrics and gateway, for one class only."""
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert [] == [code for code in codes if not CODES.fullmatch(code)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_class_has_a_valid_status_and_verdict(kind):
    """An HTTP error status, and words that the layers know."""
    assert kind.http_status in {400, 401, 402, 403, 404, 429, 500, 502, 503, 504}
    assert kind.onward in ("never", "always", "larger_context", "other_key", "cheaper")
    if issubclass(kind, UpstreamError):
        assert kind.again in ("no", "once", "last_once", "yes")
        assert kind.billed in ("no", "maybe", "yes")
        assert kind.scope in ("target", "provider", "free", "key")


def test_only_a_failing_far_end_counts_against_it():
    """Rate limits and refused requests open no breaker."""
    counted = {kind.__name__ for kind in descendants(UpstreamError) if kind.counted}
    assert {kind.__name__ for kind in descendants(Transient)} - {"RateLimited"} == counted


# --- travelling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy], ids=["pickle", "copy"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_travels_with_its_record(kind, copied):
    """To another process and back: message, fields, and the record instead of the live trail."""
    error = kind("it went wrong")
    error.trail, error.extra = trail_of("failed"), {"a": 1}
    other = copied(error)
    assert (kind, str(error), error.args, {"a": 1}) == (type(other), str(other), other.args, other.extra)
    assert (None, error.record, error.attempts) == (other.trail, other.record, other.attempts)
    assert "failed" == other.record.outcome


FULL = (
    RateLimited("slow", status=429, raw={"a": 1}, billed="no", again="once", retry_after=2.5).at(model="big"),
    CoolingDown("later", retry_after=3.0),
    PolicyError("no such key", file="p.yaml", line=3, column=7, key="retry", hint="did you mean x?"),
    CapReached("enough", partial="so far", held=12),
    OutputInvalid("no such shape", text="{}"),
)


@pytest.mark.parametrize("error", FULL, ids=lambda error: error.code)
def test_an_error_travels_with_all_it_was_told(error):
    """Also what its constructor takes by name only."""
    other = pickle.loads(pickle.dumps(error))
    assert (error.__dict__, str(error)) == (other.__dict__, str(other))


# --- the record -----------------------------------------------------------------------------------------


def test_before_a_call_there_is_no_record():
    """And there are no tries."""
    assert (None, ()) == (RouterError("x").record, RouterError("x").attempts)


def test_the_record_of_an_error_is_final_once_its_call_is_over():
    """Read too early it is made anew later; after that it stays the same object."""
    error, trail = Overloaded("busy"), trail_of()
    error.trail = trail
    assert "open" == error.record.outcome
    trail.outcome = "overloaded"
    assert "overloaded" == error.record.outcome
    assert error.record is error.record
    assert ["big"] == [attempt.model for attempt in error.attempts]


# --- showing --------------------------------------------------------------------------------------------


def test_an_error_of_an_upstream_shows_its_place():
    """Code, message, and where: model, provider, upstream, status, request."""
    error = Overloaded("busy", status=503).at(model="big", provider="Acme", upstream="spare", request_id="req_1")
    expected = "overloaded: busy (model big, provider Acme, upstream spare, HTTP 503, request req_1)"
    assert expected == str(error)
    assert "overloaded: busy" == str(Overloaded("busy"))


@given(st.text(min_size=8))
def test_an_error_never_shows_what_the_upstream_sent(secret):
    """Raw bodies may hold prompts and keys: they are there for code, not for logs."""
    error = UpstreamError("it failed", raw=f"sk-{secret}").at(model="big")
    assert f"sk-{secret}" not in str(error) + repr(error)


def test_at_fills_in_only_what_is_unknown():
    """The one who knew first, and nearest, is right."""
    error = Overloaded("busy").at(provider="Acme").at(provider="Other", model="big", upstream=None)
    assert ("Acme", "big", None) == (error.provider, error.model, error.upstream)


def test_filling_in_one_error_leaves_its_class_alone():
    """The next of its kind starts empty."""
    Overloaded("busy", billed="yes", again="no", retry_after=1.0).at(provider="Acme")
    fresh = Overloaded("busy")
    assert (None, "no", "last_once", None) == (fresh.provider, fresh.billed, fresh.again, fresh.retry_after)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (PolicyError("no such key", file="p.yaml", line=3, column=7, hint="use x"), "p.yaml:3:7: no such key; use x"),
        (PolicyError("no such key", file="p.yaml"), "p.yaml: no such key"),
        (PolicyError("no such key", hint="use x"), "no such key; use x"),
        (RouterError(), "router_error"),
    ],
)
def test_an_error_of_a_policy_shows_file_line_and_hint(error, shown):
    """As editors and people read it."""
    assert shown == str(error)


def test_a_message_is_there_even_when_none_was_given():
    """Its code."""
    assert ("router_error", "deadline_exceeded") == (RouterError().message, DeadlineExceeded().message)


def test_what_only_some_errors_tell_is_empty_by_default():
    """Nothing is ever missing."""
    one, other, third = CreditsExhausted("x"), Moderated("x"), NoRoute("x")
    assert (None, (), None, "", "") == (
        one.affordable,
        other.reasons,
        third.step,
        StreamBroken("x").partial,
        DeadlineExceeded("x").partial,
    )


# --- outcomes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (Overloaded("x"), "overloaded"),
        (DeadlineExceeded("x"), "deadline_exceeded"),
        (GeneratorExit(), "left"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (KeyError("a bug in a layer"), "router_error"),
    ],
)
def test_how_something_ended_in_one_word(error, outcome):
    """A bug is never reported as a cancel."""
    assert outcome == outcome_of(error)
