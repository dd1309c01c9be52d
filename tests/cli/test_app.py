"""The command line as a whole: its commands, its version, its start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orrouter import __version__

COMMANDS = ["demo", "chat", "check", "explain", "models", "spend", "ledger", "fake", "init", "doctor"]


def test_help_names_every_command(run):
    """Whoever asks for help sees each command with its sentence."""
    result = run("--help")
    assert 0 == result.exit_code
    assert [] == [name for name in COMMANDS if name not in result.stdout]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(run, name):
    """Each command explains its options."""
    result = run(name, "--help")
    assert 0 == result.exit_code
    assert f"orrouter {name}" in result.stdout


def test_version_is_printed(run):
    """`--version` says which one this is."""
    assert f"orrouter {__version__}\n" == run("--version").stdout


@pytest.mark.parametrize("args", [("nonsense",), ("chat",), ("chat", "Hello", "--nonsense"), ("fake", "--port", "x")])
def test_wrong_usage_exits_2(run, args):
    """A word that nobody knows, a missing argument and a value of the wrong kind are wrong usage."""
    assert 2 == run(*args).exit_code


def test_without_typer_it_says_what_to_install(clean_env):
    """The library alone has no command line; whoever tries gets one sentence and no traceback."""
    code = "import sys; sys.modules['typer'] = None; from orrouter.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=clean_env, capture_output=True, text=True, timeout=60, check=False
    )
    assert 2 == ran.returncode
    assert "the command line needs typer: pip install 'orrouter[cli]'\n" == ran.stderr


def test_help_imports_nothing_heavy(clean_env):
    """`--help` and completion start quickly: no HTTP client, no validation of policies, no server is imported."""
    code = (
        "import sys; import orrouter.cli.app; "
        "print([one for one in ('aiohttp', 'yaml', 'tenacity', 'structlog', 'orrouter.router', 'orrouter.testkit') "
        "if one in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=clean_env, capture_output=True, text=True, timeout=60, check=True
    )
    assert "[]\n" == ran.stdout


def test_the_module_runs_as_the_script_does(shell):
    """`python -m orrouter` is the same command line."""
    ran = shell("--version")
    assert (0, f"orrouter {__version__}\n") == (ran.returncode, ran.stdout)
