"""Processes that are killed, stopped and told to leave, under load: nothing lost, nothing settled twice."""

import os
import random
import signal

import pytest

from lib.campaign import kill_campaign
from lib.stand import INSTRUMENTED, SLOW, boottime_ms, descriptors, memory_kb, wait_until


def test_fifty_kills(stand, seed):
    """SIGKILL of a random process, or of the whole dispatcher, under load."""
    result = kill_campaign(stand, 50 // SLOW, random.Random(seed))
    verdict = stand.verdict()
    # what ran at the moment of a kill may run again: no more than max_in_flight of it each time
    verdict.check(doubled=10 * result.faults)
    assert result.recovery and max(result.recovery) < 20 * SLOW, result.recovery


@pytest.mark.parametrize("at", ["delivered", "effect", "settled"])
def test_kill_at_each_step(stand, at):
    """A kill between claim and effect loses and doubles nothing; one between effect and settlement may double, never lose."""
    daemon = stand.start(queue={"visibility_timeout": "1500ms"})
    for _ in range(3):  # a fifth death within a minute would be a crash loop
        before = len(stand.steps())
        if at == "delivered":
            ids = stand.send(10, sleep_ms=100)
            wait_until("a delivery", lambda: len(stand.steps()) > before)
        elif at == "effect":
            ids = stand.send(10)
            wait_until("an effect", lambda: len(stand.steps()) > before)
        else:
            mark = daemon.mark()
            ids = stand.send(10)
            daemon.wait_settled(outcome="done", start=mark)
        daemon.kill_child("worker")
        stand.effect_of(ids)
    stand.drain()
    stand.verdict().check(doubled=0 if at == "delivered" else 30)


@pytest.mark.parametrize("drain, sleep", [("60s", 300), ("200ms", 3600000)])
def test_sigterm_under_load(stand, drain, sleep):
    """Handlers that end within the drain's time finish; others are taken back, given back at once, and burn no attempt."""
    daemon = stand.start(drain_timeout=drain, queue={"visibility_timeout": "60s"})
    ids = stand.send(20, sleep_ms=sleep)
    wait_until("ten in hand", lambda: sum(s.what == "B" for s in stand.steps()) >= 10)
    stand.stop(daemon)
    assert any(s.what == "C" for s in stand.steps()) == (sleep > 300)
    assert stand.value("select count(*) from pgmq.q_work where vt > now() + interval '1 s'") == 0, "given back at once"
    stand.db.execute("update pgmq.q_work set message = message - 'sleep_ms'")
    stand.start()
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()
    assert max(s.attempt for s in stand.steps()) == 1, "an orderly stop is no attempt"


def test_what_is_given_back_goes_to_the_other_dispatcher_at_once(stand):
    """Nobody waits for a poll, or for the end of a lease: neither comes within an hour."""
    settings = {"fallback_poll": "1h", "drain_timeout": "100ms", "queue": {"visibility_timeout": "1h"}}
    first = stand.start(**settings)
    ids = stand.send(5, sleep_ms=2000)
    stand.begun(ids)
    stand.start(**settings)
    stand.stop(first)
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()


@pytest.mark.parametrize("limits", [{"max_in_flight_cluster": 2}, {"concurrency": 2, "concurrency_key": "header:customer"}], ids=["queue", "key"])
def test_places_of_a_killed_dispatcher_come_back(stand, limits):
    """When its leases end the other dispatcher has them, and no third one; meanwhile it starts nothing."""
    stand.db.execute("select pgmqd.limit_queue('work', 'header:customer')")
    settings = {"queue": {"visibility_timeout": "2s", **limits}, "fallback_poll": "200ms", "drain_timeout": "100ms"}
    first = stand.start(**settings)
    stand.send(6, sleep_ms=600000)
    wait_until("its places are taken", lambda: len(stand.steps()) == 2)
    second = stand.start(**settings)
    killed = boottime_ms()
    first.kill()
    wait_until("the places are taken again", lambda: sum(s.what == "B" for s in stand.steps()) == 4)
    lost, taken = stand.steps()[:2], stand.steps()[2:]
    assert not {s.pid for s in lost} & {s.pid for s in taken} and min(s.at for s in taken) > killed
    stand.stop(second)
    assert sum(s.what == "B" for s in stand.steps()) == 4


def test_sigterm_while_the_database_is_away(stand, cluster):
    """The drain ends although nothing can be given back, and the next one takes it up."""
    daemon = stand.start(drain_timeout="500ms")
    ids = stand.send(5, sleep_ms=60000, do="done", until=1)
    stand.begun(ids)
    cluster.stop()
    try:
        status = daemon.stop(timeout=20 * SLOW)
    finally:
        cluster.start()
        stand.disconnect()
    assert status in (0, 75)
    stand.db.execute("update pgmq.q_work set message = message || '{\"sleep_ms\": 0}'")
    stand.start()
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()


@pytest.mark.skipif(SLOW > 1, reason="the messages would be through before the stop, or their leases over before the start")
@pytest.mark.parametrize("whole", [False, True])
def test_stopped_and_continued(stand, whole):
    """SIGSTOP for twice the lease with another dispatcher beside: the stopped one's settlements are refused, effects not late."""
    queue = {"visibility_timeout": "2s"}
    first = stand.start(queue=queue)
    ids = stand.send(10, sleep_ms=700)
    stand.begun(ids)
    stand.start(queue=queue)
    pids = [pid for pid, title in first.children().items() if whole or "worker" in title] + [first.process.pid] * whole
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    stand.effect_of(ids)
    wait_until("twice the lease", lambda: stand.value("select not exists (select from pgmq.q_work)"))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    more = stand.send(20)
    stand.effect_of(more)
    stand.drain()
    wait_until("the stopped one has noticed", lambda: stand.logged("lease lost") >= 10)
    stand.verdict().check()


def test_leases_of_many_are_all_extended(stand):
    """More messages in hand than one extension takes: none of them is taken back or claimed twice."""
    stand.start(queue={"visibility_timeout": "2s", "max_in_flight": 1500})
    ids = stand.send(1400, sleep_ms=5000)
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()
    assert not [s for s in stand.steps() if s.what == "C"] and stand.logged("lease") == 0


def test_nothing_is_left_behind(stand, seed):
    """Descriptors, connections and memory are after 5,000 messages and ten reconnects what they were before."""
    daemon = stand.start()
    stand.effect_of(stand.send(500))
    stand.drain()
    pids, sessions = sorted(daemon.children()), stand.sessions()
    before = {pid: (descriptors(pid), memory_kb(pid)) for pid in pids}
    for _ in range(10):
        mark = daemon.mark()
        stand.effect_of(stand.send(500))
        for pid in stand.backends():
            stand.db.execute("select pg_terminate_backend(%s, 5000)", [pid])
        for process in ("worker", "listener"):
            daemon.wait_log(lambda r, p=process: r.get("process") == p and "connected to the database again" in r.get("text", ""), start=mark)
    stand.drain()
    wait_until("the same connections", lambda: stand.sessions() == sessions)
    after = {pid: (descriptors(pid), memory_kb(pid)) for pid in sorted(daemon.children())}
    assert sorted(after) == pids
    for pid in pids:
        assert after[pid][0] == before[pid][0], "descriptors"
        if not INSTRUMENTED:
            assert after[pid][1] - before[pid][1] < 4096, "memory"
    stand.verdict().check()
