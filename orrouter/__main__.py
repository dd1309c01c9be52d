"""`python -m orrouter`: the command line where its script is not on the path.

Law: nothing but the call.
"""

from __future__ import annotations

from orrouter.cli import main

if __name__ == "__main__":
    main()
