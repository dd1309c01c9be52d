"""The key of an upstream, from wherever it comes: a fixed one, a file that may change, a function.

Law: keys only, and never one in an error: what is wrong with a key is said by naming its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orrouter.core.errors import AuthFailed, RouterError, UpstreamError
from orrouter.core.secret import Secret
from orrouter.transport.base import Upstream


class Keys:
    """Gives the Authorization of each request. Raises AuthFailed where there is no key, or one that cannot be sent."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._read: tuple[tuple[int, int, int], Secret] | None = None
        self._last = ""
        self.fixed = isinstance(upstream.api_key, Secret) and bool(upstream.api_key)
        """Whether every request bears the same key."""

    def hide(self, error: BaseException | None) -> None:
        """Take the key out of an error in which the far end has echoed it, whatever form the key has."""
        if not isinstance(error, UpstreamError) or not self._last:
            return
        error.args = tuple(_hidden(part, self._last) for part in error.args)
        error.raw = _hidden(error.raw, self._last)
        self.hide(error.__cause__)

    def bearer(self) -> str:
        """The Authorization of the next request."""
        bearer = self._bearer()
        self._last = bearer.removeprefix("Bearer ")
        return bearer

    def _bearer(self) -> str:
        source, name = self._upstream.api_key, self._upstream.name
        if isinstance(source, Secret) and source:
            return _bearer(source, f"the api_key of upstream {name}")
        if callable(source):
            return _bearer(self._asked(), f"the api_key of upstream {name}")
        if self._upstream.key_file is None:
            raise AuthFailed(f"upstream {name} has no key: set its api_key, or take its targets out of the chain")
        return _bearer(self._from_file(Path(self._upstream.key_file)), f"the key file {self._upstream.key_file}")

    def _asked(self) -> Secret:
        source = self._upstream.api_key
        assert callable(source)
        try:
            return Secret(source())
        except RouterError:
            raise
        except Exception as error:  # Whatever a caller's function raises, the call fails for want of a key.
            name = self._upstream.name
            raise AuthFailed(f"upstream {name} got no key: its api_key raised {type(error).__name__}") from error

    def _from_file(self, file: Path) -> Secret:
        """The file's text; it is read again only when the file has changed."""
        try:
            status = file.stat()
            stamp = status.st_mtime_ns, status.st_ino, status.st_size
            if self._read is None or self._read[0] != stamp:
                self._read = stamp, Secret(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            failed = type(error).__name__
        else:
            return self._read[1]
        raise AuthFailed(f"the key file {file} cannot be read: {failed}")


def _hidden(value: Any, key: str) -> Any:
    """A JSON value with `****` where the key stands in one of its texts."""
    if isinstance(value, str):
        return value.replace(key, "****")
    if isinstance(value, dict):
        return {_hidden(name, key): _hidden(part, key) for name, part in value.items()}
    return [_hidden(part, key) for part in value] if isinstance(value, list) else value


def _bearer(key: Secret, whose: str) -> str:
    flaw = _flaw(key.reveal())
    if flaw:
        raise AuthFailed(f"{whose} {flaw}")
    return f"Bearer {key.reveal().strip()}"


def _flaw(text: object) -> str:
    """Why this is no key; empty when it is one. White space around it does not count: files end in a line break."""
    if not isinstance(text, str) or not text.strip():
        return "holds no key"
    blank = any(sign <= " " or sign == "\x7f" for sign in text.strip())
    return "holds a key with a blank or a line break in it" if blank else ""
