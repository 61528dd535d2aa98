-- 024_unique.sql: unique messages: of the messages with one key, only one waits, runs, or was done a short time ago.
-- makes: pgmqd.unique_keys

SET search_path = pg_catalog, pg_temp;

-- The newest message of each key. keep_for: the longest time that a caller has asked for, for the deletion of old rows.
CREATE TABLE IF NOT EXISTS pgmqd.unique_keys (
  queue text,
  key text,
  msg_id bigint,
  enqueued_at timestamptz,
  keep_for interval NOT NULL DEFAULT '0',
  PRIMARY KEY (queue, key)
) WITH (fillfactor = 70);
COMMENT ON TABLE pgmqd.unique_keys IS 'the newest message of each unique key (pgmqd.enqueue_unique)';

-- Whether a message was done less than `period` ago, or has only left its queue otherwise: deleted when done, which leaves no time, so the
-- time of its enqueue counts. A dead letter was not done.
CREATE OR REPLACE FUNCTION pgmqd.done_since(queue text, msg_id bigint, enqueued_at timestamptz, period interval) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  archive regclass := pgmqd.queue_table('a', queue);
  dlq regclass := pgmqd.queue_table('q', pgmqd.dlq_name(queue));
  done timestamptz;
  dead boolean := false;
BEGIN
  IF archive IS NOT NULL THEN
    EXECUTE format('SELECT a.archived_at FROM %s a WHERE a.msg_id = $1 AND a.enqueued_at = $2', archive) INTO done USING msg_id, enqueued_at;
  END IF;
  IF done IS NOT NULL OR enqueued_at <= clock_timestamp() - period THEN
    RETURN coalesce(done > clock_timestamp() - period, false);
  END IF;
  IF dlq IS NOT NULL THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s d WHERE to_jsonb(d)->''headers''->''pgmqd_dead''->''msg_id'' = to_jsonb($1))', dlq) INTO dead USING msg_id;
  END IF;
  RETURN NOT dead;
END $f$;

-- Looks at the message of a key that is there already, and changes it as on_conflict says. True: a new message has to be sent. The row of
-- the key is locked, so another enqueue of the key waits for the end of this transaction.
CREATE OR REPLACE FUNCTION pgmqd.meet_key(queue text, message jsonb, unique_key text, unique_for interval, on_conflict text, delay integer,
  OUT id bigint, OUT send boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_variable
DECLARE
  name text := lower(queue);
  own text := format('pgmq.%I', 'q_' || lower(queue));
  was timestamptz;
  there boolean;
  changed integer := 0;
BEGIN
  UPDATE pgmqd.unique_keys u SET keep_for = greatest(u.keep_for, unique_for) WHERE u.queue = name AND u.key = unique_key
  RETURNING u.msg_id, u.enqueued_at INTO id, was;
  EXECUTE format('SELECT EXISTS (SELECT FROM %s q WHERE q.msg_id = $1 AND q.enqueued_at = $2)', own) INTO there USING id, was;
  IF there AND on_conflict = 'replace' THEN
    EXECUTE format('UPDATE %s q SET message = $3 WHERE q.msg_id = $1 AND q.enqueued_at = $2 AND q.read_ct = 0', own) USING id, was, message;
    GET DIAGNOSTICS changed = ROW_COUNT;
  ELSIF there AND on_conflict = 'extend' THEN
    EXECUTE format('UPDATE %s q SET vt = clock_timestamp() + make_interval(secs => $3) WHERE q.msg_id = $1 AND q.enqueued_at = $2'
      ' AND q.read_ct = 0', own) USING id, was, coalesce(delay, 0);
    GET DIAGNOSTICS changed = ROW_COUNT;
  END IF;
  send := CASE WHEN there THEN on_conflict <> 'keep' AND changed = 0
    ELSE NOT coalesce(unique_for > '0' AND pgmqd.done_since(queue, id, was, unique_for), false) END;
END $f$;

-- Puts a message with a key into a queue, unless one with this key waits, runs, or was done less than unique_for ago; delay in seconds.
-- msg_id: the number of the new message, or of the one that is there already (is_new false). Then on_conflict says: keep it as it is;
-- replace its body; extend its delay, which begins anew (debounce). A message that was claimed before is not changed: for replace
-- and extend a new one is sent beside it, so that no change is missed. It all belongs to the caller's transaction: another enqueue of the
-- key waits for its end. A session's plans may be older than the keys, so they go by the index in any case. Errors: 22023 for a word that on_conflict does not know, a key that is empty or over 1,000 bytes; 42P01.
CREATE OR REPLACE FUNCTION pgmqd.enqueue_unique(queue text, message jsonb, unique_key text, unique_for interval DEFAULT NULL,
  on_conflict text DEFAULT 'keep', delay integer DEFAULT 0, headers jsonb DEFAULT NULL, OUT msg_id bigint, OUT is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $f$
#variable_conflict use_variable
DECLARE
  name text := lower(queue);
  known boolean;
  sent bigint;
BEGIN
  IF coalesce(on_conflict, '') NOT IN ('keep', 'replace', 'extend') THEN
    RAISE EXCEPTION 'on_conflict is keep, replace or extend, and not "%"', on_conflict USING ERRCODE = 'invalid_parameter_value';
  ELSIF coalesce(octet_length(unique_key), 0) NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'unique_key must have 1 to 1000 bytes' USING ERRCODE = 'invalid_parameter_value';
  ELSIF pgmqd.queue_table('q', queue) IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, or belongs to somebody else', queue USING ERRCODE = 'undefined_table';
  END IF;
  known := EXISTS (SELECT FROM pgmqd.unique_keys u WHERE u.queue = name AND u.key = unique_key);
  IF known THEN
    SELECT m.id, m.send INTO msg_id, is_new FROM pgmqd.meet_key(queue, message, unique_key, unique_for, on_conflict, delay) m;
    IF NOT is_new THEN
      RETURN;
    END IF;
  END IF;
  IF headers IS NULL THEN
    SELECT s INTO sent FROM pgmq.send(queue, message, coalesce(delay, 0)) s;
  ELSE
    SELECT s INTO sent FROM pgmq.send(queue, message, headers, coalesce(delay, 0)) s;
  END IF;
  IF NOT known THEN
    -- pgmq's enqueued_at is now()
    INSERT INTO pgmqd.unique_keys (queue, key, msg_id, enqueued_at, keep_for) VALUES (name, unique_key, sent, now(), coalesce(unique_for, '0'))
    ON CONFLICT ON CONSTRAINT unique_keys_pkey DO NOTHING;
    IF NOT FOUND THEN -- another transaction has come with this key, and this one has waited for its end
      SELECT m.id, m.send INTO msg_id, is_new FROM pgmqd.meet_key(queue, message, unique_key, unique_for, on_conflict, delay) m;
      known := is_new;
    END IF;
  END IF;
  IF is_new IS FALSE THEN
    EXECUTE format('DELETE FROM pgmq.%I q WHERE q.msg_id = $1', 'q_' || lower(queue)) USING sent;
    RETURN;
  ELSIF known THEN
    UPDATE pgmqd.unique_keys u SET msg_id = sent, enqueued_at = now() WHERE u.queue = name AND u.key = unique_key;
  END IF;
  msg_id := sent;
  is_new := true;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'enqueue_unique');
END $$;

RESET search_path;
