"""The pytest plugin: whoever installs orrouter has the fixture `fake_openrouter`.

Law: this module is imported at the start of every test run of every project that has orrouter installed, so it
imports nothing but pytest. The server runs in a thread of its own: synchronous tests can use it, and asynchronous
ones need no plugin for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orrouter.testkit.server import FakeOpenRouter


@pytest.fixture
def fake_openrouter() -> Iterator[FakeOpenRouter]:
    """A started `FakeOpenRouter`, new for each test."""
    from orrouter.testkit.server import FakeOpenRouter

    with FakeOpenRouter.in_thread() as fake:
        yield fake
