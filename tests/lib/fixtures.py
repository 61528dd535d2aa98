"""What every pytest suite of ours does, whatever it tests: an end by SIGTERM, valgrind's findings, and a word about what passed the second time only.
A conftest.py imports all of it."""

import signal
import threading

import pytest

from lib import valgrind


def pytest_configure(config):
    """A SIGTERM ends the run as ^C does, so that every server is stopped and every directory removed."""
    if threading.current_thread() is threading.main_thread():  # a worker of -n N may have no such luck, and its leader tells it
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """Why a test was run once more: a race that is not seen is never mended."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"first time: {report.nodeid}", sep="-")
        for line in [report.longreprtext, *(text for _, text in report.sections)]:
            terminalreporter.line("\n".join(line.splitlines()[-40:]))


@pytest.fixture(scope="session", autouse=True)
def memcheck_last():
    """As memcheck, for what outlives the tests."""
    yield
    valgrind.check()


@pytest.fixture(autouse=True)
def memcheck():
    """Under valgrind: what it has found in the test's processes, once they are gone, fails the test."""
    yield
    valgrind.check()
