"""A stand for fault tests: a database, any number of dispatchers with the effect plugin, ledgers, and the oracle over them."""

import os
import shutil
import signal
import time

from .daemon import Daemon, conf
from .harness import Harness
from .oracle import Ledger, Producer, Verdict, steps
from .paths import BUILDDIR, TIMEOUT, make_temp_dir, sanitized
from .valgrind import SLOW, active

PLUGIN = BUILDDIR / "tests" / "plugins" / ".libs" / "pgmqd-effect-plugin.so"


# Whether the memory of a process says nothing about it: valgrind and sanitizers keep what was freed.
INSTRUMENTED = active() or sanitized()


def wait_until(what, condition, timeout=TIMEOUT, every=0.05):
    """The first true value of `condition`, asked again and again."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(every)


def put_forward(db, queue, seconds):
    """Puts the clock of a queue forward, at a moment when no message is in hand: what falls due within that time is due now."""
    wait_until("no message is in hand", lambda: db.execute(
        f"with locked as (select vt from pgmq.q_{queue} for update)"
        f" update pgmq.q_{queue} set vt = vt - %s * interval '1 s', enqueued_at = enqueued_at - %s * interval '1 s'"
        " where not exists (select from locked where vt > now())", [seconds, seconds]).rowcount)


def boottime_ms():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000


def descriptors(pid):
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_kb(pid):
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


class Stand(Harness):
    """With the queues "work" and "other". Everything that was started is stopped at the end, and must stop in order."""

    def __init__(self, cluster, dbname):
        super().__init__(cluster, dbname)
        self.dir = make_temp_dir("pgmqd-faults-")
        self.effects = self.dir / "effects"
        self.ledger = Ledger(self.dir / "produced")
        self.daemons, self.producers = [], []

    # ---- the database ----

    def sessions(self):
        """The names of pgmqd's sessions, sorted: twice the same means that none was left over."""
        return sorted(self.backends().values())

    def tcp(self, port=None, **more):
        """A connection string by TCP, through a proxy if `port` is one's."""
        return self.cluster.conninfo(self.dbname, **{"host": "127.0.0.1", "port": port or self.cluster.port, **more})

    # ---- dispatchers ----

    def start(self, conninfo=None, queue=None, queues=None, ready=True, env=None, wrapper=(), **settings):
        """Starts a dispatcher of the queue "work" (`queue`: its options) or of `queues`. Short leases, polls seldom."""
        work = {"plugin": PLUGIN, "ledger": self.effects, "visibility_timeout": "3s", "max_attempts": 1000, "backoff_min": "50ms",
                "backoff_max": "500ms"}
        sections = {name: {**work, **options} for name, options in (queues or {"work": queue or {}}).items()}
        settings.setdefault("fallback_poll", "2s")
        settings.setdefault("poll_when_deaf", "500ms")
        daemon = Daemon(conf(conninfo or self.conninfo, sections, **settings), env=env, wrapper=wrapper)
        self.daemons.append(daemon)
        daemon.start()
        if ready:
            daemon.wait_ready()
        return daemon

    # ---- messages ----

    def send(self, n=1, queue="work", delay=0, **fields):
        return self.ledger.send(self.db, queue, n, delay, **fields)

    def produce(self, rate, queue="work", **fields):
        """Sends in the background until `stop()` of what this returns; a field may be a function."""
        p = Producer(self.ledger, self.conninfo, queue, rate, lambda: {k: v() if callable(v) else v for k, v in fields.items()})
        self.producers.append(p)
        p.start()
        return p

    def steps(self):
        return steps(self.effects)

    def effect_of(self, ids, timeout=TIMEOUT):
        """Until each of these messages had its effect."""
        ids = set(ids)
        wait_until(f"{len(ids)} effects", lambda: ids <= {s.uuid for s in self.steps() if s.what == "E"}, timeout)

    def begun(self, ids, timeout=TIMEOUT):
        """Until each of these messages was delivered."""
        ids = set(ids)
        wait_until(f"{len(ids)} deliveries", lambda: ids <= {s.uuid for s in self.steps() if s.what == "B"}, timeout)

    def drain(self, timeout=60, queue="work"):
        """Until the queue is empty."""
        for p in self.producers:
            if p.is_alive():
                p.stop()
        wait_until(f"queue {queue} empty", lambda: self.value(f"select not exists (select from pgmq.q_{queue})"), timeout * SLOW)

    def verdict(self, queue="work"):
        return Verdict(self.db, queue, self.ledger, self.effects)

    def logged(self, text):
        """How many lines of all logs have this text in them."""
        return sum(text in r.get("text", "") for d in self.daemons for r in d.records())

    # ---- the end ----

    def stop(self, daemon):
        """SIGTERM; the exit status must be 0."""
        status = daemon.stop()
        assert status == 0, f"pgmqd ended with status {status} after SIGTERM:\n{daemon.tail()}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        for p in self.producers:
            if p.is_alive():
                p.stop()
        try:
            for d in self.daemons:
                if d.process.poll() is None:
                    d.process.send_signal(signal.SIGCONT)
                    if kind is None:
                        self.stop(d)
                    else:
                        d.kill()
        finally:
            for d in self.daemons:
                d.close()
            self.disconnect()
            shutil.rmtree(self.dir, ignore_errors=True)
        reports = [r["raw"] for d in self.daemons for r in d.records() if "raw" in r and r["raw"] != "pgmqd: out of memory" and "Cannot allocate memory" not in r["raw"]]
        assert kind or not reports, "not from pgmqd's log:\n" + "\n".join(reports[:40])
