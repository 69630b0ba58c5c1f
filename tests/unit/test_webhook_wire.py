"""Webhooks over the wire: signature, answers, and the addresses that no URL leads to."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rae_jobctl.errors import ConfigError
from rae_jobctl.webhooks.addresses import Unreachable, is_allowed, resolve
from rae_jobctl.webhooks.client import Answer, deliver
from rae_jobctl.webhooks.settings import WebhookSettings
from rae_jobctl.webhooks.signature import signed_headers
from tests.webhook_receiver import SECRET, Receiver, Reply, receiver

MESSAGE = "6f7c1a1e-0000-4000-8000-000000000001"
OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 24).decode()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def settings(url: str, **env: str) -> WebhookSettings:
    base = {"RAE_WEBHOOK_URL": url, "RAE_WEBHOOK_SECRET": SECRET, "RAE_WEBHOOK_ALLOW_PRIVATE": "true"}
    found = WebhookSettings.from_env({**base, **env})
    assert found is not None
    return found


def within(found: WebhookSettings, **changes: Any) -> WebhookSettings:
    from dataclasses import replace

    return replace(found, **changes)


# Signature -------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_specifications_own_example() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [key])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_receiver_verifies_it_and_sees_its_own_name(hook: Receiver) -> None:
    url = f"http://localhost:{hook.port}/hooks/a?token=t"
    assert await deliver(settings(url), MESSAGE, '{"ü":1}'.encode()) == Answer(200)
    (request,) = hook.requests
    assert request.is_signed_with(SECRET)
    assert not request.is_signed_with(OTHER_SECRET)
    assert (request.path, request.headers["host"], request.id) == ("/hooks/a?token=t", f"localhost:{hook.port}", MESSAGE)
    assert request.headers["content-type"] == "application/json"


async def test_two_secrets_sign_both_while_one_is_changed(hook: Receiver) -> None:
    await deliver(settings(hook.url, RAE_WEBHOOK_SECRET=f"{SECRET} {OTHER_SECRET}"), MESSAGE, b"{}")
    assert hook.requests[0].is_signed_with(SECRET)
    assert hook.requests[0].is_signed_with(OTHER_SECRET)


# Answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_success_is_a_delivery(hook: Receiver, status: int) -> None:
    hook.replies.append(Reply(status))
    assert (await deliver(settings(hook.url), MESSAGE, b"{}")).delivered


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503])
async def test_anything_else_is_none_and_a_redirect_is_not_followed(hook: Receiver, status: int) -> None:
    hook.replies.append(Reply(status, {"location": hook.url, "retry-after": "7"}))
    answer = await deliver(settings(hook.url), MESSAGE, b"{}")
    assert (answer.delivered, answer.error, answer.gone) == (False, f"Http{status}", status == 410)
    assert answer.headers["retry-after"] == "7"
    assert len(hook.requests) == 1


async def test_a_body_without_an_end_is_not_read(hook: Receiver) -> None:
    hook.replies.append(Reply(endless=True))
    assert (await deliver(settings(hook.url), MESSAGE, b"{}")).delivered


async def test_a_receiver_that_hangs_is_a_timeout(hook: Receiver) -> None:
    hook.replies.append(Reply(hang=2))
    assert await deliver(within(settings(hook.url), timeout=0.3), MESSAGE, b"{}") == Answer(0, "Timeout")


async def test_an_answer_that_trickles_does_not_outlast_the_timeout() -> None:
    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nx: ":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        writer.transport.abort()
        ended.set()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await deliver(within(settings(url), timeout=0.3), MESSAGE, b"{}") == Answer(0, "Timeout")
        await ended.wait()


async def test_nobody_there_and_no_such_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert (await deliver(settings(f"http://127.0.0.1:{port}/"), MESSAGE, b"{}")).error == "ConnectError"
    assert (await deliver(settings("http://nobody.invalid/"), MESSAGE, b"{}")).error == "NameUnknown"


async def test_a_proxy_of_the_environment_is_not_asked(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await deliver(settings(hook.url), MESSAGE, b"{}")).delivered


# TLS -------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's context with a certificate of its own for a name."""
    files = [str(folder / "key.pem"), str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    extensions = ["-addext", f"subjectAltName=DNS:{name}", "-keyout", files[0], "-out", files[1]]
    subprocess.run([*command, *extensions], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    return context


@pytest.mark.parametrize(("name", "error"), [("localhost", ""), ("other.example", "ConnectError")])
async def test_the_certificate_must_be_for_the_name_though_the_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: str
) -> None:
    with Receiver(certificate(tmp_path, name)).running() as hook:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        answer = await deliver(settings(f"https://localhost:{hook.port}/"), MESSAGE, b"{}")
        assert answer.error == error
        assert len(hook.requests) == (not error)


# Addresses -------------------------------------------------------------------------------------

PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1"),
    *("::1", "fc00::1", "fd12:3456::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    *("2002:a00:1::1", "192.0.2.1", "203.0.113.1", "2001:db8::1", "::7f00:1"),
]
NEVER = [
    *("169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
    *("192.0.0.192", "0.0.0.0", "::", "224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255", "240.0.0.1"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_needs_leave(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1", "fd12::1", "::ffff:10.0.0.1"])
def test_with_leave_it_is_a_receiver(address: str) -> None:
    assert is_allowed(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("leave", [True, False])
def test_metadata_link_local_and_multicast_are_never_receivers(address: str, leave: bool) -> None:
    assert not is_allowed(address, allow_private=leave)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_a_receiver(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "::1", "::ffff:127.0.0.1"])
async def test_every_spelling_of_an_address_is_refused_after_resolution(host: str) -> None:
    with pytest.raises(Unreachable, match=r"AddressRefused|NameUnknown"):
        await resolve(host, 443, allow_private=False)


@pytest.mark.parametrize("url", ["https://127.0.0.1", "https://169.254.169.254/latest", "https://10.0.0.1", "https://[::1]"])
async def test_no_connection_is_made_to_a_refused_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    answer = await deliver(settings(url, RAE_WEBHOOK_ALLOW_PRIVATE="false"), MESSAGE, b"{}")
    assert answer == Answer(0, "AddressRefused")


def resolves_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The resolver's answers to the next questions, and the names that were asked for."""
    asked: list[str] = []
    queue = list(answers)

    async def getaddrinfo(host: str, port: int, **kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in queue.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Unreachable, match="AddressRefused"):
        await resolve("mixed.example", 443, allow_private=False)


async def test_the_connection_goes_to_the_address_that_was_checked(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolves_to(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    assert (await deliver(settings(f"http://rebinding.example:{hook.port}/"), MESSAGE, b"{}")).delivered
    assert asked == ["rebinding.example"]
    assert hook.requests[0].headers["host"] == f"rebinding.example:{hook.port}"


# Settings --------------------------------------------------------------------------------------


def test_without_a_url_nobody_is_notified() -> None:
    assert WebhookSettings.from_env({"RAE_WEBHOOK_SECRET": SECRET}) is None


TOKEN = "T0KEN"


@pytest.mark.parametrize(
    "env",
    [
        {"RAE_WEBHOOK_URL": f"ftp://example.org/{TOKEN}"},
        {"RAE_WEBHOOK_URL": f"http://example.org/{TOKEN}"},
        {"RAE_WEBHOOK_URL": f"https://user:{TOKEN}@example.org/"},
        {"RAE_WEBHOOK_URL": f"https://example.org:x/{TOKEN}"},
        {"RAE_WEBHOOK_URL": f"https://example.org/{TOKEN} x"},
        {"RAE_WEBHOOK_URL": f"https://[::1/{TOKEN}"},
        {"RAE_WEBHOOK_URL": f"https://example.org/#{TOKEN}"},
        {"RAE_WEBHOOK_SECRET": ""},
        {"RAE_WEBHOOK_SECRET": TOKEN * 10},
        {"RAE_WEBHOOK_SECRET": f"whsec_{TOKEN}!"},
        {"RAE_WEBHOOK_SECRET": "whsec_" + base64.b64encode(TOKEN.encode()).decode()},
        {"RAE_WEBHOOK_SECRET": f"{SECRET} {TOKEN}"},
        {"RAE_WEBHOOK_ALLOW_PRIVATE": "perhaps"},
        {"RAE_WEBHOOK_MAX_ATTEMPTS": "0"},
    ],
)
def test_what_cannot_work_is_refused_without_being_repeated(env: dict[str, str]) -> None:
    base = {"RAE_WEBHOOK_URL": "https://example.org/", "RAE_WEBHOOK_SECRET": SECRET}
    with pytest.raises(ConfigError) as caught:
        WebhookSettings.from_env({**base, **env})
    assert TOKEN not in f"{caught.value.message} {caught.value.hint}"


def test_neither_secret_nor_url_is_in_the_settings_text() -> None:
    shown = repr(settings(f"https://example.org/{TOKEN}"))
    assert TOKEN not in shown
    assert "keys" not in shown
