-- 020_pgmqd.sql: schema pgmqd: settings, wake-ups, enqueue, dead letters, and what triggers could not do.

CREATE SCHEMA IF NOT EXISTS pgmqd;
COMMENT ON SCHEMA pgmqd IS 'pgmqd, the dispatcher of the queues in schema pgmq';

-- ---- what was applied (written by pgmqd migrate, which makes this table, too) ----

CREATE TABLE IF NOT EXISTS pgmqd.schema_version (
  file text PRIMARY KEY,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.schema_version IS 'files of sql/ that pgmqd migrate has applied, with the SHA-256 of each';

-- ---- privileges ----

-- Those who get rights by default and must have none here, as a list for REVOKE; Supabase has the last two.
CREATE OR REPLACE FUNCTION pgmqd.strangers() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT string_agg(name, ', ') FROM (SELECT 'PUBLIC' AS name UNION ALL
    SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')) r
$f$;

-- Takes EXECUTE on every function of schema pgmqd, and on the given ones elsewhere, from everybody but the owner;
-- Supabase grants it to anon and authenticated by default. The given ones stay open to service_role where there is one.
CREATE OR REPLACE FUNCTION pgmqd.restrict_functions(VARIADIC functions regprocedure[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  who text := pgmqd.strangers();
  f regprocedure;
BEGIN
  EXECUTE format('REVOKE ALL ON SCHEMA pgmqd FROM %s', who);
  EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA pgmqd FROM %s', who);
  EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgmqd FROM %s', who);
  EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgmqd FROM %s', who);
  FOREACH f IN ARRAY functions LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', f, who);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO service_role', f);
    END IF;
  END LOOP;
END $f$;

-- ---- settings ----

CREATE OR REPLACE FUNCTION pgmqd.is_time_zone(name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM now() AT TIME ZONE name;
  RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN false;
END $f$;

CREATE TABLE IF NOT EXISTS pgmqd.settings (
  name text PRIMARY KEY,
  value text,
  default_value text NOT NULL,
  description text NOT NULL,
  CONSTRAINT time_zone_exists CHECK (name <> 'time_zone' OR value IS NULL OR pgmqd.is_time_zone(value)),
  CONSTRAINT language_has_templates CHECK (name <> 'default_lang' OR value IN ('ru', 'en'))
);
COMMENT ON TABLE pgmqd.settings IS 'what SQL has to know; set value to change one, or to NULL for the default';

INSERT INTO pgmqd.settings AS s (name, default_value, description) VALUES
  ('app_url', 'https://app.example.test', 'address of the application, for the links in mails'),
  ('support_email', 'support@example.test', 'address for questions, named in mails'),
  ('default_lang', 'ru', 'language of a mail (ru or en) when the person has chosen none'),
  ('time_zone', 'Europe/Moscow', 'IANA time zone of the dates in mails, and of times that have none'),
  ('channel', 'pgmqd', 'NOTIFY channel; must be the dispatcher''s, too, and takes effect when a queue is attached')
ON CONFLICT (name) DO UPDATE SET default_value = excluded.default_value, description = excluded.description
WHERE (s.default_value, s.description) IS DISTINCT FROM (excluded.default_value, excluded.description);

-- The value of a setting, or its default; NULL when there is no setting of that name.
CREATE OR REPLACE FUNCTION pgmqd.setting(name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT coalesce(s.value, s.default_value) FROM pgmqd.settings s WHERE s.name = $1
$f$;

-- ---- wake-ups ----

-- Tells the dispatcher that a queue has something new, unless it is awake and will look anyway. Arguments: the queue's name as in
-- pgmq.meta, and the channel. Whatever goes wrong here must not fail the INSERT: the dispatcher also looks by itself.
--
-- Every commit with a NOTIFY takes one lock of the whole cluster, so a busy queue does without: a worker that is busy holds
-- the advisory lock (table, -2) exclusively. An enqueue first shares (table, -1), "in flight", until its transaction ends,
-- then tries to share (table, -2) for a moment: if it cannot, the worker is awake. (For longer than a moment it must not be kept: with
-- some producers always waiting for the cluster's lock, the worker could never take it.) Before a worker sleeps it gives (table, -2) up, must once
-- get (table, -1) exclusively, and looks a last time; so it sees whatever was enqueued silently. All of it is try only:
-- a producer never waits here. The order of the two tries matters, hence two statements.
CREATE OR REPLACE FUNCTION pgmqd.wakeup() RETURNS trigger
LANGUAGE plpgsql AS $f$
BEGIN
  IF pg_catalog.pg_try_advisory_xact_lock_shared(TG_RELID::int4, -1) THEN
    IF NOT (CASE WHEN pg_catalog.pg_try_advisory_lock_shared(TG_RELID::int4, -2)
      THEN pg_catalog.pg_advisory_unlock_shared(TG_RELID::int4, -2) ELSE false END) THEN
      RETURN NULL;
    END IF;
  END IF;
  PERFORM pg_catalog.pg_notify(TG_ARGV[1], TG_ARGV[0]);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $f$;

-- A queue's name as pgmq.meta spells it: as given, else the one that shares its table. NULL: there is no such queue.
CREATE OR REPLACE FUNCTION pgmqd.stored_name(queue text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT m.queue_name FROM pgmq.meta m WHERE lower(m.queue_name) = lower(queue) ORDER BY m.queue_name <> queue LIMIT 1
$f$;

-- Makes the dispatcher hear of new messages of a queue, and gives its role the rights on them. True when the first was news; it may be
-- called any number of times.
CREATE OR REPLACE FUNCTION pgmqd.attach_queue(name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  stored text := pgmqd.stored_name(name);
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
  wanted text := format('pgmqd.wakeup(%L, %L)', stored, pgmqd.setting('channel'));
BEGIN
  IF stored IS NULL OR queue_table IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', name
      USING ERRCODE = 'undefined_object', HINT = format('Create it first: SELECT pgmq.create(%L)', name);
  END IF;
  IF to_regprocedure('pgmqd.grant_queue(text)') IS NOT NULL THEN -- 034; while it is not applied there are no roles
    PERFORM pgmqd.grant_queue(stored);
  END IF;
  -- no lock on a queue in use unless something has to change
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = queue_table AND tgname = 'pgmqd_wakeup' AND tgenabled <> 'D'
             AND right(pg_get_triggerdef(oid), length(wanted)) = wanted) THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE OR REPLACE TRIGGER pgmqd_wakeup AFTER INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
    queue_table, wanted);
  RETURN true;
END $f$;

-- Takes the wake-ups of a queue away; its messages are then found by the fallback poll only. True when there were any.
CREATE OR REPLACE FUNCTION pgmqd.detach_queue(name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = queue_table AND tgname = 'pgmqd_wakeup') THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TRIGGER pgmqd_wakeup ON %s', queue_table);
  RETURN true;
END $f$;

-- ---- order ----

-- Makes or drops an index of a queue's table; the dispatcher finds it by its name. True when something changed.
CREATE OR REPLACE FUNCTION pgmqd.index_queue(name text, what text, columns text, wanted boolean) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  index_name text := 'q_' || lower(name) || '_' || what || '_idx';
  queue_table regclass := to_regclass(format('pgmq.%I', 'q_' || lower(name)));
BEGIN
  IF queue_table IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist', name
      USING ERRCODE = 'undefined_object', HINT = format('Create it first: SELECT pgmq.create(%L)', name);
  END IF;
  -- no lock on a queue in use unless something has to change
  IF wanted = (to_regclass(format('pgmq.%I', index_name)) IS NOT NULL) THEN
    RETURN false;
  ELSIF wanted THEN
    EXECUTE format('CREATE INDEX %I ON %s (%s)', index_name, queue_table, columns);
  ELSE
    EXECUTE format('DROP INDEX pgmq.%I', index_name);
  END IF;
  RETURN true;
END $f$;

-- Makes the dispatcher deliver a queue's messages by the number in "priority", the highest first, across all that wait. It takes an index
-- that every message has to pass, so it is only for queues that ask for it; wanted = false takes it away again.
CREATE OR REPLACE FUNCTION pgmqd.prioritize_queue(name text, wanted boolean DEFAULT true) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.index_queue(name, 'priority', $$(CASE WHEN pg_catalog.jsonb_typeof(message -> 'priority') = 'number'
    THEN - pg_catalog.floor((message -> 'priority')::numeric) ELSE 0 END), vt$$, wanted)
$f$;

-- The index by which the option "ordered = group" finds the first message of each group in a long queue.
CREATE OR REPLACE FUNCTION pgmqd.group_queue(name text, wanted boolean DEFAULT true) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.index_queue(name, 'group', $$(headers ->> 'group'), (least(read_ct, 1)), msg_id$$, wanted)
$f$;

-- ---- queues and their dead letters ----

-- The queue that takes what another one cannot deliver.
CREATE OR REPLACE FUNCTION pgmqd.dead_letter_queue(queue text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT queue || '_dlq'
$f$;

-- A queue with all that pgmqd wants of it: the queue, its dead-letter queue, and the wake-ups.
CREATE OR REPLACE FUNCTION pgmqd.create_queue(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  made text;
BEGIN
  -- the daemon takes nothing else, and with _dlq behind it the name must stay within the 47 characters of pgmq
  IF name !~ '^[a-z_][a-z0-9_]{0,42}$' OR name IS NULL THEN
    RAISE EXCEPTION 'queue name "%" must be 1 to 43 of a-z, 0-9 and _, and must not begin with a digit', name
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOREACH made IN ARRAY ARRAY[name, pgmqd.dead_letter_queue(name)] LOOP
    CONTINUE WHEN pgmqd.stored_name(made) IS NOT NULL;
    PERFORM pgmq.create(made);
    EXECUTE format('REVOKE ALL ON TABLE pgmq.%1$I, pgmq.%2$I, %3$s FROM %4$s', 'q_' || made, 'a_' || made,
      pg_get_serial_sequence('pgmq.q_' || made, 'msg_id'), pgmqd.strangers());
  END LOOP;
  PERFORM pgmqd.attach_queue(name);
END $f$;

-- Puts one message into a queue and returns its number; delay in seconds. Works from pgmq 1.4 on (headers: from 1.5).
CREATE OR REPLACE FUNCTION pgmqd.enqueue(queue text, message jsonb, delay integer DEFAULT 0, headers jsonb DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF headers IS NULL THEN
    RETURN (SELECT s FROM pgmq.send(queue, message, coalesce(delay, 0)) s);
  END IF;
  RETURN (SELECT s FROM pgmq.send(queue, message, headers, coalesce(delay, 0)) s);
END $f$;

-- Claims that do not count as attempts, because the dispatcher itself gave the message back.
CREATE TABLE IF NOT EXISTS pgmqd.refunds (
  queue text,
  msg_id bigint,
  n integer NOT NULL,
  read_ct integer NOT NULL,
  PRIMARY KEY (queue, msg_id)
);
COMMENT ON TABLE pgmqd.refunds IS 'per message: how many of its claims do not count as attempts, and which was the last of them (read_ct)';

-- ---- people, dates and money, as mails show them ----

-- A time out of to_jsonb(row); one that was stored without a zone is meant in the zone of the settings.
CREATE OR REPLACE FUNCTION pgmqd.row_time(value text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN value ~ ':.*(Z|[+-][0-9]{2}(:?[0-9]{2}){0,2})$' THEN value::timestamptz
    ELSE value::timestamp AT TIME ZONE pgmqd.setting('time_zone') END
$f$;

CREATE OR REPLACE FUNCTION pgmqd.iso_time(at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
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
  IF to_regclass('public.profiles') IS NOT NULL THEN
    EXECUTE format('SELECT to_jsonb(p) FROM public.profiles p WHERE p.id = %L', user_id) INTO profile;
    address := nullif(btrim(profile->>'email'), '');
  END IF;
  IF address IS NULL AND to_regclass('auth.users') IS NOT NULL THEN
    EXECUTE format('SELECT nullif(btrim(u.email), '''') FROM auth.users u WHERE u.id = %L', user_id) INTO address;
  END IF;
  IF address IS NULL THEN
    RAISE EXCEPTION 'no e-mail address is known of user %', user_id USING ERRCODE = 'no_data_found';
  END IF;
  lang := lower(left(btrim(profile->>'language'), 2));
  RETURN jsonb_build_object('email', address,
    'name', coalesce(nullif(btrim(profile->>'full_name'), ''), nullif(btrim(profile->>'name'), '')),
    'lang', CASE WHEN lang IN ('ru', 'en') THEN lang ELSE pgmqd.setting('default_lang') END);
END $f$;

-- ---- what triggers could not do ----

CREATE TABLE IF NOT EXISTS pgmqd.trigger_errors (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  trigger text NOT NULL,
  "table" text,
  row_key text,
  sqlstate text,
  message text
);
CREATE INDEX IF NOT EXISTS trigger_errors_at_idx ON pgmqd.trigger_errors (at);
CREATE INDEX IF NOT EXISTS trigger_errors_row_idx ON pgmqd.trigger_errors (trigger, row_key);
COMMENT ON TABLE pgmqd.trigger_errors IS 'what went wrong beside a change of the application''s that went through';

-- Writes a failure down, and fails in no case itself.
CREATE OR REPLACE FUNCTION pgmqd.record_trigger_error(trigger_name text, table_name text, row_key text, state text,
  message text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  INSERT INTO pgmqd.trigger_errors (trigger, "table", row_key, sqlstate, message)
  VALUES (trigger_name, table_name, row_key, state, left(message, 2000));
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'pgmqd: % failed on % %: % (SQLSTATE %); it could not be recorded either: %',
    trigger_name, table_name, row_key, left(message, 500), state, SQLERRM;
END $f$;

DO $$ BEGIN PERFORM pgmqd.restrict_functions(); END $$;
