"""How much less is asked for after the language model has refused us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

#: Counts the answers 429 that came lately, over all pods and tenants: metering.refusals.recent_refusals, or a test's own.
Refusals = Callable[["Pool"], Awaitable[int]]


def lowered(most: int, refusals: int) -> int:
    """`most` halved once for each decimal digit of the number of refusals, at least 1: of 8, 4 from 1, 2 from 10, 1 from 100."""
    return max(1, most >> len(str(refusals))) if refusals > 0 else most
