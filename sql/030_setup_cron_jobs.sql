-- 030_setup_cron_jobs.sql: the application's three schedules, and the functions that read the application's tables.
--
--   update-appointment-statuses   */5 * * * *   scheduled → in_progress → completed
--   cleanup-old-assessments       0 3 * * *     in progress for more than 30 days → abandoned
--   send-appointment-reminders    0 * * * *     a mail 24 hours and another 1 hour before an appointment
-- 026_schedules.sql says who runs them. Each returns the number of rows that it changed or mailed, and does nothing while
-- the application's tables do not exist.
-- makes: pgmqd.reminder_sent pgmqd.trusted_owners

SET search_path = pg_catalog, pg_temp;

-- ---- the application's tables ----

-- The only functions that touch the application's tables. They belong to the role pgmqd_application (034), which may do nothing but read
-- these tables and set a status, and may not even use schema pgmqd: so whatever a trigger, view, policy or cast on such a table runs,
-- it runs with these rights, and not with those of our owner.
CREATE OR REPLACE FUNCTION pgmqd.app_select(query text) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN QUERY EXECUTE query;
  IF pg_catalog.textne(pg_catalog.current_setting('search_path'), 'pg_catalog, pg_temp') THEN
    RAISE EXCEPTION 'search_path was changed by something on the application''s tables';
  END IF;
END $f$;

CREATE OR REPLACE FUNCTION pgmqd.app_execute(statement text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  n bigint;
BEGIN
  EXECUTE statement;
  -- a trigger that sets search_path for good would have our owner call its functions next
  IF pg_catalog.textne(pg_catalog.current_setting('search_path'), 'pg_catalog, pg_temp') THEN
    RAISE EXCEPTION 'search_path was changed by a trigger on the application''s tables';
  END IF;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $f$;

-- A row of one of these tables as JSON, whose casts may be anybody's.
CREATE OR REPLACE FUNCTION pgmqd.app_row(r anyelement) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  result jsonb := to_jsonb(r);
BEGIN
  IF pg_catalog.textne(pg_catalog.current_setting('search_path'), 'pg_catalog, pg_temp') THEN
    RAISE EXCEPTION 'search_path was changed by a cast';
  END IF;
  RETURN result;
END $f$;

-- Whose tables are taken for the application's, beside those of our owner and of the database's owner.
CREATE TABLE IF NOT EXISTS pgmqd.trusted_owners (
  role text PRIMARY KEY
);
COMMENT ON TABLE pgmqd.trusted_owners IS 'roles whose tables in public (and auth.users) are the application''s; add one with INSERT';

-- Whether the three functions above have the rights of pgmqd_application only.
CREATE OR REPLACE FUNCTION pgmqd.app_is_apart() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT coalesce(bool_and(p.proowner = to_regrole('pgmqd_application')), false) FROM pg_proc p
  WHERE p.oid IN ('pgmqd.app_select(text)'::regprocedure, 'pgmqd.app_execute(text)'::regprocedure, 'pgmqd.app_row(anyelement)'::regprocedure)
$f$;

-- Why a table is not used as the application's: NULL when it is, or when there is none. Anybody who may create in public could make one.
CREATE OR REPLACE FUNCTION pgmqd.app_table_problem(name text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT format('%s belongs to role %s, which is not trusted', name, r.rolname)
  FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
  WHERE c.oid = to_regclass(name) AND NOT pgmqd.trusts(c.relowner)
    AND NOT (pgmqd.app_is_apart() AND c.relowner = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()))
    AND NOT EXISTS (SELECT FROM pgmqd.trusted_owners t WHERE t.role = r.rolname)
    -- on Supabase, where nobody else can be called so
    AND NOT (r.rolname = 'supabase_auth_admin' AND EXISTS (SELECT FROM pg_roles s WHERE s.rolname = 'supabase_admin' AND s.rolsuper))
$f$;

-- A table of the application's; NULL when there is none, or when it is not trusted.
CREATE OR REPLACE FUNCTION pgmqd.app_table(name text) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT to_regclass(name) WHERE pgmqd.app_table_problem(name) IS NULL
$f$;

-- ---- their columns, whatever there are ----

-- A column of a table in public as an SQL expression of type timestamptz; NULL when there is no such column.
CREATE OR REPLACE FUNCTION pgmqd.time_column(table_name text, column_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN atttypid = 'timestamp'::regtype
      THEN format('(%I AT TIME ZONE %L)', attname, pgmqd.setting('time_zone'))
    ELSE format('%I::timestamptz', attname) END
  FROM pg_attribute
  WHERE attrelid = pgmqd.app_table(format('public.%I', table_name)) AND attname = column_name AND NOT attisdropped
$f$;

-- When an appointment ends: ends_at, else its start and its duration (an interval, or minutes), else an hour later.
CREATE OR REPLACE FUNCTION pgmqd.appointment_end() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT 'coalesce(' || concat_ws(', ', pgmqd.time_column('appointments', 'ends_at'),
      string_agg(start || CASE WHEN atttypid = 'interval'::regtype THEN ' + ' || quote_ident(attname)
        ELSE ' + make_interval(mins => ' || quote_ident(attname) || '::integer)' END, ', ' ORDER BY attname),
      start || ' + interval ''1 hour''') || ')'
  FROM pgmqd.time_column('appointments', 'starts_at') start LEFT JOIN pg_attribute
    ON attrelid = pgmqd.app_table('public.appointments') AND NOT attisdropped AND attname IN ('duration', 'duration_minutes')
  GROUP BY start
$f$;

-- ---- people, dates and money, as mails show them ----

-- A time out of to_jsonb(row); one that was stored without a zone is meant in the zone of the settings.
CREATE OR REPLACE FUNCTION pgmqd.row_time(value text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN value ~ ':.*(Z|[+-][0-9]{2}(:?[0-9]{2}){0,2})$' THEN value::timestamptz
    ELSE value::timestamp AT TIME ZONE pgmqd.setting('time_zone') END
$f$;

-- "5 мая 2026 г.", "5 May 2026". The months are spelled out here, so that the server's locale plays no part.
CREATE OR REPLACE FUNCTION pgmqd.format_date(at timestamptz, lang text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT extract(day FROM d) || ' ' || (CASE lang
      WHEN 'ru' THEN ARRAY['января', 'февраля', 'марта', 'апреля', 'мая', 'июня', 'июля', 'августа', 'сентября',
        'октября', 'ноября', 'декабря']
      ELSE ARRAY['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
        'November', 'December'] END)[extract(month FROM d)::integer]
    || ' ' || extract(year FROM d) || CASE lang WHEN 'ru' THEN ' г.' ELSE '' END
  FROM (SELECT at AT TIME ZONE pgmqd.setting('time_zone') AS d) here
$f$;

CREATE OR REPLACE FUNCTION pgmqd.format_time(at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT to_char(at AT TIME ZONE pgmqd.setting('time_zone'), 'HH24:MI')
$f$;

-- "1 490,00 ₽" with spaces that do not break, "1,490.00 RUB".
CREATE OR REPLACE FUNCTION pgmqd.format_money(amount numeric, currency text, lang text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE lang WHEN 'ru' THEN translate(n, ',.', E'\u00A0,') || E'\u00A0'
      || CASE code WHEN 'RUB' THEN '₽' WHEN 'EUR' THEN '€' WHEN 'USD' THEN '$' ELSE code END
    ELSE n || ' ' || code END
  FROM (SELECT to_char(amount, 'FM999,999,999,999,990.00') AS n, upper(coalesce(currency, 'RUB')) AS code) m
$f$;

-- An address below app_url; what has to be percent-encoded in a part is.
CREATE OR REPLACE FUNCTION pgmqd.app_link(VARIADIC parts text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT rtrim(pgmqd.setting('app_url'), '/') || string_agg('/' || CASE WHEN part ~ '^[A-Za-z0-9._~-]*$' THEN part
      ELSE regexp_replace(upper(encode(convert_to(part, 'UTF8'), 'hex')), '(..)', '%\1', 'g') END, '' ORDER BY n)
  FROM unnest(parts) WITH ORDINALITY AS p (part, n)
$f$;

-- The address of a person in auth.users; on Supabase nobody can give rights on it, so our owner reads it. No code of others can run by
-- that: it is a plain table of built-in types, and row security that would apply is an error.
CREATE OR REPLACE FUNCTION pgmqd.auth_address(user_id text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $f$
DECLARE
  address text;
BEGIN
  IF (SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
      WHERE c.oid = pgmqd.app_table('auth.users') AND c.relkind IN ('r', 'p') AND a.attname IN ('id', 'email') AND NOT a.attisdropped
        AND t.typnamespace = 'pg_catalog'::regnamespace) = 2 THEN
    EXECUTE format('SELECT nullif(btrim(u.email::text), '''') FROM auth.users u WHERE u.id = %L', user_id) INTO address;
  END IF;
  RETURN address;
END $f$;

-- {email, name, lang} of a person of the application. The address is in profiles, if that has a column for it, or in
-- auth.users. A person without an address is an error.
CREATE OR REPLACE FUNCTION pgmqd.find_person(user_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  profile jsonb;
  address text;
  lang text;
BEGIN
  IF user_id IS NULL THEN
    RAISE EXCEPTION 'the row has no user_id' USING ERRCODE = 'no_data_found';
  END IF;
  -- a literal, not to_jsonb on every row or a cast of the column, so that any type of id finds its index
  IF pgmqd.app_table('public.profiles') IS NOT NULL THEN
    profile := (SELECT p FROM pgmqd.app_select(format('SELECT to_jsonb(p) FROM public.profiles p WHERE p.id = %L', user_id)) p LIMIT 1);
    address := nullif(btrim(profile->>'email'), '');
  END IF;
  IF address IS NULL THEN
    address := pgmqd.auth_address(user_id);
  END IF;
  IF address IS NULL THEN
    RAISE EXCEPTION 'no e-mail address is known of user %', user_id USING ERRCODE = 'no_data_found';
  END IF;
  lang := lower(left(btrim(profile->>'language'), 2));
  RETURN jsonb_build_object('email', address,
    'name', coalesce(nullif(btrim(profile->>'full_name'), ''), nullif(btrim(profile->>'name'), '')),
    'lang', CASE WHEN lang IN ('ru', 'en') THEN lang ELSE pgmqd.setting('default_lang') END);
END $f$;

-- ---- the application's three jobs ----

CREATE OR REPLACE FUNCTION public.update_appointment_statuses() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  starts_at text := pgmqd.time_column('appointments', 'starts_at');
  ends_at text := pgmqd.appointment_end();
BEGIN
  IF starts_at IS NULL THEN
    RETURN 0;
  END IF;
  -- in two steps, so that an appointment that began and ended between two runs is seen in both states, and by the triggers, too
  RETURN pgmqd.app_execute(format('UPDATE public.appointments SET status = ''in_progress'''
      ' WHERE status::text IN (''scheduled'', ''confirmed'') AND %s <= now()', starts_at))
    + pgmqd.app_execute(format('UPDATE public.appointments SET status = ''completed'''
      ' WHERE status::text = ''in_progress'' AND %s <= now()', ends_at));
END $f$;

CREATE OR REPLACE FUNCTION public.cleanup_old_assessments() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  started_at text := coalesce(pgmqd.time_column('assessments', 'started_at'),
    pgmqd.time_column('assessments', 'created_at'));
BEGIN
  IF started_at IS NULL THEN
    RETURN 0;
  END IF;
  RETURN pgmqd.app_execute(format('UPDATE public.assessments SET status = ''abandoned'''
    ' WHERE status::text = ''in_progress'' AND %s < now() - interval ''30 days''', started_at));
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
  FOR due IN
    SELECT a.row, a.at, k.kind FROM
      (SELECT r->'row' AS row, (r->>'at')::timestamptz AS at, (r->>'booked_at')::timestamptz AS booked_at
       FROM pgmqd.app_select(format($q$SELECT jsonb_build_object('row', to_jsonb(a), 'at', %1$s, 'booked_at', %2$s) FROM public.appointments a
         WHERE status::text IN ('scheduled', 'confirmed') AND %1$s > %3$L AND %1$s <= %3$L::timestamptz + interval '24 hours'$q$,
         starts_at, coalesce(created_at, 'NULL::timestamptz'), send_appointment_reminders."at")) r) a,
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
