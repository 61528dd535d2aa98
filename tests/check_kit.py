#!/usr/bin/python3
"""check_kit.py: the plugin interface and its kit, without a database: what plugins answer, what misuse is told, old binaries, symbols."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

top = os.environ.get("TOP_SRCDIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.environ.get("TOP_BUILDDIR") or os.path.join(top, "build")
pgmqd = os.path.join(build, "pgmqd")
failed = []
everywhere = ["--valgrind"] if os.environ.get("PGMQD_VALGRIND") else []  # our own plugins under valgrind, which takes minutes


def expect(what, got, wanted):
    if got != wanted:
        failed.append(f"{what}:\n  expected {wanted!r}\n  got      {got!r}")


def so(name):
    return os.path.join(build, "plugins", ".libs", f"pgmqd-{name}-plugin.so")


def kit(plugin, lines, *args, **more_env):
    env = {**os.environ, **more_env, "VALGRIND_OPTS": f"--suppressions={top}/tests/valgrind.supp",
           "LSAN_OPTIONS": f"suppressions={top}/tests/lsan.supp:print_suppressions=0"}
    done = subprocess.run([pgmqd, "plugin", "test", plugin, *args, *(everywhere if plugin.startswith(build) else [])], input="".join(line + "\n" for line in lines),
                          capture_output=True, text=True, timeout=120, env=env)
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
           (0, ["1 done", "2 retry in 2000 ms: so", "3 fail: so", '4 retry: unexpected line from the program: "{"id": 4, "outcome": "what", "delay": 2, "reason": "so"}"; answers are one JSON object a line, flushed']))
    expect("null", kit(so("null"), ["1", "[]"])[:2], (0, ["1 done", "2 done"]))
    if os.path.exists(so("webhook")):
        expect("webhook keeps from private addresses", kit(so("webhook"), ["{}"], "url=http://localhost:9/")[1][0].split(":")[0], "1 config_error")


def check_turns(directory):
    """Deliveries that take long leave the loop its turns in between."""
    greedy = compile_plugin(directory, "greedy", os.path.join(top, "tests/kit/greedy.c"), os.path.join(top, "plugins"))
    expect("a timer among deliveries", kit(greedy, ["{}"] * 20, "max_in_flight=20")[1][-1:], ["20 done"])


def check_languages(directory):
    """The same plugin in C++ and in Rust, where there is a compiler for it."""
    greeter = os.path.join(directory, "pgmqd-greeter-plugin.so")
    for language, source, compiler in [
            ("C++", "greeter.cpp", ["c++", "-std=c++11", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden", f"-I{os.path.join(top, 'plugins')}"]),
            ("Rust", "greeter.rs", ["rustc", "--edition=2021", "--crate-type=cdylib", "-Cpanic=abort", "-O", "-Dwarnings"])]:
        # rustup installs a name for a compiler that may not be there
        if not shutil.which(compiler[0]) or subprocess.run([compiler[0], "--version"], capture_output=True, check=False).returncode:
            print(f"no plugin in {language} was tried: there is no {compiler[0]}")
            continue
        subprocess.run([*compiler, "-o", greeter, os.path.join(top, "tests/kit", source)], check=True)
        expect(f"a plugin in {language}", kit(greeter, [f'{{"name":"{language}"}}', "{}"], "greeting=Hi", "--attempts", "1")[1],
               [f"1 retry: Hi, {language}", '2 fail: the message has no "name"'])


def check_application(directory):
    """The plugins of the application, with a database that a file plays and servers that are not there."""
    answers = os.path.join(directory, "answers")
    source = {"report_id": "0", "lang": "en", "date": "2026-05-05", "completed_at": "2026-05-05 12:00+03", "completed_utc": "2026-05-05T09:00:00Z",
              "name": "John O'Sample", "score": 71, "answers": {"sleep": {"title": "Sleep", "score": 80, "answers": [
                  {"question": "Hours", "value": 6, "unit": "h", "reference": {"low": 7}}], "recommendations": ["Go to bed."]}}}
    with open(answers, "w", encoding="utf-8") as f:
        for match, rows in (("report_source", [[json.dumps(source)]]), ("payment_to_verify", [["pending", "1490.00", "RUB", "2d9e", "1000"]]), ("", [])):
            f.write(json.dumps({"match": match, "rows": rows}) + "\n")
    status, out, _ = kit(so("payment"), ['{"payment_id":"1","action":"verify"}', "{}"], "shop_id=1", "secret_key=2", "base_url=http://127.0.0.1:9/",
                         "--answers", answers)
    expect("payment", (status, [line[:31] for line in out]), (0, ["1 postpone in 600000 ms: no ans", "2 fail: payment_id is missing, "]))
    status, out, _ = kit(so("analytics"), ['{"event":"x"}', "{}"])
    expect("analytics", (status, [line[:36] for line in out]), (0, ["1 done_with: SELECT pgmqd.record_eve", "2 fail: event is missing, or is no t"]))
    if os.path.exists(so("report")):
        status, out, err = kit(so("report"), ['{"assessment_id":"1","user_id":"1"}', "{}"], f"report_dir={directory}", "--answers", answers)
        expect("report", (status, [line[:36] for line in out]), (0, ["1 done_with: SELECT pgmqd.finish_rep", "2 fail: assessment_id: it must be an"]))
        expect("report's file", os.path.exists(os.path.join(directory, "0.pdf")), True)
    if os.path.exists(so("email")):
        mails = [{"to": "a@example.test", "template": "no_such", "variables": {}}, {"to": "nobody"},
                 {"to": "a@example.test", "subject": "x", "variables": {"text": "Привет"}}]
        status, out, _ = kit(so("email"), [json.dumps(mail) for mail in mails], "smtp_host=127.0.0.1", "smtp_port=9", "from=b@example.test",
                             "--template-dir", os.path.join(top, "templates"), "--answers", answers)
        expect("email", (status, [line.split(":")[0] for line in out]), (0, ["1 fail", "2 fail", "3 fail"]))


def check_options(directory):
    """The options of `pgmqd plugin test` that nothing else here uses, and what is refused."""
    expect("--headers", kit(so("exec"), ['{"h":1}\t{}'], "--headers", "command=sh -c 'cat > /dev/null; echo \"$PGMQD_HEADERS\"; exit 65'")[:2],
           (0, ['1 fail: {"h":1}']))
    expect("--json", [json.loads(line) for line in kit(so("example"), ['{"text":"a"}', "{}"], "--json")[1]],
           [{"id": 1, "attempt": 1, "outcome": "done"}, {"id": 2, "attempt": 1, "outcome": "fail", "reason": 'the message has no "text"'}])
    expect("--plugin-dir", kit("null", ["1"], "--plugin-dir", os.path.dirname(so("null")))[:2], (0, ["1 done"]))
    expect("--log", "queue paused" in kit(so("exec"), ["{}"], "command=/nonexistent", "--log", "error")[2], True)
    answers = os.path.join(directory, "refused")
    with open(answers, "w", encoding="utf-8") as f:
        f.write('{"match": "no such statement", "rows": []}\n\n{"error": "it sleeps"}\n')
    expect("--answers with an error", kit(so("payment"), ['{"payment_id":"1","action":"verify"}'], "shop_id=1", "secret_key=2", "--answers", answers)[1],
           ["1 retry: the payment cannot be read: it sleeps"])
    # an hour of the plugin's work takes no time; its deadline comes first when it is shorter
    for deadline, status, outcome in (("2h", 0, "done"), ("1min", 1, "retry: no outcome within the deadline of 60000 ms")):
        expect(f"--skip-time, deadline {deadline}", kit(so("example"), ['{"text":"a"}', "{}"], "--skip-time", "think=1h", f"deadline={deadline}")[:2],
               (status, [f"1 {outcome}", '2 fail: the message has no "text"']))
    for args, lines, text in ((["--headers"], ["{}"], "a line is HEADERS, a tab, and the message"), (["--answers", "/nonexistent"], [], "cannot read"),
                              (["--log", "loud"], [], "is none of error, warn"), (["think"], [], "is not KEY=VALUE"), (["--nonsense"], [], "unknown option --nonsense")):
        status, _, err = kit(so("example"), lines, *args)
        expect(f"refusal of {args}", (status, text in err), (2, True))
    # under a sanitizer valgrind cannot run
    if shutil.which("valgrind") and "__asan_init" not in subprocess.run(["nm", "-D", pgmqd], capture_output=True, text=True, check=True).stdout:
        expect("--valgrind", kit(so("example"), ['{"text":"a"}'], "--valgrind"), (0, ["1 done"], ""))
        leaky = os.path.join(directory, "leaky.c")
        with open(os.path.join(top, "tests/kit/versions.c"), encoding="utf-8") as f, open(leaky, "w", encoding="utf-8") as g:
            g.write("#include <stdlib.h>\n" + f.read().replace("(void)h;", "(void)h;\n\t(void)!malloc(77);"))
        status, _, err = kit(compile_plugin(directory, "leaky", leaky, os.path.join(top, "plugins"), '-DNAME="leaky"'), ["{}"], "--valgrind")
        expect("--valgrind of a leak", (status, "77 bytes in 1 blocks are definitely lost" in err), (99, True))


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
        status, _, err = kit(plugin, messages, "deadline=500ms" if misuse.endswith("LATER") else "deadline=100ms", "max_in_flight=1",
                             ASAN_OPTIONS="detect_leaks=0")  # what a plugin does not give back is lost
        told = [line.partition(f'misuse by plugin "{name}": ')[2] for line in err.splitlines() if "misuse by" in line]
        expect(f"misuse {misuse}", (status, told), (1, [report]))


def functions(header):
    """The functions that a header declares."""
    with open(header, encoding="utf-8") as f:
        text = re.sub(r"#define(?:.*\\\n)*.*", "", re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S))
    return set(re.findall(r"\b(pgmqd_\w+)\(", text))


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
    declared, promised = functions(header), functions(os.path.join(frozen, "pgmqd-plugin.h"))
    expect("functions of API 1 that are not there any more", promised - declared, set())
    with open(os.path.join(top, "dispatcher/pgmqd.syms"), encoding="utf-8") as f:
        listed = set(re.findall(r"^\t(\w+);", f.read(), re.M))
    expect("exported and declared", listed ^ declared, set())
    nm = subprocess.run(["nm", "-D", "--defined-only", pgmqd], capture_output=True, text=True, check=True).stdout
    expect("exported by the program", {w for w in re.findall(r" T (pgmqd_\w+)", nm)} ^ listed, set())


with tempfile.TemporaryDirectory(prefix="pgmqd-kit-") as d:
    os.chmod(d, 0o755)
    check_plugins()
    check_turns(d)
    check_languages(d)
    check_application(d)
    check_options(d)
    check_misuse(d)
    check_abi(d)
for text in failed:
    print(text)
print("the plugin kit " + ("does not do what it should" if failed else "does what it should"))
sys.exit(1 if failed else 0)
