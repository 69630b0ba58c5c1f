"""One delivery: resolve, check, connect to the checked address, post, read the status."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from rae_jobctl import __version__
from rae_jobctl.webhooks.addresses import Unreachable, resolve
from rae_jobctl.webhooks.settings import WebhookSettings
from rae_jobctl.webhooks.signature import signed_headers

_GONE = 410


@dataclass(frozen=True)
class Answer:
    """What became of one delivery.

    Attributes:
        status: of HTTP; 0 when there was none.
        error: one word, empty when it was delivered.
        headers: of the answer.
    """

    status: int
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return not self.error

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more of it."""
        return self.status == _GONE


async def deliver(settings: WebhookSettings, message_id: str, body: bytes) -> Answer:
    """Send a message once; whatever goes wrong is in the answer."""
    try:
        async with asyncio.timeout(settings.timeout):
            return await _post(settings, message_id, body)
    except TimeoutError:
        return Answer(0, "Timeout")
    except Unreachable as error:
        return Answer(0, error.reason)
    except httpx.HTTPError as error:
        return Answer(0, type(error).__name__)
    except (OSError, ssl.SSLError, httpx.InvalidURL) as error:
        return Answer(0, type(error).__name__)


async def _post(settings: WebhookSettings, message_id: str, body: bytes) -> Answer:
    url = httpx.URL(settings.url)
    port = url.port or (443 if url.scheme == "https" else 80)
    host = url.raw_host.decode("ascii")
    address = await resolve(host, port, settings.allow_private)
    headers = {
        **signed_headers(message_id, int(time.time()), body, settings.keys),
        # The URL names the address, so the name has to be said here and for TLS.
        "host": url.netloc.decode("ascii"),
        "content-type": "application/json",
        "user-agent": f"rae-tasks/{__version__}",
    }
    extensions = {"sni_hostname": host}
    # No proxy of the environment: it would resolve the name for itself. The certificates of SSL_CERT_FILE count all the same.
    async with httpx.AsyncClient(verify=httpx.create_ssl_context(), trust_env=False, timeout=settings.timeout) as client:
        target = url.copy_with(host=address)
        async with client.stream("POST", target, content=body, headers=headers, extensions=extensions) as response:
            # Nothing of the body is read: a status says all, and a body may be endless.
            return _answer(response)


def _answer(response: httpx.Response) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return Answer(status)
    return Answer(status, f"Http{status}", response.headers)
