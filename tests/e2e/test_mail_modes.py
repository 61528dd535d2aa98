"""Kinds of mails, mails that come too late, and what keeps a test run's mails from people."""

import base64
import email
import email.policy
import re
import subprocess
from datetime import datetime, timedelta, timezone

import dkim
import pytest

from lib import app
from lib.daemon import command_line, conf, run
from lib.paths import BUILDDIR
from lib.rig import email_queue
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
    old = ("insert into pgmq.q_email_queue (enqueued_at, vt, message) values (now() - interval '2 h', now() - %s::interval, %s) "
           "returning msg_id")
    ids = [mailer.rig.db.execute(old, [late, '{"to": "%s", "subject": "T", "text": "x", "class": "%s"}' % (IVAN, kind)]).fetchone()[0]
           for late, kind in (("2 h", "reminder"), ("2 h", "transactional"), ("0 s", "reminder"))]
    mailer.mail()
    assert daemon.wait_settled(msg_id=ids[0])["outcome"] == "fail"
    assert daemon.wait_settled(msg_id=ids[1])["outcome"] == "done"
    assert daemon.wait_settled(msg_id=ids[2])["outcome"] == "done"  # its age counts from when it became due
    assert len(mailer.stub.mails) == 4
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


# ---- DKIM ----

@pytest.fixture(scope="module")
def dkim_key(tmp_path_factory):
    """A key pair: (file, TXT record)."""
    path = tmp_path_factory.mktemp("dkim") / "key.pem"
    subprocess.run(["openssl", "genrsa", "-out", path, "2048"], check=True, capture_output=True)
    public = subprocess.run(["openssl", "rsa", "-in", path, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    return path, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def test_dkim_signature_holds(rig, dkim_key):
    """Verified by another implementation; the same the second time; and broken by any change."""
    path, record = dkim_key
    rig.catcher.answer("DATA", "451 4.3.0 not now", times=1)
    raw = rig.catcher.keep_bytes()
    rig.start({"email_queue": email_queue(rig.catcher, dkim_key=path, dkim_selector="otter", backoff_min="10ms", backoff_max="10ms")})
    rig.enqueue({"to": "ivan@example.test", "subject": "Отчёт готов " * 9, "text": ".\n.точка  \n\n\n", "html": "<p>Привет</p>",
                 "attachments": [{"filename": "Отчёт.pdf", "content": "AAAA"}]})
    rig.catcher.wait_for(1)
    assert len(raw) == 2 and raw[0] == raw[1]
    asked = []

    def txt(name, timeout=5):
        asked.append(name)
        return record

    assert dkim.verify(raw[0], dnsfunc=txt)
    assert set(asked) == {b"otter._domainkey.example.test."}
    signature = re.search(rb"^DKIM-Signature: ((?:.*\r\n[ \t])*.*)\r\n", raw[0]).group(1)
    names = re.sub(rb"\s", b"", re.search(rb"[;\s]h=([^;]*)", signature).group(1)).lower().split(b":")
    assert {b"from", b"to", b"subject", b"date", b"message-id", b"content-type"} <= set(names) and names.count(b"from") == 2
    assert max(map(len, raw[0].split(b"\r\n"))) <= 78
    for change in ((b"Subject: ", b"Subject: x"), (b"AAAA", b"AAAB"), (b"From: ", b"From: evil@example.test\r\nFrom: ")):
        assert change[0] in raw[0]
        assert not dkim.verify(raw[0].replace(*change, 1), dnsfunc=txt), change


def test_dkim_of_a_large_mail(rig, dkim_key):
    """It is made and signed in pieces, and mails behind it between these: each signature holds."""
    raw = rig.catcher.keep_bytes()
    big = {"to": "ivan@example.test", "subject": "big", "text": "x\n", "attachments": [{"filename": "b", "content": "QUJD" * 1000000}]}
    rig.enqueue(big)
    for i in range(3):
        rig.enqueue({"to": "ivan@example.test", "subject": f"small {i}", "text": "x\n"})
    rig.enqueue(big)
    rig.start({"email_queue": email_queue(rig.catcher, dkim_key=dkim_key[0], dkim_selector="otter")})
    rig.catcher.wait_for(5)
    assert sorted(len(mail) > 1000000 for mail in raw) == [False] * 3 + [True] * 2
    assert all(dkim.verify(mail, dnsfunc=lambda *_, **__: dkim_key[1]) for mail in raw)


@pytest.mark.parametrize("bad, why", [("missing", "No such file"), ("garbage", "private RSA key"), ("selector", "dkim_selector: dkim_key needs it")])
def test_dkim_key_that_cannot_be_used(rig, dkim_key, tmp_path, bad, why):
    path = dkim_key[0] if bad == "selector" else tmp_path / "key.pem"
    if bad == "garbage":
        path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    settings = tmp_path / "pgmqd.conf"
    settings.write_text(conf("host=/nowhere", {"email_queue": {"plugin": "email", "from": "a@example.test", "smtp_host": "mail.example.test", "dkim_key": path,
                                                               "dkim_selector": None if bad == "selector" else "otter"}}))
    settings.chmod(0o600)
    done = run("run", "--check", "-c", settings)
    assert done.returncode != 0 and why in done.stdout + done.stderr, done.stdout + done.stderr


def test_a_mail_without_a_queue(tmp_path):
    """`pgmqd plugin test` makes the mail on any day: a message without a time is not found too late."""
    done = subprocess.run(command_line("plugin", "test", "email", "from=a@example.test", f"dry_run={tmp_path}", "ledger=no", "smtp_host=127.0.0.1",
                                       "--plugin-dir", BUILDDIR / "plugins" / ".libs"),
                          input=f'{{"to": "{IVAN}", "subject": "s", "text": "t"}}\n', stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.stdout.split()[:2] == ["1", "done"] and len(list(tmp_path.iterdir())) == 1, done.stdout + done.stderr
