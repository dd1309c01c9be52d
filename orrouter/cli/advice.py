"""What to do about an error, for the person at the terminal.

Law: one sentence for each code of `core/errors.py`; a class without one has that of its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orrouter.core.errors import RouterError

ADVICE: Final[Mapping[str, str]] = {
    "refused": "nothing was sent and nothing was billed: try again when the reason is gone",
    "budget_exceeded": "nothing was sent: raise the account's limit, wait for its window, or ask a cheaper model",
    "cost_cap_exceeded": "nothing was sent: raise the cap, lower max_tokens, or ask a cheaper model",
    "unpriced": "nothing was sent: write the option of `reserve` that it names, or name a model with a price",
    "circuit_open": "the model failed too often just now: wait, or add a further model to the chain",
    "cooling_down": "the upstream asked for a pause: wait, or add a further model to the chain",
    "limit_reached": "a limit of the policy has no room now: wait, or raise it",
    "model_not_allowed": "name a model of the policy's chain, or write `open: true` in its fallback",
    "missing_tag": "give the call the tag that the policy's account names",
    "ledger_unavailable": "nothing was sent: see to the store that the policy's ledger names",
    "upstream_error": "try again; `--record` shows every try",
    "rate_limited": "wait as long as it says, or add a further model to the chain",
    "overloaded": "try again in a moment, or add a further model to the chain",
    "upstream_timeout": "try again, or raise the clock that it names in the policy's deadline",
    "connection_failed": "look at the network and the upstream's base_url; `orrouter doctor` asks it",
    "server_error": "try again in a moment, or add a further model to the chain",
    "empty_reply": "ask again; a model that says nothing may have run out of max_tokens",
    "stream_broken": "with --stream what was said so far stands above; ask again for the whole answer",
    "invalid_request": "change the request as the message says; at Not Found, the base_url",
    "context_overflow": "shorten the prompt, or add a model with a larger context to the chain",
    "auth_failed": "set a valid key where the policy reads it; https://openrouter.ai/keys lists yours",
    "credits_exhausted": "add credits at https://openrouter.ai/settings/credits, or lower max_tokens",
    "key_limit_reached": "raise the key's own limit at https://openrouter.ai/settings/keys",
    "moderated": "the content itself was refused: change the prompt",
    "model_not_found": "look for its name with `orrouter models --search WORD`",
    "no_route": "loosen the provider preferences of the policy, or name another model",
    "cap_reached": "the upstream wrote more than it was asked for: raise max_tokens, or ask another model",
    "output_invalid": "ask again, or make the schema simpler",
    "deadline_exceeded": "raise the policy's `deadline: {total: …}`, or ask a faster model",
}


def advice_for(error: RouterError) -> str:
    """What to do about it; empty where only the message itself can say."""
    for kind in type(error).__mro__:
        found = ADVICE.get(getattr(kind, "code", ""))
        if found is not None:
            return found
    return ""
