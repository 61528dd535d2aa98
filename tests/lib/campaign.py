"""Campaigns of the fault suite: many faults under load, each followed until messages flow again; tests run short ones, tests/faults/run long ones."""

import math
import os
import select
import signal
import time

from .stand import SLOW, boottime_ms, wait_until


# What a poisonous message of the effect plugin does, in words; "done" is the control, which tells how much of a ratio is noise.
POISONS = {"done": "is done (nothing is wrong)", "crash": "crashes its plugin", "exit": "ends its process", "loop": "loops for ever", "leak": "leaks memory",
           "never": "is never settled"}


class Result:
    """Faults injected, and the seconds from each that stopped the flow to the next effect."""

    def __init__(self):
        self.faults, self.recovery, self.sessions = 0, [], []


def quantile(values, q):
    """The smallest of the values that this part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * q) - 1)]


class Follower:
    """Reads the effect ledger as it grows."""

    def __init__(self, path):
        self.path, self.at, self.rest = path, 0, b""

    def lines(self):
        try:
            with open(self.path, "rb") as f:
                f.seek(self.at)
                data = f.read()
        except FileNotFoundError:
            return []
        self.at += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.split() for line in lines]

    def effect_since(self, at, pid=None, timeout=60):
        """Seconds until an effect later than `at` (of another process than `pid`)."""
        def found():
            for w in self.lines():
                if w[0] == b"E" and int(w[4]) > at and (pid is None or int(w[5]) != pid):
                    return int(w[4]) - at + 1
            return 0
        return wait_until("messages flow again", found, timeout * SLOW, 0.01) / 1000


def gone(pid):
    """Until that process, killed already, is no more."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([fd], [], [], 30)
    os.close(fd)


def kill_campaign(stand, n, rng, rate=60):
    """SIGKILL n times: a worker, the listener, the supervisor, or everything at once. A dispatcher without a supervisor is started
    again as an init system would; so is one after three deaths of children, before it takes them for a crash loop."""
    result, follower, deaths = Result(), Follower(stand.effects), 0
    daemon = stand.start(queue={"visibility_timeout": "2s"})
    producer = stand.produce(rate, sleep_ms=lambda: rng.choice((0, 0, 5, 50, 200)))
    follower.effect_since(0)
    while result.faults < n:
        time.sleep(rng.uniform(0.02, 0.5))
        victim = rng.choice(("worker", "worker", "listener", "supervisor", "all")) if deaths < 3 else "all"
        children = {title: pid for pid, title in daemon.children().items()}
        worker = next((pid for title, pid in children.items() if "worker" in title), None)
        at = boottime_ms()
        if victim in ("supervisor", "all"):
            if victim == "all":
                daemon.kill()
            else:
                os.kill(daemon.process.pid, signal.SIGKILL)
                daemon.wait()
            daemon.start()
            deaths = 0
        else:
            pid = next((pid for title, pid in children.items() if victim in title), None)
            if pid is None:  # it is not back yet
                continue
            os.kill(pid, signal.SIGKILL)
            gone(pid)
            deaths += 1
        result.faults += 1
        recovery = follower.effect_since(at, worker if victim != "listener" else None)
        if victim != "listener":
            result.recovery.append(recovery)
    producer.stop()
    stand.drain()
    return result


def restart_campaign(stand, n, rng, rate=60):
    """n immediate restarts of PostgreSQL, as after a crash."""
    result, follower = Result(), Follower(stand.effects)
    stand.start()
    producer = stand.produce(rate)
    follower.effect_since(0)
    for _ in range(n):
        time.sleep(rng.uniform(0.1, 0.5))
        stand.cluster.stop("immediate")
        at = boottime_ms()
        stand.cluster.start()
        follower.lines()
        result.faults += 1
        result.recovery.append(follower.effect_since(at))
    producer.stop()
    stand.drain()
    return result


def terminate_campaign(stand, seconds, rng, rate=60, per_second=20):
    """pg_terminate_backend of a random session of the dispatcher, 20 times a second."""
    result, follower = Result(), Follower(stand.effects)
    stand.start()
    producer = stand.produce(rate)
    follower.effect_since(0)
    result.sessions = stand.sessions()
    due = time.monotonic()
    end = due + seconds
    while due < end:
        pids = sorted(stand.backends())
        if pids:
            result.faults += stand.value("select pg_terminate_backend(%s)", [rng.choice(pids)])
        due += 1 / per_second
        time.sleep(max(0, due - time.monotonic()))
    result.recovery.append(follower.effect_since(boottime_ms()))
    producer.stop()
    stand.drain()
    return result


def poison_campaign(stand, kind, rounds, seconds=5, rate=100):
    """Latencies (ms, from the enqueue to the plugin) of a queue while the one beside it is poisoned, and while it is not, in turns. A
    reload before each turn makes both begin alike, and a queue in a crash loop be tried again."""
    found = {"kind": kind, "quiet": [], "poisoned": [], "dead": 0}
    daemon = stand.start(watchdog="2s", queues={
        "work": {"max_attempts": 2, "visibility_timeout": "1s", "deadline": "1s"}, "other": {"visibility_timeout": "10s"}})
    for turn in range(2 * rounds):
        mark = daemon.mark()
        daemon.reload()
        daemon.wait_log("reloaded", start=mark)
        daemon.wait_log(lambda r: r.get("process") == "listener" and "connected to the database" in r.get("text", ""), start=mark)
        stand.send(queue="other")
        mark = daemon.mark()
        producer = stand.produce(rate, queue="other")
        if turn % 2:
            stand.send(20 if kind == "leak" else 1, do=kind)
        time.sleep(seconds)
        producer.stop()
        stand.drain(queue="other")
        found["poisoned" if turn % 2 else "quiet"] += [
            r["wait_ms"] for r in daemon.records()[mark:] if r.get("text") == "settled" and r.get("queue") == "other"]
        stand.drain()
    found["dead"] = stand.value("select count(*) from pgmq.q_work_dlq")
    return found
