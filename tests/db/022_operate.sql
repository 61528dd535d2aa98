-- 022_operate.sql: pauses, rates, events and states of queues.
-- database: app
BEGIN;
SELECT no_plan();

SELECT throws_ok($$SELECT pgmqd.pause('nowhere')$$, '42704', 'queue "nowhere" does not exist', 'only a queue can be paused');
SELECT is(pgmqd.queue_pause('email_queue'), NULL, 'a queue is not paused at first');
SELECT ok(pgmqd.pause('EMAIL_QUEUE', ' the reason ', 'anna'), 'a pause begins, under any spelling of the name');
SELECT ok(NOT pgmqd.pause('email_queue', 'another', 'boris'), 'and only once');
SELECT is(pgmqd.queue_pause('email_queue'), 'by anna: another (boris)', 'a newer reason is shown');
SELECT ok(NOT pgmqd.pause('email_queue', ' ', 'clara') AND pgmqd.queue_pause('email_queue') = 'by anna: another (boris)', 'none is no reason');
SELECT ok(pgmqd.resume('email_queue', 'boris'), 'it ends');
SELECT ok(NOT pgmqd.resume('email_queue', 'boris'), 'and only once');
SELECT is(pgmqd.queue_pause('email_queue'), NULL, 'the queue is not paused any more');
SELECT results_eq($$SELECT queue, paused_by, resumed_by FROM pgmqd.pauses$$, $$VALUES ('email_queue', 'anna', 'boris')$$, 'who did it is kept');
SELECT ok(pgmqd.pause('email_queue'), 'it can be paused again');
SELECT is(pgmqd.queue_pause('email_queue'), 'by ' || session_user, 'by whoever is logged in');

SELECT is((pgmqd.message_state('analytics_queue', 999)).state, 'gone', 'a message that never was');
DELETE FROM pgmq.q_analytics_queue;
ALTER SEQUENCE pgmq.q_analytics_queue_msg_id_seq RESTART;
SELECT is(pgmqd.enqueue('analytics_queue', '{"n": 1}'), 1::bigint, 'sent');
SELECT is((pgmqd.message_state('analytics_queue', 1)).state, 'waiting', 'one that waits');
SELECT is((SELECT count(*) FROM pgmq.read('analytics_queue', 30, 1)), 1::bigint, 'read');
SELECT results_eq($$SELECT kind, id, attempts FROM pgmqd.queue_events('analytics_queue', '-infinity', 0)$$, $$VALUES ('claimed', 1::bigint, 1)$$, 'a claim is seen');
SELECT is((pgmqd.message_state('analytics_queue', 1)).state, 'claimed', 'one that was claimed');
SELECT ok(pgmq.archive('analytics_queue', 1::bigint), 'archived');
SELECT is((pgmqd.message_state('analytics_queue', 1)).state, 'done', 'one that is done');
SELECT results_eq($$SELECT archived_1min, archived_5min, attempts_max FROM pgmqd.queue_rates() WHERE queue = 'analytics_queue'$$, $$VALUES (1::bigint, 1::bigint, 1)$$,
  'the archive tells the rate');
UPDATE pgmq.a_analytics_queue SET archived_at = now() - interval '4 minutes';
SELECT results_eq($$SELECT archived_1min, archived_5min FROM pgmqd.queue_rates() WHERE queue = 'analytics_queue'$$, $$VALUES (0::bigint, 1::bigint)$$, 'of a minute');
UPDATE pgmq.a_analytics_queue SET archived_at = now() - interval '6 minutes';
SELECT results_eq($$SELECT archived_1min, archived_5min FROM pgmqd.queue_rates() WHERE queue = 'analytics_queue'$$, $$VALUES (0::bigint, 0::bigint)$$, 'and of five');
UPDATE pgmq.a_analytics_queue SET archived_at = now();
INSERT INTO pgmq.q_analytics_queue_dlq (vt, message, headers) VALUES (now(), '{}', '{"pgmqd_dead": {"msg_id": 7, "attempts": 3, "class": "attempts", "reason": "no"}}');
SELECT results_eq($$SELECT state, attempts, reason FROM pgmqd.message_state('analytics_queue', 7)$$, $$VALUES ('dead', 3, 'no')$$, 'one that is dead');
SELECT results_eq($$SELECT kind, id, attempts, class, reason FROM pgmqd.queue_events('analytics_queue', 'infinity', 0)$$,
  $$VALUES ('dead', 7::bigint, 3, 'attempts', 'no')$$, 'a death is seen');
SELECT is((SELECT kind FROM pgmqd.queue_events('analytics_queue')), 'start', 'the first look tells where to begin');

SELECT * FROM finish();
ROLLBACK;
