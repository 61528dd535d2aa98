"""How fast mails go out: caps and rates of a process and of all processes together, and servers that say that it is too fast."""

import pytest

from lib import app
from lib.smtpstub import SmtpStub

IVAN = "ivan@example.test"


@pytest.fixture
def mailer(rig):
    """Functions round a stub: start(stub), send(), outcome()."""
    class Mailer:
        def start(self, stub, settings=None, **options):
            rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "backoff_min": "10ms", "backoff_max": "10ms", **options}},
                      {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": None, "SMTP_PASS": None}, **(settings or {}))
            return rig.daemon

        def send(self, to=IVAN, **more):
            return rig.enqueue({"to": to, "subject": "Test", "text": "A line.\n", **more})

        def outcomes(self, n, **more):
            """Sends n mails, one after the other; returns how each was settled first."""
            found = []
            for _ in range(n):
                mark = rig.daemon.mark()
                found.append(rig.daemon.wait_settled(msg_id=self.send(**more), start=mark))
            return [r["outcome"] for r in found], found[-1].get("reason", "")

    made = Mailer()
    made.rig = rig
    return made


@pytest.mark.parametrize("scope", ["process", "cluster"])
def test_cap_of_the_day(mailer, scope):
    with SmtpStub() as stub:
        mailer.start(stub, limits="smtp 3/d", limit_scope=scope)
        outcomes, reason = mailer.outcomes(4)
        assert outcomes == ["done"] * 3 + ["release"] and reason == "smtp: the limit of the day is reached"
        assert len(stub.mails) == 3
        (row,) = mailer.rig.rows("q_email_queue")
        assert (row["vt"] - row["enqueued_at"]).total_seconds() > 0
        if scope == "cluster":
            assert app.rows(mailer.rig.db, "select name, used from pgmqd.mail_limits") == [{"name": "smtp", "used": 3}]


@pytest.mark.parametrize("scope", ["process", "cluster"])
def test_rate_of_a_domain(mailer, scope):
    """What a domain's limit holds back goes out later; other domains do not wait."""
    with SmtpStub() as stub:
        daemon = mailer.start(stub, limits="slow.example.test 1/min, * 1000/s", limit_scope=scope)
        outcomes, reason = mailer.outcomes(3, to="olga@Slow.example.test")
        assert outcomes == ["done", "done", "release"] and "limit of the rate" in reason
        daemon.wait_settled(msg_id=mailer.send(), outcome="done")
        assert len(stub.mails) == 3


@pytest.mark.parametrize("scope", ["process", "cluster"])
def test_cap_of_a_recipient(mailer, scope):
    """Nobody is flooded, however the address is written; others get theirs. The database knows nobody's address, and forgets a person."""
    odd = "o'{hara}@example.test"  # what a list of the database has to be told of
    with SmtpStub() as stub:
        daemon = mailer.start(stub, limits="recipient 2/d", limit_scope=scope)
        outcomes, _ = mailer.outcomes(2)
        outcomes += mailer.outcomes(1, to=IVAN.upper())[0]
        assert outcomes == ["done", "done", "release"]
        for to in ("olga@example.test", odd):
            daemon.wait_settled(msg_id=mailer.send(to), outcome="done")
        assert len(stub.mails) == 4
        (row,) = mailer.rig.rows("q_email_queue")
        assert row["read_ct"] == 1 and (row["vt"] - row["enqueued_at"]).total_seconds() > 0
        if scope == "cluster":
            db = mailer.rig.db
            assert [r["used"] for r in app.rows(db, "select used from pgmqd.mail_limits where length(name) = 64 order by 1")] == [1, 1, 2]
            assert not app.rows(db, "select name from pgmqd.mail_limits where name like '%@%'")
            db.execute("select pgmqd.erase_person(%s)", [IVAN])
            assert [r["used"] for r in app.rows(db, "select used from pgmqd.mail_limits where length(name) = 64 order by 1")] == [1, 1]


def test_short_waits_are_waited_for_here(mailer):
    """No round through the queue for less than a second: all go out at the first attempt."""
    with SmtpStub() as stub:
        daemon = mailer.start(stub, limits="smtp 20/s")
        ids = [mailer.send() for _ in range(26)]
        for msg_id in ids:
            daemon.wait_settled(msg_id=msg_id, outcome="done")
        assert not [r for r in daemon.records() if r.get("outcome") == "release"]


@pytest.mark.parametrize("scope", ["process", "cluster"])
def test_too_fast(mailer, scope):
    with SmtpStub() as stub:
        daemon = mailer.start(stub, limits="smtp 100/s", limit_scope=scope)
        stub.on("RCPT", "421 4.7.0 too many", times=1)
        daemon.wait_settled(msg_id=mailer.send(), outcome="done")
        if scope == "process":
            daemon.wait_log("provider smtp: too fast, going on with 50 mails a second at most")
        else:
            assert app.rows(mailer.rig.db, "select factor < 0.6 as less from pgmqd.mail_limits") == [{"less": True}]
