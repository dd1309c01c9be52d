"""`orrouter chat`: asks a question and prints the answer; standard output holds the answer and nothing else.

Law: options become one call of `Router.chat` or `Router.stream`. What is said about the answer goes to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrouter.cli import show
from orrouter.cli.command import OK, Calling, command, tags_of
from orrouter.core.errors import InvalidRequest, RouterError

if TYPE_CHECKING:
    from orrouter.core.completion import Completion
    from orrouter.core.facts import Record
    from orrouter.router import Router


@dataclass(frozen=True, kw_only=True)
class ChatOptions(Calling):
    """What `chat` is asked."""

    prompt: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")]
    model: Annotated[str | None, typer.Option(help="The model, author/name, or policy/NAME for a policy.")] = None
    system: Annotated[str | None, typer.Option(help="The system message.")] = None
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE|URL", help="A picture to look at; may be given again.")
    ] = None
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer, in tokens.")] = None
    max_cost: Annotated[str | None, typer.Option(metavar="'$0.01'", help="The most that the answer may cost.")] = None
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag, as a budget may name it.")] = None
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer as it is written.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print the API's own JSON; with --stream one chunk a line.")] = (
        False
    )
    record: Annotated[bool, typer.Option("--record", help="Print the decision record: every try, skip, wait.")] = False

    def body(self) -> dict[str, Any]:
        """The request. Raises BadParameter for pictures that cannot be read and text that cannot be sent."""
        text = sys.stdin.read() if self.prompt == "-" else self.prompt
        if not text.strip():
            raise typer.BadParameter("there is nothing to ask", param_hint="PROMPT")
        body: dict[str, Any] = {"messages": messages(text, self.system, self.image or [])}
        if self.model is not None:
            body["model"] = self.model
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.max_cost is not None:
            body["max_cost"] = self.max_cost
        if self.tag:
            body["tags"] = tags_of(self.tag)
        return body


def messages(text: str, system: str | None, images: list[str]) -> list[dict[str, Any]]:
    """The conversation: the system's word, then the question with its pictures. Raises BadParameter."""
    from orrouter.content import image

    for said in (text, system or ""):
        if not said.isascii() and any("\ud800" <= sign <= "\udfff" for sign in said):
            raise typer.BadParameter("the text is not UTF-8", param_hint="PROMPT")
    try:
        pictures = [image(one) for one in images]
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint="--image") from error
    content: Any = [{"type": "text", "text": text}, *pictures] if pictures else text
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": content}]


@command(ChatOptions)
def chat(options: ChatOptions) -> int:
    """Ask a question and print the answer."""
    body = options.body()
    try:
        completion = asyncio.run(_ask(options, body))
    except RouterError as error:
        if options.json:
            show.print_json(_with_record(show.error_json(error), error.record, options), indent=not options.stream)
        elif options.record and error.record is not None:
            show.say(show.record_lines(error.record), err=True)
        raise
    _tell(options, completion)
    return OK


async def _ask(options: ChatOptions, body: dict[str, Any]) -> Completion:
    quiet = options.stream or options.log is not None
    with show.waiting("asking …", quiet=quiet) as heard:
        async with options.router(heard) as router:
            if options.stream:
                return await _streamed(options, router, body)
            return await router.chat(**body)


async def _streamed(options: ChatOptions, router: Router, body: dict[str, Any]) -> Completion:
    """Print the answer as it comes."""
    async with router.stream(**body) as events:
        try:
            async for event in events:
                if options.json:
                    show.print_json(event.data, indent=False)
                elif event.text:
                    show.answer(event.text, end="")
        finally:
            if events.partial and not options.json:
                show.answer("")
        return events.completion


def _tell(options: ChatOptions, completion: Completion) -> None:
    """Print what has not been printed yet: the answer, and what there is to say about it."""
    if options.json:
        if options.stream:
            if options.record:
                show.print_json({"record": show.record_json(completion.record)}, indent=False)
        else:
            show.print_json(_with_record(completion.raw, completion.record, options))
        return
    if not options.stream or not completion.text:
        show.answer(spoken(completion))
    told = show.record_lines(completion.record) if options.record else []
    show.say([*told, show.Line(show.summary(completion), "dim")], err=True)


def spoken(completion: Completion) -> str:
    """What an answer says: its text, or why there is none, or the whole message where it is no text."""
    import orjson

    if completion.text or completion.refusal:
        return completion.text or completion.refusal or ""
    return orjson.dumps(completion.message, option=orjson.OPT_INDENT_2).decode()


def _with_record(told: dict[str, Any], record: Record | None, options: ChatOptions) -> dict[str, Any]:
    if not options.record or record is None:
        return told
    return {**told, "record": show.record_json(record)}
