"""What is in a mail that arrived, read back by Python's email package; and messages that must never become one."""

import base64
import email.header
import re
from email.utils import parsedate_to_datetime

import psycopg
import pytest

from lib import app
from lib.paths import SRCDIR
from lib.mailcatcher import MailCatcher
from lib.rig import MAIL_FROM, Rig, email_queue

IVAN = "ivan@example.test"


def lines(text):
    """As texts arrive: all line ends CRLF, the last one included."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    return text if text.endswith("\r\n") else text + "\r\n"


def exchange(rig, **message):
    """Sends one message to a started pgmqd and returns its mail."""
    message = {"to": IVAN, "subject": "Test", "text": "A line.\n", **message}
    number = len(rig.catcher.mails())
    rig.enqueue(message)
    mail = rig.catcher.wait_for(number + 1)[number]
    check_wire(mail.bytes)
    assert not mail.parsed.defects
    return mail


def check_wire(data):
    """What every server can take: ASCII, CRLF, short lines, each header once."""
    assert data.isascii() and b"\0" not in data
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", data)
    assert max(map(len, data.split(b"\r\n"))) <= 78
    names = [line.split(b":")[0].lower() for line in data.split(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] not in b" \t"]
    assert len(names) == len(set(names)), names
    assert b"bcc" not in names


def running(cluster, migrated, cert_dir, name):
    """A database, a mail catcher and a pgmqd that tests may share: what they send does not depend on what went before."""
    cluster.createdb(name, migrated)
    with MailCatcher(cert_dir=cert_dir) as catcher, Rig(cluster, name, catcher) as r:
        r.start()
        yield r
    cluster.dropdb(name)


@pytest.fixture(scope="module")
def started(cluster, migrated, cert_dir):
    yield from running(cluster, migrated, cert_dir, "e2e_content")


@pytest.fixture(scope="module")
def refusing(cluster, migrated, cert_dir):
    """One of its own for what must never be sent: nobody may even have connected to its mail server."""
    yield from running(cluster, migrated, cert_dir, "e2e_refused")


# ---- headers ----

def test_headers_of_every_mail(started):
    mail = exchange(started, template="report_ready", text=None, subject=None, variables=app.sample("report_ready"))
    parsed = mail.parsed
    assert parsed["From"].addresses[0].addr_spec == MAIL_FROM
    assert parsed["From"].addresses[0].display_name == "Клиника «Пример»"
    assert parsed["To"] == IVAN and mail.recipients == [IVAN] and mail.sender == MAIL_FROM
    assert re.fullmatch(r"<[0-9a-f]{32}@example\.test>", parsed["Message-ID"])
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed["X-Auto-Response-Suppress"] == "DR, RN, NRN, OOF, AutoReply"
    assert parsed["Content-Language"] == "ru"
    assert parsed["MIME-Version"] == "1.0"
    assert "Bcc" not in parsed and "Return-Path" not in parsed
    started.daemon.wait_settled(outcome="done")
    enqueued = started.rows("a_email_queue")[0]["enqueued_at"].replace(microsecond=0)
    assert parsedate_to_datetime(parsed["Date"]) == enqueued
    assert parsed["Date"].endswith("+0000")
    assert [part.get_content_type() for part in parsed.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert all(part.get_content_charset() == "utf-8" for part in parsed.iter_parts())
    assert parsed.get_body(("plain",))["Content-Transfer-Encoding"] == "base64"  # shorter for Russian


def test_language_of_the_message(started):
    english = dict(app.sample("report_ready", "en"), lang="en")
    both = [exchange(started, template="report_ready", text=None, subject=None, variables=english),
            exchange(started, template="report_ready", text=None, subject=None, variables=english, lang="ru_RU")]
    assert [mail.parsed["Content-Language"] for mail in both] == ["en", "ru"]


@pytest.mark.parametrize("subject", [
    "Отчёт готов", "Я" * 200, "ё" * 30 + "🦦" + "е\u0308" * 80, "a" * 1500, "=?utf-8?B?0L3QtdGC?=", "100 % <b> \"q\" \\ it's",
    "Ваша проверка завершена, результаты готовы: Иван Петрович Примеров, 5 мая 2026 г., 14:30",
    "This subject is plain ASCII and too long to stand on one line of a header, so it has to be folded in some way",
    "s" * (998 - len("Subject: ")), "s" * (999 - len("Subject: ")),  # the longest line there may be, and one more
], ids=range(10))
def test_subject_comes_back_as_it_went(started, subject):
    mail = exchange(started, subject=subject)
    assert mail.subject == subject
    assert all(len(word) <= 75 for word in re.findall(rb"=\?.*?\?=", mail.bytes))


@pytest.mark.parametrize("name", [
    "Иванов, \"Otter\" <x@y.test>", "Bob \"The Otter\" O'Brien, Jr.", "Иван", "a@b.test", "Ivan Petrov"])
def test_name_of_the_recipient(started, name):
    mail = exchange(started, to_name=name)
    assert mail.recipients == [IVAN]
    assert [(a.display_name, a.addr_spec) for a in mail.parsed["To"].addresses] == [(name, IVAN)]


def test_long_name_of_the_recipient(started):
    name = "Общество с ограниченной ответственностью «Маленькая Выдра и партнёры», отдел рассылок"
    mail = exchange(started, to_name=name)
    # Python's parser of addresses shows a gap between two encoded words; its older decoder does not
    raw = re.search(rb"^To: ([^\r]*(?:\r\n [^\r]*)*)", mail.bytes, re.M).group(1).decode().replace("\r\n", "")
    assert str(email.header.make_header(email.header.decode_header(raw))) == f"{name} <{IVAN}>"


def test_reply_to(rig):
    rig.start({"email_queue": email_queue(rig.catcher, reply_to="help@example.test")})
    assert exchange(rig).parsed["Reply-To"] == "help@example.test"
    assert exchange(rig, reply_to="doctor@example.test").parsed["Reply-To"] == "doctor@example.test"


def test_sender_with_a_name_in_it(rig):
    rig.start(env={"SMTP_FROM": "Маленькая Выдра <otter@example.test>"})
    sender = exchange(rig).parsed["From"].addresses[0]
    assert (sender.display_name, sender.addr_spec) == ("Маленькая Выдра", "otter@example.test")


def test_international_domain(started):
    mail = exchange(started, to="user@пример.рф")
    assert mail.recipients == ["user@xn--e1afmkfd.xn--p1ai"]
    assert mail.parsed["To"] == "user@xn--e1afmkfd.xn--p1ai"


# ---- texts ----

@pytest.mark.parametrize("text", [
    ".", ".\n", ".start\n.\n..\n...\nlast.\n.", "a\n.\nb\n\n.\n", "bare\rcr, \r\ncrlf, \nlf\r.\r\n.\n\r.\r",
    "From here\n>From there\n", "trailing  \n\ttabs\t\n", "=3D = =\n=?utf-8?B?0L3QtdGC?=\n", "x" * 4000,
    "Здравствуйте!\n.\nДо свидания", "\n\n",
    "--=_alt_0123\n--=_mix_0123--\n", "<!-- \u00a0 & 🦦 -->",
], ids=range(13))
def test_text_comes_back_as_it_went(started, text):
    mail = exchange(started, text=text)
    assert mail.parsed.get_content_type() == "text/plain"
    assert mail.parsed.get_payload(decode=True).decode("utf-8") == lines(text)
    both = exchange(started, text=text, html=text)
    assert [part.get_payload(decode=True).decode("utf-8") for part in both.parsed.iter_parts()] == [lines(text)] * 2


def test_html_alone(started):
    assert exchange(started, text=None, html="<p>Привет</p>").parsed.get_content_type() == "text/html"


def test_boundary_in_the_text(started):
    """A text that holds the boundary of its own first version arrives whole."""
    first = exchange(started, html="<p>Hi</p>", key="same")
    boundary = first.parsed.get_boundary()
    text = f"--{boundary}\r\nContent-Type: text/html\r\n\r\n<b>\r\n--{boundary}--\r\n"
    started.db.execute("delete from pgmqd.mail_log")  # else a second mail of that key is not sent
    second = exchange(started, text=text, html="<p>Hi</p>", key="same")
    kinds = [part.get_content_type() for part in second.parsed.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]
    assert second.body("plain").replace("\r\n", "\n") == text.replace("\r\n", "\n")
    assert second.parsed["Message-ID"] == first.parsed["Message-ID"]


def test_variables_cannot_break_out(started):
    name = "<script>alert(1)</script> {{report_url}} {{#x}}\r\n.\r\nBcc: x@y.test"
    nasty = dict(app.sample("report_ready"), customer_name=name)
    mail = exchange(started, template="report_ready", text=None, subject="Test", variables=nasty)
    assert "<script" not in mail.body("html")
    assert "{{report_url}}" in mail.body("plain") and "{{report_url}}" in mail.body("html")


def test_link_that_would_run_a_script(refusing):
    msg_id = refusing.send(IVAN, variables=dict(app.sample("report_ready"), report_url="javascript:alert(1)"))
    record = refusing.daemon.wait_settled(msg_id=msg_id)
    assert record["outcome"] == "fail" and "the value of report_url must start with https://" in record["reason"], record
    assert refusing.catcher.connections == 0


# ---- attachments ----

def test_attachments(started):
    pdf = bytes(range(256)) * 400
    files = [("Отчёт \"за\" май; 2026.pdf", "application/pdf", pdf), ("empty.bin", None, b""), ("text.txt", "text/plain", b"a\n.\nb\r"),
             ("я" * 80 + ".pdf", "application/pdf", b"%PDF")]
    mail = exchange(started, html="<p>Hi</p>", attachments=[
        {"filename": name, "content_type": kind, "content": base64.b64encode(data).decode()} for name, kind, data in files])
    assert mail.parsed.get_content_type() == "multipart/mixed"
    body, *parts = mail.parsed.iter_parts()
    assert body.get_content_type() == "multipart/alternative"
    assert [(p.get_filename(), p.get_content_type(), p.get_payload(decode=True)) for p in parts] == [
        (name, kind or "application/octet-stream", data) for name, kind, data in files]
    assert all(p.get_content_disposition() == "attachment" and not p.defects for p in parts)


@pytest.mark.parametrize("name, kept", [
    ("../../x.pdf", "x.pdf"), ("invoice\u202efdp.exe", "invoicefdp.exe"), ("Отчёт \"за\" май; 2026\\.pdf", "Отчёт \"за\" май; 2026_.pdf"),
    ("n" * 300 + ".pdf", "n" * 176 + ".pdf"), ("я" * 300 + ".pdf", "я" * 88 + ".pdf"),
    ("=?utf-8?B?x?=.pdf", "=?utf-8?B?x?=.pdf"), ("a =?utf-8?Q?=41?= " * 6 + ".pdf", "a =?utf-8?Q?=41?= " * 6 + ".pdf")], ids=range(7))
def test_file_names_are_cleaned(started, name, kept):
    part = list(exchange(started, attachments=[{"filename": name, "content": ""}]).parsed.iter_attachments())[0]
    assert part.get_filename() == kept and not part.defects


def test_ten_megabytes(started):
    data = bytes(range(256)) * 40 * 1024
    mail = exchange(started, attachments=[{"filename": "big.bin", "content": base64.b64encode(data).decode()}])
    assert next(mail.parsed.iter_attachments()).get_payload(decode=True) == data


# ---- the same again ----

def test_redelivery_is_the_same_to_the_byte(rig):
    bodies = rig.catcher.keep_bytes()
    rig.start({"email_queue": email_queue(rig.catcher, backoff_min="10ms", backoff_max="10ms")})
    nasty = [
        {"html": "<p>Привет</p>", "attachments": [{"filename": "Отчёт \"за\" май; 2026\\.pdf", "content": "AAAA"}, {"filename": "я" * 300, "content": ""}]},
        {"to_name": "Иванов, \"Otter\" <x@y.test>", "subject": "ё" * 30 + "🦦" + "е\u0308" * 80},
        {"text": "bare\rcr, \r\ncrlf, \nlf\r.\r\n.\n\r.\r", "html": ".start\n.\n..\n."},
        {"text": "From here \n\ttab \t\n=3D" + "x" * 4000, "subject": "s" * 990},
        {"to": "user@пример.рф", "html": "--=_alt_0123\n"},
        {"template": "report_ready", "text": None, "subject": None, "variables": dict(app.sample("report_ready"), customer_name="<script> {{#x}}")},
    ]
    for message in nasty:
        bodies.clear()
        rig.catcher.answer("DATA", "451 4.3.0 not now", times=1)
        exchange(rig, **message)
        assert len(bodies) == 2 and bodies[0] == bodies[1]


def test_message_ids_differ_between_messages(started):
    mails = [exchange(started), exchange(started), exchange(started, key="a"), exchange(started, key="b")]
    assert len({mail.parsed["Message-ID"] for mail in mails}) == 4


# ---- what must never be sent ----

@pytest.mark.parametrize("change, reason", [
    ({"to": "ivan@example.test>\r\nRCPT TO:<evil@example.test"}, "to: it has a line break"),
    ({"to": "ivan@example.test\r\nBcc: evil@example.test"}, "to: it has a line break"),
    ({"to": "ivan@example.test\n"}, "to: it has a line break"),
    ({"to": None}, "to: it is missing"),
    ({"to": ""}, "to: it is missing"),
    ({"to": [5]}, "to[0]: it must be a string"),
    ({"to": "ivan@example.test, evil@example.test"}, "to: it has a space"),
    ({"to": "ivan"}, "to: it has no @"),
    ({"to": "почта@пример.рф"}, "outside ASCII"),
    ({"to": "l" * 65 + "@example.test"}, "longer than 64"),
    ({"to": "a@[127.0.0.1]"}, "IP address"),
    ({"to": "\"a b\"@example.test"}, "to: it has a space"),
    ({"to": "\"a.b\"@example.test"}, "a character before the @ is not allowed"),
    ({"subject": "Привет\r\nBcc: evil@example.test"}, "subject: it has a line break"),
    ({"subject": None}, "subject: it is missing"),
    ({"to_name": "Ivan\r\nBcc: evil@example.test"}, "to_name: it has a line break"),
    ({"reply_to": "a@b.test\r\nBcc: evil@example.test"}, "reply_to: it has a line break"),
    ({"text": None}, "template: it is missing"),
    ({"template": "report_ready", "text": None, "variables": "x"}, "variables: it must be an object"),
    ({"lang": "../en"}, "lang: it must be a language tag"),
    ({"attachments": [{"filename": "x\r\nBcc: y", "content": ""}]}, "filename: it has a line break"),
    ({"attachments": [{"filename": "x", "content": "???"}]}, "not valid base64"),
    ({"attachments": [{"filename": "x", "content_type": "a/b\r\nBcc: y", "content": ""}]}, "content_type"),
], ids=range(23))
def test_refused_messages(refusing, change, reason):
    """A dead letter at once, with the reason and without the address; no server is asked."""
    msg_id = refusing.enqueue({"to": IVAN, "subject": "Test", "text": "A line.\n", **change})
    record = refusing.daemon.wait_settled(msg_id=msg_id)
    assert record["outcome"] == "fail" and reason in record["reason"], record
    assert "example.test" not in record["reason"] and "evil" not in record["reason"], record
    assert refusing.catcher.connections == 0
    assert dead_letters(refusing, msg_id) == 1 and refusing.rows("q_email_queue") == []


def dead_letters(rig, msg_id):
    """How many dead letters have come of a message."""
    return sum(row["headers"]["pgmqd_dead"]["msg_id"] == msg_id for row in rig.dead())


@pytest.mark.parametrize("text", [
    b'"a\\u0000b"', b'"\\ud83d"', b'"\\ud83d\\u0041"', b'"\xd0"', b'"\xc0\xaf"', b'"\xed\xa0\xbd"',
], ids=["NUL", "lone surrogate", "half a pair", "cut letter", "overlong", "encoded surrogate"])
def test_text_that_is_no_unicode(refusing, text):
    """The database does not let it in; what another way may bring in is refused by the plugin (its unit tests)."""
    with refusing.connect() as db:
        db.execute("set client_encoding = sql_ascii")
        with pytest.raises(psycopg.DataError):
            db.execute(b"select pgmq.send('email_queue', '{\"to\": \"ivan@example.test\", \"subject\": " + text + b", \"text\": \"x\"}'::jsonb)")
    assert refusing.rows("q_email_queue") == [] and refusing.catcher.connections == 0


@pytest.mark.parametrize("text", ["[]", "[1]", "\"text\"", "7", "null", "true"])
def test_message_that_is_no_object(refusing, text):
    msg_id = refusing.enqueue(text)
    record = refusing.daemon.wait_settled(msg_id=msg_id)
    assert record["outcome"] == "fail" and "must be a JSON object" in record["reason"], record
    assert dead_letters(refusing, msg_id) == 1


def test_mail_that_is_too_large(rig):
    rig.start({"email_queue": email_queue(rig.catcher, max_message_bytes="10kB")})
    msg_id = rig.enqueue({"to": IVAN, "subject": "Test", "text": "x" * 20000})
    assert "max_message_bytes is 10240" in rig.daemon.wait_settled(msg_id=msg_id, outcome="fail")["reason"]
    exchange(rig)


# ---- the log, the page ----

def test_line_of_a_sent_mail(started):
    mark = started.daemon.mark()
    mail = exchange(started, template="report_ready", text=None, subject=None, variables=app.sample("report_ready"))
    record = started.daemon.wait_log(lambda r: r.get("text", "").startswith("sent "), start=mark)
    assert record["level"] == "info" and record["plugin"] == "email" and record["msg_id"] > 0
    assert "template=report_ready" in record["text"] and mail.parsed["Message-ID"] in record["text"]
    assert "250 2.0.0" in record["text"] and IVAN not in record["text"]


def test_manual_page_has_every_option():
    page = (SRCDIR / "plugins/email/pgmqd-email.7").read_text(encoding="utf-8")
    source = (SRCDIR / "plugins/email/options.c").read_text(encoding="utf-8")
    rows = re.findall(r'\{\s*"(\w+)",\s*PGMQD_\w+,\s*(\d),\s*AT\(\w+\),\s*(NULL|"[^"]*"),\s*(?:"[^"]*"\s*)+,\s*(NULL|"\w+")', source)
    heads = dict(re.findall(r"^\.It Cm (\w+) Pq (.*)$", page, re.M))
    assert len(rows) == source.count("PGMQD_") - source.count("PGMQD_REGISTER") and set(heads) == {row[0] for row in rows}
    for name, required, default, env in rows:
        assert ("required" in heads[name]) == (required == "1"), name
        if default != "NULL":
            assert re.search(rf"default: Li {re.escape(default.strip(chr(34)))}( |$)", heads[name]), name
        assert re.findall(r"environment: Ev (\w+)", heads[name]) == ([] if env == "NULL" else [env.strip('"')]), name
