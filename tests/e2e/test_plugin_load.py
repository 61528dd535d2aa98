"""Which plugin files are loaded, and that a plugin can be replaced under load, again and again."""

import os
import shutil
import subprocess
import threading
import time

import pytest

from lib import paths
from lib.daemon import conf, run
from lib.paths import TIMEOUT, make_temp_dir
from lib.stand import INSTRUMENTED

RELOADS = int(os.environ.get("PGMQD_RELOADS", "20"))


def compile_plugin(path, **defines):
    """Compiles tests/kit/versions.c, and puts it into place by a rename."""
    flags = [f"-D{name}={value}" for name, value in defines.items()]
    subprocess.run(["cc", "-std=c99", "-fPIC", "-shared", f"-I{paths.SRCDIR}/plugins", *flags, "-o", f"{path}.new",
                    paths.SRCDIR / "tests/kit/versions.c"], check=True)
    os.chmod(f"{path}.new", 0o644)
    os.rename(f"{path}.new", path)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The plugin, compiled once."""
    path = tmp_path_factory.mktemp("built") / "plugin.so"
    compile_plugin(path)
    return path


@pytest.fixture
def directory():
    """A plugin directory that nobody else may write to, nor to what is above it."""
    path = make_temp_dir("pgmqd-plugins-")
    yield path
    shutil.rmtree(path)


def check(directory, name="versions"):
    """What `pgmqd run --check` says of a queue with that plugin."""
    path = directory / "check.conf"
    path.write_text(conf("dbname=none", {"q": {"plugin": name}}, plugin_dir=str(directory)))
    path.chmod(0o600)
    return run("run", "--check", "-c", path)


def refused(directory, *texts, name="versions"):
    done = check(directory, name)
    assert done.returncode == 78, done.stdout + done.stderr
    for text in (f'plugin "{name}": ', *texts):
        assert text in done.stdout + done.stderr


def test_good_file(directory, built):
    shutil.copy(built, directory / "pgmqd-versions-plugin.so")
    done = check(directory)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mode, why", [(0o664, "is writable by its group"), (0o666, "is writable by everybody")])
def test_file_that_others_may_write(directory, built, mode, why):
    so = directory / "pgmqd-versions-plugin.so"
    shutil.copy(built, so)
    so.chmod(mode)
    if mode == 0o664:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another group")
        os.chown(so, -1, 12345)
        so.chmod(mode)
    refused(directory, f"{so} {why}")


def test_file_of_another_user(directory, built):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    so = directory / "pgmqd-versions-plugin.so"
    shutil.copy(built, so)
    os.chown(so, 12345, -1)
    refused(directory, f"{so} is owned by another user")


def test_directory_that_others_may_write(directory, built):
    below = directory / "below"
    below.mkdir()
    shutil.copy(built, below / "pgmqd-versions-plugin.so")
    directory.chmod(0o777)
    refused(below, f"{directory}, above the plugin", "is writable by everybody")


def test_link_is_judged_by_where_it_leads(directory, built):
    """A link itself is no harm; what it leads to, and the way there, must be as safe as the rest."""
    (directory / "open").mkdir()
    shutil.copy(built, directory / "open/real.so")
    (directory / "pgmqd-versions-plugin.so").symlink_to(directory / "open/real.so")
    assert check(directory).returncode == 0
    (directory / "open").chmod(0o777)
    refused(directory, f"{directory}/open, above the plugin", "is writable by everybody")


def test_no_such_file(directory):
    refused(directory, f"there is no file {directory}/pgmqd-versions-plugin.so; install")
    (directory / "pgmqd-version-plugin.so").touch()  # the nearest name is told
    refused(directory, f"there is no file {directory}/pgmqd-versions-plugin.so (did you mean version?)")


@pytest.mark.parametrize("what", ["directory", "text", "library", "cut"])
def test_not_a_plugin(directory, built, what):
    so = directory / "pgmqd-versions-plugin.so"
    if what == "directory":
        so.mkdir()
        refused(directory, "is not a regular file")
    elif what == "text":
        so.write_text("not at all\n")
        refused(directory, "cannot be loaded")
    elif what == "cut":
        so.write_bytes(built.read_bytes()[:100])
        refused(directory, "cannot be loaded")
    else:
        subprocess.run(["cc", "-shared", "-fPIC", "-xc", "/dev/null", "-o", so], check=True)
        so.chmod(0o644)
        refused(directory, "is no pgmqd plugin")


def test_file_with_another_name(directory, built):
    shutil.copy(built, directory / "pgmqd-other-plugin.so")
    refused(directory, 'calls itself "versions"', name="other")


@pytest.mark.parametrize("api", [0, 2, 4000000000])
def test_other_api_version(directory, api):
    compile_plugin(directory / "pgmqd-versions-plugin.so", API=f"{api}u")
    refused(directory, f"speaks plugin API {api}", "with API 1 to 1")


# ---- reloads ----

def resources(pid):
    """Descriptors and resident kilobytes of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
    return len(os.listdir(f"/proc/{pid}/fd")), rss


def test_reloads_under_load(rig, directory):
    """A new build each time, while messages come: every one is handled, and the supervisor does not grow."""
    so = directory / "pgmqd-versions-plugin.so"
    compile_plugin(so, VERSION='"0"')
    rig.db.execute("select pgmqd.create_queue('churn')")
    daemon = rig.start(queues={"churn": {"plugin": "versions", "max_in_flight": "20"}}, plugin_dir=str(directory), log_level="info")
    done, sent = threading.Event(), []

    def produce():
        with rig.connect() as db:
            while not done.is_set():
                sent.extend(row[0] for row in db.execute(
                    "select pgmq.send_batch('churn', array(select '{}'::jsonb from generate_series(1, 5)))"))
                db.execute("select pg_sleep(0.01)")

    def workers():
        return {pid for pid, title in daemon.children().items() if "worker churn" in title}

    def reload(number):
        old = workers()
        compile_plugin(so, VERSION=f'"{number}"')
        mark = daemon.mark()
        daemon.reload()
        daemon.wait_log(lambda r: r.get("text") == "reloaded", start=mark)
        assert workers() - old, "a new worker has taken over"

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for number in range(1, 6):  # what is allocated once is allocated by now
            reload(number)
        before = resources(daemon.process.pid)
        for number in range(6, 6 + RELOADS):
            reload(number)
    finally:
        done.set()
        producer.join()
    deadline = time.monotonic() + TIMEOUT
    while rig.db.execute("select count(*) from pgmq.q_churn").fetchone()[0] or len(daemon.children()) > 2:
        assert time.monotonic() < deadline, f"{daemon.children()}\n{daemon.tail()}"
        time.sleep(0.02)
    archived = [row["msg_id"] for row in rig.rows("a_churn")]
    assert len(archived) == len(set(archived)) and set(archived) == set(sent)
    handled = [(r["msg_id"], r["attempt"]) for r in daemon.records() if r.get("text") == "settled" and r["outcome"] != "release"]
    assert sorted(handled) == [(msg_id, 1) for msg_id in sorted(sent)], "what an old worker has begun is finished by it"
    fds, rss = resources(daemon.process.pid)
    assert fds <= before[0], f"{before[0]} descriptors became {fds}"
    assert INSTRUMENTED or rss <= before[1] + 512, f"{before[1]} kB became {rss} kB"
