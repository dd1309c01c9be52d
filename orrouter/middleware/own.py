"""A request as it was when it was priced: what its caller changes later is neither priced nor sent.

Law: pure copying of lists and mappings; texts, numbers and whatever else is in them cannot change, or is not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Kept = dict[int, tuple[Any, Any]]
"""What was copied for this call: each original, by its identity, with its copy."""


def own(body: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """The body with nothing in it that somebody else could change. For all tries of a call the copies are the same."""
    owned = dict(body)
    for name, value in owned.items():
        if type(value) in _HOLDERS:
            known = kept.get(id(value))
            if known is None or known[0] is not value:
                known = kept[id(value)] = value, copied(value)
            owned[name] = known[1]
    return owned


def copied(value: Any) -> Any:
    """A copy down to the leaves, which are shared: a picture of a megabyte is not copied."""
    # Loops, where comprehensions would be functions of their own: this is walked for every message of every call.
    if type(value) is dict:
        fields = value.copy()
        for name, item in value.items():
            if type(item) in _HOLDERS:
                fields[name] = copied(item)
        return fields
    items = []
    for item in value:
        items.append(copied(item) if type(item) in _HOLDERS else item)  # noqa: PERF401  # see above
    return items


_HOLDERS = frozenset({list, tuple, dict})
