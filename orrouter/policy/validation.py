"""A value of a document checked against its type; what does not fit is said at its place, in plain words.

Law: what pydantic found becomes one PolicyError. Nothing that came from the environment is repeated in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from orrouter.core.errors import PolicyError
from orrouter.policy.hints import nearest
from orrouter.policy.load import Document, KeyPath, show_path
from orrouter.policy.scalars import Missing

M = TypeVar("M", bound=BaseModel)

_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "must be a mapping"),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "must be a list"),
    "string_type": "must be text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    **dict.fromkeys(("too_short", "string_too_short"), "must not be empty"),
    "literal_error": "must be {expected}",
}
"""What pydantic calls a misfit, as a sentence that goes on after the name of the option."""


def validate(model: type[M], value: Any, document: Document, path: KeyPath) -> M:
    """The `value` that stands at `path` as a `model`. Raises PolicyError for what does not fit.

    A `${NAME}` that is not set counts as not written, and is the error only where something must be written.
    """
    try:
        return model.model_validate(_without_unset(value))
    except ValidationError as error:
        found = error.errors(include_url=False)
    # Raised out here, so that no __context__ carries the values of the file.
    raise _misfit(model, found, document, path)


def unset_error(document: Document, path: KeyPath, variable: str) -> PolicyError:
    """The error to raise where a variable without default is needed and not set."""
    return document.error(
        path,
        f"the environment has no {variable}",
        hint=f"set {variable}, or write ${{{variable}:-}} where it may be missing",
    )


def _without_unset(value: Any) -> Any:
    """The value without variables that are not set; in a list None stands for them, so that places stay."""
    if isinstance(value, dict):
        return {key: _without_unset(item) for key, item in value.items() if not isinstance(item, Missing)}
    if isinstance(value, list):
        return [_without_unset(item) for item in value]
    return None if isinstance(value, Missing) else value


def _misfit(model: type[BaseModel], errors: Sequence[Any], document: Document, path: KeyPath) -> PolicyError:
    found, where = _most_telling(errors, document, path)
    missing = found["loc"][-1:] if found["type"] == "missing" else ()
    written = _value(document.data, (*path, *where, *missing))
    if isinstance(written, Missing):
        return unset_error(document, (*path, *where, *missing), written.variable)
    if missing:
        return document.error((*path, *where), f"{_name(path, where)} needs {missing[0]!r}", key_itself=True)
    if found["type"] == "extra_forbidden":
        word = str(found["loc"][-1])
        hint = nearest(word, _fields(model, found["loc"][:-1]))
        message = f"{_name(path, where[:-1])} has no {word!r}"
        return document.error((*path, *where), message, hint=hint, key_itself=True)
    secret = (*path, *where) in document.from_env
    message = _sentence(_name(path, where), _hidden(found) if secret else _said(found))
    return document.error((*path, *where), message, hint="" if secret else _hint(found))


def _most_telling(errors: Sequence[Any], document: Document, path: KeyPath) -> tuple[Any, KeyPath]:
    """Of what is wrong at the first place, what lies deepest: where a text or a mapping may stand, the one meant."""
    placed = [
        (found, _steps(document, path, found["loc"][:-1] if found["type"] == "missing" else found["loc"]))
        for found in errors
    ]
    first = placed[0][1]
    return max(
        (one for one in placed if one[1][: len(first)] == first),
        key=lambda one: (len(one[1]), len(one[0]["loc"])),
    )


def _steps(document: Document, path: KeyPath, loc: tuple[Any, ...]) -> KeyPath:
    """The steps of pydantic's location that exist in the document: branches of a union do not."""
    value, steps = _value(document.data, path), []
    for step in loc:
        if (isinstance(value, dict) and step in value) or (isinstance(value, list) and step in range(len(value))):
            value = value[step]
            steps.append(step)
    return tuple(steps)


def _value(data: Any, path: KeyPath) -> Any:
    """What stands at a path; None where nothing does."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def _name(path: KeyPath, where: KeyPath) -> str:
    """What an error calls a value: from the last name of `path` downward, as `retry.attempts` or `routes[0]`."""
    last = max((at for at, step in enumerate(path) if isinstance(step, str)), default=0)
    return show_path((*path[last:], *where)) or "the policy"


def _sentence(name: str, said: str) -> str:
    """The name of a value and what is wrong with it, which may be a whole sentence of a layer's own."""
    if said.startswith(("must ", "cannot ")):
        return f"{name} {said}"
    return said if said.startswith(f"{name} ") else f"{name}: {said}"


def _said(found: Mapping[str, Any]) -> str:
    words, given = _words(found), found["input"]
    if not isinstance(given, str | int | float) or re.search(rf"(?<!\w){re.escape(repr(given))}(?!\w)", words):
        return words
    return f"{words} (it is {given!r})"


def _words(found: Mapping[str, Any]) -> str:
    known = _WORDS.get(found["type"])
    if known is not None:
        return known.format(**found.get("ctx", {}))
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def _hidden(found: Mapping[str, Any]) -> str:
    """The words for a value of the environment, which a layer's own message might repeat."""
    return _words(found) if found["type"] in _WORDS else "cannot be what its variable holds"


def _hint(found: Mapping[str, Any]) -> str:
    if found["type"] != "literal_error" or not isinstance(found["input"], str):
        return ""
    hint = nearest(found["input"], re.findall(r"'([^']*)'", found["ctx"]["expected"]))
    return hint if hint.startswith("did") else ""  # the message lists the choices already


def _fields(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The fields that may stand at pydantic's location `loc` of a model."""
    for step in loc:
        field = model.model_fields.get(step)
        inner = models_in(field.annotation) if field is not None else []
        model = inner[0] if inner else model
    return list(model.model_fields)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type, however they are wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
