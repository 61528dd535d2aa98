"""Mail services over HTTP: each request byte by byte, each documented answer and what becomes of the message and of the ledger."""

import base64
import email
import email.policy
import hashlib
import hmac
import json
import re
import time
import urllib.request

import pytest

from lib import app
from lib.daemon import conf, run
from lib.httpstub import HttpStub
from lib.paths import TIMEOUT
from lib.pgcluster import free_port
from lib.stand import wait_until

IVAN = "ivan@example.test"
FROM = "noreply@example.test"
PDF = base64.b64encode(b"%PDF-1.4\r\n\x00\xff").decode()
MESSAGE = {"to": IVAN, "to_name": "Иванов, \"Otter\"", "subject": "Отчёт", "text": "Строка\n.точка\n", "html": "<p>Строка</p>",
           "reply_to": "doctor@example.test", "attachments": [{"filename": "отчёт.pdf", "content": PDF, "content_type": "application/pdf"}]}

PATHS = {"resend": "/emails", "sendgrid": "/v3/mail/send", "mailgun": "/v3/mg.example.test/messages.mime", "ses": "/v2/email/outbound-emails"}
SUCCESS = {
    "resend": (200, {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}, {}),
    "sendgrid": (202, b"", {"X-Message-Id": "14c5d75ce93.dfd.64b469"}),
    "mailgun": (200, {"id": "<20260528.1.ABC@mg.example.test>", "message": "Queued. Thank you."}, {}),
    "ses": (200, {"MessageId": "0102018f-1234-5678"}, {}),
}
IDS = {"resend": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794", "sendgrid": "14c5d75ce93.dfd.64b469", "mailgun": "20260528.1.ABC@mg.example.test",
       "ses": "0102018f-1234-5678"}
NAMES = sorted(PATHS)
SECRET, KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AKIDEXAMPLE"


def error(provider, status, name="", message="No.", headers=None):
    """An answer as that provider documents its errors."""
    body = {"resend": {"statusCode": status, "name": name, "message": message}, "sendgrid": {"errors": [{"message": message, "field": name or None}]},
            "mailgun": {"message": message}, "ses": {"message": message}}[provider]
    more = {"x-amzn-ErrorType": f"{name}:http://internal.example.test/"} if provider == "ses" else {}
    return status, body, {**more, **(headers or {})}


@pytest.fixture
def stub():
    with HttpStub() as s:
        yield s


@pytest.fixture
def service(rig, stub):
    """Functions round a stub that plays all four: start(provider), answer(provider, ...), send(), log()."""
    class Service:
        def start(self, provider, settings=None, env=None, queues=None, **options):
            queue = {"plugin": "email", "provider": provider, "backoff_min": "10ms", "backoff_max": "10ms", "config_retry": "100ms", "http_timeout": "10s",
                     "resend_url": stub.url, "sendgrid_url": stub.url + "/", "mailgun_url": stub.url, "ses_url": stub.url, **options}
            rig.start({"email_queue": queue, **(queues or {})},
                      {"EMAIL_PROVIDER": None, "SMTP_HOST": None, "SMTP_PORT": None, "SMTP_USER": None, "SMTP_PASS": None, "RESEND_API_KEY": "re_123",
                       "SENDGRID_API_KEY": "SG.x", "MAILGUN_API_KEY": "key-x", "MAILGUN_DOMAIN": "mg.example.test", "AWS_REGION": "eu-west-1",
                       "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, **(env or {})}, **(settings or {}))
            return rig.daemon

        def answer(self, provider, status=None, body=None, headers=None, **more):
            if status is None and not more:
                status, body, headers = SUCCESS[provider]
            stub.answer(PATHS[provider], status, body, headers, **more)

        def send(self, **more):
            return rig.enqueue({"to": IVAN, "subject": "Test", "text": "A line.\n", **more})

        def log(self):
            return app.rows(rig.db, "select * from pgmqd.mail_log order by first_at")

    made = Service()
    made.rig, made.stub = rig, stub
    return made


# ---- requests ----

def request_of(service, provider, **options):
    """The one request for MESSAGE, the ledger's row, and the mail as SMTP would send it where the provider wants it whole."""
    service.answer(provider)
    daemon = service.start(provider, **options)
    daemon.wait_settled(msg_id=service.rig.enqueue(MESSAGE), outcome="done")
    (request,) = service.stub.requests(PATHS[provider])
    (row,) = service.log()
    assert (row["state"], row["provider"], row["provider_id"]) == ("sent", provider, IDS[provider])
    assert request.method == "POST" and request.headers["User-Agent"].startswith("pgmqd/")
    return request, row


def check_mail(data, row):
    """The whole mail, for the two that want it so."""
    assert data.isascii() and not re.search(rb"(?<!\r)\n|\r(?!\n)", data)
    mail = email.message_from_bytes(data, policy=email.policy.default)
    assert not mail.defects and mail["Message-ID"] == f"<{row['message_id']}>" and mail["Subject"] == "Отчёт"
    assert mail.get_body(("plain",)).get_content() == "Строка\r\n.точка\r\n"
    (attachment,) = mail.iter_attachments()
    assert attachment.get_filename() == "отчёт.pdf" and attachment.get_content() == base64.b64decode(PDF)


def test_request_of_resend(service):
    request, row = request_of(service, "resend")
    assert request.headers["Authorization"] == "Bearer re_123" and request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == row["dedupe_key"]
    want = {"from": "Клиника «Пример» <noreply@example.test>", "to": ['"Иванов, \\"Otter\\"" <ivan@example.test>'], "subject": "Отчёт",
            "html": "<p>Строка</p>", "text": "Строка\n.точка\n", "reply_to": "doctor@example.test",
            "headers": {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply", "X-Entity-Ref-ID": row["message_id"]},
            "attachments": [{"filename": "отчёт.pdf", "content": PDF, "content_type": "application/pdf"}]}
    assert request.body.decode() == json.dumps(want, ensure_ascii=False, separators=(",", ":"))


def test_request_of_sendgrid(service):
    request, row = request_of(service, "sendgrid")
    assert request.headers["Authorization"] == "Bearer SG.x"
    want = {"personalizations": [{"to": [{"email": IVAN, "name": "Иванов, \"Otter\""}], "custom_args": {"pgmqd_key": row["dedupe_key"]}}],
            "from": {"email": FROM, "name": "Клиника «Пример»"}, "reply_to": {"email": "doctor@example.test"}, "subject": "Отчёт",
            "content": [{"type": "text/plain", "value": "Строка\n.точка\n"}, {"type": "text/html", "value": "<p>Строка</p>"}],
            "attachments": [{"content": PDF, "type": "application/pdf", "filename": "отчёт.pdf", "disposition": "attachment"}],
            "headers": {"Message-ID": f"<{row['message_id']}>", "Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply"}}
    assert request.body.decode() == json.dumps(want, ensure_ascii=False, separators=(",", ":"))


def test_request_of_mailgun(service):
    request, row = request_of(service, "mailgun")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"api:key-x").decode()
    form = email.message_from_bytes(b"Content-Type: " + request.headers["Content-Type"].encode() + b"\r\n\r\n" + request.body, policy=email.policy.HTTP)
    boundary = form.get_boundary()
    head = (f'--{boundary}\r\nContent-Disposition: form-data; name="to"\r\n\r\n{IVAN}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="v:pgmqd_key"\r\n\r\n{row["dedupe_key"]}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="message.mime"\r\nContent-Type: message/rfc822\r\n\r\n').encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    assert request.body.startswith(head) and request.body.endswith(tail) and request.body.count(boundary.encode()) == 4
    check_mail(request.body[len(head):-len(tail)], row)


def signature(request, secret, service="ses"):
    """AWS Signature Version 4 of a request, computed anew from what arrived; returns (credential scope, signature)."""
    signed = re.search(r"SignedHeaders=([^,]+)", request.headers["Authorization"])[1]
    lower = {k.lower(): v for k, v in request.headers.items()}
    scope = re.search(r"Credential=[^/]+/([^,]+)", request.headers["Authorization"])[1]
    canonical = "\n".join([request.method, request.path, "", *(f"{n}:{lower[n].strip()}" for n in signed.split(";")), "", signed,
                           hashlib.sha256(request.body).hexdigest()])
    text = "\n".join(["AWS4-HMAC-SHA256", lower["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return scope, hmac.new(key, text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEXAMPLE"])
def test_request_of_ses(service, token):
    request, row = request_of(service, "ses", env={"AWS_SESSION_TOKEN": token} if token else {}, ses_configuration_set="events")
    body = json.loads(request.body)
    data = body["Content"]["Raw"]["Data"]
    want = {"FromEmailAddress": FROM, "Destination": {"ToAddresses": [IVAN]}, "Content": {"Raw": {"Data": data}},
            "EmailTags": [{"Name": "pgmqd_key", "Value": row["dedupe_key"]}], "ConfigurationSetName": "events"}
    assert request.body.decode() == json.dumps(want, separators=(",", ":"))
    check_mail(base64.b64decode(data, validate=True), row)
    scope, good = signature(request, SECRET)
    assert re.fullmatch(r"\d{8}/eu-west-1/ses/aws4_request", scope)
    assert f"Credential={KEY}/{scope}" in request.headers["Authorization"]
    assert request.headers["Authorization"].endswith(f"Signature={good}")
    assert request.headers.get("X-Amz-Security-Token") == token and (token is None or "x-amz-security-token" in request.headers["Authorization"])


# ---- answers ----

# provider: [(answer, outcome, part of the reason)]; after each that is no failure for good comes a success, and no attempt
# has been counted.
ANSWERS = {
    "resend": [
        (error("resend", 422, "validation_error", f"Invalid to: {IVAN}"), "fail", "resend answered 422 validation_error: Invalid to: [address]"),
        (error("resend", 429, "rate_limit_exceeded", headers={"Retry-After": "0"}), "release", "429 rate_limit_exceeded"),
        (error("resend", 409, "concurrent_idempotent_requests"), "release", "409 concurrent"),
        (error("resend", 401, "restricted_api_key"), "config", "401 restricted_api_key"),
        (error("resend", 403, "validation_error", "The domain is not verified."), "config", "not verified"),
        (error("resend", 500, "application_error"), "release", "500"),
        (error("resend", 409, "invalid_idempotent_request"), "fail", "409 invalid_idempotent_request: No.; held"),
    ],
    "sendgrid": [
        (error("sendgrid", 400, "subject", "The subject is required."), "fail", "The subject is required"),
        (error("sendgrid", 400, "from.email", "Not a sender."), "config", "Not a sender"),
        (error("sendgrid", 429, message="too many requests"), "release", "429"),
        (error("sendgrid", 401, message="The provided authorization grant is invalid"), "config", "grant is invalid"),
        (error("sendgrid", 403, message="no"), "config", "403"),
        (error("sendgrid", 413, message="too large"), "fail", "413"),
        (error("sendgrid", 503), "release", "503"),
    ],
    "mailgun": [
        (error("mailgun", 400, message="to parameter is not a valid address"), "fail", "not a valid address"),
        ((401, b"Forbidden", {}), "config", "mailgun answered 401 Forbidden"),
        (error("mailgun", 404, message="Domain not found: mg.example.test"), "release", "404"),
        (error("mailgun", 429, message="slow down"), "release", "429"),
        (error("mailgun", 402, message="pay"), "config", "402"),
        (error("mailgun", 500), "release", "500"),
    ],
    "ses": [
        (error("ses", 400, "BadRequestException", "Missing final '@domain'"), "fail", "BadRequestException: Missing"),
        (error("ses", 400, "MessageRejected", "Email address is not verified."), "config", "MessageRejected"),
        (error("ses", 400, "MessageRejected", "A virus."), "fail", "MessageRejected"),
        (error("ses", 429, "TooManyRequestsException", "Maximum sending rate exceeded."), "release", "TooManyRequestsException"),
        (error("ses", 400, "LimitExceededException", "Later."), "release", "LimitExceeded"),
        (error("ses", 400, "SendingPausedException", "Paused."), "config", "SendingPaused"),
        (error("ses", 400, "MailFromDomainNotVerifiedException", "No."), "config", "MailFromDomainNotVerified"),
        (error("ses", 403, "AccessDeniedException", "No."), "config", "AccessDenied"),
        (error("ses", 500, "InternalServiceErrorException", "Oh."), "release", "500"),
    ],
}


@pytest.mark.parametrize("provider", NAMES)
def test_every_answer(service, provider):
    # what is too fast halves the rate: from 1000/s on nothing has to wait for it
    daemon = service.start(provider, max_in_flight=1, circuit_open="50ms", limits=f"{provider} 1000/s")
    for answer, outcome, reason in ANSWERS[provider]:
        service.stub.reset()
        service.answer(provider, *answer)
        service.answer(provider)
        mark = daemon.mark()
        msg_id = service.send()
        record = daemon.wait_settled(msg_id=msg_id, start=mark)
        text = record["reason"] if outcome != "config" else daemon.wait_log("queue paused", start=mark)["text"]
        assert record["outcome"] == outcome and reason in text and "ivan" not in text, (record, text)
        if outcome != "fail":
            assert daemon.wait_settled(msg_id=msg_id, outcome="done", start=mark)["attempt"] == 1
            keys = [r.headers.get("Idempotency-Key") for r in service.stub.requests()]
            assert len(keys) == 2 and keys[0] == keys[1]
    states = [row["state"] for row in service.log()]
    assert states.count("sent") == sum(o != "fail" for _, o, _ in ANSWERS[provider]) and states.count("unknown") == (provider == "resend")


@pytest.mark.parametrize("provider, answer, reason", [
    ("resend", error("resend", 429, "daily_quota_exceeded"), "daily_quota_exceeded"),
    ("ses", error("ses", 429, "TooManyRequestsException", "Daily message quota exceeded."), "Daily"),
    ("sendgrid", error("sendgrid", 401, message="Maximum credits exceeded"), "credits"),
    ("mailgun", error("mailgun", 403, message="Domain mg.example.test is not allowed to send: recipient limit exceeded, try again later"), "limit"),
    ("mailgun", error("mailgun", 400, message="The daily limit of messages is reached"), "daily")])
def test_quota_makes_the_queue_wait(service, provider, answer, reason):
    """No attempt, no dead letter, and nobody else's mail is tried on a quota that is used up."""
    daemon = service.start(provider, max_in_flight=1, max_attempts=1, group="g", queues={"analytics_queue": {"plugin": "null", "group": "g"}})
    service.answer(provider, *answer)
    service.answer(provider)
    ids = [service.send()]
    record = daemon.wait_settled(msg_id=ids[0])
    assert record["outcome"] == "release" and reason in record["reason"] and "ivan" not in record["reason"]
    text = daemon.wait_log("queue waits, no attempt is counted")["text"]
    assert reason in text and "trying again in 3600 s" in text
    ids.append(service.send())
    later = service.rig.enqueue({}, "analytics_queue")  # its worker is the same process, which has heard of the mail before
    daemon.wait_settled(queue="analytics_queue", msg_id=later)
    assert len(service.stub.requests()) == 1 and service.rig.dead() == []
    assert sorted(r["msg_id"] for r in service.rig.rows("q_email_queue")) == ids


def test_retry_after(service):
    """Longer than the backoff, and no longer than it says."""
    daemon = service.start("resend")
    service.answer("resend", *error("resend", 429, "rate_limit_exceeded", headers={"Retry-After": "300"}))
    msg_id = service.send()
    daemon.wait_settled(msg_id=msg_id, outcome="release")
    assert 200 < service.rig.db.execute("select extract(epoch from vt - now()) from pgmq.q_email_queue where msg_id = %s", [msg_id]).fetchone()[0] <= 300


@pytest.mark.parametrize("how", ["hang", "cut"])
@pytest.mark.parametrize("policy", ["resend", "hold"])
@pytest.mark.parametrize("provider", ["resend", "sendgrid"])
def test_no_answer_to_a_whole_request(service, provider, policy, how):
    """It may have been taken: given again to a provider that knows the key, else as the policy says."""
    daemon = service.start(provider, on_unknown=policy, http_timeout="300ms" if how == "hang" else "10s")
    service.answer(provider, **{how: True})
    service.answer(provider)
    msg_id = service.send()
    if policy == "hold" and provider != "resend":
        daemon.wait_settled(msg_id=msg_id, outcome="fail")
        assert service.rig.dead()[0]["headers"]["pgmqd_dead"]["class"] == "unknown"
        assert [row["state"] for row in service.log()] == ["unknown"]
        assert len(service.stub.requests()) == 1
        return
    daemon.wait_settled(msg_id=msg_id, outcome="done")
    assert daemon.wait_log("may have been sent before: sending it again")
    first, second = service.stub.requests()
    assert first.body == second.body and first.headers.get("Idempotency-Key") == second.headers.get("Idempotency-Key")
    assert [row["state"] for row in service.log()] == ["sent"]


def test_nobody_there(service):
    """No connection is not unknown: nothing was handed over. The queue waits, and no attempt counts."""
    daemon = service.start("mailgun", on_unknown="hold", max_attempts=1, circuit_open="300ms", mailgun_url="http://127.0.0.1:1")
    msg_id, mark = service.send(), 0
    for _ in range(3):
        assert "mailgun away since" in daemon.wait_log("queue waits, no attempt is counted", start=mark)["text"]
        record, mark = daemon.wait_settled(msg_id=msg_id, start=mark), daemon.mark()
        assert (record["outcome"], record["attempt"]) == ("release", 1)
    wait_until("not handed over", lambda: [row["state"] for row in service.log()] == ["failed"])
    assert service.rig.dead() == []


# ---- several providers ----

def test_failover_and_way_back(service):
    """A wrong key opens the circuit; the next provider takes over; one mail tries the first one again."""
    service.answer("resend", *error("resend", 401, "invalid_api_key"))
    service.answer("resend")
    service.answer("ses")
    port = free_port()
    daemon = service.start("resend, ses", circuit_open="1s", max_in_flight=1, settings={"http_listen": f"127.0.0.1:{port}"})
    daemon.wait_settled(msg_id=service.send(), outcome="done")
    daemon.wait_log("going on with ses")
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT).read().decode()
    for line in ['email_provider_circuit{queue="email_queue",plugin="email",provider="resend"} 1',
                 'email_provider_circuit{queue="email_queue",plugin="email",provider="ses"} 0',
                 'email_sent_total{queue="email_queue",plugin="email",provider="ses"} 1',
                 'email_refused_total{queue="email_queue",plugin="email",provider="resend"} 1']:
        assert f"pgmqd_{line}\n" in metrics
    assert metrics.count("# TYPE pgmqd_email_sent_total counter") == 1
    status = run("status", "-c", daemon.conf_path).stdout
    assert "email_provider_circuit of provider resend: 1\n" in status and "provider ses" not in status
    daemon.wait_log("provider resend: circuit open: resend answered 401 invalid_api_key")
    (row,) = service.log()
    assert (row["state"], row["provider"], row["provider_id"]) == ("sent", "ses", IDS["ses"])
    while not any(r.get("text", "").endswith("circuit half open") for r in daemon.records()):
        daemon.wait_settled(msg_id=service.send(), outcome="done")
    daemon.wait_log("provider resend: circuit closed")
    assert service.log()[-1]["provider"] == "resend"


def test_connections_that_fail_open_the_circuit(service):
    service.answer("ses")
    daemon = service.start("mailgun ses", max_in_flight=1, mailgun_url="http://127.0.0.1:1")
    daemon.wait_settled(msg_id=service.send(), outcome="done")
    opened = daemon.wait_log("provider mailgun: circuit open")
    assert sum(r.get("outcome") == "release" for r in daemon.records()) <= 1 and opened
    daemon.wait_settled(msg_id=service.send(), outcome="done")
    assert [row["provider"] for row in service.log()] == ["ses", "ses"]


def test_no_failover_of_what_may_have_been_sent(service):
    """The first provider may have it: its circuit opens meanwhile, and still nobody else gets it."""
    service.answer("resend", cut=True)
    service.answer("resend", *error("resend", 401, "invalid_api_key"))
    service.answer("ses")
    daemon = service.start("resend, ses", max_in_flight=1)
    msg_id = service.send()
    daemon.wait_settled(msg_id=msg_id, outcome="release")
    daemon.wait_log("provider resend: circuit open")
    other = service.send()
    daemon.wait_settled(msg_id=other, outcome="done")
    assert [(row["msg_id"], row["provider"]) for row in service.log()] == [(msg_id, "resend"), (other, "ses")]
    assert len(service.stub.requests(PATHS["ses"])) == 1


def test_all_providers_refuse(service):
    """Then the queue pauses, as with one."""
    service.answer("resend", *error("resend", 401, "invalid_api_key"))
    service.answer("sendgrid", *error("sendgrid", 403))
    service.answer("sendgrid")
    daemon = service.start("resend, sendgrid", circuit_open="100ms")
    msg_id = service.send()
    daemon.wait_settled(msg_id=msg_id, outcome="config")
    daemon.wait_log("queue paused, no attempt is counted: sendgrid answered 403")
    daemon.wait_settled(msg_id=msg_id, outcome="done")


def test_settings_are_checked(tmp_path):
    path = tmp_path / "pgmqd.conf"
    path.write_text(conf("host=/nowhere", {"email_queue": {"plugin": "email", "from": FROM, "provider": "resend, ses"}}))
    path.chmod(0o600)
    done = run("run", "--check", "-c", path, env={"RESEND_API_KEY": "re_1"})
    assert done.returncode != 0 and "ses_region (AWS_REGION)" in done.stdout + done.stderr


# ---- pgmqd doctor ----

@pytest.mark.parametrize("provider, path, answers", [
    ("resend", "/domains", [((200, {"data": []}), "OK", "resend takes the key"), ((401, {"name": "restricted_api_key"}), "OK", "which may only send"),
                            ((400, {"name": "validation_error"}), "FAIL", "does not take the key")]),
    ("sendgrid", "/v3/scopes", [((200, {"scopes": ["mail.send"]}), "OK", "sendgrid takes the key"), ((401, {}), "FAIL", "does not take the key"),
                                ((503, {}), "WARN", "answered 503")]),
    ("mailgun", "/v3/domains/mg.example.test", [((200, {}), "OK", "mailgun takes the key"), ((404, {}), "FAIL", "does not know")]),
    ("ses", "/v2/email/account", [((200, {"SendingEnabled": True}), "OK", "ses takes the key"), ((403, {}), "WARN", "may not read the account")]),
], ids=["resend", "sendgrid", "mailgun", "ses"])
def test_doctor_asks_the_service(rig, stub, tmp_path, provider, path, answers):
    """The key is tried by a GET; no mail goes out, and the key is not told."""
    settings = tmp_path / "pgmqd.conf"
    settings.write_text(conf(rig.conninfo, {"email_queue": {
        "plugin": "email", "provider": provider, "from": FROM, "resend_url": stub.url, "sendgrid_url": stub.url, "mailgun_url": stub.url, "ses_url": stub.url,
        "resend_api_key": KEY, "sendgrid_api_key": KEY, "mailgun_api_key": KEY, "mailgun_domain": "mg.example.test", "ses_region": "eu-west-1",
        "ses_access_key_id": KEY, "ses_secret_access_key": SECRET}}))
    settings.chmod(0o600)
    for (status, body), verdict, seen in answers:
        stub.reset()
        stub.answer(path, status, body)
        done = run("doctor", "-c", settings, "--json")
        found = [c for c in json.loads(done.stdout)["checks"] if c["check"] == "plugin" and "mail service" in c["seen"]]
        assert len(found) == 1 and seen in found[0]["seen"] and found[0]["status"].upper() == verdict, found
        assert [(r.method, r.path) for r in stub.requests()] == [("GET", path)] and KEY not in done.stdout
        assert KEY in str(stub.requests()[0].headers) or base64.b64encode(f"api:{KEY}".encode()).decode() in str(stub.requests()[0].headers)
