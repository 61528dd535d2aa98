"""A machine that runs short: no descriptors, no disk for the log, no memory, and clocks that jump."""

import mmap
import os
import random
import re
import resource
import shutil
import struct
import subprocess

import pytest

from lib.paths import BUILDDIR
from lib.stand import INSTRUMENTED, wait_until


def test_few_descriptors(stand):
    """With 32 descriptors in all it works, or says what it lacks; here it works."""
    stand.start(wrapper=["prlimit", "--nofile=32:32"])
    stand.effect_of(stand.send(50))
    stand.drain()
    stand.verdict().check()


def test_descriptors_run_out(stand):
    """A worker that cannot open its socket any more says so, goes on trying, and works again when it can."""
    daemon = stand.start()
    stand.effect_of(stand.send(5))
    (worker,) = [pid for pid, title in daemon.children().items() if "worker" in title]
    former = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, former[1]))
    mark = daemon.mark()
    (pid,) = [pid for pid, name in stand.backends().items() if "worker" in name]
    stand.db.execute("select pg_terminate_backend(%s, 5000)", [pid])
    daemon.wait_log(lambda r: r.get("process") == "worker" and "Too many open files" in r.get("text", ""), start=mark)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, former)
    stand.effect_of(stand.send(5), 45)
    stand.drain()
    stand.verdict().check()


def test_disk_of_the_log_is_full(stand):
    """Lines are lost, messages are not."""
    stand.start(ready=False, wrapper=["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh"])
    stand.effect_of(stand.send(20))
    stand.drain()
    stand.verdict().check()


@pytest.mark.skipif(INSTRUMENTED, reason="a sanitizer or valgrind needs all the address space")
@pytest.mark.parametrize("megabytes", [8, 12, 26])
def test_message_larger_than_the_memory(stand, megabytes):
    """libpq cannot take it in, or has no memory for the row, or the worker none for a copy: a dead letter that says so; what came with it is not."""
    daemon = stand.start()  # how much an idle worker takes is not what matters
    (worker,) = [pid for pid, title in daemon.children().items() if "worker" in title]
    idle = int(re.search(r"VmPeak:\s+(\d+)", open(f"/proc/{worker}/status").read())[1]) << 10
    stand.stop(daemon)
    stand.start(queue={"max_attempts": 3, "visibility_timeout": "3s"}, wrapper=["prlimit", f"--as={idle + (megabytes << 20)}"])
    with stand.db.transaction():  # one claim takes them all
        good = stand.send(3)
        stand.db.execute("select pgmq.send('work', jsonb_build_object('uuid', 'big', 'x', repeat('y', 10 << 20)))")
        good += stand.send(3)
    stand.effect_of(good)
    wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1, 60)
    why = stand.value("select headers->'pgmqd_dead' from pgmq.q_work_dlq")
    assert "too large" in why["reason"] and why["attempts"] <= 4, why
    stand.drain()
    assert stand.value("select count(*) from pgmq.a_work") == len(good)
    assert stand.value("select message = jsonb_build_object('uuid', 'big', 'x', repeat('y', 10 << 20)) from pgmq.q_work_dlq"), "the body is untouched"


def test_large_message_survives_a_broken_connection(stand):
    """Claims that are lost for another reason than its size cost a large message an attempt, and no more; a smaller one costs it nothing."""
    stand.db.execute("create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock_shared(7); return new; end $$")
    stand.db.execute("create trigger wait before update on pgmq.q_work for each row execute function wait()")
    stand.db.execute("select pg_advisory_lock(7)")
    stand.start(fallback_poll="1h")
    small = stand.send(3)
    for i in range(6):
        pid = wait_until("a claim", lambda: stand.db.execute("select pid from pg_locks where locktype = 'advisory' and objid = 7 and not granted").fetchone())
        if i == 0:
            large = stand.send(pad="y" * (2 << 20))
        stand.db.execute("select pg_terminate_backend(%s, 5000)", pid)
    stand.db.execute("select pg_advisory_unlock(7)")
    stand.effect_of(small + large)
    stand.drain()
    assert {s.uuid: s.attempt for s in stand.steps() if s.what == "E"} == {**dict.fromkeys(small, 1), large[0]: 2}
    stand.verdict().check()


FAILMALLOC = BUILDDIR / "tests" / "plugins" / ".libs" / "failmalloc.so"


@pytest.mark.skipif(INSTRUMENTED, reason="a sanitizer or valgrind has allocators of its own")
def test_each_allocation_fails_once(stand, seed):
    """The n-th allocation of a child fails, for n all over a start and a message: an abort that says why, or none; no other death."""
    counter = stand.dir / "countdown"
    counter.write_bytes(struct.pack("i", 0))
    rng, silent = random.Random(seed), 0
    with open(counter, "r+b") as f, mmap.mmap(f.fileno(), 4) as countdown:
        daemon = stand.start(queue={"visibility_timeout": "1s"}, env={"LD_PRELOAD": str(FAILMALLOC), "FAILMALLOC": str(counter)})
        for i in range(40):
            mark = daemon.mark()
            countdown[:4] = struct.pack("i", rng.randrange(1, 60) if i % 2 else rng.randrange(1, 3000))
            daemon.write_conf(re.sub("fallback_poll = .*", f"fallback_poll = {2000 + i}ms", daemon.conf_text))
            if i % 2:  # within the work
                stand.send(3, do="done_with" if i % 4 == 1 else "done")
            else:  # within the start of new processes, which a change of the settings brings about; libpq drops a notification without a word
                daemon.reload()
                daemon.wait_log(lambda r: r.get("text", "") in ("reloaded",) or "reload refused" in r.get("text", ""), start=mark)
            stand.effect_of(stand.send())
            silent += struct.unpack("i", countdown[:4])[0] > 0
            countdown[:4] = struct.pack("i", 0)
            if i % 2:
                daemon.reload()  # new processes have a clean record: these deaths are no crash loop
        stand.drain()
        deaths = [r["text"] for r in daemon.records() if "(process" in r.get("text", "") and "was killed" in r["text"]]
        assert silent < 20, "most of them must have failed"
        assert [text for text in deaths if "SIGABRT" not in text] == []
    stand.verdict().check(doubled=40)


LIBFAKETIME = next((p for p in ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1")
                    if os.path.exists(p)), None)


@pytest.mark.skipif(not LIBFAKETIME, reason="libfaketime is not installed")
@pytest.mark.skipif(INSTRUMENTED, reason="libfaketime and ASan or valgrind all want to come first")
@pytest.mark.parametrize("jump", ["+3h", "-3h"])
def test_clock_jumps(stand, jump):
    """The daemon's wall clock jumps three hours under load: retries and leases keep their times."""
    rc = stand.dir / "faketime"
    rc.write_text("+0\n")
    stand.start(fallback_poll="1h", queue={"backoff_min": "300ms", "backoff_max": "300ms"},
                env={"LD_PRELOAD": LIBFAKETIME, "FAKETIME_TIMESTAMP_FILE": str(rc), "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                     "FAKETIME_CACHE_DURATION": "0", "FAKETIME_NO_CACHE": "1"})
    later = stand.send(delay=600)  # the due timer is set to it
    slow = stand.send(5, sleep_ms=4000)
    stand.begun(slow)
    (rc.parent / "new").write_text(jump + "\n")
    os.replace(rc.parent / "new", rc)
    stand.effect_of(stand.send(5, do="retry", delay_ms=500, until=3))
    stand.effect_of(slow)
    stand.db.execute("delete from pgmq.q_work where message->>'uuid' = %s", later)
    stand.drain()
    assert not [s for s in stand.steps() if s.what == "C"]
    assert max(s.attempt for s in stand.steps() if s.uuid in slow) == 1


def test_fork_fails(stand):
    """Without a right to fork, a dead worker stays dead for a while, and comes back when it may."""
    if os.geteuid() == 0:
        pytest.skip("limits of processes do not bind root")
    assert shutil.which("prlimit")
    daemon = stand.start()
    subprocess.run(["prlimit", f"--pid={daemon.process.pid}", "--nproc=1:"], check=True)
    daemon.kill_child("worker")
    daemon.wait_log("could not be forked")
    subprocess.run(["prlimit", f"--pid={daemon.process.pid}", "--nproc=10000:"], check=True)
    stand.effect_of(stand.send(5), 45)
    wait_until("settled", lambda: stand.value("select count(*) from pgmq.a_work") == 5)
