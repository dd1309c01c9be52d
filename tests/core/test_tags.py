"""Tags that a whole piece of work bears."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.errors import InvalidRequest
from orrouter.core.tags import current, tags


def test_without_tags_there_are_none():
    """The start."""
    assert ({}, {}, {"team": "a"}) == (current(None), current({}), current({"team": "a"}))


def test_calls_inside_bear_them():
    """Those of the contexts around it too; the nearest wins, and a call's own above all."""
    with tags(team="a", tier="batch"):
        with tags(team="b"):
            assert {"team": "b", "tier": "batch"} == current(None)
            assert {"team": "c", "tier": "batch", "user": "u"} == current({"team": "c", "user": "u"})
        assert {"team": "a", "tier": "batch"} == current(None)
    assert {} == current(None)


def test_they_are_taken_off_when_the_work_fails():
    """A later call does not bear them."""
    with pytest.raises(KeyError), tags(team="a"):
        raise KeyError
    assert {} == current(None)


def test_a_tag_is_a_text():
    """A number would never match a route."""
    with pytest.raises(InvalidRequest, match="the tag 'team' must be a text"), tags(team=5):
        pass


def test_a_callers_own_dict_is_not_kept():
    """He may change it for his next call while this one is running."""
    own = {"team": "a"}
    taken = current(own)
    own["team"] = "b"
    assert {"team": "a"} == taken


async def test_tasks_side_by_side_have_their_own():
    """One task's tags are not another's; a task begun inside bears them."""

    async def work(team: str) -> tuple[str, str]:
        with tags(team=team):
            await asyncio.sleep(0)
            inner = asyncio.get_running_loop().create_task(asyncio.sleep(0, current(None)))
            return current(None)["team"], (await inner)["team"]

    assert [("a", "a"), ("b", "b")] == await asyncio.gather(work("a"), work("b"))
