"""A transaction pooler in between: noticed, said, polled around, left behind again."""

import shutil
import subprocess

import pytest

from lib.daemon import conf
from lib.lines import Lines
from lib.pgcluster import free_port
from lib.rig import email_queue

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


@pytest.fixture
def pooler(rig, tmp_path):
    """pgbouncer in transaction mode in front of the rig's database; its conninfo."""
    if not PGBOUNCER:
        pytest.skip("pgbouncer is not installed")
    port = free_port()
    users = tmp_path / "users.txt"
    users.write_text('"pgmqd" ""\n')
    ini = tmp_path / "pgbouncer.ini"
    ini.write_text(f"[databases]\n{rig.dbname} = host={rig.cluster.dir} port={rig.cluster.port} user=pgmqd\n"
                   f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
                   "pool_mode = transaction\nignore_startup_parameters = extra_float_digits\ndefault_pool_size = 4\n")
    user = rig.cluster.user
    command = [PGBOUNCER, str(ini)]
    if user:  # it refuses to run as root, too
        subprocess.run(["chown", "-R", user.pw_name, str(tmp_path)], check=True)
        for path in [tmp_path, *tmp_path.parents][:-2]:
            path.chmod(0o755)
        command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = Lines(process.stderr)
    assert lines.wait(lambda line: "process up" in line, 20), lines.snapshot()
    yield f"host=127.0.0.1 port={port} dbname={rig.dbname} user=pgmqd"
    process.terminate()
    process.wait(20)
    lines.join()


def test_deaf_behind_a_pooler_and_back(rig, pooler):
    """Mails go out by polling; on a direct connection, after a reload, notifications wake again."""
    direct, rig.login = rig.login, pooler
    daemon = rig.start(ready=False, poll_when_deaf="200ms", fallback_poll="1h")
    daemon.wait_log(lambda r: r.get("process") == "listener" and "notifications do not arrive" in r.get("text", ""), timeout=20)
    for n in range(5):
        rig.send(f"pooled{n}@example.test")
    for n in range(5):
        rig.catcher.wait_to(f"pooled{n}@example.test")
    assert len(rig.catcher.mails()) == 5
    locks = rig.db.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()[0]
    assert locks == 0, "a session lock was left with the pooler"
    rig.login = direct
    daemon.wait_ready()  # a reload before that would end in the first "ready" and not in "reloaded"
    mark = daemon.mark()
    daemon.write_conf(conf(direct, {"email_queue": email_queue(rig.catcher)}, fallback_poll="1h"))
    daemon.reload()
    daemon.wait_log("reloaded", start=mark)
    rig.send("direct@example.test")
    rig.catcher.wait_to("direct@example.test")


def test_require_notify_refuses_a_pooler(rig, pooler):
    rig.login = pooler
    daemon = rig.start(ready=False, require_notify="yes")
    daemon.wait_log(lambda r: r.get("process") == "worker" and "require_notify" in r.get("text", ""), timeout=20)
