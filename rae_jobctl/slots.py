"""The slot of a run: which occurrence of a task this is, so that a retry of it is the same run.

- A CronJob's Job is named `<cronjob>-<minutes since 1970>` by Kubernetes: the slot is that minute in UTC, whichever pod runs it
  and however late.
- A request's slot is its idempotency key, or its uid.
- Anything else (a terminal, `kubectl create job --from`) is an occurrence of its own, unless `--slot` says which. Its key
  begins with its moment, so that whoever names the key later means that moment too.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rae_jobctl.errors import UsageError

_MAX_LENGTH = 200
#: Two clocks may differ by so much.
_AHEAD = timedelta(minutes=10)
_ONCE = re.compile(r"once:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ):")


@dataclass(frozen=True)
class Slot:
    """Identity of an occurrence.

    Attributes:
        key: text that is equal for every attempt of the same occurrence.
        at: the moment it stands for, in UTC: the scheduled time, or now.
        origin: "cronjob", "request", "flag" or "fresh".
    """

    key: str
    at: datetime
    origin: str


def resolve_slot(
    *,
    flag: str | None = None,
    request_key: str | None = None,
    env: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Slot:
    """Find the slot of this process.

    Args:
        flag: value of `--slot`; an ISO 8601 time with a zone also sets the moment, and so does a key as `runs list` shows it.
        request_key: the request's idempotency key or uid.
        env: the environment; `RAE_JOB_NAME` (downward API) and `RAE_CRONJOB_NAME` are read.
        now: for tests.

    Raises:
        UsageError: `flag` is empty or longer than 200 characters.
    """
    env = os.environ if env is None else env
    now = now or datetime.now(UTC)
    if flag is not None:
        return _from_flag(flag, now)
    if request_key:
        return Slot(request_key, now, "request")
    scheduled = cronjob_time(env.get("RAE_JOB_NAME", ""), env.get("RAE_CRONJOB_NAME", ""))
    if scheduled is not None:
        return Slot(f"cron:{scheduled:%Y-%m-%dT%H:%MZ}", scheduled, "cronjob")
    return Slot(f"once:{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}:{uuid.uuid4().hex[:16]}", now, "fresh")


def require_come(slot: Slot, now: datetime | None = None) -> None:
    """Refuse a slot of a moment that has not come: its run would make rows fade, expire and be too old before their time.

    Args:
        slot: of a run that writes.
        now: for tests.

    Raises:
        UsageError: `--slot` named such a moment.
    """
    now = now or datetime.now(UTC)
    if slot.origin == "flag" and slot.at > now + _AHEAD:
        raise UsageError(
            f"--slot {slot.key.removeprefix('cron:')} has not come yet: it is {now.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
            hint="with --dry-run the task says what it would do then",
        )


def cronjob_time(job_name: str, cronjob_name: str) -> datetime | None:
    """The scheduled time that a CronJob's controller wrote into its Job's name, or None when the Job is not the CronJob's own.

    `kubectl create job --from` and Helm give other names, which must not pass for a slot.
    """
    prefix, _, suffix = job_name.rpartition("-")
    if not cronjob_name or prefix != cronjob_name or not suffix.isascii() or not suffix.isdigit():
        return None
    return datetime.fromtimestamp(60 * int(suffix), UTC)


def _from_flag(flag: str, now: datetime) -> Slot:
    if not flag.strip() or len(flag) > _MAX_LENGTH:
        raise UsageError(
            f"--slot must have 1 to {_MAX_LENGTH} characters, not {len(flag)}",
            hint="name the occurrence, e.g. --slot 2026-11-24T02:00Z",
        )
    once = _ONCE.match(flag)
    if once is not None:
        return Slot(flag, _moment(once[1]) or now, "flag")
    moment = _moment(flag.removeprefix("cron:"))
    return Slot(f"cron:{moment:%Y-%m-%dT%H:%MZ}", moment, "flag") if moment else Slot(flag, now, "flag")


def _moment(text: str) -> datetime | None:
    """An ISO 8601 time with a zone, in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.astimezone(UTC)
