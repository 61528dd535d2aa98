"""The exec plugin: what a program is told, what its end means, and that nothing of it is left behind."""

import json
import os
import resource
import select

import pytest

from lib import valgrind
from lib.daemon import run
from lib.paths import TIMEOUT
from lib.stand import wait_until

QUEUE = "run_it"


@pytest.fixture
def start(rig, tmp_path):
    """Starts pgmqd with a queue for a program in Python; each of its words is an option."""
    rig.db.execute("select pgmqd.create_queue(%s)", [QUEUE])

    def start(source, env=None, settings=None, **options):
        program = tmp_path / "program"
        program.write_text("#!/usr/bin/python3\nimport json, os, signal, sys, time\n" + source)
        program.chmod(0o755)
        options = {"plugin": "exec", "command": f"{program} {tmp_path}", "backoff_min": "1ms", "backoff_max": "1ms", **options}
        return rig.start(queues={QUEUE: options}, env=env, **(settings or {}))

    return start


def settled(rig, message, queue=QUEUE, **fields):
    """Sends a message and waits for the record of an outcome of it."""
    mark = rig.daemon.mark()
    msg_id = rig.enqueue(message, queue)
    return rig.daemon.wait_settled(start=mark, msg_id=msg_id, **fields)


def wait_gone(pid):
    """Until a process is gone; one that is gone already is fine."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([fd], [], [], TIMEOUT)
    os.close(fd)
    assert ended, f"process {pid} still lives"


def fifo(path):
    """A FIFO, opened so that nobody waits for the other end."""
    os.mkfifo(path)
    return os.fdopen(os.open(path, os.O_RDWR), "rb", 0)


def read_line(f):
    """A line out of a FIFO, within the time that a test has."""
    assert select.select([f], [], [], TIMEOUT)[0], "nothing was written"
    return f.readline().decode().strip()


# ---- a program for each message ----

@pytest.mark.parametrize("status, on_error, outcome", [
    (0, "retry", "done"), (75, "fail", "retry"), (65, "retry", "fail"), (3, "retry", "retry"), (3, "fail", "fail"), (-9, "retry", "retry"),
])
def test_exit_status_is_the_outcome(rig, start, status, on_error, outcome):
    start("s = json.load(sys.stdin)['status']\nprint('so it is', file=sys.stderr)\n"
          "os.kill(os.getpid(), -s) if s < 0 else sys.exit(s)", on_error=on_error)
    record = settled(rig, {"status": status})
    assert record["outcome"] == outcome
    if outcome != "done":
        assert record["reason"].endswith("so it is")


def test_what_the_program_is_told(rig, start):
    start("json.dump({'env': dict(os.environ), 'stdin': sys.stdin.read(), 'cwd': os.getcwd(), 'fds': sorted(os.listdir('/proc/self/fd')),"
          " 'pgrp': os.getpgrp() == os.getpid()}, open(sys.argv[1] + '/told', 'w'))",
          env={"WANTED": "yes", "SECRET_OF_THE_DAEMON": "no"}, pass_env="WANTED ABSENT", dir="/")
    message = {"text": "Я и «ты»", "n": 12345678901234567890}
    rig.db.execute("select pgmq.send(%s, %s::jsonb, %s::jsonb, 0)", [QUEUE, json.dumps(message), '{"trace": "t-1"}'])
    msg_id = rig.daemon.wait_settled(outcome="done")["msg_id"]
    (path,) = [p for p in os.scandir(os.path.dirname(_program(rig))) if p.name == "told"]
    with open(path, encoding="utf-8") as f:
        told = json.load(f)
    assert json.loads(told["stdin"]) == message and told["stdin"].endswith("\n")
    env = told["env"]
    assert env["PGMQD_MSG_ID"] == str(msg_id) and env["PGMQD_ATTEMPT"] == "1" and env["PGMQD_QUEUE"] == QUEUE
    assert json.loads(env["PGMQD_HEADERS"]) == {"trace": "t-1"} and env["WANTED"] == "yes"
    allowed = {"PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "WANTED"}
    assert {name for name in env if not name.startswith("PGMQD_")} <= allowed
    assert told["cwd"] == "/" and told["pgrp"]
    assert told["fds"] == ["0", "1", "2", "3"], "its three, and the one that reads this directory"


def _program(rig):
    (line,) = [line for line in rig.daemon.conf_text.splitlines() if line.startswith("command = ")]
    return line.split()[2]


def test_words_of_the_command(rig, start, tmp_path):
    """Quotes as in a shell, and nothing else of it."""
    words = r"""'a\b "c"' "d \"e\" 'f'" g\ h '' i'j'"k" $HOME *"""
    start("open(sys.argv[1] + '/words', 'w').write(json.dumps(sys.argv[2:]))", command=f"{tmp_path}/program {tmp_path} {words}")
    settled(rig, {}, outcome="done")
    assert json.loads((tmp_path / "words").read_text()) == ['a\\b "c"', 'd "e" \'f\'', "g h", "", "ijk", "$HOME", "*"]


def test_deadline_kills_the_whole_group(rig, start, tmp_path):
    pids = fifo(tmp_path / "pids")
    start("child = os.fork() or time.sleep(600)\n"
          "open(sys.argv[1] + '/pids', 'w').write(f'{os.getpid()} {child}\\n')\ntime.sleep(600)", timeout="2s", max_attempts="1")
    mark = rig.daemon.mark()
    rig.enqueue({}, QUEUE)
    both = [int(pid) for pid in read_line(pids).split()]
    assert rig.daemon.wait_settled(start=mark)["reason"] == "the program was killed after 2000 ms (timeout)"
    for pid in both:
        wait_gone(pid)


def test_what_a_program_leaves_behind_is_killed(rig, start, tmp_path):
    pids = fifo(tmp_path / "pids")
    start("child = os.fork() or time.sleep(600)\nopen(sys.argv[1] + '/pids', 'w').write(f'{child}\\n')")
    record = settled(rig, {})
    assert record["outcome"] == "done"
    wait_gone(int(read_line(pids)))


def test_the_end_of_the_output_is_the_reason(rig, start):
    start("print('x' * 100000 + '\\nthe «end»' + 'y' * 370, file=sys.stderr, flush=True); time.sleep(0.1); print(' of it\\x1b[1m', file=sys.stderr); sys.exit(65)")
    reason = settled(rig, {}, outcome="fail")["reason"]
    assert reason.endswith("«end»" + "y" * 370 + "  of it [1m") and 380 < len(reason.encode()) <= 400, reason
    (dead,) = rig.dead(QUEUE)
    assert reason in json.dumps(dead["headers"], ensure_ascii=False)


def test_large_message_that_is_not_read(rig, start):
    start("sys.exit(0)")
    assert settled(rig, {"much": "x" * 3_000_000})["outcome"] == "done"


def test_limits(rig, start):
    start("import resource as r\nwant = [(r.RLIMIT_CPU, 7), (r.RLIMIT_AS, 1 << 30), (r.RLIMIT_FSIZE, 1024)]\n"
          f"want += [(r.RLIMIT_NOFILE, 20)] * {not valgrind.active():d}\n"  # which valgrind does not set, but plays
          "sys.exit(0 if all(r.getrlimit(k) == (v, v) for k, v in want) else 65)",
          cpu_seconds="7", memory="1GB", open_files="20", file_size="1kB")
    assert settled(rig, {})["outcome"] == "done"


def test_program_that_cannot_be_started_pauses_the_queue(rig, start, tmp_path):
    daemon = start("sys.exit(0)", config_retry="1h")
    (tmp_path / "program").chmod(0o644)
    mark = daemon.mark()
    rig.enqueue({}, QUEUE)
    paused = daemon.wait_log("queue paused", start=mark)
    assert "Permission denied" in paused["text"]
    (tmp_path / "program").chmod(0o755)
    daemon.reload()
    assert daemon.wait_settled(start=mark, outcome="done")["attempt"] == 1


@pytest.mark.skipif(bool(valgrind.ROOT), reason="valgrind keeps descriptors of its own")
@pytest.mark.parametrize("mode", ["once", "pool"])
def test_a_machine_without_room_for_a_program_is_no_wrong_setting(rig, start, mode):
    """It passes by itself, so the message is tried again, and the queue is not paused."""
    daemon = start("for line in sys.stdin: print(json.dumps({'id': json.loads(line)['id'], 'outcome': 'done'}), flush=True)" if mode == "pool" else "",
                   mode=mode, config_retry="1h", max_attempts="1000", backoff_min="100ms", backoff_max="100ms")
    worker = daemon.child(f"worker {QUEUE}")
    _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    full = max(int(fd) for fd in os.listdir(f"/proc/{worker}/fd")) + 1
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (full, hard))
    mark = daemon.mark()
    msg_id = rig.enqueue({}, QUEUE)
    assert "cannot start " in daemon.wait_settled(start=mark, msg_id=msg_id, outcome="retry")["reason"]
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (hard, hard))
    daemon.wait_settled(start=mark, msg_id=msg_id, outcome="done")


@pytest.mark.parametrize("mode", ["once", "pool"])
def test_a_cancelled_program_is_ended(rig, start, tmp_path, mode):
    """With what it has begun; the next message gets another one."""
    pids = fifo(tmp_path / "pids")
    daemon = start("line = sys.stdin.readline()\n"
                   "if 'wait' in line:\n child = os.fork() or time.sleep(600)\n"
                   " open(sys.argv[1] + '/pids', 'w').write(f'{os.getpid()} {child}\\n')\n time.sleep(600)\n"
                   "if os.environ.get('PGMQD_MODE') == 'pool': print(json.dumps({'id': json.loads(line)['id'], 'outcome': 'done'}), flush=True)",
                   mode=mode, programs="1")
    msg_id = rig.enqueue({"do": "wait"}, QUEUE)
    both = [int(pid) for pid in read_line(pids).split()]
    assert run("message", "cancel", QUEUE, "--id", str(msg_id), "-d", rig.conninfo).returncode == 0
    daemon.wait_settled(msg_id=msg_id, outcome="cancelled")
    for pid in both:
        wait_gone(pid)
    assert settled(rig, {})["outcome"] == "done"


def test_stopping_waits_for_a_program_and_then_ends_it(rig, start, tmp_path):
    pids = fifo(tmp_path / "pids")
    daemon = start("open(sys.argv[1] + '/pids', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(600)",
                   settings={"drain_timeout": "1s"})
    msg_id = rig.enqueue({}, QUEUE)
    pid = int(read_line(pids))
    assert daemon.stop() == 0
    wait_gone(pid)
    assert [row["msg_id"] for row in rig.rows(f"q_{QUEUE}")] == [msg_id]


# ---- programs that stay ----

POOL = """
for line in sys.stdin:
    task = json.loads(line)
    do = task['message'].get('do')
    answer = {'id': task['id'], 'outcome': 'done'}
    if do == 'crash' and task['attempt'] == 1:
        print('it broke', file=sys.stderr, flush=True)
        os.kill(os.getpid(), 11)
    elif do == 'exit' and task['attempt'] == 1:
        sys.exit(3)
    elif do == 'hang' and task['attempt'] == 1:
        child = os.fork() or time.sleep(600)
        open(sys.argv[1] + '/pids', 'w').write(f'{os.getpid()} {child}\\n')
        time.sleep(600)
    elif do == 'babble':
        print('hello', flush=True)
        continue
    elif do == 'other':
        answer['id'] += 1
    elif do in ('retry', 'fail'):
        answer.update(outcome=do if task['attempt'] == 1 else 'done', reason='because', delay=0.001)
    elif do == 'pid':
        answer.update(outcome='fail', reason=f'{os.getpid()}')
    elif do == 'echo':
        answer.update(outcome='fail', reason=json.dumps([task['queue'], task['headers'], task['message']['text']], ensure_ascii=False))
    elif do == 'endless':
        print('x' * 70000, end='', flush=True)
        continue
    elif do == 'raw':
        print(task['message']['line'].replace('ID', str(task['id'])), flush=True)
        continue
    print(json.dumps(answer), flush=True)
"""


@pytest.mark.parametrize("do, reason", [("retry", "because"), ("fail", "because")])
def test_pool_answers(rig, start, do, reason):
    start(POOL, mode="pool")
    assert settled(rig, {"do": do}, outcome=do)["reason"] == reason
    assert settled(rig, {})["outcome"] == "done"


@pytest.mark.parametrize("do, reason", [
    ("crash", "the program was killed by signal 11: it broke"), ("exit", "the program ended with status 3"),
])
def test_pool_program_dies(rig, start, do, reason):
    """Its message is tried again with another one; the other programs go on."""
    start(POOL, mode="pool")
    mark = rig.daemon.mark()
    msg_id = rig.enqueue({"do": do}, QUEUE)
    assert rig.daemon.wait_settled(start=mark, msg_id=msg_id, outcome="retry")["reason"] == reason
    assert rig.daemon.wait_settled(start=mark, msg_id=msg_id, outcome="done")["attempt"] == 2


@pytest.mark.parametrize("do", ["babble", "other"])
def test_pool_program_talks_nonsense(rig, start, do):
    start(POOL, mode="pool", max_attempts="1")
    reason = settled(rig, {"do": do})["reason"]
    assert reason.startswith('unexpected line from the program: "') and reason.endswith("; answers are one JSON object a line, flushed")
    assert settled(rig, {})["outcome"] == "done"


def test_pool_answer_without_an_end(rig, start):
    start(POOL, mode="pool", max_attempts="1")
    assert settled(rig, {"do": "endless"})["reason"] == "the program's answer is longer than 64 kB"


def test_pool_line_that_nobody_asked_for(rig, start):
    """A program that answers twice is confused: the next message gets another one, and the log says why."""
    daemon = start(POOL, mode="pool", programs="1")
    pid = settled(rig, {"do": "pid"})["reason"]
    assert settled(rig, {"do": "raw", "line": '{"id": ID, "outcome": "done"}\nonce more'})["outcome"] == "done"
    daemon.wait_log(lambda r: r.get("level") == "warn" and 'unexpected line from the program: "once more"' in r.get("text", ""))
    assert settled(rig, {"do": "pid"})["reason"] != pid


def test_pool_program_that_dies_at_its_start(rig, start, tmp_path):
    """It is started again after 100 ms, 200 ms and so on."""
    start("open(sys.argv[1] + '/starts', 'a').write(f'{time.monotonic()}\\n')\nsys.exit(3)", mode="pool", programs="1", max_attempts="1000")
    rig.enqueue({}, QUEUE)
    starts = tmp_path / "starts"
    wait_until("it was started four times", lambda: starts.exists() and len(starts.read_text().splitlines()) >= 4)
    times = [float(t) for t in starts.read_text().splitlines()]
    assert times[3] - times[0] > 0.65


def test_pool_program_hangs(rig, start, tmp_path):
    pids = fifo(tmp_path / "pids")
    start(POOL, mode="pool", timeout="2s")
    mark = rig.daemon.mark()
    msg_id = rig.enqueue({"do": "hang"}, QUEUE)
    both = [int(pid) for pid in read_line(pids).split()]
    assert settled(rig, {})["outcome"] == "done", "the other program goes on"
    assert "killed after 2000 ms" in rig.daemon.wait_settled(start=mark, msg_id=msg_id, outcome="retry")["reason"]
    assert rig.daemon.wait_settled(start=mark, msg_id=msg_id, outcome="done")
    for pid in both:
        wait_gone(pid)


def test_pool_is_of_so_many_programs_that_are_renewed(rig, start):
    start(POOL, mode="pool", programs="1", messages_per_process="2")
    pids = [settled(rig, {"do": "pid"})["reason"] for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_pool_gets_the_message_on_one_line(rig, start):
    start(POOL, mode="pool")
    text = "two\nlines, «quotes» \"and\" \u2028"
    assert json.loads(settled(rig, {"do": "echo", "text": text})["reason"]) == [QUEUE, None, text]


def test_pool_ends_with_the_daemon(rig, start):
    start(POOL, mode="pool")
    pid = int(settled(rig, {"do": "pid"})["reason"])
    assert rig.daemon.stop() == 0
    wait_gone(pid)


# ---- what was asked for: all outcomes, a way to end, and what the program says ----

def test_pool_speaks_every_outcome(rig, start):
    """postpone, replace, config and done_with; numbers of the answer reach the database as they were written."""
    rig.db.execute("create table public.done (n numeric, t text, x jsonb)")
    rig.db.execute("grant insert on public.done to pgmqd")
    start(POOL, mode="pool", config_retry="1h")
    raw = ('{"outcome": "done_with", "params": [9007199254740993, null, {"a": [1, "]"]}],'
           ' "sql": "INSERT INTO public.done VALUES ($1::numeric, $2, $3::jsonb)", "id": ID}')
    assert settled(rig, {"do": "raw", "line": raw})["outcome"] == "done"
    assert rig.db.execute("select n::text, t, x from public.done").fetchall() == [("9007199254740993", None, {"a": [1, "]"]})]
    raw = '{"id": ID, "outcome": "replace", "message": {"do": "none", "big": 9007199254740993}, "delay": 3600}'
    first = rig.value("select pgmqd.enqueue(%s, %s::jsonb, unique_key => 'k')", [QUEUE, json.dumps({"do": "raw", "line": raw})])
    assert rig.daemon.wait_settled(msg_id=first)["outcome"] == "replace"
    assert rig.value("select pgmqd.enqueue(%s, '{}', unique_key => 'k')", [QUEUE]) == first + 1, "what is left has the unique key"
    found = rig.db.execute(f"select message->>'big', vt > now() + interval '50 minutes' from pgmq.q_{QUEUE}").fetchone()
    assert found == ("9007199254740993", True)
    rig.db.execute("select pgmq.purge_queue(%s)", [QUEUE])
    record = settled(rig, {"do": "raw", "line": '{"id": ID, "outcome": "postpone", "delay": 3600, "reason": "not yet"}'})
    assert (record["outcome"], record["reason"]) == ("release", "not yet")
    settled(rig, {"do": "raw", "line": '{"id": ID, "outcome": "config", "reason": "the key is wrong"}'}, outcome="config")
    assert "the key is wrong" in rig.daemon.wait_log("queue paused")["text"]


@pytest.mark.parametrize("line", [
    '{"id": ID, "outcome": "replace"}', '{"id": ID, "outcome": "done_with"}', '{"id": ID, "outcome": "done_with", "sql": "x", "params": 1}',
    '{"id": ID, "outcome": "perhaps"}', '{"id": "ID", "outcome": "done"}', '["done"]', '{"id": ID, "outcome": "done"} x'])
def test_pool_answers_that_are_none(rig, start, line):
    start(POOL, mode="pool", max_attempts="1")
    record = settled(rig, {"do": "raw", "line": line})
    assert record["outcome"] == "fail" and record["reason"].startswith('unexpected line from the program: "' + line[:6]), record


def test_reasons_are_text(rig, start):
    """A program may say any bytes: the message ends as a dead letter with what of them is text."""
    start("sys.stderr.buffer.write(b'caf\\xe9 \\xff\\x01 \\xf0\\x9f\\x99\\x82 end'); sys.exit(65)")
    assert settled(rig, {})["reason"] == "caf? ?  \U0001f642 end"
    assert len(rig.dead(QUEUE)) == 1


def test_what_a_program_says_is_in_the_log(rig, start):
    start("print('a warning', file=sys.stderr, flush=True)\nprint('and more', end='', file=sys.stderr)")
    settled(rig, {}, outcome="done")
    for text in ("stderr: a warning", "stderr: and more"):
        record = rig.daemon.wait_log(lambda r, t=text: r.get("text") == t)
        assert record["level"] == "info" and record["msg_id"]


def test_a_program_does_not_fill_the_log(rig, start):
    start("for i in range(130): print(f'line {i}.', file=sys.stderr)")
    mark = rig.daemon.mark()
    settled(rig, {}, outcome="done")
    rig.daemon.wait_log("stderr: further lines for this message are not logged", start=mark)
    rig.daemon.wait_log("stderr: line 99.", start=mark)
    assert not [r for r in rig.daemon.records() if r.get("text") == "stderr: line 100."]


@pytest.mark.parametrize("mode", ["once", "pool"])
def test_a_program_out_of_time_may_end_well(rig, start, mode):
    """SIGTERM comes first: what the program makes of it is the outcome."""
    start({"once": "signal.signal(signal.SIGTERM, lambda *a: (print('I had to stop', file=sys.stderr), sys.exit(65)))\ntime.sleep(600)",
           "pool": "task = json.loads(sys.stdin.readline())\n"
                   "signal.signal(signal.SIGTERM, lambda *a: (print(json.dumps({'id': task['id'], 'outcome': 'fail', 'reason': 'I had to stop'}), flush=True),"
                   " sys.exit(0)))\ntime.sleep(600)"}[mode],
          mode=mode, timeout="1s", kill_after="60s")
    record = settled(rig, {})
    assert (record["outcome"], record["reason"]) == ("fail", "I had to stop")


@pytest.mark.parametrize("mode", ["once", "pool"])
def test_a_program_that_ignores_sigterm_is_killed(rig, start, mode):
    start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsys.stdin.readline()\nwhile True: time.sleep(600)",
          mode=mode, timeout="500ms", kill_after="500ms", max_attempts="1")
    reason = settled(rig, {}, outcome="fail")["reason"]
    assert "killed after 500 ms (timeout)" in reason
    assert ("does it flush" in reason) == (mode == "pool")


def test_a_renewed_program_sees_the_end_of_its_input(rig, start, tmp_path):
    """It has time for that, and gets no further message meanwhile: the next program does."""
    end, go = fifo(tmp_path / "end"), fifo(tmp_path / "go")
    start(POOL + "open(sys.argv[1] + '/end', 'w').write('the end\\n')\nopen(sys.argv[1] + '/go').readline()\n",
          mode="pool", programs="1", messages_per_process="2", kill_after="60s")
    for _ in range(2):
        settled(rig, {}, outcome="done")
    assert read_line(end) == "the end"
    mark = rig.daemon.mark()
    msg_id = rig.enqueue({}, QUEUE)
    wait_until("it is claimed", lambda: rig.rows(f"q_{QUEUE}")[0]["read_ct"] == 1)
    with open(tmp_path / "go", "w", encoding="utf-8") as f:
        f.write("go\n")
    assert rig.daemon.wait_settled(start=mark, msg_id=msg_id)["outcome"] == "done"
    go.close()
    settled(rig, {}, outcome="done")
    assert rig.daemon.stop() == 0
    assert read_line(end) == "the end", "when the daemon stops, too"
