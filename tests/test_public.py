"""The public face: its names, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import orrouter
from orrouter import testkit
from orrouter.core.errors import descendants

ROOT = Path(__file__).parent.parent


def test_every_public_name_can_be_had():
    """Each name of __all__ is found where the table says, and the list is sorted and without repeats."""
    assert sorted(set(orrouter.__all__)) == orrouter.__all__
    assert all(getattr(orrouter, name) is not None for name in orrouter.__all__)


def test_the_table_and_the_list_name_the_same():
    """No name is public in one place and unknown in the other."""
    assert set(orrouter.__all__) == set(orrouter._PLACES)


def test_the_testkit_gives_its_names():
    """What a service's tests want is had from orrouter.testkit itself."""
    assert all(getattr(testkit, name) is not None for name in testkit.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """A typo is told as Python tells it."""
    assert not hasattr(orrouter, "Rooter")


def test_importing_costs_no_heavy_module():
    """`import orrouter` imports neither aiohttp nor pydantic nor structlog, and no module of the house but itself."""
    program = (
        "import sys, orrouter; "
        "print([name for name in ('aiohttp', 'pydantic', 'structlog', 'yaml', 'tenacity', 'orjson') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "[]" == shown.strip()


def test_the_names_for_type_checkers_are_those_of_the_table():
    """What mypy sees under TYPE_CHECKING is what is found at run time."""
    text = (ROOT / "orrouter" / "__init__.py").read_text(encoding="utf-8")
    seen = {
        alias.name: node.module
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("orrouter.")
        for alias in node.names
    }
    assert orrouter._PLACES == seen


def test_every_error_is_public():
    """Whoever catches one imports it from the top."""
    assert set() == {kind.__name__ for kind in descendants()} - set(orrouter.__all__)


def test_every_public_name_says_what_it_is():
    """In a docstring, but for `Event`, which is a union of two that do."""
    mute = [name for name in orrouter.__all__ if not getattr(orrouter, name).__doc__]
    assert [] == mute


def test_everything_can_be_imported_with_a_star():
    """And `dir` shows it."""
    names: dict[str, object] = {}
    exec("from orrouter import *", names)
    assert set(orrouter.__all__) == names.keys() - {"__builtins__"}
    assert {*orrouter.__all__, "__version__"} == set(dir(orrouter))


def test_the_version_is_the_projects():
    """It stands in two places and is one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == orrouter.__version__


def test_the_package_says_that_it_is_typed():
    """Else no type checker of a user looks at its types."""
    assert (ROOT / "orrouter" / "py.typed").is_file()


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        (
            "import orrouter; orrouter.tags",
            ("aiohttp", "pydantic", "structlog", "yaml", "tenacity", "orjson", "asyncio"),
        ),
        ("import orrouter; orrouter.Router", ("aiohttp", "structlog", "tenacity", "openai", "typer", "rich")),
        (
            "import orrouter; orrouter.Router.from_policy",
            ("orrouter.testkit", "orrouter.cli", "orrouter.adapters", "orrouter.sync"),
        ),
        ("import orrouter.sync", ("aiohttp", "structlog", "tenacity", "orrouter.testkit")),
    ],
)
def test_what_is_not_used_is_not_imported(program, unwanted):
    """A name costs what it needs and no more; the transport's session is the first to need aiohttp."""
    shown = f"{program}; import sys; print([name for name in {unwanted!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "[]" == ran.stdout.strip()
