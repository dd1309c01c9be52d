"""The scenes of `orrouter demo`: what is done to a call, and what must come of it.

Law: each scene misuses the fake upstream in one way, asks the router as any caller would, and holds the outcome
against what the fake itself has seen. A scene that goes otherwise raises `Otherwise`; none of them only claims.
"""

from __future__ import annotations

from typing import Final

from orrouter.cli.moneyscenes import MONEY_SCENES
from orrouter.cli.show import count, duration, money
from orrouter.cli.stage import FIRST, QUESTION, SECOND, THIRD, Otherwise, Scene, Stage, asked, must
from orrouter.core.errors import StreamBroken
from orrouter.core.facts import BreakerOpened, RetryScheduled
from orrouter.core.money import nano

POLICY: Final = f"""\
version: 1
upstreams:
  openrouter:
    base_url: ${{OPENROUTER_BASE_URL}}
    api_key: ${{OPENROUTER_API_KEY}}
routes:
  - {{policy: demo}}
policies:
  demo:
    - deadline: {{total: 8s}}
    - fallback: {{models: [{FIRST}, {SECOND}, {THIRD}]}}
    - retry: {{attempts: 3, initial: 100ms}}
    - breaker: {{consecutive: 4}}
    - deadline: {{first_token: 2s, stall: 2s}}
  money:
    - cost_cap: {{per_call: $0.50}}
    - budget: {{account: "team:{{team}}", limits: {{day: $1}}}}
    - fallback: {{models: [{FIRST}]}}
    - deadline: {{first_token: 2s, stall: 2s}}
"""
"""The policy of the demo."""

WORDS: Final = 8
"""Words after which a stream is broken."""
MOST_FAILURES: Final = 8
"""Failing calls after which a breaker should long have opened."""


async def plain(stage: Stage) -> str:
    """Nothing goes wrong."""
    stage.clear()
    done = await stage.chat()
    asked(stage, FIRST)
    must(bool(done.text), "the answer is empty")
    cost = None if done.cost is None else nano(done.cost)
    must(cost == stage.fake.true_cost(), f"it says it cost {money(cost)}")
    return f"{done.model} via {done.provider}, {money(cost)}: “{done.text[:20].rstrip()}…”"


async def patience(stage: Stage) -> str:
    """A rate limit that says how long to wait."""
    stage.clear()
    stage.fake.script(FIRST, ["429:1", "ok"])
    await stage.chat()
    asked(stage, FIRST, FIRST)
    first, second = stage.seen
    waited = second.at - first.at
    must(waited >= 1.0, f"it was asked again after {duration(waited)} already")
    return f"the answer of the same model, asked again {duration(waited)} later"


async def fallback(stage: Stage) -> str:
    """Two models that are overloaded."""
    stage.clear()
    stage.fake.always(FIRST, "503")
    stage.fake.always(SECOND, "503")
    done = await stage.chat()
    asked(stage, FIRST, SECOND, THIRD)
    return f"the answer of {done.model}, third of the chain"


async def hidden(stage: Stage) -> str:
    """An error inside a 200."""
    stage.clear()
    stage.fake.script(FIRST, ["error_in_200", "ok"])
    done = await stage.chat()
    asked(stage, FIRST, FIRST)
    retries = [fact for fact in done.record.facts if isinstance(fact, RetryScheduled)]
    must(len(retries) == 1, "it was not taken for an error")
    return f"the answer: the 200 was recognised as {retries[0].error} and asked again"


async def silent(stage: Stage) -> str:
    """A stream that ends before its first word."""
    stage.clear()
    stage.fake.always(FIRST, "cut_before_first")
    done, text = await stage.stream()
    must(done.model == SECOND, f"{done.model} answered")
    must(text == done.text and bool(text), "the stream is not whole")
    cut = sum(one.model == FIRST for one in stage.seen)
    must(cut > 0, f"{FIRST} was not asked")
    return f"one whole stream of {len(text.split())} words, by {done.model}; nothing of the {cut} that were cut"


async def broken(stage: Stage) -> str:
    """A stream that breaks when its reader has seen a part."""
    stage.clear()
    stage.fake.script(FIRST, [f"cut_mid:{WORDS}", "ok"])
    text = ""
    try:
        async with stage.router.stream(QUESTION) as events:
            async for event in events:
                text += event.text
    except StreamBroken as error:
        must(error.partial == text and bool(text), "what had been said was lost")
        asked(stage, FIRST)
        return f"{len(text.split())} words, then StreamBroken, which holds them; nothing was asked again"
    raise Otherwise("the stream ended as if it were whole")


async def breaker(stage: Stage) -> str:
    """A model that keeps failing."""
    stage.clear()
    stage.fake.always(FIRST, "502")
    for _ in range(MOST_FAILURES):
        done = await stage.chat()
        if any(isinstance(fact, BreakerOpened) and fact.subject.endswith(FIRST) for fact in done.record.facts):
            break
    failures = sum(one.model == FIRST for one in stage.seen)
    must(failures > 0, f"{FIRST} was not asked")
    stage.begin()
    done = await stage.chat()
    asked(stage, SECOND)
    must(any(skip.model == FIRST for skip in done.record.skipped), "the record does not say that it was skipped")
    return f"the answer of {done.model}; after {count(failures, 'failure')} the first is not even asked"


async def record(stage: Stage) -> str:
    """Everything at once, while the breaker of the scene before is open."""
    stage.begin()
    stage.fake.script(SECOND, ["429_ms:300", "503"])
    done = await stage.chat()
    asked(stage, SECOND, SECOND, THIRD)
    must(len(done.record.attempts) == len(stage.seen), "the record misses a try")
    return f"the answer of {done.model}; its decision record:"


SCENES: Final = (
    Scene("plain call", "nothing goes wrong", plain),
    Scene("retry", "a 429 with Retry-After: 1", patience),
    Scene("fallback", "two models answer 503", fallback),
    Scene("hidden error", "a 200 whose body is an error", hidden),
    Scene("dead stream", "a stream is cut before its first word", silent),
    Scene("broken stream", f"a stream is cut after {WORDS} words", broken),
    *MONEY_SCENES,
    Scene("breaker", "a model fails again and again", breaker),
    Scene("all at once", "breaker open, then a 429, then a 503", record),
)
"""All of them, in order; the last one needs the one before it."""
