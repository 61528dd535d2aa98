-- 029_messages.sql: the messages of a queue, one by one: what an operator sees of them, and does with them.
-- makes: pgmqd.attempts pgmqd.actions pgmqd.cancels

SET search_path = pg_catalog, pg_temp;

-- ---- tables ----

-- The worker writes a row when an attempt ends in a retry. What a message died of stands in its dead letter.
CREATE TABLE IF NOT EXISTS pgmqd.attempts (
  queue text,
  msg_id bigint,
  read_ct integer,
  enqueued_at timestamptz NOT NULL,
  started_at timestamptz,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  worker text,
  reason text,
  PRIMARY KEY (queue, msg_id, read_ct)
);
CREATE INDEX IF NOT EXISTS attempts_ended_at_idx ON pgmqd.attempts (ended_at);
COMMENT ON TABLE pgmqd.attempts IS 'attempts that ended in a retry: which claim of which message, when, where and why';

CREATE TABLE IF NOT EXISTS pgmqd.actions (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  by text NOT NULL,
  action text NOT NULL,
  queue text, -- NULL: it was done to a schedule
  ids bigint[] NOT NULL,
  why text,
  details jsonb
);
DO $$ BEGIN -- tables of before
  IF (SELECT attnotnull FROM pg_attribute WHERE attrelid = 'pgmqd.actions'::regclass AND attname = 'queue') THEN
    ALTER TABLE pgmqd.actions ALTER COLUMN queue DROP NOT NULL;
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS actions_at_idx ON pgmqd.actions (at);
CREATE INDEX IF NOT EXISTS actions_ids_idx ON pgmqd.actions USING gin (ids);
COMMENT ON TABLE pgmqd.actions IS 'what operators did with messages and schedules: who, when, what, which and why';

CREATE TABLE IF NOT EXISTS pgmqd.cancels (
  queue text,
  msg_id bigint,
  born bigint,
  read_ct integer NOT NULL,
  asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  asked_by text NOT NULL,
  why text,
  PRIMARY KEY (queue, msg_id, born)
);
COMMENT ON TABLE pgmqd.cancels IS 'running messages that an operator wants cancelled: the worker that has the message takes it from its plugin';

-- ---- the state of a message ----

-- Where a message of a queue's table stands. The dispatcher writes a claim's nonce into vt as microseconds, and whole milliseconds
-- when it puts a message back: so what is claimed and not due is in somebody's hands, unless its vt has whole milliseconds. An SQL expression.
CREATE OR REPLACE FUNCTION pgmqd.stands_expression(alias text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT format('CASE WHEN %1$s.vt <= clock_timestamp() THEN ''waiting''
    WHEN %1$s.read_ct > 0 AND date_part(''microseconds'', %1$s.vt)::bigint %% 1000 <> 0 THEN ''running'' ELSE ''delayed'' END', alias)
$f$;

-- Microseconds since 1970, as the dispatcher computes them.
CREATE OR REPLACE FUNCTION pgmqd.microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT (date_part('epoch', least(greatest(at, '1900-01-01Z'), '2200-01-01Z')) * 1000000)::bigint
$f$;

-- The identity of the claim that holds a message, or held it last: it changes with each claim, retry, delay and edit, and stays when
-- a lease is extended.
CREATE OR REPLACE FUNCTION pgmqd.message_version(read_ct integer, vt timestamptz, enqueued_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT (read_ct::bigint * 1000000 + date_part('microseconds', vt)::bigint % 1000000) || '-' || pgmqd.microseconds(enqueued_at)
$f$;

-- ---- filters ----

-- {"a": {"b": value}} for the path {a, b}.
CREATE OR REPLACE FUNCTION pgmqd.nested(path text[], value jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  made jsonb := value;
BEGIN
  FOR i IN REVERSE cardinality(path) .. 1 LOOP
    made := jsonb_build_object(path[i], made);
  END LOOP;
  RETURN made;
END $f$;

-- The condition of KEY=VALUE: body or headers hold it. KEY may be a path, a.b; VALUE is a text, and a number, true, false or null, too, where
-- it looks like one. By containment, so that a GIN index of the table serves it.
CREATE OR REPLACE FUNCTION pgmqd.holds_condition(pair text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  key text := split_part(pair, '=', 1);
  value text := substr(pair, length(key) + 2);
  wanted jsonb[] := ARRAY[to_jsonb(value)];
BEGIN
  IF key = '' OR strpos(pair, '=') = 0 THEN
    RAISE EXCEPTION 'bad_filter: "%" is not KEY=VALUE', pair USING ERRCODE = 'HT400';
  END IF;
  IF value ~ '^(-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?|true|false|null)$' THEN
    wanted := wanted || value::jsonb;
  END IF;
  RETURN '(' || (SELECT string_agg(format('m.message @> %1$L::jsonb OR m.headers @> %1$L::jsonb', pgmqd.nested(string_to_array(key, '.'), w)), ' OR ')
    FROM unnest(wanted) w) || ')';
END $f$;

-- A filter's condition for the rows of pgmqd.message_rows(), as SQL. Without `is_open`, what a body or a person's address could be guessed
-- by is refused.
CREATE OR REPLACE FUNCTION pgmqd.message_condition(filter jsonb, is_open boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  parts text[] := ARRAY['true'];
  f record;
BEGIN
  FOR f IN SELECT key, value, value #>> '{}' AS text FROM jsonb_each(filter) WHERE value <> 'null' LOOP
    IF f.key IN ('where', 'group') AND NOT is_open THEN
      RAISE EXCEPTION 'unauthorized: a filter by what is in messages needs the token' USING ERRCODE = 'HT401';
    END IF;
    parts := parts || CASE f.key
      WHEN 'state' THEN 'true'
      WHEN 'ids' THEN format('m.msg_id = ANY (%L::bigint[])', ARRAY(SELECT v::bigint FROM jsonb_array_elements_text(f.value) v))
      WHEN 'where' THEN (SELECT coalesce(string_agg(pgmqd.holds_condition(v), ' AND '), 'true') FROM jsonb_array_elements_text(f.value) v)
      WHEN 'reason' THEN format('strpos(lower(%s), lower(%L)) > 0', CASE WHEN is_open THEN 'm.reason' ELSE 'pgmqd.masked(m.reason)' END, f.text)
      WHEN 'class' THEN format('m.class = %L', f.text)
      WHEN 'group' THEN format('coalesce(m.headers->>''group'', m.headers->>''x-pgmq-group'') = %L', f.text)
      WHEN 'priority' THEN format('m.priority = %L::numeric', f.text::numeric)
      WHEN 'attempts' THEN format('m.attempts >= %s', f.text::integer)
      WHEN 'older' THEN format('m.at <= clock_timestamp() - make_interval(secs => %s)', f.text::numeric)
      WHEN 'newer' THEN format('m.at >= clock_timestamp() - make_interval(secs => %s)', f.text::numeric)
    END;
    IF parts[cardinality(parts)] IS NULL THEN
      RAISE EXCEPTION 'bad_filter: there is no filter "%"', f.key USING ERRCODE = 'HT400';
    END IF;
  END LOOP;
  RETURN array_to_string(parts, ' AND ');
EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range OR invalid_parameter_value THEN
  RAISE EXCEPTION 'bad_filter: %', SQLERRM USING ERRCODE = 'HT400';
END $f$;

-- ---- rows ----

-- Which table a state is in: live, archived or dead.
CREATE OR REPLACE FUNCTION pgmqd.message_place(state text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF state IN ('archived', 'cancelled') THEN
    RETURN 'archived';
  ELSIF state IN ('live', 'waiting', 'delayed', 'running', 'dead') THEN
    RETURN CASE state WHEN 'dead' THEN 'dead' ELSE 'live' END;
  END IF;
  RAISE EXCEPTION 'bad_filter: a state is live, waiting, delayed, running, archived, cancelled or dead' USING ERRCODE = 'HT400';
END $f$;

-- The table of a queue that holds the messages of that place; NULL when the queue has none.
CREATE OR REPLACE FUNCTION pgmqd.message_table(queue text, place text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  living regclass := pgmqd.queue_table('q', queue);
BEGIN
  IF living IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, or belongs to a role that could not act as the owner of schema pgmqd', queue USING ERRCODE = 'undefined_object';
  END IF;
  RETURN CASE place WHEN 'live' THEN living WHEN 'archived' THEN pgmqd.queue_table('a', queue)
    ELSE pgmqd.queue_table('q', pgmqd.dlq_name(queue)) END;
END $f$;

-- A query for the messages of one state, with the columns that filters and lists go by; `rows` restricts the table itself, whose rows are m.
--   at        since when it is where it is: enqueued, archived or dead
--   born      when it was enqueued first, as far as the row tells
--   original  its number while it was alive
CREATE OR REPLACE FUNCTION pgmqd.message_rows(queue text, state text, rows text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  place text := pgmqd.message_place(state);
  t regclass := pgmqd.message_table(queue, place);
  headers text := CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = t AND attname = 'headers' AND NOT attisdropped) THEN 'm.headers'
    ELSE 'NULL::jsonb' END;
BEGIN
  IF t IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN format($q$SELECT m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers, m.archived_at, x.*, CASE WHEN jsonb_typeof(m.message->'priority') = 'number'
      THEN least(greatest(floor((m.message->>'priority')::numeric), -1e15), 1e15) ELSE 0 END AS priority
    FROM (SELECT m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, %2$s AS headers, %3$s AS archived_at FROM %1$s m WHERE %4$s) m, LATERAL (%5$s) x %6$s$q$,
    t, headers, CASE place WHEN 'archived' THEN 'm.archived_at' ELSE 'NULL::timestamptz' END, rows,
    CASE place WHEN 'dead' THEN $q$SELECT 'dead' AS stands, coalesce(pgmqd.as_integer(d->>'attempts'), m.read_ct) AS attempts, d->>'reason' AS reason, d->>'class' AS class,
        coalesce(pgmqd.as_time(d->>'died_at'), m.enqueued_at) AS at, coalesce(pgmqd.as_time(d->>'enqueued_at'), m.enqueued_at) AS born,
        coalesce(pgmqd.as_bigint(d->>'msg_id'), m.msg_id) AS original FROM (SELECT m.headers->'pgmqd_dead' AS d) d$q$
    ELSE format($q$SELECT %1$s AS stands, m.read_ct - coalesce((SELECT r.n FROM pgmqd.refunds r WHERE r.queue = %2$L AND r.msg_id = m.msg_id AND r.read_ct <= m.read_ct), 0) AS attempts,
        (SELECT a.reason FROM pgmqd.attempts a WHERE a.queue = %2$L AND a.msg_id = m.msg_id AND a.enqueued_at = m.enqueued_at ORDER BY a.read_ct DESC LIMIT 1) AS reason,
        NULL AS class, %3$s AS at, m.enqueued_at AS born, coalesce(pgmqd.as_bigint(m.headers->>'pgmqd_msg_id'), m.msg_id) AS original$q$,
      CASE place WHEN 'live' THEN pgmqd.stands_expression('m')
        ELSE $q$CASE WHEN m.headers ? 'pgmqd_cancelled' THEN 'cancelled' ELSE 'archived' END$q$ END,
      lower(queue), CASE place WHEN 'live' THEN 'm.enqueued_at' ELSE 'm.archived_at' END) END,
    CASE WHEN state IN ('waiting', 'delayed', 'running', 'cancelled') THEN format('WHERE x.stands = %L', state) ELSE '' END);
END $f$;

-- A message as lists show it, as an SQL expression.
CREATE OR REPLACE FUNCTION pgmqd.message_json(is_open boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT format($q$jsonb_build_object('id', m.msg_id, 'state', m.stands, 'at', pgmqd.iso_time(m.at), 'enqueued_at', pgmqd.iso_time(m.born),
    'due_at', CASE WHEN m.stands IN ('waiting', 'delayed') THEN pgmqd.iso_time(m.vt) END, 'attempts', m.attempts, 'priority', m.priority,
    'group', %1$s(left(coalesce(m.headers->>'group', m.headers->>'x-pgmq-group'), 200)), 'class', left(m.class, 100), 'reason', %1$s(left(m.reason, 500)), 'original_id', m.original,
    'cancelled_by', m.headers #>> '{pgmqd_cancelled,by}', 'version', pgmqd.message_version(m.read_ct, m.vt, m.enqueued_at))$q$,
    CASE WHEN is_open THEN '' ELSE 'pgmqd.masked' END)
$f$;

-- Looks at no more rows than this for one page, unless the table has a GIN index: then the page ends early, with more = true.
CREATE OR REPLACE FUNCTION pgmqd.message_page_bound(t regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid = t AND a.amname = 'gin') THEN 10000 END
$f$;

-- One page of a queue's messages, the newest first, without bodies: {queue, state, messages: [...], more, before}. filter: see
-- pgmqd.message_condition(); before: the same of the page before.
CREATE OR REPLACE FUNCTION pgmqd.message_page(queue text, filter jsonb DEFAULT '{}', before text DEFAULT NULL, max_rows integer DEFAULT 100, is_open boolean DEFAULT true)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $f$
DECLARE
  state text := coalesce(filter->>'state', 'live');
  place text := pgmqd.message_place(state);
  t regclass := pgmqd.message_table(queue, place);
  bound bigint := pgmqd.message_page_bound(t);
  condition text := pgmqd.message_condition(filter, is_open);
  key text := CASE place WHEN 'archived' THEN 'm.archived_at DESC, m.msg_id DESC' ELSE 'm.msg_id DESC' END;
  restricted text := CASE state WHEN 'waiting' THEN 'm.vt <= clock_timestamp()' WHEN 'delayed' THEN 'm.vt > clock_timestamp()' WHEN 'running' THEN 'm.vt > clock_timestamp()' ELSE 'true' END;
  page jsonb;
  last text;
BEGIN
  IF before IS NOT NULL AND before !~ (CASE place WHEN 'archived' THEN '^[0-9]{1,17}_-?[0-9]{1,18}$' ELSE '^[0-9]{1,18}$' END) THEN
    RAISE EXCEPTION 'bad_before: before has to be that of the page before' USING ERRCODE = 'HT400';
  END IF;
  IF t IS NULL THEN
    RETURN jsonb_build_object('queue', queue, 'state', state, 'messages', '[]'::jsonb, 'more', false, 'before', NULL);
  END IF;
  IF filter ? 'ids' THEN
    restricted := restricted || ' AND ' || pgmqd.message_condition(jsonb_build_object('ids', filter->'ids'), true);
  END IF;
  IF before IS NOT NULL AND place = 'archived' THEN
    restricted := restricted || format(' AND m.archived_at <= %1$L AND (m.archived_at, m.msg_id) < (%1$L, %2$s)',
      timestamptz 'epoch' + split_part(before, '_', 1)::bigint * interval '1 microsecond', split_part(before, '_', 2));
  ELSIF before IS NOT NULL THEN
    restricted := restricted || ' AND m.msg_id < ' || before;
  END IF;
  EXECUTE format('SELECT coalesce(jsonb_agg(r.j ORDER BY r.n), ''[]''), (array_agg(r.k ORDER BY r.n))[%5$s] FROM (
      SELECT %1$s AS j, %2$s AS k, row_number() OVER () AS n FROM (%3$s) m WHERE %4$s ORDER BY %6$s LIMIT %5$s + 1) r',
    pgmqd.message_json(is_open), CASE place WHEN 'archived' THEN 'pgmqd.microseconds(m.archived_at) || ''_'' || m.msg_id' ELSE 'm.msg_id::text' END,
    pgmqd.message_rows(queue, state, restricted || format(' ORDER BY %s LIMIT %s', key, coalesce(bound::text, 'ALL'))), condition, max_rows, key) INTO page, last;
  IF jsonb_array_length(page) > max_rows THEN
    page := page - max_rows;
  ELSE
    last := NULL;
    IF bound IS NOT NULL THEN -- did it end because there are no more rows, or because enough were looked at?
      EXECUTE format('SELECT %1$s FROM (SELECT * FROM %2$s m WHERE %3$s ORDER BY %5$s OFFSET %4$s - 1 LIMIT 1) m',
        CASE place WHEN 'archived' THEN 'pgmqd.microseconds(m.archived_at) || ''_'' || m.msg_id' ELSE 'm.msg_id::text' END, t, restricted, bound, key) INTO last;
    END IF;
  END IF;
  RETURN jsonb_build_object('queue', queue, 'state', state, 'messages', page, 'more', last IS NOT NULL, 'before', last);
END $f$;

-- How many messages a filter selects.
CREATE OR REPLACE FUNCTION pgmqd.count_messages(queue text, filter jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  n bigint := 0;
BEGIN
  IF pgmqd.message_table(queue, pgmqd.message_place(coalesce(filter->>'state', 'live'))) IS NOT NULL THEN
    EXECUTE format('SELECT count(*) FROM (%s) m WHERE %s', pgmqd.message_rows(queue, coalesce(filter->>'state', 'live'), 'true'), pgmqd.message_condition(filter, true)) INTO n;
  END IF;
  RETURN n;
END $f$;

-- ---- one message ----

-- The sessions that may have a running message in hand: the workers of this queue, by the lock "present" that their sessions hold.
CREATE OR REPLACE FUNCTION pgmqd.queue_workers(queue text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT coalesce(jsonb_agg(jsonb_build_object('session', a.application_name, 'address', host(a.client_addr), 'since', pgmqd.iso_time(a.backend_start)) ORDER BY a.pid), '[]')
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = pgmqd.queue_table('q', queue)::oid AND l.objid = 4294967293 -- -3
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
$f$;

-- All about one message, its body as the text that the database keeps, and its life; NULL when it is not there. Without a state it is looked
-- for among the living, then the archived, then the dead by the number that they had.
CREATE OR REPLACE FUNCTION pgmqd.message_life(queue text, id text, state text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  found record;
  s text;
BEGIN
  IF id !~ '^-?[0-9]{1,18}$' THEN
    RETURN NULL;
  END IF;
  FOREACH s IN ARRAY CASE WHEN state IS NULL THEN ARRAY['live', 'archived', 'dead'] ELSE ARRAY[state] END LOOP
    IF pgmqd.message_table(queue, pgmqd.message_place(s)) IS NULL THEN
      CONTINUE;
    END IF;
    EXECUTE format('SELECT m.*, %s AS j FROM (%s) m ORDER BY m.msg_id DESC LIMIT 1', pgmqd.message_json(true), pgmqd.message_rows(queue, s, CASE WHEN s = 'dead' AND state IS NULL
      THEN format('m.headers @> ''{"pgmqd_dead": {"msg_id": %s}}''', id) ELSE 'm.msg_id = ' || id END)) INTO found;
    EXIT WHEN found.msg_id IS NOT NULL;
  END LOOP;
  IF found.msg_id IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN found.j || jsonb_build_object('queue', queue, 'body', jsonb_pretty(found.message), 'headers', found.headers,
    'trace_id', substring(found.headers->>'traceparent' FROM '^[0-9a-f]{2}-([0-9a-f]{32})-'),
    'workers', CASE WHEN found.stands = 'running' THEN pgmqd.queue_workers(queue) END,
    'lease_until', CASE WHEN found.stands = 'running' THEN pgmqd.iso_time(found.vt) END,
    'cancel_asked', (SELECT jsonb_build_object('at', pgmqd.iso_time(c.asked_at), 'by', c.asked_by, 'why', c.why) FROM pgmqd.cancels c
      WHERE c.queue = lower(message_life.queue) AND c.msg_id = found.original AND c.born = pgmqd.microseconds(found.born) AND c.read_ct = found.read_ct AND found.stands = 'running'),
    'life', (SELECT coalesce(jsonb_agg(jsonb_build_object('at', pgmqd.iso_time(l.at), 'what', l.what, 'by', l.by, 'why', l.why) || l.more ORDER BY l.at, l.n), '[]') FROM (
      SELECT 1 AS n, found.born AS at, 'enqueued' AS what, NULL AS by, NULL AS why, '{}'::jsonb AS more
      UNION ALL SELECT 2, a.ended_at, 'retried', a.worker, a.reason, jsonb_build_object('attempt', a.read_ct, 'started_at', pgmqd.iso_time(a.started_at),
          'ms', (extract(epoch FROM a.ended_at - a.started_at) * 1000)::bigint)
        FROM pgmqd.attempts a WHERE a.queue = lower(message_life.queue) AND a.msg_id = found.original AND a.enqueued_at = found.born
      UNION ALL SELECT 3, c.at, c.action, c.by, c.why, '{}' FROM pgmqd.actions c WHERE lower(c.queue) = lower(message_life.queue)
        AND c.ids @> ARRAY[CASE found.stands WHEN 'dead' THEN found.msg_id ELSE found.original END] AND c.at >= found.born
      UNION ALL SELECT 4, pgmqd.as_time(h->>'redriven_at'), 'requeued', NULL, h->>'reason', jsonb_build_object('was', h->'msg_id')
        FROM jsonb_array_elements(CASE WHEN jsonb_typeof(found.headers->'pgmqd_history') = 'array' THEN found.headers->'pgmqd_history' ELSE '[]' END) h
      UNION ALL SELECT 5, found.at, found.stands, found.headers #>> '{pgmqd_cancelled,by}', coalesce(found.headers #>> '{pgmqd_cancelled,why}', CASE found.stands WHEN 'dead' THEN found.reason END), '{}'
        WHERE found.stands IN ('archived', 'cancelled', 'dead')) l));
END $f$;

-- ---- cancelling running messages ----

-- Puts rows of a queue's table, which the caller has locked, into its archive as cancelled. A number that the archive has given to
-- another message gives way to one below zero.
CREATE OR REPLACE FUNCTION pgmqd.archive_cancelled(queue text, ids bigint[], notes jsonb) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  living regclass := pgmqd.message_table(queue, 'live');
  archive regclass := pgmqd.message_table(queue, 'archived');
  extra text := '';
  put text := '';
  c text;
BEGIN
  IF archive IS NULL THEN
    RAISE EXCEPTION 'queue "%" has no archive', queue USING ERRCODE = 'undefined_object';
  END IF;
  FOR c IN SELECT a.attname FROM pg_attribute a JOIN pg_attribute q ON q.attname = a.attname AND q.attrelid = living
    WHERE a.attrelid = archive AND a.attname IN ('headers', 'last_read_at') AND NOT a.attisdropped AND NOT q.attisdropped LOOP
    extra := extra || ', ' || c;
    put := put || CASE c WHEN 'headers' THEN $q$, CASE WHEN jsonb_typeof(g.headers) = 'object' THEN g.headers ELSE '{}' END
      || CASE WHEN g.taken THEN jsonb_build_object('pgmqd_msg_id', g.msg_id) ELSE '{}' END
      || jsonb_build_object('pgmqd_cancelled', coalesce($2->(g.msg_id::text), '{}'))$q$ ELSE ', g.' || c END;
  END LOOP;
  RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM %1$s q WHERE q.msg_id = ANY ($1) RETURNING q.*),
    put AS (INSERT INTO %2$s (msg_id, read_ct, enqueued_at, vt, message%3$s) SELECT CASE WHEN g.taken
        THEN (SELECT least(min(a.msg_id), 0) FROM %2$s a) - row_number() OVER (ORDER BY g.taken DESC, g.msg_id) ELSE g.msg_id END,
        g.read_ct, g.enqueued_at, g.vt, g.message%4$s
      FROM (SELECT g.*, EXISTS (SELECT FROM %2$s a WHERE a.msg_id = g.msg_id) AS taken FROM gone g) g RETURNING 1)
    SELECT msg_id FROM gone WHERE (SELECT count(*) FROM put) >= 0', living, archive, extra, put) USING ids, notes;
END $f$;

-- Tells every dispatcher that a message of this queue is to be cancelled.
CREATE OR REPLACE FUNCTION pgmqd.tell_cancel(queue text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pg_notify(coalesce((SELECT split_part(encode(t.tgargs, 'escape'), '\000', 2) FROM pg_trigger t
    WHERE t.tgrelid = to_regclass(format('pgmq.%I', 'q_' || lower(queue))) AND t.tgname = 'pgmqd_wakeup'), pgmqd.setting('channel')), '!cancel ' || queue)
$f$;

-- The running messages of a queue that are to be cancelled. The worker asks this.
CREATE OR REPLACE FUNCTION pgmqd.asked_cancels(queue text) RETURNS TABLE (msg_id bigint, born bigint, read_ct integer, why text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT c.msg_id, c.born, c.read_ct, concat_ws(': ', 'cancelled by ' || c.asked_by, c.why) FROM pgmqd.cancels c WHERE c.queue = lower(asked_cancels.queue)
$f$;

-- The worker has taken these messages from its plugin: they go into the archive as cancelled, if their claims hold them, and `locked` is true
-- of those that another session has locked, null of those that a trigger keeps. What an earlier try has archived counts as archived.
CREATE OR REPLACE FUNCTION pgmqd.settle_cancelled(queue text, ids bigint[], tokens bigint[], births bigint[]) RETURNS TABLE (id bigint, locked boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  living regclass := pgmqd.message_table(queue, 'live');
  held text := '(q.msg_id, q.read_ct::bigint * 1000000 + date_part(''microseconds'', q.vt)::bigint % 1000000, pgmqd.microseconds(q.enqueued_at))
    IN (SELECT * FROM unnest($1, $2, $3))';
  had bigint[];
  gone bigint[];
  busy bigint[];
  notes jsonb;
BEGIN
  EXECUTE format('SELECT coalesce(array_agg(h.msg_id), ''{}'') FROM (SELECT q.msg_id FROM %s q WHERE q.msg_id = ANY ($1) AND %s FOR UPDATE SKIP LOCKED) h', living, held)
  INTO had USING ids, tokens, births;
  EXECUTE format('SELECT coalesce(array_agg(q.msg_id), ''{}'') FROM %s q WHERE q.msg_id = ANY ($1) AND q.msg_id <> ALL ($4) AND %s', living, held)
  INTO busy USING ids, tokens, births, had;
  SELECT coalesce(jsonb_object_agg(c.msg_id, jsonb_build_object('at', clock_timestamp(), 'by', c.asked_by, 'why', c.why, 'running', true)), '{}') INTO notes
  FROM pgmqd.cancels c WHERE c.queue = lower(settle_cancelled.queue) AND c.msg_id = ANY (had);
  gone := ARRAY(SELECT pgmqd.archive_cancelled(queue, had, notes));
  RETURN QUERY SELECT a, false FROM unnest(gone) a UNION ALL SELECT b, true FROM unnest(busy) b
    UNION ALL SELECT h, NULL::boolean FROM unnest(had) h WHERE h <> ALL (gone); -- a trigger keeps these
  RETURN QUERY EXECUTE format('SELECT q.msg_id, false FROM %s q WHERE q.msg_id = ANY ($1) AND q.msg_id <> ALL ($4) AND %s',
    pgmqd.message_table(queue, 'archived'), held) USING ids, tokens, births, had;
  DELETE FROM pgmqd.cancels c WHERE c.queue = lower(settle_cancelled.queue) AND c.msg_id = ANY (had);
END $f$;

-- ---- actions ----

-- Puts archived messages, or dead letters, back into their queue as new messages whose attempts start anew, body untouched. What they
-- were becomes the last entry of the header pgmqd_history.
CREATE OR REPLACE FUNCTION pgmqd.requeue_archived(queue text, wanted bigint[]) RETURNS TABLE (old_id bigint, new_id bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  living regclass := pgmqd.message_table(queue, 'live');
  archive regclass := pgmqd.message_table(queue, 'archived');
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = archive AND attname = 'headers' AND NOT attisdropped) THEN -- pgmq before 1.5
    RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM %s WHERE msg_id = ANY ($1) RETURNING msg_id, message)
      SELECT g.msg_id, pgmqd.enqueue_for($2, g.message, 0, NULL) FROM gone g', archive) USING wanted, queue;
    RETURN;
  END IF;
  RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM %1$s WHERE msg_id = ANY ($2)
      RETURNING msg_id, enqueued_at, archived_at, read_ct, message, CASE WHEN jsonb_typeof(headers) = ''object'' THEN headers ELSE ''{}'' END AS headers),
    again AS (SELECT g.msg_id, g.message, g.headers - ''pgmqd_cancelled'' - ''pgmqd_msg_id'' || jsonb_build_object(''pgmqd_history'',
        CASE WHEN jsonb_typeof(g.headers->''pgmqd_history'') = ''array'' THEN g.headers->''pgmqd_history'' ELSE ''[]'' END
        || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(''archive_id'', g.msg_id, ''msg_id'', coalesce(g.headers->''pgmqd_msg_id'', to_jsonb(g.msg_id)),
          ''enqueued_at'', g.enqueued_at, ''archived_at'', g.archived_at, ''read_ct'', g.read_ct, ''cancelled'', g.headers->''pgmqd_cancelled'', ''redriven_at'', clock_timestamp(),
          ''enqueued_us'', pgmqd.microseconds(g.enqueued_at))))) AS headers FROM gone g ORDER BY g.msg_id),
    put AS (INSERT INTO %2$s AS q (vt, message, headers) SELECT clock_timestamp(), message, headers FROM again
      RETURNING (q.headers #>> ''{pgmqd_history,-1,archive_id}'')::bigint AS id, q.headers #> ''{pgmqd_history,-1,msg_id}'' AS was, q.msg_id, q.enqueued_at),
    keyed AS (%3$s)
    SELECT id, msg_id FROM put', archive, living, pgmqd.keys_follow(living)) USING queue, wanted;
END $f$;

-- The state whose messages an action changes when the request names none.
CREATE OR REPLACE FUNCTION pgmqd.action_state(action text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF action IN ('cancel', 'run-now', 'delay', 'edit') THEN
    RETURN 'live';
  ELSIF action = 'requeue' THEN
    RETURN 'archived';
  END IF;
  RAISE EXCEPTION 'bad_action: there is no action "%"', action USING ERRCODE = 'HT400';
END $f$;

-- Does one action to the messages that a request selects, and records it: {ids: [...], versions: {ID: version}, filter: {...}, all: true,
-- dry_run: true, expected: N, why, seconds, body, version}. Without ids and filter it needs all: true. It answers {matched, changed: [...],
-- asked: [...], refused: [...], more}: asked are running messages whose workers were told; refused are those that somebody else has taken or
-- changed meanwhile, or that the action does not fit. At most 10,000 in one call.
CREATE OR REPLACE FUNCTION pgmqd.act_on_messages(queue text, action text, request jsonb, by text DEFAULT session_user) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  most CONSTANT integer := 10000;
  stored text := coalesce(pgmqd.stored_name(queue), queue);
  who text := coalesce(by, session_user);
  why text := nullif(btrim(request->>'why'), '');
  filter jsonb := coalesce(request->'filter', '{}') || CASE WHEN request ? 'ids' THEN jsonb_build_object('ids', request->'ids') ELSE '{}' END;
  state text;
  t regclass;
  matched bigint[];
  held bigint[] := '{}';
  running bigint[] := '{}';
  changed bigint[] := '{}';
  total bigint;
  news jsonb;
  m record;
BEGIN
  IF jsonb_typeof(request) <> 'object' OR jsonb_typeof(filter) <> 'object' OR jsonb_typeof(coalesce(filter->'ids', '[]')) <> 'array'
    OR jsonb_typeof(coalesce(request->'versions', '{}')) <> 'object' OR jsonb_typeof(coalesce(request->'seconds', '0')) <> 'number'
    OR jsonb_typeof(coalesce(request->'expected', '0')) <> 'number' THEN
    RAISE EXCEPTION 'bad_request: the request has to be an object, so have filter and versions, ids a list, seconds and expected numbers' USING ERRCODE = 'HT400';
  ELSIF filter - 'state' = '{}' AND NOT filter ? 'state' AND request->'all' IS DISTINCT FROM 'true' THEN
    RAISE EXCEPTION 'bad_choice: choose messages by ids or a filter, or send "all": true' USING ERRCODE = 'HT400';
  ELSIF length(why) > 500 THEN
    RAISE EXCEPTION 'bad_reason: why may have up to 500 characters' USING ERRCODE = 'HT400';
  END IF;
  state := coalesce(filter->>'state', pgmqd.action_state(action));
  IF (pgmqd.action_state(action) = 'live' AND pgmqd.message_place(state) <> 'live' AND NOT (action = 'edit' AND state = 'dead'))
    OR (action = 'requeue' AND pgmqd.message_place(state) = 'live') OR (action = 'cancel' AND state = 'dead') THEN
    RAISE EXCEPTION 'bad_choice: % does nothing to messages that are %', action, state USING ERRCODE = 'HT400';
  END IF;
  IF action = 'delay' AND coalesce((request->>'seconds')::numeric, -1) NOT BETWEEN 0 AND 31536000 THEN
    RAISE EXCEPTION 'bad_delay: seconds has to be from 0 to 31536000, a year' USING ERRCODE = 'HT400';
  ELSIF action = 'edit' THEN
    IF jsonb_array_length(coalesce(filter->'ids', '[]')) <> 1 OR request->>'version' IS NULL OR request->>'body' IS NULL THEN
      RAISE EXCEPTION 'bad_edit: an edit takes one id, the version that was seen, and the new body as text' USING ERRCODE = 'HT400';
    END IF;
    BEGIN
      news := (request->>'body')::jsonb;
    EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
      RAISE EXCEPTION 'bad_body: the body is no JSON: %', SQLERRM USING ERRCODE = 'HT400';
    END;
  END IF;
  t := pgmqd.message_table(stored, pgmqd.message_place(state));
  IF t IS NULL THEN
    RETURN jsonb_build_object('matched', 0, 'changed', '[]'::jsonb, 'asked', '[]'::jsonb, 'refused', '[]'::jsonb, 'more', false);
  END IF;

  -- the messages that the request selects
  EXECUTE format('SELECT coalesce(array_agg(l.msg_id ORDER BY l.msg_id), ''{}'') FROM (SELECT m.msg_id FROM (%s) m WHERE %s ORDER BY m.msg_id LIMIT %s + 1) l',
    pgmqd.message_rows(stored, state, CASE WHEN filter ? 'ids' THEN pgmqd.message_condition(jsonb_build_object('ids', filter->'ids'), true) ELSE 'true' END),
    pgmqd.message_condition(filter, true), most) INTO matched;
  total := CASE WHEN cardinality(matched) > most THEN pgmqd.count_messages(stored, filter || jsonb_build_object('state', state)) ELSE cardinality(matched) END;
  IF request->'dry_run' = 'true' THEN
    RETURN jsonb_build_object('matched', total);
  ELSIF total > (request->>'expected')::numeric THEN
    RAISE EXCEPTION 'more_match: % messages match now, and % were expected', total, request->>'expected' USING ERRCODE = 'HT409';
  END IF;
  matched := matched[1:most];

  -- those that are still as they were seen, locked: what somebody else has locked is about to be another one's
  FOR m IN EXECUTE format('SELECT l.msg_id, %2$s AS stands FROM (SELECT q.msg_id, q.read_ct, q.vt FROM %1$s q WHERE q.msg_id = ANY ($1)
      AND ($2 IS NULL OR $2->>(q.msg_id::text) IS NULL OR $2->>(q.msg_id::text) = pgmqd.message_version(q.read_ct, q.vt, q.enqueued_at)) FOR UPDATE SKIP LOCKED) l', t, pgmqd.stands_expression('l'))
    USING matched, CASE WHEN action = 'edit' THEN jsonb_build_object(filter->'ids'->>0, request->'version') ELSE request->'versions' END
  LOOP
    IF pgmqd.message_place(state) = 'live' AND m.stands = 'running' THEN
      running := running || m.msg_id;
    ELSIF pgmqd.message_place(state) <> 'live' OR state IN ('live', m.stands) AND (action <> 'run-now' OR m.stands = 'delayed') THEN
      held := held || m.msg_id;
    END IF;
  END LOOP;

  -- the action
  IF action = 'cancel' THEN
    changed := ARRAY(SELECT pgmqd.archive_cancelled(stored, held, (SELECT coalesce(jsonb_object_agg(h, jsonb_build_object('at', clock_timestamp(), 'by', who, 'why', why)), '{}') FROM unnest(held) h)));
    IF running <> '{}' THEN
      EXECUTE format('INSERT INTO pgmqd.cancels AS c (queue, msg_id, born, read_ct, asked_by, why)
        SELECT lower($2), q.msg_id, pgmqd.microseconds(q.enqueued_at), q.read_ct, $3, $4 FROM %s q WHERE q.msg_id = ANY ($1)
        ON CONFLICT (queue, msg_id, born) DO UPDATE SET read_ct = excluded.read_ct, asked_at = clock_timestamp(), asked_by = excluded.asked_by, why = excluded.why', t)
      USING running, stored, who, why;
      PERFORM pgmqd.tell_cancel(stored);
    END IF;
    DELETE FROM pgmqd.cancels c WHERE c.asked_at < clock_timestamp() - interval '1 day';
  ELSIF action IN ('run-now', 'delay') THEN
    EXECUTE format('WITH moved AS (UPDATE %s q SET vt = date_trunc(''milliseconds'', $2) WHERE q.msg_id = ANY ($1) RETURNING q.msg_id) SELECT coalesce(array_agg(msg_id), ''{}'') FROM moved', t)
    INTO changed USING held, clock_timestamp() + make_interval(secs => CASE action WHEN 'delay' THEN (request->>'seconds')::numeric ELSE 0 END);
  ELSIF action = 'edit' THEN
    EXECUTE format('WITH edited AS (UPDATE %s q SET message = $2, vt = q.vt + interval ''1 millisecond'' WHERE q.msg_id = ANY ($1) RETURNING q.msg_id)
      SELECT coalesce(array_agg(msg_id), ''{}'') FROM edited', t) INTO changed USING held, news;
    IF changed = '{}' THEN
      RAISE EXCEPTION 'changed_meanwhile: the message is not as it was seen: it was claimed, moved or edited meanwhile' USING ERRCODE = 'HT409';
    END IF;
  ELSIF state = 'dead' THEN
    SELECT coalesce(array_agg(r.dead_id), '{}'), jsonb_object_agg(r.dead_id, r.new_id) INTO changed, news FROM pgmqd.redrive(stored, held) r;
  ELSE
    SELECT coalesce(array_agg(r.old_id), '{}'), jsonb_object_agg(r.old_id, r.new_id) INTO changed, news FROM pgmqd.requeue_archived(stored, held) r;
  END IF;

  IF action <> 'cancel' THEN
    running := '{}';
  END IF;
  IF changed || running <> '{}' THEN
    INSERT INTO pgmqd.actions (by, action, queue, ids, why, details) VALUES (who, act_on_messages.action, stored, changed || running, why,
      jsonb_strip_nulls(jsonb_build_object('state', state, 'asked', CASE WHEN running <> '{}' THEN to_jsonb(running) END, 'seconds', request->'seconds',
        'filter', CASE WHEN request ? 'filter' THEN to_jsonb(ARRAY(SELECT jsonb_object_keys(request->'filter'))) END)));
  END IF;
  RETURN jsonb_build_object('matched', total, 'changed', to_jsonb(changed), 'asked', to_jsonb(running),
    'refused', (SELECT coalesce(jsonb_agg(w ORDER BY w), '[]') FROM (SELECT unnest(matched || ARRAY(SELECT v::bigint FROM jsonb_array_elements_text(coalesce(filter->'ids', '[]')) v))
      EXCEPT SELECT unnest(changed || running)) r (w)), 'more', total > most)
    || CASE WHEN action = 'requeue' THEN jsonb_build_object('new_ids', coalesce(news, '{}')) ELSE '{}' END;
END $f$;

-- Requeues or deletes dead letters, and records who did it: {redriven: [{id, new_id}]} or {purged: N}.
CREATE OR REPLACE FUNCTION pgmqd.act_on_dead_letters(queue text, action text, ids bigint[], reason text, class text,
  by text DEFAULT session_user, max_rows bigint DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  found_ids bigint[] := '{}';
  done jsonb;
  n bigint;
BEGIN
  IF action = 'redrive' THEN
    SELECT coalesce(array_agg(r.dead_id ORDER BY r.dead_id), '{}'), coalesce(jsonb_agg(jsonb_build_object('id', r.dead_id, 'new_id', r.new_id) ORDER BY r.dead_id), '[]')
    INTO found_ids, done FROM pgmqd.redrive(queue, ids, reason, class, max_rows) r;
    n := cardinality(found_ids);
    done := jsonb_build_object('redriven', done);
  ELSE
    n := pgmqd.purge_dead_letters(queue, ids, reason, class, max_rows);
    found_ids := coalesce(ids, '{}');
    done := jsonb_build_object('purged', n);
  END IF;
  IF n > 0 THEN
    INSERT INTO pgmqd.actions (by, action, queue, ids, details) VALUES (coalesce(by, session_user), act_on_dead_letters.action, coalesce(pgmqd.stored_name(queue), queue),
      found_ids[1:10000], jsonb_strip_nulls(jsonb_build_object('state', 'dead', 'count', n, 'class', class,
        'filter', CASE WHEN ids IS NULL THEN to_jsonb(array_remove(ARRAY[CASE WHEN reason IS NOT NULL THEN 'reason' END, CASE WHEN class IS NOT NULL THEN 'class' END], NULL)) END)));
  END IF;
  RETURN done;
END $f$;

-- The latest actions of operators, the newest first: {actions: [...]}.
CREATE OR REPLACE FUNCTION pgmqd.action_list(queue text DEFAULT NULL, max_rows integer DEFAULT 100) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_build_object('actions', coalesce(jsonb_agg(jsonb_build_object('id', a.id, 'at', pgmqd.iso_time(a.at), 'by', a.by, 'action', a.action, 'queue', a.queue,
    'count', cardinality(a.ids), 'ids', to_jsonb(a.ids[1:20]), 'why', a.why, 'details', coalesce(a.details, '{}')) ORDER BY a.id DESC), '[]'))
  FROM (SELECT * FROM pgmqd.actions x WHERE action_list.queue IS NULL OR lower(x.queue) = lower(action_list.queue) ORDER BY x.id DESC LIMIT max_rows) a
$f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'message_page', 'message_life', 'count_messages', 'act_on_messages', 'act_on_dead_letters', 'action_list', 'asked_cancels', 'settle_cancelled');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'message_page', 'message_life', 'count_messages', 'act_on_messages', 'act_on_dead_letters', 'action_list');
END $$;

RESET search_path;
