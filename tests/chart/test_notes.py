"""What a person reads after the installation."""

from __future__ import annotations

from tests.chart.charts import Chart


def test_the_notes_say_what_runs_when(chart: Chart) -> None:
    lines = [line.split() for line in chart.notes().splitlines()]
    assert ["decay", "0", "2", "*", "*", "*", "Etc/UTC"] in lines
    assert ["prune", "0", "3", "*", "*", "*", "Etc/UTC", "suspended"] in lines


def test_the_notes_give_commands_for_this_release(chart: Chart) -> None:
    notes = chart.notes()
    assert "kubectl -n rae get rae" in notes
    assert "kubectl -n rae create job --from=cronjob/rae-tasks-decay decay-now" in notes
    assert "--dry-run" in notes
    assert "helm -n rae test rae-tasks" in notes


def test_the_notes_name_what_is_missing(chart: Chart) -> None:
    assert "which are EMPTY" in chart.notes({"database": {"existingSecret": ""}})
    assert "without a key" in chart.notes({"llm": {"provider": "openai", "baseUrl": "http://ollama:11434/v1"}})
    assert "nobody serves requests" in chart.notes({"operator": {"enabled": False}})
    assert "run `rae-jobctl db migrate` yourself" in chart.notes({"migrate": {"enabled": False}})


def test_the_notes_of_the_demo_say_what_becomes_of_its_data(chart: Chart) -> None:
    assert "they are gone when the release is uninstalled" in chart.notes({"demo": {"enabled": True}})
    assert "they stay when the release is uninstalled" in chart.notes({"demo": {"enabled": True, "keep": True}})
