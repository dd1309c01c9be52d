"""A policy file becomes plain data that knows its lines, or an error that says where and why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orrouter.core.errors import PolicyError
from orrouter.policy.load import MAX_BYTES, MAX_DEPTH, MAX_NODES, Document, Unset, load_file, load_text, show_path
from orrouter.policy.scalars import Missing

POLICY = """\
version: 1
upstreams:
  openrouter:
    base_url: ${BASE_URL:-https://openrouter.ai/api/v1}
    api_key: "${API_KEY}"
    site_url: ${SITE_URL:-}
    prices: {gpt-4o: {prompt: $2.50/M, completion: $10/M, context: 128000}}
policies:
  default:
    - deadline: {total: 120s}
    - budget:   {account: "team:{team:-none}", limits: {day: $50}}
    - fallback:
        models: [a/b, {model: gpt-4o, upstream: spare}]
        open: false
        when:
    - retry:    {attempts: 3, factor: 1.5}
"""
ATTEMPTS = ("policies", "default", 3, "retry", "attempts")


def loaded(text: str | bytes = POLICY, **env: str) -> Document:
    return load_text(text, file="p.yaml", env=env)


def refusal(text: str | bytes, **env: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        loaded(text, **env)
    return caught.value


# --- data ---------------------------------------------------------------------------------------------


def test_a_policy_is_plain_data():
    """Mappings, lists, texts, numbers, booleans and null, as they are written."""
    assert {
        "version": 1,
        "upstreams": {
            "openrouter": {
                "base_url": "https://openrouter.ai/api/v1",
                "api_key": "key",
                "site_url": "",
                "prices": {"gpt-4o": {"prompt": "$2.50/M", "completion": "$10/M", "context": 128000}},
            }
        },
        "policies": {
            "default": [
                {"deadline": {"total": "120s"}},
                {"budget": {"account": "team:{team:-none}", "limits": {"day": "$50"}}},
                {
                    "fallback": {
                        "models": ["a/b", {"model": "gpt-4o", "upstream": "spare"}],
                        "open": False,
                        "when": None,
                    }
                },
                {"retry": {"attempts": 3, "factor": 1.5}},
            ]
        },
    } == loaded(API_KEY="key").data


@pytest.mark.parametrize("text", ["a: 'yes'", 'a: "1:30"', "a: '0755'", "a: '2024-05-01'", "a: '.inf'", "a: |-\n  on"])
def test_quoted_text_is_never_a_trap(text: str):
    """What stands in quotes, or in a text block, is text."""
    assert loaded(text).data == {"a": yaml.safe_load(text)["a"]}


@pytest.mark.parametrize("key", ["yes", "1", "null", "<<", "y", ""])
def test_a_quoted_key_is_text(key: str):
    """Any word can be a key when it is quoted."""
    assert {key: 1} == loaded(f"'{key}': 1").data


def test_a_byte_order_mark_is_skipped():
    """A file saved by an editor that writes one reads the same."""
    assert {"a": 1} == loaded("\ufeffa: 1\n".encode()).data


def test_one_document_may_be_framed():
    """`---` before and `...` after are no second document."""
    assert {"a": 1} == loaded("---\na: 1\n...\n").data


# --- places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [
        ((), False, (1, 1)),
        (("version",), True, (1, 1)),
        (("version",), False, (1, 10)),
        (("upstreams", "openrouter"), True, (3, 3)),
        (("upstreams", "openrouter"), False, (4, 5)),
        (("policies", "default", 0), False, (10, 7)),
        (("policies", "default", 0), True, (10, 7)),
        (ATTEMPTS, True, (16, 18)),
        (ATTEMPTS, False, (16, 28)),
        (("policies", "default", 2, "fallback", "models", 1, "upstream"), False, (13, 49)),
        (("policies", "default", 2, "fallback", "when"), False, (15, 14)),
    ],
)
def test_everything_knows_its_place(path: tuple[str | int, ...], key: bool, place: tuple[int, int]):
    """Line and column from 1, of the value or of its key; an item of a list is its own key."""
    assert place == loaded(API_KEY="key").place(path, key)


@pytest.mark.parametrize(("key", "place"), [(False, (16, 17)), (True, (16, 7))])
def test_an_unknown_path_is_at_its_nearest_ancestor(key: bool, place: tuple[int, int]):
    """A key that is missing is reported where it should have stood."""
    assert place == loaded().place(("policies", "default", 3, "retry", "patience", "x"), key)


def test_an_error_names_file_place_key_and_hint():
    """The schema says what is wrong; the document says where."""
    error = loaded().error(ATTEMPTS, "retry has no 'attempt'", hint="did you mean 'attempts'?", key_itself=True)
    assert "p.yaml:16:18: retry has no 'attempt'; did you mean 'attempts'?" == str(error)
    assert "policies.default[3].retry.attempts" == error.key


def test_an_error_is_at_the_value_unless_the_key_is_meant():
    """A wrong value is underlined, not its name."""
    error = loaded().error(ATTEMPTS, "too many")
    assert (16, 28) == (error.line, error.column)


def test_a_document_made_in_code_has_errors_without_lines():
    """Data that was never written down has no line, and the error claims none."""
    assert "<dict>: is wrong" == str(Document({"a": 1}, "<dict>").error(("a",), "is wrong"))


def test_a_key_with_dots_is_quoted_in_a_path():
    """A path can be read back: dots and brackets of a key are told from those of the path."""
    assert 'models["gpt-4.1"][0]["a b"]' == show_path(("models", "gpt-4.1", 0, "a b"))


def test_a_path_may_begin_with_an_index():
    """A list at the top has paths too."""
    assert "[2].anthropic/*.order" == show_path((2, "anthropic/*", "order"))


# --- the environment ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "env", "value"),
    [
        ("${X}", {"X": "set"}, "set"),
        ("'${X}'", {"X": "set"}, "set"),
        ('"${X:-default}"', {"X": "set"}, "set"),
        ("${X:-default}", {}, "default"),
        ("${X:-default}", {"X": ""}, "default"),
        ("${X:-}", {}, ""),
        ("${X}", {"X": ""}, ""),
        ("${X}", {"X": "12"}, "12"),
        ("${X}", {"X": "true"}, "true"),
        ("${X}", {"X": "${Y}"}, "${Y}"),
        ("${X:-12}", {}, "12"),
        ("${X}", {}, Missing("X")),
    ],
)
def test_a_variable_is_replaced_by_its_text(written: str, env: dict[str, str], value: object):
    """The environment's text is taken as it is, always as text; a default stands in for nothing or empty."""
    assert value == loaded(f"a: {written}", **env).data["a"]


def test_a_variable_may_be_an_item_of_a_block_list():
    """Block style is lists as well as mappings."""
    assert ["one", "two"] == loaded("- ${X}\n- two\n", X="one").data


def test_unset_variables_are_listed_with_their_places():
    """A check can warn about each; a default is not unset."""
    assert (Unset(("upstreams", "openrouter", "api_key"), "API_KEY", 5, 14),) == loaded().unset


def test_every_interpolated_path_is_known():
    """Set, unset or default: whoever writes an error knows not to repeat these values."""
    expected = {("upstreams", "openrouter", name) for name in ("base_url", "api_key", "site_url")}
    assert expected == loaded(API_KEY="key").from_env


def test_a_repr_shows_no_data():
    """A document in a log or traceback gives away nothing that it holds."""
    expected = "Document(file='p.yaml', unset=(), from_env=frozenset({('a',)}))"
    assert expected == repr(loaded("a: ${X}\nb: canary\n", X="canary"))


WHOLE = (
    "a variable must be the whole value, not a part of it; "
    "write ${NAME} alone, and put the rest of the text into the variable"
)
NOT_IN_FLOW = (
    "a variable cannot stand inside {...} or [...]; write the list or mapping in lines of its own, "
    "one 'key: ${NAME}' or '- ${NAME}' a line"
)
GRAMMAR = (
    "this is no variable of the environment; "
    "write ${NAME} or ${NAME:-default}: the name of A-Z, 0-9 and _, the default without braces"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: Bearer ${X}\n", f"1:4: {WHOLE}"),
        ("a: >-\n  ${X} y\n", f"1:4: {WHOLE}"),
        ("a: |-\n  ${X}\n", "1:4: a variable cannot stand in a text block; write key: ${NAME} on one line"),
        ("a: ['b', '${X}']\n", f"1:10: {NOT_IN_FLOW}"),
        ('a: {b: "${X}"}\n', f"1:8: {NOT_IN_FLOW}"),
        ("a: [[b, 'x${X}']]\n", f"1:9: {WHOLE}"),
        ("a: ${x}\n", f"1:4: {GRAMMAR}"),
        (
            "a: ${X:-b #c}\n",
            "1:4: the '}' of this variable is missing; put the value in quotes if its default contains ' #'",
        ),
        ("b:\n  ${X}: 1\n", "2:3: a variable cannot be a key; write the key out"),
        ("'x${X}': 1\n", "1:1: a variable cannot be a key; write the key out"),
    ],
)
def test_a_variable_elsewhere_is_refused_and_not_shown(text: str, expected: str):
    """Each wrong place has its sentence, and none has the value."""
    error = refusal(text, X="canary")
    assert f"p.yaml:{expected}" == str(error)
    assert "canary" not in repr(error.__dict__)


def test_a_variable_that_is_no_unicode_is_refused_by_name():
    """A value with undecodable bytes fails here and not when it is sent; only its name is shown."""
    expected = "p.yaml:1:4: the environment's X is not text in UTF-8; set the variable again"
    assert expected == str(refusal("a: ${X}", X="canary\udcff"))


# --- what strict means --------------------------------------------------------------------------------

NO_ALIAS = "anchors and aliases are not allowed; write the value out each time, or quote text that begins with * or &"
NO_TAG = "tags are not allowed; remove the '!word', or quote text that begins with !; a secret is written ${NAME}"
STRICT = {
    "empty": ("", "1:1: the policy is empty; begin with 'version: 1'"),
    "comment only": ("# nothing\n", "1:1: the policy is empty; begin with 'version: 1'"),
    "empty document": ("---\n", "1:1: the policy is empty; begin with 'version: 1'"),
    "two documents": (
        "a: 1\n---\nb: 2\n",
        "2:1: a second document begins here; a policy is one document: remove the '---'",
    ),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "3:1: 'a' already stands on line 1; keep one of the two"),
    "duplicate in flow": ("x: {a: 1, 'a': 2}\n", "1:11: 'a' already stands on line 1; keep one of the two"),
    "anchor": ("a: &x 1\n", f"1:4: {NO_ALIAS}"),
    "anchor on a mapping": ("a: &x\n  b: 1\n", f"1:4: {NO_ALIAS}"),
    "anchor on a key": ("&x a: 1\n", f"1:1: {NO_ALIAS}"),
    "alias": ("a: *x\n", f"1:4: {NO_ALIAS}"),
    "alias as key": ("*x : 1\n", f"1:1: {NO_ALIAS}"),
    "tag": ("a: !secret x\n", f"1:4: {NO_TAG}"),
    "python tag": ("a: !!python/object/apply:os.system ['x']\n", f"1:4: {NO_TAG}"),
    "core tag": ("a: !!str 1\n", f"1:4: {NO_TAG}"),
    "bare tag": ("a: ! x\n", f"1:4: {NO_TAG}"),
    "tag on a mapping": ("!x\na: 1\n", f"1:1: {NO_TAG}"),
    "tag directive": ("%TAG ! tag:x,2000:\n---\na: 1\n", "1:1: tags are not allowed; remove the %TAG line"),
    "merge key": ("a:\n  <<: {b: 1}\n", "2:3: merge keys are not allowed; write the keys out"),
    "boolean key": ("on: 1\n", "1:1: 'on' is a boolean to some YAML readers; put the key in quotes"),
    "letter key": ("a: {y: 1}\n", "1:5: 'y' is a boolean to some YAML readers; put the key in quotes"),
    "number key": ("1: a\n", "1:1: a key must be text, and '1' is none; put the key in quotes"),
    "true key": ("true: a\n", "1:1: a key must be text, and 'true' is none; put the key in quotes"),
    "null key": ("~: a\n", "1:1: a key must be text, and '~' is none; put the key in quotes"),
    "no key in flow": ("a: {: 1}\n", "1:5: there is no key before this ':'; write key: value"),
    "list as key": (
        "? [a]\n: 1\n",
        "1:3: a key must be text, not a list or mapping; quote a key that begins so",
    ),
    "yes": (
        "a: yes\n",
        "1:4: 'yes' is a boolean to some YAML readers; write true or false, or put it in quotes",
    ),
    "octal in a list": (
        "- 0755\n",
        "1:3: '0755' is an octal number to some YAML readers; write it without the leading 0, or put it in quotes",
    ),
    "half a pair": ('a: "\\ud83d"\n', "1:4: half of a surrogate pair is no character; write it as \\U and 8 digits"),
}


@pytest.mark.parametrize("case", STRICT)
def test_what_a_policy_may_not_contain_is_refused_in_place(case: str):
    """Line, column, what is wrong and what to do."""
    text, expected = STRICT[case]
    assert f"p.yaml:{expected}" == str(refusal(text))


def test_a_refusal_names_the_path():
    """Programs read the key; here it is the second of two."""
    assert "a[0].b" == refusal("a:\n  - b: 1\n    b: 2\n").key


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_has_a_limit(opening: str):
    """The 33rd level is refused where it opens, however deep the file goes on."""
    error = refusal(opening * 5000)
    assert f"p.yaml:1:{MAX_DEPTH * len(opening) + 1}: this is nested more than 32 levels deep" == str(error)


def test_the_deepest_nesting_is_allowed():
    """32 levels are fine."""
    assert json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH) == loaded("[" * MAX_DEPTH + "]" * MAX_DEPTH).data


def test_the_number_of_values_has_a_limit():
    """The list and its items, one too many."""
    error = refusal("- a\n" * MAX_NODES)
    assert f"p.yaml:{MAX_NODES}:3: the policy has more than 10000 values; split it into several" == str(error)


def test_the_largest_number_of_values_is_allowed():
    """The list itself counts as one."""
    assert MAX_NODES - 1 == len(loaded("- a\n" * (MAX_NODES - 1)).data)


def test_keys_count_as_values():
    """A mapping of 5,000 keys and values is 10,001 with itself."""
    assert refusal("".join(f"k{number}: 1\n" for number in range(MAX_NODES // 2))).line == MAX_NODES // 2


@pytest.mark.parametrize("encode", [str, str.encode])
def test_the_size_has_a_limit(encode):
    """Bytes are counted, also for text, before anything is read."""
    error = refusal(encode("#" + "ä" * (MAX_BYTES // 2)))
    assert "p.yaml: the policy is larger than 1 MiB; split it into several policies" == str(error)


def test_the_largest_size_is_allowed():
    """One MiB is fine."""
    assert {"a": 1} == loaded(b"a: 1\n#" + b"x" * (MAX_BYTES - 6)).data


# --- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read_and_named_as_given(tmp_path, kind):
    """The document bears the name that the caller used."""
    path = tmp_path / "p.yaml"
    path.write_text("a: ${X}\n")
    document = load_file(kind(path), env={"X": "1"})
    assert ({"a": "1"}, str(path)) == (document.data, document.file)


def test_an_error_names_the_file_as_the_caller_wrote_it(tmp_path):
    """`./` stays, so that the place can be clicked from where the caller stands."""
    (tmp_path / "p.yaml").write_text("a: yes\n")
    name = f"{tmp_path}/./p.yaml"
    with pytest.raises(PolicyError) as caught:
        load_file(name, env={})
    assert str(caught.value).startswith(f"{name}:1:4: 'yes' is a boolean")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.yaml", "No such file or directory"), (".", "Is a directory"), ("a\0b", "embedded null byte")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name: str, reason: str):
    """Missing, a directory, or no name at all: the system's reason is kept."""
    path = f"{tmp_path}/{name}"
    with pytest.raises(PolicyError) as caught:
        load_file(path, env={})
    assert f"{path}: the policy cannot be read: {reason}; check the path and its permissions" == str(caught.value)


def test_a_large_file_is_not_read_to_its_end(tmp_path):
    """A sparse gigabyte is refused like any file above the limit."""
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.truncate(2**30)
    with pytest.raises(PolicyError, match="larger than 1 MiB"):
        load_file(path, env={})


def test_bytes_that_are_no_utf8_are_refused_in_place():
    """Columns are characters, also behind an umlaut, and no byte of the file is kept."""
    error = refusal(b"a: 1\nb: \xc3\xa4\xff\n")
    assert "p.yaml:2:5: the policy is not text in UTF-8; save the file as UTF-8" == str(error)
    assert error.__context__ is None
