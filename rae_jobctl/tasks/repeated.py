"""The answer of a run that had finished before: what it said then."""

from __future__ import annotations

from rae_jobctl.db.ledger import Run
from rae_jobctl.outcome import Outcome


def already_done(run: Run) -> Outcome:
    """The outcome of a run whose `already_finished` is set."""
    before = run.already_finished
    assert before is not None
    message = f"this slot was done before: {before.message}"
    return Outcome(run.key.task, "AlreadyDone", message, before.counters, before.result, run_ids=(str(run.id),))
