"""Adds up what the suites of `./quickstart test` counted, and prints `N passed, N failed, N skipped` as the last line.

Before it come the ten slowest tests of pytest.

python3 -m lib.tally RESULTS BUILDDIR: RESULTS holds NAME.status (exit status) and NAME.log of each suite, and NAME.xml (JUnit)
of pytest. A suite that ended badly without counting a failure is itself one.
"""

import re
import sys
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path


def count_unit(log):
    """One cmocka program's log: counted by test; None when it did not come to its end."""
    def add(pattern):
        return sum(map(int, re.findall(pattern, log, re.M)))

    run = add(r"^\[=+\] (?:\w+: )?(\d+) test\(s\) run\.")
    passed = add(r"^\[\s+PASSED\s+\] (?:\w+: )?(\d+) test")
    skipped = add(r"^\[\s+SKIPPED\s+\] (?:\w+: )?(\d+) test")
    return Counter(passed=passed, failed=run - passed - skipped, skipped=skipped) if run else None


def unit(results, builddir):
    """All test programs of `make check`, by their .trs files."""
    total = Counter()
    for trs in sorted(builddir.rglob("*.trs")):
        outcome = re.search(r"^:global-test-result: (\S+)", trs.read_text(), re.M)
        outcome = outcome.group(1) if outcome else "ERROR"
        log = trs.with_suffix(".log")
        counted = count_unit(log.read_text(errors="replace")) if log.exists() else None
        if counted is None:  # no cmocka program, or one that died on its way
            counted = Counter({"PASS": {"passed": 1}, "SKIP": {"skipped": 1}}.get(outcome, {"failed": 1}))
        elif outcome not in ("PASS", "SKIP") and not counted["failed"]:
            counted["failed"] += 1
        if outcome not in ("PASS", "SKIP") and log.exists():
            print(f"-- {trs.stem}: {outcome}")
            print("\n".join(log.read_text(errors="replace").splitlines()[-60:]))
        total += counted
    return total


def database(results, builddir):
    """What tests/db/run says in its last line; when it did not come to that, the lines of TAP that it printed."""
    lines = (results / "database.log").read_text(errors="replace").splitlines() or [""]
    closing = re.fullmatch(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", lines[-1])
    if closing:
        return Counter(dict(zip(("passed", "failed", "skipped"), (int(n or 0) for n in closing.groups()))))
    total = Counter()
    for line in lines:
        test = re.match(r"(not )?ok \d+(.*)", line)
        if test:
            skipped = re.search(r"#\s*SKIP", test.group(2), re.I)
            total["skipped" if skipped else "failed" if test.group(1) else "passed"] += 1
    return total


def junit(path):
    """pytest, by its JUnit file."""
    total = Counter()
    if path.exists():
        for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            total.update(failed=failed, skipped=skipped, passed=max(0, int(suite.get("tests", 0)) - failed - skipped))
    return total


def slowest(results, n=10):
    """The n tests of pytest that took the longest, as (seconds, name)."""
    return sorted(((float(case.get("time", 0)), f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}")
                   for path in results.glob("*.xml") for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase")), reverse=True)[:n]


def fuzz(results, builddir):
    """tests/fuzz/run: a line "ok" or "not ok" for each target."""
    lines = re.findall(r"^(not )?ok \w+:", (results / "fuzz.log").read_text(errors="replace"), re.M)
    return Counter(passed=lines.count(""), failed=len(lines) - lines.count(""))


SUITES = {"unit": unit, "database": database, "fuzz": fuzz, "end-to-end": lambda results, _: junit(results / "end-to-end.xml"),
          "faults": lambda results, _: junit(results / "faults.xml")}


def main():
    """Prints the slowest tests, a line for each suite and the sum; the exit status is 1 when anything failed or nothing ran."""
    results, builddir = map(Path, sys.argv[1:3])
    total = Counter()
    print("== the slowest")
    for seconds, name in slowest(results):
        print(f"{seconds:6.1f} s {name}")
    print("== all")
    for name, count in SUITES.items():
        status_file = results / f"{name}.status"
        status = int(status_file.read_text()) if status_file.exists() else None
        counted = count(results, builddir) if status is not None else Counter()
        note = ""
        if status != 0 and not counted["failed"]:
            counted["failed"] += 1
            note = f" (it ended with status {status})"
        elif status == 0 and not counted["passed"]:
            counted["failed"] += 1
            note = " (it ran nothing)"
        print(f"{name:12} {counted['passed']:5} passed {counted['failed']:4} failed {counted['skipped']:4} skipped{note}")
        total += counted
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped", flush=True)
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
