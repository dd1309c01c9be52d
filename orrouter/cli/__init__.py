"""Floor 7: the command line, `orrouter COMMAND`; one file a command.

Law: commands read what was asked, call the library as any user would, and print. What they need beyond it (typer,
rich) comes with the extra `cli` and is imported here first, inside `main`.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """The console script. Exits 0 when all went well, 1 when what was asked for failed, 2 for wrong usage or policy."""
    try:
        import typer  # noqa: F401  # only to say what is missing
    except ImportError:
        sys.stderr.write("the command line needs typer: pip install 'orrouter[cli]'\n")
        raise SystemExit(2) from None
    for stream in (sys.stdout, sys.stderr):
        # An answer may hold any character; one that the terminal cannot show must not cost the rest.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    from orrouter.cli.app import app

    app(prog_name="orrouter")
