"""A real process of a task, killed as often as a test wants, and then run to its end."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

from tests.integration.memories import Ended, jobctl, start_jobctl

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool


async def killed_and_run_again(url: str, pool: Pool, kills: list[float], *command: str, **env: str) -> Ended:
    """Start the command, kill it (SIGKILL) so many seconds after it took its run, for each of `kills`; then let it end."""
    for moment in kills:
        process = start_jobctl(url, *command, **env)
        await _until_it_has_its_run(pool, process)
        await asyncio.sleep(moment)
        process.kill()
        process.communicate()
    return await asyncio.to_thread(jobctl, url, *command, "--wait", **env)


async def _until_it_has_its_run(pool: Pool, process: subprocess.Popen[str]) -> None:
    attempts = await pool.fetchval("SELECT coalesce(sum(attempt), 0) FROM rae_jobs.task_runs")
    while process.poll() is None:
        if await pool.fetchval("SELECT coalesce(sum(attempt), 0) FROM rae_jobs.task_runs") > attempts:
            return
        await asyncio.sleep(0.01)
