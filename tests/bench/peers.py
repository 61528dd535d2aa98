"""Other queues beside pgmqd: graphile-worker and pg-boss (npm), River (a Go module) and pgqueuer (PyPI), installed for the time of the run.

Each one is measured with its own defaults and tuned; SETTINGS says how. One that cannot be had is left out, and `Peers.why` tells why.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.daemon import clean_environment
from lib.paths import BUILDDIR

SCRIPTS = Path(__file__).resolve().parent / "peers"
PROBE = BUILDDIR / "tests/bench/probe"
RIVER = [f"github.com/riverqueue/river{part}" for part in ("", "/riverdriver/riverpgxv5", "/rivermigrate")]

SETTINGS = {
    "graphile-worker": "defaults: concurrentJobs 1 (idle: 10), no local queue; tuned: concurrentJobs 24, localQueue 500, completions batched",
    "pg-boss": "defaults: work() looks every 2 s for one job; tuned: every 0.5 s, the least that it takes, and fetch() + complete() by 500",
    "River": "defaults: FetchCooldown 100 ms, FetchPollInterval 1 s, MaxWorkers 100; tuned: 1 ms, 100 ms, 2,000",
    "pgqueuer": "defaults: batch_size 10, dequeue_timeout 30 s; tuned: batch_size 500, uvloop",
}


def probe(conninfo, sql, count, gap):
    """{id: (CLOCK_REALTIME, CLOCK_MONOTONIC)} in nanoseconds, of `count` calls of `sql`, one every `gap` ms."""
    done = subprocess.run([PROBE, conninfo, sql, str(count), str(gap)], check=True, stdout=subprocess.PIPE, text=True)
    return {int(i): (int(real), int(mono)) for i, real, mono in map(str.split, done.stdout.splitlines())}


class Missing(Exception):
    """A peer cannot be had; the text says why."""


class Peer:
    """One other queue. `install` returns {name: version} or raises Missing; the database is the bench's."""

    def __init__(self, peers):
        self.peers, self.dir = peers, peers.dir

    def start(self, bench, *argv, stdin=subprocess.DEVNULL):
        env = clean_environment({"PGHOST": str(bench.cluster.dir), "PGPORT": str(bench.cluster.port), "PGUSER": "postgres",
                                 "PGDATABASE": bench.dbname, **self.environment()})
        return subprocess.Popen([*map(str, self.program()), *map(str, argv)], env=env, stdin=stdin, stdout=subprocess.PIPE, text=True)

    def environment(self):
        return {}

    def answer(self, bench, *argv):
        process = self.start(bench, *argv)
        out = process.communicate(timeout=300)[0]
        if process.returncode:
            raise RuntimeError(f"{self.program()[-1]} {argv} ended with status {process.returncode}")
        return out

    def installed_by(self, what, argv, cwd=None, env=None):
        """Runs an installer; Missing when it failed."""
        try:
            done = subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=900)
        except subprocess.TimeoutExpired as e:
            raise Missing(f"{what} took longer than 15 minutes") from e
        if done.returncode:
            raise Missing(f"{what} failed: {done.stdout.strip()[-200:]}")

    def setup(self, bench):
        """The schema in the bench's database."""

    def clean(self, bench):
        """Takes away what earlier rounds have left, as pgmqd's queue is made anew."""

    def latencies(self, bench, process, sent):
        """Milliseconds from the call to the start; `sent` runs when the process says that it is ready."""
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{self.program()[-1]} did not start")
        calls = sent()
        started = dict(map(int, line.split()) for line in process.communicate(timeout=60)[0].splitlines())
        return [(started[i] - mono) / 1e6 for i, mono in calls.items()]


class Node(Peer):
    """A package of npm."""
    package = script = ""

    def install(self):
        if not shutil.which("npm") or not shutil.which("node"):
            raise Missing("npm is not installed")
        self.installed_by("npm", ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(self.dir), self.package])
        file = self.dir / "node_modules" / self.package / "package.json"
        return json.loads(file.read_text(encoding="utf-8"))["version"]

    def program(self):
        return ["node", SCRIPTS / self.script]

    def environment(self):
        return {"NODE_PATH": str(self.dir / "node_modules")}


class Graphile(Node):
    package, script = "graphile-worker", "graphile.cjs"

    def setup(self, bench):
        self.answer(bench, "setup")

    def latency(self, bench, count, gap, _):
        """From add_job() to the task."""
        sql = "select id from graphile_worker.add_job('bench', '{\"n\": 1}'::json)"
        return self.latencies(bench, self.start(bench, "latency", count),
                              lambda: {i: mono for i, (_, mono) in probe(bench.conninfo, sql, count, gap).items()})

    def drain(self, bench, count, settings):
        bench.db.execute("select count(*) from graphile_worker.add_jobs(array(select row('bench', '{\"n\": 1}'::json, null, null, null, null,"
                         " null, null)::graphile_worker.job_spec from generate_series(1, %s)))", [count])
        return count / float(self.answer(bench, "drain", count, settings))


class PgBoss(Node):
    package, script = "pg-boss", "pgboss.cjs"

    def latency(self, bench, count, _, settings):
        return [float(line) for line in self.answer(bench, "latency", count, settings).splitlines()]

    def drain(self, bench, count, settings):
        """By itself it is measured from the first job on, so one fewer counts."""
        return (count - (settings == "defaults")) / float(self.answer(bench, "drain", count, settings))


class River(Peer):
    """Built of river.go; Go's caches are the user's own, so that a second run compiles nothing."""

    def install(self):
        go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
        if not go:
            raise Missing("go is not installed")
        where = self.dir / "river"
        where.mkdir()
        shutil.copy(SCRIPTS / "river.go", where / "main.go")
        env = {**os.environ, "GOFLAGS": "-buildvcs=false"}
        for argv in (["mod", "init", "example.test/bench"], ["get", *(f"{module}@latest" for module in RIVER)], ["mod", "tidy"], ["build", "-o", "river", "."]):
            self.installed_by("go " + argv[0], [go, *argv], where, env)
        done = subprocess.run([go, "list", "-m", "-f", "{{.Version}}", RIVER[0]], cwd=where, env=env, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def program(self):
        return [self.dir / "river/river"]

    def clean(self, bench):
        bench.db.execute("truncate river_job")

    def setup(self, bench):
        self.answer(bench, "setup")

    def latency(self, bench, count, gap, settings):
        """From Insert() to the worker, within one process."""
        return [float(line) for line in self.answer(bench, "latency", count, gap, settings).splitlines()]

    def drain(self, bench, count, settings):
        return count / float(self.answer(bench, "drain", count, settings))


class PgQueuer(Peer):
    """In an environment of its own."""

    def install(self):
        where = self.dir / "python"
        self.installed_by("python3 -m venv", [sys.executable, "-m", "venv", str(where)])
        self.installed_by("pip", [where / "bin/pip", "install", "-q", "pgqueuer[asyncpg]"])
        done = subprocess.run([where / "bin/python", "-c", "import importlib.metadata as m; print(m.version('pgqueuer'))"], check=True,
                              stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def program(self):
        return [self.dir / "python/bin/python", SCRIPTS / "pgqueuer_bench.py"]

    def clean(self, bench):
        bench.db.execute("truncate pgqueuer, pgqueuer_log, pgqueuer_statistics")

    def setup(self, bench):
        self.answer(bench, "setup")

    def latency(self, bench, count, gap, settings):
        """From enqueue() in another process to the entrypoint."""
        return self.latencies(bench, self.start(bench, "latency", count, settings),
                              lambda: dict(map(int, line.split()) for line in self.answer(bench, "produce", count, gap).splitlines()))

    def drain(self, bench, count, settings):
        return count / float(self.answer(bench, "drain", count, settings))


KINDS = {"graphile-worker": Graphile, "River": River, "pgqueuer": PgQueuer, "pg-boss": PgBoss}


class Peers:
    """`there` has those that could be installed; `versions` theirs; `why` tells of the others."""

    def __init__(self):
        self.dir, self.bench, self.there, self.versions, self.why = None, None, {}, {}, None

    def install(self, bench):
        if self.dir:
            return self
        self.bench, missing = bench, []
        self.dir = Path(tempfile.mkdtemp(prefix="pgmqd-peers-"))
        for name, kind in KINDS.items():
            peer = kind(self)
            try:
                self.versions[name] = peer.install()
                self.there[name] = peer
            except Missing as e:
                missing.append(f"{name} is left out: {e}")
        for peer in self.there.values():
            peer.setup(bench)
        self.why = "; ".join(missing) or None
        return self

    def notes(self):
        """How the peers are set, and which are missing."""
        return [f"{name}: {SETTINGS[name]}." for name in self.there] + ([self.why + "."] if self.why else [])

    def close(self):
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        self.dir = None
