"""Jobs over HTTP: starting, following, retrying, events; and the OpenAPI description against what is answered."""

import contextlib
import http.client
import itertools
import json
import re
import socket
import threading
import time
import uuid

import pytest

from lib.httpclient import Described, Http, free_port
from lib.paths import SRCDIR, TIMEOUT

jsonschema = pytest.importorskip("jsonschema")
TOKEN = "a-token-of-the-tests"
QUEUE = "report_generation_queue"
API = "/api/professional-report"
NOWHERE = str(uuid.uuid4())


class Jobs(Described):
    """The client of job types."""

    def __init__(self, rig, port):
        super().__init__(port, TOKEN)
        self.rig = rig

    def post(self, path, body=None, **more):
        return self.json(path, method="POST", body=body, **more)

    def start(self, body=None, key=None):
        status, answer = self.post(f"{API}/start", {"questionnaire": {"a": 1}} if body is None else body,
                                   headers={"Idempotency-Key": key} if key else None)
        assert status == 202, answer
        return answer["job_id"]

    def code(self, path, method="GET", **more):
        status, answer = self.json(path, method=method, **more)
        return status, answer["error"]["code"]

    def job(self, job):
        return self.json(f"{API}/status/{job}")[1]

    def sql(self, text, *params):
        return self.rig.db.execute(text, params).fetchall()

    def claim(self):
        """What a worker does: one attempt begins."""
        self.sql(f"update pgmq.q_{QUEUE} set read_ct = read_ct + 1, vt = clock_timestamp() + interval '1 min' returning 1")


@pytest.fixture
def jobs(rig):
    """pgmqd with jobs whose queue nobody serves: the test does what a worker would."""
    return begin(rig, queues={"analytics_queue": {"plugin": "null"}})


def begin(rig, queues, **more):
    client = Jobs(rig, free_port())
    rig.start(queues=queues, env={"PGMQD_HTTP_TOKEN": TOKEN}, http_listen=f"127.0.0.1:{client.port}",
              jobs={"professional-report": QUEUE, "quick": "analytics_queue"}, **more)
    client.wait_json("/api/queues", 200)
    client.describe()
    return client


def test_description(jobs):
    """Its schemas are schemas, its references lead somewhere, and each operation has what it must have."""
    spec = jobs.spec
    assert spec["openapi"].startswith("3.1.") and set(spec) == {"openapi", "info", "paths", "components"}
    for schema in spec["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            if key == "$ref":
                target = spec
                for step in value.removeprefix("#/").split("/"):
                    target = target[step]
            walk(value)

    walk(spec)
    for path, methods in spec["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert all("description" in r or "$ref" in r for r in operation["responses"].values())
    routes = {(method.lower(), path) for source in [SRCDIR / "dispatcher" / "control" / "routes.c"]
              for method, path in re.findall(r'\{ HTTP_([A-Z]+), "(/[^"]*)"', source.read_text())}
    files = {("get", "/")} | {route for route in routes if "." in route[1] and not route[1].startswith("/api/")}  # of the page
    assert {(method, path) for path, methods in spec["paths"].items() for method in methods} == routes - files


def test_start_and_follow(jobs):
    job = jobs.start({"questionnaire": {"big": "Ж" * 5, "n": 1}, "job_id": "mine"})
    assert jobs.headers["Location"] == f"{API}/status/{job}"
    [(message,)] = jobs.sql(f"select message from pgmq.q_{QUEUE}")
    assert message == {"questionnaire": {"big": "Ж" * 5, "n": 1}, "job_id": job, "job_type": "professional-report"}
    state = jobs.job(job)
    assert (state["status"], state["progress"], state["attempts"]) == ("queued", 0, 0)
    assert jobs.code(f"{API}/result/{job}") == (409, "not_finished")
    jobs.claim()
    jobs.sql("select pgmqd.job_progress(%s, 30)", job)
    state = jobs.job(job)
    assert (state["status"], state["progress"], state["attempts"]) == ("processing", 30, 1)
    assert jobs.code(f"{API}/retry/{job}", method="POST") == (409, "nothing_to_retry")
    jobs.sql("select pgmqd.job_finish(%s, '{\"x\": 9007199254740993}')", job)
    status, _, text = jobs(f"{API}/result/{job}")
    assert status == 200 and '"x": 9007199254740993' in text
    assert jobs.json(f"{API}/missing-sources/{job}")[1]["missing_sources"] == []


def test_numbers_are_not_touched(jobs):
    jobs.start('{"n": 12345678901234567890.5}')
    assert jobs.sql(f"select message->>'n' from pgmq.q_{QUEUE}") == [("12345678901234567890.5",)]


def test_a_worker_does_it(jobs):
    status, answer = jobs.post("/api/quick/start", {})
    assert status == 202
    state = jobs.wait_json(f"/api/quick/status/{answer['job_id']}", 200, lambda s: s["status"] == "completed")
    assert state["progress"] == 100 and state["attempts"] == 1


def test_idempotency(jobs):
    one = jobs.start({"a": 1, "b": 2}, key="k-1")
    assert jobs.start('{"b":2,   "a":1}', key="k-1") == one
    status, answer = jobs.post("/api/quick/start", {}, headers={"Idempotency-Key": "k-1"})
    assert status == 202 and answer["job_id"] != one, "a key is of one type"
    assert jobs.code(f"{API}/start", method="POST", body={"a": 2}, headers={"Idempotency-Key": "k-1"}) == (422, "idempotency_conflict")
    for bad in ("x" * 256, "a b", "\u00e9"):
        assert jobs.code(f"{API}/start", method="POST", body={}, headers={"Idempotency-Key": bad.encode("latin-1")}) == (400, "bad_key")
    assert jobs.sql(f"select count(*) from pgmq.q_{QUEUE}") == [(1,)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(
        Http(jobs.port, TOKEN).json(f"{API}/start", method="POST", body={}, headers={"Idempotency-Key": "k-2"})[1]["job_id"])) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(found)) == 1 and jobs.sql(f"select count(*) from pgmq.q_{QUEUE}") == [(2,)]


def test_bodies_that_are_refused(jobs):
    """Also those that only the database refuses: they refuse nobody else's."""
    def start(body, **more):
        return jobs.code(f"{API}/start", method="POST", body=body, **more)

    for bad in ("", "[]", "17", "null", "{", '{"a": 1} x', '{"a": 1}\0', b"\xff\xfe"):
        assert start(bad) == (400, "bad_json"), bad
    for bad in ('{"a": "\\u0000"}', b'{"a": "\xff"}', '{"a": "\\ud800"}', '{"a": 01}'):
        status, code = start(bad)
        assert (status, code) in ((400, "bad_input"), (400, "bad_json")), (bad, code)
    assert start({}, headers={"Content-Type": "text/plain"}) == (415, "unsupported_media_type")
    assert start({}, headers={"Content-Type": "application/jsonx"}) == (415, "unsupported_media_type")
    for origin in ("http://evil.example.test", "null", "https://localhost.example.test"):
        assert start({}, headers={"Origin": origin}) == (403, "foreign_origin")
    assert start({}, headers={"Sec-Fetch-Site": "cross-site"}) == (403, "foreign_origin")
    assert jobs.post(f"{API}/start", {}, headers={"Origin": f"http://127.0.0.1:{jobs.port}"})[0] == 202
    assert jobs.sql("select count(*) from pgmqd.jobs") == [(1,)]
    with contextlib.ExitStack() as stack:  # a locked table: all of these go into one statement
        locker = stack.enter_context(jobs.rig.connect(autocommit=False))
        locker.execute("lock table pgmqd.jobs in access exclusive mode")
        sockets = []
        for body in [b'{"a": "\\u0000"}', *[b'{"good": 1}'] * 8]:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", jobs.port), timeout=TIMEOUT))
            sock.sendall(f"POST {API}/start HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
                         f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            sockets.append(sock)
        assert jobs("/health")[0] == 200
        locker.rollback()
        answers = [int(sock.recv(64).split()[1]) for sock in sockets]
    assert answers == [400] + [202] * 8


def test_who_may(jobs):
    job = jobs.start()
    stranger = Jobs(jobs.rig, jobs.port)
    stranger.token, stranger.spec = None, jobs.spec
    assert stranger.code(f"{API}/start", method="POST", body={}) == (401, "unauthorized")
    assert stranger.code(f"{API}/retry/{job}", method="POST") == (401, "unauthorized")
    assert stranger.code(f"{API}/result/{job}") == (401, "unauthorized")
    assert stranger.json(f"{API}/status/{job}")[0] == 200
    for path in (f"{API}/start", f"{API}/retry/{job}"):
        assert stranger.code(path) == (405, "method_not_allowed")
        assert stranger.headers["Allow"] == "POST"


def test_what_is_not_there(jobs):
    job = jobs.start()
    for side in ("status", "result", "missing-sources", "retry-status", "events"):
        for wrong in (NOWHERE, "1", "x" * 300, "%E2%82%AC", "' or '1'='1"):
            assert jobs.json(f"{API}/{side}/{wrong.replace(' ', '%20')}")[0] == 404
        assert jobs.code(f"/api/quick/{side}/{job}") == (404, "no_such_job"), "a job of another type"
        assert jobs.code(f"/api/nothing/{side}/{job}") == (404, "no_such_type")
    assert jobs.code(f"{API}/retry/{NOWHERE}", method="POST") == (404, "no_such_job")
    assert jobs.code("/api/nothing/start", method="POST", body={}) == (404, "no_such_type")


def test_partial_and_retry(jobs):
    job = jobs.start()
    jobs.claim()
    jobs.sql("select pgmqd.job_part(%s, 'one', '1', 50)", job)
    jobs.sql("select pgmqd.job_partial(%s, '{two,three}', '5 min', '3 h')", job)
    jobs.sql(f"update pgmq.q_{QUEUE} set vt = now() + interval '5 min' returning 1")
    assert jobs.json(f"{API}/result/{job}")[1]["result"] == {"one": 1}
    assert jobs.json(f"{API}/missing-sources/{job}")[1]["missing_sources"] == ["two", "three"]
    state = jobs.json(f"{API}/retry-status/{job}")[1]
    assert state["retries"] == 0 and state["next_retry_at"] and state["retry_until"]
    assert jobs.json("/api/cron/retry-missing-data")[1] == {"triggered": 0, "jobs": []}
    assert jobs.code(f"{API}/retry/{job}?wait=x", method="POST") == (400, "bad_wait")
    # the retry is answered when the attempt that it causes is over
    answer = []
    thread = threading.Thread(target=lambda: answer.append(jobs.post(f"{API}/retry/{job}?wait=30")))
    thread.start()
    watched = "select 1 from pgmqd.jobs where watched_until is not null"
    deadline = time.monotonic() + TIMEOUT
    while not jobs.sql(watched):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert jobs.sql(f"select 1 from pgmq.q_{QUEUE} where vt <= clock_timestamp()"), "it may be claimed now"
    jobs.claim()
    jobs.sql("select pgmqd.job_part(%s, 'two', '2', 80)", job)
    jobs.sql("select pgmqd.job_partial(%s, '{three}', '-1 s', '3 h')", job)
    thread.join()
    [(status, body)] = answer
    assert status == 200 and body["retry_result"] == {"success_count": 1, "failed_count": 1, "missing_sources": ["three"], "finished": True}
    assert jobs.json("/api/cron/retry-missing-data")[1] == {"triggered": 1, "jobs": [job]}
    status, body = jobs.post(f"{API}/retry/{job}?wait=0")
    assert status == 202 and body["retry_result"]["success_count"] == 0 and body["retry_result"]["finished"] is False


class Events:
    """A client of server-sent events."""

    def __init__(self, client, path, last=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=TIMEOUT)
        self.connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
        self.answer = self.connection.getresponse()

    def close(self):
        self.answer.close()
        self.connection.close()

    def next(self):
        """The fields of the next event; None at the end."""
        event = {}
        while True:
            line = self.answer.readline().decode()
            if not line:
                return None
            if line == "\n":
                if "event" in event:
                    return event
                event = {}
            elif not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                event[name] = value


def test_events(jobs):
    job = jobs.start()
    events = Events(jobs, f"{API}/events/{job}")
    assert events.answer.status == 200 and events.answer.getheader("Content-Type") == "text/event-stream"
    first = events.next()
    assert first["event"] == "status" and json.loads(first["data"])["status"] == "queued"
    jobs.claim()
    assert json.loads(events.next()["data"])["status"] == "processing"
    jobs.sql("select pgmqd.job_progress(%s, 30)", job)
    third = events.next()
    assert json.loads(third["data"])["progress"] == 30
    again = Events(jobs, f"{API}/events/{job}", last=third["id"])  # a client that lost its connection
    jobs.sql("select pgmqd.job_finish(%s, '1')", job)
    for stream in (events, again):
        last = stream.next()
        assert json.loads(last["data"])["status"] == "completed" and int(last["id"]) > int(third["id"])
        assert stream.next()["event"] == "end" and stream.next() is None
    assert Events(jobs, f"{API}/events/{job}", last=last["id"]).answer.status == 204
    assert Events(jobs, f"{API}/events/{job}").next()["id"] == last["id"]


def test_watchers_are_limited_and_leave_no_trace(jobs):
    job = jobs.start()
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            assert stack.enter_context(contextlib.closing(Events(jobs, f"{API}/events/{job}"))).answer.status == 200
        for _ in range(200):
            assert jobs.code(f"{API}/events/{job}") == (503, "too_many_watchers")
        assert jobs("/health")[0] == 200
    progress = itertools.count(1)

    def watcher():
        """One for which there is room, as soon as it is seen that those before have left, which writing to them shows."""
        while (n := next(progress)) < 99:
            jobs.sql("select pgmqd.job_progress(%s, %s)", job, n)
            stream = Events(jobs, f"{API}/events/{job}")
            if stream.answer.status == 200:
                return stream
            stream.close()
        pytest.fail("there is no room for new ones")

    for _ in range(2):  # more than there can be at once
        with contextlib.ExitStack() as stack:
            for _ in range(32):
                stack.enter_context(contextlib.closing(watcher()))


def test_health_beside_200_of_each(jobs):
    """200 idle connections, 200 who watch a job and 200 half-sent heads, all held while /health is asked."""
    job, before = jobs.start(), jobs.rig.daemon.children()
    idle, head, watch = b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", f"GET {API}/events/{job} HTTP/1.1\r\nHost: localhost\r\n" \
        f"Authorization: Bearer {TOKEN}\r\nAccept: text/event-stream\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for text in (idle, watch, head) * 200:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", jobs.port), timeout=TIMEOUT))
            with contextlib.suppress(OSError):  # it had to make room already
                client.sendall(text)
        for path in ("/health", "/livez", "/readyz", "/metrics"):
            assert jobs(path)[0] == 200
    assert jobs.rig.daemon.children() == before


def test_everything_is_described(jobs):
    """Every path, method and status that the description has for jobs without a broken database, and no other."""
    job = jobs.start(key="k")
    jobs.json("/api/queues")
    jobs("/health")
    for side in ("status", "missing-sources", "retry-status"):
        jobs.json(f"{API}/{side}/{job}")
    jobs.json(f"{API}/result/{job}")
    jobs.sql("select pgmqd.job_finish(%s, '1')", job)
    jobs.json(f"{API}/result/{job}")
    jobs.json(f"{API}/retry/{job}", method="POST")
    jobs.json("/api/cron/retry-missing-data")
    jobs.json(f"{API}/status/{NOWHERE}")
    jobs.rig.db.execute("drop function pgmqd.retry_due_jobs")
    assert jobs.code("/api/cron/retry-missing-data") == (500, "not_migrated")
    # the paths of mails are tried in test_mail_events.py, those of operators in test_page.py and test_people.py
    described = {(m.upper(), p) for p, ms in jobs.spec["paths"].items() for m in ms if p.startswith(("/api/{type}", "/api/cron/retry"))}
    assert described - {("GET", "/api/{type}/events/{job_id}")} <= {(m, p) for m, p, _ in jobs.seen}
