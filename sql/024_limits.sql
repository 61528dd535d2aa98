-- 024_limits.sql: how many messages of a queue, or of one of its keys, in a time and at once; the settings are the dispatchers'.
-- makes: pgmqd.rates

SET search_path = pg_catalog, pg_temp;

-- Token buckets. A row says until when the rate of a key is spent: what lies between that and now are its tokens, as many as the burst at most.
-- No row: the bucket is full. key: '' is the queue as a whole, too; holder: '' are all dispatchers together, else a process that has a rate by itself.
CREATE TABLE IF NOT EXISTS pgmqd.rates (
  queue text,
  holder text,
  key text,
  spent_until timestamptz NOT NULL,
  PRIMARY KEY (queue, holder, key)
) WITH (fillfactor = 50);
COMMENT ON TABLE pgmqd.rates IS 'until when the rate of a queue, or of a key of it, is spent; claims read and write it';

-- The key of a queue's messages as a part of a statement: out of header:NAME, or body:/PATH as a JSON pointer.
CREATE OR REPLACE FUNCTION pgmqd.key_expression(key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $f$
BEGIN
  IF key LIKE 'header:_%' THEN
    RETURN format('pg_catalog.left(coalesce(headers ->> %L::text, ''''::text), 200)', substr(key, 8));
  ELSIF key LIKE 'body:/_%' THEN
    RETURN format('pg_catalog.left(coalesce(message #>> %L::text[], ''''::text), 200)', (SELECT array_agg(replace(replace(s, '~1', '/'), '~0', '~') ORDER BY n)
      FROM unnest(string_to_array(substr(key, 7), '/')) WITH ORDINALITY u (s, n))::text);
  END IF;
  RAISE EXCEPTION 'key "%" is not header:NAME or body:/PATH', key USING ERRCODE = 'invalid_parameter_value';
END $f$;

-- The indexes by which claims of a queue with limits find what is in hand and, with a key as in the settings (concurrency_key, rate_key), the messages of
-- each key. wanted = false takes them away. True when something changed. Making one locks the queue for as long as it takes.
CREATE OR REPLACE FUNCTION pgmqd.limit_queue(name text, key text DEFAULT NULL, wanted boolean DEFAULT true) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
  held text := format('pgmq.%I', 'q_' || lower(name) || '_held_idx');
  keyed text := format('pgmq.%I', 'q_' || lower(name) || '_key_idx');
  changed boolean := false;
BEGIN
  IF queue_table IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', name
      USING ERRCODE = 'undefined_object', HINT = format('Create it first: SELECT pgmq.create(%L)', name);
  END IF;
  IF wanted AND to_regclass(held) IS NULL THEN
    -- the condition of IS_HELD in dispatcher/worker/queue_limit.c
    EXECUTE format('CREATE INDEX %I ON %s (vt) WHERE read_ct > 0 AND pg_catalog.date_part(''microseconds''::text, pg_catalog.timezone(''UTC''::text, vt))::bigint %% 1000 <> 0',
      'q_' || lower(name) || '_held_idx', queue_table);
    changed := true;
  ELSIF NOT wanted AND to_regclass(held) IS NOT NULL THEN
    EXECUTE format('DROP INDEX %s', held);
    changed := true;
  END IF;
  -- the comment says for which key it is
  IF to_regclass(keyed) IS NOT NULL AND (NOT wanted OR obj_description(to_regclass(keyed), 'pg_class') IS DISTINCT FROM key) THEN
    EXECUTE format('DROP INDEX %s', keyed);
    changed := true;
  END IF;
  IF wanted AND key IS NOT NULL AND to_regclass(keyed) IS NULL THEN
    EXECUTE format('CREATE INDEX %I ON %s ((%s), vt, msg_id)', 'q_' || lower(name) || '_key_idx', queue_table, pgmqd.key_expression(key));
    EXECUTE format('COMMENT ON INDEX %s IS %L', keyed, key);
    changed := true;
  END IF;
  RETURN changed;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
END $$;

RESET search_path;
