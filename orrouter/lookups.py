"""What an upstream tells about itself: its models, who serves them, a generation, the account, the key.

Law: questions and the reading of their answers. How a question is sent is the router's.
"""

from __future__ import annotations

from typing import Any

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Endpoint, Model
from orrouter.catalog.refresh import refresh
from orrouter.core.errors import Rejected, ServerError


class Lookups:
    """The questions of a Router; each raises what a call raises."""

    async def fetch(self, path: str, upstream: str | None = None, **query: str) -> dict[str, Any]:
        """The JSON object at a path below an upstream's base URL (the first upstream's where none is named)."""
        raise NotImplementedError

    async def models(self) -> tuple[Model, ...]:
        """The models that the upstream lists now. Raises ServerError for a list that is none."""
        listed = Catalog(())
        try:
            await refresh(listed, self.fetch)
        except ValueError as error:
            raise ServerError(str(error)) from error
        return listed.models()

    async def endpoints(self, model: str) -> tuple[Endpoint, ...]:
        """Who serves a model now, at what price."""
        raw = await self.fetch(f"models/{model}/endpoints")
        return tuple(Endpoint.read(row) for row in raw["data"].get("endpoints") or ())

    async def generation(self, generation_id: str) -> dict[str, Any]:
        """What one answer cost and how it was made.

        It is known some seconds after the answer; until then it raises an UpstreamError whose status is 404.
        """
        data: dict[str, Any] = (await self.fetch("generation", id=generation_id))["data"]
        return data

    async def credits(self) -> dict[str, Any]:
        """`total_credits` and `total_usage` of the account, in USD."""
        data: dict[str, Any] = (await self.fetch("credits"))["data"]
        return data

    async def key(self) -> dict[str, Any]:
        """Limits and usage of the key, in USD; asked under its old path where the new one is not there."""
        try:
            data: dict[str, Any] = (await self.fetch("key"))["data"]
        except Rejected as error:
            if error.status != 404:
                raise
            data = (await self.fetch("auth/key"))["data"]
        return data
