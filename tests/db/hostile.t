# hostile.t: with a schema of somebody's in front that has every operator, function, type and relation of pg_catalog, none of them is called by
# our SQL: not while it is applied by hand, not by our functions, and not by our triggers.
set -u
echo 1..6
source "${BASH_SOURCE[0]%/*}/../lib/tap.sh"
sql -d postgres -c 'CREATE DATABASE h1'
sql -d h1 -f "${BASH_SOURCE[0]%/*}/../lib/hostile.sql"
seen() { PGOPTIONS='-c search_path=pg_catalog' sql -d h1 -c 'SELECT string_agg(DISTINCT what, chr(10)) FROM hostile.seen'; }
# the trap works
sql -d h1 -c "SET search_path = hostile, pg_catalog" -c "SELECT lower('x'), -(1 + 1), 'a'::text FROM pg_am" >/dev/null
is "$(seen)" $'function lower(text)\noperator +(integer,integer)\noperator -(NONE,integer)\nrelation pg_am\ntype text' '(the trap works)'
is "$(sql -d h1 -c "SELECT count(*) FROM pg_operator o WHERE oprnamespace = 'pg_catalog'::regnamespace AND NOT EXISTS (SELECT FROM pg_operator h
  WHERE h.oprnamespace = 'hostile'::regnamespace AND (h.oprname, h.oprleft, h.oprright) = (o.oprname, o.oprleft, o.oprright))")" 0 '(with every operator there is)'
sql -d h1 -c 'TRUNCATE hostile.seen' -c 'ALTER DATABASE h1 SET search_path = hostile, pg_catalog, public'
# ---- applied by hand, as in an SQL editor ----
out=$(for file in "$SQL_DIR"/0*.sql; do PGOPTIONS='-c client_min_messages=warning' sql -1 -d h1 -f "$file" || echo "$file failed"; done 2>&1 | grep -v '^ *$')
is "$out$(seen)" '' 'the files, applied by hand, call nothing of it'
# ---- our functions, and the triggers of the application ----
out=$(sql -d h1 2>&1 <<'SQL'
SELECT pgmqd.create_queue('jobs'), pgmqd.prioritize_queue('jobs'), pgmqd.group_queue('jobs'), pgmqd.attach_jobs('jobs');
INSERT INTO pgmq.q_jobs (vt, message) VALUES (pg_catalog.now(), '{}');
SELECT pgmqd.submit('jobs', '{"key": "k"}'), pgmqd.start_job('t', 'jobs', '{}');
UPDATE pgmq.q_jobs SET vt = vt, read_ct = 1;
UPDATE pgmq.q_jobs SET vt = '-infinity';
INSERT INTO pgmq.a_jobs (msg_id, vt, message) SELECT msg_id, vt, message FROM pgmq.q_jobs;
INSERT INTO pgmq.q_jobs_dlq (vt, message, headers) SELECT vt, message, '{"pgmqd_dead": {"reason": "x", "msg_id": 1}}' FROM pgmq.q_jobs;
SELECT * FROM pgmqd.dead_letters('jobs');
SELECT * FROM pgmqd.redrive('jobs', max_rows => 1);
SELECT pgmqd.purge_dead_letters('jobs');
SELECT * FROM pgmqd.queue_status();
SELECT * FROM pgmqd.queue_rates();
SELECT * FROM pgmqd.queue_events('jobs');
SELECT pgmqd.pause('jobs', 'x'), pgmqd.resume('jobs'), pgmqd.failure_groups(), pgmqd.schedule_status(), pgmqd.delete_old();
SELECT * FROM pgmqd.connect();
UPDATE public.assessments SET status = 'completed';
UPDATE public.appointments SET status = 'scheduled';
UPDATE public.payments SET status = 'completed';
SELECT public.update_appointment_statuses(), public.cleanup_old_assessments(), public.send_appointment_reminders();
SELECT public.queue_email_task('a@example.test', 'x', 'report_ready', '{}', 1), public.pgmq_read('jobs'), public.pgmq_archive('jobs', 4);
SELECT * FROM public.pgmq_metrics('jobs');
SELECT pgmqd.erase_person('anna@example.test');
SELECT pgmq.create('plain'), pgmq.create_unlogged('plain2'), pgmq.create_fifo_index('plain'), pgmq.enable_notify_insert('plain'), pgmq.bind_topic('a.*', 'plain');
SELECT pgmq.send('plain', '{}'::pg_catalog.jsonb), pgmq.send('plain', '{}'::pg_catalog.jsonb, 0), pgmq.send_batch('plain', ARRAY['{}', '{}']::pg_catalog.jsonb[]), pgmq.send_topic('a.b', '{}'::pg_catalog.jsonb);
SELECT * FROM pgmq.read('plain', 0, 1); SELECT * FROM pgmq.read_grouped('plain', 0, 1); SELECT * FROM pgmq.read_with_poll('plain', 0, 1, 1, 10);
SELECT * FROM pgmq.metrics('plain'); SELECT * FROM pgmq.metrics_all(); SELECT * FROM pgmq.list_queues(); SELECT * FROM pgmq.list_topic_bindings(); SELECT * FROM pgmq.test_routing('a.b');
SELECT pgmq.set_vt('plain', 1::bigint, 0), pgmq.pop('plain'), pgmq.archive('plain', 2::bigint), pgmq.delete('plain', 3::bigint), pgmq.purge_queue('plain');
SELECT pgmq.drop_queue('plain');
SQL
)
is "$(grep -A3 ERROR <<<"$out")" '' 'functions and triggers work beside it'
is "$(seen)" '' 'and call nothing of it'
# ---- and those that no test calls: a function of ours has a search_path of its own, or a body that was bound when it was
# made, but for one that says pg_catalog everywhere ----
is "$(PGOPTIONS='-c search_path=pg_catalog' sql -d h1 -c "SELECT string_agg(p.oid::regprocedure::text, ' ' ORDER BY 1) FROM pg_proc p
  WHERE pronamespace::regnamespace::text IN ('pgmq', 'pgmqd', 'public') AND prosqlbody IS NULL
    AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)")" 'pgmqd.wakeup()' \
  'every function has its own search_path'
sql -d postgres -c 'DROP DATABASE h1'
