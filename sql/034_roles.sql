-- 034_roles.sql: the role by which triggers, schedules and plugins work on the application's tables.
--
--   pgmqd_application   reads the columns that are named in pgmqd.application, and sets the status of check-ups, appointments and
--                       payments. It cannot log in, and has no right in the schemas pgmqd and pgmq.

SET search_path = pg_catalog, pg_temp;

-- Makes the role, where the caller may, gives it its rights, and makes it the owner of the three functions that touch the application's
-- tables (030_application.sql). Returns what somebody has to do. Only changes are written.
CREATE OR REPLACE FUNCTION pgmqd.connect_application_role() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  app CONSTANT text := 'pgmqd_application';
  again CONSTANT text := 'SELECT * FROM pgmqd.connect_application(), or pgmqd migrate again';
  f regprocedure;
  t record;
BEGIN
  item := 'role ' || app;
  BEGIN
    IF to_regrole(app) IS NULL THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', app);
    END IF;
    IF NOT pg_has_role(app, 'USAGE') THEN
      EXECUTE format('GRANT %I TO %I', app, current_user);
    END IF;
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.proowner <> to_regrole(app)
      AND p.oid IN ('pgmqd.app_select(text)'::regprocedure, 'pgmqd.app_execute(text)'::regprocedure, 'pgmqd.app_row(anyelement)'::regprocedure)
    LOOP
      EXECUTE format('GRANT CREATE ON SCHEMA pgmqd TO %I', app);
      EXECUTE format('ALTER FUNCTION %s OWNER TO %I', f, app);
      EXECUTE format('REVOKE CREATE ON SCHEMA pgmqd FROM %I', app);
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, (SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'pgmqd'));
    END LOOP;
  EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
      NULL; -- somebody made it at the same time, for another database
    WHEN insufficient_privilege THEN
      problem := format('it cannot be made or used by role %s (%s), so the application''s triggers run with the rights of that role', current_user, SQLERRM);
      remedy := format('as a superuser: %sGRANT %I TO %I; then %s', CASE WHEN to_regrole(app) IS NULL THEN format('CREATE ROLE %I NOLOGIN; ', app) ELSE '' END,
        app, current_user, again);
      RETURN NEXT;
      RETURN;
  END;
  FOR t IN SELECT c.oid::regclass AS name, c.oid, c.relrowsecurity AND c.relkind <> 'v' AS secured, n.nspname, x.*
    FROM (SELECT pgmqd.app_of(thing) AS tab, k.reads, k.sets FROM unnest(ARRAY['checkup', 'appointment', 'payment', 'person', 'account']) thing,
        LATERAL (SELECT array_agg(DISTINCT k.name::text) AS reads, array_agg(k.name::text) FILTER (WHERE thing NOT IN ('person', 'account')
          AND (k.field = 'status' OR thing = 'payment' AND k.field = 'paid_at')) AS sets FROM pgmqd.app_columns(thing, false) k) k) x
      JOIN pg_class c ON c.oid = x.tab JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid <> coalesce(to_regclass('auth.users'), 0)
  LOOP
    BEGIN
      IF NOT has_schema_privilege(app, t.nspname, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', t.nspname, app);
      END IF;
      PERFORM pgmqd.grant_missing(t.name, app, 'SELECT', t.reads), pgmqd.grant_missing(t.name, app, 'UPDATE', coalesce(t.sets, '{}'));
      IF t.secured AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = t.oid AND polname = app) THEN
        EXECUTE format('CREATE POLICY %I ON %s TO %I USING (true) WITH CHECK (true)', app, t.name, app);
      END IF;
      IF EXISTS (SELECT FROM unnest(t.reads) r WHERE NOT has_column_privilege(app, t.oid, r, 'SELECT')) THEN
        RAISE insufficient_privilege USING MESSAGE = format('role %s may not give rights on it', current_user);
      END IF;
    EXCEPTION WHEN insufficient_privilege OR lock_not_available THEN
      IF SQLSTATE = '55P03' AND current_setting('pgmqd.migrating', true) = 'on' THEN
        RAISE; -- pgmqd migrate tries it all again
      END IF;
      problem := format('it cannot work on %s: %s', t.name, SQLERRM);
      remedy := format('as its owner: GRANT USAGE ON SCHEMA %I TO %I; GRANT SELECT (%s) ON %s TO %I%s%s', t.nspname, app,
        (SELECT string_agg(quote_ident(r), ', ') FROM unnest(t.reads) r), t.name, app,
        (SELECT format('; GRANT UPDATE (%s) ON %s TO %I', string_agg(quote_ident(r), ', '), t.name, app) FROM unnest(t.sets) r HAVING count(*) > 0),
        CASE WHEN t.secured THEN format('; CREATE POLICY %I ON %s TO %I USING (true) WITH CHECK (true)', app, t.name, app) ELSE '' END);
      RETURN NEXT;
    END;
  END LOOP;
END $f$;

DO $$ BEGIN PERFORM pgmqd.restrict_functions(); END $$;

RESET search_path;
