"""The operator as one process: lead, list, watch, work, and end when any of it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import kopf

from rae_operator import __version__
from rae_operator.admission import Admission
from rae_operator.cache import Cache
from rae_operator.kube import ApiError, KubeApi, connect
from rae_operator.lease import LeaderLease, NotLeader
from rae_operator.logs import get_logger
from rae_operator.metrics import Metrics, StateCollector
from rae_operator.observe import Key
from rae_operator.progress import ProgressReader
from rae_operator.reconciler import Reconciler, Tools
from rae_operator.server import serve
from rae_operator.settings import Settings
from rae_operator.watching import Lister, Observations, kopf_registry, kopf_settings
from rae_operator.workqueue import QueueClosed, WorkQueue

log = get_logger()

#: A request in work for longer than this is a wedged worker: each call to the API ends after 30 s.
WEDGED_SECONDS = 180.0
DEAF_ROUNDS = 2
FIRST_LISTING_RETRY_SECONDS = 5.0
#: For the steps in work when the process ends; the pod's grace period is 30 s.
DRAIN_SECONDS = 10.0


class Operator:
    """All parts of a running operator, wired."""

    def __init__(self, settings: Settings, api: KubeApi, lease: LeaderLease, metrics: Metrics, identity: str) -> None:
        self.settings, self.lease, self.metrics = settings, lease, metrics
        self.queue: WorkQueue[Key] = WorkQueue()
        self.cache = Cache()
        self.admission = Admission(settings.max_active_jobs, self.queue.add)
        self.observations = Observations(self.cache, self.queue, self.admission, metrics)
        self.lister = Lister(api, self.observations, settings.namespaces, metrics)
        self.progress = ProgressReader(api, self.observations, settings.progress)
        self.reconciler = Reconciler(Tools(api, self.cache, self.admission, metrics, settings, identity))
        self.synced = False
        metrics.registry.register(StateCollector(self.cache, self.queue, lambda: lease.leads))

    def health(self) -> list[str]:
        """What is wrong with the process, for the liveness probe. One that waits for the Lease is well."""
        problems = []
        if self.queue.longest_busy() > WEDGED_SECONDS:
            problems.append(f"a worker has had one request for {self.queue.longest_busy():.0f} s")
        if self.observations.deaf_rounds >= DEAF_ROUNDS:
            problems.append(f"listings showed changes that no watch told of, {self.observations.deaf_rounds} times in a row")
        age = time.monotonic() - self.lister.last_success
        if self.synced and age > 5 * self.settings.resync_seconds + 60:
            problems.append(f"the last full listing is {age:.0f} s old")
        return problems

    def readiness(self) -> list[str]:
        """Why the operator is not at work, for the readiness probe."""
        if not self.lease.leads:
            return ["another process holds the Lease"]
        return self.health() if self.synced else ["the first listing is not done"]

    async def first_listing(self) -> None:
        """See everything once before the first decision, so that nothing is taken for gone that has only not been seen."""
        while True:
            try:
                await self.lister.run_once()
            except ApiError as error:
                hint = "are the CustomResourceDefinitions installed?" if error.status == 404 else "does the Role grant it?"
                log.error("first_listing_failed", error=str(error), hint=hint if error.status in (403, 404) else None)
                await asyncio.sleep(FIRST_LISTING_RETRY_SECONDS)
                continue
            for view in self.cache.requests():
                self.queue.add(view.key)
            self.synced = True
            return

    async def work(self) -> None:
        """One worker: handle keys until the queue is closed."""
        while True:
            try:
                key = await self.queue.take()
            except QueueClosed:
                return
            began = time.monotonic()
            try:
                result = await self._handle(key)
            finally:
                self.queue.done(key)
            self.metrics.reconciles.labels(result).inc()
            self.metrics.reconcile_seconds.observe(time.monotonic() - began)

    async def _handle(self, key: Key) -> str:
        try:
            again = await self.reconciler.reconcile(key)
        except NotLeader:
            raise
        except ApiError as error:
            delay = self.queue.retry(key, error.retry_after or 0.0)
            log.warning("reconcile_failed", request=key.name, namespace=key.namespace, error=str(error), retry_in=round(delay, 1))
            return "api_error"
        except Exception:
            delay = self.queue.retry(key)
            log.exception("reconcile_broken", request=key.name, namespace=key.namespace, retry_in=round(delay, 1))
            return "error"
        self.queue.forget(key)
        if again is not None:
            self.queue.add_after(key, again)
        return "ok"


async def run(settings: Settings) -> int:
    """Run until a signal comes or a part ends. Returns the process's exit code."""
    stop = asyncio.Event()
    _on_signals(stop)
    metrics = Metrics(__version__)
    client = await connect()
    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    unfenced = KubeApi(client, observer=metrics.api_request)
    lease = LeaderLease(unfenced, settings.lease, identity)
    operator = Operator(settings, KubeApi(client, fence=lease.check, observer=metrics.api_request), lease, metrics, identity)
    server = await serve(settings.http, metrics.registry, operator.health, operator.readiness)
    log.info("started", version=__version__, identity=identity, namespaces=settings.namespaces, image=settings.task.image)
    try:
        return await _lead(operator, client.configuration, stop)
    finally:
        await lease.release()
        await server.cleanup()
        await client.close()
        log.info("stopped", identity=identity)


def _on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _lead(operator: Operator, login: Any, stop: asyncio.Event) -> int:
    if not await _unless(stop, operator.lease.acquire()):
        return 0
    hold = asyncio.create_task(operator.lease.hold(), name="lease")
    try:
        if not await _unless(stop, operator.first_listing(), hold):
            return int(hold.done())
        return await _run_parts(operator, login, stop, hold)
    finally:
        hold.cancel()


async def _run_parts(operator: Operator, login: Any, stop: asyncio.Event, hold: asyncio.Task[None]) -> int:
    """Run all parts until one ends or a signal comes, then end the others: first the workers, last the watches."""
    settings, stop_watching = operator.settings, asyncio.Event()
    workers = {asyncio.create_task(operator.work(), name=f"worker-{n}") for n in range(settings.workers)}
    loops = {asyncio.create_task(_every(settings.resync_seconds, operator.lister.run_once, "listing_failed"), name="resync")}
    if settings.progress.enabled:
        reading = _every(settings.progress.interval_seconds, operator.progress.run_once, "progress_failed")
        loops.add(asyncio.create_task(reading, name="progress"))
    watch = asyncio.create_task(_watch(operator, login, stop, stop_watching), name="watch")
    asked = asyncio.create_task(stop.wait(), name="signal")
    done, _ = await asyncio.wait({*workers, *loops, watch, asked, hold}, return_when=asyncio.FIRST_COMPLETED)
    _tell_ends(done - {asked})
    operator.queue.close()
    await asyncio.wait(workers, timeout=DRAIN_SECONDS)
    for task in {*workers, *loops, asked}:
        task.cancel()
    stop_watching.set()
    await asyncio.wait({*workers, *loops, watch}, timeout=DRAIN_SECONDS)
    return 0 if stop.is_set() else 1


def _tell_ends(done: set[asyncio.Task[Any]]) -> None:
    for task in done:
        error = None if task.cancelled() else task.exception()
        log.error("part_ended", part=task.get_name(), error=f"{type(error).__name__}: {error}" if error else None)


async def _watch(operator: Operator, login: Any, stop: asyncio.Event, stop_watching: asyncio.Event) -> None:
    ready = asyncio.Event()

    async def take_signals_back() -> None:
        # kopf answers a signal by cancelling every task of the loop, workers in the middle of a step included.
        await ready.wait()
        _on_signals(stop)

    signals = asyncio.create_task(take_signals_back())
    try:
        await kopf.operator(
            registry=kopf_registry(operator.observations, login),
            settings=kopf_settings(),
            namespaces=operator.settings.namespaces,
            standalone=True,
            stop_flag=stop_watching,
            ready_flag=ready,
        )
    finally:
        signals.cancel()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None], *enders: asyncio.Task[Any]) -> bool:
    """Do the work unless `stop` is set or an ender ends first; whether it was done."""
    task, waiter = asyncio.create_task(work), asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({task, waiter, *enders}, return_when=asyncio.FIRST_COMPLETED)
    for other in (task, waiter):
        if other not in done:
            other.cancel()
    await asyncio.gather(waiter, *([] if task in done else [task]), return_exceptions=True)
    if task in done:
        task.result()
    return task in done and not stop.is_set()


async def _every(seconds: float, work: Callable[[], Awaitable[None]], failure: str) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except ApiError as error:
            log.warning(failure, error=str(error))
