-- names.sql: every name that pgmq takes is a queue with dead letters, is shown, paused and found, in any case of its letters.
-- database: app
BEGIN;
SELECT plan(88);

CREATE TEMP TABLE names (n integer GENERATED ALWAYS AS IDENTITY, name text);
INSERT INTO names (name) SELECT unnest(ARRAY['MixedCase', 'queue-hyphen', '1digit', 'with space', 'ünïcode', 'dot.ted', 'x"y', 'UPPER-1', 'order',
  repeat('a', 43), repeat('b', 44), repeat('c', 47), repeat('d', 46) || 'D']);
SELECT lives_ok(format('SELECT pgmqd.create_queue(%L)', name), 'create ' || name) FROM names;
SELECT has_table('pgmq', 'q_' || lower(pgmqd.dlq_name(name)), 'dead letters of ' || name) FROM names;
SELECT ok(length(pgmqd.dlq_name(name)) <= 47 AND pgmqd.dlq_name(name) ~ '_dlq$', 'pgmq takes ' || pgmqd.dlq_name(name)) FROM names;
SELECT is(count(DISTINCT pgmqd.dlq_name(repeat('e', 46) || n)), 10::bigint, 'long names that differ in their last letter have their own dead letters') FROM generate_series(0, 9) n;
SELECT is(pgmqd.dlq_name('email_queue'), 'email_queue_dlq', 'a short one as ever');
SELECT is(lower(pgmqd.dlq_name(repeat('Q', 47))), pgmqd.dlq_name(repeat('q', 47)), 'upper and lower case are one queue');
SELECT is(queue || '|' || dead_letters || attached, name || '|0true', 'status of ' || name) FROM names LEFT JOIN pgmqd.queue_status() s ON s.queue = name;
SELECT ok(pgmqd.pause(upper(name), 'test'), 'pause ' || name) FROM names;
SELECT is((SELECT count(*) FROM pgmqd.paused_queues() q JOIN names ON q.queue = name), 13::bigint, 'all are paused');
SELECT ok(pgmqd.resume(name), 'resume ' || name) FROM names;
-- a dead letter of each, listed, put back, and deleted
DO $$
DECLARE
  t text;
BEGIN
  FOR t IN SELECT 'q_' || lower(pgmqd.dlq_name(name)) FROM names LOOP
    EXECUTE format('INSERT INTO pgmq.%I (vt, message, headers) SELECT now(), ''{}'', ''{"pgmqd_dead": {"reason": "why"}}'' FROM generate_series(1, 2)', t);
  END LOOP;
END $$;
SELECT is((SELECT count(*) FROM names, pgmqd.dead_letters(name, reason => 'WHY')), 26::bigint, 'dead letters are listed');
SELECT is((SELECT count(*) FROM names, LATERAL pgmqd.redrive(lower(name), max_rows => 1)), 13::bigint, 'requeued');
SELECT is((SELECT sum(pgmqd.purge_dead_letters(name)) FROM names), 13::numeric, 'and deleted');
SELECT is((SELECT count(*) FROM names, pgmqd.message_state(name, 1) s WHERE s.state = 'waiting'), 13::bigint, 'the requeued ones wait');
SELECT is((SELECT count(*) FROM names WHERE pgmqd.submit(name, '{}') = 2), 13::bigint, 'submit() finds the queues');
SELECT is((SELECT count(*) FROM names WHERE pgmqd.attach_jobs(name)), 13::bigint, 'they may carry jobs');

SELECT * FROM finish();
ROLLBACK;
