# definers.t: our functions run no trigger, view, policy, cast or operator of others with our rights, whoever migrated.
set -u
echo 1..48
source "${BASH_SOURCE[0]%/*}/../lib/tap.sh"
export PGMQD_SQL_DIR=$SQL_DIR
due() { sql -d "$1" -c "UPDATE pgmqd.schedule SET next_due = now() WHERE name = '$2'"
  out=$(sql -d "$1" -U pgmqd -c "SELECT pgmqd.run_schedule('$2', next_due, next_due + interval '1 hour') FROM pgmqd.schedule WHERE name = '$2'" 2>&1); }
# A table that says who ran something, and a function that leaves a trace of itself there.
TRAP="CREATE TABLE public.trap (who text); GRANT INSERT ON public.trap TO PUBLIC;
  CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.trap VALUES (current_user);
    RETURN coalesce(NEW, OLD); END \$\$;"

sql -d postgres -c 'CREATE ROLE app_owner LOGIN' -c 'CREATE ROLE maker LOGIN' -c 'CREATE ROLE def_owner LOGIN' 2>/dev/null

# ---- a superuser migrates the database of an application that is none ----
sql -d postgres -c 'CREATE DATABASE d1 OWNER app_owner'
pgmqd -d dbname=d1 --with application
is "$status" 0 'a superuser migrates'
sql -d d1 -U app_owner -c 'CREATE SCHEMA cron' -c 'CREATE TABLE cron.job_run_details (end_time timestamptz, start_time timestamptz, runid bigint, jobid bigint, status text, return_message text)' \
  -c 'CREATE TABLE cron.job (jobid bigint, jobname text, database text, active boolean, schedule text, command text, username text)' -c "INSERT INTO cron.job_run_details VALUES ('2000-01-01')" -c "$TRAP" \
  -c 'CREATE TRIGGER t BEFORE DELETE ON cron.job_run_details FOR EACH ROW EXECUTE FUNCTION public.trap()'
due d1 delete-old-messages
is "$out" ok 'retention runs'
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'and leaves a history alone that is not pg_cron'"'"'s'
# ---- the application's own tables: a trigger of its owner's runs, but with next to no rights ----
sql -d d1 -U app_owner -c "CREATE TABLE public.appointments (id text PRIMARY KEY, user_id text, status text, starts_at timestamptz)" \
  -c "INSERT INTO public.appointments VALUES ('1', '1', 'scheduled', '2000-01-01')" -c 'CREATE TRIGGER t BEFORE UPDATE ON public.appointments FOR EACH ROW EXECUTE FUNCTION public.trap()'
pgmqd -d dbname=d1 --with application
due d1 update-appointment-statuses
is "$out $(sql -d d1 -c 'SELECT status FROM public.appointments')" 'ok completed' 'the application'"'"'s appointments follow time'
is "$(sql -d d1 -c 'SELECT DISTINCT who FROM public.trap')" pgmqd_application 'and its triggers run as pgmqd_application'
is "$(sql -d d1 -c "SELECT has_schema_privilege('pgmqd_application', 'pgmqd', 'USAGE') OR has_schema_privilege('pgmqd_application', 'pgmq', 'USAGE')")" f 'which may not use our schemas'
# one that is deferred does not wait for the end of the transaction, where it would have the rights of the session
sql -d d1 -U app_owner -c 'TRUNCATE public.trap' -c 'CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON public.appointments DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.trap()' \
  -c "UPDATE public.appointments SET status = 'scheduled'" -c 'TRUNCATE public.trap'
due d1 update-appointment-statuses
is "$out $(sql -d d1 -c 'SELECT string_agg(DISTINCT who, $$,$$) FROM public.trap')" 'ok pgmqd_application' 'so do those that are deferred'
sql -d d1 -U app_owner -c 'DROP TRIGGER later ON public.appointments'
# a trigger that changes search_path for good cannot make us call its operators
sql -d d1 -U app_owner -c 'CREATE OR REPLACE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET search_path = public, pg_catalog; RETURN coalesce(NEW, OLD); END $$' \
  -c "UPDATE public.appointments SET status = 'scheduled'" -c "CREATE FUNCTION public.plus(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.trap VALUES ('operator ' || current_user); RETURN 0; END \$\$" \
  -c 'CREATE OPERATOR public.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.plus)'
due d1 update-appointment-statuses
is "$out" failed 'a trigger that sets search_path is refused'
is "$(sql -d d1 -c "SELECT count(*) FROM public.trap WHERE who LIKE 'operator%'")" 0 'and its operators are not called'
# nor do other settings stay in the session
sql -d d1 -U app_owner -c "CREATE OR REPLACE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN SET default_transaction_read_only = on; SET statement_timeout = 1; SET \"TimeZone\" = 'Asia/Tokyo'; RETURN coalesce(NEW, OLD); END \$\$" \
  -c "UPDATE public.appointments SET status = 'scheduled'"
sql -d d1 -c "UPDATE pgmqd.schedule SET next_due = now() WHERE name = 'update-appointment-statuses'"
is "$(sql -d d1 -U pgmqd -c "SET TIME ZONE 'UTC'" -c "SELECT pgmqd.run_schedule('update-appointment-statuses', next_due, next_due + interval '1 hour') FROM pgmqd.schedule WHERE name = 'update-appointment-statuses'" \
  -c "SELECT current_setting('default_transaction_read_only'), current_setting('statement_timeout'), current_setting('TimeZone')")" $'ok\noff|0|UTC' 'what it sets otherwise does not stay in the session'
# a cast of a column's type
sql -d d1 -U app_owner -c "CREATE TYPE public.mood AS ENUM ('good')" -c 'CREATE FUNCTION public.mood_json(public.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.trap VALUES ('"'cast '"' || current_user); RETURN '"'1'"'; END $$' \
  -c 'CREATE CAST (public.mood AS json) WITH FUNCTION public.mood_json(public.mood)' -c "ALTER TABLE public.appointments ADD COLUMN mood public.mood DEFAULT 'good'" -c 'DROP TRIGGER t ON public.appointments'
sql -d d1 -U app_owner -c "INSERT INTO public.appointments VALUES ('2', '1', 'scheduled', now() + interval '3 hours')"
is "$(sql -d d1 -c "SELECT count(*) FROM public.trap WHERE who LIKE 'cast%' AND who <> 'cast pgmqd_application'")" 0 'nor do casts run with our rights'
# a queue's table that is somebody else's
sql -d d1 -c 'GRANT USAGE, CREATE ON SCHEMA pgmq TO maker' -c "SELECT pgmqd.create_queue('mine')" -c 'ALTER TABLE pgmq.q_mine OWNER TO maker' -c 'ALTER TABLE pgmq.q_mine_dlq OWNER TO maker' -c "INSERT INTO pgmq.q_mine_dlq (vt, message) VALUES (now(), '{}')" >/dev/null
sql -d d1 -c "GRANT EXECUTE ON FUNCTION public.trap() TO maker" 2>/dev/null
sql -d d1 -U maker -c 'CREATE TRIGGER t BEFORE DELETE ON pgmq.q_mine_dlq FOR EACH ROW EXECUTE FUNCTION public.trap()'
out=$(sql -d d1 -U pgmqd -c "SELECT pgmqd.redrive('mine')" 2>&1)
says 'belongs to a role that could not act' 'a queue of somebody else'"'"'s is not worked on with our rights'
out=$(sql -d d1 -U pgmqd -c "SELECT pgmqd.purge_dead_letters('mine')" 2>&1)
says 'belongs to a role that could not act' 'nor its dead letters deleted'
# a view in the place of a queue, or of an archive
sql -d d1 -c "INSERT INTO pgmqd.refunds (queue, msg_id, read_ct, n) VALUES ('mine', 1, 1, 1)" -c 'TRUNCATE public.trap' -c 'GRANT CREATE ON SCHEMA public TO maker' \
  -c "SELECT pgmqd.create_queue('once'), pgmqd.enqueue_unique('once', '{}', 'k')" -c 'DELETE FROM pgmq.q_once' -c 'ALTER TABLE pgmq.a_once OWNER TO maker' >/dev/null
sql -d d1 -U maker -c 'ALTER TABLE pgmq.q_mine RENAME TO q_was' -c "CREATE FUNCTION public.trap_row() RETURNS boolean LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.trap VALUES (current_user); RETURN true; END \$\$" \
  -c 'CREATE VIEW pgmq.q_mine AS SELECT * FROM pgmq.q_was WHERE public.trap_row()' -c "INSERT INTO pgmq.q_was (vt, message) VALUES (now(), '{}')" \
  -c 'ALTER TABLE pgmq.a_once RENAME TO a_was' -c 'CREATE VIEW pgmq.a_once AS SELECT 1::bigint AS msg_id, now() AS enqueued_at, now() AS archived_at WHERE public.trap_row()'
due d1 delete-old-messages
is "$out $(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 'ok 0' 'retention does not look into a view in a queue'"'"'s place'
is "$(sql -d d1 -c "SELECT problem FROM pgmqd.queue_status() WHERE queue = 'mine'") $(sql -d d1 -c 'SELECT count(*) FROM public.trap')" \
  'there is a view in the place of its table 0' 'nor does whoever asks for the status'
sql -d d1 -c "SELECT pgmqd.enqueue_unique('once', '{}', 'k', '1 hour')" >/dev/null
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'nor do unique messages, into one in an archive'"'"'s'
out=''
for call in "pgmq_read('mine')" "pgmq_archive('mine', 1)" "pgmq_delete('mine', 1)" "pgmq_metrics('mine')" "pgmq_send('mine', '{}')" "pgmq_archive('once', 1)"; do
  out+=$(sql -d d1 -c "SELECT public.$call" 2>&1 | head -n 1)$'\n'
done
is "$(grep -c 'belongs to' <<<"$out")" 6 'the functions for the application refuse such queues'
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'and do not look into them'
sql -d d1 -c 'DELETE FROM pgmqd.refunds' -c 'DELETE FROM pgmqd.unique_keys'
sql -d d1 -c "INSERT INTO pgmqd.unique_keys (queue, key, msg_id, enqueued_at) VALUES ('mine', 'k', 1, '2000-01-01'), ('dropped', 'k', 1, '2000-01-01')" \
  -c "INSERT INTO pgmqd.refunds (queue, msg_id, n, read_ct) VALUES ('mine', 1, 1, 1), ('dropped', 1, 1, 1)" -c 'SELECT pgmqd.delete_old()' >/dev/null
is "$(sql -d d1 -c 'SELECT k.queue, r.queue FROM pgmqd.unique_keys k, pgmqd.refunds r')" 'mine|mine' 'nor what is known of its messages'

# ---- GRANT ALL on our tables has TRIGGER in it: a trigger of a stranger's is on each table of a queue ----
sql -d d1 -c "SELECT pgmqd.create_queue('granted'), pgmqd.enqueue('granted', '{}')" -c "INSERT INTO pgmq.q_granted_dlq (vt, message) VALUES (now(), '{}')" \
  -c "INSERT INTO pgmq.a_granted (msg_id, vt, message, archived_at) VALUES (99, now(), '{}', '2000-01-01')" -c 'GRANT ALL ON ALL TABLES IN SCHEMA pgmq TO maker' -c 'TRUNCATE public.trap' \
  -c "CREATE OR REPLACE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.trap VALUES (current_user); RETURN coalesce(NEW, OLD); END \$\$" -c 'ALTER FUNCTION public.trap() OWNER TO maker' >/dev/null
for tab in q_granted a_granted q_granted_dlq; do
  sql -d d1 -U maker -c "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON pgmq.$tab FOR EACH ROW EXECUTE FUNCTION public.trap()"
done
sql -d postgres -c 'CREATE ROLE enqueuer LOGIN IN ROLE pgmqd_enqueuer' 2>/dev/null
out=''
for call in "redrive('granted')" "purge_dead_letters('granted')" "act_on_messages('granted', 'cancel', '{\"all\": true}', 'x')" "act_on_messages('granted', 'requeue', '{\"ids\": [99]}', 'x')" \
  "start_jobs('{t}', '{granted}', '{\"{}\"}', '{NULL}')" "queue_mail_event('granted', 'ses', '{}', 'x')"; do
  out+=$(sql -d d1 -U pgmqd -c "SELECT pgmqd.$call" 2>&1 | head -n 1)$'\n'
done
is "$(grep -c '^ERROR' <<<"$out")" 6 'what the daemon may call refuses a queue with a trigger of a stranger'
says 'trigger t on table pgmq.q_granted' 'and says which'
out=$(sql -d d1 -U enqueuer -c "SELECT pgmqd.submit('granted', '{}')" 2>&1)
is "${out%%:*}" ERROR 'so does submit()'
sql -d d1 -c "CREATE FUNCTION public.ours() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT pgmqd.enqueue(''granted'', ''{}'')'" -c 'GRANT EXECUTE ON FUNCTION public.ours() TO maker'
out=$(sql -d d1 -U maker -c 'SELECT public.ours()' 2>&1)
says 'trigger t on table pgmq.q_granted' 'and a function that enqueues with its owner'"'"'s rights'
sql -d d1 -c "CREATE OR REPLACE FUNCTION public.ours() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT pgmqd.enqueue(''granted'', ''{}'', unique_key => ''k'')'"
out=$(sql -d d1 -U maker -c 'SELECT public.ours()' 2>&1)
says 'belongs to somebody else' 'with a unique key, too'
due d1 delete-old-messages
is "$out $(sql -d d1 -c 'SELECT count(*) FROM pgmq.a_granted')" 'ok 1' 'and retention leaves its archive alone'
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'it has not run once'
sql -d d1 -c "INSERT INTO pgmq.a_granted (msg_id, vt, message) VALUES (100, now(), '[\"gone@example.test\"]')" -c 'TRUNCATE public.trap' -c "SELECT pgmqd.erase_person('gone@example.test')" >/dev/null
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'a person is not erased by a table with it, either'
is "$(sql -d d1 -c "SELECT count(*) FROM pgmqd.untrusted_objects() WHERE object LIKE 'trigger t on table pgmq.%granted%' AND owner = 'maker'")" 3 'doctor names them'
# ---- each kind of object by which a stranger's function runs beside a statement: %T is the table, %t its name ----
sql -d d1 -c 'CREATE SCHEMA lair AUTHORIZATION maker' -c 'ALTER TABLE public.trap OWNER TO maker' -c "CREATE FUNCTION public.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END'"
sql -d d1 -U maker -c "CREATE FUNCTION lair.ran() RETURNS boolean LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.trap VALUES (current_user); RETURN true; END \$\$" \
  -c "CREATE FUNCTION lair.f(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM lair.ran(); RETURN true; END \$\$" \
  -c "CREATE FUNCTION lair.f(bigint, bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM lair.ran(); RETURN true; END \$\$" -c 'CREATE OPERATOR lair.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = lair.f)' \
  -c "CREATE FUNCTION lair.t() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM lair.ran(); RETURN coalesce(NEW, OLD); END \$\$" -c 'CREATE DOMAIN lair.word AS text CHECK (lair.f(VALUE))' -c 'CREATE TYPE lair.mood AS (a text)' \
  -c 'CREATE FUNCTION lair.cmp(bigint, bigint) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM lair.ran(); RETURN btint8cmp($1, $2); END $$' -c 'GRANT USAGE ON SCHEMA lair TO PUBLIC'
sql -d d1 -c 'CREATE OPERATOR CLASS lair.ops FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 pg_catalog.=, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 lair.cmp(bigint, bigint)' -c 'ALTER OPERATOR CLASS lair.ops USING btree OWNER TO maker' \
  -c 'ALTER OPERATOR FAMILY lair.ops USING btree OWNER TO maker'
kinds=(
  'before trigger;SET ROLE maker; CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON %T FOR EACH ROW EXECUTE FUNCTION lair.t()'
  'constraint trigger;SET ROLE maker; CREATE CONSTRAINT TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON %T DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lair.t()'
  'condition of a trigger;CREATE TRIGGER t AFTER INSERT OR UPDATE ON %T FOR EACH ROW WHEN (lair.f(NEW.msg_id)) EXECUTE FUNCTION public.quiet(); CREATE TRIGGER d AFTER DELETE ON %T FOR EACH ROW WHEN (lair.f(OLD.msg_id)) EXECUTE FUNCTION public.quiet()'
  'foreign key;SET ROLE maker; CREATE TABLE lair.%t (id bigint REFERENCES %T ON DELETE CASCADE ON UPDATE CASCADE); INSERT INTO lair.%t SELECT msg_id FROM %T; CREATE TRIGGER t AFTER DELETE OR UPDATE ON lair.%t FOR EACH ROW EXECUTE FUNCTION lair.t()'
  'table of ours between;CREATE TABLE public.%t (id bigint PRIMARY KEY REFERENCES %T ON DELETE CASCADE); INSERT INTO public.%t SELECT msg_id FROM %T; CREATE TRIGGER t AFTER DELETE ON public.%t FOR EACH ROW EXECUTE FUNCTION lair.t()'
  'child;CREATE TABLE lair.%t () INHERITS (%T); INSERT INTO lair.%t SELECT * FROM %T; ALTER TABLE lair.%t OWNER TO maker; SET ROLE maker; CREATE TRIGGER t BEFORE UPDATE OR DELETE ON lair.%t FOR EACH ROW EXECUTE FUNCTION lair.t()'
  'index;CREATE INDEX ON %T (lair.f(message))'
  'part of an index;CREATE INDEX ON %T (msg_id) WHERE lair.f(message)'
  'operator class;CREATE INDEX ON %T (msg_id lair.ops)'
  'exclusion;ALTER TABLE %T ADD EXCLUDE USING btree (lair.f(message) WITH OPERATOR(pg_catalog.=)) WHERE (msg_id < 0)'
  'statistics;CREATE STATISTICS lair.%t ON lair.f(message), msg_id FROM %T'
  'default;ALTER TABLE %T ADD COLUMN d boolean DEFAULT lair.ran()'
  'generated column;ALTER TABLE %T ADD COLUMN g boolean GENERATED ALWAYS AS (lair.f(message)) STORED'
  'check;ALTER TABLE %T ADD CHECK (lair.f(message))'
  'operator in a check;ALTER TABLE %T ADD CHECK (msg_id OPERATOR(lair.=) 1)'
  'domain;ALTER TABLE %T ADD COLUMN w lair.word DEFAULT ($$x$$)'
  'row type;ALTER TABLE %T ADD COLUMN m lair.mood'
  'array of a domain;ALTER TABLE %T ADD COLUMN w lair.word[]'
  'policy;ALTER TABLE %T FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON %T USING (lair.f(message))'
  'rule;CREATE RULE r AS ON DELETE TO %T DO ALSO SELECT lair.ran(); CREATE RULE u AS ON UPDATE TO %T DO ALSO SELECT lair.ran(); CREATE RULE i AS ON INSERT TO %T DO ALSO SELECT lair.ran()'
)
i=0 want='' setup='' calls='' named=''
for kind in "${kinds[@]}"; do
  q=odd$((++i))
  setup+="RESET ROLE; SELECT pgmqd.create_queue('$q'), pgmqd.enqueue('$q', '{}'); INSERT INTO pgmq.q_${q}_dlq (vt, message, headers) VALUES (now(), '[\"gone@example.test\"]', '{}');
    INSERT INTO pgmq.a_$q (msg_id, vt, message, archived_at) VALUES (99, now(), '[\"gone@example.test\"]', '2000-01-01'); GRANT ALL ON pgmq.q_$q, pgmq.a_$q, pgmq.q_${q}_dlq TO maker;"$'\n'
  for tab in "q_$q" "a_$q" "q_${q}_dlq"; do
    text=${kind#*;} text=${text//%T/pgmq.$tab}
    setup+="RESET ROLE; ${text//%t/$tab};"$'\n'
  done
  calls+="\\echo = ${kind%%;*}"$'\n'
  for call in "redrive('$q')" "purge_dead_letters('$q')" "act_on_messages('$q', 'cancel', '{\"all\": true}', 'x')" "act_on_messages('$q', 'requeue', '{\"ids\": [99]}', 'x')" "queue_mail_event('$q', 'ses', '{}', 'x')" \
    "start_jobs('{t}', '{$q}', '{\"{}\"}', '{NULL}')" "submit('$q', '{}')"; do calls+="SELECT pgmqd.$call; \\echo :SQLSTATE"$'\n'; done
  want+="= ${kind%%;*} 7"$'\n'
  named+="('${kind%%;*}', '$q'), "
done
sql -d d1 -c 'GRANT pgmqd_enqueuer TO pgmqd' >/dev/null
out=$(sql -d d1 2>&1 >/dev/null <<<"$setup")
is "$out" '' '(a queue for each kind of object by which a function of a stranger runs)'
sql -d d1 -c 'TRUNCATE public.trap'
out=$(psql -qAtX -d d1 -U pgmqd 2>&1 <<<"$calls" | awk '/^= / { if (kind) print kind, n; kind = $0; n = 0 } /^[0-9A-Z]+$/ && length == 5 && !/^00000$/ { n++ } END { print kind, n }'
  sql -d d1 -c 'SELECT pgmqd.delete_old()' -c "SELECT pgmqd.erase_person('gone@example.test')" -c "SELECT count(*) FROM pgmqd.queue_status()" >/dev/null)
is "$out"$'\n' "$want" 'what the daemon and enqueuers may call refuses all these queues'
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'and none of the functions has run once, by retention and the status either'
sql -d d1 -c 'REVOKE pgmqd_enqueuer FROM pgmqd' >/dev/null
is "$(sql -d d1 -c "SELECT kind FROM (VALUES ${named%, }) v (kind, q) WHERE (SELECT count(*) FROM pgmqd.untrusted_objects() WHERE object ~ ('\m[aq]_' || q || '(_|\M)') AND owner = 'maker') < 3")" '' 'doctor names each'
sql -d d1 -c "SELECT pgmqd.create_queue('mentioned')" -c 'GRANT SELECT ON pgmq.q_mentioned TO maker' >/dev/null
sql -d d1 -U maker -c 'CREATE VIEW lair.v AS SELECT * FROM pgmq.q_mentioned WHERE lair.f(msg_id)' -c 'CREATE TABLE lair.own (id bigint)' -c 'CREATE POLICY p ON lair.own USING (lair.f(id) AND EXISTS (SELECT FROM pgmq.q_mentioned))'
is "$(sql -d d1 -c "SELECT pgmqd.is_trusted('pgmq.q_mentioned')")" t 'a table that something of a stranger only reads is worked on'
# the same rights on our own tables
sql -d d1 -c 'GRANT ALL ON ALL TABLES IN SCHEMA pgmqd TO maker' -c 'GRANT USAGE ON SCHEMA pgmqd TO maker'
is "$(sql -d d1 -c "SELECT count(*) FROM pgmqd.untrusted_objects() WHERE object IN ('right TRIGGER on table pgmqd.jobs', 'right REFERENCES on table pgmqd.jobs') AND owner = 'maker'")" 2 'doctor names the rights TRIGGER and REFERENCES on our tables'
pgmqd -d dbname=d1 --with application
is "$(sql -d d1 -c "SELECT has_table_privilege('maker', 'pgmqd.jobs', 'TRIGGER') OR has_table_privilege('maker', 'pgmqd.jobs', 'REFERENCES')")" f 'and migrate takes them back'
sql -d d1 -c 'REVOKE ALL ON ALL TABLES IN SCHEMA pgmqd FROM maker' -c 'REVOKE ALL ON SCHEMA pgmqd FROM maker' -c "CREATE FUNCTION lair.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'" -c 'ALTER FUNCTION lair.e() OWNER TO maker' -c 'CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION lair.e()'
is "$(sql -d d1 -c "SELECT object, owner FROM pgmqd.untrusted_objects() WHERE object LIKE 'event %'")" 'event trigger e, which runs function lair.e()|maker' 'and an event trigger, which runs with each of our statements that make something'

# ---- an owner migrates, and others may create in public, as before PostgreSQL 15 ----
sql -d postgres -c 'CREATE DATABASE d2 OWNER def_owner'
sql -d d2 -c 'ALTER SCHEMA public OWNER TO def_owner' -c 'GRANT CREATE ON SCHEMA public TO PUBLIC'
pgmqd -d 'dbname=d2 user=def_owner' --with application
sql -d d2 -U maker -c "$TRAP" -c 'CREATE TABLE public.appointments (id text PRIMARY KEY, user_id text, status text, starts_at timestamptz)' -c 'GRANT ALL ON public.appointments TO PUBLIC' \
  -c "INSERT INTO public.appointments VALUES ('1', '1', 'scheduled', '2000-01-01')" -c 'CREATE TRIGGER t BEFORE UPDATE ON public.appointments FOR EACH ROW EXECUTE FUNCTION public.trap()'
due d2 update-appointment-statuses
is "$(sql -d d2 -c 'SELECT count(*) FROM public.trap')" 0 'a table that anybody could make is not the application'"'"'s'
pgmqd -d 'dbname=d2 user=def_owner' --with application
says 'public.appointments belongs to role maker, which is not trusted' 'and migrate says so'
sql -d d2 -U maker -c 'DROP TABLE public.appointments'

# ---- what others have made before us ----
for made in 'CREATE SCHEMA pgmqd' 'CREATE SCHEMA pgmq; CREATE TABLE pgmq.meta ()' 'CREATE FUNCTION public.pgmq_read(text, integer) RETURNS integer LANGUAGE sql AS '"'SELECT 1'"; do
  sql -d postgres -c 'DROP DATABASE IF EXISTS d3' -c 'CREATE DATABASE d3'
  sql -d d3 -c 'GRANT CREATE ON DATABASE d3 TO maker' -c 'GRANT CREATE ON SCHEMA public TO maker'
  sql -d d3 -U maker -c "$made"
  pgmqd -d dbname=d3 --with application
  is "$status" 1 "migrate refuses: $made"
  says 'belongs to role maker' 'and says whose it is'
done
pgmqd -d dbname=d1 --with application
says 'a superuser owns' 'a superuser who migrates is told not to'
# what a role with GRANT ALL has put onto a table that migrate writes to, as whoever migrates
sql -d d1 -c 'GRANT ALL ON pgmq.meta TO maker' -c 'TRUNCATE public.trap'
sql -d d1 -U maker -c 'CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON pgmq.meta FOR EACH ROW EXECUTE FUNCTION lair.t()'
pgmqd -d dbname=d1 --with application
says 'trigger t on table pgmq.meta belongs to role maker, which is not ours to trust' 'migrate refuses a trigger of a stranger on the list of queues'
sql -d d1 -c 'DROP TRIGGER t ON pgmq.meta'
sql -d d1 -U maker -c 'CREATE TABLE lair.refers (q text REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE)'
pgmqd -d dbname=d1 --with application
says 'table lair.refers, which refers to pgmq.meta, belongs to role maker' 'and a table of his that refers to it'
is "$(sql -d d1 -c 'SELECT count(*) FROM public.trap')" 0 'and has run nothing'
for db in d1 d2 d3; do sql -d postgres -c "DROP DATABASE $db WITH (FORCE)"; done
