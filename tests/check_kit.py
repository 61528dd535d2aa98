#!/usr/bin/python3
"""check_kit.py: the plugin interface and its kit, without a database: what plugins answer, what misuse is told, old binaries, symbols."""

import os
import re
import subprocess
import sys
import tempfile

top = os.environ.get("TOP_SRCDIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.environ.get("TOP_BUILDDIR") or os.path.join(top, "build")
pgmqd = os.path.join(build, "pgmqd")
failed = []


def expect(what, got, wanted):
    if got != wanted:
        failed.append(f"{what}:\n  expected {wanted!r}\n  got      {got!r}")


def so(name):
    return os.path.join(build, "plugins", ".libs", f"pgmqd-{name}-plugin.so")


def kit(plugin, lines, *args):
    done = subprocess.run([pgmqd, "plugin", "test", plugin, *args], input="".join(line + "\n" for line in lines), capture_output=True,
                          text=True, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr


def compile_plugin(directory, name, source, include, *flags):
    out = os.path.join(directory, f"pgmqd-{name}-plugin.so")
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-fPIC", "-shared", *flags, f"-I{include}", "-o", out, source], check=True)
    return out


def check_plugins():
    expect("example", kit(so("example"), ['{"text":"a b"}', '{"x":1}', '{"text":" "}'], "--attempts", "3", "think=1ms")[:2],
           (0, ["1 done", '2 fail: the message has no "text"', "3 retry: no words yet", "3 retry: no words yet", "3 done"]))
    status = "sh -c 'cat > /dev/null; echo \"no $PGMQD_MSG_ID\"; exit $((63 + PGMQD_MSG_ID))'"
    expect("exec by exit status", kit(so("exec"), ["{}", "{}"], f"command={status}")[:2], (0, ["1 retry: no 1", "2 fail: no 2"]))
    expect("exec at its deadline", kit(so("exec"), ["{}"], "command=sh -c 'sleep 300 & sleep 300'", "timeout=100ms")[:2],
           (0, ["1 retry: the program was killed after 100 ms (timeout)"]))
    expect("exec without its program", kit(so("exec"), ["{}"], "command=/nonexistent")[1],
           ["1 config_error: cannot start /nonexistent: No such file or directory"])
    pool = ("import json,sys\nfor l in sys.stdin:\n m=json.loads(l)\n"
            " print(json.dumps({'id':m['id'],'outcome':m['message']['o'],'delay':2,'reason':'so'}),flush=True)")
    expect("exec pool", kit(so("exec"), ['{"o":"done"}', '{"o":"retry"}', '{"o":"fail"}', '{"o":"what"}'], "mode=pool",
                            f'command=python3 -c "{pool}"')[:2],
           (0, ["1 done", "2 retry in 2000 ms: so", "3 fail: so", "4 retry: the program's line is no answer to the message that it has"]))
    expect("webhook keeps from private addresses", kit(so("webhook"), ["{}"], "url=http://127.0.0.1:9/")[1][0].split(":")[0], "1 config_error")


MISUSES = {
    "TWICE": 'outcome "done" for a message that was settled before: ignored',
    "FAIL_AFTER": 'outcome "fail" for a message that was settled before: ignored',
    "WITHOUT_MESSAGE": "pgmqd_done() without a message",
    "READ_WITHOUT_MESSAGE": "pgmqd_msg_id() without a message",
    "QUERY_NOTHING": "pgmqd_query() without a statement, or with 0 parameters",
    "QUERY_AFTER": "pgmqd_query() for a message that is settled: ignored",
    "HTTP_AFTER": "pgmqd_http_submit() for a message that is settled: ignored",
    "HTTP_NOTHING": "pgmqd_http_submit() without a handle or a callback",
    "TIMER_AFTER": "pgmqd_msg_timer() for a message that is settled: ignored",
    "TIMER_TWICE": "pgmqd_timer_cancel() of a timer that has ended: ignored",
    "TIMER_LEFT": "1 timers are left after stop(); pgmqd_timer_cancel() ends one",
    "IN_CANCEL": 'outcome "done" for a message that is being cancelled: ignored',
    "LATER": 'outcome "done" for a message that is gone: ignored',
    "READ_LATER": "pgmqd_msg_text() of a message that is gone: it is not valid any more",
    "RESULT_LATER": "pgmqd_result_error() of a result whose callback has returned",
}


def check_misuse(directory):
    """Each rule has a plugin that breaks it, and each of them gets its own report, once, and no other."""
    for misuse, report in MISUSES.items():
        name = "misuse-" + misuse.lower().replace("_", "-")
        plugin = compile_plugin(directory, name, os.path.join(top, "tests/kit/misuse.c"), os.path.join(top, "plugins"),
                                f"-DMISUSE={misuse}", f'-DNAME="{name}"')
        messages = ["{}", "{}"] if misuse.endswith("LATER") else ["{}"]
        status, _, err = kit(plugin, messages, "deadline=500ms" if misuse.endswith("LATER") else "deadline=100ms", "max_in_flight=1")
        told = [line.partition(f'misuse by plugin "{name}": ')[2] for line in err.splitlines() if "misuse by" in line]
        expect(f"misuse {misuse}", (status, told), (1, [report]))


def check_abi(directory):
    frozen = os.path.join(top, "tests/abi/v1")
    plugin = compile_plugin(directory, "old", os.path.join(frozen, "old.c"), frozen, "-pedantic", "-Werror")
    expect("a plugin of API 1", kit(plugin, ['{"skip":"yes"}', "{}"], "word=w")[:2], (0, ["1 done", '2 done_with: select $1 ["w"]']))
    expect("a plugin of API 1 without its option", kit(plugin, ["{}"])[0], 78)
    header = os.path.join(top, "plugins/pgmqd-plugin.h")
    for compiler in (["cc", "-std=c99", "-xc"], ["c++", "-std=c++11", "-xc++"]):
        done = subprocess.run([*compiler, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", header], capture_output=True, text=True)
        expect(f"the header in {compiler[1]}", done.stderr.replace("#pragma once in main file", ""), "")
    dumped = subprocess.run(["cc", "-std=c99", "-E", "-dM", "-xc", header], capture_output=True, text=True, check=True).stdout
    plain = subprocess.run(["cc", "-std=c99", "-E", "-dM", "-xc", "-include", "stddef.h", "-include", "stdint.h", "/dev/null"],
                           capture_output=True, text=True, check=True).stdout
    names = {line.split()[1].split("(")[0] for line in set(dumped.splitlines()) - set(plain.splitlines())}
    expect("macros of the header", {n for n in names if not n.startswith("PGMQD_")}, set())
    with open(header, encoding="utf-8") as f:
        text = re.sub(r"#define(?:.*\\\n)*.*", "", re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S))
    declared = set(re.findall(r"\b(pgmqd_\w+)\(", text))
    with open(os.path.join(top, "dispatcher/pgmqd.syms"), encoding="utf-8") as f:
        listed = set(re.findall(r"^\t(\w+);", f.read(), re.M))
    expect("exported and declared", listed ^ declared, set())
    nm = subprocess.run(["nm", "-D", "--defined-only", pgmqd], capture_output=True, text=True, check=True).stdout
    expect("exported by the program", {w for w in re.findall(r" T (pgmqd_\w+)", nm)} ^ listed, set())


with tempfile.TemporaryDirectory(prefix="pgmqd-kit-") as d:
    os.chmod(d, 0o755)
    check_plugins()
    check_misuse(d)
    check_abi(d)
for text in failed:
    print(text)
print("the plugin kit " + ("does not do what it should" if failed else "does what it should"))
sys.exit(1 if failed else 0)
