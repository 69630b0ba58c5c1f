"""Prices of models, for estimates and for the usage ledger."""

from __future__ import annotations

from rae_jobctl.llm.types import Usage

#: Day on which PRICES was written down. List prices change: RAE_LLM_PRICE_* settings win.
PRICES_AS_OF = "2024-10-01"
#: USD for a million tokens: prompt, cached prompt, completion.
PRICES: dict[str, tuple[float, float, float]] = {
    "gpt-4o-mini": (0.15, 0.075, 0.60),
    "gpt-4o": (2.50, 1.25, 10.00),
}


def price_of(model: str) -> tuple[float, float, float] | None:
    """Price of a model or of a dated snapshot of it (gpt-4o-mini-2024-07-18), None when unknown."""
    known = [name for name in PRICES if model == name or model.startswith(f"{name}-20")]
    return PRICES[max(known, key=len)] if known else None


def cost_usd(price: tuple[float, float, float] | None, usage: Usage) -> float | None:
    """USD of a usage, None when the price is unknown."""
    if price is None:
        return None
    prompt, cached, completion = price
    fresh = usage.prompt_tokens - usage.cached_tokens
    return (fresh * prompt + usage.cached_tokens * cached + usage.completion_tokens * completion) / 1e6
