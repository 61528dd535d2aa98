"""The settings of pgmqd's sessions are its own, whatever role, database or connection string say; and TLS keeps nothing back."""

import json

import pytest

from lib import certs
from lib.paths import make_temp_dir
from lib.proxy import Proxy
from lib.stand import wait_until

NULL = {"email_queue": {"plugin": "null"}, "large": {"plugin": "null"}}
LOOK = "insert into public.seen select name, setting from pg_catalog.pg_settings"


def settings_of(rig, **env):
    """{setting: value} in the session of the daemon's scheduler, as a command of a schedule sees them."""
    rig.db.execute("create table public.seen (name text, setting text)")
    rig.db.execute("insert into pgmqd.schedule (name, cron, command, runner, next_due) values ('look', '0 0 1 1 *', %s, 'pgmqd', now())", [LOOK])
    rig.start(queues=NULL, env=env)
    rig.daemon.wait_log(lambda r: r.get("schedule") == "look" and r.get("status") == "ok")
    return dict(rig.db.execute("select name, setting from public.seen").fetchall())


def test_options_of_the_user_stay_and_ours_are_added(rig):
    rig.login += " options='-c work_mem=5MB -c statement_timeout=1ms'"
    seen = settings_of(rig)
    assert (seen["work_mem"], seen["statement_timeout"], seen["TimeZone"]) == ("5120", "600000", "UTC")


def test_pgoptions_stay_and_ours_are_added(rig):
    seen = settings_of(rig, PGOPTIONS="-c work_mem=6MB -c datestyle=german")
    assert (seen["work_mem"], seen["DateStyle"], seen["jit"]) == ("6144", "ISO, MDY", "off")


def test_a_service_file_names_the_server(rig, tmp_path):
    service = tmp_path / "services"
    service.write_text(f"[pgmqd_test]\nhost={rig.cluster.dir}\nport={rig.cluster.port}\ndbname={rig.dbname}\nuser=pgmqd\noptions=-c work_mem=7MB\n")
    service.chmod(0o644)
    rig.login = "service=pgmqd_test"
    assert settings_of(rig, PGSERVICEFILE=str(service))["work_mem"] == "7168"


@pytest.fixture
def tls(own_rig):
    """A TLS server in front of the database, whose certificate pgmqd verifies."""
    rig, dir = own_rig, make_temp_dir("pgmqd-tls-")
    certs.make(dir)
    listening = Proxy("127.0.0.1", rig.cluster.port, tls=(dir / "server.pem", dir / "server.key"))
    rig.login = f"host=localhost hostaddr=127.0.0.1 port={listening.port} dbname={rig.dbname} user=pgmqd sslmode=verify-full sslrootcert={dir}/ca.pem"
    yield listening
    listening.close()


LARGE = (7000, 7400, 7800, 7990)


@pytest.mark.parametrize("record, sizes, numbers", [
    (1, (300,), (1, 3)), (100, (7000, 7990), (4, 7)), *[(record, LARGE, (4, 5, 7, 8, 11)) for record in (8191, 8192, 8193, 16384)]],
    ids=lambda v: str(v) if isinstance(v, int) else "")
def test_notifications_do_not_wait_in_tls(own_rig, tls, record, sizes, numbers):
    """The last of a burst is the one that wakes the queue; what the records end with is all that is left to be read. Where records are
    small, each read takes one, whatever the burst's size: then it is the number of records that matters, and a few hundred are many."""
    rig = own_rig
    rig.start(queues=NULL)
    rig.daemon.wait_log(lambda r: r.get("process") == "worker" and "connected" in r.get("text", ""))
    rig.daemon.wait_settled(msg_id=rig.enqueue({}))
    tls.record = record
    for size in sizes:
        for number in numbers:
            tls.stall("down")
            with rig.connect(autocommit=False) as db:
                for n in range(number):
                    db.execute("select pg_notify('pgmqd', %s)", [f"{n}{'x' * size}"])
                msg_id = db.execute("select * from pgmq.send('email_queue', '{}'::jsonb, 0)").fetchone()[0]
            before = tls.passed("down")
            tls.resume()
            wait_until("the burst is sent", lambda: tls.passed("down") > before + number * size)
            rig.daemon.wait_settled(msg_id=msg_id, timeout=6)


@pytest.mark.parametrize("record", [1000, 8192, 16384])
def test_claims_do_not_wait_in_tls(own_rig, tls, record):
    """The answer to a claim may be large."""
    rig = own_rig
    rig.db.execute("select pgmqd.create_queue('large')")
    rig.start(queues=NULL)
    rig.daemon.wait_log(lambda r: r.get("process") == "worker" and "connected" in r.get("text", ""))
    tls.record = record
    for size in (8000, 16000, 33000, 65000, 130000, 260000, 1000000):
        for more in range(0, 1600, 400):
            rig.daemon.wait_settled(queue="large", msg_id=rig.enqueue(json.dumps({"x": "y" * (size + more)}), "large"), timeout=6)
