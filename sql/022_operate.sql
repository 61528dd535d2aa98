-- 022_operate.sql: pauses of queues, and the way of a message.
-- makes: pgmqd.pauses

SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS pgmqd.pauses (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  queue text NOT NULL,
  paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  paused_by text NOT NULL,
  reason text,
  resumed_at timestamptz,
  resumed_by text
);
CREATE UNIQUE INDEX IF NOT EXISTS pauses_open_idx ON pgmqd.pauses (lower(queue)) WHERE resumed_at IS NULL;
COMMENT ON TABLE pgmqd.pauses IS 'when which queue was paused by an operator, by whom and why; without resumed_at it is paused now';

-- Notifies every dispatcher that the pauses of a queue have changed. A dispatcher that misses it reads the pause with its next full look.
CREATE OR REPLACE FUNCTION pgmqd.tell_pause(queue text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pg_notify(coalesce((SELECT split_part(encode(t.tgargs, 'escape'), '\000', 2) FROM pg_trigger t
    WHERE t.tgrelid = to_regclass(format('pgmq.%I', 'q_' || lower(queue))) AND t.tgname = 'pgmqd_wakeup'), pgmqd.setting('channel')), '!pause ' || queue)
$f$;

-- Pauses a queue: dispatchers finish the messages that run, and start no others until it is resumed. False when it is paused already.
CREATE OR REPLACE FUNCTION pgmqd.pause(queue text, reason text DEFAULT NULL, by text DEFAULT session_user) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  stored text := pgmqd.stored_name(queue);
BEGIN
  IF stored IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', queue USING ERRCODE = 'undefined_object';
  END IF;
  INSERT INTO pgmqd.pauses (queue, paused_by, reason) VALUES (stored, coalesce(by, session_user), nullif(btrim(reason), ''))
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN -- it is paused already; a reason that is given now is the newer one, with its author if that is somebody else
    UPDATE pgmqd.pauses p SET reason = btrim(pause.reason) || CASE WHEN p.paused_by = coalesce(by, session_user) THEN '' ELSE format(' (%s)', coalesce(by, session_user)) END
    WHERE p.queue = stored AND p.resumed_at IS NULL AND btrim(pause.reason) <> '';
    RETURN false;
  END IF;
  PERFORM pgmqd.tell_pause(stored);
  RETURN true;
END $f$;

-- Ends a pause. A dispatcher that has paused the queue for a configuration error tries it at once, too. False when no operator had paused it.
CREATE OR REPLACE FUNCTION pgmqd.resume(queue text, by text DEFAULT session_user) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  stored text := pgmqd.stored_name(queue);
  was_paused boolean;
BEGIN
  IF stored IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', queue USING ERRCODE = 'undefined_object';
  END IF;
  UPDATE pgmqd.pauses p SET resumed_at = clock_timestamp(), resumed_by = coalesce(by, session_user)
  WHERE lower(p.queue) = lower(stored) AND p.resumed_at IS NULL;
  was_paused := FOUND;
  PERFORM pgmqd.tell_pause(stored);
  RETURN was_paused;
END $f$;

-- The pause of a queue in words, "by anna: mail server moves"; NULL when it is not paused. The dispatcher asks this.
CREATE OR REPLACE FUNCTION pgmqd.queue_pause(queue text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT 'by ' || p.paused_by || coalesce(': ' || p.reason, '') FROM pgmqd.pauses p
  WHERE lower(p.queue) = lower(queue_pause.queue) AND p.resumed_at IS NULL
$f$;

-- The queues that are paused now, with who, when and why, for `pgmqd status`.
CREATE OR REPLACE FUNCTION pgmqd.paused_queues() RETURNS TABLE (queue text, paused_by text, reason text, paused_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT p.queue, p.paused_by, p.reason, p.paused_at FROM pgmqd.pauses p WHERE p.resumed_at IS NULL
$f$;

-- Figures of the last five minutes from the archives: how many messages were settled in the last minute and in five, and
-- the attempts that the latter took, on average and at most. A queue that deletes what is done shows nothing here.
CREATE OR REPLACE FUNCTION pgmqd.queue_rates()
RETURNS TABLE (queue text, archived_1min bigint, archived_5min bigint, attempts_avg double precision, attempts_max integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record;
BEGIN
  FOR t IN
    SELECT m.queue_name AS name, pgmqd.queue_table('a', m.queue_name) AS archive FROM pgmq.meta m
    WHERE NOT EXISTS (SELECT FROM pgmq.meta o WHERE lower(m.queue_name) = lower(pgmqd.dlq_name(o.queue_name)))
  LOOP
    queue := t.name;
    archived_1min := NULL; archived_5min := NULL; attempts_avg := NULL; attempts_max := NULL;
    IF t.archive IS NOT NULL THEN
      BEGIN
        EXECUTE format('SELECT count(*) FILTER (WHERE archived_at > now() - interval ''1 minute''), count(*), avg(read_ct)::double precision, max(read_ct)
          FROM %s WHERE archived_at > now() - interval ''5 minutes''', t.archive) INTO archived_1min, archived_5min, attempts_avg, attempts_max;
      EXCEPTION WHEN insufficient_privilege OR undefined_table OR lock_not_available THEN
        NULL;
      END;
    END IF;
    RETURN NEXT;
  END LOOP;
END $f$;

-- The events of a queue after a place in it, oldest first: claims that are open, archived messages, dead letters. `archived` and `dead` are the
-- last time and number that were seen; the first call, with NULLs, returns a row of kind "start" with the places to go on from.
CREATE OR REPLACE FUNCTION pgmqd.queue_events(queue text, archived timestamptz DEFAULT NULL, dead bigint DEFAULT NULL)
RETURNS TABLE (kind text, id bigint, attempts integer, at timestamptz, dead_id bigint, class text, reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record;
BEGIN
  SELECT * INTO t FROM pgmqd.dead_letter_tables(queue);
  IF archived IS NULL OR dead IS NULL THEN -- nothing was seen yet
    RETURN QUERY EXECUTE format('SELECT ''start'', NULL::bigint, NULL::integer, clock_timestamp(), coalesce(max(d.msg_id), 0), NULL, NULL FROM %s d', t.dead);
    RETURN;
  END IF;
  RETURN QUERY EXECUTE format('SELECT ''done'', a.msg_id, a.read_ct, a.archived_at, NULL::bigint, NULL, NULL FROM %1$s a WHERE a.archived_at >= $1
    UNION ALL SELECT ''dead'', coalesce(pgmqd.as_bigint(h->>''msg_id''), d.msg_id), coalesce(pgmqd.as_integer(h->>''attempts''), d.read_ct), d.enqueued_at, d.msg_id, h->>''class'', h->>''reason''
      FROM %2$s d, LATERAL (SELECT d.headers->''pgmqd_dead'') x (h) WHERE d.msg_id > $2
    UNION ALL SELECT ''claimed'', q.msg_id, q.read_ct, q.vt, NULL, NULL, NULL FROM %3$s q WHERE q.read_ct > 0 AND q.vt > clock_timestamp()
    ORDER BY 4, 2', (SELECT pgmqd.queue_table('a', queue)), t.dead, t.living) USING archived, dead;
END $f$;

-- The fate of a message: waiting, claimed (in somebody's hands, or waiting for its next attempt), done, dead, or gone (deleted when done, or never there).
CREATE OR REPLACE FUNCTION pgmqd.message_state(queue text, id bigint, OUT state text, OUT attempts integer, OUT reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record;
BEGIN
  SELECT * INTO t FROM pgmqd.dead_letter_tables(queue);
  EXECUTE format('SELECT CASE WHEN q.read_ct = 0 THEN ''waiting'' ELSE ''claimed'' END, q.read_ct FROM %s q WHERE q.msg_id = $1', t.living)
  INTO state, attempts USING id;
  IF state IS NULL THEN
    EXECUTE format('SELECT ''done'', a.read_ct FROM %s a WHERE a.msg_id = $1', pgmqd.queue_table('a', queue))
    INTO state, attempts USING id;
  END IF;
  IF state IS NULL THEN
    EXECUTE format('SELECT ''dead'', pgmqd.as_integer(d.headers #>> ''{pgmqd_dead,attempts}''), d.headers #>> ''{pgmqd_dead,reason}'' FROM %s d
      WHERE d.headers @> jsonb_build_object(''pgmqd_dead'', jsonb_build_object(''msg_id'', $1)) ORDER BY d.msg_id DESC LIMIT 1', t.dead)
    INTO state, attempts, reason USING id;
  END IF;
  state := coalesce(state, 'gone');
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'queue_pause', 'pause', 'resume', 'queue_rates', 'paused_queues');
  PERFORM pgmqd.allow_calls('pgmqd', 'queue_events', 'message_state');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'queue_pause', 'pause', 'resume', 'queue_rates', 'paused_queues', 'queue_events', 'message_state');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'queue_rates', 'paused_queues');
END $$;

RESET search_path;
