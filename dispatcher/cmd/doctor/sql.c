/* sql.c: the checks of `pgmqd doctor` that are one statement each. They look and change nothing.
 *
 * A row is a finding: status (0 ok, 1 warning, 2 failed), subject, what was seen, remedy, and fix where --fix
 * may do it. Parameters: $1 the queues' names as text[] ({}: all that are in the database), $2 the channel, $3 an age,
 * $4 the dispatcher's role.
 */
#include "config.h"

#include "cmd/doctor/sql.h"

/* The queues that are meant, as a table "queues": q, the name, and t, the name in tables. */
#define QUEUES                                                                                                         \
	"queues AS (SELECT q, lower(q) AS t FROM unnest($1::text[]) q UNION ALL SELECT m.queue_name,"                  \
	" lower(m.queue_name) FROM pgmq.meta m"                                                                        \
	" WHERE $1 = '{}' AND m.queue_name NOT LIKE 'pgmqd\\_probe%' AND NOT EXISTS (SELECT FROM pgmq.meta o WHERE"    \
	" lower(m.queue_name) = lower(pgmqd.dlq_name(o.queue_name))))"

/* An ordinary table, or none. */
#define TABLE(alias, schema, name)                                                                                     \
	" LEFT JOIN pg_class " alias " ON " alias ".relname = " name " AND " alias ".relkind IN ('r', 'p') AND " alias \
	".relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = '" schema "')"

const char doctor_sql_role[] =
	"SELECT CASE WHEN too IS NULL THEN 0 ELSE 1 END, '', format('%s %s', rolname, coalesce('is ' || too || ',"
	" which pgmqd does not use',"
	" 'is no superuser and has no rights on other databases or roles')),"
	" CASE WHEN too IS NOT NULL THEN format('let pgmqd connect as %s',"
	" CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgmqd') THEN 'the role pgmqd, which has the rights"
	" that it needs"
	" (ALTER ROLE pgmqd PASSWORD ..., then user=pgmqd in the connection string)' ELSE 'a role of its own: pgmqd"
	" migrate makes the role"
	" pgmqd, with the rights that it needs' END) END, NULL"
	" FROM (SELECT rolname, nullif(concat_ws(', ', CASE WHEN rolsuper THEN 'a superuser' END, CASE WHEN"
	" rolcreaterole THEN 'able to make roles' END,"
	" CASE WHEN rolcreatedb THEN 'able to make databases' END, CASE WHEN rolreplication THEN 'able to replicate'"
	" END,"
	" CASE WHEN rolbypassrls THEN 'beyond row security' END,"
	" CASE WHEN NOT rolsuper AND pg_has_role(oid, 'pg_execute_server_program', 'USAGE') THEN 'able to run"
	" programs on the server' END), '') AS too"
	" FROM pg_roles WHERE rolname = $4) r";

/* The rights of the dispatcher on tables; where columns are named, the right on these is enough. Only an owner can
 * grant a missing right. */
const char doctor_sql_grants[] =
	"WITH " QUEUES ","
	" needed (s, t, p, columns) AS (SELECT 'pgmq', 'q_' || t, p, c FROM queues, (VALUES ('SELECT',"
	" 'msg_id,read_ct,enqueued_at,vt,message'),"
	" ('UPDATE', 'vt,read_ct'), ('INSERT', 'vt,message'), ('DELETE', '')) v (p, c)"
	" UNION ALL SELECT 'pgmq', 'a_' || t, p, c FROM queues, (VALUES ('SELECT', 'msg_id,read_ct'), ('INSERT',"
	" 'msg_id,read_ct,enqueued_at,vt,message')) v (p, c)"
	" UNION ALL SELECT 'pgmq', 'q_' || pgmqd.dlq_name(t), p, c FROM queues, (VALUES ('SELECT', 'headers'), "
	"('INSERT',"
	" 'vt,message,headers')) v (p, c)"
	" UNION ALL VALUES ('pgmq', 'meta', 'SELECT', 'queue_name'), ('pgmqd', 'refunds', 'SELECT', 'n'), ('pgmqd',"
	" 'refunds', 'INSERT', 'n'), ('pgmqd', 'refunds', 'UPDATE', 'n'),"
	" ('pgmqd', 'schedule', 'SELECT', 'next_due'), ('pgmqd', 'schedule', 'UPDATE', 'next_due')),"
	" lacking AS (SELECT c.relowner, s, t, string_agg(p, ', ') AS p FROM needed JOIN pg_class c ON c.relname = t"
	" AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = s) WHERE NOT CASE WHEN columns = '' THEN"
	" has_table_privilege($4, c.oid, p) ELSE"
	" has_table_privilege($4, c.oid, p) OR (SELECT bool_and(has_column_privilege($4, c.oid, a.attnum, p)) FROM"
	" pg_attribute a WHERE a.attrelid = c.oid"
	" AND a.attname = ANY (string_to_array(columns, ',')) AND NOT a.attisdropped) END GROUP BY 1, 2, 3),"
	" functions AS (SELECT f.oid::regprocedure::text AS f, f.proowner FROM pg_proc f WHERE f.pronamespace ="
	" (SELECT oid FROM pg_namespace WHERE nspname = 'pgmqd')"
	" AND f.proname IN ('run_schedule', 'pg_cron_lives', 'take_over_schedules', 'give_back_schedules',"
	" 'mail_begin', 'mail_sent', 'mail_end', 'finish_report',"
	" 'report_source', 'record_events', 'settle_payment', 'payment_to_verify', 'queue_status', 'queue_pause') AND"
	" NOT has_function_privilege($4, f.oid, 'EXECUTE')),"
	" problems AS (SELECT format('%I.%I', s, t) AS what, format('role %s lacks %s', $4, p) AS seen,"
	" format('GRANT %s ON %I.%I TO %I', p, s, t, $4) AS remedy, pg_has_role(relowner, 'USAGE') AS own FROM"
	" lacking"
	" UNION SELECT format('%I.%I', s, t), format('role %I, which owns schema pgmqd, lacks rights on it, so dlq,"
	" message and tail are refused', o.owner),"
	" format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO %I', s, t, o.owner),"
	" pg_has_role(c.relowner, 'USAGE')"
	" FROM needed JOIN pg_class c ON c.relname = t AND c.relkind IN ('r', 'p')"
	" AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = s),"
	" LATERAL (SELECT pg_get_userbyid(nspowner) AS owner FROM pg_namespace WHERE nspname = 'pgmqd') o"
	" WHERE t ~ '^[qa]_' AND o.owner <> $4 AND EXISTS (SELECT FROM"
	" unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p (p)"
	" WHERE NOT has_table_privilege(o.owner, c.oid, p.p))"
	" UNION ALL SELECT f, format('role %s may not execute it', $4), format('GRANT EXECUTE ON FUNCTION %s TO %I',"
	" f, $4),"
	" pg_has_role(proowner, 'USAGE') FROM functions"
	" UNION ALL SELECT 'schema ' || nspname, format('role %s may not use it', $4), format('GRANT USAGE ON SCHEMA"
	" %I TO %I', nspname, $4), pg_has_role(nspowner, 'USAGE')"
	" FROM pg_namespace WHERE nspname IN ('pgmq', 'pgmqd') AND NOT has_schema_privilege($4, oid, 'USAGE'))"
	" SELECT 2, what, seen, CASE WHEN own THEN remedy ELSE remedy || ', as the owner' END, CASE WHEN own THEN"
	" remedy END FROM problems"
	" UNION ALL SELECT 0, '', format('role %s may do what the dispatcher does', $4), NULL, NULL WHERE NOT EXISTS"
	" (SELECT FROM problems)";

/* Which pgmq it is, and whether its tables have the columns that are needed. */
const char doctor_sql_pgmq[] =
	"WITH " QUEUES ","
	" lacking AS (SELECT q, (SELECT string_agg(n, ', ') FROM unnest(ARRAY['msg_id', 'read_ct', 'enqueued_at',"
	" 'vt', 'message']) n WHERE NOT EXISTS"
	" (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = n AND NOT a.attisdropped)) AS n,"
	" EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'headers' AND NOT"
	" a.attisdropped) AS headers"
	" FROM queues JOIN pg_class c ON c.relname = 'q_' || t AND c.relnamespace = 'pgmq'::regnamespace)"
	" SELECT 0, '', coalesce((SELECT 'the extension, version ' || extversion FROM pg_extension WHERE extname ="
	" 'pgmq'),"
	" obj_description('pgmq'::regnamespace, 'pg_namespace'), 'of unknown make, in schema pgmq'), NULL, NULL"
	" UNION ALL SELECT 2, q, 'its table has no column ' || n, 'ALTER EXTENSION pgmq UPDATE, or restore the"
	" table', NULL FROM lacking WHERE n IS NOT NULL"
	" UNION ALL SELECT 1, q, 'its table has no column headers: no groups, no history of dead letters', 'ALTER"
	" EXTENSION pgmq UPDATE (headers came with 1.5)', NULL"
	" FROM lacking WHERE NOT headers";

const char doctor_sql_queues[] =
	"WITH " QUEUES ","
	" seen AS (SELECT q, EXISTS (SELECT FROM pgmq.meta m WHERE lower(m.queue_name) = t) AS known, qt.oid AS qt,"
	" at.oid AS at, dt.oid AS dt"
	" FROM queues" TABLE("qt", "pgmq", "'q_' || t") TABLE("at", "pgmq", "'a_' || t") TABLE("dt", "pgmq",
		"'q_' || pgmqd.dlq_name(t)") ")"
					     " SELECT CASE WHEN qt IS NULL OR at IS NULL OR dt IS NULL OR NOT known "
					     "THEN 2 "
					     "ELSE 0 END, q, CASE WHEN qt IS"
					     " NULL THEN 'the queue does not exist'"
					     " WHEN NOT known THEN 'pgmq.meta does not know the queue, so pgmq''s own "
					     "functions do not find it'"
					     " WHEN at IS NULL THEN 'its archive does not exist, so nothing can be "
					     "settled' "
					     "WHEN dt IS NULL THEN 'it has"
					     " no dead-letter queue: what fails for good is tried for ever'"
					     " ELSE 'it is there, with its archive and dead-letter queue' END,"
					     " CASE WHEN qt IS NOT NULL AND known AND at IS NULL THEN format('restore "
					     "pgmq.%I from a backup, or SELECT"
					     " pgmq.create(%L), which makes what is missing', 'a_' || lower(q), q) END,"
					     " CASE WHEN qt IS NULL OR dt IS NULL AND at "
					     "IS NOT NULL AND known THEN"
					     " format('SELECT pgmqd.create_queue(%L)', q)"
					     " WHEN qt IS NOT NULL AND NOT known THEN format('INSERT INTO pgmq.meta "
					     "(queue_name, is_partitioned,"
					     " is_unlogged) VALUES (%L, false, false)', q)"
					     " WHEN qt IS NOT NULL AND at IS NULL THEN NULL END FROM seen ORDER BY q";

/* The triggers by which a queue notifies the dispatcher: of new messages, and of those that become due earlier. Where
 * transactions can be prepared another function is right, and the server may have begun to take them since the queue
 * was attached. */
const char doctor_sql_wakeups[] =
	"WITH " QUEUES ","
	" seen AS (SELECT q, t, tr.tgenabled, tr.tgfoid, split_part(encode(tr.tgargs, 'escape'), '\\000', 2) AS"
	" channel, (tr.tgfoid IN (to_regprocedure('pgmqd.wakeup()'), to_regprocedure('pgmqd.wakeup_at_end()')))"
	" IS TRUE AS ours, tr.tgfoid = to_regprocedure('pgmqd.wakeup()') AND"
	" current_setting('max_prepared_transactions') <> '0'"
	" AS unprepared, e.tgenabled AS earlier,"
	" e.oid IS NULL OR e.tgfoid <> tr.tgfoid OR e.tgargs <> tr.tgargs OR e.tgtype <> 17"
	" OR pg_get_triggerdef(e.oid) NOT LIKE '%AFTER UPDATE OF vt ON % WHEN ((new.vt < old.vt)) EXECUTE %' AS other"
	" FROM queues JOIN pg_class c ON c.relname = 'q_' || t AND c.relnamespace = 'pgmq'::regnamespace"
	" LEFT JOIN pg_trigger tr ON tr.tgrelid = c.oid AND tr.tgname = 'pgmqd_wakeup'"
	" LEFT JOIN pg_trigger e ON e.tgrelid = c.oid AND e.tgname = 'pgmqd_wakeup_earlier'),"
	" judged AS (SELECT *, CASE WHEN tgenabled IS NULL THEN 'missing' WHEN tgenabled NOT IN ('O', 'A') THEN"
	" 'disabled' WHEN NOT ours THEN 'strange' WHEN channel <> $2 THEN 'channel' WHEN unprepared THEN 'unprepared'"
	" WHEN earlier NOT IN ('O', 'A') THEN 'earlier disabled' WHEN other THEN 'earlier' ELSE 'good' END AS how FROM"
	" seen)"
	" SELECT CASE how WHEN 'good' THEN 0 ELSE 2 END, q, CASE how"
	" WHEN 'missing' THEN 'it has no trigger pgmqd_wakeup, so it is only polled'"
	" WHEN 'disabled' THEN 'its trigger pgmqd_wakeup is disabled, so it is only polled'"
	" WHEN 'strange' THEN 'its trigger pgmqd_wakeup calls another function than pgmqd.wakeup()'"
	" WHEN 'channel' THEN format('its trigger notifies channel \"%s\", and the dispatcher listens to \"%s\"',"
	" channel, $2)"
	" WHEN 'unprepared' THEN 'PREPARE TRANSACTION fails for transactions with a message: max_prepared_transactions"
	" was 0 when the queue was attached'"
	" WHEN 'earlier disabled' THEN 'its trigger pgmqd_wakeup_earlier is disabled: messages that are made due"
	" earlier wait for a poll'"
	" WHEN 'earlier' THEN 'its trigger pgmqd_wakeup_earlier is missing or not that of this version: messages that"
	" are made due earlier wait for a poll'"
	" ELSE 'it tells of new messages' END, CASE how"
	" WHEN 'channel' THEN format('set channel = %s in pgmqd.conf; or UPDATE"
	" pgmqd.settings SET value = %L WHERE name = ''channel'';"
	" SELECT pgmqd.attach_queue(%L)', channel, $2, q)"
	" WHEN 'strange' THEN format('SELECT pgmqd.detach_queue(%L), then SELECT pgmqd.attach_queue(%L)', q, q) END,"
	" CASE WHEN how IN ('missing', 'unprepared', 'earlier') THEN format('SELECT pgmqd.attach_queue(%L)', q)"
	" WHEN how IN ('disabled', 'earlier disabled') THEN format('ALTER TABLE pgmq.%I ENABLE TRIGGER %I', 'q_' || t,"
	" CASE how WHEN 'disabled' THEN 'pgmqd_wakeup' ELSE 'pgmqd_wakeup_earlier' END)"
	" END FROM judged ORDER BY q";

/* The triggers on the application's tables, by the names that pgmqd.application gives these tables. */
const char doctor_sql_triggers[] =
	"SELECT CASE WHEN NOT there OR enabled IN ('O', 'A') AND calls = func THEN 0 ELSE 2 END, name,"
	" CASE WHEN NOT there THEN format('not connected, since there is no table %s; pgmqd connect looks for other"
	" names', tab)"
	" WHEN enabled IS NULL THEN format('%s has no such trigger: its changes become no messages', tab)"
	" WHEN enabled NOT IN ('O', 'A') THEN format('it is disabled: changes of %s become no messages', tab)"
	" WHEN calls <> func THEN format('it calls %s() instead of %s()', calls, func) ELSE"
	" format('connected with %s', tab) END,"
	" CASE WHEN enabled NOT IN ('O', 'A') THEN format('ALTER TABLE %s ENABLE TRIGGER %I, unless somebody disabled"
	" it on purpose', tab, name)"
	" WHEN calls <> func THEN format('DROP TRIGGER %I ON %s, then SELECT * FROM pgmqd.connect_application()',"
	" name, tab) END,"
	" CASE WHEN there AND enabled IS NULL THEN 'SELECT * FROM pgmqd.connect_application()' END"
	" FROM pgmqd.trigger_status()"
	" UNION ALL SELECT 2, format('%s, %s', thing, field), problem, 'pgmqd connect, as the owner of the"
	" application''s tables', NULL FROM pgmqd.application_problems()";

const char doctor_sql_trigger_errors[] =
	"SELECT CASE WHEN n = 0 THEN 0 ELSE 1 END, '', CASE WHEN n = 0 THEN 'no trigger failed in the last day' ELSE"
	" format('%s failures in the last day, the newest in %s (SQLSTATE %s)', n, last.trigger,"
	" coalesce(last.sqlstate, 'unknown')) END,"
	" CASE WHEN n > 0 THEN 'SELECT * FROM pgmqd.trigger_errors ORDER BY at DESC LIMIT 20 tells what happened'"
	" END, NULL"
	" FROM (SELECT count(*) AS n, max(id) AS id FROM pgmqd.trigger_errors WHERE at > now() - interval '1 day') e"
	" LEFT JOIN pgmqd.trigger_errors last USING (id)";

/* The functions that applications call, and those of schema pgmqd whose loss would be noticed late. */
#define FUNCTIONS                                                                                                      \
	"expected (s, n, file) AS (VALUES ('pgmqd', 'wakeup', '020_pgmqd.sql'), ('pgmqd', 'enqueue',"                  \
	" '020_pgmqd.sql'),"                                                                                           \
	" ('pgmqd', 'redrive', '021_dead_letters.sql'), ('pgmqd', 'delete_old', '025_retention.sql'),"                 \
	" ('pgmqd', 'queue_pause', '022_operate.sql'), ('pgmqd', 'queue_status', '023_status.sql'),"                   \
	" ('pgmqd', 'find_person', '030_people.sql'), ('pgmqd', 'connect_trigger', '035_connect.sql'),"                \
	" ('public', 'update_appointment_statuses', '030_setup_cron_jobs.sql'), ('public', 'cleanup_old_assessments'," \
	" '030_setup_cron_jobs.sql'),"                                                                                 \
	" ('public', 'send_appointment_reminders', '030_setup_cron_jobs.sql'), ('public', 'queue_email_task',"         \
	" '031_setup_queues.sql'),"                                                                                    \
	" ('public', 'queue_report_generation', '031_setup_queues.sql'), ('public', 'queue_payment_processing',"       \
	" '031_setup_queues.sql'),"                                                                                    \
	" ('public', 'handle_completed_checkup', '032_webhook_triggers.sql'), ('public', 'handle_new_appointment',"    \
	" '032_webhook_triggers.sql'),"                                                                                \
	" ('public', 'handle_payment_status_change', '032_webhook_triggers.sql'), ('public', 'pgmq_read',"             \
	" '033_pgmq_rpc_wrappers.sql'),"                                                                               \
	" ('public', 'pgmq_archive', '033_pgmq_rpc_wrappers.sql'), ('public', 'pgmq_delete',"                          \
	" '033_pgmq_rpc_wrappers.sql'),"                                                                               \
	" ('public', 'pgmq_send', '033_pgmq_rpc_wrappers.sql'), ('public', 'pgmq_metrics',"                            \
	" '033_pgmq_rpc_wrappers.sql'))"

/* Everybody who must not: whose names can stand behind FROM in a REVOKE. */
#define STRANGERS                                                                                                      \
	"strangers (name, id) AS (SELECT 'PUBLIC', 0::oid UNION ALL SELECT quote_ident(rolname), oid FROM pg_roles"    \
	" WHERE rolname IN ('anon', 'authenticated'))"

const char doctor_sql_functions[] =
	"WITH " FUNCTIONS ", " STRANGERS ","
	" missing AS (SELECT s || '.' || n AS f, file FROM expected WHERE NOT EXISTS (SELECT FROM pg_proc p JOIN"
	" pg_namespace ns"
	" ON ns.oid = p.pronamespace WHERE ns.nspname = s AND p.proname = n) AND EXISTS (SELECT FROM"
	" pgmqd.schema_version v WHERE v.file = expected.file)),"
	" ours AS (SELECT p.oid, p.prosecdef, p.proconfig, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl"
	" FROM pg_proc p WHERE p.pronamespace = 'pgmqd'::regnamespace"
	" OR p.pronamespace = 'public'::regnamespace AND p.proname IN (SELECT n FROM expected WHERE s = 'public')),"
	" open AS (SELECT o.oid::regprocedure::text AS f, string_agg(DISTINCT s.name, ', ') AS who FROM ours o,"
	" aclexplode(o.acl) a JOIN strangers s ON s.id = a.grantee"
	" WHERE a.privilege_type = 'EXECUTE' GROUP BY 1),"
	" loose AS (SELECT oid::regprocedure::text AS f FROM ours WHERE prosecdef AND NOT EXISTS (SELECT FROM"
	" unnest(proconfig) c WHERE c LIKE 'search\\_path=%'))"
	" SELECT 2, f, 'the function is missing', format('psql -f %s of the SQL files makes it anew; it may be"
	" applied again', file), NULL FROM missing"
	" UNION ALL SELECT 2, f, 'it may be executed by ' || who, NULL, format('REVOKE ALL ON FUNCTION %s FROM %s',"
	" f, who) FROM open"
	" UNION ALL SELECT 2, f, 'it runs with its owner''s rights and whatever search_path the caller has', NULL,"
	" format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', f) FROM loose"
	" UNION ALL SELECT 0, '', format('%s functions are there, for nobody but who was granted them', (SELECT"
	" count(*) FROM ours)), NULL, NULL"
	" WHERE NOT EXISTS (SELECT FROM missing) AND NOT EXISTS (SELECT FROM open) AND NOT EXISTS (SELECT FROM loose)";

/* Tables with messages that strangers can read. */
const char doctor_sql_access[] =
	"WITH " STRANGERS
	", open AS (SELECT c.oid::regclass::text AS t, string_agg(DISTINCT s.name, ', ') AS who FROM pg_class c,"
	" aclexplode(c.relacl) a JOIN strangers s ON s.id = a.grantee WHERE c.relnamespace IN ('pgmq'::regnamespace,"
	" 'pgmqd'::regnamespace)"
	" AND c.relkind IN ('r', 'p', 'v') AND NOT (c.relnamespace = 'pgmq'::regnamespace AND c.relname IN ('meta',"
	" 'notify_insert_throttle')) GROUP BY 1)"
	" SELECT 2, t, 'messages with names and addresses are open to ' || who, NULL, format('REVOKE ALL ON %s FROM"
	" %s', t, who) FROM open"
	" UNION ALL SELECT 0, '', 'no table of messages is open to everybody, anon or authenticated', NULL, NULL"
	" WHERE NOT EXISTS (SELECT FROM open)";

/* The schedules that the dispatcher runs itself. */
const char doctor_sql_schedules[] =
	"WITH late AS (SELECT *, now() - next_due AS by FROM pgmqd.schedule WHERE enabled AND runner = 'pgmqd')"
	" SELECT CASE WHEN by > interval '5 minutes' THEN 2 WHEN last_status = 'failed' THEN 1 ELSE 0 END, name,"
	" CASE WHEN by > interval '5 minutes' THEN format('it was due %s ago and has not run', date_trunc('second',"
	" by))"
	" WHEN last_status = 'failed' THEN format('its last run failed: %s', last_error) ELSE format('next %s UTC,"
	" last run: %s',"
	" coalesce(to_char(next_due AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), 'when the dispatcher has planned"
	" it'), coalesce(last_status, 'none')) END,"
	" CASE WHEN by > interval '5 minutes' THEN format('start pgmqd run, which runs the schedules; pgmqd schedule"
	" run %s runs this one now', name)"
	" WHEN last_status = 'failed' THEN format('correct the cause, then pgmqd schedule run %s', name) END, NULL"
	" FROM late"
	" UNION ALL SELECT 1, name, 'it is switched off', format('UPDATE pgmqd.schedule SET enabled = true WHERE name"
	" = %L, unless somebody meant it so', name), NULL"
	" FROM pgmqd.schedule WHERE NOT enabled";

/* The schedules that pg_cron runs for us. */
const char doctor_sql_cron[] =
	"SELECT 2, '', 'its launcher is dead: its jobs do not run', 'restart the server; while pgmqd runs, it does"
	" the jobs itself', NULL WHERE pgmqd.pg_cron_lives() = false"
	" AND EXISTS (SELECT FROM pgmqd.schedule WHERE runner = 'pg_cron' OR taken_over)"
	" UNION ALL SELECT CASE WHEN j.jobid IS NULL OR NOT j.active THEN 2 WHEN r.status = 'failed' OR r.start_time"
	" < now() - interval '2 days' THEN 1 ELSE 0 END, s.name,"
	" CASE WHEN j.jobid IS NULL THEN 'pg_cron has no such job' WHEN NOT j.active THEN 'its job is switched off'"
	" WHEN r.status = 'failed' THEN format('its last run failed: %s', r.return_message) WHEN r.status IS NULL"
	" THEN 'its job is active and has not run yet'"
	" ELSE format('its job is active, last run %s UTC: %s', to_char(r.start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"
	" HH24:MI'), r.status) END,"
	" CASE WHEN NOT j.active THEN format('SELECT cron.alter_job(%s, active := true), unless somebody meant it"
	" so', j.jobid)"
	" WHEN j.jobid IS NOT NULL AND r.status = 'failed' THEN 'SELECT * FROM cron.job_run_details ORDER BY"
	" start_time DESC LIMIT 20 tells more'"
	" WHEN r.start_time < now() - interval '2 days' THEN 'see whether the server''s log has lines of pg_cron'"
	" END,"
	" CASE WHEN j.jobid IS NULL THEN 'SELECT * FROM pgmqd.connect_schedules()' END"
	" FROM pgmqd.schedule s LEFT JOIN LATERAL (SELECT * FROM cron.job j WHERE j.jobname = s.name AND j.database ="
	" current_database() ORDER BY j.active DESC LIMIT 1) j ON true"
	" LEFT JOIN LATERAL (SELECT * FROM cron.job_run_details d WHERE d.jobid = j.jobid ORDER BY d.start_time DESC"
	" NULLS LAST LIMIT 1) r ON true"
	" WHERE s.runner = 'pg_cron' AND s.enabled";

/* Dead rows in the way of claims, and who is to remove them. */
const char doctor_sql_vacuum[] =
	"WITH " QUEUES ","
	" seen AS (SELECT q, c.oid::regclass::text AS tab, coalesce(st.n_dead_tup, 0) AS dead,"
	" coalesce(st.n_live_tup, 0) AS live, st.last_autovacuum,"
	" coalesce((SELECT o FROM unnest(c.reloptions) o WHERE o IN ('autovacuum_enabled=false',"
	" 'autovacuum_enabled=off')), '') <> '' AS off"
	" FROM queues JOIN pg_class c ON c.relname = 'q_' || t AND c.relnamespace = 'pgmq'::regnamespace LEFT JOIN"
	" pg_stat_all_tables st ON st.relid = c.oid)"
	" SELECT CASE WHEN off THEN 2 WHEN dead > 100000 AND dead > 5 * live THEN 1 ELSE 0 END, q, CASE WHEN off THEN"
	" 'autovacuum is switched off for its table' ELSE"
	" format('%s dead rows beside %s live ones, autovacuum was there %s', dead, live,"
	" coalesce(to_char(last_autovacuum AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"'), 'never')) END,"
	" CASE WHEN NOT off AND dead > 100000 AND dead > 5 * live THEN format('VACUUM %s; when that does not help,"
	" see the check \"snapshot\"', tab) END,"
	" CASE WHEN off THEN format('ALTER TABLE %s RESET (autovacuum_enabled)', tab) END FROM seen"
	" UNION ALL SELECT 2, '', 'autovacuum is switched off for the whole server', 'ALTER SYSTEM RESET autovacuum,"
	" then SELECT pg_reload_conf()', NULL"
	" WHERE current_setting('autovacuum') = 'off' OR current_setting('track_counts') = 'off'";

/* The holders of old snapshots, which keep vacuum from removing dead rows: transactions, prepared ones, slots. */
const char doctor_sql_snapshots[] =
	"WITH held AS (SELECT format('pid %s', pid) AS who, format('the %s of %s (%s), %s, holds vacuum back for %s',"
	" CASE WHEN backend_type = 'walsender' THEN 'standby' ELSE 'transaction' END,"
	" coalesce(usename, 'another role'), coalesce(nullif(application_name, ''), 'no application name'),"
	" coalesce(state, 'state unknown'), date_trunc('second', now() - coalesce(xact_start, backend_start))) AS"
	" seen,"
	" format('end it in its program, or SELECT pg_terminate_backend(%s)', pid) AS remedy, now() -"
	" coalesce(xact_start, backend_start) AS age FROM pg_stat_activity"
	" WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid() AND (datname ="
	" current_database() OR datname IS NULL) AND backend_type <> 'autovacuum worker'"
	" UNION ALL SELECT format('prepared transaction %s', gid), format('it holds vacuum back for %s',"
	" date_trunc('second', now() - prepared)), format('ROLLBACK PREPARED %L', gid), now() - prepared"
	" FROM pg_prepared_xacts WHERE database = current_database()"
	" UNION ALL SELECT format('replication slot %s', slot_name), 'no client reads it, and it keeps dead rows',"
	" format('SELECT pg_drop_replication_slot(%L), unless its standby comes back', slot_name), interval '100"
	" years'"
	" FROM pg_replication_slots WHERE NOT active AND xmin IS NOT NULL)"
	" SELECT 2, who, seen, remedy, NULL FROM held WHERE age >= $3::interval UNION ALL"
	" SELECT 0, '', CASE WHEN sees THEN format('no transaction has held vacuum back for %s', $3) ELSE format('not"
	" checked: role %s may not"
	" see the transactions of others (GRANT pg_read_all_stats TO %I, or -d with the connection of a role that"
	" may)', current_user,"
	" current_user) END, NULL, NULL"
	" FROM (SELECT pg_has_role('pg_read_all_stats', 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname ="
	" current_user) AS sees) s"
	" WHERE NOT EXISTS (SELECT FROM held WHERE age >= $3::interval)";

const char doctor_sql_usage[] =
	"SELECT CASE WHEN u > 0.5 THEN 2 WHEN u > 0.1 THEN 1 ELSE 0 END, '', format('%s %% of the server''s"
	" notification queue is in use%s',"
	" round((u * 100)::numeric, 1), CASE WHEN u > 0.1 THEN coalesce(', held by pid ' || l.pid || ' (role ' ||"
	" l.usename || ', ' ||"
	" coalesce(nullif(l.application_name, ''), 'no application name') || ')', '') ELSE '' END),"
	" CASE WHEN u > 0.1 THEN format('end the transaction of that session%s; when the queue is full, every NOTIFY"
	" fails',"
	" coalesce(', SELECT pg_terminate_backend(' || l.pid || ')', ': the oldest one that listens in"
	" pg_stat_activity')) END, NULL"
	" FROM pg_notification_queue_usage() u LEFT JOIN LATERAL (SELECT pid, usename, application_name FROM"
	" pg_stat_activity WHERE"
	" xact_start IS NOT NULL AND pid <> pg_backend_pid() AND (query ILIKE '%listen%' OR state LIKE 'idle in%')"
	" ORDER BY xact_start"
	" LIMIT 1) l ON true";

/* Whether anybody works, and whether anything waits. */
const char doctor_sql_dispatcher[] =
	"SELECT CASE WHEN n = 0 AND waits IS NOT NULL THEN 2 ELSE 0 END, '', CASE WHEN n > 0 THEN format('%s sessions"
	" of pgmqd are connected', n) WHEN waits IS NOT NULL THEN"
	" format('no pgmqd is connected, and messages wait for more than a minute in %s', waits) ELSE 'no pgmqd is"
	" connected, and nothing waits' END,"
	" CASE WHEN n = 0 AND waits IS NOT NULL THEN 'start pgmqd run (systemctl start pgmqd), and see its log' END,"
	" NULL"
	" FROM (SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND (application_name ="
	" 'pgmqd listener' OR application_name LIKE 'pgmqd worker%')) a,"
	" (SELECT string_agg(queue, ', ') AS waits FROM pgmqd.queue_status() WHERE oldest_due_s > 60 AND ($1 = '{}'"
	" OR queue = ANY ($1::text[]))) w";

/* Settings in the database that stand in every mail and are still those of the installation. */
const char doctor_sql_defaults[] =
	"SELECT CASE WHEN names IS NULL THEN 0 ELSE 1 END, '', CASE WHEN names IS NULL THEN coalesce(unset || ' not"
	" set: mails take them from the brand_* settings', 'app_url and support_email are set') ELSE names"
	" || ' still as installed: mails link to app.example.test or name support@example.test' END,"
	" updates || '; look at time_zone there, too', NULL"
	" FROM (SELECT string_agg(name, ', ' ORDER BY name) FILTER (WHERE value ~ '[/@.]example[.]test') AS names,"
	" string_agg(format('UPDATE pgmqd.settings SET value = ''...'' WHERE name = %L', name), '; ' ORDER BY name)"
	" FILTER (WHERE value ~ '[/@.]example[.]test') AS updates,"
	" string_agg(name, ' and ' ORDER BY name) FILTER (WHERE value IS NULL) AS unset FROM pgmqd.settings WHERE name"
	" IN ('app_url', 'support_email')) s";

/* Queues whose messages wait and that neither the settings nor a connected worker serves. */
const char doctor_sql_unserved[] =
	"WITH waits AS (SELECT queue, due, oldest_due_s FROM pgmqd.queue_status() WHERE oldest_due_s > 60 AND $1 <>"
	" '{}' AND NOT lower(queue) ="
	" ANY (SELECT lower(q) FROM unnest($1::text[]) q) AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE"
	" application_name = 'pgmqd worker '"
	" || queue AND datname = current_database()))"
	" SELECT 1, queue, format('%s messages wait, the oldest for %s s, and neither the settings nor a connected"
	" pgmqd serves the queue', due,"
	" round(oldest_due_s)), format('add a section [queue %s] with its plugin to the settings; where another"
	" program is to read it, see why that one does not', queue), NULL FROM waits"
	" UNION ALL SELECT 0, '', 'no other queue has messages that wait', NULL, NULL WHERE NOT EXISTS (SELECT FROM"
	" waits)";

/* Queues whose limits keep messages back, and limits that are not kept to. */
const char doctor_sql_limits[] =
	"WITH kept AS (SELECT s.queue, s.oldest_due_s, k.*, (SELECT string_agg(e->>'key' || ' by ' || coalesce("
	"e->>'paused_by', 'its plugin until ' || (e->>'held_until')), ', ') FROM jsonb_array_elements(k.keys) e)"
	" AS which"
	" FROM pgmqd.queue_status() s, pgmqd.kept_back(s.queue) k"
	" WHERE greatest(k.by_rate, k.by_key, k.by_place, k.by_pause) > 0)"
	" SELECT CASE WHEN oldest_due_s > 600 THEN 1 ELSE 0 END, queue, concat_ws(', ', nullif(by_rate, 0) || '"
	" messages wait for the rate', nullif(by_key, 0) || ' messages wait for a place of their key',"
	" nullif(by_place, 0) || ' messages wait for a place of the queue', nullif(by_pause, 0) ||"
	" format(' messages wait for keys that are paused or held (%s)', which))"
	" || format('; the oldest is due since %s s', round(oldest_due_s)),"
	" CASE WHEN oldest_due_s > 600 THEN concat_ws('; ', CASE WHEN greatest(by_rate, by_key, by_place) > 0 THEN"
	" 'raise the limit in the settings if the other side allows it, or send less' END,"
	" CASE WHEN by_pause > 0 THEN format('pgmqd resume %s --key KEY ends a pause', queue) END) END, NULL FROM kept"
	" UNION ALL SELECT 1, queue, problem, remedy, NULL FROM pgmqd.limit_problems()"
	" UNION ALL SELECT 0, '', 'no limit keeps messages back', NULL, NULL WHERE NOT EXISTS (SELECT FROM kept)";

/* Queue tables that belong to the extension: pg_dump leaves their rows out. pgmq 1.5.2 and older made them so. */
const char doctor_sql_dump[] =
	"WITH members AS (SELECT c.oid::regclass::text AS t FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid"
	" AND e.extname = 'pgmq'"
	" JOIN pg_class c ON c.oid = d.objid WHERE d.classid = 'pg_class'::regclass AND d.refclassid ="
	" 'pg_extension'::regclass AND d.deptype ="
	" 'e' AND c.relkind IN ('r', 'p') AND (c.relname LIKE 'q\\_%' OR c.relname LIKE 'a\\_%'))"
	" SELECT 1, t, 'it belongs to the extension pgmq, so a dump leaves its messages out', format('ALTER EXTENSION"
	" pgmq UPDATE; or ALTER"
	" EXTENSION pgmq DROP TABLE %s, as the owner', t), NULL FROM members"
	" UNION ALL SELECT 0, '', 'a dump has the messages of every queue', NULL, NULL WHERE NOT EXISTS (SELECT FROM"
	" members)";

/* Advisory locks of the dispatcher in the hands of another program. */
const char doctor_sql_locks[] =
	"WITH held AS (SELECT DISTINCT queue, pid, holder FROM pgmqd.lock_holders())"
	" SELECT 2, queue, format('%s holds an advisory lock of pgmqd, which makes producers silent or workers poll',"
	" holder), format('end it in its program, or SELECT pg_terminate_backend(%s)', pid), NULL FROM held"
	" UNION ALL SELECT 0, '', 'no other program holds a lock of pgmqd', NULL, NULL WHERE NOT EXISTS (SELECT FROM"
	" held)";

/* Whose rights our functions have, and what of others they would run with them. */
const char doctor_sql_owner[] =
	"WITH owner AS (SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname ="
	" 'pgmqd' AND r.rolsuper),"
	" others AS (SELECT object, owner FROM pgmqd.untrusted_objects())"
	" SELECT 1, rolname::text, 'a superuser owns the functions of pgmqd, so a mistake in one of them gives away the"
	" server', 'SELECT pgmqd.set_owner(''pgmqd_migrator''), and migrate as a role that was granted pgmqd_migrator"
	" from now on', NULL FROM owner"
	" UNION ALL SELECT 2, object, format('role %s has it, which may not act as the owner of our functions; they may"
	" run it with that owner''s rights', owner), 'take it from that role (DROP, ALTER ... OWNER TO, REVOKE), or"
	" grant it membership in the owner of schema pgmqd', NULL FROM others"
	" UNION ALL SELECT 0, '', 'no superuser owns our functions, and they run nothing that belongs to others', NULL,"
	" NULL WHERE NOT EXISTS (SELECT FROM owner) AND NOT EXISTS (SELECT FROM others)";
