"""Durations and sizes as people write them: `250ms`, `1.5s`, `2m`, `20MiB`.

Law: grammar only; what a duration is for is said where it is an option. Money has a module of its own.
"""

from __future__ import annotations

import math
import re

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>B|KB|KiB|MB|MiB|GB|GiB)", re.ASCII)
_BYTES = {"B": 1, "KB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def parse_duration(text: str) -> float:
    """`250ms`, `1.5s`, `2m`, `1h`, `7d` as seconds. Raises ValueError; a bare number has no unit and is refused."""
    match = _DURATION.fullmatch(text.strip())
    seconds = math.inf if match is None else float(match["number"]) * _SECONDS[match["unit"]]
    if seconds == math.inf:
        raise ValueError(f"{text!r} is no duration: write 250ms, 1.5s, 2m, 1h or 7d")
    return seconds


def parse_size(text: str) -> int:
    """`20MiB`, `64KB` as bytes, rounded down. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: write 512KiB, 20MiB or 1GB")
    whole, _, rest = match["number"].partition(".")
    return int(whole + rest) * _BYTES[match["unit"]] // int("1" + "0" * len(rest))


def show_duration(seconds: float) -> str:
    """Seconds for people: `250ms`, `1.5s`, `2m`, `1h30m`, `7d`."""
    if round(seconds * 1000) < 1000:
        return f"{round(seconds * 1000)}ms"
    if round(seconds, 2) < 60:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    whole, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
