-- 030_setup_cron_jobs.sql: the application's three schedules, and the functions that read the application's tables.
--
--   update-appointment-statuses   */5 * * * *   scheduled → in_progress → completed
--   cleanup-old-assessments       0 3 * * *     in progress for more than 30 days → abandoned
--   send-appointment-reminders    0 * * * *     a mail 24 hours and another 1 hour before an appointment
-- 026_schedules.sql says who runs them. Each returns the number of rows that it changed or mailed, and does nothing while
-- the application's tables do not exist. 030_application.sql says what those are called.
-- makes: pgmqd.reminder_sent public.update_appointment_statuses() public.cleanup_old_assessments() public.send_appointment_reminders()

SET search_path = pg_catalog, pg_temp;

-- ---- the application's three jobs ----

CREATE OR REPLACE FUNCTION public.update_appointment_statuses() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  starts_at text := pgmqd.time_column('appointment', 'starts_at');
  ends_at text := pgmqd.appointment_end();
BEGIN
  IF starts_at IS NULL THEN
    RETURN 0;
  END IF;
  -- in two steps, so that an appointment that began and ended between two runs is seen in both states, and by the triggers, too
  IF pgmqd.app_word('appointment', 'in_progress') IS NULL THEN
    RETURN pgmqd.app_move('appointment', format('%s <= now()', ends_at), ARRAY['scheduled', 'confirmed'], 'completed');
  END IF;
  RETURN pgmqd.app_move('appointment', format('%s <= now()', starts_at), ARRAY['scheduled', 'confirmed'], 'in_progress')
    + pgmqd.app_move('appointment', format('%s <= now()', ends_at), ARRAY['in_progress'], 'completed');
END $f$;

CREATE OR REPLACE FUNCTION public.cleanup_old_assessments() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  started_at text := coalesce(pgmqd.time_column('checkup', 'started_at'),
    pgmqd.time_column('checkup', 'created_at'));
BEGIN
  RETURN pgmqd.app_move('checkup', format('%s < now() - interval ''30 days''', started_at), ARRAY['in_progress'], 'abandoned');
END $f$;

-- The reminders that were sent. An appointment that is moved to another time gets new ones; no other appointment gets one twice.
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
--         a person who booked at least 24 hours before it
--   1h    from 1 hour before the start to 20 minutes before it, or sooner when the next call would come after that; not
--         for a person who booked in the last hour: the confirmation has just come
CREATE OR REPLACE FUNCTION public.send_appointment_reminders(period interval DEFAULT '1 hour',
  "at" timestamptz DEFAULT now()) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  starts_at text := pgmqd.time_column('appointment', 'starts_at');
  created_at text := pgmqd.time_column('appointment', 'created_at');
  status text;
  columns text;
  due record;
  who jsonb;
  reminder text;
  sent integer := 0;
BEGIN
  IF starts_at IS NULL THEN
    RETURN 0;
  END IF;
  SELECT string_agg(DISTINCT quote_ident(c.name), ', '), max(quote_ident(c.name)) FILTER (WHERE c.field = 'status') INTO columns, status
  FROM pgmqd.app_columns('appointment') c;
  IF status IS NULL THEN
    RETURN 0;
  END IF;
  FOR due IN
    SELECT a.row, a.at, k.kind FROM
      (SELECT pgmqd.app_canonical('appointment', r->'row') AS row, (r->>'at')::timestamptz AS at, (r->>'booked_at')::timestamptz AS booked_at
       FROM pgmqd.app_select(format($q$SELECT jsonb_build_object('row', to_jsonb(x), 'at', x.pgmqd_at, 'booked_at', x.pgmqd_booked_at)
         FROM (SELECT %s, %s AS pgmqd_at, %s AS pgmqd_booked_at FROM %s WHERE %s::text = ANY (%L::text[])) x
         WHERE x.pgmqd_at > %L AND x.pgmqd_at <= %L::timestamptz + interval '24 hours'$q$,
         columns, starts_at, coalesce(created_at, 'NULL::timestamptz'), pgmqd.app_of('appointment'), status, pgmqd.app_words('appointment', 'scheduled', 'confirmed'),
         send_appointment_reminders."at", send_appointment_reminders."at")) r) a,
      (VALUES ('24h', interval '24 hours', interval '2 hours'),
        ('1h', greatest(interval '1 hour', send_appointment_reminders.period + interval '20 minutes'), interval '20 minutes')) AS k (kind, first, last)
    WHERE a.at <= send_appointment_reminders."at" + k.first AND a.at >= send_appointment_reminders."at" + k.last
      AND (a.booked_at <= a.at - CASE k.kind WHEN '24h' THEN interval '24 hours' ELSE interval '1 hour' END
        -- without the time of booking, the longer reminder goes out near its time or not at all
        OR a.booked_at IS NULL AND (k.kind = '1h' OR a.at >= send_appointment_reminders."at" + interval '22 hours'))
      AND NOT EXISTS (SELECT FROM pgmqd.reminder_sent s
        WHERE s.appointment_id = a.row->>'id' AND s.kind = k.kind AND s.starts_at = a.at)
    ORDER BY a.at
  LOOP
    reminder := format('%s %s %s', due.row->>'id', due.kind, pgmqd.iso_time(due.at));
    BEGIN
      -- of two that run at the same time, the second waits here for the first
      INSERT INTO pgmqd.reminder_sent (appointment_id, kind, starts_at) VALUES (due.row->>'id', due.kind, due.at)
      ON CONFLICT DO NOTHING;
      CONTINUE WHEN NOT FOUND;
      who := pgmqd.row_person(due.row);
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
      -- tried again at the next call, but reported only once
      IF NOT EXISTS (SELECT FROM pgmqd.trigger_errors e WHERE e.trigger = 'send_appointment_reminders'
                     AND e.row_key = reminder) THEN
        PERFORM pgmqd.record_trigger_error('send_appointment_reminders', 'appointments', reminder, SQLSTATE, SQLERRM);
      END IF;
    END;
  END LOOP;
  DELETE FROM pgmqd.reminder_sent s WHERE s.starts_at < "at" - interval '90 days';
  RETURN sent;
END $f$;

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.update_appointment_statuses()', 'public.cleanup_old_assessments()',
    'public.send_appointment_reminders(interval,timestamptz)');
END $$;

DO $$ BEGIN
  PERFORM pgmqd.add_schedule('update-appointment-statuses', '*/5 * * * *', 'SELECT public.update_appointment_statuses()'),
    pgmqd.add_schedule('cleanup-old-assessments', '0 3 * * *', 'SELECT public.cleanup_old_assessments()'),
    pgmqd.add_schedule('send-appointment-reminders', '0 * * * *', 'SELECT public.send_appointment_reminders()');
END $$;

DO $$
DECLARE
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect_schedules() LOOP
    RAISE NOTICE '%: %; %', missing.item, missing.problem, missing.remedy;
  END LOOP;
END $$;

RESET search_path;
