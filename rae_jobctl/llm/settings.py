"""Which language model, and how to reach it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from rae_jobctl.errors import ConfigError
from rae_jobctl.llm.pricing import price_of
from rae_jobctl.settings import Environment, number, text


class ProviderName(StrEnum):
    """Values of RAE_LLM_PROVIDER."""

    OPENAI = "openai"
    LOCAL = "local"
    ML_SERVICE = "ml-service"


DEFAULT_MODEL = "gpt-4o-mini"


@dataclass(frozen=True)
class LlmSettings:
    """Settings of the language model.

    Attributes:
        provider: which implementation.
        model: MINI_MODEL, or what the request asks for.
        base_url: None for OpenAI's own.
        timeout: seconds for one whole call.
        max_retries: further tries of one call on 429, 5xx and network errors.
        max_wait: longest pause in seconds; a longer Retry-After ends the attempt with 75.
        concurrency: calls at once in one process.
        batch_size: memories in a prompt, at most.
        batch_tokens: tokens of memory text in a prompt, at most.
        price: USD for a million prompt, cached prompt and completion tokens.
    """

    provider: ProviderName
    model: str = DEFAULT_MODEL
    api_key: str = field(default="", repr=False)
    base_url: str | None = None
    ml_service_url: str = ""
    timeout: float = 60.0
    max_retries: int = 4
    max_wait: float = 60.0
    concurrency: int = 4
    batch_size: int = 20
    batch_tokens: int = 3000
    price: tuple[float, float, float] | None = None

    @classmethod
    def from_env(cls, env: Environment | None = None, *, model: str | None = None) -> LlmSettings:
        """Read the environment.

        Args:
            model: from a flag or a request; wins over MINI_MODEL.

        Raises:
            ConfigError: an unknown provider, or one without what it needs.
        """
        env = os.environ if env is None else env
        provider = _provider(env)
        name = model or text(env, "MINI_MODEL", DEFAULT_MODEL)
        return cls(
            provider=provider,
            model=name,
            api_key=text(env, "OPENAI_API_KEY"),
            base_url=_url(env, "OPENAI_BASE_URL") or None,
            ml_service_url=_ml_service_url(env) if provider is ProviderName.ML_SERVICE else "",
            timeout=number(env, "RAE_LLM_TIMEOUT_SECONDS", 60, low=0.05, high=3600),
            max_retries=int(number(env, "RAE_LLM_MAX_RETRIES", 4, low=0, high=20)),
            max_wait=number(env, "RAE_LLM_MAX_WAIT_SECONDS", 60, low=0, high=3600),
            concurrency=int(number(env, "RAE_LLM_CONCURRENCY", 4, low=1, high=64)),
            batch_size=int(number(env, "RAE_LLM_BATCH_SIZE", 20, low=1, high=25)),
            batch_tokens=int(number(env, "RAE_LLM_BATCH_TOKENS", 3000, low=200, high=100_000)),
            price=_price(env, name),
        )


def _provider(env: Environment) -> ProviderName:
    chosen = text(env, "RAE_LLM_PROVIDER").lower()
    if not chosen:
        has_endpoint = bool(text(env, "OPENAI_API_KEY") or text(env, "OPENAI_BASE_URL"))
        return ProviderName.OPENAI if has_endpoint else ProviderName.LOCAL
    try:
        provider = ProviderName(chosen)
    except ValueError:
        raise ConfigError(
            f"RAE_LLM_PROVIDER={chosen[:40]!r} is no provider", hint=f"use {', '.join(ProviderName)}, or leave it unset"
        ) from None
    if provider is ProviderName.OPENAI and not (text(env, "OPENAI_API_KEY") or text(env, "OPENAI_BASE_URL")):
        raise ConfigError(
            "RAE_LLM_PROVIDER=openai needs OPENAI_API_KEY, or OPENAI_BASE_URL of an endpoint without a key",
            reason="ConfigMissing",
            hint="set one of them, or RAE_LLM_PROVIDER=local to extract without a network",
        )
    return provider


def _ml_service_url(env: Environment) -> str:
    url = _url(env, "ML_SERVICE_URL")
    if not url:
        raise ConfigError("RAE_LLM_PROVIDER=ml-service needs ML_SERVICE_URL", reason="ConfigMissing")
    return url


def _url(env: Environment, name: str) -> str:
    value = text(env, name).rstrip("/")
    if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
        raise ConfigError(f"{name} is no http(s) URL", hint=f"e.g. {name}=http://host:8000/v1")
    return value


def _price(env: Environment, model: str) -> tuple[float, float, float] | None:
    known = price_of(model)
    prompt = number(env, "RAE_LLM_PRICE_PROMPT", -1, low=-1)
    completion = number(env, "RAE_LLM_PRICE_COMPLETION", -1, low=-1)
    if prompt < 0 or completion < 0:
        return known
    return prompt, number(env, "RAE_LLM_PRICE_CACHED", prompt, low=0), completion
