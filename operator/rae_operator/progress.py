"""How far running tasks are, read from the end of their logs: a pod has no token to write to its own request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from rae_operator import labels
from rae_operator.api.status import Phase
from rae_operator.kube import ApiError, KubeApi, Paths
from rae_operator.observe import RequestView
from rae_operator.settings import ProgressSettings
from rae_operator.watching import Observations

TAIL_LINES = 40
_MAX_COUNT = 10**15


def progress_in(log_text: str) -> str | None:
    """ "done/total" of the last line that tells of progress, "done" when the total is not known, or None."""
    for line in reversed(log_text.splitlines()):
        if '"progress"' in line:
            found = _progress_of(line)
            if found:
                return found
    return None


def _progress_of(line: str) -> str | None:
    try:
        body: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("event") != "progress":
        return None
    done, total = body.get("done"), body.get("total")
    if not _count(done):
        return None
    return f"{done}/{total}" if _count(total) else str(done)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT


class ProgressReader:
    """Reads the logs of running pods, a few at a time and a few bytes of each."""

    def __init__(self, api: KubeApi, observations: Observations, settings: ProgressSettings) -> None:
        self._api, self._seen, self._settings = api, observations, settings
        self._limit = asyncio.Semaphore(settings.max_concurrent)

    async def run_once(self) -> None:
        """Read each running request's log once; a log that cannot be read now is read the next time."""
        running = [r for r in self._seen.cache.requests() if r.status.phase is Phase.RUNNING and r.status.pod_name]
        await asyncio.gather(*(self._read(request) for request in running))

    async def _read(self, request: RequestView) -> None:
        query = {
            "container": labels.CONTAINER,
            "tailLines": str(TAIL_LINES),
            "limitBytes": str(self._settings.max_bytes),
        }
        path = f"{Paths.pods(request.namespace, request.status.pod_name or '')}/log"
        async with self._limit:
            try:
                text = await self._api.text(path, query)
            except ApiError:
                return
        if self._seen.cache.set_progress(request.uid, progress_in(text)):
            self._seen.queue.add(request.key)
