"""The daemon as the role pgmqd, which owns nothing: all plugins at work at once, and nothing is refused to it."""

import json

from lib import app
from lib.daemon import run
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


def test_a_refusal_names_the_role_that_it_needs(rig):
    """One line, for who may look only and for who may nothing; and what it names is enough."""
    rig.db.execute("drop role if exists roles_watcher, roles_stranger; create role roles_watcher login in role pgmqd_monitor; create role roles_stranger login")
    try:
        for user in ("roles_watcher", "roles_stranger"):
            for argv in (("dlq", "list", "email_queue"), ("pause", "email_queue"), ("send", "email_queue", "{}"), ("schedule", "list"), ("connect", "--dry-run")):
                done = run(*argv, "-d", rig.cluster.conninfo(rig.dbname, user=user))
                needed = "it needs the role" if argv[0] == "connect" else f"it needs the rights of pgmqd_operator (GRANT pgmqd_operator TO {user}), or the role "
                assert done.returncode == 1 and needed in done.stderr and done.stderr.count("\n") == 1, (argv, done.stderr)
        rig.db.execute("grant pgmqd_operator to roles_stranger")
        for argv in (("status",), ("dlq", "list", "email_queue"), ("pause", "email_queue"), ("resume", "email_queue"), ("send", "email_queue", "{}"), ("schedule", "list")):
            done = run(*argv, "-d", rig.cluster.conninfo(rig.dbname, user="roles_stranger"))
            assert done.returncode == 0, (argv, done.stderr)
    finally:
        rig.db.execute("drop role roles_watcher, roles_stranger")


def test_a_queue_that_a_superuser_has_made(rig):
    """Its dead letters are listed all the same, by functions of another owner; without the rights the command and the doctor say what to do."""
    rig.db.execute("select pgmqd.set_owner('pgmqd_migrator'); select pgmqd.create_queue('work')")
    assert rig.db.execute("select tableowner from pg_tables where tablename = 'q_work'").fetchone()[0] != "pgmqd_migrator"
    assert run("dlq", "list", "work", "-d", rig.login).returncode == 0
    rig.db.execute("revoke all on pgmq.q_work, pgmq.a_work, pgmq.q_work_dlq from pgmqd_migrator")
    done = run("dlq", "list", "work", "-d", rig.conninfo)
    assert done.returncode == 1 and "pgmqd.attach_queue" in done.stderr, done.stderr
    said = json.loads(run("doctor", "--json", "--read-only", "-d", rig.login).stdout)
    remedies = [c["remedy"] for c in said["checks"] if c["check"] == "grants" and c["status"] == "fail"]
    assert len(remedies) == 3, said
    for remedy in remedies:
        rig.db.execute(remedy.removesuffix(", as the owner"))
    assert run("dlq", "list", "work", "-d", rig.login).returncode == 0
