-- 023_status.sql: how each queue stands, for whoever shows it: the HTTP server and the command line.

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

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'queue_status', 'lock_holders');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'lock_holders');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'lock_holders');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'queue_status');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'queue_status');
END $$;

RESET search_path;
