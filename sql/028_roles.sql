-- 028_roles.sql: roles and their rights: for the daemon, to migrate, to enqueue, to watch, to operate, for the mail server.
--
--   pgmqd            what the daemon logs in as: claims and settles messages of attached queues; calls the functions listed below
--   pgmqd_migrator   for `pgmqd migrate`, in place of a superuser; the role that migrates first owns everything that is made here
--   pgmqd_enqueuer   may call pgmqd.submit(), and nothing else
--   pgmqd_monitor    may count and date messages, and see when schedules ran; reads no message, and no text of an error
--   pgmqd_operator   what `pgmqd status`, pause, resume, send, tail, dlq and schedule need; reads messages
--   pgmqd_mailer     may call pgmqd.record_bounce(), and nothing else: for the mail server that pipes bounces in
-- All but the first cannot log in: they are granted to roles that can. What the daemon does to the application's tables it
-- does by functions with the rights of their owner (SECURITY DEFINER), so that it needs no right on those tables.

SET search_path = pg_catalog, pg_temp;

-- ---- a way in for enqueuers ----

-- Puts one message into an attached queue and returns its number; delay in seconds. It takes no headers and no job_id, which the dispatcher
-- goes by. A key (of two mails with one key only the first is sent) gets the caller's role in front, so that nobody uses up another's:
-- the role that he has SET, or the one that he logged in as. Where its name has a slash, "a/b" and the key "c" are not "a" and the key "b/c".
CREATE OR REPLACE FUNCTION pgmqd.submit(queue text, message jsonb, delay integer DEFAULT 0) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  problem text := CASE
    WHEN jsonb_typeof(message) IS DISTINCT FROM 'object' THEN 'the message must be a JSON object'
    WHEN message ? 'job_id' THEN 'a message with a job_id comes from pgmqd.start_job() only'
    WHEN octet_length(message::text) > 65536
      THEN format('the message has %s bytes, and 65536 is the most', octet_length(message::text))
    WHEN delay NOT BETWEEN 0 AND 31536000 THEN 'the delay must be from 0 to 31536000 seconds, a year' END;
BEGIN
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'submit: %', problem USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF pgmqd.attached_table(submit.queue) IS NULL THEN
    RAISE EXCEPTION 'submit: there is no such queue, or it is not attached' USING ERRCODE = 'undefined_object';
  END IF;
  RETURN pgmqd.enqueue(submit.queue, submit.message || CASE WHEN message->>'key' IS NULL THEN '{}'
    ELSE jsonb_build_object('key', replace(replace(coalesce(nullif(current_setting('role'), 'none'), session_user), '%', '%25'), '/', '%2F') || '/' || (message->>'key')) END,
    submit.delay);
END $f$;

-- ---- the rights ----

-- Grants a privilege on those of the columns that the table has and that lack it (NULL: on the table); what is there
-- already granted is left alone, so that a second run writes nothing.
CREATE OR REPLACE FUNCTION pgmqd.grant_missing(target regclass, role text, privilege text, columns text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  lacking text;
BEGIN
  IF target IS NULL OR to_regrole(quote_ident(role)) IS NULL THEN
    RETURN;
  END IF;
  IF columns IS NULL THEN
    IF NOT has_table_privilege(role, target, privilege) THEN
      EXECUTE format('GRANT %s ON TABLE %s TO %I', privilege, target, role);
    END IF;
    RETURN;
  END IF;
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO lacking FROM pg_attribute
  WHERE attrelid = target AND attname = ANY (columns) AND NOT attisdropped
    AND NOT has_column_privilege(role, attrelid, attnum, privilege);
  IF lacking IS NOT NULL THEN
    EXECUTE format('GRANT %s (%s) ON TABLE %s TO %I', privilege, lacking, target, role);
  END IF;
END $f$;

-- The table of that name in schema pgmq; NULL where there is none, or a view in its place.
CREATE OR REPLACE FUNCTION pgmqd.table_named(name text) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT c.oid FROM pg_class c WHERE c.oid = to_regclass(format('pgmq.%I', name)) AND c.relkind IN ('r', 'p')
$f$;

-- The rights on one queue, its archive and its dead-letter queue: those of the daemon and of who watches. pgmqd.attach_queue() calls it.
CREATE OR REPLACE FUNCTION pgmqd.grant_queue(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  living regclass := pgmqd.table_named('q_' || lower(name));
  archive regclass := pgmqd.table_named('a_' || lower(name));
  dead regclass := pgmqd.table_named('q_' || lower(pgmqd.dlq_name(name)));
  figures CONSTANT text[] := ARRAY['msg_id', 'read_ct', 'enqueued_at', 'vt', 'last_read_at', 'archived_at'];
  t regclass;
  numbers regclass;
BEGIN
  PERFORM pgmqd.grant_missing(living, 'pgmqd', 'SELECT'),
    pgmqd.grant_missing(living, 'pgmqd', 'DELETE'),
    pgmqd.grant_missing(living, 'pgmqd', 'UPDATE', ARRAY['vt', 'read_ct', 'last_read_at', 'headers']),
    pgmqd.grant_missing(living, 'pgmqd', 'INSERT'), -- what replaces a message
    pgmqd.grant_missing(archive, 'pgmqd', 'INSERT'), -- whole tables, for an update of pgmq adds columns
    pgmqd.grant_missing(archive, 'pgmqd', 'SELECT', ARRAY['msg_id', 'read_ct', 'enqueued_at', 'vt']),
    pgmqd.grant_missing(dead, 'pgmqd', 'INSERT'),
    pgmqd.grant_missing(dead, 'pgmqd', 'SELECT', figures || ARRAY['headers']);
  FOREACH t IN ARRAY ARRAY[living, archive, dead] LOOP
    CONTINUE WHEN t IS NULL;
    -- a queue that a superuser has made is none of our functions' owner, and they work with his rights
    PERFORM pgmqd.grant_missing(t, pg_get_userbyid(n.nspowner), p) FROM pg_namespace n, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p WHERE n.nspname = 'pgmqd';
    PERFORM pgmqd.grant_missing(t, 'pgmqd_monitor', 'SELECT', figures), pgmqd.grant_missing(t, 'pgmqd_operator', 'SELECT', figures);
    numbers := pg_get_serial_sequence(t::text, 'msg_id')::regclass;
    IF to_regrole('pgmqd_monitor') IS NOT NULL AND NOT has_sequence_privilege('pgmqd_monitor', numbers, 'SELECT') THEN
      EXECUTE format('GRANT SELECT ON SEQUENCE %s TO pgmqd_monitor', numbers);
    END IF;
    -- after some restores the numbers are a plain DEFAULT nextval(), which needs a right of its own
    IF to_regrole('pgmqd') IS NOT NULL AND t IS DISTINCT FROM archive AND NOT has_sequence_privilege('pgmqd', numbers, 'USAGE')
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = t AND attname = 'msg_id' AND attidentity = '') THEN
      EXECUTE format('GRANT USAGE ON SEQUENCE %s TO pgmqd', numbers);
    END IF;
    -- pgmq lets pg_monitor read messages; counting and dating them is enough
    IF EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = t AND a.grantee = 'pg_monitor'::regrole
               AND a.privilege_type = 'SELECT') THEN
      EXECUTE format('REVOKE SELECT ON TABLE %s FROM pg_monitor', t);
      PERFORM pgmqd.grant_missing(t, 'pg_monitor', 'SELECT', figures);
    END IF;
    -- where row security is switched on, now or later, the daemon must not find its queues empty
    IF to_regrole('pgmqd') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = t AND polname = 'pgmqd') THEN
      EXECUTE format('CREATE POLICY pgmqd ON %s TO pgmqd USING (true) WITH CHECK (true)', t);
    END IF;
  END LOOP;
END $f$;

-- Takes those rights back. pgmqd.detach_queue() calls it.
CREATE OR REPLACE FUNCTION pgmqd.revoke_queue(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  t regclass;
BEGIN
  FOREACH t IN ARRAY ARRAY[pgmqd.table_named('q_' || lower(name)), pgmqd.table_named('a_' || lower(name)), pgmqd.table_named('q_' || lower(pgmqd.dlq_name(name)))] LOOP
    CONTINUE WHEN t IS NULL OR to_regrole('pgmqd') IS NULL;
    EXECUTE format('REVOKE ALL ON TABLE %s FROM pgmqd', t);
    EXECUTE format('DROP POLICY IF EXISTS pgmqd ON %s', t);
  END LOOP;
END $f$;

-- Lets a role see all rows of a table, should it have row security now or later.
CREATE OR REPLACE FUNCTION pgmqd.let_see(name text, role text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  t regclass := to_regclass(name);
BEGIN
  IF (SELECT c.relrowsecurity OR pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = t)
    AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = t AND polname = role) THEN
    EXECUTE format('CREATE POLICY %I ON %s TO %I USING (true) WITH CHECK (true)', role, t, role);
  END IF;
END $f$;

-- ---- the roles ----

-- Makes the roles that are missing, where the caller may, and grants them what they need; only changes are written. Returns what
-- one row for each problem that an administrator has to solve. `pgmqd migrate` calls it at its end.
CREATE OR REPLACE FUNCTION pgmqd.connect_roles() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  roles CONSTANT text[][] := ARRAY[ARRAY['pgmqd', 'LOGIN NOINHERIT'], ARRAY['pgmqd_migrator', 'NOLOGIN'],
    ARRAY['pgmqd_enqueuer', 'NOLOGIN'], ARRAY['pgmqd_monitor', 'NOLOGIN'], ARRAY['pgmqd_operator', 'NOLOGIN'], ARRAY['pgmqd_mailer', 'NOLOGIN']];
  again CONSTANT text := 'SELECT * FROM pgmqd.connect_roles(), or pgmqd migrate again';
  missing text[] := '{}';
  statements text[] := '{}';
  r text[];
  q record;
BEGIN
  FOREACH r SLICE 1 IN ARRAY roles LOOP
    CONTINUE WHEN to_regrole(r[1]) IS NOT NULL;
    BEGIN
      EXECUTE format('CREATE ROLE %I %s', r[1], r[2]);
      IF r[1] = 'pgmqd' THEN -- the daemon's statements name every schema, and none of its transactions waits
        EXECUTE 'ALTER ROLE pgmqd SET search_path = ''''';
        EXECUTE 'ALTER ROLE pgmqd SET idle_in_transaction_session_timeout = ''10s''';
      END IF;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN
        NULL; -- somebody made it at the same time, for another database
      WHEN insufficient_privilege THEN
        missing := missing || r[1];
        statements := statements || format('CREATE ROLE %I %s;%s', r[1], r[2], CASE r[1] WHEN 'pgmqd'
          THEN ' ALTER ROLE pgmqd SET search_path = ''''; ALTER ROLE pgmqd SET idle_in_transaction_session_timeout = ''10s'';' ELSE '' END);
    END;
  END LOOP;
  IF missing <> '{}' THEN
    item := 'role ' || array_to_string(missing, ', ');
    problem := format('missing, and role %s may not make roles; until then the daemon logs in as the owner', current_user);
    remedy := format('as a superuser: %s then %s', array_to_string(statements, ' '), again);
    RETURN NEXT;
  END IF;
  FOR r IN SELECT ARRAY[rolname::text, CASE WHEN rolsuper THEN 'a superuser' WHEN rolbypassrls THEN 'exempt from row security'
      WHEN oid = (SELECT nspowner FROM pg_namespace WHERE nspname = 'pgmqd') THEN 'the owner of schema pgmqd' END]
    FROM pg_roles WHERE rolname = 'pgmqd'
  LOOP
    IF r[2] IS NOT NULL THEN
      item := 'role pgmqd';
      problem := format('it is %s, so that the daemon may do more than its job', r[2]);
      remedy := 'ALTER ROLE pgmqd NOSUPERUSER NOBYPASSRLS; have another role own what pgmqd migrate makes (REASSIGN OWNED)';
      RETURN NEXT;
    END IF;
  END LOOP;

  -- each part by itself: one right that our role cannot grant must not prevent the others
  FOREACH r SLICE 1 IN ARRAY roles LOOP
    CONTINUE WHEN to_regrole(r[1]) IS NULL;
    BEGIN
      IF r[1] = 'pgmqd_migrator' THEN
        IF NOT has_database_privilege(r[1], current_database(), 'CREATE') THEN
          EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), r[1]);
        END IF;
        IF NOT has_schema_privilege(r[1], 'public', 'CREATE') THEN
          EXECUTE format('GRANT USAGE, CREATE ON SCHEMA public TO %I', r[1]);
        END IF;
        CONTINUE;
      END IF;
      IF NOT has_schema_privilege(r[1], 'pgmqd', 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA pgmqd TO %I', r[1]);
      END IF;
      PERFORM pgmqd.grant_calls(r[1]);
      IF r[1] = 'pgmqd' THEN
        PERFORM pgmqd.grant_missing('pgmqd.refunds', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.refunds', r[1], 'INSERT'),
          pgmqd.grant_missing('pgmqd.refunds', r[1], 'UPDATE', ARRAY['n', 'read_ct']), pgmqd.grant_missing(to_regclass('pgmqd.attempts'), r[1], 'INSERT'),
          pgmqd.grant_missing('pgmqd.keys', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.rates', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.rates', r[1], 'INSERT'), pgmqd.grant_missing('pgmqd.rates', r[1], 'UPDATE', ARRAY['spent_until']),
          pgmqd.grant_missing(to_regclass('pgmqd.files_to_erase'), r[1], 'SELECT'), pgmqd.grant_missing(to_regclass('pgmqd.files_to_erase'), r[1], 'DELETE'),
          pgmqd.grant_missing('pgmqd.schedule', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.schedule', r[1], 'UPDATE', ARRAY['next_due']),
          -- for pgmqd doctor, which looks with this role
          pgmqd.grant_missing('pgmqd.schema_version', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.settings', r[1], 'SELECT'),
          pgmqd.grant_missing('pgmqd.trigger_errors', r[1], 'SELECT', ARRAY['id', 'at', 'trigger', 'sqlstate']);
      ELSIF r[1] = 'pgmqd_monitor' THEN
        PERFORM pgmqd.grant_missing('pgmqd.schema_version', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.schedule', r[1], 'SELECT',
            ARRAY['name', 'cron', 'tz', 'runner', 'enabled', 'next_due', 'last_run', 'last_status', 'catch_up', 'max_late', 'taken_over']),
          pgmqd.grant_missing('pgmqd.schedule_runs', r[1], 'SELECT', ARRAY['id', 'name', 'due', 'started_at', 'ended_at', 'status']),
          -- not the text of the error: it may name a person
          pgmqd.grant_missing('pgmqd.trigger_errors', r[1], 'SELECT', ARRAY['id', 'at', 'trigger', 'table', 'sqlstate']);
      END IF;
      IF r[1] = 'pgmqd_operator' THEN
        PERFORM pgmqd.grant_missing('pgmqd.schema_version', r[1], 'SELECT'), pgmqd.grant_missing('pgmqd.schedule', r[1], 'SELECT'),
          pgmqd.grant_missing('pgmqd.schedule_runs', r[1], 'SELECT');
      END IF;
      -- where row security is switched on, now or later, an empty table must not be taken for "no queues"
      IF r[1] IN ('pgmqd', 'pgmqd_monitor', 'pgmqd_operator') THEN
        PERFORM pgmqd.let_see(t, r[1]) FROM unnest(ARRAY['pgmq.meta', 'pgmqd.schema_version', 'pgmqd.refunds', 'pgmqd.attempts', 'pgmqd.rates', 'pgmqd.keys', 'pgmqd.schedule', 'pgmqd.schedule_runs', 'pgmqd.files_to_erase']) t;
      END IF;
      IF r[1] NOT IN ('pgmqd_enqueuer', 'pgmqd_mailer') THEN
        IF NOT has_schema_privilege(r[1], 'pgmq', 'USAGE') THEN
          EXECUTE format('GRANT USAGE ON SCHEMA pgmq TO %I', r[1]);
        END IF;
        PERFORM pgmqd.grant_missing('pgmq.meta', r[1], 'SELECT');
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      item := 'role ' || r[1];
      problem := SQLERRM;
      remedy := format('as who owns it, or as a superuser: %s', again);
      RETURN NEXT;
    END;
  END LOOP;
  FOR q IN SELECT m.queue_name AS name FROM pgmq.meta m JOIN pg_trigger t ON t.tgname = 'pgmqd_wakeup'
      AND t.tgrelid = to_regclass(format('pgmq.%I', 'q_' || lower(m.queue_name)))
  LOOP
    BEGIN
      PERFORM pgmqd.grant_queue(q.name);
    EXCEPTION WHEN insufficient_privilege OR lock_not_available THEN
      IF SQLSTATE = '55P03' AND current_setting('pgmqd.migrating', true) = 'on' THEN
        RAISE; -- pgmqd migrate tries it all again
      END IF;
      item := 'rights on queue ' || q.name;
      problem := SQLERRM;
      remedy := format('as who owns the queue: SELECT pgmqd.grant_queue(%L)', q.name);
      RETURN NEXT;
    END;
  END LOOP;
  -- GRANT ALL gives rights that nobody needs on our tables, and by which others could have our functions run something
  FOR q IN SELECT c.oid::regclass AS tab, a.grantee, a.privilege_type AS privilege FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.relnamespace = 'pgmqd'::regnamespace AND a.privilege_type IN ('TRIGGER', 'REFERENCES') AND pg_has_role(c.relowner, 'USAGE')
      AND (a.grantee = 0 OR NOT pgmqd.trusts(a.grantee))
  LOOP
    EXECUTE format('REVOKE %s ON TABLE %s FROM %s', q.privilege, q.tab, CASE q.grantee WHEN 0 THEN 'PUBLIC' ELSE q.grantee::regrole::text END);
  END LOOP;
  -- a GRANT without the right to grant may pass with no more than a warning
  IF to_regrole('pgmqd') IS NOT NULL AND NOT has_schema_privilege('pgmqd', 'pgmq', 'USAGE') THEN
    item := 'role pgmqd';
    problem := 'it may not use schema pgmq';
    remedy := 'as who owns the schema: GRANT USAGE ON SCHEMA pgmq TO pgmqd, pgmqd_monitor';
    RETURN NEXT;
  END IF;
END $f$;

-- Gives all that pgmqd migrate has made, and the schema pgmq where it is ours, to another role, which must be no superuser.
CREATE OR REPLACE FUNCTION pgmqd.set_owner(role text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  was oid := (SELECT nspowner FROM pg_namespace WHERE nspname = 'pgmqd');
  s record;
BEGIN
  IF (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = role) IS NOT false THEN
    RAISE EXCEPTION 'role "%" does not exist, or is a superuser', role USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOR s IN
    SELECT format('SCHEMA %I', nspname) AS what FROM pg_namespace WHERE nspowner = was AND nspname IN ('pgmqd', 'pgmq')
    UNION ALL SELECT format('FUNCTION %s', p.oid::regprocedure) FROM pg_proc p WHERE p.proowner = was
      AND (p.pronamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace) OR p.pronamespace = 'public'::regnamespace
        AND 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig))
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
    UNION ALL SELECT format('TYPE %s', t.oid::regtype) FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
      WHERE t.typowner = was AND t.typnamespace = 'pgmq'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.classid = 'pg_type'::regclass AND d.deptype = 'e')
    UNION ALL SELECT format('%s %s', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass) FROM pg_class c
      WHERE c.relowner = was AND c.relkind IN ('r', 'p', 'v') AND c.relnamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace)
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
  LOOP
    EXECUTE format('ALTER %s OWNER TO %I', s.what, role);
  END LOOP;
END $f$;

-- The objects that our functions would run with their owner's rights although their owners could not act as him, and the roles that may put
-- such objects into our schemas. pgmqd doctor shows it; there should be none.
CREATE OR REPLACE FUNCTION pgmqd.untrusted_objects() RETURNS TABLE (object text, owner text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT format('function %s', p.oid::regprocedure), pg_get_userbyid(p.proowner)::text FROM pg_proc p
  WHERE p.pronamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace) AND NOT pgmqd.trusts(p.proowner)
    AND p.proowner IS DISTINCT FROM to_regrole('pgmqd_application') -- which has next to no rights, on purpose (034)
  UNION ALL SELECT format('%s %s', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, c.oid::regclass), pg_get_userbyid(c.relowner) FROM pg_class c
  WHERE c.relnamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT pgmqd.trusts(c.relowner)
  UNION ALL SELECT f.object, pg_get_userbyid(f.owner)
  FROM pg_class c, pgmqd.foreign_code(c.oid) f
  WHERE c.relnamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace) AND c.relkind IN ('r', 'p')
  UNION ALL SELECT format('right to create in schema %I', n.nspname), CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END
  FROM pg_namespace n, aclexplode(n.nspacl) a
  WHERE n.nspname IN ('pgmqd', 'pgmq') AND a.privilege_type = 'CREATE' AND (a.grantee = 0 OR NOT pgmqd.trusts(a.grantee))
  UNION ALL SELECT format('right %s on table %s', a.privilege_type, c.oid::regclass), CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END
  FROM pg_class c, aclexplode(c.relacl) a -- a queue's are looked at when it is worked on
  WHERE c.relnamespace = 'pgmqd'::regnamespace AND a.privilege_type IN ('TRIGGER', 'REFERENCES') AND (a.grantee = 0 OR NOT pgmqd.trusts(a.grantee))
  UNION ALL SELECT format('event trigger %I, which runs function %s', e.evtname, e.evtfoid::regprocedure), pg_get_userbyid(p.proowner)::text
  FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid WHERE e.evtenabled <> 'D' AND NOT pgmqd.trusts(p.proowner)
$f$;

-- Connects the parts that exist: the application's tables (032), the schedules, the roles. Returns what somebody has to do. `pgmqd migrate`
-- calls it at its end.
CREATE OR REPLACE FUNCTION pgmqd.connect() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF to_regprocedure('pgmqd.connect_application()') IS NOT NULL THEN
    RETURN QUERY EXECUTE 'SELECT * FROM pgmqd.connect_application()';
  ELSE
    RETURN QUERY SELECT * FROM pgmqd.connect_schedules();
    RETURN QUERY SELECT * FROM pgmqd.connect_roles();
  END IF;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'untrusted_objects');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'untrusted_objects');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'untrusted_objects');
  PERFORM pgmqd.allow_calls('pgmqd_enqueuer', 'submit');
END $$;

-- pgmqd migrate reports this at its end.
DO $$
DECLARE
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect_roles() LOOP
    IF current_setting('pgmqd.migrating', true) IS DISTINCT FROM 'on' THEN
      RAISE NOTICE '%: %; %', missing.item, missing.problem, missing.remedy;
    END IF;
  END LOOP;
END $$;

RESET search_path;
