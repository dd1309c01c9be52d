"""The bundled snapshot: real models and prices for the time before, or without, a look at the live list.

Law: reads one file of this package, when first asked and once. It holds rows as the live list has them and makes no
`Model` of them: of seven hundred a program asks for three. `make_snapshot` writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Snapshot:
    """Rows of a model list, with where they come from (and under which licence) and the day they held."""

    rows: tuple[Mapping[str, Any], ...]
    source: str
    as_of: str


@cache
def load() -> Snapshot:
    """The snapshot that ships with the package. Raises FileNotFoundError when the package was installed in part."""
    from pkgutil import get_data  # does what importlib.resources does in a tenth of the time that its import takes

    import orjson

    head = orjson.loads(get_data("orrouter.catalog", "models.json") or b"")
    return Snapshot(tuple(head["models"]), head["source"], head["as_of"])
