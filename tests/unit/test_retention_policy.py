"""How long each class is kept: defaults, settings, a tenant's own."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from rae_jobctl.db.tenants import Tenant
from rae_jobctl.errors import ConfigError
from rae_jobctl.tasks.retention.policy import Defaults

DAYS = {"episodic": 365, "embeddings": 365, "cost_logs": 1095, "audit_logs": 2555, "webhooks": 30}


def policy_of(config: dict[str, Any], **env: str) -> dict[str, int]:
    return dict(Defaults.from_env(env).of(Tenant(UUID(int=1), "t", config)).days)


def test_without_settings_the_defaults_hold_and_what_is_kept_for_ever_is_absent() -> None:
    assert policy_of({}) == DAYS


@pytest.mark.parametrize("for_ever", ["0", "-1"])
def test_nought_and_minus_one_keep_for_ever(for_ever: str) -> None:
    assert "episodic" not in policy_of({}, RAE_RETENTION_EPISODIC_DAYS=for_ever)
    assert "episodic" not in policy_of({"retention_days": {"episodic": int(for_ever)}})


def test_a_tenants_own_days_win_over_the_settings_and_rae_s_name_means_episodic() -> None:
    env = {"RAE_RETENTION_EPISODIC_DAYS": "30", "RAE_RETENTION_SEMANTIC_DAYS": "700"}
    assert policy_of({}, **env) == {**DAYS, "episodic": 30, "semantic": 700}
    assert policy_of({"memory_retention_days": 90}, **env)["episodic"] == 90
    assert policy_of({"memory_retention_days": 90, "retention_days": {"episodic": 10, "graph": 5}}, **env) == {
        **DAYS,
        "episodic": 10,
        "semantic": 700,
        "graph": 5,
    }


def test_protected_tags_add_up() -> None:
    tenant = Tenant(UUID(int=1), "t", {"protected_tags": ["mine", "protected"]})
    assert Defaults.from_env({}).of(tenant).protected == ("protected", "legal-hold", "mine")
    assert Defaults.from_env({"RAE_PROTECTED_TAGS": " a , b,"}).of(tenant).protected == ("a", "b", "mine", "protected")


@pytest.mark.parametrize(
    "config",
    [
        {"memory_retention_days": "90"},
        {"memory_retention_days": True},
        {"memory_retention_days": 1.5},
        {"memory_retention_days": -2},
        {"retention_days": 90},
        {"retention_days": {"episodical": 90}},
        {"retention_days": {"episodic": 1e9}},
        {"retention_days": {"episodic": float("inf")}},
        {"retention_days": {"episodic": 10**400}},
        {"retention_days": {"episodic": None}},
        {"protected_tags": "one"},
        {"protected_tags": [1]},
    ],
)
def test_what_is_no_number_of_days_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        policy_of(config)
    assert raised.value.reason == "RetentionInvalid"


@pytest.mark.parametrize("value", ["-2", "many", "1.5", "40000", "inf", "nan"])
def test_a_setting_that_is_no_number_of_days_is_refused(value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        policy_of({}, RAE_RETENTION_GRAPH_DAYS=value)
    assert "RAE_RETENTION_GRAPH_DAYS" in raised.value.message
