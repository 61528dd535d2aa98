"""HTTP: who may ask for what, the shape of refusals, and what is told of the queues."""

import contextlib
import socket

import pytest

from lib.httpclient import Http, free_port
from lib.paths import TIMEOUT
from lib.rig import email_queue

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def http_port():
    return free_port()


def start(rig, port, token=TOKEN, **more):
    """pgmqd with HTTP, and a client that has the token."""
    more.setdefault("http_listen", f"127.0.0.1:{port}")
    rig.start(env={"PGMQD_HTTP_TOKEN": token or ""}, **more)
    return Http(port, token)


def error(client, path, **more):
    """(status, code) of a refusal, which has the one shape."""
    status, answer = client.json(path, **more)
    assert set(answer) == {"error"} and set(answer["error"]) == {"code", "message"} and answer["error"]["message"]
    return status, answer["error"]["code"]


def queues(client):
    return {row["queue"]: row for row in client.wait_json("/api/queues", 200)["queues"]}


def test_queues(rig, http_port):
    client = start(rig, http_port, queues={"email_queue": email_queue(rig.catcher), "analytics_queue": {"plugin": "null"}})
    queues(client)  # waits for the connection
    rig.db.execute("select pgmq.send('report_generation_queue', '{}', d) from unnest(array[0, 0, 3600]) d")
    rig.send("somebody@example.test")
    rig.catcher.wait_to("somebody@example.test")
    rig.daemon.wait_settled(queue="email_queue")
    found = queues(client)
    assert set(found) == {"email_queue", "report_generation_queue", "payment_processing_queue", "analytics_queue"}
    row = found["report_generation_queue"]  # nobody serves it
    assert row["worker"] is None and row["attached"] is True and row["dead_letters"] == 0
    assert (row["waiting"], row["due"], row["delayed"], row["leased"], row["in_flight"]) == (3, 2, 1, 0, 0)
    assert 0 <= row["oldest_due_seconds"] < 60 and row["next_due"] is not None
    row = found["email_queue"]
    assert (row["waiting"], row["oldest_due_seconds"], row["next_due"]) == (0, None, None)
    assert row["worker"] == {"plugin": "email", "state": "ready", "processes": 1, "restarts": 0, "last_error": None,
                             "settled": {"done": 1, "retried": 0, "failed": 0, "replaced": 0, "released": 0, "lease_lost": 0}}


def test_database_away_and_back(own_rig, http_port):
    rig = own_rig
    client = start(rig, http_port)
    assert "email_queue" in queues(client)
    rig.cluster.stop()
    client.wait_json("/api/queues", 503, lambda answer: answer["error"]["code"] == "database_unavailable")
    assert client.headers["Retry-After"] == "1"
    rig.cluster.start()
    assert "email_queue" in queues(client)


def test_not_migrated(rig, http_port):
    rig.db.execute("drop function pgmqd.queue_status()")
    client = start(rig, http_port)
    client.wait_json("/api/queues", 500, lambda answer: answer["error"]["code"] == "not_migrated")


def test_refusals(rig, http_port):
    client = start(rig, http_port, http_hosts="pgmqd.example.test, other.example.test")
    assert error(client, "/api/nothing") == (404, "not_found")
    for path in ("/health//", "/api/queues/", "/api%2Fqueues"):
        assert error(client, path) == (404, "not_found")
    assert error(client, "/api/queues", method="POST", body={}) == (405, "method_not_allowed")
    assert client.headers["Allow"] == "GET, HEAD"
    assert error(client, "/health", headers={"Host": "evil.example.test"}) == (421, "wrong_host")
    assert client("/health", headers={"Host": "OTHER.example.test:443"})[0] == 200


def test_everyone_can_reach_it_only_with_the_token(rig, http_port):
    client = start(rig, http_port, http_listen=f"0.0.0.0:{http_port}")
    assert client("/health")[0] == 200
    stranger = Http(http_port)
    assert error(stranger, "/health") == (401, "unauthorized")
    assert stranger.headers["WWW-Authenticate"] == 'Bearer realm="pgmqd"'
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), TOKEN * 2):
        assert error(Http(http_port, wrong), "/health") == (401, "unauthorized")


def test_short_token_is_refused(rig):
    rig.start(env={"PGMQD_HTTP_TOKEN": "short"}, ready=False)
    assert rig.daemon.process.wait(TIMEOUT) != 0
    assert "http_token (or PGMQD_HTTP_TOKEN in the environment) has to be 16 characters" in rig.daemon.tail()
    rig.daemon = None


def test_client_that_leaves_before_the_answer(rig, http_port):
    """The statement waits for a lock; the client is gone when its answer comes, and the next one is served."""
    client = start(rig, http_port)
    assert "email_queue" in queues(client)
    with rig.connect(autocommit=False) as locker:
        locker.execute("lock table pgmq.q_email_queue in access exclusive mode")
        with contextlib.closing(socket.create_connection(("127.0.0.1", http_port), timeout=TIMEOUT)) as sock:
            sock.sendall(b"GET /api/queues HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client("/health")[0] == 200  # others are answered meanwhile
    assert "email_queue" in queues(client)
    assert client("/health")[0] == 200
