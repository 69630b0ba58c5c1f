-- Schema rae_jobs: what the background tasks keep for themselves. Nothing here touches a table of RAE.
-- mode: transaction
-- needs-image: 1

CREATE SCHEMA IF NOT EXISTS rae_jobs;
COMMENT ON SCHEMA rae_jobs IS 'Background tasks of RAE (rae-jobctl): run ledger, extraction state, LLM usage, deletion audit';

CREATE TABLE IF NOT EXISTS rae_jobs.schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    -- The least schema version that an image must know to work on this one.
    needs_image integer NOT NULL,
    image       text NOT NULL,
    applied_by  text NOT NULL DEFAULT current_user,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- The ledger: one row a run, whose key is (task, tenant, project, slot, shard). `state` is what the run last said of itself;
-- whether it is alive is a matter of its lock: read the view `runs`.
CREATE TABLE rae_jobs.task_runs (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    task            text NOT NULL,
    tenant_id       uuid NOT NULL,
    project         text NOT NULL DEFAULT '',
    slot            text NOT NULL,
    shard           integer NOT NULL DEFAULT 0,
    state           text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'finished', 'failed', 'sliced', 'cancelled', 'dismissed')),
    attempt         integer NOT NULL DEFAULT 1,
    failures        integer NOT NULL DEFAULT 0,
    lock_key        bigint NOT NULL,
    backend_pid     integer,
    arguments       jsonb NOT NULL DEFAULT '{}',
    cursor          jsonb,
    counters        jsonb NOT NULL DEFAULT '{}',
    progress_done   bigint,
    progress_total  bigint,
    reason          text,
    message         text,
    result          jsonb,
    exit_code       integer,
    error_class     text,
    traceback       text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    expires_at      timestamptz,
    pod             text,
    job             text,
    request_kind    text,
    request_name    text,
    request_uid     text,
    version         text NOT NULL,
    CONSTRAINT task_runs_key UNIQUE (task, tenant_id, project, slot, shard)
) WITH (fillfactor = 50);
CREATE INDEX task_runs_created ON rae_jobs.task_runs (created_at DESC);
CREATE INDEX task_runs_request ON rae_jobs.task_runs (request_uid) WHERE request_uid IS NOT NULL;
CREATE INDEX task_runs_expiry ON rae_jobs.task_runs (expires_at) WHERE expires_at IS NOT NULL;

-- `running` follows from the lock that the run's own session holds, so a killed pod never shows as running.
CREATE VIEW rae_jobs.runs AS
WITH held AS (
    SELECT DISTINCT ((classid::bigint << 32) | objid::bigint) AS lock_key, pid
    FROM pg_locks
    WHERE locktype = 'advisory'
      AND objsubid = 1
      AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT
    r.*,
    CASE
        WHEN r.state = 'open' AND h.pid IS NOT NULL THEN 'running'
        WHEN r.state = 'open' THEN 'died'
        ELSE r.state
    END AS status
FROM rae_jobs.task_runs AS r
LEFT JOIN held AS h ON h.lock_key = r.lock_key AND h.pid = r.backend_pid;

-- Extraction: beside memories.graph_extracted, so that leases and failures rewrite no row of RAE. No foreign key: it would
-- put a trigger on every deletion of a memory.
CREATE TABLE rae_jobs.extraction_state (
    memory_id    uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    project      text,
    lease_token  uuid,
    leased_until timestamptz,
    tries        integer NOT NULL DEFAULT 0,
    not_before   timestamptz,
    last_error   text,
    dead         boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX extraction_state_dead ON rae_jobs.extraction_state (tenant_id, project) WHERE dead;

-- One row a paid call. A reservation is made before the call with the worst case, and settled after it; one that is never
-- settled (its pod died) goes on counting as spent.
CREATE TABLE rae_jobs.llm_usage (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    run_id            uuid,
    tenant_id         uuid NOT NULL,
    project           text NOT NULL DEFAULT '',
    task              text NOT NULL,
    provider          text NOT NULL,
    model             text NOT NULL,
    state             text NOT NULL DEFAULT 'reserved' CHECK (state IN ('reserved', 'settled', 'released')),
    reserved_usd      numeric(14, 8) NOT NULL DEFAULT 0,
    cost_usd          numeric(14, 8),
    reserved_tokens   bigint NOT NULL DEFAULT 0,
    prompt_tokens     bigint,
    cached_tokens     bigint,
    completion_tokens bigint,
    duration_ms       double precision,
    error_class       text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz
);
CREATE INDEX llm_usage_period ON rae_jobs.llm_usage (tenant_id, project, created_at);
CREATE INDEX llm_usage_run ON rae_jobs.llm_usage (run_id);

-- Spent plus reserved of a period in one row, so that a budget is kept by one conditional UPDATE.
CREATE TABLE rae_jobs.llm_budget_periods (
    tenant_id     uuid NOT NULL,
    project       text NOT NULL DEFAULT '',
    period        text NOT NULL CHECK (period IN ('day', 'month')),
    starts_on     date NOT NULL,
    committed_usd numeric(14, 8) NOT NULL DEFAULT 0 CHECK (committed_usd >= 0),
    PRIMARY KEY (tenant_id, project, period, starts_on)
) WITH (fillfactor = 50);

-- One stored reflection per input: the hash covers tenant, project, memory ids, prompt version and model. A claim before the
-- call keeps rivals to one call; it lapses with `claimed_until`.
CREATE TABLE rae_jobs.reflection_claims (
    input_hash    text PRIMARY KEY CHECK (input_hash ~ '^[0-9a-f]{64}$'),
    tenant_id     uuid NOT NULL,
    project       text NOT NULL,
    run_id        uuid,
    claimed_until timestamptz NOT NULL,
    reflection_id uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    stored_at     timestamptz
);
CREATE INDEX reflection_claims_project ON rae_jobs.reflection_claims (tenant_id, project, stored_at DESC);

-- One row a batch of deletions, in the deletion's own transaction.
CREATE TABLE rae_jobs.deletion_audit (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        uuid NOT NULL,
    tenant_id     uuid NOT NULL,
    data_class    text NOT NULL,
    reason        text NOT NULL,
    deleted_count integer NOT NULL,
    deleted_ids   uuid[] NOT NULL,
    deleted_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX deletion_audit_tenant ON rae_jobs.deletion_audit (tenant_id, deleted_at);
