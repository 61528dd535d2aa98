-- 022_mail_log.sql: the mail ledger: which mail is being sent, was sent, or may have been sent, so that none goes out twice.

-- The email plugin writes a row before a mail's first byte goes out (mail_begin) and the outcome after it (mail_sent together with the
-- archive, mail_end else). A message that comes again finds its row. No address is kept: recipient is a keyed hash of it.
CREATE TABLE IF NOT EXISTS pgmqd.mail_log (
  dedupe_key text PRIMARY KEY,
  queue text NOT NULL,
  msg_id bigint NOT NULL,
  template text,
  message_id text NOT NULL,
  recipient text NOT NULL,
  state text NOT NULL CHECK (state IN ('sending', 'sent', 'unknown', 'failed')),
  attempt integer NOT NULL,
  token text NOT NULL,
  reply text,
  first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.mail_log IS 'the mails that went out, or may have; one row for each, with its last attempt';
COMMENT ON COLUMN pgmqd.mail_log.dedupe_key IS 'what makes two mails the same one: queue and message, or queue, key and recipient';
COMMENT ON COLUMN pgmqd.mail_log.recipient IS 'pgmqd.mail_recipient(address)';
COMMENT ON COLUMN pgmqd.mail_log.state IS 'sending: handed over or about to be; sent: the server took it; unknown: it may have; failed: it did not';
COMMENT ON COLUMN pgmqd.mail_log.token IS 'of the delivery that holds the row';

-- The secret of the hash: without it nobody can try addresses.
CREATE TABLE IF NOT EXISTS pgmqd.mail_log_secret (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  secret bytea NOT NULL
);
INSERT INTO pgmqd.mail_log_secret (secret) VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
ON CONFLICT DO NOTHING;

-- What mail_log knows a recipient by, for questions such as: has this person's mail gone out?
CREATE OR REPLACE FUNCTION pgmqd.mail_recipient(address text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN (SELECT encode(sha256(s.secret || sha256(s.secret || convert_to(lower(btrim(address)), 'UTF8'))), 'hex')
    FROM pgmqd.mail_log_secret s WHERE s.one);
END $f$;

-- Before a mail goes out. Answers: sending (go on), again (go on, though it may have arrived before), sent (do not: it has arrived),
-- unknown (do not: it may have arrived, and `resend` is false), busy (another message is sending the same mail now).
-- Without jit: the dispatcher's sessions plan with enable_seqscan = off, whose costs would have one-row statements compiled for 25 ms.
CREATE OR REPLACE FUNCTION pgmqd.mail_begin(key text, token text, queue text, msg_id bigint, template text, message_id text,
  address text, attempt integer, resend boolean) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  was pgmqd.mail_log;
BEGIN
  INSERT INTO pgmqd.mail_log (dedupe_key, queue, msg_id, template, message_id, recipient, state, attempt, token)
  VALUES (mail_begin.key, mail_begin.queue, mail_begin.msg_id, mail_begin.template, mail_begin.message_id,
    coalesce(pgmqd.mail_recipient(address), ''), 'sending', mail_begin.attempt, mail_begin.token)
  ON CONFLICT (dedupe_key) DO NOTHING;
  IF FOUND THEN
    RETURN 'sending';
  END IF;
  SELECT * INTO was FROM pgmqd.mail_log l WHERE l.dedupe_key = mail_begin.key FOR UPDATE;
  IF was.state = 'sent' OR (was.state = 'sending' AND was.token = mail_begin.token) THEN
    RETURN was.state; -- the second: our own row, whose answer was lost
  END IF;
  IF was.state = 'sending' AND was.msg_id <> mail_begin.msg_id AND was.changed_at > clock_timestamp() - interval '2 minutes' THEN
    RETURN 'busy';
  END IF;
  IF was.state <> 'failed' AND NOT resend THEN
    UPDATE pgmqd.mail_log l SET state = 'unknown', changed_at = clock_timestamp() WHERE l.dedupe_key = mail_begin.key;
    RETURN 'unknown';
  END IF;
  UPDATE pgmqd.mail_log l SET state = 'sending', token = mail_begin.token, queue = mail_begin.queue, msg_id = mail_begin.msg_id,
    template = mail_begin.template, message_id = mail_begin.message_id, attempt = mail_begin.attempt, reply = NULL,
    changed_at = clock_timestamp() WHERE l.dedupe_key = mail_begin.key;
  RETURN CASE was.state WHEN 'failed' THEN 'sending' ELSE 'again' END;
END $f$;

-- How it ended, when it was not sent: unknown or failed.
CREATE OR REPLACE FUNCTION pgmqd.mail_end(key text, token text, state text, reply text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  UPDATE pgmqd.mail_log l SET state = $3, reply = $4, changed_at = clock_timestamp()
  WHERE l.dedupe_key = $1 AND l.token = $2 AND l.state = 'sending'
$f$;

-- It was sent. Commits with the message's archive, so it must not fail whatever happened to the ledger: then the mail would go out again.
CREATE OR REPLACE FUNCTION pgmqd.mail_sent(key text, token text, reply text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
BEGIN
  UPDATE pgmqd.mail_log l SET state = 'sent', reply = mail_sent.reply, changed_at = clock_timestamp()
  WHERE l.dedupe_key = mail_sent.key AND l.token = mail_sent.token;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'pgmqd: the mail ledger could not be written: % (SQLSTATE %)', SQLERRM, SQLSTATE;
END $f$;

-- Forgets mails whose state has not changed for so long; returns how many. A message that comes again after that is sent again.
CREATE OR REPLACE FUNCTION pgmqd.trim_mail_log(keep interval DEFAULT '90 days') RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  n bigint;
BEGIN
  DELETE FROM pgmqd.mail_log WHERE changed_at < clock_timestamp() - keep;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $f$;

DO $$ BEGIN PERFORM pgmqd.restrict_functions(); END $$;
