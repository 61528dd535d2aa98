"""No personal data where it does not belong: every plugin gets messages full of a canary, good ones and bad ones, and servers that repeat
it; then nothing that pgmqd has written for operators holds it."""

import base64
import hmac
import json
import os
import signal
import subprocess
import time

from lib import app
from lib.daemon import clean_environment, run
from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub
from lib.paths import pgmqd
from lib.smtpstub import CLOSE, SmtpStub

CANARY = "kanarejka7"
DOMAIN = f"{CANARY}.example.test"
TO = f"{CANARY}.vogel@{DOMAIN}"
TOKEN = "the-token-of-the-canary-test"
EVENT_KEY = b"0123456789abcdef01234567"
SOON = {"backoff_min": "1ms", "backoff_max": "1ms", "config_retry": "100ms", "max_attempts": 2}
FULL = {"to": TO, "to_name": f"Fräulein {CANARY}", "reply_to": f"r@{DOMAIN}", "subject": f"To {CANARY}", "text": f"Dear {CANARY}\n"}


def mails(canary):
    """Bodies of mail messages that fail, each in a way of its own, with the canary wherever a value can be wrong."""
    yield from ({**FULL, **change} for change in (
        {"to": f"{canary}@{DOMAIN}>\r\nRCPT TO:<x@y"}, {"to": f"{canary} @{DOMAIN}"}, {"to": canary}, {"to": [TO]}, {"to": {"x": canary}},
        {"subject": f"{canary}\r\nBcc: x"}, {"reply_to": canary}, {"lang": f"../{canary}"}, {"variables": canary, "template": "report_ready", "text": None},
        {"attachments": [{"filename": f"{canary}\r\n", "content": ""}]}, {"attachments": [{"filename": canary, "content": f"???{canary}"}]},
        {"attachments": [{"filename": canary, "content_type": canary, "content": ""}]}, {"attachments": canary},
        {"text": None, "template": "report_ready", "variables": {"customer_name": canary}},
        {"text": None, "template": "report_ready", "variables": dict(app.sample("report_ready"), report_url=f"javascript:{canary}")},
        {"text": None, "template": "report_ready", "variables": dict(app.sample("report_ready"), customer_name={canary: [canary]})},
        {"text": None, "template": f"../{canary}@{DOMAIN}", "variables": {}}, {"text": None, "html": {canary: 1}}))
    yield canary
    yield [canary]


def others(canary):
    """(queue, body) of messages of other plugins that fail."""
    for body in ({"assessment_id": canary, "user_id": canary, "report_type": canary}, {"assessment_id": {"x": canary}}, canary,
                 {"assessment_id": "b0000000-0000-4000-8000-000000000001", "user_id": canary}):
        yield "report_generation_queue", body
    for body in ({"payment_id": canary, "action": "verify"}, {"payment_id": "00000000-0000-4000-8000-000000000000", "action": canary}, [canary]):
        yield "payment_processing_queue", body
    for body in ({"event": {"x": canary}}, {"event": "x", "occurred_at": canary}, {"event": "x", "timestamp": canary}, {"event": "x", "properties": canary},
                 [canary], {"event_type": canary, "created_at": canary}, canary):
        yield "analytics_queue", body


def drive(rig, smtp, hook, provider):
    """Sends it all, and waits until each message has come to its end."""
    db, sent = rig.db, []
    rig.daemon.wait_settled(queue="email_queue", msg_id=rig.enqueue(FULL), outcome="done")  # before the address is known to be dead
    smtp.on("RCPT", f"550 5.1.1 <{TO}>: {CANARY}.vogel is unknown here ({DOMAIN})", times=1)
    smtp.on("DOT", f"554 5.7.1 mail to {TO} for {CANARY}.vogel is spam", times=1)
    smtp.on("RCPT", f"451 4.2.0 {TO} is busy", times=2)
    smtp.on("DATA", CLOSE, times=1)
    hook.reply = lambda request: (500, {}, f"cannot read {TO}".encode())
    sent += [("email_queue", rig.enqueue(FULL)) for _ in range(5)]
    sent += [("email_queue", rig.enqueue({**FULL, "key": f"{CANARY}-{n}"})) for n in range(2)]
    sent += [("email_queue", rig.enqueue(json.dumps(body))) for body in mails(CANARY)]
    sent += [(queue, rig.enqueue(json.dumps(body), queue)) for queue, body in others(CANARY)]
    sent += [("hooks", rig.enqueue(FULL, "hooks")), ("programs", rig.enqueue(FULL, "programs"))]
    person = app.new_customer(db, TO, f"Fräulein {CANARY}")
    app.complete_checkup(db, app.start_checkup(db, person))
    payment = app.new_payment(db, person, app.book_appointment(db, person))
    db.execute("update payments set provider_payment_id = 'p-1', description = %s where id = %s", [CANARY, payment])
    provider.answer("/v3/payments/p-1", status=400, body={"type": "error", "description": f"{TO} is no {CANARY}", "code": "invalid_request"})
    sent.append(("payment_processing_queue", rig.enqueue({"payment_id": str(payment), "action": "verify"}, "payment_processing_queue")))
    sent.append(("email_queue", rig.send(TO)))
    for queue, msg_id in sent:
        rig.daemon.wait_log(lambda r, q=queue, i=msg_id: r.get("text") == "settled" and (r["queue"], r["msg_id"]) == (q, i)
                            and r["outcome"] not in ("retry", "release"))


def post_event(client, body, key=EVENT_KEY):
    """An event as Resend sends and signs it; the status of the answer."""
    at = str(int(time.time()))
    signature = base64.b64encode(hmac.digest(key, f"{CANARY}.{at}.{body}".encode(), "sha256")).decode()
    return client("/api/mail/events/resend", method="POST", body=body,
                  headers={"svix-id": CANARY, "svix-timestamp": at, "svix-signature": f"v1,{signature}"})[0]


def drive_http(rig, client, sources):
    """What comes by HTTP: jobs, good ones and bad ones, with sources that repeat the canary; events of a mail service; the doors that are closed."""
    api, answer = "/api/canary", {}
    sources.answer("/good", 200, {"person": TO})
    for status, body in ((500, f"{TO} is unknown".encode()), (200, f"{{{CANARY}".encode()), (404, {"error": TO})):
        sources.answer("/bad", status, body)
    for _ in range(3):
        status, answer = client.json(f"{api}/start", method="POST", body={"questionnaire": FULL, CANARY: TO})
        assert status == 202, answer
        client.wait_json(f"{api}/status/{answer['job_id']}", 200, lambda s: s["status"] == "partial")
    status, _, text = client(f"{api}/result/{answer['job_id']}")
    assert status == 200 and CANARY in text, "the canary was in the job"
    for body in (f'{{"{CANARY}": ', json.dumps([TO]), json.dumps(CANARY)):
        assert client(f"{api}/start", method="POST", body=body)[0] == 400
    assert client(f"{api}/start", method="POST", body=FULL, headers={"Idempotency-Key": f"{CANARY}\x7f" * 99})[0] == 400
    for path in (f"{api}/status/{TO}", f"/api/{CANARY}/start", f"{api}/result/{CANARY}?who={TO}", f"/{TO}", f"/api/mail/unsubscribe/{CANARY}"):
        assert client(path)[0] >= 400
    assert client(f"/api/mail/events/{CANARY}", method="POST", body=FULL)[0] >= 400

    mark, ends = rig.daemon.mark(), set()
    bounced = {"type": "email.bounced", "created_at": "2026-05-28T20:26:40Z",
               "data": {"email_id": CANARY, "to": [TO], "bounce": {"type": "Permanent", "subType": CANARY, "message": f"550 5.1.1 {TO} is no {CANARY}"}}}
    odd = [CANARY, {"type": CANARY}, {**bounced, "created_at": CANARY}, {**bounced, "data": {"to": CANARY}}, {**bounced, "data": {**bounced["data"], "bounce": TO}}]
    bodies = [json.dumps(event) for event in (bounced, *odd)] + [f'{{"{CANARY}": ']
    for body in bodies:
        assert post_event(client, body) == 200
    assert post_event(client, bodies[0], key=b"a wrong one") == 403
    rig.daemon.wait_log(lambda r: r.get("text") == "settled" and r["queue"] == "mail_events_queue" and r["outcome"] in ("done", "fail")
                        and (ends.add(r["msg_id"]) or len(ends) == len(bodies)), start=mark)
    assert app.rows(rig.db, "select source from pgmqd.suppression where source = 'resend'"), "the canary was in an event"


def drive_bounces(smtp, rig):
    """Mails that come back, to an address that is known and one that is not; {name: what `pgmqd bounce` says to each}."""
    report = (f"From: MAILER-DAEMON@{DOMAIN}\r\nTo: {{to}}\r\nSubject: {CANARY}\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n"
              f"\r\n--b\r\n\r\nDear {CANARY}\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {DOMAIN}\r\n\r\n"
              f"Final-Recipient: rfc822; {TO}\r\nAction: failed\r\nStatus: {{status}}\r\nDiagnostic-Code: smtp; 550 <{TO}> {CANARY}\r\n\r\n--b--\r\n")
    (sender, *_) = [mail.sender for mail in smtp.mails if mail.recipients == [TO]]
    said = {}
    for name, text, *argv in (("soft", report.format(to=sender, status="4.2.2")), ("hard", report.format(to=sender, status="5.1.1")),
                              ("nobody's", report.format(to=TO, status="5.1.1")), ("no status", report.format(to=sender, status=CANARY)),
                              ("no mail", f"\0{TO}\r\n{CANARY}"), ("no address", report.format(to=TO, status="5.1.1"), "-r", TO)):
        done = subprocess.run([pgmqd(), "bounce", "-d", rig.conninfo, *argv], input=text.encode(), capture_output=True, env=clean_environment(), timeout=60)
        said["bounce " + name] = done.stdout.decode() + done.stderr.decode()
    assert said["bounce hard"].strip() == "hard_bounce", said
    return said


def test_no_canary_where_operators_look(rig, tmp_path):
    port = free_port()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncat >/dev/null\nexit 65\n")
    program.chmod(0o755)
    for queue in ("hooks", "programs", "gathering"):
        rig.db.execute("select pgmqd.create_queue(%s)", [queue])
    with SmtpStub() as smtp, HttpStub(default=(204, b"")) as hook, HttpStub(login=("1", "secret")) as provider, HttpStub() as sources:
        daemon = rig.start({
            "email_queue": {"plugin": "email", "smtp_tls": "none", "bounce_address": "bounce@example.test", **SOON, "max_attempts": 4},
            "report_generation_queue": {"plugin": "report", "report_dir": tmp_path, **SOON},
            "payment_processing_queue": {"plugin": "payment", "base_url": provider.url, "shop_id": "1", "secret_key": "secret", **SOON},
            "analytics_queue": {"plugin": "analytics", **SOON}, "hooks": {"plugin": "webhook", "url": hook.url, "allow_private": "yes", **SOON},
            "programs": {"plugin": "exec", "command": str(program), **SOON},
            "mail_events_queue": {"plugin": "mailevents", "resend_webhook_secret": "whsec_" + base64.b64encode(EVENT_KEY).decode(), **SOON},
            "gathering": {"plugin": "sources", "sources": f"good {sources.url}/good | bad {sources.url}/bad", "allow_private": "yes", "retries": 0,
                          "retry_every": "1h", **SOON}},
            env={"SMTP_HOST": smtp.host, "SMTP_PORT": str(smtp.port), "SMTP_USER": None, "SMTP_PASS": None, "PGMQD_HTTP_TOKEN": TOKEN},
            jobs={"canary": "gathering"}, http_listen=f"127.0.0.1:{port}")
        drive(rig, smtp, hook, provider)
        client = Http(port, TOKEN)
        bounces = drive_bounces(smtp, rig)
        drive_http(rig, client, sources)
        written = {path: client(path) for path in ("/health", "/metrics", "/api/queues", "/api/status", "/api/failures", "/api/schedules")}
        written.update(bounces)
        for path in ("/api/queues/email_queue/dead-letters", "/api/queues/analytics_queue/dead-letters", "/api/queues/mail_events_queue/dead-letters"):
            written[path] = client(path)
        (worker,) = [pid for pid, title in daemon.children().items() if "worker email_queue" in title]
        mark = daemon.mark()
        os.kill(worker, signal.SIGABRT)
        daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("text") == "connected to the database", start=mark)
        written["status"] = run("status", "--json", "-d", rig.conninfo, "-c", daemon.conf_path).stdout
        for queue in ("email_queue", "analytics_queue", "payment_processing_queue", "report_generation_queue", "hooks", "programs", "gathering", "mail_events_queue"):
            written["dlq " + queue] = run("dlq", "list", queue, "-d", rig.conninfo).stdout
        assert any(CANARY in str(vars(mail)) for mail in smtp.bodies), "the canary was in the mails"
        cores = [p for d in (daemon.dir, tmp_path, os.getcwd()) for p in os.listdir(d) if p.startswith("core")]
    assert not cores
    leaks = [(name, str(text)) for name, text in written.items() if CANARY in str(text)]
    leaks += [("log", json.dumps(r, ensure_ascii=False)) for r in daemon.records() if CANARY in json.dumps(r, ensure_ascii=False)]
    assert not leaks, "\n".join(f"{name}: {text}" for name, text in leaks)
    assert all(written.values()) and all(v[0] == 200 for v in written.values() if isinstance(v, tuple)), written
