"""The long form of the fault suite: campaigns one after the other, and a Markdown table of what came out.

python3 -m lib.longrun [--seed N] [--kills N] [--restarts N] [--seconds N] [--out FILE]
"""

import argparse
import platform
import random
import sys
import time

from . import rig as rigs
from .campaign import kill_campaign, restart_campaign, terminate_campaign
from .daemon import run
from .pgcluster import Cluster
from .stand import Stand

HEAD = ("| Fault | Injected | Messages | Lost | Effects doubled | Stale settlements accepted | Recovery p50 | p99 | longest |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")


def campaign(cluster, name, title, work, quantiles=True):
    """Runs one in a database of its own; returns its line of the table and whether the invariants hold."""
    cluster.createdb(name, "migrated")
    began = time.monotonic()
    with Stand(cluster, name) as stand:
        result = work(stand)
        v = stand.verdict()
        bad = v.lost or v.stale or v.misplaced or v.unexpected or v.undone
        recovery = [f"{result.quantile(q):.2f} s" for q in (0.5, 0.99, 1)] if quantiles else ["–"] * 3
        line = f"| {title} | {result.faults} | {v.acked} | {len(v.lost)} | {v.doubled} | {len(v.stale)} | {' | '.join(recovery)} |\n"
    cluster.dropdb(name)
    print(f"{title}: {time.monotonic() - began:.0f} s, {v}", file=sys.stderr, flush=True)
    return line, not bad


def main():
    parser = argparse.ArgumentParser(prog="tests/faults/run --long", allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--out")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    good, lines = True, ""
    with Cluster(tcp=True, fsync=True) as cluster:
        done = rigs.migrate(cluster.createdb("migrated"))
        assert done.returncode == 0, done.stderr
        with cluster.connect("migrated") as db:
            db.execute("select pgmqd.create_queue('work')")
            version = db.execute("show server_version").fetchone()[0].split()[0]
        for name, title, work, quantiles in (
                ("kills", "SIGKILL of a random process, or of all", lambda s: kill_campaign(s, args.kills, rng), True),
                ("restarts", "immediate restart of PostgreSQL", lambda s: restart_campaign(s, args.restarts, rng), True),
                ("terminations", f"pg_terminate_backend, 20 a second for {args.seconds} s", lambda s: terminate_campaign(s, args.seconds, rng), False)):
            line, held = campaign(cluster, name, title, work, quantiles)
            lines, good = lines + line, good and held
    command = f"tests/faults/run --long --seed {args.seed} --kills {args.kills} --restarts {args.restarts} --seconds {args.seconds}"
    text = (f"`{command}`: {run('--version').stdout.split(chr(10))[0]}, PostgreSQL {version}, {platform.system()} {platform.machine()},"
            f" 60 messages a second, visibility timeout 2 s (3 s in the last two).\n\n{HEAD}{lines}")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            f.write("# Results of the fault suite\n\n" + text)
    else:
        print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
