"""`runs watch` in a pipe and at a terminal, on real processes."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING

import pytest

from rae_jobctl.db.ledger import RunKey, open_run
from tests.integration.ledger_runs import decaying, in_thread, lines_of, make_run, slow_down
from tests.integration.memories import OTHER, TENANT, add_many, add_tenant, environment, jobctl, start_jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool


async def test_a_real_run_is_watched_in_a_pipe_by_lines_until_it_ends(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    await add_many(pool, 4000, date(2026, 11, 23))
    await slow_down(pool)
    process, run = await decaying(pool, database_url, "2026-11-24T02:00Z")

    watched = await in_thread(database_url, "runs", "watch", str(run)[:8])
    process.communicate(timeout=60)

    assert watched.code == 0, watched.errors
    lines = watched.output.splitlines()
    assert len(lines) >= 2
    assert f"{str(run)[:8]} decay demo-tenant running attempt 1 " in lines[0]
    assert "finished attempt 1 4000/4000 decayed=4000" in lines[-1]
    assert "Done 4000 memories decayed through 2026-11-24" in lines[-1]


async def test_a_killed_run_is_seen_to_have_died(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    await add_many(pool, 5000, date(2026, 11, 23))
    await slow_down(pool)
    process, run = await decaying(pool, database_url, "2026-11-24T02:00Z")
    watching = start_jobctl(database_url, "runs", "watch", str(run), "-o", "json")
    assert watching.stdout is not None
    first = await asyncio.to_thread(watching.stdout.readline)
    process.kill()
    process.communicate(timeout=60)
    output, errors = await asyncio.to_thread(watching.communicate, timeout=60)

    assert watching.returncode == 75, errors
    changes = lines_of(first + output)
    assert [changes[0]["status"], changes[-1]["status"]] == ["running", "died"]
    assert changes[-1]["id"] == str(run)
    assert changes[-1]["counters"]["decayed"] >= changes[0]["counters"]["decayed"] > 0


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        ("finished", 0, "finished attempt 1"),
        ("failed", 75, "failed attempt 1 LlmUnreachable away"),
        ("dead", 65, "failed attempt 1 BadData there is no project 'x'"),
        ("sliced", 75, "sliced attempt 1 TimeSliced"),
        ("died", 75, "died attempt 1"),
        ("cancelled", 65, "cancelled attempt 1 RunCancelled"),
    ],
)
async def test_a_run_that_has_ended_is_told_at_once_with_its_exit_code(
    pool: Pool, database_url: str, ending: str, code: int, words: str
) -> None:
    run = await make_run(pool, "died" if ending == "cancelled" else ending)
    if ending == "cancelled":
        jobctl(database_url, "runs", "cancel", str(run))
    watched = jobctl(database_url, "runs", "watch", str(run))
    assert watched.code == code, watched.errors
    (line,) = watched.output.splitlines()
    assert words in line


async def test_the_newest_run_of_a_request_is_watched(pool: Pool, database_url: str) -> None:
    run = await make_run(pool, "finished")
    await pool.execute("UPDATE rae_jobs.task_runs SET request_uid = 'uid-1', request_name = 'weekly' WHERE id = $1", run)
    for text in ("uid-1", "weekly"):
        assert jobctl(database_url, "runs", "watch", "--request", text, "-o", "json").json["id"] == str(run)
    assert jobctl(database_url, "runs", "watch", "--request", "other").code == 65
    assert jobctl(database_url, "runs", "watch", str(run), "--request", "weekly").code == 64


async def test_a_watch_ends_when_its_time_is_over_and_says_that_the_run_goes_on(pool: Pool, database_url: str) -> None:
    async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
        watched = await in_thread(database_url, "runs", "watch", str(run.id), "--timeout", "1.5")
        assert watched.code == 75
        assert f"stopped watching by --timeout; run {str(run.id)[:8]}" in watched.errors
        assert len(watched.output.splitlines()) == 1, "nothing has changed"
        await run.finish()


async def test_all_that_runs_is_watched_until_interrupted(pool: Pool, database_url: str) -> None:
    watching = start_jobctl(database_url, "runs", "watch", "-o", "json")
    assert watching.stdout is not None
    for tenant in (TENANT, OTHER):
        async with open_run(pool, RunKey("test-task", tenant, "one")) as run:
            running = lines_of(await asyncio.to_thread(watching.stdout.readline))[0]
            await run.finish()
        ended = lines_of(await asyncio.to_thread(watching.stdout.readline))[0]
        assert [running["tenant_id"], running["status"], ended["id"], ended["status"]] == [
            str(tenant),
            "running",
            str(run.id),
            "finished",
        ]
    watching.send_signal(signal.SIGINT)
    output, errors = await asyncio.to_thread(watching.communicate, timeout=60)
    assert (watching.returncode, output, errors) == (0, "", "")


async def test_a_terminal_gets_one_picture_that_is_drawn_anew(pool: Pool, database_url: str) -> None:
    await add_tenant(pool)
    async with open_run(pool, RunKey("test-task", TENANT, "one")) as run:
        async with run.batch():
            run.done, run.total = 25, 100
            run.counters["decayed"] = 25
        watching, terminal = _at_terminal(database_url, "runs", "watch", str(run.id))
        await asyncio.sleep(3)
        async with run.batch():
            run.done = 100
        await run.finish(message="all of it")
    text = await asyncio.to_thread(_all_of, terminal)
    assert await asyncio.to_thread(watching.wait, 60) == 0
    os.close(terminal)
    for words in ("25/100", "100/100", "decayed 25", "━", "finished", "Done all of it", "attempt 1"):
        assert words in text


def _at_terminal(url: str, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rae_jobctl", *arguments]
    process = subprocess.Popen(command, env=environment(url, TERM="xterm", COLUMNS="100"), stdout=theirs)
    os.close(theirs)
    return process, ours


def _all_of(terminal: int) -> str:
    parts = []
    with suppress(OSError):
        while part := os.read(terminal, 65536):
            parts.append(part)
    return b"".join(parts).decode()
