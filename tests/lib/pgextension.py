"""A PostgreSQL server whose directory of extensions is our own: the installed one, with an extension pgmq that a test puts in and takes away.

The programs are copies, since PostgreSQL finds its files beside the program; everything else is links. PGMQD_PGMQ_DIR names a directory with
pgmq's own files (pgmq--1.13.0.sql, pgmq--1.12.0--1.13.0.sql …). Without it a stand-in is made of sql/010 and 011, which have the same interface.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .paths import SRCDIR, make_temp_dir
from .pgcluster import Cluster, bin_dir

STAND_IN = "1.13.0"


def real_files():
    """pgmq's own files, by name; empty where there are none."""
    directory = os.environ.get("PGMQD_PGMQ_DIR")
    return {p.name: p for p in Path(directory).glob("pgmq--*.sql")} if directory else {}


def versions(files):
    """Versions that the files can make, and those that can be reached by updates from the oldest of them."""
    key = lambda v: [int(n) for n in v.split(".")]  # noqa: E731
    made = sorted((m[1] for m in (re.fullmatch(r"pgmq--([\d.]+)\.sql", name) for name in files) if m), key=key)
    steps = {m[1]: m[2] for m in (re.fullmatch(r"pgmq--([\d.]+)--([\d.]+)\.sql", name) for name in sorted(files)) if m}
    way = made[:1]
    while way and way[-1] in steps:
        way.append(steps[way[-1]])
    return made, way


class ExtensionCluster(Cluster):
    """offer(version) makes the extension available, withdraw() takes it away; databases keep what they have."""

    def start(self, timeout=60):
        if self.dir is None:
            self._relocate()
        return super().start(timeout)

    def _relocate(self):
        old = Path(bin_dir()).resolve()
        tool = old / "pg_config"
        where = {}
        for name in ("sharedir", "pkglibdir"):
            told = subprocess.run([tool, f"--{name}"], capture_output=True, text=True, check=True).stdout if tool.exists() else ""
            where[name] = Path(told.strip() or {"sharedir": old.parent / "share/postgresql", "pkglibdir": old.parent / "lib"}[name])
        prefix = Path(os.path.commonpath([old, *where.values()]))
        self.root = make_temp_dir("pgmqd-ext-")
        self.root.chmod(0o755)
        new = self.root / old.relative_to(prefix)
        new.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            shutil.copy(old / name, new)
        lib = self.root / where["pkglibdir"].relative_to(prefix)
        lib.parent.mkdir(parents=True, exist_ok=True)
        lib.symlink_to(where["pkglibdir"])
        share = self.root / where["sharedir"].relative_to(prefix)
        self.extensions = share / "extension"
        self.extensions.mkdir(parents=True)
        for p in where["sharedir"].iterdir():
            if p.name != "extension":
                (share / p.name).symlink_to(p)
        for p in (where["sharedir"] / "extension").iterdir():
            if not p.name.startswith("pgmq"):
                (self.extensions / p.name).symlink_to(p)
        self.bin, self._old_bin = str(new), old

    def destroy(self):
        super().destroy()
        shutil.rmtree(self.root, ignore_errors=True)

    def offer(self, version=None):
        """Makes that version the one that CREATE EXTENSION takes; returns it."""
        self.withdraw()
        files = real_files()
        if files:
            version = version or versions(files)[0][-1]
            for name, p in files.items():
                shutil.copy(p, self.extensions / name)
        else:
            version = version or STAND_IN
            (self.extensions / f"pgmq--{version}.sql").write_text(self._stand_in(), encoding="utf-8")
        (self.extensions / "pgmq.control").write_text(
            f"comment = 'message queue'\ndefault_version = '{version}'\nschema = 'pgmq'\nrelocatable = false\nsuperuser = false\n")
        for p in self.extensions.glob("pgmq*"):
            p.chmod(0o644)
        return version

    def withdraw(self):
        for p in self.extensions.glob("pgmq*"):
            p.unlink()

    def _stand_in(self):
        """The schema that 010 and 011 make, as an extension's script."""
        conninfo = self.createdb("stand_in")
        with self.connect("stand_in") as db:
            for name in ("010_pgmq.sql", "011_pgmq_groups_topics.sql"):
                db.execute((SRCDIR / "sql" / name).read_text(encoding="utf-8"))
        text = subprocess.run([self._old_bin / "pg_dump", "--schema-only", "--schema=pgmq", "--no-owner", "--no-privileges", conninfo],
                              capture_output=True, text=True, check=True).stdout
        self.dropdb("stand_in")
        return re.sub(r"(?m)^(SET |SELECT pg_catalog\.set_config|CREATE SCHEMA|COMMENT ON SCHEMA|\\).*$", "", text)
