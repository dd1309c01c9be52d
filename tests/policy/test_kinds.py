"""Kinds of layers: ours by a table, others' by entry points of installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.core.errors import PolicyError
from orrouter.middleware.base import Options, World
from orrouter.policy import kinds
from orrouter.policy.build import build
from orrouter.policy.jsonschema import policy_schema
from orrouter.policy.load import load_text
from orrouter.policy.schema import Policy, read_policy
from orrouter.testkit.script import ScriptedTransport

ROOT = Path(__file__).parents[2]
THIRD_PARTY = ROOT / "tests" / "thirdparty"
POLICY = """\
version: 1
upstreams:
  openrouter: {base_url: "https://openrouter.ai/api/v1"}
policies:
  default:
    - retry: {}
    - shout: {marks: 3}
"""
CALL = """
import asyncio, json
from orrouter.policy.load import load_text
from orrouter.policy.explain import explain
from orrouter.catalog.catalog import Catalog
from orrouter.router import Router
from orrouter.policy.schema import read_policy
from orrouter.testkit.script import ScriptedTransport

async def main():
    policy = read_policy(load_text(POLICY, file="p.yaml", env={}))
    far = ScriptedTransport({"a/b": "hello there"})
    async with Router(policy, transport=far, env={}) as router:
        done = await router.chat([{"role": "user", "content": "hello"}], model="a/b")
    print(json.dumps({
        "said": done.text,
        "sent": far.tries[0].call.body["messages"][0]["content"],
        "facts": [type(fact).__name__ for fact in done.record.facts],
        "steps": [[step.kind, step.says] for step in explain(policy, Catalog(())).stacks[0].steps[1:3]],
    }))

asyncio.run(main())
"""


def install(folder: Path, name: str, entry_points: str) -> None:
    """What an installer leaves beside the code of a package, so that its entry points are found."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{kinds.GROUP}]\n{entry_points}\n")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a package of one module for the length of a test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name: str, module: str, code: str, attribute: str = "ShoutOptions") -> None:
        (tmp_path / f"{module}.py").write_text(code)
        install(tmp_path, name, f"shout = {module}:{attribute}")
        kinds.installed.cache_clear()

    yield add
    kinds.installed.cache_clear()


def read() -> Policy:
    return read_policy(load_text(POLICY, file="p.yaml", env={}))


def refusal(act: Callable[[], object] = read) -> str:
    with pytest.raises(PolicyError) as caught:
        act()
    return str(caught.value)


OPTIONS = "from orrouter.middleware.base import Options\nclass ShoutOptions(Options):\n    kind = 'shout'\n    marks: int = 1\n"


# --- ours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", kinds.OURS)
def test_each_kind_of_ours_is_a_class_of_that_kind(name: str):
    """The table names a module and a class that are there."""
    found = kinds.kind(name)
    assert (True, name) == (issubclass(found, Options), found.kind)


def test_a_word_that_nobody_knows_is_no_kind():
    """The schema says which was meant."""
    assert kinds.kind("shout") is None
    assert "p.yaml:7:7: no layer is called 'shout'; one of" in refusal()


# --- an installed package -------------------------------------------------------------------------------


def test_a_package_adds_a_layer(tmp_path: Path):
    """The whole way of the package in tests/thirdparty: found by its entry point, read, explained and called."""
    project = tomllib.loads((THIRD_PARTY / "pyproject.toml").read_text())["project"]
    points = project["entry-points"][kinds.GROUP]
    install(tmp_path, project["name"], "\n".join(f"{name} = {place}" for name, place in points.items()))
    path = os.pathsep.join(map(str, (tmp_path, THIRD_PARTY, ROOT)))
    script = f"POLICY = {POLICY!r}\n".replace('base_url: "', 'api_key_file: key, base_url: "') + CALL
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    told = json.loads(done.stdout)
    assert ("hello there", "HELLO!!!", ["Shouted"]) == (told["said"], told["sent"], told["facts"])
    assert ["shout", "works with marks 3"] == told["steps"][1]


def test_the_options_of_a_package_are_held_like_ours(package: Callable[..., None]):
    """A misspelt one is suggested, a wrong one refused, at its place."""
    package("shout-one", "shout_one", OPTIONS)
    text = POLICY.replace("marks: 3", "mark: 3")
    assert "p.yaml:7:15: shout has no 'mark'; did you mean 'marks'?" == refusal(
        lambda: read_policy(load_text(text, file="p.yaml", env={}))
    )


def test_a_package_may_be_in_the_schema_of_an_editor(package: Callable[..., None]):
    """The schema of this machine knows its kinds; the one that ships does not."""
    package("shout-two", "shout_two", OPTIONS)
    assert (True, False) == (
        "shout" in json.dumps(policy_schema(kinds.known())),
        "shout" in json.dumps(policy_schema()),
    )


def test_a_package_cannot_replace_a_kind_of_ours(package: Callable[..., None], tmp_path: Path):
    """What `retry` means does not depend on what else is installed."""
    install(tmp_path, "retry-thief", "retry = nowhere:Options")
    kinds.installed.cache_clear()
    assert "RetryOptions" == kinds.kind("retry").__name__


# --- a broken package -----------------------------------------------------------------------------------

BROKEN = {
    "1 / 0": "the kind 'shout' of the package shout-broken cannot be loaded: ZeroDivisionError: division by zero; mend or remove the package",
    "import not_there_at_all": "the kind 'shout' of the package shout-broken cannot be loaded: ModuleNotFoundError: No module named 'not_there_at_all'; mend or remove the package",
    "pass": "the kind 'shout' of the package shout-broken cannot be loaded: AttributeError: module 'MODULE' has no attribute 'ShoutOptions'; mend or remove the package",
    "class ShoutOptions: pass": "the kind 'shout' of the package shout-broken is no Options class; its entry point in orrouter.middleware must name a subclass of orrouter.middleware.base.Options",
    OPTIONS.replace(
        "'shout'", "'cry'"
    ): "the package shout-broken offers 'cry' under the name 'shout'; its class must say kind = 'shout'",
}


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_package_is_an_error_that_names_it(number: int, package: Callable[..., None]):
    """It stands where the policy names the kind, and tells what is wrong with the package."""
    code, error = list(BROKEN.items())[number]
    package("shout-broken", f"shout_broken_{number}", code)
    assert f"p.yaml:7:7: {error.replace('MODULE', f'shout_broken_{number}')}" == refusal()


def test_two_packages_of_one_kind_are_an_error(package: Callable[..., None]):
    """Which of them is meant is not guessed."""
    package("shout-left", "shout_left", OPTIONS)
    package("shout-right", "shout_right", OPTIONS)
    error = (
        "the kind 'shout' is added by the package shout-left and the package shout-right; keep one of these packages"
    )
    assert f"p.yaml:7:7: {error}" == refusal()


UNBUILT = {
    "": "shout cannot be built: NotImplementedError: ShoutOptions builds no layer",
    "    def build(self, world): raise ValueError('too loud')": "shout cannot be built: too loud",
    "    def build(self, world): return 7": "shout built no layer; its build() must return an async function of a call and a handler",
}


@pytest.mark.parametrize("number", range(len(UNBUILT)))
def test_a_package_that_builds_no_layer_is_an_error(number: int, package: Callable[..., None]):
    """At its place in the policy, when the pipelines are made."""
    code, error = list(UNBUILT.items())[number]
    package("shout-unbuilt", f"shout_unbuilt_{number}", OPTIONS + code)
    world = World(catalog=Catalog(()))
    assert f"p.yaml:7:14: {error}" == refusal(lambda: build(read(), world, ScriptedTransport({})))
