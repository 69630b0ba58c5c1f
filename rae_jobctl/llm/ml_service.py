"""RAE's ML service over HTTP: POST /extract-triples takes one text and gives triples without evidence.

The evidence is looked for here: the first sentence of the memory that names both subject and object. A triple whose names do not
meet in a sentence is rejected like any other without a quotation. The service reflects upon nothing, so reflections are local.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError
from rae_jobctl.llm.checks import Checker, Claim
from rae_jobctl.llm.retry import Patience, TryAgain, is_retryable, retry_after
from rae_jobctl.llm.settings import LlmSettings
from rae_jobctl.llm.text import MAX_EVIDENCE, entity_name, fold, is_named_in
from rae_jobctl.llm.themes import split_sentences
from rae_jobctl.llm.types import Estimate, Extraction, Memory, ReflectionDraft, ReflectionKind, Theme, Usage

if TYPE_CHECKING:
    from rae_jobctl.llm.meter import Meter

MAX_REPLY_BYTES = 2 * 1024 * 1024
MAX_CHARACTERS = 20_000
_FREE = Estimate(calls=0, prompt_tokens=0, completion_tokens=0, cost_usd=0.0)


class _Unusable(Exception):
    """The service answered, but not with triples."""


class MlServiceProvider:
    """Provider over RAE's ML service, or `rae-jobctl serve-ml`.

    Args:
        settings: ML_SERVICE_URL and patience.
        stop: ends waiting between retries.
    """

    name = "ml-service"
    model = "ml-service"
    paid = False
    batch_size = 20

    def __init__(self, settings: LlmSettings, stop: StopSignal) -> None:
        self.concurrency = settings.concurrency
        self._timeout = settings.timeout
        self._places = asyncio.Semaphore(settings.concurrency)
        self._client = httpx.AsyncClient(base_url=settings.ml_service_url, timeout=settings.timeout)
        self._patience = Patience("the ML service", settings.max_retries, settings.max_wait, stop)

    def metered(self, meter: Meter) -> MlServiceProvider:
        """See Provider."""
        return self

    async def extract(self, memories: Sequence[Memory]) -> Extraction:
        """See Provider: one call for each memory."""
        total = Extraction()
        for memory in memories:
            total += await self._one(memory)
        return total

    async def reflect(self, themes: Sequence[Theme], kind: ReflectionKind) -> ReflectionDraft:
        """See Provider."""
        from rae_jobctl.llm.local_reflection import reflect

        return await asyncio.to_thread(reflect, themes, kind)

    def estimate_extraction(self, memories: Sequence[Memory]) -> Estimate:
        """See Provider: RAE's own service is not paid by the call."""
        return Estimate(len(memories), 0, 0, 0.0)

    def estimate_reflection(self, themes: Sequence[Theme]) -> Estimate:
        """See Provider."""
        return _FREE

    async def aclose(self) -> None:
        """See Provider."""
        await self._client.aclose()

    async def _one(self, memory: Memory) -> Extraction:
        try:
            raw = await self._patience.call(lambda: self._post(memory.content[:MAX_CHARACTERS]))
            claims = _claims(raw, memory.content)
        except _Unusable:
            return Extraction(failed={memory.id: "BadReply"}, usage=Usage(calls=1))
        checker = Checker()
        return Extraction(tuple(checker.check(memory, claims)), rejected=checker.rejected, usage=Usage(calls=1))

    async def _post(self, text: str) -> bytes:
        body = bytearray()
        request = {"text": fold(text), "language": "en", "method": "dependency"}
        try:
            stream = self._client.stream("POST", "/extract-triples", json=request)
            async with self._places, asyncio.timeout(self._timeout), stream as response:
                _refuse(response)
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_REPLY_BYTES:
                        raise _Unusable
        except (httpx.TimeoutException, TimeoutError):
            raise TryAgain("a timeout") from None
        except httpx.HTTPError as error:
            raise TryAgain(f"a connection error ({type(error).__name__})") from None
        return bytes(body)


def _refuse(response: httpx.Response) -> None:
    status = response.status_code
    if status < 300:
        return
    if is_retryable(status):
        raise TryAgain(str(status), retry_after(response.headers))
    if status in (413, 422):
        raise _Unusable
    if status == 404:
        raise ConfigError(
            "the ML service has no /extract-triples (404)",
            reason="MlServiceIncomplete",
            hint="RAE dropped it in 2026: point ML_SERVICE_URL at `rae-jobctl serve-ml`, or set RAE_LLM_PROVIDER=local",
        )
    raise ConfigError(f"the ML service refuses the request ({status})", reason="LlmRequestRefused", hint="check ML_SERVICE_URL")


def _claims(raw: bytes, content: str) -> list[Claim]:
    try:
        entries = json.loads(raw)["triples"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Unusable from None
    if not isinstance(entries, list):
        raise _Unusable
    sentences = split_sentences(content)
    return [_claim(entry, sentences) for entry in entries if isinstance(entry, dict)]


def _claim(entry: Mapping[str, Any], sentences: Sequence[str]) -> Claim:
    subject, target = entry.get("subject"), entry.get("object")
    evidence = ""
    if isinstance(subject, str) and isinstance(target, str):
        names = (entity_name(subject), entity_name(target))
        evidence = next((s for s in sentences if all(is_named_in(name, s) for name in names)), "")
    return Claim(subject, entry.get("predicate"), target, evidence[:MAX_EVIDENCE], entry.get("confidence", 0.6))
