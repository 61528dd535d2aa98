"""Jobs started over HTTP while pgmqd's processes are killed at random: none is lost, none is started twice.

PGMQD_JOBS (default 60) is how many; 500 by hand.
"""

import collections
import contextlib
import http.client
import json
import os
import queue
import random
import signal
import threading
import time

from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub
from lib.paths import TIMEOUT

JOBS = int(os.environ.get("PGMQD_JOBS", "60"))
TOKEN = "a-token-of-the-tests"
QUEUE = "report_generation_queue"
API = "/api/professional-report"
CLIENTS = 8


class Sources(HttpStub):
    """a answers always; b never for every fifth job; c fails at its first request of each job."""

    def __init__(self):
        super().__init__(reply=self.choose)
        self.asked = collections.Counter()

    def choose(self, request):
        number = json.loads(request.body)["number"]
        self.asked[request.path, number] += 1
        if (request.path == "/b" and number % 5 == 0) or (request.path == "/c" and self.asked[request.path, number] == 1):
            return 500, {}, {}
        return 200, {}, {"number": number}


def start_until_taken(port, number):
    """What a client does that wants its job: the same request, with the same key, until it is answered."""
    deadline = time.monotonic() + 4 * TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            client = Http(port, TOKEN)
            status, answer = client.json(f"{API}/start", method="POST", body={"number": number}, headers={"Idempotency-Key": f"job-{number}"})
            if status == 202:
                return answer["job_id"]
            assert status == 503, answer
        time.sleep(0.02)
    raise TimeoutError(f"job {number} was not taken")


def kill_one(daemon):
    """Kills one process, whichever: a worker, the listener, the control process."""
    children = list(daemon.children())
    if children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(children), signal.SIGKILL)


def test_killed_at_random(rig):
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print(f"seed {seed}")  # shown with a failure
    port = free_port()
    with Sources() as stub:
        sources = " | ".join(f"{n} {stub.url}/{n}" for n in "abc")
        options = {"plugin": "sources", "sources": sources, "allow_private": "yes", "retries": 0, "retry_every": "200ms", "retry_for": "1h",
                   "visibility_timeout": "1s", "max_in_flight": 20, "max_attempts": 100, "backoff_min": "10ms", "backoff_max": "50ms"}
        rig.start(queues={QUEUE: options}, jobs={"professional-report": QUEUE}, http_listen=f"127.0.0.1:{port}",
                  env={"PGMQD_HTTP_TOKEN": TOKEN}, fallback_poll="500ms")
        todo, ids = queue.Queue(), {}
        for number in range(JOBS):
            todo.put(number)

        def client():
            with contextlib.suppress(queue.Empty):
                while True:
                    number = todo.get_nowait()
                    ids[number] = start_until_taken(port, number)

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for t in threads:
            t.start()
        kills = 0
        while any(t.is_alive() for t in threads):
            if kills < 4 + JOBS // 20 and len(ids) > kills * JOBS // (5 + JOBS // 20):
                kill_one(rig.daemon)
                kills += 1
            time.sleep(0.01)
        while kills < 4:  # a quick machine was done with the starts before
            kill_one(rig.daemon)
            kills += 1
            time.sleep(0.05)
        assert len(ids) == JOBS and len(set(ids.values())) == JOBS

        def settled():
            rows = rig.db.execute("select status, missing, (input->>'number')::int from pgmqd.jobs").fetchall()
            return all((status, missing) == (("partial", ["b"]) if number % 5 == 0 else ("completed", [])) for status, missing, number in rows)

        kill_one(rig.daemon)
        deadline = time.monotonic() + 4 * TIMEOUT
        while not settled():
            assert time.monotonic() < deadline, rig.db.execute("select status, missing, attempts, input, error from pgmqd.jobs").fetchall()
            time.sleep(0.1)
    assert kills >= 4
    # none lost, none twice: a job for each key, a message for each job, and its row says what the clients were told
    rows = rig.db.execute("select idempotency_key, id::text from pgmqd.jobs").fetchall()
    assert dict(rows) == {f"job-{n}": i for n, i in ids.items()} and len(rows) == JOBS
    messages = rig.db.execute(f"select message->>'job_id' from pgmq.q_{QUEUE} union all select message->>'job_id' from pgmq.a_{QUEUE}").fetchall()
    assert sorted(m for m, in messages) == sorted(ids.values())
    assert rig.dead(QUEUE) == []
    results = rig.db.execute("select (input->>'number')::int, result from pgmqd.jobs").fetchall()
    for number, result in results:
        names = "ac" if number % 5 == 0 else "abc"
        assert result == {n: {"number": number} for n in names}
