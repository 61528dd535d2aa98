"""Makes RESULTS.md, and plots where gnuplot is, of what tests/bench/run has kept."""

import json
import re
import shutil
import statistics
import subprocess

from lib.daemon import run as pgmqd_run

HEAD = """# Measured

Written by `tests/bench/run`; do not edit. Each part was taken side by side in one run, in turns, on a private cluster with fsync on; so
trust the ratios more than the figures. The floor is a bare libpq loop of the same statements.

"""


def processors(machine):
    return f"{machine['cores']} cores ({machine['cpu']})"


def section(name, got):
    """One part in Markdown."""
    lines = [f"## {got['title']}", ""]
    if "text" in got:
        lines += ["```", got["text"].rstrip(), "```", ""]
    else:
        lines += ["| " + " | ".join(got["head"]) + " |", "|" + "|".join(["---"] + ["---:"] * (len(got["head"]) - 1)) + "|"]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in got["rows"]] + [""]
        lines += [note + "\n" for note in got["notes"]]
    commands = ", ".join(f"`{c}`" for c in got["commands"])
    lines.append(f"`tests/bench/run {name}`" + (f" ({commands})" if commands else "") + f"; {got['at']}, {processors(got['machine'])}, {got['seconds']:.0f} s; others took {got['busy'] * 100:.0f} % of the processors before it.")
    return "\n".join(lines) + "\n"


def plot(name, got, path):
    """An SVG of the values; True when there is one."""
    values = got.get("values")
    if not values or not shutil.which("gnuplot"):
        return path.exists() and bool(values)
    setup = ["set terminal svg size 800,360 font 'sans,12' background '#ffffff'", f"set output '{path}'", "set grid", "set key bottom right"]
    data, plots = [], []
    if name == "latency":
        setup += ["set logscale x", "set xlabel 'ms from call to start'", "set ylabel 'share of messages'", "set yrange [0:1]"]
        for k, (title, v) in enumerate(values.items()):
            v = sorted(v)
            data += [f"$d{k} << EOD", *(f"{x} {(i + 1) / len(v)}" for i, x in enumerate(v)), "EOD"]
            plots.append(f"$d{k} with steps lw 2 title '{title}'")
    else:
        setup += ["set style fill solid 0.6", "set boxwidth 0.7", "set ylabel 'messages/s, median'", "set yrange [0:*]", "unset key",
                  "set xtics rotate by -25 font ',9'", "set bmargin 7", "set rmargin 12"]
        data = ["$d << EOD", *(f"\"{t}\" {sorted(v)[len(v) // 2]}" for t, v in values.items()), "EOD"]
        data = [line.replace("pgmqd's", "own").replace("producers: ", "") for line in data]
        plots = ["$d using 2:xtic(1) with boxes"]
    done = subprocess.run(["gnuplot"], input="\n".join(data + setup + ["plot " + ", ".join(plots)]) + "\n", text=True, stderr=subprocess.PIPE)
    return done.returncode == 0


def was_busy(parts):
    """Whether other work ran beside the measurements."""
    return any(got["busy"] > 0.25 for got in parts.values())


def earlier(path, titles):
    """{name: section} of the parts that RESULTS.md has from another build tree, and its line of the peers."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    peers, machine = re.search(r"^- Peers: (.*)", text, re.M), re.search(r"^- Machine: (.*?\)),", text, re.M)
    # a part says on which machine it was taken, since that of the next run may be another
    text = re.sub(r"(; \d{4}-\d\d-\d\d \d\d:\d\d UTC)(, \d+ s; others)", lambda m: f"{m[1]}, {machine[1]}{m[2]}", text)
    found = {section.partition("\n")[0]: "## " + section for section in re.split(r"^## ", text, flags=re.M)[1:]}
    return {name: found[title].rstrip() + "\n\n" for name, title in titles.items() if title in found}, peers[1] if peers else ""


def write(kept, titles, path, readme_path):
    """RESULTS.md of all the parts that are kept, by {name: title}, and of those that it has already; and README.md's table."""
    names, (old, known) = list(titles), earlier(path, titles)
    parts = {name: json.loads((kept / f"{name}.json").read_text(encoding="utf-8")) for name in names if (kept / f"{name}.json").exists()}
    newest = max(parts.values(), key=lambda got: got["at"])
    peers = max((got["peers"] for got in parts.values()), key=len)
    why = next((got["why"] for got in parts.values() if got["why"]), "")
    m = newest["machine"]
    text = HEAD
    text += f"- Machine: {processors(m)}, {m['memory']}, Linux {m['kernel']}; everything on it, the server too\n"
    text += f"- PostgreSQL {newest['postgresql']}; {pgmqd_run('--version').stdout.strip()}\n"
    text += "- Peers: " + (", ".join(f"{name} {version}" for name, version in peers.items()) or known or why or "not measured") + "\n\n"
    if was_busy(parts):
        text += "**Other work kept the machine busy meanwhile (see at each part): these figures are provisional.**\n\n"
    for name in names:
        got = parts.get(name)
        if got is None:
            text += old.get(name, "")
            continue
        text += section(name, got) + "\n"
        if plot(name, got, path.parent / f"{name}.svg"):
            text += f"![{got['title']}]({name}.svg)\n\n"
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    readme(parts, readme_path)


def readme(parts, path):
    """The table of README.md, between its two marks."""
    marks = ("<!-- tests/bench/run writes from here -->\n", "<!-- to here -->")
    medians = {name: {who: statistics.median(v) for who, v in got["values"].items()} for name, got in parts.items() if "values" in got}
    if not {"latency", "drain", "enqueue"} <= set(medians):
        return
    who = {"floor": ("bare loop", "pgmq.read + pgmq.archive by 500"), "pgmqd": ("pgmqd", "pgmqd"),
           "graphile-worker": ("graphile-worker", "graphile-worker, tuned"), "River": ("River, tuned", "River, tuned"),
           "pgqueuer": ("pgqueuer, tuned", "pgqueuer, tuned"), "pg-boss": ("pg-boss, tuned", "pg-boss, tuned")}

    def cells(part, column, form):
        values = [medians[part].get(names[column]) for names in who.values()]
        return " | ".join("" if v is None else format(v, form) for v in values)

    table = f"| | {' | '.join(who)} |\n|---|{'---:|' * len(who)}\n"
    table += f"| idle, call to handler, p50 in ms | {cells('latency', 0, '.2f')} |\n"
    table += f"| 50,000 waiting messages, a second | {cells('drain', 1, ',.0f')} |\n\n"
    table += "| messages/s of the producers, queue served | no notification | pgmqd's trigger | plain NOTIFY |\n|---|---:|---:|---:|\n"
    for n in (8, 32):
        row = [medians["enqueue"][f"{n} producers: served, {way}"] for way in ("no notification", "pgmqd's trigger", "plain NOTIFY")]
        table += f"| {n} producers | {' | '.join(f'{x:,.0f}' for x in row)} |\n"
    if was_busy(parts):
        table += "\nOther work kept the machine busy meanwhile, so these are provisional.\n"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), lambda _: marks[0] + table + marks[1], text, flags=re.S), encoding="utf-8")
