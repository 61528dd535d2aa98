"""pgmqd replay: archived messages run through another version; what differs is told, and nothing leaves or changes."""

import base64
import json
import os
import re
import shutil
import struct
import subprocess

import pytest
from psycopg.types.json import Jsonb

from lib import app
from lib.daemon import clean_environment, conf, run
from lib.paths import BUILDDIR, SRCDIR, pgmqd
from lib.stand import wait_until

WILD = BUILDDIR / "tests" / "plugins" / ".libs" / "pgmqd-wild-plugin.so"
FAULT = WILD.with_name("pgmqd-fault-plugin.so")
SHOTS = BUILDDIR / "quickstart" / "screenshots"
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


def fingerprint(db):
    """What writes are counted, but in the catalogs that autovacuum writes to at any time, and a hash of every table."""
    db.execute("select pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    counted = app.rows(db, "select sum(n_tup_ins) as new, sum(n_tup_upd) as changed, sum(n_tup_del) as gone from pg_stat_all_tables"
                           " where schemaname <> 'pg_catalog' or relname not in ('pg_class', 'pg_database', 'pg_statistic', 'pg_statistic_ext_data')")
    tables = app.rows(db, "select c.oid::regclass::text as t from pg_class c join pg_namespace n on n.oid = c.relnamespace"
                          " where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_t%%' order by 1")
    hashes = {row["t"]: db.execute(f"select md5(string_agg(x::text, ',' order by x::text)) from {row['t']} x").fetchone()[0] for row in tables}
    sequences = app.rows(db, "select schemaname, sequencename, last_value from pg_sequences order by 1, 2")
    return counted, hashes, sequences


def settled(db):
    """As fingerprint(), once no other session of the database has counts to bring in."""
    def others():
        return app.rows(db, "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'")
    wait_until("the sessions of the replay end", lambda: not others())
    return fingerprint(db)


@pytest.mark.skipif(not WILD.exists(), reason="make check builds this plugin")
def test_nothing_changes_and_nothing_leaves(replay, tmp_path):
    """A plugin that writes, opens sockets and files, and crashes at every third message."""
    replay.archive(9, message=lambda i: {"n": i})
    file = tmp_path / "left"
    path = replay.conf("wild.conf", email_queue={"plugin": WILD, "file": file})
    before = settled(replay.db)
    messages, summary = replay.json("-c", path, status=2)
    assert settled(replay.db) == before
    assert summary["new"]["outcomes"] == {"done_with": 6, "crash": 3}, messages
    assert [m["new"]["outcome"]["outcome"] for m in messages] == ["crash", "done_with", "done_with"] * 3
    assert "Segmentation fault" in messages[0]["new"]["outcome"]["reason"]
    for m in messages[1:3]:
        assert [e["answer"] for e in m["new"]["effects"]] == ["not run: it writes"] * 2
    assert not file.exists()


@pytest.mark.skipif(not WILD.exists(), reason="make check builds this plugin")
def test_writes_run_and_are_rolled_back(replay, tmp_path):
    """--writes, for a copy: the plugin sees that its statement worked, and nothing of it stays, nor of done_with's."""
    replay.archive(4, message=lambda i: {"n": i})
    path = replay.conf("wild.conf", email_queue={"plugin": WILD, "file": tmp_path / "left"})
    _, before, _ = settled(replay.db)
    messages, _ = replay.json("-c", path, "--writes", status=2)
    assert [m["new"]["outcome"]["outcome"] for m in messages] == ["crash", "fail", "fail", "crash"]
    assert messages[1]["new"]["outcome"]["reason"] == "it wrote" and "not run" not in json.dumps(messages)
    assert settled(replay.db)[1] == before


def test_messages_sent_along(replay):
    """A program's messages to other queues are recorded, compared, and sent nowhere, one message of a batch after the other."""
    replay.archive(3, message=lambda i: {"n": i})
    program = ("import json,sys\nfor l in sys.stdin:\n a=json.loads(l)\n a=a if isinstance(a,list) else [a]\n"
               " print(json.dumps([{'id': m['id'], 'outcome': 'done', 'result': {'ok': 1},"
               " 'send': [{'queue': sys.argv[1], 'message': {'of': m['message']['n']}}]} for m in a]), flush=True)")
    (replay.dir / "program.py").write_text(program, encoding="utf-8")
    paths = [replay.conf(f"{queue}.conf", email_queue={"plugin": "exec", "mode": "pool", "command": f"python3 {replay.dir}/program.py {queue}", "batch": 3})
             for queue in ("analytics_queue", "other_queue")]
    before = settled(replay.db)
    messages, _ = replay.json("-c", paths[0])
    sent = [[e for e in m["new"]["effects"] if e["kind"] == "message"] for m in messages]
    assert [[(e["queue"], e["message"]) for e in s] for s in sent] == [[("analytics_queue", {"of": n})] for n in range(3)]
    _, summary = replay.json("-c", paths[1], "--against", paths[0], status=1)
    assert [(c["kind"], c["messages"], c["from"], c["to"]) for c in summary["changes"]] == [("message", 3, "analytics_queue", "other_queue")]
    assert settled(replay.db) == before


@pytest.mark.skipif(not FAULT.exists(), reason="make check builds this plugin")
def test_a_plugin_that_must_not_be_replayed(replay):
    """Its descriptor says so, so no message reaches it."""
    replay.archive(1, message=lambda i: {"n": i})
    done = replay("-c", replay.conf("fault.conf", email_queue={"plugin": FAULT}), "--json")
    assert done.returncode == 2 and "is not to be replayed: its descriptor says so" in done.stderr and done.stdout == ""


def test_mails_change_nothing(replay):
    replay.archive(5)
    before = settled(replay.db)
    replay.json("--against")
    assert settled(replay.db) == before


def test_dead_letters(replay):
    """Those that would go through are told by reason, and put back when it is asked for."""
    for i, template in enumerate(["report_ready", "report_ready", "missing"]):
        dead = {"pgmqd_dead": {"reason": f"no template for person{i}@example.test", "class": "permanent", "attempts": 1, "msg_id": i + 100}}
        text = {"to": f"person{i}@example.test", "template": template, "variables": app.sample("report_ready")}
        replay.db.execute("insert into pgmq.q_email_queue_dlq (vt, message, headers) values (now(), %s, %s)", [Jsonb(text), Jsonb(dead)])
    done = replay("--dead")
    assert done.returncode == 1 and "2 of the dead letters would go through now" in done.stdout, done.stdout + done.stderr
    assert re.search(r"2 of 3 +no template for ‹\w+›", done.stdout) and "person" not in done.stdout
    assert len(replay.rig.dead()) == 3
    assert "2 dead letters requeued" in replay("--dead", "--requeue-good").stdout
    assert len(replay.rig.dead()) == 1 and len(replay.rig.rows("q_email_queue")) == 2


def test_answers_of_servers(replay, tmp_path):
    """A server's refusal is recorded with the answers of a file; a request is recorded without its keys."""
    replay.archive(2)
    answers = tmp_path / "answers"
    answers.write_text('{"smtp": "RCPT TO:<person0@", "reply": "550 5.1.1 no such user"}\n', encoding="utf-8")
    _, summary = replay.json("--answers", answers, status=1)
    assert summary["new"]["outcomes"] == {"done": 1, "fail": 1}
    messages, _ = replay.json("--show", env={"EMAIL_PROVIDER": "resend", "RESEND_API_KEY": "re_secret"})
    (request,) = messages[0]["new"]["effects"]
    assert request["url"].startswith("https://api.resend.com/") and "person0@example.test" in request["body"]
    assert "re_secret" not in json.dumps(messages)


def test_usage(replay):
    assert replay("installed").returncode == 2
    assert replay("--requeue-good").returncode == 2
    assert replay("--log", "loud").returncode == 2
    done = replay("--where", '{"template": "nothing"}')
    assert done.returncode == 0 and "0 archived messages" in done.stdout
    assert replay(queue="nowhere").returncode == 2


# ---- the page ----

def test_page(replay, tmp_path):
    """One page without anything from elsewhere, in both languages; a picture of each is kept."""
    replay.archive(3)
    replay.copy_templates()
    replay.change("ru/report_ready.subject", "Ваш отчёт", "Новый отчёт")
    replay.change("ru/report_ready.html", "{{> ", "<p>Новый абзац</p>{{> ")
    assert replay("--template-dir", replay.templates, "--against", "--html", tmp_path / "page").returncode == 1
    page = tmp_path / "page" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="http', text) and "person0@example.test" not in text
    webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1320,1400", f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(driver))
    try:
        SHOTS.mkdir(parents=True, exist_ok=True)
        for lang, word in (("en", "messages differ"), ("ru", "сообщений отличаются")):
            browser.get(f"{page.as_uri()}?lang={lang}")
            body = browser.find_element("tag name", "body").text
            assert word in body and "Новый" in body and browser.find_elements("tag name", "iframe")
            browser.save_screenshot(str(SHOTS / f"replay-{lang}.png"))
    finally:
        browser.quit()


PDF = (b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>endobj\n"
       b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj\n4 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 400]>>endobj\n"
       b"trailer<</Root 1 0 R>>\n%%EOF\n")


def test_pages_of_a_pdf(replay, tmp_path):
    """Pictures of both versions' pages with --show; else, and without pdftoppm, the page says why there are none."""
    attached = [{"filename": "report.pdf", "content_type": "application/pdf", "content": base64.b64encode(PDF).decode()}]
    replay.archive(1, message=lambda i: {"to": "p@example.test", "template": "report_ready", "variables": app.sample("report_ready"), "attachments": attached})
    replay.copy_templates()
    replay.change("ru/report_ready.subject", "Ваш отчёт", "Новый отчёт")

    def parts(*more, **env):
        assert replay("--template-dir", replay.templates, "--against", "--html", tmp_path / "page", *more, env=env).returncode == 1
        data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "page" / "index.html").read_text(encoding="utf-8"), re.S)[1])
        (sample,) = data["samples"].values()
        return [part for side in (sample["old"], sample["new"]) for effect in side["effects"] for part in effect["parts"]]

    assert [p["no_pages"] for p in parts()] == ["hidden"] * 2
    assert [p["no_pages"] for p in parts("--show", PATH=str(tmp_path))] == ["tool"] * 2
    if shutil.which("pdftoppm"):
        shown = parts("--show")
        assert [len(p["pages"]) for p in shown] == [2, 2] and not any("content_base64" in p for p in shown)
        widths = [base64.b64decode(uri.partition(",")[2])[16:24] for uri in shown[0]["pages"]]
        assert widths == [struct.pack(">II", 600, 400), struct.pack(">II", 600, 800)]


def test_the_page_of_the_documentation(replay, tmp_path):
    """docs/replay.md: its commands, in their order."""
    replay.archive(4)
    dead = {"pgmqd_dead": {"reason": "no such template", "class": "permanent", "attempts": 1, "msg_id": 100}}
    text = {"to": "anna@example.test", "template": "report_ready", "variables": app.sample("report_ready")}
    replay.db.execute("insert into pgmq.q_email_queue_dlq (vt, message, headers) values (now(), %s, %s)", [Jsonb(text), Jsonb(dead)])
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "pgmqd").symlink_to(pgmqd())
    parts = dict(part.split("=", 1) for part in replay.conninfo.split())
    env = {**replay.env, "PGMQD_CONF": str(tmp_path / "installed.conf"), "TEMPLATES": str(SRCDIR / "templates"), "PATH": f"{bin_dir}:{os.environ['PATH']}",
           **{f"PG{name.upper() if name != 'dbname' else 'DATABASE'}": value for name, value in parts.items()}}
    blocks = re.findall(r"^```sh\n(.*?)^```$", (SRCDIR / "docs/replay.md").read_text(encoding="utf-8"), re.M | re.S)
    output = ""
    for block in blocks:
        done = subprocess.run(["bash", "-eu", "-c", block], cwd=tmp_path, env=clean_environment(env), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, block + done.stdout + done.stderr
        output += done.stdout
    assert "4 mail subject" in output and "1 dead letters requeued" in output and not replay.rig.dead()
    assert (tmp_path / "page" / "index.html").exists() and len((tmp_path / "runs.ndjson").read_text(encoding="utf-8").splitlines()) == 5
