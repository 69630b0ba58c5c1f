"""A board in memory, for tests of what is asked for; the real one, against an API server, is of test_scheduling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rae_jobctl.errors import TransientError
from rae_jobctl.tasks.scheduling.board import Known, Wanted


@dataclass
class Wall:
    """Requests of one kind.

    Attributes:
        requests: all that were made.
        wanted: what each asks for, by name.
        breaks_after: so many requests can be made, then the API server is away.
    """

    requests: list[Known] = field(default_factory=list)
    wanted: dict[str, Wanted] = field(default_factory=dict)
    breaks_after: int | None = None

    async def known(self, kind: str) -> list[Known]:
        """See Board."""
        return list(self.requests)

    async def create(self, wanted: Wanted) -> bool:
        """See Board."""
        if wanted.name in self.wanted:
            return False
        if self.breaks_after is not None and len(self.requests) >= self.breaks_after:
            raise TransientError("cannot reach the Kubernetes API", reason="KubernetesUnreachable")
        self.wanted[wanted.name] = wanted
        self.requests.append(Known(wanted.name, False, wanted.labels))
        return True

    def finish(self) -> None:
        """Play the operator: all end, well or not."""
        self.requests = [replace(one, finished=True) for one in self.requests]

    @property
    def live(self) -> list[Wanted]:
        """What is at work."""
        return [self.wanted[one.name] for one in self.requests if not one.finished]
