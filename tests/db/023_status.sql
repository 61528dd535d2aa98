-- 023_status.sql: how each queue stands.
-- database: app
BEGIN;
SELECT plan(17);
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
-- what was settled, over longer spans
SELECT pgmqd.record_history('host:1', '1.0', 1700000000, ARRAY['standing'], '[{"queue": "standing", "done": 3, "retried": 1, "failed": 0, "wait": [2, 1, 0]}]') FROM generate_series(1, 2);
SELECT pgmqd.record_history('host:2', '1.1', 1700000000, ARRAY['standing', 'other'], '[{"queue": "standing", "done": 5, "retried": 0, "failed": 1, "wait": [0, 0, 5]}, {"queue": "other", "done": 1, "retried": 0, "failed": 0, "wait": [1, 0, 0]}]');
SELECT is((SELECT sum(x::bigint) FROM jsonb_array_elements_text(pgmqd.history_page(span, ARRAY[0.1, 1])->'done') x), 12::numeric, 'all of it within ' || span) FROM unnest(ARRAY['1h', '24h', '30d']) span;
SELECT is((SELECT sum(x::bigint) FROM jsonb_array_elements_text(pgmqd.history_page('24h', ARRAY[0.1, 1], 'Standing', 'host:1')->'done') x), 6::numeric, 'of one queue and dispatcher');
SELECT results_eq($$SELECT jsonb_array_length(h->'done'), h->'wait_p50_ms'->143, h->'wait_p99_ms'->143, h->'wait_p50_ms'->0, (h->>'step_seconds')::integer FROM pgmqd.history_page('24h', ARRAY[0.1, 1], 'standing', 'host:1') h$$,
  $$VALUES (144, '75'::jsonb, '973'::jsonb, 'null'::jsonb, 600)$$, 'a point for each step, with quantiles where there is something');
SELECT throws_ok($$SELECT pgmqd.history_page('2h', '{1}')$$, 'HT400', NULL, 'no other span');
SELECT throws_ok($$SELECT pgmqd.history_page(NULL, '{1}')$$, 'HT400', NULL, 'nor none');
UPDATE pgmqd.history SET at = at - interval '25 hours';
SELECT pgmqd.record_history('host:1', '1.0', 1700000000, ARRAY['standing'], '[]');
SELECT bag_eq('SELECT DISTINCT step FROM pgmqd.history', 'VALUES (3600), (21600)', 'minutes are kept for a day');
SELECT results_eq($$SELECT d->>'name', d->>'version', d->'alive' FROM jsonb_array_elements(pgmqd.dispatcher_list()->'dispatchers') d WHERE d->>'name' = 'host:2'$$, $$VALUES ('host:2', '1.1', 'true'::jsonb)$$, 'the dispatchers');
SELECT * FROM finish();
ROLLBACK;
