-- 010_pgmq.sql: the queues themselves: the pgmq extension where the server has it, else the same thing in plain SQL.
--
-- A schema pgmq that is there already (the extension, or its SQL-only installation) is left alone. What is created here
-- behaves like pgmq 1.13: the same tables, functions, types, results and errors, so that every pgmq client works on
-- it; one that an older pgmqd made is brought forward in place. Two things differ on purpose: reads return messages in the order of their numbers, and members of pg_monitor may
-- count and date messages, but not read them.
-- makes: pgmq.meta

SET search_path = pg_catalog, pg_temp;

DO $install$
DECLARE
  mark CONSTANT text := 'queues with the interface of pgmq 1.13, made by pgmqd';
  q record;
  schema_id oid := (SELECT oid FROM pg_namespace WHERE nspname = 'pgmq');
BEGIN
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pgmq') THEN
    RETURN;
  END IF;
  IF to_regclass('pgmq.meta') IS NOT NULL AND coalesce(obj_description(schema_id, 'pg_namespace'), '') !~ 'made by pgmqd$' THEN
    RAISE NOTICE 'schema pgmq exists already, and is used as it is';
    RETURN;
  END IF;
  IF to_regclass('pgmq.meta') IS NULL AND coalesce(obj_description(schema_id, 'pg_namespace'), '') !~ 'made by pgmqd$'
    AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgmq') THEN
    CREATE EXTENSION pgmq;
    RETURN;
  END IF;

  CREATE SCHEMA IF NOT EXISTS pgmq;
  EXECUTE format('COMMENT ON SCHEMA pgmq IS %L', mark);

  -- ---- what is known of the queues ----

  CREATE TABLE IF NOT EXISTS pgmq.meta (
    queue_name varchar UNIQUE NOT NULL,
    is_partitioned boolean NOT NULL,
    is_unlogged boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
  );
  -- what the functions of 011 keep
  CREATE TABLE IF NOT EXISTS pgmq.topic_bindings (
    pattern text NOT NULL,
    queue_name text NOT NULL,
    bound_at timestamptz NOT NULL DEFAULT now(),
    compiled_regex text NOT NULL,
    PRIMARY KEY (pattern, queue_name)
  );
  CREATE UNLOGGED TABLE IF NOT EXISTS pgmq.notify_insert_throttle (
    queue_name text PRIMARY KEY,
    throttle_interval_ms integer NOT NULL DEFAULT 0 CHECK (throttle_interval_ms >= 0),
    last_notified_at timestamptz NOT NULL DEFAULT to_timestamp(0)
  );
  -- clients read it as a date, which infinity is not
  ALTER TABLE pgmq.notify_insert_throttle ALTER COLUMN last_notified_at SET DEFAULT to_timestamp(0);
  UPDATE pgmq.notify_insert_throttle SET last_notified_at = to_timestamp(0) WHERE last_notified_at = '-infinity';
  EXECUTE (SELECT format('REVOKE ALL ON pgmq.topic_bindings, pgmq.notify_insert_throttle FROM %s', concat_ws(', ', 'PUBLIC',
    string_agg(quote_ident(rolname), ', '))) FROM pg_roles WHERE rolname IN ('anon', 'authenticated'));

  -- the schema is closed, and what default grants give in it shall not open it
  EXECUTE (SELECT format('REVOKE ALL ON pgmq.meta FROM %s', concat_ws(', ', 'PUBLIC', string_agg(quote_ident(rolname), ', '))) FROM pg_roles
    WHERE rolname IN ('anon', 'authenticated'));
  GRANT USAGE ON SCHEMA pgmq TO pg_monitor;
  GRANT SELECT ON pgmq.meta TO pg_monitor;

  -- an older schema of ours: like pgmq's own update this takes functions of others that return the type with it
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('pgmq.message_record') AND attname = 'last_read_at') THEN
    DROP TYPE IF EXISTS pgmq.message_record CASCADE;
    CREATE TYPE pgmq.message_record AS
      (msg_id bigint, read_ct integer, enqueued_at timestamptz, last_read_at timestamptz, vt timestamptz, message jsonb, headers jsonb);
  END IF;
  FOR q IN SELECT c.oid::regclass AS t FROM pg_class c JOIN pgmq.meta m ON c.relname IN ('q_' || lower(m.queue_name), 'a_' || lower(m.queue_name))
    WHERE c.relnamespace = 'pgmq'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'last_read_at')
  LOOP
    EXECUTE format('ALTER TABLE %s ADD COLUMN last_read_at timestamptz', q.t);
    EXECUTE format('GRANT SELECT (last_read_at) ON %s TO pg_monitor', q.t);
  END LOOP;
  IF to_regtype('pgmq.queue_record') IS NULL THEN
    CREATE TYPE pgmq.queue_record AS
      (queue_name varchar, is_partitioned boolean, is_unlogged boolean, created_at timestamptz);
  END IF;
  IF to_regtype('pgmq.metrics_result') IS NULL THEN
    CREATE TYPE pgmq.metrics_result AS
      (queue_name text, queue_length bigint, newest_msg_age_sec integer, oldest_msg_age_sec integer,
       total_messages bigint, scrape_time timestamptz, queue_visible_length bigint, default_partition_length bigint);
  ELSIF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('pgmq.metrics_result') AND attname = 'default_partition_length') THEN
    ALTER TYPE pgmq.metrics_result ADD ATTRIBUTE default_partition_length bigint CASCADE;
  END IF;

  -- ---- names ----

  -- The name of a queue's table; "q" and "a" are the prefixes. Names that could leave their quotes are refused.
  CREATE OR REPLACE FUNCTION pgmq.format_table_name(queue_name text, prefix text) RETURNS text
  LANGUAGE plpgsql AS $f$
  BEGIN
    IF queue_name ~ '[$;'']|--' THEN
      RAISE EXCEPTION '%', $m$queue name contains invalid characters: $, ;, --, or \'$m$;
    END IF;
    RETURN lower(prefix || '_' || queue_name);
  END $f$;

  -- pgmq allows 47 characters, so that every name derived from it fits into 63.
  CREATE OR REPLACE FUNCTION pgmq.validate_queue_name(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    IF length(queue_name) > 47 THEN
      RAISE EXCEPTION 'queue name is too long, maximum length is 47 characters';
    END IF;
  END $f$;

  -- Keeps two sessions from creating or dropping one queue at the same time, until the end of the transaction: by its row in pgmq.meta, for
  -- anybody who may connect could hold an advisory lock.
  CREATE OR REPLACE FUNCTION pgmq.acquire_queue_lock(queue_name text) RETURNS void
  LANGUAGE sql AS $f$
    SELECT FROM pgmq.meta m WHERE m.queue_name = acquire_queue_lock.queue_name FOR UPDATE
  $f$;

  CREATE OR REPLACE FUNCTION pgmq._extension_exists(extension_name text) RETURNS boolean
  LANGUAGE sql AS $f$
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = extension_name)
  $f$;

  -- ---- create, drop, purge, list ----

  -- Both tables of a queue, their indexes, and its row in pgmq.meta. What is there already stays as it is.
  CREATE OR REPLACE FUNCTION pgmq._make_queue(queue_name text, unlogged boolean) RETURNS void
  LANGUAGE plpgsql AS $f$
  DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
    atable text := pgmq.format_table_name(queue_name, 'a');
    common CONSTANT text := 'last_read_at timestamptz, vt timestamptz NOT NULL, message jsonb, headers jsonb';
  BEGIN
    PERFORM pgmq.validate_queue_name(queue_name), format('%I', queue_name); -- an error for NULL
    LOOP
      INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged) VALUES (_make_queue.queue_name, false, unlogged) ON CONFLICT DO NOTHING;
      EXIT WHEN FOUND;
      PERFORM pgmq.acquire_queue_lock(queue_name);
      EXIT WHEN EXISTS (SELECT FROM pgmq.meta m WHERE m.queue_name = _make_queue.queue_name); -- else it was being dropped
    END LOOP;
    EXECUTE format('CREATE %s TABLE IF NOT EXISTS pgmq.%I (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,'
      ' read_ct integer NOT NULL DEFAULT 0, enqueued_at timestamptz NOT NULL DEFAULT now(), %s)',
      CASE WHEN unlogged THEN 'UNLOGGED' ELSE '' END, qtable, common);
    EXECUTE format('CREATE TABLE IF NOT EXISTS pgmq.%I (msg_id bigint PRIMARY KEY,'
      ' read_ct integer NOT NULL DEFAULT 0, enqueued_at timestamptz NOT NULL DEFAULT now(),'
      ' archived_at timestamptz NOT NULL DEFAULT now(), %s)', atable, common);
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (vt)', qtable || '_vt_idx', qtable);
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (archived_at)', 'archived_at_idx_' || queue_name, atable);
    EXECUTE format('GRANT SELECT (msg_id, read_ct, enqueued_at, last_read_at, vt) ON pgmq.%I TO pg_monitor', qtable);
    EXECUTE format('GRANT SELECT (msg_id, read_ct, enqueued_at, last_read_at, archived_at, vt) ON pgmq.%I TO pg_monitor', atable);
    EXECUTE format('GRANT SELECT ON SEQUENCE pgmq.%I TO pg_monitor', qtable || '_msg_id_seq');
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.create_non_partitioned(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq._make_queue(queue_name, false);
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.create_unlogged(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq._make_queue(queue_name, true);
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq."create"(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq._make_queue(queue_name, false);
  END $f$;

  -- Partitioned queues are the one thing that only the extension does; without pg_partman its answer is the same.
  DROP FUNCTION IF EXISTS pgmq.create_partitioned(text, text, text);
  CREATE OR REPLACE FUNCTION pgmq.create_partitioned(queue_name text, partition_interval text DEFAULT '10000',
    retention_interval text DEFAULT '100000', premake integer DEFAULT 4) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq.format_table_name(queue_name, 'q');
    PERFORM pgmq.validate_queue_name(queue_name);
    IF NOT pgmq._extension_exists('pg_partman') THEN
      RAISE EXCEPTION 'pg_partman is required for partitioned queues';
    END IF;
    RAISE EXCEPTION 'partitioned queues need the pgmq extension, not only this schema of pgmqd'
      USING ERRCODE = 'feature_not_supported';
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.convert_archive_partitioned(table_name text, partition_interval text DEFAULT '10000',
    retention_interval text DEFAULT '100000', leading_partition integer DEFAULT 10) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq.create_partitioned(table_name, partition_interval, retention_interval); -- which says what it takes
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.drop_queue(queue_name text) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
    atable text := pgmq.format_table_name(queue_name, 'a');
  BEGIN
    PERFORM pgmq.acquire_queue_lock(queue_name);
    IF queue_name IS NULL OR to_regclass(format('pgmq.%I', qtable)) IS NULL THEN
      RAISE NOTICE 'pgmq queue `%` does not exist', queue_name;
      RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS pgmq.%I', qtable);
    EXECUTE format('DROP TABLE IF EXISTS pgmq.%I', atable);
    DELETE FROM pgmq.topic_bindings b WHERE b.queue_name = drop_queue.queue_name;
    DELETE FROM pgmq.notify_insert_throttle n WHERE n.queue_name = drop_queue.queue_name;
    DELETE FROM pgmq.meta m WHERE m.queue_name = drop_queue.queue_name;
    RETURN true;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.drop_queue(queue_name text, partitioned boolean) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq.format_table_name(queue_name, 'q');
    RAISE WARNING '% is deprecated and will be removed in PGMQ v2.0. Use drop_queue(queue_name) instead',
      'drop_queue(queue_name, partitioned)';
    PERFORM pgmq.drop_queue(queue_name);
    RETURN true;
  END $f$;

  -- Once took the archive out of the extension; nothing is in one here.
  CREATE OR REPLACE FUNCTION pgmq.detach_archive(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq.format_table_name(queue_name, 'a');
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint
  LANGUAGE plpgsql AS $f$
  DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
    found_messages bigint;
  BEGIN
    EXECUTE format('SELECT count(*) FROM pgmq.%I', qtable) INTO found_messages;
    EXECUTE format('TRUNCATE pgmq.%I', qtable);
    RETURN found_messages;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record
  LANGUAGE sql AS $f$
    SELECT queue_name, is_partitioned, is_unlogged, created_at FROM pgmq.meta
  $f$;

  -- ---- send ----

  CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay timestamptz)
  RETURNS SETOF bigint
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('INSERT INTO pgmq.%I (vt, message, headers) VALUES ($1, $2, $3) RETURNING msg_id',
      pgmq.format_table_name(queue_name, 'q')) USING delay, msg, headers;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send(queue_name, msg, NULL::jsonb, clock_timestamp())
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send(queue_name, msg, headers, clock_timestamp())
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send(queue_name, msg, NULL::jsonb, clock_timestamp() + make_interval(secs => delay))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, delay timestamptz) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send(queue_name, msg, NULL::jsonb, delay)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send(queue_name text, msg jsonb, headers jsonb, delay integer) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send(queue_name, msg, headers, clock_timestamp() + make_interval(secs => delay))
  $f$;

  -- The n-th header goes with the n-th message; the shorter of the two lists is filled up with NULL, as in pgmq.
  CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamptz)
  RETURNS SETOF bigint
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('INSERT INTO pgmq.%I (vt, message, headers)'
      ' SELECT $1, pair.message, pair.headers FROM unnest($2, $3) AS pair (message, headers) RETURNING msg_id',
      pgmq.format_table_name(queue_name, 'q')) USING delay, msgs, headers;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send_batch(queue_name, msgs, NULL::jsonb[], clock_timestamp())
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[]) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send_batch(queue_name, msgs, headers, clock_timestamp())
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay integer) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send_batch(queue_name, msgs, NULL::jsonb[], clock_timestamp() + make_interval(secs => delay))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay timestamptz) RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send_batch(queue_name, msgs, NULL::jsonb[], delay)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay integer)
  RETURNS SETOF bigint
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq.send_batch(queue_name, msgs, headers, clock_timestamp() + make_interval(secs => delay))
  $f$;

  -- ---- read ----

  -- Claims up to qty visible messages for vt seconds. An empty condition is none; a message must contain any other.
  CREATE OR REPLACE FUNCTION pgmq.read(queue_name text, vt integer, qty integer, conditional jsonb DEFAULT '{}')
  RETURNS SETOF pgmq.message_record
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('WITH next AS MATERIALIZED (SELECT msg_id FROM pgmq.%1$I'
      ' WHERE vt <= clock_timestamp() %2$s ORDER BY msg_id LIMIT $1 FOR UPDATE SKIP LOCKED),'
      ' claimed AS (UPDATE pgmq.%1$I q SET vt = clock_timestamp() + $2, read_ct = q.read_ct + 1, last_read_at = clock_timestamp() FROM next'
      ' WHERE q.msg_id = next.msg_id RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.last_read_at, q.vt, q.message, q.headers)'
      ' SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers FROM claimed ORDER BY msg_id',
      pgmq.format_table_name(queue_name, 'q'), CASE WHEN conditional <> '{}' THEN 'AND message @> $3' END)
      USING qty, make_interval(secs => vt), conditional;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_with_poll(queue_name text, vt integer, qty integer,
    max_poll_seconds integer DEFAULT 5, poll_interval_ms integer DEFAULT 100, conditional jsonb DEFAULT '{}')
  RETURNS SETOF pgmq.message_record
  LANGUAGE plpgsql AS $f$
  DECLARE
    give_up_at timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
  BEGIN
    PERFORM pgmq.format_table_name(queue_name, 'q');
    WHILE clock_timestamp() < give_up_at LOOP
      RETURN QUERY SELECT * FROM pgmq.read(queue_name, vt, qty, conditional);
      EXIT WHEN FOUND;
      PERFORM pg_sleep(poll_interval_ms / 1000.0);
    END LOOP;
  END $f$;

  -- Takes the first visible messages away for good.
  DROP FUNCTION IF EXISTS pgmq.pop(text);
  CREATE OR REPLACE FUNCTION pgmq.pop(queue_name text, qty integer DEFAULT 1) RETURNS SETOF pgmq.message_record
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM pgmq.%1$I WHERE msg_id IN (SELECT msg_id FROM pgmq.%1$I'
      ' WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT $1 FOR UPDATE SKIP LOCKED)'
      ' RETURNING msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers) SELECT * FROM gone ORDER BY msg_id',
      pgmq.format_table_name(queue_name, 'q')) USING qty;
  END $f$;

  -- ---- settle ----

  CREATE OR REPLACE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM pgmq.%I WHERE msg_id = ANY ($1)'
      ' RETURNING msg_id, vt, read_ct, enqueued_at, last_read_at, message, headers)'
      ' INSERT INTO pgmq.%I (msg_id, vt, read_ct, enqueued_at, last_read_at, message, headers)'
      ' SELECT msg_id, vt, read_ct, enqueued_at, last_read_at, message, headers FROM gone RETURNING msg_id',
      pgmq.format_table_name(queue_name, 'q'), pgmq.format_table_name(queue_name, 'a')) USING msg_ids;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.archive(queue_name text, msg_id bigint) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN EXISTS (SELECT FROM pgmq.archive(queue_name, ARRAY[msg_id]));
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('DELETE FROM pgmq.%I WHERE msg_id = ANY ($1) RETURNING msg_id',
      pgmq.format_table_name(queue_name, 'q')) USING msg_ids;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.delete(queue_name text, msg_id bigint) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN EXISTS (SELECT FROM pgmq.delete(queue_name, ARRAY[msg_id]));
  END $f$;

  -- Makes messages visible in vt seconds from now, or at a time. The forms that take text are for calls whose arguments have no type, which
  -- would be ambiguous otherwise.
  CREATE OR REPLACE FUNCTION pgmq._set_vt(queue_name text, msg_ids bigint[], vt timestamptz) RETURNS SETOF pgmq.message_record
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('UPDATE pgmq.%I SET vt = $1 WHERE msg_id = ANY ($2)'
      ' RETURNING msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers', pgmq.format_table_name(queue_name, 'q')) USING vt, msg_ids;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq._vt(vt text) RETURNS timestamptz
  LANGUAGE sql AS $f$
    SELECT CASE WHEN vt ~ '^ *[-+]?[0-9]+ *$' THEN clock_timestamp() + make_interval(secs => vt::integer) ELSE vt::timestamptz END
  $f$;

  CREATE OR REPLACE FUNCTION pgmq._ids(ids text) RETURNS bigint[]
  LANGUAGE sql AS $f$
    SELECT CASE WHEN ids ~ '^ *\{' THEN ids::bigint[] ELSE ARRAY[ids::bigint] END
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt integer) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, ARRAY[msg_id], clock_timestamp() + make_interval(secs => vt))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt timestamptz) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, ARRAY[msg_id], vt)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt text) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, ARRAY[msg_id], pgmq._vt(vt))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt integer) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, msg_ids, clock_timestamp() + make_interval(secs => vt))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt timestamptz) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, msg_ids, vt)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_ids bigint[], vt text) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, msg_ids, pgmq._vt(vt))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id text, vt integer) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, pgmq._ids(msg_id), clock_timestamp() + make_interval(secs => vt))
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id text, vt timestamptz) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, pgmq._ids(msg_id), vt)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.set_vt(queue_name text, msg_id text, vt text) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._set_vt(queue_name, pgmq._ids(msg_id), pgmq._vt(vt))
  $f$;

  -- ---- figures ----

  CREATE OR REPLACE FUNCTION pgmq.metrics(queue_name text) RETURNS pgmq.metrics_result
  LANGUAGE plpgsql AS $f$
  DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
    result pgmq.metrics_result;
  BEGIN
    EXECUTE format('SELECT $1, count(*), extract(epoch FROM now() - max(q.enqueued_at))::integer,'
      ' extract(epoch FROM now() - min(q.enqueued_at))::integer,'
      ' (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM pgmq.%2$I s),'
      ' now(), count(*) FILTER (WHERE q.vt <= now()), NULL::bigint FROM pgmq.%1$I q', qtable, qtable || '_msg_id_seq')
      INTO result USING queue_name;
    RETURN result;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result
  LANGUAGE sql AS $f$
    SELECT m.* FROM pgmq.meta q, LATERAL pgmq.metrics(q.queue_name) m
  $f$;
END $install$;

RESET search_path;
