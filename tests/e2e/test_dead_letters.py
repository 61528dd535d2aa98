"""`pgmqd dlq`: dead letters are listed, shown, put back with their history, and thrown away; bodies are shown to those who ask only."""

import pytest

from lib.daemon import run

NULL = {"analytics_queue": {"plugin": "null"}}
BODY = '{"n": 9007199254740993, "secret": "body-text", "x": 1.10}'


def dlq(rig, *argv, status=0, **more):
    """Runs the command; its output."""
    done = run("dlq", *argv, "-d", rig.conninfo, **more)
    assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def bury(rig, reason, class_="permanent", body=BODY, queue="analytics_queue", headers="{}"):
    """A dead letter as the dispatcher leaves one; returns its id."""
    return rig.db.execute(
        f"insert into pgmq.q_{queue}_dlq (vt, message, headers) values (now(), %s::jsonb, %s::jsonb || jsonb_build_object('pgmqd_dead',"
        " jsonb_build_object('queue', %s::text, 'msg_id', 77, 'read_ct', 5, 'attempts', 5, 'enqueued_at', '2026-05-05T10:00:00.25+00:00',"
        " 'died_at', now(), 'class', %s::text, 'reason', %s::text, 'plugin', 'x', 'plugin_version', '1'))) returning msg_id",
        [body, headers, queue, class_, reason]).fetchone()[0]


def test_from_death_to_archive(rig):
    """A message that fails, is listed, shown and put back; the running daemon takes it at once."""
    daemon = rig.start()
    body = {"to": "ivan@example.test", "template": "no_such_template"}
    msg_id = rig.enqueue(body)
    daemon.wait_settled(msg_id=msg_id, outcome="fail")
    listed = dlq(rig, "list", "email_queue")
    assert "no_such_template" in listed and "permanent" in listed and listed.endswith("1 dead letter\n")
    assert "ivan" not in listed
    shown = dlq(rig, "show", "email_queue")
    assert "ivan@example.test" in shown and f"original id           {msg_id}\n" in shown
    mark = daemon.mark()
    (letter,) = rig.dead()
    out = dlq(rig, "redrive", "email_queue", "--where-reason", "NO_SUCH")
    assert "1 dead letter requeued" in out
    record = daemon.wait_settled(outcome="fail", start=mark)
    assert record["attempt"] == 1 and record["msg_id"] != msg_id
    (again,) = rig.dead()
    history = again["headers"]["pgmqd_history"]
    assert len(history) == 1 and again["headers"]["pgmqd_dead"]["msg_id"] == record["msg_id"]
    assert history[0].items() >= letter["headers"]["pgmqd_dead"].items() and history[0]["dead_id"] == letter["msg_id"]
    assert again["message"] == body
    mark = daemon.mark()
    dlq(rig, "redrive", "email_queue", "--yes")
    daemon.wait_settled(outcome="fail", start=mark)
    assert len(rig.dead()[0]["headers"]["pgmqd_history"]) == 2
    assert "ivan" not in daemon.tail(1000)


def test_filters(rig):
    ids = [bury(rig, reason, class_) for reason, class_ in (("no route", "permanent"), ("No Host", "attempts"), ("other", "crash"), ("no use", "crash"))]

    def listed(*argv):
        lines = dlq(rig, "list", "analytics_queue", *argv).splitlines()
        return [int(line.split()[0]) for line in lines[1:-1]]

    assert listed() == ids
    assert listed("--where-reason", "NO ") == [ids[0], ids[1], ids[3]]
    assert listed("--class", "crash") == ids[2:]
    assert listed("--class", "crash", "--where-reason", "use") == [ids[3]]
    assert listed("--limit", "2") == ids[:2]
    assert listed("--id", str(ids[3]), "--id", str(ids[0]), "--id", str(ids[0])) == [ids[0], ids[3]]
    assert "body-text" not in dlq(rig, "list", "analytics_queue")
    assert "do not exist" in dlq(rig, "list", "analytics_queue", "--id", str(ids[0]), "--id", "999", status=1)
    assert dlq(rig, "list", "report_generation_queue") == "0 dead letters\n"


def test_dry_run_changes_nothing(rig):
    bury(rig, "one"), bury(rig, "two")
    assert "2 dead letters would be requeued; nothing was changed" in dlq(rig, "redrive", "analytics_queue", "--dry-run")
    assert "1 dead letter would be deleted" in dlq(rig, "purge", "analytics_queue", "--limit", "1", "--dry-run")
    assert len(rig.dead("analytics_queue")) == 2 and not rig.rows("q_analytics_queue")


def test_redrive_keeps_the_body_and_the_headers(rig):
    first = bury(rig, "one", headers='{"group": "g", "pgmqd_history": [{"reason": "earlier"}]}')
    strange = rig.db.execute("insert into pgmq.q_analytics_queue_dlq (vt, message) values (now(), %s) returning msg_id", [BODY]).fetchone()[0]
    dlq(rig, "redrive", "analytics_queue", "--yes")
    rows = rig.rows("q_analytics_queue")
    assert not rig.dead("analytics_queue") and [r["read_ct"] for r in rows] == [0, 0]
    texts = {t for t, in rig.db.execute("select message::text from pgmq.q_analytics_queue")}
    assert texts == {t for t, in rig.db.execute("select %s::jsonb::text", [BODY])}
    headers = rows[0]["headers"]
    assert headers["group"] == "g" and "pgmqd_dead" not in headers
    assert [h.get("reason") for h in headers["pgmqd_history"]] == ["earlier", "one"]
    assert headers["pgmqd_history"][1]["dead_id"] == first and headers["pgmqd_history"][1]["enqueued_us"] == 1777975200250000
    assert rows[1]["headers"]["pgmqd_history"][0]["dead_id"] == strange


def test_redrive_is_atomic(rig):
    """One that cannot be put back keeps all of them where they are."""
    for n in range(3):
        bury(rig, f"reason {n}", body=f'{{"n": {n}}}')
    rig.db.execute("alter table pgmq.q_analytics_queue add constraint refused check ((message->>'n')::int <> 2)")
    assert "refused" in dlq(rig, "redrive", "analytics_queue", "--yes", status=1)
    assert len(rig.dead("analytics_queue")) == 3 and not rig.rows("q_analytics_queue")


def test_purge(rig):
    ids = [bury(rig, f"reason {n}") for n in range(3)]
    assert "pass --yes" in dlq(rig, "purge", "analytics_queue", "--id", str(ids[0]), status=2)
    assert "1 dead letter deleted" in dlq(rig, "purge", "analytics_queue", "--id", str(ids[0]), "--yes")
    assert [r["msg_id"] for r in rig.dead("analytics_queue")] == ids[1:]
    assert "pass --yes" in dlq(rig, "redrive", "analytics_queue", status=2)
    assert "2 dead letters deleted" in dlq(rig, "purge", "analytics_queue", "-y")


@pytest.mark.parametrize("argv, status, text", [
    (["list"], 2, "QUEUE is missing"),
    (["look", "analytics_queue"], 2, '"look" is none of list, show, redrive, purge'),
    (["list", "analytics_queue", "--id", "x"], 2, "--id takes the number"),
    (["list", "analytics_queue", "--limit", "0"], 2, "--limit takes a whole number"),
    (["list", "analytics_queue", "--nope"], 2, "unknown option --nope"),
    (["list", "-xy"], 2, "unknown option -x"),
    (["list", "no_such"], 1, 'queue "no_such" does not exist'),
    (["list", "analytics_queue_dlq"], 1, "has no dead-letter queue"),
])
def test_wrong_use(rig, argv, status, text):
    out = dlq(rig, *argv, status=status)
    assert text in out and out.count("\n") == 1, out


def test_control_characters_do_not_reach_the_terminal(rig):
    bury(rig, "red \x1b[31m and \x9b31m", body='{"x": "\\u001b[31m \u009b31m"}')
    for action in ("list", "show"):
        out = dlq(rig, action, "analytics_queue")
        assert "\x1b" not in out and "\x9b" not in out


def test_a_list_that_the_limit_cuts_off_says_how_many_there_are(rig):
    for n in range(3):
        rig.db.execute("select pgmq.send('email_queue_dlq', '{}')")
    done = run("dlq", "list", "email_queue", "--limit", "2", "-d", rig.conninfo)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "2 of 3 dead letters, the oldest", done.stdout
