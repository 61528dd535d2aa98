"""Other queues beside pgmqd: graphile-worker and pg-boss, installed from npm into a temporary directory for the time of the run."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from lib.daemon import clean_environment
from lib.paths import BUILDDIR

PACKAGES = ("graphile-worker", "pg-boss")
SCRIPTS = Path(__file__).resolve().parent / "peers"
PROBE = BUILDDIR / "tests/bench/probe"


def probe(conninfo, sql, count, gap):
    """{id: (CLOCK_REALTIME, CLOCK_MONOTONIC)} in nanoseconds, of `count` calls of `sql`, one every `gap` ms."""
    done = subprocess.run([PROBE, conninfo, sql, str(count), str(gap)], check=True, stdout=subprocess.PIPE, text=True)
    return {int(i): (int(real), int(mono)) for i, real, mono in map(str.split, done.stdout.splitlines())}


class Peers:
    """`versions` is empty where npm is missing or the packages cannot be had; `why` says so."""

    def __init__(self):
        self.dir, self.versions, self.why = None, {}, None

    def install(self):
        if self.dir or self.why:
            return self
        if not shutil.which("npm") or not shutil.which("node"):
            self.why = "npm is not installed, so there are no peers to compare with"
            return self
        self.dir = Path(tempfile.mkdtemp(prefix="pgmqd-peers-"))
        done = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(self.dir), *PACKAGES],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        for name in PACKAGES:
            file = self.dir / "node_modules" / name / "package.json"
            if file.exists():
                self.versions[name] = json.loads(file.read_text(encoding="utf-8"))["version"]
        if len(self.versions) < len(PACKAGES):
            self.why = "npm could not install the peers: " + done.stdout.strip()[-300:]
            self.versions = {}
        return self

    def node(self, bench, script, *argv):
        env = clean_environment({"NODE_PATH": str(self.dir / "node_modules"), "PGHOST": str(bench.cluster.dir), "PGPORT": str(bench.cluster.port),
                                 "PGUSER": "postgres", "PGDATABASE": bench.dbname})
        return subprocess.Popen(["node", str(SCRIPTS / script), *map(str, argv)], env=env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True)

    def answer(self, bench, script, *argv):
        process = self.node(bench, script, *argv)
        out = process.communicate(timeout=300)[0]
        if process.returncode:
            raise RuntimeError(f"{script} {argv} ended with status {process.returncode}")
        return out

    def graphile_setup(self, bench):
        self.answer(bench, "graphile.cjs", "setup")

    def graphile_latency(self, bench, count, gap):
        """Milliseconds from add_job() to the task."""
        process = self.node(bench, "graphile.cjs", "latency", count)
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("graphile-worker did not start")
        sent = probe(bench.conninfo, "select id from graphile_worker.add_job('bench', '{\"n\": 1}'::json)", count, gap)
        started = dict(map(int, line.split()) for line in process.communicate(timeout=60)[0].splitlines())
        return [(started[i] - mono) / 1e6 for i, (_, mono) in sent.items()]

    def graphile_drain(self, bench, count):
        """Jobs a second, its batching on."""
        bench.db.execute("select count(*) from graphile_worker.add_jobs(array(select row('bench', '{\"n\": 1}'::json, null, null, null, null,"
                         " null, null)::graphile_worker.job_spec from generate_series(1, %s)))", [count])
        return count / float(self.answer(bench, "graphile.cjs", "drain", count))

    def pgboss_latency(self, bench, count):
        return [float(line) for line in self.answer(bench, "pgboss.cjs", "latency", count).splitlines()]

    def pgboss_drain(self, bench, count):
        return count / float(self.answer(bench, "pgboss.cjs", "drain", count))

    def close(self):
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        self.dir = None
