"""Refusals, each with its HTTP status."""

from __future__ import annotations


class Refused(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        code: CamelCase word for programs.
        detail: one line for a person, without a word of what was sent.
        retry_after: seconds after which it is worth another try; None when it never is.
    """

    def __init__(self, status: int, code: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
