"""The main job: what happens in the application's tables becomes the right mail, once, and nothing else does."""

import json
import re

import pytest

from lib import app
from lib.rig import email_queue, migrate

ELENA = "elena@example.test"


@pytest.fixture
def elena(rig):
    """A customer who reads Russian, of an application whose mails have links."""
    rig.db.execute("update pgmqd.settings set value = 'https://app.example.test' where name = 'app_url'")
    return app.new_customer(rig.db, ELENA, "Елена Примерова")


def expect_mail(rig, to, text, html):
    """Waits for the mail to `to`, and checks what every mail has to have; returns it."""
    mail = rig.catcher.wait_to(to)
    assert mail.recipients == [to]
    assert mail.sender == "noreply@example.test"
    assert mail.tls and mail.user == rig.catcher.user
    assert mail.parsed.get_content_type() == "multipart/alternative"
    assert text in mail.body("plain"), mail.body("plain")
    assert html in mail.body("html"), mail.body("html")
    assert "{{" not in mail.subject + mail.body("plain") + mail.body("html")
    assert mail.parsed["Message-ID"] and mail.parsed["Date"]
    return mail


# ---- the paths from a row to a mail ----

def test_completed_checkup(rig, elena):
    checkup = app.start_checkup(rig.db, elena)
    rig.start()
    app.complete_checkup(rig.db, checkup)
    mail = expect_mail(rig, ELENA, "Елена", str(checkup))
    assert "обследование завершено" in mail.subject
    rig.daemon.wait_settled(queue="email_queue", outcome="done")
    assert len(rig.rows("a_email_queue")) == 1
    assert len(rig.rows("q_report_generation_queue")) == 1
    assert len(rig.rows("q_analytics_queue")) == 1
    # once completed, a further update of the row is no news
    app.complete_checkup(rig.db, checkup)
    assert rig.rows("q_email_queue") == []


def test_booked_appointment(rig, elena):
    rig.start()
    appointment = app.book_appointment(rig.db, elena)
    mail = expect_mail(rig, ELENA, "Елена", str(appointment))
    assert "записаны" in mail.subject


def test_completed_payment_confirms_the_appointment(rig, elena):
    appointment = app.book_appointment(rig.db, elena)
    payment = app.new_payment(rig.db, elena, appointment=appointment)
    rig.start()
    app.set_payment_status(rig.db, payment, "completed")
    mail = rig.catcher.wait_for(lambda m: "Оплата прошла" in m.subject)
    assert "1\u00a0490,00\u00a0₽" in mail.subject.replace(" ", "\u00a0")
    assert mail.recipients == [ELENA]
    assert app.appointment_status(rig.db, appointment) == "confirmed"


def test_failed_payment(rig, elena):
    payment = app.new_payment(rig.db, elena)
    rig.start()
    app.set_payment_status(rig.db, payment, "failed")
    mail = expect_mail(rig, ELENA, "Елена", str(payment))
    assert "не прошла" in mail.subject


@pytest.mark.parametrize("lang", ["ru", "en"])
@pytest.mark.parametrize("template", sorted(app.TEMPLATES))
def test_every_template_by_queue_email_task(rig, template, lang):
    variables = app.sample(template, lang)
    rig.start()
    rig.send("vera@example.test", template, variables)
    mail = expect_mail(rig, "vera@example.test", variables["customer_name"], variables["customer_name"])
    assert bool(re.search("[а-яё]", mail.subject)) == (lang == "ru"), mail.subject


def test_subject_of_the_message_wins(rig):
    rig.start()
    rig.send("vera@example.test", subject="Свой заголовок")
    assert rig.catcher.wait_to("vera@example.test").subject == "Свой заголовок"


# ---- transactions ----

def test_rollback_leaves_no_message_and_no_mail(rig, elena):
    checkup = app.start_checkup(rig.db, elena)
    rig.start()
    with rig.connect(autocommit=False) as db:
        app.complete_checkup(db, checkup)
        app.queue_email_task(db, "rolled@example.test", "report_ready", app.sample("report_ready"))
        db.rollback()
    # a later message overtakes nothing: when it has arrived, an earlier one would have, too
    rig.send("later@example.test")
    rig.catcher.wait_to("later@example.test")
    rig.daemon.wait_settled(outcome="done")
    assert [m.recipients for m in rig.catcher.mails()] == [["later@example.test"]]
    assert len(rig.rows("a_email_queue")) == 1 and rig.rows("q_email_queue") == []


def test_failing_trigger_lets_the_update_through_and_is_recorded(rig, elena):
    checkup = app.start_checkup(rig.db, elena)
    rig.db.execute("alter table pgmq.q_email_queue rename to q_email_queue_gone")
    app.complete_checkup(rig.db, checkup)
    assert app.checkup_status(rig.db, checkup) == "completed"
    errors = app.rows(rig.db, "select * from pgmqd.trigger_errors")
    assert len(errors) == 1, errors
    assert errors[0]["trigger"] == "on_checkup_completed" and errors[0]["sqlstate"] == "42P01", errors
    assert str(checkup) in str(errors[0]["row_key"])


def test_missing_queue_schema_lets_the_update_through(rig, elena):
    checkup = app.start_checkup(rig.db, elena)
    appointment = app.book_appointment(rig.db, elena)
    payment = app.new_payment(rig.db, elena, appointment=appointment)
    rig.db.execute("drop schema pgmq cascade")
    app.complete_checkup(rig.db, checkup)
    app.set_payment_status(rig.db, payment, "completed")
    assert app.checkup_status(rig.db, checkup) == "completed"
    assert len(app.rows(rig.db, "select * from pgmqd.trigger_errors")) == 2


# ---- wake-ups ----

def test_notification_wakes_the_worker(rig):
    """The fallback poll is an hour away, so each of these can only have come by a notification."""
    rig.start(fallback_poll="1h")
    for n in range(5):
        rig.send(f"n{n}@example.test")
        rig.catcher.wait_to(f"n{n}@example.test")
        rig.daemon.wait_settled(msg_id=app.message_id(rig.db, f"n{n}@example.test"))


def test_plain_pgmq_send_wakes_the_worker_too(rig):
    rig.start(fallback_poll="1h")
    rig.enqueue({"to": "plain@example.test", "template": "report_ready", "variables": app.sample("report_ready")})
    rig.catcher.wait_to("plain@example.test")


def test_lost_notification_costs_one_fallback_poll(rig):
    rig.db.execute("alter table pgmq.q_email_queue disable trigger user")
    rig.start(fallback_poll="500ms")
    rig.send("poll@example.test")
    rig.catcher.wait_to("poll@example.test")


def test_message_from_before_the_start_is_delivered(rig):
    rig.send("early@example.test")
    rig.start(fallback_poll="1h")
    rig.catcher.wait_to("early@example.test")


def test_delayed_message_comes_when_it_is_due(rig):
    rig.start(fallback_poll="1h")
    message = {"to": "delayed@example.test", "template": "report_ready", "variables": app.sample("report_ready")}
    due = rig.db.execute("select clock_timestamp() + interval '2 seconds'").fetchone()[0]
    rig.enqueue(message, delay=2)
    rig.send("now@example.test")
    mail = rig.catcher.wait_to("delayed@example.test")
    assert [m.recipients[0] for m in rig.catcher.mails()] == ["now@example.test", "delayed@example.test"]
    assert mail.at >= due


def test_hundred_messages_arrive_once_each(rig):
    rig.start()
    rig.db.execute("select public.queue_email_task('b' || n || '@example.test', null, 'report_ready', %s::jsonb, 0)"
                   " from generate_series(1, 100) n", [json.dumps(app.sample("report_ready"))])
    rig.catcher.wait_for(100)
    assert len({m.recipients[0] for m in rig.catcher.mails()}) == 100
    assert len({m.parsed["Message-ID"] for m in rig.catcher.mails()}) == 100
    rig.daemon.stop()
    assert rig.rows("q_email_queue") == [] and len(rig.rows("a_email_queue")) == 100
    assert rig.catcher.connections <= 10  # pooled, not one for each


# ---- the daemon itself ----

def test_log_names_versions_first_and_no_addresses(rig, elena):
    checkup = app.start_checkup(rig.db, elena)
    rig.start()
    app.complete_checkup(rig.db, checkup)
    rig.catcher.wait_to(ELENA)
    rig.catcher.answer("RCPT", "550 5.1.1 <vera@example.test>: no such user", "vera@")
    rig.send("vera@example.test")
    rig.daemon.wait_settled(outcome="fail")
    daemon = rig.daemon
    assert daemon.stop() == 0
    records = daemon.records()
    assert re.match(r"pgmqd \S+: libpq \S+, libevent \S+, libcurl \S+", records[0]["text"]), records[0]
    assert all("raw" not in r for r in records), [r for r in records if "raw" in r]
    settled = next(r for r in records if r["text"] == "settled")
    assert settled["queue"] == "email_queue" and settled["plugin"] == "email" and settled["msg_id"] > 0
    text = daemon.tail(10000)
    for secret in (ELENA, "vera@example.test", "Примеров", rig.catcher.password):
        assert secret not in text, secret


def test_sigterm_drains(rig):
    """A message that the plugin works on when SIGTERM comes is finished, not given back; what was not begun stays."""
    gate = rig.catcher.hold("DATA")
    rig.start({"email_queue": email_queue(rig.catcher, max_in_flight=1)})
    rig.send("held@example.test")
    gate.wait_held()
    rig.send("late@example.test")
    rig.daemon.process.terminate()
    rig.daemon.wait_log("draining: messages in hand: 1")
    gate.release()
    assert rig.daemon.wait() == 0
    assert [m.recipients[0] for m in rig.catcher.mails()] == ["held@example.test"]
    assert [r["message"]["to"] for r in rig.rows("a_email_queue")] == ["held@example.test"]
    # the other one is there for whoever comes next, at once and with all its attempts
    rig.start()
    rig.catcher.wait_to("late@example.test")
    assert rig.daemon.wait_settled(outcome="done")["attempt"] == 1


def test_migrate_twice_changes_nothing(rig):
    again = migrate(rig.conninfo, "--demo-app")
    assert again.returncode == 0, again.stderr
    status = migrate(rig.conninfo, "--status")
    assert status.returncode == 0 and "032" in status.stdout, status.stdout + status.stderr
