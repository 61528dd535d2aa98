-- 024_chains.sql: the messages that follow one which has ended, and those of its plugin.
-- database: app
BEGIN;
SELECT no_plan();
SELECT pgmqd.create_queue('next_one');
CREATE TEMP VIEW sent AS SELECT message, headers FROM pgmq.q_next_one ORDER BY msg_id;
CREATE FUNCTION pg_temp.follow(step text, next text, result text DEFAULT NULL, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS
  $$SELECT pgmqd.follow(step, jsonb_build_object('then', next::jsonb) || more, '{Next_One,other}', result)$$;

SELECT is(pg_temp.follow('then', '{"queue": "next_one", "message": {"n": 12345678901234567890}}'), NULL, 'what then says is sent');
SELECT results_eq('SELECT message::text FROM sent', $$VALUES ('{"n": 12345678901234567890}')$$, 'as it is');
SELECT is(pg_temp.follow('else', '{"queue": "next_one", "message": {}}'), NULL, 'without else nothing is sent');
SELECT results_eq('SELECT count(*) FROM sent', $$VALUES (1::bigint)$$, 'nothing was');
DELETE FROM pgmq.q_next_one;

SELECT is(pg_temp.follow('then', '{"queue": "NEXT_one", "body": {"a": "{{result}}", "b": ["{{result}}", "not {{result}}"]}, "delay": 60, "headers": {"x": 1}}',
  '{"url": "u\"{{result}}\""}', '{"traceparent": "t"}'), NULL, 'a body, a result, a delay, headers');
SELECT results_eq($$SELECT message, headers FROM sent$$, $$VALUES ('{"a": {"url": "u\"{{result}}\""}, "b": [{"url": "u\"{{result}}\""}, "not {{result}}"]}'::jsonb,
  '{"x": 1, "traceparent": "t"}'::jsonb)$$, 'the result is put in once, and the trace goes on');
SELECT results_eq($$SELECT vt > clock_timestamp() + interval '50 s' FROM pgmq.q_next_one$$, $$VALUES (true)$$, 'the delay is in seconds');
SELECT is(pg_temp.follow('then', '{"queue": "next_one", "message": "{{result}}"}'), NULL, 'a message that is the result, of which there is none');
SELECT results_eq('SELECT message FROM sent OFFSET 1', $$VALUES ('null'::jsonb)$$, 'is null');
DELETE FROM pgmq.q_next_one;

SELECT is(pg_temp.follow('then', '{"queue": "next_one", "message": {"{{result}}": "{{result}}", "a": "\"{{result}}", "b": "{{result}}\"", "c": "\\\"{{result}}\"", "d": ["{{result}}"]}}',
  '"C:\\temp \\1 \\& \"{{result}}\" $1"'), NULL, 'quotes and backslashes everywhere');
SELECT results_eq('SELECT message FROM sent', $$VALUES ('{"{{result}}": "C:\\temp \\1 \\& \"{{result}}\" $1", "a": "\"{{result}}", "b": "{{result}}\"", "c": "\\\"{{result}}\"",
  "d": ["C:\\temp \\1 \\& \"{{result}}\" $1"]}'::jsonb)$$, 'only a whole text is the result, and as it is');
DELETE FROM pgmq.q_next_one;

SELECT is(pg_temp.follow('then', '{"queue": "next_one", "message": "{{result}}", "headers": {"x": "{{result}}", "then": {"queue": "other", "message": "{{result}}"}, "else": "{{result}}"}}', '2'),
  NULL, 'a chain of three');
SELECT results_eq('SELECT * FROM sent', $$VALUES ('2'::jsonb, '{"x": 2, "then": {"queue": "other", "message": "{{result}}"}, "else": "{{result}}"}'::jsonb)$$, 'whose third waits for the result of the second');
DELETE FROM pgmq.q_next_one;

-- what is wrong is said, and sends nothing
SELECT is(pg_temp.follow('then', next, result), problem, problem) FROM (VALUES
  ('{"queue": "secret", "message": {}}', NULL, 'queue "secret" is none of those that the setting then allows'),
  ('{"queue": "other", "message": {}}', NULL, 'queue "other" does not exist, or is not attached'),
  ('"next_one"', NULL, 'it is no object'),
  ('{"message": {}}', NULL, 'it names no queue'),
  ('{"queue": 7, "message": {}}', NULL, 'it names no queue'),
  ('{"queue": "next_one"}', NULL, 'it has no message'),
  ('{"queue": "next_one", "message": {}, "dealy": 60}', NULL, 'it has "dealy", which is none of queue, message, body, headers and delay'),
  ('{"queue": "next_one", "message": {}, "delay": "soon"}', NULL, 'its delay is no number of seconds from 0 to 31536000'),
  ('{"queue": "next_one", "message": {}, "delay": -1}', NULL, 'its delay is no number of seconds from 0 to 31536000'),
  ('{"queue": "next_one", "message": {}, "headers": []}', NULL, 'its headers are no object'),
  ('{"queue": "next_one", "message": "{{result}}"}', '1, "queue": "other"', 'invalid input syntax for type json'),
  ('{"queue": "next_one", "message": "{{result}}"}', 'no JSON', 'invalid input syntax for type json')) t (next, result, problem);
SELECT is_empty('SELECT FROM sent', 'nothing was sent');
SELECT is(pgmqd.follow('then', '[1]', '{next_one}', NULL), NULL, 'headers that are no object');

SELECT throws_ok($$SELECT pgmqd.send_next('{"queue": "nowhere", "message": 1}')$$, '42704', NULL, 'a plugin''s message for a queue that is not there is an error');
SELECT ok(NOT has_function_privilege('pgmqd_enqueuer', 'pgmqd.send_next(jsonb)', 'EXECUTE'), 'an enqueuer sends no message this way');
SELECT ok(has_function_privilege('pgmqd', 'pgmqd.follow(text,jsonb,text[],text)', 'EXECUTE'), 'the dispatcher does');
SELECT * FROM finish();
ROLLBACK;
