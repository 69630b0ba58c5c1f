"""The graph and reflection tasks as a role that owns nothing, with row-level security in force."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rae_jobctl.db.pool import open_pool
from rae_jobctl.deadline import StopSignal
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.settings import DatabaseSettings
from rae_jobctl.tasks.extraction.params import ExtractionParams
from rae_jobctl.tasks.extraction.task import extract_graph
from rae_jobctl.tasks.reflection.params import ReflectionParams
from rae_jobctl.tasks.reflection.task import generate_reflection
from tests.integration.graph_database import PROJECT, GraphDatabase, db, slot
from tests.integration.secured import secured

__all__ = ["db"]


@pytest.fixture
async def job_url(db: GraphDatabase) -> AsyncIterator[str]:
    """URL of a role that owns nothing and is bound by row-level security."""
    async with secured(db.url, db.pool) as url:
        yield url


async def test_extraction_and_reflection_work_under_row_level_security(db: GraphDatabase, job_url: str) -> None:
    ids = await db.remember(*[f"Alice uses Redis {n}." for n in range(4)])
    provider = open_provider(LlmSettings(ProviderName.LOCAL), StopSignal())
    async with open_pool(DatabaseSettings(job_url), "test") as pool:
        assert await pool.fetchval("SELECT count(*) FROM memories") == 0
        params = ExtractionParams("demo-tenant", PROJECT, pending=True)
        extracted = await extract_graph(pool, provider, params, slot=slot(), stop=StopSignal())
        reflected = await generate_reflection(
            pool, provider, ReflectionParams("demo-tenant", PROJECT), slot=slot(), stop=StopSignal()
        )
    assert extracted.counters["extracted"] == 4
    assert await db.marked() == set(ids)
    assert reflected.reason == "Done"
    assert await db.value("SELECT count(*) FROM memories WHERE layer = 'reflective'") == 1
