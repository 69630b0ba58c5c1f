"""What goes wrong with the cluster, told in one line."""

from __future__ import annotations


class ClusterError(Exception):
    """A step failed; the message names the thing, what happened, and the way out."""
