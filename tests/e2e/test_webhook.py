"""The webhook plugin: what it sends, what it makes of each answer, and where it does not go."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time

import pytest

from lib.daemon import conf, run
from lib.httpstub import HttpStub
from lib.stand import put_forward, wait_until

QUEUE = "hooks"
KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@pytest.fixture
def server():
    with HttpStub(default=(204, b"")) as s:
        yield s


@pytest.fixture
def start(rig, server):
    """Starts pgmqd with a queue for the server."""
    rig.db.execute("select pgmqd.create_queue(%s)", [QUEUE])

    def start(env=None, **options):
        options = {"plugin": "webhook", "url": f"{server.url}/hook", "allow_private": "yes", "backoff_min": "1ms", "backoff_max": "1ms",
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
    h = request.headers
    text = f"{h['webhook-id']}.{h['webhook-timestamp']}.".encode() + request.body
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def test_request_and_signature(rig, server, start):
    start(env={"WEBHOOK_SECRET": SECRET, "WEBHOOK_AUTHORIZATION": "Bearer t0ken"})
    message = {"text": "Я и «ты»", "n": 12345678901234567890}
    before = int(time.time())
    record = settled(rig, message, outcome="done")
    request = server.wait()
    headers = request.headers
    assert request.path == "/hook" and json.loads(request.body) == message
    assert headers["Content-Type"] == "application/json" and headers["Authorization"] == "Bearer t0ken"
    assert headers["webhook-id"] == f"{QUEUE}_{record['msg_id']}" and headers["pgmqd-attempt"] == "1"
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    assert headers["webhook-signature"] == signature(KEY, request)
    assert headers["User-Agent"].startswith("pgmqd/") and headers["Expect"] is None
    assert not [r for r in rig.daemon.records() if "t0ken" in json.dumps(r) or SECRET in json.dumps(r)]


def test_a_body_of_many_pieces(rig, server, start):
    """libcurl asks for it piece by piece."""
    start()
    message = {"numbers": list(range(50000))}
    settled(rig, message, outcome="done")
    assert json.loads(server.wait().body) == message


def test_a_receiver_that_is_away_and_then_in_trouble(rig, server, start):
    """500 may be about the message; but not of a receiver that has been away since it answered last."""
    answers = iter([503, 500, 500, 200])
    server.reply = lambda request: (next(answers), {}, b"{}")
    start(max_attempts=1, circuit_open="10ms")
    settled(rig, {}, outcome="done", attempt=1)


def test_secret_that_is_any_text(rig, server, start):
    start(secret="open sesame")
    settled(rig, {}, outcome="done")
    request = server.wait()
    assert request.headers["webhook-signature"] == signature(b"open sesame", request)


def test_without_a_secret_nothing_is_signed(rig, server, start):
    start()
    settled(rig, {}, outcome="done")
    headers = server.wait().headers
    assert headers["webhook-signature"] is None and headers["Authorization"] is None


@pytest.mark.parametrize("status, outcome", [
    (200, "done"), (202, "done"), (204, "done"), (301, "fail"), (400, "fail"), (404, "fail"), (410, "fail"), (413, "fail"), (422, "fail"),
    (401, "config"), (403, "config"), (407, "config"), (500, "retry"), (501, "retry"),
    (408, "release"), (425, "release"), (429, "release"), (502, "release"), (503, "release"), (504, "release"),
    (521, "release"), (524, "release"), (530, "release"), (546, "retry"),
])
def test_status_is_the_outcome(rig, server, start, status, outcome):
    server.reply = lambda request: (status, {"Location": "/elsewhere"}, b"{}")
    start()
    record = settled(rig, {})
    assert record["outcome"] == outcome
    if outcome == "config":
        assert f"HTTP {status}: {{}}" in rig.daemon.wait_log("queue paused")["text"]
    elif outcome != "done":
        assert f"HTTP {status}" in record["reason"] and record["reason"].endswith(": {}")
    assert server.wait().path == "/hook"


def test_every_attempt_has_the_same_id_and_a_good_signature(rig, server, start):
    server.reply = lambda request: (500 if request.number < 3 else 200, {}, b"")
    start(secret=SECRET)
    assert settled(rig, {"n": 1}, outcome="done")["attempt"] == 3
    requests = [server.wait(n) for n in (1, 2, 3)]
    assert len({r.headers["webhook-id"] for r in requests}) == 1
    assert [r.headers["pgmqd-attempt"] for r in requests] == ["1", "2", "3"]
    assert all(r.headers["webhook-signature"] == signature(KEY, r) for r in requests)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(rig, server, start, status):
    server.reply = lambda request: (status, {"Retry-After": "120"}, b"")
    start()
    settled(rig, {}, outcome="release")
    assert "trying again in 120 s" in rig.daemon.wait_log("queue waits, no attempt is counted: the receiver is away since ")["text"]


@pytest.mark.parametrize("value", ["soon", "-1", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_retry_after_that_says_nothing_is_none(rig, server, start, value):
    """The first interval is a second, as without one."""
    server.reply = lambda request: (503 if request.number == 1 else 204, {"Retry-After": value}, b"")
    start()
    settled(rig, {}, outcome="done")
    assert "trying again in 1 s" in rig.daemon.wait_log("queue waits")["text"]


def test_an_outage_of_half_an_hour(rig, server, start):
    """200 webhooks: none is lost or blamed, and all are posted in order when the receiver is back, no more at once than allowed."""
    server.stop()
    daemon = start(circuit_open="200ms", max_in_flight=4, max_attempts=2)
    rig.db.execute(f"insert into pgmq.q_{QUEUE} (enqueued_at, vt, message) select t, t, jsonb_build_object('n', g)"
                   " from generate_series(1, 200) g, lateral (select now() - interval '60 s' + g * interval '100 ms') x (t)")
    rig.db.execute("select pg_notify('pgmqd', %s)", [QUEUE])
    assert "the receiver is away since" in daemon.wait_log("queue waits, no attempt is counted")["text"]
    for _ in range(10):  # three minutes each
        mark = daemon.mark()
        put_forward(rig.db, QUEUE, 180)
        daemon.wait_settled(start=mark, outcome="release")
    assert not rig.dead(QUEUE) and len(rig.rows(f"q_{QUEUE}")) == 200
    lock, now, most, order = threading.Lock(), [0], [0], []

    def answer(request):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            order.append(json.loads(request.body)["n"])
        time.sleep(0.005)
        with lock:
            now[0] -= 1
        return 204, {}, b""

    with HttpStub(reply=answer, port=server.port) as back:
        back.wait(200, 60)
        daemon.wait_log("the cause of the pause is gone, the queue goes on")
        wait_until("all archived", lambda: len(rig.rows(f"a_{QUEUE}")) == 200)
    assert sorted(order) == list(range(1, 201)) and max(abs(g - n) for n, g in enumerate(order, 1)) <= 8, str(order)
    assert most[0] <= 4 and not rig.dead(QUEUE)
    assert all(r["attempt"] == 1 for r in daemon.records() if r.get("text") == "settled" and r["outcome"] == "done")


def test_no_answer_in_time(rig, server, start):
    server.reply = lambda request: None
    start(timeout="300ms")
    assert "timed out" in settled(rig, {}, outcome="release")["reason"].lower()


def test_nobody_listens(rig, server, start):
    server.stop()
    start()
    assert settled(rig, {}, outcome="release")["reason"]


def test_answer_that_is_too_long_is_still_an_answer(rig, server, start):
    server.reply = lambda request: (200, {}, b"x" * 100000)
    start(max_answer="1kB")
    assert settled(rig, {})["outcome"] == "done"


def test_private_addresses_are_refused(rig, server, start):
    """What a name resolves to; addresses as they are written are refused at once (test_bad_input.py)."""
    daemon = start(url=f"http://localhost:{server.port}/hook", allow_private="no")
    mark = daemon.mark()
    msg_id = rig.enqueue({}, QUEUE)
    assert "not on the public Internet" in daemon.wait_log("queue paused", start=mark)["text"]
    daemon.wait_settled(start=mark, msg_id=msg_id, outcome="config")
    assert not server.requests()


def test_proxies_of_the_environment_do_not_get_round_the_guard(rig, server, start):
    start(url="http://localhost/hook", allow_private="no", env={"http_proxy": f"http://127.0.0.1:{server.port}"})
    rig.enqueue({}, QUEUE)
    rig.daemon.wait_log("queue paused")
    assert not server.requests()


def test_many_at_once_share_connections(rig, server, start):
    start(max_in_flight="32")
    rig.db.execute("select pgmq.send_batch(%s, array(select jsonb_build_object('n', n) from generate_series(1, 500) n))", [QUEUE])
    server.wait(500)
    settled(rig, {"last": True}, outcome="done")
    assert server.connections <= 64
    assert len({json.loads(r.body).get("n") for r in server.requests()}) == 501
    assert len({r.headers["webhook-id"] for r in server.requests()}) == 501


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_trace(rig, server, start):
    """The trace of a message is in its log lines and in its requests, each with a span of its own; what is not as the standard says is no trace."""
    start()

    def sent(parent):
        mark = rig.daemon.mark()
        headers = json.dumps({"traceparent": parent})
        msg_id = rig.db.execute("select pgmqd.enqueue(%s, '{}', 0, %s::jsonb)", [QUEUE, headers]).fetchone()[0]
        return rig.daemon.wait_settled(start=mark, msg_id=msg_id).get("trace_id"), server.requests()[-1].headers.get("traceparent")

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


@pytest.mark.parametrize("status", [401, 503])
def test_no_message_is_lost_to_a_receiver_that_lets_nobody_in(rig, server, start, status):
    """A wrong key pauses the queue, and one that is away is left alone: no attempt is counted, and all come when it is well again."""
    well = []
    server.reply = lambda request: (200 if well else status, {}, b"")
    rig.db.execute("select pgmqd.create_queue(%s)", [QUEUE])
    rig.db.execute("select pgmq.send_batch(%s, array(select jsonb_build_object('n', n) from generate_series(1, 100) n))", [QUEUE])
    daemon = start(max_attempts=2, config_retry="1s", max_in_flight=1)
    daemon.wait_log("queue paused" if status == 401 else "the receiver is away")
    rig.db.execute("select pg_sleep(0.5)")  # nothing to wait for: nothing must come
    asked = len(server.requests())
    assert asked <= 4 and not rig.dead(QUEUE) and len(rig.rows(f"q_{QUEUE}")) == 100
    well.append(True)
    server.wait(asked + 100, timeout=90)
    daemon.wait_log(lambda r: r.get("text") == "settled" and r.get("outcome") == "done"
                    and rig.db.execute(f"select count(*) from pgmq.a_{QUEUE}").fetchone()[0] == 100, timeout=60)
    assert {json.loads(r.body)["n"] for r in server.requests()[asked:]} == set(range(1, 101)) and not rig.dead(QUEUE)


def test_one_bad_message_does_not_stop_the_others(rig, server, start):
    server.reply = lambda request: (500 if b"bad" in request.body else 200, {}, b"broken")
    start(max_attempts=2)
    bad = rig.enqueue({"n": "bad"}, QUEUE)
    assert settled(rig, {"n": "good"}, outcome="done")
    assert rig.daemon.wait_settled(msg_id=bad, outcome="fail")["reason"] == "HTTP 500: broken"


@pytest.mark.parametrize("choice, outcome", [("fail", "fail"), ("retry", "retry"), ("pause", "config")])
@pytest.mark.parametrize("status", [404, 410])
def test_missing_is_what_the_option_says(rig, server, start, status, choice, outcome):
    server.reply = lambda request: (status, {}, b"no such function")
    start(on_missing=choice)
    record = settled(rig, {})
    text = rig.daemon.wait_log("queue paused")["text"] if outcome == "config" else record["reason"]
    assert record["outcome"] == outcome and f"HTTP {status}: no such function" in text


def test_own_headers_and_envelope(rig, server, start):
    start(headers="apikey: k3y | X-Source: pgmqd", body="envelope", secret=SECRET)
    record = settled(rig, {"n": 9007199254740993}, outcome="done")
    request = server.wait()
    assert (request.headers["apikey"], request.headers["X-Source"]) == ("k3y", "pgmqd")
    body = json.loads(request.body)
    assert body["message"] == {"n": 9007199254740993} and (body["id"], body["queue"], body["attempt"]) == (record["msg_id"], QUEUE, 1)
    assert request.headers["webhook-signature"] == signature(KEY, request)
    assert not [r for r in rig.daemon.records() if "k3y" in json.dumps(r)]


@pytest.mark.parametrize("headers", ["apikey", "Host: x", "a: b | : c", "webhook-id: 1", "a b: c"])
def test_headers_that_cannot_be(server, tmp_path, headers):
    path = tmp_path / "pgmqd.conf"
    path.write_text(conf("", {QUEUE: {"plugin": "webhook", "url": f"{server.url}/hook", "headers": headers}}))
    done = run("run", "--check", "-c", str(path))
    assert done.returncode != 0 and "headers: they are written" in done.stdout + done.stderr


@pytest.mark.parametrize("secret", ["whsec_", "whsec_abc", "whsec_ab=c", "whsec_a===", "whsec_äöüß"])
def test_secrets_that_cannot_be(server, tmp_path, secret):
    path = tmp_path / "pgmqd.conf"
    path.write_text(conf("", {QUEUE: {"plugin": "webhook", "url": f"{server.url}/hook", "allow_private": "yes", "secret": secret}}))
    done = run("run", "--check", "-c", str(path))
    assert done.returncode != 0 and "what follows whsec_ is not base64" in done.stdout + done.stderr


def test_the_answer_is_in_the_reason(rig, server, start):
    """Its first 500 bytes, on one line, as valid text, without addresses."""
    server.reply = lambda request: (422, {}, b'{"error": "no\r\nsuch \xff thing",\x00 "who": "anna.k@example.test"}' + b"x" * 600)
    start()
    reason = settled(rig, {}, outcome="fail")["reason"]
    assert reason.startswith('HTTP 422: {"error": "no  such \ufffd thing"') and "anna" not in reason and 400 < len(reason) < 530


def test_a_cut_connection_is_not_posted_to_again_behind_our_back(rig, server, start):
    """The receiver takes the message on a kept connection and hangs up without an answer: one request for each attempt of ours."""
    def answer(request):
        if b"cut" in request.body:
            request.connection.shutdown(socket.SHUT_RDWR)
            return None
        return 200, {}, b""

    server.reply = answer
    start(backoff_min="1h", backoff_max="1h")  # no second attempt of ours before the message is taken away
    for n in range(3):
        settled(rig, {"n": n}, outcome="done")
        msg_id = rig.enqueue({"cut": n}, QUEUE)
        rig.daemon.wait_settled(msg_id=msg_id)
        rig.db.execute("select pgmq.archive(%s, %s::bigint)", [QUEUE, msg_id])
    ids = [r.headers["webhook-id"] for r in server.requests() if b"cut" in r.body]
    assert len(ids) == len(set(ids)) == 3, ids
