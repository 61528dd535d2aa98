-- page.sql: what the status page shows of dead letters and schedules.
-- database: app
BEGIN;
SELECT plan(22);

SELECT is(pgmqd.failure_groups(), '{"groups": []}', 'nothing failed: no groups');
INSERT INTO pgmq.q_email_queue_dlq (vt, enqueued_at, message, headers)
SELECT now(), now() - n * interval '1 minute', '{"n": 9007199254740993}', jsonb_build_object('pgmqd_dead', jsonb_build_object('class', c, 'reason', r, 'plugin', 'email', 'died_at', now() - n * interval '1 minute'))
FROM (VALUES (1, 'permanent', 'no mailbox for a@example.test (550)'), (2, 'permanent', 'no mailbox for b@example.test (550)'), (3, 'attempts', 'timed out')) v (n, c, r);
INSERT INTO pgmq.q_email_queue_dlq (vt, message) VALUES (now(), '"somebody else''s"');
SELECT is((SELECT jsonb_agg(jsonb_build_array(g->>'class', g->>'reason', g->'count') ORDER BY g->>'reason') FROM jsonb_array_elements(pgmqd.failure_groups()->'groups') g),
  '[[null, "", 1], ["permanent", "no mailbox for …@… (550)", 2], ["attempts", "timed out", 1]]', 'grouped by what the reasons share, without addresses and numbers');
SELECT is(pgmqd.reason_group(reason), wanted, reason) FROM (VALUES
  ('HTTP status 503 after 1200 ms', 'HTTP status 503 after … ms'), ('550 5.1.1 <x@y.test>: no such user', '550 5.1.1 <…@…>: no such user'), ('row 17 of 4,200', 'row … of …'),
  ('job 6f9619ff-8b86-d011-b42d-00c04fc964ff is gone', 'job … is gone'), ('key 0af7651916cd43dd: taken', 'key …: taken'), ('cannot connect to 127.0.0.1:5432', 'cannot connect to …'),
  ('no outcome within 300 s', 'no outcome within … s'), ('SHA256 of utf8 is v2', 'SHA256 of utf8 is v2'), ('', '')) v (reason, wanted);
SELECT ok(pgmqd.failure_groups(50, false)::text !~ 'example.test' AND pgmqd.failure_groups()::text ~ 'a@example.test', 'without the token no example has an address in it');
SELECT ok(pgmqd.dead_letter_page('email_queue', NULL, NULL, '9', false)::text !~ 'example.test', 'nor has a dead letter');
SELECT is(pgmqd.dead_letter_page('email_queue', NULL, 'a@exam', '9', false)->'letters', '[]', 'nor can it be searched for');
SELECT is(jsonb_array_length(pgmqd.dead_letter_page('email_queue', NULL, 'a@exam', '9')->'letters'), 1, 'with it, it can');
SELECT is(jsonb_array_length(pgmqd.dead_letter_page('email_queue', NULL, NULL, '2')->'letters'), 2, 'a page has as many as were asked for');
SELECT is(pgmqd.dead_letter_page('email_queue', NULL, NULL, '2')->'more', 'true', 'and says that there are more');
SELECT is(jsonb_path_query_array(pgmqd.dead_letter_page('EMAIL_QUEUE', (SELECT max(msg_id)::text FROM pgmq.q_email_queue_dlq), 'NO MAILBOX', '10'),
    '$.letters[*].reason'), '["no mailbox for b@example.test (550)", "no mailbox for a@example.test (550)"]', 'before and reason choose');
SELECT ok(position('9007199254740993' IN pgmqd.dead_letter_body('email_queue', (SELECT min(msg_id)::text FROM pgmq.q_email_queue_dlq))->>'body') > 0, 'a body keeps its numbers');
SELECT is(pgmqd.dead_letter_body('email_queue', '777777'), NULL, 'one that is not there is NULL');
SELECT throws_ok($$SELECT pgmqd.dead_letter_page('nothing', NULL, NULL, '10')$$, 'HT404', NULL, 'a queue that is not there is status 404');
SELECT ok(pgmqd.schedule_status() @? '$.schedules[*] ? (@.name == "send-appointment-reminders")', 'schedules are told');

SELECT * FROM finish();
ROLLBACK;
