"""What the fake upstream says: an answer that is the same each time and does what the request asked for.

Law: pure, from a request to an `Answer`. The JSON around it is built in `answers.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from orrouter.testkit.ask import Ask
from orrouter.testkit.table import FakeModel

CANONICAL = (
    "A river does not hurry to the sea, and yet it always arrives. It bends around each stone, waits behind every "
    "dam, and carries whatever falls into it without complaint. Those who watch it long enough learn that patience "
    "is a kind of strength, that the shortest way is rarely the best one, and that nothing moving is ever lost."
)
"""The answer when nothing else was arranged: sixty words, so that a truncated one is never mistaken for it."""

THOUGHT = "The user asks for something simple. I recall the text and answer plainly."
"""The reasoning of a model that is asked to reason."""

DEEPEST = 6
"""Levels of a schema below which optional properties are left out, so that a recursive one comes to an end."""

_PIECE = re.compile(r"\s*\S{1,16}|\s+")
_NATIVE = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"},
    "google": {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said and what it costs in tokens; `tool` is the name of the function called with `text` as arguments.

    `reasoning` counts also where `shows_reasoning` is false. `spent` overrides the tokens that the words would count.
    """

    text: str
    prompt_tokens: int
    reasoning: str = ""
    shows_reasoning: bool = True
    tool: str = ""
    finish: str = "stop"
    native: str = ""
    refusal: str = ""
    spent: int | None = None
    media: tuple[str, ...] = ()

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reasoning; all of an answer that never came to speak."""
        if self.spent is not None and not self.text:
            return max(0, self.spent - 1)
        return len(pieces(self.reasoning))

    @property
    def completion_tokens(self) -> int:
        """All tokens produced, those of the reasoning included; the name of a tool is one."""
        if self.spent is not None:
            return self.spent
        return len(pieces(self.text)) + len(pieces(self.refusal)) + self.reasoning_tokens + bool(self.tool)

    def native_finish(self, author: str) -> str:
        """The finish reason in the words of the model's author."""
        return self.native or _NATIVE.get(author, {}).get(self.finish, self.finish)


def pieces(text: str) -> list[str]:
    """The text cut into tokens: a word of up to sixteen characters with the blanks before it. Joined, it is whole."""
    return _PIECE.findall(text)


def compose(ask: Ask, model: FakeModel, said: str | None, most: int) -> Answer:
    """The answer to a request: what a test arranged (`said`), else a tool call, JSON, or the canonical text.

    `most` is the longest answer in tokens that the provider can give.
    """
    if ask.endpoint == "embeddings":
        return Answer("", ask.prompt_tokens)
    bare = Answer("", ask.prompt_tokens, _thought(ask, model), not ask.reasoning.get("exclude"), media=_media(ask))
    tool = None if said is not None else _tool_called(ask)
    if tool is not None:
        arguments = orjson.dumps(instance(tool.get("parameters") or {})).decode()
        answer = replace(bare, text=arguments, tool=str(tool["name"]), finish="tool_calls")
    else:
        answer = _stopped(replace(bare, text=_structured(ask) if said is None else said), ask.stops)
    return _limited(answer, min(most, ask.max_tokens or most))


def _thought(ask: Ask, model: FakeModel) -> str:
    if model.reasoning == "none" or not (ask.wants_reasoning or model.reasoning == "mandatory"):
        return ""
    bound = ask.reasoning.get("max_tokens")
    return "".join(pieces(THOUGHT)[: int(bound)] if bound else THOUGHT)


def _media(ask: Ask) -> tuple[str, ...]:
    return tuple(kind for kind in ask.needed_outputs if kind in {"audio", "image"})


def _tool_called(ask: Ask) -> Mapping[str, Any] | None:
    """The function that the request forces, or that its last message names: `call NAME`; None when it is to talk."""
    functions: list[Mapping[str, Any]] = [
        tool["function"] for tool in ask.tools if isinstance(tool.get("function"), Mapping)
    ]
    choice = ask.body.get("tool_choice", "auto")
    asked = ask.last_text.startswith("call ")
    if not functions or choice == "none":
        return None
    wanted = choice.get("function", {}).get("name") if isinstance(choice, Mapping) else ""
    if not wanted and choice != "required" and not asked:
        return None
    wanted = wanted or (ask.last_text.split()[1] if asked and len(ask.last_text.split()) > 1 else "")
    return next((one for one in functions if one.get("name") == wanted), functions[0])


def _structured(ask: Ask) -> str:
    """The text of an answer that nobody arranged: JSON where it was asked for."""
    wish = ask.body.get("response_format") or {}
    if wish.get("type") == "json_schema":
        return orjson.dumps(instance(wish.get("json_schema", {}).get("schema") or {})).decode()
    if wish.get("type") == "json_object":
        return orjson.dumps({"answer": CANONICAL}).decode()
    return CANONICAL


def _stopped(answer: Answer, stops: Sequence[str]) -> Answer:
    """The answer cut before the first of the stop words."""
    ends = [place for word in stops if word and (place := answer.text.find(word)) >= 0]
    return replace(answer, text=answer.text[: min(ends)]) if ends else answer


def _limited(answer: Answer, bound: int) -> Answer:
    """The answer cut to a number of tokens; the reasoning spends them first."""
    if answer.completion_tokens <= bound:
        return answer
    reasoning = "".join(pieces(answer.reasoning)[:bound])
    text = "".join(pieces(answer.text)[: max(0, bound - answer.reasoning_tokens - bool(answer.tool))])
    return replace(answer, reasoning=reasoning, text=text, finish="length")


def instance(schema: Mapping[str, Any]) -> Any:
    """A JSON value that satisfies a simple JSON Schema: types, bounds, enums, properties, items, local references.

    Raises one of Python's own errors (TypeError, RecursionError, …) for what is no schema, or an endless one.
    """
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping):
        return "text"
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    inner = _inner(schema, root, depth)
    return _typed(schema, root, depth) if inner is None else _instance(inner, root, depth + 1)


def _inner(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    """The schema that stands behind a reference or a combination, or None where there is neither."""
    if "$ref" in schema:
        return _resolved(str(schema["$ref"]), root)
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            return _shallowest(schema[choice], depth)
    return _merged(schema["allOf"], root) if schema.get("allOf") else None


def _typed(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        least = 0 if depth >= DEEPEST else 1
        length = min(max(int(schema.get("minItems", least)), least), int(schema.get("maxItems", 1_000)))
        return [_instance(schema.get("items", {}), root, depth + 1) for _ in range(length)]
    if kind in {"integer", "number"}:
        return _number(schema, whole=kind == "integer")
    if kind == "string":
        return _string(schema)
    return {"boolean": True, "null": None}.get(str(kind))


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    names = required if depth >= DEEPEST else dict.fromkeys((*properties, *required))
    return {name: _instance(properties.get(name, {}), root, depth + 1) for name in names}


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """The smallest number allowed, or the largest where only that is bounded, or 1."""
    if "minimum" in schema:
        value = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        value = schema["exclusiveMinimum"] + (1 if whole else 0.5)
    else:
        value = min(1, schema.get("maximum", 1), schema.get("exclusiveMaximum", 2) - 1)
    step = schema.get("multipleOf")
    value = -(-value // step) * step if step else value
    return int(-(-value // 1)) if whole else float(value)


def _string(schema: Mapping[str, Any]) -> str:
    formats = {
        "date": "2026-01-31",
        "date-time": "2026-01-31T12:00:00Z",
        "email": "ada@example.com",
        "uri": "https://example.com",
        "uuid": "00000000-0000-4000-8000-000000000000",
    }
    text = formats.get(str(schema.get("format")), "text")
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: int(schema.get("maxLength", len(text)))]


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    """What a local reference (`#/$defs/Name`) points at; anything else is taken for a string."""
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step, {}) if isinstance(found, Mapping) and step else found
    return found


def _shallowest(choices: Sequence[Any], depth: int) -> Any:
    """The first choice; deep down the one that ends the descent, if there is one."""
    ends = [one for one in choices if isinstance(one, Mapping) and one.get("type") in {"null", "string", "integer"}]
    return ends[0] if depth >= DEEPEST and ends else choices[0]


def _merged(parts: Sequence[Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an `allOf` as one schema."""
    whole: dict[str, Any] = {}
    for part in parts:
        one = _resolved(str(part["$ref"]), root) if "$ref" in part else part
        properties = {**whole.get("properties", {}), **one.get("properties", {})}
        required = [*whole.get("required", ()), *one.get("required", ())]
        whole = {**whole, **one}
        if properties:
            whole |= {"properties": properties, "required": required}
    return whole
