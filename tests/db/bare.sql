-- bare.sql: a database without an application: the queues work, and what is missing is told until it comes.
-- database: bare
BEGIN;
SELECT plan(23);

SELECT results_eq('SELECT item, problem FROM pgmqd.connect_application()', $$VALUES
  ('on_checkup_completed', 'table public.assessments does not exist'),
  ('on_new_appointment', 'table public.appointments does not exist'),
  ('on_payment_status_change', 'table public.payments does not exist'),
  ('e-mail addresses', 'neither public.profiles.email nor auth.users exists, so nobody can be written to by a trigger')$$,
  'what is missing');
SELECT is(remedy, 'pgmqd connect finds it under another name; or create it, then SELECT * FROM pgmqd.connect_application(), or pgmqd migrate again', 'and what to do')
  FROM pgmqd.connect_application() LIMIT 1;
SELECT lives_ok($$SELECT queue_email_task('v@example.test', NULL, 'report_ready')$$, 'a mail can be queued');
SELECT is(update_appointment_statuses(), 0, 'nothing to do');
SELECT is(cleanup_old_assessments(), 0, 'nothing to do');
SELECT is(send_appointment_reminders(), 0, 'nothing to do');
SELECT is(count(*), 4::bigint, 'the schedules wait all the same') FROM pgmqd.schedule;

-- the application comes in steps
CREATE TABLE public.assessments (id integer PRIMARY KEY, user_id integer);
SELECT is(problem, 'table public.assessments has no column status') FROM pgmqd.connect_application() LIMIT 1;
ALTER TABLE public.assessments ADD COLUMN status text;
SELECT is(item, 'on_new_appointment', 'check-ups are connected') FROM pgmqd.connect_application() LIMIT 1;
SELECT lives_ok($$INSERT INTO public.assessments VALUES (1, 7, 'completed')$$, 'nobody to write to');
SELECT results_eq('SELECT row_key, message FROM pgmqd.trigger_errors', $$VALUES ('1', 'mail: no e-mail address is known of user 7')$$,
  'is recorded');
SELECT is(count(*), 1::bigint, 'the report is made all the same') FROM pgmq.q_report_generation_queue;
SELECT lives_ok($$INSERT INTO public.assessments VALUES (2, NULL, 'completed')$$, 'no user');
SELECT results_eq('SELECT sqlstate, message FROM pgmqd.trigger_errors ORDER BY id DESC LIMIT 1', $$VALUES ('22023',
  'report: queue_report_generation: "user_id" is missing; mail: the row has no user_id')$$, 'two failures in one record');
CREATE TABLE public.profiles (id integer PRIMARY KEY, email text);
INSERT INTO public.profiles VALUES (7, 'seven@example.test');
DO $$ BEGIN PERFORM pgmqd.connect_application(); END $$; -- which gives the rights on it
SELECT lives_ok($$INSERT INTO public.assessments VALUES (3, 7, 'completed')$$, 'somebody to write to');
SELECT results_eq($$SELECT message->>'to', message->'variables'->>'assessment_id' FROM pgmq.q_email_queue
    WHERE message->>'template' = 'checkup_completed'$$, $$VALUES ('seven@example.test', '3')$$, 'with the columns that there are');
CREATE VIEW public.payments AS SELECT 1 AS id, 1 AS user_id, 'failed' AS status, 1 AS amount;
SELECT is(problem, 'public.payments is no table') FROM pgmqd.connect_application() WHERE item = 'on_payment_status_change';
DROP VIEW public.payments;
CREATE TABLE public.payments (id integer, user_id integer, status text, amount numeric, appointment_id integer);
CREATE TABLE public.appointments (id integer, user_id integer, status text, starts_at timestamptz);
SELECT is_empty('SELECT * FROM pgmqd.connect_application()', 'now all is there');
INSERT INTO public.payments VALUES (1, 7, 'failed', 12.5);
SELECT is(message->'variables'->>'amount', E'12,50\u00A0₽', 'a payment without a currency is in roubles') FROM pgmq.q_email_queue
  WHERE message->>'template' = 'payment_failed';
INSERT INTO public.appointments VALUES (1, 7, 'scheduled', now() + interval '23 hours'), (2, 7, 'scheduled', now() + interval '20 hours');
SELECT is(message->'variables'->>'specialist_name', 'ваш специалист', 'a specialist without a name') FROM pgmq.q_email_queue
  WHERE message->>'template' = 'appointment_confirmation' LIMIT 1;
SELECT is(send_appointment_reminders(), 1, 'without a time of booking, the long reminder goes out near its time only');
UPDATE public.appointments SET starts_at = now() - interval '61 minutes';
SELECT is(update_appointment_statuses(), 4, 'without an end, an appointment takes an hour');
SELECT results_eq('SELECT count(*) FROM pgmqd.trigger_errors', ARRAY[2::bigint], 'no further failures');

SELECT * FROM finish();
ROLLBACK;
