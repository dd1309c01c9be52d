"""Answers in the shape of a pydantic model: the schema that is asked for, and the reading of what comes.

Law: pure. The router decides when; nothing is asked again from here.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from orrouter.core.completion import Completion
from orrouter.core.errors import OutputInvalid


def response_format(model: type[BaseModel]) -> dict[str, Any]:
    """`response_format` that asks for an answer which fits `model`."""
    schema = _strict(model.model_json_schema())
    name = "".join(sign if sign.isalnum() or sign in "_-" else "_" for sign in model.__name__)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _strict(schema: Any) -> Any:
    """A JSON schema as strict decoders want it: every object closed, every property required."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items() if name != "default"}
    if strict.get("type") == "object" and isinstance(strict.get("properties"), dict):
        strict["additionalProperties"] = False
        strict["required"] = list(strict["properties"])
    return strict


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
    raise OutputInvalid(f"the answer does not fit {model.__name__}: {reason}", text=text)


def _unfenced(text: str) -> str:
    """JSON without the code fence that some models put around it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3].strip()
    return text
