-- 027_jobs.sql: jobs: a job is a row that shows the state of the message with its job_id to the client that started it.
-- makes: pgmqd.jobs

SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS pgmqd.jobs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  type text NOT NULL,
  queue text NOT NULL,
  msg_id bigint,                -- the message that is at work for it, or was last
  status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'processing', 'partial', 'completed', 'failed')),
  progress smallint NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
  input jsonb NOT NULL,
  result jsonb,
  missing text[] NOT NULL DEFAULT '{}',
  error text,
  attempts integer NOT NULL DEFAULT 0,
  retries integer NOT NULL DEFAULT 0, -- times that what is missing was tried again
  next_retry_at timestamptz,          -- while it waits for the next of these
  retry_until timestamptz,
  idempotency_key text,
  body_hash bytea,
  watched_until timestamptz,    -- somebody wants to hear of changes
  version bigint NOT NULL DEFAULT 1, -- grows with each change
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz
) WITH (fillfactor = 70); -- room for updates in place; none of the columns that change has an index, but for the rare partial ones
CREATE UNIQUE INDEX IF NOT EXISTS jobs_idempotency_idx ON pgmqd.jobs (type, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_created_at_idx ON pgmqd.jobs (created_at);
CREATE INDEX IF NOT EXISTS jobs_retry_idx ON pgmqd.jobs (next_retry_at) WHERE next_retry_at IS NOT NULL;
COMMENT ON TABLE pgmqd.jobs IS 'jobs started over HTTP or by pgmqd.start_job(): how far each is, and what came of it';

INSERT INTO pgmqd.settings AS s (name, default_value, description) VALUES
  ('keep_jobs', '30 days', 'how long jobs and their results stay, from their start')
ON CONFLICT (name) DO UPDATE SET default_value = excluded.default_value, description = excluded.description
WHERE (s.default_value, s.description) IS DISTINCT FROM (excluded.default_value, excluded.description);

-- ---- a job follows its message ----

-- Stamps each change, and notifies the clients that watch the job.
CREATE OR REPLACE FUNCTION pgmqd.job_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  NEW.version := OLD.version + 1;
  NEW.updated_at := clock_timestamp();
  IF NEW.watched_until > NEW.updated_at THEN
    PERFORM pg_notify(pgmqd.setting('channel') || '_jobs', NEW.id::text);
  END IF;
  RETURN NEW;
END $f$;

CREATE OR REPLACE TRIGGER job_changed BEFORE UPDATE ON pgmqd.jobs FOR EACH ROW
  WHEN ((OLD.status, OLD.progress, OLD.missing, OLD.attempts, OLD.next_retry_at, OLD.error)
    IS DISTINCT FROM (NEW.status, NEW.progress, NEW.missing, NEW.attempts, NEW.next_retry_at, NEW.error))
  EXECUTE FUNCTION pgmqd.job_changed();

-- Trigger on the tables of a queue with jobs; the argument is the event: sent, claimed, done or dead. The job's row changes together
-- with the message, and a failure here never fails the message. A job_id is only a text, and other enqueuers may write it, too: so a
-- message is followed only in the queue of its job, and only when the job has no message, or its last one is gone and this one replaces
-- it: a remainder, or a dead letter that was requeued.
CREATE OR REPLACE FUNCTION pgmqd.job_follows() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  job uuid;
  last bigint;
  home regclass;
  living regclass;
  waits boolean := false;
BEGIN
  IF coalesce(NEW.message->>'job_id', '') !~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
    RETURN NULL; -- somebody else's job
  END IF;
  job := (NEW.message->>'job_id')::uuid;
  SELECT j.msg_id, pgmqd.queue_table('q', j.queue), CASE TG_ARGV[0] WHEN 'done' THEN pgmqd.queue_table('a', j.queue)
      WHEN 'dead' THEN pgmqd.queue_table('q', pgmqd.dlq_name(j.queue)) ELSE pgmqd.queue_table('q', j.queue) END
  INTO last, living, home FROM pgmqd.jobs j WHERE j.id = job;
  IF home IS NULL OR home <> TG_RELID AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = TG_RELID AND i.inhparent = home) THEN
    RETURN NULL; -- a job of another queue
  END IF;
  CASE TG_ARGV[0]
  WHEN 'sent' THEN
    IF last IS NOT NULL THEN
      EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE msg_id = $1)', living) INTO waits USING last;
    END IF;
    UPDATE pgmqd.jobs j SET msg_id = NEW.msg_id, error = NULL, finished_at = NULL,
      status = CASE WHEN j.status IN ('completed', 'failed') THEN 'queued' ELSE j.status END
    WHERE j.id = job AND (j.msg_id IS NULL OR NOT waits AND (j.status IN ('queued', 'processing', 'partial')
      OR j.status = 'completed' AND j.finished_at = now() OR j.status = 'failed' AND NEW.headers ? 'pgmqd_history'));
  WHEN 'claimed' THEN
    UPDATE pgmqd.jobs j SET attempts = j.attempts + 1, started_at = coalesce(j.started_at, clock_timestamp()), next_retry_at = NULL,
      retries = j.retries + (j.status = 'partial')::integer,
      status = CASE j.status WHEN 'queued' THEN 'processing' ELSE j.status END
    WHERE j.id = job AND j.msg_id = NEW.msg_id AND j.status IN ('queued', 'processing', 'partial');
  WHEN 'done' THEN
    -- now(): job_finish() recognises its own transaction by this time
    UPDATE pgmqd.jobs j SET status = 'completed', progress = 100, next_retry_at = NULL, finished_at = now()
    WHERE j.id = job AND j.msg_id = NEW.msg_id AND j.status IN ('queued', 'processing', 'partial');
  WHEN 'dead' THEN
    UPDATE pgmqd.jobs j SET status = 'failed', next_retry_at = NULL, finished_at = clock_timestamp(),
      error = coalesce(NEW.headers #>> '{pgmqd_dead,reason}', 'the message is a dead letter')
    WHERE j.id = job AND j.msg_id = pgmqd.as_bigint(NEW.headers #>> '{pgmqd_dead,msg_id}') AND j.status IN ('queued', 'processing', 'partial');
  END CASE;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  PERFORM pgmqd.record_trigger_error(TG_NAME, TG_RELID::regclass::text, NEW.msg_id::text, SQLSTATE, SQLERRM);
  RETURN NULL;
END $f$;

-- Makes jobs follow the messages of a queue; its dead-letter queue has to be there. True when that was news.
CREATE OR REPLACE FUNCTION pgmqd.attach_jobs(queue text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  t record := pgmqd.dead_letter_tables(queue);
  archive regclass := pgmqd.queue_table('a', queue);
  isjob text := 'WHEN (NEW.message OPERATOR(pg_catalog.?) ''job_id'') EXECUTE FUNCTION pgmqd.job_follows';
BEGIN
  IF archive IS NULL THEN
    RAISE EXCEPTION 'queue "%" has no archive', queue USING ERRCODE = 'undefined_object';
  ELSIF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.living AND tgname = 'pgmqd_wakeup') THEN
    RAISE EXCEPTION 'queue "%" is not attached', queue USING ERRCODE = 'undefined_object', HINT = format('SELECT pgmqd.attach_queue(%L)', queue);
  END IF;
  IF (SELECT count(*) FROM pg_trigger WHERE tgrelid IN (t.living, t.dead, archive) AND tgenabled <> 'D'
      AND tgname IN ('pgmqd_job_sent', 'pgmqd_job_claimed', 'pgmqd_job_done', 'pgmqd_job_dead')) = 4 THEN
    RETURN false; -- no lock on a queue in use unless something has to change
  END IF;
  EXECUTE format('CREATE OR REPLACE TRIGGER pgmqd_job_sent AFTER INSERT ON %s FOR EACH ROW %s(''sent'')', t.living, isjob);
  EXECUTE format('CREATE OR REPLACE TRIGGER pgmqd_job_claimed AFTER UPDATE OF read_ct ON %s FOR EACH ROW %s(''claimed'')', t.living, isjob);
  EXECUTE format('CREATE OR REPLACE TRIGGER pgmqd_job_done AFTER INSERT ON %s FOR EACH ROW %s(''done'')', archive, isjob);
  EXECUTE format('CREATE OR REPLACE TRIGGER pgmqd_job_dead AFTER INSERT ON %s FOR EACH ROW %s(''dead'')', t.dead, isjob);
  RETURN true;
END $f$;

-- ---- starting ----

-- Starts jobs: for each a row and, in the same transaction, a message: the input with job_id and job_type in it. A key that was used for
-- the same type before starts nothing: outcome "known" for the same input, "conflict" for another one; else "started".
CREATE OR REPLACE FUNCTION pgmqd.start_jobs(types text[], queues text[], inputs text[], keys text[])
RETURNS TABLE (job_id uuid, outcome text, job_status text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $f$ -- by the indexes, whatever the planner believes the size is
DECLARE
  ids uuid[] := ARRAY(SELECT gen_random_uuid() FROM unnest(types));
  q text;
  messages jsonb[];
BEGIN
  IF EXISTS (SELECT FROM unnest(inputs) i WHERE jsonb_typeof(i::jsonb) <> 'object') THEN
    RAISE EXCEPTION 'the input of a job has to be a JSON object' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- in order of the keys, so that two of these at the same time cannot wait for each other
  INSERT INTO pgmqd.jobs (id, type, queue, input, idempotency_key, body_hash)
    SELECT w.id, w.type, w.queue, w.input::jsonb, w.key, CASE WHEN w.key IS NOT NULL THEN sha256(convert_to(w.input::jsonb::text, 'UTF8')) END
    FROM unnest(ids, types, queues, inputs, keys) WITH ORDINALITY AS w (id, type, queue, input, key, n) ORDER BY w.type, w.key, w.n
    ON CONFLICT (type, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;
  FOR q, messages IN
    SELECT j.queue, array_agg(j.input || jsonb_build_object('job_id', j.id, 'job_type', j.type))
    FROM pgmqd.jobs j WHERE j.id = ANY (ids) GROUP BY j.queue
  LOOP
    IF pgmqd.attached_table(q) IS NULL THEN
      RAISE EXCEPTION 'queue "%" does not exist, is not attached, or belongs to somebody else', q USING ERRCODE = 'undefined_table';
    END IF;
    PERFORM pgmq.send_batch(q, messages);
  END LOOP;
  RETURN QUERY SELECT coalesce(n.id, k.id),
      CASE WHEN n.id IS NOT NULL THEN 'started' WHEN k.body_hash = sha256(convert_to(w.input::jsonb::text, 'UTF8')) THEN 'known' ELSE 'conflict' END,
      coalesce(n.status, k.status)
    FROM unnest(ids, types, inputs, keys) WITH ORDINALITY AS w (id, type, input, key, n)
    LEFT JOIN pgmqd.jobs n ON n.id = w.id
    LEFT JOIN LATERAL (SELECT j.id, j.body_hash, j.status FROM pgmqd.jobs j
      WHERE n.id IS NULL AND j.type = w.type AND j.idempotency_key = w.key) k ON true
    ORDER BY w.n;
END $f$;

-- One job; the same key and input give the same job.
CREATE OR REPLACE FUNCTION pgmqd.start_job(type text, queue text, input jsonb, key text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  s record;
BEGIN
  SELECT * INTO s FROM pgmqd.start_jobs(ARRAY[type], ARRAY[queue], ARRAY[input::text], ARRAY[key]);
  IF s.outcome = 'conflict' THEN
    RAISE EXCEPTION 'idempotency_conflict: the key was used for a job with another input' USING ERRCODE = 'HT422';
  END IF;
  RETURN s.job_id;
END $f$;

-- ---- reports of the plugin ----

-- How far it is, in percent; it never goes back.
CREATE OR REPLACE FUNCTION pgmqd.job_progress(job uuid, percent integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  UPDATE pgmqd.jobs j SET progress = least(percent, 99), status = CASE j.status WHEN 'queued' THEN 'processing' ELSE j.status END
  WHERE j.id = job AND j.status IN ('queued', 'processing', 'partial') AND j.progress < least(percent, 99)
$f$;

-- One part of the result, under a name; it is missing no more.
CREATE OR REPLACE FUNCTION pgmqd.job_part(job uuid, name text, value jsonb, percent integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  UPDATE pgmqd.jobs j SET result = CASE WHEN jsonb_typeof(j.result) = 'object' THEN j.result ELSE '{}' END || jsonb_build_object(name, value),
    missing = array_remove(j.missing, name), progress = greatest(j.progress, least(percent, 99)),
    status = CASE j.status WHEN 'queued' THEN 'processing' ELSE j.status END
  WHERE j.id = job AND j.status IN ('queued', 'processing', 'partial')
$f$;

-- Something is missing, and will be tried again after retry_in; no longer than retry_for, from when something was missing first.
CREATE OR REPLACE FUNCTION pgmqd.job_partial(job uuid, missing text[], retry_in interval, retry_for interval) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  UPDATE pgmqd.jobs j SET status = 'partial', missing = $2, next_retry_at = clock_timestamp() + retry_in,
    retry_until = coalesce(j.retry_until, clock_timestamp() + retry_for)
  WHERE j.id = job AND j.status IN ('queued', 'processing', 'partial')
$f$;

-- The state from which a gathering job goes on: its status, the names of the parts that have come, and the milliseconds that are left for trying again
-- (NULL: nothing was missing yet).
CREATE OR REPLACE FUNCTION pgmqd.job_state(job uuid) RETURNS TABLE (status text, parts json, left_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT j.status, coalesce((SELECT json_agg(k) FROM jsonb_object_keys(CASE jsonb_typeof(j.result) WHEN 'object' THEN j.result ELSE '{}' END) k),
    '[]'), (extract(epoch FROM j.retry_until - clock_timestamp()) * 1000)::bigint
  FROM pgmqd.jobs j WHERE j.id = job
$f$;

-- The end: a result (NULL leaves the parts that came), what is missing for good, and why it failed if it did. To be called in the
-- transaction that archives the message (pgmqd_done_with), so that both happen or neither; the archive may come first.
CREATE OR REPLACE FUNCTION pgmqd.job_finish(job uuid, result jsonb DEFAULT NULL, missing text[] DEFAULT '{}', error text DEFAULT NULL)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  UPDATE pgmqd.jobs j SET status = CASE WHEN $4 IS NULL THEN 'completed' ELSE 'failed' END, error = $4, missing = $3, next_retry_at = NULL,
    progress = CASE WHEN $4 IS NULL THEN 100 ELSE least(j.progress, 99) END, result = coalesce($2, j.result), finished_at = now()
  WHERE j.id = job AND (j.status IN ('queued', 'processing', 'partial') OR j.status = 'completed' AND j.finished_at = now())
$f$;

-- ---- trying again ----

-- Makes the message of a job that waits visible now, or sends it anew where there is none any more.
CREATE OR REPLACE FUNCTION pgmqd.wake_job(j pgmqd.jobs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  t record := pgmqd.dead_letter_tables(j.queue);
  dead bigint;
  n integer;
BEGIN
  -- a locked message is being claimed, and that transaction will need the row of the job: waiting for it would be a deadlock
  EXECUTE format('WITH free AS MATERIALIZED (SELECT msg_id FROM %1$s WHERE msg_id = $1 FOR UPDATE SKIP LOCKED),
      woken AS (UPDATE %1$s q SET vt = clock_timestamp() FROM free f WHERE q.msg_id = f.msg_id)
    SELECT count(*) FROM %1$s WHERE msg_id = $1', t.living) INTO n USING j.msg_id;
  IF n > 0 THEN
    PERFORM pg_notify(pgmqd.setting('channel'), pgmqd.stored_name(j.queue));
    RETURN;
  END IF;
  EXECUTE format('SELECT msg_id FROM %s WHERE headers @> jsonb_build_object(''pgmqd_dead'', jsonb_build_object(''msg_id'', $1)) AND message->>''job_id'' = $2
    ORDER BY msg_id DESC LIMIT 1', t.dead) INTO dead USING j.msg_id, j.id::text;
  IF dead IS NOT NULL THEN
    PERFORM pgmqd.redrive(j.queue, ARRAY[dead]);
  ELSE
    UPDATE pgmqd.jobs x SET msg_id = NULL WHERE x.id = j.id; -- the new message takes its place
    PERFORM pgmqd.enqueue(j.queue, j.input || jsonb_build_object('job_id', j.id, 'job_type', j.type));
  END IF;
END $f$;

-- Retries the missing part of a job now, or the whole of a failed one. Returns the job as it was before; errors HT404 and HT409.
CREATE OR REPLACE FUNCTION pgmqd.retry_job(type text, id uuid) RETURNS pgmqd.jobs
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  j pgmqd.jobs;
BEGIN
  SELECT * INTO j FROM pgmqd.jobs x WHERE x.id = retry_job.id AND x.type = retry_job.type FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no_such_job: there is no such job' USING ERRCODE = 'HT404';
  ELSIF j.status IN ('queued', 'processing') OR j.status = 'completed' AND j.missing = '{}' THEN
    RAISE EXCEPTION 'nothing_to_retry: the job is %, and nothing of it is missing', j.status USING ERRCODE = 'HT409';
  END IF;
  -- a partial job without a planned retry is running now: it is left alone
  IF j.status <> 'partial' OR j.next_retry_at IS NOT NULL THEN
    UPDATE pgmqd.jobs x SET retry_until = NULL, next_retry_at = CASE WHEN j.status = 'partial' THEN clock_timestamp() END,
      status = CASE WHEN cardinality(j.missing) > 0 THEN 'partial' ELSE 'queued' END, error = NULL, finished_at = NULL
    WHERE x.id = j.id;
    PERFORM pgmqd.wake_job(j);
  END IF;
  RETURN j;
END $f$;

-- Makes the messages of jobs visible whose next try is due; returns the ids of the jobs.
CREATE OR REPLACE FUNCTION pgmqd.retry_due_jobs(max_rows integer DEFAULT 1000) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  j pgmqd.jobs;
BEGIN
  FOR j IN SELECT * FROM pgmqd.jobs x WHERE x.next_retry_at <= clock_timestamp() AND x.status = 'partial'
           ORDER BY x.next_retry_at LIMIT max_rows FOR UPDATE SKIP LOCKED LOOP
    PERFORM pgmqd.wake_job(j);
    RETURN NEXT j.id;
  END LOOP;
END $f$;

-- ---- asking ----

-- The fields of a job that HTTP shows: status, result, missing or retry.
CREATE OR REPLACE FUNCTION pgmqd.job_json(j pgmqd.jobs, what text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_build_object('job_id', j.id, 'type', j.type, 'status', j.status) || CASE what
    WHEN 'result' THEN jsonb_build_object('result', j.result, 'missing_sources', j.missing, 'error', j.error)
    WHEN 'missing' THEN jsonb_build_object('missing_sources', j.missing)
    WHEN 'retry' THEN jsonb_build_object('retries', j.retries, 'next_retry_at', pgmqd.iso_time(j.next_retry_at),
      'retry_until', pgmqd.iso_time(j.retry_until), 'missing_sources', j.missing)
    ELSE jsonb_build_object('progress', j.progress, 'attempts', j.attempts, 'missing_sources', j.missing, 'error', j.error,
      'created_at', pgmqd.iso_time(j.created_at), 'started_at', pgmqd.iso_time(j.started_at), 'updated_at', pgmqd.iso_time(j.updated_at),
      'finished_at', pgmqd.iso_time(j.finished_at)) END
$f$;

-- The same for one job of a type; errors HT404 and, while there is no result, HT409.
CREATE OR REPLACE FUNCTION pgmqd.job_info(type text, id uuid, what text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  j pgmqd.jobs;
BEGIN
  SELECT * INTO j FROM pgmqd.jobs x WHERE x.id = job_info.id AND x.type = job_info.type;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no_such_job: there is no such job' USING ERRCODE = 'HT404';
  ELSIF what = 'result' AND j.status IN ('queued', 'processing') THEN
    RAISE EXCEPTION 'not_finished: the job is %; there is no result yet', j.status USING ERRCODE = 'HT409';
  END IF;
  RETURN pgmqd.job_json(j, what);
END $f$;

-- The status, its version, and from now on for a minute a notification (channel NAME_jobs, payload the id) of each change.
CREATE OR REPLACE FUNCTION pgmqd.watch_job(type text, id uuid)
RETURNS TABLE (version bigint, finished boolean, waiting boolean, completed boolean, attempts integer, missing integer, info jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN QUERY UPDATE pgmqd.jobs x SET watched_until = clock_timestamp() + interval '1 minute'
    WHERE x.id = watch_job.id AND x.type = watch_job.type
    RETURNING x.version, x.status IN ('completed', 'failed'), x.status = 'partial' AND x.next_retry_at IS NOT NULL, x.status = 'completed',
      x.attempts, cardinality(x.missing), pgmqd.job_json(x, 'status');
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no_such_job: there is no such job' USING ERRCODE = 'HT404';
  END IF;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'start_jobs', 'attach_jobs', 'job_info', 'watch_job', 'retry_job', 'retry_due_jobs', 'job_state', 'job_progress', 'job_part', 'job_partial', 'job_finish');
END $$;

RESET search_path;
