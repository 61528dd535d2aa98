"""The first hour with a database of one's own: the connection strings of platforms, the old worker's environment without a settings file,
`pgmqd init`, and what a terminal gets to see of other people's texts."""

import json
import os
import re
import shlex
import subprocess

import pytest

from lib.daemon import clean_environment, command_line, conf, run
from lib.lines import Lines
from lib.paths import BUILDDIR, SRCDIR, TIMEOUT, directories
from lib.rig import email_environment
from lib.stand import wait_until

HOSTILE = "\x1b]0;owned\x07 \u202egnp.exe \u2066x \x9b2J"


def places():
    """The build's directories as variables, for a pgmqd without a settings file."""
    return {f"PGMQD_{name.upper()}": str(value) for name, value in directories().items()}


# ---- connection strings ----

@pytest.mark.parametrize("url, part", [
    ("postgresql://u:s3cret@127.0.0.1:1/app?pgbouncer=true&connection_limit=1", 'no parameter "pgbouncer"'),
    ("postgresql://u:s3cret@127.0.0.1:1/app?schema=public", 'no parameter "schema"'),
    ("postgresql://u:s3cret@127.0.0.1:1/app?sslmode=no-verify", "sslmode=no-verify"),
    ('"postgresql://u:s3cret@127.0.0.1:1/app"', "in quotes"),
    ("postgresql+asyncpg://u:s3cret@127.0.0.1:1/app", "write postgresql:// instead"),
    ("postgresql://pgmqd:s3cret@ss/w:rd#1@127.0.0.1:1/app", "must be written as"),
])
def test_a_connection_string_of_another_driver(tmp_path, url, part):
    """One clear line, from the check as from the start and from a command, and an end."""
    (tmp_path / "pgmqd.conf").write_text(re.sub("^database.*\n", "", conf("", {"analytics_queue": {"plugin": "null"}}), flags=re.M))
    for argv, status in ((("run", "--check"), 78), (("run",), 78), (("status",), 1)):
        done = run(*argv, "-c", tmp_path / "pgmqd.conf", env={"DATABASE_URL": url})
        told = [line for line in done.stderr.splitlines() if part in line]
        assert done.returncode == status and len(told) == 1, done.stderr
        assert "s3cret" not in done.stdout + done.stderr


def test_a_transaction_pooler_is_named(tmp_path):
    (tmp_path / "pgmqd.conf").write_text(conf("host=127.0.0.1 port=6543 dbname=app", {"analytics_queue": {"plugin": "null"}}))
    done = run("run", "--check", "-c", tmp_path / "pgmqd.conf")
    assert done.returncode == 0 and "transaction pooler" in done.stderr and "5432" in done.stderr


# ---- no settings file ----

def test_the_environment_is_enough(rig, tmp_path):
    """--env-file and no settings file: the queues are served whose plugins have what they need, and the log says which, and how to write it down."""
    env = {**email_environment(rig.catcher), "DATABASE_URL": rig.login, "REPORT_DIR": str(tmp_path), "WORKER_INTERVAL_MS": "5000"}
    (tmp_path / ".env").write_text("".join(f'{k}="{v}"\n' for k, v in env.items()))
    (tmp_path / ".env").chmod(0o600)
    process = subprocess.Popen(command_line("run", "--env-file", tmp_path / ".env"), env=clean_environment({**places(), "LOG_LEVEL": "info"}),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    with open(tmp_path / "log", "wb") as log:
        lines = Lines(process.stdout, log, lambda line: line)
        try:
            assert lines.wait(lambda line: line.rstrip().endswith(" ready") or "ready" in line.split(), TIMEOUT), lines.snapshot()
            text = "\n".join(lines.snapshot())
            for part in ("email_queue is served by the plugin email", "analytics_queue is served by the plugin analytics",
                         "payment_processing_queue is not served: its plugin payment needs YOOKASSA_SHOP_ID and YOOKASSA_SECRET_KEY",
                         "`pgmqd init` writes them down"):
                assert part in text, text
            sent = rig.enqueue({"event": "opened", "user_id": None}, "analytics_queue")
            wait_until("archived", lambda: sent in [row["msg_id"] for row in rig.rows("a_analytics_queue")] or rig.dead("analytics_queue"))
        finally:
            process.terminate()
            status = process.wait(TIMEOUT)
            lines.join()
    assert status == 0


def test_neither_settings_nor_database(tmp_path):
    """Without a database in the environment the missing file is an error, which says what would be enough."""
    done = run("run", "--check", env={**places(), "SMTP_HOST": "mail.example.test"})
    assert done.returncode == 78 and "DATABASE_URL" in done.stderr and "pgmqd init" in done.stderr


# ---- pgmqd init ----

def test_init_of_a_migrated_database(rig, tmp_path):
    rig.db.execute("select pgmqd.create_queue('newsletter')")
    env = {**places(), "SMTP_FROM": "noreply@example.test", "SMTP_HOST": "127.0.0.1"}
    done = run("init", "-d", rig.conninfo, "-o", tmp_path / "pgmqd.conf", env=env)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()[-3:]] == ["migrate", "doctor", "run"]
    text = (tmp_path / "pgmqd.conf").read_text()
    assert os.stat(tmp_path / "pgmqd.conf").st_mode & 0o777 == 0o600
    sections = re.findall(r"^(#?)\[(.*)\]$", text, re.M)
    assert ("", "queue email_queue") in sections and ("", "queue analytics_queue") in sections
    assert ("#", "queue payment_processing_queue") in sections and ("#", "queue newsletter") in sections
    assert not [s for _, s in sections if s.endswith("_dlq")]
    check = run("run", "--check", "-c", tmp_path / "pgmqd.conf", env=env)
    assert check.returncode == 0, check.stderr
    again = run("init", "-d", rig.conninfo, "-o", tmp_path / "pgmqd.conf", env=env)
    assert again.returncode == 1 and "-o names another file" in again.stderr and (tmp_path / "pgmqd.conf").read_text() == text


def test_init_of_an_empty_database(cluster, tmp_path):
    """Neither pgmq nor our schema: the three next commands lead to a running daemon."""
    conninfo = cluster.createdb("init_empty")
    env = {**places(), "SMTP_FROM": "noreply@example.test", "SMTP_HOST": "127.0.0.1", "REPORT_DIR": str(tmp_path), "DATABASE_URL": conninfo,
           "PGMQD_SQL_DIR": str(directories().get("sql_dir", BUILDDIR / "../sql"))}
    done = run("init", env=env, cwd=tmp_path)
    assert done.returncode == 0 and "none yet" in done.stdout, done.stdout + done.stderr
    commands = [line.split("#")[0].split() for line in done.stdout.splitlines()[-3:]]
    assert run(*commands[0][1:], env=env, cwd=tmp_path).returncode == 0
    doctor = run(*commands[1][1:], "--json", env=env, cwd=tmp_path)
    broken = [c for c in json.loads(doctor.stdout)["checks"] if c["status"] == "fail"]
    assert [c["check"] for c in broken] == ["plugin"] and "mail server" in broken[0]["seen"], broken  # there is none in this test
    assert run(*commands[2][1:], "--check", env=env, cwd=tmp_path).returncode == 0


CLINIC = """
create schema clinic;
create table clinic.patients (id int primary key, contact_email text, first_name text, last_name text, locale text);
create table clinic.visits (id int primary key generated always as identity, patient_id int references clinic.patients,
  state text default 'booked' check (state in ('booked', 'done', 'canceled')), scheduled_at timestamptz, created_at timestamptz default now());
insert into clinic.patients values (1, 'first.hour@example.test', 'Anna', 'Sample', 'en')"""


def test_the_first_hour_of_readme(cluster, catcher, tmp_path):
    """README's commands, as they stand there and at most ten, on a database with other names, until its first mail. This build stands for the
    clone, its build and its installation; the server, the mail server and its certificate are the test's."""
    with cluster.connect() as db:
        if not db.execute("select 1 from pg_roles where rolname = 'hour_owner'").fetchone():
            db.execute("create role hour_owner login createrole")
    cluster.createdb("first_hour", owner="hour_owner")
    with cluster.connect("first_hour", user="hour_owner") as db:
        db.execute(CLINIC)
    section = re.search(r"^## The first hour with a database of your own\n(.*?)^## ", (SRCDIR / "README.md").read_text(encoding="utf-8"), re.M | re.S)[1]
    lines = re.search(r"^```sh\n(.*?)^```$", section, re.M | re.S)[1].splitlines()
    assert len(lines) <= 10 and lines[0].startswith("git clone") and lines[1].startswith("./quickstart build") and lines[2].startswith("export ")
    (tmp_path / "pgmqd").write_text("#!/bin/sh\nexec " + shlex.join(map(str, command_line())) + ' "$@"\n')
    (tmp_path / "pgmqd").chmod(0o755)
    env = clean_environment({**places(), **email_environment(catcher), "DATABASE_URL": cluster.conninfo("first_hour", user="hour_owner"),
                             "PATH": f"{tmp_path}:{os.environ['PATH']}", "PGMQD_HTTP_LISTEN": "off"})

    def do(line):
        done = subprocess.run(["bash", "-ec", line], env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    daemon = None
    try:
        for line in lines[3:]:
            if line.startswith("pgmqd run"):
                text = (tmp_path / "pgmqd.conf").read_text()
                assert "[queue email_queue]" in text
                (tmp_path / "pgmqd.conf").write_text(text.replace("[pgmqd]\n", "[pgmqd]\nhttp_listen = off\n", 1)
                                                     .replace("plugin = email\n", f"plugin = email\nsmtp_ca_file = {catcher.ca_file}\n", 1))
                daemon = subprocess.Popen(command_line(*shlex.split(line.rstrip("& "))[1:]), env=env, cwd=tmp_path, stdin=subprocess.DEVNULL,
                                          stdout=open(tmp_path / "log", "wb"), stderr=subprocess.STDOUT)
            else:
                said = do(line)
                assert "clinic.visits" in said or "pgmqd connect" not in line, said
        mail = catcher.wait_to("first.hour@example.test")
        assert "Anna Sample" in mail.body("plain")
    finally:
        if daemon:
            daemon.terminate()
            assert daemon.wait(60) == 0, (tmp_path / "log").read_text()


# ---- what a terminal sees ----

def test_texts_of_others_are_escaped(rig):
    """Reasons, authors and names reach a terminal in a harmless form, by whichever command."""
    rig.db.execute("select pgmqd.pause('analytics_queue', %s, %s)", [HOSTILE, HOSTILE])
    sent = rig.enqueue({}, "email_queue")
    rig.db.execute("insert into pgmq.q_email_queue_dlq (vt, message, headers) select now(), message, jsonb_build_object('pgmqd_dead',"
                   " jsonb_build_object('reason', %s::text, 'class', %s::text, 'attempts', 1)) from pgmq.q_email_queue where msg_id = %s",
                   [HOSTILE, HOSTILE, sent])
    rig.db.execute("update pgmqd.schedule set last_status = 'failed', last_error = %s", [HOSTILE])
    seen = ""
    for argv in (("status", "--listen", "off"), ("dlq", "list", "email_queue"), ("dlq", "show", "email_queue"), ("schedule", "list"),
                 ("doctor", "--read-only"), ("status", "--listen", "off", "--json"), ("doctor", "--read-only", "--json"), ("message", "show", "email_queue", "--id", "1", "--state", "dead")):
        done = run(*argv, "-d", rig.conninfo, env=places())
        seen += done.stdout + done.stderr
        if argv[-1] == "--json" and argv[0] == "status":
            assert HOSTILE in [(q["paused"] or {}).get("reason") for q in json.loads(done.stdout)["queues"]], "a program reads what it was"
    owner = f'"{HOSTILE}"'  # a role has a name that its maker chose
    rig.db.execute(f"create role {owner}; alter table public.appointments owner to {owner}")
    try:
        seen += run("migrate", "-d", rig.conninfo, "--with", "application", env=places()).stdout
        assert "belongs to role" in seen
    finally:
        rig.db.execute(f"alter table public.appointments owner to current_user; drop owned by {owner}; drop role {owner}")
    assert "\\x1B]0;owned\\x07 \\u202Egnp.exe" in seen
    assert not set(seen) & set("\x1b\x07\x9b\u202e\u2066"), re.findall(".*[\x1b\x07\x9b\u202e\u2066].*", seen)


# ---- the role that README recommends ----

def test_the_operators_commands_of_readme(rig):
    """Each line of README's "Is it healthy?" does its work for the role pgmqd, which README has the daemon log in as."""
    rig.db.execute("select pgmqd.set_owner('pgmqd_migrator')")
    rig.start({"email_queue": {"plugin": "null"}})
    rig.daemon.wait_settled(msg_id=rig.enqueue({}))
    section = re.search(r"^## Is it healthy\?\n(.*?)^## ", (SRCDIR / "README.md").read_text(encoding="utf-8"), re.M | re.S)[1]
    lines = [line for block in re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S) for line in block.splitlines()]
    assert len(lines) == 6, lines
    for line in lines:
        argv = [word for word in shlex.split(line.replace("/etc/pgmqd.conf", str(rig.daemon.conf_path)))[1:] if word != "--watch"]
        process = subprocess.Popen(command_line(*argv), env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        if argv[0] == "tail":
            assert "looking at email_queue" in process.stderr.readline()
            process.terminate()
        out, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, f"{line}\n{out}{err}"
