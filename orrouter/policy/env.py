"""A policy without a file: what the environment alone says.

Law: a mapping in the shape of a policy file, so that nothing is treated in a second way.

`OPENROUTER_API_KEY` the key · `OPENROUTER_BASE_URL` · `OPENROUTER_SITE_URL`, `OPENROUTER_SITE_NAME` who we are ·
`OPENROUTER_TIMEOUT` milliseconds for a whole call · `OPENROUTER_DEFAULT_MODEL` where a call names none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orrouter.core.errors import PolicyError
from orrouter.policy.load import Document

BASE_URL: Final = "https://openrouter.ai/api/v1"
TIMEOUT_MS: Final = 120_000
FILE: Final = "the environment"
"""What errors call the policy that no file holds."""


def default_model(env: Mapping[str, str]) -> str:
    """The model of calls that name none, where no chain says otherwise; empty: OpenRouter's account default."""
    return env.get("OPENROUTER_DEFAULT_MODEL", "")


def policy_from_env(env: Mapping[str, str]) -> Document:
    """One upstream, one policy: total time, retries, a breaker, and clocks for each try. Raises PolicyError."""
    if not env.get("OPENROUTER_API_KEY"):
        hint = "set it, or run 'orrouter demo', which needs none"
        raise PolicyError("the environment has no OPENROUTER_API_KEY", hint=hint)
    upstream = {
        "base_url": env.get("OPENROUTER_BASE_URL") or BASE_URL,
        "api_key": env["OPENROUTER_API_KEY"],
        "site_url": env.get("OPENROUTER_SITE_URL") or None,
        "site_name": env.get("OPENROUTER_SITE_NAME") or None,
    }
    data = {
        "version": 1,
        "upstreams": {"openrouter": upstream},
        "policies": {
            "default": [
                {"deadline": {"total": f"{_timeout(env)}ms"}},
                {"retry": {}},
                {"breaker": {}},
                {"deadline": {"first_token": "15s", "stall": "30s"}},
            ]
        },
    }
    return Document(data, FILE, from_env=frozenset(("upstreams", "openrouter", name) for name in upstream))


def _timeout(env: Mapping[str, str]) -> int:
    text = env.get("OPENROUTER_TIMEOUT") or str(TIMEOUT_MS)
    if not re.fullmatch(r"0*[1-9][0-9]{0,11}", text):
        raise PolicyError(
            f"OPENROUTER_TIMEOUT must be whole milliseconds above 0, not {text!r}", hint="write 30000 for 30 seconds"
        )
    return int(text)
