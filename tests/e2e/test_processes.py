"""The processes of pgmqd: deaths, orderly ends, reloads, and what HTTP tells about them."""

import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess

import pytest

from lib import valgrind
from lib.daemon import clean_environment, command_line, conf
from lib.httpclient import Http, free_port
from lib.paths import TIMEOUT, make_temp_dir
from lib.rig import email_queue
from lib.stand import wait_until

NULL = {"plugin": "null"}


def processes(daemon):
    """{title without "pgmqd: ": pid} of the supervisor's children."""
    return {title.removeprefix("pgmqd: "): pid for pid, title in daemon.children().items()}


def wait_gone(pids):
    """Until none of these processes lives."""
    fds = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fds.append(os.pidfd_open(pid))
    try:
        left = list(fds)
        while left:
            ended, _, _ = select.select(left, [], [], TIMEOUT)
            assert ended, f"{len(left)} of the processes still live"
            left = [fd for fd in left if fd not in ended]
    finally:
        for fd in fds:
            os.close(fd)


@pytest.fixture
def http_port():
    return free_port()


def start_with_http(rig, port, **settings):
    rig.start(http_listen=f"127.0.0.1:{port}", **settings)
    return Http(port)


# ---- deaths ----

def test_killed_worker_comes_back_and_the_others_stay(rig):
    daemon = rig.start(queues={"email_queue": email_queue(rig.catcher), "analytics_queue": NULL})
    before = processes(daemon)
    assert set(before) == {"listener", "worker email_queue", "worker analytics_queue"}
    mark = daemon.mark()
    os.kill(before["worker email_queue"], signal.SIGKILL)
    death = daemon.wait_log("was killed by SIGKILL", start=mark)
    assert death["process"] == "supervisor" and death["queues"] == "email_queue" and death["signal"] == "SIGKILL"
    rig.send("after@example.test")
    rig.catcher.wait_to("after@example.test")
    after = processes(daemon)
    assert after.pop("worker email_queue") != before.pop("worker email_queue")
    assert after == before


def test_killed_listener_comes_back_and_nothing_is_missed(rig):
    daemon = rig.start()
    os.kill(processes(daemon)["listener"], signal.SIGKILL)
    rig.send("meanwhile@example.test")
    rig.catcher.wait_to("meanwhile@example.test")


def test_killed_supervisor_leaves_no_process(rig, http_port):
    start_with_http(rig, http_port)
    children = processes(rig.daemon)
    assert len(children) == 3
    os.kill(rig.daemon.process.pid, signal.SIGKILL)
    wait_gone(children.values())
    assert rig.daemon.wait() == -signal.SIGKILL


# ---- stopping ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_is_orderly(rig, http_port, number):
    start_with_http(rig, http_port)
    children = processes(rig.daemon)
    assert rig.daemon.stop(number) == 0
    wait_gone(children.values())
    assert not [r for r in rig.daemon.records() if r.get("level") == "error"]


def test_what_is_in_hand_is_finished_before_the_end(rig):
    gate = rig.catcher.hold("DATA")
    daemon = rig.start()
    msg_id = rig.send("held@example.test")
    gate.wait_held()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_log("stopping")
    gate.release()
    daemon.wait_settled(msg_id=msg_id, outcome="done")
    assert daemon.wait() == 0
    assert [row["msg_id"] for row in rig.rows("a_email_queue")] == [msg_id]


@pytest.mark.skipif(bool(valgrind.ROOT), reason="under valgrind a process takes longer to end than it has")
def test_second_sigterm_does_not_wait(rig):
    gate = rig.catcher.hold("DATA")
    daemon = rig.start(drain_timeout="1h")
    msg_id = rig.send("held@example.test")
    gate.wait_held()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_log("stopping: workers finish")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait(TIMEOUT) == 0
    gate.release()
    assert [row["msg_id"] for row in rig.rows("q_email_queue")] == [msg_id]


def test_interrupt_from_a_terminal(rig, http_port):
    """^C goes to the whole process group: the supervisor stops all in order, and starts nothing anew."""
    gate = rig.catcher.hold("DATA")
    start_with_http(rig, http_port)
    daemon = rig.daemon
    msg_id = rig.send("held@example.test")
    gate.wait_held()
    children = processes(daemon)
    for pid in children.values():
        os.kill(pid, signal.SIGINT)
    daemon.process.send_signal(signal.SIGINT)
    stopping = daemon.wait_log("stopping")
    gate.release()
    daemon.wait_settled(msg_id=msg_id, outcome="done")
    assert daemon.wait() == 0
    wait_gone(children.values())
    assert not [r for r in daemon.records() if r.get("level") in ("warn", "error") and r["ts"] >= stopping["ts"]]


IN_A_NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.mark.skipif(subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
                    reason="PID namespaces are made by root, and where / is a mount point")
def test_first_process_of_a_container_is_stopped_while_it_starts(rig, tmp_path):
    """The kernel drops a signal that PID 1 neither handles nor blocks. A settings file that is a pipe holds the start up."""
    fifo = str(tmp_path / "pgmqd.conf")
    os.mkfifo(fifo, 0o600)
    process = subprocess.Popen([*IN_A_NAMESPACE, *command_line("run", "-c", fifo)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment())
    try:
        with open(fifo, "w", encoding="utf-8") as f:  # opens when pgmqd does
            with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
                os.kill(int(children.read().split()[0]), signal.SIGTERM)
            f.write(conf(rig.login, {"email_queue": NULL}))
        said, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0 and b"stopped after" in said, said
    finally:
        process.kill()
        process.communicate()


# ---- reload ----

def test_bad_file_changes_nothing(rig):
    daemon = rig.start()
    before, good = processes(daemon), daemon.conf_text
    line = good.count("\n") + 1
    mark = daemon.mark()
    daemon.write_conf(good + "visibility_timeout = 5 apples\n[queue other]\n")
    daemon.reload()
    refused = daemon.wait_log("reload refused", start=mark)
    assert refused["level"] == "error"
    errors = [r["text"] for r in daemon.records()[mark:] if r.get("level") == "error"]
    assert any(text.startswith(f"{daemon.conf_path}:{line}:") for text in errors), errors
    assert len(errors) >= 3, "each error of the file is told"
    assert processes(daemon) == before
    rig.send("still@example.test")
    rig.catcher.wait_to("still@example.test")


def test_settings_that_a_plugin_refuses_change_nothing(rig):
    daemon = rig.start()
    before = processes(daemon)
    mark = daemon.mark()
    daemon.write_conf(daemon.conf_text + "smtp_port = many\n")
    daemon.reload()
    daemon.wait_log("reload refused", start=mark)
    assert any("smtp_port" in r["text"] for r in daemon.records()[mark:] if r.get("level") == "error")
    assert processes(daemon) == before


def test_reload_replaces_what_changed_only(rig):
    daemon = rig.start(queues={"analytics_queue": NULL, "email_queue": email_queue(rig.catcher)})
    before = processes(daemon)
    mark = daemon.mark()
    daemon.write_conf(daemon.conf_text + "max_in_flight = 3\n[queue report_generation_queue]\nplugin = null\n")
    daemon.reload()
    assert daemon.wait_log(lambda r: r.get("text") == "reloaded", start=mark)["retrying"] == 0
    wait_gone([before["worker email_queue"]])
    # it has ended; until its parent has taken note, it is a child without a title
    wait_until("the worker to be reaped", lambda: before["worker email_queue"] not in daemon.children())
    after = processes(daemon)
    assert set(after) == set(before) | {"worker report_generation_queue"}
    assert after["worker analytics_queue"] == before["worker analytics_queue"]
    assert after["worker email_queue"] != before["worker email_queue"]
    for queue in ("analytics_queue", "report_generation_queue"):
        msg_id = rig.enqueue({"n": 1}, queue)
        daemon.wait_settled(queue=queue, msg_id=msg_id, outcome="done")
    rig.send("again@example.test")
    rig.catcher.wait_to("again@example.test")


def test_nice(rig):
    """A queue's process steps back as far as it is told to, a group's as far as the least of its queues; nobody else does."""
    daemon = rig.start(queues={"email_queue": NULL, "report_generation_queue": {**NULL, "nice": 10},
                               "analytics_queue": {**NULL, "nice": 7, "group": "g"}, "payment_processing_queue": {**NULL, "nice": 5, "group": "g"}})
    daemon.wait_ready()
    base = os.getpriority(os.PRIO_PROCESS, daemon.process.pid)
    steps = {title: os.getpriority(os.PRIO_PROCESS, pid) - base for title, pid in processes(daemon).items()}
    wanted = {"worker report_generation_queue": 10, "worker group:g": 5}
    # no process can step back behind 19, and the tests themselves may run under nice
    assert steps == {title: min(wanted.get(title, 0), 19 - base) for title in steps} and set(wanted) < set(steps)


def test_reload_finishes_what_the_old_worker_has_in_hand(rig, http_port):
    """Meanwhile the queue is served by one process, and what the old one has in hand is counted."""
    gate = rig.catcher.hold("DATA")
    get = start_with_http(rig, http_port)
    daemon = rig.daemon
    msg_id = rig.send("held@example.test")
    gate.wait_held()
    old = processes(daemon)["worker email_queue"]
    mark = daemon.mark()
    daemon.write_conf(daemon.conf_text + "max_in_flight = 3\n")
    daemon.reload()
    daemon.wait_log(lambda r: r.get("text") == "reloaded", start=mark)
    (queue,) = [q for q in get.wait_json("/api/queues", 200)["queues"] if q["queue"] == "email_queue"]
    assert (queue["worker"]["processes"], queue["worker"]["state"], queue["in_flight"]) == (1, "ready", 1)
    gate.release()
    daemon.wait_settled(msg_id=msg_id, outcome="done")
    wait_gone([old])
    assert [m.recipients[0] for m in rig.catcher.mails()] == ["held@example.test"]


# ---- HTTP ----

def test_health_and_ready(own_rig, http_port):
    """Alive, then without its database, then alive again."""
    rig = own_rig
    get = start_with_http(rig, http_port)
    well = {"status": "ok"}

    def lost(answer):
        """Both have noticed: a claim that was under way fails first, and a busy machine may be late with either."""
        return sorted(text.partition(":")[0] for text in answer["problems"] if "not connected to the database" in text) == ["listener", "worker email_queue"]

    get.wait_json("/health", 200, well.__eq__)
    assert get.wait_json("/ready", 200) == {"status": "ready"}
    rig.cluster.stop("fast")
    get.wait_json("/ready", 503)
    get.wait_json("/health", 503, lost)
    rig.cluster.start()
    get.wait_json("/health", 200, well.__eq__)  # not before a notification has come through
    assert get.wait_json("/ready", 200) == {"status": "ready"}


def test_metrics(rig, http_port):
    queues = {"email_queue": email_queue(rig.catcher), "analytics_queue": {**NULL, "processes": 2}}
    get = start_with_http(rig, http_port, queues=queues)
    rig.send("one@example.test")
    rig.daemon.wait_settled(queue="email_queue", outcome="done")
    status, kind, text = get("/metrics")
    assert status == 200 and kind.startswith("text/plain; version=0.0.4")
    lines = text.splitlines()
    assert 'pgmqd_done_total{queue="email_queue",plugin="email"} 1' in lines
    assert 'pgmqd_done_total{queue="analytics_queue",plugin="null"} 0' in lines
    assert 'pgmqd_connected{queue="analytics_queue",plugin="null"} 2' in lines
    assert 'pgmqd_process_up{role="worker",process="analytics_queue/2"} 1' in lines
    assert 'pgmqd_process_up{role="listener",process="listener"} 1' in lines
    assert 'pgmqd_wait_seconds_count{queue="email_queue",plugin="email"} 1' in lines
    assert any(line.startswith("pgmqd_build_info{version=") for line in lines)
    samples = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "each series once"
    if shutil.which("promtool"):
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True,
                                 timeout=TIMEOUT)
        assert checked.returncode == 0 and not checked.stderr, checked.stderr


def test_counts_survive_a_reload(rig, http_port):
    get = start_with_http(rig, http_port)
    rig.send("one@example.test")
    rig.daemon.wait_settled(outcome="done")
    old = processes(rig.daemon)["worker email_queue"]
    mark = rig.daemon.mark()
    rig.daemon.write_conf(rig.daemon.conf_text + "max_in_flight = 3\n")
    rig.daemon.reload()
    rig.daemon.wait_log(lambda r: r.get("text") == "reloaded", start=mark)
    wait_gone([old])
    lines = get("/metrics")[2].splitlines()
    assert 'pgmqd_done_total{queue="email_queue",plugin="email"} 1' in lines
    assert "pgmqd_settings_generation 2" in lines


def test_requests_that_are_refused(rig, http_port):
    get = start_with_http(rig, http_port)

    def error(path, **more):
        status, answer = get.json(path, **more)
        assert set(answer) == {"error"} and set(answer["error"]) == {"code", "message"}
        return status, answer["error"]["code"]

    assert error("/nothing") == (404, "not_found")
    assert error("/health/") == (404, "not_found")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert error("/health", method=method) == (405, "method_not_allowed")
    for host in ("evil.example.test", "evil.example.test:8089", "127.0.0.1.example.test", "localhost.example.test"):
        assert error("/health", headers={"Host": host}) == (421, "wrong_host")
    for host in ("localhost", f"localhost:{http_port}", "127.0.0.1", "LOCALHOST", "[::1]:80"):
        assert get("/health", headers={"Host": host})[0] == 200
    assert get("/health", method="HEAD") == (200, "application/json", "")
    assert get("/health?x=1")[0] == 200
    assert get("/health", headers={"X-Long": "x" * 17000})[0] in (400, 413, 431)
    assert get("/health")[0] == 200


def test_unix_socket(rig):
    path = make_temp_dir() / "http"
    rig.start(http_listen=f"unix:{path}")
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", "/health", headers={"Host": "anything"})
    assert connection.getresponse().status == 200
    connection.close()
    assert path.stat().st_mode & 0o777 == 0o660
    mark = rig.daemon.mark()
    os.kill(processes(rig.daemon)["control"], signal.SIGKILL)  # leaves the socket file behind
    rig.daemon.wait_log("listening on", start=mark)
    rig.daemon.stop()
    assert not path.exists()
    path.parent.rmdir()


@pytest.mark.parametrize("listen, why", [
    ("0.0.0.0:{port}", "not a loopback address"),
    ("[::]:{port}", "not a loopback address"),
    ("127.0.0.1:{taken}", "the port is in use"),
])
def test_address_that_cannot_be_served_costs_only_http(rig, http_port, listen, why):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        rig.start(http_listen=listen.format(port=http_port, taken=other.getsockname()[1]))
    record = rig.daemon.wait_log(why)
    assert record["process"] == "control" and record["level"] == "error"
    rig.daemon.wait_log("control cannot work as it is configured")
    rig.send("all-the-same@example.test")
    rig.catcher.wait_to("all-the-same@example.test")
    assert "control" not in processes(rig.daemon)
