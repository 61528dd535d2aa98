-- clients.sql: what clients of pgmq 1.13 call: last_read_at, pop of many, every set_vt, groups, topics, notifications.
-- database: app
BEGIN;
SELECT plan(45);
DO $$ BEGIN PERFORM pgmq.create(q) FROM unnest(ARRAY['cq', 'c2', 'c3']) q; END $$;

-- ---- read, pop ----
SELECT is((SELECT count(*) FROM pgmq.send_batch('cq', ARRAY['{"a": 1}', '{"a": 2}', '{"a": 3}', '{"a": 4}']::jsonb[])), 4::bigint, 'four messages');
SELECT is((SELECT last_read_at FROM pgmq.q_cq WHERE msg_id = 1), NULL, 'never read');
SELECT ok((SELECT last_read_at > now() - interval '1 minute' AND headers IS NULL FROM pgmq.read('cq', 60, 1)), 'read says when');
SELECT results_eq($$SELECT msg_id FROM pgmq.pop('cq', 2)$$, ARRAY[2, 3]::bigint[], 'pop of two');
SELECT results_eq($$SELECT msg_id FROM pgmq.pop('cq')$$, ARRAY[4]::bigint[], 'pop of one');
SELECT is_empty($$SELECT * FROM pgmq.pop('cq')$$, 'the first is claimed');

-- ---- set_vt: each form, and calls whose arguments have no type ----
SELECT results_eq(call, ARRAY[1]::bigint[], call) FROM unnest(ARRAY[
  $$SELECT msg_id FROM pgmq.set_vt('cq', 1, 5)$$, $$SELECT msg_id FROM pgmq.set_vt('cq', 1, now())$$, $$SELECT msg_id FROM pgmq.set_vt('cq', ARRAY[1]::bigint[], 5)$$,
  $$SELECT msg_id FROM pgmq.set_vt('cq', ARRAY[1]::bigint[], now())$$, $$SELECT msg_id FROM pgmq.set_vt('cq', 1, '5')$$, $$SELECT msg_id FROM pgmq.set_vt('cq', '1', 5)$$,
  $$SELECT msg_id FROM pgmq.set_vt('cq', '1', '5')$$, $$SELECT msg_id FROM pgmq.set_vt('cq', '1', '2030-01-01 00:00:00+00')$$, $$SELECT msg_id FROM pgmq.set_vt('cq', '{1,7}', '0')$$,
  $$SELECT msg_id FROM pgmq.set_vt('cq', ARRAY[1]::bigint[], '5')$$, $$SELECT msg_id FROM pgmq.set_vt('cq', '1', now())$$]) call;
DO $$ BEGIN PERFORM pgmq.archive('cq', 1); END $$;
SELECT ok((SELECT last_read_at IS NOT NULL FROM pgmq.a_cq WHERE msg_id = 1), 'the archive keeps when it was read');

-- ---- groups ----
DO $$ BEGIN
  PERFORM pgmq.send('c2', '{}', jsonb_build_object('x-pgmq-group', g)) FROM unnest(ARRAY['a', 'a', 'a', 'b', 'b', 'c']) g;
END $$;
SAVEPOINT s;
SELECT results_eq($$SELECT msg_id FROM pgmq.read_grouped('c2', 60, 4)$$, ARRAY[1, 2, 3, 4]::bigint[], 'the oldest group first');
SELECT results_eq($$SELECT msg_id FROM pgmq.read_grouped('c2', 60, 4)$$, ARRAY[6]::bigint[], 'a group with a claimed message waits');
ROLLBACK TO s;
SELECT results_eq($$SELECT msg_id FROM pgmq.read_grouped_rr('c2', 60, 5)$$, ARRAY[1, 4, 6, 2, 5]::bigint[], 'one of each in turn');
ROLLBACK TO s;
SELECT results_eq($$SELECT msg_id FROM pgmq.read_grouped_head('c2', 60, 5)$$, ARRAY[1, 4, 6]::bigint[], 'the head of each');
SELECT is_empty($$SELECT * FROM pgmq.read_grouped_with_poll('c2', 60, 5, 1, 100)$$, 'polling ends');
ROLLBACK TO s;
SELECT results_eq($$SELECT msg_id FROM pgmq.read_grouped_rr_with_poll('c2', 60, 1)$$, ARRAY[1]::bigint[], 'round robin with polling');
SELECT lives_ok($$SELECT pgmq.create_fifo_index('c2'), pgmq.create_fifo_indexes_all()$$, 'indexes of groups');

-- ---- topics ----
SELECT lives_ok($$SELECT pgmq.bind_topic('logs.*', 'cq'), pgmq.bind_topic('logs.#', 'c3'), pgmq.bind_topic('logs.#', 'cq'), pgmq.bind_topic('logs.#', 'cq')$$, 'bind');
SELECT throws_ok($$SELECT pgmq.bind_topic('logs.*', 'no_such')$$, 'P0001', NULL, 'a queue that does not exist');
SELECT throws_ok(format('SELECT pgmq.validate_topic_pattern(%L)', p), 'P0001', NULL, 'no pattern: ' || p) FROM unnest(ARRAY['', 'a..b', '.a', 'a*', '**']) p;
SELECT throws_ok($$SELECT pgmq.send_topic('logs.*', '{}')$$, 'P0001', NULL, 'no key');
SELECT is(pgmq.send_topic('logs.error', '{"t": 1}'), 2, 'to both queues, once each');
SELECT is(pgmq.send_topic('logs.error.db', '{"t": 2}', '{"h": 1}', 0), 2, '# stands for more than one word');
SELECT is(pgmq.send_topic('other', '{}', 3), 0, 'to nobody');
SELECT is((SELECT count(*) FROM pgmq.send_batch_topic('logs.x', ARRAY['{}', '{}']::jsonb[])), 4::bigint, 'a batch');
SELECT is((SELECT count(*) FROM pgmq.test_routing('logs.error')), 3::bigint, 'test_routing');
SELECT is((SELECT count(*) FROM pgmq.list_topic_bindings('cq')), 2::bigint, 'list_topic_bindings');
SELECT ok(pgmq.unbind_topic('logs.*', 'cq') AND NOT pgmq.unbind_topic('logs.*', 'cq'), 'unbind');
SELECT ok(pgmq.drop_queue('c3') AND NOT EXISTS (SELECT FROM pgmq.list_topic_bindings('c3')), 'a queue that is dropped takes its bindings along');

-- ---- notifications ----
SELECT lives_ok($$SELECT pgmq.enable_notify_insert('cq'), pgmq.enable_notify_insert('cq', 0), pgmq.update_notify_insert('cq', 100)$$, 'enable');
SELECT results_eq($$SELECT queue_name, throttle_interval_ms FROM pgmq.list_notify_insert_throttles()$$, $$VALUES ('cq'::text, 100)$$, 'list');
SELECT lives_ok($$SELECT pgmq.send('cq', '{}')$$, 'a message with a notification');
SELECT lives_ok($$SELECT pgmq.disable_notify_insert('cq')$$, 'disable');

SELECT * FROM finish();
ROLLBACK;
