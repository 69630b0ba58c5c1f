-- RAE's own tables, as its installations have them, for places where RAE itself is not installed:
-- a laptop, the demo, the tests. Never run this on a database that RAE migrates itself.
--
-- Safe to run again. Needs the right to create tables in `public`, and a superuser once, for the
-- extension, where pgvector is to be had. Where it is not, `vector` is a domain over text, which is
-- what a client without a codec sees of a real vector anyway.

DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('rae_schema.sql'));
    -- An existing type wins: a domain of an earlier run would collide with the extension's type.
    IF to_regtype('vector') IS NOT NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION vector;
    ELSE
        CREATE DOMAIN public.vector AS text;
    END IF;
END
$$;

-- Memories ------------------------------------------------------------------------------------

-- No row-level security, no checks and no foreign keys: tenant ids may name tenants without a row.
CREATE TABLE IF NOT EXISTS memories (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id        uuid NOT NULL,
    content          text NOT NULL,
    source           varchar(255),
    importance       double precision DEFAULT 0.5,
    layer            varchar(50),
    tags             text[],
    "timestamp"      timestamptz DEFAULT now(),
    created_at       timestamptz DEFAULT now(),
    last_accessed_at timestamptz DEFAULT now(),
    usage_count      integer DEFAULT 0,
    project          varchar(255),
    metadata         jsonb DEFAULT '{}',
    agent_id         varchar(255) NOT NULL DEFAULT 'default',
    expires_at       timestamptz,
    memory_type      varchar(50),
    strength         double precision DEFAULT 1.0,
    session_id       varchar(255),
    embedding        vector,
    info_class       varchar(50) NOT NULL DEFAULT 'internal',
    governance       jsonb NOT NULL DEFAULT '{}',
    content_hash     varchar(64),
    human_label      text
);
CREATE INDEX IF NOT EXISTS idx_memories_tenant_id ON memories (tenant_id);
CREATE INDEX IF NOT EXISTS idx_memories_project ON memories (project);
CREATE INDEX IF NOT EXISTS idx_memories_agent_id ON memories (agent_id);
CREATE INDEX IF NOT EXISTS idx_memories_session_id ON memories (session_id);
CREATE INDEX IF NOT EXISTS idx_memories_source ON memories (source);
CREATE INDEX IF NOT EXISTS idx_memories_info_class ON memories (info_class);
CREATE INDEX IF NOT EXISTS idx_memories_project_created_at ON memories (project, created_at);
CREATE INDEX IF NOT EXISTS idx_memories_governance ON memories USING gin (governance);
CREATE INDEX IF NOT EXISTS idx_memories_content_fts
    ON memories USING gin (to_tsvector('english', coalesce(content, '')));
CREATE UNIQUE INDEX IF NOT EXISTS idx_memories_tenant_content_hash ON memories (tenant_id, content_hash);

-- No tenant_id here: a row belongs to the tenant of its memory.
CREATE TABLE IF NOT EXISTS memory_embeddings (
    memory_id  uuid NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    model_name varchar(255) NOT NULL,
    metadata   jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now(),
    embedding  vector NOT NULL,
    PRIMARY KEY (memory_id, model_name)
);

CREATE TABLE IF NOT EXISTS memory_feedback (
    id               uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL,
    query            text NOT NULL,
    memory_id        uuid NOT NULL,
    score            double precision NOT NULL,
    weights_snapshot json,
    created_at       timestamptz NOT NULL DEFAULT now(),
    metadata         json
);
CREATE INDEX IF NOT EXISTS idx_feedback_tenant_memory ON memory_feedback (tenant_id, memory_id);

-- Tenants -------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS tenants (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name                  varchar(255) NOT NULL,
    tier                  varchar(50) NOT NULL DEFAULT 'free',
    config                jsonb DEFAULT '{}',
    created_at            timestamptz DEFAULT now(),
    updated_at            timestamptz DEFAULT now(),
    status                varchar(50) DEFAULT 'active',
    contact_email         varchar(255),
    company_name          varchar(255),
    current_memory_count  integer DEFAULT 0,
    current_project_count integer DEFAULT 0,
    api_calls_today       integer DEFAULT 0,
    subscription_start    timestamptz,
    subscription_end      timestamptz
);

CREATE TABLE IF NOT EXISTS user_tenant_roles (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id     varchar(255) NOT NULL,
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    role        varchar(50) NOT NULL,
    project_ids text[] DEFAULT '{}',
    assigned_at timestamptz DEFAULT now(),
    assigned_by varchar(255),
    expires_at  timestamptz,
    CONSTRAINT uq_user_tenant_role UNIQUE (user_id, tenant_id)
);
CREATE INDEX IF NOT EXISTS idx_utr_user_id ON user_tenant_roles (user_id);
CREATE INDEX IF NOT EXISTS idx_utr_tenant_id ON user_tenant_roles (tenant_id);

CREATE TABLE IF NOT EXISTS budgets (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id     uuid NOT NULL,
    project       varchar NOT NULL,
    monthly_limit double precision,
    monthly_usage double precision NOT NULL DEFAULT 0.0,
    daily_limit   double precision,
    daily_usage   double precision NOT NULL DEFAULT 0.0,
    last_usage_at timestamp DEFAULT now(),
    CONSTRAINT uq_tenant_project_budget UNIQUE (tenant_id, project)
);

CREATE TABLE IF NOT EXISTS token_savings_log (
    id                       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id                uuid NOT NULL,
    project                  varchar NOT NULL,
    request_id               varchar,
    predicted_tokens         integer DEFAULT 0,
    real_tokens              integer DEFAULT 0,
    saved_tokens             integer DEFAULT 0,
    estimated_cost_saved_usd double precision DEFAULT 0.0,
    savings_type             varchar,
    model                    varchar,
    "timestamp"              timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS access_logs (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id     uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id       varchar(255) NOT NULL,
    action        varchar(100) NOT NULL,
    resource      varchar(100) NOT NULL,
    resource_id   varchar(255),
    allowed       boolean NOT NULL,
    denial_reason text,
    ip_address    varchar(50),
    user_agent    text,
    "timestamp"   timestamptz DEFAULT now(),
    metadata      jsonb DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS ix_access_logs_tenant_id ON access_logs (tenant_id);
CREATE INDEX IF NOT EXISTS ix_access_logs_timestamp ON access_logs ("timestamp");
CREATE INDEX IF NOT EXISTS ix_access_logs_user_id ON access_logs (user_id);

CREATE TABLE IF NOT EXISTS metrics_timeseries (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id          uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    project_id         varchar(255),
    metric_name        varchar(255) NOT NULL,
    metric_value       double precision NOT NULL,
    metric_type        varchar(50) NOT NULL,
    "timestamp"        timestamptz NOT NULL DEFAULT now(),
    tags               jsonb DEFAULT '[]',
    dimensions         jsonb DEFAULT '{}',
    aggregation_period varchar(50),
    CONSTRAINT metrics_timeseries_valid_type CHECK (metric_type IN ('gauge', 'counter', 'histogram'))
);
CREATE INDEX IF NOT EXISTS idx_metrics_ts_metric_tenant_time
    ON metrics_timeseries (metric_name, tenant_id, "timestamp" DESC);
CREATE INDEX IF NOT EXISTS idx_metrics_ts_project_time
    ON metrics_timeseries (tenant_id, project_id, "timestamp" DESC);

-- The knowledge graph -------------------------------------------------------------------------

-- RAE keeps updated_at of neither table up to date, and indexes neither edge end alone.
CREATE TABLE IF NOT EXISTS knowledge_graph_nodes (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  uuid NOT NULL,
    project    varchar NOT NULL,
    node_id    varchar NOT NULL,
    label      varchar NOT NULL,
    properties jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT uq_tenant_project_node UNIQUE (tenant_id, project, node_id)
);
CREATE INDEX IF NOT EXISTS idx_kg_nodes_tp ON knowledge_graph_nodes (tenant_id, project);

CREATE TABLE IF NOT EXISTS knowledge_graph_edges (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id      uuid NOT NULL,
    project        varchar NOT NULL,
    source_node_id uuid NOT NULL REFERENCES knowledge_graph_nodes (id) ON DELETE CASCADE,
    target_node_id uuid NOT NULL REFERENCES knowledge_graph_nodes (id) ON DELETE CASCADE,
    relation       varchar NOT NULL,
    properties     jsonb DEFAULT '{}',
    created_at     timestamptz DEFAULT now(),
    updated_at     timestamptz DEFAULT now(),
    CONSTRAINT uq_kg_edge UNIQUE (tenant_id, project, source_node_id, target_node_id, relation)
);
CREATE INDEX IF NOT EXISTS idx_kg_edges_relation ON knowledge_graph_edges (relation);

-- Reflections ---------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS reflections (
    id                     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id              uuid NOT NULL,
    project                varchar NOT NULL,
    content                text NOT NULL,
    summary                text,
    type                   varchar NOT NULL,
    priority               integer DEFAULT 3,
    score                  double precision DEFAULT 0.5,
    novelty_score          double precision DEFAULT 0.5,
    importance_score       double precision DEFAULT 0.5,
    utility_score          double precision DEFAULT 0.5,
    confidence_score       double precision DEFAULT 0.5,
    parent_reflection_id   uuid REFERENCES reflections (id) ON DELETE CASCADE,
    depth_level            integer DEFAULT 0,
    source_memory_ids      uuid[] DEFAULT '{}',
    source_reflection_ids  uuid[] DEFAULT '{}',
    embedding              double precision[],
    cluster_id             varchar,
    cluster_centroid       double precision[],
    cache_key              varchar,
    reuse_count            integer DEFAULT 0,
    tags                   varchar[] DEFAULT '{}',
    metadata               jsonb DEFAULT '{}',
    generation_model       varchar,
    generation_duration_ms double precision,
    generation_tokens_used integer,
    generation_cost_usd    double precision,
    created_at             timestamptz DEFAULT now(),
    updated_at             timestamptz DEFAULT now(),
    last_accessed_at       timestamptz DEFAULT now(),
    accessed_count         integer DEFAULT 0
);

CREATE TABLE IF NOT EXISTS reflection_relationships (
    id                   serial PRIMARY KEY,
    tenant_id            uuid NOT NULL,
    project              varchar NOT NULL,
    source_reflection_id uuid REFERENCES reflections (id) ON DELETE CASCADE,
    target_reflection_id uuid REFERENCES reflections (id) ON DELETE CASCADE,
    relation_type        varchar NOT NULL,
    strength             double precision DEFAULT 1.0,
    confidence           double precision DEFAULT 1.0,
    supporting_evidence  text[] DEFAULT '{}',
    metadata             jsonb DEFAULT '{}',
    created_at           timestamptz DEFAULT now(),
    updated_at           timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS reflection_usage_log (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       uuid NOT NULL,
    project         varchar NOT NULL,
    reflection_id   uuid REFERENCES reflections (id) ON DELETE CASCADE,
    usage_type      varchar NOT NULL,
    query           text,
    relevance_score double precision,
    rank_position   integer,
    user_id         varchar,
    session_id      varchar,
    metadata        jsonb DEFAULT '{}',
    "timestamp"     timestamptz DEFAULT now()
);

-- The tenant of the next two is text, unlike everywhere else.
CREATE TABLE IF NOT EXISTS reflection_audits (
    id             uuid PRIMARY KEY,
    query_id       varchar NOT NULL,
    tenant_id      varchar NOT NULL,
    agent_id       varchar,
    fsi_score      double precision NOT NULL,
    final_decision varchar NOT NULL,
    l1_report      jsonb,
    l2_report      jsonb,
    l3_report      jsonb,
    created_at     timestamptz DEFAULT now(),
    metadata       jsonb
);
CREATE INDEX IF NOT EXISTS ix_reflection_audits_query_id ON reflection_audits (query_id);
CREATE INDEX IF NOT EXISTS ix_reflection_audits_tenant_id ON reflection_audits (tenant_id);
CREATE INDEX IF NOT EXISTS ix_reflection_audits_agent_id ON reflection_audits (agent_id);

CREATE TABLE IF NOT EXISTS idea_field_edges (
    id             serial PRIMARY KEY,
    source_concept varchar NOT NULL,
    target_concept varchar NOT NULL,
    weight         double precision,
    domain         varchar,
    tenant_id      varchar NOT NULL,
    last_seen      timestamptz DEFAULT now(),
    CONSTRAINT uq_concept_edge UNIQUE (source_concept, target_concept, domain, tenant_id)
);
CREATE INDEX IF NOT EXISTS ix_idea_field_edges_source_concept ON idea_field_edges (source_concept);
CREATE INDEX IF NOT EXISTS ix_idea_field_edges_target_concept ON idea_field_edges (target_concept);
CREATE INDEX IF NOT EXISTS ix_idea_field_edges_domain ON idea_field_edges (domain);
CREATE INDEX IF NOT EXISTS ix_idea_field_edges_tenant_id ON idea_field_edges (tenant_id);

-- RAE's own cluster ---------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS compute_nodes (
    id           varchar PRIMARY KEY,
    hostname     varchar NOT NULL,
    status       varchar DEFAULT 'offline',
    capabilities jsonb DEFAULT '{}',
    last_seen    timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS delegated_tasks (
    id         uuid PRIMARY KEY,
    node_id    varchar REFERENCES compute_nodes (id),
    payload    jsonb NOT NULL,
    status     varchar DEFAULT 'pending',
    result     jsonb,
    created_at timestamptz DEFAULT now()
);
