-- 026_schedules.sql: schedules, and who runs them: pg_cron where it can, else the dispatcher's own scheduler.
--
-- A schedule is a row of pgmqd.schedule, made by pgmqd.add_schedule(). An operator's changes (time, zone, on or off) are kept.
-- makes: pgmqd.schedule pgmqd.schedule_runs

SET search_path = pg_catalog, pg_temp;

-- ---- the schedules and their runs ----

CREATE TABLE IF NOT EXISTS pgmqd.schedule (
  name text PRIMARY KEY,
  cron text NOT NULL,
  command text NOT NULL,
  tz text NOT NULL DEFAULT 'UTC' CHECK (pgmqd.is_time_zone(tz)),
  runner text NOT NULL CHECK (runner IN ('pg_cron', 'pgmqd')),
  enabled boolean NOT NULL DEFAULT true,
  next_due timestamptz,
  last_run timestamptz
);
-- catch_up: which of the times that were missed are run later: none, only the last, or all. max_late: a time that is
-- further back than this is skipped. taken_over: the dispatcher runs it for pg_cron, whose launcher is dead.
ALTER TABLE pgmqd.schedule
  ADD COLUMN IF NOT EXISTS catch_up text NOT NULL DEFAULT 'last' CHECK (catch_up IN ('none', 'last', 'all')),
  ADD COLUMN IF NOT EXISTS max_late interval CHECK (max_late > '0'),
  ADD COLUMN IF NOT EXISTS last_status text,
  ADD COLUMN IF NOT EXISTS last_error text,
  ADD COLUMN IF NOT EXISTS taken_over boolean NOT NULL DEFAULT false,
  ADD COLUMN IF NOT EXISTS default_cron text; -- NULL: not one of ours
COMMENT ON TABLE pgmqd.schedule IS 'what runs by the clock; only rows whose runner is pgmqd are the dispatcher''s';

CREATE TABLE IF NOT EXISTS pgmqd.schedule_runs (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name text NOT NULL,
  due timestamptz NOT NULL,
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  status text NOT NULL CHECK (status IN ('ok', 'failed', 'skipped')),
  error text
);
CREATE INDEX IF NOT EXISTS schedule_runs_started_idx ON pgmqd.schedule_runs (started_at);
COMMENT ON TABLE pgmqd.schedule_runs IS 'what the dispatcher''s scheduler has run; pg_cron has its own in cron.job_run_details';

-- The time zone that pg_cron uses for all its jobs. NULL: there is no pg_cron, or its newer versions keep the zone from this role.
CREATE OR REPLACE FUNCTION pgmqd.pg_cron_zone() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN (SELECT CASE WHEN zone IN ('GMT', 'Etc/UTC', 'Etc/GMT') THEN 'UTC' ELSE zone END
    FROM coalesce(current_setting('cron.timezone', true), 'GMT') zone WHERE pgmqd.extension_table('cron.job', 'pg_cron') IS NOT NULL);
EXCEPTION WHEN insufficient_privilege THEN
  RETURN NULL;
END $f$;

-- The fault of a schedule's time, or NULL; by the rules of the scheduler that reads it.
CREATE OR REPLACE FUNCTION pgmqd.cron_error(cron text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  months CONSTANT text[] := ARRAY['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
  weekdays CONSTANT text[] := ARRAY['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
  parts CONSTANT text[] := ARRAY['minute', 'hour', 'day of the month', 'month', 'day of the week'];
  lowest CONSTANT int[] := ARRAY[0, 0, 1, 1, 0];
  highest CONSTANT int[] := ARRAY[59, 23, 31, 12, 7];
  fields CONSTANT text[] := regexp_split_to_array(lower(btrim(cron, E' \t')), '[ \t]+');
  days int[] := '{}';
  wanted int[] := '{}';
  item text;
  word text;
  m text[];
  low int;
  high int;
BEGIN
  IF lower(cron) IN ('@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly') THEN
    RETURN NULL;
  ELSIF cardinality(fields) <> 5 THEN
    RETURN format('"%s" does not have the 5 fields minute, hour, day of the month, month and day of the week', cron);
  END IF;
  FOR i IN 1 .. 5 LOOP
    FOREACH item IN ARRAY string_to_array(fields[i], ',') LOOP
      word := item;
      FOR n IN 1 .. CASE i WHEN 4 THEN 12 WHEN 5 THEN 7 ELSE 0 END LOOP
        word := regexp_replace(word, '(^|-)' || CASE i WHEN 4 THEN months[n] ELSE weekdays[n] END || '(?=[-/]|$)', '\1' || n + 4 - i, 'g');
      END LOOP;
      m := regexp_match(word, '^(?:(\*)|(\d{1,4})(?:-(\d{1,4}))?)(?:/(\d{1,4}))?$');
      low := coalesce(m[2]::int, lowest[i]);
      high := CASE WHEN m[1] IS NULL AND (m[3] IS NOT NULL OR m[4] IS NULL) THEN coalesce(m[3], m[2])::int WHEN i = 5 THEN 6 ELSE highest[i] END;
      IF m IS NULL OR low < lowest[i] OR high > highest[i] OR low > high OR m[4]::int NOT BETWEEN 1 AND highest[i] THEN
        RETURN format('"%s": the %s "%s" is none (%s to %s, a-b, */n, lists of those%s)', cron, parts[i], fields[i], lowest[i], highest[i],
          CASE WHEN i > 3 THEN ', names of three letters' END);
      ELSIF i = 3 THEN
        days := days || ARRAY(SELECT generate_series(low, high, coalesce(m[4]::int, 1)));
      ELSIF i = 4 THEN
        wanted := wanted || ARRAY(SELECT generate_series(low, high, coalesce(m[4]::int, 1)));
      END IF;
    END LOOP;
  END LOOP;
  IF (left(fields[3], 1) = '*' OR left(fields[5], 1) = '*')
    AND NOT EXISTS (SELECT FROM unnest(days) d, unnest(wanted) w WHERE d <= (ARRAY[31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[w]) THEN
    RETURN format('"%s" never comes: none of its months has such a day', cron);
  END IF;
  RETURN NULL;
END $f$;

-- Whether the dispatcher's scheduler can run a schedule at such a time; an error that says why not, for the table's CHECK.
CREATE OR REPLACE FUNCTION pgmqd.check_cron(schedule text, cron text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  fault CONSTANT text := pgmqd.cron_error(cron);
BEGIN
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION 'schedule %: %', schedule, fault USING ERRCODE = 'check_violation', TABLE = 'schedule', CONSTRAINT = 'schedule_cron_check';
  END IF;
  RETURN true;
END $f$;

-- A time that cannot be is refused. pg_cron looks at its own, and those that are taken over from it were good there. Rows of an earlier
-- version that are wrong stay, and the scheduler names them; they can be mended, but not be changed otherwise.
DO $$
DECLARE
  wrong text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'schedule_cron_check' AND conrelid = 'pgmqd.schedule'::regclass) THEN
    ALTER TABLE pgmqd.schedule ADD CONSTRAINT schedule_cron_check CHECK (runner = 'pg_cron' OR taken_over OR pgmqd.check_cron(name, cron)) NOT VALID;
  END IF;
  IF EXISTS (SELECT FROM pg_constraint WHERE conname = 'schedule_cron_check' AND conrelid = 'pgmqd.schedule'::regclass AND NOT convalidated) THEN
    SELECT string_agg(format('schedule %s: %s', name, pgmqd.cron_error(cron)), '; ' ORDER BY name) INTO wrong
    FROM pgmqd.schedule WHERE runner <> 'pg_cron' AND NOT taken_over AND pgmqd.cron_error(cron) IS NOT NULL;
    IF wrong IS NULL THEN
      ALTER TABLE pgmqd.schedule VALIDATE CONSTRAINT schedule_cron_check;
    ELSE
      RAISE WARNING 'times that cannot be: %', wrong;
    END IF;
  END IF;
END $$;

-- A changed time or zone clears next_due, and the scheduler computes it anew. Where pg_cron runs the schedule, its job is changed at once; a
-- zone that is not pg_cron's makes the schedule the dispatcher's. What was taken over from pg_cron gets no time that the dispatcher cannot run.
CREATE OR REPLACE FUNCTION pgmqd.schedule_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF NEW.taken_over AND NEW.cron IS DISTINCT FROM OLD.cron THEN
    PERFORM pgmqd.check_cron(NEW.name, NEW.cron);
  END IF;
  IF TG_OP = 'INSERT' THEN
    RETURN NEW;
  END IF;
  IF (NEW.cron, NEW.tz) IS DISTINCT FROM (OLD.cron, OLD.tz) OR NEW.enabled AND NOT OLD.enabled THEN
    NEW.next_due := NULL;
  END IF;
  IF OLD.runner = 'pg_cron' AND NEW.runner = 'pg_cron'
    AND (NEW.cron, NEW.tz, NEW.enabled, NEW.command) IS DISTINCT FROM (OLD.cron, OLD.tz, OLD.enabled, OLD.command) THEN
    IF NEW.tz <> OLD.tz AND NEW.tz IS DISTINCT FROM pgmqd.pg_cron_zone() THEN
      NEW.runner := 'pgmqd';
    END IF;
    PERFORM pgmqd.set_pg_cron(NEW.name, NEW.cron, NEW.command, NEW.enabled AND NEW.runner = 'pg_cron');
  END IF;
  RETURN NEW;
END $f$;
CREATE OR REPLACE TRIGGER schedule_changed BEFORE INSERT OR UPDATE ON pgmqd.schedule
  FOR EACH ROW EXECUTE FUNCTION pgmqd.schedule_changed();

-- Makes a schedule, or brings its command and its default time up to date. A time that an operator has set stays.
CREATE OR REPLACE FUNCTION pgmqd.add_schedule(name text, cron text, command text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  INSERT INTO pgmqd.schedule AS s (name, cron, default_cron, command, runner) VALUES ($1, $2, $2, $3, 'pgmqd')
  ON CONFLICT (name) DO UPDATE SET command = excluded.command, default_cron = excluded.default_cron,
    cron = CASE WHEN s.cron = s.default_cron THEN excluded.cron ELSE s.cron END
  WHERE (s.command, s.default_cron) IS DISTINCT FROM (excluded.command, excluded.default_cron)
$f$;

-- Runs what is due under a schedule, once: the claim is a compare-and-set of next_due in the transaction of the work
-- itself, so of any number of dispatchers only one runs it. Returns the outcome: ok,
-- failed, skipped, or taken (another dispatcher runs it). "at" is the present; problem: record this failure instead of running it.
CREATE OR REPLACE FUNCTION pgmqd.run_schedule(schedule text, due timestamptz, next timestamptz,
  "at" timestamptz DEFAULT clock_timestamp(), problem text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s pgmqd.schedule;
  status text := 'ok';
  error text := problem;
  began timestamptz := clock_timestamp();
BEGIN
  SELECT * INTO s FROM pgmqd.schedule c WHERE c.name = schedule AND c.enabled AND c.runner = 'pgmqd' AND c.next_due = due
  FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 'taken';
  END IF;
  IF problem IS NOT NULL THEN
    status := 'failed';
  ELSIF ("at" - due > CASE s.catch_up WHEN 'none' THEN least(s.max_late, interval '1 minute') ELSE s.max_late END) THEN
    status := 'skipped';
    error := format('%s late', date_trunc('second', "at" - due));
  ELSE
    BEGIN
      EXECUTE s.command;
    EXCEPTION WHEN OTHERS THEN
      status := 'failed';
      error := left(SQLERRM, 2000);
    END;
  END IF;
  UPDATE pgmqd.schedule c SET next_due = next, last_run = "at", last_status = status, last_error = error
  WHERE c.name = schedule;
  INSERT INTO pgmqd.schedule_runs (name, due, started_at, ended_at, status, error)
  VALUES (schedule, due, "at", "at" + (clock_timestamp() - began), status, error);
  RETURN status;
END $f$;

-- Runs the command of a schedule now, beside its times, which stay as they are, and records who wanted it. problem: the run was cut
-- off so; it is recorded as a failure, and not run.
DROP FUNCTION IF EXISTS pgmqd.run_now(text);
CREATE OR REPLACE FUNCTION pgmqd.run_now(schedule text, by text DEFAULT session_user, problem text DEFAULT NULL, OUT status text, OUT error text, OUT ms bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  command text := (SELECT c.command FROM pgmqd.schedule c WHERE c.name = schedule);
  began timestamptz := clock_timestamp();
BEGIN
  IF command IS NULL THEN
    RAISE EXCEPTION 'there is no schedule "%"', schedule
      USING HINT = (SELECT 'There are ' || string_agg(c.name, ', ' ORDER BY c.name) FROM pgmqd.schedule c);
  END IF;
  status := CASE WHEN problem IS NULL THEN 'ok' ELSE 'failed' END;
  error := left(problem, 2000);
  IF problem IS NULL THEN
    BEGIN
      EXECUTE command;
    EXCEPTION WHEN OTHERS THEN
      status := 'failed';
      error := left(SQLERRM, 2000);
    END;
  END IF;
  INSERT INTO pgmqd.schedule_runs (name, due, started_at, status, error) VALUES (schedule, began, began, status, error);
  ms := (extract(epoch FROM clock_timestamp() - began) * 1000)::bigint;
  INSERT INTO pgmqd.actions (by, action, ids, details)
  VALUES (coalesce(by, session_user), 'schedule-run', '{}', jsonb_build_object('schedule', schedule, 'status', status, 'ms', ms));
END $f$;

-- Changes when a schedule runs, {cron, tz, enabled, why}, and records who did it. Answers {changed, cron, tz, enabled}. What is not named stays.
CREATE OR REPLACE FUNCTION pgmqd.edit_schedule(schedule text, request jsonb, by text DEFAULT session_user) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  before pgmqd.schedule;
  after pgmqd.schedule;
BEGIN
  IF jsonb_typeof(request) <> 'object' OR request - ARRAY['cron', 'tz', 'enabled', 'why'] <> '{}' OR request - 'why' = '{}'
    OR jsonb_typeof(coalesce(request->'cron', '""')) <> 'string' OR jsonb_typeof(coalesce(request->'tz', '""')) <> 'string'
    OR jsonb_typeof(coalesce(request->'why', '""')) <> 'string' OR jsonb_typeof(coalesce(request->'enabled', 'true')) <> 'boolean' THEN
    RAISE EXCEPTION 'bad_request: send an object with the texts cron and tz, or enabled, which is true or false' USING ERRCODE = 'HT400';
  ELSIF NOT pgmqd.is_time_zone(coalesce(request->>'tz', 'UTC')) THEN
    RAISE EXCEPTION 'bad_zone: the server does not know the time zone "%"', request->>'tz' USING ERRCODE = 'HT400';
  ELSIF length(request->>'why') > 500 THEN
    RAISE EXCEPTION 'bad_reason: why may have up to 500 characters' USING ERRCODE = 'HT400';
  END IF;
  SELECT * INTO before FROM pgmqd.schedule c WHERE c.name = schedule FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no schedule "%"', schedule USING ERRCODE = 'undefined_object';
  END IF;
  BEGIN
    UPDATE pgmqd.schedule c SET cron = coalesce(request->>'cron', c.cron), tz = coalesce(request->>'tz', c.tz), enabled = coalesce((request->>'enabled')::boolean, c.enabled)
    WHERE c.name = schedule RETURNING * INTO after;
  EXCEPTION WHEN check_violation OR invalid_parameter_value OR raise_exception OR internal_error THEN -- the last three are pg_cron's
    RAISE EXCEPTION 'bad_cron: %', regexp_replace(SQLERRM, '^schedule [^:]*: ', '') USING ERRCODE = 'HT400';
  END;
  IF (after.cron, after.tz, after.enabled) IS DISTINCT FROM (before.cron, before.tz, before.enabled) THEN
    INSERT INTO pgmqd.actions (by, action, ids, why, details) VALUES (coalesce(by, session_user),
      CASE WHEN (after.cron, after.tz) IS DISTINCT FROM (before.cron, before.tz) THEN 'schedule-edit' WHEN after.enabled THEN 'schedule-resume' ELSE 'schedule-pause' END, '{}',
      nullif(btrim(request->>'why'), ''), jsonb_build_object('schedule', schedule, 'before', jsonb_build_object('cron', before.cron, 'tz', before.tz, 'enabled', before.enabled),
        'after', jsonb_build_object('cron', after.cron, 'tz', after.tz, 'enabled', after.enabled)));
  END IF;
  RETURN jsonb_build_object('changed', (after.cron, after.tz, after.enabled) IS DISTINCT FROM (before.cron, before.tz, before.enabled),
    'cron', after.cron, 'tz', after.tz, 'enabled', after.enabled);
END $f$;

-- Whether pg_cron's launcher runs; NULL when this role has no right to see it.
CREATE OR REPLACE FUNCTION pgmqd.pg_cron_lives() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher') THEN true
    WHEN pg_has_role('pg_read_all_stats', 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN false
  END
$f$;

-- Gives a job to pg_cron, or changes the one that it has.
CREATE OR REPLACE FUNCTION pgmqd.set_pg_cron(job_name text, cron text, command text, wanted boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM cron.schedule(job_name, cron, command);
  PERFORM pgmqd.switch_pg_cron(job_name, wanted);
END $f$;

-- Switches a job of pg_cron's on or off, so that it cannot run beside ours.
CREATE OR REPLACE FUNCTION pgmqd.switch_pg_cron(job_name text, wanted boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF pgmqd.extension_table('cron.job', 'pg_cron') IS NULL THEN
    RETURN;
  END IF;
  UPDATE cron.job j SET active = wanted
  WHERE j.jobname = job_name AND j.database = current_database() AND j.active IS DISTINCT FROM wanted;
EXCEPTION WHEN insufficient_privilege THEN
  PERFORM cron.alter_job(j.jobid, active := wanted) FROM cron.job j
  WHERE j.jobname = job_name AND j.database = current_database() AND j.active IS DISTINCT FROM wanted;
END $f$;

-- Takes over the jobs of a dead pg_cron launcher, each from the time on at which it was started last; returns how many.
CREATE OR REPLACE FUNCTION pgmqd.take_over_schedules() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s record;
  ran timestamptz;
  n integer := 0;
BEGIN
  FOR s IN SELECT name FROM pgmqd.schedule WHERE runner = 'pg_cron' FOR UPDATE SKIP LOCKED LOOP
    PERFORM pgmqd.switch_pg_cron(s.name, false);
    IF pgmqd.extension_table('cron.job_run_details', 'pg_cron') IS NOT NULL THEN
      SELECT max(d.start_time) INTO ran FROM cron.job_run_details d JOIN cron.job j USING (jobid)
      WHERE j.jobname = s.name AND j.database = current_database();
    END IF;
    UPDATE pgmqd.schedule c SET runner = 'pgmqd', taken_over = true, next_due = NULL, last_run = coalesce(ran, c.last_run)
    WHERE c.name = s.name;
    n := n + 1;
  END LOOP;
  RETURN n;
END $f$;

-- Gives the jobs back to pg_cron; returns how many.
CREATE OR REPLACE FUNCTION pgmqd.give_back_schedules() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s record;
  n integer := 0;
BEGIN
  FOR s IN SELECT name FROM pgmqd.schedule WHERE taken_over AND runner = 'pgmqd' FOR UPDATE SKIP LOCKED LOOP
    UPDATE pgmqd.schedule c SET runner = 'pg_cron', taken_over = false, next_due = NULL WHERE c.name = s.name;
    PERFORM pgmqd.switch_pg_cron(s.name, true);
    n := n + 1;
  END LOOP;
  RETURN n;
END $f$;

-- Why pg_cron cannot run jobs of this database; NULL when it can. Creates the extension when nothing else is missing.
CREATE OR REPLACE FUNCTION pgmqd.pg_cron_problem() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  home text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_cron') THEN
    RETURN 'it is not installed';
  END IF;
  BEGIN
    -- set only where the server loaded pg_cron at its start
    home := current_setting('cron.database_name', true);
    IF home IS NULL THEN
      RETURN 'shared_preload_libraries does not name it';
    END IF;
    IF home <> current_database() THEN
      RETURN format('it keeps its jobs in database %s (cron.database_name)', home);
    END IF;
  EXCEPTION WHEN insufficient_privilege THEN
    NULL; -- what follows shows whether it works
  END;
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
    CREATE EXTENSION pg_cron;
  END IF;
  IF NOT has_schema_privilege('cron', 'USAGE') THEN
    RETURN format('role %s may not use schema cron', current_user);
  END IF;
  IF EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'cron'
      WHERE p.proname IN ('schedule', 'alter_job') AND NOT has_function_privilege(p.oid, 'EXECUTE')) THEN
    RETURN format('role %s may not call cron.schedule() and cron.alter_job()', current_user);
  END IF;
  IF pgmqd.extension_table('cron.job', 'pg_cron') IS NOT NULL AND pgmqd.pg_cron_zone() IS NULL THEN
    RETURN format('role %1$s may not read cron.timezone (GRANT pg_read_all_settings TO %1$s)', quote_ident(current_user));
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLERRM;
END $f$;

-- Gives each of our schedules to pg_cron, or to the dispatcher, and keeps a time that an operator has set in pg_cron's own table; only
-- changes are written. Returns one row for each step that an administrator has to take.
CREATE OR REPLACE FUNCTION pgmqd.connect_schedules() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  cron_problem text := pgmqd.pg_cron_problem();
  s pgmqd.schedule;
  run_by text;
  known_cron text;
  known_command text;
  known_role text;
BEGIN
  FOR s IN SELECT * FROM pgmqd.schedule c WHERE c.default_cron IS NOT NULL ORDER BY c.name LOOP
    run_by := CASE WHEN cron_problem IS NULL AND s.tz = pgmqd.pg_cron_zone() THEN 'pg_cron' ELSE 'pgmqd' END;
    known_role := NULL;
    IF run_by = 'pg_cron' THEN
      SELECT j.schedule, j.command, j.username INTO known_cron, known_command, known_role FROM cron.job j
      WHERE j.jobname = s.name AND j.database = current_database() ORDER BY j.username <> current_user LIMIT 1;
      IF known_role <> current_user THEN
        item := 'schedule ' || s.name;
        problem := format('pg_cron has a job of that name already, of role %s; it is left as it is', known_role);
        remedy := format('make sure that its command is %L, or remove it with cron.unschedule()', s.command);
        RETURN NEXT;
      ELSIF known_cron IS NULL OR known_command <> s.command THEN
        PERFORM pgmqd.set_pg_cron(s.name, coalesce(known_cron, s.cron), s.command, s.enabled AND NOT s.taken_over);
      END IF;
    END IF;
    IF run_by = 'pgmqd' AND s.runner = 'pg_cron' AND pgmqd.cron_error(s.cron) IS NOT NULL THEN -- pg_cron's own, such as "30 seconds"
      item := 'schedule ' || s.name;
      problem := format('the dispatcher cannot run it at its time of pg_cron''s, %s; it runs at %s', s.cron, s.default_cron);
      remedy := 'set another time with pgmqd schedule edit';
      RETURN NEXT;
    END IF;
    -- a schedule that was taken over stays so until it is given back
    UPDATE pgmqd.schedule c SET runner = CASE WHEN c.taken_over AND run_by = 'pg_cron' THEN c.runner ELSE run_by END,
      taken_over = c.taken_over AND run_by = 'pg_cron',
      cron = CASE WHEN run_by = 'pg_cron' AND known_role = current_user THEN known_cron
        WHEN run_by = 'pgmqd' AND pgmqd.cron_error(c.cron) IS NOT NULL THEN c.default_cron ELSE c.cron END
    WHERE c.name = s.name AND (c.runner <> run_by AND NOT c.taken_over OR c.taken_over AND run_by <> 'pg_cron'
      OR run_by = 'pg_cron' AND known_role = current_user AND known_cron <> c.cron);
  END LOOP;
END $f$;

DO $$ BEGIN PERFORM pgmqd.add_schedule('delete-old-messages', '*/10 * * * *', 'SELECT pgmqd.delete_old()'); END $$;

-- Every schedule, or one, and its last runs, whoever runs it: {schedules: [{name, cron, tz, runner, enabled, next_due, last_run, last_status,
-- last_error, taken_over, runs: [{started_at, status, ms, error}]}]}.
DROP FUNCTION IF EXISTS pgmqd.schedule_status();
CREATE OR REPLACE FUNCTION pgmqd.schedule_status(schedule text DEFAULT NULL, max_runs integer DEFAULT 10) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  cron_runs jsonb := '{}';
BEGIN
  IF pgmqd.extension_table('cron.job_run_details', 'pg_cron') IS NOT NULL THEN
    BEGIN
      EXECUTE 'SELECT coalesce(jsonb_object_agg(jobname, runs), ''{}'') FROM (SELECT j.jobname, (
          SELECT jsonb_agg(jsonb_build_object(''started_at'', pgmqd.iso_time(d.start_time),
              ''status'', CASE d.status WHEN ''succeeded'' THEN ''ok'' ELSE d.status END,
              ''ms'', (extract(epoch FROM d.end_time - d.start_time) * 1000)::bigint,
              ''error'', CASE WHEN d.status <> ''succeeded'' THEN d.return_message END) ORDER BY d.runid DESC)
          FROM (SELECT * FROM cron.job_run_details r WHERE r.jobid = j.jobid ORDER BY r.runid DESC LIMIT $2) d) AS runs
        FROM cron.job j WHERE j.jobname IS NOT NULL AND ($1 IS NULL OR j.jobname = $1)) x' INTO cron_runs USING schedule, max_runs;
    EXCEPTION WHEN insufficient_privilege OR undefined_column OR invalid_schema_name THEN
      NULL; -- pg_cron's own tables are closed to us: the schedules are told without its runs
    END;
  END IF;
  RETURN (SELECT jsonb_build_object('schedules', coalesce(jsonb_agg(jsonb_build_object('name', s.name, 'cron', s.cron, 'tz', s.tz,
      'runner', s.runner, 'enabled', s.enabled, 'next_due', pgmqd.iso_time(s.next_due), 'last_run', pgmqd.iso_time(s.last_run),
      'last_status', s.last_status, 'last_error', s.last_error, 'taken_over', s.taken_over,
      'runs', coalesce(cron_runs->s.name, '[]') || coalesce(r.runs, '[]')) ORDER BY s.name), '[]'))
    FROM pgmqd.schedule s LEFT JOIN LATERAL (
      SELECT jsonb_agg(jsonb_build_object('started_at', pgmqd.iso_time(n.started_at), 'status', n.status,
        'ms', (extract(epoch FROM n.ended_at - n.started_at) * 1000)::bigint, 'error', n.error) ORDER BY n.id DESC) AS runs
      FROM (SELECT * FROM pgmqd.schedule_runs m WHERE m.name = s.name ORDER BY m.id DESC LIMIT max_runs) n) r ON true
    WHERE schedule_status.schedule IS NULL OR s.name = schedule_status.schedule);
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'check_cron', 'cron_error', 'run_schedule', 'take_over_schedules', 'give_back_schedules', 'pg_cron_lives', 'schedule_status', 'run_now', 'edit_schedule');
  PERFORM pgmqd.allow_calls('pgmqd_monitor', 'pg_cron_lives');
  PERFORM pgmqd.allow_calls('pgmqd_operator', 'run_now', 'edit_schedule', 'pg_cron_lives', 'schedule_status');
END $$;

DO $$
DECLARE
  cron_problem text := pgmqd.pg_cron_problem();
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect_schedules() LOOP
    RAISE NOTICE '%: %; %', missing.item, missing.problem, missing.remedy;
  END LOOP;
  IF cron_problem IS NOT NULL THEN
    RAISE NOTICE 'schedules wait for the dispatcher''s own scheduler, since pg_cron cannot run them: %', cron_problem;
  END IF;
END $$;

RESET search_path;
