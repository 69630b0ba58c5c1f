"""Money and rate of paid calls over all pods: budgets in PostgreSQL, turns in Redis or PostgreSQL, one meter for both."""
