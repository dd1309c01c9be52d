"""How a command is written: a dataclass of its options, a function of that, and an end that is always told.

Law: the bridge to typer, the exit codes, and the two options that every command with a router has. What a command
does is its own file's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_type_hints

import typer

from orrouter.core.errors import PolicyError, RouterError
from orrouter.core.facts import Fact

if TYPE_CHECKING:
    from orrouter.router import Router

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2

T = TypeVar("T")
Listener = Callable[[Fact], None]


class LogFormat(StrEnum):
    """How facts are logged to stderr."""

    json = "json"
    console = "console"


@dataclass(frozen=True, kw_only=True)
class Calling:
    """The options of a command that calls an upstream."""

    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The policy; without one, the environment's OPENROUTER_… say.")
    ] = None
    log: Annotated[LogFormat | None, typer.Option(help="Log every fact to stderr.")] = None

    def router(self, listener: Listener | None = None) -> Router:
        """A router as these options say; `listener` hears its facts too. Raises PolicyError."""
        from orrouter.router import Router

        heard = _both(self._logger(), listener)
        if self.policy is None:
            return Router.from_env(on_fact=heard)
        return Router.from_file(self.policy, on_fact=heard)

    def _logger(self) -> Listener | None:
        if self.log is None:
            return None
        from orrouter.observe.log import log_facts

        return log_facts(self.log.value, "debug")


def tags_of(given: Iterable[str]) -> dict[str, str]:
    """Tags as they are written on the command line. Raises BadParameter."""
    pairs = [one.partition("=") for one in given]
    if not all(name and equals for name, equals, _ in pairs):
        raise typer.BadParameter("write NAME=VALUE, as in team=search", param_hint="--tag")
    return {name: value for name, _, value in pairs}


def _both(one: Listener | None, other: Listener | None) -> Listener | None:
    if one is None or other is None:
        return one or other

    def listen(fact: Fact) -> None:
        one(fact)
        other(fact)

    return listen


def command(options: type[T]) -> Callable[[Callable[[T], int]], Callable[..., None]]:
    """Makes a function of `options` (a dataclass with typer's annotations) a command; it returns its exit code."""

    def make(run: Callable[[T], int]) -> Callable[..., None]:
        @wraps(run)
        def told(**given: Any) -> None:
            code = ended(lambda: run(options(**given)))
            if code != OK:
                raise typer.Exit(code)

        hints = get_type_hints(options, include_extras=True)
        parameters = [_parameter(one, hints[one.name]) for one in fields(options)]  # type: ignore[arg-type]  # a dataclass
        told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        told.__annotations__ = {one.name: one.annotation for one in parameters}
        return told

    return make


def _parameter(field: Field[Any], annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def ended(run: Callable[[], int]) -> int:
    """The exit code of a command; an error of ours is told on stderr first."""
    try:
        return run()
    except RouterError as error:
        from orrouter.cli.show import tell_error

        tell_error(error)
        return WRONG if isinstance(error, PolicyError) else FAILED
