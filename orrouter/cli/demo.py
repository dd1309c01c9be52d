"""`orrouter demo`: the whole product against an upstream that misbehaves, in some seconds, without key or network.

Law: it plays `scenes.py` and prints. Whatever does not go as it should is said, and the exit code is 1.
"""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orrouter.cli import show
from orrouter.cli.command import FAILED, OK, command
from orrouter.cli.show import Line

if TYPE_CHECKING:
    from orrouter.cli.stage import Scene, Stage

LONGEST_S: Final = 18.0
"""Seconds after which the demo gives up, and says so."""
WIDTH: Final = 100


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """`demo` has no options."""


@command(DemoOptions)
def demo(_: DemoOptions) -> int:
    """Show retries, fallbacks, broken streams and an open breaker; no key and no network is needed."""
    from orrouter.cli.scenes import POLICY, SCENES

    return asyncio.run(perform(SCENES, POLICY))


async def perform(scenes: Sequence[Scene], policy: str) -> int:
    """Play scenes under a policy and print how they go; the exit code."""
    from random import Random

    from orrouter.cli.stage import Stage
    from orrouter.policy.load import load_text
    from orrouter.policy.schema import read_policy
    from orrouter.router import Router
    from orrouter.testkit.server import FakeOpenRouter

    began = time.monotonic()
    async with FakeOpenRouter() as fake:
        show.say(opening(policy, fake.url))
        env = {"OPENROUTER_BASE_URL": fake.url, "OPENROUTER_API_KEY": "none-is-needed"}
        document = load_text(policy, file="<demo>", env=env)
        async with Router(read_policy(document), env=env, random=Random(7)) as router:
            stage = Stage(fake, router)
            well = [await _played(scene, stage, began + LONGEST_S) for scene in scenes]
        if stage.record is not None:
            show.say([fold for line in show.record_lines(stage.record) for fold in folded(line)])
    show.say(closing(well, time.monotonic() - began))
    return OK if all(well) else FAILED


async def _played(scene: Scene, stage: Stage, until: float) -> bool:
    """One scene, printed; whether it went as it should."""
    began = time.monotonic()
    try:
        with show.waiting(f"{scene.title}: {scene.done}"):
            async with asyncio.timeout(max(0.0, until - began)):
                saw, well = await scene.play(stage), True
    except TimeoutError:
        saw, well = "no end of it within the time of the demo", False
    except Exception as error:  # a demo that hides what went wrong would be a lie
        saw, well = f"{type(error).__name__}: {error}", False
    show.say(told(scene, saw, time.monotonic() - began, well=well))
    return well


def opening(policy: str, url: str) -> list[Line]:
    """What is about to happen, and under which policies."""
    stacks = policy.partition("policies:\n")[2].splitlines()
    return [
        Line(f"orrouter demo: two policies, and a fake OpenRouter at {url} that misbehaves", "bold"),
        *(Line(line, "cyan") for line in stacks),
        Line(""),
    ]


def told(scene: Scene, saw: str, seconds: float, *, well: bool) -> list[Line]:
    """A scene that was played, on two lines."""
    took = f"{seconds:.2f}s"
    mark, style = ("ok", "green") if well else ("WRONG", "red")
    head = f"{mark:<6} {scene.title:<14} {scene.done}"
    word = "the caller saw" if well else "it went otherwise:"
    return [Line(f"{head:<{WIDTH - len(took) - 1}} {took}", style), Line(f"       {word} {saw}")]


def folded(line: Line) -> list[Line]:
    """A line of the record, indented, and on two where one is too narrow."""
    rows = textwrap.wrap(line.text, WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 12, drop_whitespace=True)
    return [Line(row, line.style) for row in rows]


def closing(well: Sequence[bool], seconds: float) -> list[Line]:
    """How many went well, and what to do next."""
    good = sum(well)
    lines = [Line(""), Line(f"{good} of {len(well)} scenes went as they should, in {seconds:.1f}s", "bold")]
    if good == len(well):
        return [
            *lines,
            Line('next: orrouter init, export OPENROUTER_API_KEY=…, orrouter chat "Hello" --policy orrouter.yaml'),
        ]
    return [*lines, Line("something above is WRONG: please report it with this output", "red")]
