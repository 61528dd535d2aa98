# core.t: `pgmqd migrate` without an application, with one, restored without its queues, in a database in use, and --uninstall.
set -u
echo 1..28
source "${BASH_SOURCE[0]%/*}/../lib/tap.sh"
export PGMQD_SQL_DIR=$SQL_DIR
for db in c1 c2; do sql -d postgres -c "CREATE DATABASE $db"; done

# ---- a database of a plugin author ----
pgmqd -d dbname=c1
is "$status" 0 'migrate without an application'
is "$(sql -d c1 -c 'SELECT count(*) FROM pgmq.meta')" 0 'makes no queue of a clinic'
is "$(sql -d c1 -c "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig)")" 0 'and no function in public'
is "$(sql -d c1 -c "SELECT string_agg(name, ' ') FROM pgmqd.schedule")" delete-old-messages 'and only its own schedule'
is "$([[ $out == *'not connected: on_'* ]] && echo named)" '' 'and does not speak of tables of a clinic'
out=$(sql -d c1 -c "SELECT pgmqd.create_queue('jobs')" -c "SELECT pgmqd.enqueue('jobs', '{}')" -c 'SELECT pgmqd.delete_old()' 2>&1)
is "$out" $'\n1\n{}' 'queues work'
pgmqd -d dbname=c1 --with plugins
is "$(sql -d c1 -c "SELECT string_agg(queue_name, ' ' ORDER BY 1) FROM pgmq.meta WHERE queue_name !~ '_dlq'")" 'jobs mail_events_queue' '--with plugins brings the tables of plugins'
sql -d c1 -c 'CREATE TABLE public.payments (id text, user_id text, status text, amount numeric, appointment_id text)'
pgmqd -d dbname=c1 --status
says '031_setup_queues.sql            pending   -' 'a database with a table of the application gets its part'
pgmqd -d dbname=c1 --with nonsense
is "$status" 2 'an unknown part is a usage error'

# ---- restored without the queues' tables ----
pgmqd -d dbname=c1
sql -d c1 -c "DROP VIEW pgmq.email_queue" -c 'DROP TABLE pgmq.q_email_queue, pgmq.a_email_queue, pgmq.q_email_queue_dlq, pgmq.a_email_queue_dlq' -c "DELETE FROM pgmq.meta WHERE queue_name ~ '^email_queue'"
pgmqd -d dbname=c1 --status
says '031_setup_queues.sql            missing' 'a queue that is missing is noticed'
pgmqd -d dbname=c1
is "$status $(sql -d c1 -c "SELECT count(*) FROM pgmq.meta WHERE queue_name ~ '^email_queue'")" '0 2' 'and made again'

# ---- a schema pgmq that an older pgmqd made ----
sql -d c1 -c "DROP VIEW pgmq.email_queue, pgmq.report_generation_queue, pgmq.payment_processing_queue, pgmq.analytics_queue" -c 'ALTER TABLE pgmq.q_jobs DROP COLUMN last_read_at' \
  -c 'ALTER TABLE pgmq.a_jobs DROP COLUMN last_read_at' -c 'DROP TYPE pgmq.message_record CASCADE' -c 'ALTER TYPE pgmq.metrics_result DROP ATTRIBUTE default_partition_length CASCADE' \
  -c 'CREATE TYPE pgmq.message_record AS (msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb)' \
  -c 'CREATE FUNCTION pgmq.pop(queue_name text) RETURNS SETOF pgmq.message_record LANGUAGE sql AS $$ SELECT NULL::pgmq.message_record $$' \
  -c "COMMENT ON SCHEMA pgmq IS 'queues with the interface of pgmq 1.5.1, made by pgmqd'" -c "UPDATE pgmqd.schema_version SET checksum = 'old' WHERE file ~ '^0[123]'" 2>/dev/null
pgmqd -d dbname=c1
is "$status $(sql -d c1 -c "SELECT count(*) FROM pgmq.q_jobs")" '0 1' 'is brought forward with its messages'
is "$(sql -d c1 -c "SELECT msg_id, last_read_at IS NOT NULL FROM pgmq.read('jobs', 0, 1)" -c "SELECT msg_id FROM pgmq.set_vt('jobs', 1, 0)")" $'1|t\n1' 'and its functions are new'

# ---- a database in use ----
sql -d c1 -c 'DROP POLICY pgmqd ON pgmq.q_jobs' 2>/dev/null
PGAPPNAME=backup psql -qAtX -d c1 -c 'BEGIN; LOCK TABLE pgmq.q_jobs IN ACCESS SHARE MODE; SELECT pg_sleep(60)' >/dev/null 2>&1 & busy=$!
until [[ $(sql -d c1 -c "SELECT count(*) FROM pg_locks WHERE relation = 'pgmq.q_jobs'::regclass AND granted") != 0 ]]; do sleep 0.05; done
"$PGMQD" migrate -d dbname=c1 --sql-dir "$SQL_DIR" --wait 3s >"$dir/busy.out" 2>&1 & migration=$!
until grep -q waiting "$dir/busy.out"; do sleep 0.05; kill -0 $migration 2>/dev/null || break; done
out=$(sql -d c1 -c "SET statement_timeout = '2s'" -c "SELECT pgmq.send('jobs', '{}')" 2>&1)
is "$out" 2 'an application enqueues while migrate waits for a lock'
status=0; wait $migration || status=$?
out=$(<"$dir/busy.out")
is "$status" 1 'migrate that left something undone exits 1'
says "pid $(sql -d c1 -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'backup'") (postgres, backup" 'and names the session in the way'
says 'something was left undone' 'and says so'
out=$(sql -d c1 -c "SELECT pgmqd.attach_queue('jobs')" 2>&1) # it grants, too
says 'lock timeout' 'attach_queue() does not wait either'
sql -d c1 -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backup'" >/dev/null
wait $busy 2>/dev/null
pgmqd -d dbname=c1
is "$status" 0 'when it is free, all is done'
# an advisory lock is anybody's
psql -qAtX -d c1 -c "SELECT count(pg_advisory_lock(hashtext('pgmq.queue_' || q))) FROM unnest(ARRAY['late', 'late_dlq']) q; SELECT pg_advisory_lock(1885826417, 1); SELECT pg_sleep(30)" >/dev/null 2>&1 & busy=$!
until [[ $(sql -d c1 -c "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") != 3 ]]; do sleep 0.05; done
pgmqd -d dbname=c1 --wait 5s
is "$status" 0 'an advisory lock of a stranger stops nobody'
out=$(PGOPTIONS='-c lock_timeout=2s' sql -d c1 -c "SELECT pgmqd.create_queue('late')" 2>&1)
is "$out" '' 'and keeps no queue from being made'
sql -d c1 -c "SELECT pgmq.drop_queue('late'), pgmq.drop_queue('late_dlq')" >/dev/null
sql -d c1 -c "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'" >/dev/null; wait $busy 2>/dev/null

# ---- away with it ----
pgmqd -d dbname=c1 --uninstall
is "$status" 0 '--uninstall'
pgmqd -d dbname=c1 --uninstall
is "$status" 0 'a second time it finds nothing, and that is no error'
is "$(sql -d c1 -c "SELECT to_regnamespace('pgmqd') IS NULL, (SELECT count(*) FROM pgmq.q_jobs), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
  (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig)), (SELECT count(*) FROM pg_policy)")" 't|2|0|0|0' 'leaves the messages, and nothing of ours'
out=$(sql -d c1 -U pgmqd -c 'SELECT * FROM pgmq.q_jobs' 2>&1)
says 'permission denied' 'and no right to our role'
pgmqd -d dbname=c1
is "$status $(sql -d c1 -c "SELECT count(*) FROM pgmq.q_jobs")" '0 2' 'it can come back'

# ---- another owner than a superuser ----
pgmqd -d dbname=c2 --with application
sql -d c2 -c "SELECT pgmqd.set_owner('pgmqd_migrator')"
is "$(sql -d c2 -c "SELECT string_agg(DISTINCT r, ' ') FROM (SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace) UNION ALL
  SELECT relowner::regrole::text FROM pg_class WHERE relnamespace IN ('pgmqd'::regnamespace, 'pgmq'::regnamespace)) x (r)")" 'pgmqd_application pgmqd_migrator' 'set_owner() gives all to a role that is no superuser'
sql -d postgres -c 'CREATE ROLE deploy LOGIN IN ROLE pgmqd_migrator' 2>/dev/null
sql -d c2 -c 'GRANT pgmqd_application TO pgmqd_migrator'
pgmqd -d 'dbname=c2 user=deploy options=-crole=pgmqd_migrator'
is "$status" 0 'and that role migrates from then on'
for db in c1 c2; do sql -d postgres -c "DROP DATABASE $db WITH (FORCE)"; done
