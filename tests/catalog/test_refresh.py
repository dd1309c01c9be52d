"""Refreshing from the live list: pages, a whole swap, and the old list kept when the new is bad."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.catalog.refresh import FIRST_PAGE, Refreshed, next_page, read_models, refresh, refresh_forever


def row(number: int, price: str = "0.000001"):
    return {"id": f"a/m{number}", "pricing": {"prompt": price, "completion": price}}


def listed(*rows, **rest):
    return {"data": list(rows), **rest}


def server(pages):
    """A `fetch` that serves pages by path, and the paths it was asked for."""
    asked = []

    async def fetch(path):
        asked.append(path)
        return pages[path]

    return fetch, asked


def live(count: int) -> Catalog:
    """A catalog that already holds a live list."""
    return Catalog([Model.read(row(number)) for number in range(count)], source="before")


# --- one page -------------------------------------------------------------------------------------------


def test_a_good_page_is_read():
    """Every row becomes a model."""
    assert (Model.read(row(1)), Model.read(row(2))) == read_models(listed(row(1), row(2)))


def test_a_few_rows_without_an_id_are_left_out():
    """One odd row does not cost the list."""
    assert ("a/m1", "a/m2") == tuple(model.id for model in read_models(listed(row(1), {"name": "x"}, row(2))))


def test_a_few_rows_without_a_price_stay():
    """Routers have no price of their own."""
    assert 3 == len(read_models(listed(row(1), row(2), row(3, "-1"))))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "holds no models"),
        ({"data": {}}, "holds no models"),
        ({"data": []}, "holds no models"),
        (listed(None, "x", row(1)), "2 of 3 rows of the model list have no id"),
        (listed(row(1), row(2, "-1"), row(3, "")), "2 of 3 models of the list have no price"),
    ],
)
def test_a_bad_page_is_refused_with_its_reason(body, says):
    """Empty, no list, or without ids or prices in most rows: nothing of it is believed."""
    with pytest.raises(ValueError, match=says):
        read_models(body)


@pytest.mark.parametrize(
    ("body", "seen", "path"),
    [
        ({"links": {"next": "/api/v1/models?offset=500&limit=500"}}, 500, "models?offset=500&limit=500"),
        ({"links": {"next": "https://elsewhere.example/models?offset=5"}}, 5, "models?offset=5"),
        ({"links": {"next": None}, "total_count": 9}, 5, None),
        ({"total_count": 9}, 5, f"{FIRST_PAGE}&offset=5"),
        ({"total_count": 9}, 9, None),
        ({}, 5, None),
    ],
)
def test_the_list_goes_on_by_link_or_by_offset(body, seen, path):
    """A link leads on, on the same host only; without links the count does."""
    assert path == next_page(body, seen)


# --- a refresh ------------------------------------------------------------------------------------------


async def test_every_page_is_fetched_and_swapped_in_as_one():
    """Three pages make one list, with its source and day."""
    fetch, asked = server(
        {
            FIRST_PAGE: listed(row(0), links={"next": "/models?offset=1"}),
            "models?offset=1": listed(row(1), links={"next": "/models?offset=2"}),
            "models?offset=2": listed(row(2), links={"next": None}),
        }
    )
    catalog = live(2)
    assert Refreshed(models=3, changed=1) == await refresh(catalog, fetch, source="live", as_of="2026-12-01")
    assert [FIRST_PAGE, "models?offset=1", "models?offset=2"] == asked
    assert (3, "live", "2026-12-01") == (len(catalog), catalog.source, catalog.as_of)


async def test_changed_counts_what_is_new_gone_and_dearer():
    """One of each is three."""
    fetch, _ = server({FIRST_PAGE: listed(row(0), row(1, "0.000002"), row(3))})
    assert Refreshed(models=3, changed=3) == await refresh(live(3), fetch)


@pytest.mark.parametrize(
    "pages",
    [
        {FIRST_PAGE: listed()},
        {FIRST_PAGE: listed(row(7), links={"next": "/models?offset=1"}), "models?offset=1": {"error": "gone"}},
        {FIRST_PAGE: listed(row(7), links={"next": f"/{FIRST_PAGE}"})},
        {FIRST_PAGE: listed(row(7))},
    ],
    ids=["empty", "second page bad", "pages in a circle", "shrunk"],
)
async def test_a_bad_list_leaves_the_old_one(pages):
    """Nothing of a bad list gets in, not even its good pages."""
    fetch, _ = server(pages)
    catalog = live(3)
    with pytest.raises(ValueError):
        await refresh(catalog, fetch)
    assert (3, "before", None) == (len(catalog), catalog.source, catalog.get("a/m7"))


async def test_a_list_of_half_the_length_is_believed():
    """Models retire; only more than half at once is a fault."""
    fetch, _ = server({FIRST_PAGE: listed(row(0), row(1))})
    assert 2 == (await refresh(live(4), fetch)).models


async def test_the_snapshot_is_no_measure_of_length():
    """The snapshot also holds retired models, so a first live list may be much shorter."""
    fetch, _ = server({FIRST_PAGE: listed(row(0), row(1))})
    catalog = Catalog()
    await refresh(catalog, fetch)
    assert 2 == len(catalog)


async def test_what_the_fetch_raises_passes_through():
    """A network error is the caller's to judge, and the old list stays."""

    async def fetch(path):
        raise ConnectionError("no route")

    catalog = live(2)
    with pytest.raises(ConnectionError):
        await refresh(catalog, fetch)
    assert 2 == len(catalog)


# --- the loop -------------------------------------------------------------------------------------------


class Rounds:
    """Pauses that let the loop go round so often, then cancel it; and what it was told."""

    def __init__(self, rounds: int) -> None:
        self.left, self.slept, self.told = rounds, [], []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError

    def tell(self, brought: object) -> None:
        self.told.append(brought)


async def test_the_loop_tells_each_round_and_goes_on_after_a_failure():
    """A bad list and a broken line are told, and the next round is made."""
    answers = iter([listed(row(0)), listed(), ConnectionError("no route"), listed(row(0), row(1))])

    async def fetch(path):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    rounds, pauses, catalog = Rounds(4), iter([60.0, 61.0, 62.0, 63.0]), live(1)
    with pytest.raises(asyncio.CancelledError):
        await refresh_forever(
            catalog,
            fetch,
            every=lambda: next(pauses),
            sleep=rounds.sleep,
            tell=rounds.tell,
            today=lambda: "2026-12-01",
        )
    assert [Refreshed, ValueError, ConnectionError, Refreshed] == [type(brought) for brought in rounds.told]
    assert [60.0, 61.0, 62.0, 63.0] == rounds.slept
    assert (2, "2026-12-01") == (len(catalog), catalog.as_of)


async def test_a_listener_that_raises_does_not_end_the_loop():
    """Prices stay fresh although nobody can be told."""

    def tell(brought):
        raise RuntimeError("nobody home")

    fetch, asked = server({FIRST_PAGE: listed(row(0))})
    rounds = Rounds(3)
    with pytest.raises(asyncio.CancelledError):
        await refresh_forever(live(1), fetch, every=lambda: 60.0, sleep=rounds.sleep, tell=tell, today=str)
    assert 3 == len(asked)
