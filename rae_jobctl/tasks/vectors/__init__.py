"""Vectors that follow the memories: deletions by an outbox, and the comparison of both sides."""
