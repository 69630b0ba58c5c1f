"""A database with row-level security as RAE's guide turns it on, and a role that owns nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from rae_jobctl.db.grants import grant_to
from rae_jobctl.db.pool import connect
from rae_jobctl.dev.schema import rae_row_level_security_sql
from rae_jobctl.settings import DatabaseSettings

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

_PASSWORD = "secret"


@asynccontextmanager
async def secured(url: str, pool: Pool) -> AsyncIterator[str]:
    """The URL of the role for the block; the role and what it was granted are gone afterwards."""
    role = f"rae_tasks_{uuid4().hex[:10]}"
    async with connect(DatabaseSettings(url), "test") as owner:
        await owner.execute(rae_row_level_security_sql())
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{_PASSWORD}'")
        await grant_to(owner, role, lambda line: None, 10)
    parts = urlsplit(url)
    try:
        yield f"postgresql://{role}:{_PASSWORD}@{parts.hostname}:{parts.port}{parts.path}"
    finally:
        await pool.execute(f"DROP OWNED BY {role}")
        await pool.execute(f"DROP ROLE {role}")
