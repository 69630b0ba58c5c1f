-- Row-level security as installations of RAE that follow its security guide have it. Not part of
-- rae_schema.sql, because most installations run without; run it after that file, as the tables' owner
-- (with the right to create a role where `postgres` is missing). Safe to run again.
--
-- Its traits, which the tasks have to live with:
--  * the policies are made TO a role (`postgres`), so any other role that is no owner sees no row at all
--    until it is a member of that role;
--  * without FORCE the tables' owner is not bound, nor is a member of the owner: where `postgres` owns the
--    tables, membership in it opens every tenant;
--  * two settings are in use: `app.current_tenant_id`, and `app.current_tenant` in the younger tables. An
--    unset one hides every row, but one that was set and is empty again raises "invalid input syntax for
--    type uuid".

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres') THEN
        CREATE ROLE postgres NOLOGIN;
    END IF;
END
$$;

-- The younger tables' own example: a decision on a memory that waits for a person.
CREATE TABLE IF NOT EXISTS approval_requests (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  uuid NOT NULL,
    status     varchar(50) NOT NULL DEFAULT 'pending',
    created_at timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE
    secured record;
BEGIN
    FOR secured IN
        SELECT c.oid, c.relname, settings.name AS setting, a.atttypid::regtype AS tenant_type
        FROM (VALUES
            ('memories', 'app.current_tenant_id'),
            ('semantic_nodes', 'app.current_tenant_id'),
            ('graph_triples', 'app.current_tenant_id'),
            ('reflections', 'app.current_tenant_id'),
            ('cost_logs', 'app.current_tenant_id'),
            ('audit_logs', 'app.current_tenant_id'),
            ('deletion_audit_log', 'app.current_tenant_id'),
            ('approval_requests', 'app.current_tenant')
        ) AS settings (relation, name)
        JOIN pg_class AS c ON c.oid = to_regclass('public.' || settings.relation)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    LOOP
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', secured.relname);
        IF NOT EXISTS (
            SELECT FROM pg_policy WHERE polrelid = secured.oid AND polname = 'tenant_isolation'
        ) THEN
            EXECUTE format(
                'CREATE POLICY tenant_isolation ON public.%I TO postgres USING (tenant_id = current_setting(%L, true)::%s)',
                secured.relname, secured.setting, secured.tenant_type
            );
        END IF;
    END LOOP;
END
$$;
