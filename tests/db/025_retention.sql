-- 025_retention.sql: what is old goes, in small batches, what is young stays, and a person can be forgotten.
-- database: app
BEGIN;
SELECT plan(25);
DELETE FROM pgmq.q_email_queue;
INSERT INTO pgmq.a_email_queue (msg_id, enqueued_at, vt, archived_at, message)
  SELECT 1000 + i, now(), now(), now() - i * interval '10 days', '{}' FROM generate_series(1, 9) i;
INSERT INTO pgmq.q_email_queue_dlq (enqueued_at, vt, message) VALUES (now() - interval '31 days', now(), '{}'), (now(), now(), '{}');
INSERT INTO pgmq.q_email_queue (enqueued_at, vt, message) VALUES (now() - interval '1 year', now(), '{"waits": true}');
INSERT INTO pgmqd.trigger_errors (at, trigger) VALUES (now() - interval '31 days', 'x'), (now() - interval '29 days', 'y');
INSERT INTO pgmqd.schedule_runs (name, due, started_at, status) SELECT 'x', t, t, 'ok' FROM unnest(ARRAY[now() - interval '31 days', now()]) t;
INSERT INTO pgmqd.analytics_events (queue, msg_id, event, occurred_at, recorded_at) VALUES ('q', 1, 'e', now(), now() - interval '31 days');
INSERT INTO pgmqd.analytics_daily VALUES ('2026-01-01', 'e', 1);
SELECT is(pgmqd.delete_old(2), '{"pgmq.a_email_queue": 2, "pgmq.q_email_queue_dlq": 1, "pgmqd.schedule_runs": 1, "pgmqd.trigger_errors": 1,
  "pgmqd.analytics_events": 1}'::jsonb, 'a batch of each');
SELECT results_eq('SELECT msg_id FROM pgmq.a_email_queue WHERE msg_id > 1000 ORDER BY 1', 'SELECT generate_series(1001, 1007)::bigint', 'the oldest first');
SELECT is(pgmqd.delete_old(), '{"pgmq.a_email_queue": 4}'::jsonb, 'then the rest');
SELECT is(pgmqd.delete_old(), '{}'::jsonb, 'then nothing');
SELECT is(count(*), 1::bigint, 'what waits is never too old') FROM pgmq.q_email_queue WHERE message ? 'waits';
SELECT is(count(*), 1::bigint, 'the daily numbers stay') FROM pgmqd.analytics_daily;
INSERT INTO pgmqd.refunds (queue, msg_id, n, read_ct) SELECT 'email_queue', msg_id, 1, 1 FROM pgmq.q_email_queue WHERE message ? 'waits';
INSERT INTO pgmqd.refunds (queue, msg_id, n, read_ct) VALUES ('email_queue', 4711, 1, 1), ('email_queue', 4712, 2, 5), ('no_such_queue', 1, 1, 1);
SELECT results_eq('SELECT pgmqd.delete_old(2) UNION ALL SELECT pgmqd.delete_old(2)', $$VALUES ('{"pgmqd.refunds": 2}'::jsonb), ('{"pgmqd.refunds": 1}')$$,
  'refunds of messages that are gone, batch by batch');
SELECT is(count(*), 1::bigint, 'that of a message that waits stays') FROM pgmqd.refunds;
UPDATE pgmqd.settings SET value = '5 days' WHERE name = 'keep_archives';
SELECT is(pgmqd.delete_old(), '{"pgmq.a_email_queue": 3}'::jsonb, 'another age');
INSERT INTO pgmq.a_email_queue (msg_id, enqueued_at, vt, archived_at, message)
  SELECT 100000 + i, now(), now(), now() - interval '6 days', '{}' FROM generate_series(1, 30000) i;
SELECT is(pgmqd.delete_old(), '{"pgmq.a_email_queue": 30000}'::jsonb, 'what 50 messages a second leave in the ten minutes between two calls');
SELECT throws_ok($$UPDATE pgmqd.settings SET value = '-1 day' WHERE name = 'keep_archives'$$, '23514', NULL, 'no age');
SELECT throws_ok($$UPDATE pgmqd.settings SET value = '59 minutes' WHERE name = 'keep_archives'$$, '23514', NULL, 'less than an hour');
CREATE ROLE stranger;
ALTER TABLE pgmq.a_email_queue OWNER TO stranger;
INSERT INTO pgmq.a_email_queue (msg_id, enqueued_at, vt, archived_at, message) VALUES (999, now(), now(), now() - interval '1 year', '{}');
SELECT is(pgmqd.delete_old(), '{}'::jsonb, 'a stranger''s table, which may have triggers, is left alone');
ALTER TABLE pgmq.a_email_queue OWNER TO current_user;
DELETE FROM pgmq.a_email_queue WHERE msg_id = 999;
SELECT throws_ok($$UPDATE pgmqd.settings SET value = 'x' WHERE name = 'keep_archives'$$, '22007', NULL, 'no time');

-- ---- a person ----
DELETE FROM pgmq.q_email_queue;
UPDATE assessments SET status = 'completed', completed_at = now();
UPDATE payments SET status = 'failed';
INSERT INTO pgmq.q_email_queue (vt, message) VALUES (now(), '{"to": "hanna@example.test"}'), (now(), '{"to": "anna@example.test.org"}');
INSERT INTO pgmq.q_email_queue_dlq (vt, message) VALUES (now(), '{"to": "Anna@Example.TEST"}');
INSERT INTO pgmq.a_payment_processing_queue (msg_id, enqueued_at, vt, message) VALUES (1, now(), now(), '{"payment_id": "d0000000-0000-4000-8000-000000000001"}');
INSERT INTO pgmqd.analytics_events (queue, msg_id, event, occurred_at, properties) VALUES
  ('q', 2, 'e', now(), '{"user_id": "a0000000-0000-4000-8000-000000000001"}'), ('q', 3, 'e', now(), '{"user_id": "a0000000-0000-4000-8000-000000000002"}');
CREATE TEMP TABLE erased AS SELECT pgmqd.erase_person(' Anna@example.test ') AS r;
SELECT is(r, '{"pgmq.q_email_queue": 2, "pgmq.q_email_queue_dlq": 1, "pgmq.q_analytics_queue": 1, "pgmq.q_report_generation_queue": 1,
  "pgmq.a_payment_processing_queue": 1, "pgmqd.analytics_events": 1}'::jsonb, 'what was erased') FROM erased;
SELECT is(count(*), 4::bigint, 'the mails of others stay') FROM pgmq.q_email_queue;
SELECT is_empty($$SELECT message FROM pgmq.q_email_queue WHERE message->>'to' = 'anna@example.test'$$, 'hers are gone');
SELECT is(count(*), 1::bigint, 'the report of the other stays') FROM pgmq.q_report_generation_queue;
SELECT is(pgmqd.erase_person('anna@example.test'), '{}'::jsonb, 'nothing is left');
INSERT INTO pgmqd.reports (id, assessment_id, user_id, report_type, completed_at, path, object, bytes, pages, sha256)
  SELECT pgmqd.report_id(i::text, 'checkup', now()), i, 'a0000000-0000-4000-8000-00000000000' || u, 'checkup', now(), p, o, 1, 1, ''
  FROM (VALUES (1, 1, '/reports/1.pdf', NULL), (2, 1, '/reports/2.pdf', 'bucket/x/2.pdf'), (3, 1, NULL, NULL), (4, 2, '/reports/4.pdf', NULL)) r (i, u, p, o);
SELECT is(pgmqd.erase_person('anna@example.test'), '{"pgmqd.reports": 3, "files": 2}'::jsonb, 'her reports, and their files');
SELECT results_eq('SELECT path, object FROM pgmqd.files_to_erase ORDER BY path',
  $$VALUES ('/reports/1.pdf', NULL), ('/reports/2.pdf', 'bucket/x/2.pdf')$$, 'are to be deleted by the report plugin');
SELECT set_eq($$SELECT (message->>'file')::bigint FROM pgmq.q_report_generation_queue WHERE message->>'action' = 'erase'$$,
  'SELECT id FROM pgmqd.files_to_erase', 'which has a message of each');
SELECT is(count(*), 2::bigint, 'the application''s rows are its own') FROM profiles;
SELECT throws_ok($$SELECT pgmqd.erase_person('')$$, '22023', NULL, 'no address');
SELECT throws_ok($$SELECT pgmqd.erase_person('%')$$, '22023', NULL, 'no pattern');
SELECT * FROM finish();
ROLLBACK;
