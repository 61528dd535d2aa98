"""What an operator sees of single messages and does with them: the command, the routes, and what the log and the tables say afterwards."""

import json
import re

import pytest

from lib.daemon import run
from lib.httpclient import Described, Http, free_port
from lib.paths import BUILDDIR
from lib.stand import wait_until

pytest.importorskip("jsonschema")

TOKEN = "a-token-of-the-tests"
PLUGIN = BUILDDIR / "tests" / "plugins" / ".libs" / "pgmqd-fault-plugin.so"
QUEUE = "analytics_queue"
PATH = f"/api/queues/{QUEUE}"


@pytest.fixture
def served(rig):
    """pgmqd with one queue whose messages do as they are told, and a client that has the token."""
    port = free_port()
    rig.start({QUEUE: {"plugin": PLUGIN, "max_in_flight": 4, "prefetch": 0, "backoff_min": "1h", "backoff_max": "1h"}},
              env={"PGMQD_HTTP_TOKEN": TOKEN}, http_listen=f"127.0.0.1:{port}")
    client = Described(port, TOKEN)
    client.wait_json("/api/queues", 200)
    client.describe()
    return client


def command(rig, *argv, status=0, **more):
    done = run("message", *argv, "-d", rig.conninfo, env={"USER": "anna"}, **more)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def states(client, query=""):
    status, page = client.json(f"{PATH}/messages{query}")
    assert status == 200, page
    return {m["id"]: m["state"] for m in page["messages"]}


def until(client, number, state):
    place = state if state in ("archived", "cancelled", "dead") else "live"
    wait_until(f"{number} is {state}", lambda: states(client, f"?state={place}").get(number) == state)


def test_life_of_a_message(served, rig):
    """Delayed, run, retried with its reason, hurried, running and cancelled: each state is seen as it is, over HTTP and by the command."""
    slow = rig.enqueue({"do": "slow", "ms": 3600000, "to": "anna@example.test"}, QUEUE)
    retried = rig.enqueue({"do": "retry", "user": {"id": 7}}, QUEUE)
    later = rig.enqueue({"n": 1}, QUEUE, delay=3600)
    until(served, slow, "running")
    until(served, retried, "delayed")
    assert states(served) == {slow: "running", retried: "delayed", later: "delayed"}
    assert states(served, "?state=running") == {slow: "running"}
    assert states(served, "?where=user.id=7") == states(served, "?reason=TOLD") == {retried: "delayed"}
    status, one = served.json(f"{PATH}/messages/{retried}")
    assert [(s["what"], s["why"]) for s in one["life"]] == [("enqueued", None), ("retried", "told to")] and "process" in one["life"][1]["by"]
    assert json.loads(one["body"]) == {"do": "retry", "user": {"id": 7}}
    status, one = served.json(f"{PATH}/messages/{slow}")
    assert one["workers"][0]["session"] == f"pgmqd worker {QUEUE}" and one["lease_until"]
    # the command says the same
    listed = command(rig, "list", QUEUE)
    assert re.search(rf"^ +{retried} +delayed .* 1 .* told to$", listed, re.M) and re.search(rf"^ +{slow} +running ", listed, re.M) and "anna@" not in listed
    assert "anna@example.test" in command(rig, "show", QUEUE, "--id", str(slow))
    assert f"has no message {later + 100}" in command(rig, "show", QUEUE, "--id", str(later + 100), status=1)
    # hurried, delayed, cancelled
    assert command(rig, "run-now", QUEUE, "--id", str(later)) == "1 message made due now\n"
    until(served, later, "archived")
    assert "1 message delayed" in command(rig, "delay", QUEUE, "--id", str(retried), "--for", "2h")
    assert command(rig, "cancel", QUEUE, "--id", str(slow), "--why", "asked by phone") == "0 messages cancelled\n1 message cancelled while running\n"
    until(served, slow, "cancelled")
    rig.daemon.wait_settled(queue=QUEUE, msg_id=slow, outcome="cancelled", reason="cancelled by anna: asked by phone")
    assert "refused" in command(rig, "cancel", QUEUE, "--id", str(slow), status=1)
    assert rig.db.execute("select action, ids, by, why from pgmqd.actions order by id").fetchall() == [
        ("run-now", [later], "anna", None), ("delay", [retried], "anna", None), ("cancel", [slow], "anna", "asked by phone")]
    assert 'pgmqd_cancelled_total{queue="analytics_queue",plugin="fault"} 1' in served("/metrics")[2]


def test_edit_and_requeue(served, rig):
    """Every digit of a body survives; an edit of what has changed since is refused."""
    n = rig.enqueue({"n": 1}, QUEUE, delay=3600)
    version = served.json(f"{PATH}/messages/{n}")[1]["version"]
    big = '{"n": 9007199254740993}'
    assert served.json(f"{PATH}/edit", method="POST", body={"ids": [n], "version": version, "body": big})[1]["changed"] == [n]
    status, answer = served.json(f"{PATH}/edit", method="POST", body={"ids": [n], "version": version, "body": "{}"})
    assert (status, answer["error"]["code"]) == (409, "changed_meanwhile")
    assert "pgmqd message: the message is not as it was seen" in command(rig, "edit", QUEUE, "--id", str(n), "--version", version, "--body", "{}", status=1)
    assert served.json(f"{PATH}/edit", method="POST", body={"ids": [n], "version": version, "body": "{"})[1]["error"]["code"] == "bad_body"
    assert served.json(f"{PATH}/run-now", method="POST", body={"ids": [n]})[1]["changed"] == [n]
    until(served, n, "archived")
    assert rig.db.execute(f"select message::text from pgmq.a_{QUEUE} where msg_id = %s", [n]).fetchone()[0] == big
    new = served.json(f"{PATH}/requeue", method="POST", body={"ids": [n]})[1]["new_ids"][str(n)]
    until(served, new, "archived")
    assert states(served, "?state=archived") == {new: "archived"}
    assert f"{new} is now message" in command(rig, "requeue", QUEUE, "--id", str(new))


def test_all_that_match_are_counted_first(served, rig):
    numbers = [rig.enqueue({"n": i, "kind": "odd" if i % 2 else "even"}, QUEUE, delay=3600) for i in range(6)]
    body = {"filter": {"where": ["kind=odd"]}, "dry_run": True}
    assert served.json(f"{PATH}/cancel", method="POST", body=body)[1] == {"matched": 3}
    status, answer = served.json(f"{PATH}/cancel", method="POST", body={"filter": {"where": ["kind=odd"]}, "expected": 2})
    assert (status, answer["error"]["code"]) == (409, "more_match")
    assert command(rig, "cancel", QUEUE, "--where", "kind=odd", "--dry-run") == "3 messages match; nothing was changed\n"
    assert "3 messages match; pass --yes" in command(rig, "cancel", QUEUE, "--where", "kind=odd", status=2)
    assert command(rig, "cancel", QUEUE, "--where", "kind=odd", "--yes") == "3 messages cancelled\n"
    assert states(served) == {n: "delayed" for n in numbers[::2]}
    assert served.json(f"{PATH}/cancel", method="POST", body={"all": True})[1]["changed"] == numbers[::2]
    for wrong in ({}, {"filter": []}, {"ids": 1}, {"ids": ["x"]}, {"filter": {"nonsense": 1}}, {"all": True, "seconds": "x"}):
        assert served.json(f"{PATH}/cancel", method="POST", body=wrong)[0] == 400, wrong
    assert served.json("/api/actions")[1]["actions"][0]["count"] == 3


def test_send_with_a_unique_key(served, rig):
    """Every digit of a body arrives; the second one with a key has the number of the first."""
    def send(**body):
        return served.json(f"{PATH}/send", method="POST", body=body)

    status, first = send(message={"n": 9007199254740993}, delay=3600, unique_key="k", headers={"a": None})
    assert (status, first["new"]) == (200, True)
    assert send(message={"n": 2}, unique_key="k", on_conflict="replace") == (200, {"id": first["id"], "new": False})
    assert rig.db.execute(f"select message, headers, vt > now() + interval '50 min' from pgmq.q_{QUEUE} where msg_id = %s", [first["id"]]).fetchone() == (
        {"n": 2}, {"a": None}, True)
    assert send(message=[9007199254740993], delay=3600)[1]["new"]
    assert rig.db.execute(f"select message::text from pgmq.q_{QUEUE} order by msg_id desc").fetchone()[0] == "[9007199254740993]"
    for wrong in ({}, {"message": None}, {"message": 1, "delay": -1}, {"message": 1, "unique_key": 1}, {"message": 1, "unique_key": ""}, {"message": "\0"},
                  {"message": 1, "unique_for": 1}, {"message": 1, "unique_key": "k", "on_conflict": "x"}, {"message": 1, "headers": []}):
        assert (send(**wrong)[0], send(**wrong)[1]["error"]["code"]) == (400, "bad_request"), wrong
    assert served.json("/api/queues/nowhere/send", method="POST", body={"message": 1})[0] == 404


def test_without_the_token(served, rig):
    """No body, no address, nothing to guess them by, and no action."""
    n = rig.enqueue({"do": "fail", "to": "anna@example.test"}, QUEUE)
    wait_until("dead", lambda: states(served, "?state=dead"))
    stranger = Http(served.port)
    status, page = stranger.json(f"{PATH}/messages?state=dead")
    assert status == 200 and len(page["messages"]) == 1 and "anna@" not in json.dumps(page)
    for query in ("where=to=anna@example.test", "group=x"):
        assert stranger.json(f"{PATH}/messages?{query}")[0] == 401, query
    assert stranger.json(f"{PATH}/messages/{n}")[0] == 401 and stranger.json("/api/actions")[0] == 401
    for action in ("cancel", "run-now", "delay", "edit", "requeue"):
        assert stranger.json(f"{PATH}/{action}", method="POST", body={"all": True})[0] == 401, action
        assert served.json(f"/api/queues/none/{action}", method="POST", body={"all": True, "seconds": 1, "ids": [1], "version": "1-1", "body": "{}"})[0] == 404, action
        assert served(f"{PATH}/{action}", method="POST", body="[]")[0] == 400, action
    assert served.json("/api/queues/none/messages")[0] == 404 and served.json(f"{PATH}/messages/999")[0] == 404
    for query in ("state=lost", "before=x", "nonsense=1", "attempts=many", "where=x"):
        assert served.json(f"{PATH}/messages?{query}")[0] == 400, query
