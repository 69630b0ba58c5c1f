"""What is to be done for a request, as data."""

from __future__ import annotations

from dataclasses import dataclass

from rae_operator.api.status import RequestStatus


@dataclass(frozen=True)
class CreateJob:
    """Create the Job of an attempt. One of that name that belongs to the request already is as good.

    Attributes:
        active_deadline_seconds: of the Job, over all its pods.
    """

    name: str
    attempt: int
    active_deadline_seconds: int


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job with its pods, provided it is still as it was seen: one that ended meanwhile has its say first."""

    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True)
class DeleteRequest:
    """Delete a finished request whose time is over."""


@dataclass(frozen=True)
class Decision:
    """One step. The Job is created before the status is written, and deletions follow the status:

    whichever step a kill falls between, what is left says what has been done.

    Attributes:
        create: the Job to create first.
        status: to be written, or None when it is as it should be.
        deletions: what to delete last.
        requeue_after: seconds until time alone may change the decision; None when only an event can.
    """

    create: CreateJob | None = None
    status: RequestStatus | None = None
    deletions: tuple[DeleteJob | DeleteRequest, ...] = ()
    requeue_after: float | None = None

    @property
    def writes(self) -> bool:
        """Whether anything would be written."""
        return bool(self.create or self.status or self.deletions)
