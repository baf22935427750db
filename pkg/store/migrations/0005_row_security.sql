-- +goose Up
-- sallyport: the version before can go on beside this

-- A second net under the tenant in every query: on PostgreSQL a statement meets the rows of the tenant that it was sent for and
-- no other's, whatever its text says. '*' is said by name in the program where all are meant (everyTenant); where nothing is
-- said, nothing is met. FORCE holds the edge's own role too, which owns the tables. SQLite has no such thing.
-- postgres: begin
-- +goose StatementBegin
DO $$
DECLARE
    of TEXT;
BEGIN
    FOREACH of IN ARRAY ARRAY[
        'changes', 'hosts', 'sites', 'apps', 'ingress', 'users', 'sessions', 'session_references', 'handoffs', 'service_tokens',
        'connectors', 'invites', 'leases', 'runs', 'codes', 'buckets', 'known_browsers', 'audit_heads', 'decisions', 'outcomes'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', of);
        EXECUTE format('CREATE POLICY of_tenant ON %I USING (current_setting(''sallyport.tenant'', true) IN (tenant, ''*''))', of);
    END LOOP;
    ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
    ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
    CREATE POLICY of_tenant ON tenants USING (current_setting('sallyport.tenant', true) IN (id, '*'));
END $$;
-- +goose StatementEnd
-- postgres: end
