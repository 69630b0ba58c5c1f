"""What language models have used, in a run's counters; the meter writes a row for each call (`rae_jobctl.tasks.metering`)."""

from __future__ import annotations

from rae_jobctl.llm.types import Usage


def add_usage(counters: dict[str, int], usage: Usage) -> None:
    """Add calls and tokens to a run's counters."""
    for name, value in (
        ("llmCalls", usage.calls),
        ("promptTokens", usage.prompt_tokens),
        ("completionTokens", usage.completion_tokens),
    ):
        if value:
            counters[name] = counters.get(name, 0) + value
