#!/usr/bin/python3
"""check_roles.py: compares what the daemon's code asks of schema pgmqd with what its role may do (sql/028_roles.sql, and allow_calls() in each file).

Takes the sources from $TOP_SRCDIR.
"""

import os
import pathlib
import re
import sys

top = pathlib.Path(os.environ.get("TOP_SRCDIR") or pathlib.Path(__file__).resolve().parents[1])
# Texts that speak of a function and do not call it.
SPOKEN_OF = {"attach_queue", "create_queue", "group_queue", "limit_queue", "conf"}

sql = "".join(path.read_text(encoding="utf-8") for path in sorted((top / "sql").glob("*.sql")))
granted = {name for calls in re.findall(r"allow_calls\('pgmqd', ([^)]*)\)", sql) for name in re.findall(r"'(\w+)'", calls)}
roles = (top / "sql/028_roles.sql").read_text(encoding="utf-8")
part = re.search(r"IF r\[1\] = 'pgmqd' THEN\n        PERFORM(.*?)ELSIF", roles, re.S)
tables = set(re.findall(r"grant_missing\((?:to_regclass\()?'pgmqd\.(\w+)'\)?, r\[1\], '(\w+)'", part[1] if part else ""))
VERBS = {"FROM": "SELECT", "JOIN": "SELECT", "INTO": "INSERT", "UPDATE": "UPDATE"}
wrong, called = [], set()
# The commands, but for `run`, connect as an operator and not as the daemon.
for path in sorted([*top.glob("dispatcher/**/*.c"), *top.glob("plugins/*/*.c")]):
    if "dispatcher/cmd/" in str(path):
        continue
    code = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
    for text in re.findall(r'"(?:[^"\\\n]|\\.)*"', code):
        for verb, name, call in re.findall(r"\b(?:(FROM|INTO|UPDATE|JOIN) )?pgmqd\.([a-z_]+)\b(\(?)", text):
            if call and name not in SPOKEN_OF:
                called.add(name)
                if name not in granted:
                    wrong.append(f"{path.relative_to(top)} calls pgmqd.{name}(), which role pgmqd may not: name it in pgmqd.allow_calls() where it is "
                                 "made, and in may_call in tests/db/034_roles.sql")
            elif verb and not call and (name, VERBS[verb]) not in tables:
                wrong.append(f"{path.relative_to(top)}: role pgmqd has no right to {VERBS[verb]} on pgmqd.{name}: see pgmqd.connect_roles() in "
                             "sql/028_roles.sql, and may_do in tests/db/034_roles.sql")
if len(called) < 8:
    wrong.append(f"check_roles.py has found only {len(called)} calls; it looks in the wrong place")
for text in wrong:
    print(text)
print("the daemon's role may not do its job" if wrong else "the daemon's role may do its job")
sys.exit(1 if wrong else 0)
