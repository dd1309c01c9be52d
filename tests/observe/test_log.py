"""Facts as log lines."""

from __future__ import annotations

import dataclasses
import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core import facts
from orrouter.core.facts import (
    AttemptEnded,
    AttemptStarted,
    BreakerOpened,
    CallEnded,
    CallStarted,
    CatalogRefreshed,
    Fact,
    RetryScheduled,
    TargetSkipped,
)
from orrouter.observe.log import event_of, level_of, log_facts, log_to

RETRY = RetryScheduled(request_id="req_1", at_s=0.25, model="a/b", error="rate_limited", delay_s=1.0)
ENDED = {"number": 1, "upstream": "openrouter", "model": "a/b", "provider": None, "status": 200, "duration_s": 0.1}


def lines(*told: Fact, **options) -> list[dict]:
    out = io.StringIO()
    listen = log_facts(stream=out, **{"level": "debug", "wall": lambda: 0.0} | options)
    for fact in told:
        listen(fact)
    return [json.loads(line) for line in out.getvalue().split("\n")[:-1]]


def test_a_fact_becomes_one_json_line_with_its_own_fields():
    """The event is named after the kind of fact, and every field stands in it under its own name."""
    assert [
        {
            "timestamp": "1970-01-01T00:00:00.000+00:00",
            "level": "warning",
            "event": "orrouter.retry_scheduled",
            "request_id": "req_1",
            "at_s": 0.25,
            "model": "a/b",
            "error": "rate_limited",
            "delay_s": 1.0,
        }
    ] == lines(RETRY)


def test_the_console_form_is_one_line_of_words():
    """The console form shows the level, the event and the fields, without colours where it is no terminal."""
    out = io.StringIO()
    log_facts("console", stream=out, wall=lambda: 0.0)(RETRY)
    line = out.getvalue()
    assert 1 == line.count("\n")
    assert "\x1b" not in line
    assert all(word in line for word in ("warning", "orrouter.retry_scheduled", "delay_s=1.0", "model=a/b"))


@pytest.mark.parametrize(
    ("level", "fact"),
    [
        ("debug", AttemptStarted(number=1, upstream="u", model="m")),
        ("info", CallStarted(endpoint="e", policy="p", model="m")),
        ("info", AttemptEnded(**ENDED, outcome="ok", generation_id=None)),
        ("info", AttemptEnded(**ENDED, outcome="left", generation_id=None)),
        ("warning", AttemptEnded(**ENDED, outcome="overloaded", generation_id=None)),
        ("info", CallEnded(outcome="ok", attempts=1, model="m", duration_s=1)),
        ("warning", CallEnded(outcome="overloaded", attempts=1, model="m", duration_s=1)),
        ("warning", BreakerOpened(subject="s", for_s=5, reason="r")),
        ("warning", TargetSkipped(model="m", upstream="u", reason="r")),
    ],
)
def test_the_level_says_how_bad_it_is(level, fact):
    """Failures and what was left out are warnings, beginnings of tries are for debugging, the rest is information."""
    assert logging.getLevelName(level.upper()) == level_of(fact)


def test_what_is_below_the_level_is_not_written():
    """At `info` the beginnings of tries are left out."""
    started = AttemptStarted(number=1, upstream="u", model="m")
    assert ["orrouter.retry_scheduled"] == [line["event"] for line in lines(started, RETRY, level="info")]


def test_a_fact_of_no_call_bears_no_request_id():
    """What the router does by itself has neither request id nor time since a call began."""
    (line,) = lines(CatalogRefreshed(models=3, source="live"))
    assert {"timestamp", "level", "event", "models", "source"} == set(line)


@pytest.mark.parametrize("text", ["the key sk-or-v1-0123456789abcdef is bad", "Authorization: Bearer abc.def"])
def test_what_looks_like_a_key_is_blotted_out(text):
    """An upstream may echo a key in a message; it does not reach the log, also not inside tags."""
    told = lines(
        TargetSkipped(model="m", upstream="u", reason=text),
        CallStarted(endpoint="e", policy="p", model="m", tags={"note": text}),
    )
    assert "****" in told[0]["reason"]
    assert "****" in told[1]["tags"]["note"]
    assert not any(secret in json.dumps(told) for secret in ("0123456789abcdef", "abc.def"))


def test_a_closed_stream_fails_no_call():
    """Writing a log is never a reason for a call to fail."""
    out = io.StringIO()
    listen = log_facts(stream=out)
    out.close()
    assert None is listen(RETRY)


def test_nothing_global_is_configured():
    """Structlog's own configuration is left as the host made it."""
    before = structlog.get_config().copy()
    lines(RETRY)
    assert before == structlog.get_config()


def test_a_logger_of_the_host_may_be_used():
    """`log_to` hands each fact to a logger that the host has configured itself."""
    with structlog.testing.capture_logs() as captured:
        log_to(structlog.get_logger())(RETRY)
    assert [("orrouter.retry_scheduled", "warning", 1.0)] == [
        (entry["event"], entry["log_level"], entry["delay_s"]) for entry in captured
    ]


def test_every_kind_of_fact_has_a_name_of_its_own():
    """No two kinds of fact share an event, and all are dotted lower case."""
    kinds = [one for one in vars(facts).values() if isinstance(one, type) and issubclass(one, Fact)]
    names = {event_of(kind) for kind in kinds}
    assert len(kinds) == len(names)
    assert all(name.startswith("orrouter.") and name == name.lower() for name in names)


@pytest.mark.parametrize("options", [{"format": "xml"}, {"level": "loud"}])
def test_an_unknown_format_or_level_is_refused_at_once(options):
    """A misspelt option is an error when the listener is made, and not at the first fact."""
    with pytest.raises(ValueError, match="known are"):
        log_facts(**options)


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_text_can_command_a_terminal(form):
    """Control characters that an upstream may have sent do not reach the log, in either form."""
    out = io.StringIO()
    log_facts(form, stream=out)(dataclasses.replace(RETRY, error="\x1b[2J\x9b\r\n"))
    assert 1 == out.getvalue().count("\n")
    assert not set(out.getvalue()) & set("\x1b\x9b\r")


@given(st.text(st.characters(exclude_categories=())), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_stays_one_line_of_json(reason, seconds):
    """No text of an upstream can break a line in two or forge another one."""
    (line,) = lines(dataclasses.replace(RETRY, error=reason, delay_s=seconds))
    assert "orrouter.retry_scheduled" == line["event"]
