"""Word lists, one file each; a line that begins with # is a comment."""

from __future__ import annotations

from importlib import resources


def lines(name: str) -> list[str]:
    """The entries of a list that has one on each line."""
    text = (resources.files(__name__) / f"{name}.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def words(name: str) -> frozenset[str]:
    """The words of a list, however they are broken into lines."""
    return frozenset(word for line in lines(name) for word in line.split())
