"""What the harnesses of both suites share: a database of their own, the test's connection to it, and pgmqd's sessions in it."""


class Harness:
    """A database of `cluster`. The test's own connections are a superuser's."""

    def __init__(self, cluster, dbname):
        self.cluster, self.dbname = cluster, dbname
        self.conninfo = cluster.conninfo(dbname)
        self._db = None

    @property
    def db(self):
        """A connection of the test's own, autocommit; a new one after the old one broke."""
        if self._db is None or self._db.closed or self._db.broken:
            self._db = self.connect()
        return self._db

    def connect(self, **more):
        return self.cluster.connect(self.dbname, **more)

    def disconnect(self):
        """After a restart of the server, which the test's own connection has not noticed yet, and at the end."""
        if self._db is not None and not self._db.closed:
            self._db.close()

    def value(self, sql, params=None):
        return self.db.execute(sql, params).fetchone()[0]

    def backends(self, like="pgmqd%"):
        """{pid: application_name} of pgmqd's sessions."""
        return dict(self.db.execute("select pid, application_name from pg_stat_activity where datname = %s and"
                                    " pid <> pg_backend_pid() and application_name like %s", [self.dbname, like]).fetchall())
