"""HTTP: who may ask for what, the shape of refusals, and what is told of the queues."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

import pytest

from lib.daemon import Daemon, conf, run
from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub
from lib.paths import TIMEOUT
from lib.rig import email_queue
from lib.stand import descriptors

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
    assert set(found) == {"email_queue", "report_generation_queue", "payment_processing_queue", "analytics_queue", "mail_events_queue"}
    row = found["report_generation_queue"]  # nobody serves it
    assert row["worker"] is None and row["attached"] is True and row["dead_letters"] == 0
    assert (row["waiting"], row["due"], row["delayed"], row["leased"], row["in_flight"]) == (3, 2, 1, 0, 0)
    assert 0 <= row["oldest_due_seconds"] < 60 and row["next_due"] is not None
    row = found["email_queue"]
    assert (row["waiting"], row["oldest_due_seconds"], row["next_due"]) == (0, None, None)
    row["worker"].pop("numbers")  # the plugin's own
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


@pytest.mark.parametrize("older", ["drop function pgmqd.queue_status()",
                                   "drop function pgmqd.kept_back(text); create function pgmqd.kept_back(queue text, out by_rate bigint, out by_key bigint,"
                                   " out by_place bigint, out keys jsonb) language sql return row(0, 0, 0, null)"])
def test_not_migrated(rig, http_port, older):
    """A function that is not there, and one of a release before, whose columns are others."""
    rig.db.execute(older)
    client = start(rig, http_port)
    client.wait_json("/api/queues", 500, lambda answer: answer["error"]["code"] == "not_migrated")
    said = run("status", "--listen", "off", "-d", rig.conninfo).stderr
    assert "does not exist" in said and "run pgmqd migrate" in said and said.count("\n") == 1


def test_refusals(rig, http_port):
    client = start(rig, http_port, http_hosts="pgmqd.example.test, other.example.test")
    client.wait_json("/health", 200)
    assert error(client, "/api/nothing") == (404, "not_found")
    for path in ("/health//", "/api/queues/", "/api%2Fqueues"):
        assert error(client, path) == (404, "not_found")
    assert error(client, "/api/queues", method="POST", body={}) == (405, "method_not_allowed")
    assert client.headers["Allow"] == "GET, HEAD"
    assert error(client, "/health", headers={"Host": "evil.example.test"}) == (421, "wrong_host")
    assert client("/health", headers={"Host": "OTHER.example.test:443"})[0] == 200


def test_everyone_can_reach_it_only_with_the_token(rig, http_port):
    client = start(rig, http_port, http_listen=f"0.0.0.0:{http_port}")
    client.wait_json("/health", 200)
    stranger = Http(http_port)
    assert error(stranger, "/health") == (401, "unauthorized")
    assert stranger.headers["WWW-Authenticate"] == 'Bearer realm="pgmqd"'
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), TOKEN * 2):
        assert error(Http(http_port, wrong), "/health") == (401, "unauthorized")


def test_short_token_is_refused(rig):
    rig.start(env={"PGMQD_HTTP_TOKEN": "short"}, ready=False)
    said = "http_token (or PGMQD_HTTP_TOKEN in the environment) has to be 16 characters"
    rig.daemon.wait_log(lambda r: said in f"{r.get('text')} {r.get('raw')}")
    assert rig.daemon.process.wait(TIMEOUT) != 0
    rig.daemon = None


def test_client_that_leaves_before_the_answer(rig, http_port):
    """The statement waits for a lock; the client is gone when its answer comes, and the next one is served."""
    client = start(rig, http_port)
    assert "email_queue" in queues(client)
    client.wait_json("/health", 200)
    with rig.connect(autocommit=False) as locker:
        locker.execute("lock table pgmq.q_email_queue in access exclusive mode")
        with contextlib.closing(socket.create_connection(("127.0.0.1", http_port), timeout=TIMEOUT)) as sock:
            sock.sendall(b"GET /api/queues HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client("/health")[0] == 200  # others are answered meanwhile
    assert "email_queue" in queues(client)
    assert client("/health")[0] == 200


def test_probes_need_neither_name_nor_token(rig, http_port):
    """A platform's probe sends the address of the container as Host and no token, and is told the status alone."""
    client = start(rig, http_port, http_listen=f"0.0.0.0:{http_port}")
    client.wait_json("/ready", 200)
    stranger = Http(http_port)
    for host in (f"10.42.0.17:{http_port}", "7c7168a662c1", "healthcheck.example.test"):
        assert stranger.json("/livez", headers={"Host": host}) == (200, {"status": "ok"})
        assert stranger.json("/readyz", headers={"Host": host}) == (200, {"status": "ready"})
        assert stranger("/health", headers={"Host": host})[0] == 421
    assert stranger("/livez", method="HEAD")[0] == 200
    assert stranger("/livez", method="POST")[0] == 405


def test_alive_without_the_database(own_rig, http_port):
    """Restarting pgmqd does not bring the database back: a liveness probe stays good, a readiness probe does not."""
    rig = own_rig
    client = start(rig, http_port)
    rig.cluster.stop()
    client.wait_json("/health", 503)
    assert client.json("/livez") == (200, {"status": "ok"})
    rig.cluster.start()
    client.wait_json("/health", 200)


def test_claims_that_fail(rig, http_port):
    """A worker that is connected and cannot claim is not ready; each of the places says why, and when it is over."""
    client = start(rig, http_port, queues={"analytics_queue": {"plugin": "null"}})
    client.wait_json("/ready", 200)
    before = client.wait_json("/api/status", 200, lambda a: any(p["last_claim"] for p in a["processes"]))
    assert not any(p["claims_fail"] for p in before["processes"])
    rig.db.execute("create function public.refuse() returns trigger language plpgsql as $$ begin raise 'not allowed' using errcode = '42501'; end $$")
    rig.db.execute("create trigger refuse before update on pgmq.q_analytics_queue for each statement execute function public.refuse()")
    rig.db.execute("select pg_notify('pgmqd', 'analytics_queue')")
    answer = client.wait_json("/ready", 503, lambda a: "cannot claim messages" in str(a["waiting_for"]))
    assert "analytics_queue" in str(answer)
    assert Http(http_port).json("/readyz") == (503, {"status": "not ready"}), "which queue, nobody is told without the token"
    assert "not allowed" in str(client.wait_json("/health", 503, lambda a: "cannot claim messages" in str(a["problems"])))
    [worker] = [p for p in client.json("/api/status")[1]["processes"] if p["role"] == "worker"]
    assert worker["claims_fail"] and worker["connected"]
    assert client.json("/livez")[0] == 200
    metrics = client("/metrics")[2]
    assert 'pgmqd_claims_failed_total{queue="analytics_queue",plugin="null"} 0' not in metrics
    assert 'pgmqd_last_claim_timestamp_seconds{queue="analytics_queue",plugin="null"} ' in metrics
    rig.db.execute("drop trigger refuse on pgmq.q_analytics_queue")
    client.wait_json("/ready", 200)
    client.wait_json("/health", 200)


def test_a_command_keeps_the_token_from_a_port_that_anybody_may_hold(rig):
    """With the daemon away, another user of the machine may listen on its port."""
    with HttpStub(default=(200, {"queues": []})) as somebody:
        done = run("status", "-d", rig.conninfo, "--listen", somebody.url.removeprefix("http://"), env={"PGMQD_HTTP_TOKEN": TOKEN})
        assert done.returncode == 0, done.stderr
        assert [r.path for r in somebody.requests()] == ["/api/queues"] and TOKEN not in str([dict(r.headers) for r in somebody.requests()])


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
def test_a_command_shows_the_token_to_the_daemons_user(rig, http_port, address):
    """Of a server that listens everywhere."""
    client = start(rig, http_port, http_listen=f"{address}:{http_port}")
    client.wait_json("/ready", 200)
    client.wait_json("/api/queues", 200)  # by a connection of its own, which /ready does not wait for
    done = run("status", "-d", rig.conninfo, "--listen", f"{address}:{http_port}", env={"PGMQD_HTTP_TOKEN": TOKEN})
    assert done.returncode == 0 and "these are the database's figures alone" not in done.stdout, done.stdout


NOBODY = """
import os, socket, sys
os.setuid(65534)
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as s:
    print("ready", flush=True)
    c, _ = s.accept()
    got = b""
    while b"\\r\\n\\r\\n" in (more := c.recv(65536)):
        got += more
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    print(got, flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a listener as somebody else")
def test_a_command_keeps_the_token_from_another_user(rig, http_port):
    """With the daemon away, the port of a server that listens everywhere is anybody's, too."""
    with subprocess.Popen([sys.executable, "-c", NOBODY, str(http_port)], stdout=subprocess.PIPE, text=True) as somebody:
        assert somebody.stdout.readline() == "ready\n"
        done = run("status", "-d", rig.conninfo, "--listen", f"0.0.0.0:{http_port}", env={"PGMQD_HTTP_TOKEN": TOKEN})
        got = somebody.stdout.read()
    assert "GET /livez" in got and TOKEN not in got, got
    assert done.returncode == 0 and "the token is kept from what listens" in done.stdout, done.stdout


# ---- clients that do not behave ----

class Raw:
    """A client that says just what it is told to."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.file = self.sock.makefile("rb")

    def send(self, text):
        self.sock.sendall(text.encode() if isinstance(text, str) else text)
        return self

    def answer(self):
        """(status, object) of the next answer; None when the connection was closed."""
        line = self.file.readline()
        if not line:
            return None
        length = 0
        while (header := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
            if name.lower() == "content-type":
                assert value.strip() == "application/json", "no page of libevent's"
        return int(line.split()[1]), json.loads(self.file.read(length))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()
        self.sock.close()


HOST = "Host: localhost\r\n"


@pytest.mark.parametrize("request_text, status, code", [
    (f"POST /api/x/start HTTP/1.1\r\n{HOST}Content-Length: 1073741824\r\n\r\n", 413, "too_large"),
    (f"POST /api/x/start HTTP/1.1\r\n{HOST}Content-Length: 1048577\r\n\r\n", 413, "too_large"),
    (f"POST /api/x/start HTTP/1.1\r\n{HOST}Content-Length: 99999999999999999999\r\n\r\n", 400, "bad_length"),
    (f"POST /api/x/start HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_length"),
    (f"POST /api/x/start HTTP/1.1\r\n{HOST}Content-Length: -1\r\n\r\n", 400, "bad_length"),
    (f"POST /api/x/start HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n", 411, "length_required"),
    (f"GET /health HTTP/1.1\r\n{HOST}X: {'x' * 17000}\r\n\r\n", 431, "header_too_large"),
    (f"GET /health HTTP/1.1\r\n{HOST}{'x' * 17000}", 431, "header_too_large"),
    (f"GET /health HTTP/1.1\r\n{HOST}X: 1\r\n folded\r\n\r\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}X : 1\r\n\r\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}nothing\r\n\r\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}X: \0\r\n\r\n", 400, "bad_header"),
    (f"GET /health\r\n{HOST}\r\n", 400, "bad_request"),
    (f"GET /health HTTP/2.0\r\n{HOST}\r\n", 400, "bad_request"),
    (f"GET http://evil.example.test/health HTTP/1.1\r\n{HOST}\r\n", 400, "bad_request"),
    (f"GET /he alth HTTP/1.1\r\n{HOST}\r\n", 400, "bad_request"),
    (f"BREW /health HTTP/1.1\r\n{HOST}\r\n", 501, "unknown_method"),
    ("\x16\x03\x01\x02\x00\x01\x00\n\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}X: a\rContent-Length: 30\r\n\r\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nExpect: x\r\n\r\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}{HOST}\r\n", 400, "bad_header"),
    (f"POST /health HTTP/1.1\r\n{HOST}Transfer-Encoding\x0b: chunked\r\n\r\n", 400, "bad_header"),
    (f"GET /health HTTP/1.1\r\n{HOST}Expect: a-miracle\r\n\r\n", 417, "bad_expectation"),
    ("GET /health HTTP/1.1\r\n\r\n", 400, "bad_header"),
    (f"GET /api/queues/%ff/dead-letters HTTP/1.1\r\n{HOST}\r\n", 400, "bad_request"),
])
def test_refused_before_it_is_read(http_server, request_text, status, code):
    with Raw(http_server.port) as client:
        got, answer = client.send(request_text).answer()
        assert (got, answer["error"]["code"]) == (status, code)
        assert client.answer() is None
    assert http_server("/health")[0] == 200


@pytest.fixture(scope="module")
def http_server(cluster, migrated):
    """One pgmqd for all that only send it nonsense."""
    port = free_port()
    daemon = Daemon(conf(cluster.createdb("nonsense", migrated), {"analytics_queue": {"plugin": "null"}}, http_listen=f"127.0.0.1:{port}"),
                    env={"PGMQD_HTTP_TOKEN": TOKEN}).start()
    daemon.wait_ready()
    client = Http(port, TOKEN)
    client.wait_json("/health", 200)
    client.daemon = daemon
    yield client
    assert daemon.stop() == 0, daemon.tail()
    daemon.close()


def test_requests_one_behind_the_other(http_server):
    """In one write, in pieces of one byte, and with bodies between them."""
    get, body = f"GET /ready HTTP/1.1\r\n{HOST}\r\n", '{"a": 1}'
    post = f"POST /health HTTP/1.1\r\n{HOST}Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    with Raw(http_server.port) as client:
        client.send(get + "\r\n" + post + get + post + get)
        assert [client.answer()[0] for _ in range(5)] == [200, 405, 200, 405, 200]
        for byte in get + post:
            client.send(byte)
        assert [client.answer()[0] for _ in range(2)] == [200, 405]
        client.send(get.replace("\r\n", "\n"))
        assert client.answer()[0] == 200


def test_an_answer_is_whole_before_the_connection_is_closed(http_server):
    """Also with a client that reads slowly, and more than the socket holds."""
    with Raw(http_server.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.send(f"GET /api/openapi.json HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
        status, answer = client.answer()
        assert status == 200 and answer["openapi"] == "3.1.0" and client.answer() is None
    with Raw(http_server.port) as client:
        client.send(f"GET /metrics HTTP/1.0\r\n{HOST}\r\n")
        assert client.file.read().endswith(b"\n")


def test_continue(http_server):
    """A client that asks before it sends a body is told to, for its second request as well."""
    with Raw(http_server.port) as client:
        for _ in range(2):
            client.send(f"POST /health HTTP/1.1\r\n{HOST}Authorization: Bearer {TOKEN}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert client.file.readline() == b"HTTP/1.1 100 Continue\r\n" and client.file.readline() == b"\r\n"
            assert client.send("{}").answer()[0] == 405


def test_a_body_too_long_for_its_place_is_no_second_request(http_server):
    """Where less is taken than elsewhere it is refused at once, without a word to go on, and what follows is nobody's request."""
    with Raw(http_server.port) as client:
        client.send(f"POST /api/mail/unsubscribe/x HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
                    + f"GET /livez HTTP/1.1\r\n{HOST}\r\n" * 3)
        answers = client.file.read()
    assert answers.startswith(b"HTTP/1.1 413 ") and answers.count(b"HTTP/1.1 ") == 1, answers


def is_closed(client):
    """Whether the other side has closed a connection on which nothing else is to come."""
    return bool(select.select([client.sock], [], [], 0)[0])


def test_the_oldest_idle_connection_makes_room(http_server):
    """A client has its share and no more; a request that is on its way is not given up for connections that ask nothing."""
    with contextlib.ExitStack() as stack:
        asking = stack.enter_context(Raw(http_server.port))
        asking.send(f"GET /livez HTTP/1.1\r\n{HOST}X: ")
        idle = []
        for _ in range(128):
            idle.append(stack.enter_context(Raw(http_server.port)))
            assert idle[-1].send(f"GET /livez HTTP/1.1\r\n{HOST}\r\n").answer()[0] == 200
        assert is_closed(idle[0]) and not is_closed(idle[-1])
        assert sum(not is_closed(client) for client in idle) <= 64
        assert asking.send("x\r\n\r\n").answer()[0] == 200


def test_a_great_body_costs_nothing(http_server):
    def memory():
        [pid] = [pid for pid, title in http_server.daemon.children().items() if "control" in title]
        with open(f"/proc/{pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * 4096

    before = memory()
    block = b"x" * 65536
    with Raw(http_server.port) as client:
        client.send(f"POST /api/x/start HTTP/1.1\r\n{HOST}Content-Length: 1073741824\r\n\r\n")
        assert client.answer()[0] == 413
        with pytest.raises(OSError):  # it goes on sending all the same
            for _ in range(16384):
                client.send(block)
    assert memory() - before < 4 * 1024 * 1024
    assert http_server("/health")[0] == 200


def test_slow_clients_are_dropped(http_server):
    """More than may be connected, each of which sends a little now and then: the next one is answered all the same."""
    def drip():
        for client in list(clients):
            try:
                client.send("x")
            except OSError:
                clients.remove(client)

    [control] = [pid for pid, title in http_server.daemon.children().items() if "control" in title]
    before = descriptors(control)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(http_server.port)) for _ in range(80)]
        for client in clients[:40]:
            client.send(f"POST /health HTTP/1.1\r\n{HOST}Authorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n")
        for client in clients[40:]:
            client.send(f"GET /health HTTP/1.1\r\n{HOST}X: ")
        assert descriptors(control) <= before + 64, "64 connections, and what the process itself needs"
        answered = threading.Event()
        thread = threading.Thread(target=lambda: http_server("/health")[0] == 200 and answered.set())
        thread.start()
        deadline = time.monotonic() + TIMEOUT
        while not answered.wait(0.5):
            assert time.monotonic() < deadline
            drip()
        thread.join()


def test_a_request_that_comes_too_slowly_is_told_so(http_server):
    """Its head or its body; the connection is closed behind the answer."""
    with Raw(http_server.port) as head, Raw(http_server.port) as body:
        head.send(f"GET /health HTTP/1.1\r\n{HOST}X: ")
        body.send(f"POST /health HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\n{{")
        for client in (head, body):
            status, answer = client.answer()
            assert (status, answer["error"]["code"]) == (408, "too_slow") and client.answer() is None


def siege(server, text, n=200):
    """So many connections that each have sent a text, and the control process that they meet."""
    stack, clients = contextlib.ExitStack(), []
    for _ in range(n):
        client = stack.enter_context(Raw(server.port))
        with contextlib.suppress(OSError):
            client.send(text)
        clients.append(client)
    return stack, clients


@pytest.mark.parametrize("text", [
    "", "GET /health HT", f"GET /health HTTP/1.1\r\n{HOST}X: ", f"GET /health HTTP/1.1\r\n{HOST}\r\n",
    f"POST /health HTTP/1.1\r\n{HOST}Authorization: Bearer {TOKEN}\r\nContent-Length: 100000\r\n\r\n{{",
    f"GET /api/openapi.json HTTP/1.1\r\n{HOST}\r\n" * 40,
    f"GET /health HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n", f"GET /health HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nExpect: x\r\n\r\n",
], ids=["idle", "half a line", "half a head", "kept open", "half a body", "do not read", "bare CR", "two Expect"])
def test_answers_beside_200_others(http_server, text):
    """Connections of one client beyond its share make room for its newest: a probe is answered at once, the process stays the same."""
    before = http_server.daemon.children()
    stack, _ = siege(http_server, text)
    with stack:
        for path in ("/livez", "/health", "/ready"):
            assert http_server(path)[0] == 200
    assert http_server("/health")[0] == 200
    assert http_server.daemon.children() == before
