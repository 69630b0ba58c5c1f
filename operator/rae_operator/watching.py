"""What kopf tells and what a full listing shows, both into the cache and from there as keys into the queue.

kopf is the shell: it watches, authenticates and reconnects. Its handlers below return at once and change nothing, so kopf writes
no annotation, no finalizer and no status. A listing every `resyncSeconds` finds what a watch missed, and shows if one is deaf.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from rae_operator import labels
from rae_operator.admission import Admission
from rae_operator.api import GROUP, VERSION
from rae_operator.cache import Cache
from rae_operator.kinds import KINDS, Kind
from rae_operator.kube import KubeApi, Paths
from rae_operator.logs import get_logger
from rae_operator.metrics import Metrics
from rae_operator.observe import Body, Key, view_job, view_pod, view_request
from rae_operator.workqueue import WorkQueue

log = get_logger()

#: Every Job and pod of a request has this label; a CronJob's have not.
OURS = labels.REQUEST_UID


class Observations:
    """Takes in what is seen of the cluster's objects."""

    def __init__(self, cache: Cache, queue: WorkQueue[Key], admission: Admission, metrics: Metrics) -> None:
        self.cache, self.queue, self.admission, self._metrics = cache, queue, admission, metrics
        #: uids of which a listing showed something that no watch had told yet.
        self._untold: set[str] = set()
        self.deaf_rounds = 0

    def told(self, body: Body) -> None:
        """A watch has told of this object."""
        self._untold.discard(body["metadata"]["uid"])

    def request(self, body: Body, *, gone: bool = False) -> bool:
        """A custom resource; True when something is new."""
        view = view_request(body)
        if gone:
            self.cache.drop_request(view.key, view.uid)
            self.admission.drop(view.uid)
            return True
        if not self.cache.put_request(view):
            return False
        self.admission.update(view)
        self.queue.add(view.key)
        return True

    def job(self, body: Body, *, gone: bool = False) -> bool:
        """A Job."""
        view = view_job(body)
        if gone:
            self.cache.drop_job(view.namespace, view.name, view.uid)
        elif not self.cache.put_job(view):
            return False
        self._wake(view.owner_uid)
        return True

    def pod(self, body: Body, *, gone: bool = False) -> bool:
        """A pod; those of a request that has ended are of no interest."""
        view = view_pod(body)
        key = self.cache.key_of(view.request_uid)
        request = self.cache.request(key) if key else None
        if request is None or request.finished:
            return False
        if gone:
            self.cache.drop_pod(view)
        elif not self.cache.put_pod(view):
            return False
        self._wake(view.request_uid)
        return True

    def _wake(self, uid: str | None) -> None:
        key = self.cache.key_of(uid)
        if key is not None:
            self.queue.add(key)

    # --- listing

    def begin_round(self) -> None:
        """Count what the last listing found and no watch has told since."""
        missed = len(self._untold)
        if missed:
            self._metrics.missed_events.inc(missed)
            log.warning("watch_missed_events", objects=missed)
        self.deaf_rounds = self.deaf_rounds + 1 if missed else 0
        self._untold.clear()

    def listed(self, take: Callable[[Body], bool], body: Body) -> None:
        """Take in an object of a listing."""
        if take(body):
            self._untold.add(body["metadata"]["uid"])


class Lister:
    """Lists everything that is watched.

    Args:
        namespaces: the watched ones.
    """

    def __init__(self, api: KubeApi, observations: Observations, namespaces: list[str], metrics: Metrics) -> None:
        self._api, self._seen, self._namespaces, self._metrics = api, observations, namespaces, metrics
        self.last_success = time.monotonic()

    async def run_once(self) -> None:
        """List all objects, drop those that are gone, and put every request that goes on into the queue.

        Raises:
            ApiError: a collection could not be listed; what was listed until then is taken in.
        """
        self._seen.begin_round()
        for namespace in self._namespaces:
            for kind in KINDS:
                await self._requests(kind, namespace)
            await self._jobs(namespace)
            await self._pods(namespace)
        for view in self._seen.cache.requests():
            if not view.finished:
                self._seen.queue.add(view.key)
        self.last_success = time.monotonic()
        self._metrics.resynced()

    async def _requests(self, kind: Kind, namespace: str) -> None:
        before = [r for r in self._seen.cache.requests() if r.kind is kind and r.namespace == namespace]
        found = set()
        async for page in self._api.pages(Paths.requests(kind.plural, namespace)):
            for item in page:
                # Items of a list do not say their kind.
                self._seen.listed(self._seen.request, {**item, "kind": kind.name})
                found.add(item["metadata"]["uid"])
        for view in before:
            # What was known before the listing began and is not in it was deleted.
            if view.uid not in found:
                self._seen.cache.drop_request(view.key, view.uid)
                self._seen.admission.drop(view.uid)

    async def _jobs(self, namespace: str) -> None:
        before = [j for j in self._seen.cache.jobs() if j.namespace == namespace]
        found = set()
        async for page in self._api.pages(Paths.jobs(namespace), OURS):
            for item in page:
                self._seen.listed(self._seen.job, item)
                found.add(item["metadata"]["uid"])
        for view in before:
            if view.uid not in found:
                self._seen.cache.drop_job(view.namespace, view.name, view.uid)

    async def _pods(self, namespace: str) -> None:
        async for page in self._api.pages(Paths.pods(namespace), OURS):
            for item in page:
                self._seen.listed(self._seen.pod, item)


def kopf_registry(observations: Observations, login: Configuration) -> kopf.OperatorRegistry:
    """kopf's handlers: each only notes what it is told."""
    registry = kopf.OperatorRegistry()

    def note(take: Callable[..., bool]) -> Callable[..., None]:
        def handler(type: str | None, body: Body, **_: Any) -> None:
            observations.told(body)
            take(body, gone=type == "DELETED")

        return handler

    async def credentials(**_: Any) -> kopf.ConnectionInfo:
        return await _connection(login)

    for kind in KINDS:
        _on_event(registry, note(observations.request), f"request-{kind.plural}", GROUP, VERSION, kind.plural)
    own = {OURS: kopf.PRESENT}
    _on_event(registry, note(observations.job), "job", "batch", "v1", "jobs", labels=own)
    _on_event(registry, note(observations.pod), "pod", "", "v1", "pods", labels=own)
    kopf.on.login(registry=registry)(credentials)
    return registry


def _on_event(registry: kopf.OperatorRegistry, take: Callable[..., None], name: str, *resource: str, **options: Any) -> None:
    # A coroutine, since kopf gives plain functions to a pool of threads, and the cache is the event loop's own.
    async def handler(**arguments: Any) -> None:
        take(**arguments)

    kopf.on.event(*resource, id=name, registry=registry, **options)(handler)


async def _connection(login: Configuration) -> kopf.ConnectionInfo:
    """kopf's credentials, from the client's own configuration: read anew each time, since tokens rotate."""
    settings = await login.auth_settings()
    scheme, _, token = str(settings.get("BearerToken", {}).get("value") or "").partition(" ")
    return kopf.ConnectionInfo(
        server=login.host,
        ca_path=login.ssl_ca_cert,
        insecure=not login.verify_ssl,
        certificate_path=login.cert_file,
        private_key_path=login.key_file,
        scheme=scheme or None,
        token=token or None,
    )


def kopf_settings() -> kopf.OperatorSettings:
    """kopf as a shell: no events of its own, no look at the cluster's other resources, watches that cannot go deaf."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 30
    settings.process.ultimate_exiting_timeout = 20
    return settings
