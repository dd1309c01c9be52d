"""What one scalar means, which ones are traps, and which stand for a variable."""

from __future__ import annotations

import pytest

from orrouter.policy.scalars import Missing, Reference, Trap, is_unicode, plain_value, reference_in, trap_in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-2.5E-3", -0.0025),
        ("$0.50", "$0.50"),
        ("$3/M", "$3/M"),
        ("120s", "120s"),
        ("1.2.3", "1.2.3"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("deepseek/deepseek-r1:free", "deepseek/deepseek-r1:free"),
        ("north", "north"),
        (".", "."),
    ],
)
def test_plain_text_has_the_value_of_yaml_1_2(text: str, value: object):
    """Decimal numbers, true, false and null are values; everything else is text."""
    assert (None, type(value), value) == (trap_in(text), type(plain_value(text)), plain_value(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        *[(word, "a boolean") for word in ("yes", "No", "ON", "off", "y", "N")],
        *[(word, "a base-60 number") for word in ("1:30", "-1:30:00", "1:30.5", "8080:80")],
        *[(word, "an octal number") for word in ("0755", "-07", "00", "0o7", "09", "0_7")],
        *[(word, "a number of another base") for word in ("0x1F", "-0xff_ff", "0b10")],
        *[(word, "a number with underscores") for word in ("1_000", "+1_000.5", "1.000_5", "1_")],
        *[(word, "a date") for word in ("2024-05-01", "2024-5-1", "2024-05-01T10:00:00Z", "2024-05-01 10:00:00")],
        *[(word, "infinity or no number at all") for word in (".inf", "-.INF", "+.Inf", ".nan", ".NaN")],
    ],
)
def test_what_yaml_readers_disagree_about_is_a_trap(text: str, what: str):
    """The message names the text and what it would be elsewhere."""
    trap = trap_in(text)
    assert trap is not None
    assert f"{text!r} is {what} to some YAML readers" == trap.message


def test_a_trap_says_how_to_write_it():
    """The hint of a base-60 number thinks of durations."""
    trap = trap_in("1:30")
    assert trap is not None
    assert "write a duration with its unit, such as 90s, or put it in quotes" == trap.hint


def test_a_number_beyond_every_float_is_refused():
    """`1e999` would silently be infinity."""
    assert Trap("'1e999' is too large for a number", "write a smaller one, or put it in quotes") == trap_in("1e999")


def test_a_very_long_number_is_refused_and_not_repeated():
    """More digits than a number needs are an identifier, perhaps a secret one."""
    expected = Trap("a number has at most 32 characters", "put it in quotes if it is an identifier")
    assert expected == trap_in("9" * 33)


def test_a_number_of_the_longest_length_is_fine():
    """The limit itself is allowed."""
    assert (None, int("9" * 32)) == (trap_in("9" * 32), plain_value("9" * 32))


def test_a_long_text_is_no_trap():
    """A hash of digits and letters stays text."""
    assert trap_in("0123456789abcdef" * 4) is None


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("${KEY}", Reference("KEY", None)),
        ("${_A1}", Reference("_A1", None)),
        ("${KEY:-}", Reference("KEY", "")),
        ("${URL:-https://host/v1}", Reference("URL", "https://host/v1")),
        ("${KEY:-two words}", Reference("KEY", "two words")),
        ("$0.50", None),
        ("$KEY", None),
        ("team:{team:-none}", None),
        ("a $ and a {", None),
    ],
)
def test_a_reference_is_the_whole_scalar(text: str, reference: Reference | None):
    """`${NAME}` and `${NAME:-default}` are references; a dollar or a brace alone is text."""
    assert reference == reference_in(text)


@pytest.mark.parametrize("text", ["${key}", "${1A}", "${}", "${A-b}", "${A:?b}", "${A:-{b}}", "${A:-b}c}", "${ A }"])
def test_a_malformed_reference_says_the_grammar(text: str):
    """Whatever stands between the braces must be a name, and at most a default."""
    trap = reference_in(text)
    assert isinstance(trap, Trap)
    assert "this is no variable of the environment" == trap.message


@pytest.mark.parametrize("text", ["Bearer ${KEY}", "${KEY} ", "${A}${B}", "$${KEY}", "${A:-${B}}", "${A:-x}${B:-y}"])
def test_a_reference_within_text_is_refused(text: str):
    """No text is pasted together from secrets."""
    trap = reference_in(text)
    assert isinstance(trap, Trap)
    assert "a variable must be the whole value, not a part of it" == trap.message


def test_a_reference_without_its_end_is_refused():
    """A default that a comment has cut off is seen."""
    expected = Trap("the '}' of this variable is missing", "put the value in quotes if its default contains ' #'")
    assert expected == reference_in("${KEY:-a")


def test_a_refused_reference_is_not_repeated():
    """A key pasted between the braces stays out of the error."""
    assert "sk-or-v1-canary" not in repr(reference_in("${sk-or-v1-canary}"))


def test_a_missing_value_is_not_null():
    """Who reads the data can tell an unset variable from an empty value."""
    assert Missing("KEY") not in (None, "", "KEY")


@pytest.mark.parametrize(("text", "known"), [("plain", True), ("\U0001f600", True), ("\ud83d", False)])
def test_half_a_surrogate_pair_is_no_text(text: str, known: bool):
    """What has no bytes in UTF-8 cannot be sent."""
    assert known == is_unicode(text)
