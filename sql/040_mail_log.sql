-- 040_mail_log.sql: the mail ledger: which mail is being sent, was sent, or may have been sent, so that none goes out twice.
-- makes: pgmqd.mail_log pgmqd.mail_log_secret

SET search_path = pg_catalog, pg_temp;

-- The email plugin writes a row before a mail's first byte goes out (mail_begin) and the outcome after it (mail_sent together with the
-- archive, mail_end else). A message that comes again finds its row. No address is kept: recipient is a keyed hash of it.
CREATE TABLE IF NOT EXISTS pgmqd.mail_log (
  dedupe_key text PRIMARY KEY,
  queue text NOT NULL,
  msg_id bigint NOT NULL,
  template text,
  message_id text NOT NULL,
  recipient text NOT NULL,
  state text NOT NULL CHECK (state IN ('sending', 'sent', 'unknown', 'failed', 'suppressed')),
  attempt integer NOT NULL,
  token text NOT NULL,
  reply text,
  provider text,
  provider_id text,
  first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.mail_log IS 'the mails that went out, or may have; one row for each, with its last attempt';
COMMENT ON COLUMN pgmqd.mail_log.dedupe_key IS 'what makes two mails the same one: queue and message, or queue, key and recipient';
COMMENT ON COLUMN pgmqd.mail_log.recipient IS 'pgmqd.mail_recipient(address)';
COMMENT ON COLUMN pgmqd.mail_log.state IS 'sending: handed over or about to be; sent: the server took it; unknown: it may have; failed: it did not; suppressed: it was not offered';
COMMENT ON COLUMN pgmqd.mail_log.provider IS 'who has it, or was to have it';
COMMENT ON COLUMN pgmqd.mail_log.provider_id IS 'by which the provider knows it';
COMMENT ON COLUMN pgmqd.mail_log.token IS 'of the delivery that holds the row';

-- The secret of the hash: without it no reader of the ledger can try addresses.
CREATE TABLE IF NOT EXISTS pgmqd.mail_log_secret (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  secret bytea NOT NULL
);
INSERT INTO pgmqd.mail_log_secret (secret) VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
ON CONFLICT DO NOTHING;

-- The hash by which mail_log knows a recipient, for questions such as: has this person's mail gone out?
CREATE OR REPLACE FUNCTION pgmqd.mail_recipient(address text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN (SELECT encode(sha256(s.secret || sha256(s.secret || convert_to(lower(btrim(address)), 'UTF8'))), 'hex')
    FROM pgmqd.mail_log_secret s WHERE s.one);
END $f$;

-- Before a mail goes out. Answers: sending (go on), again or "again PROVIDER" (go on, though it may have arrived before, with that
-- provider: no other one may get it), sent (do not: it has arrived), unknown (do not: it may have arrived, and neither is `resend` true,
-- nor is the provider that may have it among the `safe` ones, which know a mail that they get twice within a day), busy (another message
-- is sending the same mail now), "suppressed REASON" (do not: this recipient gets no such mail; table pgmqd.suppression, 042). The delivery that holds the row may ask again for another provider.
-- Without jit: the dispatcher's sessions plan with enable_seqscan = off, whose costs would have one-row statements compiled for 25 ms.
CREATE OR REPLACE FUNCTION pgmqd.mail_begin(key text, token text, queue text, msg_id bigint, template text, message_id text,
  address text, attempt integer, resend boolean, provider text DEFAULT NULL, safe text DEFAULT NULL,
  optional boolean DEFAULT false, unsubscribe_token text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  was pgmqd.mail_log;
  whose text := coalesce(pgmqd.mail_recipient(address), '');
  reason text := pgmqd.mail_suppressed(whose, optional);
BEGIN
  INSERT INTO pgmqd.mail_log (dedupe_key, queue, msg_id, template, message_id, recipient, state, attempt, token, provider)
  VALUES (mail_begin.key, mail_begin.queue, mail_begin.msg_id, mail_begin.template, mail_begin.message_id,
    whose, CASE WHEN reason IS NULL THEN 'sending' ELSE 'suppressed' END, mail_begin.attempt, mail_begin.token,
    mail_begin.provider)
  ON CONFLICT (dedupe_key) DO NOTHING;
  IF FOUND AND reason IS NULL THEN
    IF unsubscribe_token IS NOT NULL THEN
      INSERT INTO pgmqd.unsubscribe_tokens (token, recipient) VALUES (unsubscribe_token, whose) ON CONFLICT DO NOTHING;
    END IF;
    RETURN 'sending';
  ELSIF FOUND THEN
    RETURN 'suppressed ' || reason;
  END IF;
  SELECT * INTO was FROM pgmqd.mail_log l WHERE l.dedupe_key = mail_begin.key FOR UPDATE;
  IF was.state = 'sent' THEN
    RETURN was.state;
  END IF;
  IF reason IS NOT NULL THEN
    UPDATE pgmqd.mail_log l SET state = 'suppressed', changed_at = clock_timestamp() WHERE l.dedupe_key = mail_begin.key AND l.state = 'failed';
    RETURN 'suppressed ' || reason;
  END IF;
  IF unsubscribe_token IS NOT NULL THEN
    INSERT INTO pgmqd.unsubscribe_tokens (token, recipient) VALUES (unsubscribe_token, whose) ON CONFLICT DO NOTHING;
  END IF;
  IF was.state = 'sending' AND was.token = mail_begin.token THEN -- our own row: the answer was lost, or it goes to the next provider
    UPDATE pgmqd.mail_log l SET provider = mail_begin.provider WHERE l.dedupe_key = mail_begin.key AND l.provider IS DISTINCT FROM mail_begin.provider;
    RETURN was.state;
  END IF;
  IF was.state = 'sending' AND was.msg_id <> mail_begin.msg_id AND was.changed_at > clock_timestamp() - interval '2 minutes' THEN
    RETURN 'busy';
  END IF;
  IF was.state NOT IN ('failed', 'suppressed') AND NOT resend AND NOT (coalesce(was.provider = ANY (string_to_array(safe, ',')), false)
      AND was.changed_at > clock_timestamp() - interval '20 hours') THEN
    UPDATE pgmqd.mail_log l SET state = 'unknown', changed_at = clock_timestamp() WHERE l.dedupe_key = mail_begin.key;
    RETURN 'unknown';
  END IF;
  UPDATE pgmqd.mail_log l SET state = 'sending', token = mail_begin.token, queue = mail_begin.queue, msg_id = mail_begin.msg_id,
    template = mail_begin.template, message_id = mail_begin.message_id, attempt = mail_begin.attempt, reply = NULL, provider_id = NULL,
    provider = CASE WHEN was.state IN ('failed', 'suppressed') THEN mail_begin.provider ELSE coalesce(was.provider, mail_begin.provider) END,
    changed_at = clock_timestamp() WHERE l.dedupe_key = mail_begin.key;
  RETURN CASE WHEN was.state IN ('failed', 'suppressed') THEN 'sending' ELSE concat_ws(' ', 'again', was.provider) END;
END $f$;

-- The same for many mails at once, in one commit. Nearly all are new and not suppressed; these get
-- their rows by one statement; the others go one by one. Both in the order of keys, so that no two processes wait for each other. The
-- suppression is looked up by a subquery of one value: a join might walk over the whole table.
CREATE OR REPLACE FUNCTION pgmqd.mail_begin_many(keys text[], tokens text[], msg_ids bigint[], templates text[], message_ids text[],
  addresses text[], attempts integer[], resends boolean[], providers text[], optionals boolean[], unsubscribe_tokens text[], queue text, safe text)
RETURNS TABLE (nth bigint, answer text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  done bigint[];
  m record;
BEGIN
  WITH u AS MATERIALIZED (SELECT *, coalesce(pgmqd.mail_recipient(u.address), '') AS whose
      FROM unnest(keys, tokens, msg_ids, templates, message_ids, addresses, attempts, providers, unsubscribe_tokens) WITH ORDINALITY
        u (key, token, msg_id, template, message_id, address, attempt, provider, unsubscribe, n)),
    w AS (INSERT INTO pgmqd.mail_log AS l (dedupe_key, queue, msg_id, template, message_id, recipient, state, attempt, token, provider)
      SELECT u.key, mail_begin_many.queue, u.msg_id, u.template, u.message_id, u.whose, 'sending', u.attempt, u.token, u.provider FROM u
      WHERE (SELECT 1 FROM pgmqd.suppression s WHERE s.recipient = u.whose LIMIT 1) IS NULL ORDER BY u.key, u.n
      ON CONFLICT (dedupe_key) DO NOTHING RETURNING l.dedupe_key, l.token),
    fresh AS (SELECT u.n, u.unsubscribe, u.whose FROM u JOIN w ON w.dedupe_key = u.key AND w.token = u.token),
    t AS (INSERT INTO pgmqd.unsubscribe_tokens (token, recipient) SELECT f.unsubscribe, f.whose FROM fresh f WHERE f.unsubscribe IS NOT NULL
      ON CONFLICT DO NOTHING)
  SELECT coalesce(array_agg(f.n), '{}') INTO done FROM fresh f;
  RETURN QUERY SELECT d, 'sending'::text FROM unnest(done) d;
  IF cardinality(done) = cardinality(keys) THEN
    RETURN;
  END IF;
  FOR m IN SELECT * FROM unnest(keys, tokens, msg_ids, templates, message_ids, addresses, attempts, resends, providers, optionals,
      unsubscribe_tokens) WITH ORDINALITY u (key, token, msg_id, template, message_id, address, attempt, resend, provider, optional, unsubscribe, n)
    WHERE u.n <> ALL (done) ORDER BY u.key, u.n
  LOOP
    nth := m.n;
    answer := pgmqd.mail_begin(m.key, m.token, queue, m.msg_id, m.template, m.message_id, m.address, m.attempt, m.resend, m.provider, safe,
      m.optional, m.unsubscribe);
    RETURN NEXT;
  END LOOP;
END $f$;

-- How it ended, when it was not sent: unknown or failed. `no_mailbox`: the server refused the recipient for good;
-- pgmqd.names_recipient (042) decides by the enhanced code of the reply ("...: 550 5.1.1 no such user") whether the address exists.
CREATE OR REPLACE FUNCTION pgmqd.mail_end(key text, token text, state text, reply text, no_mailbox boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  whose text;
BEGIN
  UPDATE pgmqd.mail_log l SET state = mail_end.state, reply = mail_end.reply, changed_at = clock_timestamp()
  WHERE l.dedupe_key = mail_end.key AND l.token = mail_end.token AND l.state = 'sending' RETURNING l.recipient INTO whose;
  IF no_mailbox AND whose <> '' AND pgmqd.names_recipient(substring(mail_end.reply FROM '\m5\d\d (5\.\d{1,3}\.\d{1,3})\M')) THEN
    PERFORM pgmqd.suppress_recipient(whose, 'hard_bounce', 'smtp');
  END IF;
END $f$;

-- These were sent. Commits with their messages' archive, so it must not fail whatever happened to the ledger: then they would go out again.
-- Row by row, in the order of keys: each is found by the primary key whatever the planner thinks of the table's size, and no two processes
-- wait for each other.
CREATE OR REPLACE FUNCTION pgmqd.mail_sent(keys text[], tokens text[], replies text[], provider_ids text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $f$
DECLARE
  m record;
BEGIN
  FOR m IN SELECT * FROM unnest(keys, tokens, replies, provider_ids) u (key, token, reply, provider_id) ORDER BY u.key LOOP
    UPDATE pgmqd.mail_log l SET state = 'sent', reply = m.reply, provider_id = m.provider_id, changed_at = clock_timestamp()
    WHERE l.dedupe_key = m.key AND l.token = m.token;
  END LOOP;
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

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'mail_begin', 'mail_begin_many', 'mail_end', 'mail_sent');
END $$;

RESET search_path;
