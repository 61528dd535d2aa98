"""test_two_phase.py: messages of transactions that are prepared (PREPARE TRANSACTION), where the server allows it."""

import pytest
from lib import rig as rigs
from lib.pgcluster import Cluster
from lib.stand import Stand, wait_until


@pytest.fixture(scope="module")
def two_phase():
    with Cluster(tcp=True, settings={"max_prepared_transactions": "10"}) as c:
        done = rigs.migrate(c.createdb("migrated"))
        assert done.returncode == 0, done.stderr
        with c.connect("migrated") as db:
            db.execute("select pgmqd.create_queue('work'), pgmqd.create_queue('other')")
        yield c


@pytest.fixture
def stand(two_phase, request):
    two_phase.createdb("t", "migrated")
    with Stand(two_phase, "t") as s:
        yield s
    two_phase.dropdb("t")


def test_notifications_wait_for_the_end(stand):
    """What is committed as usual is heard of; no row is left behind."""
    stand.start(fallback_poll="1h")
    for _ in range(3):
        stand.effect_of(stand.send())
    assert stand.value("select count(*) from pgmqd.wakeups") == 0


def enqueued(stand, name, words="prepare transaction"):
    """A message of a transaction that is prepared; both have that name."""
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("select pgmq.send('work', jsonb_build_object('uuid', %s::text))", [name])
        other.execute(f"{words} '{name}'")


@pytest.mark.parametrize("words", ["prepare transaction", "-- the end\nPREPARE /* it */ -- for now\n TRANSACTION"])
def test_prepare_while_asleep(stand, words):
    """It is not refused, and what it brings is heard of after its COMMIT PREPARED: no poll comes."""
    stand.start(fallback_poll="1h")
    stand.effect_of(stand.send())
    for name in ("asleep", "again"):
        enqueued(stand, name, words)
        stand.db.execute(f"commit prepared '{name}'")
        stand.effect_of([name])
    wait_until("no row is left", lambda: stand.value("select count(*) from pgmqd.wakeups") == 0)


def test_prepare_while_awake(stand):
    """The producer was silent; the worker does not fall asleep before it has found the message."""
    stand.start(fallback_poll="1h")
    traffic = stand.produce(300)
    wait_until("it is awake", lambda: stand.value("select count(*) from pg_locks where locktype = 'advisory' and objid::int4 = -2"))
    enqueued(stand, "awake")
    traffic.stop()
    stand.drain()
    stand.db.execute("commit prepared 'awake'")
    stand.effect_of(["awake"])
