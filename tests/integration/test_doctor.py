"""`rae-jobctl doctor` on real parts, whole and amiss."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rae_jobctl.dev.valkey import ValkeyServer
from tests.fake_qdrant.server import fake_qdrant
from tests.integration.memories import OTHER, TENANT, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

WEBHOOK = {
    "RAE_WEBHOOK_URL": "http://127.0.0.1:9/hook",
    "RAE_WEBHOOK_SECRET": "whsec_" + "QUJD" * 8,
    "RAE_WEBHOOK_ALLOW_PRIVATE": "true",
}


def examine(url: str, **env: str) -> tuple[int, dict[str, dict[str, Any]]]:
    ended = jobctl(url, "doctor", "-o", "json", **env)
    assert "Traceback" not in ended.errors
    return ended.code, {check["name"]: check for check in json.loads(ended.output)}


async def test_a_sound_installation_has_nothing_amiss(database_url: str, pool: Pool, valkey: ValkeyServer) -> None:
    await add_tenant(pool)
    await add_memories(pool)
    with fake_qdrant() as qdrant:
        qdrant.create()
        code, checks = examine(database_url, REDIS_URL=valkey.url, QDRANT_URL=qdrant.url, **WEBHOOK)
    assert code == 0
    assert {check["health"] for check in checks.values()} == {"ok"}, checks
    assert set(checks) >= {"database", "sessions", "schema", "rights", "tenants", "runs", "decay", "retention", "qdrant", "redis"}


async def test_it_explains_the_rate_that_rae_brings(database_url: str) -> None:
    ended = jobctl(database_url, "doctor", MEMORY_DECAY_RATE="0.01")
    assert ended.code == 78
    assert "would leave 1% of each strength after one day" in ended.output
    assert "another formula, importance * (1 - rate)" in ended.output


async def test_it_names_the_tenants_whose_own_settings_are_refused(database_url: str, pool: Pool) -> None:
    await add_tenant(pool, TENANT, "steep", {"memory_decay_rate": 0.01})
    await add_tenant(pool, OTHER, "vague", {"retention_days": {"episodic": "long"}})
    code, checks = examine(database_url)
    assert (code, checks["tenants"]["health"]) == (78, "failed")
    assert "steep" in checks["tenants"]["message"]
    assert "vague" in checks["tenants"]["message"]


async def test_it_warns_of_days_that_the_next_run_loses_and_of_dead_letters(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool)
    day = (datetime.now(UTC) - timedelta(days=9)).date().isoformat()
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, state, lock_key, version, result, exit_code) "
        "VALUES ('decay', $1, 'a', 'finished', 0, '0', jsonb_build_object('day', $2::text), 0), "
        "('decay', $1, 'b', 'failed', 0, '0', NULL, 78)",
        TENANT,
        day,
    )
    code, checks = examine(database_url)
    assert (code, checks["days of decay"]["health"], checks["runs"]["health"]) == (0, "warning", "warning")
    assert day in checks["days of decay"]["message"]


async def test_a_tenant_without_a_memory_is_not_behind(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await pool.execute(
        "INSERT INTO rae_jobs.task_runs (task, tenant_id, slot, state, lock_key, version, result, exit_code) "
        """VALUES ('decay', $1, 'a', 'finished', 0, '0', '{"day": "2020-01-01"}', 0)""",
        TENANT,
    )
    assert examine(database_url)[1]["days of decay"]["health"] == "ok"


async def test_a_database_that_is_not_migrated_may_pass(unmigrated_url: str) -> None:
    code, checks = examine(unmigrated_url)
    assert (code, checks["schema"]["health"], checks["database"]["health"]) == (75, "failed", "ok")


@pytest.mark.parametrize(
    ("env", "name", "code"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "redis", 75),
        ({"REDIS_URL": "nonsense"}, "redis", 75),
        ({"QDRANT_URL": "http://127.0.0.1:1"}, "qdrant", 75),
        ({"RAE_LLM_PROVIDER": "openai"}, "language model", 78),
        ({"RAE_RETENTION_GRAPH_DAYS": "many"}, "retention", 78),
        ({"MEMORY_IMPORTANCE_DECAY_RATE": "0.95"}, "decay --importance", 78),
    ],
)
async def test_what_is_amiss_is_found_and_said(database_url: str, env: dict[str, str], name: str, code: int) -> None:
    ended, checks = examine(database_url, **env)
    assert (ended, checks[name]["health"]) == (code, "failed")
    assert [one for one, check in checks.items() if check["health"] == "failed"] == [name]


def test_without_a_database_it_says_so_and_keeps_the_password_to_itself() -> None:
    ended = jobctl("postgresql://rae:hunter2@127.0.0.1:1/rae", "doctor")
    assert ended.code == 75
    assert "127.0.0.1:1/rae" in ended.output
    assert "hunter2" not in ended.output + ended.errors


async def test_a_receiver_that_no_message_gets_to_is_amiss(database_url: str) -> None:
    env = {**WEBHOOK, "RAE_WEBHOOK_URL": "https://127.0.0.1/hook", "RAE_WEBHOOK_ALLOW_PRIVATE": "false"}
    code, checks = examine(database_url, **env)
    assert (code, checks["webhook"]["health"]) == (78, "failed")
    assert "AddressRefused" in checks["webhook"]["message"]


async def test_notifications_that_were_given_up_or_that_nobody_delivers_are_told(database_url: str, pool: Pool) -> None:
    insert = """
        INSERT INTO rae_jobs.webhook_outbox (tenant_id, project, run_id, event_type, payload, dead_at)
        VALUES ($1, 'p', $1, 'x', '{}', $2)
    """
    await pool.execute(insert, TENANT, None)
    assert examine(database_url, **WEBHOOK)[1]["notifications"]["health"] == "ok"
    assert examine(database_url)[1]["notifications"]["health"] == "warning"
    await pool.execute(insert, TENANT, datetime.now(UTC))
    told = examine(database_url, **WEBHOOK)[1]["notifications"]
    assert (told["health"], told["message"]) == ("warning", "1 wait for their delivery, 1 were given up")
