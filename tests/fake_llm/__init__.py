"""A server that speaks the OpenAI chat completions protocol over real HTTP, for tests. See server.py."""
