"""Who gets no mail any more: hard bounces, events of mail services with their signatures, bounce mails, one-click unsubscription."""

import base64
import hashlib
import hmac
import json
import re
import socket
import subprocess
import threading
import time

import pytest
from psycopg.conninfo import make_conninfo

from lib import app
from lib.daemon import clean_environment, command_line
from lib.httpclient import Described, free_port
from lib.httpstub import HttpStub
from lib.paths import TIMEOUT
from lib.smtpstub import SmtpStub
from lib.valgrind import SLOW

IVAN = "ivan@example.test"
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
MAILGUN = "mailgun-signing-key"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail-events"


def iso(at):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))


def openssl(*argv, data=None):
    return subprocess.run(["openssl", *argv], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An EC key pair as SendGrid has it, and an RSA key with a certificate as SNS has it."""
    d = tmp_path_factory.mktemp("keys")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", d / "ec.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", d / "rsa.pem", "-out", d / "cert.pem", "-subj", "/CN=sns.example.test")
    return d


@pytest.fixture
def world(rig, keys):
    """pgmqd with a mail server, the HTTP port and the plugin mailevents."""
    with SmtpStub() as smtp, HttpStub() as sns:
        class World:
            def start(self, **options):
                self.http = Described(free_port())
                public = base64.b64encode(openssl("ec", "-in", keys / "ec.pem", "-pubout", "-outform", "DER")).decode()
                self.base = f"http://127.0.0.1:{self.http.port}/api/mail"
                rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "backoff_min": "10ms", "backoff_max": "10ms", **options},
                           "mail_events_queue": {"plugin": "mailevents", "resend_webhook_secret": SECRET, "sendgrid_webhook_key": public,
                                                 "mailgun_webhook_key": MAILGUN, "ses_topic_arn": TOPIC, "sns_url": sns.url, "backoff_min": "10ms"}},
                          {"SMTP_HOST": smtp.host, "SMTP_PORT": str(smtp.port), "SMTP_USER": None, "SMTP_PASS": None},
                          http_listen=f"127.0.0.1:{self.http.port}")
                self.http.describe()
                return rig.daemon

            def send(self, to=IVAN, **more):
                return rig.enqueue({"to": to, "subject": "Test", "text": "A line.\n", **more})

            def mail(self, to=IVAN, **more):
                """Sends a mail; how it was settled, and whether it went out."""
                before, mark = len(smtp.mails), rig.daemon.mark()
                record = rig.daemon.wait_settled(msg_id=self.send(to, **more), queue="email_queue", start=mark)
                return record["outcome"], len(smtp.mails) - before

            def suppressed(self):
                return app.rows(rig.db, "select reason, source, until is null as for_ever from pgmqd.suppression order by reason")

            def event(self, service, body, headers, outcome="done"):
                mark = rig.daemon.mark()
                text = body if isinstance(body, str) else json.dumps(body)
                status, _, answer = self.http(f"/api/mail/events/{service}", method="POST", headers=headers, body=text)
                assert status == 200, answer
                return rig.daemon.wait_settled(queue="mail_events_queue", start=mark, outcome=outcome)

            def stored(self):
                """How many events have been stored in all: waiting, archived, dead."""
                return sum(len(rig.rows(f"{t}_mail_events_queue")) for t in "qa") + len(rig.dead("mail_events_queue"))

            def refused(self, service, body, headers, code="forged", status=403):
                """It is refused, nothing of it is stored, and the reason."""
                before = self.stored()
                text = body if isinstance(body, (str, bytes)) else json.dumps(body)
                got, answer = self.http.json(f"/api/mail/events/{service}", method="POST", headers=headers, body=text)
                assert (got, answer["error"]["code"]) == (status, code) and self.stored() == before
                return answer["error"]["message"]

            def put(self, service, body, headers):
                """Puts an event into the queue without the HTTP server; the reason why the plugin does not believe it."""
                mark = rig.daemon.mark()
                rig.enqueue({"provider": service, "headers": headers, "body": body if isinstance(body, str) else json.dumps(body)}, "mail_events_queue")
                return rig.daemon.wait_settled(queue="mail_events_queue", start=mark, outcome="fail")["reason"]

        made = World()
        made.rig, made.smtp, made.sns, made.keys = rig, smtp, sns, keys
        yield made


def svix(body, at=None, secret=SECRET):
    at = str(int(at or time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"msg_1.{at}.{body}".encode(), "sha256")).decode()
    return {"svix-id": "msg_1", "svix-timestamp": at, "svix-signature": f"v1,AAAA v1,{signature}"}


def test_hard_bounce_by_smtp(world):
    """Refused once as nobody's mailbox: not even announced again, and taken up again when somebody says so."""
    world.start()
    world.smtp.on("RCPT", "550 5.1.1 no such user", times=1)
    assert world.mail() == ("fail", 0)
    assert world.suppressed() == [{"reason": "hard_bounce", "source": "smtp", "for_ever": False}]
    assert world.mail() == ("done", 0)
    world.rig.daemon.wait_log("suppressed (hard_bounce): not sent")
    assert world.mail("olga@example.test") == ("done", 1)
    states = app.rows(world.rig.db, "select state from pgmqd.mail_log order by first_at")
    assert [r["state"] for r in states] == ["failed", "suppressed", "sent"] and "ivan" not in str(app.rows(world.rig.db, "select * from pgmqd.suppression"))
    world.rig.db.execute("select pgmqd.unsuppress('Ivan@example.test')")
    assert world.mail() == ("done", 1)


@pytest.mark.parametrize("reply", ["550 5.7.1 we do not like you", "550 no"])
def test_other_refusals_suppress_nobody(world, reply):
    world.start(max_attempts=1)
    world.smtp.on("RCPT", reply, times=1)
    assert world.mail() == ("fail", 0)
    assert world.suppressed() == [] and world.mail() == ("done", 1)


def test_full_mailbox_is_tried_again_and_suppresses_nobody(world):
    """It empties: no failure also with one attempt, which it does not cost."""
    world.start(max_attempts=1, backoff_min="20s", backoff_max="1h")
    world.smtp.on("RCPT", "552 5.2.2 full", times=1)
    mark, msg_id = world.rig.daemon.mark(), world.send()
    record = world.rig.daemon.wait_settled(msg_id=msg_id, queue="email_queue", start=mark)
    assert record["outcome"] == "release" and "5.2.2" in record["reason"]
    wait = world.rig.db.execute("select extract(epoch from vt - now()) from pgmq.q_email_queue where msg_id = %s", [msg_id]).fetchone()[0]
    assert 5 < wait <= 60, wait  # the schedule's first step, not the backoff of 10 ms
    assert world.suppressed() == [] and world.smtp.mails == [] and world.rig.dead() == []
    assert world.mail() == ("done", 1)
    world.rig.db.execute("select pgmq.set_vt('email_queue', %s, 0)", [msg_id])
    assert world.rig.daemon.wait_settled(msg_id=msg_id, outcome="done", queue="email_queue")["attempt"] == 1


def test_event_of_resend(world):
    world.start()
    body = json.dumps({"type": "email.bounced", "created_at": "2026-05-28T20:26:40Z", "data": {
        "email_id": "49a3", "to": [IVAN], "bounce": {"type": "Permanent", "subType": "General", "message": f"550 5.1.1 {IVAN} unknown"}}})
    world.event("resend", body, svix(body))
    assert world.suppressed() == [{"reason": "hard_bounce", "source": "resend", "for_ever": False}]
    assert world.mail() == ("done", 0)
    world.event("resend", body, svix(body))  # again: kept once
    (row,) = app.rows(world.rig.db, "select * from pgmqd.mail_events")
    assert (row["kind"], row["detail"]) == ("hard_bounce", "550 5.1.1 [address] unknown") and "ivan" not in str(row)
    for headers in (svix(body + " "), svix(body, at=time.time() - 3600), svix(body, secret="whsec_" + base64.b64encode(b"x" * 24).decode())):
        world.refused("resend", body, headers)
        assert "signature" in world.put("resend", body, headers)
    world.refused("resend", body, {**svix(body), "svix-timestamp": "0"})
    assert {row["headers"]["pgmqd_dead"]["class"] for row in world.rig.dead("mail_events_queue")} == {"forged"}


def test_events_of_sendgrid(world):
    """A batch; the mail is known by the key that it carried."""
    world.start()
    assert world.mail() == ("done", 1)
    key = world.rig.db.execute("select dedupe_key from pgmqd.mail_log").fetchone()[0]
    body = json.dumps([{"email": IVAN, "event": "delivered", "sg_event_id": "e1", "timestamp": 1780000000, "pgmqd_key": key},
                       {"email": "other@example.test", "event": "bounce", "type": "blocked", "sg_event_id": "e2", "timestamp": 1780000000},
                       {"email": "alias@example.test", "event": "spamreport", "sg_event_id": "e3", "timestamp": 1780000001, "pgmqd_key": key}]) + "\r\n"
    at = str(int(time.time()))
    signature = base64.b64encode(openssl("dgst", "-sha256", "-sign", world.keys / "ec.pem", data=(at + body).encode())).decode()
    headers = {"X-Twilio-Email-Event-Webhook-Signature": signature, "X-Twilio-Email-Event-Webhook-Timestamp": at}
    world.event("sendgrid", body, headers)
    kinds = app.rows(world.rig.db, "select event_id, kind from pgmqd.mail_events order by event_id")
    assert [(r["event_id"], r["kind"]) for r in kinds] == [("e1", "delivered"), ("e2", "soft_bounce"), ("e3", "complaint")]
    assert world.suppressed() == [{"reason": "complaint", "source": "sendgrid", "for_ever": True}]
    assert world.mail() == ("done", 0)
    world.refused("sendgrid", body.replace("e1", "e9"), headers)
    assert "signature" in world.put("sendgrid", body.replace("e1", "e9"), headers)


def test_event_of_mailgun(world):
    world.start()
    at = str(int(time.time()))
    signed = {"timestamp": at, "token": "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0",
              "signature": hmac.new(MAILGUN.encode(), (at + "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0").encode(), hashlib.sha256).hexdigest()}
    data = {"event": "failed", "severity": "permanent", "reason": "bounce", "id": "G9Bn5sl1TC6nu79C8C0bwg", "timestamp": 1780000000.5, "recipient": IVAN,
            "delivery-status": {"code": 550, "message": "5.1.1 no"}}
    world.event("mailgun", {"signature": signed, "event-data": data}, {})
    assert [r["reason"] for r in world.suppressed()] == ["hard_bounce"]
    world.refused("mailgun", {"signature": {**signed, "token": "b" * 50}, "event-data": data}, {})
    world.refused("mailgun", {"event-data": data}, {})
    other = {"signature": signed, "event-data": {**data, "id": "x", "recipient": "olga@example.test"}}  # the signature is good, but was used
    assert "came with another event" in world.refused("mailgun", other, {}) and "came with another event" in world.put("mailgun", other, {})
    twice = json.dumps(other)[:-1] + ', "signature": ' + json.dumps({**signed, "token": "b" * 50}) + "}"  # parsers differ in which they take
    assert "came with another event" in world.refused("mailgun", twice, {})
    stored = world.stored()
    assert world.http("/api/mail/events/mailgun", method="POST", headers={}, body=json.dumps({"signature": signed, "event-data": data}))[0] == 200
    assert world.stored() == stored and len(world.suppressed()) == 1


def test_late_retry_of_mailgun(world):
    """A service that could not reach pgmqd for hours signs its retry with the time of the first attempt."""
    world.start()
    for age, good in ((8 * 3600, True), (10 * 3600, False), (-3600, False)):
        at, token = str(int(time.time() - age)), f"{age:050}"
        signed = {"timestamp": at, "token": token, "signature": hmac.new(MAILGUN.encode(), (at + token).encode(), hashlib.sha256).hexdigest()}
        event = {"signature": signed, "event-data": {"event": "delivered", "id": f"e{age}", "timestamp": 1780000000.5, "recipient": IVAN}}
        if good:
            world.event("mailgun", event, {})
        else:
            assert "time" in world.refused("mailgun", event, {})


@pytest.mark.parametrize("version", ["1", "2"])
def test_event_of_ses(world, version):
    """The certificate is fetched from where Amazon has it; another topic's notification does not count, however well it is signed."""
    world.start()
    world.sns.answer("/SimpleNotificationService-1.pem", 200, (world.keys / "cert.pem").read_bytes())
    world.sns.answer("/?Action=ConfirmSubscription", 200, b"<ok/>")

    def signed(kind="Notification", **more):
        message = {"Type": kind, "MessageId": "m1", "TopicArn": TOPIC, "Timestamp": iso(time.time()), "SignatureVersion": version,
                   "SigningCertURL": world.sns.url + "/SimpleNotificationService-1.pem", **more}
        names = ["Message", "MessageId"] + (["SubscribeURL"] if kind != "Notification" else []) + ["Timestamp"] + \
            (["Token"] if kind != "Notification" else []) + ["TopicArn", "Type"]
        text = "".join(f"{n}\n{message[n]}\n" for n in names).encode()
        hashing = "-sha256" if version == "2" else "-sha1"
        message["Signature"] = base64.b64encode(openssl("dgst", hashing, "-sign", world.keys / "rsa.pem", data=text)).decode()
        return message

    headers = {"x-amz-sns-message-type": "Notification", "Content-Type": "text/plain; charset=UTF-8"}
    world.event("ses", signed("SubscriptionConfirmation", Message="Confirm.", Token="t", SubscribeURL=world.sns.url + "/?Action=ConfirmSubscription"), headers)
    assert world.sns.requests("/?Action=ConfirmSubscription")
    event = json.dumps({"notificationType": "Bounce", "mail": {"messageId": "0102"}, "bounce": {
        "bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": IVAN, "diagnosticCode": "smtp; 550 5.1.1 no"}]}})
    world.event("ses", signed(Message=event), headers)
    assert [r["reason"] for r in world.suppressed()] == ["hard_bounce"]
    for bad, reason in ((signed(Message=event, TopicArn=TOPIC + "2"), "another topic"), ({**signed(Message=event), "MessageId": "m2"}, "signature"),
                        (signed(Message=event, Timestamp=iso(time.time() - 25 * 3600)), "time"), (signed(Message=event, Timestamp="now"), "time"),
                        (signed(Message=event, SigningCertURL="http://127.0.0.1:1/x.pem"), "certificate's address"),
                        (signed(Message=event, SigningCertURL=world.sns.url + "/upload/SimpleNotificationService-1.pem"), "certificate's address")):
        assert reason in world.refused("ses", bad, headers) and reason in world.put("ses", bad, headers)
    gone = signed(Message=event, SigningCertURL=world.sns.url + "/SimpleNotificationService-2.pem")
    world.sns.answer("/SimpleNotificationService-2.pem", 404, b"")
    world.refused("ses", gone, headers, "no_certificate", 503)
    assert world.http.headers["Retry-After"] == "5"


def test_without_a_key_nothing_is_believed(rig):
    """And nothing that is too long is read."""
    port = free_port()
    rig.start({"mail_events_queue": {"plugin": "mailevents"}}, http_listen=f"127.0.0.1:{port}")
    http = Described(port)
    http.describe()
    for service, headers in (("resend", svix("{}")), ("mailgun", {}), ("ses", {"x-amz-sns-message-type": "Notification"}),
                             ("sendgrid", {"X-Twilio-Email-Event-Webhook-Signature": "AAAA", "X-Twilio-Email-Event-Webhook-Timestamp": "1"})):
        status, answer = http.json(f"/api/mail/events/{service}", method="POST", headers=headers, body="{}")
        assert (status, answer["error"]["code"]) == (403, "no_key"), service
        status, answer = http.json(f"/api/mail/events/{service}", method="POST", headers=headers, body="x" * (256 * 1024 + 1))
        assert (status, answer["error"]["code"]) == (413, "too_large"), service
    assert rig.rows("q_mail_events_queue") == []


def test_a_flood_of_events_is_slowed_down(world):
    """One connection sends them all at once: however slow the machine is, they come faster than they may."""
    world.start()
    one = "POST /api/mail/events/mailgun HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_connection(("127.0.0.1", world.http.port), timeout=TIMEOUT) as s, s.makefile("rb") as answers:
        threading.Thread(target=s.sendall, args=((one * 1000 + "GET /livez HTTP/1.0\r\n\r\n").encode(),)).start()
        text = answers.read()
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", text)
    assert len(statuses) == 1001 and set(statuses) == {b"403", b"429", b"200"} and b"\r\nRetry-After: 1\r\n" in text
    assert world.stored() == 0


def test_nobody_else_may_put_events(world):
    world.start()
    for path, headers in (("events/pigeon", {}), ("events/resend", {}), ("events/ses", {})):
        assert world.http(f"/api/mail/{path}", method="POST", headers=headers, body="{}")[0] in (400, 404)
    assert world.rig.rows("q_mail_events_queue") == []


def bounce(world, mail, *argv):
    """What pgmqd bounce says, as a role that may do nothing else."""
    world.rig.db.execute("do $$ begin create role mta login in role pgmqd_mailer; exception when duplicate_object then null; end $$")
    return subprocess.run(command_line("bounce", "-d", make_conninfo(world.rig.conninfo, user="mta"), *argv), input=mail.encode(), stdout=subprocess.PIPE, env=clean_environment(),
                          check=True, timeout=60 * SLOW).stdout.decode().strip()


REPORT = """From: MAILER-DAEMON@example.test\r
To: {to}\r
Subject: Undelivered Mail Returned to Sender\r
Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r
\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.test\r
\r
Final-Recipient: rfc822; ivan@example.test\r
Action: {action}\r
Status: {status}\r
Diagnostic-Code: smtp; 550 {status} <ivan@example.test>:\r
 nobody here\r
\r
--b--\r
"""


def test_bounce_mail(world):
    world.start(bounce_address="bounce@example.test")
    assert world.mail() == ("done", 1)
    sender = world.smtp.mails[0].sender
    key, token = world.rig.db.execute("select dedupe_key, pgmqd.bounce_token(dedupe_key) from pgmqd.mail_log").fetchone()
    assert sender == f"bounce+{token}@example.test"
    seen = world.smtp.mails[0].bytes.decode().partition("Message-ID: <")[2].partition("@")[0]  # the recipient's server and its log have it
    for forged in (key[:32], seen[:32], token[:12] + "0" * 20):
        assert bounce(world, REPORT.format(to=f"bounce+{forged}@example.test", action="failed", status="5.1.1")) == "unknown"
    assert world.mail() == ("done", 1) and world.suppressed() == []
    tokens = world.rig.db.execute("select array_agg('bounce+' || pgmqd.bounce_token(dedupe_key) || '@example.test' order by first_at) from pgmqd.mail_log").fetchone()[0]
    assert [m.sender for m in world.smtp.mails] == tokens and len(set(tokens)) == 2
    assert "ignored" in bounce(world, REPORT.format(to="bounce@example.test", action="failed", status="5.1.1"))
    assert "ignored" in bounce(world, REPORT.format(to=sender, action="delayed", status="4.4.1"))
    assert bounce(world, REPORT.format(to="x@example.test", action="failed", status="5.2.2"), "-r", sender) == "soft_bounce"
    assert world.suppressed() == []
    assert bounce(world, REPORT.format(to=sender, action="failed", status="5.1.1")) == "hard_bounce"
    assert world.suppressed() == [{"reason": "hard_bounce", "source": "bounce", "for_ever": False}]
    assert "ivan" not in str(app.rows(world.rig.db, "select * from pgmqd.mail_events"))
    assert world.mail() == ("done", 0)
    assert bounce(world, REPORT.format(to="bounce+" + "0" * 32 + "@example.test", action="failed", status="5.1.1")) == "unknown"


COMPLAINT = """From: <fbl@example.test>\r
To: <abuse@clinic.test>\r
Subject: FW: your mail\r
Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r
\r
--b\r
Content-Type: text/plain\r
\r
This is an email abuse report.\r
--b\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: {kind}\r
User-Agent: SomeGenerator/1.0\r
Version: 1\r
Original-Mail-From: <{sender}>\r
Original-Rcpt-To: <ivan@example.test>\r
\r
--b\r
Content-Type: message/rfc822\r
\r
From: Clinic <clinic@example.test>\r
Subject: hello\r
\r
--b--\r
"""


@pytest.mark.parametrize("status", ["5.0.0", "5.1.8", "5.7.1", "5.2.1"])
def test_a_report_that_does_not_name_the_recipient(world, status):
    world.start(bounce_address="bounce@example.test")
    assert world.mail() == ("done", 1)
    assert bounce(world, REPORT.format(to=world.smtp.mails[0].sender, action="failed", status=status)) == "soft_bounce"
    assert world.suppressed() == []


def test_a_complaint_by_mail(world):
    """RFC 5965: only a person who complains is left alone."""
    world.start(bounce_address="bounce@example.test")
    assert world.mail() == ("done", 1)
    sender = world.smtp.mails[0].sender
    assert "ignored" in bounce(world, COMPLAINT.format(kind="not-spam", sender=sender))
    assert world.suppressed() == []
    assert bounce(world, COMPLAINT.format(kind="abuse", sender=sender)) == "complaint"
    assert world.suppressed() == [{"reason": "complaint", "source": "bounce", "for_ever": True}]


def test_one_click_unsubscription(world):
    """Of reminders only; a look at the link changes nothing."""
    world.start(unsubscribe_url="https://mail.example.test/api/mail/unsubscribe/")
    assert world.mail(**{"class": "reminder"}) == ("done", 1)
    head = world.smtp.mails[0].bytes.split(b"\r\n\r\n")[0].decode()
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in head
    token = head.partition("List-Unsubscribe: <https://mail.example.test/api/mail/unsubscribe/")[2].partition(">")[0]
    assert len(token) == 40 and token not in str(app.rows(world.rig.db, "select dedupe_key from pgmqd.mail_log"))
    assert world.mail() == ("done", 1) and b"List-Unsubscribe" not in world.smtp.mails[1].bytes
    status, kind, page = world.http(f"/api/mail/unsubscribe/{token}")
    assert status == 200 and kind.startswith("text/html") and "Отписаться" in page and world.suppressed() == []
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://mail.google.example.test"}
    for wrong in ("0" * 40, "x", token[:-1]):
        assert world.http(f"/api/mail/unsubscribe/{wrong}", method="POST", headers=form, body="List-Unsubscribe=One-Click")[0] == 404
    assert world.http(f"/api/mail/unsubscribe/{token}", method="POST", headers=form, body="List-Unsubscribe=One-Click")[0] == 200
    assert world.suppressed() == [{"reason": "unsubscribed", "source": "list-unsubscribe", "for_ever": True}]
    assert world.mail(**{"class": "reminder"}) == ("done", 0) and world.mail() == ("done", 1)
