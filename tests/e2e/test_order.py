"""Which message comes first: by priority across the whole queue, and groups in order, one at a time."""

import contextlib
import itertools
import json
import random

import psycopg
import pytest

from lib.paths import BUILDDIR
from lib.stand import SLOW, Stand, wait_until

EFFECT = BUILDDIR / "tests" / "plugins" / ".libs" / "pgmqd-effect-plugin.so"


def wait_empty(rig, queue, timeout=60):
    wait_until(f"queue {queue} empty", lambda: rig.db.execute(f"select not exists (select from pgmq.q_{queue})").fetchone()[0], timeout)


# ---- priority ----

def deliveries(rig, tmp_path, queue="urgent", **more):
    """Starts pgmqd with the null plugin, one message at a time; returns the file that lists the deliveries."""
    trace = tmp_path / "trace"
    trace.touch()
    rig.start(queues={queue: {"plugin": "null", "trace": trace, "max_in_flight": 1, **more}}, log_level="warn", ready=False)
    return trace


def order(trace):
    return [int(line.split()[0]) for line in trace.read_text().splitlines()]


@pytest.fixture
def urgent(rig):
    rig.db.execute("select pgmqd.create_queue('urgent'), pgmqd.prioritize_queue('urgent')")


def send(rig, priority):
    return rig.enqueue({"priority": priority}, "urgent")


def test_one_urgent_message_behind_ten_thousand(rig, urgent, tmp_path):
    rig.db.execute("select count(*) from pgmq.send_batch('urgent', array_fill('{\"priority\": 0}'::jsonb, array[10000]))")
    high = send(rig, 1)
    trace = deliveries(rig, tmp_path, max_in_flight=50)
    wait_empty(rig, "urgent")
    seen = order(trace)
    assert seen[0] == high
    assert len(seen) == len(set(seen)) == 10001


def test_all_numbers_have_their_place(rig, urgent, tmp_path):
    """Below and above the levels that are looked through one by one, fractions, and what is no number: 0."""
    numbers = [0, -1, 3, 100000, 9, 10, -9, -10, -70, 5, 1.5, 1, 50, -3, 1e30]
    rest = [rig.enqueue(text, "urgent") for text in ('{"priority": "high"}', '{}', '[1]', 'null', '{"priority": null}')]
    ids = {send(rig, n): n for n in numbers}
    trace = deliveries(rig, tmp_path)
    wait_empty(rig, "urgent")
    seen = order(trace)
    levels = [int(ids[i] // 1) if i in ids else 0 for i in seen]
    assert levels == sorted(levels, reverse=True)
    assert [i for i in seen if i in rest] == rest


def test_priority_also_among_what_is_claimed_already(rig, urgent, tmp_path):
    """With prefetch, messages wait in the worker; a more urgent one goes past them."""
    ledger = tmp_path / "ledger"
    first = rig.enqueue({"uuid": "first", "sleep_ms": 700}, "urgent")
    low = [send(rig, 0) for _ in range(5)]
    rig.start(queues={"urgent": {"plugin": EFFECT, "ledger": ledger, "max_in_flight": 1, "prefetch": 20}}, ready=False)
    wait_until("the first is running", lambda: ledger.exists() and f"B first {first}" in ledger.read_text())
    high = send(rig, 7)
    wait_empty(rig, "urgent")
    begun = [int(line.split()[2]) for line in ledger.read_text().splitlines() if line.startswith("B")]
    assert begun == [first, high, *low]


def test_delayed_and_retried_messages_of_any_priority(rig, urgent, tmp_path):
    rig.db.execute("select pgmq.send('urgent', '{\"priority\": 9}'::jsonb, 3600)")
    later = rig.enqueue({"priority": 9}, "urgent", SLOW)
    now = send(rig, -5)
    trace = deliveries(rig, tmp_path)
    wait_until("both", lambda: len(order(trace)) == 2)
    assert order(trace) == [now, later]


def test_the_index_comes_and_goes_under_a_running_worker(rig, tmp_path):
    rig.db.execute("select pgmqd.create_queue('urgent')")
    rig.start(queues={"urgent": {"plugin": "null"}}, fallback_poll="200ms", log_level="debug")

    mark = rig.daemon.mark()
    assert rig.db.execute("select pgmqd.prioritize_queue('urgent')").fetchone()[0]
    rig.daemon.wait_log("claims go by priority", start=mark)
    assert not rig.db.execute("select pgmqd.prioritize_queue('urgent')").fetchone()[0], "it is there already"
    mark = rig.daemon.mark()
    assert rig.db.execute("select pgmqd.prioritize_queue('urgent', false)").fetchone()[0]
    rig.daemon.wait_log("claims go by time", start=mark)
    send(rig, 1)
    wait_empty(rig, "urgent")


def claim_pages(rig, queue, **options):
    """How many pages the daemon's own claims read, by auto_explain: one figure for each until the queue's message was settled."""
    for name, value in {"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_analyze": "on",
                        "auto_explain.log_buffers": "on", "auto_explain.log_timing": "off", "auto_explain.log_format": "json"}.items():
        rig.db.execute(f"alter database {rig.dbname} set {name} = '{value}'")
    mark = rig.cluster.log.mark()
    rig.start(queues={queue: {"plugin": "null", **options}})
    rig.daemon.wait_settled(queue=queue)
    pages = wait_until("the claim's plan", lambda: pages_of(rig.cluster.log.snapshot()[mark:]))
    print("pages of each claim:", pages[:8])
    return pages


def pages_of(lines):
    """The pages of each claim in the server's log; the last plan may still be on its way."""
    plans = []
    for n, line in enumerate(lines):
        if line.endswith("plan:"):
            with contextlib.suppress(ValueError):
                plans.append(json.loads("".join(itertools.takewhile(lambda text: text.startswith("\t"), lines[n + 1:]))))
    return [p["Plan"]["Shared Hit Blocks"] + p["Plan"]["Shared Read Blocks"] for p in plans if "claimed AS" in p["Query Text"]]


def fill(rig, queue, n, vt, message):
    rig.db.execute(f"insert into pgmq.q_{queue} (vt, message) select now() + %s::interval, %s::jsonb from generate_series(1, %s)",
                   [vt, json.dumps(message), n])
    rig.db.execute(f"analyze pgmq.q_{queue}")


def test_a_claim_walks_over_no_delayed_message(rig):
    """500,000 of them; the claim of the one that is due reads a few pages."""
    rig.db.execute("select pgmqd.create_queue('later')")
    fill(rig, "later", 500000, "1 hour", {})
    rig.enqueue({}, "later")
    assert max(claim_pages(rig, "later")) < 60


@pytest.mark.parametrize("vt, priority", [("1 hour", 5), ("-1 s", -5)])
def test_a_claim_by_priority_walks_over_nothing(rig, urgent, vt, priority):
    """Neither over delayed messages of a higher priority, nor over due ones of a lower one."""
    fill(rig, "urgent", 20000, vt, {"priority": priority})
    send(rig, 2)
    assert max(claim_pages(rig, "urgent", max_in_flight=1)[:1]) < 150


# ---- groups ----

@pytest.fixture
def stand(cluster, database):
    """The queue "work", its effect ledger, and any number of dispatchers."""
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work'), pgmqd.group_queue('work')")
    with Stand(cluster, database) as s:
        yield s


GROUPED = {"ordered": "group", "visibility_timeout": "2s", "max_in_flight": 8}


def send_grouped(stand, group, **message):
    """One message of a group (None: of no group); returns its id."""
    return stand.value("select pgmq.send('work'::text, %s::jsonb, %s::jsonb)", [json.dumps(message), json.dumps({"group": group})])


def check_order(stand, group_of, silent=()):
    """Within each group messages begin in order, and none begins before the effect of the one before; `silent` ones have no effect."""
    current, ended, times = {}, set(), {}
    for s in stand.steps():
        group = group_of[s.msg_id]
        if s.what == "E":
            ended.add(s.msg_id)
        if s.what != "B" or group is None:
            continue
        former = current.get(group, s.msg_id)
        assert s.msg_id >= former, f"group {group}: {s.msg_id} after {former}"
        assert s.msg_id == former or former in ended or former in silent, f"group {group}: {s.msg_id} began while {former} ran"
        current[group] = s.msg_id
        times.setdefault(s.msg_id, 0)
    assert set(times) == {i for i, g in group_of.items() if g is not None}, "every message was delivered"


def test_a_group_waits_for_its_head_and_others_do_not(stand):
    """The head is handled for long; then it waits for a retry; then it dies. The group comes after that, others go on beside."""
    slow = send_grouped(stand, "slow", do="retry", until=2, delay_ms=400, sleep_ms=300)
    dead = send_grouped(stand, "slow", do="fail")
    last = send_grouped(stand, "slow")
    others = [send_grouped(stand, g) for g in ("other", "other", None, None)]
    stand.start(queue=GROUPED, fallback_poll="1h")
    stand.drain()
    begun = [s.msg_id for s in stand.steps() if s.what == "B"]
    assert begun.index(others[1]) < [n for n, i in enumerate(begun) if i == slow][1], "others wait for nothing"
    assert [i for i in begun if i not in others] == [slow, slow, dead, last]
    assert stand.value("select count(*) from pgmq.q_work_dlq") == 1


def test_groups_hold_with_two_dispatchers_and_kills(stand):
    dice = random.Random(1)
    group_of, silent = {}, set()
    for n in range(120):
        group = dice.choice(["a", "b", "c", "d", "Ё", None])
        kind = dice.choice([{}] * 6 + [{"do": "retry", "until": 2, "delay_ms": 50}, {"do": "fail"}])
        i = send_grouped(stand, group, sleep_ms=dice.choice([0, 5, 60]), **kind)
        group_of[i] = group
        if kind.get("do") == "fail":
            silent.add(i)
    daemons = [stand.start(queue=GROUPED, shared_poll="200ms") for _ in range(2)]
    for _ in range(3):
        before = len(stand.steps())
        wait_until("progress", lambda: len(stand.steps()) > before + 10 or stand.value("select not exists (select from pgmq.q_work)"))
        victim = dice.choice(daemons)
        wait_until("it has a worker", lambda: any("worker" in title for title in victim.children().values()))
        victim.kill_child("worker")
    stand.drain()
    check_order(stand, group_of, silent)
    assert stand.value("select count(*) from pgmq.a_work") == 120 - len(silent)
    assert stand.value("select count(*) from pgmq.q_work_dlq") == len(silent)


def test_a_message_that_was_committed_late_runs_beside_none_of_its_group(stand, cluster, database):
    """Its number is lower than that of one that runs already: it comes next, and not before that one has ended."""
    with cluster.connect(database, autocommit=False) as late:
        first = late.execute("select pgmq.send('work'::text, '{}'::jsonb, '{\"group\": \"g\"}'::jsonb)").fetchone()[0]
        second = send_grouped(stand, "g", sleep_ms=500)
        third = send_grouped(stand, "g")
        stand.start(queue=GROUPED)
        wait_until("the second runs", lambda: stand.steps())
        late.commit()
    stand.drain()
    assert [(s.what, s.msg_id) for s in stand.steps()] == [(w, i) for i in (second, first, third) for w in "BE"]


def test_a_stranger_cannot_stop_groups(stand, cluster, database):
    """Their turns are a lock that needs a right: who may only connect cannot hold it, nor call what takes it."""
    stand.db.execute("do $$ begin create role stranger login; exception when duplicate_object then null; end $$")
    with cluster.connect(database, user="stranger") as stranger:
        stranger.execute("select pg_advisory_lock(c.oid::int4, n) from pg_class c, generate_series(-64, 64) n where c.relname = 'q_work' and n not in (-1, -2)")
        for statement in ("select pgmqd.take_turn('work')", "select from pgmqd.turns for key share"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                stranger.execute(statement)
        ids = [send_grouped(stand, "a") for _ in range(3)]
        stand.start(queue=GROUPED)
        stand.drain()
    assert [s.msg_id for s in stand.steps() if s.what == "E"] == ids


def test_many_messages_of_one_group_do_not_hide_the_others(stand):
    """More than a claim tries one after the other: the rest is found by the index."""
    stand.db.execute("insert into pgmq.q_work (vt, message, headers) select now() - interval '1 min', '{\"sleep_ms\": 3000}', '{\"group\": \"one\"}'"
                     " from generate_series(1, 1500)")
    ids = {send_grouped(stand, group) for group in ("a", "b", "z", None)}
    stand.start(queue=GROUPED)
    wait_until("the others", lambda: ids <= {s.msg_id for s in stand.steps() if s.what == "E"})
    assert len({s.msg_id for s in stand.steps()} - ids) <= 2
    stand.db.execute("truncate pgmq.q_work")


def test_groups_need_the_column_headers(rig):
    rig.db.execute("select pgmqd.create_queue('old')")
    rig.db.execute("alter table pgmq.q_old drop column headers")
    rig.start(queues={"old": {"plugin": "null", "ordered": "group"}}, ready=False)
    rig.daemon.wait_log('queue "old" has no column headers, and so no groups')


# ---- queues that a crash empties ----

def test_unlogged_queue_is_refused_unless_allowed(rig):
    rig.db.execute("select pgmq.create_unlogged('brief'), pgmqd.create_queue('brief')")
    rig.enqueue({}, "brief")
    rig.start(queues={"brief": {"plugin": "null"}}, ready=False)
    line = rig.daemon.wait_log('queue "brief" is unlogged')
    assert line["level"] == "error" and "allow_unlogged = yes" in line["text"] and "SET LOGGED" in line["text"]
    assert len(rig.rows("q_brief")) == 1 and rig.rows("q_brief")[0]["read_ct"] == 0
    rig.daemon.write_conf(rig.daemon.conf_text.replace("plugin = null", "plugin = null\nallow_unlogged = yes"))
    rig.daemon.reload()
    wait_empty(rig, "brief")
