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
-- time of its enqueue counts. A dead letter was not done, nor was one that an operator cancelled.
CREATE OR REPLACE FUNCTION pgmqd.done_since(queue text, msg_id bigint, enqueued_at timestamptz, period interval) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  archive regclass := pgmqd.queue_table('a', queue);
  dlq regclass := pgmqd.queue_table('q', pgmqd.dlq_name(queue));
  done timestamptz;
  dead boolean := false;
  cancelled boolean;
BEGIN
  IF archive IS NOT NULL THEN
    EXECUTE format('SELECT a.archived_at, to_jsonb(a)->''headers'' ? ''pgmqd_cancelled'' FROM %s a WHERE a.msg_id = $1 AND a.enqueued_at = $2', archive)
    INTO done, cancelled USING msg_id, enqueued_at;
  END IF;
  IF cancelled THEN
    RETURN false;
  END IF;
  IF done IS NOT NULL OR enqueued_at <= clock_timestamp() - period THEN
    RETURN coalesce(done > clock_timestamp() - period, false);
  END IF;
  IF dlq IS NOT NULL THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s d WHERE to_jsonb(d)->''headers''->''pgmqd_dead''->''msg_id'' = to_jsonb($1))', dlq) INTO dead USING msg_id;
  END IF;
  RETURN NOT dead;
END $f$;

DROP FUNCTION IF EXISTS pgmqd.meet_key(text, jsonb, text, interval, text, integer);
-- Looks at the message of a key that is there already, and changes it as on_conflict says. With a place, where the key's row is now, a new message has to be
-- sent. The row stays locked, so another enqueue of the key waits for the end of this transaction. A session's plans may be older than the keys, so
-- they go by the index in any case.
CREATE OR REPLACE FUNCTION pgmqd.meet_key(queue text, own regclass, message jsonb, unique_key text, unique_for interval, on_conflict text, delay integer,
  OUT id bigint, OUT place tid)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $f$
#variable_conflict use_variable
DECLARE
  was timestamptz;
  there boolean;
  changed integer := 0;
BEGIN
  UPDATE pgmqd.unique_keys u SET keep_for = greatest(u.keep_for, unique_for) WHERE u.queue = lower(queue) AND u.key = unique_key
  RETURNING u.msg_id, u.enqueued_at, u.ctid INTO id, was, place;
  EXECUTE format('SELECT EXISTS (SELECT FROM %s q WHERE q.msg_id = $1 AND q.enqueued_at = $2)', own) INTO there USING id, was;
  IF there AND on_conflict = 'replace' THEN
    EXECUTE format('UPDATE %s q SET message = $3 WHERE q.msg_id = $1 AND q.enqueued_at = $2 AND q.read_ct = 0', own) USING id, was, message;
    GET DIAGNOSTICS changed = ROW_COUNT;
  ELSIF there AND on_conflict = 'extend' THEN
    EXECUTE format('UPDATE %s q SET vt = clock_timestamp() + make_interval(secs => $3) WHERE q.msg_id = $1 AND q.enqueued_at = $2'
      ' AND q.read_ct = 0', own) USING id, was, coalesce(delay, 0);
    GET DIAGNOSTICS changed = ROW_COUNT;
  END IF;
  IF there AND (on_conflict = 'keep' OR changed > 0) OR NOT there AND unique_for > '0' AND pgmqd.done_since(queue, id, was, unique_for) THEN
    place := NULL;
  END IF;
END $f$;

-- What pgmqd.enqueue_unique() does, with the rights of its caller, who has looked whose table it is.
CREATE OR REPLACE FUNCTION pgmqd.put_unique(queue text, own regclass, message jsonb, unique_key text, unique_for interval, on_conflict text, delay integer,
  headers jsonb, OUT msg_id bigint, OUT is_new boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_variable
DECLARE
  place tid;
  at timestamptz;
BEGIN
  IF coalesce(on_conflict, '') NOT IN ('keep', 'replace', 'extend') THEN
    RAISE EXCEPTION 'on_conflict is keep, replace or extend, and not "%"', on_conflict USING ERRCODE = 'invalid_parameter_value';
  ELSIF coalesce(octet_length(unique_key), 0) NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'unique_key must have 1 to 1000 bytes' USING ERRCODE = 'invalid_parameter_value';
  ELSIF unique_for NOT BETWEEN '0' AND '100 years' THEN -- no time lies so far back
    RAISE EXCEPTION 'unique_for must be from 0 to 100 years' USING ERRCODE = 'invalid_parameter_value';
  ELSIF own IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, or belongs to somebody else', queue USING ERRCODE = 'undefined_table';
  END IF;
  -- The key's row comes first, and the number of its message afterwards: no look-up is needed for a new key, and the place of a row needs no plan.
  INSERT INTO pgmqd.unique_keys AS u (queue, key, keep_for) VALUES (lower(queue), unique_key, coalesce(unique_for, '0'))
  ON CONFLICT ON CONSTRAINT unique_keys_pkey DO NOTHING RETURNING u.ctid INTO place;
  IF place IS NULL THEN
    SELECT m.id, m.place INTO msg_id, place FROM pgmqd.meet_key(queue, own, message, unique_key, unique_for, on_conflict, delay) m;
    IF place IS NULL THEN
      is_new := false;
      RETURN;
    END IF;
  END IF;
  -- as pgmq.send() does, which would cost half as much again
  EXECUTE format('INSERT INTO %s (vt, message%s) VALUES (clock_timestamp() + make_interval(secs => $1), $2%s) RETURNING msg_id, enqueued_at', own,
    CASE WHEN headers IS NOT NULL THEN ', headers' ELSE '' END, CASE WHEN headers IS NOT NULL THEN ', $3' ELSE '' END)
  INTO msg_id, at USING coalesce(delay, 0), message, headers;
  UPDATE pgmqd.unique_keys u SET msg_id = put_unique.msg_id, enqueued_at = at WHERE u.ctid = place;
  is_new := true;
END $f$;

-- Puts a message with a key into a queue, unless one with this key waits, runs, or was done less than unique_for ago; delay in seconds.
-- msg_id: the number of the new message, or of the one that is there already (is_new false). Then on_conflict says: keep it as it is;
-- replace its body; extend its delay, which begins anew (debounce). A message that was claimed before is not changed: for replace
-- and extend a new one is sent beside it, so that no change is missed. It all belongs to the caller's transaction: another enqueue of the
-- key waits for its end. Errors: 22023 for a word that on_conflict does not know, a key that is empty or over 1,000 bytes,
-- a unique_for below 0 or over 100 years; 42P01.
CREATE OR REPLACE FUNCTION pgmqd.enqueue_unique(queue text, message jsonb, unique_key text, unique_for interval DEFAULT NULL,
  on_conflict text DEFAULT 'keep', delay integer DEFAULT 0, headers jsonb DEFAULT NULL, OUT msg_id bigint, OUT is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  own regclass := to_regclass(format('pgmq.%I', 'q_' || lower(queue)));
BEGIN
  IF NOT EXISTS (SELECT FROM pgmqd.own_tables t WHERE t.name = own) AND NOT pgmqd.is_trusted(own) THEN
    own := NULL;
  END IF;
  SELECT p.msg_id, p.is_new INTO enqueue_unique.msg_id, enqueue_unique.is_new
  FROM pgmqd.put_unique(queue, own, message, unique_key, unique_for, on_conflict, delay, headers) p;
END $f$;

-- ---- a message that goes on as another one ----

-- Whether no other session has the key of a message locked, which is locked now; true for a message without one. Few messages are replaced, so they
-- are looked for among the keys of their queue, and no enqueue pays for an index.
CREATE OR REPLACE FUNCTION pgmqd.key_is_free(queue text, msg_id bigint, enqueued_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $f$
#variable_conflict use_variable
DECLARE
  k text := (SELECT u.key FROM pgmqd.unique_keys u WHERE u.queue = lower(queue) AND u.msg_id = msg_id AND u.enqueued_at = enqueued_at);
BEGIN
  PERFORM FROM pgmqd.unique_keys u WHERE u.queue = lower(queue) AND u.key = k FOR UPDATE SKIP LOCKED;
  RETURN FOUND OR k IS NULL;
END $f$;

-- The key of a message is that of another one from now on: of what is left of it (pgmqd_replace). False: it has none.
CREATE OR REPLACE FUNCTION pgmqd.key_goes_on(queue text, msg_id bigint, enqueued_at timestamptz, new_id bigint, new_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $f$
#variable_conflict use_variable
BEGIN
  UPDATE pgmqd.unique_keys u SET msg_id = new_id, enqueued_at = new_at WHERE u.queue = lower(queue) AND u.msg_id = msg_id AND u.enqueued_at = enqueued_at;
  RETURN FOUND;
END $f$;

-- ---- over HTTP ----

-- A request over HTTP, {message, headers, delay, unique_key, unique_for, on_conflict}, with times in seconds, into an attached queue.
-- Returns {id, new}. Errors HT400 and HT404.
CREATE OR REPLACE FUNCTION pgmqd.send_request(queue text, request text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  asked jsonb;
  problem text;
  id bigint;
  new boolean := true;
BEGIN
  BEGIN
    SELECT coalesce(jsonb_object_agg(key, value), '{}') INTO asked FROM jsonb_each(request::jsonb) WHERE value <> 'null';
  EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
    RAISE EXCEPTION 'bad_request: the body is no JSON: %', SQLERRM USING ERRCODE = 'HT400';
  END;
  problem := CASE
    WHEN NOT asked ? 'message' THEN 'it has no message'
    WHEN jsonb_typeof(asked->'headers') <> 'object' THEN 'its headers are no object'
    WHEN jsonb_typeof(coalesce(asked->'delay', '0')) <> 'number' OR (asked->>'delay')::numeric NOT BETWEEN 0 AND 31536000 THEN 'its delay is no number of seconds from 0 to 31536000'
    WHEN jsonb_typeof(coalesce(asked->'unique_for', '0')) <> 'number' OR (asked->>'unique_for')::numeric NOT BETWEEN 0 AND 31536000
      THEN 'its unique_for is no number of seconds from 0 to 31536000'
    WHEN jsonb_typeof(coalesce(asked->'unique_key', '""')) <> 'string' OR jsonb_typeof(coalesce(asked->'on_conflict', '""')) <> 'string' THEN 'unique_key and on_conflict are texts'
    WHEN NOT asked ? 'unique_key' AND asked ?| ARRAY['unique_for', 'on_conflict'] THEN 'unique_for and on_conflict are of no use without a unique_key' END;
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'bad_request: %', problem USING ERRCODE = 'HT400';
  ELSIF pgmqd.attached_table(queue) IS NULL THEN
    RAISE EXCEPTION 'not_found: there is no such queue, or it is not attached' USING ERRCODE = 'HT404';
  END IF;
  IF asked ? 'unique_key' THEN
    BEGIN
      SELECT e.msg_id, e.is_new INTO id, new FROM pgmqd.enqueue_unique(queue, asked->'message', asked->>'unique_key', make_interval(secs => (asked->>'unique_for')::float8),
        coalesce(asked->>'on_conflict', 'keep'), ceil((asked->>'delay')::numeric)::integer, asked->'headers') e;
    EXCEPTION WHEN invalid_parameter_value THEN
      RAISE EXCEPTION 'bad_request: %', SQLERRM USING ERRCODE = 'HT400';
    END;
  ELSE
    id := pgmqd.enqueue_for(queue, asked->'message', ceil((asked->>'delay')::numeric)::integer, asked->'headers');
  END IF;
  RETURN jsonb_build_object('id', id, 'new', new);
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'send_request', 'key_is_free', 'key_goes_on');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'enqueue_unique');
END $$;

RESET search_path;
