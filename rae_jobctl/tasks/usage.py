"""The ledger of what language models have used: one row for each piece of work, in the transaction that stores its outcome.

Budgets come in here later: a reservation before the call, settled by the same row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rae_jobctl.llm.pricing import cost_usd
from rae_jobctl.llm.types import Provider, Usage

if TYPE_CHECKING:
    from rae_jobctl.db.ledger import Run
    from rae_jobctl.db.pool import Connection

_RECORD = """
INSERT INTO rae_jobs.llm_usage (
    run_id, tenant_id, project, task, provider, model, state,
    cost_usd, prompt_tokens, cached_tokens, completion_tokens, duration_ms, settled_at
)
VALUES ($1, $2, $3, $4, $5, $6, 'settled', $7::float8::numeric, $8, $9, $10, $11, now())
"""


async def record_usage(
    connection: Connection, run: Run, provider: Provider, usage: Usage, price: tuple[float, float, float] | None, seconds: float
) -> None:
    """Write down what calls have used; nothing where no call was made or none is paid.

    Args:
        connection: of the open batch.
        price: USD per million prompt, cached and completion tokens, None when unknown.
        seconds: how long the calls took together.
    """
    if not usage.calls or not provider.paid:
        return
    key = run.key
    await connection.execute(
        _RECORD,
        *(run.id, key.tenant_id, key.project, key.task, provider.name, provider.model),
        *(cost_usd(price, usage), usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, seconds * 1000),
    )


def add_usage(counters: dict[str, int], usage: Usage) -> None:
    """Add calls and tokens to a run's counters."""
    for name, value in (
        ("llmCalls", usage.calls),
        ("promptTokens", usage.prompt_tokens),
        ("completionTokens", usage.completion_tokens),
    ):
        if value:
            counters[name] = counters.get(name, 0) + value
