"""The webhook plugin: what it sends, what it makes of each answer, and where it does not go."""

import base64
import hashlib
import hmac
import json
import time

import pytest

from lib.hookserver import HookServer

QUEUE = "hooks"
KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@pytest.fixture
def server():
    with HookServer() as s:
        yield s


@pytest.fixture
def start(rig, server):
    """Starts pgmqd with a queue for the server."""
    rig.db.execute("select pgmqd.create_queue(%s)", [QUEUE])

    def start(env=None, **options):
        options = {"plugin": "webhook", "url": server.url, "allow_private": "yes", "backoff_min": "1ms", "backoff_max": "1ms",
                   "config_retry": "1h", **options}
        return rig.start(queues={QUEUE: options}, env=env)

    return start


def settled(rig, message, **fields):
    """Sends a message and waits for the record of an outcome of it."""
    mark = rig.daemon.mark()
    msg_id = rig.enqueue(message, QUEUE)
    return rig.daemon.wait_settled(start=mark, msg_id=msg_id, **fields)


def signature(key, request):
    """What a receiver computes."""
    h = request["headers"]
    text = f"{h['webhook-id']}.{h['webhook-timestamp']}.".encode() + request["body"]
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def test_request_and_signature(rig, server, start):
    start(env={"WEBHOOK_SECRET": SECRET, "WEBHOOK_AUTHORIZATION": "Bearer t0ken"})
    message = {"text": "Я и «ты»", "n": 12345678901234567890}
    before = int(time.time())
    record = settled(rig, message, outcome="done")
    request = server.wait()
    headers = request["headers"]
    assert request["path"] == "/hook" and json.loads(request["body"]) == message
    assert headers["Content-Type"] == "application/json" and headers["Authorization"] == "Bearer t0ken"
    assert headers["webhook-id"] == f"{QUEUE}_{record['msg_id']}" and headers["pgmqd-attempt"] == "1"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    assert headers["webhook-signature"] == signature(KEY, request)
    assert headers["User-Agent"].startswith("pgmqd/") and headers["Expect"] is None
    assert not [r for r in rig.daemon.records() if "t0ken" in json.dumps(r) or SECRET in json.dumps(r)]


def test_secret_that_is_any_text(rig, server, start):
    start(secret="open sesame")
    settled(rig, {}, outcome="done")
    request = server.wait()
    assert request["headers"]["webhook-signature"] == signature(b"open sesame", request)


def test_without_a_secret_nothing_is_signed(rig, server, start):
    start()
    settled(rig, {}, outcome="done")
    headers = server.wait()["headers"]
    assert headers["webhook-signature"] is None and headers["Authorization"] is None


@pytest.mark.parametrize("status, outcome", [
    (200, "done"), (202, "done"), (204, "done"), (301, "fail"), (400, "fail"), (401, "fail"), (404, "fail"), (410, "fail"), (422, "fail"),
    (408, "retry"), (429, "retry"), (500, "retry"), (503, "retry"),
])
def test_status_is_the_outcome(rig, server, start, status, outcome):
    server.answer = lambda request: (status, {"Location": "/elsewhere"}, b"{}")
    start()
    record = settled(rig, {})
    assert record["outcome"] == outcome
    if outcome != "done":
        assert record["reason"].startswith(f"HTTP {status}")
    assert server.wait()["path"] == "/hook"


def test_every_attempt_has_the_same_id_and_a_good_signature(rig, server, start):
    server.answer = lambda request: (500 if request["number"] < 3 else 200, {}, b"")
    start(secret=SECRET)
    assert settled(rig, {"n": 1}, outcome="done")["attempt"] == 3
    requests = [server.wait(n) for n in (1, 2, 3)]
    assert len({r["headers"]["webhook-id"] for r in requests}) == 1
    assert [r["headers"]["pgmqd-attempt"] for r in requests] == ["1", "2", "3"]
    assert all(r["headers"]["webhook-signature"] == signature(KEY, r) for r in requests)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(rig, server, start, status):
    server.answer = lambda request: (status, {"Retry-After": "120"}, b"")
    start()
    assert settled(rig, {}, outcome="retry")["delay_ms"] == 120000


def test_no_answer_in_time(rig, server, start):
    server.answer = lambda request: None
    start(timeout="300ms")
    assert "timed out" in settled(rig, {}, outcome="retry")["reason"].lower()


def test_nobody_listens(rig, server, start):
    server.close()
    start()
    assert settled(rig, {}, outcome="retry")["reason"]


def test_answer_that_is_too_long_is_still_an_answer(rig, server, start):
    server.answer = lambda request: (200, {}, b"x" * 100000)
    start(max_answer="1kB")
    assert settled(rig, {})["outcome"] == "done"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "2130706433"])
def test_private_addresses_are_refused(rig, server, start, host):
    daemon = start(url=f"http://{host}:{server.port}/hook", allow_private="no")
    mark = daemon.mark()
    msg_id = rig.enqueue({}, QUEUE)
    assert "not on the public Internet" in daemon.wait_log("queue paused", start=mark)["text"]
    daemon.wait_settled(start=mark, msg_id=msg_id, outcome="config")
    assert not server.requests


def test_proxies_of_the_environment_do_not_get_round_the_guard(rig, server, start):
    start(url="http://10.0.0.1/hook", allow_private="no", env={"http_proxy": f"http://127.0.0.1:{server.port}"})
    rig.enqueue({}, QUEUE)
    rig.daemon.wait_log("queue paused")
    assert not server.requests


def test_many_at_once_share_connections(rig, server, start):
    start(max_in_flight="32")
    rig.db.execute("select pgmq.send_batch(%s, array(select jsonb_build_object('n', n) from generate_series(1, 500) n))", [QUEUE])
    server.wait(500)
    settled(rig, {"last": True}, outcome="done")
    assert server.connections <= 64
    assert len({json.loads(r["body"]).get("n") for r in server.requests}) == 501
    assert len({r["headers"]["webhook-id"] for r in server.requests}) == 501


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_trace(rig, server, start):
    """The trace of a message is in its log lines and in its requests, each with a span of its own; what is not as the standard says is no trace."""
    start()

    def sent(parent):
        mark = rig.daemon.mark()
        headers = json.dumps({"traceparent": parent})
        msg_id = rig.db.execute("select pgmqd.enqueue(%s, '{}', 0, %s::jsonb)", [QUEUE, headers]).fetchone()[0]
        return rig.daemon.wait_settled(start=mark, msg_id=msg_id).get("trace_id"), server.requests[-1]["headers"].get("traceparent")

    spans = set()
    for parent, flags in ((f"00-{TRACE}-{SPAN}-01", "01"), (f"00-{TRACE}-{SPAN}-00", "00"), (f"01-{TRACE}-{SPAN}-01-more", "01")):
        logged, header = sent(parent)
        version, trace, span, end = header.split("-")
        assert (logged, version, trace, end) == (TRACE, "00", TRACE, flags) and len(span) == 16 and span != SPAN and int(span, 16)
        spans.add(span)
    assert len(spans) == 3
    for parent in (f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01",
                   f"00-{TRACE}-{SPAN}", "", 7, None):
        assert sent(parent) == (None, None), parent
