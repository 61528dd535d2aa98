-- 034_roles.sql: every function and every table with every role, beside default grants that give everything to anon and authenticated.
-- database: supabase
BEGIN;
SELECT plan(101);

-- ---- functions ----

-- What roles may call in our schemas. Whoever adds a function that the daemon calls, or that a role may, adds it here.
CREATE TEMP TABLE may_call (role text, name text);
INSERT INTO may_call SELECT 'pgmqd', unnest(ARRAY['trigger_status', 'application_problems', 'mail_begin', 'mail_begin_many', 'mail_limit_take', 'mail_limit_halve', 'record_mail_event', 'queue_mail_event', 'unsubscribe', 'bounce_secret', 'use_mail_event_token', 'take_turn', 'notify_prepared', 'lock_holders',
    'mail_end', 'mail_sent', 'mail_to_several', 'mail_refused', 'report_source', 'finish_report', 'check_cron', 'cron_error',
    'payment_to_verify', 'settle_payment', 'payment_notified', 'record_events', 'run_schedule', 'take_over_schedules', 'give_back_schedules',
    'pg_cron_lives', 'is_time_zone', 'queue_status', 'dlq_name', 'dead_letter_queue', 'iso_time', 'queue_pause', 'queue_rates', 'paused_queues', 'pause', 'resume', 'failure_groups', 'queue_events', 'message_state',
        'dead_letter_page', 'dead_letter_body', 'dead_letters', 'redrive', 'purge_dead_letters', 'schedule_status', 'run_now', 'edit_schedule', 'act_on_dead_letters',
    'message_page', 'message_life', 'count_messages', 'act_on_messages', 'action_list', 'asked_cancels', 'settle_cancelled', 'record_history', 'history_page', 'dispatcher_list',
    'tell_limits', 'kept_back', 'limit_problems', 'start_jobs', 'attach_jobs', 'job_info', 'watch_job', 'retry_job', 'retry_due_jobs',
    'job_state', 'job_progress', 'job_part', 'job_partial', 'job_finish', 'follow', 'send_next', 'send_request', 'key_is_free', 'key_goes_on', 'hold_key'])
  UNION ALL SELECT 'pgmqd_enqueuer', 'submit' UNION ALL SELECT 'pgmqd_mailer', 'record_bounce'
  UNION ALL SELECT 'pgmqd_operator', unnest(ARRAY['kept_back', 'limit_problems', 'pause_key', 'resume_key', 'weigh_key', 'enqueue', 'enqueue_for', 'enqueue_unique', 'dlq_name', 'dead_letter_queue', 'iso_time', 'dead_letters', 'redrive', 'purge_dead_letters', 'queue_pause',
    'pause', 'resume', 'queue_rates', 'paused_queues', 'queue_events', 'message_state', 'queue_status', 'failure_groups', 'dead_letter_page', 'dead_letter_body',
    'schedule_status', 'run_now', 'edit_schedule', 'act_on_dead_letters', 'pg_cron_lives', 'lock_holders', 'message_page', 'message_life', 'count_messages', 'act_on_messages', 'action_list'])
  UNION ALL SELECT 'pgmqd_monitor', unnest(ARRAY['kept_back', 'limit_problems', 'queue_status', 'queue_rates', 'paused_queues', 'dlq_name', 'dead_letter_queue', 'pg_cron_lives', 'lock_holders']);
INSERT INTO may_call SELECT r, 'untrusted_objects' FROM unnest(ARRAY['pgmqd', 'pgmqd_operator', 'pgmqd_monitor']) r;
CREATE TEMP TABLE ours AS SELECT p.oid, p.oid::regprocedure AS name, p.proname, n.nspname, p.proacl, p.proconfig, p.prosqlbody, p.prosecdef, p.proowner
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('pgmqd', 'public');
SELECT cmp_ok(count(*), '>', 60::bigint, '(of more than 60 functions)') FROM ours;
SELECT is_empty($$SELECT 'PUBLIC may call ' || name FROM ours WHERE proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)$$,
  'PUBLIC may call no function: end each file of sql/ with pgmqd.restrict_functions(), and name those in public in its arguments');
SELECT is_empty(format($$SELECT %1$L || ' may call ' || name FROM ours WHERE has_function_privilege(%1$L, oid, 'EXECUTE')$$, role),
  role || ' may call no function') FROM unnest(ARRAY['anon', 'authenticated', 'stranger', 'pg_monitor', 'pgmqd_migrator']) role;
SELECT is_empty(format($$SELECT %1$L || ' may call ' || name || ': if that is meant, add it to may_call in tests/db/034_roles.sql'
    FROM ours WHERE has_function_privilege(%1$L, oid, 'EXECUTE')
      AND (nspname <> 'pgmqd' OR proname NOT IN (SELECT m.name FROM may_call m WHERE role = %1$L))$$, role), role || ' may call no other function')
  FROM unnest(ARRAY['pgmqd', 'pgmqd_enqueuer', 'pgmqd_monitor', 'pgmqd_operator', 'pgmqd_mailer']) role;
SELECT is_empty($$SELECT role || ' may not call pgmqd.' || m.name || ': name it in pgmqd.allow_calls() where it is made' FROM may_call m
    JOIN ours o ON o.proname = m.name AND o.nspname = 'pgmqd' WHERE NOT has_function_privilege(role, o.oid, 'EXECUTE')$$,
  'each role may call its own');
SELECT is_empty($$SELECT name || ' is in public: executable by role ' || a.grantee::regrole FROM ours, aclexplode(proacl) a
    WHERE nspname = 'public' AND a.grantee NOT IN (proowner, 'service_role'::regrole)$$, 'those in public are for their owner and service_role');
-- wakeup() runs at each enqueue, and every name in it has its schema
SELECT is_empty($$SELECT name || ': add SET search_path = pg_catalog, pg_temp' FROM ours
    WHERE proname <> 'wakeup' AND prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)$$, 'every function has a fixed search_path');
SELECT ok(NOT prosecdef, 'but this one, which has the rights of its caller only') FROM ours WHERE proname = 'wakeup';
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'pgmq'::regnamespace AND p.prosecdef$$,
  'no function of pgmq has rights of its own');

-- ---- tables, views, sequences ----

-- What one role may do with one relation, as "SELECT, UPDATE (vt)"; NULL: nothing.
CREATE FUNCTION pg_temp.rights(role name, relation oid) RETURNS text LANGUAGE sql AS $f$
  SELECT CASE WHEN relkind = 'S' THEN (SELECT string_agg(p, ', ' ORDER BY p) FROM unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p
      WHERE has_sequence_privilege(role, relation, p))
    ELSE (SELECT string_agg(p || coalesce(' (' || cols || ')', ''), ', ' ORDER BY p) FROM
      (SELECT p, CASE WHEN NOT has_table_privilege(role, relation, p) THEN (SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute
          WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
            AND has_column_privilege(role, relation, attnum, p)) END AS cols
       FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p) x
      WHERE cols IS NOT NULL OR has_table_privilege(role, relation, p)) END
  FROM pg_class WHERE oid = relation
$f$;
CREATE TEMP TABLE relations AS SELECT c.oid, c.oid::regclass::text AS name, CASE WHEN n.nspname = 'pgmq' THEN
      CASE WHEN relkind = 'S' THEN 'a queue''s sequence' WHEN relname ~ '^q_.*_dlq$' THEN 'a dead-letter queue' WHEN relname ~ '^a_.*_dlq$' THEN 'its archive'
        WHEN relname ~ '^q_' THEN 'a queue' WHEN relname ~ '^a_' THEN 'an archive' WHEN relkind = 'v' THEN 'a view of a queue' ELSE c.oid::regclass::text END
    ELSE c.oid::regclass::text END AS kind, n.nspname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname IN ('pgmqd', 'pgmq', 'public', 'auth') AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f');
CREATE TEMP TABLE may_do (role text, kind text, rights text);
INSERT INTO may_do VALUES
  ('pgmqd', 'a queue', 'DELETE, INSERT, SELECT, UPDATE (headers last_read_at read_ct vt)'),
  ('pgmqd', 'an archive', 'INSERT, SELECT (enqueued_at msg_id read_ct vt)'),
  ('pgmqd', 'a dead-letter queue', 'INSERT, SELECT (enqueued_at headers last_read_at msg_id read_ct vt)'),
  ('pgmqd', 'pgmq.meta', 'SELECT'),
  ('pgmqd', 'pgmqd.refunds', 'INSERT, SELECT, UPDATE (n read_ct)'),
  ('pgmqd', 'pgmqd.keys', 'SELECT'),
  ('pgmqd', 'pgmqd.rates', 'INSERT, SELECT, UPDATE (spent_until)'),
  ('pgmqd', 'pgmqd.attempts', 'INSERT'),
  ('pgmqd', 'pgmqd.files_to_erase', 'DELETE, SELECT'),
  ('pgmqd', 'pgmqd.schedule', 'SELECT, UPDATE (next_due)'),
  ('pgmqd', 'pgmqd.schema_version', 'SELECT'),
  ('pgmqd', 'pgmqd.settings', 'SELECT'),
  ('pgmqd', 'pgmqd.trigger_errors', 'SELECT (at id sqlstate trigger)'),
  ('pgmqd_monitor', 'a queue', 'SELECT (enqueued_at last_read_at msg_id read_ct vt)'),
  ('pgmqd_monitor', 'an archive', 'SELECT (archived_at enqueued_at last_read_at msg_id read_ct vt)'),
  ('pgmqd_monitor', 'a dead-letter queue', 'SELECT (enqueued_at last_read_at msg_id read_ct vt)'),
  ('pgmqd_monitor', 'a queue''s sequence', 'SELECT'),
  ('pgmqd_monitor', 'pgmq.meta', 'SELECT'),
  ('pgmqd_operator', 'a queue', 'SELECT (enqueued_at last_read_at msg_id read_ct vt)'),
  ('pgmqd_operator', 'an archive', 'SELECT (archived_at enqueued_at last_read_at msg_id read_ct vt)'),
  ('pgmqd_operator', 'a dead-letter queue', 'SELECT (enqueued_at last_read_at msg_id read_ct vt)'),
  ('pgmqd_operator', 'pgmq.meta', 'SELECT'),
  ('pgmqd_operator', 'pgmqd.schedule', 'SELECT'),
  ('pgmqd_operator', 'pgmqd.schedule_runs', 'SELECT'),
  ('pgmqd_operator', 'pgmqd.schema_version', 'SELECT'),
  ('pgmqd_monitor', 'pgmqd.schedule', 'SELECT (catch_up cron enabled last_run last_status max_late name next_due runner taken_over tz)'),
  ('pgmqd_monitor', 'pgmqd.schedule_runs', 'SELECT (due ended_at id name started_at status)'),
  ('pgmqd_monitor', 'pgmqd.schema_version', 'SELECT'),
  ('pgmqd_monitor', 'pgmqd.trigger_errors', 'SELECT (at id sqlstate table trigger)');
SELECT is_empty(format($$SELECT DISTINCT format('%%s has %%s on %%s, not %%s: mend sql/028_roles.sql, or may_do in tests/db/034_roles.sql', %1$L,
      coalesce(pg_temp.rights(%1$L, r.oid), 'nothing'), r.name, coalesce(m.rights, 'nothing'))
    FROM relations r LEFT JOIN may_do m ON m.role = %1$L AND m.kind = r.kind WHERE m.rights IS DISTINCT FROM pg_temp.rights(%1$L, r.oid)$$, role),
  role || ' has its rights on tables, and no other') FROM unnest(ARRAY['pgmqd', 'pgmqd_enqueuer', 'pgmqd_monitor', 'pgmqd_operator', 'pgmqd_mailer', 'pgmqd_migrator']) role;
SELECT is_empty(format($$SELECT format('%%s has %%s on %%s: revoke it', %1$L, pg_temp.rights(%1$L, oid), name) FROM relations
    WHERE nspname IN ('pgmqd', 'pgmq') AND pg_temp.rights(%1$L, oid) IS NOT NULL$$, role), role || ' has no right on any of ours')
  FROM unnest(ARRAY['anon', 'authenticated', 'stranger']) role;
SELECT is_empty($$SELECT name FROM relations WHERE nspname IN ('pgmqd', 'pgmq') AND pg_temp.rights('pg_monitor', oid) ~ 'message|headers|INSERT|UPDATE|DELETE'
    OR kind IN ('a queue', 'an archive') AND pg_temp.rights('pg_monitor', oid) !~ '^SELECT \('$$, 'pg_monitor reads no message');

-- ---- roles ----

SELECT is(rolcanlogin::text || rolsuper || rolbypassrls || rolcreaterole || rolcreatedb || rolreplication || rolinherit,
  CASE rolname WHEN 'pgmqd' THEN 'truefalsefalsefalsefalsefalsefalse' ELSE 'falsefalsefalsefalsefalsefalsetrue' END, 'attributes of ' || rolname)
  FROM pg_roles WHERE rolname ~ '^pgmqd' ORDER BY rolname;
SELECT is_empty('SELECT * FROM pgmqd.connect_roles()', 'there is nothing to mend');

-- ---- what the daemon may, and may not ----

DO $$ BEGIN
  PERFORM pgmqd.create_queue('another'), pgmq.create('foreign_queue');
  PERFORM pgmqd.enqueue('another', '{"n": 1}');
END $$;
SELECT is(tap.as_role('pgmqd', call), 'ok', 'the daemon: ' || call) FROM unnest(ARRAY[
  $$UPDATE pgmq.q_another SET vt = clock_timestamp(), read_ct = read_ct + 1$$, $$SELECT message FROM pgmq.q_another FOR UPDATE SKIP LOCKED$$,
  $$SELECT msg_id FROM pgmq.a_another$$, $$LISTEN pgmqd$$, $$UPDATE pgmqd.schedule SET next_due = now()$$, $$SELECT pgmqd.run_now('delete-old-messages')$$, $$SELECT pgmqd.edit_schedule('delete-old-messages', '{"cron": "@hourly"}')$$, $$DELETE FROM pgmq.q_another$$]) call;
SELECT is(tap.as_role('pgmqd', call), '42501', 'not: ' || call) FROM unnest(ARRAY[
  $$TRUNCATE pgmq.q_another$$, $$SELECT pgmq.purge_queue('another')$$, $$SELECT pgmq.create('more')$$,
  $$UPDATE pgmq.q_another SET message = '{}'$$, $$SELECT message FROM pgmq.a_another$$, $$DELETE FROM pgmq.a_another$$,
  $$SELECT message FROM pgmq.q_another_dlq$$, $$SELECT * FROM pgmq.q_foreign_queue$$, $$SELECT pgmq.read('foreign_queue', 0, 1)$$,
  $$SELECT * FROM public.profiles$$, $$UPDATE public.payments SET status = 'completed'$$, $$SELECT * FROM auth.users$$,
  $$SELECT secret FROM pgmqd.mail_log_secret$$, $$UPDATE pgmqd.schedule SET command = 'SELECT 1'$$, $$UPDATE pgmqd.schedule SET cron = '* * * * *'$$,
  $$SELECT pgmqd.erase_person('anna@example.test')$$, $$SELECT public.pgmq_read('email_queue')$$, $$SELECT * FROM pgmq.email_queue$$,
  $$CREATE TABLE public.mine ()$$, $$CREATE TABLE pgmqd.mine ()$$, $$CREATE SCHEMA mine$$]) call;
SELECT ok(tap.as_role('pgmqd', $$SELECT pgmq.drop_queue('another')$$) <> 'ok', 'not: drop a queue');
SELECT is(tap.as_role('pgmqd', call), '42P01', 'not into a queue that is not attached: ' || call) FROM unnest(ARRAY[
  $$SELECT pgmqd.queue_mail_event('foreign_queue', 'ses', '{}', 'x')$$, $$SELECT pgmqd.start_jobs('{t}', '{foreign_queue}', '{"{}"}', '{NULL}')$$]) call;
-- row security, as some switch it on for every table
ALTER TABLE pgmq.q_another ENABLE ROW LEVEL SECURITY;
DO $$ BEGIN PERFORM pgmqd.enqueue('another', '{"n": 2}'); END $$;
SELECT is(tap.as_role('pgmqd', 'DO $x$ BEGIN ASSERT (SELECT count(*) FROM pgmq.q_another) = 1; END $x$'), 'ok', 'row security hides nothing from it');

-- ---- enqueuers and who watches ----

SELECT is(tap.as_role('pgmqd_enqueuer', call), code, code || ': ' || call) FROM (VALUES
  ($$SELECT pgmqd.submit('another', '{"n": 3}', 5)$$, 'ok'), ($$SELECT pgmqd.submit('Another', '{}')$$, 'ok'),
  ($$SELECT pgmqd.submit('foreign_queue', '{}')$$, '42704'), ($$SELECT pgmqd.submit('another_dlq', '{}')$$, '42704'),
  ($$SELECT pgmqd.submit('a"; drop', '{}')$$, '42704'), ($$SELECT pgmqd.submit('another', NULL)$$, '22023'),
  ($$SELECT pgmqd.submit('another', '[1]')$$, '22023'), ($$SELECT pgmqd.submit('another', '{}', -1)$$, '22023'),
  ($$SELECT pgmqd.submit('another', jsonb_build_object('x', repeat('y', 65536)))$$, '22023'),
  ($$SELECT pgmqd.enqueue('another', '{}')$$, '42501')) AS c (call, code);
SELECT is(tap.as_role('pgmqd_monitor', call), code, code || ': ' || call) FROM (VALUES
  ($$SELECT count(*), max(vt) FROM pgmq.q_another$$, 'ok'), ($$SELECT * FROM pgmq.metrics('another')$$, 'ok'),
  ($$SELECT message FROM pgmq.q_another$$, '42501'), ($$SELECT message FROM pgmqd.trigger_errors$$, '42501'),
  ($$SELECT last_error FROM pgmqd.schedule$$, '42501'), ($$SELECT error FROM pgmqd.schedule_runs$$, '42501')) AS c (call, code);
SELECT is(tap.as_role('pgmqd_operator', call), code, code || ': ' || call) FROM (VALUES
  ($$SELECT * FROM pgmqd.dead_letters('another')$$, 'ok'), ($$SELECT pgmqd.enqueue('another', '{}')$$, 'ok'), ($$SELECT pgmqd.run_now('delete-old-messages')$$, 'ok'),
  ($$SELECT * FROM pgmqd.queue_events('another')$$, 'ok'), ($$SELECT pgmqd.pause('another')$$, 'ok'), ($$SELECT pgmqd.erase_person('a@example.test')$$, '42501')) AS c (call, code);
SELECT is(tap.as_role('pgmqd_mailer', call), code, code || ': ' || call) FROM (VALUES ($$SELECT pgmqd.record_bounce('x', '5.1.1', 'y')$$, 'ok'),
  ($$SELECT pgmqd.unsubscribe('x')$$, '42501'), ($$SELECT pgmqd.bounce_secret()$$, '42501'), ($$SELECT pgmqd.bounce_token('x')$$, '42501'), ($$SELECT * FROM pgmqd.mail_log$$, '42501')) AS c (call, code);
-- a key belongs to the role that gave it; a job_id is not taken
DO $$ BEGIN PERFORM pgmqd.submit('another', '{"key": "report-1"}'); END $$;
SELECT is((SELECT message->>'key' FROM pgmq.q_another ORDER BY msg_id DESC LIMIT 1), session_user || '/report-1', 'a key has its role in front');
CREATE ROLE "sender/a" IN ROLE pgmqd_enqueuer; CREATE ROLE sender IN ROLE pgmqd_enqueuer;
SET ROLE "sender/a";
DO $$ BEGIN PERFORM pgmqd.submit('another', '{"key": "report-1"}'); END $$;
SET ROLE sender;
DO $$ BEGIN PERFORM pgmqd.submit('another', '{"key": "report-1"}'), pgmqd.submit('another', '{"key": "a/report-1"}'); END $$;
RESET ROLE;
SELECT is((SELECT count(DISTINCT message->>'key') FROM pgmq.q_another WHERE message->>'key' LIKE '%/report-1'), 4::bigint,
  'that of the role that is set, where one login speaks for several, and whatever the names are');
SELECT throws_ok($$SELECT pgmqd.submit('another', '{"job_id": "x"}')$$, '22023', NULL, 'no job_id');
-- row security on our own tables, and a queue that is detached
ALTER TABLE pgmq.meta ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgmqd.schedule ENABLE ROW LEVEL SECURITY;
SELECT is(tap.as_role('pgmqd', 'DO $x$ BEGIN ASSERT (SELECT count(*) FROM pgmq.meta) > 0 AND (SELECT count(*) FROM pgmqd.schedule) > 0; END $x$'), 'ok', 'row security on helper tables hides nothing');
SELECT is_empty('SELECT * FROM pgmqd.connect_roles()', 'connected again');
DO $$ BEGIN PERFORM pgmqd.detach_queue('another'); END $$;
SELECT is(tap.as_role('pgmqd', 'SELECT * FROM pgmq.q_another'), '42501', 'a detached queue is closed to the daemon');

SELECT * FROM finish();
ROLLBACK;
