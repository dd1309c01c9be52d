"""The README tells the truth: its examples run, its policies load, its commands and options exist."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from orrouter.middleware.base import World
from orrouter.policy import kinds
from orrouter.policy.build import build
from orrouter.policy.load import load_text
from orrouter.policy.schema import read_policy
from orrouter.testkit.script import ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SKIP = "<!-- test: skip -->"
"""Stands on the line before a block that is only read."""
SHELLS = {"sh", "bash", "shell", "console"}
KEY = "sk-or-v1-0123456789abcdef"

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>[\w+-]*) ?(?P<info>.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it begins (from 1), under which heading, and whether it is to be run."""

    line: int
    section: str
    language: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"README.md:{self.line}"


@cache
def readme() -> str:
    """The text; empty where there is none, which a test of its own tells."""
    return README.read_text(encoding="utf-8") if README.exists() else ""


def blocks_in(text: str) -> Iterator[Block]:
    """Every fenced block of a page."""
    section, before, opened, lines = "", "", None, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if opened is not None:
            if line.strip() == opened[1]["fence"]:
                at, fence, skipped = opened
                runs = not skipped and "no-run" not in fence["info"].split()
                yield Block(at, section, fence["language"], "\n".join(lines) + "\n", runs)
                opened = None
            lines.append(line)
        elif match := _FENCE.match(line):
            opened, lines = (number, match, before == SKIP), []
        elif line.startswith("#"):
            section = line.lstrip("# ")
        before = line.strip() or before
    assert opened is None, f"the block that begins on line {opened[0]} does not end"


def blocks(*languages: str) -> list[Block]:
    return [block for block in blocks_in(readme()) if block.language in languages]


def sections() -> list[str]:
    """Headings with Python below them that is to be run."""
    return list(dict.fromkeys(block.section for block in blocks("python") if block.runs))


def policies() -> list[Block]:
    return [block for block in blocks("yaml", "yml") if block.text.startswith("version:")]


def compiled(block: Block):
    """The block as code whose tracebacks name the line of the README."""
    source = "\n" * block.line + block.text
    return compile(source, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def run(block: Block, names: dict[str, object]) -> None:
    """Run a block in these names; one that awaits, in an event loop of its own."""
    code = compiled(block)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where a reader of the README stands: with `config/`, the first policy as `policy.yaml`, and a key."""
    if policies():
        (tmp_path / "policy.yaml").write_text(policies()[0].text, encoding="utf-8")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    with FakeOpenRouter.in_thread(keys=[KEY]) as fake:
        monkeypatch.setenv("OPENROUTER_BASE_URL", fake.url)
        monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
        for name in ("DEFAULT_MODEL", "SITE_URL", "SITE_NAME", "TIMEOUT"):
            monkeypatch.delenv(f"OPENROUTER_{name}", raising=False)
        yield tmp_path


def test_there_is_a_readme_with_examples():
    """Without one nothing below would be checked."""
    assert README.is_file()
    assert sections() != []
    assert policies() != []


@pytest.mark.parametrize("section", sections())
def test_the_examples_of_a_section_run(section, place):
    """In their order and in the same names, against a fake upstream, under the section's own policy if it has one."""
    for policy in policies():
        if policy.section == section:
            (place / "policy.yaml").write_text(policy.text, encoding="utf-8")
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks("python"):
        if block.section == section and block.runs:
            run(block, names)


@pytest.mark.parametrize("block", [block for block in blocks("python") if not block.runs], ids=str)
def test_an_example_that_is_not_run_is_python_all_the_same(block):
    """It compiles."""
    assert compiled(block) is not None


@pytest.mark.parametrize("block", policies(), ids=str)
def test_a_policy_loads_and_is_built(block):
    """Strictly, with a key in the environment."""
    env = {"OPENROUTER_API_KEY": KEY}
    policy = read_policy(load_text(block.text, file=str(block), env=env))
    assert set(policy.stacks) == set(build(policy, World(), ScriptedTransport({})).pipelines)


def commands() -> set[str]:
    """What `orrouter` can be asked."""
    from orrouter.cli.app import app

    groups = {group.name or group.typer_instance.info.name for group in app.registered_groups}
    return groups | {info.name or info.callback.__name__ for info in app.registered_commands}


def named_commands(text: str) -> list[str]:
    """The words behind `orrouter` in a piece of shell."""
    return re.findall(r"(?:^|[\s;&|/])orrouter +([a-z][\w-]*)", text)


@pytest.mark.parametrize("block", blocks(*SHELLS), ids=str)
def test_a_command_that_is_shown_exists(block):
    """Every `orrouter …` of a shell block, and every script that Python is to run."""
    assert set() == set(named_commands(block.text)) - commands()
    scripts = re.findall(r"python3? +([\w./-]+\.py)", block.text)
    assert [] == [script for script in scripts if not (ROOT / script).is_file()]


def test_a_command_that_is_named_in_passing_exists():
    """Every `orrouter …` between backquotes."""
    quoted = [words for inline in re.findall(r"`(orrouter [^`\n]+)`", readme()) for words in named_commands(inline)]
    assert set() == set(quoted) - commands()


def test_every_command_is_told():
    """In the table of commands."""
    told = set(re.findall(r"^\| `([a-z]+)[ `]", readme(), flags=re.MULTILINE))
    assert set() == commands() - told


def options_told(kind: str) -> set[str] | None:
    """The options in the table of a layer's section; None where it has no section."""
    found = re.search(rf"^### {kind}$(.*?)(?=^##|\Z)", readme(), flags=re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    rows = re.findall(r"^\| (`[^|]+) \|", found[1], flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("kind", sorted(set(kinds.OURS) - {kinds.ALWAYS, "record"}))
def test_a_layers_section_tells_its_options(kind):
    """All of them and no other; those of `provider` are OpenRouter's and told in words."""
    told, known = options_told(kind), set(kinds.kind(kind).model_fields)
    assert told is not None, f"there is no section ### {kind}"
    assert set() == told - known
    if kind != "provider":
        assert known == told


def test_a_link_leads_to_a_file():
    """Within the project; links to elsewhere are not followed."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", readme())
    assert [] == [link for link in links if not (ROOT / link).exists()]


# --- the reader of the page itself ----------------------------------------------------------------------

PAGE = """\
# One

```python
x = 1
```

<!-- test: skip -->

```python
not python
```

## Two

```python no-run
y = await z
```

```sh
orrouter chat "hi" && .venv/bin/orrouter demo
```
"""


def test_blocks_are_found_with_their_places():
    """And whether they run."""
    found = [(block.line, block.section, block.language, block.runs) for block in blocks_in(PAGE)]
    assert [
        (3, "One", "python", True),
        (9, "One", "python", False),
        (15, "Two", "python", False),
        (19, "Two", "sh", True),
    ] == found
    assert ["chat", "demo"] == named_commands(list(blocks_in(PAGE))[-1].text)


def test_a_failing_example_names_its_line():
    """So that it is found in the README."""
    block = Block(41, "", "python", "async def work():\n    return 1\n\nx = await work() / 0\n", runs=True)
    with pytest.raises(ZeroDivisionError) as caught:
        run(block, {})
    assert (str(README), 45) == (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1)
