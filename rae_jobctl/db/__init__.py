"""PostgreSQL: the pool, tenants under row-level security, the schema `rae_jobs`, and the ledger of runs."""
