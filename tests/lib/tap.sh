# tap.sh: for the database tests that are scripts: a query, `pgmqd migrate`, and results as lines of TAP. A script sources it and prints its plan.
n=0 out='' status=0
sql() { psql -qAtX -v ON_ERROR_STOP=1 "$@"; }
pgmqd() { status=0; out=$("$PGMQD" migrate "$@" 2>&1) || status=$?; } # leaves its output and exit status in out and status
report() { # ok|no, title
  n=$((n + 1))
  if [[ $1 == ok ]]; then echo "ok $n - $2"; else echo "not ok $n - $2"; sed 's/^/# /' <<<"status $status"$'\n'"$out"; fi
}
is() { if [[ $1 == "$2" ]]; then report ok "$3"; else out="have: $1"$'\n'"want: $2"$'\n'$out report no "$3"; fi; }
says() { if [[ $out == *"$1"* ]]; then report ok "$2"; else report no "$2"; fi; }
