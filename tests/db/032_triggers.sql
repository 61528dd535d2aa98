-- 032_triggers.sql: what happens in the application's tables becomes messages, once, and never stands in the way.
-- database: app
BEGIN;
SELECT plan(61);
UPDATE pgmqd.settings SET value = CASE name WHEN 'app_url' THEN 'https://app.example.test' ELSE 'support@example.test' END WHERE name IN ('app_url', 'support_email');
CREATE VIEW mails AS SELECT message->>'to' AS "to", message->>'template' AS template, message->'variables' AS v, message AS m
  FROM pgmq.q_email_queue ORDER BY msg_id;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS
  'DELETE FROM pgmq.q_email_queue; DELETE FROM pgmq.q_report_generation_queue; DELETE FROM pgmq.q_analytics_queue;
   DELETE FROM pgmqd.trigger_errors';

SELECT trigger_is('public', t, trigger, 'public', f) FROM (VALUES
  ('assessments', 'on_checkup_completed', 'handle_completed_checkup'),
  ('appointments', 'on_new_appointment', 'handle_new_appointment'),
  ('payments', 'on_payment_status_change', 'handle_payment_status_change')) v (t, trigger, f);
SELECT is_empty('SELECT * FROM pgmqd.connect_application()', 'nothing is missing');

-- ---- a completed check-up ----
UPDATE assessments SET status = 'completed', completed_at = '2026-05-05 11:30Z' WHERE id = 'b0000000-0000-4000-8000-000000000001';
SELECT is(count(*), 1::bigint, 'one mail') FROM mails;
SELECT is("to", 'anna@example.test', 'to the address in auth.users') FROM mails;
SELECT is(template, 'checkup_completed') FROM mails;
SELECT is(m->>'lang', 'ru', 'in the language of the person') FROM mails;
SELECT is(v, '{"customer_name": "Анна Примерова", "lang": "ru", "app_url": "https://app.example.test",
  "support_email": "support@example.test", "assessment_id": "b0000000-0000-4000-8000-000000000001",
  "assessment_type": "comprehensive", "completed_date": "5 мая 2026 г.", "completed_at": "2026-05-05T11:30:00Z",
  "results_url": "https://app.example.test/assessments/b0000000-0000-4000-8000-000000000001"}') FROM mails;
SELECT results_eq('SELECT message FROM pgmq.q_report_generation_queue', $$VALUES ('{"report_type": "checkup",
  "assessment_id": "b0000000-0000-4000-8000-000000000001", "user_id": "a0000000-0000-4000-8000-000000000001"}'::jsonb)$$, 'a report');
SELECT results_eq($$SELECT message->>'event', message->'properties'->>'assessment_id', message->'properties'->'score'
    FROM pgmq.q_analytics_queue$$,
  $$VALUES ('checkup_completed', 'b0000000-0000-4000-8000-000000000001', '68'::jsonb)$$, 'an event');
UPDATE assessments SET score = 90, status = 'completed' WHERE id = 'b0000000-0000-4000-8000-000000000001';
SELECT is(count(*), 1::bigint, 'completed again is no news') FROM mails;
UPDATE assessments SET status = 'abandoned' WHERE id = 'b0000000-0000-4000-8000-000000000002';
SELECT is(count(*), 1::bigint, 'another status is none either') FROM mails;
INSERT INTO assessments (user_id) VALUES ('a0000000-0000-4000-8000-000000000002');
SELECT is(count(*), 1::bigint, 'nor is a new check-up') FROM mails;
INSERT INTO assessments (user_id, status) VALUES ('a0000000-0000-4000-8000-000000000002', 'completed');
SELECT is(m->>'to', 'john@example.test', 'unless it is complete') FROM (SELECT * FROM mails OFFSET 1) further;
SELECT is(v->>'completed_date', pgmqd.format_date(now(), 'en'), 'without a time of completion it is now') FROM (SELECT * FROM mails OFFSET 1) further;
SAVEPOINT before;
UPDATE assessments SET status = 'completed' WHERE id = 'b0000000-0000-4000-8000-000000000002';
SELECT is(count(*), 3::bigint, 'a mail') FROM mails;
ROLLBACK TO before;
SELECT is(count(*), 2::bigint, 'is gone with a rollback') FROM mails;
SELECT is_empty('SELECT * FROM pgmqd.trigger_errors', 'no failures so far');

-- ---- an appointment ----
DO $$ BEGIN PERFORM forget(); END $$;
INSERT INTO appointments (id, user_id, specialist_name, starts_at, location) VALUES
  ('c0000000-0000-4000-8000-000000000009', 'a0000000-0000-4000-8000-000000000002', 'Mary Specimen', '2026-05-05 11:30Z', NULL);
SELECT is(v, '{"customer_name": "John Sample", "lang": "en", "app_url": "https://app.example.test",
  "support_email": "support@example.test", "appointment_id": "c0000000-0000-4000-8000-000000000009",
  "specialist_name": "Mary Specimen", "appointment_date": "5 May 2026", "appointment_time": "14:30",
  "starts_at": "2026-05-05T11:30:00Z",
  "appointment_url": "https://app.example.test/appointments/c0000000-0000-4000-8000-000000000009"}', 'the confirmation') FROM mails;
SELECT is(template, 'appointment_confirmation') FROM mails;
UPDATE appointments SET starts_at = starts_at + interval '1 minute';
UPDATE appointments SET status = 'cancelled' WHERE id = 'c0000000-0000-4000-8000-000000000009';
INSERT INTO appointments (user_id, specialist_name, starts_at, status)
  VALUES ('a0000000-0000-4000-8000-000000000002', 'Mary Specimen', now(), 'pending');
SELECT is(count(*), 1::bigint, 'only one that is scheduled is confirmed') FROM mails;
UPDATE appointments SET status = 'scheduled' WHERE status = 'pending';
SELECT is(count(*), 2::bigint, 'also when it becomes so later') FROM mails;

-- ---- a payment ----
DO $$ BEGIN PERFORM forget(); END $$;
UPDATE payments SET status = 'completed', paid_at = '2026-05-05 11:30Z' WHERE id = 'd0000000-0000-4000-8000-000000000001';
SELECT is(template, 'payment_completed') FROM mails;
SELECT is(v, '{"customer_name": "Анна Примерова", "lang": "ru", "app_url": "https://app.example.test",
  "support_email": "support@example.test", "payment_id": "d0000000-0000-4000-8000-000000000001",
  "amount": "1\u00a0490,00\u00a0₽", "amount_value": "1490.00", "currency": "RUB", "description": "Консультация специалиста",
  "paid_date": "5 мая 2026 г.", "paid_at": "2026-05-05T11:30:00Z",
  "receipt_url": "https://app.example.test/payments/d0000000-0000-4000-8000-000000000001/receipt"}', 'the receipt') FROM mails;
SELECT is(status, 'confirmed', 'its appointment is confirmed') FROM appointments WHERE id = 'c0000000-0000-4000-8000-000000000001';
UPDATE payments SET status = 'failed' WHERE id = 'd0000000-0000-4000-8000-000000000002';
SELECT is(template, 'payment_failed') FROM (SELECT * FROM mails OFFSET 1) further;
SELECT is(v - ARRAY['customer_name', 'lang', 'app_url', 'support_email'], '{"payment_id": "d0000000-0000-4000-8000-000000000002",
  "amount": "1,490.00 RUB", "amount_value": "1490.00", "currency": "RUB", "description": "Consultation",
  "retry_url": "https://app.example.test/payments/d0000000-0000-4000-8000-000000000002/retry"}', 'the failure mail') FROM (SELECT * FROM mails OFFSET 1) further;
SELECT is(status, 'scheduled', 'an unpaid appointment is not confirmed') FROM appointments
  WHERE id = 'c0000000-0000-4000-8000-000000000002';
UPDATE payments SET status = status, description = 'x';
UPDATE payments SET status = 'refunded' WHERE status = 'completed';
SELECT is(count(*), 2::bigint, 'no other change is news') FROM mails;
UPDATE payments SET status = 'pending' WHERE status = 'failed';
UPDATE payments SET status = 'failed' WHERE status = 'pending';
SELECT is(count(*), 3::bigint, 'failing a second time is') FROM mails;
UPDATE pgmqd.settings SET value = NULL WHERE name IN ('app_url', 'support_email');
UPDATE payments SET status = 'pending' WHERE status = 'failed';
UPDATE payments SET status = 'failed' WHERE status = 'pending';
SELECT is(v ?| ARRAY['app_url', 'support_email', 'retry_url'], false, 'what is not set is left to the brand of the dispatcher''s settings')
  FROM (SELECT * FROM mails OFFSET 3) further;
UPDATE appointments SET status = 'cancelled' WHERE id = 'c0000000-0000-4000-8000-000000000002';
UPDATE payments SET status = 'completed' WHERE id = 'd0000000-0000-4000-8000-000000000002';
SELECT is(status, 'cancelled', 'a cancelled appointment stays cancelled') FROM appointments
  WHERE id = 'c0000000-0000-4000-8000-000000000002';
SELECT is_empty('SELECT * FROM pgmqd.trigger_errors', 'no failures so far');

-- ---- people ----
DO $$ BEGIN PERFORM forget(); END $$;
UPDATE profiles SET language = 'en-GB', full_name = ' ' WHERE id = 'a0000000-0000-4000-8000-000000000001';
UPDATE payments SET status = 'failed';
SELECT is(m->>'lang', 'en', 'en-GB is English') FROM mails WHERE "to" = 'anna@example.test';
SELECT ok(NOT v ? 'customer_name', 'a person without a name') FROM mails WHERE "to" = 'anna@example.test';
UPDATE profiles SET language = 'fr';
UPDATE payments SET status = 'completed';
SELECT is(m->>'lang', 'ru', 'other languages become the default one') FROM mails WHERE template = 'payment_completed' LIMIT 1;
ALTER TABLE profiles ADD COLUMN email text;
DO $$ BEGIN PERFORM pgmqd.connect_application(); END $$; -- a new column is used from then on
UPDATE profiles SET email = 'other@example.test' WHERE id = 'a0000000-0000-4000-8000-000000000001';
UPDATE payments SET status = 'failed';
SELECT results_eq($$SELECT "to" FROM mails WHERE template = 'payment_failed' ORDER BY 1 OFFSET 2$$,
  ARRAY['john@example.test', 'other@example.test'], 'an address in profiles is preferred, where there is one');
-- nobody to write to: the rest of the work is done
DO $$ BEGIN PERFORM forget(); END $$;
UPDATE profiles SET email = NULL;
UPDATE auth.users SET email = '' WHERE email = 'anna@example.test';
UPDATE assessments SET status = 'in_progress';
UPDATE assessments SET status = 'completed' WHERE id = 'b0000000-0000-4000-8000-000000000001';
SELECT is(status, 'completed', 'without an address, the update goes through') FROM assessments
  WHERE id = 'b0000000-0000-4000-8000-000000000001';
SELECT results_eq('SELECT trigger, "table", row_key, sqlstate, message FROM pgmqd.trigger_errors', $$VALUES
  ('on_checkup_completed', 'assessments', 'b0000000-0000-4000-8000-000000000001', 'P0002',
   'mail: no e-mail address is known of user a0000000-0000-4000-8000-000000000001')$$, 'it is recorded');
SELECT is(count(*), 1::bigint, 'the report is made') FROM pgmq.q_report_generation_queue;
SELECT is(count(*), 1::bigint, 'and the event counted') FROM pgmq.q_analytics_queue;

-- ---- failures ----
UPDATE auth.users SET email = 'anna@example.test' WHERE email = '';
CREATE FUNCTION break_and_go(damage text, recorded boolean DEFAULT true) RETURNS SETOF text LANGUAGE plpgsql AS $f$
DECLARE
  errors bigint;
BEGIN
  PERFORM forget();
  EXECUTE damage;
  UPDATE assessments SET status = 'in_progress';
  UPDATE payments SET status = 'pending';
  UPDATE assessments SET status = 'completed' WHERE id = 'b0000000-0000-4000-8000-000000000001';
  UPDATE payments SET status = 'completed' WHERE id = 'd0000000-0000-4000-8000-000000000001';
  INSERT INTO appointments (user_id, specialist_name, starts_at)
    VALUES ('a0000000-0000-4000-8000-000000000001', 'x', '2030-01-01');
  RETURN NEXT is((SELECT status FROM assessments WHERE id = 'b0000000-0000-4000-8000-000000000001')
    || (SELECT status FROM payments WHERE id = 'd0000000-0000-4000-8000-000000000001')
    || (SELECT count(*) FROM appointments WHERE starts_at = '2030-01-01'), 'completedcompleted1', damage || ': changes go through');
  IF recorded THEN
    EXECUTE 'SELECT count(*) FROM pgmqd.trigger_errors' INTO errors;
    RETURN NEXT is(errors, 3::bigint, damage || ': is recorded once for each');
  END IF;
  RAISE EXCEPTION 'undo' USING ERRCODE = 'P9999';
EXCEPTION WHEN SQLSTATE 'P9999' THEN
  RETURN;
END $f$;
SET LOCAL client_min_messages = error;
-- what was returned before the exception is returned all the same
SELECT break_and_go('DROP SCHEMA pgmq CASCADE');
SELECT break_and_go('ALTER TABLE pgmq.q_email_queue RENAME TO gone');
SELECT break_and_go('DROP FUNCTION pgmqd.mail_person(jsonb, text, jsonb, text)');
SELECT break_and_go('ALTER TABLE pgmq.q_email_queue ADD CHECK (false) NOT VALID');
SELECT break_and_go('DROP TABLE profiles CASCADE; DROP TABLE auth.users');
SELECT break_and_go('DROP TABLE pgmqd.trigger_errors; DROP SCHEMA pgmq CASCADE', false);
SELECT break_and_go('DROP SCHEMA pgmqd CASCADE; DROP SCHEMA pgmq CASCADE', false);
SELECT break_and_go('DROP FUNCTION pgmqd.record_trigger_error(text, text, text, text, text); DROP SCHEMA pgmq CASCADE',
  false);

-- ---- connecting ----
CREATE TABLE kept AS SELECT oid FROM pg_trigger WHERE tgname IN ('on_checkup_completed', 'on_new_appointment');
SELECT is_empty('SELECT * FROM pgmqd.connect_application()', 'connecting again');
SELECT is(count(*), 2::bigint, 'leaves the triggers alone') FROM kept JOIN pg_trigger USING (oid);
ALTER TABLE appointments DISABLE TRIGGER on_new_appointment;
SELECT results_eq('SELECT item, problem FROM pgmqd.connect_application()',
  $$VALUES ('on_new_appointment', 'trigger on_new_appointment is disabled')$$, 'a disabled trigger is told');
DROP TRIGGER on_new_appointment ON appointments;
SELECT is_empty('SELECT * FROM pgmqd.connect_application()', 'one that is gone');
SELECT has_trigger('public', 'appointments', 'on_new_appointment', 'is made anew');
ALTER TABLE payments RENAME amount TO sum;
SELECT results_eq('SELECT item, problem FROM pgmqd.connect_application()',
  $$VALUES ('on_payment_status_change', 'table public.payments has no column amount')$$, 'a missing column is told');

SELECT * FROM finish();
ROLLBACK;
