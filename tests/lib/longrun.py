"""The long form of the fault suite: campaigns in pieces, each kept when it is through, and Markdown tables of what came out.

python3 -m lib.longrun [--seed N] [--part NAME ...] [--kills N] [--restarts N] [--seconds N] [--rounds N] [--state FILE] [--out FILE]

A piece (100 kills, 20 restarts, a minute of terminations, a kind of poison, a kind of each of the parts in edges.py) has a database and a seed of its own and is one line of the
state file; what is there already is not run again, so a campaign may be stopped, continued, and split.
"""

import argparse
import json
import os
import platform
import random
import sys
import time

from . import edges
from . import rig as rigs
from .campaign import POISONS, kill_campaign, poison_campaign, quantile, restart_campaign, terminate_campaign
from .daemon import run
from .pgcluster import Cluster
from .stand import Stand
from .trial import LEASE, POLL, Trial

HEAD = ("| Fault | Injected | Messages | Lost | Effects doubled | Stale settlements accepted | Recovery p50 | p99 | longest |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
POISON_HEAD = ("| A message that | p50 without | with | p99 without | with | ratio of the p99 |\n"
               "|---|---:|---:|---:|---:|---:|\n")
TITLES = {"kills": "SIGKILL of a random process, or of all", "restarts": "immediate restart of PostgreSQL",
          "terminations": "pg_terminate_backend, 20 a second"}


def pieces(args):
    """(part, number, size) of everything that is wanted."""
    for part, total, step in (("kills", args.kills, 100), ("restarts", args.restarts, 20), ("terminations", args.seconds, 60)):
        for number, at in enumerate(range(0, total, step)):
            yield part, number, min(step, total - at)
    if args.rounds:
        for number in range(len(POISONS)):
            yield "poison", number, args.rounds
        for part, (_, kinds, _) in edges.PARTS.items():
            for number in range(len(kinds)):
                yield part, number, args.rounds


def faults(stand, part, size, rng):
    """A piece of the first three: what was injected, and what came of it."""
    result = {"kills": kill_campaign, "restarts": restart_campaign, "terminations": terminate_campaign}[part](stand, size, rng)
    v = stand.verdict()
    bad = sum(map(len, (v.misplaced, v.unexpected, v.undone, v.waiting)))
    return {"faults": result.faults, "messages": v.acked, "lost": len(v.lost), "doubled": v.doubled, "stale": len(v.stale), "bad": bad,
            "recovery": result.recovery if part != "terminations" else []}


def piece(cluster, seed, part, number, size):
    """Runs one in a database of its own."""
    name, began = f"{part}_{number}".replace("-", "_"), time.monotonic()
    cluster.createdb(name, "migrated")
    with Stand(cluster, name) as stand:
        if part in edges.PARTS:
            _, kinds, run_part = edges.PARTS[part]
            kind = list(kinds)[number]
            found = {"kind": kind, **run_part(Trial(stand, random.Random(f"{seed} {part} {number}")), kind, size)}
        elif part == "poison":
            found = poison_campaign(stand, list(POISONS)[number], size)
        else:
            found = faults(stand, part, size, random.Random(f"{seed} {part} {number}"))
    cluster.dropdb(name)
    return {"seed": seed, "part": part, "number": number, "size": size, **found, "took": round(time.monotonic() - began)}


def tables(done):
    """The Markdown tables of these pieces, and whether what must hold held."""
    lines, good = "", True
    for part, title in TITLES.items():
        own = [d for d in done if d["part"] == part]
        if not own:
            continue
        total = {key: sum(d[key] for d in own) for key in ("faults", "messages", "lost", "doubled", "stale", "bad", "size")}
        recovery = [r for d in own for r in d["recovery"]]
        title += f" for {total['size']} s" if part == "terminations" else ""
        figures = [f"{quantile(recovery, q):.2f} s" for q in (0.5, 0.99, 1)] if recovery else ["–"] * 3
        lines += f"| {title} | {total['faults']} | {total['messages']} | {total['lost']} | {total['doubled']} | {total['stale']} | {' | '.join(figures)} |\n"
        good = good and not total["lost"] + total["stale"] + total["bad"]
    text = "60 messages a second; visibility timeout 2 s (3 s in the second and third line).\n\n" + HEAD + lines if lines else ""
    own = sorted((d for d in done if d["part"] == "poison"), key=lambda d: d["number"])
    if own:
        text += "\nLatency of another queue's messages, from the enqueue to the plugin, while a queue beside it has such a message and while it has none:\n\n" + POISON_HEAD
        for d in own:
            (q50, q99), (p50, p99) = ([quantile(d[k], q) for q in (0.5, 0.99)] for k in ("quiet", "poisoned"))
            text += f"| {POISONS[d['kind']]} | {q50:.2f} ms | {p50:.2f} ms | {q99:.2f} ms | {p99:.2f} ms | {p99 / q99:.2f} |\n"
    own = [edges.row(d) for d in done if d["part"] in edges.PARTS]
    if own:
        text += (f"\nWhat is not tidy: visibility timeout {LEASE} s, fallback poll {POLL} s; some handlers take longer than a lease. A wait is from the commit to the"
                 " first delivery, without the time in which the fault stood.\n" + edges.HEAD + "".join(line for line, _ in own))
    return text, good and all(held for _, held in own)


def main():
    parser = argparse.ArgumentParser(prog="tests/faults/run --long", allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", action="append", choices=[*TITLES, "poison", *edges.PARTS])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--state")
    parser.add_argument("--out")
    args = parser.parse_args()
    done = []
    if args.state and os.path.exists(args.state):
        with open(args.state, encoding="ascii") as f:
            done = [json.loads(line) for line in f]
    known = {(d["seed"], d["part"], d["number"], d["size"]) for d in done}
    wanted = [(args.seed, *p) for p in pieces(args) if not args.part or p[0] in args.part]
    with Cluster(tcp=True, fsync=True) as cluster:
        done_migrate = rigs.migrate(cluster.createdb("migrated"))
        assert done_migrate.returncode == 0, done_migrate.stderr
        with cluster.connect("migrated") as db:
            db.execute("select pgmqd.create_queue('work'), pgmqd.create_queue('other')")
            db.execute("create table public.effects (uuid text)")
            version = db.execute("show server_version").fetchone()[0].split()[0]
        for seed, part, number, size in wanted:
            if (seed, part, number, size) in known:
                continue
            found = piece(cluster, seed, part, number, size)
            done.append(found)
            print({k: v for k, v in found.items() if k not in ("recovery", "quiet", "poisoned")}, file=sys.stderr, flush=True)
            if args.state:
                with open(args.state, "a", encoding="ascii") as f:
                    f.write(json.dumps(found) + "\n")
    done = [d for d in done if (d["seed"], d["part"], d["number"], d["size"]) in wanted]
    table, good = tables(done)
    command = " ".join(["tests/faults/run --long", *[a for a in sys.argv[1:] if not a.startswith(("--state", "--out")) and a not in (args.state, args.out)]])
    text = (f"`{command}`, {len(done)} of {len(wanted)} pieces, in {sum(d['took'] for d in done) // 60} minutes: {run('--version').stdout.split(chr(10))[0]},"
            f" PostgreSQL {version}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors that other work shared, so times are"
            f" longer than they need be.\n\n{table}")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            f.write("# Results of the fault suite\n\n" + text)
    else:
        print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
