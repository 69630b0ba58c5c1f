"""What a run has to say: the result on standard output and the termination message for the operator."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rae_jobctl.errors import ExitCode

#: Format of the termination message; the operator ignores versions that it does not know.
TERMINATION_VERSION = 1
#: Kubernetes keeps 4096 bytes of a container's message; half a JSON object is worth nothing, so we stay well below.
TERMINATION_MAX_BYTES = 3000
_ROUND_UP = timedelta(microseconds=999_999)
TERMINATION_PATH = "/dev/termination-log"


@dataclass(frozen=True)
class Outcome:
    """The end of one invocation of a task, over all the tenants that it covered.

    Attributes:
        task: subcommand name, e.g. "decay".
        reason: CamelCase word: Done, NothingToDo, Disabled, AlreadyDone, DryRun, BudgetExhausted, or an error's reason.
        message: one sentence for a person; no secret and no memory text.
        counters: small whole numbers worth a line in a status, e.g. {"memoriesDecayed": 120}.
        result: the task's full result, JSON-serialisable; may hold memory-derived text (triples, insights).
        failures: one entry a tenant that failed: {"tenant", "reason", "message", "transient"}.
        run_ids: ids of the ledger rows that hold the results.
        exit_code: see ExitCode.
        dry_run: nothing was written.
        retry_after: before that moment another attempt would end the same way; None when nobody knows.
    """

    task: str
    reason: str = "Done"
    message: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Mapping[str, Any], ...] = ()
    run_ids: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.DONE
    dry_run: bool = False
    retry_after: datetime | None = None

    def with_result(self, **more: Any) -> Outcome:
        """The same with more in its result."""
        return replace(self, result={**self.result, **more})

    def with_counters(self, **more: int) -> Outcome:
        """The same with more counters."""
        return replace(self, counters={**self.counters, **more})

    def with_runs(self, *ids: str) -> Outcome:
        """The same with the ledger's rows that hold it."""
        return replace(self, run_ids=(*self.run_ids, *ids))

    def as_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; keys are camelCase as in the custom resources."""
        return {
            "task": self.task,
            "reason": self.reason,
            "message": self.message,
            "exitCode": int(self.exit_code),
            "dryRun": self.dry_run,
            "counters": dict(self.counters),
            "result": dict(self.result),
            "failures": [dict(f) for f in self.failures],
            "runs": list(self.run_ids),
            **self._retry_after,
        }

    @property
    def _retry_after(self) -> dict[str, str]:
        # Whole seconds, rounded up: a moment too early would be in vain.
        return {} if self.retry_after is None else {"retryAfter": f"{self.retry_after + _ROUND_UP:%Y-%m-%dT%H:%M:%SZ}"}

    def termination_message(self, summary: Mapping[str, Any] | None = None) -> str:
        """The hint for the operator, at most TERMINATION_MAX_BYTES of UTF-8.

        Args:
            summary: a small part of the result worth showing in a status. It is left out when the whole would not fit;
                when even that does not fit, the message is dropped whole and the empty string returned.
        """
        base: dict[str, Any] = {
            "version": TERMINATION_VERSION,
            "task": self.task,
            "reason": self.reason,
            "message": self.message[:512],
            "counters": dict(self.counters),
            "runs": list(self.run_ids[:8]),
            **self._retry_after,
        }
        for candidate in ({**base, "result": dict(summary)} if summary else base, base):
            text = json.dumps(candidate, separators=(",", ":"), ensure_ascii=False)
            if len(text.encode()) <= TERMINATION_MAX_BYTES:
                return text
        return ""


def write_termination_message(text: str, path: str | None = None) -> None:
    """Write the hint where the kubelet reads it; silently nothing outside a pod.

    A full disk or a missing file must not turn a finished run into a failed one: the ledger has the result.
    """
    target = Path(path or os.environ.get("RAE_TERMINATION_PATH", TERMINATION_PATH))
    if not text or not target.exists():
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError:
        return
