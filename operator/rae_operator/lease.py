"""One leader: a Lease that is held by renewing it, and a deadline of this process's own that fences each write.

As client-go's leader election: another's Lease is taken over only after its duration has passed on this process's own monotonic
clock since the last change that it saw, so that clocks that differ do no harm. Beyond it: the holder may write only until
`renewDeadlineSeconds` after the *start* of its last successful renewal. Since that is less than the Lease's duration, a paused
process wakes up fenced before anyone else may lead.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rae_operator.kube import ApiError, Body, KubeApi, Paths
from rae_operator.logs import get_logger
from rae_operator.settings import LeaseSettings

log = get_logger()


class NotLeader(Exception):
    """This process does not hold the Lease (any more) and must not write."""


class LeaderLease:
    """The Lease of the operator.

    Args:
        api: without the fence.
        settings: names and times; the namespace must be set.
        identity: of this process, different for each start.
        clock: monotonic seconds.
    """

    def __init__(self, api: KubeApi, settings: LeaseSettings, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._valid_until = float("-inf")
        self._seen: tuple[str, float] = ("", float("-inf"))

    @property
    def leads(self) -> bool:
        """Whether this process may write now."""
        return self._clock() < self._valid_until

    def check(self) -> None:
        """Raises NotLeader when this process must not write."""
        if not self.leads:
            raise NotLeader("the Lease is not held; nothing is written")

    async def acquire(self) -> None:
        """Wait until this process leads."""
        waiting = False
        while not await self._attempt():
            if not waiting:
                log.info("waiting_for_lease", lease=self._settings.name, namespace=self._settings.namespace)
                waiting = True
            await asyncio.sleep(self._settings.retry_seconds * random.uniform(1, 1.2))  # noqa: S311  no secret
        log.info("leading", identity=self._identity)

    async def hold(self) -> None:
        """Renew until the Lease is lost; returns then."""
        while self.leads:
            await asyncio.sleep(self._settings.retry_seconds)
            await self._attempt()
        log.error("lease_lost", identity=self._identity)

    async def release(self) -> None:
        """Let the next one lead at once. Best effort: after the duration it may anyway."""
        if not self.leads:
            return
        self._valid_until = float("-inf")
        try:
            lease = await self._api.get(self._path)
            if lease and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                await self._api.update(self._path, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}})
        except ApiError as error:
            log.warning("lease_not_released", error=str(error))

    @property
    def _path(self) -> str:
        return Paths.leases(self._settings.namespace or "default", self._settings.name)

    async def _attempt(self) -> bool:
        began = self._clock()
        try:
            lease = await asyncio.wait_for(self._api.get(self._path), self._settings.renew_deadline_seconds)
            if not self._may_take(lease):
                return False
            await asyncio.wait_for(self._write(lease), self._settings.renew_deadline_seconds)
        except (ApiError, TimeoutError) as error:
            log.warning("lease_not_renewed", error=str(error) or type(error).__name__)
            return False
        self._valid_until = began + self._settings.renew_deadline_seconds
        return self.leads

    def _may_take(self, lease: Body | None) -> bool:
        """Whether the Lease is ours, nobody's, or has not been renewed for its duration as this process saw it."""
        if lease is None:
            # One that is gone after it was held goes with the installation; made anew, it would be left over.
            return self._valid_until == float("-inf")
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") in ("", None, self._identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        duration = float(spec.get("leaseDurationSeconds") or self._settings.duration_seconds)
        return self._clock() >= self._seen[1] + duration

    async def _write(self, lease: Body | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before: dict[str, Any] = dict((lease or {}).get("spec") or {})
        ours = before.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._settings.duration_seconds)),
            "acquireTime": before.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours or lease is None else 1),
        }
        if lease is None:
            metadata = {"name": self._settings.name, "labels": {"app.kubernetes.io/managed-by": "rae-operator"}}
            await self._api.create(
                Paths.leases(self._settings.namespace or "default"),
                {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec},
            )
            return
        # The body carries the resourceVersion that was read: of two candidates one gets a conflict.
        await self._api.update(self._path, {**lease, "spec": spec})
