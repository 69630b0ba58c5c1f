-- The indexes that the tasks need on RAE's tables. Built beside the running system, outside a transaction.
-- mode: concurrent
-- needs-image: 3

-- step: rae_jobs_memories_pending
CREATE INDEX CONCURRENTLY IF NOT EXISTS rae_jobs_memories_pending
    ON memories (tenant_id, project, created_at, id)
    WHERE NOT graph_extracted AND layer = 'episodic';

-- step: rae_jobs_memories_expiry
CREATE INDEX CONCURRENTLY IF NOT EXISTS rae_jobs_memories_expiry
    ON memories (tenant_id, expires_at)
    WHERE expires_at IS NOT NULL;

-- step: rae_jobs_edges_source
CREATE INDEX CONCURRENTLY IF NOT EXISTS rae_jobs_edges_source
    ON knowledge_graph_edges (source_node_id);

-- step: rae_jobs_edges_target
CREATE INDEX CONCURRENTLY IF NOT EXISTS rae_jobs_edges_target
    ON knowledge_graph_edges (target_node_id);
