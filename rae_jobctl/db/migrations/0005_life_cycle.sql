-- What the life cycle of the data needs: deletions of any table in the audit, vectors that follow, runs that can be asked to stop
-- and be run again. Only additions: the image before this one works on it.
-- mode: transaction
-- needs-image: 4

-- The audit covers every table, not memories alone. A table whose key is no uuid has its keys in deleted_keys. Of an erasure it
-- keeps whom it concerned as a keyed hash, never the identifier.
ALTER TABLE rae_jobs.deletion_audit
    ADD COLUMN table_name   text NOT NULL DEFAULT 'memories',
    ADD COLUMN deleted_keys text[],
    ADD COLUMN subject_hash text,
    ALTER COLUMN deleted_ids SET DEFAULT '{}';

-- Vectors to be deleted in Qdrant, written in the transaction that deleted the memory, taken away once Qdrant has answered. No
-- row is written where no Qdrant is configured.
CREATE TABLE rae_jobs.vector_deletions (
    tenant_id uuid NOT NULL,
    memory_id uuid NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, memory_id)
);

-- `command` is the command line of a run, `request` what RAE_REQUEST held: enough to run it again. A run that is asked to stop
-- stops at its next batch; one that was cancelled is not taken up again until somebody asks for it.
ALTER TABLE rae_jobs.task_runs
    ADD COLUMN command             text[],
    ADD COLUMN request             jsonb,
    ADD COLUMN cancel_requested_at timestamptz;
CREATE INDEX task_runs_tenant ON rae_jobs.task_runs (tenant_id, started_at DESC);

-- Every tenant that anything is kept for: in RAE's tables, and in ours after the last memory of a tenant has gone.
CREATE OR REPLACE FUNCTION rae_jobs.known_tenants()
RETURNS TABLE (id uuid, name text, config jsonb)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, @rae_schema@, pg_temp
SET row_security = off
AS $$
    WITH RECURSIVE runs AS (
        (SELECT r.tenant_id FROM rae_jobs.task_runs AS r ORDER BY r.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.tenant_id FROM rae_jobs.task_runs AS r WHERE r.tenant_id > f.tenant_id ORDER BY r.tenant_id LIMIT 1)
        FROM runs AS f
        WHERE f.tenant_id IS NOT NULL
    ),
    audits AS (
        (SELECT a.tenant_id FROM rae_jobs.deletion_audit AS a ORDER BY a.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT a.tenant_id FROM rae_jobs.deletion_audit AS a WHERE a.tenant_id > f.tenant_id ORDER BY a.tenant_id LIMIT 1)
        FROM audits AS f
        WHERE f.tenant_id IS NOT NULL
    ),
    known AS (
        SELECT m.id FROM rae_jobs.tenants_with_memories() AS m
        UNION
        SELECT t.id FROM tenants AS t
        UNION
        SELECT r.tenant_id FROM runs AS r
        UNION
        SELECT a.tenant_id FROM audits AS a
    )
    SELECT k.id, t.name::text, t.config
    FROM known AS k
    LEFT JOIN tenants AS t ON t.id = k.id
    WHERE k.id IS NOT NULL
$$;
REVOKE ALL ON FUNCTION rae_jobs.known_tenants() FROM PUBLIC;
