"""A transaction pooler in between: noticed, said, polled around, left behind again."""

import pytest

from lib.daemon import conf
from lib.pooler import PGBOUNCER, pooler as start_pooler
from lib.rig import email_queue


@pytest.fixture
def pooler(rig):
    """pgbouncer in transaction mode in front of the rig's database; its conninfo."""
    if not PGBOUNCER:
        pytest.skip("pgbouncer is not installed")
    with start_pooler(rig.cluster, rig.dbname, "pgmqd") as conninfo:
        yield conninfo


def test_deaf_behind_a_pooler_and_back(rig, pooler):
    """Mails go out by polling; on a direct connection, after a reload, notifications wake again."""
    direct, rig.login = rig.login, pooler
    daemon = rig.start(ready=False, poll_when_deaf="200ms", fallback_poll="1h")
    daemon.wait_log(lambda r: r.get("process") == "listener" and "notifications do not arrive" in r.get("text", ""))
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
    daemon.wait_log(lambda r: r.get("process") == "worker" and "require_notify" in r.get("text", ""))
