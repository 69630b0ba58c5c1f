"""Notifications on real PostgreSQL and over real HTTP: at least once, under one id, whatever dies in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from rae_jobctl.deadline import StopSignal
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.reflection.params import ReflectionParams
from rae_jobctl.tasks.reflection.task import generate_reflection
from rae_jobctl.tasks.retention.policy import Defaults
from rae_jobctl.tasks.retention.task import CleanupParams, cleanup
from rae_jobctl.tasks.scheduling.reflections import ReflectionPolicy, schedule_reflections
from rae_jobctl.tasks.webhooks.outbox import Delivered, deliver, pause_seconds
from rae_jobctl.webhooks.client import Answer
from rae_jobctl.webhooks.settings import WebhookSettings
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db, slot
from tests.integration.memories import Ended, jobctl, start_jobctl
from tests.webhook_receiver import SECRET, Receiver, Reply, receiver

__all__ = ["db"]

BACKUPS = [f"The nightly backup of PostgreSQL failed on node {n}." for n in range(5)]
PROVIDER = open_provider(LlmSettings(ProviderName.LOCAL), StopSignal())
WAITING = "SELECT count(*) FROM rae_jobs.webhook_outbox WHERE delivered_at IS NULL AND dead_at IS NULL"
#: A long enough pause has passed.
LATER = "UPDATE rae_jobs.webhook_outbox SET not_before = now() - interval '1 second'"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def variables(url: str, **more: str) -> dict[str, str]:
    return {"RAE_WEBHOOK_URL": url, "RAE_WEBHOOK_SECRET": SECRET, "RAE_WEBHOOK_ALLOW_PRIVATE": "true", **more}


def settings(url: str, **more: str) -> WebhookSettings:
    found = WebhookSettings.from_env(variables(url, **more))
    assert found is not None
    return found


async def reflect(db: GraphDatabase, webhook: WebhookSettings | None, key: str | None = None) -> Outcome:
    params = ReflectionParams("demo-tenant", PROJECT)
    return await generate_reflection(db.pool, PROVIDER, params, slot=slot(key), stop=StopSignal(), webhook=webhook)


async def send(db: GraphDatabase, webhook: WebhookSettings, **options: Any) -> Delivered:
    return await deliver(db.pool, webhook, StopSignal(), **options)


async def enqueue(db: GraphDatabase, count: int = 1, tenant: UUID = TENANT) -> None:
    await db.pool.execute(
        "INSERT INTO rae_jobs.webhook_outbox (tenant_id, project, run_id, event_type, payload) "
        "SELECT $1, 'p', $2, 'test.event', jsonb_build_object('n', n) FROM generate_series(1, $3::int) AS n",
        tenant,
        uuid4(),
        count,
    )


class NoBoard:
    """A Kubernetes in which nothing is and nothing is made."""

    async def known(self, kind: str) -> list[Any]:
        return []

    async def create(self, wanted: Any) -> bool:
        return True


async def schedule(db: GraphDatabase, webhook: WebhookSettings, *, dry_run: bool = False) -> Outcome:
    policy, stop = ReflectionPolicy(), StopSignal()
    return await schedule_reflections(db.pool, NoBoard(), policy, slot=slot(), stop=stop, dry_run=dry_run, webhook=webhook)


# The event -------------------------------------------------------------------------------------


async def test_a_stored_reflection_is_notified_with_ids_and_counts_and_no_text(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    outcome = await reflect(db, settings(hook.url))
    (request,) = hook.requests
    assert request.is_signed_with(SECRET)
    assert request.json["type"] == "reflection.created"
    assert datetime.fromisoformat(request.json["timestamp"]).tzinfo is not None
    data = request.json["data"]
    assert data.pop("reflectionId") == outcome.result["reflectionId"]
    assert [data.pop(name) for name in ("tenantId", "project", "runId")] == [str(TENANT), PROJECT, outcome.run_ids[0]]
    assert data.keys() == {"kind", "priority", "memories", "themes", "insights"}
    assert "backup" not in request.body.decode().lower()
    assert outcome.counters["webhooksDelivered"] == 1
    assert request.id == str(await db.value("SELECT id FROM rae_jobs.webhook_outbox WHERE delivered_at IS NOT NULL"))


async def test_what_is_not_stored_is_not_notified(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS[:2])
    assert (await reflect(db, settings(hook.url))).reason == "TooFewMemories"
    await db.remember(*BACKUPS)
    await reflect(db, settings(hook.url))
    assert (await reflect(db, settings(hook.url))).reason == "AlreadyReflected"
    assert len(hook.requests) == await db.value("SELECT count(*) FROM rae_jobs.webhook_outbox") == 1


async def test_without_a_receiver_nothing_is_kept_for_one(db: GraphDatabase) -> None:
    await db.remember(*BACKUPS)
    await reflect(db, None)
    assert await db.value("SELECT count(*) FROM rae_jobs.webhook_outbox") == 0


async def test_a_reflection_that_cannot_be_notified_is_stored_all_the_same(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    hook.always = Reply(500)
    outcome = await reflect(db, settings(hook.url))
    assert (outcome.reason, outcome.counters["webhooksPostponed"]) == ("Done", 1)
    assert await db.value("SELECT count(*) FROM reflections") == 1
    assert await db.value("SELECT last_error FROM rae_jobs.webhook_outbox") == "Http500"


async def test_a_reflection_whose_event_cannot_be_written_is_not_stored(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    await db.pool.execute("ALTER TABLE rae_jobs.webhook_outbox ADD CHECK (event_type = 'none')")
    with pytest.raises(Exception, match="violates check constraint"):
        await reflect(db, settings(hook.url))
    assert await db.value("SELECT count(*) FROM reflections") == 0
    assert hook.requests == []


# Redelivery ------------------------------------------------------------------------------------


async def test_a_500_and_then_a_200_are_one_message_under_one_id(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    hook.replies.append(Reply(500))
    await reflect(db, settings(hook.url))
    assert (await schedule(db, settings(hook.url))).counters.get("webhooksDelivered") is None, "the pause has not passed"
    await db.pool.execute(LATER)
    assert (await schedule(db, settings(hook.url))).counters["webhooksDelivered"] == 1
    first, second = hook.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert second.is_signed_with(SECRET)
    assert await send(db, settings(hook.url)) == Delivered()


async def killed(db: GraphDatabase, key: str, url: str, until: Any) -> None:
    """`generate-reflection` as a process, killed (SIGKILL) when `until` returns."""
    command = ("generate-reflection", "--tenant", "demo-tenant", "--project", PROJECT, "--slot", key)
    process = start_jobctl(db.url, *command, **variables(url, RAE_LLM_PROVIDER="local"))
    try:
        await until()
    finally:
        process.kill()
        process.communicate()


def again(db: GraphDatabase, key: str, url: str) -> Ended:
    command = ("generate-reflection", "--tenant", "demo-tenant", "--project", PROJECT, "--slot", key, "-o", "json")
    return jobctl(db.url, *command, **variables(url, RAE_LLM_PROVIDER="local"))


async def test_a_kill_between_the_commit_and_the_delivery_loses_no_message(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    # The claim of the message waits, so that the process dies exactly between the two.
    await db.pool.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'"
    )
    await db.pool.execute("CREATE TRIGGER wait BEFORE UPDATE ON rae_jobs.webhook_outbox FOR EACH ROW EXECUTE FUNCTION wait()")

    async def committed() -> None:
        for _ in range(3000):
            if await db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the claim was not tried")

    await killed(db, "k", hook.url, committed)
    await db.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    await db.pool.execute("DROP TRIGGER wait ON rae_jobs.webhook_outbox")
    assert hook.requests == []
    assert await db.value("SELECT count(*) FROM reflections") == await db.value(WAITING) == 1

    ended = await asyncio.to_thread(again, db, "k", hook.url)
    assert (ended.json["reason"], ended.json["counters"]["webhooksDelivered"]) == ("AlreadyDone", 1)
    assert len(hook.requests) == 1
    assert hook.requests[0].json["data"]["reflectionId"] == str(await db.value("SELECT id FROM reflections"))


async def test_a_kill_during_the_delivery_repeats_it_under_the_same_id(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    hook.replies.append(Reply(hang=5))
    await killed(db, "k", hook.url, lambda: asyncio.to_thread(hook.wait_for, 1))
    assert await db.value(WAITING) == 1
    assert await send(db, settings(hook.url)) == Delivered(), "the one that died has it to itself for a minute"
    await db.pool.execute(LATER)
    assert (await schedule(db, settings(hook.url))).counters["webhooksDelivered"] == 1
    first, second = hook.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert await db.value("SELECT count(*) FROM reflections") == 1


async def test_many_at_work_at_once_send_each_message_once(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db, 40)
    found = await asyncio.gather(*[send(db, settings(hook.url)) for _ in range(4)])
    assert sum(one.delivered for one in found) == 40
    assert len({request.id for request in hook.requests}) == len(hook.requests) == 40


# Giving up -------------------------------------------------------------------------------------


async def test_after_its_last_attempt_a_message_is_given_up_and_never_sent_again(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db)
    hook.always = Reply(503)
    webhook = settings(hook.url, RAE_WEBHOOK_MAX_ATTEMPTS="3")
    found = []
    for _ in range(5):
        await db.pool.execute(LATER)
        found.append(await send(db, webhook))
    assert found == [Delivered(postponed=1), Delivered(postponed=1), Delivered(dead=1), Delivered(), Delivered()]
    assert len(hook.requests) == 3
    assert await db.value("SELECT attempts FROM rae_jobs.webhook_outbox WHERE dead_at IS NOT NULL") == 3


async def test_a_receiver_that_is_gone_gets_no_second_try(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db)
    hook.always = Reply(410)
    assert await send(db, settings(hook.url)) == Delivered(dead=1)
    await db.pool.execute(LATER)
    assert await send(db, settings(hook.url)) == Delivered()


async def test_a_receiver_that_is_down_is_left_alone_after_three_failures(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db, 10)
    hook.always = Reply(500)
    assert await send(db, settings(hook.url)) == Delivered(postponed=3)
    assert len(hook.requests) == 3


async def test_a_run_sends_so_many_and_no_more(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db, 7)
    webhook = settings(hook.url, RAE_WEBHOOK_MAX_PER_RUN="5")
    assert [await send(db, webhook), await send(db, webhook)] == [Delivered(delivered=5), Delivered(delivered=2)]


async def test_a_stop_leaves_the_rest_to_the_next_run(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db, 3)
    stop = StopSignal()
    stop.set("SIGTERM")
    assert await deliver(db.pool, settings(hook.url), stop) == Delivered()
    assert await db.value(WAITING) == 3


async def test_a_dry_run_sends_nothing(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db)
    await schedule(db, settings(hook.url), dry_run=True)
    assert hook.requests == []


async def test_a_refused_address_is_noted_and_given_up_like_any_failure(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db)
    webhook = settings(f"https://127.0.0.1:{hook.port}/", RAE_WEBHOOK_ALLOW_PRIVATE="false", RAE_WEBHOOK_MAX_ATTEMPTS="1")
    assert await send(db, webhook) == Delivered(dead=1)
    assert await db.value("SELECT last_error FROM rae_jobs.webhook_outbox") == "AddressRefused"
    assert hook.requests == []


def test_pauses_grow_to_a_day_and_a_receivers_own_wish_counts() -> None:
    failed = Answer(500, "Http500")
    for attempt, full in ((1, 60), (2, 240), (4, 3840), (9, 86_400), (100, 86_400)):
        assert full / 2 <= pause_seconds(attempt, failed) <= full
    assert pause_seconds(1, Answer(503, "Http503", {"retry-after": "600"})) == 600
    assert pause_seconds(1, Answer(503, "Http503", {"retry-after": "99999999"})) == 86_400


# Secrets, retention ----------------------------------------------------------------------------


async def test_neither_secret_nor_the_urls_own_token_is_in_logs_outcome_or_database(db: GraphDatabase, hook: Receiver) -> None:
    await db.remember(*BACKUPS)
    hook.replies.extend([Reply(500), Reply(307, {"location": "http://example.org/T0KEN"})])
    url = f"{hook.url}/T0KEN?key=T0KEN"
    ended = await asyncio.to_thread(again, db, "k", url)
    with capture_logs() as logs:
        await db.pool.execute(LATER)
        await send(db, settings(url))
    assert len(hook.requests) == 2
    rows = await db.pool.fetch(
        "SELECT o::text FROM rae_jobs.webhook_outbox AS o UNION ALL SELECT r::text FROM rae_jobs.task_runs AS r"
    )
    told = ended.output + ended.errors + str(logs) + str([row[0] for row in rows])
    assert "webhook_postponed" in told
    for secret in ("T0KEN", SECRET, SECRET.removeprefix("whsec_"), repr(bytes(range(32)))):
        assert secret not in told


async def test_a_receiver_that_cannot_be_is_told_before_anything_is_reflected_upon(db: GraphDatabase) -> None:
    await db.remember(*BACKUPS)
    ended = await asyncio.to_thread(again, db, "k", "ftp://example.org")
    assert (ended.code, ended.json["reason"]) == (78, "WebhookInvalid")
    assert await db.value("SELECT count(*) FROM reflections") == 0


async def test_old_notifications_go_once_they_are_delivered_or_given_up(db: GraphDatabase) -> None:
    await enqueue(db, 3)
    old = datetime.now(UTC) - timedelta(days=31)
    ids = [row["id"] for row in await db.pool.fetch("SELECT id FROM rae_jobs.webhook_outbox ORDER BY payload -> 'n'")]
    await db.pool.execute("UPDATE rae_jobs.webhook_outbox SET created_at = $1", old)
    await db.pool.execute("UPDATE rae_jobs.webhook_outbox SET delivered_at = $2 WHERE id = $1", ids[0], old)
    await db.pool.execute("UPDATE rae_jobs.webhook_outbox SET dead_at = $2 WHERE id = $1", ids[1], old)
    params = CleanupParams(Defaults.from_env({}), Slot("s", datetime.now(UTC), "flag"), StopSignal())
    await cleanup(db.pool, params, tenant=str(TENANT), dry_run=False)
    assert [row["id"] for row in await db.pool.fetch("SELECT id FROM rae_jobs.webhook_outbox")] == [ids[2]]


async def test_the_payload_is_the_same_bytes_however_the_database_keeps_it(db: GraphDatabase, hook: Receiver) -> None:
    await enqueue(db)
    payload = {"type": "x", "timestamp": "t", "data": {"b": 1, "a": "ü"}}
    await db.pool.execute("UPDATE rae_jobs.webhook_outbox SET payload = $1", payload)
    await send(db, settings(hook.url))
    assert hook.requests[0].body.decode() == json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
