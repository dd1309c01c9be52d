"""`orrouter fake`: an upstream on this machine that answers, and fails, as OpenRouter does.

Law: it runs the testkit's server and prints what happens there; what is answered is the testkit's affair.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orrouter.cli import show
from orrouter.cli.command import FAILED, OK, command

if TYPE_CHECKING:
    from orrouter.testkit.log import Seen
    from orrouter.testkit.server import FakeOpenRouter

LOOK_S = 0.1
"""Seconds between two looks at the requests that have ended."""


@dataclass(frozen=True, kw_only=True)
class FakeOptions:
    """What `fake` is asked."""

    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8888
    key: Annotated[list[str] | None, typer.Option(help="A key that exists; may be given again. None: any.")] = None
    latency: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Time before each reply.")] = 0.0
    always: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=FAULT", help="What always goes wrong for a model; may be given again."),
    ] = None
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve every model that this policy's chains name.")
    ] = None


@command(FakeOptions)
def fake(options: FakeOptions) -> int:
    """Serve a fake OpenRouter on this machine, until Ctrl-C."""
    server = prepared(options)
    return asyncio.run(_serve(server, options))


def prepared(options: FakeOptions) -> FakeOpenRouter:
    """The server as asked, not started. Raises BadParameter and PolicyError."""
    from orrouter.testkit.server import FakeOpenRouter
    from orrouter.testkit.table import FakeModel

    server = FakeOpenRouter(options.host, options.port, keys=options.key, latency=options.latency)
    for given in options.always or ():
        model, equals, fault = given.partition("=")
        if not (model and equals):
            raise typer.BadParameter(f"{given!r}: write MODEL=FAULT, as in openai/gpt-4o=503", param_hint="--always")
        try:
            server.always(model, fault)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--always") from error
    for slug in sorted(named_in(options.policy) - served()) if options.policy is not None else ():
        server.add_model(FakeModel(slug))
    return server


def named_in(policy: Path) -> set[str]:
    """The models that the chains of a policy name. Raises PolicyError."""
    from orrouter.policy.load import load_file
    from orrouter.policy.schema import read_policy
    from orrouter.policy.structure import targets_in

    stacks = read_policy(load_file(policy, env=os.environ)).stacks.values()
    return {target.model for stack in stacks for target, _ in targets_in(stack)}


def served() -> set[str]:
    """The models that every fake serves."""
    from orrouter.testkit.table import default_models

    return {model.slug for model in default_models()}


async def _serve(server: FakeOpenRouter, options: FakeOptions) -> int:
    try:
        await server.start()
    except OSError as error:
        told = f"error: cannot listen on {options.host}:{options.port}: {error.strerror}; try --port 0"
        show.say([show.Line(told, "red")], err=True)
        return FAILED
    show.say(greeting(server.url, options))
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(one, over.set)
        except NotImplementedError:  # Windows: Ctrl-C ends the loop as it is
            break
    try:
        await _watch(server, over)
    finally:
        await server.stop()
    show.say([show.Line(f"served {show.count(len(server.requests), 'request')}", "dim")])
    return OK


async def _watch(server: FakeOpenRouter, over: asyncio.Event) -> None:
    """Print each request when it has ended, until it is over."""
    told: set[int] = set()
    while True:
        ended = [seen for seen in server.requests if seen.number not in told and seen.finished != "open"]
        show.say([line_of(seen) for seen in ended])
        told.update(seen.number for seen in ended)
        try:
            async with asyncio.timeout(LOOK_S):
                await over.wait()
        except TimeoutError:
            continue
        return


def line_of(seen: Seen) -> show.Line:
    """A request that has ended, on one line."""
    from datetime import datetime

    parts = [
        datetime.fromtimestamp(seen.wall).astimezone().strftime("%H:%M:%S"),
        str(seen.status or "---"),
        f"{seen.path:<17}",
        f"{seen.model or '(no model)':<32}",
        "stream" if seen.stream else "whole ",
        f"{seen.prompt_tokens}+{seen.completion_tokens} tokens",
        show.money(seen.true_cost_nano),
    ]
    if seen.fault:
        parts.append(f"fault {seen.fault}")
    if seen.finished != "done":
        parts.append("client left" if seen.finished == "client_gone" else "cut")
    return show.Line("  ".join(parts), "red" if seen.status >= 400 or seen.finished == "cut" else "")


def greeting(url: str, options: FakeOptions) -> list[show.Line]:
    """The address, how to use it, the models and the faults."""
    from orrouter.testkit.faults import FAULTS

    key = options.key[0] if options.key else "anything"
    models = served() | (named_in(options.policy) if options.policy is not None else set())
    width = max(map(len, FAULTS))
    return [
        show.Line(f"a fake OpenRouter listens at {url}", "bold"),
        show.Line(f"  export OPENROUTER_BASE_URL={url} OPENROUTER_API_KEY={key}"),
        show.Line('  orrouter chat "Hello" --model openai/gpt-4o'),
        show.Line("models:", "bold"),
        *(show.Line(f"  {row}") for row in _in_rows(sorted(models))),
        show.Line("faults, as the model fault/NAME or fault/NAME:NUMBER, or by --always MODEL=NAME:", "bold"),
        *(show.Line(f"  {name:<{width}}  {_said(FAULTS[name].says)}") for name in sorted(FAULTS)),
        show.Line("requests (Ctrl-C ends it):", "bold"),
    ]


def _said(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _in_rows(words: Iterable[str], most: int = 96) -> list[str]:
    """Words in rows of at most so many characters."""
    rows = [""]
    for word in words:
        longer = f"{rows[-1]}  {word}" if rows[-1] else word
        if len(longer) <= most:
            rows[-1] = longer
        else:
            rows.append(word)
    return rows
