-- 030_setup_cron_jobs.sql: the three things that happen by the clock, and who runs them.
--
--   update-appointment-statuses   */5 * * * *   scheduled → in_progress → completed
--   cleanup-old-assessments       0 3 * * *     in progress for more than 30 days → abandoned
--   send-appointment-reminders    0 * * * *     a mail 24 hours and another 1 hour before an appointment
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

-- ---- the three jobs ----

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

-- Queues the reminders that are due and were not sent yet; period: the time until the next call.
--   24h   from 24 hours before the start to 2 hours before it, so that it is made up for after a downtime, but only for
--         who booked at least 24 hours before it
--   1h    from 1 hour before the start to 20 minutes before it, or sooner when the next call would come after that; not
--         for who booked in the last hour, and has the confirmation just above it
CREATE OR REPLACE FUNCTION public.send_appointment_reminders(period interval DEFAULT '1 hour') RETURNS integer
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
       WHERE status::text IN ('scheduled', 'confirmed') AND %1$s > now() AND %1$s <= now() + interval '24 hours') a,
      (VALUES ('24h', interval '24 hours', interval '2 hours'),
        ('1h', greatest(interval '1 hour', $1 + interval '20 minutes'), interval '20 minutes')) AS k (kind, first, last)
    WHERE a.at <= now() + k.first AND a.at >= now() + k.last
      AND (a.booked_at <= a.at - CASE k.kind WHEN '24h' THEN interval '24 hours' ELSE interval '1 hour' END
        -- without the time of booking, the longer reminder goes out near its time or not at all
        OR a.booked_at IS NULL AND (k.kind = '1h' OR a.at >= now() + interval '22 hours'))
      AND NOT EXISTS (SELECT FROM pgmqd.reminder_sent s
        WHERE s.appointment_id = a.row->>'id' AND s.kind = k.kind AND s.starts_at = a.at)
    ORDER BY a.at $q$, starts_at, coalesce(created_at, 'NULL::timestamptz')) USING period
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
            = (now() AT TIME ZONE pgmqd.setting('time_zone'))::date + 1),
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
  DELETE FROM pgmqd.reminder_sent s WHERE s.starts_at < now() - interval '90 days';
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
COMMENT ON TABLE pgmqd.schedule IS 'what runs by the clock; only rows whose runner is pgmqd are the dispatcher''s';

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

-- Gives the three jobs to pg_cron, or to the dispatcher; only changes are written. Returns what somebody has to mend.
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
    ('send-appointment-reminders', '0 * * * *', 'SELECT public.send_appointment_reminders()'))
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
    INSERT INTO pgmqd.schedule AS s (name, cron, command, runner) VALUES (job.name, job.cron, job.command, run_by)
    ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, command = excluded.command, runner = excluded.runner,
      next_due = CASE WHEN s.cron = excluded.cron THEN s.next_due END
    WHERE (s.cron, s.command, s.runner) IS DISTINCT FROM (excluded.cron, excluded.command, excluded.runner);
  END LOOP;
END $f$;

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.update_appointment_statuses()', 'public.cleanup_old_assessments()',
    'public.send_appointment_reminders(interval)');
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
