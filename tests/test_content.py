"""Content parts from files and addresses."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.content import LARGEST, audio, file, image
from orrouter.core.errors import InvalidRequest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
JPEG = b"\xff\xd8\xff\xe0" + bytes(16)
GIF = b"GIF89a" + bytes(16)
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(16)
WAV = b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(16)


@pytest.fixture
def put(tmp_path):
    """Writes a file and returns its path."""

    def written(name: str, data: bytes):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return written


@pytest.mark.parametrize(
    ("data", "mime"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")]
)
def test_a_picture_becomes_a_data_url_of_its_own_kind(put, data, mime):
    """The bytes tell the type, and they are all there."""
    expected = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    assert {"type": "image_url", "image_url": {"url": expected}} == image(put("picture", data))


def test_the_bytes_tell_more_than_the_ending(put):
    """A JPEG that is called .png is sent as a JPEG: the upstream reads the bytes."""
    assert image(put("photo.png", JPEG))["image_url"]["url"].startswith("data:image/jpeg;")


@pytest.mark.parametrize("url", ["https://example.com/a.png", "HTTP://example.com/a", "data:image/png;base64,AAAA"])
def test_an_address_is_passed_on_as_it_is(url):
    """An address is not fetched: the upstream does that."""
    assert {"type": "image_url", "image_url": {"url": url}} == image(url)


def test_the_detail_of_a_picture_is_passed_on():
    """`detail` stands beside the address, where the API wants it."""
    part = image("https://example.com/a.png", detail="low")
    assert {"url": "https://example.com/a.png", "detail": "low"} == part["image_url"]


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("a.bin", WAV, "wav"),
        ("a.bin", b"ID3\x04" + bytes(9), "mp3"),
        ("a.bin", b"\xff\xfb\x90\x00" + bytes(9), "mp3"),
        ("a.bin", b"fLaC" + bytes(9), "flac"),
        ("a.bin", b"OggS" + bytes(9), "ogg"),
        ("a.bin", b"FORM\x00\x00\x00\x10AIFF" + bytes(9), "aiff"),
        ("a.bin", b"\x00\x00\x00\x20ftypM4A " + bytes(9), "m4a"),
        ("a.bin", b"\xff\xf1\x50\x80" + bytes(9), "aac"),
        ("a.PCM16", bytes(9), "pcm16"),
    ],
)
def test_a_sound_bears_its_format(put, name, data, form):
    """The bytes tell the format; only bare samples are told by the name of the file."""
    expected = {"data": base64.b64encode(data).decode(), "format": form}
    assert {"type": "input_audio", "input_audio": expected} == audio(put(name, data))


@pytest.mark.parametrize(
    ("name", "data", "mime"),
    [
        ("paper", b"%PDF-1.7 ...", "application/pdf"),
        ("notes.txt", b"hello", "text/plain"),
        ("table.csv", b"a,b", "text/csv"),
        ("README", "Grüße".encode(), "text/plain"),
        ("blob", b"\xff\xfe\x00", "application/octet-stream"),
    ],
)
def test_a_document_bears_its_name_and_type(put, name, data, mime):
    """A PDF is told by its bytes, others by their ending, and else by whether they read as text."""
    expected = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    assert {"type": "file", "file": {"filename": name, "file_data": expected}} == file(put(name, data))


def test_a_document_may_be_an_address():
    """The address is passed on, and its last step is the name."""
    expected = {"filename": "paper.pdf", "file_data": "https://example.com/x/paper.pdf?v=2"}
    assert expected == file("https://example.com/x/paper.pdf?v=2")["file"]


def test_a_document_may_be_given_another_name(put):
    """The name that the model hears of need not be the file's."""
    assert "contract.pdf" == file(put("tmp123", b"%PDF-1.7"), filename="contract.pdf")["file"]["filename"]


@pytest.mark.parametrize("make", [image, audio, file])
def test_a_missing_file_is_named_in_the_error(make, tmp_path):
    """The error says which file, and why it cannot be read."""
    with pytest.raises(InvalidRequest, match=r"nowhere\.png' cannot be read: No such file"):
        make(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("make", "data", "told"),
    [
        (image, b"", "is empty"),
        (image, b"hello", "no PNG, JPEG, WebP or GIF"),
        (image, WAV, "no PNG, JPEG, WebP or GIF"),
        (audio, b"hello", "no sound in a known format"),
        (audio, WEBP, "no sound in a known format"),
    ],
)
def test_what_is_something_else_is_refused(put, make, data, told):
    """A file that the API would refuse is refused before anything is sent, and the error says what would be taken."""
    with pytest.raises(InvalidRequest, match=told):
        make(put("odd.bin", data))


def test_a_sound_is_no_address():
    """The API takes no address of a sound; the error says what to do instead."""
    with pytest.raises(InvalidRequest, match="save it"):
        audio("https://example.com/a.mp3")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    """One byte more than the limit is refused; the file is never read whole."""
    path = tmp_path / "large.png"
    with path.open("wb") as stream:
        stream.write(PNG)
        stream.truncate(LARGEST + 1)
    with pytest.raises(InvalidRequest, match="larger than 20 MiB"):
        image(path)


@given(st.text(), st.sampled_from([image, audio, file]))
def test_no_name_breaks_it(name, make):
    """Whatever stands for a path gives a part or a clear error."""
    try:
        part = make(name)
    except InvalidRequest as error:
        assert error.message
    else:
        assert part["type"] in {"image_url", "input_audio", "file"}
