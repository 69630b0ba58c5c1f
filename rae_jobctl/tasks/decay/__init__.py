"""Decay: the strength of memories fades, once for each day; then what has expired goes."""
