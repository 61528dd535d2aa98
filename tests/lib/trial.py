"""One trial of the fault suite: a stand, the times at which the world was broken, what others lost meanwhile, and the figures that came out."""

import contextlib
import time

from .oracle import Verdict
from .stand import boottime_ms, wait_until

LEASE, POLL = 3, 5  # seconds: visibility timeout and fallback poll of a trial


class Trial:
    """`expected`: the messages that must be found in the end; `excused`: those whose effect may be repeated, and the fault is the reason."""

    def __init__(self, stand, rng):
        self.stand, self.rng = stand, rng
        self.faults, self.windows, self.notes = 0, [], {}
        self.base, self.before, self.excused = set(), set(), set()
        self.daemon = self.producer = None

    def begin(self, conninfo=None, rate=None, queue=None, fields=None, user=None, slow=False, **settings):
        """A dispatcher, and messages of which some take longer than a lease; slow: most do, and two dispatchers have a hundred in hand."""
        stand = self.stand
        times = (0, 200, 1000, 2000, 4000, 6000) if slow else (0,) * 12 + (5, 50, 200, 1000, 4000)
        conninfo = conninfo or stand.cluster.conninfo(stand.dbname, user=user or "postgres")
        for _ in range(2 if slow else 1):
            self.daemon = stand.start(conninfo, {"visibility_timeout": f"{LEASE}s", "max_in_flight": 50, **(queue or {})},
                                      **{"fallback_poll": f"{POLL}s", **settings})
        fields = fields or {"sleep_ms": lambda: self.rng.choice(times)}
        self.producer = stand.produce(rate or (20 if slow else 40), **fields)
        self.flows()

    @contextlib.contextmanager
    def fault(self, n=1):
        """The world is broken inside: no message's wait counts."""
        began = boottime_ms()
        try:
            yield
        finally:
            self.windows.append((began, boottime_ms()))
            self.faults += n

    def flows(self, timeout=60):
        """Until a message that was sent from now on had its effect."""
        tried = self.stand.ledger.tried()
        wait_until("messages flow", lambda: any(s.what == "E" and s.uuid not in tried for s in self.stand.steps()), timeout)

    def load(self, seconds):
        """Time for messages to come and go."""
        time.sleep(seconds)

    def history(self, also=()):
        """From here on what this database has is what there is: others lost what is not in it, and the effects of what waits in it (or is
        in `also`) may be repeated."""
        acked = self.stand.ledger.read("work")[1]
        found = self.stand.db.execute(
            "select message->>'uuid', true from pgmq.q_work union all select message->>'uuid', false from pgmq.a_work"
            " union all select message->>'uuid', false from pgmq.q_work_dlq").fetchall()
        self.before, self.base = acked, {uuid for uuid, _ in found}
        self.excused |= {uuid for uuid, waits in found if waits} | set(also)

    def expected(self):
        """What must be found."""
        return self.base | (self.stand.ledger.read("work")[1] - self.before)

    def longest_wait(self):
        """Seconds from a message's commit to its first delivery, less the time in which the world was broken."""
        longest, begun = 0, {}
        for s in self.stand.steps():
            if s.what == "B":
                begun.setdefault(s.uuid, s.at)
        for uuid, at in self.stand.ledger.times().items():
            if uuid in begun and begun[uuid] > at:
                broken = sum(max(0, min(end, begun[uuid]) - max(start, at)) for start, end in self.windows)
                longest = max(longest, begun[uuid] - at - broken)
        return longest / 1000

    def finish(self):
        """The queue is empty; the figures."""
        stand = self.stand
        stand.drain(120)
        stand.disconnect()
        v = Verdict(stand.db, "work", stand.ledger, stand.effects)
        places = set(v.archived) | set(v.dead) | set(v.waiting)
        expected = self.expected()
        again = {uuid: n - 1 for uuid, n in v.effects.items() if n > 1}
        # archived without an effect by that time: another message's outcome, or an older claim's, was taken for this one's
        first = {}
        for s in stand.steps():
            if s.what == "E":
                first[s.uuid] = min(s.attempt, first.get(s.uuid, s.attempt))
        stale = {uuid for uuid, attempt in v.archived.items() if uuid in expected and first.get(uuid, attempt + 1) > attempt}
        stale |= (v.stale & expected) - self.excused
        return {"faults": self.faults, "messages": len(expected), "lost": len(expected - places), "stale": len(stale),
                "doubled": sum(again.values()), "documented": sum(n for uuid, n in again.items() if uuid in self.excused),
                "bad": len(v.misplaced) + len(v.unexpected) + len(set(v.dead) & expected), "wait": round(self.longest_wait(), 2), **self.notes}
