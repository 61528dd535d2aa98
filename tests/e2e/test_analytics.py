"""Events: each message is one row and counted once, whatever is killed in between."""

import pytest

from lib import app

QUEUE = "analytics_queue"
ENOUGH = {"plugin": "analytics", "max_in_flight": 500, "backoff_min": "10ms", "backoff_max": "20ms"}


def send(db, n, event="event"):
    db.execute("insert into pgmq.q_analytics_queue (vt, message) select now(), jsonb_build_object('event', %s::text || i %% 3,"
               " 'occurred_at', '2026-11-21T22:30:00Z', 'properties', jsonb_build_object('n', i)) from generate_series(1, %s) i", [event, n])


def wait_empty(rig, n, timeout=60):
    """Until the archive has n messages, woken by the log's lines."""
    start = 0
    while True:
        mark = rig.daemon.mark()
        if rig.db.execute("select count(*) from pgmq.a_analytics_queue").fetchone()[0] >= n:
            return
        rig.daemon.wait_log(lambda r: r.get("text") == "settled", timeout, start=max(start, mark - 1))
        start = mark


def counts(db):
    return db.execute("select (select count(*) from pgmqd.analytics_events), (select count(distinct (queue, msg_id)) from pgmqd.analytics_events),"
                      " (select coalesce(sum(events), 0) from pgmqd.analytics_daily), (select count(*) from pgmq.a_analytics_queue)").fetchone()


def test_events_of_a_checkup(rig):
    rig.start(queues={QUEUE: ENOUGH})
    customer = app.new_customer(rig.db, "olga@example.test", "Ольга Примерова")
    checkup = app.start_checkup(rig.db, customer)
    app.complete_checkup(rig.db, checkup)
    rig.daemon.wait_settled(queue=QUEUE, outcome="done")
    (event,) = app.rows(rig.db, "select * from pgmqd.analytics_events")
    assert event["event"] == "checkup_completed"
    assert event["properties"]["user_id"] == str(customer)
    assert app.rows(rig.db, "select event, events from pgmqd.analytics_daily") == [{"event": "checkup_completed", "events": 1}]


def test_batches_and_days(rig):
    """Waiting messages share statements; a day is one of the time zone of the settings."""
    send(rig.db, 1200)
    rig.start(queues={QUEUE: ENOUGH})
    wait_empty(rig, 1200)
    assert counts(rig.db) == (1200, 1200, 1200, 1200)
    assert app.rows(rig.db, "select day::text, event, events::int from pgmqd.analytics_daily order by event") == [
        {"day": "2026-11-22", "event": f"event{n}", "events": 400} for n in range(3)]
    transactions = rig.db.execute("select count(distinct xmin::text) from pgmqd.analytics_events").fetchone()[0]
    assert transactions <= 12, transactions


def test_one_bad_event_does_not_spoil_its_batch(rig):
    """The database refuses one statement: the others of its batch are recorded one by one."""
    rig.db.execute("alter table pgmqd.analytics_events add constraint refused check (event <> 'evil0')")
    send(rig.db, 9)
    send(rig.db, 1, event="evil")
    rig.db.execute("update pgmq.q_analytics_queue set message = message || '{\"event\": \"evil0\"}' where message->>'event' like 'evil%'")
    rig.start(queues={QUEUE: {**ENOUGH, "max_attempts": 2}})
    rig.daemon.wait_settled(queue=QUEUE, outcome="fail")
    wait_empty(rig, 9)
    assert counts(rig.db) == (9, 9, 9, 9)
    (dead,) = rig.dead(QUEUE)
    assert "refused" in dead["headers"]["pgmqd_dead"]["reason"]


@pytest.mark.parametrize("message, reason", [
    ({"occurred_at": "2026-11-21T10:00:00Z"}, "event is missing"),
    ({"event": ""}, "event is missing"),
    ({"event": "x" * 101}, "event is missing"),
    ({"event": "x", "occurred_at": "yesterday"}, "occurred_at is no time"),
    ({"event": "x", "occurred_at": "2026-02-30T10:00:00Z"}, "occurred_at is no time"),
    ({"event": "x", "occurred_at": "2026-11-21T10:00:00"}, "occurred_at is no time"),
    ({"event": "x", "properties": [1]}, "properties is no object"),
    ("[1]", "event is missing"),
])
def test_bad_messages(rig, message, reason):
    rig.start(queues={QUEUE: ENOUGH})
    rig.enqueue(message, queue=QUEUE)
    rig.daemon.wait_settled(queue=QUEUE, outcome="fail")
    assert reason in rig.dead(QUEUE)[0]["headers"]["pgmqd_dead"]["reason"]
    assert counts(rig.db)[:3] == (0, 0, 0)


@pytest.mark.parametrize("at", ["2026-11-21T10:00:00Z", "2024-02-29T10:00:00.123456+03:00", "2026-11-21T23:59:59-14:00", None])
def test_good_times(rig, at):
    rig.start(queues={QUEUE: ENOUGH})
    rig.enqueue({"event": "x", "occurred_at": at}, queue=QUEUE)
    rig.daemon.wait_settled(queue=QUEUE, outcome="done")
    assert counts(rig.db) == (1, 1, 1, 1)


def test_exactly_once_when_workers_are_killed(rig):
    """Workers die by SIGKILL while batches are under way, sessions are ended under them: no event is lost, none is doubled."""
    total = 0
    rig.start(queues={QUEUE: {**ENOUGH, "visibility_timeout": "1s", "max_in_flight": 50, "max_attempts": 1000}})
    for turn in range(8):
        mark = rig.daemon.mark()
        send(rig.db, 400)
        total += 400
        rig.daemon.wait_settled(queue=QUEUE, outcome="done", start=mark)
        if turn % 2:
            rig.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgmqd worker%%' and datname = %s",
                           [rig.dbname])
        else:
            rig.daemon.kill_child("worker analytics_queue")
    wait_empty(rig, total)
    assert counts(rig.db) == (total, total, total, total)
