"""What a message asks for is in the mail, by SMTP and by each mail service, or the message is refused: recipients, senders, headers,
labels, attachments from elsewhere, images, invitations, keys that nobody knows."""

import base64
import email
import email.policy
import json

import pytest

from lib import app
from lib.httpstub import HttpStub
from lib.smtpstub import SmtpStub

IVAN, PETR, OLGA, ANNA = (f"{name}@example.test" for name in ("ivan", "petr", "olga", "anna"))
ICS = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
PNG = b"\x89PNG\r\n\x1a\n"
PATHS = {"resend": "/emails", "sendgrid": "/v3/mail/send", "mailgun": "/v3/mg.example.test/messages.mime", "ses": "/v2/email/outbound-emails"}
KEYS = {"RESEND_API_KEY": "re_123", "SENDGRID_API_KEY": "SG.x", "MAILGUN_API_KEY": "key-x", "MAILGUN_DOMAIN": "mg.example.test", "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalr", "SUPABASE_SERVICE_ROLE_KEY": "service-key"}


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


EVERYTHING = {
    "to": [f"Ivan <{IVAN}>", PETR], "cc": [f"Ольга <{OLGA}>"], "bcc": ANNA, "from": "News <news@news.example.test>", "reply_to": "Desk <desk@example.test>",
    "headers": {"X-Order": "7", "In-Reply-To": "<1@example.test>"}, "tags": ["welcome"], "metadata": {"order": "7"},
    "subject": "Test", "text": "A line.\n", "html": '<img src="cid:logo">',
    "attachments": [{"filename": "logo.png", "content": b64(PNG), "content_type": "image/png", "cid": "logo"},
                    {"content": b64(ICS), "content_type": "text/calendar; method=REQUEST"}],
}


@pytest.fixture
def world(rig):
    """pgmqd with a mail server, a stub that plays the mail services, and one that has files."""
    with SmtpStub() as smtp, HttpStub() as stub:
        class World:
            def start(self, provider="smtp", **options):
                queue = {"plugin": "email", "provider": provider, "smtp_tls": "none", "backoff_min": "10ms", "backoff_max": "10ms", "config_retry": "100ms",
                         "resend_url": stub.url, "sendgrid_url": stub.url, "mailgun_url": stub.url, "ses_url": stub.url, "supabase_url": stub.url,
                         "attachment_private": "yes", "attachment_buckets": "reports", "allow_from": "@news.example.test", **options}
                rig.start({"email_queue": queue}, {"EMAIL_PROVIDER": None, "SMTP_HOST": smtp.host, "SMTP_PORT": str(smtp.port), "SMTP_USER": None,
                                                   "SMTP_PASS": None, **KEYS})

            def send(self, outcome="done", **more):
                """Sends a mail; the record of how it was settled."""
                message = {"to": IVAN, "subject": "Test", "text": "A line.\n", **more}
                return rig.daemon.wait_settled(msg_id=rig.enqueue(message), outcome=outcome)

            def refused(self, **more):
                """Sends a message that is refused; the reason."""
                return self.send("fail", **more)["reason"]

            def suppressed(self):
                return app.rows(rig.db, "select recipient from pgmqd.suppression")

        made = World()
        made.rig, made.smtp, made.stub = rig, smtp, stub
        yield made


def parsed(data):
    mail = email.message_from_bytes(data, policy=email.policy.default)
    assert not mail.defects and data.isascii()
    return mail


def check_whole(data):
    """The mail as a mail server, Mailgun and Amazon get it."""
    mail = parsed(data)
    assert mail["To"] == f"Ivan <{IVAN}>, {PETR}" and mail["Cc"] == f"Ольга <{OLGA}>" and mail["Bcc"] is None and b"anna" not in data
    assert mail["From"] == "News <news@news.example.test>" and mail["Reply-To"] == "Desk <desk@example.test>"
    assert (mail["X-Order"], mail["In-Reply-To"]) == ("7", "<1@example.test>")
    tree = [(p.get_content_type(), p.get_content_disposition()) for p in mail.walk()]
    assert tree == [("multipart/alternative", None), ("text/plain", None), ("multipart/related", None), ("text/html", None), ("image/png", "inline"),
                    ("text/calendar", None)]
    calendar = list(mail.walk())[-1]
    assert calendar.get_param("method") == "REQUEST" and calendar.get_content() == ICS
    assert list(mail.walk())[4]["Content-ID"] == "<logo>"


def test_by_smtp(world):
    world.start()
    world.send(**EVERYTHING)
    (mail,) = world.smtp.mails
    assert mail.recipients == [IVAN, PETR, OLGA, ANNA] and mail.sender == "news@news.example.test"
    check_whole(mail.bytes)
    world.rig.daemon.wait_log("a mail server takes no labels")


@pytest.mark.parametrize("provider", sorted(PATHS))
def test_by_a_service(world, provider):
    answer = {"resend": (200, {"id": "1"}), "sendgrid": (202, b""), "mailgun": (200, {"id": "<1>"}), "ses": (200, {"MessageId": "1"})}[provider]
    world.stub.answer(PATHS[provider], *answer)
    world.start(provider)
    world.send(**EVERYTHING)
    (request,) = world.stub.requests(PATHS[provider])
    if provider == "mailgun":
        form = email.message_from_bytes(b"Content-Type: " + request.headers["Content-Type"].encode() + b"\r\n\r\n" + request.body, policy=email.policy.HTTP)
        fields = [(p.get_param("name", header="Content-Disposition"), p.get_payload()) for p in form.iter_parts()]
        assert [v for n, v in fields if n == "to"] == [IVAN, PETR, OLGA, ANNA] and ("o:tag", "welcome") in fields and ("v:order", "7") in fields
        start = request.body.index(b"message/rfc822\r\n\r\n") + len(b"message/rfc822\r\n\r\n")
        check_whole(request.body[start:request.body.rindex(b"\r\n--")])
        return
    body = json.loads(request.body)
    if provider == "ses":
        assert body["Destination"] == {"ToAddresses": [IVAN, PETR], "CcAddresses": [OLGA], "BccAddresses": [ANNA]}
        assert body["EmailTags"][1:] == [{"Name": "welcome", "Value": "true"}, {"Name": "order", "Value": "7"}]
        check_whole(base64.b64decode(body["Content"]["Raw"]["Data"]))
    elif provider == "resend":
        assert (body["to"], body["cc"], body["bcc"]) == ([f"Ivan <{IVAN}>", PETR], [f"Ольга <{OLGA}>"], [ANNA])
        assert (body["from"], body["reply_to"]) == ("News <news@news.example.test>", "Desk <desk@example.test>")
        assert body["tags"] == [{"name": "welcome", "value": "true"}, {"name": "order", "value": "7"}]
        assert body["headers"]["X-Order"] == "7" and body["headers"]["In-Reply-To"] == "<1@example.test>"
        assert [(a["content_type"], a.get("content_id")) for a in body["attachments"]] == [
            ("image/png", "logo"), ("text/calendar; method=REQUEST; charset=utf-8", None)]
    else:
        (one,) = body["personalizations"]
        assert (one["to"], one["cc"], one["bcc"]) == ([{"email": IVAN, "name": "Ivan"}, {"email": PETR}], [{"email": OLGA, "name": "Ольга"}], [{"email": ANNA}])
        assert body["from"] == {"email": "news@news.example.test", "name": "News"} and body["reply_to"] == {"email": "desk@example.test", "name": "Desk"}
        assert body["categories"] == ["welcome"] and one["custom_args"]["order"] == "7" and body["headers"]["X-Order"] == "7"
        assert [(a["type"], a["disposition"], a.get("content_id")) for a in body["attachments"]] == [
            ("image/png", "inline", "logo"), ("text/calendar; method=REQUEST; charset=utf-8", "attachment", None)]


@pytest.mark.parametrize("message, reason", [
    ({"from": "boss@example.test"}, "from: this sender is not among allow_from"),
    ({"from": "x@evil-news.example.test"}, "from: this sender is not among allow_from"),
    ({"to": f"{IVAN}, {PETR}"}, "to: it has a space"),
    ({"cc": [f"x\r\nBcc: {PETR}"]}, "cc[0]: it has a line break"),
    ({"headers": {"X-A": f"1\r\nBcc: {PETR}"}}, "headers.X-A: it has a line break"),
    ({"headers": {"Return-Path": "x"}}, "headers.Return-Path: it is none that a message may set"),
    ({"replyTo": PETR}, "replyTo: there is no such key; write reply_to"),
    ({"attachments": [{"path": "private/a.pdf"}]}, "attachments[0]: path: its bucket is not among attachment_buckets"),
])
def test_what_is_refused(world, message, reason):
    world.start()
    assert reason in world.refused(**message)
    assert world.smtp.mails == []


def test_a_key_that_nobody_knows_is_told_of_once(world):
    world.start()
    for _ in range(3):
        world.send(user_id=7, attachments=[{"filename": "a", "content": "", "size": 0}])
    told = [r["text"] for r in world.rig.daemon.records() if "key that is not known" in r["text"]]
    assert [t.rsplit(": ", 1)[1] for t in told] == ["user_id", "attachments.size"]


def test_it_is_told_of_once_for_all_processes(world):
    world.start(processes=3, max_in_flight=1)
    ids = [world.rig.enqueue({"to": IVAN, "subject": "Test", "text": "A line.\n", "user_id": n}) for n in range(30)]
    for msg_id in ids:
        world.rig.daemon.wait_settled(msg_id=msg_id, outcome="done")
    told = [r for r in world.rig.daemon.records() if "key that is not known" in r["text"]]
    assert len(told) == 1 and told[0]["text"].endswith(": user_id")


def test_one_of_several_recipients_is_refused(world):
    """The others get it, once; the one that nobody has gets no more; a suppressed one is left out."""
    world.smtp.on("RCPT", "550 5.1.1 nobody here", match=PETR).on("RCPT", "550 5.7.1 not you", match=OLGA)
    world.start()
    record = world.send(to=[IVAN, PETR], cc=OLGA)
    assert world.smtp.mails[0].recipients == [IVAN] and "attempt" in record
    hashed = [r["x"] for r in app.rows(world.rig.db, f"select pgmqd.mail_recipient('{PETR}') x")]
    assert [r["recipient"] for r in world.suppressed()] == hashed
    (row,) = app.rows(world.rig.db, "select state, reply from pgmqd.mail_log")
    assert row["state"] == "sent" and "taken for 1 of 3 recipients" in row["reply"] and "@" not in row["reply"]
    world.send(to=[PETR, IVAN], key="again")
    assert world.smtp.mails[1].recipients == [IVAN] and PETR.encode() not in world.smtp.mails[1].bytes
    world.send(to=PETR, cc=IVAN)
    assert len(world.smtp.mails) == 2, "nobody of `to` is left"


def test_a_recipient_that_is_greylisted_holds_the_mail_up_for_all(world):
    world.smtp.on("RCPT", "450 4.7.1 greylisted", match=PETR, times=2)
    world.start()
    world.send(to=[IVAN, PETR])
    assert [m.recipients for m in world.smtp.mails] == [[IVAN, PETR]], "each got it once"


def test_late_it_goes_to_those_who_take_it(world):
    """When half of its time is over, the one that is refused for now is left out."""
    world.smtp.on("RCPT", "450 4.7.1 greylisted", match=PETR)
    world.start(ttl="4s", backoff_max="500ms")
    world.send(to=[IVAN, PETR])
    assert [m.recipients for m in world.smtp.mails] == [[IVAN]]


def test_attachments_from_elsewhere(world):
    world.stub.answer("/files/a%20b.pdf?token=s3cret", 503, {}, {"Retry-After": "0"})
    world.stub.answer("/files/a%20b.pdf?token=s3cret", 200, b"%PDF-1", {"Content-Type": "application/pdf"})
    world.stub.answer("/storage/v1/object/authenticated/reports/r/1.pdf", 200, b"%PDF-2", {"Content-Type": "application/pdf"})
    world.start()
    world.send(attachments=[{"url": f"{world.stub.url}/files/a%20b.pdf?token=s3cret"}, {"path": "reports/r/1.pdf", "filename": "report.pdf"}])
    (mail,) = world.smtp.mails
    assert [(a.get_filename(), a.get_content_type(), a.get_content()) for a in parsed(mail.bytes).iter_attachments()] == [
        ("a b.pdf", "application/pdf", b"%PDF-1"), ("report.pdf", "application/pdf", b"%PDF-2")]
    (request,) = world.stub.requests("/storage/v1/object/authenticated/reports/r/1.pdf")
    assert request.headers["Authorization"] == "Bearer service-key"
    assert "service-key" not in str(world.stub.requests("/files/a%20b.pdf?token=s3cret")[0].headers) and "s3cret" not in world.rig.daemon.tail()


@pytest.mark.parametrize("answer, reason", [
    ((404, b""), "url was answered with status 404"),
    ((302, b"", {"Location": "http://127.0.0.1:1/"}), "status 302 (redirects are not followed)"),
    ((200, b"x" * 200000), "larger than max_message_bytes allows"),
])
def test_attachments_that_cannot_be_had(world, answer, reason):
    world.stub.answer("/f", *answer)
    world.start(max_message_bytes="100kB")
    assert reason in world.refused(attachments=[{"url": f"{world.stub.url}/f"}])


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}/f", "https://[::ffff:127.0.0.1]:{port}/f", "https://localhost:{port}/f", "http://example.test/f",
                                 "https://u:p@example.test/f", "file:///etc/passwd", "https://169.254.169.254/latest"])
def test_attachments_are_guarded(world, url):
    world.start(attachment_private="no")
    reason = world.refused(attachments=[{"url": url.format(port=1), "filename": "f"}])
    assert "not on the public Internet" in reason or "url: it" in reason
    assert world.smtp.mails == []


def test_a_cap_counts_each_recipient(world):
    world.start(limits="recipient 1/d")
    world.send(to=[IVAN, PETR])
    world.send("release", to=OLGA, cc=PETR)
    assert len(world.smtp.mails) == 1


def test_reminders_have_a_link_to_unsubscribe(world):
    world.start(unsubscribe_url="https://app.clinic.test/u/")
    world.send(template="appointment_reminder", subject=None, text=None, variables=app.sample("appointment_reminder"))
    mail = parsed(world.smtp.mails[0].bytes)
    link = mail["List-Unsubscribe"].strip("<>")
    assert link.startswith("https://app.clinic.test/u/")
    assert link in mail.get_body(("plain",)).get_content() and f'href="{link}"' in mail.get_body(("html",)).get_content()
