"""Fixtures of the end-to-end tests: one PostgreSQL for all, a fresh migrated database for each test, a mail catcher, pgmqd."""

import itertools
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import rig as rigs  # noqa: E402
from lib.fixtures import memcheck, memcheck_last, pytest_configure, pytest_terminal_summary  # noqa: E402, F401
from lib.mailcatcher import MailCatcher  # noqa: E402
from lib.pgcluster import Cluster  # noqa: E402

_number = itertools.count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows pgmqd's log beside a failure."""
    outcome = yield
    report = outcome.get_result()
    for name in ("rig", "own_rig"):
        rig = getattr(item, "funcargs", {}).get(name)
        if rig and report.failed and rig.daemon:
            report.sections.append(("log of pgmqd", rig.daemon.tail(60)))


@pytest.fixture(scope="session")
def cluster():
    """A PostgreSQL of our own. Tests that stop or crash it make another one. At its end it tells what the daemon's role lacked."""
    with Cluster() as c:
        yield c
        # a test of the ledger makes the first one up; doctor looks at the others as that role, and says that it may not
        excused = ("table mail_log", "table schema_version", "table trigger_errors", "table settings")
        denied = [line for line in c.denied() if not line.endswith(excused)]
        assert not denied, "role pgmqd lacks rights; see sql/028_roles.sql:\n" + "\n".join(denied)


def make_template(cluster, name="migrated"):
    """A database with everything that `pgmqd migrate --demo-app` makes, to be copied: what would be written into it would stand in every copy, so that
    nobody may connect to it."""
    conninfo = cluster.createdb(name)
    done = rigs.migrate(conninfo, "--demo-app")
    assert done.returncode == 0, done.stdout + done.stderr
    with cluster.connect() as db:
        db.execute(f"alter database {name} allow_connections false")
    return name


@pytest.fixture(scope="session")
def migrated(cluster):
    return make_template(cluster)


@pytest.fixture
def database(cluster, migrated):
    """The name of a new database, migrated, with the demo application."""
    name = f"e2e_{next(_number)}"
    cluster.createdb(name, migrated)
    yield name
    cluster.dropdb(name)


@pytest.fixture(scope="session")
def cert_dir():
    """Certificates for all mail catchers, so that they are made once."""
    with MailCatcher() as catcher:
        yield catcher.cert_dir


@pytest.fixture
def catcher(cert_dir):
    with MailCatcher(cert_dir=cert_dir) as c:
        yield c


@pytest.fixture
def rig(cluster, database, catcher):
    """Database, mail catcher and (once rig.start() is called) pgmqd."""
    with rigs.Rig(cluster, database, catcher) as r:
        yield r


@pytest.fixture(scope="module")
def own_cluster():
    """A cluster, on the loopback's TCP too, that the module may stop, crash and restart."""
    with Cluster(tcp=True) as c:
        make_template(c)
        yield c


@pytest.fixture
def own_rig(own_cluster, catcher):
    """As rig, on own_cluster."""
    name = f"own_{next(_number)}"
    own_cluster.createdb(name, "migrated")
    with rigs.Rig(own_cluster, name, catcher) as r:
        yield r
    own_cluster.dropdb(name)
