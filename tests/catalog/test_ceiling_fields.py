"""Which fields of a request are let through, and what is held for text, pictures, files and sounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.ceiling import Bounds, Unbounded, ceiling
from orrouter.catalog.fields import KNOWN
from orrouter.catalog.model import Model
from orrouter.catalog.price import Price
from orrouter.catalog.weight import in_json, size

CHAT = "chat/completions"
EYES = Model(
    "a/eyes",
    Price.read({"prompt": "0.000001", "completion": "0.000004", "image": "0.002", "audio": "0.00001"}),
    context_length=50_000,
    input_modalities=frozenset({"text", "image", "file", "audio", "video"}),
)
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PDF = {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://example.com/a.pdf"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILM = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def worst(body=HELLO, model=EYES, *, endpoint=CHAT, dialect="openrouter", **options):
    return ceiling(body, endpoint, model, dialect=dialect, bounds=Bounds(**options))


def says(*parts, **fields):
    return {"messages": [{"role": "user", "content": list(parts), **fields}]}


def refusal(body, **more):
    with pytest.raises(Unbounded) as refused:
        worst(body, **more)
    return refused.value


# --- the allow-list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["speed", "best_of", "preset", "x_search_filter", "fallbacks", "a b"])
def test_an_unknown_field_is_refused_by_name(field):
    """What a field costs that nobody here knows, nobody can bound: the error names it and the option."""
    refused = refusal({**HELLO, field: 3})
    assert (field, f"admit: [{field if ' ' not in field else json.dumps(field)}]") == (refused.field, refused.option)
    assert refused.option in str(refused)


def test_an_admitted_field_makes_an_estimate():
    """A policy may let it through; then the bound is labelled, and costs what it would without."""
    bound = worst({**HELLO, "speed": "fast"}, admit=frozenset({"speed"}))
    assert ("speed is admitted", worst().cost()) == (bound.estimate, bound.cost())


def test_an_unknown_field_without_a_value_says_nothing():
    """`null` is how some callers leave a field out."""
    assert worst() == worst({**HELLO, "speed": None})


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1, "top_p": 0.5, "seed": 3, "stop": ["x"], "user": "u", "metadata": {"a": "b"}},
        {"usage": {"include": True}, "stream": True, "session_id": "s", "verbosity": "high"},
        {"provider": {"sort": "price"}, "service_tier": "flex", "logprobs": True, "cache_control": {"ttl": "1h"}},
    ],
)
def test_harmless_fields_change_nothing(fields):
    """Sampling, tracing and routing cost nothing of their own."""
    assert worst() == worst({**HELLO, **fields})


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"provider": {"options": {"openai": {"x": 1}}}}, "provider.options"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ],
)
def test_what_hides_in_a_known_field_is_refused_too(fields, name):
    """Fields that are handed on unread, or that ask for more work, are admitted by name."""
    assert name == refusal({**HELLO, **fields}).field
    assert f"{name} is admitted" == worst({**HELLO, **fields}, admit=frozenset({name})).estimate


@pytest.mark.parametrize("length", [0, -1, True, "100000", 12.5, 1e6, [], float("nan")])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_length_that_can_be_read_two_ways_is_refused(name, length):
    """An upstream may read "100000" as a number: only a whole number above 0 is a bound."""
    assert f"`{name}` is {length!r}: write a whole number above 0" == str(refusal({**HELLO, name: length}))


def test_two_lengths_that_differ_are_refused():
    """Nobody knows which of both an upstream reads."""
    assert "differ" in str(refusal({**HELLO, "max_tokens": 5, "max_completion_tokens": 6}))
    assert 5 == worst({**HELLO, "max_tokens": 5, "max_completion_tokens": 5}).tokens


@pytest.mark.parametrize("n", [0, -2, True, "3", 1.0])
def test_a_number_of_choices_that_is_none_is_refused(n):
    """`n` is a whole number above 0."""
    assert "n" == refusal({**HELLO, "n": n}).field


WORDS = st.sampled_from(
    ["text", "file", "type", "id", "web", "file-parser", "pdf", "engine", "function", "parameters", "max_uses", "role",
     "user", "content", "image_url", "step_count_is", "step_count", "openrouter:web_search", "options", "mode"]
)  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(sorted(KNOWN)) | WORDS, ODD, max_size=5),
    st.sampled_from(["chat/completions", "completions", "embeddings"]),
    st.sampled_from(["openrouter", "openai"]),
)
def test_any_request_at_all_is_bounded_or_refused(fields, endpoint, dialect):
    """Whatever a caller writes, the answer is a worst case above 0 or a refusal with a reason."""
    try:
        bound = worst({**HELLO, **fields}, endpoint=endpoint, dialect=dialect)
    except Unbounded as refused:
        assert refused.field
        assert refused.reason in str(refused)
    else:
        assert 0 < bound.fixed <= bound.cost()


# --- text -----------------------------------------------------------------------------------------------

TEXT = st.text() | st.text('aé漢😀\ud800"\\\n', max_size=20)


@given(TEXT)
def test_a_text_counts_its_bytes(text):
    """The bound is the UTF-8 bytes, which no tokeniser exceeds."""
    assert len(text.encode("utf-8", "surrogatepass")) == size(text)


@given(
    st.recursive(
        TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8
    )
)
def test_an_object_counts_no_less_than_any_way_to_print_it(value):
    """Escaped or not, spaced or not: the count is the longest of them."""
    ways = [
        json.dumps(value, ensure_ascii=ascii_, separators=marks)
        for ascii_ in (True, False)
        for marks in ((",", ":"), (", ", ": "))
    ]
    assert max(size(way) for way in ways) <= in_json(value, "x")


@given(st.lists(TEXT, max_size=5))
def test_a_text_in_parts_counts_no_less_than_in_one(texts):
    """Parts are bounded by their texts and something for each."""
    whole = {"messages": [{"role": "user", "content": "".join(texts)}]}
    parts = says(*[{"type": "text", "text": text} for text in texts])
    assert worst(whole).input_tokens + 16 * len(texts) == worst(parts).input_tokens


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 100),
        ("role", "x" * 100),
        ("reasoning", "x" * 100),
        ("refusal", "x" * 100),
        ("tool_call_id", "x" * 100),
        ("tool_calls", [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "x" * 100}}]),
        ("reasoning_details", [{"type": "reasoning.text", "text": "x" * 100}]),
        ("something_new", {"deep": ["x" * 100]}),
    ],
)
def test_text_anywhere_in_a_message_counts(field, value):
    """What stands beside the content is read by the model too."""
    plain = {"messages": [{"role": "assistant", "content": "hello"}]}
    said = {"messages": [{"role": "assistant", "content": "hello", field: value}]}
    assert worst(plain).input_tokens + 100 <= worst(said).input_tokens


@pytest.mark.parametrize("field", ["tools", "functions", "deferred_tools", "response_format"])
def test_a_schema_counts_with_what_explains_it(field):
    """A schema is held as escaped JSON and with the words a provider puts around it."""
    body = {**HELLO, field: [{**TOOL, "x": "é"}]}
    assert worst().input_tokens + 1024 + len(json.dumps([{**TOOL, "x": "é"}])) == worst(body).input_tokens


def test_a_prediction_counts_twice():
    """It is read, and what is wrong of it is billed as if it had been written."""
    guess = {"type": "content", "content": "x" * 500}
    more = worst({**HELLO, "max_tokens": 100, "prediction": guess}).fixed - worst({**HELLO, "max_tokens": 100}).fixed
    assert len(json.dumps(guess)) * (1_250 + 5_000) == more


@pytest.mark.parametrize(
    "messages", [None, "hello", {"role": "user"}, ["hello"], [None], [{"role": "user", "content": {"a": 1}}]]
)
def test_messages_that_are_none_are_refused(messages):
    """What cannot be read cannot be bounded."""
    assert refusal({"messages": messages}).field in ("messages", "content")


@pytest.mark.parametrize("prompt", [True, 3, {"a": 1}, [None], [["a"]], [[True]]])
def test_a_prompt_that_is_none_is_refused(prompt):
    """A prompt is texts or token numbers."""
    assert "input" == refusal({"prompt": prompt}, endpoint="completions").field


def test_what_is_no_json_is_refused():
    """An object that cannot be sent has no size."""
    assert "tools" == refusal({**HELLO, "tools": [{"type": "function", "function": object()}]}).field


# --- what has no bound in bytes -------------------------------------------------------------------------


@pytest.mark.parametrize("part", [PICTURE, PDF, SOUND, FILM])
def test_media_fill_a_context(part):
    """A picture, a file, a sound or a film may fill what the model reads, and no more."""
    assert 50_000 == worst(says(part)).input_tokens


@pytest.mark.parametrize("part", [PICTURE, PDF, SOUND, FILM])
def test_media_at_an_unknown_context_are_refused(part):
    """A context of which nobody knows the length bounds nothing."""
    model = Model("a/new", EYES.price, input_modalities=EYES.input_modalities)
    assert ("image_tokens: 2000" if part is PICTURE else "unknown_price") == refusal(says(part), model=model).option


def test_a_text_longer_than_the_context_is_held_whole():
    """Another endpoint may read more than the listed one: a picture never lowers the bound."""
    assert 60_000 < worst(says(PICTURE, {"type": "text", "text": "x" * 60_000})).input_tokens


def test_pictures_by_their_tokens_are_an_estimate():
    """With `image_tokens` two pictures cost their tokens and their fee, and the bound is no proof."""
    bound = worst(says(PICTURE, PICTURE), image_tokens=2_000)
    assert ("image_tokens", 1024 + 16 + 2 * 16 + 4_000) == (bound.estimate, bound.input_tokens)
    assert bound.input_tokens * 1_250 + 2 * 2_500_000 == bound.fixed


def test_a_picture_is_capped_in_price():
    """The fee of a picture is sent as a cap where there is one, and only there."""
    assert (0.0025, None) == (worst(says(PICTURE)).max_price["image"], worst().max_price.get("image"))


def test_pictures_of_an_answer_that_goes_back_count():
    """An assistant's pictures are read again."""
    assert 50_000 == worst({"messages": [{"role": "assistant", "content": "", "images": [PICTURE]}]}).input_tokens


def test_a_spoken_answer_that_goes_back_counts():
    """An assistant's speech is named by its id alone, and heard again."""
    said = {"messages": [{"role": "assistant", "content": None, "audio": {"id": "audio_1"}}]}
    assert 50_000 * 12_500 == worst(said).fixed


def test_sound_costs_what_is_heard():
    """A whole context at the dearer rate, of which no cap can be sent."""
    bound = worst(says(SOUND))
    assert (50_000 * 12_500, "audio: no cap bounds its price") == (bound.fixed, bound.estimate)


def test_sound_without_a_price_is_refused():
    """Where nobody knows what hearing costs, a policy may admit it at the price of reading."""
    model = Model("a/ears", Price.read({"prompt": "0.000001", "completion": "0"}), context_length=50_000)
    assert "admit: [input_audio]" == refusal(says(SOUND), model=model).option
    assert 50_000 * 1_250 == worst(says(SOUND), model, admit=frozenset({"input_audio"})).fixed


def test_a_film_is_heard_by_a_model_that_can():
    """A film's sound is billed apart, except where the model is deaf."""
    deaf = Model(
        "a/deaf",
        Price.read({"prompt": "0.000001", "completion": "0"}),
        context_length=9,
        input_modalities=frozenset({"video"}),
    )
    assert 50_000 * 12_500 == worst(says(FILM)).fixed
    assert (1024 + 16 + 16) * 1_250 == worst(says(FILM), deaf).fixed


def test_an_unknown_part_is_refused_by_its_type():
    """A part of a kind that nobody here knows may be anything; admitted, it counts its bytes."""
    part = {"type": "hologram", "data": "x" * 100}
    assert ("hologram", "admit: [hologram]") == (refusal(says(part)).field, refusal(says(part)).option)
    assert 1024 + 16 + 16 + len(json.dumps(part)) == worst(says(part), admit=frozenset({"hologram"})).input_tokens


# --- what is written aloud or drawn -----------------------------------------------------------------------

DRAWS = {"prompt": "0", "completion": "0.000001", "image_output": "0.00003", "audio_output": "0.00002"}


@pytest.mark.parametrize(
    ("makes", "modalities", "rate"),
    [
        ({"text"}, None, "0.00000125"),
        ({"text", "image"}, None, "0.0000375"),
        ({"text", "image"}, ["text"], "0.00000125"),
        ({"text", "audio"}, ["text", "audio"], "0.000025"),
        ({"text"}, ["image", "audio"], "0.0000375"),
    ],
)
def test_an_answer_is_held_at_the_dearest_it_may_hold(makes, modalities, rate):
    """Pictures and speech cost more than words; without a wish a model may give all it can."""
    model = Model("a/artist", Price.read(DRAWS), output_modalities=frozenset(makes))
    assert float(rate) == float(worst({**HELLO, "modalities": modalities}, model).rate)


def test_a_drawing_without_a_price_is_refused():
    """Words can be asked for instead, or the policy admits it."""
    model = Model(
        "a/artist", Price.read({"prompt": "0", "completion": "0.000001"}), output_modalities=frozenset({"image"})
    )
    refused = refusal(HELLO, model=model)
    assert ("modalities", "admit: [modalities]") == (refused.field, refused.option)
    assert '`modalities: ["text"]`' in str(refused)
