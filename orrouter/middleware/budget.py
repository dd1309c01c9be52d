"""budget: an account that many calls share, named by their tags, with a limit for each window of time.

Law: it attaches the account and nothing else; the money gate holds, and the ledger keeps the sums.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator

from orrouter.core import money
from orrouter.core.call import Call
from orrouter.core.errors import MissingTag
from orrouter.core.limit import EACH, MOST, Account, OnStoreError, Period
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.ledger.windows import zone_of
from orrouter.middleware.base import Middleware, Money, Options, World

REMEMBERED: Final = 10_000
"""Accounts that are kept ready; who invents tags must not fill the memory."""
LONGEST: Final = 200
"""Characters of an account's name."""
_TAG: Final = re.compile(r"\{(?P<tag>[A-Za-z0-9_.-]+)(?::-(?P<default>[^{}]*))?\}")
_NAME: Final = re.compile(r"[^\s{}\x00-\x1f\x7f](?:[^{}\x00-\x1f\x7f]*[^\s{}\x00-\x1f\x7f])?")


def _account(text: str) -> str:
    if not _NAME.fullmatch(_TAG.sub("x", text)) or len(text) > LONGEST:
        raise ValueError(f"{text!r} names no account: write org, team:{{team}} or team:{{team:-none}}")
    return text


def _part(value: object) -> object:
    if isinstance(value, str) and value.endswith("%"):
        return float(value.removesuffix("%")) / 100
    raise ValueError("write a part of the limit, as in 80%")


def _known(zone: str) -> str:
    zone_of(zone)
    return zone


Part = Annotated[
    float,
    Field(gt=0, le=1),
    BeforeValidator(_part),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?%$", "examples": ["80%"]}),
]
"""A part of a limit, written `80%`."""


class BudgetOptions(Options):
    """Options of `budget`."""

    kind: ClassVar[str] = "budget"
    account: Annotated[str, AfterValidator(_account)]
    """Who pays: `org`, or by a tag of the call as in `team:{team}`; `{team:-none}` takes calls without the tag too."""
    limits: Annotated[dict[Period, Annotated[Money, Field(ge=0, le=MOST)]], Field(min_length=1)]
    """The most that may be spent in each window: hour, day, week (from Monday), month, lifetime."""
    time_zone: Annotated[str, AfterValidator(_known)] = "UTC"
    """The IANA time zone in which days, weeks and months begin."""
    soft: tuple[Part, ...] = (0.5, 0.8, 1.0)
    """Parts of a limit that are told once in each window when they are passed."""
    on_store_error: OnStoreError = "fail_closed"
    """When the ledger cannot be asked: fail_closed refuses the call, fail_open lets it go and counts it later."""

    _sorted = field_validator("soft")(lambda parts: tuple(sorted(set(parts))))

    def build(self, world: World) -> Middleware:  # noqa: ARG002  # every kind of layer is built from a world
        """The layer at work."""
        return Budget(self)

    def says(self) -> str:
        """What it does with these options, in words."""
        limits = ", ".join(f"{money.show(amount)} {EACH[period]}" for period, amount in self.limits.items())
        zone = "" if self.time_zone == "UTC" else f" ({self.time_zone})"
        down = "; goes on while the ledger is down, and counts it later" if self.on_store_error == "fail_open" else ""
        return f"charges the account {self.account}: at most {limits}{zone}{down}"


def account_name(template: str, tags: Mapping[str, str]) -> str:
    """The account that a call with these tags pays from. Raises MissingTag."""
    several = len(_TAG.findall(template)) > 1

    def said(match: re.Match[str]) -> str:
        value = tags.get(match["tag"]) or match["default"]
        if value is None:
            tag = match["tag"]
            raise MissingTag(
                f"the account {template!r} is named by the tag {tag!r}, which this call does not bear: "
                f"pass tags={{{tag!r}: …}}, or write {{{tag}:-none}} in the policy"
            )
        # With several tags, a colon in a value must not make one account of two.
        return value.replace("%", "%25").replace(":", "%3A") if several else value

    name = _TAG.sub(said, template)
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise MissingTag(f"the tags of this call make no name for the account {template!r}")
    return name


def pattern_of(template: str) -> str:
    """A regular expression for the names of all accounts that a template makes."""
    parts = _TAG.split(template)  # text, tag, default, text, tag, default, …, text
    return "(.+)".join(re.escape(text) for text in parts[::3])


class Budget:
    """The layer."""

    def __init__(self, options: BudgetOptions) -> None:
        self.options = options
        self._tags = tuple(match["tag"] for match in _TAG.finditer(options.account))
        self._accounts: dict[tuple[str | None, ...], Account] = {}

    def _made(self, name: str) -> Account:
        options = self.options
        return Account(name, tuple(options.limits.items()), options.time_zone, options.soft, options.on_store_error)

    def account(self, tags: Mapping[str, str]) -> Account:
        """The account that a call with these tags pays from. Raises MissingTag."""
        said = tuple(map(tags.get, self._tags))
        known = self._accounts.get(said)
        if known is None:
            known = self._made(account_name(self.options.account, tags))
            if len(self._accounts) >= REMEMBERED:
                self._accounts.clear()
            self._accounts[said] = known
        return known

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward `call` with its account. Raises MissingTag."""
        if call.method == "GET":
            return forward(call)
        known = self._accounts.get(tuple(map(call.tags.get, self._tags)))
        return forward(call.charge(self.account(call.tags) if known is None else known))
