"""What every pytest suite of ours does, whatever it tests: an end by SIGTERM, and valgrind's findings. A conftest.py imports all of it."""

import signal
import threading

import pytest

from lib import valgrind


def pytest_configure(config):
    """A SIGTERM ends the run as ^C does, so that every server is stopped and every directory removed."""
    if threading.current_thread() is threading.main_thread():  # a worker of -n N may have no such luck, and its leader tells it
        signal.signal(signal.SIGTERM, signal.default_int_handler)


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
