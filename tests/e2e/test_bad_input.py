"""Bad settings and bad messages: one clear line that says what, where and what to do; and nothing else suffers."""

import json
import re
import shutil

import psycopg
import pytest

from lib import app
from lib.daemon import conf, run
from lib.paths import BUILDDIR, directories
from lib.rig import email_environment, email_queue

CONFIG_STATUS = 78  # EX_CONFIG


def check(tmp_path, text, env=None):
    """`pgmqd run --check` of a file with that text; returns the finished process and the file's path."""
    path = tmp_path / "pgmqd.conf"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return run("run", "--check", "-c", path, env=env), path


def line_of(text, part):
    """The number of the line with `part` in it."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


# ---- settings ----

def test_good_settings_pass_the_check(tmp_path, catcher):
    done, _ = check(tmp_path, conf("dbname=nowhere", {"email_queue": email_queue(catcher)}), email_environment(catcher))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("section, wrong, right", [
    ("pgmqd", "fallback_pol = 30s", "fallback_poll"),
    ("queue", "visibility_timout = 30s", "visibility_timeout"),
    ("queue", "smtp_hots = localhost", "smtp_host"),
])
def test_unknown_key_is_refused_with_a_guess(tmp_path, catcher, section, wrong, right):
    key, value = wrong.split(" = ")
    if section == "pgmqd":
        text = conf("dbname=nowhere", {"email_queue": email_queue(catcher)}, **{key: value})
    else:
        text = conf("dbname=nowhere", {"email_queue": email_queue(catcher, **{key: value})})
    done, path = check(tmp_path, text, email_environment(catcher))
    assert done.returncode == CONFIG_STATUS
    assert f"{path}:{line_of(text, wrong)}: " in done.stderr, done.stderr
    assert f"did you mean {right}?" in done.stderr, done.stderr


@pytest.mark.parametrize("plugin, key, before", [("webhook", "url", ""), ("sources", "sources", "one https://one.example.test | two ")])
@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "[::1]", "[fe80::1%25eth0]", "2130706433", "0x7f.1", "[64:ff9b::10.0.0.1]",
                                  "169.254.169.254", "[::ffff:127.0.0.1]", "user:word@192.168.0.1:8080"])
def test_private_address_is_refused(tmp_path, plugin, key, before, host):
    """A name is judged when it is resolved; what is written as an address can be told at once."""
    options = {"plugin": plugin, key: f"{before}https://{host}/x"}
    done, path = check(tmp_path, conf("dbname=nowhere", {"hooks": options}))
    assert done.returncode == CONFIG_STATUS
    assert str(path) in done.stderr and "not on the public Internet; allow_private = yes allows it" in done.stderr, done.stderr
    assert check(tmp_path, conf("dbname=nowhere", {"hooks": {**options, "allow_private": "yes"}}))[0].returncode == 0
    assert check(tmp_path, conf("dbname=nowhere", {"hooks": {**options, key: f"{before}https://8.8.8.8/x"}}))[0].returncode == 0


def test_every_time_limit_above_the_deadline_is_told(tmp_path, catcher):
    done, path = check(tmp_path, conf("dbname=nowhere", {"email_queue": email_queue(catcher, deadline="10s", connect_timeout="10s")}), email_environment(catcher))
    assert done.returncode == 0
    told = re.findall(r"^(\S+): queue \"email_queue\": (\S+) = \S+ is never reached: an attempt ends at the queue's deadline of 10 s", done.stderr, re.M)
    assert {name for _, name in told} == {"attachment_timeout", "command_timeout", "data_timeout", "http_timeout"} and all(str(path) in where for where, _ in told), done.stderr
    done, _ = check(tmp_path, conf("dbname=nowhere", {"email_queue": email_queue(catcher)}), email_environment(catcher))
    assert "never reached" not in done.stderr


def test_a_plugin_s_option_with_a_name_of_pgmqd_s_is_told(tmp_path):
    wild = BUILDDIR / "tests" / "plugins" / ".libs" / "pgmqd-wild-plugin.so"
    done, path = check(tmp_path, conf("dbname=nowhere", {"q": {"plugin": wild, "deadline": "20s"}}), {})
    assert done.returncode == 0
    assert f'{path}:' in done.stderr and "the plugin's option deadline has the name of one of pgmqd's" in done.stderr


@pytest.mark.parametrize("host", ["mail_relay", "mail.example.test.", "почта.пример.рф"])
def test_names_of_mail_servers(tmp_path, catcher, host):
    done, _ = check(tmp_path, conf("dbname=nowhere", {"email_queue": email_queue(catcher)}), {**email_environment(catcher), "SMTP_HOST": host})
    assert done.returncode == 0, done.stderr


def test_every_error_of_the_file_is_told(tmp_path, catcher):
    text = conf("dbname=nowhere", {"email_queue": email_queue(catcher, max_attempts="many")}, fallback_poll="soon", log_format="xml")
    done, path = check(tmp_path, text, email_environment(catcher))
    assert done.returncode == CONFIG_STATUS
    for part in ("max_attempts", "fallback_poll", "log_format"):
        assert f"{path}:{line_of(text, part)}: " in done.stderr, done.stderr


def test_missing_settings_file_is_told(tmp_path):
    done = run("run", "-c", tmp_path / "nothing.conf")
    assert done.returncode != 0
    assert str(tmp_path / "nothing.conf") in done.stderr and "pgmqd init" in done.stderr, done.stderr


def test_required_option_of_the_plugin_names_its_variable(tmp_path, catcher):
    done, _ = check(tmp_path, conf("dbname=nowhere", {"email_queue": email_queue(catcher)}), email_environment(catcher, SMTP_HOST=None))
    assert done.returncode == CONFIG_STATUS
    assert "smtp_host" in done.stderr and "SMTP_HOST" in done.stderr, done.stderr


def test_secrets_are_not_printed(tmp_path, catcher):
    done, _ = check(tmp_path, conf("dbname=nowhere", {"email_queue": email_queue(catcher, smtp_tls="maybe")}), email_environment(catcher))
    assert done.returncode == CONFIG_STATUS
    assert catcher.password not in done.stdout + done.stderr


def test_missing_plugin_is_told_by_check(tmp_path):
    text = conf("dbname=nowhere", {"email_queue": {"plugin": "emial"}})
    done, path = check(tmp_path, text)
    assert done.returncode == CONFIG_STATUS
    assert f"{path}:{line_of(text, '[queue email_queue]')}: " in done.stderr, done.stderr
    assert "pgmqd-emial-plugin.so" in done.stderr and "plugin_dir" in done.stderr, done.stderr


def test_usage_errors_end_with_2():
    assert run("run", "--no-such-option").returncode == 2
    assert run("no-such-command").returncode == 2
    assert run("run", "--help").returncode == 0


# ---- one queue's trouble is not another's ----

def test_missing_plugin_costs_only_its_queue(rig):
    daemon = rig.start({"email_queue": email_queue(rig.catcher), "analytics_queue": {"plugin": "no-such"}}, ready=False)
    record = daemon.wait_log(lambda r: r.get("level") == "error" and "pgmqd-no-such-plugin.so" in r.get("text", ""))
    assert record["queue"] == "analytics_queue"
    rig.send("fine@example.test")
    rig.catcher.wait_to("fine@example.test")


def test_missing_queue_is_told_and_taken_up_when_it_comes(rig):
    daemon = rig.start({"email_queue": email_queue(rig.catcher), "later_queue": {"plugin": "null"}}, ready=False)
    record = daemon.wait_log(lambda r: "later_queue" in r.get("text", "") and "does not exist" in r.get("text", ""))
    assert "pgmq.create('later_queue')" in record["text"], record
    rig.send("fine@example.test")
    rig.catcher.wait_to("fine@example.test")
    rig.db.execute("select pgmq.create('later_queue')")
    rig.db.execute("select pgmqd.attach_queue('later_queue')")
    msg_id = rig.enqueue({"n": 1}, "later_queue")
    daemon.wait_settled(queue="later_queue", msg_id=msg_id, outcome="done")


# ---- messages ----

def expect_dead(rig, msg_id, *parts):
    """Waits until that message is dead-lettered, once, at the first attempt; the reason has all `parts`. Then another
    message goes through."""
    record = rig.daemon.wait_settled(msg_id=msg_id)
    assert record["outcome"] == "fail" and record["attempt"] == 1, record
    letters = rig.dead()
    assert len(letters) == 1, letters
    reason = letters[0]["headers"]["pgmqd_dead"]["reason"]
    for part in parts:
        assert part in reason, reason
    rig.send("fine@example.test")
    rig.catcher.wait_to("fine@example.test")
    assert len(rig.catcher.mails()) == 1
    return letters[0]


def test_unknown_template(rig):
    rig.start()
    msg_id = rig.send("elena@example.test", "checkup_complete", {})
    expect_dead(rig, msg_id, "checkup_complete")


def test_missing_variable_is_named(rig):
    variables = app.sample("appointment_confirmation")
    del variables["appointment_date"]
    rig.start()
    msg_id = rig.send("elena@example.test", "appointment_confirmation", variables)
    letter = expect_dead(rig, msg_id, "appointment_confirmation", "appointment_date")
    assert letter["message"]["variables"] == variables


@pytest.mark.parametrize("value", [None, ""])
def test_empty_variable_counts_as_missing(rig, value):
    rig.start()
    msg_id = rig.send("elena@example.test", "appointment_confirmation",
                      dict(app.sample("appointment_confirmation"), appointment_date=value))
    expect_dead(rig, msg_id, "appointment_date")


@pytest.mark.parametrize("name", ["../ru/report_ready", "/etc/passwd", "ru/report_ready", "report_ready.txt", "..", "report ready"])
def test_template_name_with_a_path(rig, name):
    """The function refuses it, and so does the daemon, where it comes by pgmq.send()."""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="template"):
        rig.send("elena@example.test", name, app.sample("report_ready"))
    rig.start()
    msg_id = rig.enqueue({"to": "elena@example.test", "template": name, "variables": app.sample("report_ready")})
    expect_dead(rig, msg_id, "not a template's name")


def test_dead_letter_keeps_the_body_to_the_byte(rig):
    """No printer of JSON on the way: a number beyond 2^53 stays what it is."""
    rig.start()
    body = '{"to": "elena@example.test", "template": "nope", "variables": {"n": 9007199254740993, "x": 1.10}}'
    msg_id = rig.enqueue(body)
    rig.daemon.wait_settled(msg_id=msg_id, outcome="fail")
    assert rig.db.execute("select message = %s::jsonb and message::text like '%%9007199254740993%%1.10%%'"
                          " from pgmq.q_email_queue_dlq", [body]).fetchone()[0]
    headers = rig.dead()[0]["headers"]["pgmqd_dead"]
    assert headers["attempts"] == 1 and headers["msg_id"] == msg_id, headers


def test_broken_template_costs_no_message(rig, tmp_path):
    """A template that does not compile is the operator's fault: told with its file, and the mail goes out after the repair."""
    templates = tmp_path / "templates"
    shutil.copytree(directories()["template_dir"], templates)
    broken = templates / "ru" / "report_ready.txt.mustache"
    good = broken.read_text()
    broken.write_text("{{#open}}\n" + good)
    daemon = rig.start(ready=False, template_dir=templates)
    rig.send("elena@example.test")
    daemon.wait_log(lambda r: r.get("level") == "error" and "report_ready.txt.mustache:" in r.get("text", "") + r.get("reason", ""))
    assert rig.dead() == []
    broken.write_text(good)
    daemon.reload()
    rig.catcher.wait_to("elena@example.test")


# ---- pgmqd render ----

def test_render_shows_what_the_mail_will_be(rig, tmp_path):
    variables = app.sample("payment_completed")
    data = tmp_path / "data.json"
    data.write_text(json.dumps(variables), encoding="utf-8")
    shown = {}
    for part in ("subject", "txt"):
        done = run("render", "payment_completed", "--data", data, "--lang", "ru", "--part", part, "--template-dir",
                   directories()["template_dir"])
        assert done.returncode == 0, done.stderr
        shown[part] = done.stdout.strip()
    rig.start()
    rig.send("elena@example.test", "payment_completed", variables)
    mail = rig.catcher.wait_to("elena@example.test")
    assert mail.subject == shown["subject"]
    assert mail.body("plain").replace("\r\n", "\n").strip() == shown["txt"]
