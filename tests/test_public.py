"""The public face: its names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import orrouter


def test_every_public_name_can_be_had():
    """Each name of __all__ is found where the table says, and the list is sorted and without repeats."""
    assert sorted(set(orrouter.__all__)) == orrouter.__all__
    assert all(getattr(orrouter, name) is not None for name in orrouter.__all__)


def test_the_table_and_the_list_name_the_same():
    """No name is public in one place and unknown in the other."""
    assert set(orrouter.__all__) == set(orrouter._PLACES)


def test_an_unknown_name_is_an_attribute_error():
    """A typo is told as Python tells it."""
    assert not hasattr(orrouter, "Rooter")


def test_importing_costs_no_heavy_module():
    """`import orrouter` imports neither aiohttp nor pydantic nor structlog, and no module of the house but itself."""
    program = (
        "import sys, orrouter; "
        "print([name for name in ('aiohttp', 'pydantic', 'structlog', 'yaml', 'tenacity', 'orjson') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "[]" == shown.strip()
