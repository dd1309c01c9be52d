"""Refreshing the catalog from the live list: pages in, one whole list out, the old one kept when the new is bad.

Law: opens no socket, reads no clock and owns no task. `fetch`, the pauses and the day are handed in; whoever runs
the loop is told of each round and turns it into a fact.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model

Fetch = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Takes a path below the upstream's base URL, gives the JSON object found there."""

FIRST_PAGE = "models?output_modalities=all&limit=1000"
"""Without `output_modalities=all` the list holds models of text only."""

_MOST_PAGES = 50


@dataclass(frozen=True)
class Refreshed:
    """What a refresh brought: how many models there are now, and how many are new, gone or other than before."""

    models: int
    changed: int


def read_models(body: Mapping[str, Any]) -> tuple[Model, ...]:
    """The models of one page of `GET /models`. Rows without an id are left out.

    Raises ValueError with the reason when it is no list, is empty, or lacks ids or prices in most of its rows: then
    it is not what it claims to be, and no price in it should be believed.
    """
    rows = body.get("data")
    if not isinstance(rows, list) or not rows:
        raise ValueError("the answer holds no models under `data`: is this the right upstream?")
    models = tuple(model for model in (Model.read(row) for row in rows if isinstance(row, Mapping)) if model.id)
    if len(models) * 2 < len(rows):
        raise ValueError(f"{len(rows) - len(models)} of {len(rows)} rows of the model list have no id")
    unpriced = sum(model.price.prompt is None and model.price.completion is None for model in models)
    if unpriced * 2 > len(models):
        raise ValueError(f"{unpriced} of {len(models)} models of the list have no price")
    return models


def next_page(body: Mapping[str, Any], seen: int) -> str | None:
    """Where the list goes on after `seen` rows; None at its end.

    Of `links.next` only the query is taken, so that a page can send nobody to another host. A list without links
    goes on by `offset` until `total_count` rows were seen.
    """
    links, total = body.get("links"), body.get("total_count")
    following = links.get("next") if isinstance(links, Mapping) else None
    if isinstance(following, str) and "?" in following:
        return f"models?{following.partition('?')[2]}"
    if isinstance(links, Mapping) or not isinstance(total, int) or seen >= total:
        return None
    return f"{FIRST_PAGE}&offset={seen}"


async def refresh(catalog: Catalog, fetch: Fetch, *, source: str = "live", as_of: str = "") -> Refreshed:
    """Fetch every page and swap the whole list in.

    Raises ValueError with the reason, and leaves the catalog as it is, when a page is bad or the list has shrunk to
    less than half of the live one before (the bundled snapshot, which also holds retired models, is no measure).
    What `fetch` raises passes through.
    """
    models = await _every_page(fetch)
    if not catalog.bundled and len(models) * 2 < len(catalog):
        raise ValueError(f"the model list shrank from {len(catalog)} to {len(models)} models; the old one is kept")
    changed = _changed({model.id: model for model in catalog}, models)
    catalog.swap(models.values(), source, as_of)
    return Refreshed(len(models), changed)


async def _every_page(fetch: Fetch) -> dict[str, Model]:
    models: dict[str, Model] = {}
    path: str | None = FIRST_PAGE
    visited: set[str] = set()
    seen = 0
    while path is not None:
        if path in visited or len(visited) == _MOST_PAGES:
            raise ValueError(f"the pages of the model list do not end: {path} came after {len(visited)} pages")
        visited.add(path)
        body = await fetch(path)
        models |= {model.id: model for model in read_models(body)}
        seen += len(body["data"])
        path = next_page(body, seen)
    return models


def _changed(old: Mapping[str, Model], new: Mapping[str, Model]) -> int:
    return sum(old.get(slug) != new.get(slug) for slug in old.keys() | new.keys())


async def refresh_forever(
    catalog: Catalog,
    fetch: Fetch,
    *,
    every: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    tell: Callable[[Refreshed | Exception], None],
    today: Callable[[], str],
) -> None:
    """Refresh now and again until cancelled; no failure ends it, not even one of `tell`.

    `every` gives the seconds until the next round, jitter included; `tell` is told what each round brought or why
    it failed; `today` gives the day (YYYY-MM-DD) that a new list holds.
    """
    while True:
        brought: Refreshed | Exception
        try:
            brought = await refresh(catalog, fetch, as_of=today())
        except Exception as error:
            brought = error
        with suppress(Exception):  # a listener's mistake must not cost the prices of tomorrow
            tell(brought)
        await sleep(every())
