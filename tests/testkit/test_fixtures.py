"""The pytest plugin."""

from __future__ import annotations

import subprocess
import sys
import urllib.request


def test_the_fixture_is_a_started_server(fake_openrouter):
    """`fake_openrouter` answers at its address."""
    with urllib.request.urlopen(f"{fake_openrouter.url}/models", timeout=5) as reply:
        assert 200 == reply.status


def test_the_plugin_is_light():
    """Importing the plugin loads no server."""
    code = "import sys, orrouter.testkit.fixtures; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False" == done.stdout.strip()
