-- 044_payments.sql: the functions by which the payment plugin reads and settles a payment.
--
-- It reads the application's payments by the names of pgmqd.application (030), with columns of any type. A new status fires the trigger
-- on_payment_status_change (032), which alone sends mails and confirms appointments.
-- makes: pgmqd.payment_states pgmqd.payment_alerts

SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS pgmqd.payment_states (
  payment_id text PRIMARY KEY,
  provider text NOT NULL,
  provider_payment_id text,
  provider_status text,
  refunded_minor bigint NOT NULL DEFAULT 0,
  reason text,
  checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.payment_states IS 'what the provider said last of each payment; refunded_minor in kopecks, cents';

CREATE TABLE IF NOT EXISTS pgmqd.payment_alerts (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  payment_id text NOT NULL,
  kind text NOT NULL,
  message text NOT NULL,
  solved_at timestamptz,
  UNIQUE (payment_id, kind, message)
);
COMMENT ON TABLE pgmqd.payment_alerts IS 'payments that somebody has to look at; set solved_at when that is done';

-- The payment as the plugin needs it; no row when there is none. amount is exact, as text; age in milliseconds.
CREATE OR REPLACE FUNCTION pgmqd.payment_to_verify(payment_id text)
RETURNS TABLE (status text, amount text, currency text, provider_payment_id text, age_ms bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r jsonb;
BEGIN
  r := pgmqd.app_find('payment', 'id', payment_id);
  IF r IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY SELECT r->>'status', r->>'amount', upper(coalesce(nullif(btrim(r->>'currency'), ''), 'RUB')),
    nullif(btrim(r->>'provider_payment_id'), ''),
    (extract(epoch FROM clock_timestamp() - pgmqd.row_time(r->>'created_at')) * 1000)::bigint;
EXCEPTION WHEN invalid_text_representation THEN
  RETURN; -- an id that cannot be one
END $f$;

-- Moves a payment to new_status, from those states only that this may happen from, and keeps what the provider said.
-- NULL leaves it as it is. Returns whether the row has changed; doing the same again changes nothing.
--   pending → completed, failed, refunded     failed → completed, refunded     completed → refunded
CREATE OR REPLACE FUNCTION pgmqd.settle_payment(payment text, new_status text, by_provider text, id_there text,
  status_there text, refunded bigint, paid_at text, why text, alert text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  allowed text[] := CASE new_status WHEN 'completed' THEN ARRAY['pending', 'failed'] WHEN 'failed' THEN ARRAY['pending']
    WHEN 'refunded' THEN ARRAY['pending', 'failed', 'completed'] END;
  changed integer := 0;
BEGIN
  IF new_status IS NOT NULL AND allowed IS NULL THEN
    RAISE EXCEPTION 'settle_payment: there is no way to status "%"', new_status USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF new_status IS NOT NULL THEN
    changed := pgmqd.app_move('payment', pgmqd.app_is('payment', payment), allowed, new_status, CASE WHEN new_status = 'completed'
      THEN coalesce((SELECT format(', %I = %s', c.name, pgmqd.app_literal('payment', 'paid_at', coalesce(pgmqd.time_of(paid_at), now())))
        FROM pgmqd.app_columns('payment') c WHERE c.field = 'paid_at'), '') ELSE '' END);
  END IF;
  INSERT INTO pgmqd.payment_states AS s (payment_id, provider, provider_payment_id, provider_status, refunded_minor, reason)
  VALUES (payment, by_provider, id_there, status_there, coalesce(refunded, 0), why)
  ON CONFLICT (payment_id) DO UPDATE SET provider = excluded.provider, provider_payment_id = excluded.provider_payment_id,
    provider_status = coalesce(excluded.provider_status, s.provider_status),
    refunded_minor = greatest(excluded.refunded_minor, s.refunded_minor), reason = excluded.reason,
    checked_at = clock_timestamp();
  IF alert IS NOT NULL THEN
    INSERT INTO pgmqd.payment_alerts (payment_id, kind, message) VALUES (payment, alert, coalesce(why, alert))
    ON CONFLICT (payment_id, kind, message) DO UPDATE SET at = clock_timestamp(), solved_at = NULL;
  END IF;
  RETURN changed > 0;
END $f$;

-- A provider has notified us of a payment: the plugin asks the provider at once, and does not believe the notification itself. One on an
-- unknown payment changes nothing. Returns whether the payment is known.
CREATE OR REPLACE FUNCTION pgmqd.payment_notified(queue text, payment text, id_there text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  found text;
  waits boolean;
BEGIN
  BEGIN
    SELECT p->>'id' INTO found FROM pgmqd.app_find('payment', 'id', payment) p WHERE btrim(p->>'provider_payment_id') = id_there;
  EXCEPTION WHEN invalid_text_representation THEN
    NULL; -- an id that cannot be one
  END;
  IF found IS NULL THEN
    found := pgmqd.app_find('payment', 'provider_payment_id', id_there)->>'id';
  END IF;
  IF found IS NULL THEN
    RETURN false;
  END IF;
  IF pgmqd.attached_table(queue) IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, is not attached, or belongs to somebody else', queue USING ERRCODE = 'undefined_table';
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE vt <= clock_timestamp() AND message->>''payment_id'' = %L)',
    pgmqd.attached_table(queue), found) INTO waits;
  IF NOT waits THEN
    PERFORM pgmqd.enqueue(queue, jsonb_build_object('payment_id', found, 'action', 'verify'));
  END IF;
  RETURN true;
END $f$;

-- A time that somebody else wrote; NULL when it is none.
CREATE OR REPLACE FUNCTION pgmqd.time_of(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN CASE WHEN value ~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d' THEN value::timestamptz END;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format OR invalid_text_representation
  OR invalid_parameter_value THEN
  RETURN NULL;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'payment_to_verify', 'settle_payment', 'payment_notified');
END $$;

RESET search_path;
