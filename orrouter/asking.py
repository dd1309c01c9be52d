"""What a caller says becomes a `Call`: spellings, models, tags, deadlines, all checked before anything is done.

Law: pure but for the clock it is handed. The router chooses the pipeline and sends.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from orrouter.core import tags
from orrouter.core.errors import InvalidRequest, PolicyError
from orrouter.core.limit import Cap, Purse
from orrouter.core.money import parse_money
from orrouter.core.values import made
from orrouter.policy.build import POLICY_PREFIX
from orrouter.wire.spelling import Spelling, translate, translate_headers, translate_model
from orrouter.wire.structured import response_format

_NONE: Final[Mapping[str, str]] = {}
_NO_MODELS: Final[tuple[str, ...]] = ()
_NO_SPELLINGS: Final[tuple[Spelling, ...]] = ()
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What RFC 9110 calls a token."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_COST: Final = "x-max-cost"
"""A header that no upstream knows: sent on, it would look like a limit and be none."""


class Asked(NamedTuple):
    """How one call is to be treated; None: as the policy says."""

    policy: str | None = None
    tags: Mapping[str, str] | None = None
    timeout: float | None = None
    """Seconds for the whole call; it can only tighten the policy's total."""
    max_cost: str | None = None
    """A sum such as `$0.01` for the whole call; beside the caps of a policy, so it can only tighten them."""
    headers: Mapping[str, str] | None = None
    request_id: str | None = None


class Wish(NamedTuple):
    """A request that was read: its body without models, what it names, and how it was to be spelled today."""

    body: Mapping[str, Any]
    models: tuple[str, ...]
    policy: str | None
    headers: Mapping[str, str]
    parse: type[BaseModel] | None
    spellings: tuple[Spelling, ...]


def read_wish(body: dict[str, Any], asked: Asked) -> Wish:
    """What the caller asks. Takes `body` over. Raises InvalidRequest or PolicyError for what cannot be meant."""
    _check(asked)
    if "stream" in body and body.pop("stream"):
        raise InvalidRequest("a stream is read with router.stream(...), which needs no stream=True")
    if isinstance(body.get("messages"), str):
        raise InvalidRequest("messages must be a list: write [{'role': 'user', 'content': 'Hello'}]")
    policy, models, said, parse = asked.policy, _NO_MODELS, _NO_SPELLINGS, None
    if "model" in body or "models" in body:
        policy, models, said = _models(body, policy)
    if "response_format" in body:
        parse = _structured(body)
    translated, more = translate(body)
    if asked.headers is not None:
        _check_headers(asked.headers)
        headers, even_more = translate_headers(asked.headers)
        return Wish(translated, models, policy, headers, parse, (*said, *more, *even_more))
    return made(Wish, (translated, models, policy, _NONE, parse, said + more))


def _models(body: dict[str, Any], policy: str | None) -> tuple[str | None, tuple[str, ...], tuple[Spelling, ...]]:
    """The policy and the models that the body names, each model once, in today's spelling."""
    named = []
    model, models = body.pop("model", None), body.pop("models", None)
    if model is not None:
        named.append(model)
    if models is not None:
        if not isinstance(models, list | tuple):
            raise InvalidRequest("models must be a list of slugs")
        named += models
    said: list[Spelling] = []
    slugs = []
    for slug in named:
        if not tags.is_text(slug) or not slug:
            raise InvalidRequest(f"a model is named by its slug, author/model, not by {slug!r}")
        if slug.startswith(POLICY_PREFIX):
            if policy is None:
                policy = slug.removeprefix(POLICY_PREFIX)
            continue
        today, more = translate_model(slug)
        said += more
        slugs.append(today)
    return policy, tuple(dict.fromkeys(slugs)), tuple(said)


def _structured(body: dict[str, Any]) -> type[BaseModel] | None:
    form = body.get("response_format")
    if not isinstance(form, type):
        return None
    if not issubclass(form, BaseModel):
        raise InvalidRequest(f"response_format must be a pydantic model or a mapping, not the class {form.__name__}")
    body["response_format"] = response_format(form)
    return form


def _check(asked: Asked) -> None:
    """What is said beside the body, but for its headers."""
    if asked.max_cost is not None:
        cap_of(asked.max_cost)
    if asked.timeout is not None and not _is_time(asked.timeout):
        raise InvalidRequest(f"timeout must be a number of seconds above 0, not {_shown(asked.timeout)}")
    if asked.policy is not None and not isinstance(asked.policy, str):
        raise PolicyError(f"policy must be the name of a policy, a text, not {type(asked.policy).__name__}")
    if asked.request_id is not None and not tags.is_text(asked.request_id):
        raise InvalidRequest("request_id must be a text that UTF-8 can hold")
    if asked.tags is not None:
        tags.check(asked.tags)


def cap_of(max_cost: str) -> Cap:
    """The purse of one call as its caller sets it. Raises InvalidRequest for what is no sum of money."""
    try:
        return Cap(Purse(parse_money(max_cost)), named="max_cost")
    except (ValueError, AttributeError, TypeError):
        raise InvalidRequest(f"max_cost must be a sum of money such as '$0.01', not {max_cost!r}") from None


def _is_time(seconds: object) -> bool:
    return isinstance(seconds, int | float) and 0 < seconds <= sys.float_info.max


def _shown(seconds: object) -> str:
    """A whole number of thousands of digits cannot even be written."""
    return "one so large" if isinstance(seconds, int) and abs(seconds) > sys.float_info.max else repr(seconds)


def _check_headers(headers: object) -> None:
    if not isinstance(headers, Mapping):
        raise InvalidRequest(f"headers must be a mapping of texts by name, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is no name of a header")
        if not isinstance(value, str) or _CONTROL.search(value):
            raise InvalidRequest(f"the header {name!r} must be one line of text")
        if name.lower() == _MAX_COST:
            raise InvalidRequest(f"{name} would be sent to an upstream that does not know it: pass max_cost='$0.01'")


def warner(warn: Callable[[str], None]) -> Callable[[Spelling], None]:
    """Says each old spelling once."""
    said: set[str] = set()

    def tell(spelling: Spelling) -> None:
        if spelling.old not in said:
            said.add(spelling.old)
            warn(f"OpenRouter now spells {spelling.old!r} as {spelling.new!r}: the request was translated")

    return tell
