"""The parts of the long fault suite in which the world round the dispatcher is not tidy: servers that change places, dumps that come back,
poolers, locks, outages longer than a lease, hostile settings, row security, updates of pgmq, and an archive without space.

PARTS: {part: (what it is, {kind: in words}, function(trial, kind, rounds))}. Every function leaves a queue that can be drained.
"""

import contextlib
import os
import shutil
import subprocess
import time

from . import hostile
from .paths import make_temp_dir
from .pgcluster import Cluster
from .pooler import PGBOUNCER, pooler
from .proxy import Proxy
from .stand import wait_until
from .trial import LEASE, POLL

HOLD = LEASE * 1.5  # seconds that an obstacle stands: longer than a lease


# ---- servers that change places ----

def waiting(cluster, dbname):
    """The messages that this server would deliver."""
    with cluster.connect(dbname) as db:
        return {uuid for (uuid,) in db.execute("select message->>'uuid' from pgmq.q_work").fetchall()}


def failover(trial, old, new, kind):
    """The standby loses the primary for a while, the primary is gone, the standby is promoted; the old one comes back in the end."""
    stand, sync = trial.stand, kind.startswith("sync")
    with old.connect() as db:
        if sync:
            db.execute("alter system set synchronous_standby_names = '*'")
            db.execute("select pg_reload_conf()")
            wait_until("synchronous", lambda: db.execute("select count(*) from pg_stat_replication where sync_state = 'sync'").fetchone()[0])
        trial.load(2)
    with trial.fault():
        with new.connect() as db:
            db.execute("alter system set primary_conninfo = ''")  # the tail from here on is lost with the primary
            db.execute("select pg_reload_conf()")
            wait_until("cut off", lambda: not db.execute("select count(*) from pg_stat_wal_receiver").fetchone()[0])
            time.sleep(0.5 if sync else trial.rng.uniform(2, 3))
            old.stop("immediate")
            db.execute("alter system reset synchronous_standby_names")
            wait_until("replayed", lambda: db.execute("select pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()").fetchone()[0])
            undone = waiting(new, stand.dbname)  # what was done and is not replicated is done again
            db.execute("select pg_promote()")
        stand.disconnect()
        stand.cluster = new
        wait_until("promoted", lambda: not stand.value("select pg_is_in_recovery()"))
    trial.history(undone)
    trial.flows()
    if kind.endswith("primary"):  # the mistake that a fence has to prevent: both take writes, and the daemon may meet either
        with trial.fault():
            old.start()
            trial.excused |= waiting(old, stand.dbname) | waiting(new, stand.dbname)  # claims of one mean nothing to the other
            stand.db.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like 'pgmqd%%'")
            trial.excused |= waiting(new, stand.dbname)
            trial.load(HOLD)
            old.stop("immediate")
        trial.flows()
    old.destroy()
    with trial.fault(0):
        old.follow(new)
    trial.load(1)


def replication(trial, kind, rounds):
    """Two servers of their own, which take turns in being the primary."""
    stand = trial.stand
    with Cluster(tcp=True) as one:
        two = Cluster(tcp=True)
        try:
            source = stand.cluster
            dump = subprocess.run([f"{source.bin}/pg_dump", "-d", stand.conninfo], capture_output=True, check=True).stdout
            subprocess.run([f"{source.bin}/psql", "-qX", "-d", one.createdb(stand.dbname)], input=dump, capture_output=True, check=True)
            two.follow(one)
            stand.disconnect()
            stand.cluster = one
            stand.conninfo = (f"host=127.0.0.1,127.0.0.1 port={one.port},{two.port} user=postgres dbname={stand.dbname}"
                              " target_session_attrs=read-write connect_timeout=3")
            trial.begin(stand.conninfo, slow=True)  # the old claims are still there when their numbers come again
            for n in range(rounds):
                failover(trial, *((one, two) if n % 2 == 0 else (two, one)), kind)
            numbers = {}
            for s in stand.steps():
                numbers.setdefault(s.msg_id, set()).add(s.uuid)
            trial.notes["numbers that came again"] = sum(len(uuids) > 1 for uuids in numbers.values())
            return trial.finish()
        finally:
            for daemon in stand.daemons:
                stand.stop(daemon)
            stand.disconnect()
            stand.cluster = source
            two.destroy()


# ---- dumps that come back, numbers that begin again ----

def restore(trial, kind, rounds):
    """The queue is put back to what it was, or made anew, under a running dispatcher."""
    stand = trial.stand
    tool, dump = stand.cluster.bin, stand.dir / "dump"
    undone = set()
    trial.begin(slow=True)
    for _ in range(rounds):
        if kind == "dump":
            undone = waiting(stand.cluster, stand.dbname)
            subprocess.run([f"{tool}/pg_dump", "-Fc", "-f", dump, "-d", stand.conninfo], check=True)
            undone |= waiting(stand.cluster, stand.dbname)
        trial.load(3)
        with trial.fault():
            if kind == "dump":
                subprocess.run([f"{tool}/pg_restore", "--clean", "--if-exists", "--single-transaction", "-n", "pgmq", "-n", "pgmqd",
                                "-d", stand.conninfo, dump], check=True, capture_output=True)
            elif kind == "anew":
                with stand.db.transaction():
                    stand.db.execute("select pgmq.drop_queue('work')")
                    stand.db.execute("select pgmqd.create_queue('work')")
            else:
                stand.db.execute("truncate pgmq.q_work restart identity")
            trial.history(undone)
        trial.flows()
    return trial.finish()


# ---- poolers ----

def pooled(trial, mode, rounds):
    """Sessions on the server end again and again; a pause holds, and a resume ends it."""
    if not PGBOUNCER:
        raise FileNotFoundError("no pgbouncer found: apt-get install pgbouncer")
    stand, late = trial.stand, 0
    with pooler(stand.cluster, stand.dbname, "pgmqd", mode, size=10) as conninfo:
        trial.begin(conninfo, poll_when_deaf="300ms")
        for _ in range(rounds):
            with trial.fault(0):
                for _ in range(30):
                    trial.faults += stand.value("select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity"
                                                " where usename = 'pgmqd' order by random() limit 1) s")
                    time.sleep(0.1)
            trial.flows()
            with trial.fault():
                stand.db.execute("select pgmqd.pause('work')")
                trial.daemon.wait_log(lambda r: r.get("text", "").startswith("queue paused"), start=trial.daemon.mark() - 50)
                begun = sum(s.what == "B" for s in stand.steps())
                time.sleep(1)
                late += sum(s.what == "B" for s in stand.steps()) - begun
                stand.db.execute("select pgmqd.resume('work')")
            trial.flows()
        trial.notes["begun while paused"] = late
        return trial.finish()


# ---- locks ----

@contextlib.contextmanager
def held(trial, *statements):
    """Another session's open transaction, which is rolled back in the end."""
    with trial.stand.cluster.connect(trial.stand.dbname, autocommit=False) as other:
        for sql in statements:
            other.execute(sql)
        yield other
        other.rollback()


LOCKS = {
    "queue": ["lock table pgmq.q_work in share mode"],
    "archive": ["lock table pgmq.a_work in share mode"],
    "rows": ["select from pgmq.q_work for update limit 30"],
    "index": ["create index on pgmq.q_work (enqueued_at)", "create index on pgmq.a_work (enqueued_at)"],
    "helpers": ["do $$ declare t regclass; begin for t in select oid from pg_catalog.pg_class where relnamespace = 'pgmqd'::regnamespace and relkind = 'r'"
                " loop execute format('lock table %s', t); end loop; end $$"],
}


def locks(trial, kind, rounds):
    """Each obstacle stands for longer than a lease."""
    stand = trial.stand
    trial.begin()
    for _ in range(rounds):
        trial.load(1)
        with trial.fault():
            if kind == "cancel":
                end = time.monotonic() + HOLD
                while time.monotonic() < end:
                    stand.db.execute("select pg_cancel_backend(pid) from pg_stat_activity where application_name like 'pgmqd%%'")
                    time.sleep(0.02)
            elif kind == "alter":  # a reader that goes on, and a change that waits for it: all others wait behind the change
                for table in ("q_work", "a_work"):
                    with held(trial, f"select count(*) from pgmq.{table}"), stand.cluster.connect(stand.dbname) as changer:
                        changer.execute(f"set lock_timeout = '{HOLD}s'")
                        with contextlib.suppress(Exception):
                            changer.execute(f"alter table pgmq.{table} add column newcomer integer")
            else:
                with held(trial, *LOCKS[kind]):
                    time.sleep(HOLD)
        trial.flows()
    return trial.finish()


# ---- outages ----

def outages(trial, kind, rounds):
    """The server cannot be reached for longer than a lease."""
    stand = trial.stand
    with Proxy("127.0.0.1", stand.cluster.port) as proxy:
        trial.begin(stand.tcp(proxy.port, user="pgmqd"))
        if kind == "one of two":
            stand.start(queue={"visibility_timeout": f"{LEASE}s"})
        for _ in range(rounds):
            trial.load(2)
            with trial.fault():
                if kind == "stopped":
                    stand.disconnect()
                    stand.cluster.stop("fast")
                    time.sleep(HOLD)
                    stand.cluster.start()
                elif kind == "refused":
                    proxy.accepting = False
                    proxy.cut()
                    time.sleep(HOLD)
                    proxy.accepting = True
                else:
                    if kind == "one of two":
                        trial.excused |= set(waiting(stand.cluster, stand.dbname))
                    proxy.stall()
                    time.sleep(HOLD)
                    proxy.resume()
            trial.flows()
        return trial.finish()


# ---- settings, row security, updates ----

def again(trial, how):
    """The dispatcher gets new sessions: "reconnect", "restart" or "reload"."""
    stand, daemon = trial.stand, trial.daemon
    if how == "reconnect":
        stand.db.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like 'pgmqd%%'")
    elif how == "restart":
        stand.stop(daemon)
        daemon.start()
        daemon.wait_ready()
    else:
        mark = daemon.mark()
        daemon.reload()
        daemon.wait_log("reloaded", start=mark)


def settings(trial, place, rounds):
    """Each setting for itself, with new sessions under it."""
    stand = trial.stand
    stand.db.execute(hostile.EVIL)
    trial.begin(user="pgmqd")
    tidy = trial.daemon.conf_text
    for _ in range(rounds):
        for name in hostile.SETTINGS:
            with trial.fault():
                conninfo = hostile.set_at(stand, place, name)
                if place == "conninfo":
                    trial.daemon.write_conf("\n".join(
                        f"database = {conninfo}" if line.startswith("database = ") else line for line in tidy.split("\n")))
                again(trial, "reload" if place == "conninfo" else "reconnect")
            trial.flows()
            hostile.reset_at(stand, place, name)
    return trial.finish()


def row_security(trial, kind, rounds):
    """Every table of pgmq and pgmqd gets it, one after the other, and loses it again when all have it."""
    stand = trial.stand
    trial.begin(user="pgmqd")
    tables = [t for (t,) in stand.db.execute(
        "select oid::regclass::text from pg_class where relkind in ('r', 'p') and relnamespace in ('pgmq'::regnamespace, 'pgmqd'::regnamespace)"
        " order by 1").fetchall()]
    stopped = set()
    for _ in range(rounds):
        for table in tables:
            stand.db.execute(f"alter table {table} enable row level security")
            again(trial, "reconnect")
            trial.faults += 1
            try:
                trial.flows(10)
            except TimeoutError:
                stopped.add(table)
                with trial.fault(0):
                    stand.db.execute(f"alter table {table} disable row level security")
                    trial.flows()
        for table in tables:
            stand.db.execute(f"alter table {table} disable row level security")
    trial.notes["tables that stop the queue"] = sorted(stopped)
    return trial.finish()


# What an update of pgmq from 1.4 to the newest does to the tables of a queue, step by step.
STEPS = ["alter table pgmq.q_work add column headers jsonb; alter table pgmq.a_work add column headers jsonb",
         "alter table pgmq.q_work add column last_read_at timestamptz; alter table pgmq.a_work add column last_read_at timestamptz",
         "create index on pgmq.a_work (archived_at)",
         "alter table pgmq.q_work alter column msg_id set generated by default; analyze pgmq.q_work"]


def updates(trial, how, rounds):
    """The tables are as pgmq 1.4 made them; after each step of an update the dispatcher has new sessions, in one of three ways."""
    stand = trial.stand
    for table in ("q_work", "a_work"):
        stand.db.execute(f"alter table pgmq.{table} drop column headers, drop column last_read_at")
    stand.ledger.direct = True  # pgmq's newer functions fill columns that are not there yet
    trial.begin(user="pgmqd")
    for n in range(rounds):
        for sql in STEPS:
            trial.load(0.5)
            with trial.fault():
                with stand.db.transaction():
                    stand.db.execute(sql)
                again(trial, how)
            trial.flows()
        if n < rounds - 1:
            with trial.fault(0), stand.db.transaction():
                for table in ("q_work", "a_work"):
                    stand.db.execute(f"alter table pgmq.{table} drop column headers, drop column last_read_at")
    return trial.finish()


# ---- no space ----

@contextlib.contextmanager
def small_disk(trial):
    """A tablespace of 16 MB for the archive, where we may mount one; yields its name, or None."""
    dir, user = make_temp_dir("pgmqd-disk-"), trial.stand.cluster.user
    mounted = os.geteuid() == 0 and not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", dir], capture_output=True).returncode
    try:
        if mounted and user:
            os.chown(dir, user.pw_uid, user.pw_gid)
        if mounted:
            trial.stand.db.execute(f"create tablespace small location '{dir}'")
            trial.stand.db.execute("alter table pgmq.a_work set tablespace small")
        yield "small" if mounted else None
    finally:
        if mounted:
            with trial.stand.connect() as db:
                db.execute("alter table pgmq.a_work set tablespace pg_default")
                db.execute("drop table if exists public.filler")
                db.execute("checkpoint")
                db.execute("drop tablespace small")
            subprocess.run(["umount", "-l", dir], check=True)
        shutil.rmtree(dir, ignore_errors=True)


FULL = """create function public.full() returns trigger language plpgsql as $$ begin
  raise disk_full using message = 'could not extend file: No space left on device'; end $$;
create trigger full_disk before insert on pgmq.a_work execute function public.full()"""


def disk(trial, kind, rounds):
    """The archive has no space for longer than a lease."""
    stand = trial.stand
    with small_disk(trial) as space:
        trial.begin(fields={"sleep_ms": lambda: trial.rng.choice((0, 0, 50, 1000)), "do": kind, "pad": "x" * 2000})
        for _ in range(rounds):
            trial.load(1)
            with trial.fault():
                if space:
                    stand.db.execute("create table public.filler (x text) tablespace small")
                    with contextlib.suppress(Exception):
                        while True:
                            stand.db.execute("insert into public.filler select repeat('x', 1000) from generate_series(1, 100)")
                else:
                    stand.db.execute(FULL)
                wait_until("an outcome cannot be stored", lambda: stand.logged("No space left on device"), 60)
                time.sleep(HOLD)
                stand.db.execute("drop table public.filler" if space else "drop trigger full_disk on pgmq.a_work; drop function public.full()")
                if space:
                    stand.db.execute("checkpoint")  # the server gives the files' space back
            trial.flows()
        trial.notes["disk"] = "tmpfs" if space else "trigger"
        return trial.finish()


PARTS = {
    "replication": ("failover to a standby", {
        "async standby": "asynchronous; the old primary comes back as a standby",
        "async second primary": "asynchronous; the old primary comes back as a second primary for a while",
        "sync standby": "synchronous; the old primary comes back as a standby",
        "sync second primary": "synchronous; the old primary comes back as a second primary for a while"}, replication),
    "restore": ("under a running dispatcher", {
        "dump": "pg_restore of a dump of some seconds ago", "anew": "drop_queue and create_queue",
        "truncate": "numbers begin again at 1 and the archive holds them"}, restore),
    "pgbouncer": ("its sessions on the server ended ten times a second, and pauses", {
        mode: f"{mode} mode" for mode in ("transaction", "session", "statement")}, pooled),
    "locks": (f"for {HOLD} s", {
        "queue": "SHARE lock on the queue", "archive": "SHARE lock on the archive", "rows": "row locks", "index": "CREATE INDEX in an open transaction",
        "alter": "ALTER TABLE that waits behind a reader", "helpers": "ACCESS EXCLUSIVE on all of pgmqd's tables",
        "cancel": "pg_cancel_backend fifty times a second"}, locks),
    "outages": (f"{HOLD} s without the server", {
        "stopped": "it is stopped", "refused": "connections are refused", "silent": "the link is silent",
        "one of two": "the link of one of two dispatchers is silent"}, outages),
    "settings": (f"{len(hostile.SETTINGS)} hostile settings", {place: f"of the {place}" for place in ("role", "database", "conninfo")}, settings),
    "row-security": ("switched on", {"each": "for one table after the other"}, row_security),
    "updates": ("pgmq's tables from 1.4 to the newest, step by step", {
        how: f"then a {how}" for how in ("reconnect", "restart", "reload")}, updates),
    "disk": (f"the archive has no space for {HOLD} s", {"done": "outcomes by themselves", "done_with": "with the plugin's own rows"}, disk),
}
HEAD = ("\n| Fault | | Injected | Messages | Lost | Stale settlements accepted | Effects doubled | of them explained | Longest wait | Seen |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|\n")
FIGURES = ("faults", "messages", "lost", "stale", "doubled", "documented")
KNOWN = {"seed", "part", "number", "size", "kind", "bad", "wait", "took", *FIGURES}


def row(done):
    """The table's row of a piece, and whether what must hold held."""
    title, kinds, _ = PARTS[done["part"]]
    good = (not done["lost"] + done["stale"] + done["bad"] and done["doubled"] == done["documented"] and done["wait"] <= POLL)
    seen = "; ".join(f"{name}: {', '.join(v) if isinstance(v, list) else v}" for name, v in done.items() if name not in KNOWN and v)
    return (f"| {done['part']}: {title} | {kinds[done['kind']]} | {' | '.join(str(done[name]) for name in FIGURES)} | {done['wait']:.2f} s |"
            f" {seen} |\n"), good
