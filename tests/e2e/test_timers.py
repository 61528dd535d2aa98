"""Delayed messages, retries and leases that ran out come at their time and without a poll; dates that never come do no harm."""

import json
import os
import signal

import pytest

from lib.stand import SLOW, Stand, boottime_ms, wait_until


@pytest.fixture
def stand(cluster, database):
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work')")
    with Stand(cluster, database) as s:
        yield s


def begun(stand, msg_id):
    """Boottimes in ms at which the message was delivered."""
    return [s.at for s in stand.steps() if s.what == "B" and s.msg_id == msg_id]


def due(stand, msg_id):
    """The boottime in ms at which it falls due."""
    now = boottime_ms()  # before the server reads its clock, so that nothing can seem to come too early
    return now + stand.value("select extract(epoch from vt - clock_timestamp())::float8 * 1000 from pgmq.q_work where msg_id = %s", [msg_id])


def send(stand, delay_ms=0, **message):
    return stand.value("insert into pgmq.q_work (vt, message) values (clock_timestamp() + %s * interval '1 ms', %s) returning msg_id",
                       [delay_ms, json.dumps(message)])


SEPARATE = {"fallback_poll": "1h", "shared_poll": "1h"}


def lateness(what, late, capsys):
    """Never before its time; how long after it is printed (aim: 20 ms), for a machine that is busy must not fail here."""
    assert all(ms > -1 for ms in late), late  # boottimes are whole milliseconds
    with capsys.disabled():
        print(f" [{what}: {', '.join(f'{ms:.0f}' for ms in late)} ms late] ", end="")


def test_delayed_messages_come_in_order_and_on_time(stand, capsys):
    """Also those that are sent after the timer was set, for a time before it."""
    stand.start(**SEPARATE)
    ids = [send(stand, ms) for ms in (900, 300, 600, 450, 750)]
    times = {i: due(stand, i) for i in ids}
    stand.drain()
    order = [s.msg_id for s in stand.steps() if s.what == "B"]
    assert order == sorted(ids, key=times.get)
    lateness("delayed", [begun(stand, i)[0] - times[i] for i in ids], capsys)


def test_retries_come_on_time(stand, capsys):
    stand.start(**SEPARATE)
    i = send(stand, do="retry", until=3, delay_ms=400)
    late = []
    for n in (1, 2):
        wait_until(f"retry {n}", lambda: stand.value("select read_ct = %s and vt < clock_timestamp() + interval '1 s' from pgmq.q_work where msg_id = %s",
                                                     [n, i]), every=0.005)
        at = due(stand, i)
        wait_until(f"delivery {n + 1}", lambda: len(begun(stand, i)) > n, every=0.005)
        late.append(begun(stand, i)[n] - at)
    stand.drain()
    lateness("retries", late, capsys)


def test_lease_that_ran_out_is_taken_on_time(stand, capsys):
    """The dispatcher that had it is stopped; the other one has nothing but its timer."""
    first = stand.start(queue={"visibility_timeout": f"{SLOW}s"}, **SEPARATE)
    i = send(stand, sleep_ms=3600000)
    wait_until("delivered", lambda: begun(stand, i), every=0.005)
    pids = [first.process.pid, *first.children()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    stand.db.execute("update pgmq.q_work set message = '{}'")
    at = due(stand, i)
    stand.start(queue={"visibility_timeout": f"{SLOW}s"}, **SEPARATE)
    wait_until("delivered again", lambda: len(begun(stand, i)) > 1)
    wait_until("done by the other one", lambda: stand.value("select exists (select from pgmq.a_work)"))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    stand.drain()
    lateness("lease", [begun(stand, i)[1] - at], capsys)


def test_a_wait_begins_when_the_message_falls_due(stand):
    """Neither a delay nor the pause before a retry is latency: here an hour of delay has just passed."""
    daemon = stand.start(**SEPARATE)
    i = stand.value("insert into pgmq.q_work (enqueued_at, vt, message) values (now() - interval '1 h', clock_timestamp(), %s) returning msg_id",
                    [json.dumps({"do": "retry", "until": 2, "delay_ms": 10})])
    daemon.wait_settled(msg_id=i, outcome="done")
    records = [r for r in daemon.records() if r.get("text") == "settled" and r.get("msg_id") == i]
    assert [r["outcome"] for r in records] == ["retry", "done"] and all(0 <= r["wait_ms"] < 1_800_000 for r in records), records


def test_dates_that_never_come(stand):
    """They wait for ever, and all that is due is delivered beside them; dates out of any calendar are taken, too."""
    stand.db.execute("insert into pgmq.q_work (vt, message, enqueued_at) values ('infinity', '{}', now()), ('294276-12-31 23:59:59', '{}', now()),"
                     " ('-infinity', '{}', 'infinity'), ('-infinity', '{}', '294276-12-31'), ('4714-11-24 00:00:00 BC', '{}', '-infinity')")
    stand.start(**SEPARATE)
    wait_until("what is long due is done", lambda: stand.value("select count(*) from pgmq.a_work") == 3)
    steps = len(stand.steps())
    later = send(stand, 300)
    wait_until("and so is what comes", lambda: stand.value("select exists (select from pgmq.a_work where msg_id = %s)", [later]))
    assert len(stand.steps()) == steps + 2
    assert stand.value("select count(*) from pgmq.q_work where vt > now()") == 2
    stand.db.execute("truncate pgmq.q_work")
