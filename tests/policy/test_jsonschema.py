"""The schema that editors read is made from the types, and the policies that ship keep it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orrouter.core.errors import PolicyError
from orrouter.policy import kinds
from orrouter.policy.jsonschema import policy_schema
from orrouter.policy.load import load_text

CONFIG = Path(__file__).parents[2] / "config"
COMMITTED = json.loads((CONFIG / "policy.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(COMMITTED)
FRAME = "version: 1\nupstreams: {a: {base_url: https://x}}\n"


def written(file: Path) -> Any:
    """A policy as an editor sees it: variables are not replaced."""

    class Unreplaced(dict[str, str]):
        def get(self, name: str, default: Any = None) -> str:
            return f"${{{name}}}"

    return load_text(file.read_text(), env=Unreplaced()).data


def complaints(text: str) -> list[str]:
    """The places of a policy that an editor would underline."""
    found = VALIDATOR.iter_errors(load_text(text, env={}).data)
    return sorted({".".join(map(str, error.absolute_path)) for error in found})


def test_the_committed_schema_is_the_generated_one():
    """After a change of an option: `python -m orrouter.policy.jsonschema config/policy.schema.json`."""
    assert policy_schema() == COMMITTED


def test_the_schema_is_a_schema():
    """Of the draft it names."""
    jsonschema.Draft202012Validator.check_schema(COMMITTED)
    assert "https://json-schema.org/draft/2020-12/schema" == COMMITTED["$schema"]


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.yaml")), ids=lambda file: file.name)
def test_a_policy_that_ships_keeps_the_schema(file: Path):
    """And names it on its first line, so that an editor helps."""
    assert [] == [error.message for error in VALIDATOR.iter_errors(written(file))]
    assert "# yaml-language-server: $schema=policy.schema.json" == file.read_text().splitlines()[0]


def test_every_kind_of_ours_is_in_it():
    """One item of a stack for each."""
    items = COMMITTED["properties"]["policies"]["additionalProperties"]["items"]["oneOf"]
    assert list(kinds.OURS) == [item["required"][0] for item in items]


def test_every_option_is_described():
    """The words are those of the attribute's docstring."""
    silent = [
        f"{name}.{option}"
        for name, schema in COMMITTED["$defs"].items()
        for option, body in schema.get("properties", {}).items()
        if not body.get("description") and "$ref" not in body
    ]
    assert [] == silent


def test_a_default_is_shown_as_it_is_written():
    """Durations and sizes with their units."""
    retry, upstream = COMMITTED["$defs"]["RetryOptions"], COMMITTED["$defs"]["UpstreamOptions"]
    assert ("500ms", 3, "64MiB") == (
        retry["properties"]["initial"]["default"],
        retry["properties"]["attempts"]["default"],
        upstream["properties"]["max_body"]["default"],
    )


@pytest.mark.parametrize(
    "items",
    [
        "[retry: {attempts: 3, initial: 500ms}]",
        "[retry: , breaker: {}]",
        "[deadline: {total: 1.5m}, deadline: {stall: 30s}]",
        "[fallback: {models: [a/b, {model: c, upstream: a}]}]",
        "[provider: {sort: {by: price}, max_price: {prompt: 0.5}}]",
    ],
)
def test_what_is_right_is_not_underlined(items: str):
    """Every way to write an option."""
    assert [] == complaints(f"{FRAME}policies: {{default: {items}}}")


def test_a_variable_may_stand_for_any_value():
    """A number, too; an editor sees the reference, not what it becomes."""
    data = {
        "version": 1,
        "upstreams": {"a": {"base_url": "${URL}", "api_key": "${KEY}", "connections": "${N:-5}"}},
        "ledger": "${LEDGER:-memory://}",
        "policies": {"default": [{"retry": {"attempts": "${N}", "initial": "${WAIT:-1s}"}}]},
    }
    assert [] == [error.message for error in VALIDATOR.iter_errors(data)]


WRONG = {
    "": "",
    "policies: {}": "policies",
    "policies: {default: []}": "policies.default",
    "policies: {default: [retri: {}]}": "policies.default.0",
    "policies: {default: [hedge: {}]}": "policies.default.0",
    "policies: {default: [{retry: {}, breaker: {}}]}": "policies.default.0",
    "policies: {default: [retry: {attempt: 3}]}": "policies.default.0",
    "policies: {default: [retry: {initial: 5}]}": "policies.default.0",
    "policies: {default: [retry: {attempts: 11}]}": "policies.default.0",
    "policies: {default: [fallback: ]}": "policies.default.0",
    "policies: {a b: [retry: {}]}": "policies",
    "policies: {default: [retry: {}]}\nroutes: []": "routes",
    "policies: {default: [retry: {}]}\nroutes: [{polici: default}]": "routes.0",
    "policies: {default: [retry: {}]}\nledger: mysql://": "ledger",
}


@pytest.mark.parametrize(("text", "place"), WRONG.items())
def test_what_is_wrong_is_underlined(text: str, place: str):
    """What reading refuses for its form, an editor shows while it is typed."""
    assert [place] == complaints(FRAME + text)


def test_a_key_that_is_written_out_is_underlined():
    """Before it is committed."""
    text = "version: 1\nupstreams: {a: {base_url: https://x, api_key: sk-1}}\npolicies: {a: [retry: ]}"
    assert ["upstreams.a.api_key"] == complaints(text)


def test_an_unknown_kind_has_no_schema():
    """A misspelt name is an error, not an empty schema."""
    with pytest.raises(PolicyError, match="no layer is called 'retri'"):
        policy_schema(["retri"])


def test_it_is_written_as_a_file(tmp_path: Path):
    """By the command that the module is."""
    out = tmp_path / "schema.json"
    subprocess.run([sys.executable, "-m", "orrouter.policy.jsonschema", str(out)], check=True)
    assert (CONFIG / "policy.schema.json").read_bytes() == out.read_bytes()
