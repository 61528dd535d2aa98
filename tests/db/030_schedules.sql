-- 030_schedules.sql: appointments follow time, old check-ups are given up, and reminders go out in their windows, once.
-- database: app
BEGIN;
SELECT plan(59);
CREATE FUNCTION anna() RETURNS uuid LANGUAGE sql AS $$SELECT 'a0000000-0000-4000-8000-000000000001'::uuid$$;
UPDATE pgmqd.settings SET value = CASE name WHEN 'app_url' THEN 'https://app.example.test' ELSE 'support@example.test' END WHERE name IN ('app_url', 'support_email');
DELETE FROM payments;
DELETE FROM appointments;

SELECT results_eq('SELECT name, cron, command, tz, runner, enabled FROM pgmqd.schedule ORDER BY name', $$VALUES
  ('cleanup-old-assessments', '0 3 * * *', 'SELECT public.cleanup_old_assessments()', 'UTC', 'pgmqd', true),
  ('delete-old-messages', '*/10 * * * *', 'SELECT pgmqd.delete_old()', 'UTC', 'pgmqd', true),
  ('send-appointment-reminders', '0 * * * *', 'SELECT public.send_appointment_reminders()', 'UTC', 'pgmqd', true),
  ('update-appointment-statuses', '*/5 * * * *', 'SELECT public.update_appointment_statuses()', 'UTC', 'pgmqd', true)$$,
  'without pg_cron the dispatcher runs them');
UPDATE pgmqd.schedule SET next_due = '2030-01-01';
SELECT is_empty('SELECT * FROM pgmqd.connect_schedules()', 'connecting again');
SELECT is(count(*), 4::bigint, 'keeps what is due') FROM pgmqd.schedule WHERE next_due = '2030-01-01';

-- ---- times that cannot be ----
SELECT is_empty($$SELECT c, pgmqd.cron_error(c) FROM unnest(ARRAY['* * * * *', '*/5 0-6/2,12 1,15 jan-MAR,12 mon-fri', '0 0 29 2 *', '0 0 31 2 0', '@daily', '@Hourly',
  E' 1\t2 3 4 7', '5/10 * * * sun/2', '0 0 31 jan *', '59 23 31 dec sat']) c WHERE pgmqd.cron_error(c) IS NOT NULL$$, 'times that can be');
SELECT is_empty($$SELECT c FROM unnest(ARRAY['', '* * * *', '* * * * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * * 13 *', '* * * * 8', '*/0 * * * *', '*/60 * * * *',
  '5-1 * * * *', '1,, * * * *', '1, * * * *', '-1 * * * *', '1- * * * *', 'a * * * *', 'jan * * * *', '* * * january *', '* * * foo *', '0 0 30 2 *', '0 0 31 apr,jun *', '@never',
  '30 seconds', '* * * * mon/x', '1.5 * * * *']) c WHERE pgmqd.cron_error(c) IS NULL$$, 'times that cannot be');
SELECT throws_ok($$INSERT INTO pgmqd.schedule (name, cron, command, runner) VALUES ('x', '61 9 * * 1', 'SELECT 1', 'pgmqd')$$, '23514',
  'schedule x: "61 9 * * 1": the minute "61" is none (0 to 59, a-b, */n, lists of those)', 'are refused');
SELECT throws_ok($$UPDATE pgmqd.schedule SET cron = '0 0 30 2 *' WHERE name = 'delete-old-messages'$$, '23514',
  'schedule delete-old-messages: "0 0 30 2 *" never comes: none of its months has such a day', 'also later');
-- by the table itself: no trigger has to be on for it, and a row that was taken over keeps pg_cron's text, but gets no other of that kind
ALTER TABLE pgmqd.schedule DISABLE TRIGGER USER;
SELECT throws_ok($$UPDATE pgmqd.schedule SET cron = '0 25 * * *' WHERE name = 'delete-old-messages'$$, '23514',
  'schedule delete-old-messages: "0 25 * * *": the hour "25" is none (0 to 23, a-b, */n, lists of those)', 'by the table''s own CHECK');
SELECT is(convalidated, true, 'which every row has passed') FROM pg_constraint WHERE conname = 'schedule_cron_check' AND conrelid = 'pgmqd.schedule'::regclass;
UPDATE pgmqd.schedule SET runner = 'pg_cron', cron = '30 seconds' WHERE name = 'delete-old-messages';
ALTER TABLE pgmqd.schedule ENABLE TRIGGER USER;
UPDATE pgmqd.schedule SET runner = 'pgmqd', taken_over = true WHERE name = 'delete-old-messages';
SELECT throws_ok($$UPDATE pgmqd.schedule SET cron = '20 seconds' WHERE name = 'delete-old-messages'$$, '23514', NULL, 'what is taken over from pg_cron keeps a text of its');
ALTER TABLE pgmqd.schedule DISABLE TRIGGER USER;
UPDATE pgmqd.schedule SET runner = 'pg_cron', taken_over = false WHERE name = 'delete-old-messages';
ALTER TABLE pgmqd.schedule ENABLE TRIGGER USER;
SELECT results_eq($$SELECT item, problem FROM pgmqd.connect_schedules()$$, $$VALUES ('schedule delete-old-messages',
  'the dispatcher cannot run it at its time of pg_cron''s, 30 seconds; it runs at */10 * * * *')$$, 'where pg_cron is gone for good, a text of its gives way to ours');
SELECT is(runner || ' ' || cron, 'pgmqd */10 * * * *', 'and the schedule is the dispatcher''s') FROM pgmqd.schedule WHERE name = 'delete-old-messages';

-- ---- statuses ----
INSERT INTO appointments (user_id, specialist_name, status, starts_at, ends_at) SELECT anna(), name, status, now() + s, now() + e
FROM (VALUES ('later', 'scheduled', interval '1 minute', interval '1 hour'), ('now', 'scheduled', '-1 minute', '1 hour'),
  ('paid', 'confirmed', '-1 minute', '1 hour'), ('over', 'scheduled', '-2 hours', '-1 hour'), ('ending', 'in_progress', '-1 hour', '0'),
  ('open', 'in_progress', '-59 minutes', NULL), ('open over', 'in_progress', '-61 minutes', NULL),
  ('cancelled', 'cancelled', '-1 minute', '1 hour'), ('pending', 'pending', '-1 minute', '1 hour')) v (name, status, s, e);
SELECT is(update_appointment_statuses(), 6, 'six steps are due');
SELECT results_eq('SELECT specialist_name, status FROM appointments ORDER BY 1', $$VALUES ('cancelled', 'cancelled'),
  ('ending', 'completed'), ('later', 'scheduled'), ('now', 'in_progress'), ('open', 'in_progress'), ('open over', 'completed'),
  ('over', 'completed'), ('paid', 'in_progress'), ('pending', 'pending')$$, 'statuses follow time');
SELECT is(update_appointment_statuses(), 0, 'and only once');
DELETE FROM appointments;

-- ---- check-ups ----
INSERT INTO assessments (user_id, type, started_at, status) SELECT anna(), name, now() - age, status FROM (VALUES
  ('old', interval '30 days 1 second', 'in_progress'), ('young', '30 days', 'in_progress'), ('done', '60 days', 'abandoned')) v (name, age, status);
SELECT is(cleanup_old_assessments(), 1, 'one is too old');
SELECT results_eq($$SELECT type, status FROM assessments WHERE type <> 'comprehensive' ORDER BY 1$$,
  $$VALUES ('done', 'abandoned'), ('old', 'abandoned'), ('young', 'in_progress')$$, 'older than 30 days');
SELECT is(cleanup_old_assessments(), 0, 'and only once');

-- ---- reminders ----
-- Of an appointment that starts in `left` and was booked `ahead` of its start: the reminders that go out in one call.
CREATE FUNCTION reminded(remaining interval, ahead interval DEFAULT '10 days', state text DEFAULT 'scheduled',
  period interval DEFAULT '1 hour') RETURNS text[] LANGUAGE plpgsql AS $f$
DECLARE
  result text[];
BEGIN
  DELETE FROM appointments;
  DELETE FROM pgmqd.reminder_sent;
  INSERT INTO appointments (user_id, specialist_name, status, starts_at, created_at)
    VALUES (anna(), 'x', state, now() + remaining, now() + remaining - ahead);
  PERFORM send_appointment_reminders(period);
  SELECT coalesce(array_agg(kind ORDER BY kind), '{}') INTO result FROM pgmqd.reminder_sent;
  RETURN result;
END $f$;
SELECT is(reminded(r::interval), kinds::text[], 'starts in ' || r || ': ' || kinds) FROM (VALUES ('24:00:01', '{}'), ('24:00', '{24h}'),
  ('23:00', '{24h}'), ('12:00', '{24h}'), ('2:00', '{24h}'), ('1:59:59', '{}'), ('1:20:01', '{}'), ('1:20', '{1h}'), ('1:00', '{1h}'),
  ('0:20', '{1h}'), ('0:19:59', '{}'), ('0:00:01', '{}'), ('0:00', '{}'), ('-0:00:01', '{}')) v (r, kinds);
SELECT is(reminded(r::interval, period => '1 minute'), kinds::text[], 'called each minute, starts in ' || r || ': ' || kinds)
  FROM (VALUES ('1:00:01', '{}'), ('1:00', '{1h}'), ('0:20', '{1h}'), ('0:19:59', '{}')) v (r, kinds);
SELECT is(reminded('20:00', '23:59:59'), '{}', 'booked less than 24 hours ahead: no long reminder');
SELECT is(reminded('20:00', '24:00'), '{24h}', 'booked 24 hours ahead: one');
SELECT is(reminded('0:50', '2:00'), '{1h}', 'booked 2 hours ahead: the short one');
SELECT is(reminded('0:50', '0:59:59'), '{}', 'booked in the last hour: none');
SELECT is(reminded('20:00', state => s), kinds::text[], s || ': ' || kinds) FROM (VALUES ('confirmed', '{24h}'), ('cancelled', '{}'),
  ('pending', '{}'), ('in_progress', '{}')) v (s, kinds);
-- whatever the minute of the start is, calls on the hour remind of it exactly once
SELECT is_empty($$SELECT m FROM generate_series(0, 59) m, LATERAL (SELECT count(*) FILTER (WHERE reminded(hours * interval '1 hour'
    + m * interval '1 minute' + interval '1 second') = '{1h}') AS n FROM generate_series(0, 3) hours) c WHERE n <> 1$$,
  'the window is as wide as the time between two calls');

DELETE FROM appointments;
DELETE FROM pgmqd.reminder_sent;
DELETE FROM pgmq.q_email_queue;
INSERT INTO appointments (id, user_id, specialist_name, starts_at, created_at) VALUES
  ('c0000000-0000-4000-8000-000000000009', anna(), 'Мария Образцова', now() + interval '23 hours', now() - interval '9 days');
DELETE FROM pgmq.q_email_queue;
SELECT is(send_appointment_reminders(), 1, 'one is sent');
SELECT is(send_appointment_reminders(), 0, 'and only once');
SELECT is(message->>'template', 'appointment_reminder') FROM pgmq.q_email_queue;
SELECT is(message->>'key', 'appointment_reminder c0000000-0000-4000-8000-000000000009 24h ' || pgmqd.iso_time(now() + interval '23 hours'),
  'the key of the mail') FROM pgmq.q_email_queue;
SELECT is((message->'variables') - ARRAY['app_url', 'support_email', 'is_day_before'], jsonb_build_object('customer_name', 'Анна Примерова',
  'lang', 'ru', 'appointment_id', 'c0000000-0000-4000-8000-000000000009', 'specialist_name', 'Мария Образцова',
  'appointment_date', pgmqd.format_date(now() + interval '23 hours', 'ru'), 'appointment_time', pgmqd.format_time(now() + interval '23 hours'),
  'starts_at', pgmqd.iso_time(now() + interval '23 hours'), 'hours_left', '24', 'is_hour_before', false,
  'appointment_url', 'https://app.example.test/appointments/c0000000-0000-4000-8000-000000000009')) FROM pgmq.q_email_queue;
SELECT is((message->'variables'->>'is_day_before')::boolean, (now() + interval '23 hours')::date > now()::date, 'tomorrow is said of tomorrow')
  FROM pgmq.q_email_queue, set_config('timezone', 'Europe/Moscow', true);
SELECT is(msg_id, (SELECT max(msg_id) FROM pgmq.q_email_queue), 'the message is noted') FROM pgmqd.reminder_sent;
UPDATE appointments SET starts_at = starts_at - interval '20 minutes';
SELECT is(send_appointment_reminders(), 1, 'one that was moved has a new reminder');
UPDATE appointments SET starts_at = starts_at + interval '20 minutes';
SELECT is(send_appointment_reminders(), 0, 'moved back, it had its own already');
UPDATE appointments SET starts_at = now() + interval '50 minutes';
SELECT is(send_appointment_reminders(), 1, 'the short one');
SELECT is(message->'variables'->>'hours_left' || (message->'variables'->>'is_hour_before'), '1true')
  FROM pgmq.q_email_queue ORDER BY msg_id DESC LIMIT 1;
-- somebody who cannot be written to does not keep the others from their mails, and is told of once
DELETE FROM auth.users WHERE email = 'john@example.test';
INSERT INTO appointments (user_id, specialist_name, starts_at, created_at) SELECT id, 'x', now() + interval '40 minutes',
  now() - interval '9 days' FROM profiles;
DELETE FROM pgmqd.trigger_errors;
SELECT is(send_appointment_reminders(), 1, 'one of two');
SELECT is(send_appointment_reminders(), 0, 'again');
SELECT results_eq('SELECT trigger, sqlstate FROM pgmqd.trigger_errors', $$VALUES ('send_appointment_reminders', 'P0002')$$,
  'the failure is recorded once');

SELECT * FROM finish();
ROLLBACK;
