"""Chains: a message that follows another one comes exactly once, together with the outcome, whatever happens in between."""

import json

import pytest

from lib.stand import Stand, wait_until

QUEUE, NEXT = "first_step", "second_step"
QUICK = {"backoff_min": "1ms", "backoff_max": "1ms", "max_attempts": 2}

PROGRAM = """#!/usr/bin/python3
import json, os, sys
for line in sys.stdin:
    task = json.loads(line)
    if task["message"] == "crash":
        os._exit(3)
    print(json.dumps(dict(task["message"], id=task["id"])), flush=True)
"""


@pytest.fixture
def start(rig, tmp_path):
    """Starts pgmqd with a program that answers what each message says, and a queue that nobody serves behind it."""
    rig.db.execute("select pgmqd.create_queue(%s), pgmqd.create_queue(%s)", [QUEUE, NEXT])
    path = tmp_path / "program"
    path.write_text(PROGRAM)
    path.chmod(0o755)

    def start(**options):
        return rig.start({QUEUE: {"plugin": "exec", "command": path, "mode": "pool", "programs": 1, **QUICK, **options}})

    return start


def send(rig, message, **headers):
    return rig.value("select pgmq.send(%s, %s::jsonb, %s::jsonb)", [QUEUE, json.dumps(message), json.dumps(headers)])


def sent(rig):
    return [row["message"] for row in rig.rows(f"q_{NEXT}")]


def to(message, queue=NEXT, **more):
    return {"queue": queue, "message": message, **more}


@pytest.mark.parametrize("on_done", ["archive", "delete"])
def test_then_and_else(rig, start, on_done):
    daemon = start(then=f"other, {NEXT.upper()}", on_done=on_done)
    done = send(rig, {"outcome": "done", "result": {"pages": 12345678901234567890}}, then=to(["{{result}}", 1]), **{"else": to("no")})
    daemon.wait_settled(msg_id=done, outcome="done")
    assert sent(rig) == [[{"pages": 12345678901234567890}, 1]]
    failed = send(rig, {"outcome": "fail", "reason": "no such report"}, then=to("no"), **{"else": to({"why": "{{result}}"})})
    daemon.wait_settled(msg_id=failed, outcome="fail")
    assert sent(rig)[1:] == [{"why": "no such report"}]
    crashed = send(rig, "crash", then=to("no"), **{"else": to({"crashed": True})})
    daemon.wait_settled(msg_id=crashed, outcome="retry")
    assert sent(rig)[2:] == [], "it does not die yet"
    daemon.wait_settled(msg_id=crashed, outcome="fail")
    assert sent(rig)[2:] == [{"crashed": True}]
    with_sql = send(rig, {"outcome": "done_with", "sql": "select 1", "params": []}, then=to("after a statement"))
    daemon.wait_settled(msg_id=with_sql, outcome="done")
    assert sent(rig)[3:] == ["after a statement"]


@pytest.mark.parametrize("outcome", [{"outcome": "done"}, {"outcome": "done_with", "sql": "select 1"}])
@pytest.mark.parametrize("then, why", [(to({}, "email_queue"), "none of those that the setting then allows"), (to({}, "nowhere"), "does not exist"),
                                       ({"queue": NEXT}, "it has no message"), ("later", "it is no object")])
def test_what_cannot_be_sent_is_said_once(rig, start, outcome, then, why):
    """Nobody who may enqueue into one queue reaches another one that is not allowed; the outcome is stored all the same."""
    daemon = start(then=f"{NEXT} nowhere")
    mark = daemon.mark()
    msg_id = send(rig, outcome, then=then)
    daemon.wait_settled(msg_id=msg_id, outcome="done", attempt=1)
    lines = [r["text"] for r in daemon.records()[mark:] if r["level"] == "error"]
    assert len(lines) == 1 and str(msg_id) in lines[0] and why in lines[0]
    assert sent(rig) == [] and rig.rows("q_email_queue") == [] and len(rig.rows(f"a_{QUEUE}")) == 1


def test_without_the_setting_nothing_follows(rig, start):
    daemon = start()
    for _ in range(2):
        daemon.wait_settled(msg_id=send(rig, {"outcome": "done"}, then=to({})), outcome="done")
    assert sent(rig) == []
    assert len([r for r in daemon.records() if "has no setting then" in r["text"]]) == 1


@pytest.mark.parametrize("outcome", [{"outcome": "done"}, {"outcome": "done_with", "sql": "insert into public.effects values (1)"}])
def test_a_plugin_sends(rig, start, outcome):
    """What a plugin sends comes with its outcome, or neither comes; it needs no setting."""
    rig.db.execute("create table effects (n int); grant insert on effects to pgmqd")
    daemon = start()
    good = send(rig, {**outcome, "send": [to({"n": 12345678901234567890}, headers={"x": 1}), to({}, delay=60)]})
    daemon.wait_settled(msg_id=good, outcome="done")
    first, second = rig.rows(f"q_{NEXT}")
    assert first["message"] == {"n": 12345678901234567890} and first["headers"] == {"x": 1}
    assert rig.value(f"select vt > now() + interval '50 s' from pgmq.q_{NEXT} where msg_id = %s", [second["msg_id"]])
    before = rig.value("select count(*) from effects")
    bad = send(rig, {**outcome, "send": [to({}), to({}, "nowhere")]})
    assert "nowhere" in daemon.wait_settled(msg_id=bad, outcome="fail")["reason"]
    assert len(rig.rows(f"q_{NEXT}")) == 2 and rig.value("select count(*) from effects") == before
    retried = send(rig, {"outcome": "retry", "delay": 3600, "send": [to({})]})
    daemon.wait_settled(msg_id=retried, outcome="retry")
    assert len(rig.rows(f"q_{NEXT}")) == 2


def test_each_follows_once_though_sessions_die(cluster, database):
    """Outcomes whose answers are lost are stored again, and send nothing again."""
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work'), pgmqd.create_queue('other')")
    with Stand(cluster, database) as stand:
        stand.db.execute("create table public.effects (uuid text); grant insert on public.effects to pgmqd")
        stand.db.execute("insert into pgmq.q_work (vt, message, headers) select now(), jsonb_build_object('uuid', g::text, 'sleep_ms', g % 20, 'do',"
                         " case when g % 2 = 0 then 'done' else 'done_with' end), jsonb_build_object('then', jsonb_build_object('queue', 'other', 'message', g))"
                         " from generate_series(1, 600) g")
        stand.start(queue={"then": "other", "max_in_flight": 20})
        for done in range(60, 600, 60):
            wait_until(f"{done} are done", lambda done=done: stand.value("select count(*) from pgmq.a_work") >= done)
            stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                             " and application_name like 'pgmqd%%work%%'")
        stand.drain()
        assert stand.value("select array_agg(message::text::int order by message::text::int) from pgmq.q_other") == list(range(1, 601))
