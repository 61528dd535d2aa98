-- queues_leave.sql: the first half of `pgmqd migrate --adopt-extension` and `--leave-extension`: sets the schema pgmq aside, under the name
-- pgmqd_leaving, so that 010 makes a new one. queues_enter.sql moves the queues over; all of it is one transaction.
DO $$
DECLARE
  adopt CONSTANT boolean := current_setting('pgmqd.queues_to') = 'extension';
  extension oid := (SELECT oid FROM pg_extension WHERE extname = 'pgmq');
  version text := (SELECT default_version FROM pg_available_extensions WHERE name = 'pgmq');
  r record;
BEGIN
  IF to_regclass('pgmq.meta') IS NULL THEN
    RAISE EXCEPTION 'this database has no queues yet: run pgmqd migrate';
  ELSIF adopt AND extension IS NOT NULL THEN
    RAISE EXCEPTION 'the queues of this database belong to the extension pgmq already';
  ELSIF adopt AND version IS NULL THEN
    RAISE EXCEPTION 'this server does not have the extension pgmq: install its package first';
  ELSIF adopt AND version ~ '^\d+(\.\d+)*$' AND string_to_array(version, '.')::int[] < ARRAY[1, 6] THEN
    RAISE EXCEPTION 'this server has pgmq %, and a dump leaves out the messages of its queues: it takes pgmq 1.6 or newer', version;
  ELSIF NOT adopt AND extension IS NULL THEN
    RAISE EXCEPTION 'the extension pgmq is not installed in this database';
  ELSIF NOT adopt AND EXISTS (SELECT FROM pgmq.meta WHERE is_partitioned) THEN
    RAISE EXCEPTION 'only the extension has partitioned queues, and there are: %', (SELECT string_agg(queue_name, ', ' ORDER BY 1) FROM pgmq.meta WHERE is_partitioned);
  END IF;

  -- functions, types and the three tables are made anew; what others have built on them would go with the old ones
  FOR r IN
    WITH old AS (
      SELECT 'pg_proc'::regclass AS class, oid AS object FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace
      UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE t.typnamespace = 'pgmq'::regnamespace AND c.relkind = 'c'
      UNION ALL SELECT 'pg_class'::regclass, c.oid FROM pg_class c WHERE c.relnamespace = 'pgmq'::regnamespace
        AND (c.relkind = 'c' OR c.relname IN ('meta', 'topic_bindings', 'notify_insert_throttle')))
    SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS dependent, pg_describe_object(d.refclassid, d.refobjid, 0) AS thing
    FROM pg_depend d JOIN old ON old.class = d.refclassid AND old.object = d.refobjid
    WHERE d.deptype = 'n' AND NOT EXISTS (SELECT FROM old o WHERE o.class = d.classid AND o.object = d.objid)
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND t.tgname = 'trigger_notify_queue_insert_listeners')
      AND NOT EXISTS (SELECT FROM pg_constraint c JOIN old o ON o.object = c.conrelid WHERE d.classid = 'pg_constraint'::regclass AND c.oid = d.objid)
      AND NOT EXISTS (SELECT FROM pg_attrdef a JOIN old o ON o.object = a.adrelid WHERE d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid)
    LIMIT 1
  LOOP
    RAISE EXCEPTION '% depends on % of pgmq, which is made anew: drop it, and create it again afterwards', r.dependent, r.thing;
  END LOOP;

  -- who may what; the rights of queues go along with their tables
  CREATE TEMP TABLE rights ON COMMIT DROP AS
    WITH things AS (
      SELECT 'SCHEMA' AS kind, 'pgmq' AS name, nspacl AS acl, nspowner AS owner FROM pg_namespace WHERE nspname = 'pgmq'
      UNION ALL SELECT 'TABLE', format('pgmq.%I', relname), relacl, relowner FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace
        AND relname IN ('meta', 'topic_bindings', 'notify_insert_throttle')
      UNION ALL SELECT 'FUNCTION', format('pgmq.%I(%s)', proname, oidvectortypes(proargtypes)), coalesce(proacl, acldefault('f', proowner)), proowner
        FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace)
    SELECT t.kind, t.name, a.privilege_type, a.is_grantable, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
    FROM things t LEFT JOIN LATERAL (SELECT * FROM aclexplode(t.acl) WHERE grantee <> t.owner) a ON true;
  CREATE TEMP TABLE notified ON COMMIT DROP AS
    SELECT m.queue_name FROM pgmq.meta m JOIN pg_class c ON c.relnamespace = 'pgmq'::regnamespace AND c.relname = 'q_' || lower(m.queue_name)
    JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'trigger_notify_queue_insert_listeners';
  FOR r IN SELECT tgrelid::regclass AS t FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
    WHERE tgname = 'trigger_notify_queue_insert_listeners' AND tgparentid = 0 AND c.relnamespace = 'pgmq'::regnamespace
  LOOP
    EXECUTE format('DROP TRIGGER trigger_notify_queue_insert_listeners ON %s', r.t);
  END LOOP;

  IF NOT adopt THEN
    -- the tables stay when the extension goes
    FOR r IN SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, c.oid::regclass AS t FROM pg_depend d
      JOIN pg_class c ON c.oid = d.objid WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = extension
        AND d.deptype = 'e' AND c.relkind IN ('r', 'p', 'S', 'v')
    LOOP
      EXECUTE format('ALTER EXTENSION pgmq DROP %s %s', r.kind, r.t);
    END LOOP;
    IF EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = 'pgmq'::regnamespace AND refobjid = extension AND deptype = 'e') THEN
      ALTER EXTENSION pgmq DROP SCHEMA pgmq;
    END IF;
    DROP EXTENSION pgmq;
  END IF;
  ALTER SCHEMA pgmq RENAME TO pgmqd_leaving;
  IF NOT adopt THEN
    CREATE SCHEMA pgmq;
    COMMENT ON SCHEMA pgmq IS 'made by pgmqd'; -- by this 010 knows it
  END IF;
END $$;
