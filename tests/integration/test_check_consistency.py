"""check-consistency on a real PostgreSQL and Qdrant's own engine behind real HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from qdrant_client import models

from rae_jobctl.db.grants import grant_to
from rae_jobctl.deadline import StopSignal
from rae_jobctl.dev.schema import rae_row_level_security_sql
from rae_jobctl.errors import TimeSliced, TransientError
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.vectors import ghosts as ghosts_module
from rae_jobctl.tasks.vectors import missing as missing_module
from rae_jobctl.tasks.vectors.consistency import check_consistency
from rae_jobctl.tasks.vectors.params import ConsistencyParams
from rae_jobctl.vectors.settings import QdrantSettings
from tests.fake_qdrant.server import FakeQdrant, Reply, error, fake_qdrant
from tests.integration.memories import OTHER, TENANT, Ended, add_memories, add_tenant, jobctl, start_jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool
    from rae_jobctl.outcome import Outcome

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=1)
STRANGER = UUID("33333333-3333-3333-3333-333333333333")
DENSE = [0.0, 1.0] + [0.0] * 382


@pytest.fixture
def qdrant() -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        server.create()
        yield server


def check(url: str, qdrant: FakeQdrant, *arguments: str, **env: str) -> Ended:
    return jobctl(url, "check-consistency", "-o", "json", *arguments, **{"QDRANT_URL": qdrant.url, **env})


async def run(pool: Pool, qdrant: FakeQdrant, *, slot: str = "s", stop: StopSignal | None = None, repair: bool = True) -> Outcome:
    params = ConsistencyParams(Slot(slot, NOW, "flag"), stop or StopSignal(), repair=repair)
    return await check_consistency(pool, QdrantSettings(qdrant.url), params, tenant=None)


async def old_memories(pool: Pool, count: int, tenant: UUID = TENANT, **columns: Any) -> list[UUID]:
    return await add_memories(pool, count, tenant, created_at=OLD, **columns)


async def written(pool: Pool) -> list[int]:
    tables = ("task_runs", "deletion_audit", "vector_deletions")
    return [await pool.fetchval(f"SELECT count(*) FROM rae_jobs.{table}") for table in tables]


async def test_both_sides_alike_are_consistent(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    qdrant.add(TENANT, await old_memories(pool, 3))

    ended = check(database_url, qdrant)

    assert ended.code == 0, ended.errors
    assert ended.json["reason"] == "Consistent"
    assert ended.json["message"] == "3 vectors and 3 memories compared: consistent"


async def test_a_report_names_what_each_side_lacks_and_changes_neither(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    both, lonely = await old_memories(pool, 2), await old_memories(pool, 2)
    lost = [uuid4() for _ in range(3)]
    qdrant.add(TENANT, [*both, *lost])

    ended = check(database_url, qdrant)

    assert (ended.code, ended.json["reason"]) == (0, "Inconsistent")
    [one] = ended.json["result"]["tenants"]
    assert set(one["ids"]["ghosts"]) == set(map(str, lost))
    assert set(one["ids"]["missing"]) == set(map(str, lonely))
    assert qdrant.ids() == {str(id) for id in [*both, *lost]}
    assert not [method for method, path, _ in qdrant.requests if "delete" in path or method == "PUT"]
    assert await written(pool) == [1, 0, 0]


async def test_findings_fail_only_when_asked_to_and_when_they_are_not_mended(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    qdrant.add(TENANT, [uuid4()])

    assert check(database_url, qdrant, "--fail-on-findings").code == 65
    assert check(database_url, qdrant, "--fail-on-findings", "--repair").code == 0
    assert check(database_url, qdrant, "--fail-on-findings").code == 0


async def test_a_repair_deletes_ghosts_of_every_kind_of_id_with_an_audit_row(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    kept, lost = await old_memories(pool, 2), [uuid4() for _ in range(3)]
    qdrant.add(TENANT, [*kept, *lost, 7, 12345678901234567890])

    ended = check(database_url, qdrant, "--repair")

    assert (ended.code, ended.json["reason"]) == (0, "Repaired"), ended.errors
    assert ended.json["counters"]["ghostsDeleted"] == 5
    assert 7 in ended.json["result"]["tenants"][0]["ids"]["ghosts"]
    assert qdrant.ids() == set(map(str, kept))
    audit = await pool.fetchrow("SELECT * FROM rae_jobs.deletion_audit")
    assert audit is not None
    assert (audit["tenant_id"], audit["data_class"], audit["table_name"]) == (TENANT, "vectors", "qdrant:memories")
    assert (audit["deleted_count"], set(audit["deleted_ids"])) == (5, set(lost))
    assert audit["deleted_keys"] == ["7", "12345678901234567890"]
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.vector_deletions") == 0


async def test_a_second_repair_finds_nothing_and_the_same_slot_is_not_run_again(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    qdrant.add(TENANT, [*await old_memories(pool, 1), uuid4()])

    assert check(database_url, qdrant, "--repair", "--slot", "a").json["reason"] == "Repaired"
    assert check(database_url, qdrant, "--repair", "--slot", "a").json["reason"] == "AlreadyDone"
    assert check(database_url, qdrant, "--repair", "--slot", "b").json["reason"] == "Consistent"
    assert await pool.fetchval("SELECT count(*) FROM rae_jobs.deletion_audit") == 1


async def test_a_dry_run_of_a_repair_says_what_it_would_do_and_writes_nothing(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    await old_memories(pool, 1, embedding=json.dumps(DENSE))
    await old_memories(pool, 1)
    qdrant.add(TENANT, [uuid4(), 5])
    await pool.execute("INSERT INTO rae_jobs.vector_deletions VALUES ($1, $2)", TENANT, uuid4())
    before = qdrant.ids()

    ended = check(database_url, qdrant, "--repair", "--dry-run")

    assert ended.json["dryRun"] is True
    counters = ended.json["counters"]
    assert (counters["ghostsDeleted"], counters["missingMended"], counters["missingUnmendable"]) == (2, 1, 1)
    assert "2 would be deleted" in ended.json["message"] and "1 queued deletions waiting" in ended.json["message"]
    assert qdrant.ids() == before
    assert await written(pool) == [0, 0, 1]


async def test_another_tenants_point_stays_whatever_its_id(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    theirs = await old_memories(pool, 2, OTHER)
    qdrant.add(OTHER, [*theirs, 9])
    ghost = uuid4()
    qdrant.add(TENANT, [ghost])

    ended = check(database_url, qdrant, "--repair", "--tenant", "demo-tenant")

    assert ended.json["counters"]["ghostsDeleted"] == 1
    assert qdrant.ids() == {*map(str, theirs), 9}


async def test_a_point_under_a_memorys_id_that_names_another_tenant_is_not_written_over(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    [mine] = await old_memories(pool, 1, embedding=json.dumps(DENSE))
    qdrant.add(OTHER, [mine])

    ended = check(database_url, qdrant, "--repair", "--tenant", str(TENANT))

    assert ended.json["counters"]["missingUnmendable"] == 1
    assert qdrant.ids(OTHER) == {str(mine)}
    # The other tenant has no such memory: its own repair deletes the point, and the next one mends ours.
    assert check(database_url, qdrant, "--repair", "--tenant", "other").json["counters"]["ghostsDeleted"] == 1
    assert check(database_url, qdrant, "--repair", "--tenant", str(TENANT)).json["reason"] == "Repaired"
    assert qdrant.ids(TENANT) == {str(mine)}


async def test_a_missing_vector_is_written_from_postgresql_where_its_dimension_fits(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    about: dict[str, Any] = {
        "metadata": {"topic": "boats", "tenant_id": str(OTHER), "content": "x"},
        "tags": ["a"],
        "agent_id": "helper",
    }
    [own] = await old_memories(pool, 1, embedding=json.dumps(DENSE), **about)
    [by_model] = await old_memories(pool, 1)
    insert = "INSERT INTO memory_embeddings (memory_id, model_name, embedding) VALUES ($1, $2, $3)"
    await pool.execute(insert, by_model, "all-MiniLM", json.dumps(DENSE))
    await pool.execute(insert, by_model, "nomic", json.dumps([0.5] * 768))
    [odd] = await old_memories(pool, 1, embedding="[1, 2, 3]")

    ended = check(database_url, qdrant, "--repair")

    assert ended.json["reason"] == "Inconsistent"
    counters = ended.json["counters"]
    assert (counters["missing"], counters["missingMended"], counters["missingUnmendable"]) == (3, 2, 1)
    assert ended.json["result"]["tenants"][0]["ids"]["unmendable"] == [str(odd)]
    assert qdrant.ids(TENANT) == {str(own), str(by_model)}
    point = qdrant.point(own)
    assert point.payload is not None and isinstance(point.vector, dict)
    assert set(point.vector) == {"dense"} and point.vector["dense"] == pytest.approx(DENSE)
    expected = {"memory_id": str(own), "tenant_id": str(TENANT), "agent_id": "helper", "layer": "episodic", "topic": "boats"}
    assert expected.items() <= point.payload.items()
    assert "content" not in point.payload
    both = qdrant.point(by_model).vector
    assert isinstance(both, dict) and set(both) == {"dense", "nomic"}


async def test_a_collection_of_one_nameless_vector_is_mended_too(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    qdrant.create("flat", models.VectorParams(size=3, distance=models.Distance.DOT))
    await add_tenant(pool)
    [mine] = await old_memories(pool, 1, embedding="[1, 2, 3]")

    ended = check(database_url, qdrant, "--repair", QDRANT_COLLECTION_NAME="flat")

    assert ended.json["reason"] == "Repaired", ended.errors
    assert qdrant.point(mine, "flat").vector == [1.0, 2.0, 3.0]


async def test_what_is_being_written_is_left_alone_on_both_sides(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    await add_memories(pool, 2)
    fresh, stamped, old = uuid4(), uuid4(), uuid4()
    qdrant.add(TENANT, [fresh], created_at=datetime.now(UTC).isoformat())
    qdrant.add(TENANT, [stamped], timestamp=datetime.now(UTC).timestamp())
    qdrant.add(TENANT, [old], created_at=OLD.isoformat())

    ended = check(database_url, qdrant, "--repair")

    assert qdrant.ids() == {str(fresh), str(stamped)}
    counters = ended.json["counters"]
    assert (counters.get("ghostsFresh"), counters.get("missing", 0)) == (2, 0)
    assert check(database_url, qdrant, RAE_CONSISTENCY_GRACE_SECONDS="0").json["counters"]["missing"] == 2


async def test_a_memory_that_appears_before_the_second_look_keeps_its_vector(
    pool: Pool, qdrant: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_tenant(pool)
    ghost, late = uuid4(), uuid4()
    qdrant.add(TENANT, [ghost, late])
    first_look = ghosts_module.is_fresh
    seen: list[object] = []

    def between(point: object, *about: object) -> bool:
        seen.append(point)
        return first_look(point, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(ghosts_module, "is_fresh", between)
    original = ghosts_module.GhostStep._delete

    async def appear(self: ghosts_module.GhostStep, *about: object) -> None:
        await pool.execute("INSERT INTO memories (id, tenant_id, content, layer) VALUES ($1, $2, 'x', 'episodic')", late, TENANT)
        await original(self, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(ghosts_module.GhostStep, "_delete", appear)
    outcome = await run(pool, qdrant)

    assert len(seen) == 2
    assert outcome.counters["ghostsDeleted"] == 1
    assert qdrant.ids() == {str(late)}


async def test_tenants_whose_last_memory_has_gone_are_looked_at(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    qdrant.add(TENANT, [uuid4()])

    assert check(database_url, qdrant, "--repair").json["counters"]["ghostsDeleted"] == 1


async def test_vectors_of_unknown_tenants_are_told_and_only_deleted_when_asked_for(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    qdrant.add(STRANGER, [uuid4(), uuid4()])
    qdrant.add("default", [uuid4()])
    qdrant.add(None, [uuid4()])
    qdrant.add(5, [1, 2])

    told = check(database_url, qdrant, "--repair")

    assert told.json["reason"] == "Inconsistent", told.errors
    assert told.json["counters"]["pointsOfUnknownTenants"] == 6
    unknown = {one["tenantId"]: one["points"] for one in told.json["result"]["unknownTenants"]}
    assert unknown == {str(STRANGER): 2, "default": 1}
    assert told.json["result"]["pointsWithoutTenant"] == 3
    assert len(qdrant.ids()) == 6

    ended = check(database_url, qdrant, "--repair", "--unknown-tenants")

    assert ended.json["counters"]["ghostsDeleted"] == 2
    assert ended.json["counters"]["pointsOfUnknownTenants"] == 4
    assert len(qdrant.ids()) == 4 and qdrant.ids(STRANGER) == set()
    assert await pool.fetchval("SELECT tenant_id FROM rae_jobs.deletion_audit") == STRANGER


@pytest.mark.parametrize("arguments", [("--unknown-tenants",), ("--unknown-tenants", "--repair", "--tenant", "x")])
def test_unknown_tenants_needs_a_repair_of_all(qdrant: FakeQdrant, arguments: tuple[str, ...]) -> None:
    ended = check("postgresql://nowhere/x", qdrant, *arguments)

    assert ended.code == 64
    assert "--unknown-tenants" in ended.errors


def test_without_a_qdrant_there_is_a_word_and_no_failure() -> None:
    ended = jobctl("postgresql://nowhere/x", "check-consistency", "-o", "json")

    assert (ended.code, ended.json["reason"]) == (0, "Skipped")
    assert "QDRANT_URL" in ended.json["message"]


async def test_an_absent_qdrant_is_worth_another_attempt(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)

    ended = jobctl(database_url, "check-consistency", QDRANT_HOST="127.0.0.1", QDRANT_PORT="9")

    assert ended.code == 75
    assert "cannot reach Qdrant at http://127.0.0.1:9" in ended.errors


async def test_a_refused_key_is_told_without_it(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    qdrant.api_key = "right-key"

    without, wrong = check(database_url, qdrant), check(database_url, qdrant, QDRANT_API_KEY="wrong-key")

    assert (without.code, wrong.code) == (78, 78)
    assert "QDRANT_API_KEY, which is not set" in without.errors
    assert "wrong-key" not in wrong.errors + wrong.output
    assert check(database_url, qdrant, QDRANT_API_KEY="right-key").code == 0


async def test_a_wrong_collection_is_named_beside_those_that_are_there(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)

    ended = check(database_url, qdrant, QDRANT_COLLECTION_NAME="memoirs")

    assert ended.code == 78
    assert "no collection 'memoirs'" in ended.errors
    assert "there are: memories" in ended.errors


async def test_something_that_is_no_qdrant_is_told(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    qdrant.always = (200, "<html>")

    ended = check(database_url, qdrant)

    assert ended.code == 78
    assert "is no Qdrant" in ended.errors


async def test_one_failed_call_is_tried_again(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    qdrant.faults.extend([error(503, "busy"), None, error(500, "x"), error(502, "x")])

    assert check(database_url, qdrant).code == 0


async def test_five_thousand_points_are_compared_in_pages(database_url: str, pool: Pool, qdrant: FakeQdrant) -> None:
    await add_tenant(pool)
    kept = await _many(pool, 3500)
    lost = [uuid4() for _ in range(1500)]
    qdrant.add(TENANT, [*kept, *lost])
    lonely = await _many(pool, 120)

    ended = check(database_url, qdrant, "--repair")

    assert ended.code == 0, ended.errors
    counters = ended.json["counters"]
    assert (counters["pointsChecked"], counters["memoriesChecked"]) == (5000, 3620)
    assert (counters["ghostsDeleted"], counters["missing"]) == (1500, len(lonely))
    ids = ended.json["result"]["tenants"][0]["ids"]
    assert {kind: len(listed) for kind, listed in ids.items()} == {"ghosts": 100, "missing": 100, "unmendable": 100}
    assert qdrant.ids() == set(map(str, kept))
    assert max(body["limit"] for body in qdrant.calls("/points/scroll")) == 1000
    assert max(len(body["ids"]) for body in qdrant.calls("/points")) == 1000
    batches = await pool.fetch("SELECT deleted_count, cardinality(deleted_ids) AS ids FROM rae_jobs.deletion_audit")
    assert sum(row["deleted_count"] for row in batches) == 1500
    assert all(row["ids"] == row["deleted_count"] <= 500 for row in batches)
    requests = [body for _, path, body in qdrant.requests if "points" in path and body]
    assert not any(body.get("with_payload") is True for body in requests), "a payload holds the memory's text"


async def _many(pool: Pool, count: int) -> list[UUID]:
    rows = await pool.fetch(
        """
        INSERT INTO memories (tenant_id, content, layer, created_at)
        SELECT $1, 'memory ' || n, 'episodic', $3
        FROM generate_series(1, $2::int) AS n
        RETURNING id
        """,
        TENANT,
        count,
        OLD,
    )
    return [row["id"] for row in rows]


async def test_a_run_of_many_slices_goes_on_where_it_stopped_and_counts_each_once(
    pool: Pool, qdrant: FakeQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ghosts_module, "PAGE", 10)
    monkeypatch.setattr(ghosts_module, "BATCH", 4)
    monkeypatch.setattr(missing_module, "PAGE", 10)
    monkeypatch.setattr(missing_module, "LOOK", 20)
    await add_tenant(pool)
    kept, lost = await _many(pool, 40), [uuid4() for _ in range(30)]
    qdrant.add(TENANT, [*kept[:35], *lost])
    scrolled: list[object] = []
    outcome = None
    for slices in range(60):  # noqa: B007 - its last value is the number of slices
        try:
            outcome = await run(pool, qdrant, stop=_After(5))
            break
        except TimeSliced:
            scrolled = [body.get("offset") for body in qdrant.calls("/points/scroll")]

    assert outcome is not None
    assert slices > 2 and len([one for one in scrolled if one is None]) < slices + 2
    counters = outcome.counters
    assert (counters["ghosts"], counters["ghostsDeleted"]) == (30, 30)
    assert (counters["memoriesChecked"], counters["missing"]) == (40, 5)
    assert await pool.fetchval("SELECT sum(deleted_count) FROM rae_jobs.deletion_audit") == 30
    assert qdrant.ids() == set(map(str, kept[:35]))


class _After(StopSignal):
    """Asks to stop after so many questions."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    @property
    def should_stop(self) -> bool:
        self._left -= 1
        if self._left < 0:
            self.set("the soft limit")
        return self._left < 0


async def test_a_qdrant_that_goes_away_between_the_audit_and_the_deletion_is_made_up_for_by_the_next_attempt(
    pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    lost = [uuid4() for _ in range(3)]
    qdrant.add(TENANT, lost)
    answer = qdrant.answer

    def away(method: str, path: str, key: str, raw: bytes) -> Reply:
        return error(503, "gone") if "delete" in path else answer(method, path, key, raw)

    qdrant.answer = away  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        await run(pool, qdrant)
    assert await written(pool) == [1, 1, 3]

    qdrant.answer = answer  # type: ignore[method-assign]
    outcome = await run(pool, qdrant)

    assert qdrant.ids() == set()
    assert (outcome.counters["ghostsDeleted"], outcome.counters["queuedDeleted"]) == (3, 3)
    assert await written(pool) == [1, 1, 0]


async def test_a_repair_waits_for_no_deletion_of_the_same_memories_and_a_report_disturbs_none(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    async with pool.acquire() as rival:
        name = f"rae_jobs.memories:{TENANT}:*"
        await rival.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", name)

        assert check(database_url, qdrant, "--repair").code == 75
        assert check(database_url, qdrant).code == 0

        await rival.execute("SELECT pg_advisory_unlock_all()")


async def test_a_role_that_row_level_security_binds_sees_what_the_owner_sees(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    await add_tenant(pool, OTHER, "other")
    kept, theirs = await old_memories(pool, 3), await old_memories(pool, 2, OTHER)
    await old_memories(pool, 1, embedding=json.dumps(DENSE))
    lost = uuid4()
    qdrant.add(TENANT, [*kept, lost])
    qdrant.add(OTHER, theirs)
    role = f"jobs_{uuid4().hex[:8]}"
    await pool.execute(rae_row_level_security_sql())
    await pool.execute(f"CREATE ROLE {role} LOGIN NOBYPASSRLS PASSWORD 'of-the-test'")
    async with pool.acquire() as owner:
        await grant_to(owner, role, lambda line: None, 10)
    parts = urlsplit(database_url)
    url = f"postgresql://{role}:of-the-test@{parts.hostname}:{parts.port}{parts.path}"

    ended = check(url, qdrant, "--repair")

    assert ended.code == 0, ended.errors
    counters = ended.json["counters"]
    assert (counters["ghostsDeleted"], counters["missingMended"], counters["memoriesChecked"]) == (1, 1, 6)
    assert qdrant.ids(OTHER) == set(map(str, theirs)) and len(qdrant.ids(TENANT)) == 4
    await pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_repair_that_is_killed_before_qdrant_answers_is_taken_up_and_audited_once(
    database_url: str, pool: Pool, qdrant: FakeQdrant
) -> None:
    await add_tenant(pool)
    lost = [uuid4() for _ in range(3)]
    qdrant.add(TENANT, lost)
    asked, released = threading.Event(), threading.Event()
    answer = qdrant.answer

    def hanging(method: str, path: str, key: str, raw: bytes) -> Reply:
        if "delete" not in path:
            return answer(method, path, key, raw)
        asked.set()
        released.wait(60)
        return error(503, "too late")

    qdrant.answer = hanging  # type: ignore[method-assign]
    process = start_jobctl(database_url, "check-consistency", "--repair", "--slot", "night", QDRANT_URL=qdrant.url)
    try:
        assert await asyncio.to_thread(asked.wait, 60)
    finally:
        process.kill()
        process.communicate()
        released.set()
    qdrant.answer = answer  # type: ignore[method-assign]
    assert len(qdrant.ids()) == 3
    assert await written(pool) == [1, 1, 3]

    ended = check(database_url, qdrant, "--repair", "--slot", "night", "--wait")

    assert ended.json["reason"] == "Repaired", ended.errors
    assert (ended.json["counters"]["ghosts"], ended.json["counters"]["ghostsDeleted"]) == (3, 3)
    assert (qdrant.ids(), await written(pool)) == (set(), [1, 1, 0])
