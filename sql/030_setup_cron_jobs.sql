-- 030_setup_cron_jobs.sql: what happens by the clock, and who runs it.
--
--   update-appointment-statuses   */5 * * * *   scheduled → in_progress → completed
--   cleanup-old-assessments       0 3 * * *     in progress for more than 30 days → abandoned
--   send-appointment-reminders    0 * * * *     a mail 24 hours and another 1 hour before an appointment
--   delete-old-messages           */10 * * * *  archives, dead letters and histories that are old enough (025)
-- pg_cron runs them where it can; else they wait in pgmqd.schedule for the dispatcher's own scheduler. Each returns the
-- number of rows that it dealt with, and does nothing while the application's tables do not exist.

-- ---- reading the application's tables, whatever columns they have ----

-- A column of a table in public as an SQL expression of type timestamptz; NULL when there is no such column.
CREATE OR REPLACE FUNCTION pgmqd.time_column(table_name text, column_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN atttypid = 'timestamp'::regtype
      THEN format('(%I AT TIME ZONE %L)', attname, pgmqd.setting('time_zone'))
    ELSE format('%I::timestamptz', attname) END
  FROM pg_attribute
  WHERE attrelid = to_regclass(format('public.%I', table_name)) AND attname = column_name AND NOT attisdropped
$f$;

-- When an appointment ends: ends_at, else its start and its duration (an interval, or minutes), else an hour later.
CREATE OR REPLACE FUNCTION pgmqd.appointment_end() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT 'coalesce(' || concat_ws(', ', pgmqd.time_column('appointments', 'ends_at'),
      string_agg(start || CASE WHEN atttypid = 'interval'::regtype THEN ' + ' || quote_ident(attname)
        ELSE ' + make_interval(mins => ' || quote_ident(attname) || '::integer)' END, ', ' ORDER BY attname),
      start || ' + interval ''1 hour''') || ')'
  FROM pgmqd.time_column('appointments', 'starts_at') start LEFT JOIN pg_attribute
    ON attrelid = to_regclass('public.appointments') AND NOT attisdropped AND attname IN ('duration', 'duration_minutes')
  GROUP BY start
$f$;

-- ---- the application's three jobs ----

CREATE OR REPLACE FUNCTION public.update_appointment_statuses() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  starts_at text := pgmqd.time_column('appointments', 'starts_at');
  ends_at text := pgmqd.appointment_end();
  changed integer := 0;
  n integer;
BEGIN
  IF starts_at IS NULL THEN
    RETURN 0;
  END IF;
  -- in two steps, so that one that began and ended between two runs is seen in both states, and by the triggers, too
  EXECUTE format('UPDATE public.appointments SET status = ''in_progress'''
    ' WHERE status::text IN (''scheduled'', ''confirmed'') AND %s <= now()', starts_at);
  GET DIAGNOSTICS n = ROW_COUNT;
  changed := n;
  EXECUTE format('UPDATE public.appointments SET status = ''completed'''
    ' WHERE status::text = ''in_progress'' AND %s <= now()', ends_at);
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN changed + n;
END $f$;

CREATE OR REPLACE FUNCTION public.cleanup_old_assessments() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  started_at text := coalesce(pgmqd.time_column('assessments', 'started_at'),
    pgmqd.time_column('assessments', 'created_at'));
  changed integer;
BEGIN
  IF started_at IS NULL THEN
    RETURN 0;
  END IF;
  EXECUTE format('UPDATE public.assessments SET status = ''abandoned'''
    ' WHERE status::text = ''in_progress'' AND %s < now() - interval ''30 days''', started_at);
  GET DIAGNOSTICS changed = ROW_COUNT;
  RETURN changed;
END $f$;

-- What was sent. One that is moved to another time is due for new reminders; nothing else is, ever.
CREATE TABLE IF NOT EXISTS pgmqd.reminder_sent (
  appointment_id text,
  kind text CHECK (kind IN ('24h', '1h')),
  starts_at timestamptz,
  sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  msg_id bigint,
  PRIMARY KEY (appointment_id, kind, starts_at)
);
COMMENT ON TABLE pgmqd.reminder_sent IS 'reminders that were put into email_queue';

-- Queues the reminders that are due and were not sent yet; period: the time until the next call; at: the
-- present, for tests.
--   24h   from 24 hours before the start to 2 hours before it, so that it is made up for after a downtime, but only for
--         who booked at least 24 hours before it
--   1h    from 1 hour before the start to 20 minutes before it, or sooner when the next call would come after that; not
--         for who booked in the last hour, and has the confirmation just above it
CREATE OR REPLACE FUNCTION public.send_appointment_reminders(period interval DEFAULT '1 hour',
  "at" timestamptz DEFAULT now()) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  starts_at text := pgmqd.time_column('appointments', 'starts_at');
  created_at text := pgmqd.time_column('appointments', 'created_at');
  due record;
  who jsonb;
  reminder text;
  sent integer := 0;
BEGIN
  IF starts_at IS NULL THEN
    RETURN 0;
  END IF;
  FOR due IN EXECUTE format($q$
    SELECT a.row, a.at, k.kind FROM
      (SELECT to_jsonb(a) AS row, %1$s AS at, %2$s AS booked_at FROM public.appointments a
       WHERE status::text IN ('scheduled', 'confirmed') AND %1$s > $2 AND %1$s <= $2 + interval '24 hours') a,
      (VALUES ('24h', interval '24 hours', interval '2 hours'),
        ('1h', greatest(interval '1 hour', $1 + interval '20 minutes'), interval '20 minutes')) AS k (kind, first, last)
    WHERE a.at <= $2 + k.first AND a.at >= $2 + k.last
      AND (a.booked_at <= a.at - CASE k.kind WHEN '24h' THEN interval '24 hours' ELSE interval '1 hour' END
        -- without the time of booking, the longer reminder goes out near its time or not at all
        OR a.booked_at IS NULL AND (k.kind = '1h' OR a.at >= $2 + interval '22 hours'))
      AND NOT EXISTS (SELECT FROM pgmqd.reminder_sent s
        WHERE s.appointment_id = a.row->>'id' AND s.kind = k.kind AND s.starts_at = a.at)
    ORDER BY a.at $q$, starts_at, coalesce(created_at, 'NULL::timestamptz')) USING period, "at"
  LOOP
    reminder := format('%s %s %s', due.row->>'id', due.kind, pgmqd.iso_time(due.at));
    BEGIN
      -- of two that run at the same time, the second waits here for the first
      INSERT INTO pgmqd.reminder_sent (appointment_id, kind, starts_at) VALUES (due.row->>'id', due.kind, due.at)
      ON CONFLICT DO NOTHING;
      CONTINUE WHEN NOT FOUND;
      who := pgmqd.find_person(due.row->>'user_id');
      UPDATE pgmqd.reminder_sent s SET msg_id = pgmqd.mail_person(who, 'appointment_reminder',
        pgmqd.appointment_variables(due.row, who->>'lang') || jsonb_build_object(
          'hours_left', CASE due.kind WHEN '24h' THEN '24' ELSE '1' END,
          'is_hour_before', due.kind = '1h',
          -- one that is made up for on the day itself must not say "tomorrow"
          'is_day_before', due.kind = '24h' AND (due.at AT TIME ZONE pgmqd.setting('time_zone'))::date
            = ("at" AT TIME ZONE pgmqd.setting('time_zone'))::date + 1),
        'appointment_reminder ' || reminder)
      WHERE s.appointment_id = due.row->>'id' AND s.kind = due.kind AND s.starts_at = due.at;
      sent := sent + 1;
    EXCEPTION WHEN OTHERS THEN
      -- tried again at the next call, but told only once
      IF NOT EXISTS (SELECT FROM pgmqd.trigger_errors e WHERE e.trigger = 'send_appointment_reminders'
                     AND e.row_key = reminder) THEN
        PERFORM pgmqd.record_trigger_error('send_appointment_reminders', 'appointments', reminder, SQLSTATE, SQLERRM);
      END IF;
    END;
  END LOOP;
  DELETE FROM pgmqd.reminder_sent s WHERE s.starts_at < "at" - interval '90 days';
  RETURN sent;
END $f$;

-- ---- who runs them ----

CREATE TABLE IF NOT EXISTS pgmqd.schedule (
  name text PRIMARY KEY,
  cron text NOT NULL,
  command text NOT NULL,
  tz text NOT NULL DEFAULT 'UTC' CHECK (pgmqd.is_time_zone(tz)),
  runner text NOT NULL CHECK (runner IN ('pg_cron', 'pgmqd')),
  enabled boolean NOT NULL DEFAULT true,
  next_due timestamptz,
  last_run timestamptz
);
-- catch_up: what becomes of times that went by while nobody ran: none, only the last, or all. max_late: a time that is
-- further back than this is skipped. taken_over: it is pg_cron's, whose launcher is dead.
ALTER TABLE pgmqd.schedule
  ADD COLUMN IF NOT EXISTS catch_up text NOT NULL DEFAULT 'last' CHECK (catch_up IN ('none', 'last', 'all')),
  ADD COLUMN IF NOT EXISTS max_late interval CHECK (max_late > '0'),
  ADD COLUMN IF NOT EXISTS last_status text,
  ADD COLUMN IF NOT EXISTS last_error text,
  ADD COLUMN IF NOT EXISTS taken_over boolean NOT NULL DEFAULT false;
COMMENT ON TABLE pgmqd.schedule IS 'what runs by the clock; only rows whose runner is pgmqd are the dispatcher''s';

CREATE TABLE IF NOT EXISTS pgmqd.schedule_runs (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name text NOT NULL,
  due timestamptz NOT NULL,
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  status text NOT NULL CHECK (status IN ('ok', 'failed', 'skipped')),
  error text
);
CREATE INDEX IF NOT EXISTS schedule_runs_started_idx ON pgmqd.schedule_runs (started_at);
COMMENT ON TABLE pgmqd.schedule_runs IS 'what the dispatcher''s scheduler has run; pg_cron has its own in cron.job_run_details';

-- Another time or zone needs another next_due; the scheduler finds it.
CREATE OR REPLACE FUNCTION pgmqd.schedule_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF (NEW.cron, NEW.tz) IS DISTINCT FROM (OLD.cron, OLD.tz) OR NEW.enabled AND NOT OLD.enabled THEN
    NEW.next_due := NULL;
  END IF;
  RETURN NEW;
END $f$;
CREATE OR REPLACE TRIGGER schedule_changed BEFORE UPDATE ON pgmqd.schedule
  FOR EACH ROW EXECUTE FUNCTION pgmqd.schedule_changed();

-- Runs what is due under a schedule, once: the claim is a compare-and-set of next_due in the transaction of the work
-- itself, so of any number of dispatchers that come for the same time only one does it. Returns what became of it: ok,
-- failed, skipped, or taken, when somebody else has it. "at" is the present; problem: do not run it, it failed for this.
CREATE OR REPLACE FUNCTION pgmqd.run_schedule(schedule text, due timestamptz, next timestamptz,
  "at" timestamptz DEFAULT clock_timestamp(), problem text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s pgmqd.schedule;
  status text := 'ok';
  error text := problem;
  began timestamptz := clock_timestamp();
BEGIN
  SELECT * INTO s FROM pgmqd.schedule c WHERE c.name = schedule AND c.enabled AND c.runner = 'pgmqd' AND c.next_due = due
  FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 'taken';
  END IF;
  IF problem IS NOT NULL THEN
    status := 'failed';
  ELSIF ("at" - due > CASE s.catch_up WHEN 'none' THEN least(s.max_late, interval '1 minute') ELSE s.max_late END) THEN
    status := 'skipped';
    error := format('%s late', date_trunc('second', "at" - due));
  ELSE
    BEGIN
      EXECUTE s.command;
    EXCEPTION WHEN OTHERS THEN
      status := 'failed';
      error := left(SQLERRM, 2000);
    END;
  END IF;
  UPDATE pgmqd.schedule c SET next_due = next, last_run = "at", last_status = status, last_error = error
  WHERE c.name = schedule;
  INSERT INTO pgmqd.schedule_runs (name, due, started_at, ended_at, status, error)
  VALUES (schedule, due, "at", "at" + (clock_timestamp() - began), status, error);
  RETURN status;
END $f$;

-- Runs the command of a schedule now, beside its times, which stay as they are.
CREATE OR REPLACE FUNCTION pgmqd.run_now(schedule text, OUT status text, OUT error text, OUT ms bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  command text := (SELECT c.command FROM pgmqd.schedule c WHERE c.name = schedule);
  began timestamptz := clock_timestamp();
BEGIN
  IF command IS NULL THEN
    RAISE EXCEPTION 'there is no schedule "%"', schedule
      USING HINT = (SELECT 'There are ' || string_agg(c.name, ', ' ORDER BY c.name) FROM pgmqd.schedule c);
  END IF;
  status := 'ok';
  BEGIN
    EXECUTE command;
  EXCEPTION WHEN OTHERS THEN
    status := 'failed';
    error := left(SQLERRM, 2000);
  END;
  INSERT INTO pgmqd.schedule_runs (name, due, started_at, status, error) VALUES (schedule, began, began, status, error);
  ms := (extract(epoch FROM clock_timestamp() - began) * 1000)::bigint;
END $f$;

-- Whether pg_cron runs jobs here; NULL when this role may not know.
CREATE OR REPLACE FUNCTION pgmqd.pg_cron_lives() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher') THEN true
    WHEN pg_has_role('pg_read_all_stats', 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN false
  END
$f$;

-- Switches a job of pg_cron's on or off, so that it cannot run beside ours.
CREATE OR REPLACE FUNCTION pgmqd.switch_pg_cron(job_name text, wanted boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF to_regclass('cron.job') IS NULL THEN
    RETURN;
  END IF;
  UPDATE cron.job j SET active = wanted
  WHERE j.jobname = job_name AND j.database = current_database() AND j.active IS DISTINCT FROM wanted;
EXCEPTION WHEN insufficient_privilege THEN
  PERFORM cron.alter_job(j.jobid, active := wanted) FROM cron.job j
  WHERE j.jobname = job_name AND j.database = current_database() AND j.active IS DISTINCT FROM wanted;
END $f$;

-- With pg_cron's launcher dead its jobs become ours, from the time on at which each was started last; returns how many.
CREATE OR REPLACE FUNCTION pgmqd.take_over_schedules() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s record;
  ran timestamptz;
  n integer := 0;
BEGIN
  FOR s IN SELECT name FROM pgmqd.schedule WHERE runner = 'pg_cron' FOR UPDATE SKIP LOCKED LOOP
    PERFORM pgmqd.switch_pg_cron(s.name, false);
    IF to_regclass('cron.job_run_details') IS NOT NULL THEN
      SELECT max(d.start_time) INTO ran FROM cron.job_run_details d JOIN cron.job j USING (jobid)
      WHERE j.jobname = s.name AND j.database = current_database();
    END IF;
    UPDATE pgmqd.schedule c SET runner = 'pgmqd', taken_over = true, next_due = NULL, last_run = coalesce(ran, c.last_run)
    WHERE c.name = s.name;
    n := n + 1;
  END LOOP;
  RETURN n;
END $f$;

-- Gives them back; returns how many.
CREATE OR REPLACE FUNCTION pgmqd.give_back_schedules() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s record;
  n integer := 0;
BEGIN
  FOR s IN SELECT name FROM pgmqd.schedule WHERE taken_over AND runner = 'pgmqd' FOR UPDATE SKIP LOCKED LOOP
    UPDATE pgmqd.schedule c SET runner = 'pg_cron', taken_over = false, next_due = NULL WHERE c.name = s.name;
    PERFORM pgmqd.switch_pg_cron(s.name, true);
    n := n + 1;
  END LOOP;
  RETURN n;
END $f$;

-- Why pg_cron cannot run jobs of this database; NULL when it can. Creates the extension where that is all that lacks.
CREATE OR REPLACE FUNCTION pgmqd.pg_cron_problem() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  home text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_cron') THEN
    RETURN 'it is not installed';
  END IF;
  BEGIN
    -- set only where the server loaded pg_cron at its start
    home := current_setting('cron.database_name', true);
    IF home IS NULL THEN
      RETURN 'shared_preload_libraries does not name it';
    END IF;
    IF home <> current_database() THEN
      RETURN format('it keeps its jobs in database %s (cron.database_name)', home);
    END IF;
  EXCEPTION WHEN insufficient_privilege THEN
    NULL; -- what follows shows whether it works
  END;
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
    CREATE EXTENSION pg_cron;
  END IF;
  IF NOT has_schema_privilege('cron', 'USAGE') THEN
    RETURN format('role %s may not use schema cron', current_user);
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLERRM;
END $f$;

-- Gives the jobs to pg_cron, or to the dispatcher; only changes are written. Returns what somebody has to mend.
CREATE OR REPLACE FUNCTION pgmqd.connect_schedules() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  cron_problem text := pgmqd.pg_cron_problem();
  job record;
  known record;
  run_by text;
BEGIN
  FOR job IN SELECT * FROM (VALUES
    ('update-appointment-statuses', '*/5 * * * *', 'SELECT public.update_appointment_statuses()'),
    ('cleanup-old-assessments', '0 3 * * *', 'SELECT public.cleanup_old_assessments()'),
    ('send-appointment-reminders', '0 * * * *', 'SELECT public.send_appointment_reminders()'),
    ('delete-old-messages', '*/10 * * * *', 'SELECT pgmqd.delete_old()'))
    AS j (name, cron, command)
  LOOP
    run_by := CASE WHEN cron_problem IS NULL THEN 'pg_cron' ELSE 'pgmqd' END;
    IF cron_problem IS NULL THEN
      SELECT j.schedule, j.command, j.username INTO known FROM cron.job j
      WHERE j.jobname = job.name AND j.database = current_database() ORDER BY j.username <> current_user LIMIT 1;
      IF known.username <> current_user THEN
        item := 'schedule ' || job.name;
        problem := format('pg_cron has a job of that name already, of role %s; it is left as it is', known.username);
        remedy := format('make sure that its command is %L, or remove it with cron.unschedule()', job.command);
        RETURN NEXT;
      ELSIF (known.schedule, known.command) IS DISTINCT FROM (job.cron, job.command) THEN
        PERFORM cron.schedule(job.name, job.cron, job.command);
      END IF;
    END IF;
    -- what was taken over stays so until it is given back
    INSERT INTO pgmqd.schedule AS s (name, cron, command, runner) VALUES (job.name, job.cron, job.command, run_by)
    ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, command = excluded.command,
      runner = CASE WHEN s.taken_over THEN s.runner ELSE excluded.runner END,
      taken_over = s.taken_over AND excluded.runner = 'pg_cron',
      next_due = CASE WHEN s.cron = excluded.cron THEN s.next_due END
    WHERE (s.cron, s.command) IS DISTINCT FROM (excluded.cron, excluded.command)
      OR s.runner <> excluded.runner AND NOT s.taken_over OR s.taken_over AND excluded.runner <> 'pg_cron';
  END LOOP;
END $f$;

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.update_appointment_statuses()', 'public.cleanup_old_assessments()',
    'public.send_appointment_reminders(interval,timestamptz)');
END $$;

DO $$
DECLARE
  cron_problem text := pgmqd.pg_cron_problem();
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect_schedules() LOOP
    RAISE NOTICE '%: %; %', missing.item, missing.problem, missing.remedy;
  END LOOP;
  IF cron_problem IS NOT NULL THEN
    RAISE NOTICE 'schedules wait for the dispatcher''s own scheduler, since pg_cron cannot run them: %', cron_problem;
  END IF;
END $$;
