"""Decides what each request is answered: which model and provider serve it, whether it can be paid, what goes wrong.

Law: no socket, no clock: the time comes with the request. It keeps the table of models, the scenarios and what
tests arranged to be said.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orrouter.core import money
from orrouter.testkit import failures
from orrouter.testkit.answers import Turn
from orrouter.testkit.ask import Ask
from orrouter.testkit.failures import Failure
from orrouter.testkit.faults import PREFIX, Scenarios, parse_fault
from orrouter.testkit.plans import Plan, refused
from orrouter.testkit.routing import route
from orrouter.testkit.speech import compose
from orrouter.testkit.table import VARIANTS, FakeModel, FakeProvider, default_models, fault_model

Speaker = Callable[[Ask], "str | None"]
"""Says what is answered to a request, or None for the usual."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What seldom differs: money, the index of generations, the path of the key, the pace of streams.

    `credits` is the balance in USD (None: endless); `generation_misses` and `generation_delay` (seconds) hide a
    generation after its end; `key_paths` are those of `key` and `auth/key` that exist; `beat` is the time between
    keep-alive comments and `pace` that between two deltas, both in seconds.
    """

    credits: str | None = None
    generation_misses: int = 0
    generation_delay: float = 0.0
    key_paths: tuple[str, ...] = ("key",)
    beat: float = 1.0
    pace: float = 0.0


USUAL = Rules()


@dataclass(frozen=True, slots=True)
class Decision:
    """The reply to a request as steps, the fault that made it, and the model and provider that were asked last."""

    plan: Plan
    fault: str = ""
    model: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class SoFar:
    """What surrounds a request: its generation, the epoch second, nano-USD spent before, the models tried before."""

    generation: str
    now: float
    spent: int
    tried: tuple[Mapping[str, Any], ...] = ()


class Desk:
    """Answers requests, one after the other."""

    def __init__(self, rules: Rules, seed: int) -> None:
        self.models = {one.slug: one for one in default_models()}
        self.scenarios = Scenarios()
        self.sayings: dict[str, str] = {}
        self.speaker: Speaker | None = None
        self._credits = None if rules.credits is None else money.nano(rules.credits)
        self._dice = random.Random(seed)

    def decide(self, ask: Ask, now: float, spent: int) -> Decision:
        """The reply at epoch second `now`, when `spent` nano-USD were charged before.

        The models of the request are tried in order, as OpenRouter does: an error moves on, the last one's stays.
        """
        generation = self._generation_id(now)
        unknown = next((slug for slug in ask.slugs if self.model(slug) is None), None)
        if unknown is not None:
            return Decision(refused(_unknown(unknown), generation))
        decision = Decision(refused(failures.no_models(), generation))
        tried: list[Mapping[str, Any]] = []
        for slug in ask.slugs:
            decision = self._serve(ask, slug, SoFar(generation, now, spent, tuple(tried)))
            if decision.plan.status < 400:
                break
            tried.append({"provider": decision.provider, "model": slug, "status": decision.plan.status})
        return decision

    def model(self, slug: str) -> FakeModel | None:
        """The model behind a slug: as listed, by its fault, or the one that a variant (`:nitro`) belongs to."""
        base, _, variant = slug.partition(":")
        if slug.startswith(PREFIX):
            return fault_model(slug) if _is_fault(slug.removeprefix(PREFIX)) else None
        return self.models.get(slug) or (self.models.get(base) if variant in VARIANTS else None)

    def _serve(self, ask: Ask, slug: str, so_far: SoFar) -> Decision:
        """The reply of one model."""
        model = self.model(slug)
        assert model is not None
        if model.reasoning == "mandatory" and ask.refuses_reasoning:
            return Decision(refused(failures.reasoning_is_mandatory(), so_far.generation))
        provider = route(ask, model, slug.partition(":")[2])
        if isinstance(provider, Failure):
            return Decision(refused(provider, so_far.generation))
        broke = self._broke(ask, provider, so_far.spent)
        if broke is not None:
            return Decision(refused(broke, so_far.generation))
        step = self.scenarios.next(slug, provider.tag)
        answer = compose(ask, model, self._said(ask, slug), provider.max_output)
        metadata = _metadata(ask, model, provider, so_far) if ask.wants_metadata else None
        turn = Turn(ask, model, provider, answer, so_far.generation, so_far.now, metadata)
        return Decision(step.play(turn), "" if step.text == "ok" else step.text, model.slug, provider.name)

    def _said(self, ask: Ask, slug: str) -> str | None:
        spoken = self.speaker(ask) if self.speaker is not None else None
        return self.sayings.get(slug) if spoken is None else spoken

    def _broke(self, ask: Ask, provider: FakeProvider, spent: int) -> Failure | None:
        """The 402 of a balance that cannot pay the longest possible answer, or None."""
        if self._credits is None or not any(provider.prices):
            return None
        left = self._credits - spent
        return unpaid(left, provider, ask.prompt_tokens, ask.max_tokens or provider.max_output)

    def _generation_id(self, now: float) -> str:
        letters = string.ascii_letters + string.digits
        return f"gen-{int(now)}-{''.join(self._dice.choices(letters, k=20))}"


def unpaid(left: int, provider: FakeProvider, prompt: int, most: int) -> Failure | None:
    """What OpenRouter says when `left` nano-USD do not pay a prompt and an answer of at most so many tokens."""
    if left <= 0:
        return failures.no_credits()
    if provider.cost(prompt, 0) > left:
        price = provider.prices[0] * money.NANO
        return failures.prompt_too_dear(prompt, int(left / price))
    if provider.cost(prompt, most) > left:
        price = provider.prices[1] * money.NANO
        return failures.cannot_afford(most, int((left - provider.cost(prompt, 0)) / price))
    return None


def _unknown(slug: str) -> Failure:
    """The 400 of an unknown slug; of a misspelt fault it says which there are."""
    failure = failures.not_a_model(slug)
    if not slug.startswith(PREFIX):
        return failure
    try:
        parse_fault(slug.removeprefix(PREFIX))
    except ValueError as error:
        return failures.failed(400, f"{slug} is not a valid model ID: {error}")
    return failure


def _is_fault(text: str) -> bool:
    try:
        parse_fault(text)
    except ValueError:
        return False
    return True


def _metadata(ask: Ask, model: FakeModel, provider: FakeProvider, so_far: SoFar) -> dict[str, Any]:
    """The `openrouter_metadata` of an answer."""
    shown = [{"provider": one.name, "model": model.slug, "selected": one is provider} for one in model.providers]
    served = {"provider": provider.name, "model": model.slug, "status": 200}
    return {
        "requested": ask.slugs[0],
        "strategy": "fallback" if len(ask.slugs) > 1 else "direct",
        "attempt": len(so_far.tried) + 1,
        "is_byok": provider.byok,
        "endpoints": {"total": len(shown), "available": shown},
        "attempts": [*so_far.tried, served],
    }
