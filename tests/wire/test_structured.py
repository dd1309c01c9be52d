"""Pydantic models as schemas that strict decoders take, and answers as pydantic models."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

from orrouter.core.call import Attempt, Target, Trail
from orrouter.core.completion import Completion
from orrouter.core.errors import OutputInvalid
from orrouter.testkit.speech import instance
from orrouter.wire.structured import parse, response_format


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Place(BaseModel):
    city: str
    zip: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Person(BaseModel):
    name: str
    mood: Mood = Mood.GOOD
    home: Place = Field(description="Where she lives")
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Odd(BaseModel):
    """Fields that are called like keywords of a schema."""

    default: int = 1
    type: str
    properties: list[str]
    const: str
    discriminator: bool


class Tree(BaseModel):
    word: str
    left: Tree | None = Field(default=None, description="smaller words")
    right: Tree | None = None


def completion(text: str | None, **choice) -> Completion:
    message = {"role": "assistant", "content": text, "refusal": choice.pop("refusal", None)}
    raw = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return Completion(raw, Attempt(1, Target(), 0.0), Trail("req_1", lambda: 0.0))


def schemas(schema):
    """Every schema inside a schema."""
    yield schema
    for name in ("properties", "$defs"):
        for inner in schema.get(name, {}).values():
            yield from schemas(inner)
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from schemas(inner)


@pytest.mark.parametrize("model", [Place, Person, Odd, Tree])
def test_every_object_is_closed_and_every_property_required(model):
    """What strict decoders ask for: no defaults, no `oneOf`, a reference alone, an object at the root."""
    asked = response_format(model)["json_schema"]
    assert (model.__name__, True) == (asked["name"], asked["strict"])
    assert "object" == asked["schema"]["type"]
    for schema in schemas(asked["schema"]):
        assert set() == {"default", "oneOf", "discriminator"} & schema.keys()
        assert "$ref" not in schema or {"$ref"} == schema.keys()
        if schema.get("type") == "object":
            assert (False, list(schema["properties"])) == (schema["additionalProperties"], schema["required"])


def test_fields_named_like_keywords_stay():
    """A property called `default` is a property."""
    schema = response_format(Odd)["json_schema"]["schema"]
    assert list(Odd.model_fields) == list(schema["properties"])


def test_a_field_behind_a_reference_keeps_its_description():
    """The reference moves into a choice of one, beside which words may stand."""
    home = response_format(Person)["json_schema"]["schema"]["properties"]["home"]
    assert {"description": "Where she lives", "anyOf": [{"$ref": "#/$defs/Place"}]} == home


@pytest.mark.parametrize("model", [Place, Person, Odd, Tree])
def test_what_the_schema_asks_for_can_be_parsed(model):
    """A value made from the schema is one of the model."""
    import orjson

    value = instance(response_format(model)["json_schema"]["schema"])
    assert isinstance(parse(model, completion(orjson.dumps(value).decode())), model)


def test_a_generic_model_has_a_name_that_is_sent():
    """Names have letters, digits, _ and -, at most 64."""
    name = response_format(RootModel[list[int]])["json_schema"]["name"]
    assert "RootModel_list_int__" == name


@pytest.mark.parametrize(
    "text",
    [
        '{"city": "Ulm"}', ' \n{"city": "Ulm"}\n', '```json\n{"city": "Ulm"}\n```', '```\n{"city": "Ulm"}```',
    ],
)  # fmt: skip
def test_an_answer_is_read_with_or_without_a_fence(text):
    """Some models put code fences around JSON."""
    assert Place(city="Ulm") == parse(Place, completion(text))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (completion('{"town": "Ulm"}'), "city: Field required"),
        (completion("no JSON"), "Invalid JSON"),
        (completion(None), "Invalid JSON"),
        (completion(None, refusal="I won't."), "the model refused: I won't."),
        (completion('{"city": "U', finish_reason="length"), "cut at max_tokens: allow more"),
        (completion('{"city": "U', finish_reason="content_filter"), "a content filter cut the answer off"),
    ],
)
def test_an_answer_that_does_not_fit_says_why_and_is_kept(said, reason):
    """The reason for people, the text for whoever wants to mend it."""
    with pytest.raises(OutputInvalid, match="the answer does not fit Place: ") as caught:
        parse(Place, said)
    assert reason in str(caught.value)
    assert said.text == caught.value.text


def test_a_validator_of_the_model_is_heard():
    """Its words reach the caller with the place."""

    class Even(BaseModel):
        model_config = ConfigDict(extra="forbid")
        number: int

        @field_validator("number")
        @classmethod
        def even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("must be even")
            return number

    with pytest.raises(OutputInvalid, match="number: Value error, must be even"):
        parse(Even, completion('{"number": 3}'))
