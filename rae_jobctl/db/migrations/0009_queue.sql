-- The queue of extraction: what somebody has paused, and all backlogs in one question. Only additions.
-- mode: transaction
-- needs-image: 4

-- The tenant 00000000-0000-0000-0000-000000000000 stands for all, as in task_runs, and the project '' for all of a tenant's.
CREATE TABLE rae_jobs.pauses (
    id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    what      text NOT NULL CHECK (what IN ('queue', 'reflections')),
    tenant_id uuid NOT NULL,
    project   text NOT NULL DEFAULT '',
    reason    text,
    paused_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pauses_key UNIQUE (what, tenant_id, project),
    CHECK (project = '' OR tenant_id <> '00000000-0000-0000-0000-000000000000')
);

-- What is leased or has failed in one project: few rows, among which each claiming pod looks for those that lapsed.
CREATE INDEX extraction_state_living ON rae_jobs.extraction_state (tenant_id, project) WHERE NOT dead;

-- How many memories an extraction would take now, by tenant and project; counted up to `most` each, so that a large backlog costs
-- no more. What is leased, dead or waits after a failure is counted by itself: it is little, and the rest is then a count of the
-- index alone. jit is off since compiling would take longer than all else. pending_groups stays for the image before this one.
CREATE FUNCTION rae_jobs.queue_backlogs(most bigint, tries integer)
RETURNS TABLE (tenant_id uuid, project text, waiting bigint, held bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, @rae_schema@, pg_temp
SET row_security = off
SET jit = off
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
            -- Two probes: a comparison of both columns at once would walk the memories that have no project.
            (
                SELECT m.tenant_id, m.project
                FROM memories AS m
                WHERE NOT m.graph_extracted AND m.layer = 'episodic'
                  AND m.tenant_id = f.tenant_id AND m.project > f.project
                ORDER BY m.project
                LIMIT 1
            )
            UNION ALL
            (
                SELECT m.tenant_id, m.project
                FROM memories AS m
                WHERE NOT m.graph_extracted AND m.layer = 'episodic'
                  AND m.tenant_id > f.tenant_id AND m.project IS NOT NULL
                ORDER BY m.tenant_id, m.project
                LIMIT 1
            )
            ORDER BY 1, 2
            LIMIT 1
        ) AS n
    ),
    held AS (
        SELECT s.tenant_id, m.project, count(*) AS memories
        FROM rae_jobs.extraction_state AS s
        -- LIMIT keeps it a probe for each row, whatever the planner thinks of the sizes.
        CROSS JOIN LATERAL (
            SELECT m.project
            FROM memories AS m
            WHERE m.id = s.memory_id AND m.tenant_id = s.tenant_id AND NOT m.graph_extracted AND m.layer = 'episodic'
            LIMIT 1
        ) AS m
        WHERE s.dead OR s.tries >= $2 OR s.leased_until >= now() OR s.not_before > now()
        GROUP BY s.tenant_id, m.project
    )
    SELECT f.tenant_id, f.project::text, greatest(c.pending - coalesce(h.memories, 0), 0), coalesce(h.memories, 0)
    FROM found AS f
    LEFT JOIN held AS h ON h.tenant_id = f.tenant_id AND h.project = f.project
    CROSS JOIN LATERAL (
        SELECT count(*) AS pending
        FROM (
            SELECT
            FROM memories AS m
            WHERE NOT m.graph_extracted AND m.layer = 'episodic' AND m.tenant_id = f.tenant_id AND m.project = f.project
            LIMIT $1 + coalesce(h.memories, 0)
        ) AS counted
    ) AS c
$$;
REVOKE ALL ON FUNCTION rae_jobs.queue_backlogs(bigint, integer) FROM PUBLIC;
