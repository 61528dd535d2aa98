"""The connection to the database, and the rules of libpq in an event loop, through a proxy that breaks what can be broken."""

import os
import re
import signal
import threading

import pytest

from lib import certs, netns
from lib.campaign import gone
from lib.paths import make_temp_dir
from lib.pooler import PGBOUNCER, pooler
from lib.proxy import Plan, Proxy, chaos
from lib.stand import INSTRUMENTED, SLOW, wait_until

# A Bind of a prepared statement: the queue's number and what the statement does.
DONE = re.compile(rb"B....\x00q\d+_done\x00", re.S)
CLAIM = re.compile(rb"B....\x00q\d+_(claim|ahead)\x00", re.S)
RELEASE = re.compile(rb"B....\x00q\d+_release\x00", re.S)
FENCE = re.compile(rb"B....\x00q\d+_fence\x00", re.S)


@pytest.fixture
def proxy(stand, cluster):
    """The dispatchers that are behind it are stopped before it is: without it they could not store what they know, and would wait for the end of their time."""
    with Proxy("127.0.0.1", cluster.port) as p:
        yield p
        p.resume()
        for daemon in stand.daemons:
            if daemon.process.poll() is None:
                stand.stop(daemon)


def is_worker(r):
    return r.get("process") == "worker"


def again(text="connected to the database again", process="worker"):
    return lambda r: r.get("process") == process and r.get("text") == text


# ---- rules of libpq (each of them was broken by somebody) ----

@pytest.fixture(scope="module")
def cert_dir():
    d = make_temp_dir("pgmqd-certs-")
    certs.make(d)
    return d


@pytest.fixture
def counting(stand):
    """Starts a dispatcher and counts the notifications that its listener has taken in, by its metrics."""
    import http.client
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]

    def count():
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            c.request("GET", "/metrics")
            text = c.getresponse().read().decode()
        finally:
            c.close()
        return int(float(re.search(r"^pgmqd_notifications_total(?:\{[^}]*\})? (\S+)$", text, re.M).group(1)))

    count.settings = {"http_listen": f"127.0.0.1:{port}"}
    return count


def burst(stand, n, size=100):
    """n different notifications from one transaction, so that they come at once; none is a queue's name."""
    with stand.db.transaction():
        stand.db.execute("select count(pg_notify('pgmqd', n || repeat('x', %s))) from generate_series(1, %s) n", [size, n])


def test_burst_of_notifications_is_read_to_its_end(stand, counting):
    """Level triggered and drained: 2,000 at once, and the one after them still wakes its queue."""
    stand.start(fallback_poll="1h", **counting.settings)
    before = counting()
    burst(stand, 2000)
    wait_until("2,000 notifications", lambda: counting() - before >= 2000)
    stand.effect_of(stand.send())
    assert counting() - before == 2001


@pytest.mark.skipif(SLOW > 1, reason="a process under valgrind reads more slowly than the limit of this test allows")
@pytest.mark.parametrize("size", [100, 7000])
def test_tls_records_of_16_kib_leave_nothing_behind(stand, cluster, cert_dir, counting, size):
    """What is decrypted already makes no socket readable: the rest of a record must be read without being told."""
    with Proxy("127.0.0.1", cluster.port, tls=(cert_dir / "server.pem", cert_dir / "server.key")) as p:
        stand.start(stand.tcp(p.port, sslmode="require"), fallback_poll="1h", **counting.settings)
        total = counting()
        for n in (3, 40, 200, 7, 90, 33):
            p.stall("down")
            burst(stand, n, size)
            total += n
            wait_until("the server has sent them, for the proxy to gather them into few records", lambda: p.waiting("down") >= min(n * size, 60000))
            p.resume()
            # a dead link's ping, or a canary, would bring the rest too, but hardly within 4 s
            wait_until(f"{n} notifications of {size} bytes", lambda: counting() >= total, 4)
        stand.effect_of(stand.send(), 5)
        stand.drain()


def test_notification_during_a_statement_is_not_forgotten(stand, proxy):
    """The answer to the listener's own statement and a notification come in one read."""
    stand.start(stand.tcp(proxy.port), fallback_poll="1h")
    for _ in range(5):
        proxy.stall("down")
        ids = stand.send()
        stand.db.execute("select pg_notify('pgmqd', 'nobody')")
        proxy.resume()
        stand.effect_of(ids, 10)


def test_socket_after_a_reconnect_is_heard(stand, proxy):
    """A new event for each connection, although the descriptor's number is the same."""
    daemon = stand.start(stand.tcp(proxy.port), fallback_poll="1h")
    for _ in range(3):
        mark = daemon.mark()
        proxy.cut()
        for process in ("worker", "listener"):
            daemon.wait_log(again(process=process), start=mark)
        wait_until("notifications arrive", lambda: daemon.lines.wait(lambda r: r.get("text") == "notifications arrive again", 10, mark))
        stand.effect_of(stand.send())
    stand.drain()  # the proxy leaves before the dispatcher does, which would wait for it with what is not settled


@pytest.mark.parametrize("direction", ["up", "down"])
def test_large_statement_while_the_other_side_does_not_read(stand, proxy, direction):
    """PQflush both ways: 8 MB up in a replace, and 8 MB down in a claim, each while one direction stalls for a while."""
    plans = []
    proxy.plans = lambda: plans.append(Plan(stall=(direction, 100000, 2))) or plans[-1]
    stand.start(stand.tcp(proxy.port), fallback_poll="1h", queue={"visibility_timeout": "30s"})
    big = "x" * (8 << 20)
    (first,) = stand.send(do="replace", rest={"uuid": "-", "big": big})
    stand.effect_of([first, *stand.send(5)])
    wait_until("all archived", lambda: stand.value("select count(*) from pgmq.a_work") == 7)
    assert any(plan.stall is None for plan in plans), "it has stood still"
    assert stand.value("select count(*) from pgmq.a_work where length(message->>'big') = %s", [len(big)]) == 1


# ---- dead links ----

def test_listener_notices_a_silent_link(stand, proxy):
    """Nothing is refused and nothing is reset, only silence: the ping's deadline ends it."""
    daemon = stand.start(stand.tcp(proxy.port), fallback_poll="1h")
    mark = daemon.mark()
    proxy.drop("up", "down")
    daemon.wait_log(lambda r: r.get("process") == "listener" and "no answer" in r.get("text", ""), 60, mark)
    proxy.resume()
    proxy.cut()  # the workers' links lost bytes
    daemon.wait_log(again(process="listener"), 40, mark)
    stand.effect_of(stand.send())


def test_listen_that_is_never_answered(stand, proxy):
    """The link goes silent between the connect and LISTEN's answer: the deadline is there already."""
    listen = threading.Event()

    def keep(kind, body):
        if kind == "C" and body.startswith(b"LISTEN"):
            listen.set()
            return False
        return kind != "Z" or not listen.is_set()

    proxy.keep = keep
    daemon = stand.start(stand.tcp(proxy.port), fallback_poll="1h", ready=False)
    assert listen.wait(30)
    daemon.wait_log(lambda r: r.get("process") == "listener" and "no answer" in r.get("text", ""), 25)
    proxy.keep = None
    proxy.cut()
    daemon.wait_log(lambda r: r.get("process") == "listener" and "connected to the database" in r.get("text", ""), 60, daemon.mark())
    stand.effect_of(stand.send())


def test_silent_primary_is_left_whatever_a_worker_does(stand, cluster, proxy):
    """It accepts and never answers. One worker is idle, one waits for a claim, one for what it has settled: all go to the other host."""
    stand.db.execute("select pgmq.create('third'), pgmqd.attach_queue('third')")
    daemon = stand.start(stand.tcp(host="127.0.0.1,127.0.0.1", port=f"{proxy.port},{cluster.port}"), fallback_poll="1h",
                         queues={"work": {}, "other": {}, "third": {}})
    ids = stand.send(queue="third", delay=3)
    stand.effect_of(stand.send(queue="third") + stand.send(queue="other"))
    ids += stand.send(sleep_ms=1000)
    stand.begun(ids[1:])
    mark = daemon.mark()
    proxy.stall()
    for queue in ("work", "other", "third"):
        daemon.wait_log(lambda r, queue=queue: again()(r) and r.get("queue") == queue, 25, mark)
    for queue in ("work", "other", "third"):
        ids += stand.send(queue=queue)
        stand.drain(queue=queue)
    stand.effect_of(ids)
    proxy.cut()


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_silent_server_behind_a_pooler_is_left(stand, cluster, proxy, mode):
    """The pooler answers, its server does not. An idle worker and one that waits for an answer go to the other host, long before the time
    limit of a statement."""
    with pooler(cluster, stand.dbname, mode=mode, size=20, through=proxy.port) as conninfo:
        port = re.search(r"port=(\d+)", conninfo).group(1)
        daemon = stand.start(stand.tcp(host="127.0.0.1,127.0.0.1", port=f"{port},{cluster.port}"), ready=False, poll_when_deaf="200ms",
                             fallback_poll="1h", queues={"work": {}, "other": {}})
        stand.effect_of(stand.send() + stand.send(queue="other"))
        ids = stand.send(sleep_ms=1000)
        stand.begun(ids)
        mark = daemon.mark()
        proxy.stall()
        for queue in ("work", "other"):
            daemon.wait_log(lambda r, queue=queue: again()(r) and r.get("queue") == queue, 30, mark)
        daemon.wait_log(again(process="listener"), 30, mark)
        stand.effect_of(ids + stand.send() + stand.send(queue="other"))
        stand.drain()
        proxy.cut()
    stand.verdict().check()


def test_slow_statement_is_no_silence(stand):
    """A plugin's statement that waits for a lock: the server is asked about it, more than once, and the connection stays."""
    stand.start(stand.tcp())
    asked = "select max(state_change) from pg_stat_activity where application_name = 'pgmqd check' and query like '%%pg_stat_get_activity%%'"
    with stand.cluster.connect(stand.dbname, autocommit=False) as holder:
        holder.execute("lock table public.effects in access exclusive mode")
        ids = stand.send(do="done_with")
        first = wait_until("asked", lambda: stand.value(asked))
        wait_until("asked again", lambda: (stand.value(asked) or first) > first)
        assert not stand.logged("lost")
        holder.rollback()
    stand.drain()
    wait_until("the second connection is closed", lambda: not stand.value(asked))
    assert stand.value("select count(*) from public.effects where uuid = %s", ids) == 1 and not stand.logged("lost")


def test_cable_pulled(stand, cluster):
    """A blackhole: keepalives and tcp_user_timeout end the connection, and what was in hand is settled or claimed again."""
    try:
        with netns.joined(f"pgmqd{os.getpid() % 10000}", "198.51.100.1", "198.51.100.2") as (inside, cable), \
                netns.relay("198.51.100.1", cluster.port) as port:
            conninfo = cluster.conninfo(stand.dbname, host="198.51.100.1", port=port)
            daemon = stand.start(conninfo, wrapper=inside, allow_insecure="yes")
            p = stand.produce(20, sleep_ms=300)
            wait_until("load", lambda: len(stand.steps()) > 20)
            mark = daemon.mark()
            cable("down")
            # without those limits the kernel would try for a quarter of an hour
            daemon.wait_log(lambda r: is_worker(r) and "connection lost" in r.get("text", ""), 60, mark)
            cable("up")
            daemon.wait_log(again(), 60, mark)
            p.stop()
            stand.drain(60)
            for d in stand.daemons:
                stand.stop(d)
    except netns.NoNamespaces as error:
        pytest.skip(f"no network namespaces here: {error}")
    stand.verdict().check(doubled=50)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_half_open_link_under_load(stand, proxy, direction):
    """Statements, or answers to them, get lost for a while and the link is then reset: fenced settling, nothing lost."""
    daemon = stand.start(stand.tcp(proxy.port))
    p = stand.produce(50)
    for _ in range(3):
        n = len(stand.steps())
        wait_until("load", lambda: len(stand.steps()) > n + 20)
        mark = daemon.mark()
        lost = proxy.bytes_lost
        proxy.drop(direction)
        wait_until("bytes got lost", lambda: proxy.bytes_lost > lost)
        proxy.resume()
        proxy.cut()
        daemon.wait_log(again(), 30, mark)
    p.stop()
    stand.drain()
    stand.verdict().check()


# ---- broken connections ----

def test_chaos(stand, proxy, seed):
    """Stalls in the middle of messages, byte by byte, RST and FIN anywhere: 70 connections of two dispatchers, nothing lost, no crash."""
    proxy.plans = chaos(seed, 6000)
    daemons = [stand.start(stand.tcp(proxy.port), ready=False) for _ in range(2)]
    p = stand.produce(60)
    wait_until("70 connections", lambda: proxy.connections >= 70 or not p.is_alive(), 90)
    proxy.plans = lambda: Plan()
    proxy.cut()
    stand.drain()
    # an effect is doubled when its claim's connection broke for longer than the lease
    stand.verdict().check(doubled=5)
    assert not [r for d in daemons for r in d.records() if "killed by" in r.get("text", "") or "raw" in r]


def test_byte_at_a_time(stand, proxy):
    """A link that delivers single bytes is slow, nothing else."""
    proxy.drip = True
    stand.start(stand.tcp(proxy.port), ready=False)
    stand.effect_of(stand.send(5))
    stand.drain()
    stand.verdict().check()


@pytest.mark.parametrize("on_done", ["archive", "delete"])
def test_lost_reply_to_a_settlement(stand, proxy, on_done):
    """It was committed, the answer was lost: asked again, it is a success and no lost lease, and nothing is done twice."""
    daemon = stand.start(stand.tcp(proxy.port), queue={"on_done": on_done})
    for _ in range(3):
        mark = daemon.mark()
        proxy.lose_reply = DONE
        (i,) = stand.send()
        daemon.wait_log(again(), start=mark)
        daemon.wait_settled(outcome="done", start=mark)
    stand.drain()
    assert proxy.replies_lost == 3
    assert stand.logged("lease lost") == 0
    done = [s for s in stand.steps() if s.what == "E"]
    assert len(done) == 3 and len({s.uuid for s in done}) == 3
    assert stand.value("select count(*) from pgmq.a_work") == (3 if on_done == "archive" else 0)


@pytest.mark.parametrize("statement", [CLAIM, DONE], ids=["claim", "done"])
def test_kill_at_a_commit(stand, proxy, statement):
    """The statement was committed, and the process that sent it dies before it hears of that: delivered again, or not at all."""
    daemon = stand.start(stand.tcp(proxy.port), queue={"visibility_timeout": "1s"})
    sessions = "select pid from pg_stat_activity where application_name like 'pgmqd worker%' and datname = current_database()"
    for n in (1, 2, 3):
        wait_until("a worker", lambda: any("worker" in title for title in daemon.children().values()))
        worker = daemon.child("worker")  # beforehand, since it takes a while under valgrind
        old = {row[0] for row in stand.db.execute(sessions).fetchall()}
        proxy.lose_reply = statement
        ids = stand.send()
        wait_until("the statement", lambda k=n: proxy.replies_lost == k, every=0.001)
        os.kill(worker, signal.SIGKILL)
        gone(worker)
        stand.effect_of(ids)
        # a claim that the dead one has sent ahead must not take the next message
        wait_until("its session is over", lambda: not old & {row[0] for row in stand.db.execute(sessions).fetchall()})
    stand.drain()
    stand.verdict().check()
    begun = [s.attempt for s in stand.steps() if s.what == "B"]
    if statement is CLAIM:  # 1: the claim whose answer was lost had been sent before the message, as after a start
        assert len(begun) == 3 and set(begun) in ({2}, {1, 2}), begun
    else:
        assert set(begun) == {1}, begun


def test_lost_reply_to_a_transaction_of_the_plugin(stand, proxy):
    """done_with: the plugin's rows and the archive came together, once."""
    daemon = stand.start(stand.tcp(proxy.port))
    for _ in range(3):
        mark = daemon.mark()
        proxy.lose_reply = FENCE
        stand.send(do="done_with")
        daemon.wait_settled(outcome="done", start=mark)
    stand.drain()
    assert proxy.replies_lost == 3
    assert stand.value("select count(*) from public.effects") == stand.value("select count(*) from pgmq.a_work") == 3
    assert stand.logged("lease lost") == 0


def test_lost_reply_to_a_release(stand, proxy):
    """A claim that does not count is written down once, although it is told twice, and forgotten with its message."""
    daemon = stand.start(stand.tcp(proxy.port), queue={"config_retry": "1h"})
    proxy.lose_reply = RELEASE
    mark = daemon.mark()
    ids = stand.send(do="config")
    daemon.wait_log(again(), start=mark)
    daemon.wait_settled(outcome="config", start=mark)
    assert proxy.replies_lost == 1 and stand.logged("lease lost") == 0
    assert stand.db.execute("select read_ct, n from pgmqd.refunds").fetchall() == [(1, 1)]
    stand.db.execute("update pgmq.q_work set message = message || '{\"do\": \"done\"}'")
    daemon.reload()
    stand.effect_of(ids)
    stand.drain()
    assert [s.attempt for s in stand.steps()] == [1, 1, 1], "delivered twice, and one attempt"
    assert stand.value("select pgmqd.delete_old()") == {"pgmqd.refunds": 1}


def test_lost_reply_to_a_claim(stand, proxy):
    """The messages are claimed and nobody knows: they come back when the lease ends, once each. The claim counts as an attempt, since it
    may have been a message that broke the connection, which must not go round for ever."""
    daemon = stand.start(stand.tcp(proxy.port))
    for _ in range(5):
        proxy.lose_reply = CLAIM
        mark = daemon.mark()
        ids = stand.send(5)
        daemon.wait_log(again(), start=mark)
        stand.effect_of(ids)
        if 2 in {s.attempt for s in stand.steps()}:
            break  # else it had been sent before the messages
    stand.drain()
    stand.verdict().check()
    assert {s.attempt for s in stand.steps()} in ({2}, {1, 2})  # the first one may have come ahead of the others


def test_message_that_breaks_each_claim(stand, proxy):
    """Whatever is in between cannot stand it: it is dead after its attempts, and what was claimed with it is not."""
    proxy.keep = lambda kind, body: kind != "D" or len(body) < 1000000 or proxy.cut() < 0
    stand.start(stand.tcp(proxy.port), queue={"max_attempts": 4, "visibility_timeout": "1s"})
    with stand.db.transaction():
        good = stand.send(5)
        (bad,) = stand.send(x="y" * 2000000)
        good += stand.send(5)
    stand.effect_of(good)
    wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1)
    stand.effect_of(stand.send(5))
    stand.drain()
    assert list(stand.verdict().check().dead) == [bad]


# ---- notifications that get lost, and too many of them ----

def test_without_notifications_the_poll_takes_over(stand, proxy):
    """As behind a transaction pooler: LISTEN is accepted and nothing ever comes. The canary tells, the poll does the work."""
    proxy.keep = lambda kind, body: kind != "A"
    daemon = stand.start(stand.tcp(proxy.port), fallback_poll="1h", poll_when_deaf="300ms")
    daemon.wait_log("notifications do not arrive")
    for _ in range(5):
        stand.effect_of(stand.send(), 5)
    proxy.keep = None
    daemon.wait_log("notifications arrive again")
    stand.effect_of(stand.send(), 5)
    stand.drain()
    stand.verdict().check()


def test_flood_of_notifications(stand, counting):
    """Junk, other queues and our own name 30,000 times: looks stay few, memory stays small, messages flow."""
    from lib.stand import memory_kb
    daemon = stand.start(**counting.settings)
    (listener,) = [pid for pid, title in daemon.children().items() if "listener" in title]
    before, first = memory_kb(listener), counting()
    stop = threading.Event()

    def flood():
        with stand.cluster.connect(stand.dbname) as db:
            while not stop.is_set():
                with db.transaction():
                    db.execute("select count(pg_notify('pgmqd', case n % 3 when 0 then 'work' || repeat(' ', n) when 1 then 'other' || n"
                               " else repeat('\u00e9', 3000) || n end)) from generate_series(1, 1000) n")
                db.execute("select pg_notify('pgmqd', 'work')")

    t = threading.Thread(target=flood, daemon=True)
    t.start()
    try:
        for _ in range(5):
            stand.effect_of(stand.send(5), 10)
        wait_until("30,000 notifications", lambda: counting() - first >= 30000, 60)
    finally:
        stop.set()
        t.join()
    stand.drain()
    stand.verdict().check()
    if not INSTRUMENTED:
        assert memory_kb(listener) - before < 8192
