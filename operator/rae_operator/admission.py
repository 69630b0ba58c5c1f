"""How many Jobs may run at once, and who is next: the highest priority, then the oldest."""

from __future__ import annotations

from collections.abc import Callable

from rae_operator.observe import Key, RequestView

Rank = tuple[int, str, str]


class Admission:
    """The places that `maxActiveJobs` gives, and the requests that wait for one.

    Args:
        limit: places; 0 is no limit.
        wake: called with the key of a request that should try now.
    """

    def __init__(self, limit: int, wake: Callable[[Key], None]) -> None:
        self._limit = limit
        self._wake = wake
        self._active: set[str] = set()
        self._claimed: set[str] = set()
        self._waiting: dict[str, tuple[Rank, Key]] = {}

    def has_place(self, request: RequestView) -> bool:
        """Whether the request may have a Job now; if so, the place is claimed until `settle`."""
        if not self._limit or request.uid in self._active:
            return True
        taken = len(self._active | self._claimed)
        before = sum(rank < _rank(request) for uid, (rank, _) in self._waiting.items() if uid != request.uid)
        if taken + before >= self._limit:
            return False
        self._claimed.add(request.uid)
        return True

    def settle(self, uid: str) -> None:
        """Give a claim back; a request that got its Job holds its place by `update`."""
        self._claimed.discard(uid)

    def update(self, request: RequestView) -> None:
        """Take in what a request is now."""
        if not self._limit:
            return
        status = request.status
        if status.reason == "Queued" and not request.finished and status.attempts == status.settled_attempts:
            self._waiting[request.uid] = (_rank(request), request.key)
        else:
            self._waiting.pop(request.uid, None)
        if not request.finished and status.attempts > status.settled_attempts:
            self._active.add(request.uid)
            return
        self._free(request.uid)

    def drop(self, uid: str) -> None:
        """The request is gone."""
        self._waiting.pop(uid, None)
        self._claimed.discard(uid)
        self._free(uid)

    def _free(self, uid: str) -> None:
        if uid not in self._active:
            return
        self._active.discard(uid)
        free = self._limit - len(self._active)
        for _, key in sorted(self._waiting.values())[: max(0, free)]:
            self._wake(key)


def _rank(request: RequestView) -> Rank:
    priority = request.spec.priority if request.spec else 0
    return (-priority, request.created.isoformat(), request.uid)
