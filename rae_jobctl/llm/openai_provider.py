"""Extraction and reflection by a chat model."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import BudgetExhausted, SoftLimitReached, TaskError
from rae_jobctl.llm import prompts
from rae_jobctl.llm.chat import Answer, AnswerError, ChatClient, Prompt
from rae_jobctl.llm.checks import Checker, Claim, unit_number
from rae_jobctl.llm.meter import Meter
from rae_jobctl.llm.pricing import cost_usd
from rae_jobctl.llm.settings import LlmSettings
from rae_jobctl.llm.text import estimate_tokens, fold, shorten, split_long
from rae_jobctl.llm.types import (
    Estimate,
    Extraction,
    Insight,
    Memory,
    ReflectionDraft,
    ReflectionKind,
    Scores,
    Theme,
    Usage,
)

#: Characters of one item in a prompt; a longer memory goes in as several items.
MAX_ITEM_CHARACTERS = 6000
#: Items of one memory; what is beyond is not read.
MAX_ITEMS_PER_MEMORY = 16
#: Memories of one theme that a reflection reads.
MAX_THEME_MEMORIES = 20
#: Insights of one theme, and characters of one, that are taken from an answer.
MAX_INSIGHTS, MAX_INSIGHT = 5, 400
_KEYS = {
    "s": "subject",
    "p": "predicate",
    "o": "object",
    "q": "evidence",
    "c": "confidence",
    "st": "subject_type",
    "ot": "object_type",
}


@dataclass(frozen=True)
class _Item:
    memory: Memory
    text: str


class OpenAIProvider:
    """Provider over any OpenAI-compatible endpoint.

    Args:
        settings: endpoint, model, batch limits and price.
        stop: ends waiting between retries.
    """

    name = "openai"
    paid = True

    def __init__(self, settings: LlmSettings, stop: StopSignal) -> None:
        self._settings = settings
        self._chat = ChatClient(settings, stop)
        self.model = settings.model
        self.batch_size = settings.batch_size
        self.concurrency = settings.concurrency

    def metered(self, meter: Meter) -> OpenAIProvider:
        """See Provider."""
        provider = copy.copy(self)
        provider._chat = self._chat.metered(meter)
        return provider

    async def extract(self, memories: Sequence[Memory]) -> Extraction:
        """See Provider: packs prompts within the token budget, and halves a prompt whose answer is bad."""
        total = Extraction()
        for batch in self._pack(memories):
            total += _unasked(batch, total.stopped) if total.stopped else await self._extract_items(batch)
        whole = _without_failed(total)
        if whole.stopped and len(whole.unasked) == len({memory.id for memory in memories}):
            raise whole.stopped
        return whole

    async def reflect(self, themes: Sequence[Theme], kind: ReflectionKind) -> ReflectionDraft:
        """See Provider: one call for each theme, and one that brings them together.

        A reflection that is given up half-way is worth nothing, so it begins only where the budget has room for all of it.
        """
        await self._chat.require(_reflection_prompts(themes, kind))
        insights: list[Insight] = []
        rejected: Counter[str] = Counter()
        usage = Usage()
        for theme in themes:
            found, used = await self._insights(theme, kind, rejected)
            insights += found
            usage += used
        if not insights:
            return ReflectionDraft("", (), (), rejected=rejected, usage=usage)
        return await self._synthesis(insights, kind, rejected, usage)

    def estimate_extraction(self, memories: Sequence[Memory]) -> Estimate:
        """See Provider."""
        asked = [prompts.extraction_prompt([item.text for item in batch]) for batch in self._pack(memories)]
        return self._estimate(asked, [100 * prompt.user.count("\n") for prompt in asked])

    def estimate_reflection(self, themes: Sequence[Theme]) -> Estimate:
        """See Provider."""
        kind = ReflectionKind.INSIGHT
        asked = [prompts.theme_prompt(_theme_texts(theme), kind) for theme in themes]
        asked.append(prompts.synthesis_prompt(["x" * 200] * len(themes), kind))
        return self._estimate(asked, [300] * len(asked))

    async def aclose(self) -> None:
        """See Provider."""
        await self._chat.aclose()

    def _pack(self, memories: Sequence[Memory]) -> list[list[_Item]]:
        batches: list[list[_Item]] = []
        tokens = self._settings.batch_tokens
        for memory in memories:
            for piece in split_long(fold(memory.content), MAX_ITEM_CHARACTERS)[:MAX_ITEMS_PER_MEMORY]:
                cost = estimate_tokens(piece)
                if not batches or len(batches[-1]) >= self.batch_size or tokens + cost > self._settings.batch_tokens:
                    batches.append([])
                    tokens = 0
                batches[-1].append(_Item(memory, piece))
                tokens += cost
        return batches

    async def _extract_items(self, items: Sequence[_Item]) -> Extraction:
        try:
            answer = await self._chat.ask(prompts.extraction_prompt([item.text for item in items]))
            claims, strays = _claims(answer, len(items))
        except (BudgetExhausted, SoftLimitReached) as stopped:
            return _unasked(items, stopped)
        except AnswerError as error:
            return Extraction(usage=error.usage) + await self._halves(items, error.reason)
        checker = Checker()
        checker.rejected.update(strays)
        triples = [
            triple
            for number, item in enumerate(items)
            for triple in checker.check(Memory(item.memory.id, item.text), claims[number])
        ]
        return Extraction(tuple(triples), rejected=checker.rejected, usage=answer.usage)

    async def _halves(self, items: Sequence[_Item], reason: str) -> Extraction:
        if len(items) == 1:
            return Extraction(failed={items[0].memory.id: reason})
        middle = len(items) // 2
        return await self._extract_items(items[:middle]) + await self._extract_items(items[middle:])

    async def _insights(self, theme: Theme, kind: ReflectionKind, rejected: Counter[str]) -> tuple[list[Insight], Usage]:
        try:
            answer = await self._chat.ask(prompts.theme_prompt(_theme_texts(theme), kind))
        except AnswerError as error:
            rejected[error.reason] += 1
            return [], error.usage
        ids = [memory.id for memory in theme.memories[:MAX_THEME_MEMORIES]]
        raw = answer.body.get("insights")
        found = [insight for entry in _dicts(raw)[:MAX_INSIGHTS] if (insight := _insight(entry, ids, rejected)) is not None]
        return found, answer.usage

    async def _synthesis(
        self, insights: Sequence[Insight], kind: ReflectionKind, rejected: Counter[str], usage: Usage
    ) -> ReflectionDraft:
        try:
            answer = await self._chat.ask(prompts.synthesis_prompt([insight.text for insight in insights], kind))
        except AnswerError as error:
            # The insights are paid for and sound; the first of them stands for the whole.
            rejected[error.reason] += 1
            return ReflectionDraft(insights[0].text, tuple(insights), (), rejected=rejected, usage=usage + error.usage)
        body = answer.body
        summary = _sentence(body.get("summary"), 800) or insights[0].text
        raw_actions = body.get("suggested_actions")
        actions = [_sentence(action, 240) for action in (raw_actions if isinstance(raw_actions, list) else [])[:5]]
        scores = Scores(*(unit_number(body, name) for name in ("novelty", "importance", "utility", "confidence")))
        return ReflectionDraft(summary, tuple(insights), tuple(filter(None, actions)), scores, rejected, usage + answer.usage)

    def _estimate(self, asked: Sequence[Prompt], answers: Sequence[int]) -> Estimate:
        prompt_tokens = sum(estimate_tokens(prompt.system) + estimate_tokens(prompt.user) + 200 for prompt in asked)
        usage = Usage(len(asked), prompt_tokens, 0, sum(answers))
        return Estimate(usage.calls, usage.prompt_tokens, usage.completion_tokens, cost_usd(self._settings.price, usage))


def _without_failed(extraction: Extraction) -> Extraction:
    # A memory of several items is extracted whole or not at all; one that failed has been asked for, whatever else of it was not.
    unasked = extraction.unasked - extraction.failed.keys()
    kept = tuple(t for t in extraction.triples if t.memory_id not in extraction.failed and t.memory_id not in unasked)
    return replace(extraction, triples=kept, unasked=unasked)


def _unasked(items: Sequence[_Item], stopped: TaskError) -> Extraction:
    return Extraction(unasked=frozenset(item.memory.id for item in items), stopped=stopped)


def _reflection_prompts(themes: Sequence[Theme], kind: ReflectionKind) -> list[Prompt]:
    """All prompts of a reflection, the last as long as it can become."""
    asked = [prompts.theme_prompt(_theme_texts(theme), kind) for theme in themes]
    return [*asked, prompts.synthesis_prompt(["x" * MAX_INSIGHT] * (MAX_INSIGHTS * len(themes)), kind)]


def _claims(answer: Answer, count: int) -> tuple[Mapping[int, list[Claim]], Counter[str]]:
    """Claims by item, from 0; those that name no item of the prompt are counted apart."""
    entries = answer.body.get("t")
    if not isinstance(entries, list):
        raise AnswerError("BadReply", answer.usage)
    claims: dict[int, list[Claim]] = defaultdict(list)
    strays: Counter[str] = Counter()
    for entry in entries:
        number = entry.get("i") if isinstance(entry, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= count:
            strays["NoSuchMemory"] += 1
            continue
        claims[number - 1].append(Claim(**{name: entry.get(key) for key, name in _KEYS.items()}))
    return claims, strays


def _theme_texts(theme: Theme) -> list[str]:
    return [shorten(fold(memory.content), 2000) for memory in theme.memories[:MAX_THEME_MEMORIES]]


def _insight(entry: Mapping[str, Any], ids: Sequence[UUID], rejected: Counter[str]) -> Insight | None:
    """An insight whose evidence was in the input; one that rests on a single memory is marked."""
    text = _sentence(entry.get("text"), MAX_INSIGHT)
    numbers = entry.get("evidence")
    chosen = [n for n in (numbers if isinstance(numbers, list) else []) if isinstance(n, int) and not isinstance(n, bool)]
    evidence = tuple(dict.fromkeys(ids[n - 1] for n in chosen if 1 <= n <= len(ids)))
    if not text or not evidence:
        rejected["NoEvidence" if text else "Malformed"] += 1
        return None
    return Insight(text, evidence, unit_number(entry, "confidence"), single_source=len(evidence) == 1)


def _dicts(raw: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in raw if isinstance(entry, dict)] if isinstance(raw, list) else []


def _sentence(value: Any, limit: int) -> str:
    return shorten(fold(value), limit) if isinstance(value, str) else ""
