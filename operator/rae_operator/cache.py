"""What has been seen, kept up to date by watches and by the operator's own writes.

An object replaces the one that is kept only if its resourceVersion is not older: a write's answer may arrive before or after the
watch tells of it. Kubernetes promises that the versions of one resource can be compared as numbers since 1.35, and etcd has
always given such.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rae_operator.observe import JobView, Key, PodView, RequestView


def _older(new: str, kept: str) -> bool:
    return new.isdigit() and kept.isdigit() and int(new) < int(kept)


class Cache:
    """Requests by key, Jobs by name, pods by Job; and from a Job or a pod back to its request."""

    def __init__(self) -> None:
        self._requests: dict[Key, RequestView] = {}
        self._keys: dict[str, Key] = {}
        self._jobs: dict[tuple[str, str], JobView] = {}
        self._jobs_of: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._pods: defaultdict[str, dict[str, PodView]] = defaultdict(dict)
        self._progress: dict[str, str] = {}

    # --- requests

    def put_request(self, view: RequestView) -> bool:
        """Keep a request; False when it is older than what is kept or the same."""
        kept = self._requests.get(view.key)
        if kept and kept.uid == view.uid and (kept == view or _older(view.resource_version, kept.resource_version)):
            return False
        if kept and kept.uid != view.uid:
            self.drop_request(view.key, kept.uid)
        self._requests[view.key] = view
        self._keys[view.uid] = view.key
        return True

    def drop_request(self, key: Key, uid: str) -> None:
        """Forget a request and all that belongs to it, unless another has its name now."""
        kept = self._requests.get(key)
        if kept and kept.uid == uid:
            del self._requests[key]
        self._keys.pop(uid, None)
        self._pods.pop(uid, None)
        self._progress.pop(uid, None)
        for name in self._jobs_of.pop(uid, set()):
            self._jobs.pop(name, None)

    def request(self, key: Key) -> RequestView | None:
        """The request at a key."""
        return self._requests.get(key)

    def requests(self) -> Iterator[RequestView]:
        """All requests."""
        return iter(list(self._requests.values()))

    def key_of(self, uid: str | None) -> Key | None:
        """Where the request of a uid is."""
        return self._keys.get(uid) if uid else None

    # --- jobs

    def put_job(self, view: JobView) -> bool:
        """Keep a Job; False when nothing is new."""
        name = (view.namespace, view.name)
        kept = self._jobs.get(name)
        if kept and kept.uid == view.uid and (kept == view or _older(view.resource_version, kept.resource_version)):
            return False
        if kept and kept.owner_uid != view.owner_uid:
            self._unlink(kept)
        self._jobs[name] = view
        if view.owner_uid:
            self._jobs_of[view.owner_uid].add(name)
        return True

    def drop_job(self, namespace: str, name: str, uid: str | None = None) -> None:
        """Forget a Job that is gone, unless another has its name now."""
        kept = self._jobs.get((namespace, name))
        if kept and uid in (None, kept.uid):
            del self._jobs[(namespace, name)]
            self._unlink(kept)

    def _unlink(self, job: JobView) -> None:
        names = self._jobs_of.get(job.owner_uid or "")
        if names:
            names.discard((job.namespace, job.name))
            if not names:
                del self._jobs_of[job.owner_uid or ""]

    def job(self, namespace: str, name: str) -> JobView | None:
        """The Job of a name."""
        return self._jobs.get((namespace, name))

    def jobs_of(self, uid: str) -> tuple[JobView, ...]:
        """The Jobs of a request."""
        return tuple(self._jobs[name] for name in self._jobs_of.get(uid, ()))

    def jobs(self) -> Iterator[JobView]:
        """All Jobs."""
        return iter(list(self._jobs.values()))

    # --- pods

    def put_pod(self, view: PodView) -> bool:
        """Keep a pod; False when nothing is new."""
        pods = self._pods[view.request_uid]
        kept = pods.get(view.uid)
        if kept and (kept == view or _older(view.resource_version, kept.resource_version)):
            return False
        pods[view.uid] = view
        return True

    def drop_pod(self, view: PodView) -> None:
        """A pod was deleted. If it had ended, what it said is kept until its request's end is written."""
        pods = self._pods.get(view.request_uid, {})
        last = view if view.exit is not None else pods.get(view.uid, view)
        if last.ended:
            pods[view.uid] = last
            self._pods[view.request_uid] = pods
        else:
            pods.pop(view.uid, None)

    def pods_of(self, uid: str) -> tuple[PodView, ...]:
        """The pods of a request."""
        return tuple(self._pods.get(uid, {}).values())

    def replace_pods(self, uid: str, live: list[PodView]) -> None:
        """The pods that exist now, by a fresh list; ended ones that are gone are kept, others forgotten."""
        names = {p.uid for p in live}
        kept = {p.uid: p for p in self._pods.get(uid, {}).values() if p.ended and p.uid not in names}
        self._pods[uid] = kept
        for pod in live:
            self.put_pod(pod)

    def drop_pods(self, uid: str) -> None:
        """Forget the pods of a request that has ended."""
        self._pods.pop(uid, None)
        self._progress.pop(uid, None)

    # --- progress

    def set_progress(self, uid: str, text: str | None) -> bool:
        """Keep the last progress of a request; True when it is new."""
        if text is None or self._progress.get(uid) == text:
            return False
        self._progress[uid] = text
        return True

    def progress(self, uid: str) -> str | None:
        """What a request's pod last told."""
        return self._progress.get(uid)
