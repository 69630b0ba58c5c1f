"""The SQL of decay. Every statement names its tenant, and a row that has had its day does not match a second time."""

# $1 tenant, $2 day, $3 factors by missed days, $4 floors by missed days
_DECAY = """
UPDATE memories AS m
SET strength = CASE
        WHEN abs(m.strength) < ($4::float8[])[least($2 - m.decayed_through, cardinality($3::float8[]))] THEN 0
        ELSE m.strength * ($3::float8[])[least($2 - m.decayed_through, cardinality($3::float8[]))]
    END,
    decayed_through = $2
WHERE m.tenant_id = $1
  AND m.decayed_through < $2
"""

#: Single rows by their place. One that has moved meanwhile is not found, and comes with the next look.
DECAY_ROWS = f"{_DECAY}  AND m.ctid = ANY($5::tid[])\n"

#: Whether the tenant has more than $2 rows and more than the share $3 of the table; counted in its index no further than needed.
FILLS_TABLE = """
WITH bound AS (
    SELECT greatest($2::bigint, ($3::float8 * greatest(c.reltuples, 0))::bigint) AS most
    FROM pg_class AS c
    WHERE c.oid = to_regclass('memories')
)
SELECT (SELECT count(*) FROM (SELECT FROM memories WHERE tenant_id = $1 LIMIT b.most + 1) AS counted) > b.most
FROM bound AS b
"""

#: Places of rows that are due, through the index on tenant_id.
DUE_ROWS = """
SELECT m.ctid
FROM memories AS m
WHERE m.tenant_id = $1
  AND m.decayed_through < $2
LIMIT $3
"""

# Rows that are further behind than is made good; $3 is the most days. Asked batch by batch, before the batch changes them.
_LOST = """
SELECT count(*) AS memories, coalesce(max($2 - m.decayed_through - $3), 0) AS days
FROM memories AS m
WHERE m.tenant_id = $1
  AND m.decayed_through < $2 - $3::integer
"""
LOST_ROWS = f"{_LOST}  AND m.ctid = ANY($4::tid[])\n"

#: The last day that a run of this tenant finished.
LAST_DAY = """
SELECT max((result ->> 'day')::date)
FROM rae_jobs.task_runs
WHERE task = 'decay'
  AND tenant_id = $1
  AND state = 'finished'
"""

#: Pages of the table.
TABLE_SIZE = """
SELECT pg_relation_size(to_regclass('memories')) / current_setting('block_size')::bigint
"""

#: The places of at most $5 due rows in the pages from $3 to before $4, in their order.
DUE_PAGES = """
SELECT m.ctid
FROM memories AS m
WHERE m.tenant_id = $1
  AND m.decayed_through < $2
  AND m.ctid >= $3::tid AND m.ctid < $4::tid
LIMIT $5
"""

#: Goes through pages and wants nothing of them.
TIDY_PAGES = """
SELECT count(*)
FROM memories
WHERE ctid >= $1::tid AND ctid < $2::tid
"""

#: $2 the moment, $3 how many at most. A row that RAE holds is left for the next run rather than waited for.
DELETE_EXPIRED = """
DELETE FROM memories
WHERE tenant_id = $1
  AND id = ANY (ARRAY(
      SELECT id
      FROM memories
      WHERE tenant_id = $1
        AND expires_at < $2
      ORDER BY expires_at
      LIMIT $3
      FOR UPDATE SKIP LOCKED
  ))
RETURNING id
"""

#: Before and after by tenth of strength; 11 is 1.0 and more.
PREVIEW = """
WITH due AS (
    SELECT m.strength AS before,
           $2 - m.decayed_through AS days,
           CASE
               WHEN abs(m.strength) < ($4::float8[])[least($2 - m.decayed_through, cardinality($3::float8[]))] THEN 0
               ELSE m.strength * ($3::float8[])[least($2 - m.decayed_through, cardinality($3::float8[]))]
           END AS after
    FROM memories AS m
    WHERE m.tenant_id = $1
      AND m.decayed_through < $2
)
SELECT width_bucket(before, 0, 1, 10) AS before, width_bucket(after, 0, 1, 10) AS after,
       count(*) AS memories, max(days) AS days, count(*) FILTER (WHERE days > cardinality($3::float8[])) AS lost
FROM due
GROUP BY 1, 2
"""

COUNT_EXPIRED = """
SELECT count(*)
FROM memories
WHERE tenant_id = $1
  AND expires_at < $2
"""
