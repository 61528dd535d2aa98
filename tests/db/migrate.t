# migrate.t: `pgmqd migrate` on empty, half-done, changed, busy and read-only databases.
set -u
echo 1..42
source "${BASH_SOURCE[0]%/*}/../lib/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$SQL_DIR"/*.sql "$work"
numbers=($(cd "$work" && ls 0*.sql | grep -v ^000 | cut -c1-3)) # of all files but the demo application's
silent_on() { if [[ $out == *"$1"* ]]; then report no "$2"; else report ok "$2"; fi; }
for db in m1 m2 m3; do sql -d postgres -c "CREATE DATABASE $db"; done

# ---- what there is to do ----
pgmqd -d dbname=m1 --sql-dir "$work" --status
is "$status" 0 '--status of an empty database'
is "$(grep -c pending <<<"$out")" "$(ls "$work"/0*.sql | wc -l)" 'all files are pending'
pgmqd -d dbname=m1 --sql-dir "$work" --dry-run
says 'would apply 010_pgmq.sql' '--dry-run'
silent_on 000_demo 'the demo application is not meant by itself'
is "$(sql -d m1 -c "SELECT count(*) FROM pg_namespace WHERE nspname IN ('pgmqd', 'pgmq')")" "$([[ ${PGMQ_SQL:-} ]] && echo 1 || echo 0)" 'neither of them changes anything'

# ---- doing it ----
files=$(cd "$work" && ls 0*.sql | cut -c1-3 | grep -v '^000' | paste -sd ' ')
pgmqd -d dbname=m1 --with application --sql-dir "$work"
is "$status" 0 'a first run'
says 'not connected: on_checkup_completed: table public.assessments does not exist' 'tells what is missing'
silent_on 'already exists' 'and nothing that goes without saying'
is "$(sql -d m1 -c 'SELECT string_agg(left(file, 3), chr(32) ORDER BY file) FROM pgmqd.schema_version')" "$files" \
  'remembers the files'
is "$(sql -d m1 -c "SELECT checksum FROM pgmqd.schema_version WHERE file = '020_pgmqd.sql'")" \
  "$(sha256sum "$work/020_pgmqd.sql" | cut -d' ' -f1)" 'with their checksums'
before=$(sql -d m1 -c 'SELECT max(applied_at) FROM pgmqd.schema_version')
pgmqd -d dbname=m1 --with application --sql-dir "$work"
is "$status $(sql -d m1 -c 'SELECT max(applied_at) FROM pgmqd.schema_version')" "0 $before" 'a second run applies nothing'
DATABASE_URL=postgresql:///m1 pgmqd --sql-dir "$work" --status
is "$(grep -c applied <<<"$out")" "$(wc -w <<<"$files")" 'DATABASE_URL names the database'
sql -d m1 -c 'CREATE TABLE public.assessments (id uuid, user_id uuid, status text)'
PGMQD_SQL_DIR=$work pgmqd -d dbname=m1
silent_on on_checkup_completed 'a table that came later is connected'
is "$(sql -d m1 -c "SELECT count(*) FROM pg_trigger WHERE tgname = 'on_checkup_completed'")" 1 'its trigger is there'

# ---- two at the same time ----
"$PGMQD" migrate -d dbname=m2 --sql-dir "$work" --demo-app >"$work/a.out" 2>&1 & first=$!
pgmqd -d dbname=m2 --sql-dir "$work" --demo-app
wait $first || status=1
is "$status $(sql -d m2 -c 'SELECT count(*) FROM pgmqd.schema_version')" "0 $(($(wc -w <<<"$files") + 1))" 'two at the same time'

# ---- again by hand, as in an SQL editor ----
pg_dump=$PG_BINDIR/pg_dump # a server of its own may come without
[[ -x $pg_dump ]] || pg_dump=$(command -v pg_dump || echo false)
dump() { "$pg_dump" --schema-only -d m2 | grep -v '^--\|restrict' | sort; } # the order of grants is nobody's
dump >"$work/before"
out=$(for file in "$work"/0*.sql; do PGOPTIONS='-c client_min_messages=warning' sql -1 -d m2 -f "$file" || echo failed; done 2>&1)
is "$out" '' 'every file can be applied again'
is "$(dump | diff "$work/before" -)" '' 'which changes nothing'

# ---- files that changed, are wrong, or are gone ----
echo '-- more' >>"$work/031_setup_queues.sql"
pgmqd -d dbname=m2 --sql-dir "$work" --status
says '031_setup_queues.sql            changed' '--status says which file has changed'
echo 'CREATE TABLE IF NOT EXISTS public.news ();' >"$work/046_news.sql"
pgmqd -d dbname=m2 --with application --sql-dir "$work"
is "$status" 0 'a changed file'
says '031_setup_queues.sql (changed)' 'is applied again'
pgmqd -d dbname=m2 --with application --sql-dir "$work"
says '0 files applied' 'and only once'
cp "$SQL_DIR/031_setup_queues.sql" "$work"
# an installation from before the files had these names
sql -d m2 -c "DELETE FROM pgmqd.schema_version WHERE file ~ '^0(2[2-46]|4[0-5])_'" -c "UPDATE pgmqd.schema_version SET checksum = 'old', version = NULL" \
  -c "INSERT INTO pgmqd.schema_version (file, checksum) SELECT unnest(ARRAY['022_mail_log.sql', '037_page.sql', '036_suppression.sql']), 'old'"
pgmqd -d dbname=m2 --with application --sql-dir "$work"
is "$status $(sql -d m2 -c "SELECT string_agg(left(file, 3), chr(32) ORDER BY file) FROM pgmqd.schema_version")" "0 000 $files 046" 'old names of files give way to the new ones'
sql -d m2 -c "UPDATE pgmqd.schema_version SET version = '99.10' WHERE file = '020_pgmqd.sql'"
pgmqd -d dbname=m2 --with application --sql-dir "$work"
is "$status" 1 'a database of a newer pgmqd'
says 'pgmqd 99.10 has applied 020_pgmqd.sql to this database' 'is left alone'
sql -d m2 -c "UPDATE pgmqd.schema_version SET version = '0.0.9' WHERE file = '020_pgmqd.sql'"
printf '%s\n' 'CREATE TABLE public.first ();' '-- "ю; /* ' "SELECT E'\\';', \$x\$ ; \$x\$;" '' 'SELECT' '  nonsense;' >"$work/047_bad.sql"
pgmqd -d dbname=m2 --with application --sql-dir "$work"
is "$status" 1 'a file with an error'
says "$work/047_bad.sql:6: column \"nonsense\" does not exist (SQLSTATE 42703)" 'its line'
is "$(sql -d m2 -c "SELECT to_regclass('public.first') IS NULL, to_regclass('public.news') IS NULL")" 't|f' \
  'nothing of it is kept, but what came before'
printf '%s\n' 'SELECT $$;$$;' '/* ; /* */ ; */' 'DO $do$' 'BEGIN' '  PERFORM 1 / 0;' 'END $do$;' >"$work/047_bad.sql"
pgmqd -d dbname=m2 --with application --sql-dir "$work"
says "$work/047_bad.sql:3: division by zero" 'an error inside a DO block: the line of the statement'
echo 'SELECT 1; COMMIT;' >"$work/047_bad.sql"
pgmqd -d dbname=m2 --with application --sql-dir "$work"
says '047_bad.sql: ends the transaction that it runs in' 'a file with COMMIT in it'
is "$(sql -d m2 -c "SELECT count(*) FROM pgmqd.schema_version WHERE file = '047_bad.sql'")" 0 'is not remembered'
rm "$work/047_bad.sql" "$work/046_news.sql"
pgmqd -d dbname=m2 --sql-dir "$work" --status
says '046_news.sql                    gone' 'a file that is gone'

# ---- a dump that was restored without rights, or without a function ----
sql -d m2 -c "UPDATE pg_proc SET proacl = NULL WHERE proname = 'queue_email_task'" -c 'DROP FUNCTION public.pgmq_metrics'
pgmqd -d dbname=m2 --sql-dir "$work"
says '031_setup_queues.sql (missing: rights on public.queue_email_task())' 'a function that everybody may call again'
says '033_pgmq_rpc_wrappers.sql (missing: public.pgmq_metrics())' 'a function that is gone'
is "$(sql -d m2 -c "SELECT count(*) FROM pg_proc WHERE proname IN ('queue_email_task', 'pgmq_metrics') AND proacl::text !~ '[{,]='")" 2 'both are as before'
pgmqd -d dbname=m2 --sql-dir "$work"
says '0 files applied' 'and stay so'

# ---- where it cannot work ----
pgmqd -d dbname=nowhere --sql-dir "$work"
is "$status" 1 'no such database'
says 'cannot connect to the database' 'is told'
mkdir "$work/empty"
pgmqd -d dbname=m3 --sql-dir "$work/empty"
says "$work/empty: there is no SQL file" 'a directory without SQL files'
pgmqd --sql-dri x
is "$status" 2 'a wrong option'
pgmqd -d "dbname=m3 options=-cdefault_transaction_read_only=on" --sql-dir "$work"
is "$status" 0 'sessions that may only read by default may migrate'
touch "$PGDATA/standby.signal" 2>/dev/null
pg_ctl() { if ((EUID == 0)); then (cd / && runuser -u postgres -- "$PG_BINDIR/pg_ctl" "$@"); else "$PG_BINDIR/pg_ctl" "$@"; fi; }
pg_ctl -D "$PGDATA" -w -m fast restart -l "$PGDATA/../server.log" >/dev/null
pgmqd -d dbname=m3 --with application --sql-dir "$work"
says 'the server is a standby' 'a standby is refused'
pg_ctl -D "$PGDATA" -w promote >/dev/null
pgmqd -d dbname=m3 --with application --sql-dir "$work"
is "$status" 0 'until it is promoted'
