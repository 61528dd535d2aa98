-- 044_payments.sql: only these changes of a payment are made, whatever comes, and doing one twice changes nothing.
-- database: app
BEGIN;
SELECT plan(24);
CREATE FUNCTION settled(before text, wanted text, alert text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE
  p text := 'd0000000-0000-4000-8000-000000000001';
  changed boolean;
BEGIN
  ALTER TABLE payments DISABLE TRIGGER on_payment_status_change;
  UPDATE payments SET status = before, paid_at = NULL WHERE id::text = p;
  ALTER TABLE payments ENABLE TRIGGER on_payment_status_change;
  changed := pgmqd.settle_payment(p, wanted, 'yookassa', 'x-1', 'y', 0, '2026-11-20T10:05:00.000Z', 'why', alert);
  RETURN (SELECT status || ' ' || changed FROM payments WHERE id::text = p);
END $f$;
SELECT is(settled(b, w), r, b || ' → ' || coalesce(w, 'as it is')) FROM (VALUES
  ('pending', 'completed', 'completed true'), ('pending', 'failed', 'failed true'), ('pending', 'refunded', 'refunded true'),
  ('failed', 'completed', 'completed true'), ('failed', 'failed', 'failed false'), ('failed', 'refunded', 'refunded true'),
  ('completed', 'completed', 'completed false'), ('completed', 'failed', 'completed false'),
  ('completed', 'refunded', 'refunded true'), ('refunded', 'completed', 'refunded false'),
  ('refunded', 'failed', 'refunded false'), ('pending', NULL, 'pending false')) v (b, w, r);
SELECT throws_ok($$SELECT settled('completed', 'pending')$$, '22023', 'settle_payment: there is no way to status "pending"');
DELETE FROM pgmq.q_email_queue;
SELECT is(settled('pending', 'completed'), 'completed true', 'once more');
SELECT is(paid_at, '2026-11-20T10:05:00Z', 'when it was paid') FROM payments WHERE id = 'd0000000-0000-4000-8000-000000000001';
SELECT results_eq($$SELECT message->>'template' FROM pgmq.q_email_queue$$, ARRAY['payment_completed'], 'one mail, of the trigger');
SELECT settled('pending', NULL, 'mismatch'), settled('pending', NULL, 'mismatch');
SELECT results_eq('SELECT kind, message FROM pgmqd.payment_alerts', $$VALUES ('mismatch', 'why')$$, 'the same alert is one row');
SELECT is(count(*), 1::bigint, 'one state for a payment') FROM pgmqd.payment_states;
SELECT pgmqd.settle_payment('d0000000-0000-4000-8000-000000000001', NULL, 'yookassa', 'x', 'y', 500, NULL, NULL, NULL);
SELECT settled('completed', NULL);
SELECT is(refunded_minor, 500::bigint, 'a refund is not forgotten') FROM pgmqd.payment_states;
SELECT results_eq($$SELECT status, amount, currency FROM pgmqd.payment_to_verify('d0000000-0000-4000-8000-000000000002')$$,
  $$VALUES ('pending', '1490.00', 'RUB')$$, 'the payment as the plugin reads it');
SELECT is_empty($$SELECT * FROM pgmqd.payment_to_verify('nonsense')$$, 'no such id');
SELECT is(pgmqd.time_of(v), r::timestamptz, 'the time ' || v) FROM (VALUES ('2026-02-30T10:00:00Z', NULL), ('tomorrow', NULL),
  ('2026-11-20T10:00:00.5Z', '2026-11-20 10:00:00.5+00')) t (v, r);
SELECT * FROM finish();
ROLLBACK;
