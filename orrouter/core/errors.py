"""The errors are the vocabulary: what went wrong, by what the person or layer who catches it should do.

Law: only the tree lives here, with what each class means for the next step. Which bytes become which
class is decided in `wire/faults.py` and nowhere else; what is then done is decided in the layers.

::

    RouterError
    ├── PolicyError                 the policy file, or what was asked of it, is wrong
    ├── Refused                     we said no: nothing was sent
    │   ├── BudgetExceeded  CostCapExceeded          too dear; a cheaper target may fit
    │   ├── CircuitOpen  CoolingDown  LimitReached   not now; another target may serve
    │   └── ModelNotAllowed  MissingTag  LedgerUnavailable  Unpriced
    ├── UpstreamError               the far end, or the road to it, failed
    │   ├── Transient               the same request may succeed later or elsewhere
    │   │   ├── RateLimited  Overloaded  UpstreamTimeout  ConnectionFailed
    │   │   └── ServerError  EmptyReply  StreamBroken
    │   └── Rejected                the same request will fail again there
    │       ├── InvalidRequest  ContextOverflow  Moderated  ModelNotFound  NoRoute
    │       └── AuthFailed  CreditsExhausted  KeyLimitReached
    ├── CapReached                  a stream went on beyond what was held for it, and was cut
    ├── OutputInvalid               the answer does not fit the type asked for
    └── DeadlineExceeded            the whole call ran out of its time
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orrouter.core.call import Trail
    from orrouter.core.facts import AttemptRecord, Record

Billed = Literal["no", "maybe", "yes"]
"""Whether the upstream may have charged for the try that failed."""

Again = Literal["no", "once", "last_once", "yes"]
"""How often the same target may be asked again: `last_once` only where no other target is left."""

Onward = Literal["never", "always", "larger_context", "other_key", "cheaper"]
"""To which further target of a chain this error may lead."""

Scope = Literal["target", "provider", "free", "key"]
"""Whom a limit concerns: this model, one provider of it, all free models of the key, the whole key."""


class RouterError(Exception):
    """Whatever orrouter raises. `code` is its word in YAML, metrics and gateway."""

    code: ClassVar[str] = "router_error"
    http_status: ClassVar[int] = 500
    onward: Onward = "never"
    retry_after: float | None = None
    """Seconds after which it may go better; None where nobody knows."""
    trail: Trail | None = None
    _record: Record | None = None

    @property
    def message(self) -> str:
        """What happened, without the place."""
        return str(self.args[0]) if self.args else self.code

    def __str__(self) -> str:
        return self.message if self.code == "router_error" else f"{self.code}: {self.message}"

    @property
    def record(self) -> Record | None:
        """The decision record of the call that failed; None before a call had begun."""
        if self.trail is not None and (self._record is None or self._record.outcome == "open"):
            self._record = self.trail.record()
        return self._record

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """Every try of the call, in order."""
        record = self.record
        return record.attempts if record is not None else ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, so that a subclass may have any constructor; the live trail becomes its record."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("trail", "_record")}
        record = self.record
        if record is not None:
            state["_record"] = record
        return _rebuild, (type(self), self.args, state)


def _rebuild(kind: type[RouterError], args: tuple[Any, ...], state: dict[str, Any]) -> RouterError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class PolicyError(RouterError):
    """A policy file or value is wrong; says where (file, line and column from 1) and what would be right."""

    code = "policy_error"

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, column: int = 0, key: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.file, self.line, self.column, self.key, self.hint = file, line, column, key, hint

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.message}{_tail(self.hint)}" if place else f"{self.message}{_tail(self.hint)}"


def _tail(hint: str) -> str:
    return f"; {hint}" if hint else ""


class Refused(RouterError):
    """We said no before any byte left: nothing was sent, nothing can have been billed."""

    code = "refused"
    http_status = 503
    onward: Onward = "never"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetExceeded(Refused):
    """An account has no room for the worst case of this request; sums in nano-USD.

    `account` and `period` name the window with the least room; `resets_at` in unix seconds, None for a lifetime.
    """

    code, http_status, onward = "budget_exceeded", 402, "cheaper"
    account = period = ""
    limit = remaining = needed = 0
    resets_at: float | None = None


class CostCapExceeded(Refused):
    """The call's own cap has no room for the worst case of this request; sums in nano-USD."""

    code, http_status = "cost_cap_exceeded", 402
    onward: Onward = "cheaper"
    cap = remaining = needed = 0


class Unpriced(Refused):
    """Under a limit, the worst case of this request at this target cannot be known: a price or a field is unknown."""

    code, http_status, onward = "unpriced", 400, "always"


class CircuitOpen(Refused):
    """The breaker of this target is open; `retry_after` says when it will be probed (seconds)."""

    code, onward = "circuit_open", "always"


class CoolingDown(Refused):
    """The target asked for a pause that is longer than this call may wait; `retry_after` in seconds."""

    code, onward = "cooling_down", "always"


class LimitReached(Refused):
    """A limit of our own (concurrency, requests, tokens) has no room now."""

    code, http_status, onward = "limit_reached", 429, "always"


class ModelNotAllowed(Refused):
    """The policy does not list the model that the caller named."""

    code, http_status = "model_not_allowed", 403


class MissingTag(Refused):
    """An account is named by a tag that the call does not bear."""

    code, http_status = "missing_tag", 400


class LedgerUnavailable(Refused):
    """The store of the budgets cannot be asked, and the policy says fail_closed."""

    code = "ledger_unavailable"


class UpstreamError(RouterError):
    """The far end, or the road to it, failed.

    `again`, `onward`, `counted` and `billed` are the verdict: whether the same target may be asked again,
    whether a chain goes on, whether the breaker counts it, whether it may have been charged.
    """

    code = "upstream_error"
    http_status = 502
    again: Again = "no"
    onward: Onward = "always"
    counted: bool = False
    billed: Billed = "no"
    provider: str | None = None
    model: str | None = None
    upstream: str | None = None
    request_id: str | None = None
    """Ours, as in every fact."""
    upstream_request_id: str | None = None
    """The upstream's own, for its support."""
    generation_id: str | None = None
    scope: Scope = "target"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        raw: object = None,
        billed: Billed | None = None,
        again: Again | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.raw = status, raw
        if billed is not None:
            self.billed = billed
        if again is not None:
            self.again = again
        if retry_after is not None:
            self.retry_after = retry_after

    def at(self, **place: str | None) -> Self:
        """Fill in what is still unknown of provider, model, upstream, request_id, generation_id."""
        for name, value in place.items():
            if value is not None and getattr(self, name) is None:
                setattr(self, name, value)
        return self

    def __str__(self) -> str:
        return super().__str__() + _place(self)


def _place(error: UpstreamError) -> str:
    """The bracket behind a message: model, provider, upstream, status, request, as far as they are known."""
    known = {
        "model": error.model,
        "provider": error.provider,
        "upstream": error.upstream,
        "HTTP": error.status,
        "request": error.request_id,
    }
    words = [f"{name} {value}" for name, value in known.items() if value]
    return f" ({', '.join(words)})" if words else ""


class Transient(UpstreamError):
    """The same request may succeed later, or elsewhere."""

    code = "transient"
    counted = True


class RateLimited(Transient):
    """Asked too often. `retry_after` in seconds; `scope` says who has to wait."""

    code, http_status, again, counted = "rate_limited", 429, "yes", False


class Overloaded(Transient):
    """The provider has no capacity now."""

    code, http_status, again = "overloaded", 503, "last_once"


class UpstreamTimeout(Transient):
    """No answer within the clock named in the message; it may have been billed."""

    code, http_status, billed = "upstream_timeout", 504, "maybe"


class ConnectionFailed(Transient):
    """No connection, or one lost before the answer had begun; billed `no` only if nothing was sent."""

    code, again, billed = "connection_failed", "yes", "no"


class ServerError(Transient):
    """The upstream failed, or answered with something that is no answer."""

    code, again, billed = "server_error", "yes", "maybe"


class EmptyReply(Transient):
    """A finished answer in which nothing was said."""

    code, again, billed = "empty_reply", "yes", "maybe"


class StreamBroken(Transient):
    """An answer ended before it was finished; `partial` is what had been said."""

    code = "stream_broken"
    again: Again = "last_once"
    billed: Billed = "yes"
    partial: str = ""


class Rejected(UpstreamError):
    """The same request will fail again at this target."""

    code, http_status = "rejected", 400


class InvalidRequest(Rejected):
    """The request itself is wrong: the caller's fault, so the chain ends."""

    code, onward = "invalid_request", "never"


class ContextOverflow(Rejected):
    """The prompt does not fit the model's context; only a larger window helps."""

    code, onward = "context_overflow", "larger_context"


class AuthFailed(Rejected):
    """The key is missing, wrong or not permitted."""

    code, http_status, onward = "auth_failed", 401, "other_key"


class CreditsExhausted(Rejected):
    """The account cannot pay; `affordable` is how many tokens it could, if the upstream said so."""

    code, http_status, onward = "credits_exhausted", 402, "other_key"
    affordable: int | None = None


class KeyLimitReached(Rejected):
    """The key's own spend limit, or its workspace's, is used up."""

    code, http_status, onward = "key_limit_reached", 402, "other_key"
    affordable: int | None = None


class Moderated(Rejected):
    """The content was refused; never routed around unless the policy names it."""

    code, http_status, onward = "moderated", 403, "never"
    reasons: tuple[str, ...] = ()


class ModelNotFound(Rejected):
    """The upstream does not know the model."""

    code, http_status = "model_not_found", 404


class NoRoute(Rejected):
    """No provider is left for this model under the preferences sent; `step` names the filter."""

    code, http_status = "no_route", 404
    step: str | None = None


class CapReached(RouterError):
    """A stream was cut beyond the tokens held for: `partial` was said, `held` stays charged (nano-USD)."""

    code, http_status = "cap_reached", 402

    def __init__(self, message: str, *, partial: str = "", held: int = 0) -> None:
        super().__init__(message)
        self.partial, self.held = partial, held


class OutputInvalid(RouterError):
    """The answer does not fit the type asked for by `response_format`; `text` is the answer."""

    code, http_status = "output_invalid", 502

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class DeadlineExceeded(RouterError):
    """The whole call ran out of its time; `billed` as for the try that was cut."""

    code, http_status = "deadline_exceeded", 504
    billed: Billed = "maybe"
    partial: str = ""
    """What had been said when a stream was cut."""


def descendants(kind: type[RouterError] = RouterError) -> Iterator[type[RouterError]]:
    """`kind` and every class below it, from the root downward."""
    yield kind
    for child in kind.__subclasses__():
        yield from descendants(child)
