"""How long a mail takes from the producer's call to the server's 250: pgmqd, graphile-worker with nodemailer's pool, and a floor, into one sink."""

import json
import subprocess
import tempfile
from contextlib import contextmanager

from lib import app
from lib.daemon import Daemon, conf, run
from lib.paths import BUILDDIR, SRCDIR, directories

from peers import Missing, probe

QUEUES = {"pgmqd": "mail_time", "floor: LISTEN, claim, one pipelined conversation, archive": "mail_floor"}
FLOOR = list(QUEUES)[1]
PEER = "graphile-worker, nodemailer's pool"
SETTINGS = ("pgmqd with the defaults of the plugin email, 10 connections, its template, ledger and archive. graphile-worker: concurrency 10, nodemailer's pool of 10 connections; it"
            " gets subject, text and HTML ready and makes the MIME. The floor sends the same 12 kB each time over one connection. The sink is a C program that notes when"
            " it writes the 250.")


class Sink:
    """tests/bench/smtpsink; `starts` what it has noted."""

    def __init__(self):
        self.file = tempfile.TemporaryFile("w+", encoding="ascii")
        self.process = subprocess.Popen([BUILDDIR / "tests/bench/smtpsink"], stdin=subprocess.PIPE, stdout=self.file, text=True)
        while not (line := self.read()):
            pass
        self.port = int(line[0])

    def read(self):
        self.file.seek(0)
        return self.file.read().splitlines()

    def taken(self):
        """{recipient: CLOCK_REALTIME in nanoseconds}; the sink ends with that."""
        self.process.stdin.close()
        self.process.wait()
        lines = [line.split() for line in self.read()[1:]]
        self.file.close()
        return {to: int(ns) for to, ns in lines}


def rendered():
    """Subject, text and HTML of the mail that pgmqd sends."""
    def part(name):
        return run("render", "--template-dir", directories()["template_dir"], "--data", SRCDIR / "templates/samples/report_ready.json", "--part", name,
                   "report_ready").stdout
    return {"subject": part("subject").strip(), "text": part("txt"), "html": part("html")}


def prepare(b):
    """The queues, the floor's trigger, and the numbers of the recipients."""
    b.db.execute("create sequence mail_number")
    for queue in QUEUES.values():
        b.db.execute("select pgmqd.create_queue(%s)", [queue])
    floor = QUEUES[FLOOR]
    b.db.execute(f"select pgmqd.detach_queue('{floor}')")
    b.db.execute("create function mail_notify() returns trigger language plpgsql as $$ begin perform pg_notify(tg_argv[0], ''); return null; end $$")
    b.db.execute(f"create trigger told after insert on pgmq.q_{floor} for each statement execute function mail_notify('{floor}')")


def sql_of(name, body):
    """The producer's statement; its first column is the recipient's number."""
    to = "'u' || s.n || '@example.test'"
    if name == PEER:
        call = f"graphile_worker.add_job('mail', json_build_object('to', {to}))"
    else:
        call = f"pgmq.send('{QUEUES[name]}', jsonb_build_object('to', {to}) || '{body}'::jsonb)"
    return f"with s as materialized (select nextval('mail_number') as n) select s.n from s, lateral {call} done"


@contextmanager
def serving(b, name, port, count, mail):
    """What sends the mails, ready."""
    if name == "pgmqd":
        daemon = Daemon(conf(b.conninfo, {QUEUES[name]: {"plugin": "email", "smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": "none", "connections": 10,
                                                         "from": "noreply@example.test"}}, log_level="warn")).start()
        while not b.db.execute("select 1 from pg_stat_activity where application_name like 'pgmqd worker mail_time%'").fetchone():
            b.db.execute("select pg_sleep(0.05)")
        yield
        while b.db.execute(f"select count(*) from pgmq.q_{QUEUES[name]}").fetchone()[0]:
            b.db.execute("select pg_sleep(0.05)")
        assert daemon.stop() == 0, daemon.tail()
        daemon.close()
        return
    if name == PEER:
        peer = b.peers.there["graphile-worker"]
        process = peer.start(b, "mail", count, port, stdin=subprocess.PIPE)
        process.stdin.write(json.dumps(mail))
    else:
        process = subprocess.Popen([BUILDDIR / "tests/bench/mailfloor", b.conninfo, QUEUES[name], str(port), str(count)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        process.stdin.write("Subject: floor\r\n\r\n" + ("x" * 76 + "\r\n") * 153)
    process.stdin.close()
    assert process.stdout.readline() == "ready\n", name
    yield
    assert process.wait(60) == 0, name


def one(b, name, count, gap, mail, body):
    """Milliseconds of `count` mails, one every `gap` ms; one goes before them, so that connections stand."""
    sink, sql = Sink(), sql_of(name, body)
    with serving(b, name, sink.port, count + 1, mail):
        probe(b.conninfo, sql, 1, 1)
        b.db.execute("select pg_sleep(0.5)")
        sent = probe(b.conninfo, sql, count, gap)
    taken = sink.taken()
    return [(taken[f"u{n}@example.test"] - real) / 1e6 for n, (real, _) in sent.items()]


def measure(b, rounds=3, idle=100, busy=1500):
    """{title: milliseconds}, in turns: one mail every 20 ms, then 500 a second."""
    names, notes = [FLOOR, "pgmqd"], []
    peers = b.with_peers()
    try:
        if "graphile-worker" not in peers.there:
            raise Missing("graphile-worker is not there")
        peers.there["graphile-worker"].installed_by("npm", ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(peers.dir), "nodemailer"])
        names.append(PEER)
    except Missing as e:
        notes.append(f"{PEER} is left out: {e}.")
    prepare(b)
    mail = rendered()
    body = json.dumps({"template": "report_ready", "variables": app.sample("report_ready")}).replace("'", "''")
    got = {f"{how}: {name}": [] for how in ("idle", "500/s") for name in names}
    for _ in range(rounds):
        for how, count, gap in (("idle", idle, 20), ("500/s", busy, 2)):
            for name in names:
                got[f"{how}: {name}"] += one(b, name, count, gap, mail, body)
    return got, [*notes, SETTINGS]
