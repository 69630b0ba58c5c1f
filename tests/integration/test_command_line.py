"""What a person, a Job and the operator get when something is wrong: one clear line, the right exit code, no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rae_jobctl.dev.postgres import PostgresServer, free_port
from tests.integration.memories import Ended, add_memories, add_tenant, jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

SECRET = "correct-horse-battery"


def refused(ended: Ended, code: int, words: str) -> None:
    """It ended with this code, in one line that has these words, and told no secret."""
    assert ended.code == code, ended.errors
    errors = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in ended.errors
    assert SECRET not in ended.errors + ended.output


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("mysql://rae:correct-horse-battery@localhost/rae", 78, "no PostgreSQL URL"),
        ("rae", 78, "no PostgreSQL URL"),
        ("postgresql://rae:correct-horse-battery@localhost:port/rae", 78, "port"),
        ("postgresql://rae:correct-horse-battery@127.0.0.1:1/rae", 75, "127.0.0.1:1/rae"),
        ("postgresql://rae:correct-horse-battery@no-such-host.invalid/rae", 75, "no-such-host.invalid"),
    ],
)
@pytest.mark.parametrize("command", [("decay",), ("db", "status"), ("runs", "list")])
def test_a_wrong_or_unreachable_database_is_told(url: str, code: int, words: str, command: tuple[str, ...]) -> None:
    refused(jobctl(url, *command), code, words)


def test_a_port_that_nobody_listens_on_is_worth_another_try() -> None:
    refused(jobctl(f"postgresql://rae:{SECRET}@127.0.0.1:{free_port()}/rae", "decay"), 75, "cannot reach PostgreSQL")


def test_no_database_at_all_is_told_with_the_variables_to_set() -> None:
    ended = jobctl("", "decay")

    refused(ended, 78, "no database is configured")
    assert "hint: set DATABASE_URL=" in ended.errors


@pytest.mark.parametrize(
    ("part", "words"), [("password", "password"), ("database", "no-such-database"), ("role", "refuses the user")]
)
def test_what_the_server_refuses_is_configuration(postgres_server: PostgresServer, part: str, words: str) -> None:
    user = "nobody-here" if part == "role" else "rae"
    password = SECRET if part in ("password", "role") else postgres_server.password
    database = "no-such-database" if part == "database" else "postgres"
    ended = jobctl(f"postgresql://{user}:{password}@127.0.0.1:{postgres_server.port}/{database}", "decay")

    assert ended.code == 78, ended.errors
    assert words in ended.errors
    assert SECRET not in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize(
    "command",
    [
        ("decay",),
        ("decay", "--dry-run"),
        ("extract-graph", "--tenant", "demo-tenant", "--project", "p"),
        ("generate-reflection", "--tenant", "demo-tenant", "--project", "p"),
        ("runs", "list"),
    ],
)
async def test_a_database_without_the_migration_is_worth_another_try(unmigrated_url: str, command: tuple[str, ...]) -> None:
    ended = jobctl(unmigrated_url, *command)

    refused(ended, 75, "no schema rae_jobs yet")
    assert "rae-jobctl db migrate" in ended.errors


async def test_a_database_of_a_newer_image_is_refused(database_url: str, pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO rae_jobs.schema_migrations (version, name, checksum, needs_image, image) VALUES (9999, 'x', '', 9999, 'z')"
    )

    refused(jobctl(database_url, "decay"), 78, "needs an image that knows version 9999")


def test_a_json_caller_gets_the_failure_as_an_object_too() -> None:
    ended = jobctl("", "decay", "--output", "json")

    assert (ended.json["reason"], ended.json["exitCode"]) == ("ConfigMissing", 78)


@pytest.mark.parametrize("words", [("decay", "--no-such-flag"), ("no-such-command",), ("runs", "show"), ("decay", "--slot", " ")])
def test_wrong_usage_ends_with_64(words: tuple[str, ...]) -> None:
    assert jobctl("", *words).code == 64


@pytest.mark.parametrize(
    ("request_text", "words"),
    [
        ("{", "is not a request"),
        ("[]", "is not a request"),
        (json.dumps({"kind": "K", "name": "n", "uid": "u", "spec": {"noSuchField": 1}}), "noSuchField"),
        (json.dumps({"kind": "K", "name": "n", "uid": "u", "spec": {"tenantId": "x" * 70_000}}), "more than 65536"),
    ],
)
def test_a_request_that_cannot_be_read_is_permanent_and_tells_the_operator(request_text: str, words: str, tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.touch()

    ended = jobctl("", "extract-graph", RAE_REQUEST=request_text, RAE_TERMINATION_PATH=str(message))

    refused(ended, 65, words)
    assert json.loads(message.read_text())["reason"] == "BadData"


async def test_an_unknown_tenant_is_bad_data_and_names_what_was_asked(database_url: str) -> None:
    ended = jobctl(database_url, "extract-graph", "--tenant", "no-such-tenant", "--project", "p")

    refused(ended, 65, "'no-such-tenant'")


async def test_status_tells_what_is_missing_and_what_is_there(unmigrated_url: str) -> None:
    behind = jobctl(unmigrated_url, "db", "status", "-o", "json")
    assert (behind.code, behind.json["current"]) == (75, False)

    assert jobctl(unmigrated_url, "db", "migrate").code == 0

    current = jobctl(unmigrated_url, "db", "status", "-o", "json")
    assert (current.code, current.json["current"]) == (0, True)
    assert "agree" in jobctl(unmigrated_url, "db", "status").output


async def test_the_history_opens_on_purpose_and_says_first_what_it_costs(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, 3, graph_extracted=True)
    await add_memories(pool, 1, graph_extracted=True, layer="semantic")
    paid = {"RAE_LLM_PROVIDER": "openai", "OPENAI_API_KEY": SECRET}
    command = ("db", "backfill-extraction", "--tenant", "demo-tenant", "--since", "2020-01-01", "-o", "json")

    preview = jobctl(database_url, *command, "--dry-run", **paid)
    assert preview.code == 0, preview.errors
    assert preview.json["memories"] == 3
    assert preview.json["costUsd"] > 0
    pending = "SELECT count(*) FROM memories WHERE NOT graph_extracted"
    assert await pool.fetchval(pending) == 0

    assert jobctl(database_url, *command, "--max-cost", "0.00000001", **paid).json["stoppedByCost"] is True
    assert jobctl(database_url, *command, **paid).json["memories"] == 3
    assert await pool.fetchval(pending) == 3
    assert jobctl(database_url, *command, **paid).json["memories"] == 0


async def test_runs_are_listed_and_shown_by_id_and_by_request(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool)
    request = json.dumps({"kind": "TaskRequest", "name": "nightly", "uid": "u-1", "spec": {}})
    assert jobctl(database_url, "decay", RAE_REQUEST=request).code == 0

    (run,) = json.loads(jobctl(database_url, "runs", "list", "-o", "json").output)
    assert (run["task"], run["status"], run["tenant"]) == ("decay", "finished", "demo-tenant")
    for how in ((run["id"][:8],), ("--request", "u-1"), ("--request", "nightly")):
        assert jobctl(database_url, "runs", "show", *how, "-o", "json").json["id"] == run["id"]
    assert "demo-tenant" in jobctl(database_url, "runs", "list").output
    assert jobctl(database_url, "runs", "list", "--status", "failed", "-o", "json").output.strip() == "[]"


async def test_a_pods_log_has_no_text_of_a_memory_and_the_ledger_has_it_all(database_url: str, pool: Pool) -> None:
    await add_tenant(pool)
    await add_memories(pool, content="Zaphod Beeblebrox founded Megadodo Publications in Hamburg.", metadata={})
    command = ("extract-graph", "--tenant", "demo-tenant", "--project", "p")

    ended = jobctl(database_url, *command, RAE_POD_NAME="pod-1", RAE_LLM_PROVIDER="local")

    assert ended.code == 0, ended.errors
    assert ended.json["counters"]["triples"] >= 1
    assert "Zaphod" not in ended.output + ended.errors
    shown = jobctl(database_url, "runs", "show", ended.json["runs"][0], "-o", "json").json
    assert "Zaphod" in shown["result"]["triples"][0]["evidence"]
    reflect = ("generate-reflection", "--tenant", "demo-tenant", "--project", "p", "--min-cluster-size", "1")
    reflected = jobctl(database_url, *reflect, RAE_POD_NAME="pod-2", RAE_LLM_PROVIDER="local")
    assert "Zaphod" not in reflected.output + reflected.errors
