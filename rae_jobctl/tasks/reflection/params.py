"""What a reflection is asked to do."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from rae_jobctl.errors import UsageError
from rae_jobctl.llm.prompts import REFLECTION_PROMPT_VERSION
from rae_jobctl.llm.types import ReflectionKind

MAX_MEMORIES = 1000
_SINCE = re.compile(r"([0-9]{1,6})(m|h|d|w)")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = timedelta(days=365)


@dataclass(frozen=True)
class ReflectionParams:
    """Parameters of one reflection.

    Attributes:
        tenant: UUID or unique name.
        project: within the tenant.
        since: how far back memories count.
        max_memories: the newest so many.
        min_cluster_size: memories that a theme needs; fewer memories in all are too few.
        kind: what to look for.
    """

    tenant: str
    project: str
    since: timedelta = timedelta(hours=24)
    max_memories: int = 50
    min_cluster_size: int = 3
    kind: ReflectionKind = ReflectionKind.INSIGHT


def parse_since(text: str) -> timedelta:
    """A span such as 90m, 24h, 7d or 2w.

    Raises:
        UsageError: not of this form, zero, or more than a year.
    """
    match = _SINCE.fullmatch(text.strip())
    span = timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match else timedelta()
    if not timedelta() < span <= _LONGEST:
        raise UsageError(f"--since {text[:40]!r} is no span of up to a year", hint="e.g. --since 24h or --since 7d")
    return span


def input_hash(tenant_id: UUID, project: str, memory_ids: Iterable[UUID], kind: ReflectionKind, model: str) -> str:
    """What makes two reflections the same: tenant, project, memories, kind and version of the prompt, model."""
    version = f"{REFLECTION_PROMPT_VERSION}:{kind}"
    parts = [str(tenant_id), project, sorted(str(memory_id) for memory_id in memory_ids), version, model]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
