"""What is known outranks what is new: no error of the database makes an effect happen twice, and no message is blamed for it."""

import re

import pytest

from lib.httpclient import Http, free_port
from lib.stand import wait_until

RAISES = """create function public.refuse() returns trigger language plpgsql as $$ begin
  if new.message->>'refuse' = 'yes' then raise exception 'not this one'; end if; return new; end $$;
create trigger refuse before insert on pgmq.a_work for each row execute function public.refuse();"""


def effects(stand, uuid):
    return sum(s.uuid == uuid and s.what == "E" for s in stand.steps())


def archived(stand, uuid):
    return stand.value("select count(*) from pgmq.a_work where message->>'uuid' = %s", [uuid])


def test_a_lock_is_not_the_plugins_fault(stand):
    """The plugin's own table is locked for longer than two attempts would last: the message is settled as it was decided."""
    stand.start(queue={"max_attempts": 2})
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("lock table public.effects in access exclusive mode")
        (uuid,) = stand.send(do="done_with")
        wait_until("the statement is tried again", lambda: stand.logged("trying again") >= 2, 90)
        other.rollback()
    stand.drain()
    assert effects(stand, uuid) == 1 and archived(stand, uuid) == 1


def test_an_archive_that_is_locked_longer_than_the_lease(stand):
    """The leases of what is settled and not stored are kept, so that no message is delivered again."""
    stand.start(queue={"visibility_timeout": "2s"})
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("lock table pgmq.a_work in share mode")
        ids = stand.send(5)
        stand.effect_of(ids)
        first = stand.value("select max(vt) from pgmq.q_work")
        wait_until("three leases have passed, and the last one holds", lambda: stand.value(
            "select min(vt) > %s + interval '6 s' and min(vt) > clock_timestamp() from pgmq.q_work", [first]), 60)
        other.rollback()
    stand.drain()
    assert [effects(stand, i) for i in ids] == [1] * 5 and [archived(stand, i) for i in ids] == [1] * 5


def test_a_lock_in_the_way_of_a_first_statement(stand):
    """A statement that cannot be prepared for a lock is tried again; that says nothing of the tables."""
    stand.start()
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("lock table pgmq.a_work in access exclusive mode")
        (i,) = stand.send()
        wait_until("the settling is refused", lambda: stand.logged('cannot settle'))
        other.rollback()
    stand.drain()
    assert effects(stand, i) == 1 and archived(stand, i) == 1
    assert not stand.logged("26000") and not stand.logged("looking at the queue's tables again")


def test_an_outcome_that_is_refused_for_its_content(stand):
    """That one message becomes a dead letter with the cause; those of its batch are archived; no effect is repeated."""
    stand.db.execute(RAISES)
    stand.start(queue={"max_in_flight": 50})
    ids = stand.send(30) + stand.send(1, refuse="yes") + stand.send(30)
    stand.drain()
    assert stand.value("select count(*) from pgmq.a_work") == 60
    assert stand.value("select headers->'pgmqd_dead'->>'class' from pgmq.q_work_dlq") == "unstored"
    assert "not this one" in stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq")
    assert [effects(stand, i) for i in ids] == [1] * 61


def test_a_slow_statement_of_a_plugin_ends_no_lease_of_others(stand):
    """Two queues in one process: while one's statement sleeps for more than a lease, the other's message is kept and done."""
    stand.start(queues={"work": {"group": "g"}, "other": {"group": "g", "visibility_timeout": "2s"}})
    (slow,) = stand.send(queue="other", sleep_ms=5000)
    stand.begun([slow])
    stand.send(do="done_with", sql="select pg_sleep(5), $1::text")
    stand.drain(queue="other")
    stand.drain()
    assert effects(stand, slow) == 1 and not [s for s in stand.steps() if s.what == "C"]


def test_missing_rights_are_not_a_message_too_large(stand):
    """Claims fail for a while because of rights: a large message has no attempt by it."""
    port = free_port()
    stand.start(stand.cluster.conninfo(stand.dbname, user="pgmqd"), queue={"max_attempts": 1, "visibility_timeout": "30s"}, http_listen=f"127.0.0.1:{port}")
    stand.db.execute("revoke update on pgmq.q_work from pgmqd; revoke update (vt, read_ct) on pgmq.q_work from pgmqd")
    (big,) = stand.send(pad="y" * 1_200_000)
    client = Http(port)
    failed = re.compile(r"^pgmqd_claims_failed_total\{.*\} (\d+)$", re.M)
    wait_until("claims have failed", lambda: int(failed.search(client("/metrics")[2]).group(1)) >= 5, 60)
    stand.db.execute("select pgmqd.grant_queue('work')")
    stand.drain()
    assert effects(stand, big) == 1 and archived(stand, big) == 1


@pytest.mark.parametrize("how", ["reconnect", "restart", "reload"])
def test_columns_that_an_update_of_pgmq_adds(stand, how):
    """Nobody has granted the new columns yet: messages are done, retried and dead-lettered all the same."""
    tables = ("q_work", "a_work", "q_work_dlq", "a_work_dlq")
    for table in tables:
        stand.db.execute(f"alter table pgmq.{table} drop column headers, drop column if exists last_read_at")
    stand.ledger.direct = True  # pgmq's newer functions fill columns that are not there yet
    daemon = stand.start(stand.cluster.conninfo(stand.dbname, user="pgmqd"))
    stand.effect_of(stand.send())
    for table in tables:
        stand.db.execute(f"alter table pgmq.{table} add column headers jsonb, add column last_read_at timestamptz")
    if how == "restart":
        stand.stop(daemon)
        stand.start(stand.cluster.conninfo(stand.dbname, user="pgmqd"))
    elif how == "reload":
        daemon.reload()
    else:
        stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pgmqd' and datname = current_database()")
    ids = stand.send(2) + stand.send(do="fail")
    stand.drain()
    assert all(archived(stand, i) for i in ids[:2])
    assert stand.value("select count(*) from pgmq.q_work_dlq where headers ? 'pgmqd_dead'") == 1
    assert not [r for d in stand.daemons for r in d.records() if "42501" in r.get("text", "")]


@pytest.mark.parametrize("how", ["notified", "reconnected"])
def test_a_question_about_a_pause_that_is_lost(stand, how):
    """The queue stays paused, and goes on when it is resumed."""
    daemon = stand.start()
    stand.db.execute("select pgmqd.pause('work')")
    daemon.wait_log(lambda r: "queue paused" in r.get("text", ""))
    with stand.cluster.connect(stand.dbname, autocommit=False) as other:
        other.execute("lock table pgmqd.pauses in access exclusive mode")
        (uuid,) = stand.send()
        if how == "notified":
            stand.db.execute("select pg_notify('pgmqd', '!pause work')")
        else:
            stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgmqd worker work'")
        wait_until("the question is lost", lambda: stand.logged("cannot find out whether an operator"), 60)
        other.rollback()
    stand.db.execute("select pg_notify('pgmqd', '!pause work')")
    wait_until("the database has answered", lambda: stand.value(
        "select count(*) from pg_stat_activity where application_name = 'pgmqd worker work' and state = 'idle'") == 1)
    assert effects(stand, uuid) == 0
    stand.db.execute("select pgmqd.resume('work')")
    stand.effect_of([uuid])


def test_only_what_was_in_hand_runs_alone(stand):
    """A worker is killed with one message in hand; fifty that wait for a retry are done before that one's lease has ended."""
    daemon = stand.start(queue={"max_in_flight": 20, "visibility_timeout": "10s"})
    stand.drain()
    (suspect,) = stand.send(sleep_ms=60_000, until=1)
    stand.begun([suspect])
    daemon.kill_child("worker")
    retries = [stand.value("insert into pgmq.q_work (vt, read_ct, message) values (clock_timestamp(), 1, jsonb_build_object('uuid', %s::text, 'sleep_ms', 100))"
                           " returning message->>'uuid'", [f"retry-{i}"]) for i in range(50)]
    stand.effect_of(retries)
    assert sum(s.uuid == suspect and s.what == "B" for s in stand.steps()) == 1, "the suspect came back before the others were done"
    assert stand.logged("died with 1 messages in hand")
    stand.db.execute("update pgmq.q_work set message = message - 'sleep_ms' where message->>'uuid' = %s", [suspect])
    stand.drain()
