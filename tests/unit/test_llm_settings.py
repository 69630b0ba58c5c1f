"""Which provider a configuration means."""

from __future__ import annotations

import pytest

from rae_jobctl.errors import ConfigError
from rae_jobctl.llm.pricing import cost_usd, price_of
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.llm.types import Usage


def test_without_a_key_or_an_endpoint_the_local_provider_works() -> None:
    assert LlmSettings.from_env({}).provider is ProviderName.LOCAL


@pytest.mark.parametrize("env", [{"OPENAI_API_KEY": "sk-1"}, {"OPENAI_BASE_URL": "http://vllm:8000/v1"}])
def test_a_key_or_an_endpoint_chooses_openai(env: dict[str, str]) -> None:
    assert LlmSettings.from_env(env).provider is ProviderName.OPENAI


def test_the_ml_service_is_taken_only_when_chosen() -> None:
    assert LlmSettings.from_env({"ML_SERVICE_URL": "http://ml:8001"}).provider is ProviderName.LOCAL
    chosen = LlmSettings.from_env({"ML_SERVICE_URL": "http://ml:8001/", "RAE_LLM_PROVIDER": "ml-service"})
    assert chosen.ml_service_url == "http://ml:8001"


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"RAE_LLM_PROVIDER": "claude"}, "RAE_LLM_PROVIDER"),
        ({"RAE_LLM_PROVIDER": "openai"}, "OPENAI_API_KEY"),
        ({"RAE_LLM_PROVIDER": "ml-service"}, "ML_SERVICE_URL"),
        ({"OPENAI_BASE_URL": "vllm:8000"}, "OPENAI_BASE_URL"),
        ({"RAE_LLM_BATCH_SIZE": "500"}, "RAE_LLM_BATCH_SIZE"),
    ],
)
def test_a_wrong_setting_is_named(env: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LlmSettings.from_env(env)


def test_a_flag_wins_over_mini_model_and_the_key_is_not_shown() -> None:
    settings = LlmSettings.from_env({"OPENAI_API_KEY": "sk-secret", "MINI_MODEL": "a"}, model="b")
    assert settings.model == "b"
    assert "sk-secret" not in repr(settings)


def test_prices_hold_for_dated_snapshots_and_are_unknown_for_others() -> None:
    assert price_of("gpt-4o-mini-2024-07-18") == price_of("gpt-4o-mini")
    assert price_of("gpt-4o-minimal") is None
    assert cost_usd(price_of("gpt-4o-mini"), Usage(1, 1_000_000, 500_000, 1_000_000)) == pytest.approx(0.075 + 0.0375 + 0.6)
    assert cost_usd(None, Usage(1, 5, 0, 5)) is None
