# notify.t: a commit notifies, with the queue's name as payload; a rollback does not.
# database: app
echo 1..5
n=0
# One test: psql's output for the given statements must hold exactly these payloads.
check() {
  local title=$1 expected=$2 out
  shift 2
  n=$((n + 1))
  out=$(psql -qAtX -v ON_ERROR_STOP=1 -d app -c 'LISTEN pgmqd' "$@" -c 'SELECT 1' |
    sed -n 's/^Asynchronous notification "[a-z]*" with payload "\([^"]*\)".*/\1/p' | tr '\n' ' ')
  if [[ $out == "$expected" ]]; then echo "ok $n - $title"; else echo "not ok $n - $title"; echo "# payloads: $out"; fi
}
check 'one notification for a message' 'email_queue ' -c "SELECT public.queue_email_task('v@example.test', NULL, 'report_ready')"
check 'one for a hundred in a statement' 'analytics_queue ' \
  -c "SELECT pgmq.send_batch('analytics_queue', array_agg('{}'::jsonb)) FROM generate_series(1, 100)"
check 'none after a rollback' '' -c BEGIN -c "SELECT pgmq.send('email_queue', '{}')" -c ROLLBACK
check 'the stored spelling of a name' 'CamelCase ' -c "SELECT pgmq.create('CamelCase')" -c "SELECT pgmqd.attach_queue('camelcase')" \
  -c "SELECT pgmq.send('CAMELCASE', '{}')" -c "SELECT pgmq.drop_queue('CamelCase')"
check 'a pause, on the channel of its queue' '!pause email_queue !pause email_queue ' -c 'LISTEN elsewhere' \
  -c "UPDATE pgmqd.settings SET value = 'elsewhere' WHERE name = 'channel'" -c "SELECT pgmqd.attach_queue('email_queue')" \
  -c "UPDATE pgmqd.settings SET value = NULL WHERE name = 'channel'" -c "SELECT pgmqd.pause('email_queue')" -c "SELECT pgmqd.resume('email_queue')" \
  -c "SELECT pgmqd.attach_queue('email_queue')"
psql -qAtX -d app -c "SELECT pgmq.purge_queue('email_queue'), pgmq.purge_queue('analytics_queue')" >/dev/null
