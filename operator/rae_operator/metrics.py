"""The operator's metrics, for Prometheus. State is counted from the cache at the moment of scraping, so that it cannot drift."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rae_operator.cache import Cache
from rae_operator.observe import Key
from rae_operator.workqueue import WorkQueue

# A second series for each counter that nobody asked for.
disable_created_metrics()  # type: ignore[no-untyped-call]

_WAITS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)
_RUNS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.api_requests = Counter(
            "rae_operator_api_requests",
            "Requests to the Kubernetes API; code 0 is no answer.",
            ["verb", "resource", "code"],
            **own,
        )
        self.reconciles = Counter("rae_operator_reconciles", "Requests looked at.", ["result"], **own)
        self.reconcile_seconds = Histogram("rae_operator_reconcile_seconds", "Time to handle a request once.", **own)
        self.jobs_created = Counter("rae_operator_jobs_created", "Jobs created.", ["kind"], **own)
        self.job_delay = Histogram(
            "rae_operator_first_job_delay_seconds", "From a request's creation to its first Job.", ["kind"], buckets=_WAITS, **own
        )
        self.attempts_failed = Counter("rae_operator_attempts_failed", "Attempts that failed.", ["kind", "reason"], **own)
        self.finished = Counter("rae_operator_requests_finished", "Requests that ended.", ["kind", "phase", "reason"], **own)
        self.run_seconds = Histogram(
            "rae_operator_run_seconds",
            "From the first pod's start to the request's end.",
            ["kind", "phase"],
            buckets=_RUNS,
            **own,
        )
        self.missed_events = Counter("rae_operator_missed_events", "Changes that only a resync showed.", **own)
        self.last_resync = Gauge("rae_operator_last_resync_timestamp_seconds", "When all objects were last listed.", **own)
        build = Gauge("rae_operator_build_info", "The operator's version.", ["version"], **own)
        build.labels(version).set(1)

    def api_request(self, verb: str, resource: str, code: int) -> None:
        """Count a request to the API."""
        self.api_requests.labels(verb, resource, str(code)).inc()

    def resynced(self) -> None:
        """All objects were listed just now."""
        self.last_resync.set(time.time())


class StateCollector(Collector):
    """Counts of what is in the cache and in the queue."""

    def __init__(self, cache: Cache, queue: WorkQueue[Key], leads: Callable[[], bool]) -> None:
        self._cache, self._queue, self._leads = cache, queue, leads

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges, counted now."""
        yield GaugeMetricFamily("rae_operator_leads", "1 while this process holds the Lease.", value=int(self._leads()))
        requests = GaugeMetricFamily("rae_operator_requests", "Requests by phase.", labels=["kind", "phase"])
        tally = Tally((r.kind.name, r.status.phase.value if r.status.phase else "New") for r in self._cache.requests())
        for (kind, phase), count in tally.items():
            requests.add_metric([kind, phase], count)
        yield requests
        yield GaugeMetricFamily("rae_operator_queue_depth", "Requests that wait for a worker.", value=len(self._queue))
        yield GaugeMetricFamily("rae_operator_queue_delayed", "Requests that wait for their time.", value=self._queue.delayed)
        yield GaugeMetricFamily(
            "rae_operator_queue_longest_busy_seconds", "Of the requests in work.", value=self._queue.longest_busy()
        )
