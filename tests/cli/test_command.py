"""How commands are made of dataclasses, and how they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from orrouter.cli.command import Calling, LogFormat, command, ended
from orrouter.core.errors import Overloaded, PolicyError
from orrouter.core.facts import RetryScheduled


@dataclass(frozen=True, kw_only=True)
class GreetOptions:
    """Options of a command made here."""

    name: Annotated[str, typer.Argument()]
    times: Annotated[int, typer.Option(min=1)] = 1


@command(GreetOptions)
def greet(options: GreetOptions) -> int:
    """Say hello."""
    typer.echo(f"hello {options.name} " * options.times)
    return 1 if options.name == "nobody" else 0


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command()(greet)
    return lambda *args: CliRunner().invoke(app, list(args))


def test_the_fields_of_the_dataclass_are_the_options(invoke):
    """Arguments, options and their defaults are read off the dataclass."""
    assert "hello you hello you" == invoke("you", "--times", "2").stdout.strip()
    assert "hello you" == invoke("you").stdout.strip()


def test_the_bounds_of_an_option_hold(invoke):
    """What typer says about an option is kept."""
    assert 2 == invoke("you", "--times", "0").exit_code


def test_what_the_function_returns_is_the_exit_code(invoke):
    """A command says itself how it went."""
    assert [0, 1] == [invoke(name).exit_code for name in ("you", "nobody")]


@pytest.mark.parametrize(("error", "code"), [(PolicyError("wrong"), 2), (Overloaded("busy"), 1)])
def test_an_error_of_ours_is_told_and_becomes_an_exit_code(error, code, capsys):
    """A policy that is wrong exits 2, a call that failed exits 1, and stderr says why."""

    def fail() -> int:
        raise error

    assert code == ended(fail)
    assert str(error) in capsys.readouterr().err


def test_any_other_error_is_no_ending():
    """A mistake of the program itself is not dressed up as a failed call."""

    def fail() -> int:
        raise KeyError("oops")

    with pytest.raises(KeyError):
        ended(fail)


async def test_log_and_listener_both_hear_every_fact(policy, env, fake_openrouter, capsys, monkeypatch):
    """`--log` writes the facts to stderr, and what else listens hears them as well."""
    heard = []
    fake_openrouter.script("openai/gpt-4o", ["429:0", "ok"])
    calling = Calling(policy=policy, log=LogFormat.json)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    async with calling.router(heard.append) as router:
        await router.chat([{"role": "user", "content": "Hello"}])
    assert 1 == sum(isinstance(fact, RetryScheduled) for fact in heard)
    assert len(heard) == len(capsys.readouterr().err.splitlines())
