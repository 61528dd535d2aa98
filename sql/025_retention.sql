-- 025_retention.sql: how long pgmqd keeps old rows, and how it deletes a person's data.

SET search_path = pg_catalog, pg_temp;

INSERT INTO pgmqd.settings AS s (name, default_value, description) VALUES
  ('keep_archives', '30 days', 'how long messages stay in the archives of the queues'),
  ('keep_dead_letters', '30 days', 'how long dead letters stay'),
  ('keep_mail_ledger', '30 days', 'how long it is known which mails were sent'),
  ('keep_history', '30 days', 'how long runs of schedules stay, those of pg_cron''s, too'),
  ('keep_errors', '30 days', 'how long failures of triggers stay'),
  ('keep_events', '30 days', 'how long single analytics events stay; their daily numbers stay')
ON CONFLICT (name) DO UPDATE SET default_value = excluded.default_value, description = excluded.description
WHERE (s.default_value, s.description) IS DISTINCT FROM (excluded.default_value, excluded.description);

-- Refuses a retention setting that is no interval: with it, everything would be deleted, or nothing.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'keep_is_an_age' AND conrelid = 'pgmqd.settings'::regclass) THEN
    ALTER TABLE pgmqd.settings ADD CONSTRAINT keep_is_an_age
      CHECK (name NOT LIKE 'keep\_%' OR value IS NULL OR value::interval >= interval '1 hour');
  END IF;
END $$;

-- Deletes at most `batch` rows of a table, the oldest first, whose `column_name` is older than the setting says. A table
-- that is not there, or has no such column, has none.
CREATE OR REPLACE FUNCTION pgmqd.delete_aged(table_name text, column_name text, setting text, batch integer)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  n integer;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(table_name) AND attname = column_name
                 AND NOT attisdropped) THEN
    RETURN 0;
  END IF;
  EXECUTE format('WITH old AS (SELECT ctid FROM %1$s WHERE %2$I < now() - %3$L::interval ORDER BY %2$I LIMIT %4$s'
    ' FOR UPDATE SKIP LOCKED) DELETE FROM %1$s t USING old WHERE t.ctid = old.ctid',
    to_regclass(table_name), column_name, pgmqd.setting(setting), batch);
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $f$;

-- Deletes at most `batch` rows that pgmqd keeps about messages: of those that have left their queue, or whose queue was dropped. `same` says whether
-- a row r is about a message q of the queue, `over` whether r may go. A queue whose owner we do not trust is left alone.
CREATE OR REPLACE FUNCTION pgmqd.delete_spent(table_name text, same text, over text, batch integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  name text;
  living text;
  n integer;
  total integer := 0;
BEGIN
  FOR name IN EXECUTE format('SELECT DISTINCT r.queue FROM %s r', table_name) LOOP
    living := format('pgmq.%I', 'q_' || lower(name));
    CONTINUE WHEN to_regclass(living) IS NOT NULL AND pgmqd.queue_table('q', name) IS NULL;
    EXECUTE format('WITH spent AS (SELECT r.ctid FROM %1$s r WHERE r.queue = $1 AND %2$s%3$s LIMIT $2 FOR UPDATE SKIP LOCKED)'
      ' DELETE FROM %1$s r USING spent WHERE r.ctid = spent.ctid', table_name, over,
      CASE WHEN to_regclass(living) IS NOT NULL THEN format(' AND NOT EXISTS (SELECT FROM %s q WHERE %s)', living, same) END)
    USING name, batch - total;
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
  END LOOP;
  RETURN total;
END $f$;

-- Deletes what is older than the settings say: at most `batch` rows of each table in one call, so that no transaction is
-- long; the schedule delete-old-messages calls it every ten minutes, so an archive stops growing that gets up to 83
-- messages a second. Returns how many rows of each table.
CREATE OR REPLACE FUNCTION pgmqd.delete_old(batch integer DEFAULT 50000) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record;
  n integer;
  result jsonb := '{}';
BEGIN
  FOR t IN
    SELECT format('pgmq.%I', 'a_' || lower(m.queue_name)) AS name, 'archived_at' AS at, 'keep_archives' AS setting
      FROM pgmq.meta m
    UNION ALL SELECT format('pgmq.%I', 'q_' || lower(m.queue_name)), 'enqueued_at', 'keep_dead_letters'
      FROM pgmq.meta m JOIN pgmq.meta o ON lower(m.queue_name) = lower(pgmqd.dlq_name(o.queue_name))
    UNION ALL VALUES ('pgmqd.mail_log', 'changed_at', 'keep_mail_ledger'), ('pgmqd.mail_recipients', 'at', 'keep_mail_ledger'),
      ('pgmqd.mail_events', 'at', 'keep_mail_ledger'), ('pgmqd.mail_limits', 'filled_at', 'keep_mail_ledger'),
      ('pgmqd.schedule_runs', 'started_at', 'keep_history'), (pgmqd.extension_table('cron.job_run_details', 'pg_cron')::text, 'end_time', 'keep_history'),
      ('pgmqd.trigger_errors', 'at', 'keep_errors'), ('pgmqd.pauses', 'resumed_at', 'keep_history'),
      ('pgmqd.attempts', 'ended_at', 'keep_history'), ('pgmqd.actions', 'at', 'keep_history'), ('pgmqd.cancels', 'asked_at', 'keep_history'),
      ('pgmqd.analytics_events', 'recorded_at', 'keep_events'), ('pgmqd.rates', 'spent_until', 'keep_history'),
      ('pgmqd.jobs', 'created_at', 'keep_jobs')
  LOOP
    -- tables and triggers of other owners are left alone: they would run with our rights
    CONTINUE WHEN NOT pgmqd.is_trusted(to_regclass(t.name));
    BEGIN
      n := pgmqd.delete_aged(t.name, t.at, t.setting, batch);
      IF n > 0 THEN
        result := result || jsonb_build_object(t.name, n + coalesce((result->>t.name)::integer, 0));
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      NULL; -- not ours: pg_cron's history, say
    END;
  END LOOP;
  FOR t IN SELECT * FROM (VALUES ('pgmqd.refunds', 'q.msg_id = r.msg_id', 'true'),
      -- keep_for counts from the end of a message
      ('pgmqd.unique_keys', 'q.msg_id = r.msg_id AND q.enqueued_at = r.enqueued_at',
        'r.enqueued_at < clock_timestamp() - r.keep_for - interval ''1 day'' AND (r.keep_for = ''0'' OR NOT pgmqd.done_since(r.queue, r.msg_id, r.enqueued_at, r.keep_for))'))
      kept (name, same, over)
  LOOP
    CONTINUE WHEN to_regclass(t.name) IS NULL;
    BEGIN
      n := pgmqd.delete_spent(t.name, t.same, t.over, batch);
      IF n > 0 THEN
        result := result || jsonb_build_object(t.name, n);
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;
    END;
  END LOOP;
  RETURN result;
END $f$;

-- Deletes the data of a person in pgmqd: messages that wait, are archived or are dead, mails, reports, events, reminders,
-- failures and payments' states. The application's own tables are left alone. A row is the person's when one of its
-- values is the address, or the id of the person, or of one of the person's check-ups, appointments or payments.
-- Returns how many rows of each table, and under "files" how many reports on disk or in Storage: no database can delete
-- those, so each is a row of pgmqd.files_to_erase and a message to the report plugin, which deletes both.
CREATE OR REPLACE FUNCTION pgmqd.erase_person(email text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  address text := lower(btrim(email));
  ids text[] := '{}';
  needles text[];
  t text;
  n integer;
  files bigint[] := '{}';
  result jsonb := '{}';
BEGIN
  IF coalesce(address, '') !~ '^[^@\s"\\]+@[^@\s"\\]+$' THEN
    RAISE EXCEPTION 'erase_person: this is no e-mail address' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF to_regprocedure('pgmqd.person_ids(text)') IS NOT NULL THEN -- 030
    ids := ids || pgmqd.person_ids(address);
  END IF;
  IF to_regprocedure('pgmqd.mail_recipient(text)') IS NOT NULL THEN
    ids := ids || pgmqd.mail_recipient(address); -- the mail ledger knows the person by this
  END IF;
  -- a mail's message may say "Name <address>"
  SELECT array_agg(DISTINCT '"' || lower(x) || '"') || ('<' || address || '>') INTO needles FROM unnest(ids || address) x;
  WITH asked AS (
    INSERT INTO pgmqd.files_to_erase (path, object)
    SELECT r.path, r.object FROM pgmqd.reports r WHERE coalesce(r.path, r.object) IS NOT NULL
      AND EXISTS (SELECT FROM unnest(needles) w WHERE position(w IN lower(to_jsonb(r)::text)) > 0)
    RETURNING id)
  SELECT coalesce(array_agg(a.id), '{}') INTO files FROM asked a;
  FOR t IN SELECT format('pgmq.%I', kind || lower(m.queue_name)) FROM pgmq.meta m, unnest(ARRAY['q_', 'a_']) kind
    UNION ALL SELECT unnest(ARRAY['pgmqd.mail_log', 'pgmqd.mail_recipients', 'pgmqd.mail_events', 'pgmqd.mail_limits', 'pgmqd.rates', 'pgmqd.keys', 'pgmqd.unique_keys',
      'pgmqd.unsubscribe_tokens', 'pgmqd.reports', 'pgmqd.analytics_events', 'pgmqd.reminder_sent',
      'pgmqd.trigger_errors', 'pgmqd.payment_states', 'pgmqd.payment_alerts', 'pgmqd.jobs',
      'pgmqd.attempts', 'pgmqd.actions', 'pgmqd.cancels'])
  LOOP
    CONTINUE WHEN NOT pgmqd.is_trusted(to_regclass(t));
    EXECUTE format('DELETE FROM %s r WHERE EXISTS (SELECT FROM unnest($1) w WHERE position(w IN lower(to_jsonb(r)::text)) > 0)',
      to_regclass(t)) USING needles;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
      result := result || jsonb_build_object(t, n);
    END IF;
  END LOOP;
  IF files = '{}' THEN
    RETURN result;
  END IF;
  IF to_regclass('pgmq.q_report_generation_queue') IS NOT NULL THEN
    PERFORM pgmqd.enqueue('report_generation_queue', jsonb_build_object('action', 'erase', 'file', f)) FROM unnest(files) f;
  END IF;
  RETURN result || jsonb_build_object('files', cardinality(files));
END $f$;

DO $$ BEGIN PERFORM pgmqd.restrict_functions(); END $$;

RESET search_path;
