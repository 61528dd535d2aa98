"""Three dispatchers share a queue: one is cut off, one stopped, one killed; the others take over, and nothing is done twice."""

import contextlib
import os
import signal
from collections import Counter

import pytest

from lib import netns
from lib import rig as rigs
from lib.pgcluster import Cluster
from lib.proxy import Proxy
from lib.stand import Stand, wait_until

LEASE = {"visibility_timeout": "2s", "max_in_flight": 5}


@pytest.fixture(scope="module")
def tcp_cluster():
    with Cluster(tcp=True) as c:
        done = rigs.migrate(c.createdb("shared"))
        assert done.returncode == 0, done.stdout + done.stderr
        with c.connect("shared") as db:
            db.execute("select pgmqd.create_queue('work'), pgmqd.create_queue('other')")
        yield c


@pytest.fixture
def stand(tcp_cluster):
    with Stand(tcp_cluster, "shared") as s:
        yield s
        s.db.execute("truncate pgmq.q_work, pgmq.a_work")


@contextlib.contextmanager
def far_away(cluster, dbname):
    """Yields how a dispatcher is started elsewhere (connection string, wrapper) and a function that takes its link down or up:
    a network namespace of its own, or, where there can be none, a proxy that passes nothing on."""
    try:
        with netns.joined(f"pgmqd{os.getpid() % 10000}", "203.0.113.1", "203.0.113.2") as (inside, link), \
                netns.relay("203.0.113.1", cluster.port) as port:
            yield cluster.conninfo(dbname, host="203.0.113.1", port=port), inside, link
    except netns.NoNamespaces:
        with Proxy("127.0.0.1", cluster.port) as proxy:
            def pull(state):
                if state == "up":
                    proxy.resume()
                    proxy.cut()
                else:
                    proxy.drop("up", "down")
            yield cluster.conninfo(dbname, host="127.0.0.1", port=proxy.port), [], pull


def all_processes(daemon):
    return [daemon.process.pid, *daemon.children()]


def in_hand(stand, daemon):
    """Messages that this dispatcher has begun and that are not through."""
    steps, pids = stand.steps(), daemon.children()
    ended = {s.uuid for s in steps if s.what == "E"}
    return {s.uuid for s in steps if s.what == "B" and s.pid in pids and s.uuid not in ended}


def test_others_take_over(stand, tcp_cluster):
    with far_away(tcp_cluster, stand.dbname) as (conninfo, wrapper, link):
        cut_off = stand.start(conninfo, queue=LEASE, wrapper=wrapper, allow_insecure="yes")
        stopped, killed = stand.start(queue=LEASE), stand.start(queue=LEASE)
        producer = stand.produce(40, sleep_ms=150)

        def others_take(victim, fault):
            """`fault` happens to a dispatcher that has messages in hand: each of them is begun again by another one."""
            before = wait_until("messages in hand", lambda: in_hand(stand, victim))
            mine = set(victim.children())
            begun = len(stand.steps())
            fault()
            wait_until("taken over", lambda: before <= {s.uuid for s in stand.steps() if s.what == "E"}
                       | {s.uuid for s in stand.steps()[begun:] if s.what == "B" and s.pid not in mine}, 20)

        mark = cut_off.mark()
        others_take(cut_off, lambda: link("down"))
        cut_off.wait_log(lambda r: r.get("process") == "worker" and "connection lost" in r.get("text", ""), 40, mark)
        link("up")
        cut_off.wait_log(lambda r: r.get("process") == "worker" and r.get("text") == "connected to the database again", 40, mark)
        pids = all_processes(stopped)
        others_take(stopped, lambda: [os.kill(pid, signal.SIGSTOP) for pid in pids])
        others_take(killed, killed.kill)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        producer.stop()
        stand.drain(60)
        for daemon in (cut_off, stopped):
            stand.stop(daemon)
    # what was in hand at a fault may have had its effect unsettled; what was acknowledged was so once, and for good
    verdict = stand.verdict().check(doubled=3 * LEASE["max_in_flight"], late=2 * LEASE["max_in_flight"])
    acknowledged = Counter(r["msg_id"] for d in stand.daemons for r in d.records() if r.get("text") == "settled" and r["outcome"] == "done")
    assert max(acknowledged.values()) == 1
    assert len(verdict.archived) >= len(acknowledged)


def test_silent_enqueue_waits_no_longer_than_shared_poll(stand):
    """The dispatcher for which a producer was silent never looks; one that believed to be alone when it started does."""
    settings = {"fallback_poll": "1h", "shared_poll": "300ms", "queue": LEASE}
    first = stand.start(**settings)
    stand.effect_of(stand.send())
    second = stand.start(**settings)
    stand.effect_of(stand.send())
    for sleeper in (second, first):
        pids = all_processes(sleeper)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with stand.cluster.connect(stand.dbname) as busy:  # it stands for the stopped one's session: awake, and not looking
            busy.execute("select pg_advisory_lock('pgmq.q_work'::regclass::oid::int4, -2)")
            stand.effect_of(stand.send(), 10)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    stand.drain()
    stand.verdict().check()
