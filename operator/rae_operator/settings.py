"""The operator's settings: one YAML file, mounted by the chart, checked as a whole before anything starts.

The file is `/etc/rae-operator/settings.yaml`, or what RAE_OPERATOR_SETTINGS names. An unknown key is an error, so that a typing
mistake does not silently change nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from rae_operator.kinds import BY_NAME

VARIABLE = "RAE_OPERATOR_SETTINGS"
DEFAULT_PATH = "/etc/rae-operator/settings.yaml"

#: A part of the Kubernetes API that is passed on as it is; the API server checks it.
Passthrough = dict[str, Any]


class SettingsError(Exception):
    """The settings cannot be used; the message names the file, the key and what is wrong with it."""


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class LeaseSettings(_Part):
    """The lease that makes this process the one that writes. Seconds, by a monotonic clock."""

    name: str = Field(default="rae-operator", min_length=1, max_length=253)
    namespace: str | None = None
    duration_seconds: float = Field(default=15, ge=1, le=300)
    renew_deadline_seconds: float = Field(default=10, gt=0, le=300)
    retry_seconds: float = Field(default=2, gt=0, le=60)

    @model_validator(mode="after")
    def _ordered(self) -> LeaseSettings:
        if not self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError("must hold: retrySeconds < renewDeadlineSeconds < durationSeconds")
        return self


class HttpSettings(_Part):
    """Where /healthz and /metrics are served; an empty host means every address."""

    host: str = ""
    port: int = Field(default=8080, ge=0, le=65_535)


class ProgressSettings(_Part):
    """How the logs of running pods are read for their progress."""

    enabled: bool = True
    interval_seconds: float = Field(default=15, ge=1)
    max_concurrent: int = Field(default=4, ge=1, le=64)
    max_bytes: int = Field(default=16_384, ge=1_024, le=1_048_576)


class PodSettings(_Part):
    """What a kind may set differently from `task`."""

    soft_limit_seconds: int | None = Field(default=None, ge=1, le=86_400)
    resources: Passthrough | None = None
    env: list[Passthrough] = []
    node_selector: dict[str, str] | None = None
    tolerations: list[Passthrough] | None = None
    priority_class_name: str | None = None


class TaskSettings(_Part):
    """The pod that runs a task. `image` alone is required."""

    image: str = Field(min_length=1)
    image_pull_policy: str | None = Field(default=None, pattern="^(Always|IfNotPresent|Never)$")
    image_pull_secrets: list[Passthrough] = []
    command: list[str] = ["rae-jobctl"]
    args: list[str] = []
    service_account_name: str | None = None
    env: list[Passthrough] = []
    env_from: list[Passthrough] = []
    resources: Passthrough = {}
    node_selector: dict[str, str] = {}
    tolerations: list[Passthrough] = []
    affinity: Passthrough = {}
    topology_spread_constraints: list[Passthrough] = []
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    pod_labels: dict[str, str] = {}
    pod_annotations: dict[str, str] = {}
    pod_security_context: Passthrough = {}
    security_context: Passthrough = {}
    volumes: list[Passthrough] = []
    volume_mounts: list[Passthrough] = []
    tmp_size_limit: str = "256Mi"
    soft_limit_seconds: int = Field(default=540, ge=1, le=86_400)
    termination_grace_period_seconds: int = Field(default=60, ge=1, le=3_600)


class Settings(_Part):
    """All of the operator's settings."""

    namespaces: list[str] = Field(default=[], description="Watched namespaces; the operator's own when empty.")
    workers: int = Field(default=8, ge=1, le=64)
    resync_seconds: float = Field(default=90, ge=1)
    max_active_jobs: int = Field(default=0, ge=0, description="Jobs at once over all requests; 0 is no limit.")
    pre_running_deadline_seconds: int = Field(default=1_800, ge=1)
    config_missing_grace_seconds: int = Field(default=15, ge=0)
    disruption_allowance: int = Field(
        default=3, ge=0, le=100, description="Evictions and drains that one attempt's deadline leaves room for."
    )
    ttl_seconds_after_finished: int = Field(default=604_800, ge=0, description="For requests that name no time of their own.")
    job_ttl_seconds: int = Field(
        default=3_600, ge=0, description="How long a request's Jobs stay after its end; failed ones too."
    )
    lease: LeaseSettings = LeaseSettings()
    http: HttpSettings = HttpSettings()
    progress: ProgressSettings = ProgressSettings()
    task: TaskSettings
    kinds: dict[str, PodSettings] = {}

    @model_validator(mode="after")
    def _known_kinds(self) -> Settings:
        unknown = sorted(set(self.kinds) - set(BY_NAME))
        if unknown:
            raise ValueError(f"kinds.{unknown[0]}: there is no such kind; there are {', '.join(sorted(BY_NAME))}")
        return self


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings.

    Raises:
        SettingsError: the file is missing, is no YAML mapping, or a key is unknown, missing or out of range.
    """
    env = os.environ if env is None else env
    path = Path(env.get(VARIABLE) or DEFAULT_PATH)
    settings = parse_settings(_read(path), str(path))
    own = env.get("POD_NAMESPACE") or "default"
    lease = settings.lease if settings.lease.namespace else settings.lease.model_copy(update={"namespace": own})
    return settings.model_copy(update={"namespaces": settings.namespaces or [own], "lease": lease})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; {VARIABLE} names another file") from None


def parse_settings(text: str, source: str = "settings") -> Settings:
    """Settings from YAML; see load_settings for what is raised."""
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{source} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(body, dict):
        raise SettingsError(f"{source} must be a YAML mapping with at least task.image")
    try:
        return Settings.model_validate(body)
    except ValidationError as error:
        raise SettingsError(f"{source}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    # The value itself is left out: an env entry may hold a secret.
    details = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in details["loc"]) or "the whole"
    return f"{place}: {details['msg']}"
