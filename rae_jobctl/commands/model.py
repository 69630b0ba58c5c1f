"""What a task with a language model needs around it: the database's pool and the provider, both closed at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool
    from rae_jobctl.deadline import StopSignal
    from rae_jobctl.llm.settings import LlmSettings
    from rae_jobctl.llm.types import Provider


@asynccontextmanager
async def pool_and_provider(settings: LlmSettings, task: str, stop: StopSignal) -> AsyncIterator[tuple[Pool, Provider]]:
    """Open both for the block.

    Raises:
        TransientError, ConfigError: as `open_pool` and `open_provider` say.
    """
    from rae_jobctl.db.pool import open_pool
    from rae_jobctl.llm.factory import open_provider
    from rae_jobctl.settings import DatabaseSettings

    async with open_pool(DatabaseSettings.from_env(), task) as pool:
        provider = open_provider(settings, stop)
        try:
            yield pool, provider
        finally:
            await provider.aclose()
