"""Interrupts when idle, polling when busy: no message is left lying, with the fallback poll out of the way.

PGMQD_STRESS_SECONDS (default 12) is how long the producers go on.
"""

import os
import random
import threading
import time

import pytest

from lib.paths import TIMEOUT
from lib.valgrind import SLOW

SECONDS = float(os.environ.get("PGMQD_STRESS_SECONDS", "12"))
PRODUCERS = 16


@pytest.fixture
def queue(rig):
    """An attached queue for the null plugin."""
    rig.db.execute("select pgmqd.create_queue('stress')")
    return "stress"


def start(rig, tmp_path, log_level="warn", **more):
    """pgmqd with the null plugin on that queue, tracing its starts; the fallback poll is out of the way."""
    trace = tmp_path / "trace"
    trace.touch()
    options = {"plugin": "null", "trace": str(trace), "max_in_flight": "100", **more}
    rig.start(queues={"stress": options}, fallback_poll="1h", log_level=log_level, ready=log_level == "info")
    return trace


def produce(rig, seed, until, committed, lock):
    """Transactions of random length, in bursts and with pauses (made by the server); some roll back, some to a savepoint."""
    dice = random.Random(seed)
    with rig.connect(autocommit=False) as db:
        while time.monotonic() < until:
            burst = dice.random() < 0.7
            for _ in range(dice.randint(20, 200) if burst else 1):
                ids = [db.execute("select pgmq.send('stress', '{}')").fetchone()[0]]
                if dice.random() < 0.1:
                    db.execute("savepoint s")
                    db.execute("select pgmq.send('stress', '{}')")
                    db.execute("rollback to savepoint s")
                if dice.random() < 0.1:
                    ids.append(db.execute("select pgmq.send('stress', '{}')").fetchone()[0])
                if dice.random() < 0.15:
                    db.execute("select pg_sleep(%s)", [dice.random() * 0.05])
                if dice.random() < 0.1:
                    db.rollback()
                    continue
                db.commit()
                with lock:
                    committed.update(dict.fromkeys(ids, time.time()))
                if time.monotonic() >= until:
                    break
            db.execute("select pg_sleep(%s)", [dice.random() * 0.4])
            db.commit()


def started(trace):
    """{msg_id: seconds} of the starts in the trace."""
    out = {}
    for line in trace.read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            out.setdefault(int(words[0]), int(words[2]) / 1e9)
    return out


def settle_wait(rig, timeout=TIMEOUT):
    """Until the queue is empty; with the poll off, a lost wake-up is a message that stays."""
    deadline = time.monotonic() + timeout
    while rig.db.execute("select count(*) from pgmq.q_stress").fetchone()[0]:
        if time.monotonic() > deadline:
            return False
        rig.db.execute("select pg_sleep(0.05)")
    return True


@pytest.mark.parametrize("notify", ["adaptive", "plain"])
def test_no_wakeup_is_lost(rig, queue, tmp_path, notify, capsys):
    trace = start(rig, tmp_path, notify=notify)
    committed, lock = {}, threading.Lock()
    until = time.monotonic() + (SECONDS if notify == "adaptive" else min(SECONDS, 4))
    threads = [threading.Thread(target=produce, args=(rig, seed, until, committed, lock)) for seed in range(PRODUCERS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert settle_wait(rig), f"{rig.db.execute('select count(*) from pgmq.q_stress').fetchone()[0]} messages are left lying"
    seen = started(trace)
    assert set(committed) <= set(seen)
    with capsys.disabled():
        late = sorted(seen[i] - at for i, at in committed.items())
        print(f" [{notify}: {len(late)} messages, lateness p50 {late[len(late) // 2] * 1000:.1f} ms, worst {late[-1] * 1000:.0f} ms] ", end="")


def table_key(rig):
    """The first key of the queue's advisory locks."""
    return rig.db.execute("select 'pgmq.q_stress'::regclass::oid::int4").fetchone()[0]


def awake(rig):
    """Whether a worker holds the lock "awake"."""
    return rig.db.execute("select count(*) from pg_locks where locktype = 'advisory' and classid = %s::int4::oid and objsubid = 2"
                          " and objid = (-2)::int4::oid and mode = 'ExclusiveLock' and granted", [table_key(rig)]).fetchone()[0] > 0


def wait_awake(rig, wanted, timeout=TIMEOUT):
    deadline = time.monotonic() + timeout
    while awake(rig) != wanted:
        assert time.monotonic() < deadline, f"the lock \"awake\" was not {'taken' if wanted else 'given back'}"
        rig.db.execute("select pg_sleep(0.002)")


def heard(listener, db):
    """How many notifications of the queue came since the last call."""
    db.execute("select pg_notify('pgmqd', 'mark')")
    n = 0
    for note in listener.notifies():
        if note.payload == "mark":
            return n
        n += note.payload == "stress"


def test_producers_are_silent_while_a_worker_is_awake(rig, queue):
    with rig.connect() as listener, rig.connect() as worker, rig.connect() as producer:
        listener.execute("listen pgmqd")
        worker.execute("select pg_advisory_lock(%s, -2)", [table_key(rig)])
        producer.execute("select pgmq.send('stress', '{}')")
        assert heard(listener, producer) == 0
        worker.execute("select pg_advisory_lock(%s, -1)", [table_key(rig)])  # about to sleep: it must be told
        producer.execute("select pgmq.send('stress', '{}')")
        assert heard(listener, producer) == 1
        worker.execute("select pg_advisory_unlock_all()")
        producer.execute("select pgmq.send('stress', '{}')")
        assert heard(listener, producer) == 1


class Busy(threading.Thread):
    """Sends as fast as it can, until stopped."""

    def __init__(self, rig):
        super().__init__()
        self.rig, self.stop = rig, threading.Event()

    def run(self):
        with self.rig.connect() as db:
            while not self.stop.is_set():
                db.execute("select pgmq.send_batch('stress', array_fill('{}'::jsonb, array[10]))")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()


def test_busy_worker_is_awake_and_sleeps_again(rig, queue, tmp_path):
    trace = start(rig, tmp_path)
    with Busy(rig):
        wait_awake(rig, True)
    wait_awake(rig, False)
    last = rig.db.execute("select pgmq.send('stress', '{}')").fetchone()[0]
    assert settle_wait(rig)
    assert last in started(trace)


def test_silent_enqueue_of_a_killed_worker(rig, queue, tmp_path):
    """A transaction that was silent because the worker was awake commits after that worker was killed and replaced."""
    trace = start(rig, tmp_path, log_level="info")
    with rig.connect(autocommit=False) as silent:
        with Busy(rig):
            wait_awake(rig, True)
            quiet = silent.execute("select pgmq.send('stress', '{}')").fetchone()[0]
        assert settle_wait(rig)  # what it had in hand would come back with its lease only
        mark = rig.daemon.mark()
        rig.daemon.kill_child("worker")
        rig.daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("text") == "connected to the database", start=mark)
        rig.db.execute("select pg_sleep(1)")  # the new worker has had every chance to fall asleep
        silent.commit()
    assert settle_wait(rig, 10 * SLOW)
    assert quiet in started(trace)


def test_mark_waits_for_the_newest_transaction(rig, queue, tmp_path):
    """Looks that come while the newest transaction of all runs do not put the low-water mark above what it brings."""
    trace = start(rig, tmp_path, log_level="info")
    with rig.connect(autocommit=False) as late:
        late_id = late.execute("select pgmq.send('stress', '{}')").fetchone()[0]
        mark = rig.daemon.mark()
        rig.daemon.kill_child("worker")  # the next one looks again and again until this transaction is over
        rig.daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("text") == "connected to the database", start=mark)
        rig.db.execute("select pg_sleep(1.5)")  # the mark is a second behind
        late.commit()
    assert settle_wait(rig, 10 * SLOW)
    assert late_id in started(trace)


def test_producers_that_leave_no_gap(rig, queue, tmp_path):
    """A worker that starts among them never has "in flight", and becomes awake all the same."""
    with rig.connect(autocommit=False) as held:
        held.execute("select pgmq.send('stress', '{}')")
        trace = start(rig, tmp_path)
        with Busy(rig):
            wait_awake(rig, True)
        held.rollback()
    last = rig.db.execute("select pgmq.send('stress', '{}')").fetchone()[0]
    assert settle_wait(rig)
    assert last in started(trace)


def test_notify_off_polls(rig, queue, tmp_path):
    trace = start(rig, tmp_path, notify="off")
    ids = [rig.db.execute("select pgmq.send('stress', '{}')").fetchone()[0] for _ in range(3)]
    assert settle_wait(rig)
    assert set(ids) <= set(started(trace))


def entries_read(rig):
    """How many entries of the index on vt all scans have brought so far, dead ones too; what a backend has counted comes at its end."""
    return rig.db.execute("select idx_tup_read from pg_stat_all_indexes where relname = 'q_stress' and indexrelname = 'q_stress_vt_idx'").fetchone()[0]


def test_long_drain_does_not_walk_over_the_dead(rig, queue, tmp_path):
    """With an old snapshot held, what was claimed and settled stays in the index, for every look to pass that begins before it."""
    count, window = 3000, 50
    rig.db.execute("insert into pgmq.q_stress (vt, message) select clock_timestamp() - i * interval '1 s', '{}' from generate_series(1, %s) i", [count])
    with rig.connect(autocommit=False) as holder:
        holder.execute("set transaction isolation level repeatable read")
        holder.execute("select count(*) from pgmq.q_stress")
        start(rig, tmp_path, max_in_flight=str(window))
        assert settle_wait(rig)
        rig.daemon.stop()
        while rig.backends():
            rig.db.execute("select pg_sleep(0.02)")
        rig.db.execute("select pg_stat_clear_snapshot()")
        got = entries_read(rig)  # 70 for each message when looks begin at the first one; 23 under memcheck, where a look takes fewer
        assert got < 40 * count, got


def test_late_commit_during_a_long_drain(rig, queue, tmp_path):
    """A message that was sent before all others and is committed after them lies below all that was claimed, and is found without a poll."""
    trace = start(rig, tmp_path, max_in_flight="10")
    with rig.connect(autocommit=False) as late:
        first = late.execute("select pgmq.send('stress', '{}')").fetchone()[0]
        for _ in range(3):  # looks that got all they asked for, and some that did not, for longer than the mark keeps away from the present
            rig.db.execute("insert into pgmq.q_stress (vt, message) select clock_timestamp() + i * interval '1 us', '{}' from generate_series(1, 300) i")
            assert settle_wait(rig)
            rig.db.execute("select pg_sleep(0.6)")
        late.commit()
    assert settle_wait(rig, 10 * SLOW)
    assert first in started(trace)


@pytest.fixture
def stranger(rig):
    """A connection of a role that may connect and no more, and calls itself a worker of ours."""
    rig.db.execute("do $$ begin create role stranger login; exception when duplicate_object then null; end $$")
    with rig.connect(user="stranger", application_name="pgmqd worker stress") as db:
        yield db


@pytest.mark.parametrize("locks", [[-2], [-1, -3]])
def test_a_stranger_with_our_locks_is_named_and_stops_nobody(rig, queue, tmp_path, stranger, locks):
    """Whichever he holds, and from before the start on: messages wait for a short poll, and not for the fallback poll, which is out of the way."""
    for lock in locks:
        stranger.execute("select pg_advisory_lock(%s, %s)", [table_key(rig), lock])
    start(rig, tmp_path, log_level="info")
    line = rig.daemon.wait_log("holds its advisory lock and is no pgmqd")
    assert line["text"].startswith(f"queue stress: pid {stranger.info.backend_pid} (role stranger, pgmqd worker stress)")
    for _ in range(3):
        rig.db.execute("select pgmq.send('stress', '{}')")
        assert settle_wait(rig)
    stranger.execute("select pg_advisory_unlock_all()")
    rig.daemon.wait_log("holds its advisory lock no more")
