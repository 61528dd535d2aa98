"""The whole chain in one place: a database with the demo application in it, a mail catcher, and pgmqd between them.

The demo of ./quickstart and the end-to-end tests both use it.
"""

from . import app
from .daemon import Daemon, conf, run
from .harness import Harness
from .paths import directories

MAIL_FROM = "noreply@example.test"


def migrate(conninfo, *more):
    """`pgmqd migrate` on that database, the application's part too; returns the finished process."""
    sql_dir = directories().get("sql_dir")
    return run("migrate", "-d", conninfo, "--with", "application", *(["--sql-dir", sql_dir] if sql_dir else []), *more)


def email_queue(catcher, **more):
    """Options of a [queue email_queue] section whose mails go to `catcher`; what is not here is in email_environment()."""
    options = {"plugin": "email", "smtp_ca_file": catcher.ca_file}
    options.update(more)
    return options


def email_environment(catcher, **more):
    """The environment by which the email plugin finds `catcher`. A value of None takes a variable out."""
    env = {
        "EMAIL_PROVIDER": "smtp",
        "SMTP_HOST": catcher.host,
        "SMTP_PORT": str(catcher.port),
        "SMTP_USER": catcher.user,
        "SMTP_PASS": catcher.password,
        "SMTP_FROM": MAIL_FROM,
        "SMTP_FROM_NAME": "Клиника «Пример»",
    }
    env.update(more)
    return {key: value for key, value in env.items() if value is not None}


class Rig(Harness):
    """A migrated database of `cluster`, `catcher`, and pgmqd once start() was called. Ends with a check of the exit status.

    pgmqd logs in as the role pgmqd of sql/028_roles.sql, which owns nothing; the test's own connections are a superuser's."""

    def __init__(self, cluster, dbname, catcher):
        super().__init__(cluster, dbname)
        self.catcher = catcher
        self.login = cluster.conninfo(dbname, user="pgmqd")
        self.daemon = None

    def start(self, queues=None, env=None, ready=True, argv=(), jobs=None, **settings):
        """Starts pgmqd. `queues` replaces the sections (default: email_queue), `env` adds to the environment, the rest goes
        into [pgmqd]; `jobs` is {type: queue}. The fallback poll is an hour, so that nothing but a notification can be what wakes it."""
        settings.setdefault("fallback_poll", "1h")
        queues = {"email_queue": email_queue(self.catcher)} if queues is None else queues
        text = conf(self.login, queues, **settings)
        text += "".join(f"[job {name}]\nqueue = {queue}\n" for name, queue in (jobs or {}).items())
        self.daemon = Daemon(text, env=email_environment(self.catcher, **(env or {})), argv=argv).start()
        if ready:
            self.daemon.wait_ready()
        return self.daemon

    def send(self, to, template="report_ready", variables=None, **more):
        """Calls queue_email_task(), by default with what the template needs; returns the message's id."""
        return app.queue_email_task(self.db, to, template, app.sample(template) if variables is None else variables, **more)

    def enqueue(self, message, queue="email_queue", delay=0):
        """pgmq.send() as any client would call it; `message` is JSON text or a dict."""
        return app.enqueue(self.db, queue, message, delay)

    def rows(self, table):
        """All rows of pgmq.TABLE, in order of their ids, as dicts."""
        return app.rows(self.db, f"select * from pgmq.{table} order by msg_id")

    def dead(self, queue="email_queue"):
        """The dead letters of a queue."""
        return self.rows(f"q_{queue}_dlq")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.disconnect()
        if self.daemon:
            status = self.daemon.stop() if self.daemon.process.poll() is None else 0
            self.daemon.close()
            assert status == 0, f"pgmqd ended with status {status} after SIGTERM:\n{self.daemon.tail()}"
