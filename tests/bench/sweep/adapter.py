"""pgmqd as a system under test of the harness postgresql-job-queue-benchmarking: its contract on standard output, its variables in the environment.

Each replica is a producer and a pgmqd of its own with the plugin `work` (tests/bench/sweep/work.c), whose handler takes JOB_WORK_MS; WORKER_COUNT is max_in_flight,
everything else is pgmqd's default. What is completed is what pgmqd counts as done (archived), not what the handlers have seen.
"""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lib.paths import BUILDDIR, directories, pgmqd  # noqa: E402
from lib.pgcluster import free_port  # noqa: E402

QUEUE = "long_horizon_bench"
PLUGIN = BUILDDIR / "tests/bench/.libs/pgmqd-work-plugin.so"
SEND = (f"select count(*) from pgmq.send_batch('{QUEUE}', array(select jsonb_build_object('enqueued_at_ms', %s::bigint, 'payload_padding', %s::text)"
        " from generate_series(1, %s::int)))")
DEPTH = f"select count(*) from pgmq.q_{QUEUE} where vt <= clock_timestamp()"
WINDOW = 30


def setting(name, default):
    return int(os.environ.get(name, default))


URL, INSTANCE, EVERY = os.environ["DATABASE_URL"], setting("BENCH_INSTANCE_ID", 0), setting("SAMPLE_EVERY_S", 5)
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if not k.startswith(("PG", "NOTIFY_SOCKET"))}, "DATABASE_URL": URL,
               **{f"PGMQD_{name.upper()}": value for name, value in directories().items() if value}}
over = threading.Event()


def emit(**record):
    print(json.dumps({"system": "pgmqd", "instance_id": INSTANCE, **record}), flush=True)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Session:
    """A connection that comes back: `call` gives None while the server is away."""

    def __init__(self):
        self.connection = None

    def call(self, sql, params=()):
        try:
            if self.connection is None:
                self.connection = psycopg.connect(URL, autocommit=True, connect_timeout=2)
            return self.connection.execute(sql, params).fetchone()[0]
        except psycopg.Error:
            if self.connection:
                self.connection.close()
            self.connection = None
            over.wait(0.2)
            return None


class Producer(threading.Thread):
    """Keeps the rate that was asked for, by the time that has really passed, or a depth."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sent, self.calls, self.rate = 0, collections.deque(maxlen=32768), float(setting("PRODUCER_RATE", 800))
        self.mode, self.target = os.environ.get("PRODUCER_MODE", "fixed"), setting("TARGET_DEPTH", 1000)
        self.most, self.pause = setting("PRODUCER_BATCH_MAX", 128), setting("PRODUCER_BATCH_MS", 10) / 1000
        self.padding = "x" * max(0, setting("JOB_PAYLOAD_BYTES", 256) - 96)

    def due(self, session, credit):
        """How many to send now, and the credit before them."""
        if self.mode == "depth-target":
            depth = session.call(DEPTH)
            return (0 if depth is None else min(self.most, max(0, self.target - depth))), 0
        try:
            self.rate = float(Path(os.environ["PRODUCER_RATE_CONTROL_FILE"]).read_text())
        except (KeyError, OSError, ValueError):
            pass
        clock = time.monotonic()
        credit, self.clock = credit + (clock - self.clock) * self.rate, clock
        return min(self.most, int(credit)), credit

    def run(self):
        session, credit, self.clock = Session(), 0.0, time.monotonic()
        while not over.is_set():
            n, credit = self.due(session, credit)
            began = time.monotonic()
            if n and session.call(SEND, (int(time.time() * 1000), self.padding, n)):
                self.sent += n
                credit -= n
                self.calls.append((time.monotonic(), (time.monotonic() - began) * 1000))
            if not n or (self.mode == "fixed" and credit < 1):
                over.wait(self.pause)


class Trace(threading.Thread):
    """Reads the plugin's pipe: milliseconds from the enqueue to the start, and to the end."""

    def __init__(self, path):
        super().__init__(daemon=True)
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR)  # also for writing, so that a restart of the worker is no end of file
        self.starts, self.ends = collections.deque(maxlen=32768), collections.deque(maxlen=32768)

    def run(self):
        rest = b""
        while True:
            lines = (rest + os.read(self.fd, 65536)).split(b"\n")
            rest, clock = lines.pop(), time.monotonic()
            for line in lines:
                sent, started, ended = map(int, line.split())
                self.starts.append((clock, started / 1000 - sent))
                self.ends.append((clock, ended / 1000 - sent))


class Watch(threading.Thread):
    """What pgmqd counts, and how deep the queue is."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.done, self.last, self.depth = port, 0, 0, 0

    def run(self):
        session = Session()
        while not over.wait(0.25):
            self.look()
            if INSTANCE == 0:
                self.depth = session.call(DEPTH) or 0

    def look(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=3) as answer:
                found = re.search(rb'^pgmqd_done_total\{[^}]*queue="' + QUEUE.encode() + rb'"[^}]*\} (\d+)', answer.read(), re.M)
        except OSError:
            return
        if found:
            count = int(found[1])
            self.done += count - self.last if count >= self.last else count
            self.last = count


def quantiles(events):
    """p50, p95, p99 of the last 30 s."""
    edge = time.monotonic() - WINDOW
    values = sorted(v for t, v in list(events) if t >= edge)
    return [values[min(len(values) - 1, round(q * (len(values) - 1)))] if values else 0.0 for q in (.5, .95, .99)]


def sample(producer, trace, watch, before, seconds):
    """Prints one set of samples; what was counted until now."""
    t, counted = now(), (producer.sent, watch.done)
    metrics = {"enqueue_rate": ((counted[0] - before[0]) / seconds, EVERY), "completion_rate": ((counted[1] - before[1]) / seconds, EVERY)}
    for name, events in (("producer", producer.calls), ("subscriber", trace.starts), ("claim", trace.starts), ("end_to_end", trace.ends)):
        metrics.update({f"{name}_p{q}_ms": (v, WINDOW) for q, v in zip((50, 95, 99), quantiles(events))})
    if INSTANCE == 0:
        metrics.update(queue_depth=(float(watch.depth), 0), producer_target_rate=(producer.rate, 0))
    for metric, (value, window) in metrics.items():
        emit(t=t, kind="adapter", subject_kind="adapter", subject="", metric=metric, value=value, window_s=window)
    return counted


def configuration(directory, port):
    path = Path(directory) / "pgmqd.conf"
    path.write_text(f"[pgmqd]\nhttp_listen = 127.0.0.1:{port}\nlog_level = warn\n\n[queue {QUEUE}]\nplugin = {PLUGIN}\nwork = {setting('JOB_WORK_MS', 1)}ms\n"
                    f"trace = {directory}/trace\nmax_in_flight = {setting('WORKER_COUNT', 32)}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with psycopg.connect(URL, autocommit=True) as db:
        if not db.execute("select to_regprocedure('pgmqd.create_queue(text)') is not null").fetchone()[0]:
            subprocess.run([pgmqd(), "migrate", "-d", URL], env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        if not db.execute("select to_regclass(%s)", [f"pgmq.q_{QUEUE}"]).fetchone()[0]:
            db.execute("select pgmqd.create_queue(%s)", [QUEUE])
        version = db.execute("select current_setting('server_version')").fetchone()[0]
    with tempfile.TemporaryDirectory(prefix="pgmqd-sweep-") as directory:
        port, trace = free_port(), Trace(f"{directory}/trace")
        # ended by the kernel when this process is killed, as one container would be
        daemon = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", pgmqd(), "run", "-c", configuration(directory, port)], env=ENVIRONMENT,
                                  stdin=subprocess.DEVNULL, stdout=sys.stderr)
        producer, watch = Producer(), Watch(port)
        emit(kind="descriptor", event_tables=[f"pgmq.q_{QUEUE}", f"pgmq.a_{QUEUE}"], extensions=[], version=subprocess.run(
            [pgmqd(), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip(), schema_version=f"PostgreSQL {version}",
            db_name=URL.rpartition("/")[2], started_at=now())
        for thread in (trace, producer, watch):
            thread.start()
        over.wait(EVERY - time.time() % EVERY)
        counted, clock = (producer.sent, watch.done), time.monotonic()
        while not over.wait(EVERY - time.time() % EVERY):
            before, clock = clock, time.monotonic()
            counted = sample(producer, trace, watch, counted, clock - before)
            if daemon.poll() is not None:
                sys.exit(f"pgmqd has ended with status {daemon.returncode}")
        daemon.terminate()
        daemon.wait()


if __name__ == "__main__":
    main()
