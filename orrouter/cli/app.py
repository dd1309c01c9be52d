"""The commands put together.

Law: a list. Each command lives in its own file, and imports what is heavy when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from orrouter import __version__
from orrouter.cli.chat import chat
from orrouter.cli.check import check
from orrouter.cli.demo import demo
from orrouter.cli.doctor import doctor
from orrouter.cli.explain import explain
from orrouter.cli.fake import fake
from orrouter.cli.init import init
from orrouter.cli.ledger import app as ledger
from orrouter.cli.models import models
from orrouter.cli.spend import spend

app = typer.Typer(
    name="orrouter",
    help="Calls LLMs through OpenRouter, and still answers when models, providers or the network misbehave.",
    epilog="Exit codes: 0 all went well, 1 what was asked for failed, 2 wrong usage or policy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and a key may be one
)

for command in (demo, chat, check, explain, models, spend, fake, init, doctor):
    app.command()(command)
app.add_typer(ledger)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"orrouter {__version__}")
        raise typer.Exit


@app.callback()
def _every(
    version: Annotated[  # acted on by its callback
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """What stands before every command."""
