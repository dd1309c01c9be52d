"""Certificates are verified, always; and what a proxy sees."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import pytest
import trustme

from orrouter.core.call import Clocks
from orrouter.core.errors import PolicyError
from tests.transport.far import (
    KEY,
    FarEnd,
    ask,
    call,
    header_lines,
    keeps,
    nothing_is_left,  # noqa: F401  # a fixture is used by its name
    outcome,
    piece,
    plays,
    said,
    sse_head,
    streamed,
    transport,
    upstream,
    whole,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority, tmp_path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_a_certificate_of_the_authority_named_is_believed(authority, ca_file, road):
    """`ca_file` is trusted instead of the system's."""
    async with FarEnd(keeps(whole()), tls=server_tls(authority)) as far, transport(far, road, ca_file=ca_file) as ours:
        assert "Hello there" == await ask(ours, call())


@pytest.mark.parametrize("case", ["unknown authority", "another host"])
async def test_a_certificate_that_proves_nothing_ends_the_connection(authority, ca_file, case):
    """Verified always: nothing is sent, nothing was billed, and the target may be tried again."""
    host, trusted = ("127.0.0.1", None) if case == "unknown authority" else ("example.org", ca_file)
    async with FarEnd(keeps(whole()), tls=server_tls(authority, host)) as far, transport(far, ca_file=trusted) as ours:
        asked = call()
        assert ("connection_failed", "no", "") == await outcome(ours, asked)
    assert ("not_sent", []) == (asked.attempt.phase, far.requests)


@pytest.mark.parametrize("then", ["cut", "reset", "noise", "silence"])
async def test_tls_that_does_not_come_about_was_surely_not_billed(then, ca_file):
    """Cut, reset, garbage or silence in the middle of the handshake."""

    async def breaks(line) -> None:
        await line.reader.read(1)
        if then == "reset":
            line.reset()
        elif then == "noise":
            await line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif then == "silence":
            await line.gone()

    async with FarEnd(breaks) as far, transport(far.url.replace("http:", "https:"), ca_file=ca_file) as ours:
        asked = call(clocks=Clocks(connect=0.1 if then == "silence" else 5.0))
        assert ("connection_failed", "no", "") == await outcome(ours, asked)


async def test_tls_that_is_cut_in_the_middle_breaks_the_stream(authority, ca_file):
    """Without a word of farewell."""

    async def tears(line) -> None:
        await line.request()
        await line.send(sse_head(), piece(said("Hi")))
        line.writer.transport.abort()

    async with FarEnd(tears, tls=server_tls(authority)) as far, transport(far, ca_file=ca_file) as ours:
        assert ("stream_broken", "yes", "Hi") == await outcome(ours, streamed())


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_without_certificates_is_a_mistake_in_the_policy(tmp_path, content):
    """Named, before anything goes out."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    async with transport("https://127.0.0.1:1", ca_file=str(file)) as ours:
        with pytest.raises(PolicyError, match=f"upstream far cannot read its certificates from {file}"):
            await ask(ours, call())


async def tunnel(line) -> None:
    """What a proxy does: forward a request in absolute form, or open a tunnel."""
    asked = await line.request()
    _, target, _ = asked.partition(b"\r\n")[0].split()
    if not asked.startswith(b"CONNECT"):
        await line.send(whole())
        return
    host, _, port = target.decode().partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await line.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(_pump(line.reader, writer), _pump(reader, line.writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_a_proxy_sees_the_request_for_a_plain_upstream(road):
    """In absolute form, with the proxy's own password, which no repr shows."""
    async with FarEnd(tunnel) as proxy:
        through = f"http://user:hunter2@127.0.0.1:{proxy.port}"
        async with transport("http://upstream.invalid/api/v1", road, proxy=through) as ours:
            assert "Hello there" == await ask(ours, call())
    assert proxy.requests[0].startswith(b"POST http://upstream.invalid/api/v1/chat/completions HTTP/1.1\r\n")
    assert "Basic dXNlcjpodW50ZXIy" == header_lines(proxy.requests[0])["proxy-authorization"]
    assert "hunter2" not in repr(upstream("http://far", proxy=through))


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_a_proxy_tunnels_to_an_upstream_with_tls(authority, ca_file, road):
    """It sees where to, and neither key nor words."""
    async with FarEnd(keeps(whole()), tls=server_tls(authority)) as far, FarEnd(tunnel) as proxy:
        async with transport(far, road, ca_file=ca_file, proxy=f"http://127.0.0.1:{proxy.port}") as ours:
            assert "Hello there" == await ask(ours, call())
    assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{far.port} HTTP/1.1\r\n".encode())
    assert KEY.encode() not in proxy.requests[0]


async def test_a_proxy_that_refuses_is_a_connection_that_was_not_had(ca_file):
    """Nothing reached the upstream."""
    async with FarEnd(plays(whole(b"", "407 Proxy Authentication Required"))) as proxy:
        async with transport("https://127.0.0.1:1/v1", ca_file=ca_file, proxy=f"http://127.0.0.1:{proxy.port}") as ours:
            asked = call()
            assert ("connection_failed", "no", "") == await outcome(ours, asked)
    assert "not_sent" == asked.attempt.phase
