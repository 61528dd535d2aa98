-- 032_webhook_triggers.sql: the triggers that turn events in the application's tables into messages.
--
--   on_checkup_completed       public.assessments   status becomes completed    report, mail, analytics event
--   on_new_appointment         public.appointments  status becomes scheduled    confirmation mail
--   on_payment_status_change   public.payments      status becomes completed    receipt mail, appointment confirmed
--                                                                  failed       mail
-- A trigger never fails the statement that fired it: each part of its work stands for itself, and the failures of
-- one firing become one row of pgmqd.trigger_errors. This file uses the usual names of tables, columns and statuses; 030_application.sql has the
-- application's own, and 035_connect.sql puts the triggers on its tables. The triggers read a row as JSON, where a column that the table lacks is null.
-- The functions run with the rights of their owner, so that the application's users need none on the queues. They reach the
-- application's tables by pgmqd.app_execute() and its like only, with next to no rights.
-- makes: public.handle_completed_checkup() public.handle_new_appointment() public.handle_payment_status_change()

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
  names jsonb;
  r jsonb;
  failure jsonb;
  failures jsonb;
  who jsonb;
  completed_at timestamptz;
BEGIN
  names := pgmqd.app_names('checkup');
  r := pgmqd.app_canonical('checkup', pgmqd.app_row(NEW), names);
  IF TG_OP = 'UPDATE' AND pgmqd.app_status('checkup', names, pgmqd.app_row(OLD)->>(names->>'status')) IS NOT DISTINCT FROM r->>'status' THEN
    RETURN NULL;
  END IF;
  BEGIN
    IF r ? 'user_id' THEN -- without people of its own the application has no reports of theirs
      PERFORM pgmqd.queue_report(r->>'id', r->>'user_id', 'checkup');
    END IF;
  EXCEPTION WHEN OTHERS THEN
    failures := pgmqd.add_failure(failures, 'report', SQLSTATE, SQLERRM);
  END;
  BEGIN
    who := pgmqd.row_person(r);
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
  failure := jsonb_build_object('state', SQLSTATE, 'message', SQLERRM);
  BEGIN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, NULL, failure->>'state', failure->>'message');
  EXCEPTION WHEN OTHERS THEN -- schema pgmqd itself is damaged
    RAISE WARNING '% on %: % (SQLSTATE %)', TG_NAME, TG_TABLE_NAME, failure->>'message', failure->>'state';
  END;
  RETURN NULL;
END $f$;

-- ---- a new appointment ----

-- The variables of both mails about an appointment; r is its row.
CREATE OR REPLACE FUNCTION pgmqd.appointment_variables(r jsonb, lang text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  starts_at timestamptz := pgmqd.row_time(r->>'starts_at');
BEGIN
  RETURN jsonb_build_object('appointment_id', r->>'id',
    'specialist_name', coalesce(nullif(btrim(r->>'specialist_name'), ''), CASE lang WHEN 'ru' THEN 'ваш специалист' ELSE 'your specialist' END),
    'appointment_date', pgmqd.format_date(starts_at, lang), 'appointment_time', pgmqd.format_time(starts_at),
    'starts_at', pgmqd.iso_time(starts_at), 'location', r->>'location', 'appointment_url', pgmqd.app_link('appointments', r->>'id'));
END $f$;

CREATE OR REPLACE FUNCTION public.handle_new_appointment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb;
  r jsonb;
  failure jsonb;
  who jsonb;
BEGIN
  names := pgmqd.app_names('appointment');
  r := pgmqd.app_canonical('appointment', pgmqd.app_row(NEW), names);
  IF TG_OP = 'UPDATE' AND pgmqd.app_status('appointment', names, pgmqd.app_row(OLD)->>(names->>'status')) IS NOT DISTINCT FROM r->>'status' THEN
    RETURN NULL;
  END IF;
  BEGIN
    who := pgmqd.row_person(r);
    PERFORM pgmqd.mail_person(who, 'appointment_confirmation', pgmqd.appointment_variables(r, who->>'lang'));
  EXCEPTION WHEN OTHERS THEN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, r->>'id', SQLSTATE, 'mail: ' || SQLERRM);
  END;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  failure := jsonb_build_object('state', SQLSTATE, 'message', SQLERRM);
  BEGIN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, NULL, failure->>'state', failure->>'message');
  EXCEPTION WHEN OTHERS THEN -- schema pgmqd itself is damaged
    RAISE WARNING '% on %: % (SQLSTATE %)', TG_NAME, TG_TABLE_NAME, failure->>'message', failure->>'state';
  END;
  RETURN NULL;
END $f$;

-- ---- a payment that went through, or did not ----

CREATE OR REPLACE FUNCTION public.handle_payment_status_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb;
  r jsonb;
  failure jsonb;
  failures jsonb;
  who jsonb;
  variables jsonb;
  paid_at timestamptz;
BEGIN
  names := pgmqd.app_names('payment');
  r := pgmqd.app_canonical('payment', pgmqd.app_row(NEW), names);
  IF TG_OP = 'UPDATE' AND pgmqd.app_status('payment', names, pgmqd.app_row(OLD)->>(names->>'status')) IS NOT DISTINCT FROM r->>'status' THEN
    RETURN NULL;
  END IF;
  BEGIN
    who := pgmqd.row_person(r);
    variables := jsonb_build_object('payment_id', r->>'id', 'description', nullif(btrim(r->>'description'), ''),
      'amount', pgmqd.format_money((r->>'amount')::numeric, r->>'currency', who->>'lang'),
      'amount_value', r->>'amount', 'currency', r->>'currency');
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
      PERFORM pgmqd.app_move('appointment', pgmqd.app_is('appointment', r->>'appointment_id'), ARRAY['pending', 'scheduled'], 'confirmed');
    EXCEPTION WHEN OTHERS THEN
      failures := pgmqd.add_failure(failures, 'appointment', SQLSTATE, SQLERRM);
    END;
  END IF;
  IF failures IS NOT NULL THEN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, r->>'id', failures->>'state', failures->>'message');
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  failure := jsonb_build_object('state', SQLSTATE, 'message', SQLERRM);
  BEGIN
    PERFORM pgmqd.record_trigger_error(TG_NAME, TG_TABLE_NAME, NULL, failure->>'state', failure->>'message');
  EXCEPTION WHEN OTHERS THEN -- schema pgmqd itself is damaged
    RAISE WARNING '% on %: % (SQLSTATE %)', TG_NAME, TG_TABLE_NAME, failure->>'message', failure->>'state';
  END;
  RETURN NULL;
END $f$;

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.handle_completed_checkup()', 'public.handle_new_appointment()',
    'public.handle_payment_status_change()');
END $$;

RESET search_path;
