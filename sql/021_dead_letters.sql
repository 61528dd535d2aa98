-- 021_dead_letters.sql: the dead letters of a queue: look at them, put them back, throw them away.

SET search_path = pg_catalog, pg_temp;

-- A dead letter is a row of NAME_dlq. The dispatcher writes its history into the header pgmqd_dead: queue, msg_id, read_ct, attempts,
-- enqueued_at, died_at, class, reason, plugin, plugin_version. Rows without it (somebody else's) are dead letters, too.

-- The tables of a queue and of its dead letters; an error that says what is missing.
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_tables(queue text, OUT living regclass, OUT dead regclass)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  living := pgmqd.queue_table('q', queue);
  dead := pgmqd.queue_table('q', pgmqd.dlq_name(queue));
  IF living IS NULL AND to_regclass(format('pgmq.%I', 'q_' || lower(queue))) IS NOT NULL
    OR dead IS NULL AND to_regclass(format('pgmq.%I', 'q_' || lower(pgmqd.dlq_name(queue)))) IS NOT NULL THEN
    RAISE EXCEPTION 'queue "%" belongs to a role that could not act as the owner of schema pgmqd', queue USING ERRCODE = 'insufficient_privilege',
      HINT = 'ALTER TABLE … OWNER TO the owner of schema pgmqd';
  ELSIF living IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', queue USING ERRCODE = 'undefined_object';
  END IF;
  IF dead IS NULL THEN
    RAISE EXCEPTION 'queue "%" has no dead-letter queue', queue
      USING ERRCODE = 'undefined_object', HINT = format('SELECT pgmqd.create_queue(%L) makes one', queue);
  END IF;
END $f$;

-- The ids of the dead letters that are meant, oldest first: those in `ids`, whose reason has this text in it (in any case), of this
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

-- The dead letters that are meant, oldest first. redrives: how often each was put back before.
CREATE OR REPLACE FUNCTION pgmqd.dead_letters(queue text, ids bigint[] DEFAULT NULL, reason text DEFAULT NULL,
  class text DEFAULT NULL, max_rows bigint DEFAULT NULL)
RETURNS TABLE (id bigint, died_at timestamptz, failure_class text, failure_reason text, attempts integer, redrives integer,
  original_id bigint, first_enqueued_at timestamptz, plugin text, plugin_version text, message jsonb, headers jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN QUERY EXECUTE format('SELECT d.msg_id, coalesce((h->>''died_at'')::timestamptz, d.enqueued_at), h->>''class'', h->>''reason'',
      (h->>''attempts'')::integer,
      CASE WHEN jsonb_typeof(d.headers->''pgmqd_history'') = ''array'' THEN jsonb_array_length(d.headers->''pgmqd_history'') ELSE 0 END,
      (h->>''msg_id'')::bigint, coalesce((d.headers #>> ''{pgmqd_history,0,enqueued_at}'')::timestamptz, (h->>''enqueued_at'')::timestamptz),
      h->>''plugin'', h->>''plugin_version'', d.message, d.headers
    FROM %s d, LATERAL (SELECT d.headers->''pgmqd_dead'') AS x (h)
    WHERE d.msg_id = ANY (ARRAY(SELECT pgmqd.dead_letter_ids($1, $2, $3, $4, $5))) ORDER BY d.msg_id',
    (SELECT dead FROM pgmqd.dead_letter_tables(queue))) USING queue, ids, reason, class, max_rows;
END $f$;

-- Puts the dead letters that are meant back into their queue, all or none: as new messages whose attempts start anew, body untouched.
-- What was pgmqd_dead becomes the last entry of the array pgmqd_history. The dispatcher wakes at commit.
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
             (extract(epoch FROM (headers #>> ''{pgmqd_dead,enqueued_at}'')::timestamptz) * 1000000)::bigint))) AS headers
      FROM gone ORDER BY msg_id)
    INSERT INTO %s AS q (vt, message, headers) SELECT clock_timestamp(), message, headers FROM again
    RETURNING (q.headers #>> ''{pgmqd_history,-1,dead_id}'')::bigint, q.msg_id', t.dead, t.living)
    USING queue, ids, reason, class, max_rows;
END $f$;

-- Throws the dead letters that are meant away for good; returns how many.
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

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'dead_letters', 'redrive', 'purge_dead_letters');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'dead_letters', 'redrive', 'purge_dead_letters');
END $$;

RESET search_path;
