"""People: each path is asked with each role; names stand in the records; guests look, or do not."""

import pytest

from lib import app
from lib.daemon import run
from lib.httpclient import Http, free_port
from lib.rig import email_queue

TOKENS = {"HTTP": "the-token-of-the-settings", "maria": "a-token-that-may-act", "vera": "a-token-for-the-bodies", "anton": "a-token-that-may-look"}
PEOPLE = f"maria:act:{TOKENS['maria']}, vera:bodies:{TOKENS['vera']} anton:look:{TOKENS['anton']}"
RANK = {"none": 0, "look": 1, "bodies": 2, "act": 3}
ASKERS = {"act": "maria", "bodies": "vera", "look": "anton"}
OPEN = ("/", "/page.css", "/livez", "/readyz", "/api/templates/report_ready/en")
PUBLIC = ("/api/mail/", "/api/payment/")  # what is asked proves itself
BODIES = ("/api/queues/email_queue/dead-letters/1", "/api/queues/email_queue/messages/1", "/api/actions", "/api/job/result/1")
FILL = {"queue": "email_queue", "id": "1", "name": "delete-old-messages", "type": "job", "job_id": "1", "lang": "en", "provider": "x", "token": "x"}


def start(rig, **more):
    port = free_port()
    rig.start(env={"PGMQD_HTTP_TOKEN": TOKENS["HTTP"], "PGMQD_HTTP_PEOPLE": PEOPLE},
              **{"http_listen": f"127.0.0.1:{port}", "queues": {"email_queue": email_queue(rig.catcher)}, **more})
    return port


def paths(client):
    """Every (method, path) that is described, with names filled in, and the least role for it."""
    for pattern, methods in client.json("/api/openapi.json")[1]["paths"].items():
        if pattern.startswith(PUBLIC) or "events" in pattern:
            continue
        path = pattern.format(**{**FILL, **({"name": "report_ready"} if "templates" in pattern else {})})
        for method in methods:
            yield method.upper(), path, "act" if method == "post" else "none" if path in OPEN else "bodies" if path in BODIES else "look"
    yield from (("GET", path, "none") for path in OPEN[:2])


@pytest.mark.parametrize("guests", ["all", "none"])
def test_every_path_with_every_role(rig, guests):
    port = start(rig, http_guests=guests)
    rows = list(paths(Http(port, TOKENS["HTTP"])))
    assert len(rows) > 40 and {least for _, _, least in rows} == set(RANK)
    wrong = []
    for method, path, least in rows:
        askers = [("none", None, "look" if guests == "all" else "none"), ("wrong", "no-such-token-at-all", "look" if guests == "all" else "none"),
                  *((role, TOKENS[name], role) for role, name in ASKERS.items())]
        for who, token, role in askers:
            if method == "POST" and RANK[role] >= RANK[least]:
                continue  # it would be done; the tests of each route do that
            status = Http(port, token)(path, method=method, body={} if method == "POST" else None)[0]
            let = RANK[role] >= RANK[least]
            refused = 403 if who in RANK and who != "none" else 401
            if (status in (401, 403)) == let or not let and status != refused:
                wrong.append(f"{method} {path} as {who}: {status}, where {least} is needed")
    assert wrong == []
    # those who may act get behind the door, where an empty request means nothing
    for name in ("HTTP", "maria"):
        assert Http(port, TOKENS[name]).json("/api/queues/email_queue/cancel", method="POST", body={})[0] == 400


def test_names_stand_in_the_records(rig):
    port = start(rig)
    maria, anton, vera = (Http(port, TOKENS[name]) for name in ("maria", "anton", "vera"))
    assert [Http(port, t).json("/api/status")[1]["role"] for t in (*TOKENS.values(), None)] == ["act", "act", "bodies", "look", "look"]
    assert maria.json("/api/status")[1]["name"] == "maria"
    status, answer = anton.json("/api/queues/email_queue/pause", method="POST", body={})
    assert (status, answer["error"]["code"]) == (403, "role") and "anton has the role look" in answer["error"]["message"]
    assert maria.json("/api/queues/email_queue/pause", method="POST", body={"reason": "moves"})[0] == 200
    assert anton.wait_json("/api/queues", 200, lambda a: [q["paused"] for q in a["queues"] if q["queue"] == "email_queue"] == ["by maria: moves"])
    rig.send("person@example.test")
    for client, shown in ((anton, None), (vera, "person@example.test")):
        (found,) = client.json("/api/queues/email_queue/messages")[1]["messages"]
        status, one = client.json(f"/api/queues/email_queue/messages/{found['id']}")
        assert (status == 200 and shown in one["body"]) if shown else status == 403
    assert maria.json("/api/queues/email_queue/cancel", method="POST", body={"ids": [found["id"]]})[0] == 200
    assert maria.json("/api/queues/email_queue/resume", method="POST", body={})[0] == 200
    # dead letters that are requeued or deleted are recorded, too, also from the command line
    rig.send("dead@example.test", template="missing", variables={})
    rig.send("dead@example.test", template="missing", variables={})
    letters = maria.wait_json("/api/queues/email_queue/dead-letters", 200, lambda a: len(a["letters"]) == 2)["letters"]
    assert maria.json("/api/queues/email_queue/purge", method="POST", body={"ids": [letters[0]["id"]]})[1] == {"purged": 1}
    assert run("dlq", "purge", "email_queue", "--yes", "--by", "olga", "-d", rig.conninfo).returncode == 0
    actions = app.rows(rig.db, "select by, action, queue, cardinality(ids) as n from pgmqd.actions order by id")
    assert [(a["by"], a["action"], a["n"]) for a in actions] == [("maria", "cancel", 1), ("maria", "purge", 1), ("olga", "purge", 0)]
    paused = app.rows(rig.db, "select paused_by, resumed_by from pgmqd.pauses")
    assert [dict(p) for p in paused] == [{"paused_by": "maria", "resumed_by": "maria"}]


def test_a_list_that_is_wrong_is_refused(rig, tmp_path):
    secret = tmp_path / "people"
    secret.write_text("maria:act:short-one")
    rig.start(env={"PGMQD_HTTP_PEOPLE_FILE": str(secret)}, ready=False)
    rig.daemon.wait_log(lambda r: "http_people: the token of maria has to be 16 characters or more" in f"{r.get('text')} {r.get('raw')}")
    assert rig.daemon.process.wait(30) != 0
    rig.daemon = None
