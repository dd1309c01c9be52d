"""In which steps a reply leaves: headers, bytes, pauses, silence, a cut. A reply is a list, so a fault edits a list.

Law: values and pure functions. `player.py` alone performs the steps on a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from orrouter.testkit import answers
from orrouter.testkit.answers import Kind, Turn
from orrouter.testkit.failures import Failure

COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
JSON = {"Content-Type": "application/json"}

Bills = Literal["full", "produced", "nothing"]


@dataclass(frozen=True, slots=True)
class Start:
    """The status line and the headers leave."""


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes leave; they carry so many completion tokens."""

    data: bytes
    kind: Kind = "body"
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing happens for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing happens until the client leaves; `beat` is sent every second meanwhile."""

    beat: bytes = b""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends in mid-reply, politely or by a reset."""

    reset: bool = False


Act = Start | Send | Wait | Hang | Cut


@dataclass(frozen=True, slots=True)
class Plan:
    """A reply as steps. `bills` says what a reply that came to its end is charged; without a `turn` nothing ever is."""

    status: int
    headers: Mapping[str, str]
    acts: tuple[Act, ...]
    bills: Bills = "full"
    turn: Turn | None = None

    def acting(self, *acts: Act, bills: Bills | None = None) -> Plan:
        """The same reply by other steps."""
        return replace(self, acts=acts, bills=bills or self.bills)


Play = Callable[[Turn, float], Plan]


@dataclass(frozen=True, slots=True)
class Fault:
    """A named way in which a reply goes wrong. `says` is for people; `usual` is the argument when none is given."""

    name: str
    says: str
    play: Play
    usual: float = 0.0


def honest(turn: Turn) -> Plan:
    """The reply when nothing goes wrong."""
    own = {"X-Generation-Id": turn.generation_id}
    if turn.ask.stream:
        return Plan(200, {**STREAM, **own}, (Start(), *_events(turn)), turn=turn)
    return whole(turn, answers.body(turn))


def whole(turn: Turn, json: Mapping[str, Any]) -> Plan:
    """One JSON object as the whole reply to a turn."""
    headers = {**JSON, "X-Generation-Id": turn.generation_id}
    return Plan(200, headers, (Start(), Send(orjson.dumps(json), "body", turn.answer.completion_tokens)), turn=turn)


def billed(plan: Plan, produced: int, *, done: bool) -> int:
    """Nano-USD that the upstream charges for a reply that carried `produced` completion tokens until it ended.

    One that did not come to its end (cut, or left by the client) is charged for what was produced when it streamed
    and the provider can be cancelled, else in full.
    """
    if plan.turn is None or plan.bills == "nothing":
        return 0
    answer, provider = plan.turn.answer, plan.turn.provider
    in_full = plan.bills == "full" if done else not (plan.turn.ask.stream and provider.cancellable)
    return provider.cost(answer.prompt_tokens, answer.completion_tokens if in_full else produced)


def refused(failure: Failure, generation_id: str = "") -> Plan:
    """A failure as a reply; it is never charged."""
    own = {"X-Generation-Id": generation_id} if generation_id else {}
    acts: tuple[Act, ...] = (Start(), Send(failure.data)) if failure.data else (Start(),)
    return Plan(failure.status, {**JSON, **own, **failure.headers}, acts, "nothing")


def event(json: Mapping[str, Any], kind: Kind = "delta", tokens: int = 0) -> Send:
    """JSON as one server-sent event."""
    return Send(b"data: " + orjson.dumps(json) + b"\n\n", kind, tokens)


def rewritten(plan: Plan, rewrite: Callable[[Send], Iterable[Act]]) -> Plan:
    """The reply with each step that sends bytes replaced by other steps."""
    acts = ((act,) if not isinstance(act, Send) else rewrite(act) for act in plan.acts)
    return plan.acting(*(step for steps in acts for step in steps))


def without(plan: Plan, *kinds: Kind) -> Plan:
    """The reply without the bytes of some kinds."""
    return plan.acting(*(act for act in plan.acts if not (isinstance(act, Send) and act.kind in kinds)))


def before(plan: Plan, *acts: Act, kinds: tuple[Kind, ...] = ("delta", "finish", "body")) -> Plan:
    """The reply with steps put before the first bytes that say something."""
    place = next(
        (at for at, act in enumerate(plan.acts) if isinstance(act, Send) and act.kind in kinds), len(plan.acts)
    )
    return plan.acting(*plan.acts[:place], *acts, *plan.acts[place:])


def part(plan: Plan, deltas: int) -> tuple[Act, ...]:
    """The steps up to and with so many deltas; of a reply that is one JSON, the first half of its bytes."""
    kept: list[Act] = []
    for act in plan.acts:
        if isinstance(act, Send) and act.kind == "body":
            kept.append(replace(act, data=act.data[: len(act.data) // 2], tokens=0))
            break
        if isinstance(act, Send) and act.kind in {"delta", "finish"}:
            if act.kind == "finish" or deltas <= 0:
                break
            deltas -= 1
        kept.append(act)
    return tuple(kept)


def _events(turn: Turn) -> Iterator[Send]:
    yield Send(COMMENT, "comment")
    for frame in answers.frames(turn):
        yield event(frame.json, frame.kind, frame.tokens)
    yield Send(DONE, "done")
