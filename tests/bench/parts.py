"""The measurements of tests/bench/run. Each is a function that gets a Bench and returns what RESULTS.md shows of it: a title, rows and notes."""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from lib.daemon import Daemon, clean_environment, conf
from lib.paths import directories, pgmqd
from lib.pgcluster import Cluster
from lib.rig import migrate

import flow
import mailtime as mailtimes
import scale
from peers import Peers, probe

PARTS = {}
HERE = Path(__file__).resolve().parent


def part(function):
    PARTS[function.__name__] = function
    return function


class Bench:
    """A private cluster with production's fsync, a migrated database, and the peers."""

    def __init__(self, short=False):
        """`short`: a few messages and no peers, to see that everything works."""
        self.short = short
        self.cluster = Cluster(fsync=True, settings={"max_connections": "200", "shared_buffers": "256MB", "max_wal_size": "4GB"}).start()
        self.peers = Peers()
        self.commands = []
        self.new_database("bench")

    def new_database(self, name):
        self.dbname, self.conninfo = name, self.cluster.createdb(name)
        if (done := migrate(self.conninfo)).returncode:
            sys.exit(done.stderr)
        self.db = self.cluster.connect(name)

    def back(self):
        """To the first database."""
        self.dbname, self.conninfo = "bench", self.cluster.conninfo("bench")
        self.db = self.cluster.connect("bench")

    def pgmqd(self, *argv):
        """`pgmqd bench argv... --json`; the rows by their names."""
        argv = [str(a) for a in argv]
        command = "pgmqd bench " + " ".join(argv)
        if command not in self.commands:
            self.commands.append(command)
        env = clean_environment({f"PGMQD_{k.upper()}": v for k, v in directories().items()})
        done = subprocess.run([pgmqd(), "bench", *argv, "--json", "-d", self.conninfo], env=env, stdin=subprocess.DEVNULL, check=True,
                              stdout=subprocess.PIPE, text=True)
        return {row["name"]: row["values"] for row in json.loads(done.stdout)["rows"]}

    def with_peers(self):
        return self.peers if self.short else self.peers.install(self)

    def close(self):
        self.peers.close()
        self.cluster.destroy()


def merge(into, rows):
    for name, values in rows.items():
        into.setdefault(name, []).extend(values)


def quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = values[int(at)]
    return low if int(at) + 1 == len(values) else low + (at - int(at)) * (values[int(at) + 1] - low)


def latency_rows(got, aims=None):
    """Rows name, messages, p50, p99, ratio of the p50 to the first row's."""
    base = quantile(next(iter(got.values())), 0.5)
    return [[name, len(v), f"{quantile(v, .5):.2f}", f"{quantile(v, .99):.2f}", f"{quantile(v, .5) / base:.2f}", (aims or {}).get(name, "")]
            for name, v in got.items()]


def rate_rows(got, aims=None):
    base = statistics.median(next(iter(got.values())))
    return [[name, f"{statistics.median(v):,.0f}", f"{min(v):,.0f}", f"{max(v):,.0f}", f"{statistics.median(v) / base:.2f}",
             (aims or {}).get(name, "")] for name, v in got.items()]


LATENCY_HEAD = ["", "messages", "p50, ms", "p99, ms", "ratio of p50", "aim"]
RATE_HEAD = ["", "messages/s", "least", "most", "ratio", "aim"]


# ---- by pgmqd bench ----

# The peers' rows: name, peer, settings, messages a round; what is as slow as polling is taken once.
LATENCY_PEERS = (("graphile-worker", "graphile-worker", "", 100), ("River, defaults", "River", "defaults", 100), ("River, tuned", "River", "tuned", 100),
                 ("pgqueuer, defaults", "pgqueuer", "defaults", 100), ("pgqueuer, tuned", "pgqueuer", "tuned", 100))
LATENCY_ONCE = (("pg-boss, defaults", "pg-boss", "defaults", 5), ("pg-boss, tuned", "pg-boss", "tuned", 20))
DRAIN_PEERS = (("graphile-worker, defaults", "graphile-worker", "defaults", 2000), ("graphile-worker, tuned", "graphile-worker", "tuned", 20000),
               ("River, defaults", "River", "defaults", 20000), ("River, tuned", "River", "tuned", 50000),
               ("pgqueuer, defaults", "pgqueuer", "defaults", 3000), ("pgqueuer, tuned", "pgqueuer", "tuned", 20000),
               ("pg-boss, tuned", "pg-boss", "tuned", 10000))
DRAIN_ONCE = (("pg-boss, defaults", "pg-boss", "defaults", 4),)


def of_peers(peers, contenders, measure):
    """{row's name: values} of the peers that are there."""
    got = {}
    for row, name, settings, messages in contenders:
        if name in peers.there:
            peers.there[name].clean(peers.bench)
            got[row] = measure(peers.there[name], messages, settings)
    return got


def ratios(got, ours, middle, contenders, aim):
    """How pgmqd compares with each peer, as a note."""
    found = [f"{row} {middle(got[ours]) / middle(got[row]):.2f} ×" for row, *_ in contenders if row in got]
    return [f"pgmqd to {', '.join(found)} (aim {aim} of each)."] if found else []


@part
def latency(b):
    """Idle latency: from the producer's call to the start of the handler"""
    got, rounds, each = {}, *((1, 20) if b.short else (5, 100))
    peers = b.with_peers()

    def measure(peer, messages, settings):
        return peer.latency(b, messages, 10, settings)

    for _ in range(rounds):
        merge(got, b.pgmqd("latency", "--messages", each, "--rounds", 1))
        merge(got, of_peers(peers, LATENCY_PEERS, measure))
    got.update(of_peers(peers, LATENCY_ONCE, measure))
    notes = [f"Taken in turns, {rounds} times {each} messages each, one every 10 ms."]
    notes += ratios(got, "pgmqd", lambda v: quantile(v, .5), LATENCY_PEERS, "≤ 0.6 ×") + peers.notes()
    return {"head": LATENCY_HEAD, "rows": latency_rows(got, {"pgmqd": "≤ 1.05"}), "notes": notes, "values": got}


@part
def delayed(b):
    """The same with 500,000 messages in the queue that are not due yet"""
    got = {}
    merge(got, {f"{k}, empty queue": v for k, v in b.pgmqd("latency", "--messages", 200, "--rounds", 2).items()})
    merge(got, {f"{k}, 500,000 delayed": v for k, v in b.pgmqd("latency", "--messages", 200, "--rounds", 2, "--delayed", 500000).items()})
    ratio = quantile(got["pgmqd, 500,000 delayed"], .5) / quantile(got["pgmqd, empty queue"], .5)
    return {"head": LATENCY_HEAD, "rows": latency_rows(got), "notes": [f"pgmqd with to pgmqd without: {ratio:.2f} × (aim ≤ 2 ×)."]}


@part
def enqueue(b):
    """Producers while the queue is served and busy, each message a transaction of its own"""
    rows, values = [], {}
    for producers, aim in ((8, "≥ 0.97"), (32, "≥ 0.9")):
        got = b.pgmqd("enqueue", "--producers", producers, "--seconds", 3, "--rounds", 3)
        got = {f"{producers} producers: {name}": v for name, v in got.items()}
        rows += rate_rows(got, {f"{producers} producers: served, pgmqd's trigger": aim})
        values.update(got)
    return {"head": RATE_HEAD, "rows": rows, "values": values,
            "notes": ["“Served” is by a pgmqd with the null plugin on the same cores; without notifications it polls every 10 ms."]}


@part
def drain(b):
    """A queue of 50,000 messages, worked off and archived"""
    got, peers = {}, b.with_peers()
    rounds, options = (1, ("--messages", 2000)) if b.short else (3, ())

    def measure(peer, messages, settings):
        return [peer.drain(b, messages, settings)]

    for _ in range(rounds):
        merge(got, b.pgmqd("drain", "--rounds", 1, *options))
        merge(got, {"pgmqd, deleted": b.pgmqd("drain", "--rounds", 1, *options, "--option", "on_done=delete")["pgmqd"]})
        merge(got, of_peers(peers, DRAIN_PEERS, measure))
    got.update(of_peers(peers, DRAIN_ONCE, measure))
    counts = ", ".join(f"{row} {messages:,}" for row, name, _, messages in DRAIN_PEERS + DRAIN_ONCE if name in peers.there)
    notes = ["In turns; of the peers fewer messages where they are slower" + (f" ({counts})." if counts else ".") +
             " pgmqd, River and pg-boss keep what is done, graphile-worker deletes it, pgqueuer keeps a line of it in its log."]
    notes += ratios(got, "pgmqd", statistics.median, DRAIN_PEERS, "≥ 3 ×") + peers.notes()
    return {"head": RATE_HEAD, "rows": rate_rows(got, {"pgmqd": "≥ 1.4"}), "notes": notes, "values": got}


@part
def snapshot(b):
    """Four times 50,000 messages through one queue while an old snapshot is held"""
    got = b.pgmqd("drain", "--hold-snapshot", "--rounds", 4)
    aims = {"pgmqd": "≥ 0.8"}
    return {"head": ["messages/s", "1st", "2nd", "3rd", "4th", "4th to 1st", "aim"],
            "rows": [[name, *(f"{x:,.0f}" for x in v), f"{v[-1] / v[0]:.2f}", aims.get(name, "")] for name, v in got.items()], "notes": []}


@part
def backlog(b):
    """Drain rate with 1,000,000 waiting against 10,000"""
    small = b.pgmqd("drain", "--messages", 10000, "--rounds", 5)
    large = b.pgmqd("drain", "--messages", 1000000, "--rounds", 1)
    rows = [[name, f"{statistics.median(small[name]):,.0f}", f"{statistics.median(large[name]):,.0f}",
             f"{statistics.median(large[name]) / statistics.median(small[name]):.2f}", "≥ 0.9" if name == "pgmqd" else ""] for name in small]
    return {"head": ["messages/s", "10,000", "1,000,000", "ratio", "aim"], "rows": rows, "notes": []}


class SmtpSink(asyncio.Protocol):
    """Takes every mail and forgets it; PIPELINING, no TLS."""

    def connection_made(self, transport):
        self.transport, self.buffer, self.data = transport, b"", False
        transport.write(b"220 sink.example.test\r\n")

    def data_received(self, data):
        self.buffer += data
        answer = b""
        while True:
            end = b"\r\n.\r\n" if self.data else b"\r\n"
            line, found, rest = self.buffer.partition(end)
            if not found:
                break
            self.buffer = rest
            verb = line[:4].upper()
            if self.data:
                self.data, answer = False, answer + b"250 ok\r\n"
            elif verb == b"EHLO":
                answer += b"250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
            elif verb == b"DATA":
                self.data, answer = True, answer + b"354 go on\r\n"
            else:
                answer += b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"
        self.transport.write(answer)


@part
def mail(b):
    """Mails by SMTP to a server that takes and forgets them"""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(SmtpSink, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = "127.0.0.1:" + str(server.sockets[0].getsockname()[1])
        got = b.pgmqd("mail", "--smtp", address, "--messages", 2000, "--option", "smtp_tls=none")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    b.commands[-1] = b.commands[-1].replace(address, "HOST:PORT")
    return {"head": RATE_HEAD, "rows": rate_rows(got), "notes": ["The server is a few lines of Python on the same cores; pgmqd keeps its ledger of mails."]}


@part
def mailers(b):
    """Mails from the queue through template, MIME, SMTP and ledger into the archive, beside what only sends"""
    options = ["--rounds", "3", "--messages", "6000", "--slow", "2000", "--memory", "20000"]
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([Path(__file__).with_name("mail"), *options, "--json", out.name], check=True)
        said = json.load(out)
    b.commands.append("tests/bench/mail " + " ".join(options))
    return mailers_table(said)


def mailers_table(said):
    """The table of tests/bench/mail's figures; nodemailer is what the others are compared with."""
    got = {name: said["rates"][name] for name in ("nodemailer's pool", "pgmqd, 10 connections", "smtp-source", "pgmqd, slow, 32 connections")}
    after, end, most = said["memory_kb"]
    return {"head": RATE_HEAD, "rows": rate_rows(got, {"pgmqd, 10 connections": "≥ 4", "pgmqd, slow, 32 connections": "≥ 500/s"}), "notes": [
        "Into smtp-sink, by 10 connections, the same mail of 12 kB everywhere: nodemailer gets the subject, text and HTML that pgmqd makes of the "
        "template, and makes the MIME itself, without queue, template or ledger; smtp-source writes as many bytes. Slow: a server that takes 50 ms "
        "to accept a mail.",
        f"Processor time a mail: {statistics.median(said['cpu_us']['pgmqd']):.0f} µs of pgmqd's worker, {statistics.median(said['cpu_us']['nodemailer']):.0f} µs of "
        "nodemailer's process.",
        f"Loop stall: p99 ≤ {said['stall_p99_ms']:g} ms (aim ≤ 5), longest callback {said['longest_ms']:.1f} ms. The worker's memory (RSS) over 20,000 mails in a "
        f"row: {after:,} kB after a tenth, {end:,} kB at the end, {most:,} kB at most."]}


@part
def mailtime(b):
    """A mail from the producer's call to the server's 250, idle and at 500 a second"""
    got, notes = mailtimes.measure(b, *((1, 10, 20) if b.short else ()))
    rows = []
    for how in ("idle", "500/s"):
        rows += latency_rows({name: v for name, v in got.items() if name.startswith(how)}, {f"{how}: pgmqd": "≤ 1.5"})
    return {"head": LATENCY_HEAD, "rows": rows, "notes": notes}


# ---- by a daemon that is looked at ----

def smaps(pid):
    """{field: KiB} of smaps_rollup."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return {line.split(":")[0]: int(line.split()[1]) for line in f.readlines()[1:]}


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def stop(daemon):
    status = daemon.stop()
    daemon.close()
    if status:
        sys.exit(f"pgmqd ended with status {status}")


def own_libraries(directory):
    """Copies of all libraries that pgmqd and its email plugin load: pages that other programs on the machine share with it are counted whole."""
    for program in (pgmqd(), *Path(directories().get("plugin_dir", "/nowhere")).glob("pgmqd-email-plugin.so")):
        for line in subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True).stdout.splitlines():
            if "=> /" in line:
                shutil.copy(line.split()[2], directory)
    return {"LD_LIBRARY_PATH": directory}


@part
def memory(b):
    """Memory of each process (PSS), after 100 messages"""
    b.db.execute("select pgmqd.create_queue('memory')")
    with tempfile.TemporaryDirectory() as tmp:
        return memory_of(b, own_libraries(tmp))


def memory_of(b, env):
    daemon = Daemon(conf(b.conninfo, {"memory": {"plugin": "null"}, "email_queue": {"plugin": "email", "smtp_host": "127.0.0.1", "smtp_port": 9,
                                                                                   "smtp_tls": "none", "from": "bench@example.test"}},
                         http_listen="127.0.0.1:0"), env=env).start().wait_ready()
    last = b.db.execute("select max(s) from pgmq.send_batch('memory', array_fill('{}'::jsonb, array[100])) s").fetchone()[0]
    daemon.wait_settled(queue="memory", msg_id=last)
    titles = {daemon.process.pid: "supervisor", **{pid: t.replace("pgmqd: ", "") for pid, t in daemon.children().items()}}
    aims = {"worker memory": "≤ 6", "worker email_queue": "≤ 16", "listener": "≤ 4", "supervisor": "≤ 1"}
    names = {"worker memory": "worker with the null plugin", "worker email_queue": "worker with the email plugin"}
    rows = []
    for pid, title in sorted(titles.items()):
        m = smaps(pid)
        rows.append([names.get(title, title), f"{m['Pss'] / 1024:.2f}", f"{m['Pss_Anon'] / 1024:.2f}",
                     f"{(m['Private_Clean'] + m['Private_Dirty']) / 1024:.2f}", f"{m['Rss'] / 1024:.2f}", aims.get(title, "")])
    stop(daemon)
    return {"head": ["MiB", "PSS", "of it anonymous", "private", "RSS", "aim (PSS)"], "rows": rows,
            "notes": ["With copies of the libraries, so that nothing is shared with other programs; the five processes share with one another."]}


@part
def idle(b, seconds=60):
    """What an idle pgmqd costs: statements and processor time"""
    daemons, rows, counts = {}, [], {}
    for queues in (1, 21):
        b.new_database(f"idle_{queues}")
        names = [f"idle_{i}" for i in range(queues)]
        for name in names:
            b.db.execute("select pgmqd.create_queue(%s)", [name])
        b.db.execute("alter system set autovacuum = off")  # its transactions are nobody's here
        b.db.execute("select pg_reload_conf()")
        daemons[queues] = Daemon(conf(b.conninfo, {name: {"plugin": "null", "group": "idle"} for name in names})).start().wait_ready()
    time.sleep(15)  # what is counted is flushed with a delay
    sql = "select xact_commit + xact_rollback from pg_stat_database where datname = %s"
    with b.cluster.connect() as db:
        def look():
            db.execute("select pg_stat_clear_snapshot()")
            return {q: (db.execute(sql, [f"idle_{q}"]).fetchone()[0], {t: cpu_seconds(p) for p, t in processes(d).items()}) for q, d in daemons.items()}
        before = look()
        time.sleep(seconds)
        after = look()
    for queues, daemon in daemons.items():
        counts[queues] = (after[queues][0] - before[queues][0]) * 60 / seconds
        cpu = sum(after[queues][1].values()) - sum(before[queues][1].values())
        rows.append([f"{queues} queue{'s' * (queues > 1)}, one worker", f"{counts[queues]:.0f}", f"{cpu / seconds * 100:.3f} %", "CPU ≤ 0.1 %"])
        stop(daemon)
    rows.append(["each further queue", f"{(counts[21] - counts[1]) / 20:.2f}", "", "≤ 2"])
    b.back()
    b.db.execute("alter system reset autovacuum")
    b.db.execute("select pg_reload_conf()")
    return {"head": ["", "transactions/min", "CPU of one core", "aim"], "rows": rows,
            "notes": [f"Over {seconds} s. The listener's ping and canary and the scheduler's look make what one queue has more than a further one."]}


def processes(daemon):
    return {daemon.process.pid: "supervisor", **daemon.children()}


def traced(b, queue, daemon, trace, count):
    """Latencies of `count` messages, by the null plugin's trace."""
    mark = daemon.mark()
    sent = probe(b.conninfo, f"select pgmq.send('{queue}', '{{\"n\": 1}}'::jsonb)", count, 10)
    daemon.wait_settled(start=mark, queue=queue, msg_id=max(sent))
    with open(trace, encoding="ascii") as f:
        started = {int(line.split()[0]): int(line.split()[2]) for line in f}
    return [(started[i] - real) / 1e6 for i, (real, _) in sent.items()]


@part
def group(b):
    """100 queues in one group against one queue"""
    got, rows = {}, []
    names = [f"group_{i}" for i in range(100)]
    for name in names:
        b.db.execute("select pgmqd.create_queue(%s)", [name])
    with tempfile.TemporaryDirectory() as tmp:
        for turn in range(3):
            for count in (1, 100):
                trace = f"{tmp}/{turn}_{count}"
                queues = {name: {"plugin": "null", "group": "bench"} for name in names[:count]}
                queues[names[0]]["trace"] = trace
                daemon = Daemon(conf(b.conninfo, queues)).start().wait_ready()
                workers = sum("worker" in title for title in daemon.children().values())
                sessions = b.db.execute("select count(*) from pg_stat_activity where application_name like 'pgmqd worker%'").fetchone()[0]
                merge(got, {f"{count} queue{'s' * (count > 1)}: {workers} worker process, {sessions} connection": traced(b, names[0], daemon, trace, 100)})
                pss = [smaps(pid)["Pss"] / 1024 for pid, title in daemon.children().items() if "worker" in title]
                rows = rows if count == 1 else [f"The worker of 100 queues: {pss[0]:.1f} MiB PSS."]
                stop(daemon)
    return {"head": LATENCY_HEAD, "rows": latency_rows(got, {list(got)[1]: "≤ 1.3"}), "notes": rows}


@part
def startstop(b):
    """Start to ready, and stop when idle"""
    b.db.execute("select pgmqd.create_queue('startstop')")
    up, down = [], []
    for _ in range(15):
        daemon = Daemon(conf(b.conninfo, {"startstop": {"plugin": "null"}}))
        from_ = time.monotonic()
        daemon.start().wait_ready()
        ready = time.monotonic()
        b.db.execute("select pg_sleep(0.2)")
        told = time.monotonic()
        if daemon.stop():
            sys.exit(daemon.tail())
        down.append((time.monotonic() - told) * 1000)
        up.append((ready - from_) * 1000)
        daemon.close()
    rows = [[name, f"{statistics.median(v):.0f}", f"{min(v):.0f}", f"{max(v):.0f}", aim]
            for name, v, aim in (("start to ready", up, "≤ 100"), ("stop when idle", down, "≤ 50"))]
    return {"head": ["ms", "median", "least", "most", "aim"], "rows": rows, "notes": ["15 times, from the outside: with fork, exec and the end of the process."]}


# ---- how cost grows ----

@part
def many(b):
    """Queues in one dispatcher: memory, start, reload"""
    b.new_database("many")
    rows = scale.many(b)
    b.back()
    return {"head": ["", "processes", "sessions", "PSS of ours, MiB", "PSS of the backends, MiB", "start to ready, ms", "to the last of 20 messages, ms", "reload, ms"], "rows": rows,
            "notes": ["Each time 20 queues have a message. Backends share the server's buffers, of which each has its part in its PSS."]}


@part
def quiet(b):
    """Idle dispatchers that share queues: statements and processor time"""
    b.new_database("quiet")
    rows = scale.idle_dispatchers(b)
    b.back()
    return {"head": ["", "transactions/s", "CPU of ours, of one core", "CPU of the backends"], "rows": rows,
            "notes": ["All queues in one group in each dispatcher. Ten made 582 transactions a second before idle sharers learned to look more seldom."]}


@part
def cost(b):
    """What one message costs"""
    b.new_database("cost")
    rows, size = scale.message_cost(b)
    b.back()
    return {"head": ["null plugin", "transactions of pgmqd", "WAL, bytes", "CPU of ours, µs", "CPU of the backends, µs"], "rows": rows,
            "notes": [f"WAL has the producer's part, too; CPU has not. A body of 74 bytes; a row in the archive takes {size:,.0f} bytes with its indexes."]}


@part
def archived(b):
    """A queue of 100,000 messages, worked off into an archive that is empty, and into one with 10,000,000 rows"""
    b.new_database("archived")
    rows, size = scale.archived(b, 10000 if b.short else 10000000)
    b.back()
    return {"head": ["messages/s", "1st", "2nd", "3rd"], "rows": rows, "notes": [f"The archive then takes {size:,.0f} MB."]}


@part
def crowd(b):
    """100 producers, each message a transaction of its own, while the queue is served"""
    got = b.pgmqd("enqueue", "--producers", *((10, "--seconds", 1, "--rounds", 1) if b.short else (100, "--seconds", 3, "--rounds", 3)))
    return {"head": RATE_HEAD, "rows": rate_rows(got, {"served, pgmqd's trigger": "≥ 0.9"}), "notes": []}


# ---- limits and unique keys ----

@part
def turns(b):
    """A small customer's messages beside another one's 100,000, with fair_by"""
    got, left = {}, flow.FLOOD
    for _ in range(1 if b.short else 3):
        merge(got, {"alone": flow.fairness(b, 0, 20 if b.short else 200)[0]})
        beside, still = flow.fairness(b, 2000 if b.short else flow.FLOOD, 20 if b.short else 200)
        merge(got, {"beside the flood": beside})
        left = min(left, still)
    ratio = quantile(got["beside the flood"], .99) / quantile(got["alone"], .99)
    return {"head": LATENCY_HEAD, "rows": latency_rows(got), "values": got,
            "notes": [f"From before the enqueue to the start of the handler, which takes {flow.WORK_MS} ms, {flow.SLOTS} at once; one message every 30 ms. p99 beside to alone:"
                      f" {ratio:.2f} × (aim ≤ 3 ×); at least {left:,} of the flood still waited at the end."]}


@part
def unique(b):
    """An enqueue with a unique key beside a plain one, each a transaction of its own"""
    got, seconds = {}, 1 if b.short else 4
    b.db.execute("select pgmqd.create_queue('plain'), pgmqd.create_queue('unique')")
    for _ in range(1 if b.short else 3):
        for clients in (1, 8):
            merge(got, {f"plain, {clients} at once": [flow.enqueues(b, "select pgmqd.enqueue('plain', '{\"a\": 1}'::jsonb)", clients, seconds)],
                        f"unique, {clients} at once": [flow.enqueues(b, "select pgmqd.enqueue('unique', '{\"a\": 1}'::jsonb, unique_key => :n::text)", clients, seconds)]})
    costs = [f"{n}: {statistics.median(got[f'plain, {n} at once']) / statistics.median(got[f'unique, {n} at once']):.2f} ×" for n in (1, 8)]
    return {"head": RATE_HEAD, "rows": rate_rows(got), "values": got, "notes": [f"Cost of an enqueue with a key to a plain one, by producers {', '.join(costs)} (aim ≤ 1.3 ×)."]}


# ---- by scripts of their own ----

@part
def plugins(b):
    """One worker with each plugin"""
    b.commands.append("tests/bench/plugins")
    done = subprocess.run([HERE / "plugins"], check=True, stdout=subprocess.PIPE, text=True)
    return {"text": done.stdout}


@part
def sweep(b):
    """pgmqd in the harness postgresql-job-queue-benchmarking, beside what it has published"""
    if b.short:
        return {"text": "not in the short form: it needs the harness"}
    options = ["--scale", os.environ.get("PGMQD_SWEEP_SCALE", "0.2")]
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([HERE / "sweep/run", *options, "--json", out.name], env={**os.environ, "PRODUCER_BATCH_MAX": "1000"})
        if done.returncode:
            return {"text": "left out: the harness, or the packages that it needs, could not be had"}
        said = json.load(out)
    b.commands.append("PRODUCER_BATCH_MAX=1000 tests/bench/sweep/run " + " ".join(options))
    return sweep_table(said, options[1])


def sweep_table(said, scale_of_phases):
    """The table of tests/bench/sweep/run's figures."""
    worst = ", ".join(f"{name} {value:,.0f}" for name, value in said["latencies"].items())
    return {"head": said["head"], "rows": said["rows"], "notes": [
        "perf: jobs/s completed, each of 1 ms, with so many workers; chaos: completed a second after the fault, as a share of before; the others: under pressure, as a share "
        "of before. – : no sample, or the cell did not end. By the harness's own phases, faults and counting.",
        f"Not one machine: the published rows are of its sweep of 2026-05-09 (PostgreSQL 18.3, 4 processors, 8 GB, phases of 60 to 300 s, pgmq by the harness's own client), "
        f"pgmqd's of this one, without containers, phases {scale_of_phases} times as long. pgmqd with its defaults, max_in_flight = workers; its producer sends by up to 1,000, as "
        "pgque's does there.",
        f"End to end, p99 in ms (median of the phases): {worst}."]}


@part
def abuse(b):
    """Mails while clients of the HTTP server dawdle, or send a body of 1 GB"""
    b.commands.append("tests/bench/jobs --abuse")
    done = subprocess.run([HERE / "jobs", "--abuse"], check=True, stdout=subprocess.PIPE, text=True)
    return {"text": done.stdout}


@part
def page(b):
    """Calls of the status page: a million archived messages, 5,000 dead letters, 100 queues"""
    b.commands.append("tests/bench/page")
    done = subprocess.run([HERE / "page"], check=True, stdout=subprocess.PIPE, text=True)
    return {"text": done.stdout}


@part
def replay(b):
    """1,000 archived mails tried with a changed template beside the installed version"""
    b.commands.append("tests/bench/replay")
    done = subprocess.run([HERE / "replay"], check=True, stdout=subprocess.PIPE, text=True)
    return {"text": done.stdout}
