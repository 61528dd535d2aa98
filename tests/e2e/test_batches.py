"""Batches: many messages in one call of a plugin, each with its own outcome, whatever goes wrong with the others."""

import json
import subprocess

import pytest

from lib.daemon import command_line, run
from lib.httpstub import HttpStub
from lib.paths import BUILDDIR
from lib.stand import Stand, wait_until

QUEUE = "parcels"
OPTIONS = {"batch": 10, "batch_wait": "500ms", "backoff_min": "1ms", "backoff_max": "1ms", "max_attempts": 3}

# A program of either mode: `work(tasks)` gives its answer, a text.
PROGRAM = """#!/usr/bin/python3
import json, os, sys
def note(tasks):
    with open(sys.argv[1], "a") as f:
        f.write(json.dumps([t["id"] for t in tasks]) + "\\n")
{work}
for line in sys.stdin:
    tasks = json.loads(line)
    note(tasks)
    print(work(tasks), flush=True)
"""

# The message says what is answered for it.
OBEDIENT = """
def work(tasks):
    return json.dumps([dict(t["message"], id=t["id"]) for t in tasks if t["message"] and t["attempt"] == 1]
                      + [{"id": t["id"], "outcome": "done"} for t in tasks if t["attempt"] > 1] + [{"id": 999, "outcome": "done"}])
"""
POISONED = """
def work(tasks):
    if any(t["message"].get("poison") for t in tasks):
        PART
    return json.dumps([{"id": t["id"], "outcome": "done"} for t in tasks])
"""


@pytest.fixture
def queue(rig):
    rig.db.execute("select pgmqd.create_queue(%s)", [QUEUE])
    return rig


@pytest.fixture
def server():
    with HttpStub() as s:
        yield s


def enqueue(rig, messages):
    """All in one transaction, before there is a dispatcher: one claim takes them. Their numbers."""
    with rig.connect(autocommit=False) as db:
        ids = [db.execute("select pgmq.send(%s, %s::jsonb)", [QUEUE, json.dumps(m)]).fetchone()[0] for m in messages]
        db.commit()
    return ids


def program(tmp_path, work):
    """The command of a program, and the file of its batches."""
    path, notes = tmp_path / "program", tmp_path / "notes"
    path.write_text(PROGRAM.format(work=work))
    path.chmod(0o755)
    notes.touch()
    return f"{path} {notes}", lambda: [json.loads(line) for line in notes.read_text().splitlines()]


def empty(rig):
    wait_until("the queue is empty", lambda: not rig.rows(f"q_{QUEUE}"))


# ---- programs ----

@pytest.mark.parametrize("mode", ["pool", "once"])
def test_each_message_has_its_own_outcome(queue, tmp_path, mode):
    command, batches = program(tmp_path, OBEDIENT)
    ids = enqueue(queue, [{"outcome": "done"}, {"outcome": "fail", "reason": "no such street"}, {"outcome": "retry", "delay": 3600, "reason": "later"},
                          {}, {"outcome": "eaten"}, {"outcome": "replace", "message": {"n": 12345678901234567890}}])
    daemon = queue.start({QUEUE: {"plugin": "exec", "command": command, "mode": mode, "programs": 1, **OPTIONS}})
    assert daemon.wait_settled(msg_id=ids[2], outcome="retry")["reason"] == "later"
    assert daemon.wait_settled(msg_id=ids[1], outcome="fail")["reason"] == "no such street"
    assert "no outcome for this message" in daemon.wait_settled(msg_id=ids[3], outcome="retry")["reason"]
    assert '"eaten"' in daemon.wait_settled(msg_id=ids[4], outcome="retry")["reason"]
    assert daemon.wait_log(lambda r: "1 outcomes of a batch are ignored" in r.get("text", ""))
    for i in (0, 3, 4, 5):
        daemon.wait_settled(msg_id=ids[i], outcome="done" if i != 5 else "replace")
    wait_until("the new message", lambda: any(a["message"] == {"n": 12345678901234567890} for a in queue.rows(f"q_{QUEUE}") + queue.rows(f"a_{QUEUE}")))
    assert batches()[0] == ids, "they went together"
    assert [ids[3]] in batches() and [ids[4]] in batches(), "what is tried again goes alone"


@pytest.mark.parametrize("mode", ["pool", "once"])
@pytest.mark.parametrize("harm", ["os._exit(3)", "os._exit(100)", "os.kill(os.getpid(), 9)", "return '[{'", "return '7'", "import time; time.sleep(60)"])
def test_a_poison_takes_the_blame_alone(queue, tmp_path, mode, harm):
    """And the others lose no attempt."""
    command, batches = program(tmp_path, POISONED.replace("PART", harm))
    ids = enqueue(queue, [{}, {}, {"poison": True}, {}])
    daemon = queue.start({QUEUE: {"plugin": "exec", "command": command, "mode": mode, "programs": 1, **OPTIONS, **({"timeout": "3s", "max_attempts": 2} if "sleep" in harm else {})}})
    empty(queue)
    assert [d["headers"]["pgmqd_dead"]["msg_id"] for d in queue.dead(QUEUE)] == [ids[2]]
    for i in {*ids} - {ids[2]}:
        daemon.wait_settled(msg_id=i, outcome="done", attempt=1)
    assert batches()[0] == ids and all(len(b) == 1 for b in batches()[1:])


def test_a_program_that_says_nothing_has_done_all(queue, tmp_path):
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\necho $PGMQD_BATCH >{tmp_path}/size; cat >/dev/null\n")
    path.chmod(0o755)
    enqueue(queue, [{}] * 7)
    queue.start({QUEUE: {"plugin": "exec", "command": path, **OPTIONS}})
    empty(queue)
    assert len(queue.rows(f"a_{QUEUE}")) == 7 and (tmp_path / "size").read_text() == "7\n"


def test_one_of_a_batch_is_cancelled(queue, tmp_path):
    """The program goes on with the others."""
    command, batches = program(tmp_path, f"""
def work(tasks):
    while not os.path.exists({str(tmp_path / "go")!r}):
        pass
    return json.dumps([{{"id": t["id"], "outcome": "done"}} for t in tasks])
""")
    ids = enqueue(queue, [{}] * 4)
    daemon = queue.start({QUEUE: {"plugin": "exec", "command": command, "mode": "pool", "programs": 1, **OPTIONS}})
    wait_until("the program has them", batches)
    assert run("message", "cancel", QUEUE, "--id", str(ids[1]), "-d", queue.conninfo).returncode == 0
    daemon.wait_settled(msg_id=ids[1], outcome="cancelled")
    (tmp_path / "go").touch()
    for i in (0, 2, 3):
        daemon.wait_settled(msg_id=ids[i], outcome="done", attempt=1)
    assert batches() == [ids]


# ---- webhooks ----

def start_hook(rig, server, **options):
    return rig.start({QUEUE: {"plugin": "webhook", "url": f"{server.url}/hook", "allow_private": "yes", **OPTIONS, **options}})


def test_webhook_answers_for_each_message(queue, server):
    def reply(request):
        tasks = json.loads(request.body)
        return 200, {}, [dict(t["message"], id=t["id"]) if t["attempt"] == 1 else {"id": t["id"], "outcome": "done"} for t in tasks]

    server.reply = reply
    ids = enqueue(queue, [{"outcome": "done"}, {"outcome": "fail", "reason": "gone"}, {"outcome": "retry"}, {"outcome": "done_with", "sql": "select 1"},
                          {"outcome": "postpone", "delay": 3600}])
    daemon = start_hook(queue, server)
    assert daemon.wait_settled(msg_id=ids[1], outcome="fail")["reason"] == "gone"
    assert "done_with" in daemon.wait_settled(msg_id=ids[3], outcome="retry")["reason"], "a receiver runs no statements"
    daemon.wait_settled(msg_id=ids[4], outcome="release")
    for i in (0, 2, 3):
        daemon.wait_settled(msg_id=ids[i], outcome="done")
    first = server.wait()
    assert [t["id"] for t in json.loads(first.body)] == ids and first.headers["webhook-id"].startswith(f"{QUEUE}_batch_")
    assert {r.headers["webhook-id"] for r in server.requests()[1:]} == {f"{QUEUE}_{ids[2]}", f"{QUEUE}_{ids[3]}"}


def test_webhook_holds_the_key_of_some(queue, server):
    """retry_key in an answer: no message of that customer comes again, others do, and no attempt is counted."""
    queue.db.execute("select pgmqd.limit_queue(%s, 'header:customer')", [QUEUE])

    def send(*customers):
        return [i for i, in queue.db.execute("select pgmq.send(%s, '{}', jsonb_build_object('customer', c)) from unnest(%s::text[]) c", [QUEUE, list(customers)])]

    server.reply = lambda request: (200, {}, [{"id": t["id"], "outcome": "retry_key" if t["headers"]["customer"] == "a" else "done", "delay": 3600}
                                              for t in json.loads(request.body)])
    ids = send("a", "b", "a", "b")
    daemon = start_hook(queue, server, fair_by="header:customer")
    for n, outcome in enumerate(("release", "done") * 2):
        daemon.wait_settled(msg_id=ids[n], outcome=outcome, attempt=1)
    asked = len(server.requests())
    more = send("a", "b")
    daemon.wait_settled(msg_id=more[1], outcome="done")
    assert not any(t["headers"]["customer"] == "a" for r in server.requests()[asked:] for t in json.loads(r.body))
    assert queue.value("select key from pgmqd.keys where held_until > now() + interval '50 min'") == "a"


@pytest.mark.parametrize("status, attempts", [(400, 3), (400, 1), (404, 3), (500, 2)])
def test_webhook_that_refuses_one_of_a_batch(queue, server, status, attempts):
    server.reply = lambda request: (status if b'"bad"' in request.body else 200, {}, b"")
    ids = enqueue(queue, [{}, "bad", {}])
    daemon = start_hook(queue, server, max_attempts=attempts)
    empty(queue)
    (dead,) = queue.dead(QUEUE)
    assert dead["headers"]["pgmqd_dead"]["msg_id"] == ids[1] and dead["headers"]["pgmqd_dead"]["class"] == ("attempts" if status == 500 else "permanent")
    for i in (ids[0], ids[2]):
        daemon.wait_settled(msg_id=i, outcome="done", attempt=1)


def test_webhook_answers_that_name_nobody(queue, server):
    server.answer("/hook", 200, b"[]")
    server.answer("/hook", 204, b"")
    ids = enqueue(queue, [{}, {}])
    daemon = start_hook(queue, server)
    for i in ids:
        assert "no outcome for this message" in daemon.wait_settled(msg_id=i, outcome="retry")["reason"]
        daemon.wait_settled(msg_id=i, outcome="done", attempt=2)


@pytest.mark.parametrize("body, why", [(b"thanks", "no array of outcomes"), (b"[]\0[]", "no array of outcomes"), (b"[" + b" " * 70000 + b"]", "longer than")], ids=["text", "NUL", "long"])
def test_webhook_answers_that_are_none(queue, server, body, why):
    server.answer("/hook", 200, body)
    server.answer("/hook", 204, b"")
    ids = enqueue(queue, [{}, {}])
    daemon = start_hook(queue, server)
    for i in ids:
        said = daemon.wait_log(lambda r, i=i: r.get("msg_id") == i and "goes again, alone" in r.get("text", ""))["text"]
        assert "the call for 2 messages failed" in said and why in said
        daemon.wait_settled(msg_id=i, outcome="done", attempt=1)


def test_webhook_that_is_away(queue, server):
    """The batch waits as a whole, which costs no attempt."""
    server.answer("/hook", 503, b"")
    server.answer("/hook", 204, b"")
    ids = enqueue(queue, [{}] * 3)
    daemon = start_hook(queue, server)
    for i in ids:
        daemon.wait_settled(msg_id=i, outcome="done", attempt=1)


# ---- any plugin ----

@pytest.fixture
def stand(cluster, database):
    with cluster.connect(database) as db:
        db.execute("select pgmqd.create_queue('work'), pgmqd.group_queue('work')")
    with Stand(cluster, database) as s:
        yield s


def test_a_crash_in_a_batch(stand):
    """The messages of the batch go alone afterwards: the one that crashes the plugin ends among the dead letters, and no other one does."""
    with stand.db.transaction():
        (poison,) = stand.send(1, do="crash")
        others = stand.send(9)
    stand.start(queue={"batch": 10, "max_attempts": 3, "visibility_timeout": "1s"})
    stand.effect_of(others)
    wait_until("a dead letter", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1)
    assert stand.value("select message->>'uuid' from pgmq.q_work_dlq") == str(poison)
    stand.drain()


def test_a_plugin_takes_a_batch_apart(stand):
    """No attempt is counted for the call for both, one is for each call alone."""
    with stand.db.transaction():
        ids = stand.send(2, do="apart", until=2)
    stand.start(queue={"batch": 2, "max_attempts": 2})
    stand.drain()
    for uuid in ids:
        assert [s.attempt for s in stand.steps() if s.what == "B" and s.uuid == str(uuid)] == [1, 1, 2]
    assert stand.value("select count(*) from pgmq.q_work_dlq") == 0


def test_groups_stay_in_order(stand):
    stand.db.execute("insert into pgmq.q_work (vt, message, headers) select now(), jsonb_build_object('uuid', g % 7 || '-' || lpad(g::text, 3, '0'), 'sleep_ms',"
                     " (g * 37) % 9), jsonb_build_object('group', (g % 7)::text) from generate_series(1, 140) g")
    stand.start(queue={"batch": 20, "batch_wait": "5ms", "ordered": "group"})
    stand.drain()
    begun = [s.uuid for s in stand.steps() if s.what == "B"]
    for group in "0123456":
        mine = [u for u in begun if u.startswith(group)]
        assert mine == sorted(mine) and len(mine) == 20


def test_plugin_test_and_check(tmp_path):
    command, batches = program(tmp_path, OBEDIENT)
    lines = "".join(json.dumps({"outcome": what}) + "\n" for what in ("done", "fail", "done"))
    done = subprocess.run(command_line("plugin", "test", "exec", f"command={command}", "mode=pool", "batch=3", "--plugin-dir", f"{BUILDDIR}/plugins/.libs"),
                          input=lines, capture_output=True, text=True, check=True)
    assert [line.split()[1].rstrip(":") for line in done.stdout.splitlines()] == ["done", "fail", "done"]
    assert batches() == [[1, 2, 3]]
    conf = tmp_path / "pgmqd.conf"
    conf.write_text("[queue a]\nplugin = null\nbatch = 3\n[queue b]\nplugin = exec\ncommand = x\nbatch = 1001\n")
    conf.chmod(0o600)
    checked = run("run", "--check", "-c", str(conf))
    assert "batch = 1001 is out of bounds (from 1 to 1000)" in checked.stderr
    conf.write_text(f"[pgmqd]\nplugin_dir = {BUILDDIR}/plugins/.libs\n[queue a]\nplugin = null\nbatch = 3\n")
    assert "batch = 3 is of no use: the plugin null takes messages one by one only" in run("run", "--check", "-c", str(conf)).stderr
    conf.write_text(f"[pgmqd]\nplugin_dir = {BUILDDIR}/plugins/.libs\n[queue a]\nplugin = exec\ncommand = /bin/true\nmode = pool\nbatch = 3\nmax_attempts = 1\n")
    assert "batch = 3 is of no use with max_attempts = 1" in run("run", "--check", "-c", str(conf)).stderr
    conf.write_text(f"[pgmqd]\nplugin_dir = {BUILDDIR}/plugins/.libs\n[queue a]\nplugin = null\nbatch = 3\nmax_attempts = 1\n")
    assert run("run", "--check", "-c", str(conf)).stderr.count("batch = 3 is of no use") == 2, "each is named, and not the last one only"
