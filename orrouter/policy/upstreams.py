"""Upstreams in a policy: where calls go, with which key, and what is charged there.

Law: typed values and how they are read. No connection is opened and no key file is read here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from orrouter.catalog.model import Model
from orrouter.core.errors import PolicyError
from orrouter.core.money import parse_price
from orrouter.core.secret import Secret
from orrouter.middleware.base import Size
from orrouter.policy.load import Document, KeyPath
from orrouter.policy.scalars import Missing
from orrouter.policy.validation import validate
from orrouter.transport.base import CLOSED_HEADERS, Upstream

UNSET_URL: Final = "https://unset.invalid"
"""Stands for a base_url whose variable is not set: a policy can be looked at without its environment, not built."""

_URL: Final = r"^https?://[^\s/]+"
_WHO: Final = re.compile(r"\s*(?:[^/?#@]*//)?[^/?#]*@")
"""An address with a name or a password before its host, whatever else is wrong with it."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What RFC 9110 calls a token."""


def _price(text: str) -> str:
    parse_price(text)
    return text


ListedRate = Annotated[
    str,
    AfterValidator(_price),
    WithJsonSchema({"type": "string", "pattern": r"^\$\d+(\.\d+)?(/(M|K|token))?$", "examples": ["$2.50/M"]}),
]
"""A price as it is written: `$2.50/M` for a million tokens."""


class Part(BaseModel):
    """A mapping of a policy that is no layer: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ListedPrice(Part):
    """What a model costs at an upstream that publishes no list, and how much it reads."""

    prompt: ListedRate
    """USD for prompt tokens: `$2.50/M`."""
    completion: ListedRate
    """USD for completion tokens: `$10/M`."""
    context: Annotated[int | None, Field(gt=0)] = None
    """The context window in tokens."""


class UpstreamOptions(Part):
    """Where calls go."""

    # What may hold a secret is left out of the repr.
    base_url: Annotated[str, Field(json_schema_extra={"pattern": _URL}, repr=False)]
    """The address under which `chat/completions` stands."""
    api_key: Annotated[
        str | None, Field(repr=False), WithJsonSchema({"type": "string", "pattern": r"^\$\{[A-Z_][A-Z0-9_]*(:-)?\}$"})
    ] = None
    """The key, as `${NAME}`; empty: there is none, and the targets here are skipped."""
    api_key_file: str | None = None
    """A file that holds the key; it is read again when it changes."""
    dialect: Literal["openrouter", "openai"] = "openrouter"
    """`openai`: no field that only OpenRouter knows is sent."""
    site_url: str | None = None
    """Sent to OpenRouter as `HTTP-Referer`: your app's address, for its rankings."""
    site_name: str | None = None
    """Sent to OpenRouter as `X-OpenRouter-Title`: your app's name."""
    headers: Annotated[dict[str, str], Field(repr=False)] = {}
    """Further headers of every request."""
    proxy: Annotated[str | None, Field(repr=False)] = None
    """An HTTP proxy, `http://host:port`."""
    ca_file: str | None = None
    """Certificates to trust instead of the system's, as a PEM file."""
    connections: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Connections that may be open at once."""
    max_body: Size = 64 * 2**20
    """The largest answer that is read."""
    prices: dict[str, ListedPrice] = {}
    """Prices by model, for an upstream that lists none."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            host = urlsplit(url).hostname if re.match(_URL, url) else None
        except ValueError:  # a bracket that is not closed
            host = None
        if not host:
            raise ValueError("write an address that begins with http:// or https://")
        return url

    @field_validator("headers")
    @classmethod
    def _one_line(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if any(sign in name + value for sign in "\r\n\0"):
                raise ValueError(f"the header {name!r} holds a line break")
            if not _NAME.fullmatch(name):  # A blank behind it would carry a closed header past its name.
                raise ValueError(f"{name!r} is no name of a header")
        return headers


def read_upstream(document: Document, options: Any, path: KeyPath) -> UpstreamOptions:
    """One upstream at its path. Raises PolicyError; a key that is written out is refused."""
    url = options.get("base_url") if isinstance(options, dict) else None
    if isinstance(url, Missing):
        options = {**options, "base_url": UNSET_URL}
    elif isinstance(url, str) and _WHO.match(url):  # Here, because a misfit of the model shows what is written.
        hint = "take out what stands before the @, and write api_key: ${NAME}"
        raise document.error((*path, "base_url"), "a name or a password must not stand in an address", hint=hint)
    found = validate(UpstreamOptions, options, document, path)
    for name in found.headers:
        if name.lower() in CLOSED_HEADERS:
            raise _closed(document, (*path, "headers", name), name)
    key = (*path, "api_key")
    if found.api_key and key not in document.from_env:
        hint = "write api_key: ${NAME}, or use api_key_file"
        raise document.error(key, "a key must not stand in a policy", hint=hint)
    if found.api_key and found.api_key_file:
        raise document.error((*path, "api_key_file"), "api_key and api_key_file are both written", hint="keep one")
    return found


def _closed(document: Document, path: KeyPath, name: str) -> PolicyError:
    hint = "write api_key: ${NAME}, or use api_key_file" if name.lower() == "authorization" else "remove it"
    message = f"the header {name} is written by the router itself"
    return document.error(path, message, hint=hint, key_itself=True)


def listed_model(slug: str, listed: ListedPrice) -> Model:
    """A price listed in the policy as a model of the catalog."""
    pricing = {"prompt": str(parse_price(listed.prompt)), "completion": str(parse_price(listed.completion))}
    return Model.read({"id": slug, "pricing": pricing, "context_length": listed.context})


def upstream_of(name: str, options: UpstreamOptions) -> Upstream:
    """The upstream as the transport wants it."""
    ours = {}
    if options.dialect == "openrouter":
        if options.site_url:
            ours["HTTP-Referer"] = options.site_url
        if options.site_name:
            ours["X-OpenRouter-Title"] = options.site_name
    return Upstream(
        name=name,
        base_url=options.base_url,
        api_key=Secret(options.api_key) if options.api_key else None,
        key_file=options.api_key_file,
        dialect=options.dialect,
        headers={**ours, **options.headers},
        proxy=options.proxy,
        ca_file=options.ca_file,
        connections=options.connections,
        max_body=options.max_body,
    )
