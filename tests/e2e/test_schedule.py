"""Schedules: run once each by whichever dispatcher comes first, taken over from a pg_cron that died, and reminders of simulated days."""

import os
import random
from datetime import datetime, timedelta, timezone

import pytest

from lib import app
from lib import rig as rigs
from lib.daemon import Daemon, conf, run
from lib.paths import SRCDIR
from lib.pgcluster import Cluster
from lib.stand import wait_until

DAYS = int(os.environ.get("PGMQD_SIMULATED_DAYS", "14"))
UTC = timezone.utc


def add(db, name, command="select 1", cron="0 0 1 1 *", due="now() - interval '1 second'", **more):
    columns = "".join(f", {c}" for c in more)
    values = "".join(", %s" for _ in more)
    db.execute(f"insert into pgmqd.schedule (name, cron, command, runner, next_due{columns}) values (%s, %s, %s, 'pgmqd', {due}{values})",
               [name, cron, command, *more.values()])


def runs(db, name):
    return app.rows(db, "select status, error, due from pgmqd.schedule_runs where name = %s order by id", [name])


def ran(daemon, name, status="ok", start=0):
    return daemon.wait_log(lambda r: r.get("schedule") == name and r.get("status") == status, start=start)


# ---- the scheduler ----

def test_what_is_due_runs_and_gets_its_next_time(rig):
    add(rig.db, "mail", "select public.queue_email_task('x@example.test', 'Hello', null, '{\"text\": \"x\"}')")
    add(rig.db, "broken", "select 1 / 0")
    add(rig.db, "off", enabled=False)
    add(rig.db, "bad")
    add(rig.db, "nowhere")
    # a row of before such texts were refused
    rig.db.execute("alter table pgmqd.schedule drop constraint schedule_cron_check; update pgmqd.schedule set cron = '* * *' where name = 'bad'")
    rig.db.execute("alter table pgmqd.schedule drop constraint schedule_tz_check; update pgmqd.schedule set tz = 'Mars/Olympus' where name = 'nowhere'")
    rig.db.execute((SRCDIR / "sql" / "026_schedules.sql").read_text(encoding="utf-8"))  # as an older database is migrated
    assert app.rows(rig.db, "select convalidated from pg_constraint where conname = 'schedule_cron_check'") == [{"convalidated": False}]
    daemon = rig.start()
    ran(daemon, "mail")
    ran(daemon, "broken", "failed")
    rig.catcher.wait_to("x@example.test")
    daemon.wait_log(lambda r: r.get("text", "").startswith("schedule bad does not run"))
    daemon.wait_log("schedule nowhere does not run: the system does not know the time zone")
    state = {r["name"]: r for r in app.rows(rig.db, "select name, next_due, last_status, last_error from pgmqd.schedule")}
    year = datetime.now(UTC).year + 1
    assert state["mail"]["next_due"] == datetime(year, 1, 1, tzinfo=UTC)
    assert (state["broken"]["last_status"], state["broken"]["last_error"]) == ("failed", "division by zero")
    assert state["broken"]["next_due"] == datetime(year, 1, 1, tzinfo=UTC)
    assert runs(rig.db, "off") == runs(rig.db, "bad") == runs(rig.db, "nowhere") == []
    # the three of the application have got theirs
    assert state["update-appointment-statuses"]["next_due"] > datetime.now(UTC)


def test_a_run_that_is_cut_has_failed_and_runs_again_once(rig):
    """Its session ends in the middle of the work. The second time the schedule goes on with its next time."""
    add(rig.db, "long", "select pg_sleep(20)")
    daemon = rig.start()
    for _ in range(2):
        mark = daemon.mark()
        while not rig.db.execute("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = %s and wait_event = 'PgSleep'",
                                 [rig.dbname]).fetchone()[0]:
            pass
        daemon.wait_log(lambda r: r.get("text", "").startswith("schedule long: failed: cut off after"), start=mark)
    while not rig.db.execute("select next_due > now() from pgmqd.schedule where name = 'long'").fetchone()[0]:
        pass
    assert [r["status"] for r in runs(rig.db, "long")] == ["failed"] * 2
    assert all("cut off after" in r["error"] for r in runs(rig.db, "long"))


def test_a_run_that_the_server_cancels_has_failed(rig):
    """A time-out is no error that its function could catch: it is written down afterwards, and the next time comes."""
    add(rig.db, "long", "select pg_sleep(600)")
    daemon = rig.start()
    while not rig.db.execute("select count(pg_cancel_backend(pid)) from pg_stat_activity where datname = %s and wait_event = 'PgSleep'",
                             [rig.dbname]).fetchone()[0]:
        pass
    ran(daemon, "long", "failed")
    wait_until("it is written down", lambda: runs(rig.db, "long"))
    ((status, error, _),) = [r.values() for r in runs(rig.db, "long")]
    assert status == "failed" and "canceling statement" in error
    assert rig.db.execute("select next_due > now() + interval '1 minute' from pgmqd.schedule where name = 'long'").fetchone()[0]


def test_a_clock_that_was_set_back(rig):
    """What ran by a wrong clock does not keep a schedule waiting until that time comes."""
    add(rig.db, "often", cron="* * * * *", due="now() + interval '3 days'", last_run=datetime.now(UTC) + timedelta(days=3))
    daemon = rig.start()
    daemon.wait_log("schedule often: the server's clock was set back")
    wait_until("its time is found anew", lambda: rig.db.execute(
        "select next_due < now() + interval '1 hour' from pgmqd.schedule where name = 'often'").fetchone()[0])


def test_long_work_is_not_cut(rig):
    """It has ten minutes, and a server that is silent meanwhile is asked by another connection, and left alone."""
    rig.db.execute("create table public.limits (time text)")
    add(rig.db, "long", "insert into public.limits select current_setting('statement_timeout') from pg_sleep(10)")
    daemon = rig.start()
    daemon.wait_log(lambda r: r.get("schedule") == "long")
    assert [r["status"] for r in runs(rig.db, "long")] == ["ok"]
    assert rig.db.execute("select time from public.limits").fetchall() == [("10min",)]


def test_row_security_that_hides_the_schedules_is_said(rig):
    add(rig.db, "hidden")
    rig.db.execute("do $$ declare p record; begin for p in select polname from pg_policy where polrelid = 'pgmqd.schedule'::regclass loop"
                   " execute format('drop policy %I on pgmqd.schedule', p.polname); end loop; end $$")
    rig.db.execute("alter table pgmqd.schedule enable row level security")
    daemon = rig.start()
    daemon.wait_log(lambda r: r.get("level") == "error" and "row security hides the table pgmqd.schedule" in r.get("text", ""))
    assert runs(rig.db, "hidden") == []


@pytest.mark.parametrize("catch_up, max_late, want", [
    ("last", None, ["ok"]), ("none", None, ["skipped"]), ("all", None, ["ok"] * 3), ("last", "1 hour", ["skipped"]), ("last", "1 week", ["ok"])])
def test_times_that_went_by(rig, catch_up, max_late, want):
    """Three times of a daily schedule went by while nobody was there."""
    now = rig.db.execute("select now()").fetchone()[0].astimezone(UTC)
    hour = (now.hour + 12) % 24  # far from the present, so that no further time comes during the test
    first = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    while first > now:
        first -= timedelta(days=1)
    first -= timedelta(days=2)
    add(rig.db, "daily", cron=f"0 {hour} * * *", due=f"'{first.isoformat()}'", catch_up=catch_up, max_late=max_late)
    daemon = rig.start()
    for n in range(len(want)):
        ran(daemon, "daily", want[0])
    daemon.wait_log(lambda r: len(runs(rig.db, "daily")) >= len(want)) if len(runs(rig.db, "daily")) < len(want) else None
    assert [r["status"] for r in runs(rig.db, "daily")] == want
    assert rig.db.execute("select next_due from pgmqd.schedule where name = 'daily'").fetchone()[0] == first + timedelta(days=3)


def test_two_dispatchers_run_it_once(rig):
    """Many schedules, two dispatchers at once: each due time is run by one of them."""
    rig.db.execute("create table public.hits (name text)")
    for n in range(40):
        add(rig.db, f"s{n:02}", f"insert into public.hits select 's{n:02}' from pg_sleep(0.01)")
    second = Daemon(conf(rig.conninfo, {"email_queue": rigs.email_queue(rig.catcher)}), env=rigs.email_environment(rig.catcher))
    try:
        second.start()
        first = rig.start()
        for n in range(40):
            while not runs(rig.db, f"s{n:02}"):
                first.wait_log(lambda r: r.get("schedule"), start=0)
        second.stop()
    finally:
        second.close()
    assert rig.db.execute("select count(*), count(distinct name) from public.hits").fetchone() == (40, 40)


@pytest.mark.parametrize("change, stays", [("next_due = '2199-01-01Z'", "next_due = '2199-01-01Z'"), ("runner = 'pg_cron'", "next_due is null")])
def test_what_another_dispatcher_has_set_stays(rig, change, stays):
    """A time, or that pg_cron runs it again. Our look came first, and our writing last."""
    add(rig.db, "first", due="null")
    with rig.connect(autocommit=False) as other:
        other.execute(f"update pgmqd.schedule set {change} where name = 'first'")
        rig.start()
        wait_until("the scheduler waits for the row", lambda: rig.db.execute(
            "select count(*) from pg_stat_activity where datname = %s and wait_event_type = 'Lock' and query like 'UPDATE pgmqd.schedule%%'",
            [rig.dbname]).fetchone()[0])
        other.commit()
    assert rig.daemon.stop() == 0
    assert rig.db.execute(f"select {stays} from pgmqd.schedule where name = 'first'").fetchone()[0]


def test_the_command(rig):
    add(rig.db, "mine", "select 1", due="null")
    add(rig.db, "broken", "select 1 / 0", due="null")
    listed = run("schedule", "list", "-d", rig.conninfo)
    assert listed.returncode == 0, listed.stderr
    assert "send-appointment-reminders" in listed.stdout and "0 * * * *" in listed.stdout
    done = run("schedule", "run", "mine", "-d", rig.conninfo)
    assert (done.returncode, done.stdout.startswith("mine: ok (")) == (0, True)
    done = run("schedule", "run", "broken", "-d", rig.conninfo)
    assert (done.returncode, "failed: division by zero" in done.stdout) == (1, True)
    done = run("schedule", "run", "nothing", "-d", rig.conninfo)
    assert done.returncode == 1 and 'there is no schedule "nothing"' in done.stderr
    done = run("schedule", "next", "30 2 * * *", "--zone", "Europe/Berlin", "--from", "2026-03-27T12:00:00Z", "--count", "3")
    assert done.stdout.split() == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    assert run("schedule", "next", "x").returncode == 1
    assert run("schedule").returncode == 2
    assert [r["status"] for r in runs(rig.db, "mine")] == ["ok"]


# ---- pg_cron ----

@pytest.fixture(scope="module")
def cron_cluster():
    with Cluster(preload_cron="app") as c:
        conninfo = c.createdb("app")
        done = rigs.migrate(conninfo, "--demo-app")
        assert done.returncode == 0, done.stdout + done.stderr
        yield c


@pytest.fixture
def cron_rig(cron_cluster, catcher):
    with rigs.Rig(cron_cluster, "app", catcher) as r:
        yield r


KNOWN = [
    "SELECT * FROM cron.job",
    "SELECT * FROM cron.job_run_details ORDER BY start_time DESC LIMIT 10",
    "SELECT * FROM pgmq.list_queues()",
    "SELECT msg_id, enqueued_at, msg->>'to' AS recipient, msg->>'subject' AS subject FROM pgmq.email_queue ORDER BY enqueued_at DESC LIMIT 10",
    "SELECT queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages FROM pgmq_metrics('email_queue')",
    "SELECT trigger_name, event_object_table, action_timing, event_manipulation FROM information_schema.triggers WHERE trigger_schema = 'public'",
    "SELECT proname FROM pg_proc WHERE proname LIKE 'pgmq_%'",
]


@pytest.mark.parametrize("query", KNOWN)
def test_known_queries(cron_rig, query):
    app.queue_email_task(cron_rig.db, "known@example.test", "report_ready", app.sample("report_ready"), subject="Known")
    try:
        rows = [tuple(row.values()) for row in app.rows(cron_rig.db, query)]
    finally:
        cron_rig.db.execute("select pgmq.purge_queue('email_queue')")
    text = repr(rows)
    if "cron.job_run_details" in query:
        return  # whatever has run so far
    wanted = {
        "cron.job": ["cleanup-old-assessments", "send-appointment-reminders", "update-appointment-statuses", "*/5 * * * *"],
        "list_queues": ["email_queue", "report_generation_queue", "payment_processing_queue", "analytics_queue"],
        "pgmq.email_queue": ["known@example.test", "Known"],
        "pgmq_metrics": ["(1, "],
        "triggers": ["on_checkup_completed", "on_new_appointment", "on_payment_status_change"],
        "proname": ["pgmq_read", "pgmq_archive", "pgmq_delete", "pgmq_send", "pgmq_metrics"],
    }
    (words,) = [words for mark, words in wanted.items() if mark in query.split("FROM ", 1)[1]]
    for word in words:
        assert word in text, text


def test_two_looks_in_a_row_must_agree_on_the_launcher(cron_rig):
    """A server that starts has none yet. Here a function says whether it lives: dead at the first look, then as a table says."""
    db = cron_rig.db
    who = "select string_agg(distinct runner, ',') from pgmqd.schedule where name not like 'look %'"
    lives = db.execute("select pg_get_functiondef('pgmqd.pg_cron_lives'::regproc)").fetchone()[0]
    db.execute("create table public.looks (at timestamptz primary key); create table public.launcher as select true as lives, false as flickers;"
               " create or replace function pgmqd.pg_cron_lives() returns boolean language plpgsql security definer as $$ begin"
               " insert into public.looks values (statement_timestamp()) on conflict do nothing;"
               " return (select (select count(*) from public.looks) > 1 and case when flickers then (select count(*) from public.looks) % 2 = 0"
               " else lives end from public.launcher); end $$")
    for n in range(60):
        add(db, f"look {n}", due=f"now() + interval '{n * 500} ms'")  # each has the scheduler look again
    try:
        daemon = cron_rig.start()
        wait_until("it has looked twice", lambda: db.execute("select count(*) > 1 from public.looks").fetchone()[0])
        assert db.execute(who).fetchone()[0] == "pg_cron"
        db.execute("update public.launcher set lives = false")
        daemon.wait_log("pg_cron's launcher is dead: its 4 schedules")
        assert db.execute(who).fetchone()[0] == "pgmqd"
        db.execute("update public.launcher set flickers = true")
        seen = db.execute("select count(*) from public.looks").fetchone()[0]
        wait_until("it has looked four times", lambda: db.execute("select count(*) >= %s from public.looks", [seen + 4]).fetchone()[0])
        assert db.execute(who).fetchone()[0] == "pgmqd"
        db.execute("update public.launcher set lives = true, flickers = false")
        daemon.wait_log("pg_cron's launcher is back: its 4 schedules")
        assert db.execute(who).fetchone()[0] == "pg_cron"
    finally:
        cron_rig.daemon.stop()
        db.execute("delete from pgmqd.schedule where name like 'look %'; drop table public.looks, public.launcher; " + lives)


def test_a_dead_launcher_is_taken_over_and_given_back(cron_rig):
    """Never both: what one runs is switched off at the other."""
    db = cron_rig.db
    who = "select coalesce(string_agg(distinct runner, ','), '') from pgmqd.schedule"
    on = "select count(*) from cron.job where active"
    assert (db.execute(who).fetchone()[0], db.execute(on).fetchone()[0]) == ("pg_cron", 4)
    if db.execute("select substring(extversion from '^[0-9]+[.][0-9]+')::numeric >= 1.5 from pg_extension where extname = 'pg_cron'").fetchone()[0]:
        pytest.skip("this pg_cron starts its launcher again")
    daemon = cron_rig.start()
    db.execute("""do $$ begin  -- it fails to start until its database is there, and is started again by the server
        for i in 1..300 loop
            perform pg_stat_clear_snapshot();
            exit when exists (select from pg_stat_activity where backend_type = 'pg_cron launcher');
            perform pg_sleep(0.1);
        end loop; end $$""")
    assert db.execute("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'pg_cron launcher'").fetchone()
    daemon.wait_log("pg_cron's launcher is dead: its 4 schedules")
    assert (db.execute(who).fetchone()[0], db.execute(on).fetchone()[0]) == ("pgmqd", 0)
    # another migrate leaves it so
    assert rigs.migrate(cron_rig.conninfo).returncode == 0
    assert (db.execute(who).fetchone()[0], db.execute(on).fetchone()[0]) == ("pgmqd", 0)
    add(db, "proof", "select 1")
    ran(daemon, "proof")
    db.execute("delete from pgmqd.schedule where name = 'proof'")
    mark = daemon.mark()
    db.close()
    cron_rig.cluster.restart()
    daemon.wait_log("pg_cron's launcher is back: its 4 schedules", start=mark, timeout=60)
    db = cron_rig.db
    assert (db.execute(who).fetchone()[0], db.execute(on).fetchone()[0]) == ("pg_cron", 4)


# ---- simulated days ----

def times(cron, zone, start, n):
    done = run("schedule", "next", cron, "--zone", zone, "--from", start.strftime("%Y-%m-%dT%H:%M:%SZ"), "--count", str(n))
    assert done.returncode == 0, done.stderr
    return [datetime.strptime(line, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for line in done.stdout.split()]


def test_reminders_of_simulated_days(rig):
    """Reminders over days with crashes, down times, clock jumps and both changes of the clocks in Berlin: who was up in a reminder's
    window has sent it, nothing is sent twice, nothing goes out after the start. The clock is the test's."""
    rng = random.Random(20261121)
    db = rig.connect(autocommit=False)
    start = datetime(2026, 3, 22, tzinfo=UTC)
    hours = times("0 * * * *", "Europe/Berlin", start, DAYS * 24)
    assert hours == [start + timedelta(hours=n + 1) for n in range(DAYS * 24)]  # a wildcard follows real hours over both changes
    customer = app.new_customer(db, "sim@example.test", "Сим Примеров")
    # two passing clocks of different length: booked ahead by hours to weeks, many minutes of the hour, some at night
    appointments = {}
    db.execute("alter table appointments disable trigger user")
    db.execute("update appointments set status = 'cancelled'")  # the demo application's, which are about the real present
    for _ in range(DAYS * 4):
        at = start + timedelta(minutes=rng.randrange(DAYS * 1440))
        ahead = timedelta(minutes=rng.choice([30, 90, 600, 1439, 1440, 1441, 5000, 20000]))
        ident = db.execute("insert into appointments (user_id, specialist_name, starts_at, created_at) values (%s, 'x', %s, %s) returning id::text",
                           [customer, at, at - ahead]).fetchone()[0]
        appointments[ident] = (at, at - ahead)
    add(db, "sim", "select public.send_appointment_reminders(at => current_setting('sim.now')::timestamptz)", cron="0 * * * *",
        due=f"'{hours[0].isoformat()}'", tz="Europe/Berlin")
    db.execute("delete from pgmq.q_email_queue")
    db.commit()
    looks, twice, crashed, i, sent_at = [], 0, 0, 0, {}
    now = hours[0]
    down_until = None
    while now < hours[-2]:
        due = db.execute("select next_due from pgmqd.schedule where name = 'sim'").fetchone()[0].astimezone(UTC)
        if due <= now:
            following = next(h for h in hours if h > now)
            fate = rng.random()
            db.execute("select set_config('sim.now', %s, false)", [now.isoformat()])
            call = ["sim", due, following, now]
            status = db.execute("select pgmqd.run_schedule(%s, %s, %s, %s)", call).fetchone()[0]
            assert status == "ok", db.execute("select last_error from pgmqd.schedule where name = 'sim'").fetchone()
            if fate < 0.1:  # killed before its commit: nothing has happened, and the next one runs it
                db.rollback()
                crashed += 1
                now += timedelta(seconds=rng.randrange(1, 900))
                continue
            db.commit()
            looks.append(now)
            if fate < 0.3:  # the answer was lost, or another dispatcher comes for the same time
                assert db.execute("select pgmqd.run_schedule(%s, %s, %s, %s)", call).fetchone()[0] == "taken"
                db.commit()
                twice += 1
        else:
            db.rollback()
        step = rng.random()
        if step < 0.02:  # down for up to a day and a half
            now += timedelta(minutes=rng.randrange(60, 2200))
        elif step < 0.04 and now - timedelta(hours=3) > hours[0]:  # the clock goes back; the scheduler notices by last_run, and finds its time anew
            now -= timedelta(minutes=rng.randrange(61, 170))
            following = next(h for h in hours if h > now)
            db.execute("update pgmqd.schedule set next_due = %s where name = 'sim' and last_run > %s + interval '1 minute' and next_due > %s",
                       [following, now, following])
            db.commit()
        else:
            now = max(now + timedelta(seconds=1), next(h for h in hours if h > now) + timedelta(seconds=rng.randrange(0, 20)))
    mails = [key for (key,) in db.execute("select message->>'key' from pgmq.q_email_queue").fetchall()]
    assert db.execute("select count(*) from pgmqd.trigger_errors").fetchone()[0] == 0
    assert len(mails) == len(set(mails)), "a reminder was sent twice"
    # what had to be sent: a look came within its window
    windows = {"24h": (timedelta(hours=24), timedelta(hours=2)), "1h": (timedelta(hours=1, minutes=20), timedelta(minutes=20))}
    lead = {"24h": timedelta(hours=24), "1h": timedelta(hours=1)}
    want, late, skipped = set(), 0, 0
    for ident, (at, booked) in appointments.items():
        for kind, (first, last) in windows.items():
            if at - booked < lead[kind]:
                continue
            within = [look for look in looks if at - first <= look <= at - last]
            if within:
                want.add((ident, kind))
                late += min(within) > at - first + timedelta(hours=1)
            else:
                skipped += 1
    have = {tuple(key.split()[1:3]) for key in mails}
    print(f"{DAYS} days: due {len(want) + skipped}, sent {len(have)}, late {late}, skipped {skipped}, lost {len(want - have)},"
          f" doubled {len(mails) - len(have)}; {crashed} crashes, {twice} second claims")
    assert have == want
    assert twice and (crashed or DAYS < 10)
    db.close()
