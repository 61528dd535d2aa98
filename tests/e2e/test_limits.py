"""Limits of a queue over all dispatchers: rates and places, of the queue and of each of its keys."""

import json
import os
import random
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lib.daemon import Daemon, conf, run
from lib.pgcluster import free_port
from lib.rig import Rig
from lib.stand import Stand, boottime_ms, wait_until

LONG = os.environ.get("PGMQD_LONG")  # tests/faults/run --limits
QUICK = {"visibility_timeout": "2s", "max_in_flight": 8}
BY_CUSTOMER = "header:customer"


@pytest.fixture
def stand(cluster, database):
    """The queue "work", its effect ledger, and any number of dispatchers."""
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work'), pgmqd.limit_queue('work', 'header:customer')")
    with Stand(cluster, database) as s:
        yield s


def fill(stand, n, customer, **message):
    """n messages of a customer that are due since a minute."""
    stand.db.execute("insert into pgmq.q_work (vt, message, headers) select now() - interval '1 min', %s, %s from generate_series(1, %s)",
                     [json.dumps(message), json.dumps({"customer": customer}), n])


def begun(stand):
    """When each delivery began, in seconds, in order."""
    return sorted(s.at / 1e3 for s in stand.steps() if s.what == "B")


def check_rate(times, rate, burst):
    """In no window there are more than burst + rate x time."""
    least = float("inf")  # of what had begun before a time beyond the rate
    for i, at in enumerate(times):
        least = min(least, i - rate * at)
        assert i + 1 - rate * at - least <= burst + rate * 0.002, f"at {at:.3f}"


def most_at_once(stand, of=lambda step: None, killed=()):
    """The greatest number of messages that were handled at the same time, of each key; `killed`: (pid, when) of processes."""
    most, running = defaultdict(int), defaultdict(set)
    for s in stand.steps():
        key = of(s)
        dead = {pid for pid, at in killed if s.at > at}
        running[key] = {r for r in running[key] if r[0] != s.msg_id and r[1] not in dead}
        if s.what == "B":
            running[key].add((s.msg_id, s.pid))
        most[key] = max(most[key], len(running[key]))
    return most


# ---- rates ----

def kill_in_turn(stand, daemons, kills, steps):
    """Ends the worker of one after the other, each when some more messages are done; [(pid, when)]."""
    killed = []
    for n in range(kills):
        wait_until("progress", lambda: stand.value("select count(*) from pgmq.a_work") > (n + 1) * steps)
        killed.append((daemons[n % len(daemons)].kill_child("worker"), boottime_ms()))
    return killed


def test_a_rate_over_three_dispatchers_and_kills(stand):
    """Never above burst + rate x time; in the long form it is seen that most of the rate is used, too."""
    n, rate, kills = (12000, 100, 10) if LONG else (240, 40, 2)
    fill(stand, n, "a")
    daemons = [stand.start(queue={**QUICK, "rate": f"{rate}/s", "rate_burst": 20}, shared_poll="200ms") for _ in range(3)]
    kill_in_turn(stand, daemons, kills, n // (kills + 2))
    stand.drain(200)
    times = begun(stand)
    check_rate(times, rate, 20)
    assert len(times) >= n
    used = len(times) / (20 + rate * (times[-1] - times[0]))
    print(f"{len(times)} deliveries within {times[-1] - times[0]:.1f} s, {kills} kills: {used:.1%} of the rate")
    assert used >= 0.95 or not LONG


def test_each_key_has_its_rate_and_passes_others(stand):
    """One customer's flood waits, and costs those who come behind it nothing; what waits has no attempt and no lease."""
    fill(stand, 1500, "flood")
    fill(stand, 5, "small")
    fill(stand, 5, None)
    stand.start(queue={**QUICK, "rate": "2/min", "rate_burst": 5, "rate_key": BY_CUSTOMER})
    wait_until("the others", lambda: stand.value("select count(*) = 10 from pgmq.a_work where headers->>'customer' is distinct from 'flood'"))
    wait_until("the flood's burst", lambda: stand.value("select count(*) from pgmq.a_work") >= 15)
    assert stand.value("select count(*) from pgmq.q_work where read_ct > 0 or vt > now() - interval '30 s'") <= 1
    assert stand.value("select count(*) from pgmq.a_work where headers->>'customer' = 'flood'") <= 6
    kept = json.loads(run("status", "--json", "work", "-d", stand.conninfo).stdout)["queues"][0]["kept_back"]
    assert kept["rate"] in (1494, 1495) and kept["key"] is None and kept["place"] is None
    assert "149" in (said := run("status", "work", "-d", stand.conninfo).stdout) and "wait for the rate" in said
    assert "messages wait for the rate" in run("doctor", "-d", stand.conninfo).stdout


def test_a_rate_by_process_is_each_ones_own(stand):
    fill(stand, 100, "a")
    for _ in range(2):
        stand.start(queue={**QUICK, "rate": "1/h", "rate_burst": 4, "rate_scope": "process"})
    wait_until("both bursts", lambda: len(begun(stand)) >= 8)
    assert len({s.pid for s in stand.steps()}) == 2 and len(begun(stand)) == 8


@pytest.mark.parametrize("key, other", [("body:/to/0", {"to": ["b"]}), ("body:/a~1b", {"a/b": 1})])
def test_a_key_out_of_the_body(stand, key, other):
    stand.db.execute("select pgmqd.limit_queue('work', %s)", [key])
    fill(stand, 3, None, to=["a"])
    fill(stand, 1, None, **other)
    stand.start(queue={**QUICK, "rate": "1/h", "rate_key": key})
    wait_until("one of each", lambda: stand.value("select count(*) from pgmq.a_work") == 2)
    assert stand.logged("has no index") == 0


# ---- places ----

def test_places_of_the_queue_over_three_dispatchers(stand):
    fill(stand, 60, "a", sleep_ms=50)
    for _ in range(3):
        stand.start(queue={**QUICK, "max_in_flight_cluster": 4}, shared_poll="200ms")
    stand.drain()
    assert most_at_once(stand)[None] == 4


def test_places_of_a_key_over_three_dispatchers_and_kills(stand):
    """Never more than two of a customer at once; a dead worker's places come back with its leases."""
    keys, each, kills = (50, 2000, 12) if LONG else (8, 25, 2)
    for n in range(keys):
        fill(stand, each, f"c{n}", sleep_ms=30 if not LONG else n % 5)
    if not LONG:
        fill(stand, 1200, "flood", sleep_ms=1)
    places = {"concurrency": 2, "concurrency_key": BY_CUSTOMER, "max_in_flight": 50 if LONG else 8}
    daemons = [stand.start(queue={**QUICK, **places}, shared_poll="200ms") for _ in range(3)]
    killed = kill_in_turn(stand, daemons, kills, keys * each // 20 if LONG else 50)
    stand.drain(900 if LONG else 60)
    of = dict(stand.db.execute("select msg_id, headers->>'customer' from pgmq.a_work").fetchall())
    most = most_at_once(stand, lambda s: of[s.msg_id], killed)
    assert set(most.values()) <= {1, 2} and max(most.values()) == 2
    assert len(of) == (keys * each if LONG else 1400)


def test_a_queue_without_the_index_says_so(stand):
    stand.db.execute("select pgmqd.limit_queue('work', null, false)")
    fill(stand, 3, "a")
    stand.start(queue={**QUICK, "concurrency": 1, "concurrency_key": BY_CUSTOMER})
    stand.drain()
    assert stand.logged("SELECT pgmqd.limit_queue('work', 'header:customer')") == 1


def test_limits_change_with_a_reload(stand):
    """What waits goes on by the new ones."""
    fill(stand, 30, "a")
    daemon = stand.start(queue={**QUICK, "rate": "1/h", "rate_burst": 2}, fallback_poll="1h")
    wait_until("the burst", lambda: len(begun(stand)) == 2)
    daemon.write_conf(daemon.conf_text.replace("1/h", "100/s").replace("rate_burst = 2", "rate_burst = 20"))
    daemon.reload()
    stand.drain()
    assert stand.value("select rate from pgmqd.limits") == 100


# ---- unique keys ----

def test_each_unique_key_once_of_many_producers_with_rollbacks_and_kills(cluster, database):
    """All of them come with every key, some to a transaction; of these some are rolled back, and of some the session is killed. Each key is sent once."""
    producers, keys = (32, 10000) if LONG else (8, 120)
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('unique')")
    ends = defaultdict(int)

    def produce(seed):
        rng = random.Random(seed)
        order, db = rng.sample(range(keys), keys), None
        while order:
            some = sorted(order[:rng.randint(1, 9)])  # in one order, so that no two transactions wait for each other
            end = rng.choices(("commit", "rollback", "kill"), (85, 10, 5))[0]
            db = db or cluster.connect(database, autocommit=False)
            try:
                for key in some:
                    db.execute("select pgmqd.enqueue('unique', %s::text::jsonb, unique_key => %s)", [json.dumps(key), f"key {key}"])
                db.execute("select pg_terminate_backend(pg_backend_pid())" if end == "kill" else end)
            except psycopg.OperationalError:
                db = db.close()
            ends[end] += 1
            if end == "commit":
                order = order[len(some):]
        if db:
            db.close()

    with ThreadPoolExecutor(producers) as pool:
        list(pool.map(produce, range(producers)))
    with cluster.connect(database) as db:
        assert db.execute("select count(*), count(distinct message::text) from pgmq.q_unique").fetchone() == (keys, keys)
    assert len(ends) == 3
    print(f"{producers} producers of {keys} keys: {dict(ends)}")


# ---- turns, and single keys ----

def test_a_flood_does_not_make_others_wait(stand):
    """With fair_by, a small customer's messages are among the next that start, however many of another one wait."""
    fill(stand, 2000, "flood", sleep_ms=20)
    stand.start(queue={**QUICK, "max_in_flight": 2, "fair_by": BY_CUSTOMER})
    wait_until("the flood", lambda: len(begun(stand)) > 10)
    fill(stand, 3, "small")
    seen = len(begun(stand))
    wait_until("the small one", lambda: stand.value("select count(*) = 3 from pgmq.a_work where headers->>'customer' = 'small'"))
    small = {i for i, in stand.db.execute("select msg_id from pgmq.a_work where headers->>'customer' = 'small'")}
    order = [s.msg_id for s in stand.steps() if s.what == "B"]
    assert max(order.index(i) for i in small) < seen + 200, "the flood has 2,000"
    stand.db.execute("delete from pgmq.q_work where vt <= now()")
    stand.drain()


def test_turns_of_a_thousand_keys(stand):
    """Each of them has its turn, and a claim reads some hundred messages and not as many of each key as it might take (it was 50,000)."""
    stand.db.execute("""insert into pgmq.q_work (vt, message, headers) select now() - interval '1 min', '{}', jsonb_build_object('customer', n %% %s)
                        from generate_series(1, 40000) n""", [1000])
    stand.db.execute("analyze pgmq.q_work")
    read = "select idx_tup_fetch from pg_stat_user_tables where relname = 'q_work'"
    before = stand.value(read)
    daemon = stand.start(queue={**QUICK, "max_in_flight": 50, "fair_by": BY_CUSTOMER})
    wait_until("two turns", lambda: stand.value("select count(*) from pgmq.a_work") >= 2000, 120)
    daemon.kill()
    wait_until("its sessions' end", lambda: not stand.value("select exists (select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid())"))
    done, most = stand.db.execute("select sum(n), max(n) from (select count(*) as n from pgmq.a_work group by headers->>'customer') x").fetchone()
    assert most <= 10, "of 40"
    assert stand.value(read) - before < 200 * int(done)


def test_a_place_is_left_to_a_key_that_has_none(stand):
    """However long a flood's handlers take: they do not have every place, and the first message of a small customer starts beside them."""
    fill(stand, 10, "flood", sleep_ms=600000)
    daemon = stand.start(queue={**QUICK, "max_in_flight": 4, "fair_by": BY_CUSTOMER}, fallback_poll="1h")
    wait_until("the flood", lambda: len(begun(stand)) == 3)
    for n in (1, 2):
        stand.db.execute("""select pgmq.send('work', '{}', '{"customer": "small"}'::jsonb)""")
        wait_until("the small one", lambda: stand.value("select count(*) from pgmq.a_work") == n)
    assert len(begun(stand)) == 5
    daemon.kill()


def test_a_key_is_paused_and_resumed(stand):
    stand.start(queue={**QUICK, "fair_by": BY_CUSTOMER}, fallback_poll="1h")
    assert "the key is paused" in run("pause", "work", "--key", "customer=a", "-d", stand.conninfo).stdout
    fill(stand, 2, "a")
    fill(stand, 2, "b")
    wait_until("the other key", lambda: stand.value("select count(*) from pgmq.a_work") == 2)
    assert stand.value("select count(*) from pgmq.q_work where headers->>'customer' = 'a' and read_ct = 0") == 2
    stand.stop(stand.daemons[0])
    stand.start(queue={**QUICK, "fair_by": BY_CUSTOMER}, fallback_poll="1h")
    fill(stand, 1, "b")
    stand.db.execute("select pgmq.send('work', '{}', '{\"customer\": \"b\"}'::jsonb)")
    wait_until("the other key, after a restart", lambda: stand.value("select count(*) from pgmq.a_work") == 4)
    assert stand.value("select count(*) from pgmq.q_work where headers->>'customer' = 'a' and read_ct = 0") == 2
    assert "the key is resumed" in run("resume", "work", "--key", "a", "-d", stand.conninfo).stdout
    stand.drain()


def test_paused_keys_are_shown(stand):
    """By whom, why, and how many wait for it: by status, doctor and metrics; a weight, too."""
    port = free_port()
    stand.start(queue={**QUICK, "fair_by": BY_CUSTOMER}, fallback_poll="1h", http_listen=f"127.0.0.1:{port}")
    run("pause", "work", "--key", "customer=a", "--reason", "they asked", "-d", stand.conninfo)
    stand.db.execute("select pgmqd.weigh_key('work', 'b', 2)")
    fill(stand, 2, "a")
    said = run("status", "work", "-d", stand.conninfo).stdout
    assert "2 wait for their key, which is paused or held" in said and 'key "b": weight 2' in said
    assert 'key "a": paused by ' in said and ": they asked" in said
    queue = json.loads(run("status", "--json", "work", "-d", stand.conninfo).stdout)["queues"][0]
    assert queue["kept_back"] == {"rate": None, "key": None, "place": None, "pause": 2}
    assert [(k["key"], k["weight"], k["reason"], k["due"]) for k in queue["keys"]] == [("a", 1, "they asked", 2), ("b", 2, None, 0)]
    assert "2 messages wait for keys that are paused or held (a by " in run("doctor", "-d", stand.conninfo).stdout
    assert 'queue_kept_back{queue="work",by="pause"} 2' in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    run("resume", "work", "--key", "a", "-d", stand.conninfo)
    stand.drain()


def test_dispatchers_that_do_not_agree_are_named(stand):
    """By the one that comes later, and by doctor; a reload is no second dispatcher."""
    one = stand.start(queue={**QUICK, "rate": "10/s"})
    assert "different limits" not in run("doctor", "-d", stand.conninfo).stdout
    two = stand.start(queue={**QUICK, "rate": "20/s"})
    two.wait_log(lambda r: "rate 10.000000/s" in r.get("text", "") and "has other limits" in r["text"])
    said = run("doctor", "-d", stand.conninfo).stdout
    assert "its dispatchers have different limits" in said and "rate 20.000000/s" in said and f"process {one.process.pid}" in said
    three = stand.start(queue=QUICK)
    three.wait_log(lambda r: "has other limits" in r.get("text", ""))
    assert stand.value("select rate from pgmqd.limits") == 20, "one that has none does not take away the others'"
    assert stand.logged("has other limits") == 2


def test_a_plugin_holds_the_key_of_its_message(cluster, database, tmp_path):
    """Retry-After of one customer: none of that customer's messages is started, no attempt is counted, and the others go on."""
    path, notes = tmp_path / "program", tmp_path / "notes"
    path.write_text("#!/usr/bin/python3\nimport json, sys\nfor line in sys.stdin:\n    t = json.loads(line)\n"
                    f"    print(t['message'], t['headers']['customer'], file=open({str(notes)!r}, 'a'), flush=True)\n"
                    "    print(json.dumps({'id': t['id'], 'outcome': 'retry_key' if t['message'] == 1 else 'done', 'delay': 3600, 'reason': 'busy'}), flush=True)\n")
    path.chmod(0o755)
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work'), pgmqd.limit_queue('work', 'header:customer')")
        for n, customer in ((1, "a"), (2, "b")):
            db.execute("select pgmq.send('work', %s::jsonb, %s::jsonb)", [json.dumps(n), json.dumps({"customer": customer})])
    with Rig(cluster, database, None) as rig:
        daemon = Daemon(conf(rig.login, {"work": {"plugin": "exec", "command": path, "mode": "pool", "programs": 1, "concurrency": 1,
                                                  "concurrency_key": BY_CUSTOMER}})).start()
        rig.daemon = daemon
        daemon.wait_settled(outcome="release", attempt=1)
        for n, customer in ((3, "a"), (4, "b")):
            rig.db.execute("select pgmq.send('work', %s::jsonb, %s::jsonb)", [json.dumps(n), json.dumps({"customer": customer})])
        wait_until("the other customer is served", lambda: rig.value("select count(*) from pgmq.a_work") == 2)
        assert "3 a" not in notes.read_text() and rig.value("select key from pgmqd.keys where held_until > now() + interval '50 min'") == "a"
        rig.db.execute("update pgmqd.keys set held_until = now()")
        rig.db.execute("select pgmq.send('work', '5', '{\"customer\": \"a\"}'::jsonb)")
        wait_until("it is free", lambda: rig.value("select count(*) from pgmq.a_work") == 4)


@pytest.mark.parametrize("outcome", ["postpone", "retry_key"])
@pytest.mark.parametrize("delay", [None, 0, -5, "soon"])
def test_no_delay_is_the_backoff(cluster, database, tmp_path, outcome, delay):
    """And not a message that is delivered hundreds of times a second."""
    answer = {"outcome": outcome} if delay is None else {"outcome": outcome, "delay": delay}
    path = tmp_path / "program"
    path.write_text(f"#!/usr/bin/python3\nimport json, sys\nfor line in sys.stdin:\n    print(json.dumps(dict({answer!r}, id=json.loads(line)['id'])), flush=True)\n")
    path.chmod(0o755)
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work'), pgmqd.limit_queue('work', 'header:customer')")
        db.execute("""insert into pgmq.q_work (vt, enqueued_at, message, headers) values (now(), now() - interval '1 h', '{}', '{"customer": "a"}')""")
    with Rig(cluster, database, None) as rig:
        rig.daemon = Daemon(conf(rig.login, {"work": {"plugin": "exec", "command": path, "mode": "pool", "programs": 1, "fair_by": BY_CUSTOMER, "backoff_min": "40s"}})).start()
        rig.daemon.wait_settled(outcome="release", attempt=1)
        assert rig.value("select vt > now() + interval '15 s' and read_ct = 1 from pgmq.q_work")


def test_a_schema_of_before_is_named(own_rig):
    """A table without what this version needs is told with its remedy, once migrated the queue is served, and no claim fails before."""
    own_rig.db.execute("alter table pgmqd.keys drop column held_until")
    daemon = own_rig.start(queues={"email_queue": {"plugin": "null", "rate": "100/s", "rate_key": BY_CUSTOMER}}, ready=False)
    daemon.wait_log(lambda r: "no table pgmqd.keys with a column held_until; run pgmqd migrate" in r.get("text", ""))
    own_rig.db.execute("alter table pgmqd.keys add column held_until timestamptz")
    daemon.reload()
    daemon.wait_ready()
    daemon.wait_settled(msg_id=own_rig.enqueue({}), outcome="done")
