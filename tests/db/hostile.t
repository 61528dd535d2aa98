# hostile.t: with somebody's operators and functions in front of the real ones, none of them is called by our SQL: not while it is applied by
# hand, not by our functions, and not by our triggers.
set -u
echo 1..4
n=0 out='' status=0
sql() { psql -qAtX -v ON_ERROR_STOP=1 "$@"; }
report() { # ok|no, title
  n=$((n + 1))
  if [[ $1 == ok ]]; then echo "ok $n - $2"; else echo "not ok $n - $2"; sed 's/^/# /' <<<"status $status"$'\n'"$out"; fi
}
is() { if [[ $1 == "$2" ]]; then report ok "$3"; else out="have: $1"$'\n'"want: $2"$'\n'$out report no "$3"; fi; }
sql -d postgres -c 'CREATE DATABASE h1'
# a schema with a copy of every operator of the common types, and of the functions that SQL calls most; each leaves a trace of itself
sql -d h1 -c 'CREATE SCHEMA hostile' -c 'CREATE SEQUENCE hostile.calls' -c 'CREATE TABLE hostile.seen (what text)' -c 'GRANT USAGE ON SCHEMA hostile TO PUBLIC' \
  -c 'GRANT ALL ON SEQUENCE hostile.calls TO PUBLIC' -c 'GRANT ALL ON hostile.seen TO PUBLIC' <<'SQL'
SQL
sql -d h1 <<'SQL'
DO $$
DECLARE
  o record;
  f record;
BEGIN
  FOR o IN SELECT oprname, oprleft::regtype::text AS l, oprright::regtype::text AS r, oprresult::regtype::text AS res, oprcode::regproc::text AS code, op.oid
    FROM pg_catalog.pg_operator op WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
      AND oprleft IN (SELECT unnest(ARRAY['text', 'integer', 'bigint', 'jsonb', 'timestamptz', 'timestamp', 'interval', 'boolean', 'uuid', 'double precision', 'date', 'name', 'oid', 'numeric']::regtype[]))
      AND oprright IN (SELECT unnest(ARRAY['text', 'integer', 'bigint', 'jsonb', 'timestamptz', 'timestamp', 'interval', 'boolean', 'uuid', 'double precision', 'date', 'name', 'oid', 'numeric', 'text[]']::regtype[]))
  LOOP
    BEGIN
      EXECUTE pg_catalog.format('CREATE FUNCTION hostile.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO hostile.seen VALUES (%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END $f$',
        o.oid, o.l, o.r, o.res, 'operator ' || o.oprname || '(' || o.l || ', ' || o.r || ')', o.oprname);
      EXECUTE pg_catalog.format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.op_%s)', o.oprname, o.l, o.r, o.oid);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOR f IN SELECT * FROM (VALUES ('lower(text)', 'text'), ('format(text, text)', 'text'), ('now()', 'timestamptz'), ('clock_timestamp()', 'timestamptz'), ('length(text)', 'integer'),
      ('btrim(text)', 'text'), ('to_regclass(text)', 'regclass'), ('quote_ident(text)', 'text'), ('pg_notify(text, text)', 'void'), ('octet_length(text)', 'integer'),
      ('jsonb_typeof(jsonb)', 'text'), ('left(text, integer)', 'text'), ('current_database()', 'name')) v (name, res)
  LOOP
    EXECUTE pg_catalog.format('CREATE FUNCTION hostile.%s RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO hostile.seen VALUES (%L); RETURN%s; END $f$', f.name, f.res, 'function ' || f.name,
      CASE f.res WHEN 'void' THEN '' ELSE ' NULL::' || f.res END);
  END LOOP;
END $$;
SQL
# the trap works
sql -d h1 -c "SET search_path = hostile, pg_catalog" -c "SELECT lower('x'), 'a'::text || 'b'::text" >/dev/null
is "$(sql -d h1 -c 'SELECT count(*) FROM hostile.seen')" 2 '(the trap works)'
sql -d h1 -c 'TRUNCATE hostile.seen' -c 'ALTER DATABASE h1 SET search_path = hostile, pg_catalog, public'
# ---- applied by hand, as in an SQL editor ----
out=$(for file in "$SQL_DIR"/0*.sql; do PGOPTIONS='-c client_min_messages=warning' sql -1 -d h1 -f "$file" || echo "$file failed"; done 2>&1 | grep -v '^ *$')
is "$out$(sql -d h1 -c 'SELECT string_agg(DISTINCT what, chr(10)) FROM hostile.seen')" '' 'the files, applied by hand, call nothing of it'
# ---- our functions, and the triggers of the application ----
out=$(sql -d h1 2>&1 <<'SQL'
SELECT pgmqd.create_queue('jobs'), pgmqd.prioritize_queue('jobs'), pgmqd.group_queue('jobs'), pgmqd.attach_jobs('jobs');
INSERT INTO pgmq.q_jobs (vt, message) VALUES (pg_catalog.now(), '{}');
SELECT pgmqd.submit('jobs', '{"key": "k"}'), pgmqd.start_job('t', 'jobs', '{}');
UPDATE pgmq.q_jobs SET vt = vt, read_ct = 1;
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
SQL
)
is "$(grep -c ERROR <<<"$out")" 0 'functions and triggers work beside it'
is "$(sql -d h1 -c 'SELECT string_agg(DISTINCT what, chr(10)) FROM hostile.seen')" '' 'and call nothing of it'
sql -d postgres -c 'DROP DATABASE h1'
