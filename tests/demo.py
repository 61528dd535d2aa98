"""What ./quickstart shows: five things happen in a database, and their mails arrive; with the milliseconds in between. Then the report of the
check-up, and a payment that is verified at a provider, which is a script of ours.

Leaves the mails (mail/*.eml), the daemon's log and PostgreSQL's log in quickstart/ of the build tree (PGMQD_BUILDDIR). The exit status is 0 only if
every expected mail arrived. With --keep everything goes on running in the background until --stop.
"""

import argparse
import fcntl
import os
import re
import secrets
import select
import shlex
import shutil
import signal
import statistics
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib import app, rig  # noqa: E402  (the path comes first)
from lib.daemon import Daemon, conf  # noqa: E402
from lib.httpstub import HttpStub  # noqa: E402
from lib.mailcatcher import MailCatcher  # noqa: E402
from lib.paths import BUILDDIR, TIMEOUT, directories  # noqa: E402
from lib.pgcluster import Cluster, bin_dir, free_port  # noqa: E402

IDLE_MESSAGES = 50
SHOP = ("123456", "test_of_quickstart")


def say(text=""):
    print(text, flush=True)


class Demo:
    """The running parts, and the five events."""

    def __init__(self, out):
        self.out = out
        self.cluster = self.catcher = self.daemon = self.provider = self.sources = None
        self.url = self.token = None
        self.env = {}
        self.reports = False
        self.checkup = None
        self.committed = {}  # recipient: when the event was committed

    # ---- start and stop ----

    def start(self):
        shutil.rmtree(self.out / "mail", ignore_errors=True)
        for name in ("env", "pgmqd.conf", "pgmqd.log", "postgresql.log"):
            (self.out / name).unlink(missing_ok=True)
        cron = os.path.exists(f"{bin_dir()}/../lib/pg_cron.so")
        self.cluster = Cluster(preload_cron="app" if cron else None, fsync=True)
        self.cluster.start()
        with self.cluster.connect() as db:
            version = db.execute("show server_version").fetchone()[0].split()[0]
        say(f"PostgreSQL {version}{' with pg_cron' if cron else ''} runs in {self.cluster.dir}")
        self.catcher = MailCatcher(dir=self.out / "mail").start()
        say(f"A mail catcher with STARTTLS and AUTH listens on {self.catcher.host}:{self.catcher.port}")
        self.provider = HttpStub(login=SHOP).start()
        self.sources = HttpStub().start()
        self.sources.answer("/lab", 200, {"glucose": 5.1, "unit": "mmol/l"})
        self.sources.answer("/imaging", 200, {"finding": "none"})
        self.cluster.createdb("app")
        with self.cluster.connect() as db:  # what pgmqd's functions may do in the database is what their owner may: no superuser
            db.execute("create role clinic login createrole")
            db.execute("alter database app owner to clinic")
        if cron:  # this extension is for a superuser to make
            with self.cluster.connect("app") as db:
                db.execute("create extension pg_cron")
                db.execute("grant usage on schema cron to clinic")
                db.execute("grant pg_read_all_settings to clinic")  # newer versions keep their time zone from others
                db.execute("grant execute on all functions in schema cron to clinic")
        done = rig.migrate(self.cluster.conninfo("app", user="clinic"), "--demo-app")
        if done.returncode:
            raise RuntimeError(f"pgmqd migrate failed:\n{done.stdout}{done.stderr}")
        with self.cluster.connect("app", user="clinic") as db:
            db.execute("select pgmqd.create_queue('report_jobs')")
        say("pgmqd migrate --demo-app has made the tables, queues and triggers")
        http = f"127.0.0.1:{free_port()}"
        self.url = f"http://{http}"
        self.token = secrets.token_hex(12)
        self.env = {**rig.email_environment(self.catcher), "YOOKASSA_SHOP_ID": SHOP[0], "YOOKASSA_SECRET_KEY": SHOP[1]}
        text = (
            conf(self.cluster.conninfo("app", user="pgmqd"), self.queues(), http_listen=http, http_token=self.token, brand_name="Balansity", brand_team="Little Otter",
                 brand_about="the health check-up service")
            + "[job professional-report]\nqueue = report_jobs\nopen = yes\n")
        self.daemon = Daemon(text, env=self.env, log_path=self.out / "pgmqd.log").start()
        self.daemon.wait_ready()
        say("pgmqd is ready")

    def queues(self):
        """The sections of the settings file: mails, payments, events, jobs, and reports if their plugin was built."""
        queues = {"email_queue": rig.email_queue(self.catcher),
                  "payment_processing_queue": {"plugin": "payment", "base_url": self.provider.url},
                  "analytics_queue": {"plugin": "analytics"},
                  "report_jobs": {"plugin": "sources", "allow_private": "yes",
                                  "sources": f"lab {self.sources.url}/lab | imaging {self.sources.url}/imaging"}}
        if os.path.exists(os.path.join(directories().get("plugin_dir", "/"), "pgmqd-report-plugin.so")):
            shutil.rmtree(self.out / "reports", ignore_errors=True)
            (self.out / "reports").mkdir()
            queues["report_generation_queue"] = {"plugin": "report", "report_dir": self.out / "reports", "nice": 10}
            self.reports = True
        return queues

    def stop(self):
        """Everything, in the order that lets each part end well."""
        status = 0
        if self.daemon:
            status = self.daemon.stop()
        if self.catcher:
            self.catcher.stop()
        for stub in (self.provider, self.sources):
            if stub:
                stub.stop()
        if self.cluster:
            if self.cluster.dir:
                self.cluster.stop()
                if (self.cluster.dir / "postgresql.log").exists():
                    shutil.copy(self.cluster.dir / "postgresql.log", self.out / "postgresql.log")
            self.cluster.destroy()
        for name in ("env", "pgmqd.conf"):
            (self.out / name).unlink(missing_ok=True)
        return status

    # ---- the events ----

    def event(self, what, to, statement):
        """Runs `statement` in a transaction of its own, waits for the mail to `to`; returns a row of the table, or None."""
        with self.cluster.connect("app", autocommit=False) as db:
            statement(db)
            sent = time.time()
            self.committed.setdefault(to, sent)
            db.commit()
        try:
            mail = self.catcher.wait_to(to, TIMEOUT)
        except TimeoutError:
            return what, "-- no mail arrived --", None, None
        return what, mail.subject, self.handler_start(to) - sent, mail.at.timestamp() - sent

    def handler_start(self, to):
        """When pgmqd gave the message to `to` to its plugin: the field `started` of its log."""
        with self.cluster.connect("app") as db:
            record = self.daemon.wait_settled(TIMEOUT, queue="email_queue", msg_id=app.message_id(db, to))
        return datetime.fromisoformat(record["started"].replace("Z", "+00:00")).timestamp()

    def events(self):
        """The five events, one after the other."""
        names = {"elena": "Елена Примерова", "boris": "Борис Опытов", "vera": "Вера Тестова", "gleb": "Глеб Пробников"}
        with self.cluster.connect("app") as db:
            who = {key: app.new_customer(db, f"{key}@example.test", name) for key, name in names.items()}
            checkup = app.start_checkup(db, who["elena"])
            self.checkup = checkup
            paid = app.new_payment(db, who["vera"])
            unpaid = app.new_payment(db, who["gleb"])
        yield self.event("a check-up was completed", "elena@example.test", lambda db: app.complete_checkup(db, checkup))
        yield self.event("an appointment was booked", "boris@example.test", lambda db: app.book_appointment(db, who["boris"]))
        yield self.event("a payment was completed", "vera@example.test", lambda db: app.set_payment_status(db, paid, "completed"))
        yield self.event("a payment failed", "gleb@example.test", lambda db: app.set_payment_status(db, unpaid, "failed"))
        yield self.event("queue_email_task() was called", "dina@example.test", lambda db: app.queue_email_task(
            db, "dina@example.test", "report_ready", app.sample("report_ready", "en")))

    def report(self):
        """The report of the completed check-up: its row, and the seconds until it was on the disk and until its mail arrived."""
        to = "elena@example.test"
        mail = self.catcher.wait_for(lambda m: m.recipients == [to] and list(m.parsed.iter_attachments()), TIMEOUT)
        self.daemon.wait_settled(TIMEOUT, queue="report_generation_queue", outcome="done")
        with self.cluster.connect("app") as db:
            row = app.report_of(db, self.checkup)
        return row, os.stat(row["path"]).st_mtime - self.committed[to], mail.at.timestamp() - self.committed[to]

    def verification(self):
        """A payment that the provider says is paid: the seconds until its row says so, too, and until the mail arrived."""
        to = "zoya@example.test"
        with self.cluster.connect("app") as db:
            payment = app.new_payment(db, app.new_customer(db, to, "Зоя Образцова"))
            db.execute("update payments set provider_payment_id = 'quickstart-1' where id = %s", [payment])
            self.provider.answer("/v3/payments/quickstart-1", 200, {
                "id": "quickstart-1", "status": "succeeded", "paid": True, "test": False, "amount": {"value": "1490.00", "currency": "RUB"},
                "metadata": {"payment_id": str(payment)}, "captured_at": "2026-11-20T10:05:00.000Z"})
            sent = time.time()
            msg_id = db.execute("select queue_payment_processing(%s)", [payment]).fetchone()[0]
        mail = self.catcher.wait_to(to, TIMEOUT)
        record = self.daemon.wait_settled(TIMEOUT, queue="payment_processing_queue", msg_id=msg_id, outcome="done")
        settled = datetime.fromisoformat(record["ts"].replace("Z", "+00:00")).timestamp()
        with self.cluster.connect("app") as db:
            (status,) = db.execute("select status from payments where id = %s", [payment]).fetchone()
        return status, settled - sent, mail.at.timestamp() - sent

    def idle_latencies(self):
        """Seconds from commit to handler start of further messages, each sent when the one before was done."""
        self.catcher.dir = None  # the folder is for the five
        found = []
        variables = app.sample("report_ready")
        with self.cluster.connect("app") as db:
            for _ in range(IDLE_MESSAGES):
                mark = self.daemon.mark()
                sent = time.time()
                msg_id = app.queue_email_task(db, "idle@example.test", "report_ready", variables)
                record = self.daemon.wait_settled(TIMEOUT, mark, msg_id=msg_id)
                found.append(datetime.fromisoformat(record["started"].replace("Z", "+00:00")).timestamp() - sent)
        self.catcher.dir = self.out / "mail"
        return found


def show(rows):
    """Prints the table."""
    head = ("what happened", "mail that arrived", "commit → handler", "commit → mail")
    table = [head] + [(what, subject, *("-" if s is None else f"{s * 1000:.1f} ms" for s in (start, mail)))
                      for what, subject, start, mail in rows]
    width = [max(len(row[i]) for row in table) for i in range(4)]
    say()
    for n, row in enumerate(table):
        say(f"  {row[0]:{width[0]}}  {row[1]:{width[1]}}  {row[2]:>{width[2]}}  {row[3]:>{width[3]}}")
        if n == 0:
            say("  " + "  ".join("-" * w for w in width))
    say()


def write_env(demo):
    """The settings file of the running pgmqd, and the file that a shell sources to use it."""
    with open(os.open(demo.out / "pgmqd.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(demo.daemon.conf_text)
    values = {
        "PGHOST": demo.cluster.dir, "PGPORT": demo.cluster.port, "PGUSER": "postgres", "PGDATABASE": "app",
        "DATABASE_URL": demo.cluster.conninfo("app"), "PGMQD_CONF": demo.out / "pgmqd.conf", "PGMQD_URL": demo.url,
        "PGMQD_HTTP_TOKEN": demo.token, **{f"PGMQD_{name.upper()}": path for name, path in directories().items()}, **demo.env,
    }
    text = "unset PGSERVICE PGOPTIONS PGCLIENTENCODING PGPASSWORD PGHOSTADDR PGSSLMODE PGTARGETSESSIONATTRS\n"
    text += f"export PATH={shlex.quote(str(BUILDDIR))}:$PATH\n"
    text += "".join(f"export {key}={shlex.quote(str(value))}\n" for key, value in values.items())
    (demo.out / "env").write_text(text)


def demonstrate(demo):
    """Starts everything and shows it; True when every mail arrived."""
    demo.start()
    rows = list(demo.events())
    show(rows)
    missing = [what for what, _, start, _ in rows if start is None]
    if missing:
        say(f"No mail within {TIMEOUT:.0f} s after: {'; '.join(missing)}. The daemon's log ends with:")
        say(demo.daemon.tail(15))
        return False
    mails = len(rows)
    if demo.reports:
        row, on_disk, mailed = demo.report()
        mails += 1
        say(f"The check-up's report, {row['pages']} pages, {row['bytes'] / 1000:.0f} kB: {row['path']}")
        say(f"  completed → PDF on disk {on_disk * 1000:.1f} ms, → mail with the PDF {mailed * 1000:.1f} ms")
        say()
    status, settled, mailed = demo.verification()
    mails += 1
    say(f"A payment was verified at a scripted provider: pending → {status}")
    say(f"  asked for → archived {settled * 1000:.1f} ms, → mail {mailed * 1000:.1f} ms")
    say()
    idle = demo.idle_latencies()
    say(f"All {mails} mails arrived over TLS. They are in {demo.out / 'mail'}")
    say(f"Commit → handler start on an idle queue, median of {len(idle)} messages: {statistics.median(idle) * 1000:.2f} ms")
    say("(measured from the moment at which the client sends its COMMIT, so the commit itself is included)")
    return True


def run_until_stopped(demo, report, turn):
    """The background half of --keep: shows everything, reports the outcome through the pipe, and waits for SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ^C in the foreground, before all is shown
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ok = False
    try:
        ok = demonstrate(demo)
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        if ok:
            write_env(demo)
            (demo.out / "pid").write_text(f"{os.getpid()}\n")
            fcntl.flock(turn, fcntl.LOCK_UN)  # the next one stops us
    except Exception as error:  # told to the person who waits in the foreground
        say(f"quickstart: {error}")
    finally:
        sys.stdout.flush()
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):  # whoever reads our output is not to wait for us
            os.dup2(quiet, fd)
        os.write(report, b"0" if ok else b"1")
        os.close(report)
        if not ok:
            demo.stop()
    if ok:
        stop.wait()
        demo.stop()
    (demo.out / "pid").unlink(missing_ok=True)


def keep(demo, turn):
    """Goes to the background; returns when all is shown and runs."""
    result, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(result)
        os.setsid()
        run_until_stopped(demo, report, turn)
        sys.exit(0)
    os.close(report)
    try:
        ok = os.read(result, 1) == b"0"
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        return 130
    if not ok:
        os.waitpid(child, 0)
        return 1
    running = dict(re.findall(r"^export (\w+)=(.*)$", (demo.out / "env").read_text(), re.M))
    env = os.path.relpath(demo.out / "env")
    say(f"""
All of it is still running.
  {running["PGMQD_URL"] + "/":42} the status page; its token: {running["PGMQD_HTTP_TOKEN"]}
  . {env:40} for a shell in which psql, pgmqd status, pgmqd doctor and so on work
  {os.path.relpath(demo.out / 'pgmqd.conf'):42} the settings file
  tail -f {os.path.relpath(demo.out / 'pgmqd.log'):34} the daemon's log
  ls {os.path.relpath(demo.out / 'mail'):39} the mails
  ./quickstart stop                          stops everything""")
    return 0


def take_turn(out):
    """Waits until no other quickstart is at work on the same files; the result is to be closed when we are through."""
    turn = open(out / "shown", "w", encoding="ascii")
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another quickstart is at work in this checkout; waiting for its end")
        fcntl.flock(turn, fcntl.LOCK_EX)
    return turn


def stop_kept(out):
    """Ends what --keep left; True when there was something, and it is gone."""
    try:
        pid = int((out / "pid").read_text())
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            if b"demo.py" not in f.read():
                raise ProcessLookupError
        gone = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        for name in ("pid", "env", "pgmqd.conf"):
            (out / name).unlink(missing_ok=True)
        return False
    select.select([gone], [], [], 120)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--stop", action="store_true")
    args = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")
    for name in [n for n in os.environ if n.startswith("PG") and not n.startswith(("PGMQD_", "PG_BINDIR", "PGMQ_"))]:
        del os.environ[name]  # libpq's, which name other servers
    out = BUILDDIR / "quickstart"
    out.mkdir(parents=True, exist_ok=True)
    if args.stop:
        say("Stopped." if stop_kept(out) else "Nothing was running.")
        return 0
    try:
        turn = take_turn(out)
    except KeyboardInterrupt:
        return 130
    if stop_kept(out):
        say("Stopped what was left running.")
    demo = Demo(out)
    if args.keep:
        return keep(demo, turn)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ok = False
    try:
        ok = demonstrate(demo)
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, TimeoutError, OSError, LookupError) as error:
        say(f"quickstart: {error}")
    finally:
        demo.stop()
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
