-- 031_queues.sql: the four queues, and the functions that put tasks into them.
-- database: app
BEGIN;
SELECT plan(46);
ALTER SEQUENCE pgmq.q_email_queue_msg_id_seq RESTART;

SELECT has_table('pgmq', 'q_' || q, q) FROM unnest(ARRAY['email_queue', 'report_generation_queue', 'payment_processing_queue',
  'analytics_queue', 'email_queue_dlq', 'report_generation_queue_dlq', 'payment_processing_queue_dlq', 'analytics_queue_dlq']) q;
SELECT has_trigger('pgmq', 'q_' || q, 'pgmqd_wakeup', q || ' is attached')
  FROM unnest(ARRAY['email_queue', 'report_generation_queue', 'payment_processing_queue', 'analytics_queue']) q;
SELECT function_returns('public', 'queue_email_task', ARRAY['text', 'text', 'text', 'jsonb', 'integer'], 'bigint');
SELECT function_returns('public', 'queue_report_generation', ARRAY['uuid', 'uuid', 'text'], 'bigint');
SELECT function_returns('public', 'queue_payment_processing', ARRAY['uuid', 'text'], 'bigint');
SELECT results_eq($$SELECT proargnames::text COLLATE "default" FROM pg_proc WHERE proname IN ('queue_email_task', 'queue_report_generation',
    'queue_payment_processing') ORDER BY proname$$,
  $$VALUES ('{to,subject,template,variables,priority}'), ('{payment_id,action}'), ('{assessment_id,user_id,report_type}')$$,
  'names of the arguments');

-- ---- mails ----
CREATE FUNCTION last_mail() RETURNS jsonb LANGUAGE sql AS 'SELECT message FROM pgmq.q_email_queue ORDER BY msg_id DESC LIMIT 1';
SELECT is(queue_email_task(' vera@example.test ', 'Hello', 'report_ready', '{"report_url": "https://x.example.test"}', 5), 1::bigint,
  'returns the number');
SELECT is(last_mail(), '{"to": "vera@example.test", "subject": "Hello", "template": "report_ready", "priority": 5,
  "variables": {"report_url": "https://x.example.test"}}', 'the message');
SELECT lives_ok($$SELECT queue_email_task('v@example.test', NULL, 'report_ready')$$, 'without variables and priority');
SELECT is(last_mail(), '{"to": "v@example.test", "subject": null, "template": "report_ready", "priority": 0, "variables": {}}',
  'the message');
SELECT lives_ok($$SELECT queue_email_task('v@example.test', NULL, 'report_ready', NULL, NULL)$$, 'NULL for both');
SELECT lives_ok($$SELECT queue_email_task("to" => 'v@example.test', template => 'report_ready')$$, 'by name');
SELECT lives_ok($$SELECT queue_email_task('v@example.test', 'Hi', NULL, '{"text": "Hello", "x": 1}')$$, 'text instead of a template');
SELECT is(last_mail(), '{"to": "v@example.test", "subject": "Hi", "template": null, "text": "Hello", "priority": 0,
  "variables": {"x": 1}}', 'the message');
SELECT throws_ok(call, state, message) FROM (VALUES
  ($$SELECT queue_email_task(NULL, NULL, 'x')$$, '22023', 'queue_email_task: "to" is empty: a mail needs an address'),
  ($$SELECT queue_email_task('  ', NULL, 'x')$$, '22023', 'queue_email_task: "to" is empty: a mail needs an address'),
  ($$SELECT queue_email_task(E'v@example.test\r\nBcc: x@example.test', NULL, 'x')$$, '22023',
    'queue_email_task: "to" contains a line break or another control character'),
  ($$SELECT queue_email_task(repeat('x', 400), NULL, 'x')$$, '22023',
    'queue_email_task: "to" is longer than the 320 characters of an address'),
  ($$SELECT queue_email_task('v@example.test', E'a\nb', 'x')$$, '22023',
    'queue_email_task: "subject" contains a line break or another control character'),
  ($$SELECT queue_email_task('v@example.test', NULL, 'x', '[1]')$$, '22023', 'queue_email_task: "variables" must be a JSON object'),
  ($$SELECT queue_email_task('v@example.test', 'Hi', NULL)$$, '22023',
    'queue_email_task: "template" is missing, and the variables have no "text" or "html" to send instead'),
  ($$SELECT queue_email_task('v@example.test', NULL, '../etc/passwd')$$, '22023',
    'queue_email_task: "template" must be a name of a-z, 0-9, _ and -'),
  ($$SELECT queue_email_task('v@example.test', NULL, '')$$, '22023',
    'queue_email_task: "template" must be a name of a-z, 0-9, _ and -')) v (call, state, message);
SELECT throws_like($$SELECT queue_email_task('v@example.test', NULL, 'x', jsonb_build_object('a', repeat('x', 70000)))$$,
  'queue_email_task: the message has % bytes, and 65536 is the most');

-- ---- reports and payments ----
SELECT lives_ok($$SELECT queue_report_generation('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001')$$);
SELECT lives_ok($$SELECT queue_report_generation(id, user_id, 'short') FROM assessments LIMIT 1$$, 'with columns');
SELECT results_eq('SELECT message FROM pgmq.q_report_generation_queue ORDER BY msg_id LIMIT 1', $$VALUES
  ('{"assessment_id": "b0000000-0000-4000-8000-000000000001", "user_id": "a0000000-0000-4000-8000-000000000001",
     "report_type": "checkup"}'::jsonb)$$, 'the message');
SELECT throws_ok($$SELECT queue_report_generation(NULL, 'a0000000-0000-4000-8000-000000000001')$$, '22023',
  'queue_report_generation: "assessment_id" is missing');
SELECT throws_ok($$SELECT queue_report_generation('a0000000-0000-4000-8000-000000000001', NULL)$$, '22023',
  'queue_report_generation: "user_id" is missing');
SELECT throws_ok($$SELECT queue_report_generation(gen_random_uuid(), gen_random_uuid(), 'A/B')$$, '22023',
  'queue_report_generation: "report_type" must be a name of a-z, 0-9, _ and -');
SELECT lives_ok($$SELECT queue_payment_processing('d0000000-0000-4000-8000-000000000001')$$);
SELECT results_eq('SELECT message FROM pgmq.q_payment_processing_queue', $$VALUES
  ('{"payment_id": "d0000000-0000-4000-8000-000000000001", "action": "verify"}'::jsonb)$$, 'the message');
SELECT throws_ok('SELECT queue_payment_processing(NULL)', '22023', 'queue_payment_processing: "payment_id" is missing');
SELECT throws_ok('SELECT queue_payment_processing(gen_random_uuid(), NULL)', '22023',
  'queue_payment_processing: "action" must be a name of a-z, 0-9, _ and -');
SELECT lives_ok($$SELECT pgmqd.queue_event('seen', '{"n": 1}')$$);
SELECT results_eq($$SELECT message - 'occurred_at', message->>'occurred_at' LIKE '20%Z' FROM pgmq.q_analytics_queue$$,
  $$VALUES ('{"event": "seen", "properties": {"n": 1}}'::jsonb, true)$$, 'an analytics event');

SELECT * FROM finish();
ROLLBACK;
