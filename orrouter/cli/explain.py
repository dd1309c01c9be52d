"""`orrouter explain`: what a policy does, layer by layer and target by target, and what it would do with a request.

Law: what it does is the policy package's to say; here it is printed. Nothing is sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrouter.cli import show
from orrouter.cli.command import OK, command, tags_of
from orrouter.cli.show import Line

if TYPE_CHECKING:
    from orrouter.policy.explain import Candidate, Explained, Stack


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """What `explain` is asked."""

    file: Annotated[Path | None, typer.Argument(help="The policy to read.")] = None
    request: Annotated[
        str | None, typer.Option(metavar="R.json", help="The body of a request to try on it; - reads standard input.")
    ] = None
    name: Annotated[str | None, typer.Option(metavar="POLICY", help="Only this policy of the file.")] = None
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag of the request.")] = None
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="The policy to read, by its option.")] = None

    def place(self) -> Path:
        """The policy's file. Raises BadParameter when there is none, or two."""
        if (self.file is None) == (self.policy is None):
            raise typer.BadParameter("name one policy", param_hint="FILE")
        return self.file or self.policy or Path()

    def body(self) -> dict[str, Any] | None:
        """The request. Raises BadParameter when it cannot be read or is no JSON object."""
        import orjson

        if self.request is None:
            return None
        try:
            read = sys.stdin.buffer.read() if self.request == "-" else Path(self.request).read_bytes()
            body = orjson.loads(read)
        except OSError as error:
            raise typer.BadParameter(
                f"{self.request} cannot be read: {error.strerror}", param_hint="--request"
            ) from None
        except orjson.JSONDecodeError as error:
            raise typer.BadParameter(f"{self.request} is no JSON: {error}", param_hint="--request") from None
        if not isinstance(body, dict):
            raise typer.BadParameter(f"{self.request} is no JSON object", param_hint="--request")
        return body


@command(ExplainOptions)
def explain(options: ExplainOptions) -> int:
    """Say what a policy does, and what it would do with a request."""
    from orrouter.catalog.catalog import Catalog
    from orrouter.policy.explain import explain as explained_by
    from orrouter.policy.load import load_file
    from orrouter.policy.schema import read_policy

    body, tags = options.body(), tags_of(options.tag or ())
    policy = read_policy(load_file(options.place(), env=os.environ))
    told = explained_by(policy, Catalog(), options.name, body, tags)
    show.say(list(opening(told)))
    for stack in told.stacks:
        show.say(list(lines_of(stack)))
        if stack.targets:
            show.print_table(table_of(stack))
        show.say(list(remarks(stack)))
    return OK


def opening(told: Explained) -> Iterator[Line]:
    """The file, what it lacks, and where calls go."""
    yield Line(told.file, "bold")
    if told.unset:
        yield Line(f"not set: {', '.join(told.unset)}", "yellow")
    for calls, policy in told.routes:
        yield Line(f"{calls} -> {policy}")
    if told.chosen:
        yield Line(f"this request takes {told.chosen}: {told.because}", "bold")


def lines_of(stack: Stack) -> Iterator[Line]:
    """The layers of a policy, outermost first."""
    yield Line("")
    yield Line(f"policy {stack.name}, from the outermost layer inward", "bold")
    width = max(len(step.kind) for step in stack.steps)
    for step in stack.steps:
        added = " (always there)" if step.added else ""
        yield Line(f"  {step.kind:<{width}}  {step.says}{added}", "dim" if step.added else "")
    if stack.refused:
        yield Line(f"  refused: {stack.refused}", "red")
    if stack.targets:
        yield Line("asks, in this order:", "bold")


def table_of(stack: Stack) -> Any:
    """The targets of a policy."""
    made = show.table("", "model", "at", "price", "context", "takes", right=("context",), whole=("model", "at"))
    for number, target in enumerate(stack.targets, 1):
        style = "dim" if target.skipped else ""
        made.add_row(f" {number}", target.slug or "the default model", target.upstream, *_facts(target), style=style)
    return made


def remarks(stack: Stack) -> Iterator[Line]:
    """Who is asked only after some errors, who would be skipped, and what the request may cost at most."""
    for target in stack.targets:
        if target.when:
            yield Line(f"   {target.slug} only after {' or '.join(target.when)}")
        if target.skipped:
            yield Line(f"   {target.slug} is skipped: {target.skipped}", "yellow")
        if stack.limited and target.ceiling:
            style = "" if target.worst is not None else "yellow"
            yield Line(f"   {target.slug or 'the default model'}: {target.ceiling}", style)


def _facts(target: Candidate) -> tuple[str, str, str]:
    if target.model is None:
        return ("not known" if target.slug else "", "", "")
    context = target.model.context_length
    return (target.price or "not known", f"{context:,}" if context else "", ", ".join(target.abilities))
