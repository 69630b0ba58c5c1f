"""What of a command line may be kept, and which moment a slot's key means."""

from __future__ import annotations

from contextvars import copy_context
from datetime import UTC, datetime

import pytest

from rae_jobctl.commands.runs.retrying import _without
from rae_jobctl.errors import UsageError
from rae_jobctl.provenance import began, current
from rae_jobctl.slots import require_come, resolve_slot

NOW = datetime(2026, 11, 24, 10, 30, 5, 123456, tzinfo=UTC)


def kept(*words: str) -> tuple[str, ...] | None:
    def begin() -> tuple[str, ...] | None:
        began(words)
        return current().command

    return copy_context().run(begin)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (("decay", "--tenant", "demo"), ("decay", "--tenant", "demo")),
        (("task", "--api-key", "s3cret", "--limit", "3"), ("task", "--api-key", "***", "--limit", "3")),
        (("task", "--webhook-secret=s3cret"), ("task", "--webhook-secret=***")),
        (("task", "--no-token", "--limit", "3"), ("task", "--no-token", "--limit", "3")),
        (("task", "redis://user:s3cret@host:1/0"), ("task", "redis://***@host:1/0")),
        (("erase-user", "--user", "ada"), None),
    ],
)
def test_a_command_line_is_kept_without_secrets(given: tuple[str, ...], stored: tuple[str, ...] | None) -> None:
    assert kept(*given) == stored


@pytest.mark.parametrize("words", [("-o", "json"), ("-ojson",), ("--output", "json"), ("--output=json",)])
def test_an_option_is_taken_away_however_it_was_written(words: tuple[str, ...]) -> None:
    assert _without(_without(("decay", *words, "--wait"), "-o"), "--output") == ("decay", "--wait")


def test_a_fresh_slot_is_one_of_its_own_and_names_its_moment() -> None:
    first, second = resolve_slot(env={}, now=NOW), resolve_slot(env={}, now=NOW)
    assert first.key != second.key
    later = resolve_slot(flag=first.key, now=datetime(2026, 12, 1, tzinfo=UTC))
    assert (later.key, later.at) == (first.key, NOW.replace(microsecond=0))


@pytest.mark.parametrize("flag", ["2026-11-24T02:00Z", "cron:2026-11-24T02:00Z", "2026-11-24T03:00+01:00"])
def test_a_scheduled_slot_may_be_given_as_a_time_or_as_the_ledger_shows_it(flag: str) -> None:
    slot = resolve_slot(flag=flag, now=NOW)
    assert (slot.key, slot.at) == ("cron:2026-11-24T02:00Z", datetime(2026, 11, 24, 2, tzinfo=UTC))


def test_a_moment_that_has_not_come_is_only_looked_at() -> None:
    require_come(resolve_slot(flag="2026-11-24T02:00Z", now=NOW), NOW)
    require_come(resolve_slot(flag="weekly", now=NOW), NOW)
    for flag in ("2036-11-24T02:00Z", "once:2036-11-24T02:00:00Z:ab"):
        with pytest.raises(UsageError, match="has not come yet"):
            require_come(resolve_slot(flag=flag, now=NOW), NOW)


@pytest.mark.parametrize("flag", ["weekly", "cron:weekly", "once:0b0e", "once:2026-13-01T00:00:00Z:ab", "2026-11-24"])
def test_a_slot_that_names_no_moment_is_of_now(flag: str) -> None:
    slot = resolve_slot(flag=flag, now=NOW)
    assert (slot.key, slot.at) == (flag, NOW)
