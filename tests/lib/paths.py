"""Where things are: the source tree, the build tree, and the binaries under test.

PGMQD_BUILDDIR names the build tree (default: build/ in the source tree). With PGMQD_BIN an installed pgmqd is tested
instead; it then finds its plugins, templates and SQL where it was installed, unless PGMQD_PLUGIN_DIR and so on say else.
"""

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

SRCDIR = Path(__file__).resolve().parents[2]
BUILDDIR = Path(os.environ.get("PGMQD_BUILDDIR") or SRCDIR / "build").resolve()

# Seconds that a test waits for something that ought to happen at once, before it gives up.
TIMEOUT = float(os.environ.get("PGMQD_TEST_TIMEOUT", 30))

_installed = "PGMQD_BIN" in os.environ


def pgmqd():
    """The pgmqd binary under test, as a string; fails with advice when there is none."""
    path = os.environ.get("PGMQD_BIN") or str(BUILDDIR / "pgmqd")
    found = shutil.which(path)
    if not found:
        raise FileNotFoundError(f"{path} is not there: build first (./quickstart, or make -C {BUILDDIR}) or set PGMQD_BIN")
    return found


def sanitized():
    """Whether that is a build with the address sanitizer."""
    return b"__asan_init" in Path(pgmqd()).read_bytes()


def directories():
    """The [pgmqd] settings that point a binary of the build tree at its files; empty for an installed binary."""
    found = {
        "plugin_dir": os.environ.get("PGMQD_PLUGIN_DIR"),
        "template_dir": os.environ.get("PGMQD_TEMPLATE_DIR"),
        "sql_dir": os.environ.get("PGMQD_SQL_DIR"),
    }
    if not _installed:
        found["plugin_dir"] = found["plugin_dir"] or str(BUILDDIR / "plugins" / ".libs")
        found["template_dir"] = found["template_dir"] or str(SRCDIR / "templates")
        found["sql_dir"] = found["sql_dir"] or str(SRCDIR / "sql")
    return {key: value for key, value in found.items() if value}


def _passable(path):
    """Whether every user may walk through each directory of `path`."""
    path = Path(path).resolve()
    return all(os.stat(p).st_mode & stat.S_IXOTH for p in [path, *path.parents])


def make_temp_dir(prefix="pgmqd-"):
    """A new directory (0700) with a path short enough for a Unix socket and without blanks, in a place that any user can reach."""
    base = os.environ.get("TMPDIR", "/tmp")
    if not os.path.isdir(base) or len(base) > 50 or not re.fullmatch(r"[\w./+-]+", base) or not _passable(base) or not os.access(base, os.W_OK):
        base = "/tmp"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=base))
