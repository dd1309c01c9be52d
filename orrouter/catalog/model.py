"""Models and endpoints as the catalog knows them: windows, abilities and a price, all of which may be unknown.

Law: frozen values, read from rows of the model list without ever raising; no I/O. An answer that nobody gave is
None, so that whoever asks can tell "no" from "not known".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from orrouter.catalog.price import Price

__all__ = ["Endpoint", "Model", "Price", "Reasoning", "RequestLimits"]


@dataclass(frozen=True)
class Reasoning:
    """How a model reasons. `efforts` None means that every effort is taken; `mandatory`, that it cannot be off."""

    mandatory: bool = False
    enabled: bool | None = None
    efforts: tuple[str, ...] | None = None
    default_effort: str | None = None
    takes_max_tokens: bool = False

    @classmethod
    def read(cls, listed: object) -> Reasoning | None:
        """The `reasoning` object of a model; None where there is none."""
        if not isinstance(listed, Mapping):
            return None
        return cls(
            mandatory=listed.get("mandatory") is True,
            enabled=_flag(listed.get("default_enabled")),
            efforts=_texts(listed.get("supported_efforts")),
            default_effort=_text(listed.get("default_effort")),
            takes_max_tokens=listed.get("supports_max_tokens") is True,
        )


@dataclass(frozen=True)
class RequestLimits:
    """The most tokens that one request may hold in and out; None is no such limit known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @classmethod
    def read(cls, listed: object) -> RequestLimits | None:
        """The `per_request_limits` object of a model; None where there is none."""
        if not isinstance(listed, Mapping):
            return None
        return cls(_size(listed.get("prompt_tokens")), _size(listed.get("completion_tokens")))


@dataclass(frozen=True)
class Model:
    """One row of the model list. Tokens are the model's own; `created` is unix seconds, `expiration_date` YYYY-MM-DD.

    `unsupported_parameters` None means that `supported_parameters` is the whole list, so what it does not name is
    not supported; otherwise what neither names is unknown.
    """

    id: str
    price: Price = field(default_factory=Price)
    context_length: int | None = None
    max_completion_tokens: int | None = None
    name: str = ""
    canonical_slug: str = ""
    input_modalities: frozenset[str] | None = None
    output_modalities: frozenset[str] | None = None
    supported_parameters: frozenset[str] | None = None
    unsupported_parameters: frozenset[str] | None = None
    per_request_limits: RequestLimits | None = None
    reasoning: Reasoning | None = None
    is_moderated: bool | None = None
    expiration_date: str | None = None
    alias_target: str | None = None
    description: str = ""
    created: int | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Model:
        """A row of `GET /models`. Never raises: what is missing or odd is unknown."""
        slug = _text(row.get("id")) or ""
        kinds, top, target = _part(row, "architecture"), _part(row, "top_provider"), row.get("alias_target")
        return cls(
            id=slug,
            price=Price.read(row.get("pricing")),
            context_length=_size(row.get("context_length")) or _size(top.get("context_length")),
            max_completion_tokens=_size(top.get("max_completion_tokens")),
            name=_text(row.get("name")) or slug,
            canonical_slug=_text(row.get("canonical_slug")) or slug,
            input_modalities=_words(kinds.get("input_modalities")),
            output_modalities=_words(kinds.get("output_modalities")),
            supported_parameters=_words(row.get("supported_parameters")),
            unsupported_parameters=_words(row.get("unsupported_parameters")),
            per_request_limits=RequestLimits.read(row.get("per_request_limits")),
            reasoning=Reasoning.read(row.get("reasoning")),
            is_moderated=_flag(top.get("is_moderated")),
            expiration_date=_text(row.get("expiration_date")),
            alias_target=_text(target.get("slug") if isinstance(target, Mapping) else target),
            description=_text(row.get("description")) or "",
            created=_size(row.get("created")),
        )

    @property
    def is_free(self) -> bool:
        """Whether it surely costs nothing; False when unknown."""
        return self.price.is_free

    def takes(self, modality: str) -> bool | None:
        """Whether it reads `text`, `image`, `file`, `audio` or `video`; None when unknown."""
        return None if self.input_modalities is None else modality in self.input_modalities

    def makes(self, modality: str) -> bool | None:
        """Whether it answers with `text`, `image`, `audio`, `embeddings` …; None when unknown."""
        return None if self.output_modalities is None else modality in self.output_modalities

    def supports(self, parameter: str) -> bool | None:
        """Whether it takes a field of the request: `tools`, `response_format`, `reasoning` …; None when unknown."""
        if self.supported_parameters is None:
            return None
        if parameter in self.supported_parameters:
            return True
        return False if self.unsupported_parameters is None or parameter in self.unsupported_parameters else None

    def reasons(self) -> bool | None:
        """Whether it can think before it speaks; None when unknown."""
        return True if self.reasoning is not None else self.supports("reasoning")


@dataclass(frozen=True)
class Endpoint:
    """One provider's offer of a model. `tag` is its word in `provider.order`; `status` 0 is healthy, below is worse.

    Uptimes are percent of the requests that were not rate-limited; None where too few were made.
    """

    provider_name: str
    tag: str = ""
    price: Price = field(default_factory=Price)
    context_length: int | None = None
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    quantization: str | None = None
    supported_parameters: frozenset[str] | None = None
    status: int | None = None
    uptime_5m: float | None = None
    uptime_30m: float | None = None
    uptime_1d: float | None = None
    caches_implicitly: bool | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Endpoint:
        """A row of `GET /models/{author}/{slug}/endpoints`. Never raises: what is missing or odd is unknown."""
        return cls(
            provider_name=_text(row.get("provider_name")) or _text(row.get("name")) or "",
            tag=_text(row.get("tag")) or "",
            price=Price.read(row.get("pricing")),
            context_length=_size(row.get("context_length")),
            max_completion_tokens=_size(row.get("max_completion_tokens")),
            max_prompt_tokens=_size(row.get("max_prompt_tokens")),
            quantization=_text(row.get("quantization")),
            supported_parameters=_words(row.get("supported_parameters")),
            status=_whole(row.get("status")),
            uptime_5m=_number(row.get("uptime_last_5m")),
            uptime_30m=_number(row.get("uptime_last_30m")),
            uptime_1d=_number(row.get("uptime_last_1d")),
            caches_implicitly=_flag(row.get("supports_implicit_caching")),
        )


# --- readers: the value if it is of its kind, else None -------------------------------------------------


def _part(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = row.get(key)
    return part if isinstance(part, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and isfinite(number) else None


def _size(value: object) -> int | None:
    size = _whole(value)
    return size if size is not None and size > 0 else None


def _texts(value: object) -> tuple[str, ...] | None:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list | tuple) else None


def _words(value: object) -> frozenset[str] | None:
    words = _texts(value)
    return None if words is None else frozenset(words)
