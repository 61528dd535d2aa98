"""The report plugin: the PDF, its record, its mail; once each, whatever comes twice; and what cannot be made."""

import collections
import hashlib
import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import threading
import uuid

import pytest

from lib import app
from lib.paths import directories
from lib.rig import email_queue

QUEUE = "report_generation_queue"
ELENA = "elena@example.test"

pytestmark = pytest.mark.skipif(
    not os.path.exists(os.path.join(directories().get("plugin_dir", "/"), "pgmqd-report-plugin.so")),
    reason="the report plugin was not built")


def tool(*argv):
    """What a program of poppler-utils or qpdf prints."""
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


class Reports:
    """pgmqd with both queues, and check-ups to complete."""

    def __init__(self, rig, directory):
        self.rig, self.directory = rig, directory

    def start(self, env=None, **options):
        options = {"plugin": "report", "report_dir": self.directory, "brand": "Balansity", **options}
        return self.rig.start({"email_queue": email_queue(self.rig.catcher), QUEUE: options}, env=env, brand_app_url="https://app.example.test")

    def checkup(self, email=ELENA, name="Елена Примерова", lang="ru", answers=None, completed="2026-05-05 12:00+03"):
        """The id of a completed check-up, which the trigger has queued a report of."""
        person = app.new_customer(self.rig.db, email, name, lang)
        checkup = app.start_checkup(self.rig.db, person)
        if answers is not None:
            self.rig.db.execute("update assessments set score = null, answers = %s::jsonb where id = %s", [json.dumps(answers), checkup])
        self.rig.db.execute("update assessments set status = 'completed', completed_at = %s where id = %s", [completed, checkup])
        return checkup

    def ask(self, checkup, user=None):
        """A further message for a check-up."""
        user = user or self.rig.db.execute("select user_id from assessments where id = %s", [checkup]).fetchone()[0]
        return self.rig.db.execute("select queue_report_generation(%s, %s)", [checkup, user]).fetchone()[0]

    def settled(self, **fields):
        return self.rig.daemon.wait_settled(queue=QUEUE, **fields)

    def row(self, checkup):
        (row,) = app.rows(self.rig.db, "select * from pgmqd.reports where assessment_id = %s", [str(checkup)])
        return row

    def made(self, checkup):
        """The row and the path of a check-up's report, when it is done."""
        self.settled(outcome="done")
        row = self.row(checkup)
        return row, row["path"]

    def mails(self, to=ELENA):
        return [m for m in self.rig.catcher.mails() if m.recipients == [to] and ("отчёт" in m.subject.lower() or "report" in m.subject.lower())]

    def wait_mail(self, to=ELENA):
        return self.rig.catcher.wait_for(lambda m: m.recipients == [to] and re.search("отчёт|report", m.subject.lower()))


@pytest.fixture
def reports(rig, tmp_path):
    directory = tmp_path / "reports"
    directory.mkdir()
    return Reports(rig, str(directory))


def attachment(mail):
    (part,) = list(mail.parsed.iter_attachments())
    return part


# ---- the PDF ----

def test_pdf_record_and_mail(reports):
    reports.start()
    checkup = reports.checkup()
    mail = reports.wait_mail()
    row, path = reports.made(checkup)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(reports.directory) == [f"{row['id']}.pdf"]
    with open(path, "rb") as f:
        pdf = f.read()
    assert len(pdf) == row["bytes"] and row["sha256"] == subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, text=True).stdout[:64]
    part = attachment(mail)
    assert part.get_content() == pdf and part.get_content_type() == "application/pdf"
    assert part.get_filename() == "balansity-report-2026-05-05.pdf"
    assert "приложен" in mail.body("plain") and "приложен" in mail.body("html")
    assert f"/reports/{row['id']}" in mail.body("plain")
    text = tool("pdftotext", "-layout", path, "-")
    for piece in ("Balansity", "Елена Примерова", "5 мая 2026", "Результаты обследования", "Рекомендации", "Подробные результаты", "6200",
                  "7–9 ч", "122/78 мм рт. ст.", "ниже нормы", "стр. 1 из 2", "стр. 2 из 2"):
        assert piece in text.replace("\u00a0", " "), piece
    info = tool("pdfinfo", path)
    assert re.search(r"^Title: +Результаты обследования — Елена Примерова$", info, re.M)
    assert re.search(r"^Author: +Balansity$", info, re.M) and re.search(r"^Pages: +2$", info, re.M) and row["pages"] == 2
    assert "(A4)" in info
    assert "No syntax or stream encoding errors" in tool("qpdf", "--check", path)
    assert b"/Lang (ru-RU)" in pdf
    fonts = tool("pdffonts", path).splitlines()[2:]
    assert fonts and all(re.search(r" yes yes yes +\d", line) for line in fonts), fonts


def test_english(reports):
    reports.start()
    checkup = reports.checkup("john@post.example.test", "John O'Sample", "en")
    mail = reports.wait_mail("john@post.example.test")
    path = reports.made(checkup)[1]
    text = tool("pdftotext", "-layout", path, "-").replace("\u00a0", " ")
    for piece in ("John O'Sample", "5 May 2026", "Scores by area", "10,400", "page 1 of 2", "above range"):
        assert piece in text.replace("’", "'"), piece
    assert not re.search("[а-яё]", text, re.I)
    assert "attached" in mail.body("plain")


def test_same_bytes_again(reports):
    reports.start()
    checkup = reports.checkup()
    path = reports.made(checkup)[1]
    with open(path, "rb") as f:
        first = f.read()
    reports.rig.daemon.stop()
    os.unlink(path)
    reports.start()
    second = reports.ask(checkup)
    reports.settled(msg_id=second, outcome="done")
    with open(path, "rb") as f:
        assert f.read() == first


def test_twice_is_one_file_and_one_mail(reports):
    checkup = reports.checkup()
    reports.ask(checkup)
    reports.start()
    third = reports.ask(checkup)
    reports.settled(msg_id=third, outcome="done")
    reports.settled(msg_id=1, outcome="done")
    reports.settled(msg_id=2, outcome="done")
    # a mail is asked for in its report's transaction: what was to come has a number by now
    (asked,) = app.rows(reports.rig.db, "select array_agg(msg_id) as ids from (select msg_id from pgmq.q_email_queue union all"
                        " select msg_id from pgmq.a_email_queue) every_mail")
    for number in asked["ids"]:
        reports.rig.daemon.wait_settled(queue="email_queue", msg_id=number)
    assert len(reports.mails()) == 1
    assert os.listdir(reports.directory) == [f"{reports.row(checkup)['id']}.pdf"]
    archived = app.rows(reports.rig.db, "select 1 from pgmq.a_email_queue where message->>'template' = 'report_ready' and message->>'to' = %s"
                        " union all select 1 from pgmq.q_email_queue where message->>'to' = %s", [ELENA, ELENA])
    assert len(archived) == 1


def test_hundred_rows_repeat_the_head(reports):
    rows = [{"question": f"Показатель {n}", "value": n, "unit": "ед.", "reference": {"low": 20, "high": 80}} for n in range(1, 101)]
    reports.start()
    checkup = reports.checkup(answers={"big": {"title": "Большая область", "score": 50, "answers": rows}})
    row, path = reports.made(checkup)
    assert row["pages"] >= 3
    pages = tool("pdftotext", "-layout", path, "-").split("\f")[:row["pages"]]
    with_rows = [p for p in pages if re.search(r"Показатель \d", p)]
    assert len(with_rows) >= 3 and all("Ваш результат" in p and "Ориентир" in p for p in with_rows)
    assert all("продолжение" in p for p in with_rows[1:])
    assert re.findall(r"Показатель (\d+)", "".join(pages)) == [str(n) for n in range(1, 101)]


def test_no_row_of_a_table_stands_alone(reports):
    """Areas of every length: where a page ends within one, two rows of it at least are on either side."""
    areas = {f"a{n}": {"title": f"Область {n}", "score": 50, "answers": [{"question": f"Показатель {n}/{k}", "value": k, "unit": "ед."} for k in range(n)]}
             for n in range(2, 20)}
    reports.start()
    row, path = reports.made(reports.checkup(answers=areas))
    pages = tool("pdftotext", "-layout", path, "-").split("\f")[:row["pages"]]
    assert row["pages"] >= 5
    for page in pages:
        rows = re.findall(r"Показатель (\d+)/(\d+)", page)
        assert all(rows.count((n, k)) == 1 for n, k in rows) and 1 not in collections.Counter(n for n, _ in rows).values(), page
    assert sum(len(re.findall(r"Показатель \d+/", page)) for page in pages) == sum(range(2, 20))


def test_no_answers(reports):
    reports.start()
    checkup = reports.checkup(answers={})
    row, path = reports.made(checkup)
    assert row["pages"] == 1 and "нет ответов" in tool("pdftotext", path, "-")


def test_markup_and_very_long_texts(reports):
    answers = {"summary": "Длинное слово. " * 300, "x": {"title": "<b>Area</b> & \"Co\"", "score": 55, "answers": [
        {"question": "w" * 900, "answer": "ответ " * 300}, {"question": "<script>{{name}}</script>", "answer": "%s & <i>"}]}}
    reports.start()
    checkup = reports.checkup(name="Анна <b>\"и\"</b> & Ко", answers=answers)
    row, path = reports.made(checkup)
    text = tool("pdftotext", "-layout", path, "-")
    for piece in ("Анна <b>\"и\"</b> & Ко", "<b>Area</b> & \"Co\"", "<script>{{name}}</script>", "%s & <i>"):
        assert piece in text, piece
    tool("qpdf", "--check", path)


# ---- links instead of attachments ----

@pytest.mark.parametrize("options", [{"attach": "no"}, {"attach_max": "1kB"}])
def test_link_only(reports, options):
    reports.start(**options)
    checkup = reports.checkup()
    mail = reports.wait_mail()
    assert list(mail.parsed.iter_attachments()) == []
    assert f"https://app.example.test/reports/{reports.made(checkup)[0]['id']}" in mail.body("plain")
    assert "Понадобится войти" in mail.body("plain")


# ---- what cannot be made ----

def test_unknown_and_foreign_assessments_fail(reports):
    reports.start()
    checkup = reports.checkup()
    for assessment, user, reason in ((uuid.uuid4(), uuid.uuid4(), "no such assessment"), (checkup, uuid.uuid4(), "another user")):
        record = reports.settled(msg_id=reports.ask(assessment, user))
        assert record["outcome"] == "fail" and reason in record["reason"]
    assert len(reports.rig.dead(QUEUE)) == 2


@pytest.mark.parametrize("message", [
    {"assessment_id": "../../etc/passwd", "user_id": "1"}, {"assessment_id": "", "user_id": "1"}, {"user_id": "1"}, {"assessment_id": "1"},
    {"assessment_id": "no-uuid", "user_id": "1"}, {"assessment_id": ["1"], "user_id": "1"}, "[]"])
def test_invalid_ids_fail(reports, message):
    reports.start()
    assert reports.settled(msg_id=reports.rig.enqueue(message, QUEUE))["outcome"] == "fail"
    assert os.listdir(reports.directory) == []


def test_deleted_assessment_fails(reports):
    checkup = reports.checkup()
    reports.rig.db.execute("delete from assessments where id = %s", [checkup])
    reports.start()
    assert "no such assessment" in reports.settled(outcome="fail")["reason"]


def test_not_completed_is_tried_later(reports):
    reports.start()
    person = app.new_customer(reports.rig.db, ELENA, "Елена")
    checkup = app.start_checkup(reports.rig.db, person)
    record = reports.settled(msg_id=reports.ask(checkup))
    assert record["outcome"] == "retry" and "not completed" in record["reason"]


def test_missing_directory_is_a_matter_of_settings(reports):
    os.rmdir(reports.directory)
    reports.start()
    reports.checkup()
    assert reports.settled()["outcome"] == "config"
    assert reports.rig.dead(QUEUE) == [] and app.rows(reports.rig.db, "select * from pgmqd.reports") == []


@pytest.fixture
def tiny_disk(reports):
    """report_dir with room for 8 kB, which is less than a report."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=0777", "pgmqd-test", reports.directory], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield reports.directory
    subprocess.run(["umount", "-l", reports.directory], check=True)


def test_full_disk(reports, tiny_disk):
    """Nothing of the report is left there, the reason is told, no attempt is lost; when there is room it is made by itself."""
    reports.start(config_retry="200ms", max_attempts=1)
    checkup = reports.checkup()
    reports.rig.daemon.wait_log(f"queue paused, no attempt is counted: report_dir: cannot write to {tiny_disk}: No space left on device")
    assert reports.settled()["outcome"] == "config"
    assert os.listdir(tiny_disk) == [] and reports.rig.dead(QUEUE) == [] and reports.mails() == []
    subprocess.run(["mount", "-o", "remount,size=1m", tiny_disk], check=True)
    row, path = reports.made(checkup)
    assert os.listdir(tiny_disk) == [os.path.basename(path)] and os.path.getsize(path) == row["bytes"]
    assert reports.settled(outcome="done")["attempt"] == 1


def test_killed_workers_leave_whole_files_and_one_mail_each(reports):
    """Workers die by SIGKILL in the midst of it: each report is a whole file, one row and one mail; what was half written is swept."""
    reports.start(visibility_timeout="1s", max_attempts=1000, backoff_min="10ms", backoff_max="20ms")
    half = os.path.join(reports.directory, ".x.pdf.1.report.tmp")
    with open(half, "wb") as f:
        f.write(b"%PDF")
    os.utime(half, (0, 0))  # of long ago
    checkups = []
    for turn in range(4):
        mark = reports.rig.daemon.mark()
        checkups += [reports.checkup(f"p{turn}-{n}@example.test") for n in range(6)]
        reports.settled(start=mark, outcome="done")
        reports.rig.daemon.kill_child("worker report_generation_queue")
    start = 0
    while reports.rig.db.execute("select count(*) from pgmqd.reports").fetchone()[0] < len(checkups):
        mark = reports.rig.daemon.mark()
        reports.rig.daemon.wait_log(lambda r: r.get("text") == "settled", start=start)
        start = mark
    rows = app.rows(reports.rig.db, "select * from pgmqd.reports")
    assert {row["assessment_id"] for row in rows} == {str(c) for c in checkups} and len(rows) == len(checkups)
    assert sorted(name for name in os.listdir(reports.directory) if name.endswith(".pdf")) == sorted(os.path.basename(r["path"]) for r in rows)
    for row in rows:
        with open(row["path"], "rb") as f:
            assert hashlib.sha256(f.read()).hexdigest() == row["sha256"]
    mails = reports.rig.db.execute("select message->>'key' from (select message from pgmq.q_email_queue union all select message from"
                                   " pgmq.a_email_queue) m where message->>'template' = 'report_ready'").fetchall()
    assert len(mails) == len(set(mails)) == len(checkups)
    assert not os.path.exists(half)


# ---- Supabase Storage ----

class Storage(http.server.BaseHTTPRequestHandler):
    """Storage's two requests, answered as `plan` says (statuses, then 200), and all of them kept."""

    def do_DELETE(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.server.methods.append(self.command)
        status = self.server.plan.pop(0) if self.server.plan else 200
        if status == 200 and self.path.startswith("/storage/v1/object/sign/"):
            answer = {"signedURL": self.path.removeprefix("/storage/v1") + "?token=abc"}
        else:
            answer = {"statusCode": str(status)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def storage():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    server.seen, server.plan, server.methods = [], [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def storage_env(server):
    return {"SUPABASE_URL": f"http://127.0.0.1:{server.server_port}/", "SUPABASE_SERVICE_ROLE_KEY": "key-of-test"}


@pytest.mark.parametrize("options", [{"attach": "no"}, {"attach_max": "1kB"}])
def test_upload_again_after_a_failure_and_signed_link(reports, storage, options):
    """Not attached, because that is not wanted or it would be too large: the link is signed, and says when it ends."""
    storage.plan = [503]
    reports.start(storage_env(storage), bucket="reports", report_dir=None, backoff_min="10ms", backoff_max="20ms", **options)
    checkup = reports.checkup()
    mail = reports.wait_mail()
    row = reports.made(checkup)[0]
    user = reports.rig.db.execute("select user_id from assessments where id = %s", [checkup]).fetchone()[0]
    assert [path for path, _, _ in storage.seen] == [
        f"/storage/v1/object/reports/{user}/{row['id']}.pdf"] * 2 + [f"/storage/v1/object/sign/reports/{user}/{row['id']}.pdf"]
    assert list(mail.parsed.iter_attachments()) == []
    assert storage.seen[0][2] == storage.seen[1][2] and storage.seen[1][2].startswith(b"%PDF")
    headers = {k.lower(): v for k, v in storage.seen[0][1].items()}
    assert headers["authorization"] == "Bearer key-of-test" and headers["x-upsert"] == "true" and headers["content-type"] == "application/pdf"
    assert json.loads(storage.seen[2][2]) == {"expiresIn": 259200}
    assert row["path"] is None and row["object"] == f"reports/{user}/{row['id']}.pdf"
    assert f"http://127.0.0.1:{storage.server_port}/storage/v1/object/sign/reports/{user}/{row['id']}.pdf?token=abc" in mail.body("plain")
    assert "не пересылайте" in mail.body("plain")
    assert "key-of-test" not in reports.rig.daemon.tail(1000)


def test_wrong_key_is_a_matter_of_settings(reports, storage):
    storage.plan = [403] * 50
    reports.start(storage_env(storage), bucket="reports")
    reports.checkup()
    assert reports.settled()["outcome"] == "config"
    assert reports.rig.dead(QUEUE) == []


# ---- a person who is forgotten ----

def erase(reports, email=ELENA):
    """Forgets a person; the messages that the plugin gets of it."""
    answer = reports.rig.db.execute("select pgmqd.erase_person(%s)", [email]).fetchone()[0]
    return answer, [row["msg_id"] for row in app.rows(reports.rig.db, f"select msg_id from pgmq.q_{QUEUE} where message->>'action' = 'erase'")]


def to_erase(reports):
    return reports.rig.db.execute("select count(*) from pgmqd.files_to_erase").fetchone()[0]


def test_forgotten_persons_file_is_deleted(reports):
    reports.start()
    gone, stays = reports.checkup(), None
    reports.made(gone)
    mark = reports.rig.daemon.mark()
    stays = reports.checkup("boris@example.test", "Борис Опытов")
    reports.settled(start=mark, outcome="done")
    reports.rig.db.execute("delete from pgmq.q_email_queue")
    assert len(os.listdir(reports.directory)) == 2
    mark = reports.rig.daemon.mark()
    answer, _ = erase(reports)
    assert answer["files"] == 1 and answer["pgmqd.reports"] == 1
    reports.settled(start=mark, outcome="done")
    assert os.listdir(reports.directory) == [os.path.basename(reports.row(stays)["path"])]
    assert to_erase(reports) == 0


def test_what_is_erased_is_a_report(reports, tmp_path):
    """A row is no way to make the daemon delete other files; the row and the dead letter tell of it."""
    (tmp_path / "other.pdf").write_text("mine")
    (tmp_path / "reports/notes.txt").write_text("mine")
    for path in (tmp_path / "other.pdf", f"{reports.directory}/../other.pdf", f"{reports.directory}/notes.txt"):
        reports.rig.db.execute("insert into pgmqd.files_to_erase (path) values (%s)", [str(path)])
    reports.rig.db.execute(f"select pgmq.send('{QUEUE}', jsonb_build_object('action', 'erase', 'file', id)) from pgmqd.files_to_erase")
    reports.rig.db.execute(f"select pgmq.send('{QUEUE}', '{{\"action\": \"erase\", \"file\": \"x\"}}')")
    reports.start()
    for msg_id in range(1, 5):
        assert reports.settled(msg_id=msg_id)["outcome"] == "fail"
    assert (tmp_path / "other.pdf").exists() and os.listdir(reports.directory) == ["notes.txt"]
    assert to_erase(reports) == 3


def test_forgotten_persons_object_is_deleted(reports, storage):
    storage.plan = [200, 503, 404]  # the upload; the deletion fails once, and then there is nothing any more
    reports.start(storage_env(storage), bucket="reports", backoff_min="10ms", backoff_max="20ms")
    row, path = reports.made(reports.checkup())
    reports.wait_mail()
    mark = reports.rig.daemon.mark()
    assert erase(reports)[0]["files"] == 1
    reports.settled(start=mark, outcome="retry")
    reports.settled(start=mark, outcome="done")
    assert storage.methods == ["POST", "DELETE", "DELETE"]
    assert storage.seen[1][0] == f"/storage/v1/object/{row['object']}" and storage.seen[1][1]["Authorization"] == "Bearer key-of-test"
    assert not os.path.exists(path) and to_erase(reports) == 0
