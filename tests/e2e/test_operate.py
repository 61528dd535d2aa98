"""What an operator does: look at the queues, pause and resume one, send a message and wait for it, watch what happens."""

import json
import os
import pty
import random
import subprocess
import termios
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.daemon import Daemon, clean_environment, command_line, conf, run
from lib.lines import Lines
from lib.paths import TIMEOUT
from lib.pgcluster import free_port
from lib.rig import email_queue
from lib.smtpstub import SmtpStub
from lib.stand import SLOW, wait_until

NULL = {"analytics_queue": {"plugin": "null"}}


def command(rig, *argv, status=0, env=None, **more):
    done = run(*argv, "-d", rig.conninfo, env={"USER": "anna", **(env or {})}, **more)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def archived(rig, queue="analytics_queue"):
    return [row["msg_id"] for row in rig.rows(f"a_{queue}")]


def test_pause_holds_all_dispatchers(rig):
    """At once, with nothing but a notification to tell them; after a restart, too. Who, when and why is kept."""
    first = rig.start(NULL)
    second = Daemon(conf(rig.conninfo, NULL, fallback_poll="1h", shared_poll="1h")).start().wait_ready()
    try:
        assert command(rig, "pause", "analytics_queue", "--reason", "the numbers move") == "analytics_queue: paused\n"
        for daemon in (first, second):
            daemon.wait_log("queue paused by anna: the numbers move")
        assert "was paused already" in command(rig, "pause", "analytics_queue", "--by", "boris")
        held = rig.enqueue({}, "analytics_queue")
        first.stop()
        first.start().wait_log("queue paused by anna")
        command(rig, "send", "analytics_queue", "{}", "--wait=100ms", status=4)
        assert not archived(rig)
        assert command(rig, "resume", "analytics_queue", "--by", "boris") == "analytics_queue: resumed\n"
        second.wait_log("queue resumed")
        wait_until("both archived", lambda: len(archived(rig)) == 2)
        assert held in archived(rig)
        assert rig.db.execute("select queue, paused_by, reason, resumed_by, resumed_at > paused_at from pgmqd.pauses").fetchall() == [
            ("analytics_queue", "anna", "the numbers move", "boris", True)]
    finally:
        second.stop()
        second.close()


def test_pause_is_found_without_its_notification(rig):
    """After a reconnect, since the notification may have come while nobody listened."""
    daemon = rig.start(NULL)
    rig.db.execute("insert into pgmqd.pauses (queue, paused_by) values ('analytics_queue', 'sql')")
    rig.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgmqd worker analytics_queue' and datname = current_database()")
    daemon.wait_log("queue paused by sql")
    rig.enqueue({}, "analytics_queue")
    command(rig, "resume", "analytics_queue")
    wait_until("archived", lambda: archived(rig))


def test_pause_is_found_when_the_listener_hears_again(rig):
    """The worker stays connected; only the listener's session was lost, and with it the notification."""
    daemon = rig.start(NULL, fallback_poll="1h")
    rig.db.execute("insert into pgmqd.pauses (queue, paused_by) values ('analytics_queue', 'sql')")
    rig.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgmqd listener' and datname = current_database()")
    daemon.wait_log("queue paused by sql")


def test_resume_ends_a_configuration_pause(rig, cert_dir):
    """The mail server has refused the login, and takes it now; the next try by itself would be an hour away."""
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=("user", "secret")) as server:
        server.on("AUTH", "535 5.7.8 no", times=1)
        rig.start({"email_queue": email_queue(rig.catcher, config_retry="1h", smtp_auth="plain")},
                  env={"SMTP_PORT": str(server.port), "SMTP_USER": "user", "SMTP_PASS": "secret", "SMTP_HOST": server.host})
        rig.send("paused@example.test")
        rig.daemon.wait_log("queue paused, no attempt is counted")
        assert "no operator had paused it" in command(rig, "resume", "email_queue")
        rig.daemon.wait_settled(outcome="done")


def test_send(rig):
    """How it ended is the exit status; delay, priority, group and headers are the message's."""
    rig.start({**NULL, "email_queue": email_queue(rig.catcher)})
    assert command(rig, "send", "analytics_queue", '{"event": "x"}', "--wait").splitlines()[1] == "done at attempt 1"
    done = subprocess.run(command_line("send", "email_queue", "-", "--wait", "-d", rig.conninfo), input='{"to": "a@example.test", "template": "no_such"}',
                          env=clean_environment(), capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == 3 and "dead letter after 1 attempts" in done.stdout and "no_such" in done.stdout, done
    out = command(rig, "send", "analytics_queue", '{"event": "later"}', "--delay", "1h", "--priority", "7", "--group", "g", "--headers", '{"a": 1}')
    row = rig.db.execute("select message, headers, vt - enqueued_at > interval '59 minutes' from pgmq.q_analytics_queue where msg_id = %s", [int(out)]).fetchone()
    assert row == ({"event": "later", "priority": 7}, {"group": "g", "a": 1}, True)
    assert "does not exist" in run("send", "nowhere", "{}", "-d", rig.conninfo).stderr
    assert "invalid input syntax" in run("send", "analytics_queue", "{", "-d", rig.conninfo).stderr
    assert run("send", "analytics_queue", "{}", "--delay", "soon").returncode == 2
    first = command(rig, "send", "analytics_queue", '{"event": "u"}', "--delay", "1h", "--unique", "k")
    assert command(rig, "send", "analytics_queue", '{"event": "v"}', "--unique", "k", "--on-conflict", "replace") == f"{int(first)} known\n"
    assert rig.value("select message->>'event' from pgmq.q_analytics_queue where msg_id = %s", [int(first)]) == "v"
    assert "on_conflict is keep, replace or extend" in run("send", "analytics_queue", "{}", "--unique", "k", "--on-conflict", "x", "-d", rig.conninfo).stderr
    for option, value in (("--unique-for", "1 hour"), ("--on-conflict", "replace")):
        assert f"{option} is of no use without --unique" in run("send", "analytics_queue", "{}", option, value, "-d", rig.conninfo).stderr


def test_many_producers_of_one_key(rig):
    """Of eight producers that come with the same keys in any order, one sends each; the others keep, replace or extend it."""
    keys = [f"key {n}" for n in range(40)]
    rig.db.execute("select pgmqd.create_queue(q) from unnest(array['keep', 'replace', 'extend']) q")

    def produce(seed):
        with rig.connect() as db:
            order = random.Random(seed).sample(keys, len(keys))
            return [db.execute("select is_new from pgmqd.enqueue_unique(%s, %s, %s, on_conflict => %s, delay => %s)",
                               [word, json.dumps({"by": seed}), k, word, 1000 * seed]).fetchone()[0] for k in order for word in ("keep", "replace", "extend")]

    with ThreadPoolExecutor(8) as pool:
        new = sum(sum(flags) for flags in pool.map(produce, range(8)))
    assert new == 3 * len(keys)
    for word in ("keep", "replace", "extend"):
        rows = rig.db.execute(f"select message->>'by', round(extract(epoch from vt - enqueued_at) / 1000) from pgmq.q_{word}").fetchall()
        assert len(rows) == len(keys)
        assert all(int(by) == delay for by, delay in rows) or word != "keep"
    rig.db.execute("select pgmqd.enqueue_unique(w, '{\"by\": 9}', k, on_conflict => w, delay => 9000) from unnest(array['keep', 'replace', 'extend']) w, unnest(%s::text[]) k", [keys])
    assert rig.value("select count(*) filter (where message->>'by' = '9') from pgmq.q_replace") == len(keys)
    assert rig.value("select count(*) filter (where vt > now() + interval '8900 s') from pgmq.q_extend") == len(keys)
    assert rig.value("select count(*) from pgmq.q_keep where message->>'by' = '9' or vt > now() + interval '8900 s'") == 0


def test_tail(rig):
    rig.start({**NULL, "email_queue": email_queue(rig.catcher)})
    processes = [subprocess.Popen(command_line("tail", "email_queue", "--count", "2", *more, "-d", rig.conninfo), env=clean_environment(), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for more in ((), ("--json",))]
    lines, objects = (Lines(process.stdout) for process in processes)
    assert lines.wait(lambda line: "looking at email_queue" in line, TIMEOUT) and objects.wait(lambda line: "looking at email_queue" in line, TIMEOUT)
    good = rig.send("tail@example.test")
    bad = rig.send("tail@example.test", "no_such", {})
    assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
    lines.join()
    objects.join()
    ends = {e["event"]: e for e in map(json.loads, objects.snapshot()[1:]) if e["event"] != "claimed"}
    assert (ends["done"]["id"], ends["done"]["attempt"], ends["done"]["queue"]) == (good, 1, "email_queue") and "at" in ends["done"]
    assert (ends["dead"]["id"], ends["dead"]["class"]) == (bad, "permanent") and ends["dead"]["dead_id"] and "no_such" in ends["dead"]["reason"]
    text = "\n".join(lines.snapshot())
    assert f"done     message {good}, attempt 1" in text and f"dead     message {bad}, 1 attempts" in text and "class permanent" in text


def test_status(rig):
    """With a daemon that answers, and out of the database alone, which is said."""
    port = free_port()
    rig.start({**NULL, "email_queue": email_queue(rig.catcher)}, http_listen=f"127.0.0.1:{port}")
    for _ in range(3):
        command(rig, "send", "analytics_queue", "{}", "--wait")
    rig.send("dead@example.test", "no_such", {})
    rig.daemon.wait_settled(outcome="fail")
    rig.enqueue({}, "analytics_queue", delay=3600)
    said = json.loads(run("status", "--json", "-c", rig.daemon.conf_path).stdout)
    assert said["daemon"] is True
    queues = {q["queue"]: q for q in said["queues"]}
    assert set(queues) == {"email_queue", "report_generation_queue", "payment_processing_queue", "analytics_queue",
                           "mail_events_queue"}
    q = queues["analytics_queue"]
    assert (q["waiting"], q["due"], q["delayed"], q["oldest_due_seconds"]) == (1, 0, 1, None)
    assert (q["archived_last_minute"], q["attempts_average"], q["worker"]["state"], q["worker"]["done"]) == (3, 1, "ready", 3)
    assert set(q["worker"]["seconds"]) == {"commit_to_wake", "commit_to_start", "start_to_done"}
    assert 0 <= q["worker"]["seconds"]["commit_to_start"]["p50"] <= q["worker"]["seconds"]["commit_to_start"]["p99"]
    assert queues["email_queue"]["dead_letters"] == 1 and queues["payment_processing_queue"]["worker"] is None
    command(rig, "pause", "analytics_queue", "--reason", "a look")
    rig.daemon.wait_log("queue paused by")
    text = run("status", "analytics_queue", "-c", rig.daemon.conf_path)
    assert text.returncode == 0 and "paused by anna since" in text.stdout and ": a look" in text.stdout and "email_queue" not in text.stdout
    alone = run("status", "-d", rig.conninfo, "--listen", f"127.0.0.1:{free_port()}")
    assert alone.returncode == 0 and "these are the database's figures alone" in alone.stdout and "p99" not in alone.stdout
    assert run("status", "nowhere", "-d", rig.conninfo, "--listen", "off").returncode == 1


@pytest.mark.parametrize("name", ["status", "pause", "resume", "send", "tail"])
def test_command_lines(name):
    done = run(name, "--nonsense")
    assert (done.returncode, done.stdout) == (2, "") and f"see pgmqd {name} --help" in done.stderr
    assert run(name, "--help").stdout.startswith(f"usage: pgmqd {name} ")


def test_status_is_watched_on_a_terminal(rig):
    """With a clock, sorted as wanted; q ends it, and the terminal echoes again. Without a terminal nothing is read."""
    rig.enqueue({}, "report_generation_queue")
    listed = command(rig, "status", "--sort", "waiting").splitlines()
    assert listed[1].startswith("report_generation_queue ")
    assert "--sort takes" in run("status", "--sort", "nonsense", "-d", rig.conninfo).stderr
    ours, theirs = pty.openpty()
    with subprocess.Popen(command_line("status", "--watch=3600", "-d", rig.conninfo),
                          env=clean_environment(), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        seen = b""
        while b"analytics_queue" not in seen:
            seen += os.read(ours, 65536)
        assert b"every 3600 s; q ends" in seen and not termios.tcgetattr(theirs)[3] & termios.ECHO
        os.write(ours, b"q")
        assert process.wait(TIMEOUT) == 0
    assert termios.tcgetattr(theirs)[3] & termios.ECHO
    os.close(ours)
    os.close(theirs)
