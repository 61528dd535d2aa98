"""Schedules over HTTP and from the command line: run now, pause, resume, edit; what a cron text means; history and records."""

from datetime import datetime

import pytest

from lib import app
from lib.daemon import run
from lib.httpclient import Described, free_port
from lib.rig import email_queue
from test_schedule import add

TOKEN = "a-token-of-the-tests"
JOB = "/api/schedules/job"


@pytest.fixture
def client(rig):
    add(rig.db, "job", "select 1", due="null")
    port = free_port()
    rig.start(env={"PGMQD_HTTP_PEOPLE": f"maria:act:{TOKEN}"}, http_listen=f"127.0.0.1:{port}", queues={"email_queue": email_queue(rig.catcher)})
    client = Described(port, TOKEN)
    client.wait_json(JOB, 200, lambda s: s["next_due"])
    client.describe()
    return client


def test_run_now(client, rig):
    before = client.json(JOB)[1]["next_due"]
    assert client.json(f"{JOB}/run", method="POST", body={}) == (202, {"started": True})
    one = client.wait_json(JOB, 200, lambda s: s["runs"])
    assert (one["runs"][0]["status"], one["runs"][0]["error"], one["next_due"]) == ("ok", None, before)
    rig.db.execute("update pgmqd.schedule set command = 'select 1 / 0' where name = 'job'")
    assert client.json(f"{JOB}/run", method="POST", body={})[0] == 202
    one = client.wait_json(JOB, 200, lambda s: len(s["runs"]) == 2)
    assert (one["runs"][0]["status"], one["runs"][0]["error"]) == ("failed", "division by zero") and one["runs"][0]["ms"] >= 0
    # one that takes long holds nobody up
    rig.db.execute("update pgmqd.schedule set command = 'select pg_advisory_xact_lock(4711)' where name = 'job'")
    with rig.connect() as other:
        other.execute("select pg_advisory_lock(4711)")
        assert client.json(f"{JOB}/run", method="POST", body={})[0] == 202
        while not rig.db.execute("select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted").fetchone()[0]:
            pass
        assert client.json("/api/queues")[0] == 200
        other.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted")
        rig.daemon.wait_log(lambda r: "schedule job: the run for maria failed" in r.get("text", ""))
    assert client.json("/api/schedules/none/run", method="POST", body={})[0] == 404
    did = app.rows(rig.db, "select by, action, queue, details->>'schedule' as schedule, details->>'status' as status from pgmqd.actions order by id")
    assert [tuple(d.values()) for d in did] == [("maria", "schedule-run", None, "job", "ok"), ("maria", "schedule-run", None, "job", "failed")]
    assert client.json("/api/actions")[1]["actions"][0]["queue"] is None


def test_pause_and_edit(client, rig):
    assert client.json(f"{JOB}/pause", method="POST", body={"why": "audit"}) == (200, {"changed": True, "cron": "0 0 1 1 *", "tz": "UTC", "enabled": False})
    assert client.json(f"{JOB}/pause", method="POST", body={})[1]["changed"] is False
    assert client.json(f"{JOB}/resume", method="POST", body={})[1] == {"changed": True, "cron": "0 0 1 1 *", "tz": "UTC", "enabled": True}
    status, answer = client.json(f"{JOB}/edit", method="POST", body={"cron": "30 6 * * mon", "tz": "Europe/Moscow"})
    assert (status, answer["cron"], answer["tz"]) == (200, "30 6 * * mon", "Europe/Moscow")
    assert [at[10:] for at in client.json(JOB)[1]["next"]] == ["T03:30:00Z"] * 5
    for body, code in (({"cron": "* * *"}, "bad_cron"), ({"cron": "61 * * * *"}, "bad_cron"), ({"cron": "0 0 31 2 *"}, "bad_cron"), ({"tz": "Mars/North"}, "bad_zone"),
                       ({}, "bad_request"), ({"cron": 5}, "bad_request"), ({"command": "drop table x"}, "bad_request"), ({"enabled": "no"}, "bad_request")):
        status, answer = client.json(f"{JOB}/edit", method="POST", body=body)
        assert (status, answer["error"]["code"]) == (400, code), body
    for what in ("pause", "resume", "edit"):
        assert client.json(f"/api/schedules/none/{what}", method="POST", body={"cron": "@daily"} if what == "edit" else {})[0] == 404
    assert client.json("/api/schedules/none")[0] == 404
    did = app.rows(rig.db, "select by, action, why, details from pgmqd.actions order by id")
    assert [(d["by"], d["action"], d["why"]) for d in did] == [("maria", "schedule-pause", "audit"), ("maria", "schedule-resume", None), ("maria", "schedule-edit", None)]
    assert did[2]["details"]["before"]["cron"] == "0 0 1 1 *" and did[2]["details"]["after"]["tz"] == "Europe/Moscow"


def test_what_a_cron_text_means(client):
    """The page asks this while somebody types."""
    found = client.json("/api/cron/next?cron=30+6+*+*+*&zone=Europe%2FMoscow")[1]
    assert found["error"] is None and [at[11:] for at in found["next"]] == ["03:30:00Z"] * 5
    days = [datetime.fromisoformat(at) for at in found["next"]]
    assert [(b - a).days for a, b in zip(days, days[1:])] == [1] * 4
    for query, said in (("cron=*+*+*", "has 3 of the 5 fields"), ("cron=", "has 0 of the 5 fields"), ("", "has 0 of the 5 fields"), ("cron=99+*+*+*+*", 'the minute "99" is none'),
                        ("cron=0+0+30+2+*", "never comes"), ("cron=@daily&zone=Nowhere", 'the time zone "Nowhere"')):
        status, found = client.json(f"/api/cron/next?{query}")
        assert status == 200 and said in found["error"] and found["next"] == [], query


def test_from_the_command_line(rig):
    add(rig.db, "job", "select 1", due="null")

    def schedule(*args):
        done = run("schedule", *args, "-d", rig.conninfo)
        return done.returncode, done.stdout + done.stderr

    assert schedule("pause", "job", "--reason", "audit", "--by", "olga") == (0, 'job: paused, "0 0 1 1 *" in UTC\n')
    assert schedule("pause", "job") == (0, 'job: paused already, "0 0 1 1 *" in UTC\n')
    assert schedule("resume", "job", "--by", "olga") == (0, 'job: enabled, "0 0 1 1 *" in UTC\n')
    status, text = schedule("edit", "job", "--cron", "30 6 * * *", "--zone", "Europe/Moscow", "--count", "2", "--by", "olga")
    lines = text.splitlines()
    assert status == 0 and lines[0] == 'job: enabled, "30 6 * * *" in Europe/Moscow' and [line[10:] for line in lines[1:]] == ["T03:30:00Z"] * 2
    assert schedule("edit", "job", "--cron", "30 6 * *")[0] == 1 and schedule("edit", "job", "--zone", "Mars")[0] == 1 and schedule("edit", "job")[0] == 2
    assert schedule("history", "job") == (0, "")
    assert schedule("run", "job", "--by", "olga")[0] == 0
    rig.db.execute("update pgmqd.schedule set command = 'select 1 / 0' where name = 'job'")
    assert schedule("run", "job")[0] == 1
    newest, oldest = schedule("history", "job")[1].splitlines()
    assert newest.endswith("division by zero") and newest.split()[1] == "failed" and oldest.split()[1] == "ok"
    assert schedule("history", "none")[0] == 1 and schedule("pause", "none")[0] == 1
    did = app.rows(rig.db, "select action from pgmqd.actions where by = 'olga' order by id")
    assert [d["action"] for d in did] == ["schedule-pause", "schedule-resume", "schedule-edit", "schedule-run"]
