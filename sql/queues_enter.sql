-- queues_enter.sql: the second half of `pgmqd migrate --adopt-extension` and `--leave-extension`: moves the tables of the queues, with their messages,
-- numbers, rights and triggers, from pgmqd_leaving to the new schema pgmq, and writes down what the new one keeps of them.
SET LOCAL client_min_messages = warning;

DO $$
DECLARE
  adopt CONSTANT boolean := current_setting('pgmqd.queues_to') = 'extension';
  dated CONSTANT boolean := EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('pgmq.message_record') AND attname = 'last_read_at');
  interval_ms integer;
  bound bigint := 0;
  r record;
BEGIN
  IF adopt AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgmq') THEN
    RAISE EXCEPTION 'the extension pgmq was not created';
  END IF;
  FOR r IN SELECT c.oid, c.relname, c.relkind FROM pg_class c WHERE c.relnamespace = 'pgmqd_leaving'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND c.relname NOT IN ('meta', 'topic_bindings', 'notify_insert_throttle')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
        AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
  LOOP
    EXECUTE format('ALTER TABLE pgmqd_leaving.%I SET SCHEMA pgmq', r.relname);
  END LOOP;
  INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged, created_at)
    SELECT queue_name, is_partitioned, is_unlogged, created_at FROM pgmqd_leaving.meta;

  -- the columns that the new functions know
  FOR r IN SELECT c.relname, EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'last_read_at' AND NOT a.attisdropped) AS dated,
      EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'headers' AND NOT a.attisdropped) AS headed
    FROM pgmq.meta m JOIN pg_class c ON c.relnamespace = 'pgmq'::regnamespace AND c.relname IN ('q_' || lower(m.queue_name), 'a_' || lower(m.queue_name))
  LOOP
    IF NOT r.headed THEN
      EXECUTE format('ALTER TABLE pgmq.%I ADD COLUMN headers jsonb', r.relname);
    END IF;
    IF dated AND NOT r.dated THEN
      EXECUTE format('ALTER TABLE pgmq.%I ADD COLUMN last_read_at timestamptz', r.relname);
      EXECUTE format('GRANT SELECT (last_read_at) ON pgmq.%I TO pg_monitor', r.relname);
    ELSIF r.dated AND NOT dated THEN
      EXECUTE format('ALTER TABLE pgmq.%I DROP COLUMN last_read_at', r.relname);
    END IF;
  END LOOP;

  -- topics and notifications
  IF to_regclass('pgmqd_leaving.topic_bindings') IS NOT NULL THEN
    EXECUTE 'SELECT count(*) FROM pgmqd_leaving.topic_bindings' INTO bound;
  END IF;
  IF bound > 0 AND to_regprocedure('pgmq.bind_topic(text, text)') IS NULL THEN
    RAISE EXCEPTION 'there are % bindings of topics, which that version of pgmq does not have: unbind them (pgmq.unbind_topic), or install a newer one', bound;
  ELSIF bound > 0 THEN
    FOR r IN EXECUTE 'SELECT * FROM pgmqd_leaving.topic_bindings' LOOP
      PERFORM pgmq.bind_topic(r.pattern, r.queue_name);
      EXECUTE 'UPDATE pgmq.topic_bindings SET bound_at = $1 WHERE pattern = $2 AND queue_name = $3' USING r.bound_at, r.pattern, r.queue_name;
    END LOOP;
  END IF;
  FOR r IN SELECT queue_name FROM notified LOOP
    interval_ms := NULL;
    IF to_regclass('pgmqd_leaving.notify_insert_throttle') IS NOT NULL THEN
      EXECUTE 'SELECT throttle_interval_ms FROM pgmqd_leaving.notify_insert_throttle WHERE queue_name = $1' INTO interval_ms USING r.queue_name;
    END IF;
    IF to_regprocedure('pgmq.enable_notify_insert(text, integer)') IS NOT NULL THEN
      EXECUTE 'SELECT pgmq.enable_notify_insert($1, $2)' USING r.queue_name, coalesce(interval_ms, 250);
    ELSIF to_regprocedure('pgmq.enable_notify_insert(text)') IS NOT NULL THEN
      EXECUTE 'SELECT pgmq.enable_notify_insert($1)' USING r.queue_name;
    ELSE
      RAISE EXCEPTION 'queue "%" has notifications, which that version of pgmq does not have: disable them (pgmq.disable_notify_insert)', r.queue_name;
    END IF;
  END LOOP;

  -- rights of things that are there again
  FOR r IN SELECT * FROM rights WHERE CASE kind WHEN 'SCHEMA' THEN true WHEN 'TABLE' THEN to_regclass(name) IS NOT NULL
    ELSE to_regprocedure(name) IS NOT NULL END
  LOOP
    IF r.kind = 'FUNCTION' AND NOT EXISTS (SELECT FROM rights WHERE kind = 'FUNCTION' AND name = r.name AND grantee = 'PUBLIC') THEN
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', r.name);
    END IF;
    IF r.grantee IS NOT NULL AND (r.kind, r.grantee) <> ('FUNCTION', 'PUBLIC') THEN
      EXECUTE format('GRANT %s ON %s %s TO %s%s', r.privilege_type, r.kind, r.name, r.grantee, CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' END);
    END IF;
  END LOOP;
  DROP SCHEMA pgmqd_leaving CASCADE;

  -- each queue can be looked at and read, or nothing was moved
  PERFORM count(*) FROM pgmq.metrics_all();
  FOR r IN SELECT queue_name FROM pgmq.meta LOOP
    BEGIN
      PERFORM count(*) FROM pgmq.read(r.queue_name, 0, 1);
      RAISE SQLSTATE 'PQ000'; -- takes back the read
    EXCEPTION WHEN SQLSTATE 'PQ000' THEN
      NULL;
    END;
  END LOOP;
  -- all the other files are applied again: rights and triggers of ours
  UPDATE pgmqd.schema_version SET checksum = 'moved' WHERE true;
END $$;
