-- Limits on calls of a language model, for all pods together. Only additions, and the periods' sums brought up to what has been spent.
-- mode: transaction
-- needs-image: 4

-- One row a model of an endpoint. Unlogged: what it holds is worth nothing after a minute.
CREATE UNLOGGED TABLE rae_jobs.llm_rates (
    scope        text PRIMARY KEY,
    requests_due timestamptz NOT NULL DEFAULT '-infinity',
    tokens_due   timestamptz NOT NULL DEFAULT '-infinity',
    held_until   timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- How often endpoints said 429, by minute; the queue asks for less while they do.
CREATE UNLOGGED TABLE rae_jobs.llm_refusals (
    minute   timestamptz PRIMARY KEY,
    refusals bigint NOT NULL
) WITH (fillfactor = 50);

-- Usage was written without its periods until now: a budget that is set later in the month counts it too.
INSERT INTO rae_jobs.llm_budget_periods AS p (tenant_id, project, period, starts_on, committed_usd)
SELECT u.tenant_id, s.project, d.period, d.starts_on, sum(CASE u.state WHEN 'settled' THEN coalesce(u.cost_usd, u.reserved_usd) ELSE u.reserved_usd END)
FROM rae_jobs.llm_usage AS u
CROSS JOIN LATERAL (SELECT '' AS project UNION SELECT u.project) AS s
CROSS JOIN LATERAL (
    VALUES ('day', (u.created_at AT TIME ZONE 'UTC')::date),
           ('month', date_trunc('month', u.created_at AT TIME ZONE 'UTC')::date)
) AS d (period, starts_on)
WHERE u.state <> 'released'
  AND u.created_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
GROUP BY u.tenant_id, s.project, d.period, d.starts_on
ON CONFLICT (tenant_id, project, period, starts_on) DO UPDATE SET committed_usd = excluded.committed_usd;
