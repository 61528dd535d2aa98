"""pgmqd as a child process of a test: writes its settings file, reads its JSON log, waits for lines of it, stops it."""

import atexit
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time

from . import valgrind
from .lines import Lines
from .paths import TIMEOUT, directories, make_temp_dir, pgmqd

# Settings that tests must not inherit from the shell that runs them.
FOREIGN = ("PG", "SMTP_", "EMAIL_", "DATABASE_URL", "LOG_LEVEL", "WORKER_INTERVAL_MS", "MAX_TASKS_PER_CYCLE", "SUPABASE_",
           "RESEND_", "REPORT_", "NOTIFY_SOCKET", "JOURNAL_STREAM")


# The line by which a report of a sanitizer begins.
REPORT = re.compile(r"^==\d+==\s*(?:ERROR|WARNING): \w*Sanitizer|: runtime error: ", re.M)


def clean_environment(extra=None):
    """The environment without anything that pgmqd or libpq would take as a setting, plus `extra`."""
    keep = ("PGMQD_",)
    env = {k: v for k, v in os.environ.items() if k.startswith(keep) or not k.startswith(FOREIGN)}
    env.update(LC_ALL="C.UTF-8", **valgrind.environment(), **(extra or {}))
    return env


def command_line(*argv):
    """The command line of `pgmqd argv...`, for what run() cannot do; under valgrind, if that is wanted."""
    return [*valgrind.wrapper(), pgmqd(), *map(str, argv)]


def no_reports(text):
    """Fails with what a sanitizer has said in `text`: a process that dies of it may have been replaced, and the test go on."""
    found = REPORT.search(text)
    assert not found, "a sanitizer has complained:\n" + text[found.start():][:8000]


def run(*argv, env=None, **more):
    """`pgmqd argv...` to its end; returns the finished process with stdout and stderr as text."""
    more.setdefault("timeout", 60 * valgrind.SLOW)
    done = subprocess.run(command_line(*argv), env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, **more)
    no_reports(done.stderr)
    return done


def conf(database, queues, **settings):
    """The text of a settings file. `queues`: {name: {key: value}}; `settings`: more of the [pgmqd] section."""
    main = {"database": database, "log_format": "json", "log_level": "info", "http_listen": "off", **directories(), **settings}
    if valgrind.active():
        main.setdefault("drain_timeout", "300s")  # each process looks for its leaks when it leaves
    if os.geteuid() != 0:
        main.setdefault("core_dumps", "yes")  # else tests could not look into /proc
    sections = [("pgmqd", main)] + [(f"queue {name}", options) for name, options in queues.items()]
    return "\n".join(f"[{title}]\n" + "".join(f"{k} = {v}\n" for k, v in rows.items() if v is not None)
                     for title, rows in sections)


def _parse(line):
    """A record of the log; what is not JSON (a sanitizer's report, say) becomes {"raw": line}."""
    try:
        record = json.loads(line)
    except ValueError:
        return {"raw": line}
    return record if isinstance(record, dict) else {"raw": line}


class Daemon:
    """`pgmqd run` with `conf_text` as its settings file (mode 0600) and `env` added to a clean environment."""

    def __init__(self, conf_text, env=None, log_path=None, argv=(), wrapper=()):
        self.conf_text, self.env, self.argv, self.wrapper = conf_text, env or {}, list(argv), list(wrapper)
        self.dir = make_temp_dir("pgmqd-run-")
        atexit.register(self._cleanup)
        self.conf_path = self.dir / "pgmqd.conf"
        self._log_path = log_path or self.dir / "pgmqd.log"
        self.process = self.lines = self._log_file = None

    def write_conf(self, text):
        """Replaces the settings file, for a reload; as a whole, since one may be under way."""
        self.conf_text = text
        new = self.conf_path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(new, self.conf_path)

    def start(self):
        """Starts the process; returns self at once."""
        self.write_conf(self.conf_text)
        if self._log_file is None:
            self._log_file = open(self._log_path, "ab")
        self.process = subprocess.Popen(
            [*self.wrapper, *command_line("run", "-c", self.conf_path, *self.argv)], env=clean_environment(self.env),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.lines = Lines(self.process.stdout, self._log_file, _parse)
        return self

    # ---- the log ----

    def records(self):
        """Every record so far of this run, as dicts."""
        return self.lines.snapshot() if self.lines else []  # none: it could not be started

    def mark(self):
        """A place in the log: wait_log(..., start=mark) sees only what is written later."""
        return self.lines.mark()

    def tail(self, n=40):
        """The last lines, for a message of failure."""
        return "\n".join(json.dumps(r, ensure_ascii=False) for r in self.records()[-n:])

    def wait_log(self, predicate, timeout=TIMEOUT, start=0):
        """The first record that `predicate` (a function, or a text that is in the record's text) is true for."""
        test = predicate if callable(predicate) else (lambda record: predicate in record.get("text", ""))
        found = self.lines.wait(test, timeout, start)
        if found is None:
            why = f"pgmqd ended with status {self.process.poll()}" if self.lines.ended else f"not within {timeout} s"
            raise TimeoutError(f"no such line in the log ({why}):\n{self.tail()}")
        return found

    def wait_ready(self, timeout=TIMEOUT):
        """Until every worker is connected."""
        self.wait_log(lambda record: record.get("text") == "ready", timeout)
        return self

    def wait_settled(self, timeout=TIMEOUT, start=0, **fields):
        """The "settled" record with these fields (queue=..., msg_id=..., outcome=...)."""
        return self.wait_log(
            lambda r: r.get("text") == "settled" and all(r.get(k) == v for k, v in fields.items()), timeout, start)

    # ---- the process ----

    def children(self):
        """{pid: title} of the supervisor's children, such as "pgmqd: worker email_queue"."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", encoding="utf-8") as f:
                        parent = int(f.read().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and valgrind.active():
                        found[int(entry)] = valgrind.title(entry)
                    elif parent == self.process.pid:
                        with open(f"/proc/{entry}/cmdline", encoding="utf-8") as f:
                            found[int(entry)] = f.read().rstrip("\0")
                except (FileNotFoundError, ProcessLookupError):
                    pass  # it ended meanwhile
        return found

    def child(self, title):
        """The pid of the one child with `title` in its title."""
        (pid,) = [pid for pid, text in self.children().items() if title in text]
        return pid

    def kill_child(self, title):
        """SIGKILL for the one child with `title` in its title, once it is there; returns its pid once it is gone."""
        deadline = time.monotonic() + TIMEOUT
        while not any(title in text for text in self.children().values()) and time.monotonic() < deadline:
            time.sleep(0.01)  # the one before may have been killed a moment ago
        pid = self.child(title)
        gone = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([gone], [], [], 30)
        os.close(gone)
        return pid

    def reload(self):
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def wait(self, timeout=60 * valgrind.SLOW):
        """The exit status; everything that was logged is readable after this. A report of a sanitizer in it fails the test."""
        status = self.process.wait(timeout)
        self.lines.join()
        no_reports("\n".join(r["raw"] for r in self.records() if "raw" in r))
        return status

    def stop(self, number=signal.SIGTERM, timeout=60 * valgrind.SLOW):
        """SIGTERM and wait; returns the exit status. What does not end in time is killed with its children."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """SIGKILL for the supervisor and all its children (they are one process group)."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.wait()

    def close(self):
        """Ends what still runs and removes the files."""
        self._cleanup()
        atexit.unregister(self._cleanup)

    def _cleanup(self):
        if self.process and self.process.poll() is None:
            self.kill()
        if self._log_file:
            self._log_file.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        try:
            if self.process.poll() is None:
                self.stop()
        finally:
            self.close()
