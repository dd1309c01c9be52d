"""The whole answer, as a caller sees it: a view of the body that no strange body can break."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Target, Trail
from orrouter.core.completion import Completion

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "delta", "usage", "id"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(["choices", "usage", "id", "data"]), JSON)


def completion_of(raw: dict[str, Any], **attempt: Any) -> Completion:
    made = Attempt(1, Target(model="asked"), 0.0)
    for name, value in attempt.items():
        setattr(made, name, value)
    return Completion(raw, made, Trail("req_1", lambda: 1.0))


def saying(content: Any = "hello", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}]}


def test_an_answer_as_it_usually_is():
    """Text, reason, model, provider, usage, cost."""
    usage = {"total_tokens": 3, "cost": 0.25}
    done = completion_of({**saying(), "usage": usage, "id": "gen-1"}, model="used", provider="Acme", usage=usage)
    assert ("hello", "stop", "gen-1", usage) == (done.text, done.finish_reason, done.id, done.usage)
    assert ("used", "Acme", Decimal("0.25"), "req_1") == (done.model, done.provider, done.cost, done.request_id)
    assert {"role": "assistant", "content": "hello"} == done.message


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (saying([{"type": "text", "text": "a"}, {"type": "image_url"}, "x", {"text": None}, {"text": "b"}]), "ab"),
        (saying(None), ""),
        (saying([]), ""),
        ({"choices": [{"text": "older"}]}, "older"),
        ({"choices": []}, ""),
        ({"data": [{"embedding": [0.1]}]}, ""),
    ],
)
def test_what_the_answer_says_in_words(raw, text):
    """Parts joined, the older form read, nothing where there are no words."""
    assert text == completion_of(raw).text


def test_what_else_a_message_may_hold():
    """Reasoning, refusal, tool calls; each empty when there is none."""
    calls = [{"id": "call_1", "function": {"name": "f"}}]
    full = completion_of(saying(None, reasoning="because", refusal="no", tool_calls=calls))
    empty = completion_of(saying())
    assert ("because", "no", calls) == (full.reasoning, full.refusal, full.tool_calls)
    assert ("", None, []) == (empty.reasoning, empty.refusal, empty.tool_calls)


@given(BODIES)
def test_no_body_breaks_the_view(raw):
    """Whatever an upstream sends, looking at it raises nothing."""
    done = completion_of(raw)
    assert isinstance(done.text, str)
    assert isinstance(done.message, dict)
    assert isinstance(done.usage, dict)
    assert repr(done).startswith("Completion(")
    assert (done.finish_reason, done.reasoning, done.tool_calls, done.id) is not None


def test_what_the_upstream_has_not_said_is_unknown():
    """The model is then the one that was asked."""
    done = completion_of({}, model="", generation_id="gen-2")
    assert ("asked", None, None, {}, "gen-2") == (done.model, done.provider, done.cost, done.usage, done.id)


def test_the_record_is_final_once_the_call_is_over():
    """Looked at before, it is made anew; after that it stays."""
    trail = Trail("req_1", lambda: 1.0)
    done = Completion(saying(), Attempt(1, Target(), 0.0), trail)
    assert "open" == done.record.outcome
    trail.outcome = "ok"
    assert "ok" == done.record.outcome
    assert done.record is done.record


def test_its_repr_is_short():
    """An answer may be a book."""
    assert len(repr(completion_of(saying("x" * 10_000)))) < 150
