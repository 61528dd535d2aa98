"""Kinds of mails, mails that come too late, and what keeps a test run's mails from people."""

import email
import email.policy
from datetime import datetime, timedelta, timezone

import pytest

from lib import app
from lib.daemon import conf, run
from lib.smtpstub import SmtpStub

IVAN = "ivan@example.test"


@pytest.fixture
def mailer(rig):
    """Functions round a stub: start(**options), mail(**message)."""
    with SmtpStub() as stub:
        class Mailer:
            def start(self, **options):
                rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "backoff_min": "10ms", "backoff_max": "10ms", **options}},
                          {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": None, "SMTP_PASS": None})
                return rig.daemon

            def send(self, to=IVAN, **more):
                return rig.enqueue({"to": to, "subject": "Test", "text": "A line.\n", **more})

            def mail(self, to=IVAN, **more):
                mark = rig.daemon.mark()
                return rig.daemon.wait_settled(msg_id=self.send(to, **more), start=mark)

        made = Mailer()
        made.rig, made.stub = rig, stub
        yield made


def test_too_late(mailer):
    """By the message's own word, or by its age: a reminder of yesterday is not sent today."""
    daemon = mailer.start(ttl_reminder="1h")
    past, future = (datetime.now(timezone.utc) + timedelta(minutes=m) for m in (-1, 60))
    record = mailer.mail(expires_at=past.isoformat())
    assert (record["outcome"], record["reason"]) == ("fail", "it is too late for this mail")
    assert mailer.rig.dead()[0]["headers"]["pgmqd_dead"]["class"] == "expired"
    assert mailer.mail(expires_at=future.isoformat())["outcome"] == "done"
    old = "insert into pgmq.q_email_queue (enqueued_at, vt, message) values (now() - interval '2 h', now(), %s) returning msg_id"
    ids = [mailer.rig.db.execute(old, ['{"to": "%s", "subject": "T", "text": "x", "class": "%s"}' % (IVAN, kind)]).fetchone()[0]
           for kind in ("reminder", "transactional")]
    mailer.mail()
    assert daemon.wait_settled(msg_id=ids[0])["outcome"] == "fail"
    assert daemon.wait_settled(msg_id=ids[1])["outcome"] == "done"
    assert len(mailer.stub.mails) == 3
    assert "expires_at" in mailer.mail(expires_at="soon")["reason"] and "class" in mailer.mail(**{"class": "bulk"})["reason"]


def test_class_of_a_template(mailer):
    """appointment_reminder is a reminder: its headers and its route say so."""
    mailer.start(feedback_id="clinic")
    for template in ("appointment_reminder", "report_ready"):
        assert mailer.mail(template=template, text=None, subject=None, variables=app.sample(template))["outcome"] == "done"
    heads = [email.message_from_bytes(m.bytes, policy=email.policy.default)["Feedback-ID"] for m in mailer.stub.mails]
    assert heads == ["appointment_reminder:reminder:ru:clinic", "report_ready:transactional:ru:clinic"]


def test_reminders_give_way(mailer):
    """Only half of the burst is theirs, and they wait in the queue; the others pass them."""
    daemon = mailer.start(limits="smtp 6/h", max_in_flight=1)
    first = [mailer.mail(**{"class": "reminder"})["outcome"] for _ in range(2)]
    assert first == ["done", "release"]
    assert mailer.mail()["outcome"] == "done"
    assert len(mailer.stub.mails) == 2 and daemon


def test_redirect(mailer):
    mailer.start(redirect_all_to="dev@example.test")
    assert mailer.mail(to_name="Иван")["outcome"] == "done"
    (mail,) = mailer.stub.mails
    assert mail.recipients == ["dev@example.test"]
    parsed = email.message_from_bytes(mail.bytes, policy=email.policy.default)
    assert (parsed["To"].addresses[0].addr_spec, parsed["Subject"], parsed["X-Original-To"]) == ("dev@example.test", "[TEST] Test", IVAN)


def test_allowed_domains(mailer):
    daemon = mailer.start(allow_domains="Example.test, clinic.test")
    assert mailer.mail("ivan@other.test")["outcome"] == "done"
    daemon.wait_log("not sent: the recipient's domain is not among allow_domains")
    assert mailer.stub.mails == [] and mailer.mail()["outcome"] == "done" and len(mailer.stub.mails) == 1


def test_dry_run(mailer, tmp_path):
    """Files instead of mails, the same bytes at every run, and nothing in the ledger."""
    tmp_path.chmod(0o755)
    mailer.start(dry_run=str(tmp_path))
    assert mailer.mail(key="order 7")["outcome"] == "done"
    (name,) = tmp_path.glob("*.eml")
    parsed = email.message_from_bytes(name.read_bytes(), policy=email.policy.default)
    assert parsed["To"] == IVAN and parsed.get_content() == "A line.\r\n"
    assert [p.name for p in tmp_path.iterdir()] == [name.name] and mailer.stub.mails == []
    assert app.rows(mailer.rig.db, "select * from pgmqd.mail_log") == []


@pytest.mark.parametrize("mode", ["redirect_all_to = dev@example.test", "dry_run = /tmp"])
def test_refused_in_production(tmp_path, mode):
    name, _, value = mode.partition(" = ")
    path = tmp_path / "pgmqd.conf"
    for force, refused in (("no", True), ("yes", False)):
        path.write_text(conf("host=/nowhere", {"email_queue": {"plugin": "email", "from": "a@example.test", "smtp_host": "mail.example.test", name: value,
                                                                "production": "yes", "force_test_mode": force}}))
        path.chmod(0o600)
        done = run("run", "--check", "-c", path)
        assert ("production = yes" in done.stdout + done.stderr and done.returncode != 0) is refused
