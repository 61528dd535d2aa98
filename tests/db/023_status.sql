-- 023_status.sql: how each queue stands.
-- database: app
BEGIN;
SELECT plan(8);
SELECT pgmqd.create_queue('standing');
SELECT results_eq($$SELECT waiting, due, delayed, leased, oldest_due_s, next_due, dead_letters, attached, problem FROM pgmqd.queue_status()
  WHERE queue = 'standing'$$, $$VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::float8, NULL::timestamptz, 0::bigint, true, NULL::text)$$, 'an empty one');
INSERT INTO pgmq.q_standing (enqueued_at, vt, read_ct, message) VALUES
  (now() - interval '1 hour', now() - interval '1 hour', 0, '{}'),          -- due
  (now() - interval '9 hours', now() - interval '2 hours', 0, '{}'),        -- due since two hours: the delay before does not count
  (now() - interval '9 hours', now() - interval '1 minute', 3, '{}'),       -- a lease that ran out
  (now() - interval '9 hours', now() + interval '1 hour', 0, '{}'),         -- delayed
  (now() - interval '9 hours', now() + interval '1 minute', 1, '{}');       -- leased
INSERT INTO pgmq.q_standing_dlq (vt, message) VALUES (now(), '{}'), (now(), '{}');
SELECT results_eq($$SELECT waiting, due, delayed, leased, dead_letters FROM pgmqd.queue_status() WHERE queue = 'standing'$$,
  $$VALUES (4::bigint, 3::bigint, 1::bigint, 1::bigint, 2::bigint)$$, 'one of each');
SELECT ok(oldest_due_s BETWEEN 7200 AND 7260, 'the oldest that may be claimed') FROM pgmqd.queue_status() WHERE queue = 'standing';
SELECT is(next_due, now() + interval '1 minute', 'the next') FROM pgmqd.queue_status() WHERE queue = 'standing';
SELECT is(count(*), 0::bigint, 'dead-letter queues are no rows') FROM pgmqd.queue_status() WHERE queue LIKE '%\_dlq';
SELECT pgmqd.detach_queue('standing');
SELECT is(attached, false, 'nothing wakes the dispatcher') FROM pgmqd.queue_status() WHERE queue = 'standing';
DROP TABLE pgmq.q_standing_dlq;
SELECT is(dead_letters, NULL, 'no dead-letter queue') FROM pgmqd.queue_status() WHERE queue = 'standing';
DROP TABLE pgmq.q_standing CASCADE;
SELECT is(problem, 'the table of the queue is missing', 'half of a queue') FROM pgmqd.queue_status() WHERE queue = 'standing';
SELECT * FROM finish();
ROLLBACK;
