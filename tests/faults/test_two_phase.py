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


def test_prepare_while_asleep(stand):
    """It is not refused, and what it brings is found within one poll after its COMMIT PREPARED."""
    stand.start(fallback_poll="2s")
    stand.effect_of(stand.send())
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("select pgmq.send('work', '{\"uuid\": \"m\"}')")
        other.execute("prepare transaction 'asleep'")
    stand.db.execute("commit prepared 'asleep'")
    wait_until("the effect", lambda: any(s.uuid == "m" and s.what == "E" for s in stand.steps()))
