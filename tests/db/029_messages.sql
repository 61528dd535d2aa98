-- 029_messages.sql: lists, one message, and what operators do with messages.
-- database: app
BEGIN;
SELECT no_plan();

SELECT pgmqd.create_queue(q) FROM unnest(ARRAY['Odd queue', 'ops']) q;
CREATE FUNCTION pg_temp.page(filter jsonb, before text DEFAULT NULL, n integer DEFAULT 100, is_open boolean DEFAULT true, queue text DEFAULT 'ops') RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(concat_ws('/', m->>'id', m->>'state'), ' ' ORDER BY o) FROM jsonb_array_elements(pgmqd.message_page(queue, filter, before, n, is_open)->'messages') WITH ORDINALITY x (m, o) $$;
CREATE FUNCTION pg_temp.act(action text, request jsonb, queue text DEFAULT 'ops') RETURNS text LANGUAGE sql AS $$
  SELECT concat_ws(' ', 'changed', a->'changed', 'asked', a->'asked', 'refused', a->'refused') FROM pgmqd.act_on_messages(queue, action, request, 'anna') a $$;

-- ---- lists ----
SELECT pgmqd.enqueue('ops', jsonb_build_object('n', i, 'to', 'p' || i || '@example.test', 'user', jsonb_build_object('id', i % 3), 'priority', i % 2), CASE WHEN i > 6 THEN 3600 ELSE 0 END,
  jsonb_build_object('group', 'g' || i % 2)) FROM generate_series(1, 8) i;
UPDATE pgmq.q_ops SET vt = date_trunc('second', clock_timestamp()) + interval '60.123457 seconds', read_ct = 2 WHERE msg_id = 1; -- a claim
UPDATE pgmq.q_ops SET vt = date_trunc('second', clock_timestamp()) + interval '60.123 seconds', read_ct = 1 WHERE msg_id = 2; -- a retry
SELECT is(pg_temp.page('{}'), '8/delayed 7/delayed 6/waiting 5/waiting 4/waiting 3/waiting 2/delayed 1/running', 'the newest first, with their states');
SELECT is(pg_temp.page('{"state": "running"}'), '1/running', 'a claim is told from');
SELECT is(pg_temp.page('{"state": "delayed"}'), '8/delayed 7/delayed 2/delayed', 'what waits for its next attempt');
SELECT is(pg_temp.page('{}', NULL, 3), '8/delayed 7/delayed 6/waiting', 'a page');
SELECT is(pg_temp.page('{}', pgmqd.message_page('ops', '{}', NULL, 3)->>'before', 3), '5/waiting 4/waiting 3/waiting', 'and the next one');
SELECT is(pgmqd.message_page('ops', '{}', '3', 3)->>'more', 'false', 'the last one says so');
SELECT is(pg_temp.page('{"where": ["user.id=1"]}'), '7/delayed 4/waiting 1/running', 'by a value in the body, at a path');
SELECT is(pg_temp.page('{"where": ["user.id=1", "n=4"]}'), '4/waiting', 'by two');
SELECT is(pg_temp.page('{"where": ["group=g1"], "state": "waiting"}'), '5/waiting 3/waiting', 'by a value in the headers');
SELECT is(pg_temp.page($${"where": ["to=x' OR true --"]}$$), NULL, 'a value is no SQL');
SELECT is(pg_temp.page('{"group": "g0", "state": "waiting"}'), '6/waiting 4/waiting', 'by group');
SELECT is(pg_temp.page('{"priority": 1, "state": "waiting"}'), '5/waiting 3/waiting', 'by priority');
SELECT is(pg_temp.page('{"attempts": "1"}'), '2/delayed 1/running', 'by attempts');
SELECT is(pg_temp.page('{"ids": [3, 4]}'), '4/waiting 3/waiting', 'by number');
SELECT is(pg_temp.page('{"older": 3600}'), NULL, 'by age');
SELECT is(pg_temp.page('{"newer": 3600, "state": "running"}'), '1/running', 'and the other way round');
SELECT throws_ok($$SELECT pg_temp.page('{"nonsense": 1}')$$, 'HT400', NULL, 'an unknown filter is refused');
SELECT throws_ok($$SELECT pg_temp.page('{"attempts": "many"}')$$, 'HT400', NULL, 'and one that cannot be read');
SELECT throws_ok($$SELECT pg_temp.page('{"state": "lost"}')$$, 'HT400', NULL, 'and an unknown state');
SELECT throws_ok($$SELECT pg_temp.page('{}', 'x')$$, 'HT400', NULL, 'and an unknown place');
SELECT throws_ok($$SELECT pg_temp.page('{"where": ["n=1"]}', is_open => false)$$, 'HT401', NULL, 'bodies cannot be guessed without the token');
SELECT throws_ok($$SELECT pgmqd.message_page('nowhere')$$, '42704', NULL, 'a queue that is not there');
SELECT ok(pgmqd.message_page('ops')::text !~ 'example.test', 'no body in a list');
SELECT is(pgmqd.count_messages('ops', '{"where": ["user.id=1"]}'), 3::bigint, 'they can be counted');
-- producers write headers: one that is no number or no time hides no other message from a list, and keeps none from being acted on
SELECT pgmqd.create_queue('odd');
INSERT INTO pgmq.q_odd (vt, message, headers) SELECT clock_timestamp(), '{"priority": 1e400}', h::jsonb FROM unnest(ARRAY['{}', '{"pgmqd_msg_id": "x"}', '{"pgmqd_msg_id": 1e99}', '{"pgmqd_msg_id": {}}',
  '{"pgmqd_history": [{"redriven_at": "never"}, 1, null]}', '{"pgmqd_history": "x"}', '[1]', '"x"', '{"group": {"a": 1}}', '{"pgmqd_cancelled": 1}', '{"traceparent": [1]}']) h;
INSERT INTO pgmq.a_odd (msg_id, vt, message, headers) SELECT msg_id, vt, message, headers FROM pgmq.q_odd;
INSERT INTO pgmq.q_odd_dlq (vt, message, headers) SELECT clock_timestamp(), '{}', h::jsonb FROM unnest(ARRAY['{"pgmqd_dead": {"attempts": "many"}}', '{"pgmqd_dead": {"attempts": 99999999999}}', '{"pgmqd_dead": {"died_at": "x"}}',
  '{"pgmqd_dead": {"died_at": "infinity"}}', '{"pgmqd_dead": {"msg_id": "x"}}', '{"pgmqd_dead": {"enqueued_at": "2026-02-31"}}', '{"pgmqd_dead": {"enqueued_at": "294276-12-31"}}', '{"pgmqd_dead": {"reason": {"a": 1}}}',
  '{"pgmqd_dead": 1}', '{"pgmqd_history": [{"enqueued_at": "x"}]}', '[1]', '{"pgmqd_dead": {"class": [1]}}']) h;
SELECT is(jsonb_array_length(pgmqd.message_page('odd', jsonb_build_object('state', s))->'messages'), CASE s WHEN 'dead' THEN 12 WHEN 'archived' THEN 10 + 1 ELSE 11 END, s || ' messages with odd headers are listed')
  FROM unnest(ARRAY['live', 'archived', 'dead']) s;
SELECT ok(length(pgmqd.message_page('odd')::text) < 5000, 'and none is longer in a list than a line');
SELECT is(count(pgmqd.message_life('odd', msg_id::text, 'live')), 11::bigint, 'each can be seen') FROM pgmq.q_odd;
SELECT is(count(pgmqd.message_life('odd', msg_id::text, 'dead')), 12::bigint, 'a dead one, too') FROM pgmq.q_odd_dlq;
SELECT is(count(*), 12::bigint, 'and in the list of dead letters') FROM pgmqd.dead_letters('odd');
SELECT is(jsonb_array_length(pgmqd.dead_letter_page('odd', NULL, NULL, '100')->'letters'), 12, 'and on the page');
SELECT ok(pgmqd.failure_groups() IS NOT NULL, 'failures are grouped');
SELECT ok(count(*) >= 12, 'what happened is told') FROM pgmqd.queue_events('odd', '2000-01-01', 0);
SELECT is((pgmqd.message_state('odd', 99)).state, 'gone', 'and the state of a message');
SELECT lives_ok($$SELECT pgmqd.enqueue_unique('odd', '{}', 'k', '1 hour')$$, 'another message can be enqueued once');
SELECT lives_ok($$DELETE FROM pgmq.q_odd WHERE msg_id > 11$$);
SELECT lives_ok($$SELECT pgmqd.enqueue_unique('odd', '{}', 'k', '1 hour')$$, 'and again, with odd dead letters');
SELECT is(count(*), 12::bigint, 'and all are requeued') FROM pgmqd.redrive('odd');

-- ---- one message ----
INSERT INTO pgmqd.attempts (queue, msg_id, read_ct, enqueued_at, started_at, worker, reason)
  SELECT 'ops', 2, 1, enqueued_at, clock_timestamp(), 'host, process 7', 'no answer from p2@example.test' FROM pgmq.q_ops WHERE msg_id = 2;
SELECT is(pg_temp.page('{"reason": "NO ANSWER"}'), '2/delayed', 'by the reason of the last attempt');
SELECT is(pgmqd.message_page('ops', '{"state": "delayed"}', NULL, 100, false)->'messages'->2->>'reason', 'no answer from …@…', 'without the token no address is shown');
SELECT is(pgmqd.message_page('ops', '{"reason": "p2@"}', NULL, 100, false)->>'messages', '[]', 'nor guessed');
SELECT results_eq($$SELECT l->>'what', l->>'by', l->>'why' FROM jsonb_array_elements(pgmqd.message_life('OPS', '2')->'life') l$$,
  $$VALUES ('enqueued', NULL, NULL), ('retried', 'host, process 7', 'no answer from p2@example.test')$$, 'the life of a message');
SELECT is(pgmqd.message_life('ops', '2')->>'state', 'delayed', 'its state');
SELECT ok(pgmqd.message_life('ops', '3')->>'body' ~ '"p3@example.test"', 'its body');
SELECT is(pgmqd.message_life('ops', '99'), NULL, 'one that is not there');
SELECT is(pgmqd.message_life('ops', 'x'), NULL, 'what is no number');

-- ---- actions ----
SELECT is(pg_temp.act('run-now', '{"ids": [7, 3, 99]}'), 'changed [7] asked [] refused [3, 99]', 'a delayed one is due now; one that is due already, and none, are refused');
SELECT is(pgmqd.message_life('ops', '7')->>'state', 'waiting', 'it is');
SELECT is(pg_temp.act('delay', '{"ids": [7, 1], "seconds": 60}'), 'changed [7] asked [] refused [1]', 'delayed; a running one is refused');
SELECT is(pgmqd.message_life('ops', '7')->>'state', 'delayed', 'it waits');
SELECT throws_ok($$SELECT pg_temp.act('delay', '{"ids": [7]}')$$, 'HT400', NULL, 'a delay needs a time');
SELECT throws_ok($$SELECT pg_temp.act('delay', '{"ids": [7], "seconds": "x"}')$$, 'HT400', NULL, 'that is a number');
SELECT throws_ok($$SELECT pg_temp.act('cancel', '{}')$$, 'HT400', NULL, 'all has to be said');
SELECT throws_ok($$SELECT pg_temp.act('cancel', '{"filter": {"state": "dead"}}')$$, 'HT400', NULL, 'the dead cannot be cancelled');
SELECT throws_ok($$SELECT pg_temp.act('explode', '{"ids": [1]}')$$, 'HT400', NULL, 'there is no such action');
SELECT is(pgmqd.act_on_messages('ops', 'cancel', '{"filter": {"group": "g0"}, "dry_run": true}')->>'matched', '4', 'counted first');
SELECT throws_ok($$SELECT pg_temp.act('cancel', '{"filter": {"group": "g0"}, "expected": 3}')$$, 'HT409', NULL, 'more than were expected');
SELECT is(pg_temp.act('cancel', '{"ids": [4], "versions": {"4": "1-1"}}'), 'changed [] asked [] refused [4]', 'one that is not as it was seen is refused');
SELECT is(pg_temp.act('cancel', '{"ids": [4], "why": "asked by phone"}'), 'changed [4] asked [] refused []', 'one that waits is cancelled');
SELECT is(pgmqd.message_life('ops', '4')->>'state', 'cancelled', 'it is archived so');
SELECT results_eq($$SELECT headers->>'group', headers #>> '{pgmqd_cancelled,by}', headers #>> '{pgmqd_cancelled,why}' FROM pgmq.a_ops WHERE msg_id = 4$$,
  $$VALUES ('g0', 'anna', 'asked by phone')$$, 'with who and why');
SELECT is(pg_temp.page('{"state": "cancelled"}'), '4/cancelled', 'and listed so');
SELECT is(pg_temp.act('cancel', '{"ids": [1]}'), 'changed [] asked [1] refused []', 'the worker of a running one is asked');
SELECT results_eq($$SELECT c.msg_id, c.read_ct, c.why, c.born = pgmqd.microseconds(q.enqueued_at) FROM pgmqd.asked_cancels('Ops') c JOIN pgmq.q_ops q USING (msg_id)$$,
  $$VALUES (1::bigint, 2, 'cancelled by anna', true)$$, 'it learns which');
SELECT results_eq($$SELECT s.* FROM pgmq.q_ops q, pgmqd.settle_cancelled('ops', ARRAY[q.msg_id], ARRAY[2123456], ARRAY[pgmqd.microseconds(q.enqueued_at)]) s WHERE q.msg_id = 1$$,
  $$SELECT 1::bigint, false WHERE false$$, 'another claim cancels nothing');
SELECT results_eq($$SELECT s.* FROM pgmq.q_ops q, pgmqd.settle_cancelled('ops', ARRAY[q.msg_id], ARRAY[2123457], ARRAY[pgmqd.microseconds(q.enqueued_at)]) s WHERE q.msg_id = 1$$,
  $$VALUES (1::bigint, false)$$, 'its claim does');
SELECT results_eq($$SELECT s.* FROM pgmq.a_ops q, pgmqd.settle_cancelled('ops', ARRAY[q.msg_id], ARRAY[2123457], ARRAY[pgmqd.microseconds(q.enqueued_at)]) s WHERE q.msg_id = 1$$,
  $$VALUES (1::bigint, false)$$, 'and says so again');
SELECT is(pgmqd.message_life('ops', '1')->>'state', 'cancelled', 'cancelled while running');
SELECT is((SELECT count(*) FROM pgmqd.cancels), 0::bigint, 'nobody is asked any more');

-- the version of an edit
SELECT throws_ok($$SELECT pg_temp.act('edit', '{"ids": [3], "body": "{}"}')$$, 'HT400', NULL, 'an edit needs the version that was seen');
SELECT throws_ok($$SELECT pg_temp.act('edit', jsonb_build_object('ids', '[3]'::jsonb, 'version', pgmqd.message_life('ops', '3')->'version', 'body', '{'))$$, 'HT400', NULL, 'and JSON');
CREATE TEMP TABLE seen AS SELECT pgmqd.message_life('ops', '3')->>'version' AS v;
SELECT is(pg_temp.act('edit', (SELECT jsonb_build_object('ids', '[3]'::jsonb, 'version', v, 'body', '{"big": 9007199254740993}') FROM seen)), 'changed [3] asked [] refused []', 'edited');
SELECT is((SELECT message::text FROM pgmq.q_ops WHERE msg_id = 3), '{"big": 9007199254740993}', 'every digit of it');
SELECT throws_ok($$SELECT pg_temp.act('edit', (SELECT jsonb_build_object('ids', '[3]'::jsonb, 'version', v, 'body', '{}') FROM seen))$$, 'HT409', NULL, 'a second edit of what was seen before is refused');

-- requeue
SELECT is(pg_temp.act('requeue', '{"ids": [4]}'), 'changed [4] asked [] refused []', 'requeued from the archive');
SELECT is(pg_temp.act('requeue', '{"ids": [4]}'), 'changed [] asked [] refused [4]', 'once');
SELECT results_eq($$SELECT read_ct, message->>'n', headers->>'group', headers ? 'pgmqd_cancelled', headers #>> '{pgmqd_history,0,cancelled,by}' FROM pgmq.q_ops ORDER BY msg_id DESC LIMIT 1$$,
  $$VALUES (0, '4', 'g0', false, 'anna')$$, 'as a new message, with its history');
INSERT INTO pgmq.q_ops_dlq (vt, message, headers) VALUES (now(), '{"n": 5}', '{"pgmqd_dead": {"msg_id": 77, "attempts": 3, "class": "attempts", "reason": "no", "enqueued_at": "2026-01-01T00:00:00Z"}}');
SELECT is(pg_temp.page('{"state": "dead", "class": "attempts", "attempts": 3}'), '1/dead', 'a dead letter is listed');
SELECT is(pgmqd.message_life('ops', '77')->>'id', '1', 'and found by the number that it had');
SELECT is(pg_temp.act('edit', jsonb_build_object('filter', '{"state": "dead"}'::jsonb, 'ids', '[1]'::jsonb, 'version', pgmqd.message_life('ops', '1', 'dead')->'version', 'body', '{"n": 6}')),
  'changed [1] asked [] refused []', 'a dead letter is edited');
SELECT is(pg_temp.act('requeue', '{"filter": {"state": "dead"}}'), 'changed [1] asked [] refused []', 'and requeued');
SELECT is((SELECT message->>'n' FROM pgmq.q_ops ORDER BY msg_id DESC LIMIT 1), '6', 'with its new body');

-- a number that the archive has given away
INSERT INTO pgmq.a_ops (msg_id, read_ct, enqueued_at, vt, message) VALUES (5, 1, now(), now(), '{}');
SELECT is(pg_temp.act('cancel', '{"ids": [5]}'), 'changed [5] asked [] refused []', 'cancelled beside another message of its number');
SELECT results_eq($$SELECT msg_id < 0, headers->>'pgmqd_msg_id' FROM pgmq.a_ops WHERE headers ? 'pgmqd_cancelled' ORDER BY archived_at DESC, msg_id LIMIT 1$$, $$VALUES (true, '5')$$, 'under another one');

-- what was done
SELECT bag_eq($$SELECT DISTINCT action, by FROM pgmqd.actions$$, $$VALUES ('run-now', 'anna'), ('delay', 'anna'), ('cancel', 'anna'), ('edit', 'anna'), ('requeue', 'anna')$$, 'all of it is written down');
SELECT is(pgmqd.action_list('ops', 1)->'actions'->0->>'action', 'cancel', 'and listed, the newest first');
SELECT ok((SELECT count(*) FROM jsonb_array_elements(pgmqd.message_life('ops', '7')->'life') l WHERE l->>'what' IN ('run-now', 'delay') AND l->>'by' = 'anna') = 2, 'also in the life of a message');

-- names and kinds of tables
SELECT pgmqd.enqueue('Odd queue', '{"a": 1}');
SELECT is(pg_temp.page('{}', queue => 'odd QUEUE'), '1/waiting', 'a queue of any name');
SELECT is(pg_temp.act('cancel', '{"all": true}', 'Odd queue'), 'changed [1] asked [] refused []', 'is acted on');
SELECT pgmq.create_unlogged('fast');
SELECT pgmq.send('fast', '{"a": 1}');
SELECT is(pg_temp.page('{"state": "waiting"}', queue => 'fast'), '1/waiting', 'an unlogged queue, which has no dead letters');
SELECT is(pg_temp.page('{"state": "dead"}', queue => 'fast'), NULL, 'has none');
SELECT is(pg_temp.act('cancel', '{"ids": [1]}', 'fast'), 'changed [1] asked [] refused []', 'is acted on');

-- many archived ones: a page looks at some of them only
INSERT INTO pgmq.a_ops (msg_id, read_ct, enqueued_at, vt, message, archived_at) SELECT 1000 + i, 1, now(), now(), jsonb_build_object('n', i), '2026-01-01Z'::timestamptz + i * interval '1 second' FROM generate_series(1, 15000) i;
ANALYZE pgmq.a_ops;
SELECT is(pgmqd.message_page('ops', '{"state": "archived", "where": ["n=3"]}')->>'messages', '[]', 'nothing among the newest');
SELECT ok((pgmqd.message_page('ops', '{"state": "archived", "where": ["n=3"]}')->>'more')::boolean, 'and it says that it has not seen all');
SELECT is(pg_temp.page('{"state": "archived", "where": ["n=3"]}', pgmqd.message_page('ops', '{"state": "archived", "where": ["n=3"]}')->>'before'), '1003/archived', 'it goes on from there');
CREATE INDEX ON pgmq.a_ops USING gin (message jsonb_path_ops);
SELECT is(pg_temp.page('{"state": "archived", "where": ["n=3"]}'), '1003/archived', 'with an index it looks at all');

SELECT * FROM finish();
ROLLBACK;
