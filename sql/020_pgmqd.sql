-- 020_pgmqd.sql: schema pgmqd: rights, trust, settings, wake-ups, order, and enqueue.
-- makes: pgmqd.turns pgmqd.own_tables pgmqd.settings pgmqd.role_calls pgmqd.refunds

SET search_path = pg_catalog, pg_temp;

CREATE SCHEMA IF NOT EXISTS pgmqd;
COMMENT ON SCHEMA pgmqd IS 'pgmqd, the dispatcher of the queues in schema pgmq';

-- ---- applied files (pgmqd migrate makes this table, too, and writes it) ----

CREATE TABLE IF NOT EXISTS pgmqd.schema_version (
  file text PRIMARY KEY,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE pgmqd.schema_version ADD COLUMN IF NOT EXISTS version text;
COMMENT ON TABLE pgmqd.schema_version IS 'files of sql/ that pgmqd migrate has applied, with the SHA-256 of each, and by which pgmqd';
-- former names of these files
DELETE FROM pgmqd.schema_version WHERE file IN ('022_mail_log.sql', '023_reports.sql', '024_payments.sql', '026_analytics.sql',
  '028_operate.sql', '029_status.sql', '035_mail_limits.sql', '036_suppression.sql', '037_page.sql');
DROP FUNCTION IF EXISTS pgmqd.role_functions(text);

-- ---- privileges ----

-- Those who get rights by default and must have none here, as a list for REVOKE; Supabase has the last two.
CREATE OR REPLACE FUNCTION pgmqd.strangers() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT string_agg(name, ', ') FROM (SELECT 'PUBLIC' AS name UNION ALL
    SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')) r
$f$;

-- Takes EXECUTE on every function of schema pgmqd, and on the given ones elsewhere, from everybody but the owner;
-- Supabase grants it to anon and authenticated by default. The given ones stay open to service_role where there is one.
CREATE OR REPLACE FUNCTION pgmqd.restrict_functions(VARIADIC functions regprocedure[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  who text := pgmqd.strangers();
  f regprocedure;
BEGIN
  EXECUTE format('REVOKE ALL ON SCHEMA pgmqd FROM %s', who);
  EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA pgmqd FROM %s', who);
  EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgmqd FROM %s', who);
  EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgmqd FROM %s', who);
  FOREACH f IN ARRAY functions LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', f, who);
    CONTINUE WHEN (SELECT prorettype = 'trigger'::regtype FROM pg_proc WHERE oid = f); -- nobody puts our triggers on tables of his own
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO service_role', f);
    END IF;
  END LOOP;
END $f$;

-- Which role may call which functions of schema pgmqd; each file adds its own. A function that the daemon's code calls must be here.
CREATE TABLE IF NOT EXISTS pgmqd.role_calls (
  role text,
  function text,
  PRIMARY KEY (role, function)
);
COMMENT ON TABLE pgmqd.role_calls IS 'which functions of schema pgmqd each role may call; pgmqd.connect_roles() grants them';

-- Lets a role call functions of schema pgmqd, whatever their arguments are. A role that is made later gets the right by connect_roles().
CREATE OR REPLACE FUNCTION pgmqd.allow_calls(role text, VARIADIC functions text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  INSERT INTO pgmqd.role_calls (role, function) SELECT allow_calls.role, f FROM unnest(functions) f ON CONFLICT DO NOTHING;
  PERFORM pgmqd.grant_calls(role);
EXCEPTION WHEN insufficient_privilege THEN
  NULL; -- connect_roles() reports it
END $f$;

-- Grants a role the calls that it lacks.
CREATE OR REPLACE FUNCTION pgmqd.grant_calls(role text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  f record;
BEGIN
  IF to_regrole(quote_ident(role)) IS NULL THEN
    RETURN;
  END IF;
  FOR f IN SELECT p.oid::regprocedure AS name FROM pg_proc p JOIN pgmqd.role_calls c ON c.function = p.proname AND c.role = grant_calls.role
    WHERE p.pronamespace = 'pgmqd'::regnamespace AND NOT has_function_privilege(c.role, p.oid, 'EXECUTE')
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.name, role);
  END LOOP;
END $f$;

-- ---- trust ----

-- A function with the rights of its owner runs the triggers, views and policies of the tables that it works on. So our functions use a
-- table only if an extension has made it, or if its owner could act as our owner anyway.
CREATE OR REPLACE FUNCTION pgmqd.trusts(owner oid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN (SELECT pg_has_role(owner, (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'pgmqd'), 'MEMBER')
      OR coalesce((SELECT r.rolsuper FROM pg_roles r WHERE r.oid = owner), false));
END $f$;

-- What of others runs when a table is worked on, or a partition of it, or a table whose foreign key follows it: functions behind triggers, indexes,
-- defaults, constraints, policies and rules, operators and types. GRANT ALL gives the rights TRIGGER and REFERENCES: whoever has them can make a
-- trigger on a table of somebody else's, or a table of his own whose rows, and triggers, go with the rows of that one (ON DELETE CASCADE).
CREATE OR REPLACE FUNCTION pgmqd.foreign_code(target regclass) RETURNS TABLE (object text, owner oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN QUERY WITH RECURSIVE tabs AS (SELECT c.oid, c.relowner, NULL::text AS how FROM pg_class c WHERE c.oid = target
      UNION SELECT c.oid, c.relowner, x.how FROM tabs t CROSS JOIN LATERAL (SELECT i.inhrelid, 'partition %s' FROM pg_inherits i WHERE i.inhparent = t.oid
        UNION ALL SELECT k.conrelid, 'table %s, which refers to it' FROM pg_trigger g JOIN pg_constraint k ON k.oid = g.tgconstraint
          WHERE g.tgrelid = t.oid AND k.contype = 'f' AND k.confrelid = t.oid) x (oid, how) JOIN pg_class c ON c.oid = x.oid)
    SELECT format(t.how, t.oid::regclass), t.relowner FROM tabs t WHERE t.how IS NOT NULL AND NOT pgmqd.trusts(t.relowner)
    UNION ALL SELECT format('%s, which runs %s', pg_describe_object(d.classid, d.objid, 0), pg_describe_object(e.refclassid, e.refobjid, 0)), x.owner
    FROM tabs t -- by the indexes of pg_depend, in this order: OFFSET 0; a and i: what belongs to the table, not what only mentions it
    CROSS JOIN LATERAL (SELECT DISTINCT d.classid, d.objid FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype IN ('a', 'i')
      AND d.classid IN ('pg_trigger'::regclass, 'pg_class'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_policy'::regclass,
        'pg_statistic_ext'::regclass, 'pg_rewrite'::regclass) OFFSET 0) d
    CROSS JOIN LATERAL (SELECT e.refclassid, e.refobjid FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid
      AND e.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass) OFFSET 0) e
    CROSS JOIN LATERAL (SELECT CASE e.refclassid WHEN 'pg_proc'::regclass THEN (SELECT p.proowner FROM pg_proc p WHERE p.oid = e.refobjid)
      WHEN 'pg_operator'::regclass THEN (SELECT o.oprowner FROM pg_operator o WHERE o.oid = e.refobjid)
      ELSE (SELECT o.opcowner FROM pg_opclass o WHERE o.oid = e.refobjid) END OFFSET 0) x (owner)
    WHERE x.owner <> t.relowner AND NOT pgmqd.trusts(x.owner)
    UNION ALL SELECT format('column %I of %s, of type %s', a.attname, t.oid::regclass, a.atttypid::regtype), y.typowner
    FROM tabs t CROSS JOIN LATERAL (SELECT * FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384 OFFSET 0) a
    JOIN pg_type y ON y.oid = a.atttypid WHERE y.typowner <> t.relowner AND NOT pgmqd.trusts(y.typowner);
END $f$;

-- The table of that name if it belongs to the extension, and nothing of others runs on it; else NULL.
CREATE OR REPLACE FUNCTION pgmqd.extension_table(name text, extension text) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT d.objid::regclass FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = extension
  WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass(name) AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    AND NOT EXISTS (SELECT FROM pgmqd.foreign_code(d.objid))
$f$;

-- Tables of the owner of schema pgmqd with nothing odd about them, as pgmq makes them: a few looks into indexes tell that nothing of others runs on them.
-- A part of a statement, since a function more would cost an enqueue with a unique key several times what this does.
CREATE OR REPLACE VIEW pgmqd.own_tables AS
  SELECT c.oid::regclass AS name FROM (SELECT n.nspowner AS us FROM pg_namespace n WHERE n.nspname = 'pgmqd') o, pg_class c
  WHERE c.relkind = 'r' AND c.relowner = o.us AND NOT c.relhassubclass AND NOT c.relhasrules
    AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid >= 16384)
    AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgisinternal)
    AND NOT EXISTS (SELECT FROM pg_depend d CROSS JOIN LATERAL (SELECT e.refclassid, e.refobjid FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid
        AND e.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass) OFFSET 0) e
      WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype IN ('a', 'i')
        AND (e.refclassid <> 'pg_proc'::regclass OR (SELECT p.proowner FROM pg_proc p WHERE p.oid = e.refobjid) <> o.us));

-- Whether a table is worked on with our rights: its owner is trusted, and nothing of others runs on it. In plpgsql, which keeps the plan.
CREATE OR REPLACE FUNCTION pgmqd.is_trusted(target regclass) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN EXISTS (SELECT FROM pgmqd.own_tables t WHERE t.name = target)
    OR EXISTS (SELECT FROM pg_class c WHERE c.oid = target AND c.relkind IN ('r', 'p') AND pgmqd.trusts(c.relowner) AND NOT EXISTS (SELECT FROM pgmqd.foreign_code(c.oid)));
END $f$;

-- A table of a queue (kind q, its messages, or a, its archive) that is trusted, else NULL.
CREATE OR REPLACE FUNCTION pgmqd.queue_table(kind text, queue text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  target regclass := to_regclass(format('pgmq.%I', kind || '_' || lower(queue)));
BEGIN
  RETURN CASE WHEN pgmqd.is_trusted(target) THEN target END;
END $f$;

-- Says why pgmqd.queue_table() does not give a table that is there.
CREATE OR REPLACE FUNCTION pgmqd.refuse_queue(kind text, queue text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  target regclass := to_regclass(format('pgmq.%I', kind || '_' || lower(queue)));
  found record;
BEGIN
  SELECT f.object, quote_ident(pg_get_userbyid(f.owner)) AS owner INTO found FROM pgmqd.foreign_code(target) f ORDER BY f.object NOT LIKE 'trigger %' LIMIT 1;
  IF (SELECT pgmqd.trusts(c.relowner) FROM pg_class c WHERE c.oid = target) AND found.object IS NOT NULL THEN
    RAISE EXCEPTION 'queue "%" is not worked on with our rights: %, of role %, which could not act as the owner of schema pgmqd', queue, found.object, found.owner USING ERRCODE = 'insufficient_privilege',
      HINT = 'Drop it, or give the function to the owner of schema pgmqd';
  END IF;
  RAISE EXCEPTION 'queue "%" belongs to a role that could not act as the owner of schema pgmqd', queue USING ERRCODE = 'insufficient_privilege', HINT = 'ALTER TABLE … OWNER TO the owner of schema pgmqd';
END $f$;

-- The name of a queue, for calls of pgmq with our rights. Error 42501: one of its tables belongs to a role that could put a view in its place, or
-- something of others runs on it.
CREATE OR REPLACE FUNCTION pgmqd.trusted_queue(queue text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM pgmqd.refuse_queue(kind, queue) FROM unnest(ARRAY['q', 'a']) kind
  WHERE to_regclass(format('pgmq.%I', kind || '_' || lower(queue))) IS NOT NULL AND pgmqd.queue_table(kind, queue) IS NULL;
  RETURN queue;
END $f$;

-- The table of a queue that is attached, else NULL. What the daemon's role may call puts messages into such queues only.
CREATE OR REPLACE FUNCTION pgmqd.attached_table(queue text) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT t.tgrelid::regclass FROM pg_trigger t WHERE t.tgrelid = pgmqd.queue_table('q', queue) AND t.tgname = 'pgmqd_wakeup'
$f$;

-- ---- settings ----

CREATE OR REPLACE FUNCTION pgmqd.is_time_zone(name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM now() AT TIME ZONE name;
  RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN false;
END $f$;

CREATE TABLE IF NOT EXISTS pgmqd.settings (
  name text PRIMARY KEY,
  value text,
  default_value text,
  description text NOT NULL,
  CONSTRAINT time_zone_exists CHECK (name <> 'time_zone' OR value IS NULL OR pgmqd.is_time_zone(value)),
  CONSTRAINT language_has_templates CHECK (name <> 'default_lang' OR value IN ('ru', 'en'))
);
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'pgmqd.settings'::regclass AND attname = 'default_value' AND attnotnull) THEN
    ALTER TABLE pgmqd.settings ALTER COLUMN default_value DROP NOT NULL;
  END IF;
END $$;
COMMENT ON TABLE pgmqd.settings IS 'what SQL has to know; set value to change one, or to NULL for the default';

INSERT INTO pgmqd.settings AS s (name, default_value, description) VALUES
  ('app_url', NULL, 'address of the application, for the links in mails; where it is not set, brand_app_url of the dispatcher''s settings'),
  ('support_email', NULL, 'address for questions, named in mails; where it is not set, brand_support_email of the dispatcher''s settings'),
  ('default_lang', 'ru', 'language of a mail (ru or en) when the person has chosen none'),
  ('time_zone', 'Europe/Moscow', 'IANA time zone of the dates in mails, and of times that have none'),
  ('channel', 'pgmqd', 'NOTIFY channel; must be the dispatcher''s, too, and takes effect when a queue is attached')
ON CONFLICT (name) DO UPDATE SET default_value = excluded.default_value, description = excluded.description
WHERE (s.default_value, s.description) IS DISTINCT FROM (excluded.default_value, excluded.description);

-- The value of a setting, or its default; NULL when there is no setting of that name.
CREATE OR REPLACE FUNCTION pgmqd.setting(name text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN (SELECT coalesce(s.value, s.default_value) FROM pgmqd.settings s WHERE s.name = $1);
END $f$;

-- A time as JSON shows it: UTC, "2026-05-05T12:00:00Z".
CREATE OR REPLACE FUNCTION pgmqd.iso_time(at timestamptz) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
END $f$;

-- ---- wake-ups ----

-- Wakes the dispatcher for a queue, unless it is awake and will look anyway. Arguments: the queue's name as in pgmq.meta, the channel, and
-- the share of the notification queue above which nothing is notified (default 0.5). It runs once for each INSERT (where the queue is
-- partitioned for each row, as only such triggers are on the partitions, too), and for each row that an UPDATE makes due earlier. An error
-- in here must not fail the application's statement: the dispatcher also polls.
--
-- Every commit with a NOTIFY takes one lock of the whole cluster, so a busy queue does without: a worker that is busy holds
-- the advisory lock (table, -2), "awake", exclusively. An enqueue first shares (table, -1), "in flight", until its transaction ends,
-- then tries to share "awake" for a moment: if it cannot, the worker is awake. (It must not keep it for longer: with some producers
-- always waiting for the cluster's lock, the worker could never take it.) Before a worker sleeps it gives "awake" up, must once get
-- "in flight" exclusively, and looks a last time; so it sees every message that was enqueued silently. All of it is try only:
-- a producer never waits here. The order of the two tries matters, hence two statements.
--
-- Where the notification queue is full, every commit with a NOTIFY fails. So nothing is notified long before; workers see the same share
-- and poll.
CREATE OR REPLACE FUNCTION pgmqd.wakeup() RETURNS trigger
LANGUAGE plpgsql AS $f$
DECLARE
  key integer;
BEGIN
  IF TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN
    key := TG_RELID::integer;
  ELSE -- TG_RELID may be a partition; and one row of a transaction wakes for all of them
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND pg_catalog.current_setting('pgmqd.worker', true) OPERATOR(pg_catalog.=) 'on' THEN
      RETURN NULL; -- the dispatcher knows what it brings forward itself
    END IF;
    IF pg_catalog.current_setting('pgmqd.woken', true) OPERATOR(pg_catalog.=) TG_ARGV[0] THEN
      RETURN NULL;
    END IF;
    PERFORM pg_catalog.set_config('pgmqd.woken', TG_ARGV[0], true);
    key := pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.concat('q_', pg_catalog.lower(TG_ARGV[0]))))::pg_catalog.oid::integer;
  END IF;
  IF pg_catalog.pg_try_advisory_xact_lock_shared(key, -1) THEN
    IF NOT (CASE WHEN pg_catalog.pg_try_advisory_lock_shared(key, -2)
      THEN pg_catalog.pg_advisory_unlock_shared(key, -2) ELSE false END) THEN
      RETURN NULL;
    END IF;
  END IF;
  IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) coalesce(TG_ARGV[2], '0.5')::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify(TG_ARGV[1], TG_ARGV[0]);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $f$;

-- Notifications that wait for the end of their transaction: PREPARE TRANSACTION refuses one that has notified already. A row that is left
-- is of a transaction that was prepared and then committed.
CREATE UNLOGGED TABLE IF NOT EXISTS pgmqd.wakeups (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  channel text NOT NULL,
  queue text NOT NULL
);
COMMENT ON TABLE pgmqd.wakeups IS 'notifications that wait for the end of their transaction, where max_prepared_transactions is not 0';

-- Does the same as wakeup() where transactions can be prepared: the notification waits for the transaction's end.
CREATE OR REPLACE FUNCTION pgmqd.wakeup_at_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  key int4;
BEGIN
  IF TG_LEVEL = 'STATEMENT' THEN
    key := TG_RELID::int4;
  ELSIF TG_OP = 'UPDATE' AND current_setting('pgmqd.worker', true) = 'on' THEN
    RETURN NULL;
  ELSE
    key := to_regclass(format('pgmq.%I', 'q_' || lower(TG_ARGV[0])))::oid::int4;
  END IF;
  IF current_setting('pgmqd.woken', true) = TG_ARGV[0] THEN
    RETURN NULL;
  END IF;
  PERFORM set_config('pgmqd.woken', TG_ARGV[0], true);
  IF pg_try_advisory_xact_lock_shared(key, -1) THEN
    IF NOT (CASE WHEN pg_try_advisory_lock_shared(key, -2) THEN pg_advisory_unlock_shared(key, -2) ELSE false END) THEN
      RETURN NULL;
    END IF;
  END IF;
  IF pg_notification_queue_usage() < coalesce(TG_ARGV[2], '0.5')::float8 THEN
    INSERT INTO pgmqd.wakeups (channel, queue) VALUES (TG_ARGV[1], TG_ARGV[0]);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $f$;

-- The end of such a transaction: it notifies, unless it is being prepared: then the row stays, for notify_prepared(). Comments may stand
-- anywhere, so the words are enough: where they are those of a message, its notification comes a second later.
CREATE OR REPLACE FUNCTION pgmqd.wakeup_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF coalesce(current_query(), '') !~* '\mprepare\M.*\mtransaction\M' THEN
    DELETE FROM pgmqd.wakeups w WHERE w.id = NEW.id;
    PERFORM pg_notify(NEW.channel, NEW.queue);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $f$;

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = 'pgmqd.wakeups'::regclass AND tgname = 'pgmqd_ended') THEN
    CREATE CONSTRAINT TRIGGER pgmqd_ended AFTER INSERT ON pgmqd.wakeups DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION pgmqd.wakeup_ended();
  END IF;
END $$;

-- Notifies for transactions that were prepared and are committed now, since COMMIT PREPARED itself runs no trigger; the listener calls it
-- every second. Returns how many notifications there were; none while more than that share of the notification queue is in use.
DROP FUNCTION IF EXISTS pgmqd.notify_prepared();
CREATE OR REPLACE FUNCTION pgmqd.notify_prepared(share float8 DEFAULT 0.5) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  WITH gone AS (DELETE FROM pgmqd.wakeups WHERE pg_notification_queue_usage() < share
    AND id IN (SELECT w.id FROM pgmqd.wakeups w FOR UPDATE SKIP LOCKED) RETURNING channel, queue)
  SELECT count(pg_notify(g.channel, g.queue)::text) FROM (SELECT DISTINCT channel, queue FROM gone) g
$f$;

-- A queue's name as pgmq.meta spells it: as given, else the one that shares its table. NULL: there is no such queue.
CREATE OR REPLACE FUNCTION pgmqd.stored_name(queue text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT m.queue_name FROM pgmq.meta m WHERE lower(m.queue_name) = lower(queue) ORDER BY m.queue_name <> queue LIMIT 1
$f$;

-- The triggers that wake the dispatcher for a queue, as pg_get_triggerdef() shows them: one for new rows, one for rows that become due
-- earlier than they were. The second one's condition is read anew for each claim, so it is short.
DROP FUNCTION IF EXISTS pgmqd.wakeup_triggers(text);
CREATE OR REPLACE FUNCTION pgmqd.wakeup_triggers(stored text, queue_table regclass) RETURNS TABLE (name text, level text, definition text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT t.name, t.level, format('TRIGGER %s AFTER %s ON %s FOR EACH %s%s EXECUTE FUNCTION pgmqd.%s(''%s'', ''%s'')', t.name, t.event, queue_table,
    t.level, t.condition, CASE WHEN current_setting('max_prepared_transactions') = '0' THEN 'wakeup' ELSE 'wakeup_at_end' END,
    replace(stored, '''', ''''''), replace(pgmqd.setting('channel'), '''', ''''''))
  FROM (SELECT 'pgmqd_wakeup', 'INSERT', CASE c.relkind WHEN 'p' THEN 'ROW' ELSE 'STATEMENT' END, '' FROM pg_class c WHERE c.oid = queue_table
    UNION ALL SELECT 'pgmqd_wakeup_earlier', 'UPDATE OF vt', 'ROW', ' WHEN ((new.vt < old.vt))') t (name, event, level, condition)
$f$;

-- No lock on a queue in use is waited for with its traffic behind: after a quarter of a second it is an error, and may be tried again.
-- Makes the dispatcher hear of new messages of a queue, and gives its role the rights on them. True when the first was news; it may be
-- called any number of times.
CREATE OR REPLACE FUNCTION pgmqd.attach_queue(name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' SET standard_conforming_strings = on AS $f$
DECLARE
  stored text := pgmqd.stored_name(name);
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
  t record;
  news boolean := false;
BEGIN
  IF stored IS NULL OR queue_table IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', name
      USING ERRCODE = 'undefined_object', HINT = format('Create it first: SELECT pgmq.create(%L)', name);
  END IF;
  IF to_regprocedure('pgmqd.grant_queue(text)') IS NOT NULL THEN -- 028; while it is not applied there are no roles
    PERFORM pgmqd.grant_queue(stored);
  END IF;
  FOR t IN SELECT w.*, g.oid IS NOT NULL AND (g.tgtype & 1 = 1) <> (w.level = 'ROW') AS other_level
      FROM pgmqd.wakeup_triggers(stored, queue_table) w LEFT JOIN pg_trigger g ON g.tgrelid = queue_table AND g.tgname = w.name
      -- no lock on a queue in use unless something has to change
      WHERE g.oid IS NULL OR g.tgenabled = 'D' OR pg_get_triggerdef(g.oid) <> 'CREATE ' || w.definition
  LOOP
    IF t.other_level THEN -- CREATE OR REPLACE would leave a row trigger on the partitions
      EXECUTE format('DROP TRIGGER %s ON %s', t.name, queue_table);
    END IF;
    EXECUTE 'CREATE OR REPLACE ' || t.definition;
    news := true;
  END LOOP;
  RETURN news;
END $f$;

-- Takes the wake-ups of a queue away; its messages are then found by the fallback poll only. True when there were any.
CREATE OR REPLACE FUNCTION pgmqd.detach_queue(name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = queue_table AND tgname IN ('pgmqd_wakeup', 'pgmqd_wakeup_earlier')) THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TRIGGER IF EXISTS pgmqd_wakeup ON %s', queue_table);
  EXECUTE format('DROP TRIGGER IF EXISTS pgmqd_wakeup_earlier ON %s', queue_table);
  PERFORM pgmqd.revoke_queue(name);
  RETURN true;
END $f$;

-- ---- order ----

-- Makes or drops an index of a queue's table; the dispatcher finds it by its name. True when something changed.
CREATE OR REPLACE FUNCTION pgmqd.index_queue(name text, what text, columns text, wanted boolean) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  index_name text := 'q_' || lower(name) || '_' || what || '_idx';
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
BEGIN
  IF queue_table IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', name
      USING ERRCODE = 'undefined_object', HINT = format('Create it first: SELECT pgmq.create(%L)', name);
  END IF;
  -- no lock on a queue in use unless something has to change
  IF wanted = (to_regclass(format('pgmq.%I', index_name)) IS NOT NULL) THEN
    RETURN false;
  ELSIF wanted THEN
    EXECUTE format('CREATE INDEX %I ON %s (%s)', index_name, queue_table, columns);
  ELSE
    EXECUTE format('DROP INDEX pgmq.%I', index_name);
  END IF;
  RETURN true;
END $f$;

-- Makes the dispatcher deliver a queue's messages by the number in "priority", the highest first, across all that wait. It takes an index
-- that every message has to pass, so it is only for queues that ask for it; wanted = false takes it away again.
CREATE OR REPLACE FUNCTION pgmqd.prioritize_queue(name text, wanted boolean DEFAULT true) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.index_queue(name, 'priority', $$(CASE WHEN pg_catalog.jsonb_typeof(message -> 'priority') = 'number'
    THEN - pg_catalog.floor((message -> 'priority')::numeric) ELSE 0 END), vt$$, wanted)
$f$;

-- The index by which the option "ordered = group" finds the first message of each group in a long queue.
CREATE OR REPLACE FUNCTION pgmqd.group_queue(name text, wanted boolean DEFAULT true) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.index_queue(name, 'group', $$(headers ->> 'group'), (least(read_ct, 1)), msg_id$$, wanted)
$f$;

-- ---- queues and their dead letters ----

-- The name of a queue's dead-letter queue: NAME_dlq. pgmq takes 47 characters, so the tail of a longer name gives way to a hash of it; we
-- count in bytes, for tables are named by bytes.
CREATE OR REPLACE FUNCTION pgmqd.dlq_name(queue text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN octet_length(queue) <= 43 THEN queue || '_dlq'
    ELSE (SELECT left(queue, n) FROM generate_series(34, 0, -1) n WHERE octet_length(left(queue, n)) <= 34 LIMIT 1)
      || '_' || left(encode(sha256(convert_to(lower(queue), 'UTF8')), 'hex'), 8) || '_dlq' END
$f$;

-- The former name of dlq_name().
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_queue(queue text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.dlq_name(queue)
$f$;

-- Makes what pgmqd needs of a queue: the queue, its dead-letter queue, and the wake-ups. It takes every name that pgmq takes.
CREATE OR REPLACE FUNCTION pgmqd.create_queue(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  made text;
BEGIN
  IF coalesce(name, '') = '' OR octet_length(name) > 47 OR name ~ '[[:cntrl:]]' THEN
    RAISE EXCEPTION 'queue name "%" must have 1 to 47 bytes, and no control character', name USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOREACH made IN ARRAY ARRAY[name, pgmqd.dlq_name(name)] LOOP
    CONTINUE WHEN pgmqd.stored_name(made) IS NOT NULL AND to_regclass(format('pgmq.%I', 'q_' || lower(made))) IS NOT NULL;
    PERFORM pgmq.create(made);
    EXECUTE format('REVOKE ALL ON TABLE pgmq.%1$I, pgmq.%2$I, %3$s FROM %4$s', 'q_' || lower(made), 'a_' || lower(made),
      pg_get_serial_sequence(format('pgmq.%I', 'q_' || lower(made)), 'msg_id'), pgmqd.strangers());
  END LOOP;
  PERFORM pgmqd.attach_queue(name);
END $f$;

-- Puts one message into a queue whose owner we trust, with our rights: for operators, who need none on the queue's table.
CREATE OR REPLACE FUNCTION pgmqd.enqueue_for(queue text, message jsonb, delay integer, headers jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF pgmqd.queue_table('q', queue) IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, or belongs to somebody else', queue USING ERRCODE = 'undefined_table';
  END IF;
  IF headers IS NULL THEN
    RETURN (SELECT s FROM pgmq.send(queue, message, coalesce(delay, 0)) s);
  END IF;
  RETURN (SELECT s FROM pgmq.send(queue, message, headers, coalesce(delay, 0)) s);
END $f$;

-- Puts one message into a queue and returns its number; delay in seconds. Works from pgmq 1.4 on (headers: from 1.5). With the
-- caller's own rights on the queue's table where there are such, whoever owns it. With a unique_key it may be the number of an earlier
-- message: see pgmqd.enqueue_unique(); the own rights are then those of the owner of schema pgmqd.
DROP FUNCTION IF EXISTS pgmqd.enqueue(text, jsonb, integer, jsonb);
CREATE OR REPLACE FUNCTION pgmqd.enqueue(queue text, message jsonb, delay integer DEFAULT 0, headers jsonb DEFAULT NULL,
  unique_key text DEFAULT NULL, unique_for interval DEFAULT NULL, on_conflict text DEFAULT 'keep')
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF unique_key IS NOT NULL THEN
    IF current_user = session_user AND pg_has_role((SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'pgmqd'), 'USAGE') THEN -- by himself
      RETURN (pgmqd.put_unique(queue, to_regclass(format('pgmq.%I', 'q_' || lower(queue))), message, unique_key, unique_for, on_conflict, delay, headers)).msg_id;
    END IF;
    RETURN (pgmqd.enqueue_unique(queue, message, unique_key, unique_for, on_conflict, delay, headers)).msg_id;
  ELSIF unique_for IS NOT NULL OR on_conflict <> 'keep' THEN
    RAISE EXCEPTION 'unique_for and on_conflict are of no use without a unique_key' USING ERRCODE = 'invalid_parameter_value';
  ELSIF NOT has_schema_privilege('pgmq', 'USAGE') OR NOT coalesce(has_table_privilege(to_regclass(format('pgmq.%I', 'q_' || lower(queue))), 'INSERT'), false) THEN
    RETURN pgmqd.enqueue_for(queue, message, delay, headers);
  ELSIF current_user <> session_user AND pg_has_role((SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'pgmqd'), 'USAGE') THEN
    PERFORM pgmqd.trusted_queue(queue) WHERE pgmqd.queue_table('q', queue) IS NULL; -- a function of ours enqueues with its owner's rights
  END IF;
  IF headers IS NULL THEN
    RETURN (SELECT s FROM pgmq.send(queue, message, coalesce(delay, 0)) s);
  END IF;
  RETURN (SELECT s FROM pgmq.send(queue, message, headers, coalesce(delay, 0)) s);
END $f$;

-- Claims that do not count as attempts, because the dispatcher itself gave the message back.
CREATE TABLE IF NOT EXISTS pgmqd.refunds (
  queue text,
  msg_id bigint,
  n integer NOT NULL,
  read_ct integer NOT NULL,
  PRIMARY KEY (queue, msg_id)
);
COMMENT ON TABLE pgmqd.refunds IS 'per message: how many of its claims do not count as attempts, and which was the last of them (read_ct)';

-- Where claims of a queue by group take turns: who has locked its row. An advisory lock is anybody's; this needs a right. Nothing in it has to
-- survive a crash.
CREATE UNLOGGED TABLE IF NOT EXISTS pgmqd.turns (queue text PRIMARY KEY);
COMMENT ON TABLE pgmqd.turns IS 'a row for each queue with ordered = group, which a claim locks until it is through';

-- Waits for the queue's turn, and has it until the end of the transaction.
CREATE OR REPLACE FUNCTION pgmqd.take_turn(queue text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  LOOP
    PERFORM FROM pgmqd.turns t WHERE t.queue = take_turn.queue FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO pgmqd.turns (queue) VALUES (take_turn.queue) ON CONFLICT DO NOTHING;
  END LOOP;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'take_turn', 'notify_prepared', 'is_time_zone', 'iso_time', 'dlq_name', 'dead_letter_queue');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'dlq_name', 'dead_letter_queue');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'enqueue', 'enqueue_for', 'dlq_name', 'dead_letter_queue', 'iso_time');
END $$;

-- The triggers of queues that an earlier version has attached.
DO $$
DECLARE
  q text;
BEGIN
  FOR q IN SELECT m.queue_name FROM pgmq.meta m JOIN pg_trigger t ON t.tgname = 'pgmqd_wakeup'
    AND t.tgrelid = to_regclass(format('pgmq.%I', 'q_' || lower(m.queue_name)))
  LOOP
    BEGIN
      PERFORM pgmqd.attach_queue(q);
    EXCEPTION WHEN insufficient_privilege OR lock_not_available THEN
      IF SQLSTATE = '55P03' AND current_setting('pgmqd.migrating', true) = 'on' THEN
        RAISE; -- pgmqd migrate tries it all again
      END IF;
      RAISE WARNING 'queue % keeps its triggers: %; afterwards SELECT pgmqd.attach_queue(%)', q, SQLERRM, quote_literal(q);
    END;
  END LOOP;
END $$;

RESET search_path;
