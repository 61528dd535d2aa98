"""PostgreSQL that restarts, crashes, throws sessions out, is away, is busy, and tables that change."""

import os
import random
import signal
import time

import psycopg
import pytest

from lib.campaign import restart_campaign, terminate_campaign
from lib.pgcluster import Cluster
from lib.proxy import Proxy
from lib.stand import wait_until


def test_five_immediate_restarts(stand, seed):
    result = restart_campaign(stand, 5, random.Random(seed))
    # the settlement that was under way may not have been committed, then its effect is repeated when the lease ends
    stand.verdict().check()
    assert max(result.recovery) < 15, result.recovery


@pytest.mark.parametrize("process", ["worker", "listener"])
def test_crash_of_one_backend(stand, process):
    """kill -9 of a session makes the server recover; every session is lost with it."""
    daemon = stand.start()
    p = stand.produce(50)
    wait_until("load", lambda: len(stand.steps()) > 30)
    mark = daemon.mark()
    (pid,) = [pid for pid, name in stand.backends().items() if process in name]
    os.kill(pid, signal.SIGKILL)
    for name in ("worker", "listener"):
        daemon.wait_log(lambda r, n=name: r.get("process") == n and "connected to the database again" in r.get("text", ""), start=mark)
    p.stop()
    wait_until("the server is back", lambda: connects(stand))
    stand.drain()
    stand.verdict().check()


def connects(stand):
    try:
        return stand.value("select 1")
    except psycopg.OperationalError:
        return None


def test_sessions_terminated_twenty_times_a_second(stand, seed):
    """For five seconds; no session is left over afterwards."""
    result = terminate_campaign(stand, 5, random.Random(seed))
    assert result.faults > 30
    stand.verdict().check()
    wait_until("one session of each process", lambda: result.sessions == stand.sessions())


# The second connection's statements wait while there is a row in "gate"; those of the first one are slow, so that there is a backlog.
GATE = """create table public.gate (n int); insert into public.gate values (1);
create function public.wait_at_gate() returns trigger language plpgsql as $$ begin
  if current_setting('application_name') not like 'pgmqd settle%' then perform pg_sleep(0.2); return null; end if;
  while exists (select from public.gate) loop perform pg_sleep(0.01); end loop; return null; end $$;
create trigger wait_at_gate after insert on pgmq.a_work for each statement execute function public.wait_at_gate()"""


@pytest.mark.parametrize("dies", [("settle",), ("worker",), ("settle", "worker")], ids="+".join)
def test_one_of_two_connections_dies(stand, dies):
    """While claims and outcomes have a connection each, with outcomes under way: each message has its effect once, and is archived."""
    def held():
        return stand.value("select count(*) from pg_stat_activity where application_name = 'pgmqd settle work' and datname = current_database()"
                           " and state = 'active' and query not like 'SELECT %%'")

    stand.db.execute(GATE)
    stand.start(queue={"max_in_flight": 100})
    stand.send(6000)
    wait_until("outcomes wait on the second connection", held)
    for pid in [pid for pid, name in stand.backends().items() if name.split()[1] in dies]:
        stand.db.execute("select pg_terminate_backend(%s)", [pid])
    wait_until("the messages on their way come by the first", lambda: stand.logged("is lost") or stand.logged("database connection lost"))
    stand.db.execute("delete from public.gate")
    stand.db.execute("drop trigger wait_at_gate on pgmq.a_work")
    stand.drain()
    stand.verdict().check()
    assert not stand.logged("lease lost")


def test_no_second_connection(stand):
    """The role may have no more connections: one carries everything."""
    stand.start(stand.cluster.conninfo(stand.dbname, user="pgmqd"), queue={"max_in_flight": 100})
    stand.db.execute("alter role pgmqd connection limit 1")
    try:
        stand.send(3000)
        wait_until("a second one is refused", lambda: stand.logged("no second connection"))
        stand.drain()
        stand.verdict().check()
    finally:
        stand.db.execute("alter role pgmqd connection limit -1")


def test_server_away_for_ten_seconds(stand, cluster):
    """Connects come ever less often, and messages flow soon after it is back."""
    with Proxy("127.0.0.1", cluster.port) as proxy:
        daemon = stand.start(stand.tcp(proxy.port))
        stand.effect_of(stand.send(5))
        proxy.accepting, start = False, len(proxy.times)
        cpu = sum(sum(cputime(pid)) for pid in daemon.children())
        proxy.cut()
        time.sleep(10)  # this is the fault
        tries = len(proxy.times) - start
        cpu = sum(sum(cputime(pid)) for pid in daemon.children()) - cpu
        proxy.accepting = True
        stand.effect_of(stand.send(5), 35)
        stand.drain()
        stand.verdict().check()
        assert 4 <= tries <= 60, f"{tries} connects in 10 s by two processes"
        assert cpu < 100, f"{cpu} ticks"


def cputime(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return [int(n) for n in f.read().rpartition(")")[2].split()[11:13]]


@pytest.fixture
def standby(cluster):
    """A second server that follows the first one, and is one's own when promoted."""
    other = Cluster(tcp=True)
    try:
        yield other.follow(cluster)
    finally:
        other.destroy()


def test_failover_to_a_standby(stand, cluster, standby):
    """The primary goes, the standby is promoted: both are in the connection string, and what was replicated is not lost. (Asynchronous
    replication loses what was not; here the last of it is waited for.)"""
    conninfo = (f"host=127.0.0.1,127.0.0.1 port={cluster.port},{standby.port} user=postgres dbname={stand.dbname}"
                " target_session_attrs=read-write connect_timeout=5")
    daemon = stand.start(conninfo)
    p = stand.produce(50, sleep_ms=20)
    wait_until("load", lambda: len(stand.steps()) > 50)
    p.stop()
    at = stand.value("select pg_current_wal_lsn()")
    with standby.connect(stand.dbname) as db:
        wait_until("replicated", lambda: db.execute("select pg_last_wal_replay_lsn() >= %s", [at]).fetchone()[0])
        cluster.stop("immediate")
        db.execute("select pg_promote()")
    try:
        stand.disconnect()
        stand.cluster = standby
        daemon.wait_log("connected to the database again")
        stand.effect_of(stand.send(20), 60)
        stand.drain()
        # the old primary is back, and takes writes: nobody goes there, although it is the first of the two
        cluster.start()
        mark = daemon.mark()
        stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgmqd worker%%'")
        daemon.wait_log("is refused: the server is an old primary", start=mark)
        daemon.wait_log("connected to the database again", start=mark)
        stand.effect_of(stand.send(5))
        stand.drain()
        # settlements that were not replicated any more are made again
        stand.verdict().check(doubled=50)
        stand.stop(daemon)
    finally:
        stand.disconnect()
        stand.cluster = cluster
        if cluster.process.poll() is not None:
            cluster.start()


def test_long_snapshot(stand):
    """A transaction that holds a snapshot open makes dead rows pile up; messages flow all the same."""
    stand.start()
    with stand.cluster.connect(stand.dbname, autocommit=False) as holder:
        holder.execute("set transaction isolation level repeatable read")
        holder.execute("select count(*) from pgmq.q_work")
        for _ in range(5):
            stand.effect_of(stand.send(400))
    stand.drain()
    stand.verdict().check()


def test_many_delayed_messages(stand):
    """50,000 that wait for tomorrow cost a claim nothing: it goes by the index."""
    stand.db.execute("insert into pgmq.q_work (vt, message) select now() + interval '1 day', jsonb_build_object('uuid', 'later')"
                     " from generate_series(1, 50000)")
    stand.start(fallback_poll="1h")
    for _ in range(10):
        stand.effect_of(stand.send(20), 5)
    wait_until("settled", lambda: stand.value("select count(*) from pgmq.a_work") == 200)
    plan = "\n".join(r[0] for r in stand.db.execute(
        "explain (analyze, buffers, costs off, timing off) select msg_id from pgmq.q_work where vt <= (select clock_timestamp())"
        " order by vt limit 10 for update skip locked").fetchall())
    assert "Index Scan" in plan or "Index Only Scan" in plan, plan
    stand.db.execute("delete from pgmq.q_work where message->>'uuid' = 'later'")
    stand.verdict().check()


def test_a_trigger_that_fails_makes_no_circle(stand):
    """A settlement that fails as if the tables had changed, every time, is tried again slowly, and not at full speed."""
    stand.db.execute("create function public.broken() returns trigger language plpgsql as"
                     " $$ begin perform * from public.nowhere; return new; end $$")
    stand.db.execute("create trigger broken before insert on pgmq.a_work for each row execute function public.broken()")
    daemon = stand.start(queue={"visibility_timeout": "30s"})
    worker = daemon.child("worker")
    began, cpu = time.monotonic(), sum(cputime(worker))
    ids = stand.send(3)
    wait_until("it was tried again and again", lambda: stand.logged("cannot settle") >= 2)
    assert all(r["level"] == "error" for r in daemon.records() if "cannot settle" in r.get("text", ""))
    busy, took = (sum(cputime(worker)) - cpu) / os.sysconf("SC_CLK_TCK"), time.monotonic() - began
    assert busy < took / 4, f"{busy} s of a processor in {took} s"
    stand.db.execute("drop trigger broken on pgmq.a_work")
    stand.drain()
    stand.verdict().check()
    assert len(ids) == 3


@pytest.mark.parametrize("sql,reason", [("select 1 / count(*) from pg_class where relname = $1", "division by zero"),
                                        ("select", "bind message supplies 1 parameters")])
def test_error_of_the_plugins_own_statement(stand, sql, reason):
    """A division by zero in done_with, or another number of parameters, is the plugin's error: tried again and dead-lettered with it, and not a lost
    lease."""
    stand.start(queue={"max_attempts": 2})
    (i,) = stand.send(do="done_with", sql=sql)
    stand.drain(20)
    v = stand.verdict()
    assert i in v.dead and stand.logged("lease lost") == 0
    dead = stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq")
    assert reason in dead


@pytest.mark.parametrize("setting", ["role", "session_authorization"])
def test_plugin_that_changes_the_role(stand, setting):
    """A role that a plugin's statement leaves behind costs the next ones a try: the session is made ours again."""
    stand.db.execute("create role few_rights")
    try:
        stand.start(queue={"visibility_timeout": "30s"})
        for more in ({"sql": f"select set_config('{setting}', 'few_rights', false) where $1 <> ''"}, {}, {}):
            stand.effect_of(stand.send(do="done_with", **more))
            wait_until("settled", lambda: stand.value("select count(*) from pgmq.q_work") == 0)
        assert stand.value("select count(*) from public.effects") == 2 and not stand.verdict().dead
    finally:
        stand.db.execute("drop role few_rights")


def test_lost_lease_of_a_transaction_of_the_plugin(stand):
    """done_with under a lease that is another one's now: the plugin's rows are rolled back."""
    daemon = stand.start(queue={"visibility_timeout": "30s"})
    (i,) = stand.send(do="done_with", sleep_ms=500)
    stand.begun([i])
    stand.db.execute("update pgmq.q_work set read_ct = read_ct + 1, vt = now() + interval '2 seconds'")
    daemon.wait_log("lease lost")
    wait_until("done", lambda: stand.value("select count(*) from pgmq.a_work") == 1)
    assert stand.value("select count(*) from public.effects") == 1


def test_queue_that_is_dropped_and_made_anew(stand):
    daemon = stand.start()
    stand.effect_of(stand.send(5))
    stand.drain()
    stand.db.execute("select pgmq.drop_queue('work')")
    stand.db.execute("select pg_notify('pgmqd', 'work')")
    daemon.wait_log("does not exist")
    stand.db.execute("select pgmqd.create_queue('work')")
    ids = stand.send(5)
    stand.effect_of(ids)
    stand.drain()
    assert not [r for r in daemon.records() if "killed" in r.get("text", "")]
