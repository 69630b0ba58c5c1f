"""The task `run-maintenance`: the daily chain in one run; each step is a task with its own runs in the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ExitCode, SoftLimitReached, TimeSliced
from rae_jobctl.logs import as_task_error, get_logger
from rae_jobctl.outcome import Outcome

TASK = "run-maintenance"


@dataclass(frozen=True)
class Step:
    """One task of the chain.

    Attributes:
        name: of its subcommand, with the option that tells it from another.
        work: runs it; its own ledger makes it safe to repeat.
    """

    name: str
    work: Callable[[], Awaitable[Outcome]]


async def run_steps(steps: Sequence[Step], stop: StopSignal) -> Outcome:
    """Run every step, whatever became of the one before.

    Returns:
        Counters by step; `result["steps"]`; exit code 0, 75 when any failure is transient, else 65.

    Raises:
        TimeSliced: the soft limit came, and something was done before; the next attempt skips what is done.
        SoftLimitReached: it came before anything was done.
    """
    told: list[dict[str, Any]] = []
    codes: list[ExitCode] = []
    failures: list[dict[str, Any]] = []
    progressed = False
    for step in steps:
        try:
            if stop.should_stop:
                raise SoftLimitReached(f"stopped by {stop.cause}")
            outcome = await step.work()
        except SoftLimitReached as error:
            if progressed:
                raise TimeSliced(f"{error.message}, before the end of {step.name}; the next attempt goes on from here") from error
            raise
        except TimeSliced:
            raise
        except Exception as raised:
            failure = as_task_error(raised)
            get_logger().error("step_failed", step=step.name, reason=failure.reason, error=failure.message)
            outcome = Outcome(step.name, failure.reason, failure.message, exit_code=failure.exit_code)
        progressed = progressed or outcome.reason not in ("AlreadyDone", "Disabled", "Skipped")
        codes.append(outcome.exit_code)
        failures.extend({"step": step.name, **one} for one in _failures_of(outcome))
        told.append(_entry(step, outcome))
    return _together(told, codes, failures)


def _failures_of(outcome: Outcome) -> Sequence[dict[str, Any]]:
    if outcome.failures or not outcome.exit_code:
        return [dict(one) for one in outcome.failures]
    about = {"reason": outcome.reason, "message": outcome.message, "transient": not outcome.exit_code.permanent}
    return [{"tenant": "", "tenantId": "", **about}]


def _entry(step: Step, outcome: Outcome) -> dict[str, Any]:
    about = {"step": step.name, "reason": outcome.reason, "message": outcome.message, "exitCode": int(outcome.exit_code)}
    return {**about, "counters": dict(outcome.counters), "runs": list(outcome.run_ids)}


def _together(told: Sequence[dict[str, Any]], codes: Sequence[ExitCode], failures: Sequence[dict[str, Any]]) -> Outcome:
    bad = [code for code in codes if code]
    code = ExitCode.DONE if not bad else ExitCode.BAD_DATA if all(one.permanent for one in bad) else ExitCode.TRANSIENT
    counters = {f"{one['step']}.{name}": count for one in told for name, count in one["counters"].items() if count}
    failed = [one["step"] for one in told if one["exitCode"]]
    message = f"{len(failed)} of {len(told)} steps failed: {', '.join(failed)}" if failed else f"{len(told)} steps done"
    reason = "StepsFailed" if failed else "Done"
    runs = tuple(run for one in told for run in one["runs"])
    return Outcome(TASK, reason, message, counters, {"steps": list(told)}, tuple(failures), runs, code)
