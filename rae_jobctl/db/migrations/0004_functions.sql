-- Questions that no single tenant may ask. They run as the tables' owner with a pinned search path, and with row_security off:
-- where row-level security binds even the owner (FORCE), they raise an error instead of seeing nothing.
-- mode: transaction
-- needs-image: 4

-- Tenants that have memories: one index probe a tenant, whatever the number of rows.
CREATE OR REPLACE FUNCTION rae_jobs.tenants_with_memories()
RETURNS TABLE (id uuid, name text, config jsonb)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, @rae_schema@, pg_temp
SET row_security = off
AS $$
    WITH RECURSIVE found AS (
        (SELECT m.tenant_id FROM memories AS m ORDER BY m.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.tenant_id FROM memories AS m WHERE m.tenant_id > f.tenant_id ORDER BY m.tenant_id LIMIT 1)
        FROM found AS f
        WHERE f.tenant_id IS NOT NULL
    )
    SELECT f.tenant_id, t.name::text, t.config
    FROM found AS f
    LEFT JOIN tenants AS t ON t.id = f.tenant_id
    WHERE f.tenant_id IS NOT NULL
$$;

-- The tenants that a text names: by id (with a row in tenants, or a memory or node of its own), or by exact name.
CREATE OR REPLACE FUNCTION rae_jobs.find_tenants(wanted text)
RETURNS TABLE (id uuid, name text, config jsonb)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, @rae_schema@, pg_temp
SET row_security = off
AS $$
    WITH given AS (
        SELECT CASE
            WHEN wanted ~* '^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$' THEN wanted::uuid
        END AS id
    )
    SELECT t.id, t.name::text, t.config
    FROM tenants AS t, given AS g
    WHERE t.id = g.id OR (g.id IS NULL AND t.name = wanted)
    UNION ALL
    SELECT g.id, NULL, NULL
    FROM given AS g
    WHERE g.id IS NOT NULL
      AND NOT EXISTS (SELECT FROM tenants AS t WHERE t.id = g.id)
      AND (
          EXISTS (SELECT FROM memories AS m WHERE m.tenant_id = g.id)
          OR EXISTS (SELECT FROM knowledge_graph_nodes AS n WHERE n.tenant_id = g.id)
      )
$$;

-- Where memories wait for extraction, by tenant and project; counted up to `most` each, so that a large backlog costs no more.
CREATE OR REPLACE FUNCTION rae_jobs.pending_groups(most integer)
RETURNS TABLE (tenant_id uuid, project text, pending bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, @rae_schema@, pg_temp
SET row_security = off
AS $$
    WITH RECURSIVE found AS (
        (
            SELECT m.tenant_id, m.project
            FROM memories AS m
            WHERE NOT m.graph_extracted AND m.layer = 'episodic' AND m.project IS NOT NULL
            ORDER BY m.tenant_id, m.project
            LIMIT 1
        )
        UNION ALL
        SELECT n.tenant_id, n.project
        FROM found AS f
        CROSS JOIN LATERAL (
            SELECT m.tenant_id, m.project
            FROM memories AS m
            WHERE NOT m.graph_extracted AND m.layer = 'episodic' AND m.project IS NOT NULL
              AND (m.tenant_id, m.project) > (f.tenant_id, f.project)
            ORDER BY m.tenant_id, m.project
            LIMIT 1
        ) AS n
    )
    SELECT f.tenant_id, f.project::text, c.pending
    FROM found AS f
    CROSS JOIN LATERAL (
        SELECT count(*) AS pending
        FROM (
            SELECT
            FROM memories AS m
            WHERE NOT m.graph_extracted AND m.layer = 'episodic'
              AND m.tenant_id = f.tenant_id AND m.project = f.project
            LIMIT most
        ) AS counted
    ) AS c
$$;

REVOKE ALL ON FUNCTION rae_jobs.tenants_with_memories() FROM PUBLIC;
REVOKE ALL ON FUNCTION rae_jobs.find_tenants(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rae_jobs.pending_groups(integer) FROM PUBLIC;
