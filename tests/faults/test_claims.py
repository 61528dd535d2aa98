"""test_claims.py: a claim holds one message, in one table, on one history: whatever gets its number later belongs to somebody else."""

import pytest
from lib.daemon import run
from lib.paths import directories
from lib.stand import Stand, wait_until

LONG = "1h"  # no poll and no lease helps within a test


def effects(stand, text, what="E"):
    """How often a message had its effect, or was begun."""
    return len([s for s in stand.steps() if s.uuid == text and s.what == what])


def begun(stand, text, n=1):
    """Until a message was handed to the plugin so many times."""
    wait_until(f"{text} begun", lambda: effects(stand, text, "B") >= n)


def put(stand, uuid, queue="work", **fields):
    """One message with a name of its own, beside the ledger; its number."""
    from psycopg.types.json import Jsonb

    return stand.value(f"insert into pgmq.q_{queue} (vt, message) values (clock_timestamp(), %s) returning msg_id",
                       [Jsonb({"uuid": uuid, **fields})])


def archived(stand, uuid):
    """Rows of the archive that have this message: (number, read_ct)."""
    return stand.db.execute("select msg_id, read_ct from pgmq.a_work where message->>'uuid' = %s", [uuid]).fetchall()


def waiting(stand, uuid):
    return stand.value("select count(*) from pgmq.q_work where message->>'uuid' = %s", [uuid])


@pytest.mark.parametrize("again", ["drop and create", "a lost tail"])
def test_another_message_gets_the_number(stand, again):
    """The old claim's outcome is refused, and the new message is delivered on its own account."""
    daemon = stand.start(queue={"visibility_timeout": LONG}, fallback_poll="1s")
    old = put(stand, "old", sleep_ms=1500)
    begun(stand, "old")
    mark = daemon.mark()
    if again == "drop and create":
        stand.db.execute("select pgmq.drop_queue('work')")
        stand.db.execute("select pgmqd.create_queue('work')")
        new = put(stand, "new", sleep_ms=4000)
    else:  # what a standby that became the primary may have: the number in another message, claimed by another worker
        stand.db.execute("delete from pgmq.q_work where msg_id = %s", [old])
        stand.db.execute("insert into pgmq.q_work (msg_id, read_ct, vt, message) overriding system value values (%s, 1,"
                         " clock_timestamp() + interval '3 s', '{\"uuid\": \"new\"}')", [old])
        new = old
    assert new == old
    daemon.wait_log(lambda r: "lease lost" in r["text"], start=mark)
    assert not archived(stand, "new") and waiting(stand, "new") == 1, "the old one's outcome took the new one away"
    wait_until("the new one is through", lambda: archived(stand, "new"), timeout=30)
    assert not archived(stand, "old")


def test_set_vt_takes_the_message_away(stand):
    daemon = stand.start(queue={"visibility_timeout": LONG}, fallback_poll=LONG)
    n = put(stand, "m", sleep_ms=1000)
    begun(stand, "m")
    mark = daemon.mark()
    stand.db.execute("select pgmq.set_vt('work', %s, 3600)", [n])
    daemon.wait_log(lambda r: "lease lost" in r["text"], start=mark)
    assert waiting(stand, "m") == 1 and not archived(stand, "m")


def test_extended_leases_are_the_same_claim(stand):
    """Three leases long, and settled by the claim that began it."""
    stand.start(queue={"visibility_timeout": "1s"}, fallback_poll=LONG)
    put(stand, "m", sleep_ms=3000)
    wait_until("archived", lambda: archived(stand, "m"))
    assert archived(stand, "m")[0][1] == 1 and effects(stand, "m") == 1


@pytest.mark.parametrize("outcome", ["done", "done_with"])
def test_archive_holds_the_number_already(stand, outcome):
    """Numbers begin again: what is done is archived under a number below zero, once, and says which it had."""
    stand.start(fallback_poll=LONG)
    n = put(stand, "first")
    wait_until("archived", lambda: archived(stand, "first"))
    stand.db.execute("truncate pgmq.q_work restart identity")
    m = put(stand, "second", do=outcome)
    wait_until("archived", lambda: archived(stand, "second"))
    assert m == n and archived(stand, "second")[0][0] < 0 and archived(stand, "first")[0][0] == n
    assert stand.value("select headers->>'pgmqd_msg_id' from pgmq.a_work where message->>'uuid' = 'second'") == str(n)
    assert effects(stand, "second") == 1 and stand.value("select count(*) from pgmq.q_work") == 0


def test_locked_row_stalls_nothing_else(stand):
    """Another session has locked a row in hand: the others are archived, leases are extended, and it follows when it is free."""
    stand.start(queue={"visibility_timeout": "3s", "max_in_flight": 50}, fallback_poll=LONG)
    put(stand, "held", sleep_ms=300)
    begun(stand, "held")
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("select from pgmq.q_work where message->>'uuid' = 'held' for update")
        ids = stand.send(30)
        stand.effect_of(ids)
        wait_until("the others are archived", lambda: stand.value("select count(*) from pgmq.q_work") == 1)
        assert waiting(stand, "held") == 1
        other.rollback()
    wait_until("archived", lambda: archived(stand, "held"))
    assert effects(stand, "held") == 1 and stand.logged("lease lost") == 0


@pytest.fixture
def unchecked(cluster):
    """A stand in a database whose encoding takes every byte, so that a row may have what is no text for its reader."""
    with cluster.connect() as db:
        db.execute("drop database if exists unchecked with (force)")
        db.execute("create database unchecked encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0")
        db.execute("alter database unchecked set client_encoding = 'UTF8'")
    done = run("migrate", "-d", cluster.conninfo("unchecked"), "--sql-dir", directories()["sql_dir"])
    assert done.returncode == 0, done.stderr
    with Stand(cluster, "unchecked") as s:
        s.db.execute("select pgmqd.create_queue('work')")
        yield s
    cluster.dropdb("unchecked")


@pytest.mark.parametrize("lease", ["3s", "1h"])
def test_row_that_cannot_be_read(unchecked, lease):
    """It is the only one without its text. Those that are enqueued while it is looked for are delivered: it costs them no attempt, and their leases
    begin with the statement that claims them."""
    body = "begin perform pg_catalog.pg_sleep(2); return new; end"
    unchecked.db.execute(f"create function public.slow() returns trigger language plpgsql as '{body}'")
    unchecked.start(fallback_poll=LONG, queue={"max_attempts": 1, "visibility_timeout": lease})
    unchecked.db.execute("create trigger slow before update on pgmq.q_work for each row when (new.message->>'uuid' = 'odd' and new.vt > now())"
                         " execute function public.slow()")
    unchecked.db.execute("insert into pgmq.q_work (vt, message) values (clock_timestamp(), jsonb_build_object('uuid', 'odd', 'x', chr(129)))")
    wait_until("it is being claimed", lambda: unchecked.value("select count(*) from pg_stat_activity where wait_event = 'PgSleep'"))
    unchecked.effect_of(unchecked.send(5))
    wait_until("all are through", lambda: unchecked.value("select count(*) from pgmq.q_work") == 0)
    reasons = unchecked.db.execute("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq").fetchall()
    assert len(reasons) == 1 and "the database cannot read the message: invalid byte sequence" in reasons[0][0], reasons


@pytest.mark.parametrize("poison", ["priority", "read_ct"])
def test_number_that_overflows(stand, poison):
    """A row that cannot be claimed as it is does not keep the others from being claimed."""
    if poison == "priority":
        stand.db.execute("select pgmqd.prioritize_queue('work')")
    stand.start(fallback_poll=LONG, queue={"max_attempts": 3})
    with stand.db.transaction():
        if poison == "priority":
            stand.db.execute("select pgmq.send('work', '{\"uuid\": \"odd\", \"priority\": 1e400}')")
        else:
            stand.db.execute("insert into pgmq.q_work (vt, read_ct, message) values (clock_timestamp(), 2147483647, '{\"uuid\": \"odd\"}')")
        ids = stand.send(5)
    stand.effect_of(ids)
    wait_until("the odd one is through", lambda: stand.value("select count(*) from pgmq.q_work") == 0)
