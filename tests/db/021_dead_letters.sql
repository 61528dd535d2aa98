-- 021_dead_letters.sql: dead letters in SQL: chosen, put back with their history, thrown away.
-- database: app
BEGIN;
SELECT plan(23);
DO $$ BEGIN PERFORM pgmqd.create_queue('mortal'); END $$;
CREATE FUNCTION bury(class text, reason text) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO pgmq.q_mortal_dlq (vt, message, headers) VALUES (now(), '{"n": 9007199254740993}', jsonb_build_object('own', 1, 'pgmqd_dead',
    jsonb_build_object('queue', 'mortal', 'msg_id', 9, 'read_ct', 3, 'attempts', 2, 'enqueued_at', '2026-05-05T10:00:00.5+00:00',
      'died_at', '2026-05-06T10:00:00+00:00', 'class', class, 'reason', reason, 'plugin', 'p', 'plugin_version', '1'))) RETURNING msg_id $$;
SELECT is(bury(c, r), n, 'bury ' || r) FROM (VALUES ('permanent', 'No such host', 1::bigint), ('crash', 'died', 2), ('crash', 'no answer', 3)) v (c, r, n);
INSERT INTO pgmq.q_mortal_dlq (vt, message) VALUES (now(), '{}');

SELECT throws_ok($$SELECT pgmqd.dead_letters('nope')$$, '42704', 'queue "nope" does not exist');
SELECT throws_ok($$SELECT pgmqd.dead_letters('mortal_dlq')$$, '42704', 'queue "mortal_dlq" has no dead-letter queue');
SELECT results_eq($$SELECT id, failure_class, failure_reason, attempts, redrives, original_id, plugin FROM pgmqd.dead_letters('mortal')$$,
  $$VALUES (1::bigint, 'permanent', 'No such host', 2, 0, 9::bigint, 'p'), (2, 'crash', 'died', 2, 0, 9, 'p'), (3, 'crash', 'no answer', 2, 0, 9, 'p'),
    (4, NULL, NULL, NULL, 0, NULL, NULL)$$, 'all of them, also one of somebody else''s');
SELECT is((SELECT first_enqueued_at FROM pgmqd.dead_letters('Mortal', '{1}')), '2026-05-05 10:00:00.5Z'::timestamptz, 'another spelling of the queue');
SELECT is(ARRAY(SELECT pgmqd.dead_letter_ids('mortal', reason => 'NO ')), '{1,3}'::bigint[], 'by reason, in any case');
SELECT is(ARRAY(SELECT pgmqd.dead_letter_ids('mortal', class => 'crash')), '{2,3}'::bigint[], 'by class');
SELECT is(ARRAY(SELECT pgmqd.dead_letter_ids('mortal', class => 'crash', max_rows => 1)), '{2}'::bigint[], 'the oldest first');
SELECT is(ARRAY(SELECT pgmqd.dead_letter_ids('mortal', '{3,77,4}')), '{3,4}'::bigint[], 'by number');
SELECT is(ARRAY(SELECT pgmqd.dead_letter_ids('mortal', reason => '%')), '{}'::bigint[], 'the text is no pattern');

SELECT results_eq($$SELECT dead_id, new_id FROM pgmqd.redrive('mortal', '{2}')$$, $$VALUES (2::bigint, 1::bigint)$$, 'redrive says what became of it');
SELECT results_eq($$SELECT read_ct, message::text, headers->'own', headers ? 'pgmqd_dead', jsonb_array_length(headers->'pgmqd_history'),
    headers #>> '{pgmqd_history,0,reason}', headers #> '{pgmqd_history,0,dead_id}', headers #> '{pgmqd_history,0,enqueued_us}', vt <= clock_timestamp() FROM pgmq.q_mortal$$,
  $$VALUES (0, '{"n": 9007199254740993}', '1'::jsonb, false, 1, 'died', '2'::jsonb, '1777975200500000'::jsonb, true)$$,
  'attempts anew, the body untouched, the history kept');
SELECT is_empty($$SELECT pgmqd.redrive('mortal', '{2}')$$, 'a second time there is nothing');
SELECT is((SELECT count(*) FROM pgmqd.redrive('mortal', '{4}')), 1::bigint, 'one without a history');
-- it dies again
DELETE FROM pgmq.q_mortal_dlq;
INSERT INTO pgmq.q_mortal_dlq (vt, message, headers) SELECT now(), message, headers || '{"pgmqd_dead": {"reason": "again"}}' FROM pgmq.q_mortal WHERE msg_id = 1;
SELECT is((SELECT redrives FROM pgmqd.dead_letters('mortal')), 1, 'it was put back once');
SELECT is((SELECT first_enqueued_at FROM pgmqd.dead_letters('mortal')), '2026-05-05 10:00:00.5Z'::timestamptz, 'and still knows when it began');
SELECT is((SELECT count(*) FROM pgmqd.redrive('mortal')), 1::bigint, 'all that are left');
SELECT is((SELECT headers #>> '{pgmqd_history,1,reason}' FROM pgmq.q_mortal ORDER BY msg_id DESC LIMIT 1), 'again', 'the history grows at its end');

DO $$ BEGIN PERFORM bury('permanent', 'x'), bury('crash', 'y'); END $$;
SELECT is(pgmqd.purge_dead_letters('mortal', class => 'crash'), 1::bigint, 'purge one class');
SELECT is(pgmqd.purge_dead_letters('mortal'), 1::bigint, 'purge the rest');
SELECT is((SELECT count(*) FROM pg_proc p WHERE pronamespace = 'pgmqd'::regnamespace AND has_function_privilege('public', p.oid, 'execute')), 0::bigint,
  'nothing in schema pgmqd is for everybody');
SELECT * FROM finish();
ROLLBACK;
