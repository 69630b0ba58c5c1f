"""Notifications: an outbox that is written with what it tells of, and delivered at least once."""
