"""Tenants: found by UUID or name, and enumerated, through functions that row-level security does not blind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.errors import BadDataError

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection, Record


#: Stands for every tenant where a key needs one: in the ledger for runs over all of them, and in pauses.
ALL_TENANTS = UUID(int=0)


@dataclass(frozen=True)
class Tenant:
    """One tenant.

    Attributes:
        id: as in every table.
        name: `tenants.name`, or the id's text where the tenant has no row.
        config: `tenants.config`.
    """

    id: UUID
    name: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)


async def resolve_tenant(connection: Connection, text: str) -> Tenant:
    """The tenant that `text` names: its UUID, or its name if no other tenant has the same.

    Raises:
        BadDataError: no tenant, or more than one.
    """
    rows = await connection.fetch("SELECT id, name, config FROM rae_jobs.find_tenants($1)", text.strip())
    if not rows:
        raise BadDataError(
            f"there is no tenant {text.strip()[:100]!r}",
            reason="TenantUnknown",
            hint="give the tenant's UUID or the exact tenants.name",
        )
    if len(rows) > 1:
        raise BadDataError(
            f"{len(rows)} tenants are named {text.strip()[:100]!r}",
            reason="TenantAmbiguous",
            hint="give the tenant's UUID: " + ", ".join(str(row["id"]) for row in rows[:5]),
        )
    return _tenant(rows[0])


async def list_tenants(connection: Connection) -> list[Tenant]:
    """Every tenant that has at least one memory, in the order of ids."""
    rows = await connection.fetch("SELECT id, name, config FROM rae_jobs.tenants_with_memories() ORDER BY id")
    return [_tenant(row) for row in rows]


async def list_known_tenants(connection: Connection) -> list[Tenant]:
    """Every tenant that anything is kept for, also after its last memory has gone, in the order of ids."""
    rows = await connection.fetch("SELECT id, name, config FROM rae_jobs.known_tenants() ORDER BY id")
    return [_tenant(row) for row in rows]


def _tenant(row: Record) -> Tenant:
    config = row["config"]
    return Tenant(id=row["id"], name=row["name"] or str(row["id"]), config=config if isinstance(config, dict) else {})
