-- 024_limits.sql: what limits keep back, and the indexes of a queue with limits.
-- database: app
BEGIN;
SELECT no_plan();
SELECT columns_are('pgmqd', 'rates', ARRAY['queue', 'holder', 'key', 'spent_until']);
SELECT pgmqd.create_queue('limited');
CREATE TEMP VIEW kept AS SELECT * FROM pgmqd.kept_back('limited');

-- ---- indexes ----
SELECT ok(pgmqd.limit_queue('Limited', 'header:customer'), 'the indexes are made');
SELECT ok(NOT pgmqd.limit_queue('limited', 'header:customer'), 'once');
SELECT has_index('pgmq', 'q_limited', 'q_limited_held_idx', 'of what is in hand');
SELECT is(obj_description('pgmq.q_limited_key_idx'::regclass), 'header:customer', 'and of the key, which it names');
SELECT ok(pgmqd.limit_queue('limited', 'body:/a/b~1c'), 'another key');
SELECT matches(pg_get_indexdef('pgmq.q_limited_key_idx'::regclass), 'message #>> ''\{a,b/c\}''', 'has another index');
SELECT throws_ok($$SELECT pgmqd.limit_queue('limited', 'customer')$$, '22023', 'key "customer" is not header:NAME or body:/PATH', 'no key');
SELECT throws_ok($$SELECT pgmqd.limit_queue('nowhere')$$, '42704', NULL, 'no queue');
SELECT lives_ok($$SELECT pgmq.send('limited', jsonb_build_object('a', jsonb_build_object('b/c', repeat('x', 5000) || random())))$$, 'a long key is no error of the producer');
SELECT ok(pgmqd.limit_queue('limited', wanted => false), 'they are taken away');
SELECT hasnt_index('pgmq', 'q_limited', 'q_limited_key_idx', 'both');
DELETE FROM pgmq.q_limited;

-- ---- which message has which key ----
SELECT pgmqd.limit_queue('limited', 'body:/k');
INSERT INTO pgmq.q_limited (vt, message) SELECT now(), m FROM unnest(ARRAY['{}', '{"k": null}', '[1]', '7', '"k"', '{"k": 42}', '{"k": "42"}', '{"k": 42.0}', '{"k": true}', '{"k": [1, "a"]}',
  '{"k": {"b": 1}}', '{"k": "\u00e9"}', '{"k": "e\u0301"}', '{"k": ""}']::jsonb[]) m;
SELECT pgmqd.tell_limits('limited', 'body:/k', 0, 0, false, false, 0, 1);
SELECT results_eq($$SELECT k, count(*) FROM (SELECT pg_catalog.left(coalesce(message #>> '{k}'::text[], ''::text), 200) AS k FROM pgmq.q_limited) x GROUP BY k ORDER BY k COLLATE "C"$$,
  $$VALUES ('', 6::bigint), ('42', 2), ('42.0', 1), ('[1, "a"]', 1), (E'e\u0301', 1), ('true', 1), ('{"b": 1}', 1), (E'\u00e9', 1)$$, 'the text of the value, byte for byte; without one the empty key');
SELECT is(by_key, 14 - 8::bigint, 'and each of them has its places') FROM kept;
INSERT INTO pgmq.q_limited (vt, message) SELECT now(), jsonb_build_object('k', repeat('é', 10000) || n) FROM generate_series(1, 2) n;
SELECT is(by_key, 7::bigint, 'of a key of 20 kB 200 characters count') FROM kept;
SELECT throws_ok($$SELECT pgmq.send('limited', '{"k": "\u0000"}')$$, '22P05', NULL, 'NUL is no text of the database');
SELECT pgmqd.tell_limits('limited', '', 0, 0, false, false, 0, 0), pgmqd.limit_queue('limited', wanted => false);
DELETE FROM pgmq.q_limited;

-- ---- what is kept back ----
INSERT INTO pgmq.q_limited (vt, message, headers) SELECT now() - interval '1 min', '{}', jsonb_build_object('customer', c) FROM unnest(ARRAY['a', 'a', 'a', 'b']) c;
INSERT INTO pgmq.q_limited (vt, read_ct, message, headers) SELECT date_trunc('second', now()) + interval '30.000042 s', 1, '{}', '{"customer": "a"}';
INSERT INTO pgmq.q_limited (vt, read_ct, message, headers) SELECT date_trunc('second', now()) + interval '30 s', 1, '{}', '{"customer": "a"}';
SELECT results_eq('SELECT by_rate, by_key, by_place FROM kept', $$VALUES (NULL::bigint, NULL::bigint, NULL::bigint)$$, 'a queue without limits keeps nothing back');
SELECT pgmqd.tell_limits('Limited', '', 1, 3, false, false, 0, 0);
SELECT results_eq('SELECT by_rate, by_key, by_place FROM kept', $$VALUES (1::bigint, NULL::bigint, NULL::bigint)$$, 'beyond the burst');
INSERT INTO pgmqd.rates VALUES ('limited', '', '', clock_timestamp());
SELECT results_eq('SELECT by_rate, by_key, by_place FROM kept', $$VALUES (4::bigint, NULL::bigint, NULL::bigint)$$, 'the rate is spent');
SELECT pgmqd.tell_limits('limited', 'header:customer', 1, 2, true, false, 4, 2);
SELECT results_eq('SELECT by_rate, by_key, by_place FROM kept', $$VALUES (1::bigint, 2::bigint, 1::bigint)$$, 'by key, beside what is in hand');
-- from key to key by the index, and through the queue without it
SELECT pgmqd.tell_limits('limited', 'header:customer', 0.001, 2, true, false, 4, 2);
INSERT INTO pgmqd.rates VALUES ('limited', '', 'a', clock_timestamp() - interval '1500 s'), ('limited', 'process', 'b', clock_timestamp() + interval '1 h');
INSERT INTO pgmqd.keys (queue, key, weight, paused_at) VALUES ('limited', 'a', 1, now()), ('limited', 'b', 3, NULL), ('limited', 'c', 2, NULL);
INSERT INTO pgmq.q_limited (vt, message, headers) SELECT now() + i, '{"more": 1}', h FROM unnest(ARRAY[interval '-1 s', '1 h']) i, unnest(ARRAY[NULL, '{}', '{"customer": "b"}', '{"customer": "c"}', '{"customer": ""}']::jsonb[]) h;
SELECT results_eq('SELECT by_rate, by_key, by_place, by_pause FROM kept', $$VALUES (5::bigint, 3::bigint, 6::bigint, 3::bigint)$$, 'many keys');
CREATE TEMP TABLE before AS SELECT * FROM kept;
SELECT pgmqd.limit_queue('limited', 'header:customer');
SELECT results_eq('SELECT * FROM kept', 'SELECT * FROM before', 'the index tells the same');
INSERT INTO pgmq.q_limited (vt, message, headers) SELECT now() - interval '1 s', '{"more": 1}', jsonb_build_object('customer', 'n' || n / 3) FROM generate_series(0, 30008) n;
SELECT results_eq('SELECT k.by_rate - b.by_rate, k.by_key - b.by_key, k.by_place - b.by_place, k.by_pause, k.keys = b.keys FROM kept k, before b',
  $$VALUES (10003::bigint, 10003::bigint, 30009::bigint, 3::bigint, true)$$, 'and so it is with 10,000 keys');
DELETE FROM pgmqd.keys;
DELETE FROM pgmqd.rates WHERE key <> '';
DELETE FROM pgmq.q_limited WHERE message <> '{}';
SELECT pgmqd.limit_queue('limited', wanted => false);
SELECT pgmqd.tell_limits('limited', '', 0, 0, false, false, 0, 0);
SELECT is_empty('SELECT FROM pgmqd.limits', 'limits that are taken out are told, too');

-- ---- whether the dispatchers agree ----
-- another worker's session has the lock "present" (tests/db/run has one cluster, and this transaction one session: so another queue's lock will do)
SELECT is(pgmqd.tell_limits('limited', '', 10, 9, false, false, 0, 0, 'dispatcher one'), NULL, 'the only dispatcher');
SELECT is_empty($$SELECT FROM pgmqd.limit_problems()$$, 'agrees with itself');
SELECT pg_advisory_lock('pgmq.q_limited'::regclass::oid::bigint::integer, -3);
UPDATE pgmqd.told_limits SET dispatcher = 'dispatcher two';
INSERT INTO pgmqd.told_limits VALUES ('limited', -1, 'dispatcher three', 'none');
SELECT is(pgmqd.tell_limits('limited', '', 20, 18, false, false, 0, 0, 'dispatcher one'), NULL, 'what has gone does not count');
SELECT is_empty($$SELECT FROM pgmqd.told_limits WHERE pid = -1$$, 'and is forgotten');
-- of another session that is there, too: the same lock, "present", is looked for by its process
UPDATE pgmqd.told_limits SET dispatcher = 'dispatcher two', pid = -2;
CREATE OR REPLACE FUNCTION pgmqd.serving_pids(queue text) RETURNS SETOF integer LANGUAGE sql AS $$ SELECT unnest(ARRAY[pg_backend_pid(), -2]) $$;
SELECT isnt(pgmqd.tell_limits('limited', '', 0, 0, false, false, 0, 0, 'dispatcher one'), NULL, 'none at all are other limits');
SELECT isnt_empty($$SELECT FROM pgmqd.limits WHERE queue = 'limited'$$, 'which do not take those of the other one away');
DELETE FROM pgmqd.told_limits WHERE pid = -2;

-- ---- single keys ----
SELECT throws_ok($$SELECT pgmqd.pause_key('limited', 'a')$$, '22023', 'queue "limited" has no key', 'a queue without a key');
SELECT pgmqd.tell_limits('limited', 'header:customer', 0, 0, false, false, 0, 0);
SELECT ok(pgmqd.pause_key('Limited', 'customer=a', 'why', 'anna'), 'a key is paused');
SELECT ok(NOT pgmqd.pause_key('limited', 'a'), 'once');
SELECT results_eq('SELECT queue, key, paused_by, reason FROM pgmqd.keys', $$VALUES ('limited', 'a', 'anna', 'why')$$, 'by whom and why');
SELECT pgmqd.weigh_key('limited', 'b', 2);
SELECT throws_ok(format('SELECT pgmqd.weigh_key(''limited'', ''b'', %L)', w), '22023', 'weight must be above 0 and up to 1000000, and not ' || coalesce(w, 'null'), 'a weight that is none: ' || coalesce(w, 'null'))
FROM unnest(ARRAY['0', '-1', 'NaN', 'Infinity', '1000001', NULL]) w;
SELECT ok(pgmqd.resume_key('limited', 'customer=a'), 'and resumed');
SELECT ok(NOT pgmqd.resume_key('limited', 'a'), 'once');
SELECT results_eq('SELECT key, weight FROM pgmqd.keys', $$VALUES ('b', 2::float8)$$, 'what says nothing is not kept');


-- ---- what waits for single keys ----
SELECT pgmqd.tell_limits('limited', 'header:customer', 0, 0, false, false, 0, 0);
SELECT results_eq('SELECT by_rate, by_key, by_place, by_pause, keys->0->>''key'', keys->0->>''weight'', (keys->0->>''due'')::int FROM kept',
  $$VALUES (NULL::bigint, NULL::bigint, NULL::bigint, 0::bigint, 'b', '2', 1)$$, 'a weight keeps nothing back, and is shown');
SELECT pgmqd.pause_key('limited', 'customer=a', 'why', 'anna'), pgmqd.hold_key('limited', '{"customer": "c"}', '{}', 3600);
SELECT results_eq('SELECT by_pause, jsonb_array_length(keys), keys->0->>''key'', keys->0->>''paused_by'', keys->0->>''reason'', keys->0->>''due'' FROM kept',
  $$VALUES (3::bigint, 3, 'a', 'anna', 'why', '3')$$, 'who paused a key, and how many wait for it');
SELECT isnt(keys #>> '{2,held_until}', NULL, 'until when a plugin holds one') FROM kept;
SELECT is_empty('SELECT FROM pgmqd.limit_problems()', 'all is as it should be');
SELECT pgmqd.tell_limits('limited', '', 0, 0, false, false, 0, 0);
SELECT results_eq('SELECT queue, problem FROM pgmqd.limit_problems()', $$VALUES ('limited', 'key "a" is paused, and its messages run: the settings name no key')$$,
  'a pause that is of no use any more is told');
SELECT pgmqd.tell_limits('limited', 'header:customer', 0, 0, false, false, 0, 0);

-- ---- the retention ----
INSERT INTO pgmqd.rates VALUES ('limited', '', 'old', now() - interval '31 days');
SELECT is(pgmqd.delete_old()->>'pgmqd.rates', '1', 'a bucket that is full for long goes');
SELECT * FROM finish();
ROLLBACK;
