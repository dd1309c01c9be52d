"""The faults that happen to an answer on its way: late, silent, cut, broken, strange.

Law: each is a pure function from a turn (and a number) to a plan, made by editing the honest one; its docstring is
what people read. A plain reply instead of an answer stands in `plain.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from orrouter.testkit import answers
from orrouter.testkit.answers import Turn
from orrouter.testkit.plans import (
    COMMENT,
    DONE,
    Act,
    Cut,
    Fault,
    Hang,
    Plan,
    Play,
    Send,
    Start,
    Wait,
    before,
    event,
    honest,
    part,
    rewritten,
    whole,
    without,
)
from orrouter.testkit.speech import pieces

LOST = {"code": 502, "message": "Network connection lost.", "metadata": {"error_type": "provider_unavailable"}}
POLYGLOT = "Grüße aus Zürich, 日本語のテキスト, мир und ein 🎉 zum Schluß."


def _ok(turn: Turn, _: float) -> Plan:
    """Nothing goes wrong."""
    return honest(turn)


# Late and silent.


def _slow_first(turn: Turn, seconds: float) -> Plan:
    """Headers and a comment at once, the first token after so many seconds (usually 10)."""
    return before(honest(turn), Wait(seconds))


def _slow_headers(turn: Turn, seconds: float) -> Plan:
    """Not a byte for so many seconds (usually 10), then the whole answer."""
    plan = honest(turn)
    return plan.acting(Wait(seconds), *plan.acts)


def _silent(turn: Turn, _: float) -> Plan:
    """The request is taken and never answered, not even by headers."""
    return honest(turn).acting(Hang())


def _comments_forever(turn: Turn, _: float) -> Plan:
    """Headers, then nothing but keep-alive comments (newlines where the answer would be one JSON)."""
    return honest(turn).acting(Start(), Hang(_beat(turn)))


def _stall(turn: Turn, deltas: float) -> Plan:
    """So many deltas (usually 5), then silence."""
    plan = honest(turn)
    return plan.acting(*part(plan, int(deltas)), Hang())


def _stall_comments(turn: Turn, deltas: float) -> Plan:
    """So many deltas (usually 5), then nothing but keep-alive comments."""
    plan = honest(turn)
    return plan.acting(*part(plan, int(deltas)), Hang(_beat(turn)))


def _drip(turn: Turn, size: float) -> Plan:
    """The answer, so many bytes at a time (usually 1)."""
    step = max(1, int(size))

    def drops(act: Send) -> Iterator[Send]:
        for at in range(0, len(act.data), step):
            last = at + step >= len(act.data)
            yield replace(act, data=act.data[at : at + step], tokens=act.tokens if last else 0)

    return rewritten(honest(turn), drops)


# Cut.


def _reset(turn: Turn, _: float) -> Plan:
    """The request is read, then the connection is reset."""
    return honest(turn).acting(Cut(reset=True))


def _cut_before_first(turn: Turn, _: float) -> Plan:
    """Headers, a comment, then the connection is cut."""
    plan = honest(turn)
    return plan.acting(*part(plan, 0), Cut())


def _cut_mid(turn: Turn, deltas: float) -> Plan:
    """So many deltas (usually 5), then the connection is cut."""
    plan = honest(turn)
    return plan.acting(*part(plan, int(deltas)), Cut())


def _eof_no_finish(turn: Turn, deltas: float) -> Plan:
    """So many deltas (usually 5), then a clean end without finish_reason and [DONE]."""
    if turn.ask.stream:
        plan = honest(turn)
        return plan.acting(*part(plan, int(deltas)), bills="produced")
    short = _shortened(turn, deltas)
    return whole(short, _body_of(short, finish_reason=None, native_finish_reason=None))


def _no_done(turn: Turn, _: float) -> Plan:
    """The whole answer with its finish and usage, but no [DONE]."""
    return without(honest(turn), "done")


def _padded(turn: Turn, mebibytes: float) -> Plan:
    """So many MiB of newlines (usually 2) before a valid answer."""
    plan = honest(turn)
    return plan.acting(Start(), *_newlines(mebibytes), *plan.acts[1:])


def _padded_cut(turn: Turn, mebibytes: float) -> Plan:
    """So many MiB of newlines (usually 2), and then the reply ends, cleanly, without an answer, and charged."""
    return honest(turn).acting(Start(), *_newlines(mebibytes))


# Errors inside a 200.


def _error_in_200(turn: Turn, _: float) -> Plan:
    """An error with status 200, as a JSON body or as the only event."""
    return _instead(turn, {"id": turn.generation_id, "error": LOST})


def _string_error(turn: Turn, _: float) -> Plan:
    """An error that is a bare string, with status 200."""
    return _instead(turn, {"error": "upstream timeout"})


def _choices_empty(turn: Turn, _: float) -> Plan:
    """An answer whose list of choices is empty, and no error."""
    envelope = answers.chunk(turn, {}) if turn.ask.stream else answers.body(turn)
    kept = {key: value for key, value in envelope.items() if key not in {"usage", "data"}}
    return _instead(turn, {**kept, "choices": []})


def _error_first(turn: Turn, _: float) -> Plan:
    """An error event before anything else, in the envelope of a chunk."""
    if not turn.ask.stream:
        return _error_in_200(turn, 0)
    return _instead(turn, {**answers.chunk(turn, {}), "choices": [], "error": LOST})


def _error_mid(turn: Turn, deltas: float) -> Plan:
    """So many deltas (usually 5), then an error event and [DONE]."""
    ended = answers.chunk(turn, answers.nothing(turn), finish_reason="error")
    return _ended_by(turn, deltas, {**ended, "error": LOST})


def _choice_error(turn: Turn, deltas: float) -> Plan:
    """A part of the answer (usually 5 deltas) and an error inside the choice."""
    return _ended_by(turn, deltas, answers.chunk(turn, answers.nothing(turn), finish_reason="error", error=LOST))


def _finish_error(turn: Turn, deltas: float) -> Plan:
    """A part of the answer (usually 5 deltas), then finish_reason `error` and no word about what happened."""
    ended = answers.chunk(turn, answers.nothing(turn), finish_reason="error", native_finish_reason="error")
    if turn.ask.stream:
        return _ended_by(turn, deltas, ended)
    return _unbilled(turn, deltas, finish_reason="error", native_finish_reason="error")


# Broken and strange.


def _malformed_chunk(turn: Turn, deltas: float) -> Plan:
    """One event that is no JSON after so many deltas (usually 3), the rest whole; a JSON answer is broken itself."""
    plan = honest(turn)
    if not turn.ask.stream:
        return rewritten(plan, lambda act: (replace(act, data=act.data[:-2] + b"<"),))
    head = part(plan, int(deltas))
    return plan.acting(
        *head, Send(b'data: {"id":"gen-broken","choices":[{"del\n\n', "comment"), *plan.acts[len(head) :]
    )


def _comment_as_data(turn: Turn, _: float) -> Plan:
    """The keep-alive comment as a data event (before the JSON where the answer is one)."""
    plan = honest(turn)
    stray = b"data: " + COMMENT if turn.ask.stream else COMMENT
    return plan.acting(Start(), Send(stray, "comment"), *plan.acts[1:])


def _huge_line(turn: Turn, kibibytes: float) -> Plan:
    """One line of so many KiB (usually 1024) before the first word."""
    ballast = {"debug": {"echo_upstream_body": "x" * int(kibibytes * 1024)}}
    if not turn.ask.stream:
        return whole(turn, {**answers.body(turn), **ballast})
    return before(honest(turn), event({**answers.chunk(turn, answers.nothing(turn)), **ballast}, "comment"))


def _crlf(turn: Turn, _: float) -> Plan:
    """A stream whose lines end in CR LF."""
    if not turn.ask.stream:
        return honest(turn)
    return rewritten(honest(turn), lambda act: (replace(act, data=act.data.replace(b"\n", b"\r\n")),))


def _multibyte(turn: Turn, _: float) -> Plan:
    """An answer in many scripts; each write ends in the middle of a character."""

    def halves(act: Send) -> Iterator[Act]:
        place = next((at + 1 for at, byte in enumerate(act.data) if byte >= 0x80), len(act.data))
        yield replace(act, data=act.data[:place], tokens=0)
        yield Wait(0.001)
        yield replace(act, data=act.data[place:])

    return rewritten(honest(_saying(turn, text=POLYGLOT)), halves)


def _no_role(turn: Turn, _: float) -> Plan:
    """Neither message nor delta says whose it is."""
    role = b'"role":"assistant",'
    return rewritten(honest(turn), lambda act: (replace(act, data=act.data.replace(role, b"")),))


def _usage_missing(turn: Turn, _: float) -> Plan:
    """The whole answer, and not a word about what it used."""
    if turn.ask.stream:
        return without(honest(turn), "usage")
    return whole(turn, {key: value for key, value in answers.body(turn).items() if key != "usage"})


# Answers that are none.


def _content_filter(turn: Turn, words: float) -> Plan:
    """So many words (usually none), then finish_reason content_filter."""
    return honest(_saying(_shortened(turn, words), finish="content_filter", native="content_filter"))


def _refusal_output(turn: Turn, _: float) -> Plan:
    """The model declines: a `refusal` instead of content, finish_reason content_filter."""
    return honest(_saying(turn, text="", tool="", finish="content_filter", refusal="I can't help with that."))


def _length_empty(turn: Turn, tokens: float) -> Plan:
    """The reasoning used up every token (usually 300, or max_tokens): nothing said, finish_reason length."""
    spent = min(int(tokens), turn.ask.max_tokens or int(tokens))
    return honest(_saying(turn, text="", tool="", reasoning="", finish="length", spent=spent))


def _empty_stop(turn: Turn, _: float) -> Plan:
    """Nothing said, finish_reason stop: a cold start."""
    return honest(_saying(turn, text="", tool="", reasoning="", finish="stop"))


def _beat(turn: Turn) -> bytes:
    return COMMENT if turn.ask.stream else b"\n"


def _newlines(mebibytes: float) -> tuple[Send, ...]:
    return (Send(b"\n" * 65_536, "comment"),) * max(1, int(mebibytes * 16))


def _shortened(turn: Turn, words: float) -> Turn:
    text = "".join(pieces(turn.answer.text)[: int(words)])
    return _saying(turn, text=text, tool="")


def _body_of(turn: Turn, **choice: Any) -> dict[str, Any]:
    """The JSON answer with its choice changed; an answer without choices stays as it is."""
    body = answers.body(turn)
    if "choices" in body:
        body["choices"] = [{**body["choices"][0], **choice}]
    return body


def _saying(turn: Turn, **changes: Any) -> Turn:
    """The turn with another answer; an embedding says nothing and stays as it is."""
    if turn.ask.endpoint == "embeddings":
        return turn
    return replace(turn, answer=replace(turn.answer, **changes))


def _instead(turn: Turn, json: dict[str, Any]) -> Plan:
    """One JSON object where an answer was expected, with status 200; it is not charged."""
    plan = honest(turn)
    if not turn.ask.stream:
        return plan.acting(Start(), Send(orjson.dumps(json)), bills="nothing")
    return plan.acting(Start(), Send(COMMENT, "comment"), event(json, "finish"), Send(DONE, "done"), bills="nothing")


def _ended_by(turn: Turn, deltas: float, ended: dict[str, Any]) -> Plan:
    """A part of the answer and a last event; as one JSON, the part with the error in its choice. It is not charged."""
    if turn.ask.stream:
        plan = honest(turn)
        acts = (*part(plan, int(deltas)), event(ended, "finish"), Send(DONE, "done"))
        return plan.acting(*acts, bills="nothing")
    return _unbilled(turn, deltas, finish_reason="error", error=LOST)


def _unbilled(turn: Turn, words: float, **choice: Any) -> Plan:
    """One JSON with a part of the answer that ended in an error; without usage, for it is not charged."""
    if turn.ask.endpoint == "embeddings":
        return _error_in_200(turn, 0)
    short = _shortened(turn, words)
    return replace(whole(short, {**_body_of(short, **choice), "usage": None}), bills="nothing")


def _named(play: Play, usual: float = 0.0) -> Fault:
    name, says = getattr(play, "__name__", ""), getattr(play, "__doc__", "")
    return Fault(name.lstrip("_"), says.strip(), play, usual)


TWISTS: tuple[Fault, ...] = (
    *(_named(play) for play in (_ok, _silent, _comments_forever, _reset, _cut_before_first, _no_done)),
    *(_named(play) for play in (_error_in_200, _string_error, _choices_empty, _error_first, _comment_as_data)),
    *(_named(play) for play in (_crlf, _multibyte, _no_role, _usage_missing, _content_filter, _refusal_output)),
    *(_named(play, 10) for play in (_slow_first, _slow_headers)),
    *(_named(play, 5) for play in (_stall, _stall_comments, _cut_mid, _eof_no_finish)),
    *(_named(play, 5) for play in (_error_mid, _choice_error, _finish_error)),
    *(_named(play, 2) for play in (_padded, _padded_cut)),
    _named(_empty_stop),
    _named(_drip, 1),
    _named(_malformed_chunk, 3),
    _named(_huge_line, 1_024),
    _named(_length_empty, 300),
)
"""All of them."""
