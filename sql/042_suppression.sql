-- 042_suppression.sql: addresses that get no mail any more: bounced, complained, unsubscribed; and the events of mail services that say so.
-- makes: pgmqd.suppression pgmqd.unsubscribe_tokens pgmqd.mail_events pgmq.q_mail_events_queue pgmq.a_mail_events_queue pgmq.q_mail_events_queue_dlq

SET search_path = pg_catalog, pg_temp;

-- No address is kept: recipient is pgmqd.mail_recipient(address), as in the mail ledger.
CREATE TABLE IF NOT EXISTS pgmqd.suppression (
  recipient text NOT NULL,
  reason text NOT NULL CHECK (reason IN ('hard_bounce', 'complaint', 'unsubscribed', 'manual')),
  until timestamptz,
  source text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (recipient, reason)
);
COMMENT ON TABLE pgmqd.suppression IS 'who gets no mail any more: unsubscribed means optional mails only, the others all';
COMMENT ON COLUMN pgmqd.suppression.until IS 'null: for ever';
COMMENT ON COLUMN pgmqd.suppression.source IS 'who said so: smtp, a mail service, a bounce mail, or a person';

-- What a one-click unsubscription names. Made when an optional mail is sent.
CREATE TABLE IF NOT EXISTS pgmqd.unsubscribe_tokens (
  token text PRIMARY KEY,
  recipient text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.unsubscribe_tokens IS 'the opaque tokens inside List-Unsubscribe headers, and whose they are';

-- What mail services and bounce mails told, each event once.
CREATE TABLE IF NOT EXISTS pgmqd.mail_events (
  provider text NOT NULL,
  event_id text NOT NULL,
  kind text NOT NULL,
  recipient text,
  dedupe_key text,
  detail text,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (provider, event_id)
);
COMMENT ON TABLE pgmqd.mail_events IS 'what became of mails after they were sent: bounces, complaints, deliveries';
CREATE INDEX IF NOT EXISTS mail_events_at_idx ON pgmqd.mail_events (at);
CREATE INDEX IF NOT EXISTS mail_log_provider_id_idx ON pgmqd.mail_log (provider_id) WHERE provider_id IS NOT NULL;

-- Why this recipient gets no such mail; null: it does.
CREATE OR REPLACE FUNCTION pgmqd.mail_suppressed(recipient text, optional boolean) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
BEGIN
  RETURN (SELECT s.reason FROM pgmqd.suppression s WHERE s.recipient = mail_suppressed.recipient
    AND (s.until IS NULL OR s.until > clock_timestamp()) AND (optional OR s.reason <> 'unsubscribed') ORDER BY s.reason LIMIT 1);
END $f$;

-- Writes a reason down. A hard bounce is forgotten after 90 days: mailboxes come back, and servers err.
CREATE OR REPLACE FUNCTION pgmqd.suppress_recipient(recipient text, reason text, source text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  INSERT INTO pgmqd.suppression AS s (recipient, reason, until, source)
  VALUES ($1, $2, CASE $2 WHEN 'hard_bounce' THEN clock_timestamp() + interval '90 days' END, $3)
  ON CONFLICT (recipient, reason) DO UPDATE SET until = excluded.until, source = excluded.source
$f$;

-- For people: no mails to this address from now on; and mails again. Both return whether something changed.
CREATE OR REPLACE FUNCTION pgmqd.suppress(address text, reason text DEFAULT 'manual', until timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  WITH w AS (INSERT INTO pgmqd.suppression AS s (recipient, reason, until, source) VALUES (pgmqd.mail_recipient($1), $2, $3, 'manual')
    ON CONFLICT (recipient, reason) DO UPDATE SET until = excluded.until WHERE s.until IS DISTINCT FROM excluded.until RETURNING 1)
  SELECT EXISTS (SELECT FROM w)
$f$;
CREATE OR REPLACE FUNCTION pgmqd.unsuppress(address text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  WITH w AS (DELETE FROM pgmqd.suppression WHERE recipient = pgmqd.mail_recipient($1) RETURNING 1) SELECT EXISTS (SELECT FROM w)
$f$;

-- What a mail service told (kind: delivered, hard_bounce, soft_bounce, complaint, unsubscribed, other): kept once, and followed. Whose mail it
-- was is known by the key that it carried, or by the service's id, or by the address. Returns whether it is new.
CREATE OR REPLACE FUNCTION pgmqd.record_mail_event(provider text, event_id text, kind text, address text, key text, provider_id text,
  detail text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  mail pgmqd.mail_log;
  whose text;
BEGIN
  SELECT * INTO mail FROM pgmqd.mail_log l WHERE l.dedupe_key = record_mail_event.key;
  IF NOT FOUND AND record_mail_event.provider_id IS NOT NULL THEN
    SELECT * INTO mail FROM pgmqd.mail_log l WHERE l.provider_id = record_mail_event.provider_id LIMIT 1;
  END IF;
  whose := coalesce(mail.recipient, pgmqd.mail_recipient(nullif(btrim(address), '')));
  INSERT INTO pgmqd.mail_events (provider, event_id, kind, recipient, dedupe_key, detail, at)
  VALUES (record_mail_event.provider, record_mail_event.event_id, record_mail_event.kind, whose, mail.dedupe_key, left(record_mail_event.detail, 500),
    coalesce(record_mail_event.at, clock_timestamp())) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF record_mail_event.kind IN ('hard_bounce', 'complaint', 'unsubscribed') AND whose IS NOT NULL THEN
    PERFORM pgmqd.suppress_recipient(whose, record_mail_event.kind, record_mail_event.provider);
  END IF;
  RETURN true;
END $f$;

-- A bounce mail that came back to bounce+TOKEN@...: the token is the first half of the mail's key. Returns what it was taken for.
CREATE OR REPLACE FUNCTION pgmqd.record_bounce(token text, status text, detail text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  mail pgmqd.mail_log;
  kind text := CASE WHEN status LIKE '5.1.%' OR status IN ('5.0.0', '5.2.1', '5.4.4') THEN 'hard_bounce' ELSE 'soft_bounce' END;
BEGIN
  IF record_bounce.token !~ '^[0-9a-f]{32}$' THEN
    RETURN 'unknown';
  END IF;
  SELECT * INTO mail FROM pgmqd.mail_log l WHERE l.dedupe_key >= record_bounce.token
    AND l.dedupe_key < record_bounce.token || 'g' LIMIT 1;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  PERFORM pgmqd.record_mail_event('bounce', record_bounce.token || ' ' || status, kind, NULL, mail.dedupe_key, NULL, detail, NULL);
  RETURN kind;
END $f$;

-- Somebody follows a List-Unsubscribe link. Returns whether the token is one of ours.
CREATE OR REPLACE FUNCTION pgmqd.unsubscribe(token text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  whose text;
BEGIN
  SELECT t.recipient INTO whose FROM pgmqd.unsubscribe_tokens t WHERE t.token = unsubscribe.token;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM pgmqd.suppress_recipient(whose, 'unsubscribed', 'list-unsubscribe');
  RETURN true;
END $f$;

-- Where the HTTP server puts what mail services send, as it came; the plugin mailevents verifies it.
DO $$ BEGIN PERFORM pgmqd.create_queue('mail_events_queue'); END $$;
CREATE OR REPLACE FUNCTION pgmqd.queue_mail_event(queue text, provider text, headers jsonb, body text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmq.send($1, jsonb_build_object('provider', $2, 'headers', $3, 'body', $4))
$f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'record_mail_event', 'queue_mail_event', 'unsubscribe');
  PERFORM pgmqd.allow_calls('pgmqd_mailer', 'record_bounce');
END $$;

RESET search_path;
