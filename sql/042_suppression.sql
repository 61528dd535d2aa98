-- 042_suppression.sql: addresses that get no mail any more: bounced, complained, unsubscribed; and the events of mail services that say so.
-- makes: pgmqd.suppression pgmqd.mail_recipients pgmqd.bounce_secrets pgmqd.mail_event_tokens pgmqd.unsubscribe_tokens pgmqd.mail_events pgmq.q_mail_events_queue pgmq.a_mail_events_queue pgmq.q_mail_events_queue_dlq

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

-- Whose a mail to several recipients is; mail_log has the first of them. Reports and events must name one of these.
CREATE TABLE IF NOT EXISTS pgmqd.mail_recipients (
  dedupe_key text NOT NULL,
  recipient text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (dedupe_key, recipient)
);
COMMENT ON TABLE pgmqd.mail_recipients IS 'the recipients of mails to several, known as in mail_log';
CREATE INDEX IF NOT EXISTS mail_recipients_at_idx ON pgmqd.mail_recipients (at);

-- The tokens of one-click unsubscriptions. One is made when an optional mail is sent.
CREATE TABLE IF NOT EXISTS pgmqd.unsubscribe_tokens (
  token text PRIMARY KEY,
  recipient text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.unsubscribe_tokens IS 'the opaque tokens inside List-Unsubscribe headers, and whose they are';

-- The events that mail services and bounce mails reported, each once.
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

-- The answers which mean that the address does not exist: the one table of them, for SMTP servers, reports and events. 5.0.0 says nothing, 5.1.8 is the
-- sender's address, 5.7.x is the mail or the sender.
CREATE OR REPLACE FUNCTION pgmqd.names_recipient(status text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT coalesce(status IN ('5.1.1', '5.1.2', '5.1.3', '5.1.6', '5.1.10'), false)
$f$;

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

-- Before a mail to several recipients goes out: writes down whose it is. For each address the reason why it gets no such mail; null: it does.
CREATE OR REPLACE FUNCTION pgmqd.mail_to_several(key text, addresses text[], optional boolean) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
BEGIN
  INSERT INTO pgmqd.mail_recipients (dedupe_key, recipient)
  SELECT mail_to_several.key, pgmqd.mail_recipient(a) FROM unnest(addresses) a ORDER BY 2 ON CONFLICT DO NOTHING;
  RETURN (SELECT array_agg(pgmqd.mail_suppressed(pgmqd.mail_recipient(a), optional) ORDER BY n) FROM unnest(addresses) WITH ORDINALITY u (a, n));
END $f$;

-- A mail went to others, and these recipients were refused: addresses that do not exist get no more.
CREATE OR REPLACE FUNCTION pgmqd.mail_refused(addresses text[], statuses text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.suppress_recipient(pgmqd.mail_recipient(u.address), 'hard_bounce', 'smtp') FROM unnest($1, $2) u (address, status)
  WHERE pgmqd.names_recipient(u.status)
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

-- Records an event of a mail service once (kind: delivered, hard_bounce, soft_bounce, complaint, unsubscribed, other), and acts on it. The key that
-- the mail carried, the service's id or the address says which mail it was. A bounce that the service calls permanent, but whose
-- answer does not name the recipient, is a soft one. Returns whether it is new.
CREATE OR REPLACE FUNCTION pgmqd.record_mail_event(provider text, event_id text, kind text, address text, key text, provider_id text,
  detail text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  mail pgmqd.mail_log;
  whose text;
  status text := substring(record_mail_event.detail FROM '\m5\.\d{1,3}\.\d{1,3}\M');
  taken_for text := CASE WHEN record_mail_event.kind = 'hard_bounce' AND status IS NOT NULL AND NOT pgmqd.names_recipient(status) THEN 'soft_bounce'
    ELSE record_mail_event.kind END;
BEGIN
  SELECT * INTO mail FROM pgmqd.mail_log l WHERE l.dedupe_key = record_mail_event.key;
  IF NOT FOUND AND record_mail_event.provider_id IS NOT NULL THEN
    SELECT * INTO mail FROM pgmqd.mail_log l WHERE l.provider_id = record_mail_event.provider_id LIMIT 1;
  END IF;
  whose := pgmqd.mail_recipient(nullif(btrim(address), ''));
  IF NOT EXISTS (SELECT FROM pgmqd.mail_recipients r WHERE r.dedupe_key = mail.dedupe_key AND r.recipient = whose) THEN
    whose := coalesce(mail.recipient, whose);
  END IF;
  INSERT INTO pgmqd.mail_events (provider, event_id, kind, recipient, dedupe_key, detail, at)
  VALUES (record_mail_event.provider, record_mail_event.event_id, taken_for, whose, mail.dedupe_key, left(record_mail_event.detail, 500),
    coalesce(record_mail_event.at, clock_timestamp())) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF taken_for IN ('hard_bounce', 'complaint', 'unsubscribed') AND whose IS NOT NULL THEN
    PERFORM pgmqd.suppress_recipient(whose, taken_for, record_mail_event.provider);
  END IF;
  RETURN true;
END $f$;

-- The secret of this installation by which bounces are known: a person who has seen a mail knows its key, but not the token of its bounce. It is as
-- long as a block of SHA-256.
CREATE TABLE IF NOT EXISTS pgmqd.bounce_secrets (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  secret text NOT NULL CHECK (secret ~ '^[0-9a-f]{64}$')
);
COMMENT ON TABLE pgmqd.bounce_secrets IS 'the key of the tokens in the senders'' addresses of mails';
INSERT INTO pgmqd.bounce_secrets (secret)
VALUES (encode(sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8')), 'hex')) ON CONFLICT DO NOTHING;

-- For the email plugin, which makes the tokens.
CREATE OR REPLACE FUNCTION pgmqd.bounce_secret() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT b.secret FROM pgmqd.bounce_secrets b WHERE b.one
$f$;

-- The token of the mail with this key, as the plugin makes it: the beginning of the key and of its HMAC-SHA256 by the secret.
CREATE OR REPLACE FUNCTION pgmqd.bounce_token(key text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  inner_pad bytea := convert_to(pgmqd.bounce_secret(), 'UTF8');
  outer_pad bytea := inner_pad;
BEGIN
  FOR i IN 0..63 LOOP
    inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # 54);
    outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # 92);
  END LOOP;
  RETURN left(key, 12) || left(encode(sha256(outer_pad || sha256(inner_pad || convert_to(key, 'UTF8'))), 'hex'), 20);
END $f$;

-- A mail that came back to bounce+TOKEN@.... `status` is what the report says of a recipient, or complaint, or unsubscribed. A mail to several recipients has more than one report: `address` says whose, and must be one of them.
-- Returns what it was taken for.
DROP FUNCTION IF EXISTS pgmqd.record_bounce(text, text, text);
CREATE OR REPLACE FUNCTION pgmqd.record_bounce(token text, status text, detail text, address text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  mail text;
  kind text := CASE WHEN status IN ('complaint', 'unsubscribed') THEN status WHEN pgmqd.names_recipient(status) THEN 'hard_bounce' ELSE 'soft_bounce' END;
  whose text;
  several boolean;
BEGIN
  IF (record_bounce.token ~ '^[0-9a-f]{32}$' AND record_bounce.status ~ '^([245]\.[0-9]{1,3}\.[0-9]{1,3}|complaint|unsubscribed)$') IS NOT true THEN
    RETURN 'unknown';
  END IF;
  SELECT l.dedupe_key INTO mail FROM pgmqd.mail_log l WHERE l.dedupe_key >= left(record_bounce.token, 12)
    AND l.dedupe_key < left(record_bounce.token, 12) || 'g' AND pgmqd.bounce_token(l.dedupe_key) = record_bounce.token;
  IF NOT FOUND THEN
    RETURN 'unknown';
  END IF;
  whose := pgmqd.mail_recipient(nullif(btrim(record_bounce.address), ''));
  several := EXISTS (SELECT FROM pgmqd.mail_recipients r WHERE r.dedupe_key = mail);
  IF several AND NOT EXISTS (SELECT FROM pgmqd.mail_recipients r WHERE r.dedupe_key = mail AND r.recipient = whose) THEN
    RETURN 'unknown';
  END IF;
  PERFORM pgmqd.record_mail_event('bounce', concat_ws(' ', record_bounce.token, status, CASE WHEN several THEN whose END), kind,
    record_bounce.address, mail, NULL, detail, NULL);
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

-- The tokens that a service signs in place of the event itself, as Mailgun does: a person who has seen one signature could send any event with
-- it. So each token goes with the first event that came with it.
CREATE TABLE IF NOT EXISTS pgmqd.mail_event_tokens (
  token text PRIMARY KEY,
  digest bytea NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.mail_event_tokens IS 'signed tokens of mail events of the last day, each with the SHA-256 of the event that it came with';
CREATE INDEX IF NOT EXISTS mail_event_tokens_at_idx ON pgmqd.mail_event_tokens (at);

-- Remembers a token. Returns null when it came with another event before, else whether it is new. A day is longer than any such signature
-- is believed.
CREATE OR REPLACE FUNCTION pgmqd.use_mail_event_token(token text, body text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  made bytea := sha256(convert_to(body, 'UTF8'));
BEGIN
  DELETE FROM pgmqd.mail_event_tokens t WHERE t.at < clock_timestamp() - interval '1 day';
  INSERT INTO pgmqd.mail_event_tokens (token, digest) VALUES (use_mail_event_token.token, made) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    RETURN true;
  END IF;
  RETURN (SELECT CASE WHEN t.digest = made THEN false END FROM pgmqd.mail_event_tokens t WHERE t.token = use_mail_event_token.token);
END $f$;

-- Where the HTTP server puts what mail services send, as it came; the plugin mailevents verifies it. Returns its number, 0 when it is there
-- already, null when its token came with another event before.
DO $$ BEGIN PERFORM pgmqd.create_queue('mail_events_queue'); END $$;
DROP FUNCTION IF EXISTS pgmqd.queue_mail_event(text, text, jsonb, text);
CREATE OR REPLACE FUNCTION pgmqd.queue_mail_event(queue text, provider text, headers jsonb, body text, token text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  fresh boolean := token IS NULL OR pgmqd.use_mail_event_token(provider || ' ' || token, body);
BEGIN
  IF pgmqd.attached_table(queue) IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, is not attached, or belongs to somebody else', queue USING ERRCODE = 'undefined_table';
  END IF;
  IF fresh THEN
    RETURN (SELECT s FROM pgmq.send(queue, jsonb_build_object('provider', provider, 'headers', headers, 'body', body)) s);
  END IF;
  RETURN CASE WHEN NOT fresh THEN 0 END;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'mail_to_several', 'mail_refused', 'record_mail_event', 'queue_mail_event', 'use_mail_event_token', 'unsubscribe', 'bounce_secret');
  PERFORM pgmqd.allow_calls('pgmqd_mailer', 'record_bounce');
END $$;

RESET search_path;
