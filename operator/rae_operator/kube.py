"""The Kubernetes API as the operator uses it: JSON in, JSON out, typed errors, and a fence before each write.

It sits on the official asyncio client's own request function, which does authentication and token rotation, and leaves out its
models: objects that are ten thousand times in memory are kept as the small views of `observe`.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config as _config
from kubernetes.aio.client import ApiClient, Configuration

from rae_operator.api import GROUP, VERSION

Body = Mapping[str, Any]
# The package has no annotations.
config: Any = _config
#: Called for each request with its verb, resource and HTTP status (0 when there was no answer).
Observer = Callable[[str, str, int], None]

REQUEST_SECONDS = 30.0
PAGE_SIZE = 500
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiError(Exception):
    """The API server refused, or did not answer (status 0).

    Attributes:
        status: HTTP status.
        retry_after: seconds that the server asked to wait, or None.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after


class NoCluster(Exception):
    """There is no usable way to a cluster."""


class Paths:
    """Paths of the resources that the operator works with."""

    @staticmethod
    def requests(plural: str, namespace: str, name: str = "") -> str:
        """Custom resources of a kind."""
        return _path(f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}", name)

    @staticmethod
    def jobs(namespace: str, name: str = "") -> str:
        """Jobs."""
        return _path(f"/apis/batch/v1/namespaces/{namespace}/jobs", name)

    @staticmethod
    def pods(namespace: str, name: str = "") -> str:
        """Pods."""
        return _path(f"/api/v1/namespaces/{namespace}/pods", name)

    @staticmethod
    def events(namespace: str) -> str:
        """Events."""
        return f"/api/v1/namespaces/{namespace}/events"

    @staticmethod
    def leases(namespace: str, name: str = "") -> str:
        """Leases."""
        return _path(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", name)


def _path(collection: str, name: str) -> str:
    return f"{collection}/{name}" if name else collection


async def connect() -> Any:
    """A client by the pod's service account, or outside a cluster by KUBECONFIG.

    Raises:
        NoCluster: the service account or the kubeconfig cannot be used.
    """
    configuration = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration, persist_config=False)
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise NoCluster(f"no way to the cluster: {' '.join(str(error).split())[:300]}") from None
    return ApiClient(configuration=configuration)


class KubeApi:
    """Requests to the API server.

    Args:
        client: an authenticated client.
        fence: called before each write; raises when this process must not write any more.
        observer: told of each request.
    """

    def __init__(self, client: Any, *, fence: Callable[[], None] = lambda: None, observer: Observer | None = None) -> None:
        self._client = client
        self._fence = fence
        self._observe = observer or (lambda verb, resource, status: None)

    def unfenced(self) -> KubeApi:
        """The same without the fence: the lease itself is written before anyone leads."""
        return KubeApi(self._client, observer=self._observe)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def get(self, path: str) -> Body | None:
        """An object, or None when there is none."""
        try:
            return await self._json("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def pages(self, path: str, selector: str = "") -> AsyncIterator[list[Body]]:
        """All objects of a collection as they are now, page by page."""
        token = ""
        while True:
            query = {"limit": str(PAGE_SIZE), **({"labelSelector": selector} if selector else {})}
            body = await self._json("GET", path, {**query, **({"continue": token} if token else {})})
            yield body.get("items") or []
            token = (body.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def list(self, path: str, selector: str = "") -> list[Body]:
        """All objects of a collection."""
        return [item async for page in self.pages(path, selector) for item in page]

    async def text(self, path: str, query: Mapping[str, str]) -> str:
        """The plain text of a subresource, such as a log."""
        return (await self._send("GET", path, query, None, None)).decode(errors="replace")

    async def create(self, path: str, body: Body) -> Body:
        """Create an object; an ApiError with status 409 says that the name is taken."""
        self._fence()
        return await self._json("POST", path, body=body)

    async def update(self, path: str, body: Body) -> Body:
        """Replace an object; 409 when it is not of the resourceVersion that the body says."""
        self._fence()
        return await self._json("PUT", path, body=body)

    async def patch(self, path: str, body: Body) -> Body:
        """Merge into an object; 409 when the body names a resourceVersion that is over."""
        self._fence()
        return await self._json("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def delete(self, path: str, options: Body) -> None:
        """Delete an object; one that is gone already is as good. 409 when a precondition does not hold."""
        self._fence()
        try:
            await self._json("DELETE", path, body={"apiVersion": "v1", "kind": "DeleteOptions", **options})
        except ApiError as error:
            if error.status != 404:
                raise

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str | None = None,
    ) -> Body:
        content = await self._send(method, path, query, body, content_type)
        try:
            parsed: Body = json.loads(content)
        except ValueError:
            # Something between here and the API server, or half an answer.
            raise ApiError(0, f"the answer to {method} {path} is no JSON") from None
        return parsed

    async def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Body | None, content_type: str | None
    ) -> bytes:
        headers = {"Accept": "application/json", **({"Content-Type": content_type or "application/json"} if body else {})}
        verb, resource = _VERBS[method], _resource(path)
        try:
            prepared = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(*prepared, _request_timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS))
            content: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._observe(verb, resource, 0)
            raise ApiError(0, f"no answer from the API server ({type(error).__name__})") from None
        self._observe(verb, resource, response.status)
        if response.status >= 400:
            raise _error(response.status, content, response.headers.get("Retry-After"))
        return content


def _resource(path: str) -> str:
    """The resource in a path, for metrics: jobs, pods, pods/log, graphextractionrequests/status."""
    after = path.split("/namespaces/", 1)[-1].split("/")[1:]
    return "/".join([after[0], *after[2:]]) if after else "none"


def _error(status: int, content: bytes, retry_after: str | None) -> ApiError:
    try:
        message = str(json.loads(content).get("message") or "")
    except (ValueError, AttributeError):
        message = ""
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ApiError(status, message[:512] or "refused without a message", seconds)


def kubeconfig_exists() -> bool:
    """Whether there is any way to a cluster, for a clear error at the start."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    names = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return any(Path(name).exists() for name in names.split(os.pathsep))
