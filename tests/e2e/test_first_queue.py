"""docs/first-queue.md is true: its commands, in their order, with nothing but what `make install` has installed."""

import os
import re
import select
import signal
import stat
import subprocess
import time

import pytest

from lib import paths
from lib.daemon import clean_environment
from lib.paths import TIMEOUT, make_temp_dir

PAGE = (paths.SRCDIR / "docs/first-queue.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed():
    """An environment in which pgmqd and its header are found where `make install` has put them, and nowhere else."""
    root = make_temp_dir("pgmqd-root-")
    root.chmod(0o755)
    done = subprocess.run(["make", "-C", paths.BUILDDIR, "install", f"DESTDIR={root}", "V=0"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env={**os.environ, "MAKEFLAGS": ""}, timeout=300)
    assert done.returncode == 0, done.stdout
    (pc,) = root.rglob("pgmqd.pc")
    prefix = re.search(r"^prefix=(.*)$", pc.read_text(), re.M)[1]
    (data,) = (p.parent for p in root.rglob("skeleton"))
    (plugins,) = (p.parent for p in root.rglob("pgmqd-null-plugin.so"))
    (sbin,) = (p.parent for p in root.rglob("sbin/pgmqd"))
    yield {
        "PATH": f"{sbin}:{os.environ['PATH']}",
        "PKG_CONFIG": f"pkg-config --define-variable=prefix={root}{prefix}",
        "PKG_CONFIG_PATH": str(pc.parent),
        "PGMQD_PLUGIN_DIR": str(plugins), "PGMQD_SKELETON_DIR": str(data / "skeleton"), "PGMQD_SQL_DIR": str(data / "sql"),
        "PGMQD_TEMPLATE_DIR": str(data / "templates"), "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(["rm", "-r", str(root)], check=True)


@pytest.fixture
def where():
    """An empty directory whose path nobody else may write to."""
    path = make_temp_dir("pgmqd-first-")
    yield path
    subprocess.run(["rm", "-r", str(path)], check=True)


def wait_for(path, text, times=1):
    """Until a file holds a text so many times."""
    deadline = time.monotonic() + TIMEOUT
    while not path.exists() or path.read_text(encoding="utf-8").count(text) < times:
        assert time.monotonic() < deadline, f"{text!r} does not come:\n{path.read_text(encoding='utf-8') if path.exists() else ''}"
        time.sleep(0.02)


@pytest.fixture
def shell(cluster, installed, where):
    """Runs a block in a new database, as one person's shell would. Whatever it has left running is ended."""
    cluster.createdb("first_queue")
    env = clean_environment({**installed, "PGHOST": str(cluster.dir), "PGPORT": str(cluster.port), "PGUSER": "postgres",
                             "PGDATABASE": "first_queue"})

    def run(script):
        with open(where / "output", "w+", encoding="utf-8") as out:  # no pipe: what goes on in the background would hold it
            status = subprocess.run(["bash", "-eu", "-c", script], cwd=where, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT, timeout=120).returncode
            out.seek(0)
            text = out.read()
        assert status == 0, f"{script}\n----\n{text}"
        return text

    yield run
    pid = where / "pgmqd.pid"
    if pid.exists():
        try:
            os.kill(int(pid.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass
    cluster.dropdb("first_queue")


def test_first_queue(shell, where):
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    log = where / "pgmqd.log"
    make, attempt, install, migrate, conf, start, send, look, change, send_again, look_again, add, shout, heard, stop = blocks
    assert "greeter: as expected" in shell(make)
    out = shell(attempt)
    assert "1 done" in out and "Good evening, Ann" in out
    assert "greeting (string, default Hello)" in shell(install)
    shell(migrate)
    shell(conf)
    shell(start)
    wait_for(log, " ready")
    shell(send)
    wait_for(log, "settled", 2)
    out = shell(look)
    assert "Good morning, Ann" in out and '{"name": "Ann"}' in out
    assert 'has no \\"name\\"' in out.replace('\\\\"', '\\"') and '"greeter"' in out
    shell(change)
    wait_for(log, "reloaded")
    shell(send_again)
    wait_for(log, "settled", 3)
    assert "Good morning, dear Ben" in shell(look_again)
    shell(add)
    wait_for(log, "reloaded", 2)
    shell(shout)
    wait_for(log, "settled", 4)
    assert "HEAR, HEAR" in shell(heard)
    gone = os.pidfd_open(int((where / "pgmqd.pid").read_text()))
    shell(stop)
    ended, _, _ = select.select([gone], [], [], TIMEOUT)
    os.close(gone)
    assert ended and not re.search(r"^\S+ error ", log.read_text(encoding="utf-8"), re.M)


def test_the_skeleton_sees_the_installed_header_alone(shell, where, installed):
    """What pkg-config says leads into the installed tree, and the plugin is installed with a safe mode."""
    shell("pgmqd plugin new seen seen && make -C seen install")
    flags = shell("$PKG_CONFIG --cflags pgmqd")
    assert str(paths.SRCDIR) not in flags and "/pgmqd-root-" in flags
    (so,) = [p for p in os.scandir(installed["PGMQD_PLUGIN_DIR"]) if "seen" in p.name]
    assert stat.S_IMODE(so.stat().st_mode) == 0o644


def test_the_skeleton_with_autotools(shell, installed):
    """The other way that the skeleton's README names: configured against the installed pgmqd, checked, installed, and known by its name."""
    readme = shell("pgmqd plugin new auto-built auto >/dev/null && cat auto/README.md")
    command = re.search(r"run `(autoreconf .*)`", readme)[1]
    shell(f"cd auto && rm Makefile && cp autotools/* . && {command} && make check install V=0")
    out = shell("pgmqd plugin info auto-built")
    assert "version: 1.0" in out and "greeting (string, default Hello)" in out
    assert not [p for p in os.listdir(installed["PGMQD_PLUGIN_DIR"]) if p.endswith(".la")]
