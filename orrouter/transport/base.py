"""What a transport is, and the three laws of whoever answers a call.

A handler is `async (Call) -> Reply`. Whatever answers, a transport or a layer above it, keeps these:

1. **Primed.** It returns only with the first semantic event in hand: content, reasoning, refusal, tool call,
   audio, image, the body of an answer that is one JSON, or a `finish_reason` of length, content_filter or
   tool_calls with nothing said. Every failure before it is a plain exception from `await forward(call)`, so
   retry and fallback look the same for a chat and a stream. `stop` with nothing said is `EmptyReply`.
2. **Closed.** Whoever receives a reply and does not return it closes it.
3. **Once.** `on_end` runs exactly once for each who asked, on every road out, before the error reaches the
   layer above, and at once when the upstream is done already.

Law: the Protocol and the plain description of an upstream. No aiohttp here, no policy, no money.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from orrouter.core.call import Call, Dialect
from orrouter.core.reply import Reply
from orrouter.core.secret import Secret

CLOSED_HEADERS: Final = frozenset(
    {
        "accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host",
        "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that neither a call nor a policy may set: the transport writes them, a second one would break a request."""

KeySource = Secret | Callable[[], str] | None


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where calls go. Sizes in bytes; `key_file` is read again when it changes; no key: its targets are skipped.

    Headers and proxy stay out of the repr: passwords stand in them.
    """

    name: str
    base_url: str
    api_key: KeySource = None
    key_file: str | None = None
    dialect: Dialect = "openrouter"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    connections: int = 512
    max_body: int = 64 * 2**20

    @property
    def has_key(self) -> bool:
        """Whether there is a key to send, as far as can be told without asking for it."""
        return bool(self.api_key) or self.key_file is not None

    @property
    def key_name(self) -> str:
        """Tells this key from others in health and logs, and gives nothing away."""
        if isinstance(self.api_key, Secret):
            return self.api_key.name
        return f"{self.name}:key" if self.has_key else ""


class Transport(Protocol):
    """Answers calls from an upstream."""

    def __call__(self, call: Call, /) -> Awaitable[Reply]:
        """Ask the upstream of `call.target`; the three laws hold."""
        ...

    async def aclose(self) -> None:
        """Let go of every connection."""
        ...


class Road(Protocol):
    """What an exchange wants of the upstream it asks."""

    @property
    def max_body(self) -> int:
        """The largest answer in bytes."""
        ...

    def full(self) -> bool:
        """Whether every connection that the policy allows is in use."""
        ...

    def hide(self, error: BaseException) -> None:
        """Take the key out of an error in which the far end has echoed it."""
        ...
