"""How the email plugin logs in: which mechanism, in which order, how exactly, and with OAuth tokens that come from elsewhere and expire."""

import pytest

from lib.smtpstub import SmtpStub

USER, PASSWORD, TOKEN = "postmaster@example.test", "correct horse", "ya29.good-token"


@pytest.fixture
def start(rig):
    """Starts pgmqd for a stub, and queues a mail; returns its number."""
    def start(stub, **options):
        rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "backoff_min": "10ms", "backoff_max": "10ms", "config_retry": "100ms", "max_attempts": 1, **options}},
                  {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": USER, "SMTP_PASS": None if "ya29" in stub.login[1] else PASSWORD})
        return rig.enqueue({"to": "ivan@example.test", "subject": "Test", "text": "A line.\n"})
    return start


def said(stub):
    """The AUTH commands, without what is in them."""
    return [" ".join(c.line.split(" ")[1:2] + ["..."] * (len(c.line.split(" ")) - 2)) for c in stub.commands if c.verb == "AUTH"]


@pytest.mark.parametrize("offered, refused, auth, tried", [
    ("LOGIN PLAIN", {}, "auto", ["PLAIN ..."]),
    ("CRAM-MD5 DIGEST-MD5 NTLM GSSAPI PLAIN", {}, "auto", ["PLAIN ..."]),
    ("CRAM-MD5 LOGIN", {}, "auto", ["LOGIN"]),  # without an initial response, which some do not understand
    ("GSSAPI NTLM CRAM-MD5", {}, "auto", ["CRAM-MD5"]),
    ("PLAIN LOGIN", {"PLAIN": "504 5.5.4 unrecognized authentication type"}, "auto", ["PLAIN ...", "LOGIN"]),
    ("PLAIN LOGIN", {"PLAIN": "535 5.7.8 authentication failed"}, "auto", ["PLAIN ...", "LOGIN"]),
    ("PLAIN LOGIN CRAM-MD5", {"PLAIN": "504 5.5.4 no", "LOGIN": "535 5.7.8 no"}, "auto", ["PLAIN ...", "LOGIN", "CRAM-MD5"]),
    ("PLAIN", {"PLAIN ": "501 5.5.2 no initial response"}, "auto", ["PLAIN ...", "PLAIN"]),
    ("PLAIN LOGIN CRAM-MD5", {}, "plain", ["PLAIN ..."]),
    ("PLAIN LOGIN CRAM-MD5", {}, "login", ["LOGIN"]),
    ("PLAIN LOGIN CRAM-MD5", {}, "cram-md5", ["CRAM-MD5"]),
])
def test_with_a_password(rig, start, offered, refused, auth, tried):
    with SmtpStub(login=(USER, PASSWORD), mechanisms=offered) as stub:
        for mechanism, answer in refused.items():
            stub.on("AUTH", answer, match=f"AUTH {mechanism}")
        msg_id = start(stub, smtp_auth=auth)
        record = rig.daemon.wait_settled(msg_id=msg_id, outcome="done")
        assert record["attempt"] == 1 and said(stub) == tried and len(stub.mails) == 1


@pytest.mark.parametrize("offered, auth", [("GSSAPI NTLM", "auto"), ("PLAIN LOGIN", "cram-md5"), ("XOAUTH2 OAUTHBEARER", "auto")])
def test_what_is_not_offered(rig, start, offered, auth):
    with SmtpStub(login=(USER, PASSWORD), mechanisms=offered) as stub:
        start(stub, smtp_auth=auth)
        text = rig.daemon.wait_log("queue paused")["text"]
        assert "offers no login" in text and stub.mails == [] and said(stub) == [], text


@pytest.mark.parametrize("offered, auth, tried", [
    ("PLAIN LOGIN XOAUTH2 OAUTHBEARER", "auto", "OAUTHBEARER ..."), ("PLAIN LOGIN XOAUTH2", "auto", "XOAUTH2 ..."),
    ("XOAUTH2 OAUTHBEARER", "xoauth2", "XOAUTH2 ..."), ("XOAUTH2 OAUTHBEARER", "oauthbearer", "OAUTHBEARER ...")])
@pytest.mark.parametrize("source", ["smtp_token_file", "smtp_token_command"])
def test_a_token_that_expires(rig, start, tmp_path, offered, auth, tried, source):
    """A configuration error in words of its own, which heals by itself when there is a new one; no token is in the log."""
    path = tmp_path / "token"
    path.write_text("ya29.old-token\n")
    with SmtpStub(login=(USER, TOKEN), mechanisms=offered) as stub:
        msg_id = start(stub, smtp_auth=auth, **{source: path if source == "smtp_token_file" else f"cat {path}"})
        text = rig.daemon.wait_log("queue paused")["text"]
        assert "refused the OAuth token" in text and "may have expired" in text and source in text, text
        path.write_text(TOKEN)
        assert rig.daemon.wait_settled(msg_id=msg_id, outcome="done")["attempt"] == 1
        assert said(stub)[-1] == tried and len(stub.mails) == 1 and rig.dead() == []
        assert "ya29" not in rig.daemon.tail(1000)


@pytest.mark.parametrize("options, reason", [
    ({"smtp_token_file": "/nonexistent/token"}, "smtp_token_file: "), ({"smtp_token_command": "exit 3"}, "smtp_token_command: it failed"),
    ({"smtp_token_command": "true"}, "smtp_token_command: it is empty"), ({"smtp_token_command": "echo two words"}, "smtp_token_command: it is not one word")])
def test_no_token(rig, start, options, reason):
    with SmtpStub(login=(USER, TOKEN), mechanisms="XOAUTH2") as stub:
        start(stub, **options)
        assert reason in rig.daemon.wait_log("queue paused")["text"] and said(stub) == []
