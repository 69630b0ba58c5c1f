"""Chat completions of any OpenAI-compatible endpoint, asked for JSON, with each way of failing told apart.

Endpoints differ in what they know: strict JSON schemas, JSON mode only, or neither; `max_completion_tokens` or its older name;
a temperature or none. The first refusal teaches the client, and it does not ask again.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError
from rae_jobctl.llm.meter import Call, CallSize, Meter, Unmetered
from rae_jobctl.llm.retry import Patience, TryAgain, is_retryable, retry_after
from rae_jobctl.llm.settings import LlmSettings
from rae_jobctl.llm.text import estimate_tokens
from rae_jobctl.llm.types import Usage
from rae_jobctl.logs import get_logger

#: Far above any answer that was asked for; a larger one is a fault or an attack on our memory.
MAX_REPLY_BYTES = 2 * 1024 * 1024
_FORMATS = ("json_schema", "json_object", "text")
#: Codes of a 400 that concern this prompt alone, so a smaller or another one may pass.
_PROMPT_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation"})
#: Tokens that an endpoint may add to each message and to the whole, for roles and separators.
_FRAME_TOKENS = 64
#: A request that failed with one of these was never sent; the SDK sits on one of two HTTP libraries, which name them alike.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
#: Statuses of a request that was turned away before any model saw it. Others may be charged for (a 400 of a content filter is).
_TURNED_AWAY = frozenset({401, 403, 404, 405, 413, 415, 429})


class AnswerError(Exception):
    """An answer that is no answer.

    Args:
        reason: Refused, Truncated, BadReply, ReplyTooLarge or PromptRejected.
        usage: what it has cost all the same.
    """

    def __init__(self, reason: str, usage: Usage) -> None:
        super().__init__(reason)
        self.reason = reason
        self.usage = usage


@dataclass(frozen=True)
class Prompt:
    """One question.

    Attributes:
        system: the fixed prefix, equal for all calls of a purpose, so that endpoints can cache it.
        user: the part that holds untrusted text.
        schema_name, schema: strict JSON schema of the answer.
        max_tokens: of the answer.
    """

    system: str
    user: str
    schema_name: str
    schema: Mapping[str, Any]
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """The JSON object of an answer, and what it has used."""

    body: Mapping[str, Any]
    usage: Usage


class ChatClient:
    """Asks one model of one endpoint.

    Args:
        settings: endpoint, key, model, patience.
        stop: ends waiting.
    """

    def __init__(self, settings: LlmSettings, stop: StopSignal) -> None:
        self._settings = settings
        self._meter: Meter = Unmetered()
        self._places = asyncio.Semaphore(settings.concurrency)
        self._client = openai.AsyncOpenAI(
            api_key=settings.api_key or "none",
            base_url=settings.base_url or "https://api.openai.com/v1",
            timeout=settings.timeout,
            max_retries=0,
        )
        self._patience = Patience("the LLM endpoint", settings.max_retries, settings.max_wait, stop)
        self._format = 0
        self._dropped: set[str] = set()

    def metered(self, meter: Meter) -> ChatClient:
        """The same client, each call passing `meter`."""
        client = copy.copy(self)
        client._meter, client._dropped = meter, set(self._dropped)
        return client

    async def require(self, prompts: Sequence[Prompt]) -> None:
        """See that the meter would let all of these through, as `Meter.require`."""
        await self._meter.require([self._size(prompt) for prompt in prompts])

    async def ask(self, prompt: Prompt) -> Answer:
        """One answer, after retries.

        Raises:
            AnswerError: the endpoint answered, but not with the JSON object that was asked for.
            BudgetExhausted: the meter lets no call through.
            TransientError: it is away or limits us beyond our patience.
            ConfigError: it refuses the key, the model or the request as such.
        """
        return _read(await self._patience.call(lambda: self._post_learning(prompt)))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _post_learning(self, prompt: Prompt) -> bytes:
        while True:
            state = (self._format, len(self._dropped))
            try:
                return await self._post_metered(prompt)
            except openai.BadRequestError as error:
                # Another call may have learned the same meanwhile; then this one only tries again.
                if state == (self._format, len(self._dropped)) and not self._learn(error):
                    raise _refusal(error, self._settings.model) from None
            except openai.APIStatusError as error:
                raise _refusal(error, self._settings.model) from None
            except (openai.APIConnectionError, TimeoutError) as error:
                raise TryAgain("a timeout" if _is_timeout(error) else "a connection error") from None

    async def _post_metered(self, prompt: Prompt) -> bytes:
        # Each request by itself: a retry may be charged as well.
        async with self._meter.call(self._size(prompt)) as call:
            try:
                raw = await self._post(self._arguments(prompt))
            except (openai.APIError, TimeoutError) as error:
                _tell(call, error)
                raise
            call.usage = usage_of(raw)
            return raw

    def _size(self, prompt: Prompt) -> CallSize:
        texts = (prompt.system, prompt.user, json.dumps(prompt.schema))
        # A token stands for at least one byte, in every tokenizer that works on bytes.
        most = sum(len(text.encode()) for text in texts)
        likely = sum(estimate_tokens(text) for text in texts)
        return CallSize(likely + _FRAME_TOKENS, most + _FRAME_TOKENS, prompt.max_tokens)

    async def _post(self, arguments: dict[str, Any]) -> bytes:
        body = bytearray()
        completions = self._client.chat.completions.with_streaming_response
        # The SDK's timeout is for each read; an answer that trickles in must end as well. Waiting for a place is no part of it.
        async with self._places, asyncio.timeout(self._settings.timeout), completions.create(**arguments) as response:
            try:
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_REPLY_BYTES:
                        raise AnswerError("ReplyTooLarge", Usage(calls=1))
            except AnswerError:
                raise
            except Exception as error:
                # The transport's own exceptions, whichever HTTP library the SDK sits on: the connection broke in the answer.
                raise TryAgain(f"a broken answer ({type(error).__name__})") from None
        return bytes(body)

    def _arguments(self, prompt: Prompt) -> dict[str, Any]:
        system = prompt.system
        if _FORMATS[self._format] != "json_schema":
            system += f"\nAnswer with one JSON object that matches this schema:\n{json.dumps(prompt.schema)}"
        arguments: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt.user}],
            "temperature": 0,
            "max_completion_tokens": prompt.max_tokens,
            "response_format": self._response_format(prompt),
        }
        if "max_completion_tokens" in self._dropped:
            arguments["max_tokens"] = prompt.max_tokens
        return {name: value for name, value in arguments.items() if name not in self._dropped and value is not None}

    def _response_format(self, prompt: Prompt) -> dict[str, Any] | None:
        match _FORMATS[self._format]:
            case "json_schema":
                schema = {"name": prompt.schema_name, "strict": True, "schema": dict(prompt.schema)}
                return {"type": "json_schema", "json_schema": schema}
            case "json_object":
                return {"type": "json_object"}
            case _:
                return None

    def _learn(self, error: openai.BadRequestError) -> bool:
        told = f"{error.param or ''} {error.message}".lower()
        for name in ("max_completion_tokens", "temperature"):
            if name in told and name not in self._dropped:
                self._dropped.add(name)
                get_logger().info("llm_endpoint_lacks", parameter=name)
                return True
        speaks_of_format = any(word in told for word in ("response_format", "json_schema", "json_object", "structured output"))
        if speaks_of_format and self._format < len(_FORMATS) - 1:
            self._format += 1
            get_logger().info("llm_endpoint_lacks", parameter="response_format", now=_FORMATS[self._format])
            return True
        return False


def _tell(call: Call, error: openai.APIError | TimeoutError) -> None:
    """What a request that failed has cost: nothing only where that is sure."""
    call.cause = type(error).__name__
    if isinstance(error, openai.APIStatusError):
        call.cause = str(error.status_code)
        prompt_at_fault = (error.code or error.type) in _PROMPT_CODES
        call.free = error.status_code in _TURNED_AWAY or (error.status_code in (400, 422) and not prompt_at_fault)
        # A spent quota is a 429 that no waiting mends.
        call.refused = error.status_code == 429 and error.code != "insufficient_quota"
        call.wait = retry_after(error.response.headers)
    elif isinstance(error, openai.APIConnectionError):
        call.free = any(kind.__name__ in _NEVER_SENT for kind in type(error.__cause__).__mro__)


def usage_of(raw: bytes) -> Usage | None:
    """The usage of a completion; None when it does not tell, or tells nonsense."""
    try:
        usage = _usage(json.loads(raw).get("usage"))
    except (ValueError, AttributeError, RecursionError):
        return None
    return usage if usage.prompt_tokens else None


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, openai.APITimeoutError | TimeoutError)


def _refusal(error: openai.APIStatusError, model: str) -> Exception:
    # The body may quote the prompt, so only its code and status are told.
    status, code = error.status_code, error.code or error.type or "no code"
    if code == "insufficient_quota":
        return ConfigError("the LLM account has no quota left (insufficient_quota)", reason="LlmQuotaExhausted")
    if is_retryable(status):
        return TryAgain(str(status), retry_after(error.response.headers))
    if status in (401, 403):
        return ConfigError(f"the LLM endpoint refuses the key ({status})", reason="LlmUnauthorized", hint="check OPENAI_API_KEY")
    if status == 404:
        return ConfigError(
            f"the LLM endpoint does not know the model {model!r} (404)",
            reason="LlmModelNotFound",
            hint="check MINI_MODEL or --model, and that OPENAI_BASE_URL ends as the endpoint wants it, most often in /v1",
        )
    if code in _PROMPT_CODES or status == 413:
        return AnswerError("PromptRejected", Usage(calls=1))
    return ConfigError(f"the LLM endpoint refuses the request ({status}, {code[:60]})", reason="LlmRequestRefused")


def _read(raw: bytes) -> Answer:
    """Take a completion apart; refusal and truncation are outcomes of their own, never an empty answer."""
    try:
        completion = json.loads(raw)
        choice = completion["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        usage = _usage(completion.get("usage"))
        text = message.get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise AnswerError("BadReply", Usage(calls=1)) from None
    if message.get("refusal") or finish == "content_filter":
        raise AnswerError("Refused", usage)
    if finish == "length":
        raise AnswerError("Truncated", usage)
    return Answer(_json_object(text, usage), usage)


def _usage(raw: Any) -> Usage:
    raw = raw if isinstance(raw, dict) else {}
    details = raw.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(1, _count(raw.get("prompt_tokens")), _count(cached), _count(raw.get("completion_tokens")))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def _json_object(text: Any, usage: Usage) -> Mapping[str, Any]:
    """The object in an answer; without a JSON mode it may stand between words or in a code fence."""
    if not isinstance(text, str):
        raise AnswerError("BadReply", usage)
    start, end = text.find("{"), text.rfind("}")
    try:
        body = json.loads(text[start : end + 1], object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        raise AnswerError("BadReply", usage) from None
    if not isinstance(body, dict):
        raise AnswerError("BadReply", usage)
    return body


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # A key given twice has no one meaning: readers that take the first and readers that take the last would disagree.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found
