"""What commands print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.cli import show
from orrouter.core.errors import InvalidRequest, Overloaded, PolicyError, descendants
from orrouter.core.facts import AttemptRecord, FallbackTaken, Record, RetryScheduled, TargetSkipped


def attempt(number: int, model: str, outcome: str, **more) -> AttemptRecord:
    usual = {
        "upstream": "openrouter",
        "provider": None,
        "status": 200,
        "message": "",
        "started_s": 0.0,
        "first_token_s": None,
        "ended_s": 1.0,
        "generation_id": None,
        "finish_reason": None,
        "usage": None,
        "cost_nano": None,
    }
    return AttemptRecord(number=number, model=model, outcome=outcome, **usual | more)


def record(*attempts: AttemptRecord, facts=(), outcome: str = "ok") -> Record:
    return Record("req_1", "default", "chat/completions", {}, outcome, 2.5, attempts, tuple(facts))


TRIED = record(
    attempt(1, "a/first", "overloaded", status=503, ended_s=0.02),
    attempt(2, "b/second", "ok", provider="Acme", started_s=1.5, first_token_s=1.75, ended_s=2.5, cost_nano=73_500),
    facts=[
        TargetSkipped(at_s=0.0, model="z/none", upstream="openrouter", reason="takes no image"),
        RetryScheduled(at_s=0.02, model="a/first", error="overloaded", delay_s=1.5),
        FallbackTaken(at_s=1.5, failed="a/first", error="overloaded", model="b/second"),
    ],
)


def test_a_record_is_told_in_the_order_of_time():
    """Skips, waits and fallbacks stand between the tries they belong to."""
    texts = [line.text.strip() for line in show.record_lines(TRIED)]
    assert [
        "#  model     provider  HTTP  outcome     began  first  took        cost",
        "skipped z/none: takes no image",
        "1  a/first   -          503  overloaded    0ms      -  20ms           -",
        "overloaded: asks again in 1.5s",
        "goes on to b/second",
        "2  b/second  Acme       200  ok           1.5s  250ms    1s  $0.0000735",
        "ok after 2 tries in 2.5s, 1.5s of it waiting; policy default, request req_1",
    ] == texts


def test_the_columns_of_a_record_stand_below_each_other():
    """Every row of tries is as wide as the head: what belongs to a column begins or ends where it does."""
    rows = [line.text for line in show.record_lines(TRIED) if line.text[:1] in "#12"]
    assert 1 == len({row.index(word) for row, word in zip(rows, ("outcome", "overloaded", "ok"), strict=True)})


def test_a_record_without_a_try_has_its_head_and_end():
    """A call that was refused before anything was sent has a record as well."""
    refused = record(facts=[TRIED.facts[0]], outcome="no_route")
    assert "no_route after 0 tries in 2.5s; policy default, request req_1" == show.record_lines(refused)[-1].text


def test_a_record_as_json_names_the_kind_of_each_fact():
    """A program that reads it can tell facts apart."""
    assert ["TargetSkipped", "RetryScheduled", "FallbackTaken"] == [
        fact["kind"] for fact in show.record_json(TRIED)["facts"]
    ]


def test_an_error_says_what_happened_where_and_what_to_do():
    """The first line is the error with its place, the last one says what to do."""
    error = Overloaded("no capacity", status=503).at(model="a/b", request_id="req_1")
    texts = [line.text for line in show.error_lines(error)]
    assert "error: overloaded: no capacity (model a/b, HTTP 503, request req_1)" == texts[0]
    assert texts[-1].startswith(" help: ")


def test_a_policy_error_is_told_by_its_place():
    """Its own hint is enough: no further advice is added."""
    error = PolicyError("retry has no 'x'", file="a.yaml", line=3, column=5, hint="did you mean 'max'?")
    assert ["error: a.yaml:3:5: retry has no 'x'; did you mean 'max'?"] == [
        line.text for line in show.error_lines(error)
    ]


def test_there_is_advice_for_every_error_of_an_upstream_and_every_refusal():
    """No error that a call can end with leaves its reader without a next step."""
    from orrouter.cli.advice import ADVICE

    own = {kind.code for kind in descendants()} - {"router_error", "policy_error", "transient", "rejected"}
    assert set() == own - ADVICE.keys()


def test_advice_names_only_codes_that_exist():
    """An advice for an error that is gone would never be seen."""
    from orrouter.cli.advice import ADVICE

    assert set() == ADVICE.keys() - {kind.code for kind in descendants()}


def test_an_error_as_json_has_its_code():
    """A program that reads it can tell errors apart."""
    error = InvalidRequest("no", status=400)
    assert {"error": {"code": "invalid_request", "message": "invalid_request: no (HTTP 400)", "status": 400}} == (
        show.error_json(error)
    )


@given(st.text())
def test_no_text_commands_the_terminal(text):
    """Of control characters only line ends and tabs are left; everything else stays as it is."""
    shown = show.safe(text)
    assert len(text) == len(shown)
    assert not [sign for sign in shown if sign not in "\n\t" and (ord(sign) < 32 or 127 <= ord(sign) < 160)]
    assert text.isprintable() <= (shown == text)


def test_markup_of_an_answer_is_no_markup_of_ours(capsys):
    """Brackets in a message are printed, and not taken for colours."""
    show.say([show.Line("[red]not red[/red] :smile: [link=x]")])
    assert "[red]not red[/red] :smile: [link=x]\n" == capsys.readouterr().out


def test_long_lines_are_not_wrapped(capsys):
    """A line stays one line, so that it can be searched and cut by other programs."""
    show.say([show.Line("word " * 100)])
    assert 1 == capsys.readouterr().out.count("\n")


def test_a_table_without_a_terminal_is_plain(capsys):
    """No lines, no colours, no blanks at the ends: other programs can read it."""
    made = show.table("name", "size", right=("size",))
    made.add_row("one", "1")
    made.add_row("[b]three[/b]", "1000")
    show.print_table(made)
    assert "name          size\none              1\n[b]three[/b]  1000\n" == capsys.readouterr().out


def test_there_is_no_spinner_without_a_terminal(capsys):
    """Progress is for people: a file or a pipe gets nothing of it."""
    with show.waiting("asking …") as heard:
        heard(TRIED.facts[1])
    assert ("", "") == capsys.readouterr()


@pytest.mark.parametrize(("number", "told"), [(0, "0 tries"), (1, "1 try"), (2, "2 tries")])
def test_counts_are_told_in_words(number, told):
    """One of a thing is not several."""
    assert told == show.count(number, "try", "tries")
