"""The settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from rae_operator.main import run
from rae_operator.settings import SettingsError, load_settings, parse_settings


def test_the_image_is_enough_and_the_own_namespace_is_watched(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("task: {image: x}")
    settings = load_settings({"RAE_OPERATOR_SETTINGS": str(file), "POD_NAMESPACE": "rae"})
    assert (settings.namespaces, settings.lease.namespace, settings.task.soft_limit_seconds) == (["rae"], "rae", 540)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task: {}", "task.image: Field required"),
        ("task: {image: x}\nworker: 3", "worker: Extra inputs"),
        ("task: {image: x}\nworkers: 0", "workers: Input should be greater than or equal to 1"),
        ("task: {image: x}\nkinds: {Nothing: {}}", "kinds.Nothing: there is no such kind"),
        ("task: {image: x}\nlease: {retrySeconds: 12}", "retrySeconds < renewDeadlineSeconds"),
        ("- a", "must be a YAML mapping"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_wrong_setting_is_named(text: str, told: str) -> None:
    with pytest.raises(SettingsError, match="settings") as error:
        parse_settings(text)
    assert told in str(error.value)


def test_a_wrong_value_is_not_repeated_since_it_may_be_secret() -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings("task: {image: x, env: [hunter2]}")
    assert "hunter2" not in str(error.value)


def test_the_example_in_the_docs_is_valid() -> None:
    text = (Path(__file__).parents[3] / "docs" / "operator.md").read_text()
    example = text.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert parse_settings(example).task.image


def test_a_missing_file_ends_the_process_with_78_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RAE_OPERATOR_SETTINGS", str(tmp_path / "none.yaml"))
    assert run() == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.yaml: No such file or directory" in line


def test_without_a_cluster_the_process_ends_with_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text("task: {image: x}")
    monkeypatch.setenv("RAE_OPERATOR_SETTINGS", str(tmp_path / "s.yaml"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run() == 78
    assert "there is no cluster" in capsys.readouterr().err


def test_a_broken_kubeconfig_ends_the_process_with_78_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text("task: {image: x}")
    (tmp_path / "kubeconfig").write_text("clusters: []")
    monkeypatch.setenv("RAE_OPERATOR_SETTINGS", str(tmp_path / "s.yaml"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert run() == 78
    told = capsys.readouterr().err
    assert "no way to the cluster" in told and "Traceback" not in told
