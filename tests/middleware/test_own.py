"""own: what is priced is what is sent, whatever its caller does meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orrouter.middleware.own import copied, own

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def message(text: str = "Hello") -> dict:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def test_what_its_caller_changes_later_is_not_seen():
    """Neither a message more nor another word in one."""
    body = {"messages": [message()], "tools": ({"type": "function"},), "temperature": 0}
    mine = own(body, {})
    body["messages"][0]["content"][0]["text"] = "x" * 1000
    body["messages"].append(message())
    body["tools"][0]["type"] = "web"
    assert {"messages": [message()], "tools": [{"type": "function"}], "temperature": 0} == mine


def test_every_try_has_the_same_copies():
    """So a long prompt is serialised once, and priced as it was the first time."""
    kept, body = {}, {"messages": [message()]}
    first = own(body, kept)
    body["messages"].append(message())
    assert first["messages"] is own({**body, "provider": {}}, kept)["messages"]


def test_large_texts_are_shared():
    """A picture of a megabyte is not copied."""
    picture = "data:" + "x" * 1000
    assert copied([{"url": picture}])[0]["url"] is picture


@given(st.dictionaries(st.text(), JSON))
def test_a_copy_says_the_same(body):
    """Whatever JSON it is."""
    assert body == own(body, {})
