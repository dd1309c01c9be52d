"""What a layer is made of: options that are checked when they are read, and the world it may touch.

Law: no layer lives here. A layer imports this and the words, and never another layer, a store, the transport,
the policy or the router.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from orrouter.catalog.catalog import Catalog
from orrouter.core.call import Target
from orrouter.core.clock import Clock, LoopClock
from orrouter.core.health import Health
from orrouter.core.money import parse_money
from orrouter.core.pipeline import Handler, Middleware
from orrouter.core.units import parse_duration, parse_size
from orrouter.ledger.base import Ledger
from orrouter.ledger.open import MEMORY, open_ledger

__all__ = ["Duration", "Handler", "Middleware", "Money", "Options", "Size", "World"]


def _written(parse: Any, example: str) -> Any:
    def read(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        raise ValueError(f"write it with its unit, as in {example}")

    return BeforeValidator(read)


Duration = Annotated[
    float,
    _written(parse_duration, "500ms or 30s"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["500ms", "30s", "2m"]}),
]
"""Seconds, written `500ms`, `30s`, `2m`, `1h`, `7d`."""

Money = Annotated[
    int,
    _written(parse_money, "$0.50"),
    WithJsonSchema({"type": "string", "pattern": r"^\$\d+(\.\d+)?$", "examples": ["$0.50", "$50"]}),
]
"""Nano-USD, written `$0.50`."""

Size = Annotated[
    int,
    _written(parse_size, "20MiB"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(B|KB|KiB|MB|MiB|GB|GiB)$", "examples": ["20MiB"]}),
]
"""Bytes, written `20MiB`."""


@dataclass(slots=True)
class World:
    """Everything a layer may touch outside its call; one per Router."""

    clock: Clock = field(default_factory=LoopClock)
    random: random.Random = field(default_factory=random.Random)
    catalog: Catalog = field(default_factory=Catalog)
    health: Health = field(default_factory=Health)
    ledger: Ledger = field(default_factory=lambda: open_ledger(MEMORY, wall=LoopClock().wall))
    """Where budgets are kept; in memory, by the machine's clock, where none is given."""
    on_suspense: Callable[[], object] = bool
    """Told when a hold goes into suspense, so that somebody soon asks what it cost."""
    upstreams: Mapping[str, Target] = field(default_factory=dict)
    """For each upstream of the policy a target without a model; the first is the one meant when none is named."""


class Options(BaseModel):
    """The options of one kind of layer: frozen, unknown keys refused.

    `kind` is the layer's word in YAML. A subclass says each default and builds its layer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)
    kind: ClassVar[str] = ""

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        raise NotImplementedError(f"{type(self).__name__} builds no layer")

    def says(self) -> str:
        """What the layer does with these options, in words for people; here what is not as by default."""
        fields = type(self).model_fields
        written = [
            f"{name} {value}"
            for name in fields
            if (value := getattr(self, name)) != fields[name].get_default(call_default_factory=True)
        ]
        return f"works with {', '.join(written)}" if written else "works with its defaults"
