"""Secrets: where they come from, and where they never show; and a database elsewhere without TLS."""

import resource

from lib.daemon import conf, run
from lib.httpclient import Http, free_port
from lib.rig import email_environment, email_queue

TOKEN = "t0ken-that-nobody-must-see"
WRONG = "wrong-and-secret-all-the-same"


def secret_file(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def test_password_from_a_file_that_changes(rig, tmp_path):
    """A wrong one pauses the queue; the right one in its place and a reload let it go on. Nothing shows either of them."""
    password, port = tmp_path / "smtp_pass", free_port()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    secret_file(credentials / "PGMQD_HTTP_TOKEN", TOKEN + "\n")
    daemon = rig.start({"email_queue": email_queue(rig.catcher, config_retry="1h")}, http_listen=f"127.0.0.1:{port}",
                       env={"SMTP_PASS": None, "SMTP_PASS_FILE": secret_file(password, WRONG + "\n"), "CREDENTIALS_DIRECTORY": str(credentials)})
    rig.send("somebody@example.test")
    daemon.wait_log(lambda r: r.get("queue") == "email_queue" and r.get("level") == "error")
    assert not rig.catcher.mails()
    client = Http(port, TOKEN)
    shown = [client.wait_json("/api/queues", 200), client("/metrics"), client("/health")]
    secret_file(password, rig.catcher.password)
    daemon.reload()
    rig.catcher.wait_to("somebody@example.test")
    for pid in (daemon.process.pid, *daemon.children()):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            shown.append(f.read())
        assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] == 0
        with open(f"/proc/{pid}/environ", "rb") as f:
            assert rig.catcher.password.encode() not in f.read()
    shown += [daemon.records(), rig.dead(), rig.rows("a_email_queue")]
    for secret in (TOKEN, WRONG, rig.catcher.password):
        assert secret not in repr(shown)



def test_mail_server_elsewhere_without_tls_is_refused(tmp_path, catcher):
    path = tmp_path / "pgmqd.conf"
    for more, status in (({}, 78), ({"smtp_allow_insecure": "yes"}, 0)):
        secret_file(path, conf("", {"q": email_queue(catcher, smtp_host="mail.example.test", smtp_tls="none", **more)}))
        done = run("run", "--check", "-c", path, env=email_environment(catcher))
        assert done.returncode == status, done.stderr
        assert status == 0 or "smtp_allow_insecure = yes" in done.stderr


def test_database_elsewhere_without_verified_tls_is_refused(tmp_path):
    path = tmp_path / "pgmqd.conf"
    for database, more, status in (("host=db.example.test password=s3cret", {}, 78), ("host=db.example.test sslmode=require", {}, 78),
                                   ("host=db.example.test sslmode=verify-full", {}, 0),
                                   ("host=db.example.test", {"allow_insecure": "yes"}, 0), ("host=127.0.0.1", {}, 0)):
        secret_file(path, conf(database, {"q": {"plugin": "null"}}, **more))
        done = run("run", "--check", "-c", path)
        assert done.returncode == status, done.stderr
        assert status == 0 or ("verify-full" in done.stderr and "allow_insecure = yes" in done.stderr)
        assert "s3cret" not in done.stderr + done.stdout


def test_files_that_others_can_change_are_told(tmp_path):
    path, env = tmp_path / "pgmqd.conf", tmp_path / ".env"
    secret_file(path, conf("", {"q": {"plugin": "null"}}))
    secret_file(env, "SMTP_PASS=x\n")
    for file, mode, remedy in ((path, 0o660, "chmod go-w it"), (env, 0o602, "chmod go-w it"), (env, 0o604, "chmod o= it")):
        file.chmod(mode)
        done = run("run", "--check", "-c", path, "--env-file", env)
        assert done.returncode == 0 and f"{file} can be " in done.stderr and remedy in done.stderr, done.stderr
        file.chmod(0o600)
    assert not run("run", "--check", "-c", path, "--env-file", env).stderr
