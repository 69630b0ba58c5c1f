"""The little of the Kubernetes API that a task needs which makes or erases requests: create, list and delete custom resources.

Plain HTTP with the pod's own token: the `kubernetes` package would add a second to the start of every run.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from rae_jobctl.errors import ConfigError, TaskError, TransientError
from rae_jobctl.settings import Environment, text
from rae_jobctl.tasks.erasure.elsewhere import StoredRequest
from rae_jobctl.tasks.scheduling.board import GROUP_LABEL, Known, Wanted

API = "apis/tasks.rae.dev/v1alpha1"
PLURALS = {"GraphExtractionRequest": "graphextractionrequests", "ReflectionRequest": "reflectionrequests"}
_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PAGE = 500
#: What is there already, or no more, is as it should be.
_FINE = {"POST": (httpx.codes.CONFLICT,), "DELETE": (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT)}


class KubeBoard:
    """Requests as custom resources of one namespace; see tasks.scheduling.board.Board.

    Args:
        client: with base URL and token.
        namespace: where requests are made.
    """

    def __init__(self, client: httpx.AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    @classmethod
    def from_env(cls, env: Environment | None = None) -> KubeBoard:
        """In a pod by its service account; elsewhere by RAE_KUBE_API, e.g. of `kubectl proxy`, and RAE_NAMESPACE.

        Raises:
            ConfigError: neither is there.
        """
        env = os.environ if env is None else env
        folder = Path(text(env, "RAE_SERVICE_ACCOUNT_DIR", str(_FOLDER)))
        proxy = text(env, "RAE_KUBE_API")
        if proxy:
            return cls(httpx.AsyncClient(base_url=proxy, timeout=30), text(env, "RAE_NAMESPACE", "default"))
        host = text(env, "KUBERNETES_SERVICE_HOST")
        try:
            token = (folder / "token").read_text(encoding="utf-8").strip()
            namespace = text(env, "RAE_NAMESPACE") or (folder / "namespace").read_text(encoding="utf-8").strip()
            trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        except (OSError, ssl.SSLError):
            host = ""
        if not host:
            raise ConfigError(
                "this task makes requests in Kubernetes, and neither a pod's service account nor RAE_KUBE_API says where that is",
                reason="ConfigMissing",
                hint="at a laptop: kubectl proxy & export RAE_KUBE_API=http://127.0.0.1:8001 RAE_NAMESPACE=...",
            )
        port = text(env, "KUBERNETES_SERVICE_PORT", "443")
        bracketed = f"[{host}]" if ":" in host else host
        headers = {"Authorization": f"Bearer {token}"}
        return cls(
            httpx.AsyncClient(base_url=f"https://{bracketed}:{port}", verify=trust, headers=headers, timeout=30), namespace
        )

    async def __aenter__(self) -> KubeBoard:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()

    async def known(self, kind: str) -> list[Known]:
        """The requests of a kind that carry a group's label.

        Raises:
            TransientError, ConfigError: as `create`.
        """
        found: list[Known] = []
        query: dict[str, str | int] = {"labelSelector": GROUP_LABEL, "limit": _PAGE}
        while True:
            page = (await self._send("GET", self._path(kind), params=query)).json()
            found += [_known(item) for item in page.get("items", [])]
            rest = page.get("metadata", {}).get("continue")
            if not rest:
                return found
            query = {**query, "continue": rest}

    async def create(self, wanted: Wanted) -> bool:
        """Make a request; False when one of this name is there.

        Raises:
            TransientError: the API server is away or busy.
            ConfigError: it refuses us, or does not know the kind.
        """
        body = {
            "apiVersion": "tasks.rae.dev/v1alpha1",
            "kind": wanted.kind,
            "metadata": {"name": wanted.name, "labels": dict(wanted.labels)},
            "spec": dict(wanted.spec),
        }
        return (await self._send("POST", self._path(wanted.kind), json=body)).status_code != httpx.codes.CONFLICT

    async def everything(self) -> list[StoredRequest]:
        """All custom resources of our group in the namespace, of whatever kinds the API server has.

        Raises:
            TransientError, ConfigError: as `create`.
        """
        kinds = (await self._send("GET", f"/{API}")).json().get("resources", [])
        plurals = [kind["name"] for kind in kinds if kind.get("namespaced") and "/" not in kind["name"]]
        return [request for plural in plurals for request in await self._all(plural)]

    async def _all(self, plural: str) -> list[StoredRequest]:
        found: list[StoredRequest] = []
        query: dict[str, str | int] = {"limit": _PAGE}
        while True:
            page = (await self._send("GET", self._place(plural), params=query)).json()
            found += [_stored(plural, item) for item in page.get("items", [])]
            rest = page.get("metadata", {}).get("continue")
            if not rest:
                return found
            query = {**query, "continue": rest}

    async def delete(self, request: StoredRequest) -> None:
        """Delete a request; its Jobs and pods follow. One that is gone, or was made anew under its name, is left alone.

        Raises:
            TransientError, ConfigError: as `create`.
        """
        body = {"propagationPolicy": "Background", "preconditions": {"uid": request.uid}}
        await self._send("DELETE", f"{self._place(request.plural)}/{request.name}", json=body)

    def _place(self, plural: str) -> str:
        return f"/{API}/namespaces/{self._namespace}/{plural}"

    def _path(self, kind: str) -> str:
        return self._place(PLURALS[kind])

    async def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = await self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            message = f"cannot reach the Kubernetes API ({type(error).__name__})"
            raise TransientError(message, reason="KubernetesUnreachable") from None
        if response.is_success or response.status_code in _FINE.get(method, ()):
            return response
        raise _refused(response, path)


def _refused(response: httpx.Response, path: str) -> TaskError:
    status = response.status_code
    told = _message(response)
    if status in (401, 403):
        return ConfigError(f"Kubernetes refuses this pod ({status}): {told}", reason="KubernetesForbidden", hint="check the Role")
    if status == 404:
        return ConfigError(
            f"Kubernetes has no {path.rpartition('/')[2]}.tasks.rae.dev in this namespace",
            reason="CrdMissing",
            hint="install the CRDs",
        )
    if status == 429 or status >= 500:
        return TransientError(f"the Kubernetes API answered {status}", reason="KubernetesBusy")
    return ConfigError(
        f"Kubernetes refuses the request ({status}): {told}", reason="KubernetesRefused", hint="are the CRDs this image's?"
    )


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json().get("message", ""))[:300]
    except (ValueError, AttributeError):
        return "no message"


def _known(item: Mapping[str, Any]) -> Known:
    metadata = item.get("metadata", {})
    conditions = item.get("status", {}).get("conditions", [])
    finished = any(c.get("type") == "Finished" and c.get("status") == "True" for c in conditions)
    suspended = item.get("spec", {}).get("suspend") is True
    return Known(str(metadata.get("name", "")), finished, metadata.get("labels", {}), suspended)


def _stored(plural: str, item: dict[str, Any]) -> StoredRequest:
    metadata = item.get("metadata", {})
    return StoredRequest(plural, str(metadata.get("name", "")), str(metadata.get("uid", "")), item)
