"""The oracle of the fault suite: what producers put in, what the effect plugin did, what the database has; and whether that agrees.

Invariants: I1 no message whose enqueue was committed is lost, and each that could be done had its effect; I2 at most one accepted
settlement each (a copy in one place only, and never by an older claim than one that was delivered); I3 no delivery of a message
begins while its lease is another one's, that is, no effect of a claim after a later claim was delivered; I4 sent = waiting +
archived + dead; I5 an effect is doubled only where a fault allows it (the caller says how many); I6 processes, descriptors and
connections return to what they were; I7 recovery within a bound; I8 the exit status. I6 to I8 are checked by the rig.
"""

import json
import os
import threading
import time
import uuid
from collections import Counter, defaultdict

import psycopg


class Ledger:
    """The producers' book: a line "T queue uuid boottime_ms" before each send and "A queue uuid boottime_ms" after its commit."""

    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.file = open(path, "a", encoding="ascii", buffering=1)
        self.direct = False  # whether messages go into the table itself, and not through pgmq's functions

    def note(self, what, queue, ids):
        with self.lock:
            at = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000
            self.file.write("".join(f"{what} {queue} {i} {at}\n" for i in ids))

    def read(self, queue):
        """(tried, acknowledged) of a queue, as sets."""
        found = {"T": set(), "A": set()}
        with open(self.path, encoding="ascii") as f:
            for what, name, i, _ in map(str.split, f):
                if name == queue:
                    found[what].add(i)
        return found["T"], found["A"]

    def tried(self):
        """Everything that was tried, whatever the queue."""
        with open(self.path, encoding="ascii") as f:
            return {line.split()[2] for line in f}

    def times(self):
        """{uuid: boottime_ms} of everything that was acknowledged."""
        with open(self.path, encoding="ascii") as f:
            return {i: int(at) for what, _, i, at in map(str.split, f) if what == "A"}

    def send(self, db, queue, n, delay=0, **fields):
        """Enqueues n messages in one transaction."""
        ids = [str(uuid.uuid4()) for _ in range(n)]
        self.note("T", queue, ids)
        with db.cursor() as c:
            sql = (f"insert into pgmq.q_{queue} (message, vt) select m, clock_timestamp() + make_interval(secs => d) from"
                   " (select unnest(%s::jsonb[]) m, %s::integer d) x" if self.direct
                   else f"select pgmq.send_batch('{queue}', %s::jsonb[], %s::integer)")
            c.execute(sql, [[json.dumps({"uuid": i, **fields}) for i in ids], delay])
        self.note("A", queue, ids)
        return ids


class Producer(threading.Thread):
    """Sends `rate` messages a second until stopped, each committed by itself, through restarts of the server."""

    def __init__(self, ledger, conninfo, queue, rate, fields):
        super().__init__(daemon=True)
        self.ledger, self.conninfo, self.queue, self.rate, self.fields = ledger, conninfo, queue, rate, fields
        self.stopping = threading.Event()
        self.failures = 0

    def run(self):
        db, due = None, time.monotonic()
        while not self.stopping.is_set():
            try:
                if db is None or db.closed:
                    db = psycopg.connect(self.conninfo, autocommit=True)
                self.ledger.send(db, self.queue, 1, **self.fields())
            except psycopg.Error:
                self.failures += 1
                if db is not None:
                    db.close()
                db = None
                self.stopping.wait(0.1)
            due = max(due + 1 / self.rate, time.monotonic() - 0.5)
            self.stopping.wait(max(0, due - time.monotonic()))
        if db is not None:
            db.close()

    def stop(self):
        self.stopping.set()
        self.join()


class Step:
    """A line of the effect plugin's ledger."""

    __slots__ = ("what", "uuid", "msg_id", "attempt", "at", "pid")

    def __init__(self, line):
        self.what, self.uuid, msg_id, attempt, at, pid = line.split()
        self.msg_id, self.attempt, self.at, self.pid = int(msg_id), int(attempt), int(at), int(pid)


def steps(path):
    """All whole lines of the effect ledger; the last one may be seen while it is being written."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="ascii") as f:
        return [Step(line) for line in f if line.endswith("\n")]


class Verdict:
    """What came out of one run. lost, unexpected, recovered, stale, misplaced, late: sets of ids; doubled: effects beyond the first."""

    def __init__(self, db, queue, ledger, effects):
        tried, acked = ledger.read(queue)
        others = ledger.tried() - tried
        done = [s for s in steps(effects) if s.uuid not in others]
        self.effects = Counter(s.uuid for s in done if s.what == "E")
        first, second, third = (
            {r[0]: r[1] for r in rows} for rows in (
                db.execute(f"select message->>'uuid', read_ct from pgmq.q_{queue}").fetchall(),
                db.execute(f"select message->>'uuid', read_ct from pgmq.a_{queue}").fetchall(),
                db.execute(f"select message->>'uuid', (headers->'pgmqd_dead'->>'read_ct')::int from pgmq.q_{queue}_dlq").fetchall()))
        self.waiting, self.archived, self.dead = first, second, third
        places = Counter([*first, *second, *third])
        counts = [db.execute(f"select count(*) from pgmq.{t}").fetchone()[0] for t in (f"q_{queue}", f"a_{queue}", f"q_{queue}_dlq")]
        self.acked, self.tried = len(acked), len(tried)
        self.lost = acked - set(places)
        self.undone = {i for i in second if not self.effects[i]}
        self.unexpected = (set(places) | set(self.effects)) - tried
        self.recovered = (set(places) - acked) & tried
        self.misplaced = {i for i, n in places.items() if n > 1}
        if sum(counts) != len(places):
            self.misplaced.add(f"{sum(counts)} rows for {len(places)} messages")
        self.doubled = sum(n - 1 for n in self.effects.values())
        delivered = defaultdict(list)
        for s in done:
            delivered[s.uuid].append(s)
        self.stale, self.late = set(), set()
        for i, own in delivered.items():
            newest = max(s.attempt for s in own)
            if second.get(i, third.get(i, newest)) < newest:
                self.stale.add(i)
            begun = 0
            for s in own:
                if s.what == "B":
                    begun = max(begun, s.attempt)
                elif s.what == "E" and s.attempt < begun:
                    self.late.add(i)

    def check(self, doubled=0, late=0, empty=True):
        """Fails with the figures unless the invariants hold; at most so many effects may be doubled, so many be late."""
        problems = [f"{name}: {len(found)} {sorted(found)[:3]}" for name in ("lost", "undone", "unexpected", "misplaced", "stale")
                    if (found := getattr(self, name))]
        if self.doubled > doubled:
            problems.append(f"doubled: {self.doubled}, at most {doubled} are explained by faults")
        if len(self.late) > late:
            problems.append(f"late: {len(self.late)} effects after a later claim was delivered")
        if empty and self.waiting:
            problems.append(f"still waiting: {len(self.waiting)}")
        assert not problems, f"{self}\n" + "\n".join(problems)
        return self

    def __str__(self):
        return (f"{self.acked} sent, {len(self.archived)} archived, {len(self.dead)} dead, {len(self.waiting)} waiting; lost {len(self.lost)},"
                f" doubled {self.doubled}, stale {len(self.stale)}, recovered {len(self.recovered)}")
