"""Jobs that gather from several HTTP sources: what comes, what is missing, trying again, and the end of trying."""

import json
import os
import signal
import time

import pytest

from lib.daemon import conf, run
from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub
from lib.paths import TIMEOUT, make_temp_dir

TOKEN = "a-token-of-the-tests"
QUEUE = "report_generation_queue"
API = "/api/professional-report"


@pytest.fixture
def stub():
    with HttpStub() as s:
        yield s


class Gathering:
    """pgmqd with the sources a, b and c of the stub, and a client."""

    def __init__(self, rig, stub):
        self.rig, self.stub, self.http = rig, stub, Http(free_port(), TOKEN)

    def start(self, words=None, names="abc", **more):
        words = words or {}
        sources = " | ".join(f"{n} {self.stub.url}/{n} {words.get(n, '')}" for n in names)
        options = {"plugin": "sources", "sources": sources, "allow_private": "yes", "retries": 0, "retry_every": "1h", "visibility_timeout": "1s",
                   "backoff_min": "10ms", "backoff_max": "20ms", **more}
        self.rig.start(queues={QUEUE: options}, jobs={"professional-report": QUEUE}, http_listen=f"127.0.0.1:{self.http.port}",
                       env={"PGMQD_HTTP_TOKEN": TOKEN})
        self.http.wait_json("/api/queues", 200)
        return self

    def new(self, **body):
        status, answer = self.http.json(f"{API}/start", method="POST", body=body)
        assert status == 202
        return answer["job_id"]

    def wait(self, job, status, test=lambda s: True):
        return self.http.wait_json(f"{API}/status/{job}", 200, lambda s: s["status"] == status and test(s))

    def result(self, job):
        return self.http.json(f"{API}/result/{job}")[1]

    def asked(self, name):
        return len(self.stub.requests(f"/{name}"))


@pytest.fixture
def gathering(rig, stub):
    return Gathering(rig, stub)


def test_all_come(gathering):
    for name, answer in (("a", b'{"n": 9007199254740993}'), ("b", b'[1, "x"]'), ("c", b"")):
        gathering.stub.answer(f"/{name}", 200, answer)
    job = gathering.start({"b": "get"}, authorization="Bearer of-the-sources").new(questionnaire={"q": 1})
    state = gathering.wait(job, "completed")
    assert state["progress"] == 100 and state["attempts"] == 1 and state["missing_sources"] == []
    assert '"a": {"n": 9007199254740993}' in gathering.http(f"{API}/result/{job}")[2]
    assert gathering.result(job)["result"]["b"] == [1, "x"] and gathering.result(job)["result"]["c"] is None
    [a], [b] = gathering.stub.requests("/a"), gathering.stub.requests("/b")
    assert json.loads(a.body) == {"questionnaire": {"q": 1}, "job_id": job, "job_type": "professional-report"}
    assert a.method == "POST" and a.headers["Authorization"] == "Bearer of-the-sources" and a.headers["Pgmqd-Job"] == job
    assert b.method == "GET" and b.body == b""
    gathering.rig.daemon.wait_settled(queue=QUEUE, outcome="done")
    assert len(gathering.rig.rows(f"a_{QUEUE}")) == 1


def test_only_the_missing_are_tried_again(gathering):
    gathering.stub.answer("/a", 200, {"x": 1})
    for status, body in ((500, {}), (404, {}), (200, b"no JSON"), (200, b'{"cut": '), (200, {"y": 2})):
        gathering.stub.answer("/b", status, body)
    gathering.stub.answer("/c", 200, {"z": 3})
    job = gathering.start(retry_every="20ms").new()
    state = gathering.wait(job, "completed")
    assert gathering.result(job)["result"] == {"a": {"x": 1}, "b": {"y": 2}, "c": {"z": 3}}
    assert (gathering.asked("a"), gathering.asked("b"), gathering.asked("c")) == (1, 5, 1)
    assert state["attempts"] == 5 and gathering.http.json(f"{API}/retry-status/{job}")[1]["retries"] == 4
    assert gathering.rig.dead(QUEUE) == [], "waiting costs no attempt"


def test_partial_and_asked_for(gathering):
    gathering.stub.answer("/a", 200, {"x": 1})
    gathering.stub.answer("/b", 500)
    gathering.stub.answer("/c", 500)
    job = gathering.start().new()
    state = gathering.wait(job, "partial", lambda s: s["missing_sources"] == ["b", "c"])
    assert state["progress"] == 33
    assert gathering.result(job)["result"] == {"a": {"x": 1}}
    gathering.rig.daemon.wait_log(lambda r: r.get("text") == "settled" and "missing: b, c" in r.get("reason", ""))
    retry = gathering.http.json(f"{API}/retry-status/{job}")[1]
    assert retry["next_retry_at"] < retry["retry_until"]
    gathering.stub.answer("/b", 200, {"y": 2})
    gathering.stub.answer("/b", 200, {"y": 2})
    status, answer = gathering.http.json(f"{API}/retry/{job}?wait=30", method="POST")
    assert status == 200
    first = answer["retry_result"]
    assert first["finished"] and first["success_count"] + first["failed_count"] == 2 and "c" in first["missing_sources"]
    gathering.rig.daemon.wait_log(lambda r: r.get("text") == "settled" and r.get("reason") in ("missing: c", "missing: b, c"))
    gathering.stub.answer("/c", 200, {"z": 3})
    while gathering.http.json(f"{API}/status/{job}")[1]["status"] == "partial":
        gathering.http.json(f"{API}/retry/{job}?wait=30", method="POST")
    assert gathering.wait(job, "completed")["progress"] == 100 and gathering.asked("a") == 1


@pytest.mark.parametrize("required, status", [("c", "completed"), ("b", "failed")])
def test_the_time_is_over(gathering, required, status):
    gathering.stub.answer("/a", 200, {"x": 1})
    gathering.stub.answer("/b", 503)
    gathering.stub.answer("/c", 200, {"z": 3})
    job = gathering.start({required: "required"}, retry_every="100ms", retry_for="250ms").new()
    state = gathering.wait(job, status)
    assert state["missing_sources"] == ["b"] and (state["error"] is None) == (status == "completed")
    assert gathering.result(job)["result"] == {"a": {"x": 1}, "c": {"z": 3}}
    assert gathering.asked("b") >= 2 and gathering.asked("a") == 1
    gathering.rig.daemon.wait_settled(queue=QUEUE, outcome="done")
    assert gathering.rig.dead(QUEUE) == [] and gathering.rig.rows(f"q_{QUEUE}") == []


def test_retries_at_once_and_time_outs(gathering):
    gathering.stub.answer("/a", 503, headers={"Retry-After": "0"})
    gathering.stub.answer("/a", 200, 1)
    gathering.stub.answer("/b", 400)
    gathering.stub.answer("/b", 200, 2)
    gathering.stub.answer("/c", hang=True)
    job = gathering.start({"a": "retries=1", "b": "retries=5", "c": "timeout=100ms"}).new()
    gathering.wait(job, "partial", lambda s: s["missing_sources"] == ["b", "c"])
    assert (gathering.asked("a"), gathering.asked("b"), gathering.asked("c")) == (2, 1, 1)
    assert gathering.result(job)["result"] == {"a": 1}


def test_killed_worker_asks_nobody_twice(gathering):
    gathering.stub.answer("/a", 200, 1)
    gathering.stub.answer("/b", hang=True)
    gathering.stub.answer("/b", 200, 2)
    job = gathering.start(names="ab").new()
    gathering.stub.wait_requests("/b")
    state = gathering.wait(job, "processing", lambda s: s["progress"] == 50)
    assert state["attempts"] == 1
    [worker] = [pid for pid, title in gathering.rig.daemon.children().items() if "worker" in title]
    os.kill(worker, signal.SIGKILL)
    state = gathering.wait(job, "completed")
    assert state["attempts"] == 2 and gathering.result(job)["result"] == {"a": 1, "b": 2}
    assert gathering.asked("a") == 1


def test_private_addresses_are_missing(gathering):
    gathering.stub.answer("/a", 200, 1)
    url = gathering.stub.url.replace("127.0.0.1", "localhost")
    job = gathering.start(sources=f"a {url}/a", allow_private="no", retries=5).new()
    gathering.wait(job, "partial", lambda s: s["missing_sources"] == ["a"])
    assert gathering.asked("a") == 0


def test_messages_that_are_no_jobs(gathering):
    gathering.start()
    for message in ('{"questionnaire": 1}', '{"job_id": "00000000-0000-4000-8000-000000000000"}'):
        gathering.rig.enqueue(message, queue=QUEUE)
    deadline = time.monotonic() + TIMEOUT
    while len(gathering.rig.dead(QUEUE)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    reasons = sorted(d["headers"]["pgmqd_dead"]["reason"] for d in gathering.rig.dead(QUEUE))
    assert reasons[0].startswith("the message has no job_id") and reasons[1] == "there is no job of this id"


@pytest.mark.parametrize("sources, wrong", [
    ("a", '"" is not a URL'),
    ("a ftp://x.example.test", "is not a URL"),
    ("a/b http://x.example.test", "is not a name"),
    ("a http://x.example.test | a http://y.example.test", "stands there twice"),
    ("a http://x.example.test timeout=0s", "is not a time-out"),
    ("a http://x.example.test retries=11", "is not a number of retries"),
    ("a http://x.example.test requird", "is none of required"),
    ("a http://x.example.test |", "is not a name"),
])
def test_settings_that_are_refused(sources, wrong):
    directory = make_temp_dir()
    path = directory / "pgmqd.conf"
    path.write_text(conf("", {QUEUE: {"plugin": "sources", "sources": sources}}))
    done = run("run", "--check", "-c", path)
    path.unlink()
    directory.rmdir()
    assert done.returncode == 78 and wrong in done.stdout + done.stderr


def test_answers_that_jsonb_does_not_take(gathering):
    """\\u0000 and half a surrogate pair are stored as U+FFFD; what cannot be stored at all is not asked for again and again."""
    gathering.stub.answer("/a", 200, b'{"text": "before\\u0000after", "half": "\\ud83d"}')
    gathering.stub.answer("/b", 200, b'{"n": 1e999999}')
    gathering.stub.answer("/c", 200, {"c": 3})
    job = gathering.start().new(x=1)
    state = gathering.wait(job, "completed")
    assert state["missing_sources"] == ["b"] and gathering.asked("b") == 1
    assert gathering.result(job)["result"]["a"] == {"text": "before\ufffdafter", "half": "\ufffd"}
