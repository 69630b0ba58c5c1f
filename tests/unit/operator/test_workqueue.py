"""The queue of keys."""

from __future__ import annotations

import asyncio

import pytest

from rae_operator.workqueue import MAX_BACKOFF_SECONDS, QueueClosed, WorkQueue


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def take_now(queue: WorkQueue[str]) -> str | None:
    """What the queue has ready, or None."""
    task = asyncio.ensure_future(queue.take())
    for _ in range(3):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def test_a_key_is_in_the_queue_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert await take_now(queue) == "a"
    assert await take_now(queue) is None


async def test_a_key_in_work_comes_up_again_only_when_it_is_given_back() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await take_now(queue)
    queue.add("a")
    assert await take_now(queue) is None
    queue.done("a")
    assert await take_now(queue) == "a"


async def test_of_several_times_the_earliest_counts() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    for seconds in (50, 10, 30):
        queue.add_after("a", seconds)
    clock.now += 9
    assert await take_now(queue) is None
    clock.now += 2
    assert await take_now(queue) == "a"
    queue.done("a")
    clock.now += 100
    assert await take_now(queue) is None


async def test_a_waiting_worker_is_woken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    task = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add("a")
    assert await task == "a"


async def test_failures_wait_longer_each_time_up_to_a_bound_and_success_starts_anew() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    delays = [queue.retry("a") for _ in range(14)]
    assert delays[0] < 1 and delays[3] > 2 * delays[0]
    assert max(delays) <= MAX_BACKOFF_SECONDS * 1.25
    assert queue.retry("b", at_least=300) >= 300
    queue.forget("a")
    assert queue.retry("a") < 1


async def test_a_closed_queue_lets_workers_go() -> None:
    queue: WorkQueue[str] = WorkQueue()
    task = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.close()
    with pytest.raises(QueueClosed):
        await task


async def test_the_longest_busy_key_is_known() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("a")
    await take_now(queue)
    clock.now += 200
    assert queue.longest_busy() == 200
    queue.done("a")
    assert queue.longest_busy() == 0
