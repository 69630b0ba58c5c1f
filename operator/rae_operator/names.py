"""Names of Jobs. A name is never used twice: Kubernetes may leave a re-created Job of the same name without pods."""

from __future__ import annotations


def job_name(request: str, uid: str, attempt: int) -> str:
    """`<request>-<first 8 characters of its uid>-<attempt>`, at most 63 characters by the CRD's limit on the request's name."""
    return f"{request}-{uid[:8]}-{attempt}"
