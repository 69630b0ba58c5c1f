"""Chooses the provider; its packages are imported only here, and only those of the chosen one."""

from __future__ import annotations

from rae_jobctl.deadline import StopSignal
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.llm.types import Provider


def open_provider(settings: LlmSettings, stop: StopSignal) -> Provider:
    """Make the provider that the settings name. The caller closes it.

    Raises:
        ConfigError: its packages are not installed.
    """
    match settings.provider:
        case ProviderName.OPENAI:
            from rae_jobctl.llm.openai_provider import OpenAIProvider

            return OpenAIProvider(settings, stop)
        case ProviderName.ML_SERVICE:
            from rae_jobctl.llm.ml_service import MlServiceProvider

            return MlServiceProvider(settings, stop)
        case ProviderName.LOCAL:
            from rae_jobctl.llm.local_provider import LocalProvider

            return LocalProvider()
