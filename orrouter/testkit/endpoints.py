"""The paths of the fake upstream and what each of them does with a request.

Law: between aiohttp and the desk. What is answered is decided in `desk.py`, how it is sent in `player.py`, what is
remembered in `log.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from orrouter.core import money
from orrouter.testkit import answers, failures
from orrouter.testkit.ask import Ask
from orrouter.testkit.desk import Decision, Desk, Rules
from orrouter.testkit.failures import Failure, zod
from orrouter.testkit.log import Generations, Log, Seen, masked
from orrouter.testkit.plans import Wait, billed, refused
from orrouter.testkit.player import Pace, Tally, play
from orrouter.testkit.table import FakeModel
from orrouter.testkit.validate import check, parse

ROOT = "/api/v1"
LARGEST = 256 * 1024 * 1024


class Endpoints:
    """Handlers over one desk and one log; `keys` are those given out (None: any will do)."""

    def __init__(self, desk: Desk, rules: Rules, keys: frozenset[str] | None, latency: float) -> None:
        self.desk = desk
        self.log = Log()
        self.lookups = Log()
        self.generations = Generations(rules.generation_misses, rules.generation_delay)
        self._rules = rules
        self._keys = keys
        self._latency = latency

    def app(self, pace: Pace) -> web.Application:
        """The application that a server runs, once."""

        async def infer(request: web.Request) -> web.StreamResponse:
            return await self._infer(request, pace)

        app = web.Application(client_max_size=LARGEST)
        for path in ("chat/completions", "completions", "embeddings"):
            app.router.add_post(f"{ROOT}/{path}", infer)
        app.router.add_get(f"{ROOT}/models", self._models)
        app.router.add_get(f"{ROOT}/models/{{author}}/{{slug}}/endpoints", self._model_endpoints)
        app.router.add_get(f"{ROOT}/generation", self._generation)
        app.router.add_get(f"{ROOT}/credits", self._credits)
        for path in self._rules.key_paths:
            app.router.add_get(f"{ROOT}/{path}", self._key)
        app.router.add_route("*", "/{tail:.*}", self._nowhere)
        return app

    async def _infer(self, request: web.Request, pace: Pace) -> web.StreamResponse:
        """One request for inference, from its arrival to its bill."""
        path = request.path.removeprefix(f"{ROOT}/")
        headers = masked(request.headers)
        number = self.log.open(at=time.monotonic(), wall=time.time(), path=path, headers=headers)
        tally, decision = Tally(), Decision(refused(failures.not_found()))
        try:
            decision = self._decide(request, path, await request.read(), number)
            plan = decision.plan.acting(Wait(self._latency), *decision.plan.acts)
            return await play(plan, request, pace, tally)
        finally:
            self._close(number, decision, tally)

    def _decide(self, request: web.Request, path: str, data: bytes, number: int) -> Decision:
        """What is answered to the bytes of a request, and a note of it: a request that will hang is seen too."""
        body = parse(data)
        if isinstance(body, dict):
            self.log.update(number, body=body, model=_named(body), stream=body.get("stream") is True)
        failure = self._stranger(request) or (body if isinstance(body, Failure) else check(path, body))
        if isinstance(body, Failure) or failure is not None:
            decision = Decision(refused(failure or failures.no_tokens()))
        else:
            ask = Ask(path, body, {name.lower(): value for name, value in request.headers.items()})
            decision = self.desk.decide(ask, time.time(), self.log.cost())
        self._note(number, decision)
        return decision

    def _note(self, number: int, decision: Decision) -> None:
        plan, turn = decision.plan, decision.plan.turn
        facts = {"fault": decision.fault, "status": plan.status}
        asked = {"served": decision.model, "provider": decision.provider}
        tokens = 0 if turn is None else turn.answer.prompt_tokens
        generation = plan.headers.get("X-Generation-Id", "")
        self.log.update(number, **facts, **asked, prompt_tokens=tokens, generation_id=generation)

    def _close(self, number: int, decision: Decision, tally: Tally) -> None:
        plan, done = decision.plan, tally.finished == "done"
        cost = billed(plan, tally.produced, done=done)
        if plan.turn is not None:
            ended = "error" if plan.bills == "nothing" else plan.turn.answer.finish
            data = answers.generation(plan.turn, cost, tally.produced, ended if done else None)
            self.generations.keep(data, time.monotonic())
        facts = {"completion_tokens": tally.produced, "true_cost_nano": cost}
        self.log.update(number, finished=tally.finished, **facts)

    def _stranger(self, request: web.Request) -> Failure | None:
        """The 401 of a request without a key, or with one that was not given out."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return failures.no_credentials()
        return None if self._keys is None or key in self._keys else failures.unknown_key()

    async def _models(self, request: web.Request) -> web.Response:
        wanted = request.query.get("output_modalities", "text").split(",")
        offset, limit = request.query.get("offset", "0"), request.query.get("limit", "1000")
        for name, value in (("offset", offset), ("limit", limit)):
            if not value.isdecimal():
                return self._failed(request, zod("invalid_type", [name], "Invalid input: expected number"))
        return self._found(request, self._page(wanted, int(offset), int(limit)))

    def _page(self, wanted: list[str], offset: int, limit: int) -> dict[str, Any]:
        """One page of the models with the wanted outputs."""
        fitting = [one.listed() for one in list(self.desk.models.values()) if _shown(one, wanted)]
        page = fitting[offset : offset + limit]
        links = (
            {"next": f"{ROOT}/models?offset={offset + limit}&limit={limit}"} if offset + limit < len(fitting) else {}
        )
        return {"data": page, "total_count": len(fitting), "links": links}

    async def _model_endpoints(self, request: web.Request) -> web.Response:
        model = self.desk.model(f"{request.match_info['author']}/{request.match_info['slug']}")
        return self._failed(request, failures.not_found()) if model is None else self._found(request, model.endpoints())

    async def _generation(self, request: web.Request) -> web.Response:
        wanted = request.query.get("id", "")
        stranger = self._stranger(request)
        if stranger is not None:
            return self._failed(request, stranger)
        data = self.generations.find(wanted, time.monotonic())
        if data is None:
            return self._failed(request, failures.generation_not_found(wanted))
        return self._found(request, {"data": data})

    async def _credits(self, request: web.Request) -> web.Response:
        total = float(self._rules.credits or 0)
        used = float(money.usd(self.log.cost()))
        return self._private(request, {"data": {"total_credits": total, "total_usage": used}})

    async def _key(self, request: web.Request) -> web.Response:
        used = float(money.usd(self.log.cost()))
        limit = None if self._rules.credits is None else float(self._rules.credits)
        spent = {"usage": used, "usage_daily": used, "usage_weekly": used, "usage_monthly": used}
        data = {
            "label": "sk-or-v1-fake",
            "limit": limit,
            "limit_remaining": None if limit is None else max(0.0, limit - used),
            "limit_reset": None,
            "include_byok_in_limit": False,
            **spent,
            "is_free_tier": False,
            "is_management_key": False,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        }
        return self._private(request, {"data": data})

    async def _nowhere(self, request: web.Request) -> web.Response:
        return self._failed(request, failures.not_found())

    def _private(self, request: web.Request, body: Mapping[str, Any]) -> web.Response:
        """The body for who has a key."""
        stranger = self._stranger(request)
        return self._found(request, body) if stranger is None else self._failed(request, stranger)

    def _found(self, request: web.Request, body: Mapping[str, Any]) -> web.Response:
        return self._reply(request, 200, orjson.dumps(body))

    def _failed(self, request: web.Request, failure: Failure) -> web.Response:
        return self._reply(request, failure.status, failure.data)

    def _reply(self, request: web.Request, status: int, data: bytes) -> web.Response:
        path = request.path_qs.removeprefix(f"{ROOT}/")
        facts: dict[str, Any] = {"at": time.monotonic(), "wall": time.time(), "path": path, "status": status}
        self.lookups.open(**facts, headers=masked(request.headers), finished="done")
        return web.Response(status=status, body=data, content_type="application/json")


async def until(log: Log, fits: Callable[[tuple[Seen, ...]], bool], seconds: float) -> None:
    """Returns when what the log shows fits. Raises TimeoutError after so many seconds.

    It looks again and again because the log may be filled by another thread's loop.
    """
    async with asyncio.timeout(seconds):
        while not fits(log.snapshot()):  # noqa: ASYNC110  # another thread writes the log: no Event of this loop
            await asyncio.sleep(0.001)


def _named(body: Mapping[str, Any]) -> str:
    """The model that a request asks for first."""
    models = body.get("models")
    first = models[0] if isinstance(models, list) and models else ""
    return str(body.get("model") or first)


def _shown(model: FakeModel, wanted: list[str]) -> bool:
    return "all" in wanted or bool(set(wanted) & set(model.outputs))
