"""The desk between the OpenAI SDK and a router: a request comes in, the router is asked, an answer goes out.

Law: it asks the router and hands on. What bytes mean is said by `openai_asks`, `openai_answers` and `openai_errors`;
which HTTP library carries them is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from orrouter.adapters.openai_answers import DONE, answer_headers, completion_json, event_bytes, model_row
from orrouter.adapters.openai_asks import REQUEST_ID, Ask, Endpoint, Place, Sent, place_of, read_ask
from orrouter.adapters.openai_errors import error_body, error_event, error_headers, not_served
from orrouter.core.call import new_request_id
from orrouter.core.clock import Cut
from orrouter.core.completion import Completion
from orrouter.core.errors import DeadlineExceeded, ModelNotFound, RouterError
from orrouter.core.events import Event
from orrouter.core.reply import Reply
from orrouter.core.units import show_duration
from orrouter.router import Router

Tell = Callable[[RouterError], None]
JSON: Final = "application/json"
STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a status, headers, and the bytes or where they come from."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Lines


async def serve(router: Router, sent: Sent, tell: Tell) -> Answer:
    """Answer one request of the SDK. A router's error becomes an answer, and `tell` is given the error itself."""
    request_id = sent.headers.get(REQUEST_ID) or new_request_id()
    place = place_of(sent.method, sent.path)
    if place is None:
        return Answer(404, *not_served(sent.method, sent.path, request_id))
    try:
        if place.endpoint == "models":
            return await _models(router, place, request_id)
        return await _asked(router, place.endpoint, read_ask(place.endpoint, sent, request_id), request_id, tell)
    except RouterError as error:
        tell(error)
        body = orjson.dumps(error_body(error, request_id))
        return Answer(error.http_status, error_headers(error, request_id), body)


async def _models(router: Router, place: Place, request_id: str) -> Answer:
    listed = await router.fetch("models", output_modalities="all", limit="1000")
    rows = [model_row(row) for row in listed.get("data") or () if isinstance(row, dict)]
    found: Any = {"object": "list", "data": rows}
    if place.name is not None:
        found = next((row for row in rows if row.get("id") == place.name), None)
        if found is None:
            raise ModelNotFound(f"the upstream lists no model {place.name}")
    return Answer(200, {"content-type": JSON, REQUEST_ID: request_id}, orjson.dumps(found))


async def _asked(router: Router, endpoint: Endpoint, ask: Ask, request_id: str, tell: Tell) -> Answer:
    if ask.streamed and endpoint != "embeddings":
        lines = Lines(ask, request_id, tell)
        reply = await lines.begin(router, endpoint)
        return Answer(200, answer_headers(reply.attempt, request_id, STREAM), lines)
    completion = await _whole(router, endpoint, ask)
    return Answer(200, answer_headers(completion.attempt, request_id, JSON), completion_json(completion))


async def _whole(router: Router, endpoint: Endpoint, ask: Ask) -> Completion:
    # A router's methods take both side by side; `read_ask` has seen that the body names nothing of `Asked`.
    body, asked = dict(ask.body), ask.asked._asdict()
    if endpoint == "embeddings":
        return await router.embeddings(body.pop("input"), **asked, **body)
    if endpoint == "completions":
        return await router.completions(body.pop("prompt"), **asked, **body)
    return await router.chat(body.pop("messages"), **asked, **body)


class Lines:
    """A stream as the lines of server-sent events, one event a `read`. Closing is plain and may be repeated."""

    def __init__(self, ask: Ask, request_id: str, tell: Tell) -> None:
        self._ask, self._request_id, self._tell = ask, request_id, tell
        self._cut = Cut(asyncio.get_running_loop())
        self._reply: Reply | None = None
        self._over = False

    async def begin(self, router: Router, endpoint: Endpoint) -> Reply:
        """Ask the router; the reply's first word is in hand. Raises what `router.begin` raises."""
        try:
            with self._cut.at(self._limit(), self._overdue):
                self._reply = await router.begin(self._ask.body, self._ask.asked, endpoint)
        except BaseException:
            self._cut.stop()
            raise
        return self._reply

    async def read(self) -> bytes:
        """The next lines; empty when there are no more. A break is told in the stream, and no `[DONE]` follows it."""
        while not self._over:
            try:
                event = await self._event()
            except RouterError as error:
                self._tell(error)
                self.close()
                return error_event(error, self._request_id)
            if event is None:
                self.close()
                return DONE
            lines = event_bytes(event, counts=self._ask.counts)
            if lines:
                return lines
        return b""

    async def _event(self) -> Event | None:
        assert self._reply is not None, "begun before it is read"
        if self._ask.patience is None:
            return await anext(self._reply.events, None)
        with self._cut.at(self._limit(), self._overdue):
            return await anext(self._reply.events, None)

    def close(self) -> None:
        """Let go of the upstream."""
        self._over = True
        self._cut.stop()
        if self._reply is not None:
            self._reply.close()

    def _limit(self) -> float | None:
        patience = self._ask.patience
        return None if patience is None else asyncio.get_running_loop().time() + patience

    def _overdue(self) -> DeadlineExceeded:
        error = DeadlineExceeded(f"nothing came for {show_duration(self._ask.patience or 0)}, the client's timeout")
        if self._reply is not None:
            error.partial = self._reply.events.partial
        return error
