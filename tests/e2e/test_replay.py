"""pgmqd replay: archived messages run through another version; what differs is told, and nothing leaves or changes."""

import json
import re
import shutil

import pytest
from psycopg.types.json import Jsonb

from lib import app
from lib.daemon import conf, run
from lib.paths import SRCDIR
from lib.rig import email_environment

ENV = {"EMAIL_PROVIDER": "smtp", "SMTP_HOST": "mail.example.test", "SMTP_PORT": "2525", "SMTP_FROM": "noreply@example.test"}


class Replay:
    """A queue with an archive, a settings file that names the installed version, and a copy of the templates to change."""

    def __init__(self, rig, tmp_path):
        self.rig, self.db, self.dir = rig, rig.db, tmp_path
        self.conninfo = rig.conninfo
        self.env = dict(ENV)
        self.templates = tmp_path / "templates"
        self.conf(email_queue={"plugin": "email"})

    def conf(self, name="installed.conf", **queues):
        path = self.dir / name
        path.write_text(conf(self.conninfo, queues), encoding="utf-8")
        path.chmod(0o600)
        return path

    def copy_templates(self):
        shutil.copytree(SRCDIR / "templates", self.templates)
        return self.templates

    def change(self, name, old, new):
        """Changes a template of the copy."""
        path = self.templates / f"{name}.mustache"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def archive(self, n, template="report_ready", queue="email_queue", message=None):
        """Puts n messages into the archive, as the daemon leaves them."""
        rows = []
        for i in range(n):
            text = message(i) if message else {"to": f"person{i}@example.test", "template": template, "variables": app.sample(template)}
            rows.append((i % 2 + 1, Jsonb(text)))
        with self.db.cursor() as cursor:
            cursor.executemany(f"insert into pgmq.a_{queue} (msg_id, read_ct, enqueued_at, archived_at, vt, message)"
                               f" select nextval(pg_get_serial_sequence('pgmq.q_{queue}', 'msg_id')), %s, now() - interval '1 hour',"
                               " clock_timestamp() - interval '59 min', now(), %s", rows)

    def __call__(self, *argv, queue="email_queue", env=None, **more):
        return run("replay", queue, "-d", self.conninfo, *argv, env={"PGMQD_CONF": str(self.dir / "installed.conf"), **self.env, **(env or {})}, **more)

    def json(self, *argv, status=0, **more):
        """(messages, summary) of --json."""
        done = self(*argv, "--json", **more)
        assert done.returncode == status, done.stdout[-3000:] + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return lines[:-1], lines[-1]


@pytest.fixture
def replay(rig, tmp_path):
    return Replay(rig, tmp_path)


def test_mails_are_recorded(replay):
    replay.archive(3)
    messages, summary = replay.json("--show")
    assert summary["messages"] == 3 and summary["new"]["outcomes"] == {"done": 3}
    for i, m in enumerate(messages):
        (mail,) = m["new"]["effects"]
        assert mail["kind"] == "mail" and mail["to"] == [f"person{i}@example.test"] and mail["from"] == ENV["SMTP_FROM"]
        assert "Subject:" in mail["data"] and mail["subject"] and mail["text"] and "<html" in mail["html"]


def test_a_changed_template(replay):
    """Two kinds of change, each once with its number; what is equal is not told, and texts of people are masked."""
    replay.archive(3)
    replay.archive(2, template="payment_failed")
    replay.copy_templates()
    assert replay("--template-dir", replay.templates, "--against").returncode == 0
    replay.change("ru/report_ready.subject", "Ваш отчёт", "Новый отчёт")
    replay.change("ru/payment_failed.txt", "платёж не прошёл", "оплата не прошла")
    messages, summary = replay.json("--template-dir", replay.templates, "--against", status=1)
    assert summary["different"] == 5
    kinds = {change["kind"]: change for change in summary["changes"]}
    assert kinds["mail subject"]["messages"] == 3 and kinds["mail text"]["messages"] == 2 and len(summary["changes"]) == 2
    assert (kinds["mail subject"]["from"], kinds["mail subject"]["to"]) == ("Ваш", "Новый") and kinds["mail text"]["to"] == "оплата не прошла."
    assert "person0@example.test" not in json.dumps(messages, ensure_ascii=False)
    done = replay("--template-dir", replay.templates, "--against", "installed")
    assert re.search(r"3 mail subject \(message \d+\): Ваш -> Новый", done.stdout) and "5 messages differ" in done.stdout
