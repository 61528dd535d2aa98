"""No personal data where it does not belong: every plugin gets messages full of a canary, good ones and bad ones, and servers that repeat
it; then nothing that pgmqd has written for operators holds it."""

import json
import os
import signal

from lib import app
from lib.daemon import run
from lib.hookserver import HookServer
from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub
from lib.smtpstub import CLOSE, SmtpStub

CANARY = "kanarejka7"
DOMAIN = f"{CANARY}.example.test"
TO = f"{CANARY}.vogel@{DOMAIN}"
TOKEN = "the-token-of-the-canary-test"
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
    hook.answer = lambda request: (500, {}, f"cannot read {TO}".encode())
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


def test_no_canary_where_operators_look(rig, tmp_path):
    port = free_port()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncat >/dev/null\nexit 65\n")
    program.chmod(0o755)
    for queue in ("hooks", "programs"):
        rig.db.execute("select pgmqd.create_queue(%s)", [queue])
    soon = {"backoff_min": "1ms", "backoff_max": "1ms", "config_retry": "100ms", "max_attempts": 2}
    with SmtpStub() as smtp, HookServer() as hook, HttpStub(login=("1", "secret")) as provider:
        daemon = rig.start({
            "email_queue": {"plugin": "email", "smtp_tls": "none", **soon, "max_attempts": 4},
            "report_generation_queue": {"plugin": "report", "report_dir": tmp_path, **soon},
            "payment_processing_queue": {"plugin": "payment", "base_url": provider.url, "shop_id": "1", "secret_key": "secret", **soon},
            "analytics_queue": {"plugin": "analytics", **soon}, "hooks": {"plugin": "webhook", "url": hook.url, "allow_private": "yes", **soon},
            "programs": {"plugin": "exec", "command": str(program), **soon}},
            env={"SMTP_HOST": smtp.host, "SMTP_PORT": str(smtp.port), "SMTP_USER": None, "SMTP_PASS": None, "PGMQD_HTTP_TOKEN": TOKEN},
            http_listen=f"127.0.0.1:{port}")
        drive(rig, smtp, hook, provider)
        client = Http(port, TOKEN)
        written = {path: client(path) for path in ("/health", "/metrics", "/api/queues", "/api/status", "/api/failures", "/api/schedules")}
        for path in ("/api/queues/email_queue/dead-letters", "/api/queues/analytics_queue/dead-letters"):
            written[path] = client(path)
        (worker,) = [pid for pid, title in daemon.children().items() if "worker email_queue" in title]
        mark = daemon.mark()
        os.kill(worker, signal.SIGABRT)
        daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("text") == "connected to the database", start=mark)
        written["status"] = run("status", "--json", "-d", rig.conninfo, "-c", daemon.conf_path).stdout
        for queue in ("email_queue", "analytics_queue", "payment_processing_queue", "report_generation_queue", "hooks", "programs"):
            written["dlq " + queue] = run("dlq", "list", queue, "-d", rig.conninfo).stdout
        assert any(CANARY in str(vars(mail)) for mail in smtp.bodies), "the canary was in the mails"
        cores = [p for d in (daemon.dir, tmp_path, os.getcwd()) for p in os.listdir(d) if p.startswith("core")]
    assert not cores
    leaks = [(name, str(text)) for name, text in written.items() if CANARY in str(text)]
    leaks += [("log", json.dumps(r, ensure_ascii=False)) for r in daemon.records() if CANARY in json.dumps(r, ensure_ascii=False)]
    assert not leaks, "\n".join(f"{name}: {text}" for name, text in leaks)
    assert all(written.values()) and all(v[0] == 200 for v in written.values() if isinstance(v, tuple)), written
