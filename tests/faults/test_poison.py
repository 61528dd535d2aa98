"""Messages and plugins that do harm: their queue survives them, the other queues do not notice, and they end as dead letters."""

import json
import random
import statistics
import time

import pytest

from lib.proxy import Proxy
from lib.stand import memory_kb, wait_until

OTHER = {"visibility_timeout": "10s"}


def latencies(stand, n, queue="other"):
    """Milliseconds from an enqueue to the effect, for n messages one after the other."""
    from lib.campaign import Follower
    from lib.stand import boottime_ms
    follower, found = Follower(stand.effects), []
    for _ in range(n):
        at = boottime_ms()
        (i,) = stand.send(queue=queue)
        ms = wait_until("the effect", lambda: next((int(w[4]) - at + 1 for w in follower.lines() if w[0] == b"E" and w[1].decode() == i), 0), 15, 0.002)
        found.append(ms)
    return found


@pytest.mark.parametrize("what, reason, attempts", [
    ("crash", "the plugin crashed", 2), ("exit", "the plugin crashed", 2), ("loop", "the plugin crashed", 2), ("never", "deadline", 2)])
def test_poison_ends_as_dead_letter(stand, what, reason, attempts):
    """The message of a crash is in the dead-letter queue after max_attempts, good ones of its queue are done, the other queue went on."""
    daemon = stand.start(watchdog="2s", queues={
        "work": {"max_attempts": attempts, "visibility_timeout": "1s", "deadline": "1s"}, "other": OTHER})
    quiet = latencies(stand, 15)
    mark = daemon.mark()
    (bad,) = stand.send(do=what)
    good = stand.send(5)
    during = latencies(stand, 15)
    wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1, 60)
    stand.drain()
    verdict = stand.verdict()
    assert list(verdict.dead) == [bad] and set(verdict.archived) == set(good)
    why = stand.value("select headers->'pgmqd_dead' from pgmq.q_work_dlq")
    assert reason in why["reason"] and why["attempts"] >= attempts, why
    assert statistics.median(during) <= 2 * statistics.median(quiet) + 500, "they waited for the watchdog, or for a restart"
    assert not [r for r in daemon.records()[mark:] if r.get("queue") == "other" and r.get("level") == "error"]


def test_leak_is_the_workers_alone(stand):
    """200 MB leaked in one worker: no other process grows by it, and its end gives it back."""
    daemon = stand.start(queues={"work": {}, "other": OTHER})
    names = {title: pid for pid, title in daemon.children().items()}
    before = {title: memory_kb(pid) for title, pid in names.items()}
    stand.effect_of(stand.send(50, do="leak"))
    after = {title: memory_kb(pid) for title, pid in names.items()}
    for title in names:
        grown = after[title] - before[title]
        assert grown > 150000 if "worker work" in title else grown < 4096, (title, grown)
    stand.drain()


def test_crash_loop_leaves_the_others_alone(stand):
    """Five deaths within a minute: that worker waits, the other queue does not, and a reload tries again."""
    daemon = stand.start(queues={"work": {"max_attempts": 100, "visibility_timeout": "1s"}, "other": OTHER})
    (bad,) = stand.send(do="crash", until=6)
    daemon.wait_log("death number 5", 60)
    stand.effect_of(stand.send(10, queue="other"))
    daemon.reload()
    stand.effect_of([bad], 60)
    stand.drain()
    stand.verdict().check()


def refuse_updates(stand, condition):
    """The application's own trigger on the queue's table."""
    stand.db.execute("create function public.refuse() returns trigger language plpgsql as 'begin raise exception ''not this one''; end'")
    stand.db.execute(f"create trigger refuse before update on pgmq.q_work for each row when ({condition}) execute function public.refuse()")


@pytest.mark.parametrize("order", ["time", "priority", "group"])
def test_rows_that_a_trigger_refuses(stand, order):
    """Nothing can claim these two: they become dead letters with the trigger's words, and the others are done."""
    refuse_updates(stand, "new.message->>'stay' = 'yes'")
    if order == "priority":
        stand.db.execute("select pgmqd.prioritize_queue('work')")
    bad = stand.send(stay="yes")
    good = stand.send(20)
    bad += stand.send(stay="yes")
    good += stand.send(20)
    stand.start(queue={"ordered": "group"} if order == "group" else {})
    stand.drain()
    verdict = stand.verdict()
    assert set(verdict.dead) == set(bad) and set(verdict.archived) == set(good)
    why = stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq limit 1")
    assert why == "the database cannot claim the message: not this one", why


def test_trigger_that_refuses_every_row(stand):
    """That is no message's fault: the queue is named in the log, nothing dies, and all goes on when the trigger is gone."""
    refuse_updates(stand, "true")
    ids = stand.send(5)
    daemon = stand.start()
    for _ in range(2):
        said = daemon.wait_log("none of the due messages can be claimed (a trigger on pgmq.q_work?)", start=daemon.mark())
        assert said["level"] == "error" and said["queue"] == "work" and "not this one" in said["text"]
    stand.db.execute("drop trigger refuse on pgmq.q_work")
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()


def test_message_storm(stand):
    """16 MB, depth 10,000, numbers of 300 digits, SQL null, null, arrays, odd keys: handled or dead, and no crash."""
    daemon = stand.start(queue={"max_attempts": 2, "visibility_timeout": "20s"})
    deep = "[" * 5000 + "]" * 5000
    bodies = [json.dumps({"uuid": "big", "x": "y" * (16 << 20)}), '{"uuid": "deep", "x": %s}' % deep, '{"uuid": "num", "n": %s}' % ("9" * 300),
              "null", '"text"', "[1, 2, 3]", "{}", '{"uuid": 1}', '{"uuid": "a", "UUID": "b"}', '{"": "\\u0001\\u2028"}',
              '{"sleep_ms": 1e300}', '{"sleep_ms": -5}', '{"do": "retry", "delay_ms": -9e99}']
    for body in bodies[:-3]:
        stand.db.execute("select pgmq.send('work', %s::jsonb)", [body])
    stand.db.execute("select pgmq.send('work', %s::jsonb)", [bodies[-2]])
    stand.db.execute("select pgmq.send('work', %s::jsonb)", [bodies[-1]])
    stand.db.execute("insert into pgmq.q_work (vt, message) values (now(), null)")
    stand.effect_of(stand.send(10))
    stand.drain(60)
    counts = stand.value("select count(*) from pgmq.a_work") + stand.value("select count(*) from pgmq.q_work_dlq")
    assert counts == len(bodies) - 1 + 1 + 10
    assert stand.value("select count(*) from pgmq.q_work_dlq where message is null") == 1
    assert not [r for r in daemon.records() if "killed by" in r.get("text", "")]


def test_message_that_takes_longer_than_its_lease(stand, cluster):
    """It never comes in time, on no attempt: it ends as a dead letter that says so, and does not go round for ever."""
    with Proxy("127.0.0.1", cluster.port) as proxy:
        proxy.keep = lambda kind, body: kind != "D" or len(body) < 1000000 or time.sleep(1.5) is None
        stand.start(stand.tcp(proxy.port), queue={"max_attempts": 2, "visibility_timeout": "1s"})
        ids = stand.send(x="y" * 2000000)
        wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1)
        assert "raise visibility_timeout" in stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq")
        stand.effect_of(stand.send())
        stand.drain()
        assert list(stand.verdict().check().dead) == ids


def test_storm_of_random_outcomes(stand, seed):
    """Retries, failures, replacements and transactions mixed: every message ends where its outcome says."""
    rng = random.Random(seed)
    stand.start(queue={"max_in_flight": 50})
    sent = {}
    for _ in range(300):
        what = rng.choice(("done", "done", "retry", "fail", "done_with"))
        (i,) = stand.send(do=what, until=0 if what == "fail" else 3 if what == "retry" else 0, delay_ms=10, sleep_ms=rng.choice((0, 1, 20)))
        sent[i] = what
    stand.drain()
    v = stand.verdict().check()
    assert set(v.dead) == {i for i, what in sent.items() if what == "fail"}
    assert stand.value("select count(*) from public.effects") == sum(what == "done_with" for what in sent.values())


def test_configuration_error_burns_no_attempt(stand):
    daemon = stand.start(queue={"max_attempts": 2, "config_retry": "100ms"})
    (i,) = stand.send(do="config")
    for _ in range(4):
        daemon.wait_log("queue paused", start=daemon.mark())
    stand.db.execute("update pgmq.q_work set message = message || '{\"do\": \"done\"}'")
    stand.effect_of([i])
    stand.drain()
    assert not stand.verdict().check().dead
