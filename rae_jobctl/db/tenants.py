"""Tenants: found by UUID or name, and enumerated, through functions that row-level security does not blind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from rae_jobctl.errors import BadDataError, ConfigError

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
        config: `tenants.config`; one that is no object raises ConfigError when something of it is asked for.
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
    return Tenant(id=row["id"], name=row["name"] or str(row["id"]), config=_config(row["id"], row["config"]))


def _config(tenant: UUID, value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        # An object that was made text twice on its way into the column.
        with suppress(ValueError):
            value = json.loads(value)
    if value is None:
        return {}
    return value if isinstance(value, dict) else _NoObject(tenant)


class _NoObject(Mapping[str, Any]):
    """A config that says nothing that can be read: what the tenant wanted to be kept must not be taken for the default."""

    def __init__(self, tenant: UUID) -> None:
        self._tenant = tenant

    def __getitem__(self, key: str) -> NoReturn:
        self._refuse()

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"the config of tenant {self._tenant} is no JSON object",
            reason="TenantConfigInvalid",
            hint="tenants.config must be an object or NULL; nothing was done for this tenant",
        )
