-- 027_jobs.sql: jobs: starting once, following the message, partial results, trying again.
-- database: app
BEGIN;
SELECT plan(47);
SELECT pgmqd.create_queue('work');
SELECT is(pgmqd.attach_jobs('work'), true, 'attached');
SELECT is(pgmqd.attach_jobs('work'), false, 'no news');
CREATE FUNCTION pg_temp.job(what text DEFAULT 'k1') RETURNS pgmqd.jobs LANGUAGE sql AS $$SELECT * FROM pgmqd.jobs WHERE idempotency_key = what$$;
CREATE FUNCTION pg_temp.claim() RETURNS bigint LANGUAGE sql AS
  $$UPDATE pgmq.q_work SET read_ct = read_ct + 1, vt = clock_timestamp() + interval '30 s' RETURNING msg_id$$;
CREATE FUNCTION pg_temp.archive() RETURNS void LANGUAGE sql AS
  $$WITH gone AS (DELETE FROM pgmq.q_work RETURNING *) INSERT INTO pgmq.a_work (msg_id, read_ct, enqueued_at, vt, message)
    SELECT msg_id, read_ct, enqueued_at, vt, message FROM gone$$;
CREATE FUNCTION pg_temp.bury() RETURNS void LANGUAGE sql AS
  $$WITH gone AS (DELETE FROM pgmq.q_work RETURNING *) INSERT INTO pgmq.q_work_dlq (vt, message, headers)
    SELECT now(), message, jsonb_build_object('pgmqd_dead', jsonb_build_object('msg_id', msg_id, 'reason', 'broke')) FROM gone$$;

-- ---- starting ----
CREATE TEMP TABLE s AS SELECT * FROM pgmqd.start_jobs(ARRAY['t', 't', 't', 't', 'u'], ARRAY['work', 'work', 'work', 'work', 'work'],
  ARRAY['{"a": 9007199254740993}', '{"b": 1, "job_id": "x"}', '{"b":1,"job_id":"x"}', '{"b": 2}', '{"b": 2}'], ARRAY[NULL, 'k1', 'k1', 'k1', 'k1']);
SELECT results_eq('SELECT outcome FROM s', $$VALUES ('started'), ('started'), ('known'), ('conflict'), ('started')$$, 'each started once');
SELECT is(count(*), 3::bigint, 'three messages') FROM pgmq.q_work;
SELECT is(count(*), 3::bigint, 'each knows its job, and the job its message') FROM pgmq.q_work q JOIN pgmqd.jobs j ON j.msg_id = q.msg_id
  WHERE q.message->>'job_id' = j.id::text AND q.message->>'job_type' = j.type;
SELECT is(q.message->>'a', '9007199254740993', 'the input as it was') FROM pgmq.q_work q WHERE q.message ? 'a';
SELECT is((SELECT DISTINCT status || ' ' || progress FROM pgmqd.jobs), 'queued 0', 'queued');
SELECT is(pgmqd.start_job('t', 'work', '{"b": 1, "job_id": "x"}', 'k1'), (SELECT id FROM pgmqd.jobs WHERE type = 't' AND idempotency_key = 'k1'), 'again');
SELECT throws_ok($$SELECT pgmqd.start_job('t', 'work', '{"b": 3}', 'k1')$$, 'HT422', NULL, 'same key, other input');
SELECT throws_ok($$SELECT pgmqd.start_job('t', 'work', '[]')$$, '22023', NULL, 'no object');
DELETE FROM pgmq.q_work; DELETE FROM pgmqd.jobs;

-- ---- following ----
SELECT pgmqd.start_job('t', 'work', '{}', 'k1');
SELECT pg_temp.claim();
SELECT is((status, attempts, started_at IS NOT NULL)::text, '(processing,1,t)', 'claimed') FROM pg_temp.job();
SELECT pgmqd.job_progress(id, 40) FROM pg_temp.job();
SELECT pgmqd.job_progress(id, 20) FROM pg_temp.job();
SELECT is(progress, 40::smallint, 'never back') FROM pg_temp.job();
SELECT pgmqd.job_progress(id, 100) FROM pg_temp.job();
SELECT is(progress, 99::smallint, 'done is what is done') FROM pg_temp.job();
SELECT pg_temp.archive();
SELECT is((status, progress, finished_at IS NOT NULL)::text, '(completed,100,t)', 'archived') FROM pg_temp.job();
SELECT throws_ok($$SELECT pgmqd.retry_job('t', (pg_temp.job()).id)$$, 'HT409', NULL, 'nothing to retry');
SELECT pgmqd.start_job('t', 'work', '{}', 'k2');
SELECT pg_temp.claim();
SELECT pg_temp.bury();
SELECT is((status, error)::text, '(failed,broke)', 'a dead letter') FROM pg_temp.job('k2');
SELECT pgmqd.retry_job('t', (pg_temp.job('k2')).id);
SELECT is((status, error)::text, '(queued,)', 'again') FROM pg_temp.job('k2');
SELECT is((SELECT count(*) FROM pgmq.q_work_dlq), 0::bigint, 'put back, not doubled');
SELECT is((SELECT msg_id FROM pgmq.q_work), (pg_temp.job('k2')).msg_id, 'as this message');
-- a remainder takes the place of the message
SELECT pg_temp.claim();
WITH gone AS (DELETE FROM pgmq.q_work RETURNING *), kept AS (INSERT INTO pgmq.a_work (msg_id, read_ct, enqueued_at, vt, message)
    SELECT msg_id, read_ct, enqueued_at, vt, message FROM gone RETURNING 1)
  INSERT INTO pgmq.q_work (vt, message) SELECT now(), message FROM gone;
SELECT is((SELECT status IN ('queued', 'processing') AND j.msg_id = q.msg_id FROM pg_temp.job('k2') j, pgmq.q_work q), true, 'a remainder');
SELECT pg_temp.claim();
SELECT pg_temp.archive();
SELECT is(status, 'completed', 'in the end') FROM pg_temp.job('k2');
-- what is no job of ours
SELECT lives_ok($$INSERT INTO pgmq.q_work (vt, message) VALUES (now(), '{"job_id": "17"}'), (now(), '["job_id"]'),
  (now(), '{"job_id": "00000000-0000-4000-8000-000000000000"}'), (now(), '{"job_id": null}')$$, 'job ids of others');
SELECT is((SELECT count(*) FROM pgmqd.trigger_errors), 0::bigint, 'and no error');
DELETE FROM pgmq.q_work;

-- ---- partial ----
SELECT pgmqd.start_job('t', 'work', '{}', 'k3');
SELECT pg_temp.claim();
SELECT pgmqd.job_part(id, 'a', '{"x": 1}', 30) FROM pg_temp.job('k3');
SELECT pgmqd.job_partial(id, ARRAY['b', 'c'], '5 min', '3 h') FROM pg_temp.job('k3');
SELECT is((status, missing, result, progress, next_retry_at > now() + interval '4 min')::text, '(partial,"{b,c}","{""a"": {""x"": 1}}",30,t)', 'partial')
  FROM pg_temp.job('k3');
SELECT is(pgmqd.job_info('t', (pg_temp.job('k3')).id, 'result')->'result', '{"a": {"x": 1}}', 'what there is');
SELECT is_empty('SELECT * FROM pgmqd.retry_due_jobs()', 'nothing is due');
UPDATE pgmq.q_work SET vt = now() + interval '5 min';
SELECT is((pgmqd.retry_job('t', (pg_temp.job('k3')).id)).status, 'partial', 'asked for');
SELECT ok(vt <= clock_timestamp(), 'now') FROM pgmq.q_work;
SELECT pg_temp.claim();
SELECT is((status, retries, next_retry_at)::text, '(partial,1,)', 'being tried') FROM pg_temp.job('k3');
SELECT pgmqd.retry_job('t', (pg_temp.job('k3')).id);
SELECT ok(vt > clock_timestamp(), 'one that is at work is left alone') FROM pgmq.q_work;
SELECT pgmqd.job_part(id, 'b', '2', 60) FROM pg_temp.job('k3');
SELECT is(missing, '{c}', 'one came') FROM pg_temp.job('k3');
CREATE TEMP TABLE seen AS SELECT version FROM pg_temp.job('k3');
SELECT pgmqd.job_part(id, 'c', '3', 1) FROM pg_temp.job('k3');
SELECT is(version, (SELECT s.version + 1 FROM seen s), 'a part is a change, whatever the progress') FROM pg_temp.job('k3');
UPDATE pgmqd.jobs SET result = result - 'c', missing = '{c}' WHERE id = (pg_temp.job('k3')).id;
SELECT pgmqd.job_partial(id, ARRAY['c'], '-1 s', '3 h') FROM pg_temp.job('k3');
CREATE TEMP TABLE until AS SELECT retry_until FROM pg_temp.job('k3');
SELECT pgmqd.job_partial(id, ARRAY['c'], '-1 s', '9 h') FROM pg_temp.job('k3');
SELECT is(retry_until, (SELECT u.retry_until FROM until u), 'for how long, counts from the first time') FROM pg_temp.job('k3');
SELECT results_eq('SELECT * FROM pgmqd.retry_due_jobs()', 'SELECT id FROM pg_temp.job(''k3'')', 'it is due');
DELETE FROM pgmq.q_work; -- the message got lost
SELECT pgmqd.retry_due_jobs();
SELECT is((SELECT message->>'job_id' FROM pgmq.q_work), (pg_temp.job('k3')).id::text, 'sent anew');
SELECT pg_temp.claim();
SELECT pgmqd.job_finish(id, NULL, '{c}') FROM pg_temp.job('k3');
SELECT pg_temp.archive();
SELECT is((status, missing, result)::text, '(completed,{c},"{""a"": {""x"": 1}, ""b"": 2}")', 'time over') FROM pg_temp.job('k3');

-- ---- asking ----
SELECT throws_ok($$SELECT pgmqd.job_info('u', (pg_temp.job('k3')).id, 'status')$$, 'HT404', NULL, 'another type');
SELECT pgmqd.start_job('t', 'work', '{}', 'k4');
SELECT throws_ok($$SELECT pgmqd.job_info('t', (pg_temp.job('k4')).id, 'result')$$, 'HT409', NULL, 'no result yet');
SELECT is((version, finished)::text, '(' || (pg_temp.job('k3')).version || ',t)', 'watching changes no version')
  FROM pgmqd.watch_job('t', (pg_temp.job('k3')).id);
UPDATE pgmqd.jobs SET created_at = now() - interval '31 days' WHERE idempotency_key = 'k3';
SELECT is(pgmqd.delete_old()->>'pgmqd.jobs', '1', 'old ones go');
SELECT is((waiting, completed, attempts, missing)::text, '(f,f,0,0)', 'what is waited for') FROM pgmqd.watch_job('t', (pg_temp.job('k4')).id);
UPDATE pgmqd.jobs SET status = 'completed', finished_at = now() WHERE idempotency_key = 'k4'; -- what the archive did
SELECT pgmqd.job_finish(id, '{"r": 1}', '{x}', 'no x') FROM pg_temp.job('k4');
SELECT is((status, error, result)::text, '(failed,"no x","{""r"": 1}")', 'the plugin has the last word in its transaction') FROM pg_temp.job('k4');
SELECT pgmqd.start_job('t', 'work', '{}', 'k5');
SELECT pgmqd.job_finish(id, NULL, '{}', 'it broke') FROM pg_temp.job('k5');
SELECT is((status, progress)::text, '(failed,0)', 'what failed is not at its end') FROM pg_temp.job('k5');
UPDATE pgmqd.jobs SET status = 'completed', error = NULL, finished_at = now() - interval '1 s' WHERE idempotency_key = 'k4';
SELECT pgmqd.job_finish(id, NULL, '{}', 'late') FROM pg_temp.job('k4');
SELECT is(status, 'completed', 'and not later') FROM pg_temp.job('k4');
-- ---- a job_id is only a text: others' messages that carry it change nothing ----
DO $$ BEGIN
  PERFORM pgmqd.create_queue('mine'), pgmqd.create_queue('theirs');
  PERFORM pgmqd.attach_jobs('mine'), pgmqd.attach_jobs('theirs');
  PERFORM pgmqd.start_job('safe', 'mine', '{}');
END $$;
CREATE TEMP TABLE safe AS SELECT id, msg_id, status FROM pgmqd.jobs WHERE type = 'safe';
DO $$ BEGIN PERFORM pgmq.send(q, jsonb_build_object('job_id', (SELECT id FROM safe))) FROM unnest(ARRAY['theirs', 'mine']) q; END $$;
SELECT results_eq($$SELECT msg_id, status FROM pgmqd.jobs WHERE type = 'safe'$$, 'SELECT msg_id, status FROM safe', 'a message of another queue, or a second one, is not followed');
INSERT INTO pgmq.a_theirs (msg_id, vt, message) SELECT msg_id, now(), jsonb_build_object('job_id', id) FROM safe;
INSERT INTO pgmq.q_theirs_dlq (vt, message, headers) SELECT now(), jsonb_build_object('job_id', id), jsonb_build_object('pgmqd_dead', jsonb_build_object('msg_id', msg_id)) FROM safe;
SELECT is((SELECT status FROM pgmqd.jobs WHERE type = 'safe'), 'queued', 'nor is it done or dead by what happens there');
SELECT throws_ok($$SELECT pgmqd.attach_jobs('theirs_dlq')$$, '42704', NULL, 'a queue that is not attached carries no jobs');

SELECT * FROM finish();
ROLLBACK;
