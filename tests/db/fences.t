# fences.t: each statement of the queue against a second dispatcher that holds the row, or has it locked; and claims.
# database: app
# The statements are those of queue_sql.c, printed by tests/db/statements. Each case is a transaction that is rolled back.
set -u
builddir=${PGMQD_BUILDDIR:-$(cd "$(dirname "$0")/../.." && pwd)/build}
if ! make -s -C "$builddir" V=0 tests/db/statements >/dev/null 2>&1; then
  echo '1..0 # SKIP there is no build tree that makes tests/db/statements'
  exit
fi
query() { psql -qAtX -v ON_ERROR_STOP=1 -d app "$@"; }
query -c "SELECT pgmqd.create_queue('fence')" >/dev/null
oid=$(query -c "SELECT 'pgmq.q_fence'::regclass::oid::int4")
statements() { "$builddir/tests/db/statements" fence "$oid" "$@"; }

# ---- cases: gathered, then run in one session ----
n=0 done=0 script=''
titles=() wants=()
add() { # title, what the session says, statements
  titles+=("$1") wants+=("$2")
  script+="\\echo @@"$'\n'"BEGIN; ${*:3}"$'\n'"ROLLBACK;"$'\n'
}
flush() { # options of tests/db/statements
  local have=() text
  text=$({ statements "$@"; printf '%s\n' '\set VERBOSITY terse' '\set ON_ERROR_ROLLBACK on' 'SET enable_seqscan = off; SET jit = off;' "SET lock_timeout = '100ms';" "$script"; } | psql -qAtX -d app 2>&1 |
    sed -E 's/^ERROR: +//; /^(DETAIL|CONTEXT|HINT|LINE|QUERY|STATEMENT|WARNING)/d; /^ *\^/d' | awk '/^@@$/ { if (n++) print line; line = ""; next } n { line = line (line == "" ? "" : " ") $0 } END { print line }')
  mapfile -t have <<<"$text"
  for ((; n < ${#titles[@]}; n++)); do
    if [[ ${have[n - done]-} == "${wants[n]}" ]]; then echo "ok $((n + 1)) - ${titles[n]}"
    else printf 'not ok %s - %s\n# have: %s\n# want: %s\n' $((n + 1)) "${titles[n]}" "${have[n - done]-}" "${wants[n]}"; fi
  done
  done=$n script=''
}

# A row as this dispatcher's claim left it: number 7, read twice, with the nonce 123.
born=1767225600000005
claims="'{7}', '{2000123}', '{$born}'"
row() { # read_ct, nonce, microseconds of enqueued_at, number
  echo "INSERT INTO pgmq.q_fence (msg_id, read_ct, enqueued_at, vt, message, headers) OVERRIDING SYSTEM VALUE
    VALUES (${4:-7}, $1, '2026-01-01 00:00:00.$3+00', '2050-01-01 00:00:00.$2+00', '{\"a\": 1}', '{\"h\": 1}');"
}
declare -A call=(
  [done]="EXECUTE done($claims);" [done_careful]="EXECUTE done_careful($claims, AGAIN);"
  [retry]="EXECUTE retry($claims, '{60000}', AGAIN, 'fence', '{why}', '{0}');" [release]="EXECUTE release($claims, '{60000}', AGAIN, 'fence');"
  [fail]="EXECUTE fail($claims, '{why}', '{permanent}', '{2}', AGAIN);" [replace]="EXECUTE replace($claims, '{\"b\": 2}', '0', AGAIN, 'fence');"
  [fence]="EXECUTE fence($claims);" [extend]="EXECUTE extend($claims);" [known]="EXECUTE known($claims);")
# What the tables hold.
state="SELECT concat('= ', coalesce((SELECT CASE WHEN extract(year FROM vt) = 2050 THEN 'kept'
    WHEN vt BETWEEN clock_timestamp() AND clock_timestamp() + interval '32 s' AND date_part('microseconds', vt)::bigint % 1000000 = 123 THEN 'extended'
    WHEN vt BETWEEN clock_timestamp() + interval '33 s' AND clock_timestamp() + interval '61 s' THEN 'later' ELSE 'moved' END FROM pgmq.q_fence WHERE msg_id = 7), 'gone'),
  (SELECT ' archived ' || string_agg(concat(msg_id, headers), ' ' ORDER BY msg_id DESC) FROM pgmq.a_fence), (SELECT concat(' new ', message, headers->'pgmqd_root') FROM pgmq.q_fence WHERE msg_id <> 7),
  (SELECT ' dead ' || string_agg(headers #>> '{pgmqd_dead,reason}', ' ') FROM pgmq.q_fence_dlq), (SELECT ' refunded ' || n FROM pgmqd.refunds WHERE queue = 'fence'));"
try() { # title, what is wanted, statement, again, statements before
  add "$1" "$2" "$5" "${call[$3]//AGAIN/\'$4\'}" "$state"
}
ours=$(row 2 000123 000005)
archived='archived 7{"h": 1}'

# ---- the claim that holds the row ----
try 'done archives the message' "7|f = gone $archived" done f "$ours"
try 'done_careful does' "7|f = gone $archived" done_careful f "$ours"
try 'retry lets it wait' '7|f = later' retry f "$ours"
try 'release does, and refunds the attempt' '7|f = later refunded 1' release f "$ours"
try 'fail makes it a dead letter' '7|f = gone dead why' fail f "$ours"
try 'replace sends the remainder' "7|f = gone $archived new {\"b\": 2}7" replace f "$ours"
try 'the fence of done_with archives it' "1 = gone $archived" fence f "$ours"
try 'extend keeps the nonce' '7|f = extended' extend f "$ours"
try 'known knows nothing of it yet' '= kept' known f "$ours"

# ---- another dispatcher's claim holds it ----
declare -A holds=([claimed]=$(row 3 000123 000005) [nonce]=$(row 2 000124 000005) [born]=$(row 2 000123 000006))
declare -A who=([claimed]='that another one has claimed since' [nonce]='that another one has claimed under the same count' [born]='of another message under its number')
lost='invalid input syntax for type integer: "pgmqd: lease lost'
for by in claimed nonce born; do
  for again in f t; do
    for st in done done_careful retry release fail replace extend known; do
      want='= kept'
      # what a retry has left behind has the same count and another nonce
      if [[ $again$by == tnonce && $st == re[tl]* ]]; then want='7|f = kept'; fi
      try "$st$([[ $again == t ]] && echo ', asked again,') leaves a row ${who[$by]}" "$want" $st $again "${holds[$by]}"
    done
  done
  try "the fence fails on a row ${who[$by]}" "$lost 0\" = kept" fence f "${holds[$by]}"
done
try 'retry, asked again, leaves another message with another nonce' '= kept' retry t "$(row 2 000124 000006)"
two="$ours $(row 3 000123 000005 8)"
both="'{7,8}', '{2000123,2000123}', '{$born,$born}'"
kept="SELECT concat('= ', string_agg(msg_id::text, ' ' ORDER BY msg_id)) FROM pgmq.q_fence WHERE extract(year FROM vt) = 2050;"
add 'of two, done archives the one that is held' '7|f = 8' "$two EXECUTE done($both); $kept"
add 'of two, retry moves it' '7|f = 8' "$two EXECUTE retry($both, '{60000,60000}', 'f', 'fence', '{why,why}', '{0,0}'); $kept"
add 'of two, fail takes it' '7|f = 8' "$two EXECUTE fail($both, '{a,b}', '{x,y}', '{1,1}', 'f'); $kept"
add 'of two, extend extends it' '7|f = 8' "$two EXECUTE extend($both); $kept"
add 'of two, the fence takes both or none' "$lost 1\" = 7 8" "$two EXECUTE fence($both); $kept"

# ---- asked again: what an earlier try has stored is known, and what another claim has stored is not taken for it ----
stale="'{7}', '{1000123}', '{$born}'"
for st in done_careful known; do try "$st knows what was archived" "7|f 7|f = gone $archived" $st t "$ours EXECUTE done($claims);"; done
try 'replace knows it, and sends nothing twice' "7|f 7|f = gone $archived new {\"b\": 2}7" replace t "$ours EXECUTE replace($claims, '{\"b\": 2}', '0', 'f', 'fence');"
try 'fail knows it, and makes no second dead letter' '7|f 7|f = gone dead first' fail t "$ours EXECUTE fail($claims, '{first}', '{permanent}', '{2}', 'f');"
try 'retry knows it' '7|f 7|f = later' retry t "$ours EXECUTE retry($claims, '{60000}', 'f', 'fence', '{why}', '{0}');"
try 'release knows it, and refunds once' '7|f 7|f = later refunded 1' release t "$ours EXECUTE release($claims, '{60000}', 'f', 'fence');"
add 'known is not what another claim has archived' '7|f' "$ours EXECUTE done($claims); EXECUTE known($stale);"
add 'done_careful does not take it' '7|f' "$ours EXECUTE done($claims); EXECUTE done_careful($stale, 't');"
add 'replace does not take it' '7|f' "$ours EXECUTE done($claims); EXECUTE replace($stale, '{}', '0', 't', 'fence');"
add "fail does not take another claim's dead letter" '7|f' "$ours EXECUTE fail($claims, '{first}', '{permanent}', '{2}', 'f'); EXECUTE fail($stale, '{}', '{}', '{}', 't');"

# ---- what goes along ----
noted() { echo "INSERT INTO pgmqd.refunds VALUES ('fence', 7, $1, $2);"; }
try 'a second refund of a message is added' '7|f = later refunded 2' release f "$(noted 1 1) $ours"
try 'one of the same claim is not' '7|f = later refunded 1' release f "$(noted 1 2) $ours"
try 'nor is it to those of a former queue of that name' '7|f = later refunded 1' release f "$(noted 3 9) $ours"
add 'a dead letter keeps its headers' '7|f 1' "$ours ${call[fail]//AGAIN/\'f\'} SELECT headers->'h' FROM pgmq.q_fence_dlq;"
# unique keys: that of the message 7, of an older one with its number, and of another one
keys="INSERT INTO pgmqd.unique_keys (queue, key, msg_id, enqueued_at) VALUES ('fence', 'k', 7, '2026-01-01 00:00:00.000005+00'), ('fence', 'old', 7, '2020-01-01'),
  ('fence', 'other', 9, '2026-01-01 00:00:00.000005+00'), ('elsewhere', 'k', 7, '2026-01-01 00:00:00.000005+00');"
add 'a remainder has the unique key' '7|f k' "$keys $ours ${call[replace]//AGAIN/\'f\'} SELECT u.key FROM pgmqd.unique_keys u JOIN pgmq.q_fence q USING (msg_id, enqueued_at);"
add "a remainder's remainder names the first message" '7|f 3' "${ours//\"h\": 1/\"pgmqd_root\": 3} ${call[replace]//AGAIN/\'f\'} SELECT headers->'pgmqd_root' FROM pgmq.q_fence WHERE msg_id <> 7;"

# ---- a number that the archive has given to another message ----
taken="INSERT INTO pgmq.a_fence (msg_id, read_ct, enqueued_at, vt, message) VALUES (7, 1, '2020-01-01', '2020-01-01', '{}');"
aside='= gone archived 7 -1{"h": 1, "pgmqd_msg_id": 7}'
try 'done_careful archives it under another one' "7|f $aside" done_careful f "$taken $ours"
try 'so does the fence' "1 $aside" fence f "$taken $ours"
try 'and replace' "7|f $aside new {\"b\": 2}7" replace f "$taken $ours"
try 'where it is known' "7|f 7|f $aside" known t "$taken $ours EXECUTE done_careful($claims, 'f');"

# ---- claims ----
due() { # number, vt, read_ct, message, headers
  echo "INSERT INTO pgmq.q_fence (msg_id, read_ct, enqueued_at, vt, message, headers) OVERRIDING SYSTEM VALUE VALUES ($1, $3, '2026-01-01', $2, '${4:-{\}}', ${5:-NULL});"
}
claim() { # title, what was claimed, limit, mark, rows
  add "$1" "$2" "$5" "\\o /dev/null"$'\n'"EXECUTE claim('$3', 'fence', '$4', 'f', 'f', 't', '0.000042', '0', '{}');"$'\n'"\\o"$'\n' \
    "SELECT concat(msg_id, '/', read_ct, '/', date_part('microseconds', vt)::bigint % 1000000, CASE WHEN vt > clock_timestamp() + interval '32 s' THEN ' wrong lease' END)
      FROM pgmq.q_fence WHERE vt > clock_timestamp() AND vt < clock_timestamp() + interval '1 hour' ORDER BY msg_id;"
}
now="clock_timestamp() - interval '5 s'" old="clock_timestamp() - interval '1 day'" far="clock_timestamp() + interval '2 hours'"
claim 'a claim takes what is due, counts it, and writes its nonce' 1/1/42 9 -Infinity "$(due 1 "$now" 0) $(due 2 "$far" 0)"
claim 'what fell due first comes first, and no more than is asked for' 2/4/42 1 -Infinity "$(due 1 "$now" 0) $(due 2 "$old" 3)"
claim 'a count at its end does not overflow' 1/2147483647/42 9 -Infinity "$(due 1 "$now" 2147483647)"
claim 'a claim begins at the mark' 1/1/42 9 "$(query -c 'SELECT extract(epoch FROM now()) - 3600')" "$(due 1 "$now" 0) $(due 2 "$old" 0)"
add 'the mark is no later than what was left' ok "$(due 1 "$old" 0) $(due 2 "$old" 0)" "\\o |tail -n 1 | awk -F'|' '{ print (\$8 + 0 && \$8 < $(date +%s)000000 - 3600000000 ? \"ok\" : \$8) }'"$'\n'"EXECUTE claim('1', 'fence', '-Infinity', 'f', 'f', 't', '0.000042', '0', '{}');"$'\n'"\\o"
tells() { # title, columns 2, 3, 5 and 7 of the first row, small, rows
  add "$1" "$2" "$4" "\\o |grep '^1|' | cut -d'|' -f2,3,5,7"$'\n'"EXECUTE claim('9', 'fence', '-Infinity', 'f', 'f', 't', '0.000042', '$3', '{}');"$'\n'"\\o"
}
tells 'a message within its attempts comes with its text' '5|0|{"a": 1}|' 0 "$(due 1 "$now" 4 '{"a":1}')"
tells 'one that has had them comes without' '6|0||' 0 "$(due 1 "$now" 5 '{"a":1}')"
tells 'what is small comes whole when what is large is withheld' '1|0|{"a": 1}|' 1 "$(due 1 "$now" 0 '{"a":1}')"
tells 'what is large comes as its size' '1|0||1048578' 1 "INSERT INTO pgmq.q_fence (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (1, $now, to_jsonb(repeat('x', 1048576)));"
tells 'attempts that were refunded are told' '5|2|{}|' 0 "$(due 1 "$now" 4) INSERT INTO pgmqd.refunds VALUES ('fence', 1, 2, 4);"
tells 'those of a former queue of that name are not' '5|0|{}|' 0 "$(due 1 "$now" 4) INSERT INTO pgmqd.refunds VALUES ('fence', 1, 2, 9);"
tells 'and give an attempt back beyond the last' '6|1|{"a": 1}|' 0 "$(due 1 "$now" 5 '{"a":1}') INSERT INTO pgmqd.refunds VALUES ('fence', 1, 1, 5);"
queue_row() { # title, column, what is wanted, ask for shared, full, rows
  add "$1" "$3" "$6" "\\o |tail -n 1 | cut -d'|' -f$2"$'\n'"EXECUTE claim('9', 'fence', '-Infinity', '$5', '$4', 't', '0.000042', '0', '{}');"$'\n'"\\o"
}
queue_row 'no other worker is seen where there is none' 10 f t f ''
flush

# ---- where done deletes ----
add 'a message that is there is not known' '' "$ours ${call[known]}"
add 'one that is gone is' '7|f' "${call[known]}"
add 'another one under its number is not it' '7|f' "${holds[born]} ${call[known]}"
add 'one that another dispatcher has claimed is not done' '' "${holds[claimed]} ${call[known]}"
try 'done deletes it' '7|f = gone' done f "$ours"
try 'and no other' '= kept' done f "${holds[claimed]}"
flush delete

# ---- a row that another session has locked ----
query -c "$ours" >/dev/null
meanwhile 'BEGIN;' 'SELECT FROM pgmq.q_fence FOR UPDATE;'
for st in done_careful retry release fail replace extend; do try "$st says that a row is locked, and waits for nothing" '7|t = kept' $st f ''; done
try 'done waits no longer than lock_timeout' 'canceling statement due to lock timeout = kept' done f ''
add 'a locked row of another claim is lost, not locked' '' "EXECUTE retry($stale, '{60000}', 'f', 'fence', '{why}', '{0}');"
flush
enough
query -c 'DELETE FROM pgmq.q_fence' >/dev/null

# ---- a producer has the unique key of a message locked ----
query -c "$keys $ours" >/dev/null
meanwhile 'BEGIN;' "SELECT FROM pgmqd.unique_keys WHERE key = 'k' FOR UPDATE;"
try 'replace says that the row is locked, and waits for nothing' '7|t = kept' replace f ''
try 'done does not care' "7|f = gone $archived" done_careful f ''
flush
enough
query -c 'DELETE FROM pgmq.q_fence' -c 'DELETE FROM pgmqd.unique_keys' >/dev/null

# ---- one that another claim has locked, and a second worker ----
query -c "$(due 1 "$now" 0)" >/dev/null
meanwhile 'BEGIN;' 'SELECT FROM pgmq.q_fence FOR UPDATE;' "SELECT pg_advisory_lock_shared($oid, -3);"
tells 'a claim passes a locked row by' '1|0|{}|' 0 "DELETE FROM pgmq.q_fence WHERE false;"
wants[-1]=''
queue_row 'another worker of the queue is seen' 10 t t f ''
queue_row 'and not asked for always' 10 '' f f ''
flush
enough
query -c 'DELETE FROM pgmq.q_fence' >/dev/null

# ---- groups ----
group="'{\"group\": \"g\"}'" alone="'{\"group\": \"h\"}'"
claim 'of a group the first is claimed' '1/1/42 3/1/42' 9 -Infinity "$(due 1 "$now" 0 '' "$group") $(due 2 "$now" 0 '' "$group") $(due 3 "$now" 0 '' "$alone")"
claim 'while it is held, or waits for its retry, none' '' 9 -Infinity "$(due 1 "$far" 1 '' "$group") $(due 2 "$now" 0 '' "$group")"
claim 'nor one before it' '' 9 -Infinity "$(due 1 "$now" 0 '' "$group") $(due 2 "$far" 1 '' "$group")"
flush grouped
query -c "SELECT pgmqd.take_turn('fence')" >/dev/null
meanwhile 'BEGIN;' "SELECT pgmqd.take_turn('fence');"
add 'two claims by group take turns' 'canceling statement due to lock timeout' 'EXECUTE turn;'
flush grouped
enough

# ---- a message ahead of a claim ----
at_once="UPDATE pgmq.q_fence SET enqueued_at = vt;"
ahead() { # title, what is wanted, rows, mark
  add "$1" "$2" "$3" "\\o |cut -d'|' -f1,2,3,5,6"$'\n'"EXECUTE ahead('${4:--Infinity}', '0.000042');"$'\n'"\\o"
}
ahead 'the first by time comes ahead' '2|1|0|{}|' "$(due 1 "$now" 0) $(due 2 "$old" 0) $at_once"
ahead 'not when it was claimed before, nor one behind it then' '' "$(due 1 "$old" 1) $(due 2 "$now" 0) $at_once"
ahead 'nor when it was sent with a delay' '' "$(due 1 "$now" 0)"
ahead 'nor what is not due' '' "$(due 1 "$far" 0) $at_once"
ahead 'nor what lies below the mark' '1|1|0|{}|' "$(due 1 "$now" 0) $(due 2 "$old" 0) $at_once" "$(query -c 'SELECT extract(epoch FROM now()) - 3600')"
add 'its lease has the nonce and the length of a claim' 't 1 42' "$(due 1 "$now" 0) $at_once" "\\o /dev/null"$'\n'"EXECUTE ahead('-Infinity', '0.000042');"$'\n'"\\o"$'\n' \
  "SELECT concat(vt BETWEEN clock_timestamp() + interval '28 s' AND clock_timestamp() + interval '32 s', ' ', read_ct, ' ', date_part('microseconds', vt)::bigint % 1000000) FROM pgmq.q_fence;"
flush

# ---- limits ----
a="'{\"c\": \"a\"}'" b="'{\"c\": \"b\"}'" key=key=header:c
three="$(due 1 "$old" 0 '' "$a") $(due 2 "$old" 0 '' "$a") $(due 3 "$now" 0 '' "$b")"
spent() { echo "INSERT INTO pgmqd.rates VALUES ('fence', '', '$1', $2);"; }
claim 'as many as the burst are claimed' '1/1/42 2/1/42' 9 -Infinity "$three"
claim 'none while the rate is spent' '' 9 -Infinity "$three $(spent '' 'clock_timestamp()')"
claim 'one for each token since then' 1/1/42 9 -Infinity "$three $(spent '' "clock_timestamp() - interval '15 s'")"
claim 'that of another queue is not ours' '1/1/42 2/1/42' 9 -Infinity "$three INSERT INTO pgmqd.rates VALUES ('other', '', '', clock_timestamp());"
claim 'what was spent after a clock was put back is spent now' '' 9 -Infinity "$three $(spent '' "clock_timestamp() + interval '1 hour'")"
add 'the next look is due with the next token' ok "$three $(spent '' "clock_timestamp() - interval '9 s'")" \
  "\\o |tail -n 1 | awk -F'|' '{ print (\$7 > 0 && \$7 <= 1001 ? \"ok\" : \$7) }'"$'\n'"EXECUTE claim('9', 'fence', '-Infinity', 'f', 'f', 't', '0.000042', '0', '{}');"$'\n'"\\o"
flush rate=0.1 burst=2
claim 'each key has its tokens' '1/1/42 2/1/42 3/1/42' 9 -Infinity "$three"
claim 'a key whose rate is spent is passed over' 3/1/42 9 -Infinity "$three $(spent a 'clock_timestamp()')"
claim 'and of what is left no more than is asked for' 1/1/42 1 -Infinity "$three"
add 'tokens are written down for what was claimed' 'a 2, b 1' "$three" "\\o /dev/null"$'\n'"EXECUTE claim('9', 'fence', '-Infinity', 'f', 'f', 't', '0.000042', '0', '{}');"$'\n'"\\o"$'\n' \
  "SELECT string_agg(format('%s %s', key, round(2 - extract(epoch FROM clock_timestamp() - spent_until) / 10)), ', ' ORDER BY key) FROM pgmqd.rates;"
flush rate=0.1 burst=2 $key
claim 'places: as many as there are' '1/1/42 2/1/42' 9 -Infinity "$three"
claim 'what a claim holds has its place' '1/1/42 4/1/42' 9 -Infinity "$three $(due 4 "date_trunc('second', clock_timestamp()) + interval '25.000042 s'" 1)"
claim 'what waits for its retry has none' '1/1/42 2/1/42' 9 -Infinity "$three $(due 4 "date_trunc('second', clock_timestamp()) + interval '2 hours'" 1)"
claim 'nor what is delayed' '1/1/42 2/1/42' 9 -Infinity "$three $(due 4 "date_trunc('second', clock_timestamp()) + interval '2 hours 0.000042 s'" 0)"
flush all=2
claim 'places of a key' '1/1/42 3/1/42' 9 -Infinity "$three"
claim 'a key whose places are taken is passed over' '3/1/42 4/1/42' 9 -Infinity "$three $(due 4 "date_trunc('second', clock_timestamp()) + interval '25.000042 s'" 1 '' "$a")"
claim 'keys far behind many of one are found' '1/1/42 900/1/42' 9 -Infinity "$(due 900 "$now" 0 '' "$b") INSERT INTO pgmq.q_fence (msg_id, vt, message, headers)
  OVERRIDING SYSTEM VALUE SELECT n, $old, '{}', $a FROM generate_series(1, 800) n;"
flush each=1 $key
said() { echo "INSERT INTO pgmqd.keys (queue, key, $1) VALUES ('fence', '$2', $3);"; }
claim 'keys take turns' '1/1/42 3/1/42' 2 -Infinity "$three"
claim 'by what they have in hand' '3/1/42 4/1/42' 1 -Infinity "$three $(due 4 "date_trunc('second', clock_timestamp()) + interval '25.000042 s'" 1 '' "$a")"
claim 'by their weights' '1/1/42 2/1/42' 2 -Infinity "$three $(said weight a 3)"
claim 'a key that is paused has none' 3/1/42 9 -Infinity "$three $(said paused_at a 'now()')"
flush fair $key
meanwhile 'BEGIN;' "SELECT pgmqd.take_turn('fence');"
add 'claims of a queue with limits take turns' 'canceling statement due to lock timeout' 'EXECUTE turn;'
flush all=2
enough

# ---- the handshake's locks ----
meanwhile "SELECT pg_advisory_lock_shared($oid, -1), pg_advisory_lock_shared($oid, -2);"
add 'a producer in flight keeps both locks from a worker' 'f f' 'EXECUTE in_flight; EXECUTE awake;'
flush
enough
locks="SELECT string_agg(objid::int4 || mode, ' ') FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();"
add '"in flight" is given back at once, "awake" is kept until it is given up' 't t -2ExclusiveLock t ' "EXECUTE in_flight; EXECUTE awake; $locks EXECUTE release_awake; $locks"
flush
query -c "SELECT pgmq.drop_queue('fence'), pgmq.drop_queue('fence_dlq')" >/dev/null
echo "1..$n"
