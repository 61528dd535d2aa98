-- cron.sql: with pg_cron in this database, the jobs are its own.
-- database: cron
BEGIN;
SELECT plan(9);
SELECT results_eq('SELECT jobname::text COLLATE "default", schedule, command, active FROM cron.job ORDER BY 1', $$VALUES
  ('cleanup-old-assessments', '0 3 * * *', 'SELECT public.cleanup_old_assessments()', true),
  ('delete-old-messages', '*/10 * * * *', 'SELECT pgmqd.delete_old()', true),
  ('send-appointment-reminders', '0 * * * *', 'SELECT public.send_appointment_reminders()', true),
  ('update-appointment-statuses', '*/5 * * * *', 'SELECT public.update_appointment_statuses()', true)$$, 'the jobs');
SELECT results_eq('SELECT name, runner FROM pgmqd.schedule ORDER BY 1', $$VALUES ('cleanup-old-assessments', 'pg_cron'),
  ('delete-old-messages', 'pg_cron'),
  ('send-appointment-reminders', 'pg_cron'), ('update-appointment-statuses', 'pg_cron')$$, 'the dispatcher leaves them alone');
CREATE TABLE former AS SELECT jobid FROM cron.job;
SELECT is_empty('SELECT * FROM pgmqd.connect_schedules()', 'connecting again');
SELECT set_eq('SELECT jobid FROM cron.job', 'SELECT jobid FROM former', 'changes nothing');
UPDATE cron.job SET schedule = '*/7 * * * *' WHERE jobname = 'update-appointment-statuses';
SELECT is_empty('SELECT * FROM pgmqd.connect_schedules()', 'another schedule');
SELECT is(s.cron || ' ' || j.schedule, '*/7 * * * * */7 * * * *', 'that somebody set in pg_cron''s table is kept') FROM cron.job j JOIN pgmqd.schedule s ON s.name = j.jobname
  WHERE jobname = 'update-appointment-statuses';
UPDATE cron.job SET username = 'pg_monitor' WHERE jobname = 'update-appointment-statuses';
SELECT results_eq('SELECT item FROM pgmqd.connect_schedules()', ARRAY['schedule update-appointment-statuses'],
  'a job of another role is told');
SELECT is(count(*), 1::bigint, 'and not doubled') FROM cron.job WHERE jobname = 'update-appointment-statuses';
SELECT ok(lives, 'the commands work') FROM (SELECT bool_and(tap.as_role('postgres', command) = 'ok') AS lives FROM cron.job) c;

SELECT * FROM finish();
ROLLBACK;
