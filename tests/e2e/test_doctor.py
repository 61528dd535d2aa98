"""pgmqd doctor: an installation is broken in one way after the other; doctor names each, and what to do, and mends what it says it can."""

import itertools
import json
import os
import re
import shutil
import subprocess

import pytest

from lib import rig as rigs
from lib.daemon import conf, run
from lib.mailcatcher import MailCatcher
from lib.paths import BUILDDIR, SRCDIR
from lib.pgcluster import Cluster, free_port
from lib.pooler import PGBOUNCER, pooler

_number = itertools.count(1)
PLUGINS = BUILDDIR / "plugins" / ".libs"
UNCHECKED = "alter table pgmqd.schedule drop constraint schedule_cron_check; {}"  # as rows of an older pgmqd are


@pytest.fixture(scope="module")
def site():
    """A cluster whose database "ready" belongs to the role app, which is no superuser; roles as at Supabase; pg_cron in database "cron"."""
    cluster = Cluster(tcp=True, settings={"max_prepared_transactions": "2"})
    with cluster:
        with cluster.connect() as db:
            for role in ("app login", "dispatcher login", "blind login", "anon", "authenticated"):
                db.execute(f"create role {role}")
            db.execute("grant pg_read_all_stats to app, dispatcher")
            db.execute("create database ready owner app")
        done = rigs.migrate(cluster.conninfo("ready", user="app"), "--demo-app")
        assert done.returncode == 0, done.stdout + done.stderr
        with cluster.connect("ready") as db:  # as a person does who installs it
            db.execute("update pgmqd.settings set value = 'https://clinic.example.org' where name = 'app_url'")
            db.execute("update pgmqd.settings set value = 'help@clinic.example.org' where name = 'support_email'")
        yield cluster


@pytest.fixture(scope="module")
def mail():
    with MailCatcher() as catcher:
        yield catcher


class Patient:
    """A copy of the database, a settings file, and what doctor says of them."""

    def __init__(self, cluster, dbname, dir):
        self.cluster, self.dbname, self.dir = cluster, dbname, dir
        self.queues = {"email_queue": {"plugin": "null"}, "analytics_queue": {"plugin": "null"}}
        self.settings, self.env = {}, {}
        self.conninfo = cluster.conninfo(dbname, user="app")

    def sql(self, *statements):
        with self.cluster.connect(self.dbname) as db:
            for text in statements:
                cursor = db.execute(text)
            return cursor.fetchall() if cursor.description else None

    def doctor(self, *argv, **more):
        """Runs it; the JSON object that it prints, with its exit status."""
        path = self.dir / "pgmqd.conf"
        path.write_text(conf(self.conninfo, self.queues, **self.settings))
        path.chmod(0o600)
        done = run("doctor", "--json", "-c", path, *argv, env=self.env, **more)
        assert done.stdout, done.stderr
        said = json.loads(done.stdout)
        assert done.returncode == {"ok": 0, "warn": 1, "fail": 2}[said["status"]], done.stderr
        said["bad"] = [c for c in said["checks"] if c["status"] != "ok"]
        return said

    def finds(self, check, seen, remedy, *argv, subject="", status="fail", fix=False, only=True, **more):
        """Doctor tells that, with that remedy, and (unless told otherwise) nothing else. With fix: --fix mends it."""
        said = self.doctor(*argv, **more)
        found = [c for c in said["bad"] if c["check"] == check and seen in c["seen"] and subject in c["subject"]]
        assert found, json.dumps(said["bad"], indent=1)
        assert found[0]["status"] == status and remedy in found[0]["remedy"], found
        assert not only or said["bad"] == found[:1], json.dumps(said["bad"], indent=1)
        assert (found[0]["fix"] is not None) == fix, found
        if fix:
            after = self.doctor("--fix", *argv, **more)
            assert after["status"] == "ok", json.dumps(after, indent=1)
            assert found[0]["fix"] in [f["fix"] for f in after["fixed"]] and not any(f["error"] for f in after["fixed"])
        return said


@pytest.fixture
def patient(site, tmp_path):
    name = f"doctor_{next(_number)}"
    site.createdb(name, "ready", owner="app")
    yield Patient(site, name, tmp_path)
    site.dropdb(name)


# ---- nothing is wrong ----

def test_all_is_well(patient, mail):
    """With a mail server and reports; as text, too. The queue of the message is gone afterwards, and nothing was sent."""
    patient.queues = {"email_queue": rigs.email_queue(mail), "report_generation_queue": {"plugin": "report", "report_dir": patient.dir}}
    patient.env = rigs.email_environment(mail)
    said = patient.doctor()
    assert said["status"] == "ok" and not said["skipped"], json.dumps(said["bad"], indent=1)
    names = {c["check"] for c in said["checks"]}
    assert names == {"settings", "plugin", "templates", "connection", "standby", "clock", "connections", "role", "schema", "pgmq", "queue", "grants", "wake-up", "trigger",
                     "trigger errors", "function", "access", "pooler", "notify", "message", "pg_cron", "schedule", "vacuum", "snapshot", "notify queue",
                     "dispatcher", "defaults", "dump", "failover", "lock", "limits", "unserved", "owner"}
    assert "TLS verified, login taken" in [c for c in said["checks"] if c["check"] == "plugin"][1]["seen"]
    assert not mail.mails()
    assert not [name for name in os.listdir(patient.dir) if name != "pgmqd.conf"]
    assert patient.sql("select * from pgmq.meta where queue_name like 'pgmqd%'") == []
    text = run("doctor", "-c", patient.dir / "pgmqd.conf", env=patient.env)
    assert text.returncode == 0 and "FAIL" not in text.stdout and " 0 warnings, 0 failed" in text.stdout
    assert patient.sql("select count(*) from pgmq.a_email_queue")[0][0] == 0


def test_command_line(patient):
    done = run("doctor", "extra")
    assert (done.returncode, done.stdout) == (2, "") and '"extra" is one argument too many' in done.stderr
    alone = run("doctor", "--json", "-d", patient.conninfo, "--read-only", "--sql-dir", SRCDIR / "sql")
    said = json.loads(alone.stdout)
    assert alone.returncode == 0 and said["skipped"] == ["plugin", "templates", "connections", "unserved"], said
    assert {c["subject"] for c in said["checks"] if c["check"] == "queue"} == {
        "email_queue", "report_generation_queue", "payment_processing_queue", "analytics_queue", "mail_events_queue"}


# ---- broken by one statement: check, what is seen, remedy, and what --fix does ----

STATEMENTS = {
    "a wake-up trigger dropped": ("drop trigger pgmqd_wakeup on pgmq.q_email_queue", dict(
        check="wake-up", subject="email_queue", seen="no trigger pgmqd_wakeup", remedy="SELECT pgmqd.attach_queue('email_queue')", fix=True)),
    "a wake-up trigger of before transactions could be prepared": (
        "create or replace trigger pgmqd_wakeup after insert on pgmq.q_email_queue for each statement execute function pgmqd.wakeup('email_queue', 'pgmqd')", dict(
            check="wake-up", subject="email_queue", seen="PREPARE TRANSACTION fails", remedy="SELECT pgmqd.attach_queue('email_queue')", fix=True)),
    "the second wake-up trigger dropped": ("drop trigger pgmqd_wakeup_earlier on pgmq.q_email_queue", dict(
        check="wake-up", subject="email_queue", seen="pgmqd_wakeup_earlier is missing", remedy="SELECT pgmqd.attach_queue('email_queue')", fix=True)),
    "the second wake-up trigger with another condition": (
        "create or replace trigger pgmqd_wakeup_earlier after update of vt on pgmq.q_email_queue for each row"
        " when (new.vt < old.vt - interval '1 h') execute function pgmqd.wakeup_at_end('email_queue', 'pgmqd')", dict(
            check="wake-up", subject="email_queue", seen="not that of this version", remedy="SELECT pgmqd.attach_queue('email_queue')", fix=True)),
    "the second wake-up trigger disabled": ("alter table pgmq.q_email_queue disable trigger pgmqd_wakeup_earlier", dict(
        check="wake-up", subject="email_queue", seen="pgmqd_wakeup_earlier is disabled",
        remedy="ALTER TABLE pgmq.q_email_queue ENABLE TRIGGER pgmqd_wakeup_earlier", fix=True)),
    "a wake-up trigger disabled": ("alter table pgmq.q_email_queue disable trigger pgmqd_wakeup", dict(
        check="wake-up", subject="email_queue", seen="is disabled", remedy="ALTER TABLE pgmq.q_email_queue ENABLE TRIGGER pgmqd_wakeup", fix=True)),
    "another channel": ("update pgmqd.settings set value = 'other' where name = 'channel'; select pgmqd.attach_queue('email_queue')", dict(
        check="wake-up", subject="email_queue", seen='channel "other"', remedy="set channel = other in pgmqd.conf", only=False)),
    "an application's trigger dropped": ("drop trigger on_new_appointment on public.appointments", dict(
        check="trigger", subject="on_new_appointment", seen="no such trigger", remedy="pgmqd.connect_application()", fix=True)),
    "an application's trigger disabled": ("alter table public.payments disable trigger on_payment_status_change", dict(
        check="trigger", subject="on_payment_status_change", seen="is disabled", remedy="ALTER TABLE public.payments ENABLE TRIGGER on_payment_status_change")),
    "a column that is gone": ("alter table public.appointments rename column location to room; insert into pgmqd.application values ('appointment', 'location', 'room');"
                              " alter table public.appointments rename column room to place", dict(
        check="trigger", subject="appointment, location", seen="has no column room", remedy="pgmqd connect")),
    "a trigger that fails": ("select pgmqd.record_trigger_error('on_new_appointment', 'appointments', '1', 'P0002', 'nobody')", dict(
        check="trigger errors", seen="the newest in on_new_appointment (SQLSTATE P0002)", remedy="pgmqd.trigger_errors", status="warn")),
    "a queue missing": ("drop view pgmq.analytics_queue; select pgmq.drop_queue('analytics_queue')", dict(
        check="queue", subject="analytics_queue", seen="does not exist", remedy="SELECT pgmqd.create_queue('analytics_queue')", fix=True)),
    "a dead-letter queue missing": ("select pgmq.drop_queue('email_queue_dlq')", dict(
        check="queue", subject="email_queue", seen="no dead-letter queue", remedy="SELECT pgmqd.create_queue('email_queue')", fix=True)),
    "a grant taken from the owner": ("revoke delete on pgmq.q_email_queue from app", dict(
        check="grants", subject="pgmq.q_email_queue", seen="role app lacks DELETE", remedy="GRANT DELETE ON pgmq.q_email_queue TO app", fix=True)),
    "a function that anybody may execute": ("grant execute on function public.queue_email_task to anon, public", dict(
        check="function", subject="queue_email_task", seen="PUBLIC, anon", remedy="REVOKE ALL ON FUNCTION public.queue_email_task", fix=True)),
    "a function without its search_path": ("alter function public.pgmq_read reset search_path", dict(
        check="function", subject="pgmq_read", seen="search_path", remedy="ALTER FUNCTION public.pgmq_read(text,integer) SET search_path", fix=True)),
    "a function missing": ("drop function public.pgmq_metrics", dict(
        check="function", subject="public.pgmq_metrics", seen="missing", remedy="033_pgmq_rpc_wrappers.sql")),
    "messages open to anon": ("grant select on pgmq.a_email_queue to anon", dict(
        check="access", subject="pgmq.a_email_queue", seen="anon", remedy="REVOKE ALL ON pgmq.a_email_queue FROM anon", fix=True)),
    "an older schema": ("delete from pgmqd.schema_version where file like '033%'; drop function public.pgmq_metrics", dict(
        check="schema", seen="033_pgmq_rpc_wrappers.sql not applied", remedy="pgmqd migrate", fix=True)),
    "a newer schema": ("update pgmqd.schema_version set checksum = 'other' where file like '033%'", dict(
        check="schema", subject="033_pgmq_rpc_wrappers.sql", seen="not the file that was applied", remedy="pgmqd migrate applies it again")),
    "no schema": ("drop schema pgmqd cascade; drop schema pgmq cascade", dict(
        check="schema", seen="schema pgmqd is missing", remedy="pgmqd migrate", fix=True)),
    "the queues' schema gone": ("drop schema pgmq cascade", dict(
        check="schema", seen="schema pgmq, with the queues, is gone", remedy="restore schema pgmq from a backup")),
    "a function that does not notify": ("create or replace function pgmqd.wakeup() returns trigger language plpgsql as 'begin return null; end';"
                                        " create or replace function pgmqd.wakeup_at_end() returns trigger language plpgsql as 'begin return null; end'", dict(
        check="message", seen="does not notify", remedy="020_pgmqd.sql makes pgmqd.wakeup() anew")),
    "a schedule overdue": ("update pgmqd.schedule set next_due = now() - interval '1 hour' where name = 'cleanup-old-assessments'", dict(
        check="schedule", subject="cleanup-old-assessments", seen="it was due 01:0", remedy="start pgmqd run")),
    "a schedule that fails": ("update pgmqd.schedule set command = 'select 1/0' where name = 'cleanup-old-assessments'; select pgmqd.run_now('cleanup-old-assessments');"
                              " update pgmqd.schedule set last_status = 'failed', last_error = 'division by zero' where name = 'cleanup-old-assessments'", dict(
        check="schedule", subject="cleanup-old-assessments", seen="division by zero", remedy="pgmqd schedule run cleanup-old-assessments", status="warn")),
    "autovacuum off": ("alter table pgmq.q_email_queue set (autovacuum_enabled = off)", dict(
        check="vacuum", subject="email_queue", seen="autovacuum is switched off", remedy="ALTER TABLE pgmq.q_email_queue RESET (autovacuum_enabled)", fix=True)),
    "nobody dispatches": ("select pgmq.send('email_queue', '{}'); update pgmq.q_email_queue set vt = now() - interval '1 hour', enqueued_at = now() - interval '1 hour'", dict(
        check="dispatcher", seen="messages wait for more than a minute in email_queue", remedy="start pgmqd run")),
    "pg_cron gone": ("update pgmqd.schedule set runner = 'pg_cron'", dict(
        check="pg_cron", seen="not in this database any more", remedy="pgmqd.connect_schedules()", fix=True)),
}


# Where the remedy needs a program that goes on running, a backup or a person.
NOT_TRIED = {"a trigger that fails", "the queues' schema gone", "a schedule overdue", "a schedule that fails", "nobody dispatches"}


def try_remedy(patient, remedy):
    """Does what a remedy says, as the owner: its statement, its command, or its file."""
    remedy = remedy.split("; or ")[-1]
    command = re.search(r"pgmqd (migrate|connect)\b", remedy)
    if re.match(r"[A-Z]+ ", remedy):
        with patient.cluster.connect(patient.dbname, user="app") as db:
            for statement in re.split(r", unless|; (?=when|unless)", remedy)[0].split(", then "):
                db.execute(statement)
    elif name := re.search(r"(?:psql -f )?(0\d\d_\w+[.]sql)", remedy):
        with patient.cluster.connect(patient.dbname, user="app") as db:
            db.execute((SRCDIR / "sql" / name[1]).read_text(encoding="utf-8"))
    else:
        assert command, remedy
        done = rigs.migrate(patient.conninfo) if command[1] == "migrate" else run("connect", "-d", patient.conninfo)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", STATEMENTS)
def test_broken_in_the_database(patient, way):
    statement, wanted = STATEMENTS[way]
    wanted = dict(wanted)
    if "schema" in way:
        wanted["only"] = False
    patient.sql(statement)
    key = (wanted["check"], wanted.get("subject", ""))
    said = patient.finds(wanted.pop("check"), wanted.pop("seen"), wanted.pop("remedy"), **wanted)
    if not wanted.get("fix") and way not in NOT_TRIED:  # --fix has tried the others
        found = [c for c in said["bad"] if c["check"] == key[0] and key[1] in c["subject"]][0]
        try_remedy(patient, found["remedy"])
        after = patient.doctor()["bad"]
        assert not [c for c in after if c["check"] == key[0] and key[1] in c["subject"]], json.dumps(after, indent=1)


@pytest.mark.parametrize("name", ["MyQueue", "q" * 45, "очередь-Писем"])
def test_queues_with_odd_names(patient, name):
    """Each statement that doctor proposes for such a queue is one that works: --fix executes it, and all is well."""
    patient.queues = {name: {"plugin": "null"}}
    patient.finds("queue", "does not exist", "SELECT pgmqd.create_queue(", subject=name, fix=True, only=False)
    table, other = f'pgmq."q_{name.lower()}"', f'pgmq."a_{name.lower()}"'
    patient.sql(f"drop trigger pgmqd_wakeup on {table}; alter table {table} disable trigger pgmqd_wakeup_earlier; revoke delete on {table} from app;"
                f" grant select on {other} to anon; alter table {table} set (autovacuum_enabled = off)")
    broken, mended = patient.doctor(), patient.doctor("--fix")
    assert {c["check"] for c in broken["bad"]} == {"wake-up", "grants", "access", "vacuum"} and mended["status"] == "ok", json.dumps([broken["bad"], mended["bad"]], indent=1)
    assert {c["fix"] for c in broken["bad"]} == {f["fix"] for f in mended["fixed"]} and not any(f["error"] for f in mended["fixed"])


# ---- broken elsewhere ----

def test_role(patient, site):
    """Too many rights are told, and so are too few: the statement that it takes is the remedy, for somebody else to run."""
    patient.conninfo = site.conninfo(patient.dbname)
    patient.finds("role", "postgres is a superuser", "a role of its own: pgmqd migrate makes the role pgmqd", status="warn")
    patient.conninfo = site.conninfo(patient.dbname, user="dispatcher")
    patient.finds("schema", "may not use the schemas", "GRANT USAGE ON SCHEMA pgmqd, pgmq TO dispatcher", only=False)
    patient.sql("grant usage on schema pgmqd, pgmq to dispatcher; grant select, insert, update, delete on all tables in schema pgmqd, pgmq to dispatcher;"
                " grant execute on all functions in schema pgmqd, pgmq to dispatcher; revoke delete on pgmq.q_email_queue from dispatcher")
    patient.finds("grants", "role dispatcher lacks DELETE", "GRANT DELETE ON pgmq.q_email_queue TO dispatcher, as the owner", subject="pgmq.q_email_queue")
    patient.sql("grant delete on pgmq.q_email_queue to dispatcher")
    assert patient.doctor()["status"] == "ok"
    # the daemon's role may look at less than its owner may; with -d the rights of the one are looked at by the other
    patient.sql("revoke select on pgmqd.trigger_errors, pgmqd.schema_version from dispatcher")
    assert "trigger errors" in patient.doctor()["not_permitted"]
    owner = site.conninfo(patient.dbname, user="app")
    assert patient.doctor("-d", owner)["status"] == "ok"
    patient.sql("revoke delete on pgmq.q_email_queue from dispatcher; revoke usage on schema pgmq from dispatcher")
    patient.finds("grants", "role dispatcher", "GRANT DELETE ON pgmq.q_email_queue TO dispatcher", "-d", owner, subject="pgmq.q_email_queue", only=False, fix=True)


def test_connections(patient):
    """Fewer than the settings take are a failure, and too few for a backlog a warning; the limit that is met is lifted by the remedy."""
    for limit, status in ((3, "fail"), (6, "warn")):
        patient.sql(f"alter database {patient.dbname} connection limit {limit}")
        said = patient.finds("connections", "can be had (the database's limit)", f"ALTER DATABASE {patient.dbname} CONNECTION LIMIT -1", status=status)
    patient.sql(said["bad"][0]["remedy"].partition(", or")[0])
    assert patient.doctor()["status"] == "ok"
    patient.sql("alter role app connection limit 3")
    patient.finds("connections", "(the role's limit)", "ALTER ROLE app CONNECTION LIMIT -1")
    patient.sql("alter role app connection limit -1")


def test_old_snapshot(patient, site):
    """Told with its process; what is younger than the age is let be."""
    with site.connect(patient.dbname, autocommit=False) as db:
        db.execute("set transaction isolation level repeatable read")
        pid = db.execute("select pg_backend_pid()").fetchone()[0]
        patient.finds("snapshot", "idle in transaction, holds vacuum back", f"SELECT pg_terminate_backend({pid})", "--snapshot-age", "0s", subject=str(pid))
        assert patient.doctor()["status"] == "ok"
        patient.conninfo = site.conninfo(patient.dbname, user="blind")
        said = patient.doctor()
        assert "GRANT pg_read_all_stats TO blind" in [c for c in said["checks"] if c["check"] == "snapshot"][0]["seen"]


def test_prepared_transaction(patient):
    patient.sql("begin; create table public.left_over (); prepare transaction 'left over'")
    try:
        patient.finds("snapshot", "holds vacuum back", "ROLLBACK PREPARED 'left over'", "--snapshot-age", "0s", subject="left over")
    finally:
        patient.sql("rollback prepared 'left over'")


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
def test_pooler(patient, site):
    with pooler(site, patient.dbname, "app") as conninfo:
        patient.conninfo = conninfo
        patient.finds("pooler", "a transaction pooler is in between", "to the server itself", status="warn")
        patient.settings = {"require_notify": "yes"}
        patient.finds("pooler", "a transaction pooler is in between", "to the server itself")


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
def test_pooler_in_session_mode(patient, site):
    """It is as good as none: notifications come back, and a message goes through."""
    with pooler(site, patient.dbname, "app", "session") as patient.conninfo:
        said = patient.doctor()
        ok = {c["check"]: c["seen"] for c in said["checks"] if c["status"] == "ok"}
        assert ok["pooler"] == "there is one, in session mode, and notifications come back" and "message" in ok, said


def test_no_server(patient):
    patient.conninfo = f"host=127.0.0.1 port={free_port()} dbname=app"
    said = patient.finds("connection", "Connection refused", f"start the server, or set database in {patient.dir}/pgmqd.conf")
    assert "queue" in said["skipped"]


def test_standby():
    """A server in recovery: looked at, and not written to."""
    with Cluster() as cluster:
        cluster.createdb("app")
        done = rigs.migrate(cluster.conninfo("app"))
        assert done.returncode == 0, done.stderr
        with cluster.connect("app") as db:
            db.execute("select pgmqd.tell_limits('email_queue', null, 1, 1, false, false, 0, 0, 'dispatcher')")
        cluster.stop()
        (cluster.dir / "data" / "standby.signal").touch()
        cluster.start()
        done = run("doctor", "--json", "-d", cluster.conninfo("app"), "--sql-dir", SRCDIR / "sql")
        said = json.loads(done.stdout)
    (standby,) = [c for c in said["checks"] if c["check"] == "standby"]
    assert standby["status"] == "fail" and "target_session_attrs=read-write" in standby["remedy"]
    assert done.returncode == 2 and {"pooler", "notify", "message"} <= set(said["skipped"])
    assert [c["status"] for c in said["checks"] if c["check"] == "limits"] == ["ok"]


SHIFT = """#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *t)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, t);
	if (clock == CLOCK_REALTIME)
		t->tv_sec += 90;
	return rc;
}
"""


def test_clock_skew(patient):
    """This machine's clock is 90 s ahead, by a library in front of the C library's."""
    (patient.dir / "shift.c").write_text(SHIFT)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", patient.dir / "shift.so", patient.dir / "shift.c"], check=True)
    patient.env = {"LD_PRELOAD": str(patient.dir / "shift.so"), "ASAN_OPTIONS": "verify_asan_link_order=0"}
    patient.finds("clock", "90.0 s behind ours", "NTP")


def test_mail_server(patient, mail):
    """The password is wrong; the server is down; its certificate is not trusted. Nothing of it is a message's business."""
    patient.queues = {"email_queue": rigs.email_queue(mail)}
    patient.env = rigs.email_environment(mail, SMTP_PASS="wrong")
    patient.finds("plugin", "refused the login", "set smtp_user and smtp_pass", subject="email_queue")
    patient.env = rigs.email_environment(mail, SMTP_PORT=str(free_port()))
    patient.finds("plugin", "no connection", "start the mail server", subject="email_queue")
    patient.env = rigs.email_environment(mail)
    patient.queues = {"email_queue": rigs.email_queue(mail, smtp_ca_file=None)}
    patient.finds("plugin", "certificate does not verify", "smtp_ca_file", subject="email_queue")
    patient.queues = {"email_queue": rigs.email_queue(mail, smtp_tls="none")}
    patient.env = rigs.email_environment(mail, SMTP_HOST="mail.example.test")
    patient.finds("plugin", "refuses its options", "correct the section [queue email_queue]", subject="email_queue")


def test_report_directory(patient):
    patient.queues = {"report_generation_queue": {"plugin": "report", "report_dir": "/proc/self/task"}}
    patient.finds("plugin", "no file can be written there", "report_dir", subject="report_generation_queue")


@pytest.mark.parametrize("size, status, seen", [("size=1m", "warn", "is nearly full"), ("size=1m,nr_inodes=2", "fail", "No space left on device")])
def test_full_report_directory(patient, tmp_path, size, status, seen):
    """The remedy is executed: with room in it again all is well."""
    directory = tmp_path / "reports"
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0777,{size}", "pgmqd-test", directory], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        (directory / "old").write_bytes(bytes(1016 << 10))
        patient.queues = {"report_generation_queue": {"plugin": "report", "report_dir": str(directory)}}
        patient.finds("plugin", seen, "free some space there", subject="report_generation_queue", status=status)
        (directory / "old").unlink()
        if status == "fail":
            assert patient.doctor()["status"] == "warn"  # so few files are little room
        else:
            assert patient.doctor()["status"] == "ok"
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_plugin_files(patient):
    """Missing; writable by everybody; no plugin at all; one that crashes is not tried here but told of."""
    dir = patient.dir / "plugins"
    dir.mkdir()
    patient.settings = {"plugin_dir": dir}
    patient.queues = {"email_queue": {"plugin": "null"}}
    patient.finds("plugin", "there is no file", f"install the plugin as {dir}/pgmqd-null-plugin.so", subject="email_queue")
    file = dir / "pgmqd-null-plugin.so"
    shutil.copy(PLUGINS / "pgmqd-null-plugin.so", file)
    file.chmod(0o666)
    patient.finds("plugin", "writable by", "chmod go-w", subject="email_queue")
    file.chmod(0o644)
    assert patient.doctor()["status"] == "ok"
    file.write_text("no object")
    patient.finds("plugin", "cannot be loaded", "pgmqd run --check", subject="email_queue")


def test_template(patient):
    """One that does not parse; one that needs a variable that its sample has not."""
    dir = patient.dir / "templates"
    shutil.copytree(SRCDIR / "templates", dir)
    patient.settings = {"template_dir": dir}
    file = dir / "en" / "report_ready.txt.mustache"
    text = file.read_text()
    file.write_text(text + "{{#open}}")
    patient.finds("templates", "report_ready.txt.mustache", "correct the file")
    file.write_text("{{! required: nobody_has_it }}" + text)
    patient.finds("templates", "nobody_has_it", "pgmqd render report_ready --lang en", subject="en/report_ready")


def test_settings(patient):
    """Each line that is wrong is told, and what is left is looked at by -d."""
    patient.settings = {"fallback_pol": "1h"}
    said = patient.finds("settings", "fallback_pol", "correct this line", only=False)
    assert {"plugin", "templates"} <= set(said["skipped"])
    patient.settings = {}
    path = patient.dir / "pgmqd.conf"
    path.write_text(conf(patient.conninfo, patient.queues))
    path.chmod(0o644)
    done = run("doctor", "-c", path)
    assert done.returncode == 1 and f"remedy: chmod o-r {path}" in done.stdout


# ---- pg_cron ----

@pytest.fixture(scope="module")
def cron():
    """A database with pg_cron in it, or a skip."""
    with Cluster(preload_cron="app") as cluster:
        if not cluster.has_extension("pg_cron"):
            pytest.skip("pg_cron is not installed")
        cluster.createdb("app")
        assert rigs.migrate(cluster.conninfo("app")).returncode == 0
        yield cluster


def test_pg_cron(cron, tmp_path):
    """A job switched off, a job dropped, a launcher that is dead."""
    patient = Patient(cron, "app", tmp_path)
    patient.conninfo = cron.conninfo("app")  # pg_cron's owner is a superuser, which is the one thing that is told while all is well
    more = dict(only=False)
    assert [c["check"] for c in patient.doctor()["bad"] if "launcher" not in c["seen"]] == ["role", "owner"]
    patient.sql("select cron.alter_job(jobid, active := false) from cron.job where jobname = 'cleanup-old-assessments'")
    patient.finds("pg_cron", "switched off", "cron.alter_job(", subject="cleanup-old-assessments", **more)
    patient.sql("select cron.unschedule('cleanup-old-assessments')")
    said = patient.doctor()
    assert any(c["seen"] == "pg_cron has no such job" and c["fix"] for c in said["bad"]), said["bad"]
    said = patient.doctor("--fix")
    assert not any(c["subject"] == "cleanup-old-assessments" for c in said["bad"]), said["bad"]
    patient.sql("""do $$ begin  -- it is started anew until its database is there; killed after that, it stays dead for a while
        for i in 1..300 loop
            perform pg_stat_clear_snapshot();
            exit when exists (select from pg_stat_activity where backend_type = 'pg_cron launcher');
            perform pg_sleep(0.1);
        end loop;
        perform pg_terminate_backend(pid, 10000) from pg_stat_activity where backend_type = 'pg_cron launcher'; end $$""")
    patient.finds("pg_cron", "its launcher is dead", "restart the server", **more)


# ---- the first hour ----

def test_the_recommended_role_is_well(rig, tmp_path):
    """As the role pgmqd, which migrate makes: exit 0, and it may look at everything."""
    rig.db.execute("select pgmqd.set_owner('pgmqd_migrator')")
    path = tmp_path / "pgmqd.conf"
    path.write_text(conf(rig.login, {"email_queue": {"plugin": "null"}}))
    path.chmod(0o600)
    for secured in (False, True):  # as a platform's adviser may want it
        if secured:
            rig.db.execute("alter table pgmqd.schema_version enable row level security")
        done = run("doctor", "-c", path)
        assert done.returncode == 0, done.stdout
        assert json.loads(run("doctor", "--json", "-c", path).stdout)["not_permitted"] == []


def test_a_remedy_does_not_make_what_exists(rig, tmp_path):
    """A superuser is told to use the role that migrate made, not to create it again."""
    path = tmp_path / "pgmqd.conf"
    path.write_text(conf(rig.conninfo, {"email_queue": {"plugin": "null"}}))
    path.chmod(0o600)
    found = [c for c in json.loads(run("doctor", "--json", "-c", path).stdout)["checks"] if c["check"] == "role"]
    assert "CREATE ROLE" not in found[0]["remedy"] and "the role pgmqd" in found[0]["remedy"], found


FIRST_HOUR = {
    "defaults never changed": ("update pgmqd.settings set value = 'https://app.example.test' where name = 'app_url'", dict(
        check="defaults", seen="app_url still as installed", remedy="UPDATE pgmqd.settings SET value = '...' WHERE name = 'app_url'; look at", status="warn")),
    "a queue that is not served": ("select pgmqd.enqueue('payment_processing_queue', '{}'); update pgmq.q_payment_processing_queue set"
                                   " vt = now() - interval '5 minutes', enqueued_at = now() - interval '5 minutes'", dict(
        check="unserved", subject="payment_processing_queue", seen="neither the settings nor a connected pgmqd", remedy="[queue payment_processing_queue]",
        status="warn", only=False)),
    "a minute that does not exist": (UNCHECKED.format("update pgmqd.schedule set cron = '61 9 * * 1' where name = 'delete-old-messages'"), dict(
        check="schedule", subject="delete-old-messages", seen="it cannot run", remedy="UPDATE pgmqd.schedule", only=False)),
    "a day that never comes": (UNCHECKED.format("update pgmqd.schedule set cron = '0 0 30 2 *' where name = 'delete-old-messages'"), dict(
        check="schedule", subject="delete-old-messages", seen="none of its months has such a day", remedy="pgmqd schedule next", only=False)),
}


@pytest.mark.parametrize("what", FIRST_HOUR)
def test_first_hour(patient, what):
    """It is told, and its remedy, done with values of the reader's own, is the end of it."""
    statement, expected = FIRST_HOUR[what]
    patient.sql(statement)
    said = patient.finds(**expected)
    found = [c for c in said["bad"] if c["check"] == expected["check"] and expected.get("subject", "") in c["subject"]][0]
    for section in re.findall(r"a section \[queue (\w+)\]", found["remedy"]):
        patient.queues[section] = {"plugin": "null"}
    own = {"defaults": {"...": "https://clinic.example.com"}, "schedule": {"...": "0 4 * * 1"}}.get(found["check"], {})
    for statement in re.findall(r"(?:UPDATE|SELECT) .*?(?=;|, or | if |$)", found["remedy"]):
        for gap, value in own.items():
            statement = statement.replace(gap, value)
        patient.sql(statement)
    for command in re.findall(r"pgmqd (schedule next) '(.*?)'", found["remedy"]):
        done = run(*command[0].split(), command[1].replace("...", own["..."]))
        assert done.returncode == 0 and re.search(r"\d{4}-\d\d-\d\d", done.stdout), done.stdout + done.stderr
    after = patient.doctor()["bad"]
    assert not [c for c in after if (c["check"], c["subject"]) == (found["check"], found["subject"])], json.dumps(after, indent=1)


def test_http_for_everybody(patient):
    patient.settings["http_listen"] = "0.0.0.0:8089"
    patient.finds("settings", "can be reached from other machines", "http_token", only=False)


def test_a_lock_of_somebody_else(patient):
    """The session that holds a lock of ours is named, with the statement that ends it; executing that repairs it."""
    with patient.cluster.connect(patient.dbname) as db:
        pid = db.execute("select pg_backend_pid() from pg_advisory_lock('pgmq.q_email_queue'::regclass::oid::int, -2)").fetchone()[0]
        patient.finds("lock", f"pid {pid}", f"SELECT pg_terminate_backend({pid})", subject="email_queue")
        patient.sql(f"select pg_terminate_backend({pid}, 5000)")
    assert patient.doctor()["status"] == "ok"


def test_a_superuser_owns_our_functions(patient):
    patient.sql("alter schema pgmqd owner to postgres", "grant usage on schema pgmqd to app", "grant execute on all functions in schema pgmqd to app")
    patient.finds("owner", "a superuser owns", "pgmqd.set_owner('pgmqd_migrator')", subject="postgres", status="warn", only=False)


@pytest.mark.parametrize("made, subject", [
    ("create function pgmq.mine() returns int language sql as 'select 1'", "function pgmq.mine()"),
    ("create view pgmq.mine as select 1 as one", "view pgmq.mine"),
    ("create function public.mine() returns trigger language plpgsql as 'begin return null; end';"
     " create trigger mine after insert on pgmq.q_email_queue for each row execute function public.mine()", "trigger mine on table pgmq.q_email_queue, which runs function public.mine()"),
    ("select 1", "right to create in schema pgmq"),
])
def test_what_others_have_put_into_our_schemas(patient, made, subject):
    patient.sql("grant usage, create on schema pgmq, public to blind", "grant trigger on pgmq.q_email_queue to blind", f"set role blind; {made}; reset role")
    patient.finds("owner", "role blind has it", "take it from that role", subject=subject, only=False)


def test_servers_of_a_connection_string(patient):
    """The worst case of several servers is told; without target_session_attrs that is a warning."""
    port = patient.cluster.port
    patient.conninfo = f"host={patient.cluster.dir},{patient.cluster.dir} port={port},{port} dbname={patient.dbname} user=app"
    patient.finds("failover", "2 servers", "target_session_attrs=read-write", status="warn")
    patient.conninfo += " target_session_attrs=read-write"
    said = patient.doctor()
    assert said["status"] == "ok" and "20 s in the worst case" in [c for c in said["checks"] if c["check"] == "failover"][0]["seen"]
