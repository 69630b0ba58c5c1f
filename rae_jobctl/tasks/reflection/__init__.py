"""Reflection: a project's recent memories in, one reflection with evidence out, stored once for each input."""
