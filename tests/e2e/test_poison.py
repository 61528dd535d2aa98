"""Messages that crash, end or hang their process: each ends among the dead letters with the right reason, and nobody else is blamed."""

import os
import subprocess
from collections import Counter

import pytest

from lib.paths import BUILDDIR, make_temp_dir
from lib.stand import SLOW, wait_until

PLUGIN = "pgmqd-fault-plugin"
QUEUE = "analytics_queue"


@pytest.fixture(scope="module")
def plugin_path():
    """The plugin of tests/plugins; make builds it where it is not there yet."""
    path = BUILDDIR / "tests" / "plugins" / ".libs" / f"{PLUGIN}.so"
    if not path.exists():
        subprocess.run(["make", "-s", "-C", str(BUILDDIR), f"tests/plugins/{PLUGIN}.la"], check=True, timeout=120)
    return path


@pytest.fixture
def faults(rig, plugin_path):
    """rig, with start_faults() and a trace of every delivery."""
    directory = make_temp_dir("pgmqd-fault-")
    rig.trace = directory / "trace"

    def start_faults(other=None, options=None, **settings):
        queue = {"plugin": str(plugin_path), "trace": str(rig.trace), "visibility_timeout": f"{SLOW}s", "max_attempts": 3, "max_in_flight": 8,
                 "backoff_min": "10ms", "backoff_max": "10ms", **(options or {})}
        return rig.start({QUEUE: queue, **(other or {})}, fallback_poll="1s", **settings)

    rig.start_faults = start_faults
    rig.deliveries = lambda: [(int(i), int(n), what) for i, n, what in (line.split() for line in rig.trace.read_text().splitlines())]
    yield rig
    if rig.trace.exists():
        os.unlink(rig.trace)
    directory.rmdir()


def enqueue_all(rig, what, n=10):
    """n messages in one transaction, the one in the middle with "do": what; returns its id and those of the others."""
    with rig.connect(autocommit=False) as db:
        ids = [db.execute("select pgmq.send(%s, %s::jsonb)", [QUEUE, f'{{"n": {i}}}' if i != n // 2 else f'{{"do": "{what}"}}']).fetchone()[0]
               for i in range(n)]
        db.commit()
    return ids.pop(n // 2), ids


@pytest.mark.parametrize("what, how", [("crash", "was killed by SIGSEGV"), ("exit", "ended with status 3")])
def test_poison_takes_the_blame_alone(faults, what, how):
    daemon = faults.start_faults({"report_generation_queue": {"plugin": "null"}})
    poison, others = enqueue_all(faults, what)
    dead = daemon.wait_settled(msg_id=poison, outcome="fail", queue=QUEUE)
    assert "had no outcome" in dead["reason"]
    # not by the log: who dies between a message's archival and the answer has not told of it
    wait_until("the others are done", lambda: not faults.rows(f"q_{QUEUE}"))
    (letter,) = faults.dead(QUEUE)
    assert letter["headers"]["pgmqd_dead"]["class"] == "crash" and letter["headers"]["pgmqd_dead"]["msg_id"] == poison
    attempts = Counter(msg_id for msg_id, _, _ in faults.deliveries())
    assert attempts.pop(poison) == 3, "max_attempts, and no more"
    assert set(attempts) == set(others) and max(attempts.values()) <= 2, "once in the poison's company before anybody knew, never again"
    assert [r for r in daemon.records() if how in r.get("text", "")]
    # alone: what is delivered right after the second and third time is delivered by another process
    at = [i for i, (msg_id, _, _) in enumerate(faults.deliveries()) if msg_id == poison]
    assert [faults.deliveries()[i][1] for i in at] == [1, 2, 3]
    assert len(faults.rows(f"a_{QUEUE}")) == 9 and not faults.rows(f"q_{QUEUE}")
    msg_id = faults.enqueue({"n": 1}, "report_generation_queue")
    daemon.wait_settled(msg_id=msg_id, queue="report_generation_queue", outcome="done", )
    assert sum("worker report_generation_queue (process" in r.get("text", "") for r in daemon.records()) == 0


def test_hanging_message_is_ended_by_the_watchdog(faults):
    daemon = faults.start_faults(options={"max_attempts": 2, "visibility_timeout": f"{2 * SLOW}s"}, watchdog=f"{SLOW}s")
    poison, others = enqueue_all(faults, "hang", 4)
    daemon.wait_settled(msg_id=poison, outcome="fail", queue=QUEUE)
    # by the archive: a process that hangs after the outcome of one was stored cannot log it any more
    wait_until("the others are done", lambda: {r["msg_id"] for r in faults.rows(f"a_{QUEUE}")} == set(others))
    assert any("no sign of life" in r.get("text", "") for r in daemon.records())
    assert [r["headers"]["pgmqd_dead"]["class"] for r in faults.dead(QUEUE)] == ["crash"]


def test_fresh_messages_run_side_by_side_after_a_crash(faults):
    """The suspects wait for their lease to end; what is new meanwhile does not wait for them, nor for each other."""
    daemon = faults.start_faults(options={"visibility_timeout": "5s", "max_in_flight": 4})
    poison = faults.enqueue({"do": "crash"}, QUEUE)
    daemon.wait_log("was killed by SIGSEGV")
    sent = faults.db.execute("select pgmq.send_batch(%s, array_fill(%s::jsonb, array[4]))", [QUEUE, '{"do": "slow", "ms": 400}'])
    ids = [row[0] for row in sent.fetchall()]
    for msg_id in ids:
        daemon.wait_settled(msg_id=msg_id, outcome="done")
    seen = faults.deliveries()
    assert seen[0][0] == poison and sorted(d[0] for d in seen[1:5]) == ids, "all four before the poison's second time"
    records = [daemon.wait_settled(msg_id=msg_id) for msg_id in ids]
    assert max(r["started"] for r in records) < min(r["ts"] for r in records), "the last began before the first was done"
    daemon.wait_settled(msg_id=poison, outcome="fail")


def test_message_that_never_settles(faults):
    """The deadline takes it back, each time, and says so in the dead letter."""
    daemon = faults.start_faults(options={"deadline": "100ms", "max_attempts": 2})
    msg_id = faults.enqueue({"do": "never"}, QUEUE)
    record = daemon.wait_settled(msg_id=msg_id, outcome="fail")
    assert "no outcome within the deadline of 100 ms" in record["reason"]
    assert len(faults.deliveries()) == 2


def test_message_that_settles_twice(faults):
    daemon = faults.start_faults()
    msg_id = faults.enqueue({"do": "twice"}, QUEUE)
    daemon.wait_settled(msg_id=msg_id, outcome="done")
    assert daemon.wait_log("misuse")["level"] == "error"
    assert [r["msg_id"] for r in faults.rows(f"a_{QUEUE}")] == [msg_id]
