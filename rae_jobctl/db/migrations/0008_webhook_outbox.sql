-- Notifications: written in the transaction of what they tell of, delivered after it. Only an addition.
-- mode: transaction
-- needs-image: 4

CREATE TABLE rae_jobs.webhook_outbox (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    uuid NOT NULL,
    project      text NOT NULL,
    run_id       uuid NOT NULL,
    event_type   text NOT NULL,
    payload      jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL DEFAULT 0,
    not_before   timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    dead_at      timestamptz,
    last_error   text
);
CREATE INDEX webhook_outbox_due ON rae_jobs.webhook_outbox (not_before) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX webhook_outbox_run ON rae_jobs.webhook_outbox (run_id);
CREATE INDEX webhook_outbox_tenant ON rae_jobs.webhook_outbox (tenant_id, created_at);
