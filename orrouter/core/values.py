"""Making a value that is a NamedTuple, where it is made for every call.

Law: one function. `made(End, (reason, usage, error))` is `End(reason, usage, error)` in a third of the time, without
its defaults and without a check of how many there are: so only where all fields are given in their order, and only on
the road.
"""

from __future__ import annotations

from typing import Final

made: Final = tuple.__new__
