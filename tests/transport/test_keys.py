"""Where a key comes from, and that no error about it shows it."""

from __future__ import annotations

from typing import Any

import pytest

from orrouter.core.errors import AuthFailed
from orrouter.core.secret import Secret
from tests.transport.far import (
    KEY,
    FarEnd,
    ask,
    call,
    header_lines,
    keeps,
    nothing_is_left,  # noqa: F401  # a fixture is used by its name
    transport,
    whole,
)


async def keys_seen(answers: int, change, **options: Any) -> list[str]:
    """The Authorization of each of some calls; `change(number)` comes before each."""
    async with FarEnd(keeps(whole())) as far, transport(far, api_key=options.pop("api_key", None), **options) as ours:
        for number in range(answers):
            change(number)
            await ask(ours, call())
    return [header_lines(request)["authorization"] for request in far.requests]


async def test_a_key_file_is_read_again_when_it_changes(tmp_path):
    """Also one that is put in place of the other, as secrets are mounted."""
    file = tmp_path / "key"

    def change(number: int) -> None:
        if number == 0:
            file.write_text("first\n")
        if number == 2:
            (tmp_path / "new").write_text("second")
            (tmp_path / "new").replace(file)

    assert ["Bearer first", "Bearer first", "Bearer second"] == await keys_seen(3, change, key_file=str(file))


async def test_a_function_gives_each_call_its_key():
    """Asked anew every time."""
    given = iter(["one", "two"])
    assert ["Bearer one", "Bearer two"] == await keys_seen(2, lambda _: None, api_key=lambda: next(given))


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read: FileNotFoundError"), ("", "holds no key"), (" \n", "holds no key"),
     (f"{KEY}\nother", "a blank or a line break"), (b"\xff\xfe", "cannot be read: UnicodeDecodeError")],
)  # fmt: skip
async def test_a_key_file_without_a_key_is_named_and_its_content_is_not(tmp_path, content, told):
    """Missing, empty, two lines, no text."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    async with FarEnd(keeps(whole())) as far, transport(far, api_key=None, key_file=str(file)) as ours:
        with pytest.raises(AuthFailed, match=told) as caught:
            await ask(ours, call())
    assert str(file) in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert ([], "no") == (far.requests, caught.value.billed)


def _no_vault() -> str:
    raise OSError("the vault is sealed")


@pytest.mark.parametrize(
    ("key", "told"),
    [(None, "upstream far has no key"), (Secret(""), "upstream far has no key"), (_no_vault, "its api_key raised OSError"),
     (lambda: "", "holds no key"), (lambda: None, "holds no key"), (Secret(f"{KEY} x"), "a blank or a line break")],
)  # fmt: skip
async def test_a_key_that_cannot_be_sent_is_no_key(key, told):
    """Told before anything goes out."""
    async with FarEnd(keeps(whole())) as far, transport(far, api_key=key) as ours:
        with pytest.raises(AuthFailed, match=told) as caught:
            await ask(ours, call())
    assert [] == far.requests
    assert "CANARY" not in str(caught.value)


async def test_a_key_with_a_line_break_at_its_end_is_trimmed():
    """As variables and files bear them."""
    assert [f"Bearer {KEY}"] == await keys_seen(1, lambda _: None, api_key=Secret(f"{KEY}\n"))
