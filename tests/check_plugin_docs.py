#!/usr/bin/python3
"""check_plugin_docs.py: compares the plugins' manual pages with their option tables, and pgmqd-plugin(3) with what is exported."""

import glob
import os
import re
import shutil
import subprocess
import sys

top = os.environ.get("TOP_SRCDIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.environ.get("TOP_BUILDDIR") or os.path.join(top, "build")
wrong = []


def read(path):
    with open(os.path.join(top, path), encoding="utf-8") as f:
        return f.read()


def options(so):
    """{name: (type, required, default, environment name)} as `pgmqd plugin info` prints them."""
    text = subprocess.run([os.path.join(build, "pgmqd"), "plugin", "info", so], capture_output=True, text=True, check=True).stdout
    found = {}
    for m in re.finditer(r"^  (\w+) \(([^:,\n]+?)(?:: [^,\n]+)?(, required)?(?:, default (.*))?\)\n      .*\n(?:      Environment: (\w+)\n)?", text, re.M):
        found[m[1]] = (m[2], bool(m[3]), m[4], m[5])
    if len(found) != len(re.findall(r"^  \w+ \(", text, re.M)):
        sys.exit(f"check_plugin_docs.py does not understand what pgmqd plugin info says of {so}:\n{text}")
    return found


def check_options(name, so):
    """The heads of the option list are: .It Cm NAME Pq TYPE; required|default: ...[; environment: Ev NAME]"""
    path = f"plugins/{name}/pgmqd-{name}.7"
    if not os.path.exists(os.path.join(top, path)):
        wrong.append(f"{path} is missing")
        return
    heads = dict(re.findall(r"^\.It Cm (\w+) Pq (.*)$", read(path), re.M))
    table = options(so)
    for option in sorted(heads.keys() - table.keys()):
        wrong.append(f"{path}: {option} is no option")
    for option, (kind, required, default, env) in table.items():
        head = heads.get(option)
        if head is None:
            wrong.append(f"{path}: {option} is missing")
            continue
        if head.split(";")[0].replace("yes or no", "yes/no") != kind:
            wrong.append(f"{path}: {option}: it is a {kind}")
        if required != ("; required" in head):
            wrong.append(f"{path}: {option}: required or not?")
        if default and not re.search(rf"; default: Li {re.escape(default)}( ; No |$)", head):
            wrong.append(f"{path}: {option}: the default is {default}")
        if not default and not required and not re.search(r"; default: [^L]", head):
            wrong.append(f"{path}: {option}: it has no default in the table")
        if (f"environment: Ev {env}" if env else "") not in head or (not env and "environment" in head):
            wrong.append(f"{path}: {option}: the environment variable is {env}")


def check_interface():
    """Every exported function has a head with its parameters; every field and name of the header is told of."""
    page, header = read("plugins/pgmqd-plugin.3"), read("plugins/pgmqd-plugin.h")
    code = re.sub(r"/\*.*?\*/", " ", header, flags=re.S)
    declared = {m[1]: len(m[2].split(",")) for m in re.finditer(r"\b(pgmqd_\w+)\(([^()]*)\)\s*(?:PGMQD_PRINTF\([^)]*\))?;", code)}
    documented = {m[1]: len(re.findall(r'"[^"]*"|\.\.\.', m[2])) for m in re.finditer(r'^\.(?:It )?Fn "[^"]*?(pgmqd_\w+)" (.*)$', page, re.M)}
    for name in re.findall(r"^\t(\w+);", read("dispatcher/pgmqd.syms"), re.M):
        if name not in documented:
            wrong.append(f"pgmqd-plugin.3: {name}() is missing")
        elif documented[name] != declared.get(name):
            wrong.append(f"pgmqd-plugin.3: {name}() has {declared.get(name)} parameters, not {documented[name]}")
    for name in sorted(documented.keys() - declared.keys()):
        wrong.append(f"pgmqd-plugin.3: there is no {name}()")
    names = set(re.findall(r"\bPGMQD_[A-Z_]+\b", re.sub(r"^#.*(?:\\\n.*)*", "", code, flags=re.M))) - {"PGMQD_PRINTF", "PGMQD_EXPORT", "PGMQD_EXTERN_C"}
    for body in re.findall(r"^struct (?:pgmqd_\w+) \{\n(.*?)^\};", code, re.M | re.S):
        for line in body.split(";"):
            names |= set(re.findall(r"(?:\(\*|[\s*,])([a-z]\w+)(?=\s*(?:,|$|\)\())", line))
    for name in sorted(names):
        if not re.search(rf"\b{name}\b", page):
            wrong.append(f"pgmqd-plugin.3: {name} is not mentioned")


def check_pages():
    """mandoc finds nothing to warn of, where there is one."""
    if shutil.which("mandoc"):
        for path in sorted(p for where in ("dispatcher/", "dispatcher/*/", "dispatcher/*/*/", "plugins/", "plugins/*/") for p in glob.glob(os.path.join(top, where + "*.[1-8]"))):
            said = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True).stdout
            wrong.extend(line for line in said.splitlines() if "outdated mandoc.db" not in line)


objects = glob.glob(os.path.join(build, "plugins/.libs/pgmqd-*-plugin.so"))
if not objects:
    sys.exit("check_plugin_docs.py: no plugin has been built")
for path in sorted(objects):
    check_options(re.search(r"^pgmqd-(.*)-plugin\.so$", os.path.basename(path))[1], path)
check_interface()
check_pages()
for text in wrong:
    print(text)
print("the plugins' documentation " + ("is not complete" if wrong else "is complete"))
sys.exit(1 if wrong else 0)
