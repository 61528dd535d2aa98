"""`pgmqd bench`: what it prints, that it leaves nothing behind, and that it says what it cannot do."""

import json
import os
import signal
import subprocess

import pytest

from lib import paths
from lib.daemon import clean_environment, command_line, run
from lib.stand import INSTRUMENTED, SLOW, wait_until

DIRS = {f"PGMQD_{name.upper()}": value for name, value in paths.directories().items()}


def bench(conninfo, *argv, status=0):
    done = run("bench", *argv, "-d", conninfo, env=DIRS)
    assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if status == 0 else done.stderr


def traces(db):
    """All that a benchmark could have left in the database."""
    return [row[0] for row in db.execute(
        "select relname::text from pg_class where relname like '%pgmqd_bench_%' union all select proname::text from pg_proc where proname like"
        " 'pgmqd_bench_%' union all select queue_name from pgmq.meta where queue_name like 'pgmqd_bench_%' union all select queue from"
        " pgmqd.mail_log where queue like 'pgmqd_bench_%'").fetchall()]


def rows(text):
    """{name: row} of the JSON."""
    answer = json.loads(text)
    return answer, {row["name"]: row for row in answer["rows"]}


def check_ratios(answer, table):
    base = table[answer["base"]]
    for row in table.values():
        for key, ratio in row["ratio"].items():
            assert ratio == pytest.approx(row[key] / base[key])


def test_latency(rig):
    answer, table = rows(bench(rig.conninfo, "latency", "--messages", "40", "--rounds", "2", "--gap", "1", "--delayed", "300", "--json"))
    assert answer["bench"] == "latency" and answer["unit"] == "ms" and answer["base"] == "bare loop"
    assert list(table) == ["bare loop", "pgmqd"]
    for row in table.values():
        assert row["messages"] == 40 == len(row["values"])
        assert 0 < row["p50"] <= row["p90"] <= row["p99"] <= row["most"] == pytest.approx(max(row["values"]))
    check_ratios(answer, table)
    assert traces(rig.db) == []


def test_drain_with_a_snapshot_held(rig):
    answer, table = rows(bench(rig.conninfo, "drain", "--messages", "1500", "--rounds", "2", "--hold-snapshot", "--in-flight", "100", "--json"))
    assert answer["unit"] == "messages/s" and list(table)[1] == "pgmqd"
    assert all(row["messages"] == 3000 and len(row["values"]) == 2 and row["least"] > 0 for row in table.values())
    check_ratios(answer, table)
    assert traces(rig.db) == []


def test_drain_of_a_queue_that_deletes(rig):
    """Nothing comes into an archive then; the floor deletes, too."""
    answer, table = rows(bench(rig.conninfo, "drain", "--messages", "600", "--rounds", "2", "--option", "on_done = delete", "--json"))
    assert list(table) == ["pgmq.read + pgmq.delete by 500", "pgmqd"]
    assert all(row["messages"] == 1200 and len(row["values"]) == 2 and row["least"] > 0 for row in table.values())
    assert traces(rig.db) == []


def test_enqueue_as_a_table(rig):
    head, *lines = bench(rig.conninfo, "enqueue", "--producers", "2", "--seconds", "1", "--rounds", "1").splitlines()
    assert head.split() == ["messages/s", "of", "2", "producers", "messages", "median", "least", "most", "ratio"]
    assert [line[:34].strip() for line in lines] == ["served, no notification", "not served, no notification", "served, plain NOTIFY",
                                                     "served, pgmqd's trigger"]
    assert lines[0].split()[-1] == "1.00" and all(int(line[34:].split()[0]) > 0 for line in lines)
    assert traces(rig.db) == []


def test_a_worker_that_does_not_work_is_not_measured(rig, tmp_path):
    done = run("bench", "enqueue", "--producers", "1", "--seconds", "1", "--rounds", "1", "-d", rig.conninfo, env={**DIRS, "PGMQD_PLUGIN_DIR": str(tmp_path)})
    assert done.returncode == 1 and "pgmqd runs, but its worker does not" in done.stderr, done
    assert traces(rig.db) == []


@pytest.mark.parametrize("on_done", ["archive", "delete"])
def test_mail(rig, catcher, on_done):
    argv = ("mail", "--smtp", f"{catcher.host}:{catcher.port}", "--messages", "20", "--rounds", "1", "--to", "ivan@example.test",
            "--option", f"smtp_ca_file={catcher.ca_file}", "--option", f"smtp_user={catcher.user}", "--option", f"smtp_pass={catcher.password}", "--option", f"on_done={on_done}")
    answer, table = rows(bench(rig.conninfo, *argv, "--json"))
    assert all(row["messages"] == 20 and row["least"] > 0 for row in table.values())
    assert {str(mail.subject) for mail in catcher.wait_for(40)} == {"pgmqd bench"} and len(catcher.mails()) == 40
    assert traces(rig.db) == []


def test_a_refused_mail_is_an_error_and_leaves_nothing(rig, catcher):
    error = bench(rig.conninfo, "mail", "--smtp", f"{catcher.host}:{catcher.port}", "--messages", "5", "--rounds", "1",
                  "--option", f"smtp_ca_file={paths.SRCDIR / 'COPYING'}", status=1)
    assert "without pgmqd" in error and "mail" in error
    assert traces(rig.db) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_nothing(rig, number):
    listening = rig.connect()
    process = subprocess.Popen(command_line("bench", "latency", "--messages", "100000", "-d", rig.conninfo), env=clean_environment(DIRS),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # its queue is archived to: it is in the middle of a round
    while not listening.execute("select sum(n_tup_ins) from pg_stat_user_tables where relname like 'a_pgmqd_bench_%'").fetchone()[0]:
        assert process.poll() is None, process.communicate()
        listening.execute("select pg_sleep(0.02)")
    process.send_signal(number)
    out, err = process.communicate(timeout=30 * SLOW)
    assert process.returncode == 130 and out == "" and "nothing is left in the database" in err
    assert traces(rig.db) == []
    # a backend outlives its client by a moment
    wait_until("the end of its sessions", lambda: not rig.db.execute(
        "select 1 from pg_stat_activity where application_name like 'pgmqd bench%' or application_name like 'pgmqd worker pgmqd_bench%'").fetchall())
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == process.pid]


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return int(f.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_no_schedules_are_run(rig):
    """The pgmqd that is measured leaves what is due to others: that is the database of somebody's application."""
    rig.db.execute("insert into pgmqd.schedule (name, cron, command, runner, next_due) values ('mine', '* * * * *', 'create table public.ran ()',"
                   " 'pgmqd', now() - interval '1 minute')")
    bench(rig.conninfo, "latency", "--messages", "50", "--rounds", "1")
    assert rig.db.execute("select to_regclass('public.ran')").fetchone()[0] is None


def test_a_database_without_the_schema(cluster):
    conninfo = cluster.createdb("bench_bare")
    assert "run pgmqd migrate on it first" in bench(conninfo, "latency", status=1)
    cluster.dropdb("bench_bare")


@pytest.mark.parametrize("argv, part", [
    ((), "latency, drain, enqueue, mail"),
    (("speed",), '"speed" is none of latency, drain'),
    (("latency", "drain"), "one argument too many"),
    (("mail",), "--smtp HOST:PORT"),
    (("drain", "--smtp", "127.0.0.1:25"), "--smtp is for mail"),
    (("drain", "--messages", "none"), "a whole number"),
    (("drain", "--messages", "0"), "a whole number"),
    (("drain", "--option", "x"), "KEY=VALUE"),
    (("drain", "--rate", "3"), "unknown option --rate"),
])
def test_a_wrong_command_line(argv, part):
    done = run("bench", *argv)
    assert done.returncode == 2 and part in done.stderr, done.stderr


def test_make_bench():
    """The runner of the benchmarks makes a cluster, measures one part, and prints it; memory is no matter of time, so it is checked, too."""
    if not (paths.BUILDDIR / "Makefile").exists():
        pytest.skip("there is no build tree")
    done = subprocess.run(["make", "-s", "-C", paths.BUILDDIR, "bench", "BENCH=--no-write memory"], env=clean_environment(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120 * SLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    table = {line.split(" | ")[0].strip("| "): float(line.split(" | ")[1]) for line in done.stdout.splitlines() if "≤" in line}
    assert set(table) == {"supervisor", "listener", "worker with the null plugin", "worker with the email plugin"}
    if not INSTRUMENTED:
        assert table["supervisor"] <= 1 and table["listener"] <= 4 and table["worker with the null plugin"] <= 6


def test_the_short_form_of_the_benchmarks():
    """What the quick look at them runs: every contender but the peers, which have to be fetched."""
    if not (paths.BUILDDIR / "tests/bench/smtpsink").exists():
        pytest.skip("the programs of the benchmarks are not built")
    done = subprocess.run([paths.SRCDIR / "tests/bench/run", "--short", "drain", "mailtime", "cost"], env=clean_environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300 * SLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")}
    assert {"pgmqd", "pgmqd, deleted", "idle: pgmqd", "500/s: pgmqd", "1,000 at once, archive"} <= names, done.stdout


def test_the_adapter_of_the_neutral_sweep(cluster):
    """What the public harness starts, without the harness: it says what it is, keeps a rate, and counts what pgmqd has done."""
    if not (paths.BUILDDIR / "tests/bench/.libs/pgmqd-work-plugin.so").exists():
        pytest.skip("the programs of the benchmarks are not built")
    cluster.createdb("sweep_bench")
    env = clean_environment({"DATABASE_URL": f"postgresql:///sweep_bench?host={cluster.dir}&port={cluster.port}&user=postgres", "SAMPLE_EVERY_S": "1",
                             "PRODUCER_RATE": "200", "WORKER_COUNT": "8"})
    with subprocess.Popen(["/usr/bin/python3", paths.SRCDIR / "tests/bench/sweep/adapter.py"], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as adapter:
        said = json.loads(adapter.stdout.readline())
        assert said["kind"] == "descriptor" and said["event_tables"][0] == "pgmq.q_long_horizon_bench", said
        seen = {}
        for line in adapter.stdout:  # until it has counted what was done
            record = json.loads(line)
            seen[record["metric"]] = record["value"]
            if seen.get("completion_rate") and seen.get("end_to_end_p99_ms") and seen.get("enqueue_rate") and "queue_depth" in seen:
                break
        adapter.terminate()
        assert adapter.stdout.read() is not None and adapter.wait(30 * SLOW) == 0
    cluster.dropdb("sweep_bench")


def test_the_list_of_benchmarks():
    done = subprocess.run([paths.SRCDIR / "tests/bench/run", "--list"], stdout=subprocess.PIPE, text=True, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names[0] == "latency" and {"enqueue", "drain", "snapshot", "backlog", "memory", "idle", "group", "startstop", "mailtime", "many", "quiet", "cost", "archived", "crowd"} <= set(names)
    done = subprocess.run([paths.SRCDIR / "tests/bench/run", "speed"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "there is no speed" in done.stderr


def test_a_database_without_the_plugins_part(cluster):
    """The mail ledger is not there, and the clean-up does without it."""
    conninfo = cluster.createdb("bench_core")
    assert run("migrate", "-d", conninfo, env=DIRS).returncode == 0
    done = run("bench", "latency", "--messages", "20", "-d", conninfo, env=DIRS)
    assert done.returncode == 0 and "removing what the benchmark made" not in done.stderr, done.stderr
