"""`orrouter models`: which models there are, what they can do and what they cost.

Law: options become a choice among the catalog's models, which are printed. Nothing is asked of an upstream without
`--live`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrouter.cli import show
from orrouter.cli.command import FAILED, OK, Calling, command
from orrouter.core.errors import RouterError
from orrouter.core.money import parse_price

if TYPE_CHECKING:
    from orrouter.catalog.model import Model

MILLION = 1_000_000


class UseCaseName(StrEnum):
    """The words of `--for`; what they mean stands in `usecases.py`."""

    general = "general"
    coding = "coding"
    reasoning = "reasoning"
    vision = "vision"
    audio = "audio"
    fast = "fast"
    cheap = "cheap"
    free = "free"
    long_context = "long-context"


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(Calling):
    """What `models` is asked."""

    free: Annotated[bool, typer.Option("--free", help="Those that cost nothing.")] = False
    vision: Annotated[bool, typer.Option("--vision", help="Those that look at pictures.")] = False
    tools: Annotated[bool, typer.Option("--tools", help="Those that take tools.")] = False
    max_price: Annotated[
        str | None,
        typer.Option(metavar="$X", help="Those of which a million tokens, in or out, cost at most so much USD: 3."),
    ] = None
    context: Annotated[int | None, typer.Option(metavar="N", min=1, help="Those that read at least N tokens.")] = None
    use: Annotated[
        UseCaseName | None, typer.Option("--for", help="A few that fit a use case, best first.", case_sensitive=False)
    ] = None
    search: Annotated[str | None, typer.Option(metavar="WORD", help="Those whose name holds the word.")] = None
    live: Annotated[bool, typer.Option("--live", help="Ask the upstream for its list, now.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False

    def most(self) -> Decimal | None:
        """USD a token at most. Raises BadParameter."""
        if self.max_price is None:
            return None
        text = self.max_price.strip().removeprefix("$")
        try:
            return parse_price(f"${text}" if "/" in text else f"${text}/M")
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--max-price") from error

    def fits(self, model: Model, most: Decimal | None) -> bool:
        """Whether a model is as asked; what is not known of it does not count as given."""
        wants = (
            not self.free or model.is_free,
            not self.vision or model.takes("image") is True,
            not self.tools or model.supports("tools") is True,
            most is None or _within(model, most),
            self.context is None or (model.context_length or 0) >= self.context,
            self.search is None or self.search.lower() in f"{model.id} {model.name}".lower(),
        )
        return all(wants)


def _within(model: Model, most: Decimal) -> bool:
    prompt, completion = model.price.prompt, model.price.completion
    return prompt is not None and completion is not None and max(prompt, completion) <= most


@command(ModelsOptions)
def models(options: ModelsOptions) -> int:
    """List models: what they can do and what they cost."""
    most = options.most()
    every, told = asyncio.run(_live(options)) if options.live else _bundled()
    found = choose(options, every, most)
    if options.json:
        show.print_json([row_json(model) for model in found])
        return OK if found else FAILED
    if not found:
        show.say([show.Line(f"no model fits; {len(every)} are known ({told}): ask for less")], err=True)
        return FAILED
    show.print_table(table_of(found))
    use = f" for {options.use.value}: {_says(options.use)}" if options.use is not None else ""
    last = f"{show.count(len(found), 'model')} of {len(every)}{use}; {told}; prices in USD a million tokens"
    show.say([show.Line(last, "dim")], err=True)
    return OK


def choose(options: ModelsOptions, every: Iterable[Model], most: Decimal | None) -> list[Model]:
    """The models as asked, by name, or best first for a use case."""
    found = [model for model in every if options.fits(model, most)]
    if options.use is None:
        return sorted(found, key=lambda model: model.id)
    from orrouter.cli.usecases import USE_CASES, recommended

    return recommended(USE_CASES[options.use.value], found)


def _says(use: UseCaseName) -> str:
    from orrouter.cli.usecases import USE_CASES

    return USE_CASES[use.value].says


def _bundled() -> tuple[tuple[Model, ...], str]:
    from orrouter.catalog.catalog import Catalog

    catalog = Catalog()
    return catalog.models(), f"the bundled list of {catalog.as_of}"


async def _live(options: ModelsOptions) -> tuple[tuple[Model, ...], str]:
    """What the upstream lists now. Raises RouterError."""
    with show.waiting("asking for the list of models …", quiet=options.log is not None) as heard:
        async with options.router(heard) as router:
            try:
                return await router.models(), "the upstream's list of now"
            except ValueError as error:
                raise RouterError(str(error)) from error


def table_of(found: Iterable[Model]) -> Any:
    """The models as a table."""
    columns = ("model", "context", "in", "out", "reads", "tools", "thinks")
    made = show.table(*columns, right=("context", "in", "out"), whole=("model",))
    for model in found:
        made.add_row(
            model.id,
            _tokens(model.context_length),
            model.price.show("prompt").removesuffix("/M"),
            model.price.show("completion").removesuffix("/M"),
            " ".join(sorted(model.input_modalities or {"?"}, key=_order)),
            _known(model.supports("tools")),
            _known(model.reasons()),
        )
    return made


def _order(modality: str) -> tuple[bool, str]:
    return modality != "text", modality


def _known(answer: bool | None) -> str:
    return {True: "yes", False: "", None: "?"}[answer]


def _tokens(tokens: int | None) -> str:
    """`128k`, `1M`, `?`."""
    if tokens is None:
        return "?"
    return f"{tokens / MILLION:.3g}M" if tokens >= MILLION else f"{tokens / 1000:.3g}k"


def row_json(model: Model) -> dict[str, Any]:
    """A model as plain values; prices are exact decimals in text, USD a token; what is not known is null."""
    return {
        "id": model.id,
        "name": model.name,
        "context_length": model.context_length,
        "max_completion_tokens": model.max_completion_tokens,
        "prompt_price": _exact(model.price.prompt),
        "completion_price": _exact(model.price.completion),
        "free": model.is_free,
        "input_modalities": _sorted(model.input_modalities),
        "output_modalities": _sorted(model.output_modalities),
        "tools": model.supports("tools"),
        "reasoning": model.reasons(),
    }


def _exact(price: Decimal | None) -> str | None:
    return None if price is None else f"{price:f}"


def _sorted(words: frozenset[str] | None) -> list[str] | None:
    return None if words is None else sorted(words)
