"""How cost grows: with queues, dispatchers, messages, an archive, producers. The constants of docs/capacity.md come from here."""

import os
import time

from lib.daemon import Daemon, conf

QUEUE = {"plugin": "null"}


def pss(pid):
    """MiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024


def cpu(pid):
    """Seconds of user and system time."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def ours(daemon):
    return [daemon.process.pid, *daemon.children()]


def backends(b):
    return [pid for pid, in b.db.execute("select pid from pg_stat_activity where datname = %s and application_name like 'pgmqd%%'", [b.dbname])]


def end(daemon):
    assert daemon.stop() == 0, daemon.tail()
    daemon.close()


def make_queues(b, prefix, count):
    names = [f"{prefix}_{n}" for n in range(count)]
    for at in range(0, count, 50):  # one transaction holds a lock of each table
        b.db.execute("select pgmqd.create_queue(q) from unnest(%s::text[]) q", [names[at:at + 50]])
    return names


def queues_of(b, names, group):
    """A row: one daemon with these queues, in one group or each with a process of its own."""
    queues = {name: {**QUEUE, **({"group": "all"} if group else {})} for name in names}
    daemon, began = Daemon(conf(b.conninfo, queues)), time.monotonic()
    for name in names[:20]:
        b.db.execute("select pgmq.send(%s, '{}')", [name])
    daemon.start().wait_ready(300)
    ready = time.monotonic() - began
    while b.db.execute("select count(*) from unnest(%s::text[]) q, lateral pgmq.metrics(q) m where m.queue_length > 0", [names[:20]]).fetchone()[0]:
        b.db.execute("select pg_sleep(0.05)")
    served = time.monotonic() - began
    mark, began = daemon.mark(), time.monotonic()
    daemon.reload()
    said = daemon.wait_log(lambda record: record.get("text", "").startswith(("reloaded", "reload refused")), 300, start=mark)["text"]
    reload = f"{(time.monotonic() - began) * 1000:,.0f}" if said == "reloaded" else "refused"
    processes, sessions = ours(daemon), backends(b)
    row = [f"{len(names):,} queue{'s' * (len(names) > 1)}, {'one group' if group else 'a process each'}", len(processes), len(sessions),
           f"{sum(map(pss, processes)):.1f}", f"{sum(map(pss, sessions)):.1f}", f"{ready * 1000:,.0f}", f"{served * 1000:,.0f}", reload]
    end(daemon)
    return row


def many(b):
    """Rows of 1, 100 and 1,000 queues in a group, and of 20 queues with a process each."""
    counts, alone = ((1, 10), 5) if b.short else ((1, 100, 1000), 20)
    names = make_queues(b, "many", counts[-1])
    return [queues_of(b, names[:n], True) for n in counts] + [queues_of(b, names[:alone], False)]


def idle_dispatchers(b, dispatchers=10, queues=100, wait=150, seconds=60):
    """(transactions a second in the first minute, after `wait` seconds, processor share of ours and of the backends)."""
    if b.short:
        dispatchers, queues, wait, seconds = 2, 10, 1, 1
    names = make_queues(b, "shared", queues)
    sql = "select xact_commit + xact_rollback from pg_stat_database where datname = %s"
    daemons = [Daemon(conf(b.conninfo, {name: {**QUEUE, "group": "all"} for name in names}, http_listen="off")).start() for _ in range(dispatchers)]
    for daemon in daemons:
        daemon.wait_ready(120)

    def look():
        pids = [pid for daemon in daemons for pid in ours(daemon)]
        b.db.execute("select pg_stat_clear_snapshot()")
        return b.db.execute(sql, [b.dbname]).fetchone()[0], sum(map(cpu, pids)), sum(map(cpu, backends(b))), time.monotonic()

    def rates(seconds):
        before = look()
        time.sleep(seconds)
        after = look()
        return [(a - b) / (after[3] - before[3]) for a, b in zip(after[:3], before[:3])]

    first = rates(seconds)
    time.sleep(wait)
    later = rates(seconds)
    for daemon in daemons:
        end(daemon)
    return [[f"{dispatchers} dispatchers, {queues} queues each, {when}", f"{got[0]:.1f}", f"{got[1]:.2%}", f"{got[2]:.2%}"]
            for when, got in (("the first minute", first), (f"after {wait + seconds} s", later))]


def spent(b, daemon, act):
    """What `act` costs pgmqd: transactions, bytes of WAL, seconds of our processors and of our backends'; `act` says how many transactions it makes itself."""
    pause = 0.1 if b.short else 2  # what is counted is flushed with a delay

    def look():
        b.db.execute("select pg_stat_clear_snapshot()")
        row = b.db.execute("select xact_commit, pg_current_wal_insert_lsn() - '0/0' from pg_stat_database where datname = %s", [b.dbname]).fetchone()
        return int(row[0]), float(row[1]), sum(map(cpu, ours(daemon))), sum(map(cpu, backends(b)))
    time.sleep(pause)
    before = look()
    own = act() + 2  # and of two looks what lies between their readings
    time.sleep(pause)
    transactions, *others = (a - b for a, b in zip(look(), before))
    return [transactions - own, *others]


def message_cost(b):
    """Rows of what one message costs, one by one and from a backlog, with archive and without; and bytes of a row in the archive."""
    one_by_one, backlog = (50, 1000) if b.short else (1000, 100000)
    body = '{"n": 1, "text": "a message of the usual size, with a few words in it"}'
    rows = []
    for on_done in ("archive", "delete"):
        name = f"cost_{on_done}"
        b.db.execute("select pgmqd.create_queue(%s)", [name])
        daemon = Daemon(conf(b.conninfo, {name: {**QUEUE, "on_done": on_done, "max_in_flight": 2000}}, log_level="warn", http_listen="off")).start()
        while not backends(b):
            time.sleep(0.05)
        time.sleep(1)

        def emptied():
            looks = 1
            while b.db.execute(f"select count(*) from (select from pgmq.q_{name} limit 1) q").fetchone()[0]:
                time.sleep(0.02)
                looks += 1
            return looks

        def trickle():
            for _ in range(one_by_one):
                b.db.execute("select pgmq.send(%s, %s)", [name, body])
                time.sleep(0.01)
            return emptied() + one_by_one

        def flood():
            b.db.execute("select count(*) from pgmq.send_batch(%s, array_fill(%s::jsonb, array[%s]))", [name, body, backlog])
            return emptied() + 1

        for how, count, act in (("one every 10 ms", one_by_one, trickle), (f"{backlog:,} at once", backlog, flood)):
            transactions, wal, own, server = spent(b, daemon, act)
            rows.append([f"{how}, {on_done}", f"{transactions / count:.3f}", f"{wal / count:,.0f}", f"{own / count * 1e6:,.0f}", f"{server / count * 1e6:,.0f}"])
        end(daemon)
    size = b.db.execute("select pg_total_relation_size('pgmq.a_cost_archive')::float8 / greatest(count(*), 1) from pgmq.a_cost_archive").fetchone()[0]
    return rows, size


def archived(b, rows):
    """Messages/s of a drain into an archive that is empty, then one that has so many rows."""
    name, count = "archived", 2000 if b.short else 100000
    b.db.execute("select pgmqd.create_queue(%s)", [name])
    rates = []
    for fill in (0, rows):
        if fill:
            b.db.execute(f"insert into pgmq.a_{name} (msg_id, read_ct, enqueued_at, archived_at, vt, message) select -i, 1, now() - interval '1 day', now(), now(),"
                         " '{\"n\": 1, \"text\": \"a message of the usual size, with a few words in it\"}' from generate_series(1, %s) i", [fill])
            b.db.execute(f"vacuum analyze pgmq.a_{name}")
        for _ in range(3):
            b.db.execute(f"alter table pgmq.q_{name} disable trigger user")
            b.db.execute("select count(*) from pgmq.send_batch(%s, array_fill('{\"n\": 1}'::jsonb, array[%s]))", [name, count])
            b.db.execute(f"alter table pgmq.q_{name} enable trigger user")
            last = b.db.execute(f"select max(msg_id) from pgmq.q_{name}").fetchone()[0]
            daemon = Daemon(conf(b.conninfo, {name: {**QUEUE, "max_in_flight": 2000}}, log_level="warn", http_listen="off")).start()
            while b.db.execute(f"select count(*) from (select from pgmq.q_{name} limit 1) q").fetchone()[0]:
                time.sleep(0.02)
            first, over = b.db.execute(f"select extract(epoch from min(archived_at))::float8, extract(epoch from max(archived_at))::float8 from pgmq.a_{name}"
                                       " where msg_id > %s", [last - count]).fetchone()
            rates.append((fill, count / (over - first)))
            end(daemon)
    size = b.db.execute(f"select pg_total_relation_size('pgmq.a_{name}')").fetchone()[0] / 1e6
    return [[f"{fill:,} archived", *(f"{rate:,.0f}" for f, rate in rates if f == fill)] for fill in (0, rows)], size
