"""The JSON Schema of a policy file, made from the types: `python -m orrouter.policy.jsonschema FILE` writes it.

An editor that knows it completes keys and underlines mistakes as they are typed:
`# yaml-language-server: $schema=policy.schema.json` on a policy's first line.

Law: what the types say, in JSON Schema 2020-12. It is an editor's help and looser than `read_policy`: rules that
join several values are not in it. Kinds of installed packages are in it only with `--installed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from orrouter.core.errors import PolicyError
from orrouter.core.money import show
from orrouter.core.units import show_duration
from orrouter.middleware.base import Options
from orrouter.policy import kinds
from orrouter.policy.ledger import ADDRESS, LedgerOptions
from orrouter.policy.schema import NAME, Route
from orrouter.policy.upstreams import UpstreamOptions
from orrouter.policy.validation import models_in

Schema = dict[str, Any]

VARIABLE: Final = {
    "type": "string",
    "pattern": r"^\$\{[A-Z_][A-Z0-9_]*(:-[^{}]*)?\}$",
    "description": "A variable of the environment, as a whole value in block style: ${NAME} or ${NAME:-default}.",
}
_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))


class _Plain(GenerateJsonSchema):
    """Without a title for each field: it would only repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        """No field has one."""
        return False


def policy_schema(names: Iterable[str] = kinds.OURS) -> Schema:
    """The schema of a policy with layers of these kinds. Raises PolicyError for a kind that nobody knows."""
    layers = {name: _options(name) for name in names}
    models: list[type[BaseModel]] = [UpstreamOptions, LedgerOptions, Route, *layers.values()]
    found, extra = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}", schema_generator=_Plain
    )
    definitions = {name: _finished(schema) for name, schema in extra["$defs"].items()}
    refs = {model: found[model, "validation"] for model in models}
    for model in (*models, *_parts(models)):
        _show_defaults(definitions.get(model.__name__, {}), model)
    items = [_layer(name, refs[options], options) for name, options in layers.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy of orrouter",
        "type": "object",
        "required": ["version", "upstreams", "policies"],
        "additionalProperties": False,
        "properties": _top(refs[UpstreamOptions], refs[LedgerOptions], refs[Route], items),
        "$defs": {**dict(sorted(definitions.items())), "Variable": VARIABLE},
    }


def _options(name: str) -> type[Options]:
    found = kinds.kind(name)
    if found is None:
        raise PolicyError(f"no layer is called {name!r}")
    return found


def _top(upstream: Schema, ledger: Schema, route: Schema, items: list[Schema]) -> Schema:
    named = {"type": "object", "minProperties": 1, "propertyNames": {"pattern": f"^{NAME}$"}}
    stack = {"type": "array", "minItems": 1, "items": {"oneOf": items}}
    return {
        "version": {"const": 1, "description": "The version of this format."},
        "upstreams": {
            **named,
            "additionalProperties": upstream,
            "description": "Where calls go, by name. The first is meant where none is named.",
        },
        "ledger": {
            "anyOf": [ADDRESS, _REF, ledger],
            "description": "Where budgets are kept: an address, or a mapping with it. In memory where none is given.",
        },
        "routes": {
            "type": "array",
            "minItems": 1,
            "items": route,
            "description": "Which policy a call takes: the first route that fits. The last has no `when`.",
        },
        "policies": {
            **named,
            "additionalProperties": stack,
            "description": "Stacks of layers by name, from the outermost inward.",
        },
    }


def _layer(name: str, ref: Mapping[str, Any], options: type[Options]) -> Schema:
    """One item of a stack: a mapping of one key."""
    needed = any(field.is_required() for field in options.model_fields.values())
    body = ref if needed else {"anyOf": [ref, {"type": "null"}]}
    return {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: body}}


# --- from pydantic's schema to ours -----------------------------------------------------------------------


def _finished(schema: Any) -> Any:
    """A schema where every value that is no free text may also be written as a variable."""
    if isinstance(schema, list):
        return [_finished(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:
        choices = [_finished_inside(choice) for choice in schema["anyOf"]]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**rest, "anyOf": [*choices, _REF] if any(map(_is_closed, choices)) else choices}
    inside = _finished_inside(schema)
    if not _is_closed(inside):
        return inside
    said = {key: inside.pop(key) for key in ("description", "default") if key in inside}
    return {**said, "anyOf": [inside, _REF]}


_REF: Final = {"$ref": "#/$defs/Variable"}
_HOLDERS: Final = ("properties", "items", "additionalProperties", "prefixItems")


def _finished_inside(schema: Schema) -> Schema:
    """The schema with all that it holds finished."""
    done = dict(schema)
    for key in _HOLDERS:
        held = done.get(key)
        if key == "properties" and isinstance(held, dict):
            done[key] = {name: _finished(value) for name, value in held.items()}
        elif held is not None:
            done[key] = _finished(held)
    return done


def _is_closed(schema: Schema) -> bool:
    """Whether it is a scalar in which the text of a variable would not fit."""
    kind = schema.get("type")
    return kind in ("integer", "number", "boolean") or (kind == "string" and ("pattern" in schema or "enum" in schema))


def _parts(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """The models that stand inside of others, all the way down."""
    found: dict[type[BaseModel], None] = {}
    waiting = list(models)
    while waiting:
        for field in waiting.pop().model_fields.values():
            for part in models_in(field.annotation):
                if part not in found:
                    found[part] = None
                    waiting.append(part)
    return list(found)


def _show_defaults(schema: Schema, model: type[BaseModel]) -> None:
    """Write the defaults of durations, sizes, sums and parts as people do; leave out those that say nothing."""
    for name, field in model.model_fields.items():
        written = schema.get("properties", {}).get(name, {})
        default = _default(field, str(written))
        if default in (None, {}, "", []):
            written.pop("default", None)
        elif "default" in written:
            written["default"] = default


def _default(field: FieldInfo, schema: str) -> Any:
    value = field.get_default(call_default_factory=True) if not field.is_required() else None
    if isinstance(value, float) and "(ms|s|m|h|d)" in schema:
        return show_duration(value)
    if isinstance(value, int) and "MiB" in schema:
        return next(f"{value // size}{unit}" for unit, size in _SIZES if value % size == 0)
    if isinstance(value, int) and "$0.50" in schema:
        return show(value)
    if isinstance(value, tuple):
        return [f"{part:.0%}" for part in value] if "80%" in schema else list(value)
    return value


def main() -> None:
    """Write the schema to the file named."""
    import argparse

    import orjson

    parser = argparse.ArgumentParser(description="Write the JSON Schema of a policy file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--installed", action="store_true", help="with the kinds that installed packages add")
    given = parser.parse_args()
    schema = policy_schema(kinds.known() if given.installed else kinds.OURS)
    given.file.write_bytes(orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
