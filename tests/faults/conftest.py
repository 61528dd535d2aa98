"""Fixtures of the fault suite: a PostgreSQL on the loopback's TCP too, a database with the queue "work", and a stand with it all."""

import itertools
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import rig as rigs  # noqa: E402
from lib.fixtures import memcheck, memcheck_last, pytest_configure, pytest_terminal_summary  # noqa: E402, F401
from lib.pgcluster import Cluster  # noqa: E402
from lib.stand import Stand  # noqa: E402

_number = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=1, help="seed of everything that is chosen at random")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows pgmqd's log beside a failure."""
    outcome = yield
    report = outcome.get_result()
    stand = getattr(item, "funcargs", {}).get("stand")
    if stand and report.failed:
        for i, daemon in enumerate(stand.daemons):
            report.sections.append((f"log of pgmqd {i + 1}", daemon.tail(60)))


@pytest.fixture
def seed(request):
    return request.config.getoption("--seed")


@pytest.fixture(scope="session")
def cluster():
    """A PostgreSQL that tests may stop, crash and restart, and leave running."""
    with Cluster(tcp=True) as c:
        conninfo = c.createdb("migrated")
        done = rigs.migrate(conninfo)
        assert done.returncode == 0, done.stdout + done.stderr
        with c.connect("migrated") as db:
            db.execute("select pgmqd.create_queue('work'), pgmqd.create_queue('other')")
            db.execute("create table public.effects (uuid text)")
        yield c


@pytest.fixture
def stand(cluster):
    name = f"faults_{next(_number)}"
    cluster.createdb(name, "migrated")
    with Stand(cluster, name) as s:
        yield s
    cluster.dropdb(name)
