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


def commands():
    """{command: (forms, {option: (letter or None, argument or None)})} as `pgmqd --table` prints them."""
    found = {}
    for line in run("--table").splitlines():
        kind, name, *rest = line.split("\t")
        forms, options = found.setdefault(name, ([], {}))
        if kind == "form":
            forms.append(rest[0])
        elif kind == "option":
            options[rest[0][1:]] = (rest[1][1:] or None, None if rest[2] == "-" else rest[2].rstrip("?"))
    return {name: told for name, told in found.items() if told[1]} or sys.exit("pgmqd --table lists no commands")


def check_command(command, forms, options, name, page):
    """The synopsis has each form and option of a command, and the list of options has a head for each and for no other."""
    synopsis = " ".join(re.findall(rf"^\.Nm pgmqd\n(\.Cm {command}\n(?:\.(?!Nm).*\n)*)", between(page, ".Sh SYNOPSIS\n", ".Sh DESCRIPTION") + "\n", re.M))
    if not synopsis:
        wrong.append(f"{name}: pgmqd {command} is missing in the synopsis")
    text = page if " " not in command else between(page, f".Ss pgmqd {command}\n", ".Ss pgmqd")
    heads = set(re.findall(r"^\.It .*?Fl (-[a-z][\w-]*)", text, re.M))
    for word in {word for form in forms for word in re.findall(r"[A-Za-z]+", form)}:
        if not re.search(rf"\b{word}\b", synopsis):
            wrong.append(f"{name}: pgmqd {command}: the synopsis does not have {word}")
    for option, (letter, arg) in options.items():
        head = re.search(rf"^\.It {f'Fl {letter} , ' if letter else ''}Fl {option}\b(?!-)(.*)$", text, re.M)
        if not head and option != "-help":
            wrong.append(f"{name}: pgmqd {command}: -{option} is missing")
        elif option != "-help" and not re.search(rf"Fl (?:{letter or option}|{option})\b(?!-)", synopsis):
            wrong.append(f"{name}: pgmqd {command}: the synopsis does not have -{option}")
        elif head and arg and re.findall("[A-Z]+", arg) != re.findall(r"(?<=Ar )[A-Z]+", head[1]):
            wrong.append(f"{name}: pgmqd {command}: the argument of -{option} is {arg}")
    return heads


def check_commands(overview):
    """Every command has its page, and the overview names it."""
    pages = {}
    for command, (forms, options) in commands().items():
        page = {"resume": "pause"}.get(command, command.split()[0])
        paths = glob.glob(f"{top}/dispatcher/cmd/**/pgmqd-{page}.8", recursive=True)
        name = f"pgmqd-{page}.8"
        if not paths:
            wrong.append(f"{name} is missing")
            continue
        with open(paths[0], encoding="utf-8") as f:
            heads = check_command(command, forms, options, name, f.read())
        told, known = pages.setdefault(name, (set(), set()))
        told.update(heads)
        known.update(options)
        if f".It Xr pgmqd-{page} 8\n" not in overview:
            wrong.append(f"pgmqd.8: the command {command} is missing")
    for name, (told, known) in pages.items():
        for option in sorted(told - known):
            wrong.append(f"{name}: there is no option -{option}")


def check_quotes():
    """A double quote at the start of a macro's argument is not printed, so JSON belongs in displays or needs \\(dq."""
    for path in sorted(glob.glob(f"{top}/dispatcher/**/*.[58]", recursive=True) + glob.glob(f"{top}/plugins/**/*.[37]", recursive=True)):
        with open(path, encoding="utf-8") as f:
            for n, line in enumerate(f, 1):
                if re.match(r"\.(?:Li|Ql|Dl|Pa|Cm|It Li|It Ql|Pq) .*[{\[:,] *\"", line):
                    wrong.append(f"{os.path.relpath(path, top)}:{n}: double quotes in a macro: {line.strip()}")


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


def check_security(text):
    """Each row of SECURITY.md's table of attackers names tests, as FILE::NAME, and what the page names is there: the file, and the test in it."""
    there = {name: os.path.join(path, name) for folder in ("sql", "tests") for path, _, names in os.walk(os.path.join(top, folder)) for name in names}
    for name, test in re.findall(r"`[\w/]*?(\w+\.(?:py|sql|t|c))(?:::([^`]+))?`", text):
        if name not in there:
            wrong.append(f"SECURITY.md: there is no {name}")
        elif test and ({"py": f"def {test}(", "c": f"static void {test}("}.get(name.rpartition(".")[2], test)) not in read(there[name]):
            wrong.append(f"SECURITY.md: {name} has no test {test}")
    for row in re.findall(r"^\| (?!who |-).*", text, flags=re.M):
        if not re.search(r"\w\.(py|sql|t)::", row.rstrip(" |").rpartition("|")[2]):
            wrong.append(f"SECURITY.md: no test shows this: {row}")


source = read("dispatcher/settings/settings.c")
conf = read("dispatcher/pgmqd.conf.5")
page = read("dispatcher/pgmqd.8")
sample = run("run", "--sample")
check_table(table(source, "settings_global_options"), "[pgmqd]", between(conf, ".Sh THE SECTION [pgmqd]", ".Sh THE SECTIONS [queue"),
            between(sample, "\n[pgmqd]\n", "\n[queue"))
check_table(table(source, "settings_queue_options"), "[queue]", between(conf, ".Sh THE SECTIONS [queue", ".Sh THE SECTIONS [job"),
            between(sample, "\n[queue", "\n#[job"))
check_table(table(source, "settings_job_options"), "[job]", between(conf, ".Sh THE SECTIONS [job", ".Sh ENVIRONMENT"),
            re.sub(r"^#(#?\w+ =)", r"\1", between(sample + "\x00", "\n#[job", "\x00"), flags=re.M))
check_commands(page)
check_quotes()
check_security(read("SECURITY.md"))
check_doctor(between(read("dispatcher/cmd/doctor/pgmqd-doctor.8"), ".Sh CHECKS", ".Sh EXIT"))
for text in wrong:
    print(text)
print("the documentation " + ("is not complete" if wrong else "is complete"))
sys.exit(1 if wrong else 0)
