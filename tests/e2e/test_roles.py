"""The daemon as the role pgmqd, which owns nothing: all plugins at work at once, and nothing is refused to it."""

import json

from lib import app
from lib.httpstub import HttpStub
from lib.rig import email_queue

ELENA = "elena@example.test"


def test_the_whole_job_without_owning_anything(rig, tmp_path):
    """A check-up becomes mails, a report and an event; a payment is verified; a schedule runs; what is wrong is dead-lettered."""
    db = rig.db
    elena = app.new_customer(db, ELENA, "Елена Примерова")
    payment = app.new_payment(db, elena)
    db.execute("update payments set provider_payment_id = 'p-1' where id = %s", [payment])
    db.execute("insert into pgmqd.schedule (name, cron, command, runner, next_due)"
               " values ('tidy', '0 0 1 1 *', 'select pgmqd.delete_old()', 'pgmqd', now())")
    with HttpStub(login=("1", "secret")) as provider:
        provider.answer("/v3/payments/p-1", body={"id": "p-1", "status": "succeeded", "paid": True, "amount": {"value": "1490.00", "currency": "RUB"},
                                          "metadata": {"payment_id": str(payment)}, "captured_at": "2026-11-20T10:05:00.000Z"})
        daemon = rig.start({
            "email_queue": email_queue(rig.catcher),
            "report_generation_queue": {"plugin": "report", "report_dir": tmp_path},
            "payment_processing_queue": {"plugin": "payment", "base_url": provider.url, "shop_id": "1", "secret_key": "secret"},
            "analytics_queue": {"plugin": "analytics"},
        })
        owners = {row[0] for row in db.execute("select distinct usename from pg_stat_activity where application_name like 'pgmqd%%' and datname = %s",
                                               [rig.dbname])}
        assert owners == {"pgmqd"}
        app.complete_checkup(db, app.start_checkup(db, elena))
        rig.enqueue({"payment_id": str(payment), "action": "verify"}, "payment_processing_queue")
        rig.enqueue({"payment_id": "00000000-0000-4000-8000-000000000000", "action": "verify"}, "payment_processing_queue")
        rig.send("vera@example.test", "no_such_template", {})
        for queue, outcome in (("email_queue", "fail"), ("report_generation_queue", "done"), ("payment_processing_queue", "done"),
                               ("payment_processing_queue", "fail"), ("analytics_queue", "done")):
            daemon.wait_settled(queue=queue, outcome=outcome)
        for subject in ("обследование завершено", "Оплата прошла"):
            rig.catcher.wait_for(lambda m: subject in m.subject)
        rig.catcher.wait_for(lambda m: list(m.parsed.iter_attachments()))
        daemon.wait_log(lambda r: r.get("schedule") == "tidy" and r.get("status") == "ok")
    assert db.execute("select status from payments where id = %s", [payment]).fetchone()[0] == "completed"
    assert len(rig.dead()) == len(rig.dead("payment_processing_queue")) == 1
    assert "pgmqd_dead" in json.dumps(rig.dead()[0]["headers"])
    assert not rig.cluster.denied() or all(rig.dbname not in line for line in rig.cluster.denied()), rig.cluster.denied()
