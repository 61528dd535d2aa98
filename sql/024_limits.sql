-- 024_limits.sql: how many messages of a queue, or of one of its keys, in a time and at once; the settings are the dispatchers'.
-- makes: pgmqd.rates pgmqd.limits pgmqd.told_limits pgmqd.keys

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

-- What each worker process has said of them, as text. A standby can be asked, too, so that the table is logged.
CREATE TABLE IF NOT EXISTS pgmqd.told_limits (
  queue text,
  pid integer, -- of its backend
  dispatcher text NOT NULL,
  limits text NOT NULL,
  PRIMARY KEY (queue, pid)
);
COMMENT ON TABLE pgmqd.told_limits IS 'the limits of each queue by the worker processes, which have to agree';

-- The backends of the workers that serve a queue: each has its lock "present".
CREATE OR REPLACE FUNCTION pgmqd.serving_pids(queue text) RETURNS SETOF integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.objid = 4294967293
    AND l.classid = to_regclass(format('pgmq.%I', 'q_' || lower($1)))
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
$f$;

-- A worker tells the limits of a queue that it serves; without any, the queue has none. The answer names another dispatcher that serves the
-- queue with others, since then the limits of neither are kept to; else it is NULL.
DROP FUNCTION IF EXISTS pgmqd.tell_limits(text, text, double precision, double precision, boolean, boolean, integer, integer);
CREATE OR REPLACE FUNCTION pgmqd.tell_limits(queue text, key text, rate double precision, burst double precision, rate_by_key boolean, rate_here boolean,
  at_once integer, of_a_key integer, dispatcher text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_variable
DECLARE
  name text := lower(queue);
  own text := coalesce(nullif(concat_ws(', ', 'key ' || nullif(key, ''), CASE WHEN rate > 0 THEN format('rate %s/s with burst %s%s%s', round(rate::numeric, 6),
    round(burst::numeric, 2), CASE WHEN rate_by_key THEN ' of each key' END, CASE WHEN rate_here THEN ' in each process' END) END,
    nullif(at_once, 0) || ' at once', nullif(of_a_key, 0) || ' of a key at once'), ''), 'none');
  other pgmqd.told_limits;
BEGIN
  IF own = 'none' AND NOT EXISTS (SELECT FROM pgmqd.limits l WHERE l.queue = name) AND NOT EXISTS (SELECT FROM pgmqd.told_limits t WHERE t.queue = name) THEN
    RETURN NULL; -- most queues
  END IF;
  DELETE FROM pgmqd.told_limits t WHERE t.queue = name AND (t.pid = pg_backend_pid() OR t.pid NOT IN (SELECT pgmqd.serving_pids(name)));
  IF dispatcher IS NOT NULL THEN
    INSERT INTO pgmqd.told_limits (queue, pid, dispatcher, limits) VALUES (name, pg_backend_pid(), dispatcher, own);
    -- the process before this one may be there still, after a reload
    SELECT t.* INTO other FROM pgmqd.told_limits t WHERE t.queue = name AND t.dispatcher <> dispatcher AND t.limits <> own LIMIT 1;
  END IF;
  IF own <> 'none' THEN
    INSERT INTO pgmqd.limits AS l (queue, key, rate, burst, rate_by_key, rate_here, at_once, of_a_key)
    VALUES (name, nullif(key, ''), rate, burst, rate_by_key, rate_here, at_once, of_a_key)
    ON CONFLICT ON CONSTRAINT limits_pkey DO UPDATE SET key = excluded.key, rate = excluded.rate, burst = excluded.burst, rate_by_key = excluded.rate_by_key,
      rate_here = excluded.rate_here, at_once = excluded.at_once, of_a_key = excluded.of_a_key, told_at = excluded.told_at;
  ELSIF other.limits IS NULL THEN
    DELETE FROM pgmqd.limits l WHERE l.queue = name;
  END IF;
  RETURN format('%s has other limits (%s) than this one (%s)', other.dispatcher, other.limits, own) WHERE other.limits IS NOT NULL;
END $f$;

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

-- What is wrong with limits, and how it is mended: dispatchers that do not agree (one that serves such a queue and has told nothing has none), and keys that
-- are paused in a queue whose settings name no key any more.
CREATE OR REPLACE FUNCTION pgmqd.limit_problems() RETURNS TABLE (queue text, problem text, remedy text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT s.queue, 'its dispatchers have different limits, and neither is kept to: ' || string_agg(format('%s: %s', s.dispatcher, s.limits), '; ' ORDER BY s.dispatcher),
    'give every dispatcher of the queue the same limits'
  FROM (SELECT DISTINCT l.queue, coalesce(t.dispatcher, 'backend ' || p.pid) AS dispatcher, coalesce(t.limits, 'none') AS limits
    FROM pgmqd.limits l CROSS JOIN LATERAL pgmqd.serving_pids(l.queue) p (pid) LEFT JOIN pgmqd.told_limits t ON t.pid = p.pid AND t.queue = l.queue) s
  GROUP BY s.queue HAVING count(DISTINCT s.limits) > 1
  UNION ALL SELECT o.queue, format('key "%s" is paused, and its messages run: the settings name no key', o.key),
    format('set rate_key, concurrency_key or fair_by of queue %s again, or DELETE FROM pgmqd.keys WHERE queue = %L', o.queue, o.queue)
  FROM pgmqd.keys o WHERE o.paused_at IS NOT NULL AND NOT EXISTS (SELECT FROM pgmqd.limits l WHERE l.queue = o.queue AND l.key IS NOT NULL)
$f$;

-- How many due messages of a queue wait for the rate, for a place of their key, for a place of the queue, and because their key is paused or held; one may
-- wait for several. NULL: the queue has no such limit. keys: those that are paused or held, or have a weight, twenty at most:
-- [{key, weight, paused_by, paused_at, reason, held_until, due}].
-- Where the queue has the index on its key, and up to 10,000 keys, it goes from key to key and reads no more messages of each than it has room for: what
-- is kept back are the others. Else it goes through the queue.
DO $$ BEGIN
  IF pg_get_function_arguments(to_regprocedure('pgmqd.kept_back(text)')) NOT LIKE '%by_pause%' THEN
    DROP FUNCTION pgmqd.kept_back(text); -- its columns cannot be changed in place
  END IF;
END $$;
CREATE OR REPLACE FUNCTION pgmqd.kept_back(queue text, OUT by_rate bigint, OUT by_key bigint, OUT by_place bigint, OUT by_pause bigint, OUT keys jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  l pgmqd.limits;
  own regclass;
  k text;
  n bigint; -- of keys
  from_key_to_key CONSTANT text := $q$WITH RECURSIVE next (k) AS ((SELECT %1$s FROM %2$s q ORDER BY %1$s LIMIT 1) UNION ALL
      SELECT n.k FROM next s, LATERAL (SELECT %1$s AS k FROM %2$s q WHERE %1$s > s.k ORDER BY %1$s LIMIT 1) n),
    rows AS MATERIALIZED (SELECT n.k, (SELECT count(*) FROM (SELECT FROM %2$s q WHERE %1$s = n.k AND q.vt <= $9 ORDER BY q.vt LIMIT $10) d) AS due
      FROM (SELECT k FROM next LIMIT 10001) n),
    total AS MATERIALIZED (SELECT count(*) AS due FROM %2$s q WHERE q.vt <= $9),
    said AS MATERIALIZED (SELECT o.*, (SELECT count(*) FROM %2$s q WHERE %1$s = o.key AND q.vt <= $9) AS due FROM pgmqd.keys o WHERE o.queue = $1), $q$;
  through_the_queue CONSTANT text := $q$WITH rows AS MATERIALIZED (SELECT %1$s AS k, count(*) FILTER (WHERE q.vt <= $9) AS due FROM %2$s q WHERE $10 >= 0 GROUP BY 1),
    total AS MATERIALIZED (SELECT coalesce(sum(r.due), 0) AS due FROM rows r),
    said AS MATERIALIZED (SELECT o.*, coalesce(r.due, 0) AS due FROM pgmqd.keys o LEFT JOIN rows r ON r.k = o.key WHERE o.queue = $1 AND $8), $q$;
  -- least: what may start
  told CONSTANT text := $q$held AS MATERIALIZED (SELECT %1$s AS k, count(*) AS n FROM %2$s q
      WHERE q.vt > $9 AND q.read_ct > 0 AND date_part('microseconds'::text, timezone('UTC'::text, q.vt))::bigint %% 1000 <> 0 GROUP BY 1),
    tokens AS MATERIALIZED (SELECT r.key AS k, sum(floor(least($3, date_part('epoch', $9 - least(r.spent_until, $9)) * $2))) AS n FROM pgmqd.rates r
      WHERE r.queue = $1 AND (r.holder <> '') = $5 GROUP BY 1)
    SELECT CASE WHEN $2 > 0 AND $4 THEN t.due - (SELECT coalesce(sum(least(r.due, coalesce(x.n, floor($3)))), 0) FROM rows r LEFT JOIN tokens x ON x.k = r.k)
        WHEN $2 > 0 THEN greatest(0, t.due - coalesce((SELECT x.n FROM tokens x WHERE x.k = ''), floor($3))) END,
      CASE WHEN $7 > 0 THEN t.due - (SELECT coalesce(sum(least(r.due, greatest(0, $7 - coalesce(h.n, 0)))), 0) FROM rows r LEFT JOIN held h ON h.k = r.k) END,
      CASE WHEN $6 > 0 THEN greatest(0, t.due - greatest(0, $6 - coalesce((SELECT sum(h.n) FROM held h), 0))) END,
      CASE WHEN $8 THEN (SELECT coalesce(sum(s.due), 0) FROM said s WHERE s.paused_at IS NOT NULL OR s.held_until > $9) END,
      (SELECT jsonb_agg(jsonb_build_object('key', s.key, 'weight', s.weight, 'paused_by', s.paused_by, 'paused_at', pgmqd.iso_time(s.paused_at), 'reason', s.reason,
          'held_until', CASE WHEN s.held_until > $9 THEN pgmqd.iso_time(s.held_until) END, 'due', s.due) ORDER BY s.paused_at IS NULL, s.due DESC, s.key)
        FROM (SELECT o.* FROM said o WHERE o.paused_at IS NOT NULL OR o.held_until > $9 OR o.weight <> 1 ORDER BY o.paused_at IS NULL, o.due DESC, o.key LIMIT 20) s),
      (SELECT count(*) FROM rows) FROM total t$q$;
BEGIN
  SELECT x.* INTO l FROM pgmqd.limits x WHERE x.queue = lower(kept_back.queue);
  IF NOT FOUND THEN
    RETURN; -- most queues: nothing else is looked up
  END IF;
  own := pgmqd.queue_table('q', queue);
  IF own IS NULL THEN
    RETURN;
  ELSIF l.rate = 0 AND l.at_once = 0 AND l.of_a_key = 0 AND NOT EXISTS (SELECT FROM pgmqd.keys o WHERE o.queue = l.queue) THEN
    by_pause := 0;
    RETURN; -- keys take turns, and that is all
  END IF;
  k := CASE WHEN l.key IS NULL THEN $q$''::text$q$ ELSE pgmqd.key_expression(l.key) END;
  FOR i IN CASE WHEN obj_description(to_regclass(format('pgmq.%I', 'q_' || l.queue || '_key_idx')), 'pg_class') = l.key THEN 1 ELSE 2 END .. 2 LOOP
    EXECUTE format(CASE i WHEN 1 THEN from_key_to_key ELSE through_the_queue END || told, k, own) INTO by_rate, by_key, by_place, by_pause, keys, n
    USING l.queue, l.rate, l.burst, l.rate_by_key, l.rate_here, l.at_once, l.of_a_key, l.key IS NOT NULL, clock_timestamp(),
      ceil(greatest(CASE WHEN l.rate > 0 AND l.rate_by_key THEN l.burst ELSE 0 END, l.of_a_key))::bigint;
    EXIT WHEN n <= 10000;
  END LOOP;
END $f$;

-- ---- single keys ----

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
  IF NOT coalesce(weight > 0 AND weight <= 1000000, false) THEN
    RAISE EXCEPTION 'weight must be above 0 and up to 1000000, and not %', coalesce(weight::text, 'null') USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT * INTO k FROM pgmqd.limited_key(queue, key);
  INSERT INTO pgmqd.keys AS o (queue, key, weight) VALUES (k.queue, k.key, weigh_key.weight)
  ON CONFLICT ON CONSTRAINT keys_pkey DO UPDATE SET weight = excluded.weight;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'pause_key', 'resume_key', 'weigh_key');
  PERFORM pgmqd.allow_calls('pgmqd', 'tell_limits', 'kept_back', 'limit_problems', 'hold_key');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'kept_back', 'limit_problems');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'kept_back', 'limit_problems');
END $$;

RESET search_path;
