# roles.t: `pgmqd migrate` by a role that is no superuser and may make no roles; what it says, and what is granted later.
set -u
echo 1..12
source "${BASH_SOURCE[0]%/*}/../lib/tap.sh"
export PGMQD_SQL_DIR=$SQL_DIR

# The roles of the whole cluster that other tests have made step aside.
roles='pgmqd pgmqd_migrator pgmqd_enqueuer pgmqd_monitor pgmqd_operator pgmqd_mailer pgmqd_application'
aside() { for role in $roles; do sql -d postgres -c "ALTER ROLE $role RENAME TO aside_$role" 2>/dev/null; done; }
back() {
  sql -d postgres -c 'DROP DATABASE IF EXISTS owned WITH (FORCE)'
  for role in $roles; do sql -d postgres -c "DROP ROLE IF EXISTS $role" -c "ALTER ROLE aside_$role RENAME TO $role" 2>/dev/null; done
}
aside
trap back EXIT

# ---- a database whose owner is nobody special ----
sql -d postgres -c 'CREATE ROLE clinic LOGIN' -c 'CREATE DATABASE owned OWNER clinic' 2>/dev/null
sql -d owned -c 'ALTER SCHEMA public OWNER TO clinic'
pgmqd -d 'dbname=owned user=clinic' --demo-app
is "$status" 0 'migrates without any special right'
says 'not connected: role pgmqd, pgmqd_migrator, pgmqd_enqueuer, pgmqd_monitor, pgmqd_operator, pgmqd_mailer: missing, and role clinic may not make roles' 'and says what it could not make'
says "CREATE ROLE pgmqd LOGIN NOINHERIT; ALTER ROLE pgmqd SET search_path = ''" 'and how to make it'
is "$(sql -d owned -c "SELECT count(*) FROM pg_roles WHERE rolname ~ '^pgmqd'")" 0 'there are no roles'
out=$(sql -d owned -U clinic -c "SELECT pgmqd.create_queue('early')" 2>&1) || status=1
is "$status" 0 'queues can be made all the same'

# ---- a superuser makes the roles, the owner grants ----
for role in pgmqd_migrator pgmqd_enqueuer pgmqd_monitor pgmqd_operator pgmqd_mailer; do sql -d postgres -c "CREATE ROLE $role NOLOGIN"; done
sql -d postgres -c 'CREATE ROLE pgmqd LOGIN NOINHERIT' -c 'CREATE ROLE pgmqd_application NOLOGIN' -c 'GRANT pgmqd_application TO clinic'
pgmqd -d 'dbname=owned user=clinic'
is "$status $(grep -c 'not connected: ro\|not connected: right' <<<"$out")" '0 0' 'a second run has nothing to say of roles'
is "$(sql -d owned -U pgmqd -c 'SELECT count(*) FROM pgmq.q_early')" 0 'the daemon reads a queue that was there before'
out=$(sql -d owned -U pgmqd -c "SELECT pgmqd.mail_begin('k', 't', 'email_queue', 1, 'x', 'm', 'a@example.test', 1, true)" 2>&1)
is "$out" sending 'and calls a function of its own'
out=$(sql -d owned -U pgmqd -c 'SELECT * FROM public.profiles' 2>&1)
says 'permission denied' 'but reads no table of the application'
out=$(sql -d owned -U clinic -c "SELECT pgmqd.create_queue('late')" 2>&1)
is "$(sql -d owned -U pgmqd -c 'SELECT count(*) FROM pgmq.q_late')" 0 'a queue made later is granted with it'

# ---- a daemon that may too much is told ----
sql -d postgres -c 'ALTER ROLE pgmqd BYPASSRLS'
pgmqd -d 'dbname=owned user=clinic'
says 'not connected: role pgmqd: it is exempt from row security' 'a role that may too much is told'
sql -d postgres -c 'ALTER ROLE pgmqd NOBYPASSRLS'
before=$(sql -d owned -c "SELECT max(xmin::text::bigint) FROM pg_class WHERE relnamespace IN ('pgmq'::regnamespace, 'pgmqd'::regnamespace)")
pgmqd -d 'dbname=owned user=clinic'
is "$(sql -d owned -c "SELECT max(xmin::text::bigint) FROM pg_class WHERE relnamespace IN ('pgmq'::regnamespace, 'pgmqd'::regnamespace)")" \
  "$before" 'granting again writes nothing'
