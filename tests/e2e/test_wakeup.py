"""Interrupts when idle, polling when busy: no message is left lying, with the fallback poll out of the way.

PGMQD_STRESS_SECONDS (default 12) is how long the producers go on.
"""

import os
import random
import threading
import time

import pytest

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


def settle_wait(rig, timeout=30):
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


def test_busy_queue_is_silent(rig, queue, tmp_path):
    """While a worker is awake, producers do not notify; when the burst is over they do again."""
    trace = start(rig, tmp_path)
    with rig.connect() as listener:
        listener.execute("listen pgmqd")
        with rig.connect() as db:
            for _ in range(1500):
                db.execute("select pgmq.send('stress', '{}')")
        assert settle_wait(rig)
        rig.db.execute("select pgmq.send('stress', '{}')")  # wakes a sleeping worker, or is found by one that is awake still
        assert settle_wait(rig)
        rig.db.execute("select pg_notify('pgmqd', 'end of test')")
        heard = 0
        for note in listener.notifies():
            if note.payload == "end of test":
                break
            heard += note.payload == "stress"
    assert len(started(trace)) == 1501
    assert heard < 750, f"{heard} notifications for 1501 messages"


def test_silent_enqueue_of_a_killed_worker(rig, queue, tmp_path):
    """A transaction that was silent because the worker was awake commits after that worker was killed and replaced."""
    trace = start(rig, tmp_path, log_level="info")
    oid = rig.db.execute("select 'pgmq.q_stress'::regclass::oid::int4").fetchone()[0]

    def awake():
        return rig.db.execute("select count(*) from pg_locks where locktype = 'advisory' and classid = %s::int4::oid and objsubid = 2"
                              " and objid = (-2)::int4::oid and mode = 'ExclusiveLock' and granted", [oid]).fetchone()[0]

    stop = threading.Event()

    def keep_busy():
        with rig.connect() as db:
            while not stop.is_set():
                db.execute("select pgmq.send('stress', '{}')")

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        with rig.connect(autocommit=False) as silent:
            deadline = time.monotonic() + 30
            while not awake():
                assert time.monotonic() < deadline, "the worker never took the lock"
            quiet = silent.execute("select pgmq.send('stress', '{}')").fetchone()[0]
            mark = rig.daemon.mark()
            stop.set()
            busy.join()
            rig.daemon.kill_child("worker")
            rig.daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("text") == "connected to the database", start=mark)
            rig.db.execute("select pg_sleep(1)")  # the new worker has had every chance to fall asleep
            silent.commit()
        assert settle_wait(rig, 10)
        assert quiet in started(trace)
    finally:
        stop.set()
        busy.join()


def test_notify_off_polls(rig, queue, tmp_path):
    trace = start(rig, tmp_path, notify="off")
    ids = [rig.db.execute("select pgmq.send('stress', '{}')").fetchone()[0] for _ in range(3)]
    assert settle_wait(rig)
    assert set(ids) <= set(started(trace))
