"""The cache and the places for Jobs."""

from __future__ import annotations

from dataclasses import replace

from rae_operator.admission import Admission
from rae_operator.cache import Cache
from rae_operator.observe import Key, RequestView, view_request
from tests.unit.operator.builders import UID, a_job, a_pod, a_request, an_ended_pod, later, under_way


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    cache = Cache()
    assert cache.put_request(replace(a_request(), resource_version="12"))
    assert not cache.put_request(replace(a_request(), resource_version="9", generation=5))
    assert cache.put_job(a_job(resource_version="12"))
    assert not cache.put_job(a_job(resource_version="9", suspended=True))
    assert cache.put_pod(a_pod(resource_version="12"))
    assert not cache.put_pod(a_pod(resource_version="9", phase="Running"))


def test_the_same_again_is_nothing_new() -> None:
    cache = Cache()
    assert cache.put_request(a_request()) and not cache.put_request(a_request())


def test_a_request_of_the_same_name_begins_with_nothing_of_the_former() -> None:
    cache = Cache()
    cache.put_request(a_request())
    cache.put_job(a_job())
    cache.put_request(replace(a_request(), uid="another", resource_version="50"))
    assert cache.key_of(UID) is None and cache.jobs_of(UID) == ()
    cache.drop_request(a_request().key, UID)
    assert cache.request(a_request().key) is not None


def test_a_deleted_pod_that_had_ended_keeps_its_word() -> None:
    cache = Cache()
    cache.put_request(a_request())
    cache.put_pod(an_ended_pod(message="said"))
    cache.drop_pod(an_ended_pod(message="said"))
    assert len(cache.pods_of(UID)) == 1
    cache.replace_pods(UID, [])
    assert len(cache.pods_of(UID)) == 1
    cache.put_pod(a_pod(2))
    cache.drop_pod(a_pod(2))
    assert len(cache.pods_of(UID)) == 1


def test_a_job_that_is_gone_is_forgotten_unless_another_has_its_name() -> None:
    cache = Cache()
    cache.put_job(a_job())
    cache.drop_job("rae", a_job().name, "an-earlier-one")
    assert cache.jobs_of(UID) == (a_job(),)
    cache.drop_job("rae", a_job().name, a_job().uid)
    assert cache.jobs_of(UID) == ()


def test_a_status_of_another_version_keeps_what_is_readable() -> None:
    view = view_request(
        {
            "kind": "ReflectionRequest",
            "metadata": {"name": "a", "namespace": "rae", "uid": "u"},
            "spec": {"tenantId": "t", "project": "p"},
            "status": {"phase": "Complete", "attempts": 2, "conditions": [{"type": "FromTheFuture"}]},
        }
    )
    assert view.finished and view.status.attempts == 2


def numbered(number: int, *, priority: int = 0, running: bool = False) -> RequestView:
    view = a_request(priority=priority)
    found = under_way() if running else view.status
    return replace(view, uid=f"uid-{number}", name=f"r{number}", created=later(number), status=found)


def queued(view: RequestView) -> RequestView:
    return replace(view, status=view.status.model_copy(update={"reason": "Queued"}))


def test_the_highest_priority_then_the_oldest_gets_the_next_place() -> None:
    woken: list[Key] = []
    admission = Admission(1, woken.append)
    running = numbered(0, running=True)
    admission.update(running)
    low, old, young = numbered(1), numbered(2, priority=5), numbered(3, priority=5)
    for view in (low, old, young):
        assert not admission.has_place(view)
        admission.update(queued(view))
    admission.drop(running.uid)
    assert woken == [old.key]
    assert not admission.has_place(young)
    assert admission.has_place(old)
    assert not admission.has_place(numbered(4, priority=9)), "the place is claimed"


def test_a_claim_that_came_to_nothing_frees_the_place() -> None:
    admission = Admission(1, lambda key: None)
    assert admission.has_place(numbered(1)) and not admission.has_place(numbered(2))
    admission.settle("uid-1")
    assert admission.has_place(numbered(2))


def test_without_a_limit_there_is_always_a_place() -> None:
    admission = Admission(0, lambda key: None)
    assert all(admission.has_place(numbered(n)) for n in range(100))
