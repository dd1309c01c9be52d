"""`orrouter init`: writes a commented policy to begin with.

Law: it copies one of the policies that ship, and never overwrites without being told to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from orrouter.cli import show
from orrouter.cli.command import FAILED, OK, command

_SCHEMA: Final = "# yaml-language-server:"
"""Where editors find the schema; it ships beside the policies and is not copied."""


class Template(StrEnum):
    """The policies that ship."""

    default = "default"
    resilient = "resilient"
    frugal = "frugal"


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """What `init` is asked."""

    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("orrouter.yaml")
    template: Annotated[Template, typer.Option(help="Which of the policies that ship.")] = Template.default
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="The file to write, by its option.")] = None
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False


@command(InitOptions)
def init(options: InitOptions) -> int:
    """Write a commented policy to begin with."""
    target = options.policy or options.file
    text = at_home(shipped(options.template.value), options.template.value, target)
    try:
        with target.open("w" if options.force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        show.say([show.Line(f"error: {target} is there already: name another file, or say --force", "red")], err=True)
        return FAILED
    except OSError as error:
        show.say([show.Line(f"error: {target} cannot be written: {error.strerror}", "red")], err=True)
        return FAILED
    show.say(
        [
            show.Line(f"wrote {target}, the policy {options.template.value!r}"),
            show.Line(f" next: set OPENROUTER_API_KEY, then: orrouter check {target}"),
            show.Line(f'       orrouter chat "Hello" --policy {target}'),
        ]
    )
    return OK


def shipped(template: str) -> str:
    """The text of a policy that ships. Raises FileNotFoundError when the package was installed in part."""
    text: str = (_folder() / f"{template}.yaml").read_text(encoding="utf-8")
    return text


def at_home(text: str, template: str, target: Path) -> str:
    """The text as it stands in its new place: its own name in the examples, and no schema beside it."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(_SCHEMA)]
    while lines and lines[0].strip() == "#":
        del lines[0]
    return "".join(lines).replace(f"config/{template}.yaml", str(target))


def _folder() -> Any:
    """Where the policies are: in the package once it is built, beside it in a checkout."""
    package = files("orrouter")
    inside = package / "config"
    return inside if inside.is_dir() else Path(str(package)).parent / "config"
