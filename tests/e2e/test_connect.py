"""`pgmqd connect`: applications that call their tables and columns otherwise, from finding them to the mail. tests/db/connect.sql has the details."""

import json
import subprocess
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from lib import rig as rigs
from lib.daemon import Daemon, clean_environment, command_line, conf, run
from lib.stand import wait_until

# What an application made, how a person books, pays and finishes a check-up there, and what the mails must say.
APPLICATIONS = {
    "clinic": dict(
        tables="""
create schema clinic;
create type clinic.visit_state as enum ('booked', 'done', 'canceled');
create table clinic.patients (id uuid primary key, contact_email text, first_name text, last_name text, locale text, password_hash text);
create table clinic.visits (visit_id bigint primary key generated always as identity, patient_id uuid references clinic.patients,
  state clinic.visit_state default 'booked', visit_date date, visit_time time, doctor text);
create table clinic.health_checks (id bigint primary key generated always as identity, patient_id uuid references clinic.patients,
  state text default 'open' check (state in ('open', 'done', 'expired')), finished_at timestamptz);
create table clinic.invoices (id bigint primary key generated always as identity, visit_id bigint references clinic.visits, amount_cents bigint,
  currency char(3), state text check (state in ('unpaid', 'paid', 'declined')));
insert into clinic.patients values ('a0000000-0000-4000-8000-000000000001', 'anna.clinic@example.test', 'Anna', 'Sample', 'en_GB', 'x')""",
        book="insert into clinic.visits (patient_id, visit_date, visit_time, doctor) values ('a0000000-0000-4000-8000-000000000001', %(date)s, %(time)s, 'Mary')",
        pay="insert into clinic.invoices (visit_id, amount_cents, currency, state) values (1, 149050, 'EUR', 'unpaid'); update clinic.invoices set state = 'paid'",
        finish="insert into clinic.health_checks (patient_id) values ('a0000000-0000-4000-8000-000000000001'); update clinic.health_checks set state = 'done'",
        to="anna.clinic@example.test", words=["Anna Sample", "1,490.50 EUR"], status="select state from clinic.health_checks", state="done"),
    "orm": dict(
        tables="""
create type "BookingStatus" as enum ('PENDING', 'SCHEDULED', 'CONFIRMED', 'COMPLETED');
create table "User" (id text primary key, email text, "fullName" text, "passwordHash" text);
create table "Booking" (id text primary key, "userId" text references "User", status "BookingStatus" default 'PENDING', "startsAt" timestamp);
create table "Payment" (id text primary key, "bookingId" text references "Booking", "userId" text references "User", status text default 'PENDING'
  check (status in ('PENDING', 'SUCCEEDED', 'FAILED')), amount numeric);
create table "CheckUp" (id text primary key, "userId" text references "User", status text default 'IN_PROGRESS' check (status in ('IN_PROGRESS', 'DONE')));
insert into "User" values ('u1', 'ivan.orm@example.test', 'Иван Примеров', 'x')""",
        book="""insert into "Booking" values ('b1', 'u1', 'PENDING', %(stamp)s); update "Booking" set status = 'SCHEDULED'""",
        pay="""insert into "Payment" values ('p1', 'b1', 'u1', 'SUCCEEDED', 1490.5)""",
        finish="""insert into "CheckUp" values ('c1', 'u1', 'DONE')""",
        to="ivan.orm@example.test", words=["Иван Примеров", "1\u00a0490,50\u00a0₽"], status='select status::text from "Booking"', state="CONFIRMED"),
    "russian": dict(
        tables="""
create schema "Клиника";
create table "Клиника"."Клиенты" ("Код" int primary key, "Имя" text, "Фамилия" text, "Почта" text);
create table "Клиника"."Записи" ("Код" int primary key, "Клиент_id" int references "Клиника"."Клиенты", "Статус" text
  check ("Статус" in ('Записан', 'Подтверждён', 'Завершён')), "Дата" date, "Время" time);
create table "Клиника"."Платежи" ("Код" int primary key, "Запись_id" int references "Клиника"."Записи", "Статус" text
  check ("Статус" in ('Не оплачен', 'Оплачен', 'Ошибка')), "Сумма" numeric(12,2));
create table "Клиника"."Обследования" ("Код" int primary key, "Клиент_id" int references "Клиника"."Клиенты", "Статус" text
  check ("Статус" in ('Начато', 'Завершено')));
insert into "Клиника"."Клиенты" values (1, 'Анна', 'Примерова', 'anna.ru@example.test')""",
        book="""insert into "Клиника"."Записи" values (1, 1, 'Записан', %(date)s, %(time)s)""",
        pay="""insert into "Клиника"."Платежи" values (1, 1, 'Не оплачен', 1490); update "Клиника"."Платежи" set "Статус" = 'Оплачен'""",
        finish="""insert into "Клиника"."Обследования" values (1, 1, 'Завершено')""",
        to="anna.ru@example.test", words=["Анна Примерова", "1\u00a0490,00\u00a0₽"], status='select "Статус" from "Клиника"."Записи"', state="Подтверждён"),
}


@pytest.fixture(scope="module")
def owner(cluster):
    """A role that owns databases and their applications, and is no superuser."""
    with cluster.connect() as db:
        if not db.execute("select 1 from pg_roles where rolname = 'connect_owner'").fetchone():
            db.execute("create role connect_owner login createrole")
        if not db.execute("select 1 from pg_roles where rolname = 'pgmqd_application'").fetchone():
            db.execute("create role pgmqd_application nologin")
        db.execute("grant pgmqd_application to connect_owner")  # from PostgreSQL 16 on only its maker could, and databases share it
    return "connect_owner"


def make(cluster, owner, name):
    """A migrated database whose owner is `owner`, and the connection string of that role."""
    cluster.createdb(name, owner=owner)
    conninfo = cluster.conninfo(name, user=owner)
    done = rigs.migrate(conninfo)
    assert done.returncode == 0, done.stdout + done.stderr
    return conninfo


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_with_other_names(cluster, owner, catcher, name):
    """Found, shown, connected; a booking, a payment and a check-up become mails, and their reminder goes out, whoever the owner is."""
    app = APPLICATIONS[name]
    conninfo = make(cluster, owner, f"connect_{name}")
    with cluster.connect(f"connect_{name}", user=owner) as db:
        db.execute(app["tables"])
        trial = run("connect", "--dry-run", "-d", conninfo)
        assert trial.returncode == 0 and "not found" not in trial.stdout and "Nothing was changed" in trial.stdout, trial.stdout + trial.stderr
        assert db.execute("select count(*) from pgmqd.application").fetchone()[0] == 0
        done = run("connect", "-d", conninfo)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "not connected" not in done.stdout, done.stdout
        daemon = Daemon(conf(cluster.conninfo(f"connect_{name}", user="pgmqd"), {"email_queue": rigs.email_queue(catcher)}, fallback_poll="1h"),
                        env=rigs.email_environment(catcher)).start()
        try:
            daemon.wait_ready()
            start = (datetime.now(timezone.utc) + timedelta(minutes=50)).astimezone(ZoneInfo("Europe/Moscow"))
            when = {"date": start.date(), "time": start.time(), "stamp": start.replace(tzinfo=None)}
            for statement in (app["book"] % {key: f"'{value}'" for key, value in when.items()}, app["finish"]):
                db.execute(statement)
            db.execute("select public.send_appointment_reminders()")
            db.execute(app["pay"])
            wait_until("four mails", lambda: len([m for m in catcher.mails() if app["to"] in m.recipients]) >= 4 or db.execute("select * from pgmqd.trigger_errors").fetchall())
            assert db.execute("select trigger, message from pgmqd.trigger_errors").fetchall() == []
            text = "\n".join(m.body("plain") for m in catcher.mails() if app["to"] in m.recipients)
            for word in [*app["words"], start.strftime("%H:%M")]:
                assert word in text, text
            assert db.execute(app["status"]).fetchone()[0] == app["state"]
        finally:
            status = daemon.stop()
            daemon.close()
    assert status == 0


def test_what_cannot_be_found_is_said_with_its_remedy(cluster, owner):
    """Two tables that fit equally well, a date without a time, a number as a status: the SQL that is printed mends each."""
    conninfo = make(cluster, owner, "connect_remedies")
    with cluster.connect("connect_remedies", user=owner) as db:
        db.execute("create schema a; create schema b; create table people (id int primary key, email text, name text);"
                   " create table a.visits (id int primary key, person_id int references people, state int, day date);"
                   " create table b.visits (id int primary key, person_id int references people, state int, day date)")
        done = run("connect", "-d", conninfo)
        assert "a.visits, b.visits fit equally well" in done.stdout, done.stdout
        for _ in range(4):
            remedies = [line.split("remedy: ", 1)[1].split(", then pgmqd")[0].removeprefix("if there is one: ") for line in done.stdout.splitlines()
                        if "remedy: " in line and "'appointment'" in line]
            if not remedies:
                break
            if "'COLUMN'" in remedies[0]:  # an operator answers
                db.execute("alter table a.visits add column start timestamptz")
            else:
                db.execute(remedies[0].replace("'WORD'", "'1'"))
            done = run("connect", "-d", conninfo)
        assert not remedies and done.returncode == 0, done.stdout + done.stderr
        db.execute("insert into people values (1, 'x@example.test', 'X'); insert into a.visits values (1, 1, 1, '2026-05-05', '2026-05-05 11:30Z')")
        assert db.execute("select count(*) from pgmq.q_email_queue").fetchone()[0] == 1
        assert db.execute("select message from pgmqd.trigger_errors").fetchall() == []


def test_connect_before_migrate(cluster):
    done = run("connect", "-d", cluster.createdb("connect_bare"))
    assert done.returncode == 1 and "pgmqd migrate --with application" in done.stderr


def test_a_lock_on_a_table(cluster, owner):
    """connect gives up with the holder's pid after --wait, and no statement of the application has to wait for it."""
    conninfo = make(cluster, owner, "connect_lock")
    with cluster.connect("connect_lock", user=owner) as db, cluster.connect("connect_lock", user=owner) as other:
        db.execute("create table bookings (id int primary key, customer_email text, status text default 'booked' check (status in ('booked', 'done')), starts_at timestamptz)")
        other.execute("begin; lock bookings in access share mode; lock bookings in row exclusive mode")
        process = subprocess.Popen(command_line("connect", "-d", conninfo, "--wait", "2s"), env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        db.execute("set lock_timeout = '1s'")
        while process.poll() is None:
            db.execute("insert into bookings values (1, 'guest@example.test', 'done', now()) on conflict (id) do update set starts_at = now()")
        text = process.communicate()[0]
        assert process.returncode == 1 and f"pid {other.info.backend_pid}" in text, text
        other.execute("commit")
        assert run("connect", "-d", conninfo).returncode == 0
        db.execute("insert into bookings values (2, 'guest@example.test', 'booked', now())")
        assert json.loads(db.execute("select message::text from pgmq.q_email_queue").fetchone()[0])["to"] == "guest@example.test"
