"""What a paid call must pass before it is made, and has to tell when it is over.

The client of an endpoint knows how large a call is and what became of it; who pays, and how many calls a minute all pods may
make together, it does not know. The meter stands between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from rae_jobctl.llm.types import Usage


@dataclass(frozen=True)
class CallSize:
    """How large a call is.

    Attributes:
        prompt_tokens: as it probably is, for limits on the rate.
        most_prompt_tokens: an upper bound, for limits on money.
        most_completion_tokens: what the call allows the answer.
    """

    prompt_tokens: int
    most_prompt_tokens: int
    most_completion_tokens: int


@dataclass
class Call:
    """What became of a call. One that tells nothing has cost all that it might have.

    Attributes:
        usage: as the endpoint counted it.
        free: it surely costs nothing: it was not sent, or was turned away.
        refused: the endpoint said 429.
        wait: seconds that it asked to wait then, None when it did not say.
        cause: a short word on what went wrong.
    """

    usage: Usage | None = None
    free: bool = False
    refused: bool = False
    wait: float | None = None
    cause: str | None = None


class Meter(Protocol):
    """Lets calls through, one by one."""

    def call(self, size: CallSize) -> AbstractAsyncContextManager[Call]:
        """Wait for the call's turn and reserve what it may cost; the block makes the call and says what became of it.

        Raises:
            BudgetExhausted: the call might pass a budget; it must not be made.
            ConfigError: there is a budget, and the model's price is unknown.
            TransientError: the endpoint wants to be left alone for longer than we wait.
            SoftLimitReached: asked to stop while waiting.
        """

    async def require(self, sizes: Sequence[CallSize]) -> None:
        """See that all these calls fit into the budgets as they are now; nothing is reserved.

        Raises:
            BudgetExhausted, ConfigError: as `call`.
        """


class Unmetered:
    """Lets every call through."""

    @asynccontextmanager
    async def call(self, size: CallSize) -> AsyncIterator[Call]:
        """See Meter."""
        yield Call()

    async def require(self, sizes: Sequence[CallSize]) -> None:
        """See Meter."""
