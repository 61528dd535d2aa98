-- 023_status.sql: how each queue stands and stood, for whoever shows it: the HTTP server and the command line.
-- makes: pgmqd.dispatchers pgmqd.history

SET search_path = pg_catalog, pg_temp;

-- One row for each queue; its dead-letter queue is a column of it, and no row of its own.
--   waiting       due and delayed: nobody has it
--   due           may be claimed now
--   delayed       not claimed yet, and not due before later
--   leased        claimed: in somebody's hands, or waiting for its next attempt (the tables do not tell one from the other)
--   oldest_due_s  how long the one that has been due longest has been waiting, in seconds; delays do not count
--   next_due      when the next message falls due
--   dead_letters  in its dead-letter queue; NULL when it has none
--   attached      whether an enqueue wakes the dispatcher
--   problem       why there are no numbers, for a queue that the caller may not read, or that is about to go
CREATE OR REPLACE FUNCTION pgmqd.queue_status()
RETURNS TABLE (queue text, waiting bigint, due bigint, delayed bigint, leased bigint, oldest_due_s double precision,
  next_due timestamptz, dead_letters bigint, attached boolean, problem text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record;
BEGIN
  FOR t IN
    SELECT m.queue_name AS name, to_regclass(format('pgmq.%I', 'q_' || lower(m.queue_name))) AS living,
      to_regclass(format('pgmq.%I', 'q_' || lower(pgmqd.dlq_name(m.queue_name)))) AS dead
    FROM pgmq.meta m
    WHERE NOT EXISTS (SELECT FROM pgmq.meta o WHERE lower(m.queue_name) = lower(pgmqd.dlq_name(o.queue_name)))
    ORDER BY m.queue_name
  LOOP
    queue := t.name;
    waiting := NULL; due := NULL; delayed := NULL; leased := NULL; oldest_due_s := NULL; next_due := NULL;
    dead_letters := NULL; attached := NULL; problem := NULL;
    IF t.living IS NULL THEN
      problem := 'the table of the queue is missing';
      RETURN NEXT;
      CONTINUE;
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid IN (t.living, t.dead) AND c.relkind NOT IN ('r', 'p')) THEN
      problem := 'there is a view in the place of its table'; -- it would call functions of others with the rights of whoever asks
      RETURN NEXT;
      CONTINUE;
    END IF;
    attached := EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.living AND tgname = 'pgmqd_wakeup' AND tgenabled IN ('O', 'A'));
    BEGIN
      EXECUTE format('SELECT count(*) FILTER (WHERE q.vt <= c.t OR q.read_ct = 0), count(*) FILTER (WHERE q.vt <= c.t),
          count(*) FILTER (WHERE q.vt > c.t AND q.read_ct = 0), count(*) FILTER (WHERE q.vt > c.t AND q.read_ct > 0),
          extract(epoch FROM max(c.t) - min(greatest(q.vt, q.enqueued_at)) FILTER (WHERE q.vt <= c.t)), min(q.vt) FILTER (WHERE q.vt > c.t)
        FROM %s q, (SELECT clock_timestamp() AS t OFFSET 0) c', t.living)
      INTO waiting, due, delayed, leased, oldest_due_s, next_due;
      oldest_due_s := CASE WHEN oldest_due_s < 0 THEN 0 ELSE oldest_due_s END;
      IF t.dead IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %s', t.dead) INTO dead_letters;
      END IF;
    EXCEPTION WHEN insufficient_privilege OR undefined_table OR lock_not_available THEN
      problem := SQLERRM;
    END;
    RETURN NEXT;
  END LOOP;
END $f$;

-- Sessions that are no pgmqd and have an advisory lock by which workers and producers of a queue know of each other; anybody may take one.
-- Producers stay silent for "awake"; a worker polls for "in flight", which a producer shares for the length of a transaction; workers believe in
-- another one for "present". A name is anybody's, too: what calls itself pgmqd has to have a role of ours.
CREATE OR REPLACE FUNCTION pgmqd.lock_holders() RETURNS TABLE (queue text, lock text, pid integer, holder text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT DISTINCT substr(c.relname, 3), CASE WHEN l.objid = 4294967294 THEN 'awake' WHEN l.objid = 4294967293 THEN 'present'
      WHEN l.mode = 'ExclusiveLock' THEN 'in flight' ELSE 'transaction' END, a.pid,
    format('pid %s (role %s, %s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application name'))
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    JOIN pg_class c ON c.oid = l.classid AND c.relnamespace = 'pgmq'::regnamespace AND c.relname LIKE 'q\_%'
  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND (l.objid = 4294967293 OR l.objid IN (4294967294, 4294967295) AND l.mode = 'ExclusiveLock'
      OR l.objid = 4294967295 AND a.xact_start < now() - interval '1 minute')
    AND NOT (a.application_name LIKE 'pgmqd%' AND (a.usename = current_user
      OR EXISTS (SELECT FROM pg_roles r WHERE (r.rolname = 'pgmqd' OR r.oid = (SELECT n.nspowner FROM pg_namespace n WHERE n.nspname = 'pgmqd'))
        AND pg_has_role(a.usesysid, r.oid, 'MEMBER'))))
$f$;

-- ---- how the queues stood ----

-- Each dispatcher writes its own row once a minute.
CREATE TABLE IF NOT EXISTS pgmqd.dispatchers (
  name text PRIMARY KEY,
  version text NOT NULL,
  started_at timestamptz NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  queues text[] NOT NULL
);
COMMENT ON TABLE pgmqd.dispatchers IS 'every dispatcher of this database: its host and process, version, since when it runs, when it was last seen, what it serves';

-- The messages of a queue that a dispatcher settled, in steps (seconds) of a minute and of ten for a day, of an hour and of six for thirty days; nothing
-- where nothing was settled. wait: how many messages waited how long, between the bounds of the histogram and above the last one.
CREATE TABLE IF NOT EXISTS pgmqd.history (
  step integer NOT NULL,
  at timestamptz NOT NULL,
  queue text NOT NULL,
  dispatcher text NOT NULL,
  done bigint NOT NULL,
  retried bigint NOT NULL,
  failed bigint NOT NULL,
  wait bigint[] NOT NULL,
  PRIMARY KEY (step, at, queue, dispatcher)
);
COMMENT ON TABLE pgmqd.history IS 'what was settled, by minute and ten minutes (24 hours), by hour and six hours (30 days)';

-- Adds up two lists of counts.
CREATE OR REPLACE FUNCTION pgmqd.add_counts(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT array_agg(coalesce(x, 0) + coalesce(y, 0) ORDER BY n) FROM unnest(a, b) WITH ORDINALITY u (x, y, n)
$f$;

-- Writes down what a dispatcher has settled since the last time: rows is [{queue, done, retried, failed, wait: [...]}]. What is too old goes.
CREATE OR REPLACE FUNCTION pgmqd.record_history(dispatcher text, version text, started double precision, queues text[], rows jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  INSERT INTO pgmqd.dispatchers AS d (name, version, started_at, queues) VALUES (dispatcher, version, to_timestamp(started), queues)
  ON CONFLICT (name) DO UPDATE SET version = excluded.version, started_at = excluded.started_at, seen_at = clock_timestamp(), queues = excluded.queues;
  INSERT INTO pgmqd.history AS h (step, at, queue, dispatcher, done, retried, failed, wait)
    SELECT s, to_timestamp(floor(extract(epoch FROM clock_timestamp()) / s) * s), r.queue, record_history.dispatcher, r.done, r.retried, r.failed, r.wait
    FROM jsonb_to_recordset(rows) r (queue text, done bigint, retried bigint, failed bigint, wait bigint[]), unnest(ARRAY[60, 600, 3600, 21600]) s
  ON CONFLICT ON CONSTRAINT history_pkey DO UPDATE SET done = h.done + excluded.done, retried = h.retried + excluded.retried,
    failed = h.failed + excluded.failed, wait = pgmqd.add_counts(h.wait, excluded.wait);
  DELETE FROM pgmqd.history h USING unnest(ARRAY[60, 600, 3600, 21600]) s
    WHERE h.step = s AND h.at < clock_timestamp() - CASE WHEN s < 3600 THEN interval '24 hours' ELSE interval '30 days' END;
  DELETE FROM pgmqd.dispatchers d WHERE d.seen_at < clock_timestamp() - interval '30 days';
END $f$;

-- A quantile of counts between bounds (seconds), in milliseconds: as the middle of its place between two bounds; NULL when nothing was counted.
CREATE OR REPLACE FUNCTION pgmqd.histogram_quantile(counts bigint[], bounds double precision[], q double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  total double precision := (SELECT sum(c) FROM unnest(counts) c);
  below double precision := 0;
  low double precision := 0;
BEGIN
  IF coalesce(total, 0) = 0 THEN
    RETURN NULL;
  END IF;
  FOR i IN 1 .. cardinality(bounds) LOOP
    IF counts[i] > 0 AND below + counts[i] >= q * total THEN
      RETURN round(((low + (bounds[i] - low) * (q * total - below) / counts[i]) * 1000)::numeric, 3);
    END IF;
    below := below + counts[i];
    low := bounds[i];
  END LOOP;
  RETURN low * 1000;
END $f$;

-- The messages settled over a span, for charts: {span, step_seconds, done: [...], retried: [...], failed: [...], wait_p50_ms: [...], wait_p99_ms: [...]},
-- the newest point last. queue and dispatcher: of these only; bounds: of the histogram, in seconds.
CREATE OR REPLACE FUNCTION pgmqd.history_page(span text, bounds double precision[], queue text DEFAULT NULL, dispatcher text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s integer := CASE span WHEN '1h' THEN 60 WHEN '24h' THEN 600 WHEN '30d' THEN 21600 END;
  points integer := CASE span WHEN '1h' THEN 60 WHEN '24h' THEN 144 ELSE 120 END;
  last bigint := floor(extract(epoch FROM clock_timestamp()) / s);
  made jsonb;
BEGIN
  IF s IS NULL THEN
    RAISE EXCEPTION 'bad_span: a span is 1h, 24h or 30d' USING ERRCODE = 'HT400';
  END IF;
  EXECUTE format('SELECT jsonb_build_object(''done'', jsonb_agg(coalesce(h.done, 0) ORDER BY n), ''retried'', jsonb_agg(coalesce(h.retried, 0) ORDER BY n),
      ''failed'', jsonb_agg(coalesce(h.failed, 0) ORDER BY n), ''wait_p50_ms'', jsonb_agg(pgmqd.histogram_quantile(h.wait, $1, 0.5) ORDER BY n),
      ''wait_p99_ms'', jsonb_agg(pgmqd.histogram_quantile(h.wait, $1, 0.99) ORDER BY n))
    FROM generate_series($2 - $3 + 1, $2) n LEFT JOIN (SELECT h.at, sum(h.done) AS done, sum(h.retried) AS retried, sum(h.failed) AS failed, ARRAY[%s]::bigint[] AS wait
      FROM pgmqd.history h WHERE h.step = $4 AND h.at >= to_timestamp(($2 - $3 + 1) * $4) AND ($5 IS NULL OR lower(h.queue) = lower($5)) AND ($6 IS NULL OR h.dispatcher = $6)
      GROUP BY h.at) h ON h.at = to_timestamp(n * $4)', (SELECT string_agg(format('sum(h.wait[%s])', i), ', ' ORDER BY i) FROM generate_series(1, cardinality(bounds) + 1) i))
  INTO made USING bounds, last, points, s, queue, dispatcher;
  RETURN jsonb_build_object('span', span, 'step_seconds', s) || made;
END $f$;

-- Every dispatcher of this database: {dispatchers: [{name, version, started_at, seen_at, alive, queues}]}.
CREATE OR REPLACE FUNCTION pgmqd.dispatcher_list() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_build_object('dispatchers', coalesce(jsonb_agg(jsonb_build_object('name', d.name, 'version', d.version, 'started_at', pgmqd.iso_time(d.started_at),
    'seen_at', pgmqd.iso_time(d.seen_at), 'alive', d.seen_at > clock_timestamp() - interval '150 seconds', 'queues', to_jsonb(d.queues)) ORDER BY d.seen_at DESC, d.name), '[]'))
  FROM pgmqd.dispatchers d
$f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'queue_status', 'lock_holders', 'record_history', 'history_page', 'dispatcher_list');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'lock_holders');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'lock_holders');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'queue_status');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'queue_status');
END $$;

RESET search_path;
