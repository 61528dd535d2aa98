-- 032_webhook_triggers.sql: what happens in the application's tables becomes messages.
--
--   on_checkup_completed       public.assessments   status becomes completed    report, mail, analytics event
--   on_new_appointment         public.appointments  status becomes scheduled    confirmation mail
--   on_payment_status_change   public.payments      status becomes completed    receipt mail, appointment confirmed
--                                                                  failed       mail
-- A trigger never fails the statement that fired it: each part of its work stands for itself, and what went wrong is
-- one row of pgmqd.trigger_errors for the firing. Columns that an application may lack are looked up by name in the row.
-- The functions run with the rights of their owner, so that the application's users need none on the queues; what they do to the
-- application's tables they do by pgmqd.app_execute() and its like (030), with next to none.

SET search_path = pg_catalog, pg_temp;

-- Adds a failure to those of one firing of a trigger: {state, message}.
CREATE OR REPLACE FUNCTION pgmqd.add_failure(failures jsonb, part text, state text, message text) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_build_object('state', coalesce(failures->>'state', state),
    'message', concat_ws('; ', failures->>'message', part || ': ' || message))
$f$;

-- ---- a completed check-up ----

CREATE OR REPLACE FUNCTION public.handle_completed_checkup() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r jsonb;
  failures jsonb;
  who jsonb;
  completed_at timestamptz;
BEGIN
  r := pgmqd.app_row(NEW);
  IF TG_OP = 'UPDATE' AND pgmqd.app_row(OLD)->>'status' IS NOT DISTINCT FROM r->>'status' THEN
    RETURN NULL;
  END IF;
  BEGIN
    PERFORM pgmqd.queue_report(r->>'id', r->>'user_id', 'checkup');
  EXCEPTION WHEN OTHERS THEN
    failures := pgmqd.add_failure(failures, 'report', SQLSTATE, SQLERRM);
  END;
  BEGIN
    who := pgmqd.find_person(r->>'user_id');
    completed_at := coalesce(pgmqd.row_time(r->>'completed_at'), now());
    PERFORM pgmqd.mail_person(who, 'checkup_completed', jsonb_build_object(
      'assessment_id', r->>'id', 'assessment_type', r->>'type',
      'completed_date', pgmqd.format_date(completed_at, who->>'lang'), 'completed_at', pgmqd.iso_time(completed_at),
      'results_url', pgmqd.app_link('assessments', r->>'id')));
  EXCEPTION WHEN OTHERS THEN
    failures := pgmqd.add_failure(failures, 'mail', SQLSTATE, SQLERRM);
  END;
  BEGIN
    PERFORM pgmqd.queue_event('checkup_completed', jsonb_strip_nulls(jsonb_build_object('assessment_id', r->>'id',
      'user_id', r->>'user_id', 'assessment_type', r->>'type', 'score', r->'score')));
  EXCEPTION WHEN OTHERS THEN
    failures := pgmqd.add_failure(failures, 'analytics', SQLSTATE, SQLERRM);
  END;
  IF failures IS NOT NULL THEN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, r->>'id', failures->>'state', failures->>'message');
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  -- only when schema pgmqd itself is damaged
  RAISE WARNING '% on %: % (SQLSTATE %)', TG_NAME, TG_TABLE_NAME, SQLERRM, SQLSTATE;
  RETURN NULL;
END $f$;

-- ---- a new appointment ----

-- The variables of both mails about an appointment; r is its row.
CREATE OR REPLACE FUNCTION pgmqd.appointment_variables(r jsonb, lang text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_build_object('appointment_id', r->>'id',
    'specialist_name', coalesce(nullif(btrim(r->>'specialist_name'), ''),
      CASE lang WHEN 'ru' THEN 'ваш специалист' ELSE 'your specialist' END),
    'appointment_date', pgmqd.format_date(at, lang), 'appointment_time', pgmqd.format_time(at),
    'starts_at', pgmqd.iso_time(at), 'location', r->>'location',
    'appointment_url', pgmqd.app_link('appointments', r->>'id'))
  FROM pgmqd.row_time(r->>'starts_at') at
$f$;

CREATE OR REPLACE FUNCTION public.handle_new_appointment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r jsonb;
  who jsonb;
BEGIN
  r := pgmqd.app_row(NEW);
  IF TG_OP = 'UPDATE' AND pgmqd.app_row(OLD)->>'status' IS NOT DISTINCT FROM r->>'status' THEN
    RETURN NULL;
  END IF;
  BEGIN
    who := pgmqd.find_person(r->>'user_id');
    PERFORM pgmqd.mail_person(who, 'appointment_confirmation', pgmqd.appointment_variables(r, who->>'lang'));
  EXCEPTION WHEN OTHERS THEN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, r->>'id', SQLSTATE, 'mail: ' || SQLERRM);
  END;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING '% on %: % (SQLSTATE %)', TG_NAME, TG_TABLE_NAME, SQLERRM, SQLSTATE;
  RETURN NULL;
END $f$;

-- ---- a payment that went through, or did not ----

CREATE OR REPLACE FUNCTION public.handle_payment_status_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r jsonb;
  failures jsonb;
  who jsonb;
  variables jsonb;
  paid_at timestamptz;
BEGIN
  r := pgmqd.app_row(NEW);
  IF TG_OP = 'UPDATE' AND pgmqd.app_row(OLD)->>'status' IS NOT DISTINCT FROM r->>'status' THEN
    RETURN NULL;
  END IF;
  BEGIN
    who := pgmqd.find_person(r->>'user_id');
    variables := jsonb_build_object('payment_id', r->>'id', 'description', nullif(btrim(r->>'description'), ''),
      'amount', pgmqd.format_money((r->>'amount')::numeric, r->>'currency', who->>'lang'),
      'amount_value', r->>'amount', 'currency', upper(coalesce(r->>'currency', 'RUB')));
    IF r->>'status' = 'completed' THEN
      paid_at := coalesce(pgmqd.row_time(r->>'paid_at'), now());
      PERFORM pgmqd.mail_person(who, 'payment_completed', variables || jsonb_build_object(
        'paid_date', pgmqd.format_date(paid_at, who->>'lang'), 'paid_at', pgmqd.iso_time(paid_at),
        'receipt_url', pgmqd.app_link('payments', r->>'id', 'receipt')));
    ELSE
      PERFORM pgmqd.mail_person(who, 'payment_failed', variables || jsonb_build_object(
        'retry_url', pgmqd.app_link('payments', r->>'id', 'retry')));
    END IF;
  EXCEPTION WHEN OTHERS THEN
    failures := pgmqd.add_failure(failures, 'mail', SQLSTATE, SQLERRM);
  END;
  IF r->>'status' = 'completed' AND r->>'appointment_id' IS NOT NULL THEN
    BEGIN
      -- one that was cancelled, or is over, stays as it is
      IF pgmqd.app_table('public.appointments') IS NOT NULL THEN
        PERFORM pgmqd.app_execute(format('UPDATE public.appointments SET status = %L WHERE id = %L AND status::text IN (%L, %L)',
          'confirmed', r->>'appointment_id', 'pending', 'scheduled'));
      END IF;
    EXCEPTION WHEN OTHERS THEN
      failures := pgmqd.add_failure(failures, 'appointment', SQLSTATE, SQLERRM);
    END;
  END IF;
  IF failures IS NOT NULL THEN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, r->>'id', failures->>'state', failures->>'message');
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING '% on %: % (SQLSTATE %)', TG_NAME, TG_TABLE_NAME, SQLERRM, SQLSTATE;
  RETURN NULL;
END $f$;

-- ---- the connection to the application's tables ----

-- Installs one trigger, unless it is there in this form already. Returns what is missing for it, or NULL.
CREATE OR REPLACE FUNCTION pgmqd.connect_trigger(trigger_name text, table_name text, function_name text,
  statuses text[], columns text[]) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  form CONSTANT text := 'pgmqd: form 1';
  target regclass := to_regclass(format('public.%I', table_name));
  lacking text;
  state record;
BEGIN
  IF target IS NULL THEN
    RETURN format('table public.%I does not exist', table_name);
  END IF;
  IF pgmqd.app_table(format('public.%I', table_name)) IS NULL THEN
    RETURN pgmqd.app_table_problem(format('public.%I', table_name));
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = target) THEN
    RETURN format('public.%I is no table', table_name);
  END IF;
  SELECT string_agg(c, ', ') INTO lacking FROM unnest(columns) c
  WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = target AND attname = c AND NOT attisdropped);
  IF lacking IS NOT NULL THEN
    RETURN format('table public.%I has no column %s', table_name, lacking);
  END IF;
  SELECT t.tgenabled, obj_description(t.oid, 'pg_trigger') AS form, p.proname INTO state
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = target AND t.tgname = trigger_name;
  IF state.tgenabled = 'D' THEN
    RETURN format('trigger %I is disabled', trigger_name);
  END IF;
  IF state.form IS DISTINCT FROM form OR state.proname <> function_name THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW'
      ' WHEN (NEW.status::text = ANY (%L::text[])) EXECUTE FUNCTION public.%I()',
      trigger_name, target, statuses, function_name);
    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', trigger_name, target, form);
  END IF;
  RETURN NULL;
EXCEPTION WHEN insufficient_privilege OR lock_not_available OR deadlock_detected THEN
  IF SQLSTATE <> '42501' AND current_setting('pgmqd.migrating', true) = 'on' THEN
    RAISE; -- pgmqd migrate tries it all again
  END IF;
  RETURN SQLERRM;
END $f$;

-- Connects pgmqd with as much of the application as is there, and returns one row for each thing that is missing. It
-- may be called at any time, and changes only what has to change.
CREATE OR REPLACE FUNCTION pgmqd.connect_application() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  again CONSTANT text := 'SELECT * FROM pgmqd.connect_application(), or pgmqd migrate again';
BEGIN
  FOR item, problem IN
    SELECT t.name, pgmqd.connect_trigger(t.name, t.tab, t.func, t.statuses, ARRAY['id', 'user_id', 'status'] || t.more)
    FROM (VALUES
      ('on_checkup_completed', 'assessments', 'handle_completed_checkup', ARRAY['completed'], '{}'::text[]),
      ('on_new_appointment', 'appointments', 'handle_new_appointment', ARRAY['scheduled'], ARRAY['starts_at']),
      ('on_payment_status_change', 'payments', 'handle_payment_status_change', ARRAY['completed', 'failed'],
        ARRAY['amount']))
      AS t (name, tab, func, statuses, more)
  LOOP
    CONTINUE WHEN problem IS NULL;
    remedy := CASE
      WHEN problem LIKE '%is disabled' THEN 'enable it with ALTER TABLE … ENABLE TRIGGER, unless that is meant'
      WHEN problem ~ 'not trusted' THEN 'if that role is the application: INSERT INTO pgmqd.trusted_owners VALUES (''ROLE''), then ' || again
      WHEN problem ~ 'does not exist|no column|no table' THEN 'create it, then ' || again
      ELSE 'run ' || again || ', as a role that owns the table, when it is free' END;
    RETURN NEXT;
  END LOOP;

  item := 'e-mail addresses';
  IF pgmqd.app_table('auth.users') IS NULL AND NOT EXISTS (SELECT FROM pg_attribute
      WHERE attrelid = pgmqd.app_table('public.profiles') AND attname = 'email' AND NOT attisdropped) THEN
    problem := 'neither public.profiles.email nor auth.users exists, so nobody can be written to by a trigger';
    remedy := 'create one of them';
    RETURN NEXT;
  ELSIF to_regclass('public.profiles') IS NULL THEN
    item := 'names and languages';
    problem := 'table public.profiles does not exist';
    remedy := 'create it with id, full_name and language; until then mails have no name and the default language';
    RETURN NEXT;
  END IF;

  FOR problem IN SELECT p FROM unnest(ARRAY['public.profiles', 'auth.users']) t, pgmqd.app_table_problem(t) p WHERE p IS NOT NULL LOOP
    item := 'people';
    remedy := 'if that role is the application: INSERT INTO pgmqd.trusted_owners VALUES (''ROLE''), then ' || again;
    RETURN NEXT;
  END LOOP;

  RETURN QUERY SELECT * FROM pgmqd.connect_schedules();
  RETURN QUERY SELECT * FROM pgmqd.connect_roles();
  IF to_regprocedure('pgmqd.connect_application_role()') IS NOT NULL THEN -- 034
    RETURN QUERY SELECT * FROM pgmqd.connect_application_role();
  END IF;
END $f$;

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.handle_completed_checkup()', 'public.handle_new_appointment()',
    'public.handle_payment_status_change()');
END $$;

-- pgmqd migrate tells it by itself at its end.
DO $$
DECLARE
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect_application() LOOP
    IF current_setting('pgmqd.migrating', true) IS DISTINCT FROM 'on' THEN
      RAISE NOTICE 'not connected: %: %; %', missing.item, missing.problem, missing.remedy;
    END IF;
  END LOOP;
END $$;

RESET search_path;
