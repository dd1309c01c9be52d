"""Which process this is: how many forks lie behind it, counted here, because asking the system is slow on the road.

Law: one number. What must not be shared with a parent remembers the number it was made under, and compares.
"""

from __future__ import annotations

import os
from typing import Final

FORKS: Final = [0]
"""`FORKS[0]` goes up by one in each child, for whoever forks by way of Python."""


def _forked() -> None:
    FORKS[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
