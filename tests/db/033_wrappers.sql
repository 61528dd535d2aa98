-- 033_wrappers.sql: the functions for RPC, and the operators' known queries as they are written.
-- database: app
BEGIN;
SELECT plan(25);
ALTER SEQUENCE pgmq.q_email_queue_msg_id_seq RESTART;
DO $$ BEGIN
  PERFORM queue_email_task('a@example.test', NULL, 'report_ready'), queue_email_task('b@example.test', NULL, 'report_ready');
END $$;

SELECT is(pgmq_read('email_queue', 30) - ARRAY['enqueued_at', 'vt'], '{"msg_id": 1, "read_ct": 1, "msg": {"to": "a@example.test",
  "subject": null, "template": "report_ready", "priority": 0, "variables": {}}}', 'pgmq_read');
SELECT is(ARRAY(SELECT k FROM jsonb_object_keys(pgmq_read('email_queue')) k ORDER BY k COLLATE "C"),
  ARRAY['enqueued_at', 'msg', 'msg_id', 'read_ct', 'vt'], 'its keys');
SELECT is(pgmq_read('email_queue', 30), NULL, 'NULL when there is nothing');
SELECT throws_ok($$SELECT pgmq_read('nope', 30)$$, '42P01');
SELECT ok(pgmq_archive('email_queue', 1), 'pgmq_archive');
SELECT ok(NOT pgmq_archive('email_queue', 1), 'pgmq_archive again');
SELECT ok(pgmq_delete('email_queue', 2), 'pgmq_delete');
SELECT ok(NOT pgmq_delete('email_queue', 2), 'pgmq_delete again');
SELECT is(pgmq_send('email_queue', '{"to": "c@example.test"}'), 3::bigint, 'pgmq_send');
SELECT is(pgmq_send('email_queue', '{"to": "d@example.test"}', 60), 4::bigint, 'with a delay');
SELECT is(prorettype::regtype::text, type, proname || ' returns no type of pgmq''s') FROM pg_proc JOIN (VALUES ('pgmq_read', 'jsonb'),
  ('pgmq_archive', 'boolean'), ('pgmq_delete', 'boolean'), ('pgmq_send', 'bigint'), ('pgmq_metrics', 'record')) v (name, type)
  ON name = proname AND pronamespace = 'public'::regnamespace;

SELECT results_eq($$SELECT queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages FROM pgmq_metrics('email_queue')$$,
  'VALUES (2::bigint, 0, 0, 4::bigint)', 'the known query of the figures');
SELECT isnt(queue_visible_length, NULL, 'and how many are visible') FROM pgmq_metrics('email_queue');
SELECT results_eq($$SELECT msg_id, msg->>'to' FROM pgmq.email_queue ORDER BY enqueued_at, msg_id$$,
  $$VALUES (3::bigint, 'c@example.test'), (4, 'd@example.test')$$, 'the known query of the messages');
SELECT lives_ok(format('SELECT msg_id, read_ct, enqueued_at, vt, msg FROM pgmq.%I', q), 'view ' || q)
  FROM unnest(ARRAY['email_queue', 'report_generation_queue', 'payment_processing_queue', 'analytics_queue']) q;
SELECT results_eq($$SELECT queue_name::text FROM pgmq.list_queues() WHERE queue_name !~ '_dlq$' ORDER BY 1$$,
  $$VALUES ('analytics_queue'), ('email_queue'), ('mail_events_queue'), ('payment_processing_queue'), ('report_generation_queue')$$, 'pgmq.list_queues()');
SELECT results_eq($$SELECT DISTINCT trigger_name::text COLLATE "default", event_object_table::text COLLATE "default"
    FROM information_schema.triggers WHERE trigger_schema = 'public' ORDER BY 1$$,
  $$VALUES ('on_checkup_completed', 'assessments'), ('on_new_appointment', 'appointments'), ('on_payment_status_change', 'payments')$$,
  'the known query of the triggers');
SELECT set_eq($$SELECT proname::text FROM pg_proc WHERE proname LIKE 'pgmq\_%' AND pronamespace = 'public'::regnamespace$$,
  ARRAY['pgmq_read', 'pgmq_archive', 'pgmq_delete', 'pgmq_send', 'pgmq_metrics'], 'the known query of the functions');

SELECT * FROM finish();
ROLLBACK;
