"""The documentation is true: every command of README.md is run, and what it links to is there."""

import fcntl
import os
import re
import shlex
import shutil
import subprocess

import pytest

from lib import paths
from lib.daemon import clean_environment, run

README = (paths.SRCDIR / "README.md").read_text(encoding="utf-8")
IGNORED = shutil.ignore_patterns(".git", "build", "build-*", "autom4te.cache", "__pycache__", "*.o", ".pytest_cache")


def commands(heading):
    """The ```sh blocks of the section with that heading, one text each."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    assert section, heading
    return re.findall(r"^```sh\n(.*?)^```$", section.group(1), re.M | re.S)


def shell(script, cwd, env=None, timeout=600):
    """Runs a block as a person's shell would; fails with its output when a command does."""
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=cwd, env=clean_environment(env), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    assert done.returncode == 0, f"{script}\n----\n{done.stdout}"
    return done.stdout


@pytest.fixture
def tree(tmp_path):
    """A copy of the source tree without anything built in it."""
    shutil.copytree(paths.SRCDIR, tmp_path / "pgmqd", ignore=IGNORED, symlinks=True)
    return tmp_path / "pgmqd"


@pytest.fixture
def built_tree():
    """The source tree with build/ in it, as README's commands expect."""
    if paths.BUILDDIR != paths.SRCDIR / "build":
        pytest.skip("README speaks of build/, and another build tree is under test")
    return paths.SRCDIR


@pytest.fixture
def quickstart(built_tree):
    """The same, where no other test runs ./quickstart meanwhile: a new one stops what the one before has left running."""
    with open(paths.BUILDDIR / "quickstart-in-tests", "w", encoding="ascii") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield built_tree


def test_every_block_belongs_to_a_test():
    """A new block must be covered: the sections below run theirs, test_first_hour.py runs that of the first hour."""
    covered = [block for heading in ("Try it", "Five minutes with it", "The first hour with a database of your own", "Install", "Upgrade", "Reliability")
               for block in commands(heading)]
    assert covered == re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)


def test_the_two_commands(quickstart):
    first, second = commands("Try it")
    assert second.strip() == "./quickstart test"  # which is what runs this test
    output = shell(first, quickstart)
    assert "All 7 mails arrived" in output
    assert re.search(r"payment was verified .*: pending → completed\n +asked for → archived [\d.]+ ms, → mail [\d.]+ ms", output), output
    assert re.search(r"report, 2 pages, .*\.pdf\n +completed → PDF on disk [\d.]+ ms, → mail with the PDF [\d.]+ ms", output), output
    assert re.search(r"median of 50 messages: \d+\.\d+ ms", output), output
    mails = list((quickstart / "build/quickstart/mail").glob("*.eml"))
    assert len(mails) == 7


def test_five_minutes(quickstart):
    out = quickstart / "build/quickstart"
    start, *steps, stop = commands("Five minutes with it")
    assert stop.strip() == "./quickstart stop"
    try:
        shell(start, quickstart)
        for number, step in enumerate(steps):
            mails = set((out / "mail").iterdir())
            with open(out / "pgmqd.log", "rb") as log:
                log.seek(0, os.SEEK_END)
                output = shell(". build/quickstart/env\n" + step, quickstart)
                if "queue_email_task" in step:
                    wait_for_line(log, b'"settled"')
            if number == 0:
                assert len(set((out / "mail").iterdir()) - mails) == 1
            if "_dlq" in step:
                assert "no_such_template" in output
            if "pgmqd status" in step:
                assert re.search(r"^email_queue +ready", output, re.M) and "1 dead letter" in output, output
            if "bench" in step:
                assert re.search(r"^pgmqd +100 +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+$", output, re.M), output
            if "professional-report" in step:
                assert '"glucose"' in output and '"finding"' in output, output
            if "render" in step:
                assert "Оплата не прошла: 1 490,00 ₽" in output
    finally:
        shell(stop, quickstart)
    assert not (out / "env").exists()


def test_campaign_of_faults(built_tree, tmp_path):
    """The campaign's command with small figures, and the figures in README are those of the last great one."""
    (block,) = commands("Reliability")
    short, long = block.splitlines()
    assert short.split("#")[0].strip() == "tests/faults/run -n 2"  # which is what ./quickstart test does
    small = long.split("#")[0].replace("tests/faults/RESULTS.md", str(tmp_path / "out.md"))
    assert str(tmp_path) in small
    shell(f"{small} --kills 1 --restarts 1 --seconds 1 --rounds 0", built_tree)
    head = "| Fault | Injected |"
    assert head in (tmp_path / "out.md").read_text(encoding="utf-8")
    results = (paths.SRCDIR / "tests/faults/RESULTS.md").read_text(encoding="utf-8").splitlines()
    section = re.search(r"^## Reliability\n(.*?)^## ", README, re.M | re.S).group(1)
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert table[0].startswith(head) and not set(table) - set(results)


def test_every_scenario_has_its_test():
    text = (paths.SRCDIR / "tests/faults/SCENARIOS.md").read_text(encoding="utf-8")
    code = "".join(p.read_text(encoding="utf-8") for d in ("faults", "e2e") for p in (paths.SRCDIR / "tests" / d).glob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in code, name
    for name in re.findall(r"`(tests/[\w/]+\.\w+)`", text):
        assert (paths.SRCDIR / name).exists(), name
    named = set(re.findall(r"`(test_\w+)`", text))
    own = set(re.findall(r"^def (test_\w+)", "".join(p.read_text(encoding="utf-8") for p in (paths.SRCDIR / "tests/faults").glob("test_*.py")), re.M))
    assert not own - named


def wait_for_line(log, part, timeout=30):
    """Until a new line of a file that another process writes has `part` in it; tail -f is what waits."""
    position = log.tell()
    tail = subprocess.Popen(["timeout", str(timeout), "tail", "-c", f"+{position + 1}", "-f", log.name], stdout=subprocess.PIPE)
    try:
        for line in tail.stdout:
            if part in line:
                return
        raise AssertionError(f"no {part} within {timeout} s")
    finally:
        tail.terminate()
        tail.wait()
        tail.stdout.close()


# A compiler that copies the objects which the build under test has of the same sources: that those can be compiled is shown there. What has a directory of
# the installation in it is compiled.
COMPILER = """#!/bin/sh
for word; do
  case $last in -o) object=$word ;; -MF) needs=$word ;; esac
  case $word in -c) compiles=yes ;; *.c) source=$word ;; esac
  last=$word
done
if [ -n "$compiles" ] && [ "$source" -ot "$BUILT/$object" ] && ! grep -q "PGMQD_[A-Z]*DIR\\|SETTINGS_USUAL_PATH" "$source"; then
  : >"${needs:-/dev/null}"
  exec cp "$BUILT/$object" "$object"
fi
exec cc "$@"
"""


def test_install(tree, tmp_path):
    """The install section, in a copy of the tree, into a directory of its own; then the installed pgmqd is asked to work."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (bin_dir / "sudo").chmod(0o755)
    (bin_dir / "compiler").write_text(COMPILER)
    (bin_dir / "compiler").chmod(0o755)
    root = tmp_path / "root"
    shell(commands("Install")[0], tree, {"PATH": f"{bin_dir}:{os.environ['PATH']}", "DESTDIR": str(root), "CFLAGS": "-O0", "MAKEFLAGS": "-j2",
                                         **({} if paths.sanitized() else {"CC": "compiler", "BUILT": str(paths.BUILDDIR)})})
    assert (root / "usr/sbin/pgmqd").exists()
    assert list((root / "usr/lib").rglob("pgmqd-email-plugin.so"))
    assert list(root.rglob("032_webhook_triggers.sql")) and list(root.rglob("report_ready.html.mustache"))
    version = subprocess.run([root / "usr/sbin/pgmqd", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert version.startswith("pgmqd 0.1")
    assert f"## {re.match(r'pgmqd ([0-9.]+)', version).group(1)}" in (tree / "NEWS.md").read_text(encoding="utf-8")


def test_commands_after_the_install(rig):
    """Those of Install and Upgrade that are pgmqd's own, with the database and the settings file of the test."""
    rig.start()
    root = {"/etc/pgmqd.conf": str(rig.daemon.conf_path), "/etc/pgmqd.env": os.devnull, "host=db.example.test dbname=app user=owner": rig.conninfo}
    ran = []
    for block in commands("Install")[1:] + commands("Upgrade"):
        for line in block.splitlines():
            if line.startswith("pgmqd "):
                words = shlex.split(line.partition("|")[0].partition("#")[0])[1:]
                done = run(*[root.get(word, word) for word in words], env={**rig.daemon.env, **{f"PGMQD_{k.upper()}": v for k, v in paths.directories().items()}})
                assert done.returncode in ((0, 1) if words[0] == "doctor" else (0,)), f"{line}\n{done.stdout}{done.stderr}"
                ran.append(words[0])
    assert ran == ["run", "migrate", "doctor", "migrate", "migrate", "run", "doctor"]


def test_links_lead_somewhere():
    for name in ("README.md", "NEWS.md"):
        text = (paths.SRCDIR / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if not target.startswith("https://"):
                assert (paths.SRCDIR / target).exists(), f"{name}: {target}"


def test_settings_table_is_right():
    """Every setting of README's table is in the sample file, in that section, with the default that the table says."""
    sample = run("run", "--sample").stdout
    sections = {"pgmqd": {}, "queue": {}}
    rows = 0
    section = None
    for line in sample.splitlines():
        head, option = re.match(r"#?\[(\w+)", line), re.match(r"#?([a-z_]+) =[ ]?(.*)", line)
        if head:
            section = head.group(1)
        elif option:
            sections.setdefault(section, {})[option.group(1)] = option.group(2)
    for line in README.splitlines():
        head = re.match(r"\| \*\*`\[(\w+)", line)
        row = re.match(r"\| ((?:`[a-z_]+`(?:, )?)+) \| ([^|]*)\|", line)
        if head:
            section = head.group(1)
        elif row:
            rows += 1
            names, values = re.findall(r"`([a-z_]+)`", row.group(1)), re.findall(r"`([^`]+)`", row.group(2))
            for position, name in enumerate(names):
                assert name in sections[section], name
                if values and "libpq" not in row.group(2):
                    said, known = values[position], sections[section][name]
                    assert known == said, f"{name}: README says {said}, the sample {known}"
    assert rows > 10
