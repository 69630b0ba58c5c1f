"""What `check-consistency` is asked to do."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rae_jobctl.deadline import StopSignal
from rae_jobctl.settings import Environment, number
from rae_jobctl.slots import Slot

DEFAULT_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class ConsistencyParams:
    """What to do, and which run this is.

    Attributes:
        slot: the occurrence.
        stop: asked between pages.
        wait: wait for locks.
        repair: delete vectors without a memory, write vectors from PostgreSQL's embeddings.
        unknown_tenants: delete the vectors of tenants that PostgreSQL does not know; needs `repair`.
        dry_run: write nothing; with `repair`, count what it would do.
        grace: seconds for which a row or a point may be without its other half: it is being written.
    """

    slot: Slot
    stop: StopSignal
    wait: bool = False
    repair: bool = False
    unknown_tenants: bool = False
    dry_run: bool = False
    grace: float = DEFAULT_GRACE_SECONDS

    @property
    def mends(self) -> bool:
        """Whether anything is mended in this run."""
        return self.repair and not self.dry_run


def grace_seconds(env: Environment | None = None) -> float:
    """RAE_CONSISTENCY_GRACE_SECONDS, 0 to a week.

    Raises:
        ConfigError: not a number, or outside.
    """
    return number(os.environ if env is None else env, "RAE_CONSISTENCY_GRACE_SECONDS", DEFAULT_GRACE_SECONDS, low=0, high=604_800)
