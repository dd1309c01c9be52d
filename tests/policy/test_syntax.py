"""What PyYAML says about a broken file is told in plain words, at the place that helps."""

from __future__ import annotations

import pytest
from yaml.error import Mark, MarkedYAMLError

from orrouter.core.errors import PolicyError
from orrouter.policy.load import load_text
from orrouter.policy.syntax import Complaint, complaint

BROKEN = {
    "tab as indent": ("a:\n\tb: 1\n", "2:1: a tab stands where YAML wants spaces; indent and separate with spaces"),
    "tab after a colon": ("a:\tb\n", "1:3: a tab stands where YAML wants spaces; indent and separate with spaces"),
    "tab before a comment": (
        "a: b\t# c\n",
        "1:5: a tab stands where YAML wants spaces; indent and separate with spaces",
    ),
    "at sign": ("a: @x\n", "1:4: text cannot begin with @; put the text in quotes"),
    "star": ("a: [*]\n", "1:5: anchors and aliases are not allowed; quote text that begins with * or &"),
    "lone anchor": ("a: & x\n", "1:4: anchors and aliases are not allowed; quote text that begins with * or &"),
    "unknown tag handle": (
        "a: !e!x y\n",
        "1:4: tags are not allowed; remove the '!word', or quote text that begins with !",
    ),
    "second colon": (
        "a: b: c\n",
        "1:5: a ':' is not expected here; indent the line like its neighbours, or quote text that contains ': '",
    ),
    "question mark": ("a: ? b\n", "1:4: text cannot begin with '? ' here; put the text in quotes"),
    "no key": (": x\n", "1:1: there is no key before this ':'; write key: value"),
    "item behind a key": ("a: - b\n", "1:4: a list item cannot begin here; begin the list on a line of its own"),
    "no colon": ("a: 1\nb\nc: 2\n", "2:1: this line has no ': '; write key: value, or - item"),
    "open quote": ("a: 'x\nb: 1\n", "1:4: this quoted text is never closed; add the closing quote"),
    "open quote at a separator": ('a: "x\n---\n', "1:4: this quoted text is never closed; add the closing quote"),
    "escape": (
        'a: "\\d"\n',
        "1:6: this is no escape of double quotes; write \\\\ for a backslash, or use single quotes",
    ),
    "short escape": (
        'a: "\\x1"\n',
        "1:7: this is no escape of double quotes; write \\\\ for a backslash, or use single quotes",
    ),
    "text behind a quote": (
        "a: 'it's'\n",
        (
            "1:8: text follows a value that is complete; "
            "put the whole value in quotes; inside single quotes write '' for a quote"
        ),
    ),
    "indentation": (
        "a:\n    b: 1\n   c: 2\n",
        "3:4: this line does not belong to the block above it; indent it like the other lines of its block",
    ),
    "list turned mapping": (
        "- a\nb: 1\n",
        "2:1: this line does not belong to the block above it; indent it like the other lines of its block",
    ),
    "empty item": ("a: [,]\n", "1:5: a value is missing here; write the value, or quote it"),
    "text block": ("a: |x\n b", "1:4: '|' and '>' begin a text block here; put the text in quotes"),
    "text after the end": (
        "a: 1\n...\nb: 2\n",
        "3:1: this text does not belong to what stands above; remove it",
    ),
    "version": ("%YAML 2.0\n---\na: 1\n", "1:1: this '%' directive cannot be read; remove it"),
    "open bracket": ("a:\n  [1, 2\nb: 3\n", "3:2: ',' or ']' is missing here; the '[' was opened on line 2"),
    "open brace": ("a: {b: 1", "1:9: ',' or '}' is missing here; the '{' was opened on line 1"),
    "control character": (
        "a: 1\nb: x\x07",
        "2:5: the character U+0007 is not allowed; remove it, or write it as an escape in double quotes",
    ),
    "escape beyond Unicode": ('a: "\\UFFFFFFFF"', "1:7: this cannot be read as YAML"),
    "endless version": ("%YAML 1." + "9" * 5000 + "\n---\na: 1\n", "1:9: this cannot be read as YAML"),
    "duplicate directive": (
        "%YAML 1.1\n%YAML 1.1\n---\na: 1\n",
        "2:1: this '%' directive cannot be read; remove it",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_explained_where_it_is_broken(case: str):
    """Line, column, what is wrong and what to do, without PyYAML's own terms."""
    text, expected = BROKEN[case]
    with pytest.raises(PolicyError) as caught:
        load_text(text, file="p.yaml", env={})
    assert f"p.yaml:{expected}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "column"),
    [("a: {x: ${KEY}}\n", 8), ("a: [${KEY}, 2]\n", 5), ("a: {b: 1, ${KEY}: 2}\n", 11), ("a: [x${KEY}]\n", 6)],
)
def test_a_bare_variable_in_flow_style_is_recognised(text: str, column: int):
    """PyYAML sees a brace too many there; the person sees what is meant, at the dollar."""
    with pytest.raises(PolicyError) as caught:
        load_text(text, file="p.yaml", env={"KEY": "canary"})
    expected = (
        f"p.yaml:1:{column}: a variable cannot stand inside {{...}} or [...]; write the list or mapping "
        "in lines of its own, one 'key: ${NAME}' or '- ${NAME}' a line"
    )
    assert expected == str(caught.value)


def test_the_text_of_a_broken_file_stays_out_of_the_error():
    """Not even the chained exception keeps a copy: a key may be written there."""
    with pytest.raises(PolicyError) as caught:
        load_text("api_key: sk-or-v1-canary\n\tb: 1\n", env={})
    assert (None, None, False) == (
        caught.value.__cause__,
        caught.value.__context__,
        "canary" in str(caught.value.__dict__),
    )


def test_an_unknown_complaint_keeps_its_own_words():
    """What another release of PyYAML may say is passed on, with its place."""
    error = MarkedYAMLError("while reading", None, "found a novelty", Mark("p", 0, 1, 2, None, 0))
    expected = Complaint((2, 3), "this cannot be read as YAML (while reading: found a novelty)", "")
    assert expected == complaint(error, "")
