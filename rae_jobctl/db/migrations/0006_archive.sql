-- Memories that `prune --archive` took out of RAE's table, whole rows as they were. Only an addition.
-- mode: transaction
-- needs-image: 4

CREATE TABLE rae_jobs.archived_memories (
    memory_id   uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    run_id      uuid NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    memory      jsonb NOT NULL
);
CREATE INDEX archived_memories_tenant ON rae_jobs.archived_memories (tenant_id, archived_at);
