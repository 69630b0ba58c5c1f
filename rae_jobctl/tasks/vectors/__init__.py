"""Vectors in Qdrant, which follow the memories in PostgreSQL."""
