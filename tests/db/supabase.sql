-- supabase.sql: who may do what, where default grants give everything to anon and authenticated.
-- database: supabase
BEGIN;
SELECT plan(25);

-- stranger stands for PUBLIC
SELECT is_empty(format($$SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace IN ('pgmqd'::regnamespace, 'public'::regnamespace)
    AND has_function_privilege(%L, p.oid, 'EXECUTE')$$, role), 'no function of ours for ' || role)
  FROM unnest(ARRAY['anon', 'authenticated', 'stranger']) role;
SELECT cmp_ok(count(*), '>', 30::bigint, '(of more than 30)') FROM pg_proc
  WHERE pronamespace IN ('pgmqd'::regnamespace, 'public'::regnamespace);
SELECT is_empty(format($$SELECT c.oid::regclass FROM pg_class c WHERE relkind IN ('r', 'v', 'p') AND (relnamespace = 'pgmqd'::regnamespace
      OR relnamespace = 'pgmq'::regnamespace AND relkind = 'v')
    AND (has_table_privilege(%1$L, c.oid, 'SELECT') OR has_table_privilege(%1$L, c.oid, 'INSERT')
      OR has_table_privilege(%1$L, c.oid, 'UPDATE') OR has_table_privilege(%1$L, c.oid, 'DELETE'))$$, role), 'no table of ours for ' || role)
  FROM unnest(ARRAY['anon', 'authenticated', 'stranger', 'pg_monitor']) role;
SELECT ok(NOT has_schema_privilege(role, schema, 'USAGE'), schema || ' is closed to ' || role)
  FROM unnest(ARRAY['anon', 'authenticated', 'stranger']) role, unnest(ARRAY['pgmqd', 'pgmq']) schema;
SELECT is(tap.as_role('anon', call), '42501', 'anon: ' || call) FROM unnest(ARRAY[
  $$SELECT public.pgmq_read('email_queue')$$, $$SELECT public.queue_email_task('v@example.test', NULL, 'x')$$,
  $$SELECT public.send_appointment_reminders()$$, 'SELECT * FROM pgmq.email_queue', 'SELECT pgmqd.setting($$app_url$$)']) call;
SELECT is(tap.as_role('service_role', call), 'ok', 'service_role: ' || call) FROM unnest(ARRAY[
  $$SELECT public.queue_email_task('v@example.test', NULL, 'x')$$, $$SELECT public.pgmq_read('email_queue')$$,
  $$SELECT * FROM public.pgmq_metrics('email_queue')$$]) call;

-- the application's own users need rights on their tables only
SELECT is(tap.as_role('authenticated', $$UPDATE public.assessments SET status = 'completed'$$), 'ok', 'a user completes check-ups');
SELECT is(count(*), 2::bigint, 'the mails are queued') FROM pgmq.q_email_queue WHERE message->>'template' = 'checkup_completed';
SELECT is_empty('SELECT * FROM pgmqd.trigger_errors', 'without failures');

SELECT * FROM finish();
ROLLBACK;
