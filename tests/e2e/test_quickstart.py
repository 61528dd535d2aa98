"""./quickstart where an environment is set up for something else, where it is interrupted, and where it may install nothing."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lib.paths import BUILDDIR, SRCDIR
from lib.stand import INSTRUMENTED, wait_until

DEMO = [sys.executable, str(SRCDIR / "tests" / "demo.py")]
ODD = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9",
       "PGSERVICE": "nowhere", "PGHOST": "nowhere.example.test", "PGOPTIONS": "-c no_such_setting=1", "PGCLIENTENCODING": "SQL_ASCII", "PGPORT": "1"}


@pytest.fixture
def place():
    """An environment with a TMPDIR that has a space and a build tree like ours, whose results nobody else has."""
    with tempfile.TemporaryDirectory(prefix="q t ", dir="/tmp") as base:
        os.chmod(base, 0o755)
        for name in ("tmp", "build"):
            os.mkdir(f"{base}/{name}", 0o755)
        os.chmod(f"{base}/tmp", 0o1777)
        for entry in BUILDDIR.iterdir():
            if entry.name != "quickstart":
                os.symlink(entry, f"{base}/build/{entry.name}")
        environ = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}
        environ.update(ODD, TMPDIR=f"{base}/tmp", PGMQD_BUILDDIR=f"{base}/build", no_proxy="127.0.0.1,localhost", PYTHONDONTWRITEBYTECODE="1")
        yield environ


def left(environ):
    return os.listdir(environ["TMPDIR"])


class Another:
    """Another quickstart in the same checkout, which holds this lock."""

    def __init__(self, environ, name):
        path = Path(environ["PGMQD_BUILDDIR"]) / "quickstart"
        path.mkdir(exist_ok=True)
        self.file = open(path / name, "w", encoding="ascii")

    def __enter__(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        self.file.close()


@pytest.mark.skipif(INSTRUMENTED, reason="it takes long")
def test_the_environment_of_something_else(place):
    """While another one is at work in this checkout it waits, and touches nothing; then it shows everything."""
    with Another(place, "shown"):
        p = subprocess.Popen(DEMO, env=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert "another quickstart is at work" in p.stdout.readline().lower()
        assert left(place) == []
    said = p.communicate(timeout=300)[0]
    assert p.returncode == 0 and "All 7 mails arrived" in said and "Traceback" not in said, said
    assert left(place) == []


def test_one_builds_at_a_time(tmp_path):
    environ = {**os.environ, "PGMQD_BUILDDIR": str(tmp_path)}
    with Another(environ, "built"):
        with subprocess.Popen([str(SRCDIR / "quickstart"), "build"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as p:
            try:
                assert "another quickstart is building" in p.stdout.readline().lower()
                assert sorted(os.listdir(tmp_path)) == ["quickstart"]
            finally:
                os.killpg(p.pid, signal.SIGKILL)


@pytest.mark.skipif(INSTRUMENTED, reason="it takes long")
def test_interrupted_it_leaves_nothing(place):
    """While the server's files are being made, in a TMPDIR that the server can use."""
    with tempfile.TemporaryDirectory(prefix="qt", dir="/tmp") as used:
        os.chmod(used, 0o1777)
        # what runs in the background of a script ignores ^C, and so would all that it starts
        with subprocess.Popen(DEMO, env={**place, "TMPDIR": used}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as p:
            wait_until("a server is being made", lambda: list(Path(used).glob("pgmqd-pg-*")))
            os.killpg(p.pid, signal.SIGINT)
            out, err = p.communicate(timeout=120)
        assert p.returncode not in (0, 1) and "Traceback" not in err, out + err
        assert os.listdir(used) == []


def test_all_that_is_missing_is_named_at_once(tmp_path):
    """For somebody who may not install: nothing is asked twice."""
    stubs = {"dpkg-query": "exit 1", "sudo": "exit 1", "id": "echo 1000", "apt-get": "echo called >&2; exit 1",
             "apt-cache": "echo '  Depends: postgresql-15'"}
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="ascii")
        (tmp_path / name).chmod(stat.S_IRWXU)
    done = subprocess.run([str(SRCDIR / "quickstart"), "build"], env={**os.environ, "PGMQD_BUILDDIR": str(tmp_path / "b"), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "these packages are missing" in done.stderr, done.stdout + done.stderr
    for name in ("gcc", "libpq-dev", "python3-psycopg", "python3-aiosmtpd"):
        assert f" {name}" in done.stderr, name
