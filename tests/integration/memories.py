"""Memories for the tests of the life cycle, made as RAE makes them, and `rae-jobctl` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

TENANT = UUID("11111111-1111-1111-1111-111111111111")
OTHER = UUID("22222222-2222-2222-2222-222222222222")


async def add_tenant(pool: Pool, tenant: UUID = TENANT, name: str = "demo-tenant", config: dict[str, Any] | None = None) -> UUID:
    """A tenant with its config."""
    await pool.execute("INSERT INTO tenants (id, name, config) VALUES ($1, $2, $3)", tenant, name, config or {})
    return tenant


async def add_memories(
    pool: Pool, count: int = 1, tenant: UUID = TENANT, through: date | None = None, **columns: Any
) -> list[UUID]:
    """Insert memories as RAE's own INSERT does; `through` then sets the day up to which they have been decayed."""
    ids = [uuid4() for _ in range(count)]
    for memory in ids:
        row = {"id": memory, "tenant_id": tenant, "content": f"memory {memory}", "layer": "episodic", "project": "p", **columns}
        holders = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await pool.execute(f"INSERT INTO memories ({', '.join(row)}) VALUES ({holders})", *row.values())
    if through is not None:
        await pool.execute("UPDATE memories SET decayed_through = $2 WHERE id = ANY($1)", ids, through)
    return ids


async def add_many(pool: Pool, count: int, through: date, tenant: UUID = TENANT) -> None:
    """Many memories in one statement, of strengths between 0 and 1 that differ."""
    await pool.execute(
        """
        INSERT INTO memories (tenant_id, content, layer, project, strength, decayed_through)
        SELECT $1, 'memory ' || n, 'episodic', 'p', (n % 997 + 1) / 1000.0, $3
        FROM generate_series(1, $2::int) AS n
        """,
        tenant,
        count,
        through,
    )


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on standard output."""
        body: dict[str, Any] = json.loads(self.output)
        return body

    @property
    def list(self) -> list[dict[str, Any]]:
        """The list on standard output."""
        body: list[dict[str, Any]] = json.loads(self.output)
        return body


def environment(url: str, **more: str) -> dict[str, str]:
    """The environment of a task, without what the machine's own shell may bring."""
    ours = ("RAE_", "MEMORY_", "POSTGRES_", "OPENAI_", "QDRANT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "DATABASE_URL": url, **more}


def start_jobctl(url: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """`rae-jobctl` as a process that may be killed."""
    command = [sys.executable, "-m", "rae_jobctl", *arguments]
    return subprocess.Popen(command, env=environment(url, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def jobctl(url: str, *arguments: str, **env: str) -> Ended:
    """`rae-jobctl` as a process, to its end."""
    process = start_jobctl(url, *arguments, **env)
    output, errors = process.communicate(timeout=120)
    return Ended(process.returncode, output, errors)
