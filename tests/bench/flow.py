"""What limits and unique keys cost, and what they keep to: a small customer beside a flood, an enqueue with a key beside a plain one."""

import re
import subprocess
import tempfile
import time

from lib.daemon import Daemon, conf
from lib.stand import PLUGIN

BY_CUSTOMER = "header:customer"
FLOOD = 100000
WORK_MS = 5  # of each message's handler
SLOTS = 8


def handled(ledger):
    """{message: when its handler began} by the effects' ledger, in ms of the boot-time clock."""
    with open(ledger, encoding="ascii") as f:
        return {int(line.split()[2]): int(line.split()[4]) for line in f if line.startswith("B ")}


def small_customer(b, ledger, count, gap_s):
    """Latencies of a small customer's messages: from before the enqueue to the start of the handler, in ms."""
    sent = {}
    for i in range(count):
        at = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6
        sent[b.db.execute("""select pgmq.send('fair', jsonb_build_object('uuid', 's' || %s::text, 'sleep_ms', %s::int), '{"customer": "small"}'::jsonb)""",
                          [i, WORK_MS]).fetchone()[0]] = at
        time.sleep(gap_s)
    deadline = time.monotonic() + 120
    while not set(sent) <= set(began := handled(ledger)):
        if time.monotonic() > deadline:
            raise TimeoutError("the small customer's messages")
        time.sleep(0.1)
    return [max(0.0, began[i] - at) for i, at in sent.items()]


def fairness(b, flood, count, gap_s=0.03, **queue):
    """Latencies of the small customer while `flood` messages of another one wait; and how many of them still do at the end."""
    b.db.execute("select pgmqd.create_queue('fair'), pgmqd.limit_queue('fair', %s)", [BY_CUSTOMER])
    b.db.execute("""insert into pgmq.q_fair (vt, message, headers) select now(), jsonb_build_object('uuid', 'f' || n, 'sleep_ms', %s::int),
                    '{"customer": "flood"}' from generate_series(1, %s) n""", [WORK_MS, flood])
    b.db.execute("vacuum analyze pgmq.q_fair")
    with tempfile.TemporaryDirectory() as tmp:
        daemon = Daemon(conf(b.conninfo, {"fair": {"plugin": PLUGIN, "ledger": f"{tmp}/ledger", "max_in_flight": SLOTS, "fair_by": BY_CUSTOMER, **queue}}))
        daemon.start().wait_ready()
        if flood:
            time.sleep(1)
        got = small_customer(b, f"{tmp}/ledger", count, gap_s)
        left = b.db.execute("""select count(*) from pgmq.q_fair where headers->>'customer' = 'flood' and vt <= now()""").fetchone()[0]
        b.db.execute("delete from pgmq.q_fair where vt <= now()")
        daemon.stop()
        daemon.close()
    b.db.execute("select pgmq.drop_queue('fair')")
    return got, left


def enqueues(b, statement, clients, seconds):
    """Enqueues a second by pgbench: each a transaction of its own; :n is another number each time."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as f:
        f.write(f"\\set n random(1, 1000000000000)\n{statement};\n")
        f.flush()
        done = subprocess.run([f"{b.cluster.bin}/pgbench", "-n", "-M", "prepared", "-f", f.name, "-c", str(clients), "-j", "2", "-T", str(seconds), b.conninfo],
                              check=True, stdout=subprocess.PIPE, text=True)
    return float(re.search(r"tps = ([0-9.]+) \(without", done.stdout).group(1))
