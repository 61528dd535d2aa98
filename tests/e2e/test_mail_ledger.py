"""The mail ledger: written before a mail's first byte, closed with the archive; what was sent is not sent again, what may have been is, or is held."""

import pytest

from lib import app
from lib.daemon import run
from lib.smtpstub import CLOSE, HANG, SmtpStub
from lib.stand import wait_until


@pytest.fixture
def mailer(rig):
    """Functions round a stub: start(stub), send(), log()."""
    class Mailer:
        def start(self, stub, settings=None, **options):
            rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "backoff_min": "10ms", "backoff_max": "10ms", "command_timeout": "5s",
                                       "data_timeout": "5s", **options}},
                      {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": None, "SMTP_PASS": None}, **(settings or {}))
            return rig.daemon

        def send(self, to="ivan@example.test", **more):
            return rig.enqueue({"to": to, "subject": "Test", "text": "A line.\n", **more})

        def log(self):
            return app.rows(rig.db, "select * from pgmqd.mail_log order by first_at")

    made = Mailer()
    made.rig = rig
    return made


def test_row_of_a_mail(mailer):
    with SmtpStub() as stub:
        daemon = mailer.start(stub)
        msg_id = mailer.send()
        daemon.wait_settled(msg_id=msg_id, outcome="done")
        (row,) = mailer.log()
        assert (row["queue"], row["msg_id"], row["state"], row["attempt"]) == ("email_queue", msg_id, "sent", 1)
        assert f"Message-ID: <{row['message_id']}>".encode() in stub.mails[0].bytes and row["reply"].startswith("250")
        assert "ivan" not in str(row)
        assert mailer.rig.db.execute("select pgmqd.mail_recipient(' Ivan@Example.test')").fetchone()[0] == row["recipient"]


def test_no_byte_goes_out_before_the_row_is_committed(mailer):
    """The conversation comes as far as the recipient while the row waits for a lock."""
    with SmtpStub() as stub, mailer.rig.connect(autocommit=False) as blocker:
        daemon = mailer.start(stub)
        blocker.execute("lock table pgmqd.mail_log in exclusive mode")
        msg_id = mailer.send()
        stub.wait_for(lambda s: "RCPT" in s.verbs())
        while not blocker.execute("select 1 from pg_locks where not granted and relation = 'pgmqd.mail_log'::regclass").fetchone():
            assert not stub.bodies
        assert not stub.bodies and not mailer.rig.rows("a_email_queue")
        blocker.rollback()
        daemon.wait_settled(msg_id=msg_id, outcome="done")
        assert len(stub.mails) == 1


@pytest.mark.parametrize("stage", ["after", "before"])
def test_killed_round_the_final_dot(mailer, stage):
    """The worker dies when the server has the mail (its answer unread), or before it has any of it."""
    with SmtpStub() as stub:
        stub.on("DOT" if stage == "after" else "DATA", HANG, times=1)
        daemon = mailer.start(stub, visibility_timeout="1s", settings={"fallback_poll": "1s"})
        msg_id = mailer.send()
        stub.wait_for(lambda s: s.bodies if stage == "after" else "DATA" in s.verbs())
        if stage == "after":
            assert [r["state"] for r in mailer.log()] == ["sending"]
        daemon.kill_child("worker email_queue")
        daemon.wait_settled(msg_id=msg_id, outcome="done")
        (row,) = mailer.log()
        assert row["state"] == "sent" and row["attempt"] == 2
        if stage == "after":
            daemon.wait_log("may have been sent before: sending it again")
        assert all(f"<{row['message_id']}>".encode() in mail.bytes for mail in stub.bodies)


@pytest.mark.parametrize("why", ["full", "locked"])
def test_known_to_be_sent_while_the_archive_cannot_be_written(mailer, why):
    """The server has said 250, and the worker is killed before the archive works again."""
    db = mailer.rig.db
    with SmtpStub() as stub, mailer.rig.connect(autocommit=False) as blocker:
        daemon = mailer.start(stub, visibility_timeout="2s", settings={"fallback_poll": "1s"})
        if why == "full":
            db.execute("create function public.disk_is_full() returns trigger language plpgsql as $$begin raise 'no space left' using errcode = 'disk_full';"
                       " end$$; create trigger disk_is_full before insert on pgmq.a_email_queue for each row execute function public.disk_is_full()")
        else:
            blocker.execute("lock table pgmq.a_email_queue in share mode")
        msg_id = mailer.send()
        wait_until("the ledger knows", lambda: [r["state"] for r in mailer.log()] == ["sent"])
        assert not mailer.rig.rows("a_email_queue")
        mark = daemon.mark()
        daemon.kill_child("worker email_queue")
        blocker.rollback()
        db.execute("drop trigger if exists disk_is_full on pgmq.a_email_queue")
        db.execute("drop function if exists public.disk_is_full()")
        daemon.wait_settled(msg_id=msg_id, outcome="done", start=mark)
        assert daemon.wait_log("sent before", start=mark)
        assert len(stub.mails) == 1


def test_known_to_be_sent_is_not_sent_again(mailer):
    """The mail went out and the row says so, but the message is in the queue again."""
    with SmtpStub() as stub:
        daemon = mailer.start(stub)
        msg_id = mailer.send()
        daemon.wait_settled(msg_id=msg_id, outcome="done")
        mark = daemon.mark()
        mailer.rig.db.execute("with a as (delete from pgmq.a_email_queue returning *) insert into pgmq.q_email_queue (msg_id, read_ct, enqueued_at, vt,"
                              " message) overriding system value select msg_id, read_ct, enqueued_at, now(), message from a")
        daemon.wait_settled(msg_id=msg_id, outcome="done", start=mark)
        assert daemon.wait_log("sent before", start=mark)
        assert len(stub.mails) == 1


def test_same_key_is_sent_once(mailer):
    with SmtpStub() as stub:
        daemon = mailer.start(stub, max_in_flight=1)
        for _ in range(2):
            daemon.wait_settled(msg_id=mailer.send(key="order 7"), outcome="done")
        daemon.wait_settled(msg_id=mailer.send("maria@example.test", key="order 7"), outcome="done")
        assert [m.recipients for m in stub.mails] == [["ivan@example.test"], ["maria@example.test"]]


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_connection_lost_after_the_final_dot(mailer, policy):
    with SmtpStub() as stub:
        stub.on("DOT", CLOSE, times=1)
        daemon = mailer.start(stub, on_unknown=policy)
        msg_id = mailer.send()
        if policy == "resend":
            daemon.wait_settled(msg_id=msg_id, outcome="done")
        else:
            daemon.wait_settled(msg_id=msg_id, outcome="fail")
            (letter,) = mailer.rig.dead()
            assert letter["headers"]["pgmqd_dead"]["class"] == "unknown"
            assert [r["state"] for r in mailer.log()] == ["unknown"]
            # who puts it back wants it sent
            mark = daemon.mark()
            assert run("dlq", "redrive", "email_queue", "--class", "unknown", "-d", mailer.rig.conninfo).returncode == 0
            daemon.wait_settled(outcome="done", start=mark)
        first, second = (next(line for line in m.bytes.splitlines() if line.startswith(b"Message-ID:")) for m in stub.bodies)
        assert first == second
        assert [r["state"] for r in mailer.log()] == ["sent"]


def test_crash_after_the_final_dot_is_held(mailer):
    with SmtpStub() as stub:
        stub.on("DOT", HANG, times=1)
        daemon = mailer.start(stub, visibility_timeout="1s", on_unknown="hold", settings={"fallback_poll": "1s"})
        msg_id = mailer.send()
        stub.wait_for(lambda s: s.bodies)
        daemon.kill_child("worker email_queue")
        daemon.wait_settled(msg_id=msg_id, outcome="fail")
        assert [r["headers"]["pgmqd_dead"]["class"] for r in mailer.rig.dead()] == ["unknown"]
        assert len(stub.bodies) == 1 and [r["state"] for r in mailer.log()] == ["unknown"]


@pytest.mark.parametrize("step, answer", [("RCPT", "451 4.7.1 later"), ("DATA", "451 4.3.0 later"), ("DOT", "451 4.7.1 later"), ("MAIL", CLOSE)])
def test_refused_for_now_is_known_not_to_be_sent(mailer, step, answer):
    """Under hold too it is simply tried again."""
    with SmtpStub() as stub:
        stub.on(step, answer, times=1)
        daemon = mailer.start(stub, on_unknown="hold")
        msg_id = mailer.send()
        daemon.wait_settled(msg_id=msg_id, outcome="release")
        daemon.wait_settled(msg_id=msg_id, outcome="done")
        (row,) = mailer.log()
        assert row["state"] == "sent" and row["attempt"] == 1 and len(stub.mails) == 1


def test_refused_for_good(mailer):
    with SmtpStub() as stub:
        stub.on("RCPT", "550 5.1.1 no", times=1)
        daemon = mailer.start(stub)
        daemon.wait_settled(msg_id=mailer.send(), outcome="fail")
        (row,) = mailer.log()
        assert row["state"] == "failed" and "550 5.1.1" in row["reply"]


def test_stopped_in_conversation_is_known_not_to_be_sent(mailer):
    with SmtpStub() as stub:
        stub.on("DATA", HANG)
        daemon = mailer.start(stub, settings={"drain_timeout": "100ms"})
        mailer.send()
        stub.wait_for(lambda s: "DATA" in s.verbs())
        assert daemon.stop() == 0
        assert [r["state"] for r in mailer.log()] == ["failed"]


@pytest.mark.parametrize("how", ["missing", "renamed", "forbidden", "off"])
def test_works_without(mailer, how):
    rig = mailer.rig
    if how == "missing":
        rig.db.execute("drop function pgmqd.mail_begin_many")
    elif how == "forbidden":
        rig.db.execute("create function refuse() returns trigger language plpgsql as"
                       " $$ begin raise exception 'permission denied for table mail_log' using errcode = '42501'; end $$")
        rig.db.execute("create trigger refuse before insert on pgmqd.mail_log execute function refuse()")
    elif how == "renamed":
        rig.db.execute("alter table pgmqd.mail_log rename to mail_log_away")
    with SmtpStub() as stub:
        daemon = mailer.start(stub, **({"ledger": "no"} if how == "off" else {}))
        for n in range(3):
            daemon.wait_settled(msg_id=mailer.send(f"n{n}@example.test"), outcome="done")
        assert len(stub.mails) == 3
        warnings = [r for r in daemon.records() if "the mail ledger cannot be used" in r.get("text", "")]
        assert len(warnings) == (0 if how == "off" else 1)


def test_database_restart_in_conversation(own_rig):
    """The row's answer is lost; it is asked for again, and the mail goes out once."""
    rig = own_rig
    with SmtpStub() as stub, rig.connect(autocommit=False) as blocker:
        rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "on_unknown": "hold"}},
                  {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": None, "SMTP_PASS": None})
        blocker.execute("lock table pgmqd.mail_log in exclusive mode")
        msg_id = rig.enqueue({"to": "ivan@example.test", "subject": "Test", "text": "A line.\n"})
        stub.wait_for(lambda s: "RCPT" in s.verbs())
        (pid,) = [pid for pid, name in rig.backends().items() if "worker" in name]
        rig.db.execute("select pg_terminate_backend(%s)", [pid])
        rig.daemon.wait_log("database connection lost")
        blocker.rollback()
        rig.daemon.wait_settled(msg_id=msg_id, outcome="done")
        assert len(stub.mails) == 1
        assert app.rows(rig.db, "select state, attempt from pgmqd.mail_log") == [{"state": "sent", "attempt": 1}]
