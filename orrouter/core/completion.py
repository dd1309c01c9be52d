"""The whole answer, as a caller sees it.

Law: a view of the OpenAI-shaped dict in `raw`, with what only we know beside it: the model asked, the provider,
the cost, the record. Nothing here reads the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orrouter.core.call import Attempt, Trail
from orrouter.core.events import first_choice, text_of
from orrouter.core.facts import Record
from orrouter.core.money import usd


class Completion:
    """An answer. `raw` is the OpenAI-shaped dict; the properties read it."""

    __slots__ = ("_record", "_trail", "attempt", "parsed", "raw")

    def __init__(self, raw: dict[str, Any], attempt: Attempt, trail: Trail) -> None:
        self.raw, self.attempt, self._trail = raw, attempt, trail
        self._record: Record | None = None
        self.parsed: Any = None
        """The answer as the pydantic model given as `response_format`; None without one."""

    @property
    def choice(self) -> dict[str, Any]:
        """The first choice; empty for answers without choices (embeddings, lists)."""
        return first_choice(self.raw)

    @property
    def message(self) -> dict[str, Any]:
        """The message of the first choice: role, content, tool_calls, reasoning, refusal, images, audio."""
        message = self.choice.get("message")
        return message if isinstance(message, dict) else {}

    @property
    def text(self) -> str:
        """What the first choice says; text parts joined when the content is a list."""
        return text_of(self.choice)

    @property
    def reasoning(self) -> str:
        """The reasoning text of the first choice."""
        return self.message.get("reasoning") or ""

    @property
    def refusal(self) -> str | None:
        """Why the model refused, in its words; None when it did not."""
        return self.message.get("refusal")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls of the first choice."""
        return self.message.get("tool_calls") or []

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended: stop, length, tool_calls, content_filter."""
        reason = self.choice.get("finish_reason")
        return reason if isinstance(reason, str) else None

    @property
    def id(self) -> str | None:
        """The generation's id at the upstream."""
        return self.raw.get("id") or self.attempt.generation_id

    @property
    def model(self) -> str:
        """The model that answered, which is the one billed."""
        return self.attempt.model or self.attempt.target.model

    @property
    def provider(self) -> str | None:
        """Who served the model, if the upstream said so."""
        return self.attempt.provider

    @property
    def usage(self) -> Mapping[str, Any]:
        """Tokens and cost as the upstream reported them; empty when it did not."""
        usage = self.raw.get("usage")
        return usage if isinstance(usage, dict) else {}

    @property
    def cost(self) -> Decimal | None:
        """USD that this answer cost, tries that failed before it not included; None when unknown. See `provenance`."""
        cost = self.attempt.cost
        return None if cost is None else usd(cost)

    @property
    def provenance(self) -> str:
        """How `cost` is known: `billed` by the upstream, `computed` from the usage, `unknown`."""
        return self.attempt.provenance or ("unknown" if self.attempt.cost is None else "billed")

    @property
    def held(self) -> Decimal | None:
        """USD that were held for the worst case of this answer; None under no limit."""
        return None if self.attempt.held is None else usd(self.attempt.held)

    @property
    def clamped(self) -> int | None:
        """To how many tokens a limit cut this answer, as `max_tokens`; None: to none."""
        return self.attempt.tokens

    @property
    def record(self) -> Record:
        """The decision record of the call: every try, skip and wait."""
        if self._record is None or self._record.outcome == "open":
            self._record = self._trail.record()
        return self._record

    @property
    def request_id(self) -> str:
        """The id under which this call stands in facts and logs."""
        return self._trail.request_id

    def __repr__(self) -> str:
        return f"Completion(model={self.model!r}, finish_reason={self.finish_reason!r}, text={self.text[:60]!r})"
