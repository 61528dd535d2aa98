-- 024_page.sql: what the status page shows of dead letters and schedules, as JSON that the HTTP server hands on. They have the rights of
-- their owner, since the daemon's role reads no dead letter; the HTTP server asks for its token where a body is in it.

SET search_path = pg_catalog, pg_temp;

-- The tables of a queue and of its dead letters, or an error that becomes HTTP status 404.
CREATE OR REPLACE FUNCTION pgmqd.page_tables(queue text, OUT living regclass, OUT dead regclass)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  SELECT t.living, t.dead INTO living, dead FROM pgmqd.dead_letter_tables(queue) t;
EXCEPTION WHEN undefined_object THEN
  RAISE EXCEPTION 'not_found: %', SQLERRM USING ERRCODE = 'HT404';
END $f$;

-- A reason without what differs from one message to the next: addresses, ids and numbers. Status codes stay (550, 5.1.1), for they tell one
-- failure from another; a number with a unit behind it is none.
CREATE OR REPLACE FUNCTION pgmqd.reason_group(reason text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT left(regexp_replace(regexp_replace(regexp_replace(coalesce(reason, ''), '[^[:space:]<>"]+@[^[:space:]<>"]+', '…@…', 'g'),
    '\m([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,})\M', '…', 'gi'),
    '(?<![0-9A-Za-z.])(?![1-5][0-9][0-9](?![0-9]|[.:][0-9]|[ ]?(ms|s|min|h|bytes|rows|seconds|times)\M))(?![245][.][0-9]{1,3}[.][0-9]{1,3}(?![0-9.]))[0-9]+([.,:][0-9]+)*',
    '…', 'g'), 200)
$f$;

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
    CONTINUE WHEN dead IS NULL OR NOT has_table_privilege(dead, 'SELECT');
    EXECUTE format('SELECT coalesce(jsonb_agg(g), ''[]'') FROM (
        SELECT $1 AS queue, class, pgmqd.reason_group(reason) AS reason, (array_agg(CASE WHEN $2 THEN reason ELSE pgmqd.masked(reason) END ORDER BY at DESC))[1] AS example,
          count(*) AS count, pgmqd.iso_time(min(at)) AS first, pgmqd.iso_time(max(at)) AS last, max(plugin) AS plugin
        FROM (SELECT h->>''class'' AS class, h->>''reason'' AS reason, h->>''plugin'' AS plugin,
            coalesce((h->>''died_at'')::timestamptz, d.enqueued_at) AS at
          FROM (SELECT headers->''pgmqd_dead'' AS h, enqueued_at FROM %s ORDER BY msg_id DESC LIMIT 5000) d) l
        GROUP BY class, pgmqd.reason_group(reason)) g', dead) INTO part USING q, is_open;
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
      SELECT d.msg_id AS id, pgmqd.iso_time(coalesce((h->>''died_at'')::timestamptz, d.enqueued_at)) AS died_at, h->>''class'' AS class,
        r AS reason, (h->>''attempts'')::integer AS attempts,
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

-- Every schedule and its last runs, whoever runs it: {schedules: [{name, cron, tz, runner, enabled, next_due, last_run, last_status,
-- last_error, taken_over, runs: [{started_at, status, ms, error}]}]}.
CREATE OR REPLACE FUNCTION pgmqd.schedule_status() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  cron_runs jsonb := '{}';
BEGIN
  IF pgmqd.extension_table('cron.job_run_details', 'pg_cron') IS NOT NULL THEN
    BEGIN
      EXECUTE 'SELECT coalesce(jsonb_object_agg(jobname, runs), ''{}'') FROM (SELECT j.jobname, (
          SELECT jsonb_agg(jsonb_build_object(''started_at'', pgmqd.iso_time(d.start_time),
              ''status'', CASE d.status WHEN ''succeeded'' THEN ''ok'' ELSE d.status END,
              ''ms'', (extract(epoch FROM d.end_time - d.start_time) * 1000)::bigint,
              ''error'', CASE WHEN d.status <> ''succeeded'' THEN d.return_message END) ORDER BY d.runid DESC)
          FROM (SELECT * FROM cron.job_run_details r WHERE r.jobid = j.jobid ORDER BY r.runid DESC LIMIT 10) d) AS runs
        FROM cron.job j WHERE j.jobname IS NOT NULL) x' INTO cron_runs;
    EXCEPTION WHEN insufficient_privilege OR undefined_column OR invalid_schema_name THEN
      NULL; -- pg_cron's own tables are closed to us: the schedules are told without its runs
    END;
  END IF;
  RETURN (SELECT jsonb_build_object('schedules', coalesce(jsonb_agg(jsonb_build_object('name', s.name, 'cron', s.cron, 'tz', s.tz,
      'runner', s.runner, 'enabled', s.enabled, 'next_due', pgmqd.iso_time(s.next_due), 'last_run', pgmqd.iso_time(s.last_run),
      'last_status', s.last_status, 'last_error', s.last_error, 'taken_over', s.taken_over,
      'runs', coalesce(cron_runs->s.name, '[]') || coalesce(r.runs, '[]')) ORDER BY s.name), '[]'))
    FROM pgmqd.schedule s LEFT JOIN LATERAL (
      SELECT jsonb_agg(jsonb_build_object('started_at', pgmqd.iso_time(n.started_at), 'status', n.status,
        'ms', (extract(epoch FROM n.ended_at - n.started_at) * 1000)::bigint, 'error', n.error) ORDER BY n.id DESC) AS runs
      FROM (SELECT * FROM pgmqd.schedule_runs m WHERE m.name = s.name ORDER BY m.id DESC LIMIT 10) n) r ON true);
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'failure_groups', 'dead_letter_page', 'dead_letter_body', 'schedule_status');
  PERFORM pgmqd.allow_calls('pgmqd', 'failure_groups', 'dead_letter_page', 'dead_letter_body', 'schedule_status');
END $$;

RESET search_path;
