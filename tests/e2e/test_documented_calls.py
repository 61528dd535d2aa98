"""The calls of the users' documents, as written: the row, the mail or the answer of each."""

import json
import subprocess

import pytest

from lib import app
from lib.httpclient import free_port
from lib.httpstub import HttpStub

ASSESSMENT, PERSON = "b0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000001"


def rpc(db, function, **arguments):
    """supabase.rpc(function, {...}), as PostgREST runs it: by name, the body as one JSON parameter."""
    names = ", ".join(f'"{name}" := a."{name}"' for name in arguments)
    kinds = {"variables": "jsonb", "priority": "integer", "vt": "integer", "msg_id": "bigint"}
    columns = ", ".join(f'"{name}" {kinds.get(name, "text")}' for name in arguments)
    return db.execute(f"select public.{function}({names}) from jsonb_to_record(%s::jsonb) as a ({columns})", [json.dumps(arguments)]).fetchone()[0]


# ---- mails ----

def test_queue_email_task(rig, catcher):
    rig.start()
    mark = rig.daemon.mark()
    msg_id = rig.db.execute("SELECT public.queue_email_task('user@example.com', 'Тема письма', 'checkup_completed',"
                            " '{\"assessment_id\": \"...\"}'::jsonb, 0)").fetchone()[0]
    assert rig.daemon.wait_settled(start=mark, msg_id=msg_id)["outcome"] == "done"
    mail = catcher.wait_to("user@example.com")
    assert mail.subject == "Тема письма" and "завершено" in mail.body("plain")
    assert "href" not in mail.body("html"), "no link to anywhere when app_url is not set"


def test_links_follow_from_the_setting_and_the_id(rig, catcher):
    rig.db.execute("update pgmqd.settings set value = 'https://clinic.example.com/app/' where name = 'app_url'")
    rig.start()
    for template, variables, link in (
            ("checkup_completed", {"assessment_id": "42"}, "/assessments/42"), ("report_ready", {"assessment_id": "42"}, "/assessments/42"),
            ("payment_completed", {"payment_id": "7", "amount": "5 ₽"}, "/payments/7/receipt"), ("payment_failed", {"payment_id": "7"}, "/payments/7/retry"),
            ("appointment_confirmation", {"appointment_id": "9", "appointment_date": "6 мая", "appointment_time": "14:30"}, "/appointments/9")):
        to = f"{template}@example.com"
        app.queue_email_task(rig.db, to, template, variables)
        mail = catcher.wait_to(to)
        assert f'href="https://clinic.example.com/app{link}"' in mail.body("html"), template
        assert f"https://clinic.example.com/app{link}\n" in mail.body("plain").replace("\r", "")
    rig.db.execute("update pgmqd.settings set value = null where name = 'app_url'")


def test_queue_email_task_from_javascript(rig, catcher):
    rig.start()
    rpc(rig.db, "queue_email_task", to="user@example.com", subject="Ваш отчет готов", template="report_ready", variables={"name": "Иван"}, priority=0)
    mail = catcher.wait_to("user@example.com")
    assert mail.subject == "Ваш отчет готов" and "Здравствуйте, Иван!" in mail.body("plain") and "Здравствуйте, Иван!" in mail.body("html")


def test_a_template_that_does_not_exist(rig, catcher):
    """It is a mail with a subject and a text or HTML of its own, and a dead letter without."""
    rig.start()
    rig.enqueue({"to": "own@example.com", "subject": "Своё", "template": "welcome_2", "text": "Добро пожаловать"})
    assert catcher.wait_to("own@example.com").body("plain").strip() == "Добро пожаловать"
    rig.db.execute("select queue_email_task('vars@example.com', 'Своё', 'welcome-back', '{\"html\": \"<p>Hello</p>\"}')")
    assert "<p>Hello</p>" in catcher.wait_to("vars@example.com").body("html")
    msg_id = rig.send("none@example.com", "welcome_2", {"name": "Иван"})
    record = rig.daemon.wait_settled(msg_id=msg_id)
    assert record["outcome"] == "fail" and record["reason"].startswith('no template "welcome_2" in language ru (looked in /'), record


def test_smtp_errors_are_found_by_their_word(rig):
    rig.start(env={"SMTP_PASS": "wrong"})
    rig.send("user@example.com")
    text = rig.daemon.wait_log("queue paused")["text"]
    assert "smtp" in text.lower()


# ---- queues ----

def test_reports_and_payments_are_queued(rig):
    db = rig.db
    payment = app.new_payment(db, PERSON)
    assert db.execute(f"SELECT public.queue_report_generation('{ASSESSMENT}', '{PERSON}', 'pdf')").fetchone()[0]
    assert db.execute(f"SELECT public.queue_payment_processing('{payment}', 'verify')").fetchone()[0]
    row = app.rows(db, "SELECT * FROM pgmq.report_generation_queue ORDER BY enqueued_at DESC LIMIT 1")[0]
    assert row["msg"] == {"assessment_id": ASSESSMENT, "user_id": PERSON, "report_type": "pdf"}
    assert app.rows(db, "SELECT * FROM pgmq.payment_processing_queue")[0]["msg"] == {"payment_id": str(payment), "action": "verify"}


METRICS = ["queue_length", "newest_msg_age_sec", "oldest_msg_age_sec", "total_messages"]
QUERIES = {
    "SELECT * FROM pgmq.list_queues()": lambda rows: {"email_queue", "report_generation_queue"} <= {r["queue_name"] for r in rows},
    "SELECT msg_id, enqueued_at, msg->>'to' AS email_to, msg->>'subject' AS subject, EXTRACT(EPOCH FROM (now() - enqueued_at)) AS age_seconds"
    " FROM pgmq.email_queue ORDER BY enqueued_at DESC LIMIT 10": lambda rows: rows[0]["email_to"] == "user@example.com" and rows[0]["age_seconds"] >= 0,
    "SELECT queue_name, queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages FROM pgmq_metrics('email_queue')":
        lambda rows: (rows[0]["queue_name"], rows[0]["queue_length"]) == ("email_queue", 1),
    "SELECT queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages FROM pgmq_metrics('email_queue')":
        lambda rows: list(rows[0]) == METRICS and rows[0]["total_messages"] == 1,
    "SELECT * FROM pgmq_metrics('report_generation_queue')":
        lambda rows: list(rows[0])[:5] == ["queue_name", *METRICS] and rows[0]["queue_name"] == "report_generation_queue",
    "SELECT 'email_queue' AS queue, COUNT(*) AS pending_tasks FROM pgmq.email_queue UNION ALL"
    " SELECT 'report_generation_queue' AS queue, COUNT(*) AS pending_tasks FROM pgmq.report_generation_queue":
        lambda rows: {r["queue"]: r["pending_tasks"] for r in rows} == {"email_queue": 1, "report_generation_queue": 0},
    "SELECT * FROM pgmq.email_queue WHERE msg->>'template' = 'checkup_completed' ORDER BY enqueued_at DESC LIMIT 1": lambda rows: len(rows) == 1,
    "SELECT trigger_name, event_object_table, event_manipulation, action_timing FROM information_schema.triggers WHERE trigger_schema = 'public'"
    " AND event_object_table IN ('assessments', 'appointments', 'payments')":
        lambda rows: {"on_checkup_completed", "on_new_appointment", "on_payment_status_change"} <= {r["trigger_name"] for r in rows},
    "SELECT proname FROM pg_proc WHERE proname IN ('handle_completed_checkup', 'handle_new_appointment', 'handle_payment_status_change')":
        lambda rows: len(rows) == 3,
    "SELECT proname FROM pg_proc WHERE proname LIKE 'pgmq_%'": lambda rows: len(rows) >= 5,
    "SELECT proname FROM pg_proc WHERE proname LIKE 'handle_%'": lambda rows: len(rows) >= 3,
    "SELECT * FROM pg_extension WHERE extname = 'pgmq'": lambda rows: len(rows) <= 1,
}


@pytest.mark.parametrize("query", QUERIES)
def test_query(rig, query):
    app.queue_email_task(rig.db, "user@example.com", "checkup_completed", {"assessment_id": "..."}, subject="Тема письма")
    rows = app.rows(rig.db, query)
    assert QUERIES[query](rows), rows


def test_read_and_archive_from_javascript(rig):
    db = rig.db
    assert rpc(db, "pgmq_read", queue_name="email_queue", vt=30) is None
    msg_id = app.queue_email_task(db, "user@example.com", "report_ready", {"name": "Иван"}, subject="Ваш отчет готов")
    task = rpc(db, "pgmq_read", queue_name="email_queue", vt=30)
    assert task["msg_id"] == msg_id
    assert [task["msg"][key] for key in ("to", "subject", "template", "variables")] == [
        "user@example.com", "Ваш отчет готов", "report_ready", {"name": "Иван"}]
    assert rpc(db, "pgmq_archive", queue_name="email_queue", msg_id=msg_id) is True
    assert rig.rows("q_email_queue") == [] and len(rig.rows("a_email_queue")) == 1


# ---- HTTP ----

def curl(*words):
    done = subprocess.run(["curl", "-s", *words], capture_output=True, text=True)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["open", "token"])
def test_the_local_guide(rig, way):
    """Its curl calls as they are written, where the job is open to this machine; and else with the token that a change over HTTP needs."""
    port, token = free_port(), "0123456789abcdef0123456789abcdef"
    login = ("-H", f"Authorization: Bearer {token}") if way == "token" else ()
    rig.db.execute("select pgmqd.create_queue('report_jobs')")
    with HttpStub() as sources:
        sources.answer("/lab", 200, {"ok": True})
        sources.answer("/xray", 503, {})
        rig.start(queues={"report_jobs": {"plugin": "sources", "sources": f"lab {sources.url}/lab | xray {sources.url}/xray", "retries": 0,
                                          "allow_private": "yes"}}, jobs={"professional-report": "report_jobs" + ("\nopen = yes" if way == "open" else "")},
                  http_listen=f"127.0.0.1:{port}", http_token=token)
        base = f"http://127.0.0.1:{port}"
        assert curl(f"{base}/health")["status"] == "ok"
        start = ("-X", "POST", f"{base}/api/professional-report/start", "-d", "{}")
        json_type = ("-H", "Content-Type: application/json")
        if way == "token":
            assert curl(*start, *json_type)["error"]["code"] == "unauthorized"
        for more in ((), (*json_type, "-H", "Origin: http://other.example.test"), (*json_type, "-H", "Host: other.example.test")):
            assert curl(*start, *more)["error"]["code"] in ("unsupported_media_type", "foreign_origin", "wrong_host", "unauthorized"), more
        started = curl("-X", "POST", f"{base}/api/professional-report/start", "-H", "Content-Type: application/json", *login,
                       "-d", '{"questionnaire": {"age": 41}}')
        job = started["job_id"]
        status = {"status": ""}
        while status["status"] not in ("partial", "failed"):
            status = curl(f"{base}/api/professional-report/status/{job}", *login)
            assert {"status", "progress"} <= set(status)
        assert status["status"] == "partial"
        assert curl(f"{base}/api/professional-report/result/{job}", *login)["result"]["lab"] == {"ok": True}
        for path in ("missing-sources", "retry-status"):
            assert "xray" in json.dumps(curl(f"{base}/api/professional-report/{path}/{job}", *login))
        sources.reset()
        sources.answer("/xray", 200, {"ok": True})
        assert curl("-X", "POST", f"{base}/api/professional-report/retry/{job}", *login)["retry_result"]["success_count"] == 1
        assert isinstance(curl(f"{base}/api/cron/retry-missing-data", *login), dict)
