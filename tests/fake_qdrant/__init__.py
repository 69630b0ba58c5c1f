"""Qdrant for the tests: its REST API over real HTTP, on top of the in-memory engine of its own Python client."""
