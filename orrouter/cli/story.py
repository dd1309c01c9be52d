"""Facts in words: one short sentence for each, as it stands in a record on the screen.

Law: pure; a kind of fact that nobody described here tells its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from orrouter.core import facts
from orrouter.core.money import show as show_money
from orrouter.core.units import show_duration

_SENTENCES: Final[dict[type[facts.Fact], Callable[[Any], str]]] = {
    facts.RetryScheduled: lambda fact: f"{fact.error}: asks again in {show_duration(fact.delay_s)}",
    facts.RetryDeclined: lambda fact: f"not asked again: {fact.reason}",
    facts.TokensLowered: lambda fact: f"asks again for at most {fact.max_tokens} tokens",
    facts.GateArmed: lambda fact: f"{fact.subject} asked for a pause of {show_duration(fact.for_s)}",
    facts.GateAwaited: lambda fact: f"waited {show_duration(fact.delay_s)} for {fact.model}",
    facts.TargetSkipped: lambda fact: f"skipped {fact.model}: {fact.reason}",
    facts.FallbackTaken: lambda fact: f"goes on to {fact.model}",
    facts.BreakerOpened: lambda fact: (
        f"breaker of {fact.subject} opened for {show_duration(fact.for_s)}: {fact.reason}"
    ),
    facts.BreakerHalfOpened: lambda fact: f"breaker of {fact.subject} lets one call through",
    facts.BreakerClosed: lambda fact: f"breaker of {fact.subject} closed",
    facts.ProviderIgnored: lambda fact: f"goes around {fact.provider}: {fact.reason}",
    facts.IgnoreDropped: lambda fact: f"no other provider was left: asks {', '.join(fact.providers)} after all",
    facts.EventsSkipped: lambda fact: f"{fact.count} broken events of the stream were skipped",
    facts.SpellingTranslated: lambda fact: f"{fact.old} is now spelled {fact.new}",
    facts.CallStarted: lambda fact: f"asks {fact.model or 'the default model'}",
    facts.AttemptStarted: lambda fact: f"asks {fact.model or fact.upstream}, try {fact.number}",
    facts.AttemptEnded: lambda fact: f"try {fact.number} ended: {fact.outcome}",
    facts.CallEnded: lambda fact: f"ended: {fact.outcome}",
    facts.CatalogRefreshed: lambda fact: f"{fact.models} models in the new list",
    facts.CatalogKept: lambda fact: f"the old list of models is kept: {fact.reason}",
    facts.TokensClamped: lambda fact: (
        f"a limit of {show_money(fact.room_nano)} buys {fact.max_tokens} of {fact.asked} tokens"
    ),
    facts.HoldTaken: lambda fact: (
        f"{show_money(fact.held_nano)} held"
        + (f" for {', '.join(fact.accounts)}" if fact.accounts else "")
        + (f" (an estimate: {fact.estimate})" if fact.estimate else "")
    ),
    facts.HoldSettled: lambda fact: (
        f"cost {show_money(fact.cost_nano)} of {show_money(fact.held_nano)} held ({fact.provenance})"
    ),
    facts.HoldSuspended: lambda fact: (
        f"nobody knows what it cost ({fact.reason}): {show_money(fact.held_nano)} stay charged"
    ),
    facts.HoldExceeded: lambda fact: (
        f"{fact.model} cost {show_money(fact.cost_nano)}, more than the {show_money(fact.held_nano)} held"
    ),
    facts.BudgetThresholdPassed: lambda fact: (
        f"{fact.account} has used {fact.percent} % of {show_money(fact.limit_nano)} ({fact.period})"
    ),
    facts.LedgerBypassed: lambda fact: (
        f"the ledger was passed by: {show_money(fact.held_nano)} for {', '.join(fact.accounts)} are not held"
    ),
    facts.LedgerTroubled: lambda fact: f"the ledger: {fact.message}",
    facts.HoldReconciled: lambda fact: (
        f"{fact.model or fact.upstream} cost {show_money(fact.cost_nano)} of {show_money(fact.held_nano)} held:"
        f" {fact.provenance}"
    ),
    facts.ReconcileFailed: lambda fact: (
        f"{fact.upstream or 'the ledger'} cannot tell unknown costs: {fact.error};"
        f" asks again in {show_duration(fact.retry_in_s)}"
    ),
    facts.PolicyReloaded: lambda fact: f"the policy was read again from {fact.file}",
}


def tell(fact: facts.Fact) -> str:
    """The fact as a sentence."""
    sentence = _SENTENCES.get(type(fact))
    if sentence is not None:
        return sentence(fact)
    told = ", ".join(f"{name} {value}" for name, value in vars(fact).items() if name not in ("request_id", "at_s"))
    return f"{type(fact).__name__}: {told}"
