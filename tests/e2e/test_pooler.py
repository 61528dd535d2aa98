"""A pooler in between: a session pool is as good as none; a transaction pool is noticed, said, polled around, left behind again."""

import pytest

from lib.daemon import conf, run
from lib.httpclient import Http, free_port
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
    """Mails go out by polling, and /health says so; on a direct connection, after a reload, notifications wake again."""
    direct, rig.login = rig.login, pooler
    http = f"127.0.0.1:{free_port()}"
    daemon = rig.start(ready=False, poll_when_deaf="200ms", fallback_poll="1h", http_listen=http)
    daemon.wait_log(lambda r: r.get("process") == "listener" and "notifications do not arrive" in r.get("text", ""))
    for n in range(5):
        rig.send(f"pooled{n}@example.test")
    for n in range(5):
        rig.catcher.wait_to(f"pooled{n}@example.test")
    assert len(rig.catcher.mails()) == 5
    health = Http(int(http.rpartition(":")[2]))
    assert health.json("/health") == (200, {"status": "ok", "notes": ["listener: not receiving notifications: queues are polled"]})
    locks = rig.db.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()[0]
    assert locks == 0, "a session lock was left with the pooler"
    rig.login = direct
    daemon.wait_ready()  # a reload before that would end in the first "ready" and not in "reloaded"
    mark = daemon.mark()
    daemon.write_conf(conf(direct, {"email_queue": email_queue(rig.catcher)}, fallback_poll="1h", http_listen=http))
    daemon.reload()
    daemon.wait_log("reloaded", start=mark)
    rig.send("direct@example.test")
    rig.catcher.wait_to("direct@example.test")
    assert health.json("/health") == (200, {"status": "ok"})


def test_require_notify_refuses_a_pooler(rig, pooler):
    rig.login = pooler
    daemon = rig.start(ready=False, require_notify="yes")
    waiting = rig.enqueue({})
    mark = 0
    for _ in range(2):  # the one that comes after it knows at once
        daemon.wait_log(lambda r: r.get("process") == "worker" and "require_notify" in r.get("text", ""), start=mark)
        mark = daemon.mark()
        daemon.reload()
    assert [row["read_ct"] for row in rig.rows("q_email_queue")] == [0], f"message {waiting} was claimed"
    rig.db.execute("truncate pgmq.q_email_queue")


def test_require_notify_takes_a_session_pooler(rig):
    """Notifications come through it: that is all that is required. Also after the pooler was away."""
    if not PGBOUNCER:
        pytest.skip("pgbouncer is not installed")
    with start_pooler(rig.cluster, rig.dbname, "pgmqd", "session", size=20) as rig.login:
        daemon = rig.start(queues={"email_queue": {"plugin": "null"}}, require_notify="yes")
        daemon.wait_settled(msg_id=rig.enqueue({}))
        for _ in range(3):
            rig.db.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'pgmqd'")
            daemon.wait_settled(msg_id=rig.enqueue({}))
        assert not [r for r in daemon.records() if "require_notify" in r.get("text", "")]


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pause_is_noticed_behind_a_pooler_of_one_session(rig, mode):
    """All sessions of pgmqd share one backend, which hears what itself has sent: that proves nothing. The worker asks for pauses."""
    if not PGBOUNCER:
        pytest.skip("pgbouncer is not installed")
    with start_pooler(rig.cluster, rig.dbname, "pgmqd", mode, size=1) as rig.login:
        daemon = rig.start(queues={"email_queue": {"plugin": "null"}}, ready=False, poll_when_deaf="200ms", fallback_poll="1h")
        daemon.wait_log(lambda r: r.get("process") == "listener" and "notifications do not arrive" in r.get("text", ""))
        daemon.wait_settled(msg_id=rig.enqueue({}))
        assert run("pause", "email_queue", "-d", rig.conninfo).returncode == 0
        daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("text", "").startswith("queue paused"))
        mark, waiting = daemon.mark(), rig.enqueue({})
        assert run("resume", "email_queue", "-d", rig.conninfo).returncode == 0
        daemon.wait_log("queue resumed", start=mark)
        daemon.wait_settled(msg_id=waiting, start=mark)
        listens = rig.db.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()[0]
        assert not listens, "a session lock was left with the pooler"


def test_notifications_arrive_through_a_session_pooler(rig):
    """The pooled session has pgmqd's settings in each transaction, although the pooler drops them at the start."""
    if not PGBOUNCER:
        pytest.skip("pgbouncer is not installed")
    rig.db.execute(f"alter role pgmqd in database {rig.dbname} set datestyle = 'German, DMY'")
    rig.db.execute(f"alter role pgmqd in database {rig.dbname} set default_transaction_read_only = on")
    with start_pooler(rig.cluster, rig.dbname, "pgmqd", "session", size=20) as rig.login:
        daemon = rig.start(queues={"email_queue": {"plugin": "null"}}, poll_when_deaf="1h", fallback_poll="1h")
        for _ in range(3):
            daemon.wait_settled(msg_id=rig.enqueue({}))
        assert not [r for r in daemon.records() if "notifications do not arrive (a notif" in r.get("text", "")]


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_settings_of_the_role_do_not_reach_pooled_transactions(rig, mode):
    if not PGBOUNCER:
        pytest.skip("pgbouncer is not installed")
    for setting in ("datestyle = 'German, DMY'", "timezone = 'Asia/Jakarta'", "default_transaction_read_only = on",
                    "default_transaction_isolation = serializable", "array_nulls = off", "search_path = public"):
        rig.db.execute(f"alter role pgmqd in database {rig.dbname} set {setting}")
    with start_pooler(rig.cluster, rig.dbname, "pgmqd", mode) as rig.login:
        daemon = rig.start(queues={"email_queue": {"plugin": "null"}}, ready=False, poll_when_deaf="200ms", fallback_poll="1h")
        for _ in range(3):
            daemon.wait_settled(msg_id=rig.enqueue({}))
