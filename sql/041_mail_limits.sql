-- 041_mail_limits.sql: how fast mails may go out, shared among dispatchers (limit_scope = cluster of the email plugin).
-- makes: pgmqd.mail_limits

SET search_path = pg_catalog, pg_temp;

-- A row for each provider, each limited domain, and each limited recipient (by the keyed hash of the ledger, pgmqd.mail_recipient()); the rates themselves are in the dispatchers' settings. Unlogged: after a crash of the
-- server all buckets are full again, and the day's count begins anew from the mail ledger.
CREATE UNLOGGED TABLE IF NOT EXISTS pgmqd.mail_limits (
  name text PRIMARY KEY,
  tokens double precision NOT NULL,
  filled_at timestamptz NOT NULL,
  factor double precision NOT NULL DEFAULT 1,
  factor_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  halved_at timestamptz NOT NULL DEFAULT '-infinity',
  day date NOT NULL,
  used bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE pgmqd.mail_limits IS 'token buckets of providers, recipients'' domains and recipients, shared among dispatchers';
COMMENT ON COLUMN pgmqd.mail_limits.factor IS 'part of the rate in force: halved when a provider says that it is too fast, a tenth of the full rate back every minute';

-- Takes a token from each bucket, or from none. Returns 0, or the milliseconds until it is worth asking again; negative: the day's cap of
-- the first name (the provider) is reached. A name with an @ is a recipient. A rate or cap of 0 is none. `bulk` mails leave half of each burst and a tenth of each cap.
CREATE OR REPLACE FUNCTION pgmqd.mail_limit_take(names text[], rates double precision[], caps bigint[], bulk boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  now_at timestamptz := clock_timestamp();
  today date := (now_at AT TIME ZONE 'UTC')::date;
  midnight bigint := ceil(extract(epoch FROM ((today + 1)::timestamp AT TIME ZONE 'UTC') - now_at) * 1000);
  wait bigint := 0;
  need double precision;
  cap bigint;
  b record;
BEGIN
  names := ARRAY(SELECT CASE WHEN position('@' IN n) > 0 THEN pgmqd.mail_recipient(n) ELSE n END FROM unnest(names) WITH ORDINALITY u (n, nth) ORDER BY nth);
  INSERT INTO pgmqd.mail_limits (name, tokens, filled_at, day, used)
  SELECT a.name, greatest(a.rate, 2), now_at, today,
    CASE WHEN a.cap > 0 THEN (SELECT count(*) FROM pgmqd.mail_log l WHERE l.provider = a.name AND l.changed_at >= today::timestamp AT TIME ZONE 'UTC')
    ELSE 0 END
  FROM unnest(names, rates, caps) a (name, rate, cap)
  WHERE NOT EXISTS (SELECT FROM pgmqd.mail_limits m WHERE m.name = a.name)
  ORDER BY a.name ON CONFLICT DO NOTHING;
  FOR b IN
    -- in the order of names, so that no two dispatchers wait for each other
    SELECT m.*, a.rate, a.cap, a.nth, greatest(a.rate, 2) AS burst FROM pgmqd.mail_limits m
    JOIN unnest(names, rates, caps) WITH ORDINALITY a (name, rate, cap, nth) ON a.name = m.name ORDER BY m.name FOR UPDATE OF m
  LOOP
    IF b.factor < 1 THEN
      b.factor := least(1, b.factor + 0.1 * greatest(extract(epoch FROM now_at - b.factor_at), 0) / 60);
    END IF;
    b.tokens := least(b.burst, b.tokens + greatest(extract(epoch FROM now_at - b.filled_at), 0) * b.rate * b.factor);
    b.used := CASE b.day WHEN today THEN b.used ELSE 0 END;
    UPDATE pgmqd.mail_limits m SET tokens = b.tokens, filled_at = greatest(m.filled_at, now_at), factor = b.factor, factor_at = greatest(m.factor_at, now_at), day = today, used = b.used
    WHERE m.name = b.name;
    need := CASE WHEN bulk THEN b.burst / 2 + 1 ELSE 1 END;
    cap := CASE WHEN bulk THEN b.cap - b.cap / 10 ELSE b.cap END;
    IF b.cap > 0 AND b.used >= cap THEN
      IF b.nth = 1 THEN
        RETURN -midnight;
      END IF;
      wait := greatest(wait, midnight);
    ELSIF b.rate > 0 AND b.tokens < need THEN
      wait := greatest(wait, ceil((need - b.tokens) / (b.rate * b.factor) * 1000)::bigint);
    END IF;
  END LOOP;
  IF wait = 0 THEN
    UPDATE pgmqd.mail_limits m SET tokens = m.tokens - CASE WHEN a.rate > 0 THEN 1 ELSE 0 END, used = m.used + 1
    FROM unnest(names, rates, caps) a (name, rate, cap) WHERE m.name = a.name;
  END IF;
  RETURN wait;
END $f$;

-- A provider says that it was too fast: half the rate for all dispatchers, once a second at most.
CREATE OR REPLACE FUNCTION pgmqd.mail_limit_halve(provider text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  UPDATE pgmqd.mail_limits m SET factor = greatest(m.factor / 2, 1.0 / 64), factor_at = clock_timestamp(), halved_at = clock_timestamp(),
    tokens = least(m.tokens, 0)
  WHERE m.name = $1 AND m.halved_at < clock_timestamp() - interval '1 second'
$f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'mail_limit_take', 'mail_limit_halve');
END $$;

RESET search_path;
