-- older.sql: a pgmq that was there before is used as it is, also an old one.
-- database: older
BEGIN;
SELECT plan(9);
SELECT hasnt_function('pgmq', 'set_vt', 'nothing was added to it');
SELECT hasnt_column('pgmq', 'q_email_queue', 'headers', 'its queues are its own');
SELECT has_trigger('pgmq', 'q_email_queue', 'pgmqd_wakeup', 'and attached');
SELECT is(queue_email_task('v@example.test', NULL, 'report_ready'), 1::bigint, 'a mail');
SELECT is(pgmqd.enqueue('email_queue', '{}', 5), 2::bigint, 'a message with a delay');
SELECT throws_ok($$SELECT pgmqd.enqueue('email_queue', '{}', 5, '{}')$$, '42883', NULL, 'headers came with 1.5');
SELECT is(pgmq_read('email_queue')->'msg'->>'to', 'v@example.test', 'pgmq_read');
SELECT is(msg->>'to', 'v@example.test', 'the view') FROM pgmq.email_queue LIMIT 1;
SELECT results_eq($$SELECT queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages, queue_visible_length
    FROM pgmq_metrics('email_queue')$$, $$VALUES (5::bigint, 1, 2, 9::bigint, NULL::bigint)$$, 'the figures');
SELECT * FROM finish();
ROLLBACK;
