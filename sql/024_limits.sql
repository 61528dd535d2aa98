-- 024_limits.sql: how many messages of a queue, or of one of its keys, in a time and at once; the settings are the dispatchers'.
-- makes: pgmqd.rates pgmqd.limits pgmqd.keys

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

-- ---- what they keep back ----

-- The limits as the dispatchers last told them, for those who only look. rate is by second; 0: there is none.
CREATE TABLE IF NOT EXISTS pgmqd.limits (
  queue text PRIMARY KEY,
  key text,
  rate double precision NOT NULL,
  burst double precision NOT NULL,
  rate_by_key boolean NOT NULL,
  rate_here boolean NOT NULL,
  at_once integer NOT NULL,
  of_a_key integer NOT NULL,
  told_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.limits IS 'the limits of each queue, as a dispatcher told them when it connected';

-- A dispatcher tells the limits of a queue that it serves; without any, the queue has none.
CREATE OR REPLACE FUNCTION pgmqd.tell_limits(queue text, key text, rate double precision, burst double precision, rate_by_key boolean, rate_here boolean,
  at_once integer, of_a_key integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_variable
BEGIN
  IF rate = 0 AND at_once = 0 AND of_a_key = 0 AND coalesce(key, '') = '' THEN
    DELETE FROM pgmqd.limits l WHERE l.queue = lower(queue);
    RETURN;
  END IF;
  INSERT INTO pgmqd.limits AS l (queue, key, rate, burst, rate_by_key, rate_here, at_once, of_a_key)
  VALUES (lower(queue), nullif(key, ''), rate, burst, rate_by_key, rate_here, at_once, of_a_key)
  ON CONFLICT ON CONSTRAINT limits_pkey DO UPDATE SET key = excluded.key, rate = excluded.rate, burst = excluded.burst, rate_by_key = excluded.rate_by_key,
    rate_here = excluded.rate_here, at_once = excluded.at_once, of_a_key = excluded.of_a_key, told_at = excluded.told_at;
END $f$;

-- How many due messages of a queue wait for the rate, for a place of their key, and for a place of the queue; one may wait for several. NULL: the queue
-- has no such limit.
CREATE OR REPLACE FUNCTION pgmqd.kept_back(queue text, OUT by_rate bigint, OUT by_key bigint, OUT by_place bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  l pgmqd.limits;
  own regclass;
BEGIN
  SELECT x.* INTO l FROM pgmqd.limits x WHERE x.queue = lower(kept_back.queue);
  IF NOT FOUND THEN
    RETURN; -- most queues: nothing else is looked up
  END IF;
  own := pgmqd.queue_table('q', queue);
  IF own IS NULL THEN
    RETURN;
  END IF;
  EXECUTE format($q$
    WITH rows AS MATERIALIZED (SELECT %1$s AS k, count(*) FILTER (WHERE q.vt <= c.now) AS due,
        count(*) FILTER (WHERE q.vt > c.now AND q.read_ct > 0 AND date_part('microseconds', timezone('UTC', q.vt))::bigint %% 1000 <> 0) AS held
      FROM %2$s q, (SELECT clock_timestamp() AS now OFFSET 0) c GROUP BY 1),
      groups AS (SELECT k, due FROM rows WHERE $4 UNION ALL SELECT '', sum(due) FROM rows WHERE NOT $4)
    SELECT CASE WHEN $2 > 0 THEN (SELECT coalesce(sum(greatest(0, g.due - coalesce((SELECT sum(floor(least($3, date_part('epoch', clock_timestamp()
          - least(r.spent_until, clock_timestamp())) * $2))) FROM pgmqd.rates r WHERE r.queue = $1 AND r.key = g.k AND (r.holder <> '') = $5), floor($3)))), 0) FROM groups g) END,
      CASE WHEN $7 > 0 THEN coalesce(sum(greatest(0, due - greatest(0, $7 - held))), 0) END,
      CASE WHEN $6 > 0 THEN greatest(0, coalesce(sum(due), 0) - greatest(0, $6 - coalesce(sum(held), 0))) END
    FROM rows$q$, CASE WHEN l.key IS NULL THEN $q$''::text$q$ ELSE pgmqd.key_expression(l.key) END, own)
  INTO by_rate, by_key, by_place USING l.queue, l.rate, l.burst, l.rate_by_key, l.rate_here, l.at_once, l.of_a_key;
END $f$;

-- ---- single keys ----

-- Operators' words on keys. weight: how much of the turns it gets with fair_by, beside the others' 1.
CREATE TABLE IF NOT EXISTS pgmqd.keys (
  queue text,
  key text,
  weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0 AND weight <= 1000000),
  paused_at timestamptz,
  paused_by text,
  reason text,
  PRIMARY KEY (queue, key)
);
ALTER TABLE pgmqd.keys ADD COLUMN IF NOT EXISTS held_until timestamptz; -- as a plugin says (pgmqd_retry_key)
COMMENT ON TABLE pgmqd.keys IS 'which keys of queues are paused by an operator or held by a plugin, and their weights';

-- The queue's name in the tables of limits, and the key: customer=42 stands for 42 where the queue's key is header:customer, or ends in /customer.
CREATE OR REPLACE FUNCTION pgmqd.limited_key(INOUT queue text, INOUT key text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_variable
DECLARE
  known text := (SELECT l.key FROM pgmqd.limits l WHERE l.queue = lower(queue));
  name text := substring(known FROM '[^:/]+$');
BEGIN
  IF pgmqd.stored_name(queue) IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', queue USING ERRCODE = 'undefined_object';
  ELSIF known IS NULL THEN
    RAISE EXCEPTION 'queue "%" has no key', queue USING ERRCODE = 'invalid_parameter_value',
      HINT = 'Set rate_key, concurrency_key or fair_by in its section, and start the dispatcher.';
  END IF;
  queue := lower(queue);
  key := left(CASE WHEN starts_with(key, name || '=') THEN substr(key, length(name) + 2) ELSE coalesce(key, '') END, 200);
END $f$;

-- Pauses a key of a queue: no message of it is started until it is resumed. False when it is paused already.
CREATE OR REPLACE FUNCTION pgmqd.pause_key(queue text, key text, reason text DEFAULT NULL, by text DEFAULT session_user) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  k record;
BEGIN
  SELECT * INTO k FROM pgmqd.limited_key(queue, key);
  INSERT INTO pgmqd.keys AS o (queue, key, paused_at, paused_by, reason) VALUES (k.queue, k.key, clock_timestamp(), coalesce(by, session_user), nullif(btrim(pause_key.reason), ''))
  ON CONFLICT ON CONSTRAINT keys_pkey DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by, reason = excluded.reason WHERE o.paused_at IS NULL;
  RETURN FOUND;
END $f$;

-- Holds the key of a message for some seconds: no message with it is started before. A plugin says so, since the party behind the key asks for it. Nothing is
-- held in a queue without a key. A hold does not become shorter.
CREATE OR REPLACE FUNCTION pgmqd.hold_key(queue text, headers jsonb, message jsonb, seconds double precision) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  known text := (SELECT l.key FROM pgmqd.limits l WHERE l.queue = lower(hold_key.queue));
  k text;
BEGIN
  IF known IS NULL THEN
    RETURN;
  END IF;
  EXECUTE format('SELECT %s FROM (SELECT $1 AS headers, $2 AS message) m', pgmqd.key_expression(known)) INTO k USING headers, message;
  INSERT INTO pgmqd.keys AS o (queue, key, held_until) VALUES (lower(hold_key.queue), k, clock_timestamp() + make_interval(secs => seconds))
  ON CONFLICT ON CONSTRAINT keys_pkey DO UPDATE SET held_until = greatest(o.held_until, excluded.held_until);
  -- what is over is of no use to anybody
  DELETE FROM pgmqd.keys o WHERE o.ctid = ANY (ARRAY(SELECT x.ctid FROM pgmqd.keys x WHERE x.queue = lower(hold_key.queue) AND x.held_until < clock_timestamp()
    AND x.paused_at IS NULL AND x.weight = 1 LIMIT 10 FOR UPDATE SKIP LOCKED));
END $f$;

-- Ends the pause of a key. False when it was not paused.
CREATE OR REPLACE FUNCTION pgmqd.resume_key(queue text, key text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  k record;
BEGIN
  SELECT * INTO k FROM pgmqd.limited_key(queue, key);
  UPDATE pgmqd.keys o SET paused_at = NULL, paused_by = NULL, reason = NULL WHERE o.queue = k.queue AND o.key = k.key AND o.paused_at IS NOT NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  DELETE FROM pgmqd.keys o WHERE o.queue = k.queue AND o.key = k.key AND o.weight = 1;
  -- dispatchers look at once
  PERFORM pg_notify(split_part(encode(t.tgargs, 'escape'), '\000', 2), split_part(encode(t.tgargs, 'escape'), '\000', 1)) FROM pg_trigger t
  WHERE t.tgrelid = to_regclass(format('pgmq.%I', 'q_' || k.queue)) AND t.tgname = 'pgmqd_wakeup';
  RETURN true;
END $f$;

-- Gives a key a weight for fair_by: with 2 it has twice as many messages in hand as a key with 1 while both have some that wait.
CREATE OR REPLACE FUNCTION pgmqd.weigh_key(queue text, key text, weight double precision) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  k record;
BEGIN
  SELECT * INTO k FROM pgmqd.limited_key(queue, key);
  INSERT INTO pgmqd.keys AS o (queue, key, weight) VALUES (k.queue, k.key, weigh_key.weight)
  ON CONFLICT ON CONSTRAINT keys_pkey DO UPDATE SET weight = excluded.weight;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'pause_key', 'resume_key', 'weigh_key');
  PERFORM pgmqd.allow_calls('pgmqd', 'tell_limits', 'kept_back', 'hold_key');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'kept_back');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'kept_back');
END $$;

RESET search_path;
