"""Answers in the shape of a pydantic model: the schema that is asked for, and the reading of what comes.

Law: pure. The router decides when; nothing is asked again from here.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ValidationError

from orrouter.core.completion import Completion
from orrouter.core.errors import OutputInvalid


def response_format(model: type[BaseModel]) -> dict[str, Any]:
    """`response_format` that asks for an answer which fits `model`."""
    schema = _strict(_rooted(model.model_json_schema()))
    name = "".join(sign if sign.isalnum() or sign in "_-" else "_" for sign in model.__name__)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose root is an object: that of a model which holds itself is a reference."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    return {**schema["$defs"][name], "$defs": schema["$defs"]} if name else schema


_NAMED: Final = frozenset({"properties", "$defs", "patternProperties"})
"""Keywords that hold schemas by a name of the model's choosing."""
_VALUES: Final = frozenset({"const", "enum", "examples"})
"""Keywords that hold values, which are no schemas."""
_UNKNOWN: Final = frozenset({"default", "discriminator"})
"""Keywords that strict decoders refuse."""


def _strict(schema: Any) -> Any:
    """A JSON schema as strict decoders want it: every object closed, every property required, no defaults.

    A reference stands alone there, and a choice is `anyOf`.
    """
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {_today(name): _inside(name, value) for name, value in schema.items() if name not in _UNKNOWN}
    if strict.get("type") == "object" and isinstance(strict.get("properties"), dict):
        strict["additionalProperties"] = False
        strict["required"] = list(strict["properties"])
    if "$ref" in strict and not strict.keys() <= {"$ref", "$defs"}:
        strict["anyOf"] = [{"$ref": strict.pop("$ref")}]
    return strict


def _today(keyword: str) -> str:
    return "anyOf" if keyword == "oneOf" else keyword


def _inside(keyword: str, value: Any) -> Any:
    if keyword in _VALUES:
        return value
    if keyword in _NAMED and isinstance(value, dict):
        return {name: _strict(part) for name, part in value.items()}
    return _strict(value)


def parse(model: type[BaseModel], completion: Completion) -> BaseModel:
    """The answer as a `model`. Raises OutputInvalid, which says why and keeps the text."""
    text = completion.text
    try:
        return model.model_validate_json(_unfenced(text))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in found["loc"])
    reason = f"{where}: {found['msg']}" if where else found["msg"]
    if completion.refusal:
        reason = f"the model refused: {completion.refusal}"
    elif completion.finish_reason == "length":
        reason = "the answer was cut at max_tokens: allow more"
    elif completion.finish_reason == "content_filter":
        reason = "a content filter cut the answer off"
    raise OutputInvalid(f"the answer does not fit {model.__name__}: {reason}", text=text)


def _unfenced(text: str) -> str:
    """JSON without the code fence that some models put around it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3].strip()
    return text
