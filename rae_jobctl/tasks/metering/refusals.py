"""How often endpoints have refused calls of late, over all pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

_KEPT_MINUTES = 60
_RECENT_MINUTES = 10

_COUNT = """
INSERT INTO rae_jobs.llm_refusals AS r (minute, refusals)
VALUES (date_trunc('minute', now()), 1)
ON CONFLICT (minute) DO UPDATE
SET refusals = r.refusals + 1
"""

_FORGET = "DELETE FROM rae_jobs.llm_refusals WHERE minute < now() - make_interval(mins => $1)"

_RECENT = "SELECT coalesce(sum(refusals), 0)::bigint FROM rae_jobs.llm_refusals WHERE minute > now() - make_interval(mins => $1)"


async def count_refusal(pool: Pool) -> None:
    """Count one 429."""
    await pool.execute(_COUNT)
    await pool.execute(_FORGET, _KEPT_MINUTES)


async def recent_refusals(pool: Pool) -> int:
    """How many calls got a 429 in the last 10 minutes, whoever made them."""
    return int(await pool.fetchval(_RECENT, _RECENT_MINUTES))
