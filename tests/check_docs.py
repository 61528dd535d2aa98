#!/usr/bin/python3
"""check_docs.py: compares the manual pages and the sample file with the option tables and the table of commands.

Takes the program from $PGMQD (else build/pgmqd beside the sources) and the sources from $TOP_SRCDIR.
"""

import glob
import os
import re
import subprocess
import sys

top = os.environ.get("TOP_SRCDIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
pgmqd = os.environ.get("PGMQD") or os.path.join(os.environ.get("TOP_BUILDDIR") or os.path.join(top, "build"), "pgmqd")
wrong = []


def read(path):
    with open(os.path.join(top, path), encoding="utf-8") as f:
        return f.read()


def run(*args):
    done = subprocess.run([pgmqd, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    if done.returncode != 0:
        wrong.append(f"pgmqd {' '.join(args)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def table(source, name):
    """The rows of an option table: name, type, required, default (None: none, or the build's), environment name."""
    body = re.search(re.escape(name) + r"\[\] = \{\n(.*?)\n\};", source, re.S)
    rows = []
    for row in re.findall(r"^\t\{ (\".*?) \},$", body.group(1), re.S | re.M):
        m = re.match(r'"(\w+)", (?:PGMQD|OPTION)_(\w+)(?: \| OPTION_\w+)?,\s*(\d), \w+\(\w+\), (NULL|PGMQD_[A-Z]+(?: "[^"]*")?|"[^"]*"),\s*"[^"]*"(?:\s*"[^"]*")*,\s*(NULL|"\w+"),', row)
        if not m:
            sys.exit(f"check_docs.py does not understand this row of {name}: {row}")
        rows.append((m[1], m[2], m[3] == "1", m[4].strip('"') if m[4].startswith('"') else None,
                     m[5].strip('"') if m[5].startswith('"') else None))
    if len(rows) != len(re.findall(r"offsetof|GLOBAL\(|QUEUE\(|JOB\(", body.group(1))):
        sys.exit(f"check_docs.py has not found every row of {name}")
    return rows


def between(text, start, end):
    """The part of a text between two marks; empty when there is no such part."""
    _, found, rest = text.partition(start)
    return rest.partition(end)[0] if found else ""


def check_table(rows, section, page, sample):
    for name, kind, required, default, env in rows:
        head = re.search(rf"^\.It Cm {name} Pq (.*)$", page, re.M)
        line = re.search(rf"^(#?){name} =(.*)$", sample, re.M)
        if not head:
            wrong.append(f"pgmqd.conf.5: {section}: {name} is missing")
        else:
            if default and not re.search(rf"default: Li {re.escape(default)}( |$)", head[1]):
                wrong.append(f"pgmqd.conf.5: {section}: {name}: the default is {default}")
            if env and not head[1].endswith(f"environment: Ev {env}"):
                wrong.append(f"pgmqd.conf.5: {section}: {name}: the environment variable is {env}")
            if not env and "environment" in head[1]:
                wrong.append(f"pgmqd.conf.5: {section}: {name}: there is no environment variable for it")
            if required != ("required" in head[1]):
                wrong.append(f"pgmqd.conf.5: {section}: {name}: required or not?")
        if not line:
            wrong.append(f"pgmqd run --sample: {section}: {name} is missing")
        elif (line[1] == "") != required:
            wrong.append(f"pgmqd run --sample: {section}: {name}: only what is required is not commented out")
        elif default is not None and line[2].strip() != default:
            wrong.append(f"pgmqd run --sample: {section}: {name}: the default is {default}")
    known = {row[0] for row in rows}
    for name in re.findall(r"^\.It Cm (\w+) Pq ", page, re.M):
        if name not in known:
            wrong.append(f"pgmqd.conf.5: {section}: {name} is no option")
    for name in re.findall(r"^#?(\w+) =", sample, re.M):
        if name not in known:
            wrong.append(f"pgmqd run --sample: {section}: {name} is no option")


def check_commands(page):
    commands = re.findall(r"^  (\w+) {2,}\S", between(run("--help"), "commands:\n", "\n\n"), re.M)
    if not commands:
        wrong.append("pgmqd --help lists no commands")
    for command in commands:
        text = between(page, f".It Cm {command}\n", "\n.It Cm ")
        if not text or not re.search(rf"^\.Cm {command}$", between(page, ".Sh SYNOPSIS", ".Sh DESCRIPTION"), re.M):
            wrong.append(f"pgmqd.8: the command {command} is missing")
        for option in sorted(set(re.findall(r"--([a-z][a-z-]+)", run(command, "--help"))) - {"help"}):
            if not re.search(rf"Fl -{option}\b", text):
                wrong.append(f"pgmqd.8: {command}: --{option} is missing")
        for option in sorted(set(re.findall(r"Fl -([a-z][a-z-]+)", text)) - {"help"}):
            done = subprocess.run([pgmqd, command, "--help"], capture_output=True, text=True, timeout=60)
            if f"--{option}" not in done.stdout and text.find(f"Fl -{option}") < text.find("\nEach command"):
                wrong.append(f"pgmqd.8: {command}: pgmqd {command} --help does not know --{option}")


def check_doctor(page):
    """The checks are those of the table, in its order; the plugins that look round and the providers that are asked are named."""
    checks = re.findall(r'^\t\{ "([^"]+)", (?:0|DOCTOR_)', read("dispatcher/cmd/doctor/doctor.c"), re.M)
    plugin = between(page, "\n.It plugin\n", "\n.It templates\n")
    told = re.findall(r"^\.It ([a-z].*)$", page.replace(plugin, ""), re.M)
    if not checks or told != checks:
        wrong.append(f"pgmqd-doctor.8: the checks are {', '.join(checks)}, and the page has {', '.join(told)}")
    asked, names = [], set(re.findall(r"^\.(?:It )?Cm (\w+)", plugin, re.M))
    for path in sorted(glob.glob(os.path.join(top, "plugins/*/*.c"))):
        with open(path, encoding="utf-8") as f:
            for body in re.findall(r"^(?:static struct pgmqd_plugin|const struct provider) \w+ = \{(.*?)\};", f.read(), re.M | re.S):
                if ".check = " in body:
                    asked.append(re.search(r'\.name = "([^"]+)"', body)[1])
    for name in asked:
        if name not in names:
            wrong.append(f"pgmqd-doctor.8: plugin: what the check of {name} looks at is missing")


source = read("dispatcher/settings/settings.c")
conf = read("dispatcher/pgmqd.conf.5")
page = read("dispatcher/pgmqd.8")
sample = run("run", "--sample")
check_table(table(source, "settings_global_options"), "[pgmqd]", between(conf, ".Sh THE SECTION [pgmqd]", ".Sh THE SECTIONS [queue"),
            between(sample, "\n[pgmqd]\n", "\n[queue"))
check_table(table(source, "settings_queue_options"), "[queue]", between(conf, ".Sh THE SECTIONS [queue", ".Sh THE SECTIONS [job"),
            between(sample, "\n[queue", "\n#[job"))
check_table(table(source, "settings_job_options"), "[job]", between(conf, ".Sh THE SECTIONS [job", ".Sh ENVIRONMENT"),
            re.sub(r"^#(\w+ =)", r"\1", between(sample + "\x00", "\n#[job", "\x00"), flags=re.M))
check_commands(page)
check_doctor(between(read("dispatcher/cmd/doctor/pgmqd-doctor.8"), ".Sh CHECKS", ".Sh EXIT"))
for text in wrong:
    print(text)
print("the documentation " + ("is not complete" if wrong else "is complete"))
sys.exit(1 if wrong else 0)
