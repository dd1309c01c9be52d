"""The command line in this process and in one of its own, and a fake upstream for it to ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orrouter.testkit.fixtures import fake_openrouter as fake_openrouter  # noqa: PLC0414  # a fixture, found by its name

ROOT = Path(__file__).parents[2]
KEY = "sk-or-v1-canary0123456789"
FOREIGN = ("OPENROUTER_", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "TERM", "PY_COLORS", "CI", "GITHUB_")
POLICY = """\
version: 1
upstreams:
  openrouter:
    base_url: ${OPENROUTER_BASE_URL}
    api_key: ${OPENROUTER_API_KEY}
policies:
  default:
    - fallback: {models: [openai/gpt-4o, openai/gpt-4o-mini]}
    - retry: {attempts: 2, initial: 1ms}
"""


@pytest.fixture
def env(fake_openrouter):
    """What a user sets to talk to the fake upstream."""
    return {"OPENROUTER_BASE_URL": fake_openrouter.url, "OPENROUTER_API_KEY": KEY}


@pytest.fixture
def run():
    """Runs a command in this process: `run("chat", "Hello", env=...)`."""
    from orrouter.cli.app import app

    def ran(*args, env=None, typed=None):
        clean = {name: None for name in os.environ if name.startswith(FOREIGN)}
        return CliRunner().invoke(app, [str(one) for one in args], input=typed, env=clean | (env or {}))

    return ran


@pytest.fixture
def clean_env():
    """The environment without what would change the outcome, for processes of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


@pytest.fixture
def shell(clean_env):
    """Runs `python -m orrouter` in a process of its own."""

    def ran(*args, env=None, typed=None, cwd=ROOT):
        command = [sys.executable, "-m", "orrouter", *map(str, args)]
        full = clean_env | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | (env or {})
        return subprocess.run(
            command, cwd=cwd, env=full, input=typed, capture_output=True, encoding="utf-8", timeout=60, check=False
        )

    return ran


@pytest.fixture
def policy(tmp_path):
    """A small policy for the fake upstream."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path
