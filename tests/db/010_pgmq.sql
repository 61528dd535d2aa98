-- 010_pgmq.sql: our pgmq gives the results and errors of pgmq 1.5.1.
-- database: bare
BEGIN;
SELECT plan(92);

-- ---- queues ----
SELECT has_schema('pgmq');
SELECT lives_ok($$SELECT pgmq.create('a1')$$, 'create');
SELECT lives_ok($$SELECT pgmq.create('a1')$$, 'create again');
SELECT lives_ok($$SELECT pgmq.create_unlogged('u1')$$, 'create_unlogged');
SELECT lives_ok($$SELECT pgmq.create_non_partitioned('MiXed')$$, 'create_non_partitioned');
SELECT lives_ok($$SELECT pgmq.create(repeat('x', 47))$$, '47 characters are the most');
SELECT throws_ok($$SELECT pgmq.create(repeat('x', 48))$$, 'P0001', 'queue name is too long, maximum length is 47 characters');
SELECT throws_ok(format('SELECT pgmq.create(%L)', name), 'P0001', $$queue name contains invalid characters: $, ;, --, or \'$$,
  'refused: ' || name) FROM unnest(ARRAY['a;b', 'a--b', 'a$b', 'a''b']) name;
SELECT throws_ok('SELECT pgmq.create(NULL)', '22004', 'null values cannot be formatted as an SQL identifier');
SELECT throws_ok($$SELECT pgmq.create_partitioned('p1')$$, 'P0001', 'pg_partman is required for partitioned queues');
SELECT results_eq($$SELECT queue_name::text, is_partitioned, is_unlogged FROM pgmq.list_queues()
    WHERE queue_name IN ('a1', 'u1', 'MiXed') ORDER BY 1$$,
  $$VALUES ('MiXed', false, false), ('a1', false, false), ('u1', false, true)$$, 'list_queues');
SELECT has_table('pgmq', 'q_mixed', 'the table of a queue has a lower-case name');
SELECT is(relpersistence::text, p, relname || ' is ' || p) FROM (VALUES ('q_u1', 'u'), ('a_u1', 'p'), ('q_a1', 'p')) v (name, p)
  JOIN pg_class ON relname = name;
SELECT columns_are('pgmq', 'q_a1', ARRAY['msg_id', 'read_ct', 'enqueued_at', 'last_read_at', 'vt', 'message', 'headers']);
SELECT columns_are('pgmq', 'a_a1', ARRAY['msg_id', 'read_ct', 'enqueued_at', 'archived_at', 'last_read_at', 'vt', 'message', 'headers']);
SELECT has_index('pgmq', 'q_a1', 'q_a1_vt_idx', 'vt');
SELECT has_index('pgmq', 'a_a1', 'archived_at_idx_a1', 'archived_at');
SELECT results_eq($$SELECT attname::text COLLATE "default", atttypid::regtype::text FROM pg_attribute
    WHERE attrelid = 'pgmq.message_record'::regclass ORDER BY attnum$$,
  $$VALUES ('msg_id', 'bigint'), ('read_ct', 'integer'), ('enqueued_at', 'timestamp with time zone'),
    ('last_read_at', 'timestamp with time zone'), ('vt', 'timestamp with time zone'), ('message', 'jsonb'), ('headers', 'jsonb')$$, 'message_record');
SELECT results_eq($$SELECT attname::text COLLATE "default" FROM pg_attribute WHERE attrelid = 'pgmq.metrics_result'::regclass ORDER BY attnum$$,
  $$VALUES ('queue_name'), ('queue_length'), ('newest_msg_age_sec'), ('oldest_msg_age_sec'), ('total_messages'),
    ('scrape_time'), ('queue_visible_length'), ('default_partition_length')$$, 'metrics_result');

-- ---- send ----
SELECT is(pgmq.send('a1', '{"n": 1}'), 1::bigint, 'send returns the number');
SELECT is(pgmq.send('a1', '{"n": 2}', 0), 2::bigint, 'with a delay');
SELECT is(pgmq.send('a1', '{"n": 3}', '{"h": 3}'::jsonb), 3::bigint, 'with headers');
SELECT is(pgmq.send('a1', '{"n": 4}', now() + interval '1 hour'), 4::bigint, 'with a time');
SELECT is(pgmq.send('a1', '{"n": 5}', '{"h": 5}'::jsonb, 3600), 5::bigint, 'with headers and a delay');
SELECT is(pgmq.send('a1', '{"n": 6}', NULL::jsonb, now() - interval '1 hour'), 6::bigint, 'with headers and a time');
SELECT is(pgmq.send('a1', NULL), 7::bigint, 'NULL is a message, too');
SELECT throws_ok($$SELECT pgmq.send('a1', '{}', '{}')$$, '42725', NULL, 'an untyped third argument is ambiguous, as in pgmq');
SELECT throws_ok($$SELECT pgmq.send('a1', '{}', NULL::integer)$$, '23502', NULL, 'no delay at all');
SELECT throws_ok($$SELECT pgmq.send('nope', '{}')$$, '42P01', 'relation "pgmq.q_nope" does not exist');
SELECT throws_ok($$SELECT pgmq.send(NULL, '{}')$$, '22004');
SELECT results_eq($$SELECT msg_id, message, headers, vt > clock_timestamp() FROM pgmq.q_a1 ORDER BY 1$$, $$VALUES
  (1::bigint, '{"n": 1}'::jsonb, NULL::jsonb, false), (2, '{"n": 2}', NULL, false), (3, '{"n": 3}', '{"h": 3}', false),
  (4, '{"n": 4}', NULL, true), (5, '{"n": 5}', '{"h": 5}', true), (6, '{"n": 6}', NULL, false), (7, NULL, NULL, false)$$,
  'what was sent');
DO $$ BEGIN PERFORM pgmq.create('b1'); END $$;
SELECT results_eq($$SELECT * FROM pgmq.send_batch('b1', ARRAY['{"n": 1}', '{"n": 2}']::jsonb[])$$, ARRAY[1, 2]::bigint[],
  'send_batch');
SELECT results_eq($$SELECT * FROM pgmq.send_batch('b1', ARRAY['{"n": 3}', '{"n": 4}']::jsonb[], ARRAY['{"h": 3}']::jsonb[])$$,
  ARRAY[3, 4]::bigint[], 'with fewer headers than messages');
SELECT results_eq($$SELECT * FROM pgmq.send_batch('b1', ARRAY['{"n": 5}']::jsonb[], 100)$$, ARRAY[5]::bigint[], 'with a delay');
SELECT results_eq($$SELECT * FROM pgmq.send_batch('b1', ARRAY['{"n": 6}']::jsonb[], now() + interval '1 hour')$$,
  ARRAY[6]::bigint[], 'with a time');
SELECT results_eq($$SELECT * FROM pgmq.send_batch('b1', ARRAY['{"n": 7}']::jsonb[], ARRAY['{"h": 7}']::jsonb[], 0)$$,
  ARRAY[7]::bigint[], 'with headers and a delay');
SELECT results_eq($$SELECT * FROM pgmq.send_batch('b1', ARRAY['{"n": 8}']::jsonb[], NULL::jsonb[], now())$$,
  ARRAY[8]::bigint[], 'with headers and a time');
SELECT is_empty($$SELECT * FROM pgmq.send_batch('b1', '{}'::jsonb[])$$, 'an empty batch');
SELECT results_eq($$SELECT message, headers FROM pgmq.q_b1 WHERE msg_id IN (3, 4, 7) ORDER BY msg_id$$,
  $$VALUES ('{"n": 3}'::jsonb, '{"h": 3}'::jsonb), ('{"n": 4}', NULL), ('{"n": 7}', '{"h": 7}')$$, 'headers stay with their messages');

-- ---- read ----
SELECT results_eq($$SELECT msg_id, read_ct, message, vt > clock_timestamp() + interval '25 s' FROM pgmq.read('a1', 30, 2)$$,
  $$VALUES (1::bigint, 1, '{"n": 1}'::jsonb, true), (2, 1, '{"n": 2}', true)$$, 'read claims the first ones');
SELECT results_eq($$SELECT msg_id FROM pgmq.read('a1', 0, 100)$$, ARRAY[3, 6, 7]::bigint[], 'and then the others, but no delayed one');
SELECT results_eq($$SELECT msg_id, read_ct FROM pgmq.read('a1', 0, 1)$$, $$VALUES (3::bigint, 2)$$, 'what is visible again is read again');
SELECT results_eq($$SELECT msg_id FROM pgmq.read('a1', 0, 10, '{"n": 6}')$$, ARRAY[6]::bigint[], 'with a condition');
SELECT is_empty($$SELECT msg_id FROM pgmq.read('a1', 0, 10, '{"n": 1}')$$, 'a condition finds no claimed message');
SELECT results_eq($$SELECT msg_id FROM pgmq.read('a1', 0, 10, NULL)$$, ARRAY[3, 6, 7]::bigint[], 'condition NULL is none');
SELECT results_eq($$SELECT msg_id FROM pgmq.read('a1', 0, NULL)$$, ARRAY[3, 6, 7]::bigint[], 'quantity NULL is all');
SELECT is_empty($$SELECT * FROM pgmq.read('a1', 0, 0)$$, 'none');
SELECT throws_ok($$SELECT * FROM pgmq.read('a1', NULL, 1)$$, '23502', NULL, 'no timeout at all');
SELECT throws_ok($$SELECT * FROM pgmq.read('nope', 1, 1)$$, '42P01');
SELECT results_eq($$SELECT msg_id FROM pgmq.read_with_poll('a1', 0, 1)$$, ARRAY[3]::bigint[], 'read_with_poll');
SELECT is_empty($$SELECT msg_id FROM pgmq.read_with_poll('a1', 0, 1, 0)$$, 'read_with_poll without time does not look');
SELECT is_empty($$SELECT msg_id FROM pgmq.read_with_poll('a1', 0, 1, 1, 100, '{"no": 1}')$$, 'read_with_poll gives up');

-- ---- set_vt ----
SELECT results_eq($$SELECT msg_id, read_ct, vt > clock_timestamp() + interval '50 s' FROM pgmq.set_vt('a1', 7, 60)$$,
  $$VALUES (7::bigint, 3, true)$$, 'set_vt');
SELECT results_eq($$SELECT msg_id FROM pgmq.set_vt('a1', ARRAY[1, 2, 99]::bigint[], 0) ORDER BY 1$$, ARRAY[1, 2]::bigint[],
  'set_vt of several');
SELECT is_empty($$SELECT * FROM pgmq.set_vt('a1', 99, 0)$$, 'set_vt of none');
SELECT throws_ok($$SELECT * FROM pgmq.set_vt('a1', 1, NULL)$$, '23502');

-- ---- archive, delete, pop ----
SELECT ok(pgmq.archive('a1', 1), 'archive');
SELECT ok(NOT pgmq.archive('a1', 1), 'archive again');
SELECT ok(NOT pgmq.archive('a1', NULL::bigint), 'archive nothing');
SELECT results_eq($$SELECT pgmq.archive('a1', ARRAY[2, 3, 99]::bigint[]) ORDER BY 1$$, ARRAY[2, 3]::bigint[], 'archive several');
SELECT results_eq($$SELECT msg_id, read_ct, message, headers, archived_at IS NOT NULL FROM pgmq.a_a1 ORDER BY 1$$,
  $$VALUES (1::bigint, 1, '{"n": 1}'::jsonb, NULL::jsonb, true), (2, 1, '{"n": 2}', NULL, true), (3, 5, '{"n": 3}', '{"h": 3}', true)$$,
  'what was archived');
SELECT throws_ok($$SELECT pgmq.archive('nope', 1::bigint)$$, '42P01');
SELECT ok(pgmq.delete('a1', 4), 'delete');
SELECT ok(NOT pgmq.delete('a1', 4), 'delete again');
SELECT results_eq($$SELECT pgmq.delete('a1', ARRAY[5, 99]::bigint[])$$, ARRAY[5]::bigint[], 'delete several');
SELECT results_eq($$SELECT msg_id, message FROM pgmq.pop('a1')$$, $$VALUES (6::bigint, '{"n": 6}'::jsonb)$$, 'pop');
SELECT is_empty($$SELECT * FROM pgmq.pop('a1')$$, 'pop finds no invisible message');
SELECT results_eq($$SELECT msg_id FROM pgmq.q_a1$$, ARRAY[7]::bigint[], 'what is left');

-- ---- figures, purge, drop ----
SELECT results_eq($$SELECT queue_name, queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages, queue_visible_length
    FROM pgmq.metrics('a1')$$, $$VALUES ('a1', 1::bigint, 0, 0, 8::bigint, 0::bigint)$$, 'metrics');
SELECT results_eq($$SELECT queue_length, newest_msg_age_sec, total_messages FROM pgmq.metrics('u1')$$,
  $$VALUES (0::bigint, NULL::integer, 0::bigint)$$, 'metrics of an unused queue');
SELECT throws_ok($$SELECT * FROM pgmq.metrics('nope')$$, '42P01');
SELECT set_eq('SELECT queue_name FROM pgmq.metrics_all()', 'SELECT queue_name::text FROM pgmq.meta', 'metrics_all');
SELECT is(pgmq.purge_queue('b1'), 8::bigint, 'purge_queue');
SELECT is(pgmq.purge_queue('b1'), 0::bigint, 'purge_queue again');
SELECT is(pgmq.send('b1', '{}'), 9::bigint, 'the numbers go on after a purge');
SELECT results_eq($$SELECT pgmq.send(name, '{}') FROM unnest(ARRAY['MIXED', 'mixed']) name$$, ARRAY[1, 2]::bigint[],
  'spellings share a table');
SELECT ok(pgmq.drop_queue('a1'), 'drop_queue');
SELECT ok(NOT pgmq.drop_queue('a1'), 'drop_queue again');
SELECT ok(NOT pgmq.drop_queue(NULL), 'drop nothing');
SELECT hasnt_table('pgmq', 'q_a1', 'its table is gone');
SELECT hasnt_table('pgmq', 'a_a1', 'its archive, too');
SET LOCAL client_min_messages = error;
SELECT ok(pgmq.drop_queue('u1', false), 'drop_queue with two arguments');
SELECT ok(pgmq.drop_queue('u1', false), 'which is always true');
RESET client_min_messages;
SELECT is_empty($$SELECT * FROM pgmq.meta WHERE queue_name IN ('a1', 'u1')$$, 'meta forgets dropped queues');
SELECT lives_ok($$SELECT pgmq.detach_archive('b1'), pgmq.acquire_queue_lock('b1')$$, 'what other clients call');

-- ---- privileges ----
CREATE ROLE watcher IN ROLE pg_monitor;
SELECT is(tap.as_role('watcher', $$SELECT * FROM pgmq.metrics('b1')$$), 'ok', 'pg_monitor may look at the figures');
SELECT is(tap.as_role('watcher', 'SELECT message FROM pgmq.q_b1'), '42501', 'but not at the messages');

SELECT * FROM finish();
ROLLBACK;
