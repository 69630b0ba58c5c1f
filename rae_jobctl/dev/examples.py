"""Load the example memories into RAE's tables.

The files are JSON lines, one memory each: id, tenant (a name), project, layer, content, source, created_at,
tags, importance, agent_id. Load them after `rae-jobctl db migrate`: what is there before it counts as history
and is not pending extraction.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, UUID, uuid5

import asyncpg

from rae_jobctl.errors import BadDataError

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Connection

RECENT_MEMORIES = 60
"""How many of a project's newest memories `recent` moves."""
RECENT_SPAN = timedelta(hours=23)
"""The time into which `recent` squeezes them; it ends at the moment of loading."""

_FIELDS = {"id", "tenant", "project", "layer", "content", "source", "created_at", "tags", "importance", "agent_id"}

_INSERT_TENANT = """
INSERT INTO tenants (id, name, config)
VALUES ($1, $2, '{}')
ON CONFLICT DO NOTHING
"""

# What RAE itself writes for a new memory, and no more: every other column keeps its default.
_INSERT_MEMORIES = """
INSERT INTO memories (
    id, content, content_hash, layer, tenant_id, agent_id, tags, metadata, importance, created_at, project, source
)
SELECT
    id, content, content_hash, layer, $1, agent_id, tags, metadata, importance, created_at, project, source
FROM jsonb_to_recordset($2::text::jsonb) AS given (
    id uuid, content text, content_hash text, layer text, agent_id text, tags text[], metadata jsonb,
    importance double precision, created_at timestamptz, project text, source text
)
ON CONFLICT DO NOTHING
RETURNING project
"""


@dataclass(frozen=True)
class ExampleMemory:
    """A line of an example file; `original_date` is set where `created_at` was moved."""

    id: UUID
    tenant: str
    project: str
    layer: str
    content: str
    source: str
    created_at: datetime
    tags: tuple[str, ...]
    importance: float
    agent_id: str
    original_date: datetime | None = None

    def as_row(self) -> dict[str, Any]:
        """The columns of RAE's table, as JSON holds them."""
        metadata = {"original_date": self.original_date.isoformat()} if self.original_date else {}
        return {
            "id": str(self.id),
            "content": self.content,
            "content_hash": hashlib.sha256(self.content.encode()).hexdigest(),
            "layer": self.layer,
            "agent_id": self.agent_id,
            "tags": list(self.tags),
            "metadata": metadata,
            "importance": self.importance,
            "created_at": self.created_at.isoformat(),
            "project": self.project,
            "source": self.source,
        }


@dataclass(frozen=True)
class ProjectReport:
    """What loading did for one project; `new` memories were not there before."""

    tenant: str
    tenant_id: UUID
    project: str
    read: int
    new: int


@dataclass(frozen=True)
class LoadReport:
    """What loading did, project by project, ordered by tenant and project."""

    projects: tuple[ProjectReport, ...]

    @property
    def read(self) -> int:
        """Memories found in the files."""
        return sum(project.read for project in self.projects)

    @property
    def new(self) -> int:
        """Memories that were not in the database before."""
        return sum(project.new for project in self.projects)


def tenant_id_of(name: str) -> UUID:
    """The id that an example tenant gets: the UUIDv5 of its name in the DNS namespace."""
    return uuid5(NAMESPACE_DNS, name)


def examples_folder() -> Path:
    """Where the example memories are: beside this module when installed, else in the checkout.

    Raises:
        BadDataError: neither folder exists.
    """
    installed = Path(str(package_files(__package__))) / "memories"
    checkout = Path(__file__).parents[2] / "examples" / "memories"
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise BadDataError("the example memories are not installed", hint="name their folder")


def read_examples(source: Path | Iterable[Path]) -> list[ExampleMemory]:
    """The memories of the given files, or of every *.jsonl in a folder, in the order of the files.

    Raises:
        BadDataError: there is no such file, or a line of it is no memory; file and line are named.
    """
    if isinstance(source, Path):
        paths: Sequence[Path] = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    else:
        paths = list(source)
    if not paths:
        raise BadDataError(f"no *.jsonl file in {source}")
    return [memory for path in paths for memory in _read_file(path)]


def _read_file(path: Path) -> list[ExampleMemory]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise BadDataError(f"{path} cannot be read: {failure}") from failure
    return [_parse(line, f"{path.name}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parse(line: str, place: str) -> ExampleMemory:
    """One memory; the errors name the field and never quote the text."""
    try:
        given = json.loads(line)
    except json.JSONDecodeError as failure:
        raise BadDataError(f"{place} is no JSON: {failure.msg}") from None
    if not isinstance(given, dict) or set(given) != _FIELDS:
        wrong = sorted(_FIELDS ^ set(given)) if isinstance(given, dict) else sorted(_FIELDS)
        raise BadDataError(f"{place}: missing or unknown fields: {', '.join(wrong)}")
    try:
        return ExampleMemory(
            **{
                **given,
                "id": UUID(given["id"]),
                "created_at": _moment(given["created_at"]),
                "tags": tuple(given["tags"]),
                "importance": float(given["importance"]),
            }
        )
    except (ValueError, TypeError, AttributeError):
        raise BadDataError(f"{place}: id, created_at, tags or importance is malformed") from None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment


def make_recent(memories: Iterable[ExampleMemory], now: datetime) -> list[ExampleMemory]:
    """Move the newest `RECENT_MEMORIES` of each project into the `RECENT_SPAN` before `now`.

    The newest one comes to be at `now`, the oldest one moved a span earlier; between them order and proportions stay.
    Each keeps its own date as `original_date`. The others stay where they are.
    """
    projects: dict[tuple[str, str], list[ExampleMemory]] = defaultdict(list)
    for memory in memories:
        projects[memory.tenant, memory.project].append(memory)
    moved: list[ExampleMemory] = []
    for of_project in projects.values():
        by_age = sorted(of_project, key=lambda memory: memory.created_at)
        moved += by_age[:-RECENT_MEMORIES] + _squeezed(by_age[-RECENT_MEMORIES:], now)
    return moved


def _squeezed(by_age: list[ExampleMemory], now: datetime) -> list[ExampleMemory]:
    first, last = by_age[0].created_at, by_age[-1].created_at
    ratio = RECENT_SPAN / max(last - first, RECENT_SPAN)
    return [
        replace(memory, created_at=now - (last - memory.created_at) * ratio, original_date=memory.created_at) for memory in by_age
    ]


async def load_examples(
    dsn_or_connection: str | Connection,
    files: Path | Iterable[Path] | None = None,
    *,
    recent: bool,
    now: datetime | None = None,
) -> LoadReport:
    """Insert the example tenants and memories that are not there yet.

    Run again it adds nothing and changes nothing; in particular it does not move the dates of loaded memories.
    A tenant that exists under its name keeps its id. All memories of a tenant are written in one transaction.

    Args:
        dsn_or_connection: a PostgreSQL URL, or an open connection outside a transaction, which stays open.
        files: files or a folder of them; by default those that this project brings (see `examples_folder`).
        recent: move the newest memories of each project into the last 24 hours (see `make_recent`).
        now: the moment of loading for `recent`; the clock's by default.

    Raises:
        BadDataError: a file cannot be read, a line is malformed, or a tenant's name is not unique.
        asyncpg.PostgresError: the database refuses, for example because RAE's tables are missing.
    """
    memories = read_examples(examples_folder() if files is None else files)
    if recent:
        memories = make_recent(memories, now or datetime.now(UTC))
    tenants: dict[str, list[ExampleMemory]] = defaultdict(list)
    for memory in memories:
        tenants[memory.tenant].append(memory)
    async with _connected(dsn_or_connection) as connection:
        reports = [await _load_tenant(connection, name, tenants[name]) for name in sorted(tenants)]
    return LoadReport(tuple(project for report in reports for project in report))


@asynccontextmanager
async def _connected(dsn_or_connection: str | Connection) -> AsyncIterator[Connection]:
    if not isinstance(dsn_or_connection, str):
        yield dsn_or_connection
        return
    connection = await asyncpg.connect(dsn_or_connection)
    try:
        yield connection
    finally:
        await connection.close()


async def _load_tenant(connection: Connection, name: str, memories: list[ExampleMemory]) -> list[ProjectReport]:
    async with connection.transaction():
        tenant_id = await _ensure_tenant(connection, name)
        await connection.execute(
            "SELECT set_config('app.current_tenant_id', $1, true), set_config('app.current_tenant', $1, true)",
            str(tenant_id),
        )
        rows = json.dumps([memory.as_row() for memory in memories])
        added = await connection.fetch(_INSERT_MEMORIES, tenant_id, rows)
    read = Counter(memory.project for memory in memories)
    new = Counter(row["project"] for row in added)
    return [ProjectReport(name, tenant_id, project, read[project], new[project]) for project in sorted(read)]


async def _ensure_tenant(connection: Connection, name: str) -> UUID:
    """The tenant's id; names are not unique in RAE's table, so two loads at once take turns."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('rae_jobctl.dev.examples'))")
    found = await connection.fetch("SELECT id FROM tenants WHERE name = $1", name)
    if len(found) > 1:
        raise BadDataError(f"{len(found)} tenants are named {name!r}", hint="rename all but one of them")
    if found:
        return UUID(str(found[0]["id"]))
    await connection.execute(_INSERT_TENANT, tenant_id_of(name), name)
    return tenant_id_of(name)
