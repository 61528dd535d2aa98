-- 021_dead_letters.sql: the dead letters of a queue: list, requeue, delete.

SET search_path = pg_catalog, pg_temp;

-- A number or a time out of headers, which producers write too: NULL for what is none, so that one message cannot hide the others of a list.
CREATE OR REPLACE FUNCTION pgmqd.as_bigint(text text) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE WHEN text OPERATOR(pg_catalog.~) '^-?[0-9]{1,18}$' THEN text::pg_catalog.int8 END;
CREATE OR REPLACE FUNCTION pgmqd.as_integer(text text) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN text OPERATOR(pg_catalog.~) '^-?[0-9]{1,9}$' THEN text::pg_catalog.int4 END;
CREATE OR REPLACE FUNCTION pgmqd.as_time(text text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN CASE WHEN text::timestamptz BETWEEN '1900-01-01Z' AND '2200-01-01Z' THEN text::timestamptz END;
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $f$;

-- A dead letter is a row of NAME_dlq. The dispatcher writes its history into the header pgmqd_dead: queue, msg_id, read_ct, attempts,
-- enqueued_at, died_at, class, reason, plugin, plugin_version. Rows without it (somebody else's) are dead letters, too.

-- The tables of a queue and of its dead letters; an error that says what is missing.
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_tables(queue text, OUT living regclass, OUT dead regclass)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  living := pgmqd.queue_table('q', queue);
  dead := pgmqd.queue_table('q', pgmqd.dlq_name(queue));
  IF living IS NULL AND to_regclass(format('pgmq.%I', 'q_' || lower(queue))) IS NOT NULL THEN
    PERFORM pgmqd.refuse_queue('q', queue);
  ELSIF dead IS NULL AND to_regclass(format('pgmq.%I', 'q_' || lower(pgmqd.dlq_name(queue)))) IS NOT NULL THEN
    PERFORM pgmqd.refuse_queue('q', pgmqd.dlq_name(queue));
  ELSIF living IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', queue USING ERRCODE = 'undefined_object';
  END IF;
  IF dead IS NULL THEN
    RAISE EXCEPTION 'queue "%" has no dead-letter queue', queue
      USING ERRCODE = 'undefined_object', HINT = format('SELECT pgmqd.create_queue(%L) makes one', queue);
  END IF;
END $f$;

-- The ids of the selected dead letters, oldest first: those in `ids`, whose reason has this text in it (in any case), of this
-- class, and no more than max_rows of them. NULL does not restrict.
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_ids(queue text, ids bigint[] DEFAULT NULL, reason text DEFAULT NULL,
  class text DEFAULT NULL, max_rows bigint DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN QUERY EXECUTE format('SELECT msg_id FROM %s WHERE ($1 IS NULL OR msg_id = ANY ($1))
      AND ($2 IS NULL OR strpos(lower(headers #>> ''{pgmqd_dead,reason}''), lower($2)) > 0)
      AND ($3 IS NULL OR headers #>> ''{pgmqd_dead,class}'' = $3) ORDER BY msg_id LIMIT $4',
    (SELECT dead FROM pgmqd.dead_letter_tables(queue))) USING ids, reason, class, max_rows;
END $f$;

-- The selected dead letters, oldest first. redrives: how often each was requeued before.
CREATE OR REPLACE FUNCTION pgmqd.dead_letters(queue text, ids bigint[] DEFAULT NULL, reason text DEFAULT NULL,
  class text DEFAULT NULL, max_rows bigint DEFAULT NULL)
RETURNS TABLE (id bigint, died_at timestamptz, failure_class text, failure_reason text, attempts integer, redrives integer,
  original_id bigint, first_enqueued_at timestamptz, plugin text, plugin_version text, message jsonb, headers jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN QUERY EXECUTE format('SELECT d.msg_id, coalesce(pgmqd.as_time(h->>''died_at''), d.enqueued_at), h->>''class'', h->>''reason'',
      pgmqd.as_integer(h->>''attempts''),
      CASE WHEN jsonb_typeof(d.headers->''pgmqd_history'') = ''array'' THEN jsonb_array_length(d.headers->''pgmqd_history'') ELSE 0 END,
      pgmqd.as_bigint(h->>''msg_id''), coalesce(pgmqd.as_time(d.headers #>> ''{pgmqd_history,0,enqueued_at}''), pgmqd.as_time(h->>''enqueued_at'')),
      h->>''plugin'', h->>''plugin_version'', d.message, d.headers
    FROM %s d, LATERAL (SELECT d.headers->''pgmqd_dead'') AS x (h)
    WHERE d.msg_id = ANY (ARRAY(SELECT pgmqd.dead_letter_ids($1, $2, $3, $4, $5))) ORDER BY d.msg_id',
    (SELECT dead FROM pgmqd.dead_letter_tables(queue))) USING queue, ids, reason, class, max_rows;
END $f$;

-- A statement by which unique keys stand for messages that have come back under another number: rows `put` (was, msg_id, enqueued_at) of queue $1.
CREATE OR REPLACE FUNCTION pgmqd.keys_follow(living regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT format('UPDATE pgmqd.unique_keys u SET msg_id = p.msg_id, enqueued_at = p.enqueued_at FROM put p WHERE u.queue = lower($1) AND to_jsonb(u.msg_id) = p.was
    AND NOT EXISTS (SELECT FROM %s q WHERE q.msg_id = u.msg_id AND q.enqueued_at = u.enqueued_at)', living)
$f$;

-- Requeues the selected dead letters, all or none: as new messages whose attempts start anew, body untouched.
-- The header pgmqd_dead becomes the last entry of the array pgmqd_history. The dispatcher wakes at commit.
CREATE OR REPLACE FUNCTION pgmqd.redrive(queue text, ids bigint[] DEFAULT NULL, reason text DEFAULT NULL,
  class text DEFAULT NULL, max_rows bigint DEFAULT NULL) RETURNS TABLE (dead_id bigint, new_id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record;
BEGIN
  SELECT * INTO t FROM pgmqd.dead_letter_tables(queue);
  -- enqueued_us: the time as the plugin had it, so that it can still name the message as before
  RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM %s WHERE msg_id = ANY (ARRAY(SELECT pgmqd.dead_letter_ids($1, $2, $3, $4, $5)))
      RETURNING msg_id, message, CASE WHEN jsonb_typeof(headers) = ''object'' THEN headers ELSE ''{}'' END AS headers),
    again AS (SELECT msg_id, message, headers - ''pgmqd_dead'' || jsonb_build_object(''pgmqd_history'',
        CASE WHEN jsonb_typeof(headers->''pgmqd_history'') = ''array'' THEN headers->''pgmqd_history'' ELSE ''[]'' END
        || jsonb_build_array(CASE WHEN jsonb_typeof(headers->''pgmqd_dead'') = ''object'' THEN headers->''pgmqd_dead'' ELSE ''{}'' END
          || jsonb_build_object(''dead_id'', msg_id, ''redriven_at'', clock_timestamp(), ''enqueued_us'',
             (extract(epoch FROM pgmqd.as_time(headers #>> ''{pgmqd_dead,enqueued_at}'')) * 1000000)::bigint))) AS headers
      FROM gone ORDER BY msg_id),
    put AS (INSERT INTO %s AS q (vt, message, headers) SELECT clock_timestamp(), message, headers FROM again
      RETURNING (q.headers #>> ''{pgmqd_history,-1,dead_id}'')::bigint AS id, q.headers #> ''{pgmqd_history,-1,msg_id}'' AS was, q.msg_id, q.enqueued_at),
    keyed AS (%s)
    SELECT id, msg_id FROM put', t.dead, t.living, pgmqd.keys_follow(t.living))
    USING queue, ids, reason, class, max_rows;
END $f$;

-- Deletes the selected dead letters; returns how many.
CREATE OR REPLACE FUNCTION pgmqd.purge_dead_letters(queue text, ids bigint[] DEFAULT NULL, reason text DEFAULT NULL,
  class text DEFAULT NULL, max_rows bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  n bigint;
BEGIN
  EXECUTE format('DELETE FROM %s WHERE msg_id = ANY (ARRAY(SELECT pgmqd.dead_letter_ids($1, $2, $3, $4, $5)))',
    (SELECT dead FROM pgmqd.dead_letter_tables(queue))) USING queue, ids, reason, class, max_rows;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $f$;

-- ---- for the status page ----
-- As JSON that the HTTP server hands on, with the rights of the owner, since the daemon's role reads no dead letter; the server asks for its token
-- where a body is in it.

-- The tables of a queue and of its dead letters, or an error that becomes HTTP status 404.
CREATE OR REPLACE FUNCTION pgmqd.page_tables(queue text, OUT living regclass, OUT dead regclass)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  SELECT t.living, t.dead INTO living, dead FROM pgmqd.dead_letter_tables(queue) t;
EXCEPTION WHEN undefined_object THEN
  RAISE EXCEPTION 'not_found: %', SQLERRM USING ERRCODE = 'HT404';
END $f$;

-- Text for people without the token: addresses are left out. Its body is bound when it is made, so that it needs no search_path of its own and
-- becomes a part of the query that calls it.
CREATE OR REPLACE FUNCTION pgmqd.masked(text text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN pg_catalog.regexp_replace(text, '[^[:space:]<>"]+@[^[:space:]<>"]+', '…@…', 'g');

-- A reason without what differs from one message to the next: addresses, ids and numbers. Status codes stay (550, 5.1.1), for they tell one
-- failure from another; a number with a unit behind it is none.
CREATE OR REPLACE FUNCTION pgmqd.reason_group(reason text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r text := coalesce(reason, '');
BEGIN -- one call groups thousands of reasons, so a slow expression runs only where it can match
  IF strpos(r, '@') > 0 THEN
    r := pgmqd.masked(r);
  END IF;
  IF r ~* '[0-9a-f]{8}' THEN
    r := regexp_replace(r, '\m([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,})\M', '…', 'gi');
  END IF;
  RETURN left(regexp_replace(r,
    '(?<![0-9A-Za-z.])(?![1-5][0-9][0-9](?![0-9]|[.:][0-9]|[ ]?(ms|s|min|h|bytes|rows|seconds|times)\M))(?![245][.][0-9]{1,3}[.][0-9]{1,3}(?![0-9.]))[0-9]+([.,:][0-9]+)*',
    '…', 'g'), 200);
END $f$;

-- The failures of the last days, the newest group first: [{queue, class, reason, example, count, first, last, plugin}]. Only the newest
-- 5,000 dead letters of a queue are looked at. Without is_open, addresses are left out.
DROP FUNCTION IF EXISTS pgmqd.failure_groups(integer); -- that of before
CREATE OR REPLACE FUNCTION pgmqd.failure_groups(max_groups integer DEFAULT 50, is_open boolean DEFAULT true) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  q text;
  dead regclass;
  found jsonb := '[]';
  part jsonb;
BEGIN
  FOR q IN SELECT m.queue_name FROM pgmq.meta m ORDER BY 1 LOOP
    dead := pgmqd.queue_table('q', pgmqd.dlq_name(q));
    CONTINUE WHEN dead IS NULL OR pg_relation_size(dead) = 0 OR NOT has_table_privilege(dead, 'SELECT');
    -- reasons that differ in an address only are one before the slow expressions look at them; OFFSET 0: each row is read apart once
    EXECUTE format('SELECT coalesce(jsonb_agg(g), ''[]'') FROM (
        SELECT $1 AS queue, class, kind AS reason, CASE WHEN $2 THEN example ELSE pgmqd.masked(example) END AS example, count, pgmqd.iso_time(first) AS first,
          pgmqd.iso_time(last) AS last, plugin
        FROM (SELECT class, pgmqd.reason_group(masked) AS kind, (array_agg(example ORDER BY last DESC))[1] AS example, sum(count)::bigint AS count, min(first) AS first,
            max(last) AS last, max(plugin) AS plugin
          FROM (SELECT class, masked, (array_agg(reason ORDER BY at DESC))[1] AS example, count(*) AS count, min(at) AS first, max(at) AS last, max(plugin) AS plugin
            FROM (SELECT h->>''class'' AS class, h->>''reason'' AS reason, pgmqd.masked(h->>''reason'') COLLATE "C" AS masked, h->>''plugin'' AS plugin,
                d.enqueued_at AS at -- which is when it died
              FROM (SELECT headers->''pgmqd_dead'' AS h, enqueued_at FROM %s ORDER BY msg_id DESC LIMIT 5000) d OFFSET 0) l
            GROUP BY class, masked) r
          GROUP BY class, kind) k) g', dead) INTO part USING q, is_open;
    found := found || part;
  END LOOP;
  RETURN (SELECT jsonb_build_object('groups', coalesce(jsonb_agg(g ORDER BY g->>'last' DESC, g->>'queue'), '[]'))
    FROM (SELECT g FROM jsonb_array_elements(found) g ORDER BY g->>'last' DESC, g->>'queue' LIMIT max_groups) l);
END $f$;

-- One page of a queue's dead letters, the newest first, without bodies: {queue, letters: [...], more}. before: ids below this one only;
-- reason: a text that the reason holds, in any case. Without is_open, addresses are left out, and cannot be searched for.
DROP FUNCTION IF EXISTS pgmqd.dead_letter_page(text, text, text, text); -- that of before
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_page(queue text, before text, reason text, max_rows text, is_open boolean DEFAULT true) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  page jsonb;
  n integer := max_rows::integer;
BEGIN
  IF before !~ '^[0-9]{1,18}$' THEN
    RAISE EXCEPTION 'bad_before: before has to be the number of a dead letter' USING ERRCODE = 'HT400';
  END IF;
  EXECUTE format('SELECT coalesce(jsonb_agg(l), ''[]'') FROM (
      SELECT d.msg_id AS id, pgmqd.iso_time(coalesce(pgmqd.as_time(h->>''died_at''), d.enqueued_at)) AS died_at, h->>''class'' AS class,
        r AS reason, pgmqd.as_integer(h->>''attempts'') AS attempts,
        CASE WHEN jsonb_typeof(d.headers->''pgmqd_history'') = ''array'' THEN jsonb_array_length(d.headers->''pgmqd_history'') ELSE 0 END AS redrives
      FROM %s d, LATERAL (SELECT d.headers->''pgmqd_dead'') AS x (h),
        LATERAL (SELECT CASE WHEN $4 THEN h->>''reason'' ELSE pgmqd.masked(h->>''reason'') END) AS y (r)
      WHERE ($1 IS NULL OR d.msg_id < $1::bigint) AND ($2 IS NULL OR strpos(lower(r), lower($2)) > 0)
      ORDER BY d.msg_id DESC LIMIT $3) l', (SELECT t.dead FROM pgmqd.page_tables(queue) t)) INTO page USING before, reason, n + 1, is_open;
  RETURN jsonb_build_object('queue', queue, 'letters', CASE WHEN jsonb_array_length(page) > n THEN page - n ELSE page END,
    'more', jsonb_array_length(page) > n);
END $f$;

-- All about one dead letter, its body as the text that the database keeps; NULL when it is not there.
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_body(queue text, id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF id !~ '^[0-9]{1,18}$' THEN
    RETURN NULL;
  END IF;
  PERFORM pgmqd.page_tables(queue);
  RETURN (SELECT jsonb_build_object('id', d.id, 'died_at', pgmqd.iso_time(d.died_at), 'class', d.failure_class, 'reason', d.failure_reason,
      'attempts', d.attempts, 'redrives', d.redrives, 'original_id', d.original_id,
      'first_enqueued_at', pgmqd.iso_time(d.first_enqueued_at), 'plugin', d.plugin, 'plugin_version', d.plugin_version,
      'headers', d.headers, 'body', jsonb_pretty(d.message))
    FROM pgmqd.dead_letters(queue, ARRAY[id::bigint]) d);
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'dead_letters', 'redrive', 'purge_dead_letters', 'failure_groups', 'dead_letter_page', 'dead_letter_body');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'dead_letters', 'redrive', 'purge_dead_letters', 'failure_groups', 'dead_letter_page', 'dead_letter_body');
END $$;

RESET search_path;
