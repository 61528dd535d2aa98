"""A private PostgreSQL cluster: own data directory, own Unix socket, no TCP, gone when the program ends.

It never touches a PostgreSQL that already runs. PostgreSQL refuses to run as root, so under root the server runs as the
user postgres (or nobody). PG_BINDIR is the directory of the server to use (default: the newest installed); PGMQ_SQL a file with
pgmq's own SQL that every new database gets, instead of that of sql/010_pgmq.sql.
"""

import atexit
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess

import psycopg

from .lines import Lines
from .paths import make_temp_dir

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def bin_dir():
    """The directory of the newest PostgreSQL server on this machine, or of the one that is asked for."""
    if os.environ.get("PG_BINDIR"):
        return os.environ["PG_BINDIR"]
    found = [p for p in glob.glob("/usr/lib/postgresql/*/bin") if os.access(p + "/initdb", os.X_OK)]
    if found:
        return max(found, key=lambda p: float(p.split("/")[-2]))
    initdb = shutil.which("initdb")
    if not initdb:
        raise FileNotFoundError("no PostgreSQL server found: apt-get install postgresql")
    return os.path.dirname(os.path.realpath(initdb))


def server_user():
    """The user that the server is to run as, or None for the one that we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise LookupError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def free_port():
    """A TCP port of the loopback address that is free at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """settings: further postgresql.conf settings. preload_cron: load pg_cron, for the database named there. tcp: listen
    on 127.0.0.1 too. fsync: as in production, for measuring."""

    def __init__(self, dir=None, preload_cron=None, settings=None, tcp=False, fsync=False):
        self._given_dir, self.dir = dir, None
        self.bin = bin_dir()
        self.user = server_user()
        self.port = free_port()
        self.process = self.log = self._log_file = self._initdb_process = None
        self.settings = {
            "listen_addresses": "127.0.0.1" if tcp else "",
            "max_connections": "100",
            "logging_collector": "off",
            "log_destination": "stderr",
            "lc_messages": "C",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "timezone": "UTC",
        }
        if not fsync:
            self.settings.update(fsync="off", full_page_writes="off")
        if preload_cron:
            self.settings.update({
                "shared_preload_libraries": "pg_cron",
                "cron.database_name": "app" if preload_cron is True else preload_cron,
                "cron.use_background_workers": "on",
            })
        self.settings.update(settings or {})

    # ---- files and processes ----

    def _command(self, *argv):
        """argv as the server's user, ended by the kernel should we be killed."""
        prefix = []
        if shutil.which("setpriv"):
            prefix = ["setpriv", "--pdeathsig", "INT"]
            if self.user:
                prefix += [f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
        elif self.user:
            prefix = ["runuser", "-u", self.user.pw_name, "--"]
        return prefix + list(argv)

    def _environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG") and not k.startswith("LC_")}
        return dict(env, LC_ALL="C.UTF-8", HOME=str(self.dir))

    def _initdb(self):
        self.dir = self._given_dir or make_temp_dir("pgmqd-pg-")
        self.dir.mkdir(exist_ok=True, mode=0o700)
        if self.user:
            os.chown(self.dir, self.user.pw_uid, self.user.pw_gid)
        self._initdb_process = subprocess.Popen(
            self._command(f"{self.bin}/initdb", "-D", f"{self.dir}/data", "-A", "trust", "-U", "postgres", "-E", "UTF8",
                          "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
            env=self._environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        told = self._initdb_process.communicate()[0]
        if self._initdb_process.returncode:
            raise RuntimeError(f"initdb failed:\n{told}")

    def start(self, timeout=60):
        """Makes the cluster at the first call; returns self when the server takes connections."""
        new = self.dir is None
        if new:
            atexit.register(self.destroy)
            self._initdb()
            self._log_file = open(self.dir / "postgresql.log", "ab")
        options = [f"--{key}={value}" for key, value in self.settings.items()]
        self.process = subprocess.Popen(
            self._command(f"{self.bin}/postgres", "-D", f"{self.dir}/data", "-k", str(self.dir), "-p", str(self.port), *options),
            env=self._environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        self.log = Lines(self.process.stdout, self._log_file)
        if not self.log.wait(lambda line: re.search("database system is ready to accept (read-only )?connections", line), timeout):
            self.stop("immediate")
            raise RuntimeError("PostgreSQL did not start:\n" + "\n".join(self.log.snapshot()[-30:]))
        if new and os.environ.get("PGMQ_SQL"):
            with self.connect("template1") as db, open(os.environ["PGMQ_SQL"], encoding="utf-8") as f:
                db.execute(f.read())
        return self

    def follow(self, primary):
        """Makes this cluster a standby of `primary`, which runs, and starts it; returns self."""
        atexit.register(self.destroy)
        self.dir = make_temp_dir("pgmqd-pg-")
        if self.user:
            os.chown(self.dir, self.user.pw_uid, self.user.pw_gid)
        self._log_file = open(self.dir / "postgresql.log", "ab")
        done = subprocess.run(
            self._command(f"{self.bin}/pg_basebackup", "-D", f"{self.dir}/data", "-R", "-X", "stream", "-c", "fast", "--no-sync",
                          "-h", str(primary.dir), "-p", str(primary.port), "-U", "postgres"),
            env=self._environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"pg_basebackup failed:\n{done.stdout}")
        return self.start()

    def stop(self, mode="fast", timeout=60):
        """Stops the server ("smart", "fast" or "immediate"), and waits until it is gone."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(SIGNALS[mode])
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(timeout)
        if self.log:
            self.log.join()

    def restart(self, mode="fast"):
        """stop() and start()."""
        self.stop(mode)
        self.start()

    def destroy(self):
        """Stops the server and removes its files."""
        if self.dir is None:
            return
        self.stop("immediate")
        if self._log_file:
            self._log_file.close()
        if self._initdb_process:  # an interrupted one still writes
            self._initdb_process.kill()
            self._initdb_process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir = None
        atexit.unregister(self.destroy)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.destroy()

    # ---- databases and connections ----

    def conninfo(self, dbname="postgres", **more):
        """A libpq connection string."""
        parts = {"host": self.dir, "port": self.port, "user": "postgres", "dbname": dbname, **more}
        return " ".join(f"{key}={value}" for key, value in parts.items())

    def connect(self, dbname="postgres", **more):
        """A psycopg connection, autocommit unless told otherwise."""
        more.setdefault("autocommit", True)
        return psycopg.connect(self.conninfo(dbname), **more)

    def createdb(self, name, template=None, owner=None):
        """A new database, in place of one that a run of the same test before has left; returns its connection string."""
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ValueError(name)
        with self.connect() as db:
            db.execute(f"drop database if exists {name} with (force)")
            db.execute(f"create database {name}" + (f" template {template}" if template else "") + (f" owner {owner}" if owner else ""))
        return self.conninfo(name)

    def dropdb(self, name):
        """Drops a database together with the sessions in it."""
        with self.connect() as db:
            db.execute(f"drop database if exists {name} with (force)")

    def denied(self):
        """What the server has refused to the daemon's role."""
        return [line for line in self.log.snapshot() if " pgmqd@" in line and "permission denied" in line]

    def has_extension(self, name):
        """Whether CREATE EXTENSION name could work here."""
        with self.connect() as db:
            return bool(db.execute("select 1 from pg_available_extensions where name = %s", [name]).fetchone())
