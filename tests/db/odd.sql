-- odd.sql: an application with other types and fewer columns than ours.
-- database: odd
BEGIN;
SELECT plan(15);
SELECT is_empty('SELECT * FROM pgmqd.connect_application()', 'all is connected');

INSERT INTO assessments (id, user_id, status) VALUES (1, 1, 'completed');
SELECT results_eq($$SELECT message->>'to', message->>'lang', message->'variables'->>'customer_name' FROM pgmq.q_email_queue$$,
  $$VALUES ('one@example.test', 'ru', 'Вера Образцова')$$, 'a check-up');
SELECT results_eq('SELECT message FROM pgmq.q_report_generation_queue',
  $$VALUES ('{"assessment_id": "1", "user_id": "1", "report_type": "checkup"}'::jsonb)$$, 'its report');
INSERT INTO appointments VALUES (1, 1, 'scheduled', '2026-05-05 14:30', 50);
SELECT results_eq($$SELECT message->'variables'->>'appointment_time', message->'variables'->>'starts_at' FROM pgmq.q_email_queue
    WHERE message->>'template' = 'appointment_confirmation'$$, $$VALUES ('14:30', '2026-05-05T11:30:00Z')$$,
  'a time without a zone is in that of the settings');
INSERT INTO payments VALUES (1, 1, 'completed', 1490, 'EUR', 1);
SELECT is(message->'variables'->>'amount', E'1\u00A0490,00\u00A0€', 'an amount in whole units') FROM pgmq.q_email_queue
  WHERE message->>'template' = 'payment_completed';
SELECT is(status, 'scheduled', 'an appointment that has no status confirmed stays as it is') FROM appointments;
SELECT is_empty('SELECT * FROM pgmqd.trigger_errors', 'and nothing failed');
SELECT lives_ok($$INSERT INTO payments VALUES (2, 2, 'failed', 1, 'EUR', NULL)$$, 'nobody to write to');
SELECT is(count(*), 1::bigint, 'is recorded') FROM pgmqd.trigger_errors;

-- the clock of the application is Moscow's
UPDATE appointments SET starts_at = (now() AT TIME ZONE 'Europe/Moscow') - interval '49 minutes';
SELECT is(update_appointment_statuses(), 1, 'it has begun');
SELECT is(update_appointment_statuses(), 0, 'and is not over');
UPDATE appointments SET starts_at = (now() AT TIME ZONE 'Europe/Moscow') - interval '50 minutes';
SELECT is(update_appointment_statuses(), 1, 'it is over after its own number of minutes');
UPDATE appointments SET status = 'scheduled', starts_at = (now() AT TIME ZONE 'Europe/Moscow') + interval '30 minutes';
SELECT is(send_appointment_reminders(), 1, 'a reminder');
UPDATE assessments SET status = 'in_progress', created_at = now() - interval '31 days';
SELECT is(cleanup_old_assessments(), 1, 'an old check-up');
ALTER TABLE appointments ADD COLUMN duration interval;
DO $$ BEGIN PERFORM pgmqd.connect_application(); END $$;
UPDATE appointments SET status = 'in_progress', duration_minutes = NULL, duration = '2 hours',
  starts_at = (now() AT TIME ZONE 'Europe/Moscow') - interval '119 minutes';
SELECT is(update_appointment_statuses(), 0, 'a duration may be an interval');

SELECT * FROM finish();
ROLLBACK;
