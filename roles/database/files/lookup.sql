-- How PgBouncer learns a user's SCRAM secret: of no account of the system's, and of nobody without a password.
-- Its owner may read these columns and nothing else.
GRANT SELECT (usename, passwd, valuntil, usesuper, userepl) ON pg_catalog.pg_shadow TO pgbouncer_lookup;
-- The inventory may have taken it from PUBLIC.
DO $$ BEGIN EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO pgbouncer', pg_catalog.current_database()); END $$;
CREATE SCHEMA IF NOT EXISTS pgbouncer AUTHORIZATION pgbouncer_lookup;
REVOKE ALL ON SCHEMA pgbouncer FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
CREATE OR REPLACE FUNCTION pgbouncer.lookup(wanted text)
  RETURNS TABLE (usename name, passwd text)
  LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT s.usename, s.passwd FROM pg_catalog.pg_shadow s
    WHERE s.usename = wanted AND s.passwd LIKE 'SCRAM-SHA-256$%'
      AND NOT s.usesuper AND NOT s.userepl AND s.usename NOT IN ('rewind', 'pgbouncer')
      AND (s.valuntil IS NULL OR s.valuntil > pg_catalog.now())
  $$;
ALTER FUNCTION pgbouncer.lookup(text) OWNER TO pgbouncer_lookup;
REVOKE ALL ON FUNCTION pgbouncer.lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgbouncer.lookup(text) TO pgbouncer;
