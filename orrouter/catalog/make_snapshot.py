"""Writes `models.json`, the bundled snapshot: `python -m orrouter.catalog.make_snapshot OUT [--as-of YYYY-MM-DD]`.

Law: a script for whoever makes a release, never imported by the library. It invents nothing: what the sources do
not hold is left out of a row, and so unknown.

Two packages are read, both under the MIT licence; the second one as a file, so `pip install --no-deps` is enough:

- `genai-prices`: slugs, names, windows and prices, with their long-context tiers. A price of a later day than
  `--as-of` is not yet taken; prices of a route that a caller must ask for are not taken at all.
- `langchain-openrouter`: abilities (what a model reads and writes, tools, reasoning) and output limits, which its
  authors generate from models.dev.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_KEYS = {
    "input_mtok": "prompt",
    "output_mtok": "completion",
    "cache_read_mtok": "input_cache_read",
    "cache_write_mtok": "input_cache_write",
    "cache_write_1h_mtok": "input_cache_write_1h",
    "output_reasoning_mtok": "internal_reasoning",
    "web_searches_kcount": "web_search",
}
"""The source's price keys by ours. One that is not here stops the script: no price may be lost in silence."""

_INPUTS = {
    "text": "text_inputs",
    "image": "image_inputs",
    "file": "pdf_inputs",
    "audio": "audio_inputs",
    "video": "video_inputs",
}
_OUTPUTS = {"text": "text_outputs", "image": "image_outputs", "audio": "audio_outputs", "video": "video_outputs"}
_ABILITIES = {
    "tool_calling": (("tools", "tool_choice"), ("tools", "tool_choice")),
    "structured_output": (("structured_outputs", "response_format"), ("structured_outputs",)),
    "reasoning_output": (("reasoning", "include_reasoning"), ("reasoning",)),
    "temperature": (("temperature",), ("temperature",)),
}
"""An ability, the fields of a request that it means are taken, and those that its absence means are not."""

_DATED = re.compile(r".*-(\d{8}|\d{4}-\d{2}-\d{2})")
Row = dict[str, Any]


def price(prices: ModelPrice) -> Row:
    """A `pricing` object as the live list has it. Raises KeyError for a price key that is not known here."""
    pricing: Row = {}
    tiers: dict[int, Row] = {}
    for key, value in vars(prices).items():
        if value is None:
            continue
        ours = _KEYS[key]
        pricing[ours] = _per_unit(key, value if isinstance(value, Decimal) else value.base)
        for tier in () if isinstance(value, Decimal) else value.tiers:
            tiers.setdefault(tier.start, {"min_prompt_tokens": tier.start})[ours] = _per_unit(key, tier.price)
    if tiers:
        pricing["overrides"] = [tiers[start] for start in sorted(tiers)]
    return pricing


def _per_unit(key: str, listed: Decimal) -> str:
    """A price of a million tokens, or a thousand pieces, as the plain decimal of one."""
    one = listed.scaleb(-3 if key.endswith("_kcount") else -6).normalize()
    return f"{one:f}"


def price_on(day: date, model: ModelInfo) -> Row:
    """The prices of a model in force on a day, at noon. An empty list of a `:free` model means that it is free."""
    noon = datetime.combine(day, time(12), UTC)
    listed = model.prices if isinstance(model.prices, list) else []
    in_force = [entry.prices for entry in listed if entry.constraint is None or entry.constraint.active(noon)]
    pricing = price(in_force[-1] if isinstance(model.prices, list) else model.prices)
    return {"prompt": "0", "completion": "0"} if not pricing and model.id.endswith(":free") else pricing


def abilities(profile: Mapping[str, Any]) -> Row:
    """What models.dev knows of a model, in the words of the live list."""
    taken = [word for key, (words, _) in _ABILITIES.items() if profile.get(key) is True for word in words]
    refused = [word for key, (_, words) in _ABILITIES.items() if profile.get(key) is False for word in words]
    return {
        "architecture": {
            "input_modalities": [word for word, key in _INPUTS.items() if profile.get(key)],
            "output_modalities": [word for word, key in _OUTPUTS.items() if profile.get(key)],
        },
        "top_provider": {"max_completion_tokens": profile["max_output_tokens"]},
        "supported_parameters": sorted(taken),
        "unsupported_parameters": sorted(refused),
    }


def rows(models: Iterable[ModelInfo], profiles: Mapping[str, Mapping[str, Any]], day: date) -> Iterator[Row]:
    """Every model that either source knows by a slug of OpenRouter's; routers have no price and are left out."""
    listed = {model.id: model for model in models if "/" in model.id}
    aliases = {alias: slug for slug, model in listed.items() for alias in _aliases(model) if alias not in listed}
    for slug in sorted(listed.keys() | {slug for slug in profiles if not slug.startswith("openrouter/")}):
        model, profile = listed.get(aliases.get(slug, slug)), profiles.get(slug, {})
        row: Row = {"id": slug, **_names(listed.get(slug), profile, profiles)}
        row["context_length"] = (model and model.context_window) or profile.get("max_input_tokens")
        row["pricing"] = price_on(day, model) if model else {}
        row |= abilities(profile) if profile else {}
        yield {key: value for key, value in row.items() if value is not None}


def _names(model: ModelInfo | None, profile: Mapping[str, Any], profiles: Mapping[str, Any]) -> Row:
    """What a model is called, and its dated name if it has one that is no row of its own."""
    if model is None:
        return {"name": profile["name"]}
    dated = next((alias for alias in _aliases(model) if alias not in profiles), None)
    return {"canonical_slug": dated, "name": model.name}


def _aliases(model: ModelInfo) -> list[str]:
    """The dated names of a model: the same weights at the same price. Other aliases may be other things."""
    clauses = getattr(model.match, "or_", ())
    names = [name for name in (getattr(clause, "equals", None) for clause in clauses) if name]
    return [name for name in names if name != model.id and _DATED.fullmatch(name)]


def page(found: Iterable[Row], source: str, day: date) -> bytes:
    """The file: a head, then one model a line, so that a difference reads well."""
    import orjson

    head = orjson.dumps({"as_of": day.isoformat(), "source": source})[:-1]
    lines = b",\n".join(orjson.dumps(row) for row in found)
    return head + b',"models":[\n' + lines + b"\n]}\n"


def read_sources() -> tuple[list[ModelInfo], Mapping[str, Mapping[str, Any]], str]:
    """The models and profiles of the two packages, and the words that name them with version and licence."""
    import runpy
    from importlib.metadata import distribution

    from genai_prices.data import providers

    wheel = distribution("langchain-openrouter")
    profiles = runpy.run_path(str(wheel.locate_file("langchain_openrouter/data/_profiles.py")))["_PROFILES"]
    models = next(provider.models for provider in providers if provider.id == "openrouter")
    versions = f"genai-prices {distribution('genai-prices').version}, langchain-openrouter {wheel.version}"
    return models, profiles, f"{versions} (models.dev); both MIT"


def main() -> None:
    """Write the snapshot."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--as-of", type=date.fromisoformat, default=datetime.now(UTC).date())
    given = parser.parse_args()
    models, profiles, source = read_sources()
    found = list(rows(models, profiles, given.as_of))
    given.out.write_bytes(page(found, source, given.as_of))
    print(f"{len(found)} models as of {given.as_of} from {source}: {given.out}")


if __name__ == "__main__":
    main()
