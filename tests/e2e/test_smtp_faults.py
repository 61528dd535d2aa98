"""The email plugin against mail servers that refuse, hang, hang up and dribble: the right outcome, no mail lost or doubled."""

import pytest

from lib import certs
from lib.pgcluster import free_port
from lib.smtpstub import CLOSE, HANG, RESET, SmtpStub
from lib.valgrind import SLOW

LIMIT = f"{SLOW}s"  # of each step of SMTP, where it is to be waited for: a slow machine needs more for what goes well
LOGIN = ("postmaster@example.test", "correct horse")


class Mailer:
    """pgmqd with an email_queue whose mails go to a stub."""

    def __init__(self, rig):
        self.rig = rig

    def start(self, stub, env=None, settings=None, limit="60s", **options):
        """Starts pgmqd for `stub`. Retries come at once; what times out does so after `limit`. `options` are the queue's,
        `settings` those of [pgmqd]."""
        queue = {"plugin": "email", "smtp_tls": {"none": "none", "starttls": "starttls", "direct": "tls"}[stub.tls],
                 "backoff_min": "10ms", "backoff_max": "10ms", "config_retry": "100ms",
                 "command_timeout": limit, "data_timeout": limit, "connect_timeout": limit}
        if stub.tls != "none":
            queue["smtp_ca_file"] = f"{stub.cert_dir}/ca.pem"
        queue.update(options)
        user, password = stub.login or (None, None)
        self.rig.start({"email_queue": queue}, {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": user,
                                                "SMTP_PASS": password, **(env or {})}, **(settings or {}))
        return self

    def send(self, to="ivan@example.test", **more):
        """Queues a mail; returns the message's id."""
        return self.rig.enqueue({"to": to, "subject": "Test", "text": "A line.\n", **more})

    def settled(self, msg_id, outcome, start=0):
        """The record of that message's outcome, which must be the first one for it after `start`."""
        record = self.rig.daemon.wait_settled(msg_id=msg_id, start=start)
        assert record["outcome"] == outcome, record
        return record

    def done(self, msg_id):
        """Waits until the message is done, whatever came before."""
        return self.rig.daemon.wait_settled(msg_id=msg_id, outcome="done")


@pytest.fixture
def mailer(rig):
    return Mailer(rig)


def test_outcome_of_every_refusal(mailer):
    """One server, one answer after another; the mails between them go through on the same connection."""
    cases = [
        ("RCPT", "550 5.1.1 <ivan@example.test>: no such user", "fail", "refused the recipient: 550 5.1.1"),
        ("RCPT", "451 4.7.1 try again later", "release", "refused the recipient: 451 4.7.1"),
        ("RCPT", "552 mailbox full", "release", "552 mailbox full"),
        ("RCPT", "550-5.7.1 one\n550-5.7.1 two\n550 5.7.1 three", "fail", "550 5.7.1 one two three"),
        ("MAIL", "552 5.3.4 too large", "fail", "552 5.3.4"),
        ("DATA", "451 4.3.0 not now", "release", "451 4.3.0"),
        ("DATA", "554 5.7.1 no", "fail", "554 5.7.1"),
        ("DOT", "451 4.7.1 greylisted", "release", "451 4.7.1"),
        ("DOT", "554-5.7.1 this\n554 5.7.1 is spam", "fail", "554 5.7.1 this is spam"),
        ("DOT", "554 " + "x" * 4000, "fail", "554 xxx"),
    ]
    with SmtpStub() as stub:
        mailer.start(stub, max_in_flight=1)
        for step, answer, outcome, reason in cases:
            stub.on(step, answer, times=1)
            mark = mailer.rig.daemon.mark()
            # not ivan for the first one: after it, that address gets no mails any more
            msg_id = mailer.send("nobody@example.test" if "5.1.1" in answer else "ivan@example.test")
            record = mailer.settled(msg_id, outcome, mark)
            assert reason in record["reason"], record
            assert "ivan" not in record["reason"], record
            # a refused mail's outcome is known before the server has read all that was sent ahead; the next answer is not for that
            mailer.done(msg_id if outcome == "release" else mailer.send("maria@example.test"))
        assert stub.connections == 1 and len(stub.mails) == len(cases)
        assert len(mailer.rig.dead()) == sum(case[2] == "fail" for case in cases)


def test_refusals_without_pipelining(mailer):
    with SmtpStub(capabilities=[]) as stub:
        mailer.start(stub, max_in_flight=1)
        for step, answer in (("RCPT", "550 5.7.1 no"), ("DATA", "554 5.7.1 no")):
            stub.on(step, answer, times=1)
            mailer.settled(mailer.send(), "fail")
        mailer.done(mailer.send())
        assert stub.verbs() == "EHLO MAIL RCPT RSET MAIL RCPT DATA RSET MAIL RCPT DATA".split()
        assert all(c.ahead == 0 for c in stub.commands)


def test_pipelining_is_used_and_354_after_a_refusal_delivers_nothing(mailer):
    with SmtpStub() as stub:
        mailer.start(stub, max_in_flight=1, ledger="no")  # with it, DATA waits for the ledger's answer
        stub.on("RCPT", "550 5.7.1 no", times=1).on("DATA", "354 all the same", times=1)
        mailer.settled(mailer.send(), "fail")
        mailer.done(mailer.send("maria@example.test"))
        assert [m.recipients for m in stub.mails] == [["maria@example.test"]]
        assert stub.connections == 1
        assert all(c.ahead > 0 for c in stub.commands if c.verb in ("MAIL", "RCPT"))


def test_refused_sender_but_accepted_recipient_delivers_nothing(mailer):
    """Here a final dot would deliver an empty mail, so the connection is dropped."""
    with SmtpStub() as stub:
        stub.on("MAIL", "451 4.3.0 no", times=1).on("RCPT", "250 fine", times=1).on("DATA", "354 go ahead", times=1)
        mailer.start(stub, ledger="no")
        msg_id = mailer.send()
        mailer.settled(msg_id, "release")
        mailer.done(msg_id)
        assert stub.connections == 2 and len(stub.bodies) == 1 and len(stub.mails) == 1


# ---- settings ----

def config_error(mailer, stub, *parts, env=None, **options):
    """One message, which must lead to a configuration error: said in one line, the message kept, no attempt counted."""
    mailer.start(stub, env, **options)
    msg_id = mailer.send()
    record = mailer.rig.daemon.wait_log(lambda r: r.get("level") == "error" and "queue paused" in r.get("text", ""))
    for part in parts:
        assert part in record["text"], record
    assert LOGIN[1] not in mailer.rig.daemon.tail(1000)
    rows = mailer.rig.rows("q_email_queue")
    assert [r["msg_id"] for r in rows] == [msg_id], rows
    assert mailer.rig.dead() == []
    return msg_id


def test_wrong_password_pauses_and_heals(mailer, cert_dir):
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN) as stub:
        stub.on("AUTH", "535 5.7.8 authentication failed", times=3)
        msg_id = config_error(mailer, stub, "refused the login", "535 5.7.8", "smtp_user and smtp_pass", max_attempts=1)
        assert mailer.done(msg_id)["attempt"] == 1
        assert stub.connections == 4 and len(stub.mails) == 1


def test_wrong_password_is_tried_on_one_connection_at_a_time(mailer, cert_dir):
    """Mails that wait must not become as many wrong logins, for which accounts are locked."""
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN) as stub:
        for n in range(8):
            mailer.send(f"n{n}@example.test")
        mailer.start(stub, {"SMTP_PASS": "wrong"}, config_retry="5min")
        mailer.rig.daemon.wait_log("queue paused")
        stub.wait_for(lambda s: s.open_now == 0)
        assert stub.connections == 2, stub.commands  # PLAIN, and LOGIN, which works where PLAIN does not
        assert len([r for r in mailer.rig.daemon.records() if "535" in r.get("text", "") and r["level"] == "error"]) == 1


def test_no_login_offered(mailer, cert_dir):
    """Nothing may be sent without the login that was asked for."""
    with SmtpStub(tls="starttls", cert_dir=cert_dir) as stub:
        config_error(mailer, stub, "offers no login", env={"SMTP_USER": LOGIN[0], "SMTP_PASS": LOGIN[1]})
        assert "MAIL" not in stub.verbs()


def test_certificate_of_an_unknown_authority(mailer, cert_dir):
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN) as stub:
        config_error(mailer, stub, "certificate does not verify", "smtp_ca_file", smtp_ca_file=None)
        assert "AUTH" not in stub.verbs() and "MAIL" not in stub.verbs()


@pytest.mark.parametrize("tls", ["starttls", "direct"])
def test_certificate_for_another_host(mailer, tmp_path, tls):
    certs.make(tmp_path, names=("other.example.test",))
    with SmtpStub(tls=tls, cert_dir=tmp_path, login=LOGIN) as stub:
        config_error(mailer, stub, "certificate does not verify", env={"SMTP_HOST": "localhost"})
        assert "AUTH" not in stub.verbs() and "MAIL" not in stub.verbs()


def test_starttls_stripped(mailer):
    """A server (or somebody on the way to it) that offers no STARTTLS gets neither password nor mail."""
    with SmtpStub(login=LOGIN) as stub:
        config_error(mailer, stub, "gives no TLS", smtp_tls="starttls")
        assert set(stub.verbs()) <= {"EHLO", "QUIT"}


def test_keywords_in_small_letters(mailer, cert_dir):
    """Their case means nothing (RFC 5321 2.4)."""
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN) as stub:
        stub.on("EHLO", "250-mail.example.test\n250 starttls", times=1)
        stub.on("EHLO", "250-mail.example.test\n250-pipelining\n250 auth plain")
        mailer.start(stub)
        mailer.done(mailer.send())
        assert "AUTH" in stub.verbs() and any(c.ahead for c in stub.commands)


def test_silent_before_tls(mailer, cert_dir):
    """A port for TLS from the first byte, taken for one with STARTTLS: the reason names the setting."""
    with SmtpStub(tls="direct", cert_dir=cert_dir) as stub:
        mailer.start(stub, limit=LIMIT, smtp_tls="starttls")
        assert "smtp_tls = tls" in mailer.settled(mailer.send(), "release")["reason"]


def test_capabilities_from_before_tls_do_not_count(mailer, cert_dir):
    """PIPELINING that was offered in the clear only is not used."""
    with SmtpStub(tls="starttls", cert_dir=cert_dir) as stub:
        stub.on("EHLO", "250-mail.example.test\n250-PIPELINING\n250-SIZE 10\n250 STARTTLS", times=1)
        stub.on("EHLO", "250 mail.example.test")
        mailer.start(stub)
        mailer.done(mailer.send())
        assert all(c.ahead == 0 for c in stub.commands)
        assert "SIZE=" not in next(c.line for c in stub.commands if c.verb == "MAIL")


def test_tls_from_the_first_byte(mailer, cert_dir):
    with SmtpStub(tls="direct", cert_dir=cert_dir, login=LOGIN) as stub:
        mailer.start(stub)
        mailer.done(mailer.send())
        assert stub.verbs()[:2] == ["EHLO", "AUTH"]


def test_refused_sender_pauses(mailer):
    with SmtpStub() as stub:
        stub.on("MAIL", "553 5.7.1 sender not owned", times=1)
        mailer.done(config_error(mailer, stub, "refused the sender: 553 5.7.1"))


def test_login_wanted_at_rcpt_pauses(mailer):
    with SmtpStub() as stub:
        stub.on("RCPT", "530 5.7.0 authentication required", times=1)
        mailer.done(config_error(mailer, stub, "530 5.7.0"))


# ---- connections ----

def test_unknown_host(mailer):
    with SmtpStub() as stub:
        mailer.start(stub, {"SMTP_HOST": "no-such-host.invalid"}, smtp_tls="starttls")
        record = mailer.settled(mailer.send(), "release")
        assert "no-such-host.invalid" in record["reason"], record


def test_nobody_listens(mailer):
    with SmtpStub() as stub:
        mailer.start(stub, {"SMTP_PORT": str(free_port())})
        record = mailer.settled(mailer.send(), "release")
        assert "no connection" in record["reason"], record


@pytest.mark.parametrize("step", ["GREETING", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "DOT"])
def test_server_that_falls_silent(mailer, cert_dir, step):
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN) as stub:
        stub.on(step, HANG, times=1)
        mailer.start(stub, limit=LIMIT)
        msg_id = mailer.send()
        record = mailer.settled(msg_id, "release")
        assert ("may have arrived" in record["reason"]) == (step == "DOT"), record
        mailer.done(msg_id)
        assert len(stub.mails) == 1


@pytest.mark.parametrize("action", [CLOSE, RESET], ids=["close", "reset"])
@pytest.mark.parametrize("step", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
def test_server_that_hangs_up(mailer, step, action):
    with SmtpStub() as stub:
        stub.on(step, action, times=1)
        mailer.start(stub)
        # for BODY, more than the kernel takes off our hands: else it could have arrived
        msg_id = mailer.send(text="A line.\n" * (800000 if step == "BODY" else 1))
        record = mailer.settled(msg_id, "release")
        assert "may have arrived" not in record["reason"], record
        mailer.done(msg_id)
        assert len(stub.mails) == 1


@pytest.mark.parametrize("action", [CLOSE, RESET], ids=["close", "reset"])
def test_connection_lost_after_the_final_dot(mailer, action):
    """Nobody knows whether the mail has arrived; it goes out again, the same to the byte."""
    with SmtpStub() as stub:
        stub.on("DOT", action, times=1)
        mailer.start(stub)
        msg_id = mailer.send()
        record = mailer.settled(msg_id, "release")
        assert "may have arrived" in record["reason"], record
        mailer.done(msg_id)
        first, second = (mail.bytes for mail in stub.bodies)
        assert first == second and b"Message-ID: <" in first


@pytest.mark.parametrize("end", [CLOSE, RESET, "421 4.4.2 idle for too long"], ids=["close", "reset", "421"])
def test_stale_connection_costs_no_attempt(mailer, end):
    with SmtpStub() as stub:
        mailer.start(stub, max_in_flight=1)
        mailer.done(mailer.send("first@example.test"))
        stub.on("MAIL", end, times=1)
        msg_id = mailer.send("second@example.test")
        assert mailer.settled(msg_id, "done")["attempt"] == 1
        assert stub.connections == 2
        assert [m.recipients[0] for m in stub.mails] == ["first@example.test", "second@example.test"]


def test_server_that_says_goodbye_while_idle(mailer):
    with SmtpStub() as stub:
        mailer.start(stub)
        mailer.done(mailer.send())
        stub.close_all()
        stub.wait_for(lambda s: s.open_now == 0)
        assert mailer.done(mailer.send())["attempt"] == 1
        assert stub.connections == 2 and len(stub.mails) == 2


def test_421_greeting(mailer):
    with SmtpStub() as stub:
        stub.on("GREETING", "421 4.3.2 too busy", times=1)
        mailer.start(stub)
        msg_id = mailer.send()
        assert "421 4.3.2" in mailer.settled(msg_id, "release")["reason"]
        mailer.done(msg_id)


def test_server_that_takes_two_connections(mailer):
    """More than it takes are refused; the mails go through the two, and none is blamed."""
    class Two(SmtpStub):
        def _action(self, step, number, line):
            if step == "GREETING" and self.open_now > 2:
                return "421 4.7.0 too many connections", 0
            return super()._action(step, number, line)

    with Two() as stub:
        stub.on("DOT", "250 taken", delay=0.01)
        mailer.start(stub)
        for n in range(40):
            mailer.send(f"n{n}@example.test")
        stub.wait_mails(40)
        assert mailer.rig.daemon.stop() == 0
        records = [r for r in mailer.rig.daemon.records() if r.get("text") == "settled"]
        assert [r["outcome"] for r in records] == ["done"] * 40


# ---- odd servers ----

def test_replies_byte_by_byte(mailer, cert_dir):
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN, drip=True) as stub:
        mailer.start(stub)
        mailer.done(mailer.send())
        stub.on("RCPT", "550-5.1.1 no\n550 5.1.1 really", times=1)
        assert "no really" in mailer.settled(mailer.send(), "fail")["reason"]


def test_codes_without_text(mailer):
    with SmtpStub() as stub:
        for step, code in {"MAIL": "250", "RCPT": "250", "DATA": "354", "DOT": "250"}.items():
            stub.on(step, code)
        mailer.start(stub)
        mailer.done(mailer.send())
        assert len(stub.mails) == 1


@pytest.mark.parametrize("answer", ["hello", "250-one\n251 two", "250 " + "x" * 5000, "\n".join(["250-x"] * 120 + ["250 x"])],
                         ids=["no code", "two codes", "long line", "many lines"])
def test_not_smtp(mailer, answer):
    with SmtpStub() as stub:
        stub.on("MAIL", answer, times=1)
        mailer.start(stub)
        msg_id = mailer.send()
        assert "not SMTP" in mailer.settled(msg_id, "release")["reason"]
        mailer.done(msg_id)
        assert len(stub.mails) == 1


def test_limit_of_size_is_known_before(mailer):
    with SmtpStub(capabilities=["SIZE 2000"]) as stub:
        mailer.start(stub)
        assert "the mail server takes up to 2000" in mailer.settled(mailer.send(text="x" * 3000), "fail")["reason"]
        mailer.done(mailer.send())
        assert stub.verbs().count("MAIL") == 1


def test_server_that_refuses_in_the_middle_of_a_mail(mailer):
    with SmtpStub() as stub:
        stub.on("BODY", "552 5.3.4 too large", times=1)
        mailer.start(stub)
        assert "552 5.3.4" in mailer.settled(mailer.send(text="A line.\n" * 500000), "fail")["reason"]


# ---- many ----

def test_two_hundred_mails_over_few_connections(mailer, cert_dir):
    with SmtpStub(tls="starttls", cert_dir=cert_dir, login=LOGIN) as stub:
        mailer.start(stub, connections=4, mails_per_connection=20)
        mailer.rig.db.execute("select pgmq.send('email_queue', jsonb_build_object('to', 'n' || n || '@example.test',"
                              " 'subject', 'Test', 'text', '.' || n)) from generate_series(1, 200) n")
        stub.wait_mails(200, 60)
        assert mailer.rig.daemon.stop() == 0
        assert len({m.recipients[0] for m in stub.mails}) == len(stub.mails) == 200
        assert all(m.bytes.endswith(b"\r\n\r\n." + m.recipients[0][1:-13].encode() + b"\r\n") for m in stub.mails)
        assert 10 <= stub.connections <= 14 and stub.open_max <= 4
        per_connection = [sum(m.connection == n for m in stub.mails) for n in range(1, stub.connections + 1)]
        assert max(per_connection) == 20


def test_idle_connections_are_closed_with_quit(mailer):
    with SmtpStub() as stub:
        mailer.start(stub, idle_timeout="200ms")
        mailer.done(mailer.send())
        stub.wait_for(lambda s: s.open_now == 0)
        assert stub.verbs()[-1] == "QUIT"


def test_mute_quit_holds_nothing_up(mailer):
    with SmtpStub() as stub:
        stub.on("QUIT", HANG)
        mailer.start(stub, limit=LIMIT, mails_per_connection=1, connections=2)
        for n in range(4):
            mailer.done(mailer.send(f"n{n}@example.test"))
        assert len(stub.mails) == 4


def test_stop_while_the_server_is_silent(mailer):
    """What is in conversation when the drain's time is over goes back at once, without an attempt."""
    with SmtpStub() as stub:
        stub.on("DATA", HANG)
        mailer.start(stub, settings={"drain_timeout": "200ms"})
        msg_id = mailer.send()
        stub.wait_for(lambda s: "DATA" in s.verbs())
        assert mailer.rig.daemon.stop() == 0
        rows = mailer.rig.rows("q_email_queue")
        assert [r["msg_id"] for r in rows] == [msg_id]
        assert mailer.rig.db.execute("select vt <= clock_timestamp() from pgmq.q_email_queue").fetchone()[0]
