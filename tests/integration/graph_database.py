"""A real PostgreSQL with RAE's tables and ours, for the tests of the graph and reflection tasks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from rae_jobctl.slots import Slot

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

TENANT = UUID("11111111-1111-1111-1111-111111111111")
PROJECT = "ai-research"


@dataclass
class GraphDatabase:
    """A migrated database with one tenant named demo-tenant.

    Attributes:
        url: for DATABASE_URL.
        pool: as a task opens it.
    """

    url: str
    pool: Pool

    async def remember(self, *texts: str, project: str = PROJECT, tenant: UUID = TENANT, **columns: Any) -> list[UUID]:
        """Insert episodic memories, the first the oldest; returns their ids."""
        now = datetime.now(UTC)
        ids = []
        for number, text in enumerate(texts):
            row = {
                "id": uuid4(),
                "tenant_id": tenant,
                "project": project,
                "layer": "episodic",
                "content": text,
                "created_at": now - timedelta(minutes=len(texts) - number),
                **columns,
            }
            holders = ", ".join(f"${n}" for n in range(1, len(row) + 1))
            await self.pool.execute(f"INSERT INTO memories ({', '.join(row)}) VALUES ({holders})", *row.values())
            ids.append(row["id"])
        return ids

    async def edges(self, project: str = PROJECT, tenant: UUID = TENANT) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Properties by (subject, relation, object)."""
        rows = await self.pool.fetch(
            """
            SELECT s.node_id AS s, e.relation AS r, t.node_id AS t, e.properties AS p
            FROM knowledge_graph_edges AS e
            JOIN knowledge_graph_nodes AS s ON s.id = e.source_node_id
            JOIN knowledge_graph_nodes AS t ON t.id = e.target_node_id
            WHERE e.tenant_id = $1 AND e.project = $2
            """,
            tenant,
            project,
        )
        return {(row["s"], row["r"], row["t"]): dict(row["p"]) for row in rows}

    async def marked(self) -> set[UUID]:
        """Memories that say that they were extracted."""
        rows = await self.pool.fetch("SELECT id FROM memories WHERE metadata ? 'graph_extracted_at' AND graph_extracted")
        return {row["id"] for row in rows}

    async def value(self, sql: str, *arguments: Any) -> Any:
        """One value."""
        return await self.pool.fetchval(sql, *arguments)


@pytest.fixture
async def db(database_url: str, pool: Pool) -> GraphDatabase:
    """A fresh database."""
    await pool.execute("INSERT INTO tenants (id, name) VALUES ($1, 'demo-tenant')", TENANT)
    return GraphDatabase(database_url, pool)


def slot(key: str | None = None) -> Slot:
    """A slot by name, a fresh one without."""
    return Slot(key or f"once:{uuid4()}", datetime.now(UTC), "request")


def parsed(text: str) -> Any:
    """JSON of an output."""
    return json.loads(text)
