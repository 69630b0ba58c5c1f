"""Vectors of tenants that PostgreSQL does not know: no comparison by tenant would ever meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rae_jobctl.db.tenants import Tenant
from rae_jobctl.vectors.client import TENANT
from rae_jobctl.vectors.types import PointId

if TYPE_CHECKING:
    from rae_jobctl.vectors.client import QdrantClient

#: Two calls each.
MAX_TENANTS = 100


@dataclass(frozen=True)
class Unknown:
    """What was found.

    Attributes:
        points: number of points by tenant_id.
        without_tenant: points that have no tenant_id.
        more: there are further tenants.
    """

    points: dict[str, int]
    without_tenant: int
    more: bool = False

    @property
    def count(self) -> int:
        """Points of unknown tenants and of none."""
        return sum(self.points.values()) + self.without_tenant

    def tenants(self) -> list[Tenant]:
        """Those whose id is one of RAE's: a UUID. Whatever else is in the collection is not RAE's to delete."""
        return [Tenant(tenant, text) for text in self.points if (tenant := _uuid(text)) is not None]

    def as_json(self) -> dict[str, Any]:
        """For the result; most points first."""
        listed = sorted(self.points.items(), key=lambda one: -one[1])
        tenants = [{"tenantId": text, "points": number} for text, number in listed]
        return {"unknownTenants": tenants, "moreUnknownTenants": self.more, "pointsWithoutTenant": self.without_tenant}


async def find_unknown(qdrant: QdrantClient, known: Sequence[Tenant]) -> Unknown:
    """Ask for a point of none of the known tenants, count that tenant's points, and go on until there is no further one.

    Args:
        known: tenants that PostgreSQL knows.

    Raises:
        TransientError, ConfigError: of Qdrant.
    """
    names = [str(tenant.id) for tenant in known]
    points: dict[str, int] = {}
    odd: list[PointId] = []
    without = await qdrant.count(None)
    while len(points) + len(odd) < MAX_TENANTS:
        point = await qdrant.first_outside([*names, *points], odd)
        if point is None:
            return Unknown(points, without + len(odd))
        tenant = point.payload.get(TENANT)
        if isinstance(tenant, str) and tenant not in points:
            points[tenant] = await qdrant.count(tenant)
        else:
            # A number, a list: nothing that RAE writes, and nothing that a condition on a text leaves out.
            odd.append(point.id)
    return Unknown(points, without + len(odd), more=await qdrant.first_outside([*names, *points], odd) is not None)


def _uuid(text: str) -> UUID | None:
    try:
        tenant = UUID(text)
    except ValueError:
        return None
    # The condition of a deletion is the text as RAE writes it.
    return tenant if str(tenant) == text else None
