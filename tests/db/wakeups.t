# wakeups.t: what an enqueue does with the locks of the handshake, when it notifies, and when it stays silent.
# database: app
set -u
n=0
query() { psql -qAtX -v ON_ERROR_STOP=1 -d app "$@"; }
query -c "SELECT pgmqd.create_queue('wake'), pgmqd.create_queue('end')" >/dev/null
oid=$(query -c "SELECT 'pgmq.q_wake'::regclass::oid::int4")
check() { # title, what the session says (a notification as "! queue"), statements
  local have
  have=$(query -c 'LISTEN pgmqd' -c 'SET jit = off' "${@:3}" -c 'SELECT' 2>&1 | sed 's/^Asynchronous notification "pgmqd" with payload "\([^"]*\)".*/! \1/; /^$/d' | tr '\n' ' ' | sed 's/ $//')
  n=$((n + 1))
  if [[ $have == "$2" ]]; then echo "ok $n - $1"; else printf 'not ok %s - %s\n# have: %s\n# want: %s\n' "$n" "$1" "$have" "$2"; fi
}
send=(-c "INSERT INTO pgmq.q_wake (vt, message) VALUES (now(), '{}')")
locks=(-c "SELECT string_agg(concat(classid::int8 = $oid, ' ', objid::int4, mode), ' ' ORDER BY objid) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
end=(-c COMMIT)

check 'an enqueue is in flight until its end, and notifies' 't -1ShareLock ! wake' -c BEGIN "${send[@]}" "${locks[@]}" "${end[@]}" "${locks[@]}"
check 'one that is rolled back is over, and does not' 't -1ShareLock' -c BEGIN "${send[@]}" "${locks[@]}" -c ROLLBACK "${locks[@]}"
meanwhile "SELECT pg_advisory_lock($oid, -2);"
check 'while a worker is awake it is in flight and silent' 't -1ShareLock' -c BEGIN "${send[@]}" "${locks[@]}" "${end[@]}" "${locks[@]}"
enough
meanwhile "SELECT pg_advisory_lock($oid, -2), pg_advisory_lock($oid, -1);"
check 'where it cannot be in flight it notifies, whoever is awake' '! wake' -c BEGIN "${send[@]}" "${locks[@]}" "${end[@]}"
enough
query -c "UPDATE pgmq.q_wake SET vt = now() + interval '1 hour'" >/dev/null
earlier=(-c "UPDATE pgmq.q_wake SET vt = vt - interval '1 minute'")
check 'rows that are made due earlier wake once a transaction' '! wake ! wake' "${earlier[@]}" "${earlier[@]}"
full="CREATE OR REPLACE TRIGGER pgmqd_wakeup AFTER INSERT ON pgmq.q_wake FOR EACH STATEMENT EXECUTE FUNCTION pgmqd.wakeup('wake', 'pgmqd', '0')"
check 'above its share of the notification queue an enqueue is silent' '' -c "$full" "${send[@]}"

# ---- where transactions can be prepared ----
query -c "CREATE OR REPLACE TRIGGER pgmqd_wakeup AFTER INSERT ON pgmq.q_end FOR EACH STATEMENT EXECUTE FUNCTION pgmqd.wakeup_at_end('end', 'pgmqd')"
rows=(-c 'SELECT count(*) FROM pgmqd.wakeups')
check 'the notification waits for the end of the transaction, and leaves nothing' '1 ! end 0' -c BEGIN -c "INSERT INTO pgmq.q_end (vt, message) VALUES (now(), '{}')" "${rows[@]}" "${end[@]}" "${rows[@]}"
left=(-c 'SET session_replication_role = replica' -c "INSERT INTO pgmqd.wakeups (channel, queue) VALUES ('pgmqd', 'end'), ('pgmqd', 'end')" -c 'RESET session_replication_role')
check 'of what was prepared nothing is notified above the share of the notification queue, and it stays' '0 2' "${left[@]}" -c 'SELECT pgmqd.notify_prepared(0)' "${rows[@]}"
check 'below it each queue is notified once' '1 ! end 0' -c 'SELECT pgmqd.notify_prepared()' "${rows[@]}"
query -c "SELECT pgmq.drop_queue(q) FROM unnest('{wake,wake_dlq,end,end_dlq}'::text[]) q" >/dev/null
echo "1..$n"
