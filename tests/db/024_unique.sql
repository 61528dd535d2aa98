-- 024_unique.sql: of the messages with one key, only one waits, runs, or was done a short time ago.
-- database: app
BEGIN;
SELECT no_plan();
SELECT pgmqd.create_queue('unique');
CREATE TEMP VIEW waiting AS SELECT message->>'n' AS n, read_ct FROM pgmq.q_unique ORDER BY msg_id;

SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 1}', 'k')$$, $$VALUES (true)$$, 'the first one is new');
SELECT is(pgmqd.enqueue('unique', '{"n": 2}', unique_key => 'k'), (SELECT max(msg_id) FROM pgmq.q_unique), 'the second has the number of the first');
SELECT results_eq('SELECT n FROM waiting', $$VALUES ('1')$$, 'and keeps its body');
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 3}', 'other')$$, $$VALUES (true)$$, 'another key is another message');
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('Unique', '{"n": 4}', 'k', on_conflict => 'replace')$$, $$VALUES (false)$$, 'the name in any case');
SELECT results_eq('SELECT n FROM waiting', $$VALUES ('4'), ('3')$$, 'replace: the body is the last one''s');
SELECT pgmqd.enqueue('unique', '{"n": 5}', 60, unique_key => 'k', on_conflict => 'extend');
SELECT results_eq($$SELECT message->>'n', vt > clock_timestamp() + interval '50 s' FROM pgmq.q_unique ORDER BY msg_id$$, $$VALUES ('4', true), ('3', false)$$,
  'extend: the delay begins anew, the body stays');
SELECT throws_ok($$SELECT pgmqd.enqueue('unique', '{}', unique_key => 'k', on_conflict => 'merge')$$, '22023',
  'on_conflict is keep, replace or extend, and not "merge"', 'another word is refused');
SELECT throws_ok(format($$SELECT pgmqd.enqueue('unique', '{}', %s)$$, a), '22023', 'unique_for and on_conflict are of no use without a unique_key', 'no key, but ' || a)
FROM unnest(ARRAY[$$unique_for => '1 hour'$$, $$on_conflict => 'replace'$$]) a;
SELECT throws_ok($$SELECT pgmqd.enqueue('unique', '{}', unique_key => '')$$, '22023', 'unique_key must have 1 to 1000 bytes', 'an empty key is refused');
SELECT throws_ok(format($$SELECT pgmqd.enqueue('unique', '{}', unique_key => 'far', unique_for => %L)$$, t), '22023', 'unique_for must be from 0 to 100 years', 'a time that retention could not count with: ' || t)
FROM unnest(ARRAY['-1 s', '300000 years']) t;
SELECT throws_ok($$SELECT pgmqd.enqueue('nowhere', '{}', unique_key => 'k')$$, '42P01', NULL, 'a queue that is not there');

-- one that was claimed
UPDATE pgmq.q_unique SET read_ct = 1, vt = clock_timestamp() + interval '30 s';
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 6}', 'k')$$, $$VALUES (false)$$, 'one that runs counts');
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 7}', 'k', on_conflict => 'replace')$$, $$VALUES (true)$$,
  'its body is not replaced behind its back: a new one is sent');
SELECT results_eq('SELECT n FROM waiting', $$VALUES ('4'), ('3'), ('7')$$, 'and both are there');
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": "later"}', 'other', on_conflict => 'extend', delay => 3600)$$, $$VALUES (true)$$,
  'nor is its lease changed');
SELECT results_eq($$SELECT vt < clock_timestamp() + interval '1 min' FROM pgmq.q_unique WHERE message->>'n' = '3'$$, $$VALUES (true)$$, '(as it was)');
DELETE FROM pgmq.q_unique WHERE message->>'n' = 'later';

-- one that is done
SELECT pgmq.archive('unique', msg_id) FROM pgmq.q_unique;
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 8}', 'k', '1 hour')$$, $$VALUES (false)$$, 'done less than unique_for ago');
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 9}', 'k')$$, $$VALUES (true)$$, 'without unique_for it may come again');
SELECT pgmq.archive('unique', msg_id) FROM pgmq.q_unique;
UPDATE pgmq.a_unique SET archived_at = archived_at - interval '2 hours';
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 10}', 'k', '1 hour')$$, $$VALUES (true)$$, 'done longer ago');
-- deleted when it was done: the time of its enqueue counts
DELETE FROM pgmq.q_unique;
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 11}', 'k', '1 hour')$$, $$VALUES (false)$$, 'deleted less than unique_for ago');
-- dead
INSERT INTO pgmq.q_unique_dlq (vt, message, headers) SELECT now(), '{}', jsonb_build_object('pgmqd_dead', jsonb_build_object('msg_id', msg_id)) FROM pgmqd.unique_keys WHERE key = 'k';
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 12}', 'k', '1 hour')$$, $$VALUES (true)$$, 'a dead letter was not done');
-- a number that comes again is another message
UPDATE pgmq.q_unique SET enqueued_at = enqueued_at + interval '1 s';
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 13}', 'k')$$, $$VALUES (true)$$, 'a number that comes again is another message');
SELECT pgmqd.enqueue_unique('unique', '{}', 'again');
SELECT pgmq.archive('unique', msg_id) FROM pgmqd.unique_keys WHERE key = 'again';
UPDATE pgmqd.unique_keys SET enqueued_at = enqueued_at - interval '2 hours' WHERE key = 'again';
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{}', 'again', '1 hour')$$, $$VALUES (true)$$, 'in the archive, too');
DELETE FROM pgmqd.unique_keys WHERE key = 'again';

-- one that an operator has cancelled was not done; one that comes back is the same
DELETE FROM pgmq.q_unique_dlq;
CREATE FUNCTION pg_temp.act(action text, state text) RETURNS jsonb LANGUAGE sql AS $$ SELECT pgmqd.act_on_messages('unique', action, jsonb_build_object('all', true, 'filter', jsonb_build_object('state', state))) $$;
DELETE FROM pgmq.q_unique;
SELECT pgmqd.enqueue_unique('unique', '{"n": 14}', 'back');
SELECT is(pg_temp.act('cancel', 'live')->'matched', '1', '(cancelled)');
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 15}', 'back', '1 hour')$$, $$VALUES (true)$$, 'a cancelled message was not done');
DELETE FROM pgmq.a_unique;
SELECT pgmq.archive('unique', msg_id) FROM pgmq.q_unique;
SELECT is(pg_temp.act('requeue', 'archived')->'matched', '1', '(requeued)');
SELECT results_eq($$SELECT is_new, msg_id = (SELECT max(msg_id) FROM pgmq.q_unique) FROM pgmqd.enqueue_unique('unique', '{"n": 16}', 'back')$$, $$VALUES (false, true)$$,
  'what is requeued has its key');
WITH gone AS (DELETE FROM pgmq.q_unique RETURNING *)
INSERT INTO pgmq.q_unique_dlq (vt, message, headers) SELECT now(), message, jsonb_build_object('pgmqd_dead', jsonb_build_object('msg_id', msg_id)) FROM gone;
SELECT isnt_empty($$SELECT pgmqd.redrive('unique')$$, '(redriven)');
SELECT results_eq($$SELECT is_new, msg_id = (SELECT max(msg_id) FROM pgmq.q_unique) FROM pgmqd.enqueue_unique('unique', '{"n": 17}', 'back')$$, $$VALUES (false, true)$$,
  'and so has a dead letter');
SELECT pgmqd.enqueue_unique('unique', '{"n": 18}', 'k');

-- old keys go; but not before the time after the end of the message is over
UPDATE pgmqd.unique_keys SET enqueued_at = enqueued_at - interval '3 days' WHERE key = 'back';
UPDATE pgmq.q_unique q SET enqueued_at = u.enqueued_at FROM pgmqd.unique_keys u WHERE u.key = 'back' AND u.msg_id = q.msg_id;
SELECT pgmqd.enqueue_unique('unique', '{"n": 19}', 'back', '1 hour');
SELECT pgmq.archive('unique', msg_id) FROM pgmqd.unique_keys WHERE key = 'back';
SELECT pgmqd.delete_old(10);
SELECT results_eq($$SELECT is_new FROM pgmqd.enqueue_unique('unique', '{"n": 20}', 'back', '1 hour')$$, $$VALUES (false)$$, 'a message that took three days was done just now');
UPDATE pgmq.a_unique SET archived_at = archived_at - interval '2 hours';
UPDATE pgmqd.unique_keys SET enqueued_at = enqueued_at - interval '3 days' WHERE key = 'other';
SELECT is(pgmqd.delete_old(10)->'pgmqd.unique_keys', '2', 'the key of a message that is gone for long is deleted');
SELECT results_eq('SELECT key FROM pgmqd.unique_keys', $$VALUES ('k')$$, 'and no other');
SELECT * FROM finish();
ROLLBACK;
