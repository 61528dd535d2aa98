-- 020_trigger_errors.sql: the failures that triggers record, since a trigger never breaks the application's own statement.
--
-- makes: pgmqd.trigger_errors

SET search_path = pg_catalog, pg_temp;

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

-- Records a failure. It raises no error itself.
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

RESET search_path;
