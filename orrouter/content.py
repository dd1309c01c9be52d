"""Content parts of a message from files and addresses: pictures, sound, documents.

`messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image("photo.png")]}]`

Law: a path or an address becomes the plain dict that the API takes. A file is read here and now; an address is never
fetched, the upstream does that.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from orrouter.core.errors import InvalidRequest

LARGEST: Final = 20 * 2**20
"""Bytes of the largest file that is put into a request; in base64 it grows by a third."""

Part = dict[str, Any]
PathOrUrl = str | os.PathLike[str]

_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_PICTURES: Final[Mapping[bytes, str]] = {
    rb"\x89PNG\r\n\x1a\n": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"GIF8[79]a": "image/gif",
    rb"RIFF.{4}WEBP": "image/webp",
}
"""How the pictures begin that every vision model reads (as patterns), and their types."""
_SOUNDS: Final[Mapping[bytes, str]] = {
    rb"RIFF.{4}WAVE": "wav",
    rb"ID3": "mp3",
    rb"fLaC": "flac",
    rb"OggS": "ogg",
    rb"FORM.{4}AIF[FC]": "aiff",
    rb".{4}ftyp": "m4a",
    rb"\xff[\xf0\xf1\xf8\xf9]": "aac",
    rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]": "mp3",
}
"""How files of sound begin (as patterns), and the words that `input_audio.format` has for them."""
_HEADLESS: Final = frozenset({"pcm16", "pcm24"})
"""Formats of bare samples: only the name of the file tells them."""


def image(source: PathOrUrl, *, detail: str | None = None) -> Part:
    """A picture as a content part. `source`: a file (PNG, JPEG, WebP, GIF; its bytes tell which), or an address.

    `detail` is the API's own: auto, low, high. Raises InvalidRequest for what cannot be read or is no picture.
    """
    address = _address(source)
    if address is None:
        data = _read(source)
        mime = _sniffed(data, _PICTURES)
        if mime is None:
            raise InvalidRequest(f"{_name(source)} is no PNG, JPEG, WebP or GIF: convert it to one of these")
        address = _data_url(mime, data)
    return {"type": "image_url", "image_url": {"url": address} | ({"detail": detail} if detail else {})}


def audio(source: PathOrUrl) -> Part:
    """A sound as a content part, from a file: wav, mp3, flac, ogg, aiff, m4a, aac, or bare samples named *.pcm16.

    Raises InvalidRequest for what cannot be read, is no sound, or is an address, which the API does not take here.
    """
    if _address(source) is not None:
        raise InvalidRequest("a sound is sent as a file, not as an address: save it, and name the file")
    data, ending = _read(source), _ending(source)
    form = _sniffed(data, _SOUNDS) or (ending if ending in _HEADLESS else None)
    if form is None:
        known = ", ".join(sorted({*_SOUNDS.values(), *_HEADLESS}))
        raise InvalidRequest(f"{_name(source)} is no sound in a known format ({known}): convert it to wav or mp3")
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


def file(source: PathOrUrl, *, filename: str | None = None) -> Part:
    """A document (a PDF, most often) as a content part. `source`: a file, or an address.

    `filename` is the name the model hears of; the file's own where none is given. Raises InvalidRequest for what
    cannot be read.
    """
    address = _address(source)
    if address is None:
        data = _read(source)
        address = _data_url(_document_type(source, data), data)
    name = filename or _last_step(source)
    return {"type": "file", "file": {"filename": name, "file_data": address}}


def _address(source: PathOrUrl) -> str | None:
    """The source, if it is an address or a data URL already."""
    if isinstance(source, str) and (_URL.match(source) or source.startswith("data:")):
        return source
    return None


def _read(source: PathOrUrl) -> bytes:
    """The bytes of a file. Raises InvalidRequest when it cannot be read, is empty or too large."""
    try:
        with Path(source).open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(f"{_name(source)} cannot be read: {reason}") from error
    if len(data) > LARGEST:
        raise InvalidRequest(f"{_name(source)} is larger than {LARGEST >> 20} MiB: make it smaller, or send an address")
    if not data:
        raise InvalidRequest(f"{_name(source)} is empty")
    return data


def _sniffed(data: bytes, kinds: Mapping[bytes, str]) -> str | None:
    return next((kind for begins, kind in kinds.items() if re.match(begins, data, re.DOTALL)), None)


def _document_type(source: PathOrUrl, data: bytes) -> str:
    """The bytes tell a PDF; else the ending tells, and else it is text if it reads as text."""
    if data.startswith(b"%PDF-"):
        return "application/pdf"
    guessed, packed = mimetypes.guess_type(os.fspath(source))
    if guessed and not packed:
        return guessed
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def _data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _ending(source: PathOrUrl) -> str:
    return Path(source).suffix.removeprefix(".").lower()


def _last_step(source: PathOrUrl) -> str:
    text = os.fspath(source)
    if text.startswith("data:"):
        return "document"
    return text.partition("?")[0].rstrip("/").replace("\\", "/").rpartition("/")[2] or "document"


def _name(source: PathOrUrl) -> str:
    return repr(os.fspath(source))
