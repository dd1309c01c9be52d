"""The catalog: which model a slug means, and what is known of it. What is not known is None, never an error.

Law: a holder of immutable lists and the rules of their names. A list is replaced as a whole or not at all, so
nobody sees half of one. Nothing is fetched here (`refresh`), nothing is priced (`price`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from orrouter.catalog import snapshot
from orrouter.catalog.model import Model

Row = Mapping[str, Any]

_WAYS = frozenset({"nitro", "floor", "exacto", "online", "thinking", "extended"})
"""Suffixes that say how a model is reached, not which one it is. `:free` and `:batch` are models of their own."""


REMEMBERED: Final = 4096
"""Answers that are kept ready; who invents slugs must not fill the memory."""


class _NotYet:
    """Nobody has asked for this slug yet."""


_NOT_YET: Final = _NotYet()


class Catalog:
    """Models by slug, and by upstream where one lists its own. Without models it holds the bundled snapshot.

    The snapshot is read, and each of its models made, when first asked for. `source` and `as_of` say where the
    list comes from and which day it held; `bundled` is True until the first `swap`.
    """

    def __init__(self, models: Iterable[Model] | None = None, *, source: str = "", as_of: str = "") -> None:
        self._held = None if models is None else _Shelf(models, source, as_of)
        self._own: dict[str, _Shelf] = {}
        self._found: dict[tuple[str, str | None], Model | None] = {}

    def get(self, slug: str, upstream: str | None = None) -> Model | None:
        """The model that a slug means at an upstream; None when unknown.

        Tried in turn: the id itself (an alias `~author/family-latest` leads to its target), the canonical slug, and
        without one of the suffixes that only say how a model is reached (`:nitro`, `:online` …), from the right. A
        preset behind `@` is dropped. An upstream that was given a list of its own answers from that list alone.
        """
        found = self._found.get((slug, upstream), _NOT_YET)
        if isinstance(found, _NotYet):
            found = self._shelf(upstream).find(slug.partition("@preset/")[0])
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[slug, upstream] = found
        return found

    def models(self) -> tuple[Model, ...]:
        """Every model of the shared list, in its order."""
        return self._shelf().models()

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models())

    def __len__(self) -> int:
        return len(self._shelf().rows)

    def nearest(self, slug: str, upstream: str | None = None) -> str | None:
        """The known slug that looks most like this one, for a "did you mean"; None when none does."""
        from difflib import get_close_matches

        names = {name: name for name in self._shelf(upstream).rows}
        if "/" not in slug:
            names |= {name.rpartition("/")[2]: name for name in reversed(names)}
        return next((names[name] for name in get_close_matches(slug, names, n=1)), None)

    def swap(self, models: Iterable[Model], source: str, as_of: str) -> None:
        """Put a whole new list in place of the old one, at once."""
        self._held = _Shelf(models, source, as_of)
        self._found = {}

    def add(self, upstream: str, models: Iterable[Model]) -> None:
        """Give an upstream a list of its own, in place of any before; an empty one makes all its prices unknown."""
        self._own = {**self._own, upstream: _Shelf(models, upstream, "")}
        self._found = {}

    @property
    def source(self) -> str:
        """Where the shared list comes from."""
        return self._shelf().source

    @property
    def as_of(self) -> str:
        """The day (YYYY-MM-DD) that the shared list held; empty when nobody said."""
        return self._shelf().as_of

    @property
    def bundled(self) -> bool:
        """Whether the shared list is still the snapshot that ships with the package."""
        return self._held is None or self._held.bundled

    def _shelf(self, upstream: str | None = None) -> _Shelf:
        own = None if upstream is None else self._own.get(upstream)
        if own is not None:
            return own
        if self._held is None:
            shipped = snapshot.load()
            self._held = _Shelf(shipped.rows, shipped.source, shipped.as_of, bundled=True)
        return self._held


class _Shelf:
    """One whole list: rows by id, made into models when first asked for."""

    def __init__(self, rows: Iterable[Model | Row], source: str, as_of: str, *, bundled: bool = False) -> None:
        self.rows: dict[str, Model | Row] = {_id(row): row for row in rows}
        self.source, self.as_of, self.bundled = source, as_of, bundled
        self._canonical: dict[str, str] = {}
        for name, row in self.rows.items():
            # A `:free` or `:batch` row bears the canonical slug of its base, which is what the slug means.
            if ":" not in name or _canonical(row) not in self._canonical:
                self._canonical[_canonical(row)] = name

    def find(self, slug: str) -> Model | None:
        name = slug if slug in self.rows else self._canonical.get(slug)
        if name is not None:
            model = self._model(name)
            return self._model(model.alias_target) if model.alias_target in self.rows else model
        base, _, suffix = slug.rpartition(":")
        return self.find(base) if suffix in _WAYS else None

    def models(self) -> tuple[Model, ...]:
        return tuple(self._model(name) for name in self.rows)

    def _model(self, name: str) -> Model:
        row = self.rows[name]
        if not isinstance(row, Model):
            row = self.rows[name] = Model.read(row)
        return row


def _id(row: Model | Row) -> str:
    return row.id if isinstance(row, Model) else str(row["id"])


def _canonical(row: Model | Row) -> str:
    return row.canonical_slug or row.id if isinstance(row, Model) else str(row.get("canonical_slug") or row["id"])
