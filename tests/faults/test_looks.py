"""test_looks.py: whatever makes a row due is found: at once where a trigger sees it, and within one poll in any case."""

import threading

import pytest
from lib.stand import wait_until

NEVER = "1h"  # no poll comes within a test: what is delivered was heard of


def effect(stand, text):
    return any(s.uuid == text and s.what == "E" for s in stand.steps())


def settled(stand):
    """The worker sleeps, and the mark is where it will be: some messages have gone through."""
    for _ in range(3):
        stand.effect_of(stand.send())
    wait_until("an empty queue", lambda: stand.value("select count(*) from pgmq.q_work") == 0)


HOUR = "insert into pgmq.q_work (vt, message) values (clock_timestamp() + interval '1 hour', '{\"uuid\": \"m\"}') returning msg_id"
EARLIER = {
    "set_vt to now": "select pgmq.set_vt('work', {}, 0)",
    "an UPDATE to now": "update pgmq.q_work set vt = clock_timestamp() where msg_id = {}",
    "an UPDATE into the past": "update pgmq.q_work set vt = '2001-01-01' where msg_id = {}",
    "an UPDATE to soon": "update pgmq.q_work set vt = clock_timestamp() + interval '1 s' where msg_id = {}",
}


@pytest.mark.parametrize("how", EARLIER)
def test_delayed_row_becomes_due_earlier(stand, how):
    stand.start(fallback_poll=NEVER)
    settled(stand)
    n = stand.value(HOUR)
    stand.effect_of(stand.send())  # the worker has looked, and knows of the hour
    stand.db.execute(EARLIER[how].format(n))
    wait_until("the effect", lambda: effect(stand, "m"))


def test_row_that_a_plugin_makes_due_earlier(stand):
    """A plugin's statement is not the dispatcher's own: the worker of that queue hears of it."""
    stand.start(queues={"work": {}, "other": {}}, fallback_poll=NEVER)
    (later,) = stand.send(queue="other", delay=3600)
    stand.effect_of(stand.send(queue="other"))
    stand.send(do="done_with", sql="update pgmq.q_other set vt = clock_timestamp() where $1 <> ''")
    wait_until("the effect", lambda: effect(stand, later))


PAST = {
    "a negative delay": "select pgmq.send('work', '{\"uuid\": \"m\"}'::jsonb, -5)",
    "a slow clock of a client": "insert into pgmq.q_work (vt, message) values (clock_timestamp() - interval '3 s', '{\"uuid\": \"m\"}')",
    "the time of long ago": "insert into pgmq.q_work (vt, message) values ('-infinity', '{\"uuid\": \"m\"}')",
    "COPY": "copy",
}


@pytest.mark.parametrize("how", PAST)
def test_row_that_was_due_before_it_came(stand, how):
    """With a message every few milliseconds all the while, so that looks begin at the mark."""
    stand.start(fallback_poll=NEVER)
    traffic = stand.produce(200)
    settled_after = stand.send(20)
    stand.effect_of(settled_after)
    if how == "COPY":
        with stand.db.cursor() as c, c.copy("copy pgmq.q_work (vt, message) from stdin") as rows:
            rows.write_row(["2001-01-01", '{"uuid": "m"}'])
    else:
        stand.db.execute(PAST[how])
    wait_until("the effect", lambda: effect(stand, "m"))
    traffic.stop()


@pytest.mark.parametrize("table", ["q_parts", "q_parts_0"])
@pytest.mark.parametrize("copied", [False, True], ids=["insert", "copy"])
def test_row_of_a_partition(stand, table, copied):
    """The trigger is on the partitions, too, though the application writes into one directly."""
    stand.db.execute("insert into pgmq.meta (queue_name, is_partitioned, is_unlogged) values ('parts', true, false)")
    stand.db.execute("create table pgmq.a_parts (like pgmq.a_work including all);"
                     " create table pgmq.q_parts (like pgmq.q_work including defaults including identity) partition by range (msg_id);"
                     " create index on pgmq.q_parts (vt);"
                     " create table pgmq.q_parts_0 partition of pgmq.q_parts for values from (0) to (1000)")
    stand.db.execute("select pgmqd.create_queue('parts')")
    stand.start(queues={"parts": {}}, fallback_poll=NEVER)
    stand.effect_of(stand.send(queue="parts"))
    if copied:
        with stand.db.cursor() as c, c.copy(f"copy pgmq.{table} (msg_id, vt, message) from stdin") as rows:
            rows.write_row([500, "2001-01-01", '{"uuid": "m"}'])
    else:
        stand.db.execute(f"insert into pgmq.{table} (msg_id, vt, message) overriding system value values (500, now(), '{{\"uuid\": \"m\"}}')")
    wait_until("the effect", lambda: effect(stand, "m"))


def test_inserts_that_waited_behind_a_lock(stand):
    """Their vt is from before the wait, and they had no transaction number while they waited."""
    stand.start(fallback_poll=NEVER)
    settled(stand)
    with stand.cluster.connect(stand.dbname, autocommit=False) as other, stand.cluster.connect(stand.dbname) as producer:
        other.execute("lock table pgmq.q_work in share mode")
        late = threading.Thread(target=lambda: producer.execute(
            "insert into pgmq.q_work (vt, message) select t, '{\"uuid\": \"m\"}' from (select clock_timestamp() t) x"))
        late.start()
        wait_until("it waits", lambda: stand.value("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))
        other.rollback()
        late.join()
        wait_until("the effect", lambda: effect(stand, "m"))


def test_traffic_does_not_put_the_poll_off(stand):
    """A row that no trigger has seen is found by the poll, with a message every 100 ms all the while."""
    stand.start(fallback_poll="2s")
    settled(stand)
    with stand.cluster.connect(stand.dbname) as other:
        other.execute("set session_replication_role = replica")
        traffic = stand.produce(10)
        other.execute("insert into pgmq.q_work (vt, message) values ('2001-01-01', '{\"uuid\": \"m\"}')")
        wait_until("the effect", lambda: effect(stand, "m"))
        traffic.stop()


def test_full_notification_queue_fails_no_commit(stand):
    """Above its share the trigger is silent; here a share that is reached at once."""
    stand.db.execute("create or replace trigger pgmqd_wakeup after insert on pgmq.q_work for each statement"
                     " execute function pgmqd.wakeup('work', 'pgmqd', '0')")
    with stand.cluster.connect(stand.dbname) as ear:
        heard = []
        ear.add_notify_handler(heard.append)
        ear.execute("listen pgmqd")
        stand.send(3)
        ear.execute("select 1")
        assert not heard and stand.value("select count(*) from pgmq.q_work") == 3


def test_reloads_between_messages(stand):
    """A reload looks at the tables while a message is on its way: what is prepared meanwhile stands in the way of nothing."""
    daemon = stand.start(fallback_poll=NEVER)
    for _ in range(60):
        ids = stand.send()
        daemon.reload()
        stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()
