"""A bad day of a sender: outages, throttling and odd servers cost no mail, no attempt that counts, and no second copy."""

import collections
import email
import itertools
import os
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest

from lib import app
from lib.smtpstub import CLOSE, SmtpStub
from lib.stand import put_forward, wait_until

QUEUE = {"plugin": "email", "smtp_tls": "none"}
LONG = "PGMQD_LONG" in os.environ  # the full numbers, by tests/faults/run --mail; else as many as are quick


class Mailer:
    """pgmqd whose mails go to a stub, with the default settings but for `options`."""

    def __init__(self, rig):
        self.rig, self.db = rig, rig.db

    def start(self, stub, **options):
        return self.rig.start({"email_queue": {**QUEUE, **options}},
                              {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": None, "SMTP_PASS": None}, fallback_poll="300ms")

    def fill(self, n):
        """Queues that many mails, due one after the other."""
        self.db.execute("insert into pgmq.q_email_queue (enqueued_at, vt, message) select now() - interval '60 s' + g * interval '100 ms', now() - interval '60 s' + g * interval '100 ms', jsonb_build_object("
                        "'to', 'p' || g || '@example.test', 'subject', 's', 'text', 'x') from generate_series(1, %s) g" % n)

    def left(self):
        return self.db.execute("select count(*) from pgmq.q_email_queue").fetchone()[0]

    def settled(self, n):
        """The records of outcomes, once there are so many."""
        records = []
        wait_until(f"settled {n} times", lambda: records.append(
            [r for r in self.rig.daemon.records() if r.get("text") == "settled"]) or len(records[-1]) >= n)
        return records[-1]

    def skip(self, seconds, which="true"):
        """Puts the queue's clock forward: what falls due within that time is due now."""
        self.db.execute("update pgmq.q_email_queue set vt = vt - %s * interval '1 s', enqueued_at = enqueued_at - %s * interval '1 s' where " + which, [seconds, seconds])
        self.db.execute("select pg_notify('pgmqd', 'email_queue')")


@pytest.fixture
def mailer(rig):
    return Mailer(rig)


# ---- away is not wrong ----

def test_an_outage_of_half_an_hour(mailer):
    """200 mails: none is lost or blamed, all go out in order when the server is back, no faster than allowed."""
    stub = SmtpStub().start()
    stub.stop()
    daemon = mailer.start(stub, circuit_open="300ms", limits="smtp 100/s", connections=1)
    mailer.fill(200)
    record = daemon.wait_log("queue waits, no attempt is counted: smtp away since ")
    assert "no connection" in record["text"] and "trying again in" in record["text"]
    for _ in range(10):  # three minutes each
        mark = daemon.mark()
        put_forward(mailer.db, "email_queue", 180)
        daemon.wait_log("queue waits", start=mark)
    assert mailer.rig.dead() == [] and mailer.left() == 200
    times = []
    with SmtpStub(port=stub.port) as back:
        wait_until("all sent", lambda: times.append((time.monotonic(), len(back.mails))) or len(back.mails) == 200, 60)
        order = [int(m.recipients[0][1:].split("@")[0]) for m in back.mails]
        # ten are under way together, and wait for the limit together
        assert sorted(order) == list(range(1, 201)) and max(abs(g - n) for n, g in enumerate(order, 1)) <= 60, order
    assert all(n - m <= 100 * (t - s) + 102 for s, m in times for t, n in times if t > s)
    assert mailer.rig.dead() == []
    assert all(r["attempt"] == 1 for r in daemon.records() if r.get("text") == "settled" and r["outcome"] == "done")


@pytest.mark.parametrize("step, answer", [
    ("RCPT", "450 4.2.0 <p@example.test>: Recipient address rejected: Greylisted, see http://postgrey/ (300 s)"),
    ("DOT", "451 4.3.0 queue file write error"), ("DATA", CLOSE), ("MAIL", "421 4.3.2 going down"),
], ids=["greylisted", "trouble", "hangs up", "going down"])
def test_refused_for_now_costs_no_attempt(mailer, step, answer):
    """Eight times; with two attempts it would have been dead at the second."""
    with SmtpStub() as stub:
        stub.on(step, answer, times=8)
        # 421 halves the rate, which goes by the process's own clock: from 1000/s on that is a second or two, which are not skipped
        daemon = mailer.start(stub, circuit_open="50ms", max_attempts=2, limits="smtp 1000/s")
        mailer.rig.enqueue({"to": "p@example.test", "subject": "s", "text": "x"})
        for n in range(1, 400):
            record = mailer.settled(n)[n - 1]
            if record["outcome"] == "done":
                break
            # unless it has been claimed anew: it is in hand then, and its vt the lease
            mailer.skip(3700, "read_ct = %d and vt > now() + interval '10 s'" % n)
        assert (record["outcome"], record["attempt"]) == ("done", 1) and mailer.rig.dead() == [] and len(stub.mails) == 1


def test_the_schedule_of_one_mail(mailer):
    """A greylisted mail waits half a minute the first time; the others go on."""
    with SmtpStub() as stub:
        stub.on("RCPT", "450 4.2.0 Greylisted", times=1)
        daemon = mailer.start(stub, max_in_flight=1)
        msg_id = mailer.rig.enqueue({"to": "grey@example.test", "subject": "s", "text": "x"})
        daemon.wait_settled(msg_id=msg_id, outcome="release")
        wait = mailer.db.execute("select extract(epoch from vt - clock_timestamp()) from pgmq.q_email_queue").fetchone()[0]
        assert 15 < wait <= 30
        daemon.wait_settled(msg_id=mailer.rig.enqueue({"to": "other@example.test", "subject": "s", "text": "x"}), outcome="done")


def test_its_time_is_up(mailer):
    """After a day, by default: a dead letter that says what the server said last."""
    with SmtpStub() as stub:
        stub.on("RCPT", "450 4.2.0 Greylisted")
        daemon = mailer.start(stub)
        msg_id = mailer.rig.enqueue({"to": "p@example.test", "subject": "s", "text": "x"})
        daemon.wait_settled(msg_id=msg_id, outcome="release")
        mailer.skip(24 * 3600 - 20)
        record = daemon.wait_settled(msg_id=msg_id, outcome="fail")
        assert "Greylisted" in record["reason"] and record["reason"].endswith("its time is up")
        assert mailer.rig.dead()[0]["headers"]["pgmqd_dead"]["class"] == "expired"


def test_the_last_hour(mailer):
    """Half of what is left at most, however long the queue's own delay would be: a try before the end is certain."""
    with SmtpStub() as stub:
        stub.on("RCPT", "450 4.2.0 Greylisted")
        daemon = mailer.start(stub, backoff_min="2h", backoff_max="2h")
        msg_id = mailer.rig.enqueue({"to": "p@example.test", "subject": "s", "text": "x"})
        daemon.wait_settled(msg_id=msg_id, outcome="release")
        mark = daemon.mark()
        mailer.skip(24 * 3600 - 600)
        daemon.wait_settled(msg_id=msg_id, outcome="release", start=mark)
        wait = mailer.db.execute("select extract(epoch from vt - clock_timestamp()) from pgmq.q_email_queue").fetchone()[0]
        assert 200 < wait <= 300


def test_the_age_of_a_delayed_mail_outlasts_a_retry(mailer):
    """Sent three days ago to be due now, and refused for now: neither its date nor its time to live counts from three days ago."""
    with SmtpStub() as stub:
        stub.on("RCPT", "450 4.2.0 Greylisted", times=40)
        daemon = mailer.start(stub, backoff_min="1s", backoff_max="1s", circuit_open="50ms")
        mailer.db.execute("insert into pgmq.q_email_queue (enqueued_at, vt, message) select now() - interval '3 days', now() - interval '60 s', jsonb_build_object("
                          "'to', 'p' || g || '@example.test', 'subject', 's', 'text', 'x') from generate_series(1, 40) g")
        mailer.skip(0)
        daemon.wait_settled(outcome="release")
        stub.wait_mails(40)
        assert mailer.rig.dead() == []
        dates = [parsedate_to_datetime(email.message_from_bytes(m.bytes)["Date"]) for m in stub.mails]
        assert min(dates) > datetime.now(timezone.utc) - timedelta(hours=1), min(dates)


SOON = {"backoff_min": "50ms", "backoff_max": "50ms", "circuit_open": "100ms"}


# ---- a server that refuses everybody is not the recipients' fault ----

@pytest.mark.parametrize("step, answer", [
    ("RCPT", "554 5.7.1 <p@example.test>: Relay access denied"), ("RCPT", "550 relaying denied"),
    ("RCPT", "553 5.7.1 <shop@example.test>: Sender address rejected: not owned by user shop"),
    ("RCPT", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example.test"),
    ("DATA", "550 5.7.1 Authentication required"), ("DOT", "554 Message rejected: Email address is not verified."),
])
def test_everybody_is_refused(mailer, step, answer):
    """The queue waits, and no mail becomes a dead letter; all of them go out when the server is in order again."""
    with SmtpStub() as stub:
        stub.on(step, answer)
        daemon = mailer.start(stub, **SOON, max_attempts=2)
        mailer.fill(20)
        assert "different recipients in a row were refused alike" in daemon.wait_log("queue waits")["text"]
        for _ in range(10):
            daemon.wait_log("queue waits", start=daemon.mark())
        assert mailer.rig.dead() == [] and mailer.left() == 20 and stub.mails == []
        stub.forget()
        wait_until("settled", lambda: mailer.left() == 0, 60)
        assert mailer.rig.dead() == [] and len(stub.mails) == 20


def test_words_that_tell_nothing_cost_one_mail(mailer):
    """A bare 5.7.1 may be the recipient's own: the first one is believed, the next ones wait."""
    with SmtpStub() as stub:
        stub.on("RCPT", "550 5.7.1 no")
        daemon = mailer.start(stub, **SOON, max_in_flight=1)
        mailer.fill(20)
        daemon.wait_log("circuit open: 3 different recipients in a row were refused alike")
        wait_until("the first is dead", lambda: len(mailer.rig.dead()) == 1)
        assert mailer.left() == 19


@pytest.mark.parametrize("n", [1, 4])
def test_some_are_refused_as_everybody_could_be(mailer, n):
    """The server relays for some only: those go out, and the others are dead letters once that is known."""
    with SmtpStub() as stub:
        stub.on("RCPT", "554 5.7.1 Relay access denied", match="@example.com")
        daemon = mailer.start(stub, **SOON)
        for k in range(n):
            mailer.rig.enqueue({"to": f"p{k}@example.com", "subject": "s", "text": "x"})
        daemon.wait_log("circuit open") if n > 2 else daemon.wait_settled(outcome="release")
        daemon.wait_settled(msg_id=mailer.rig.enqueue({"to": "other@example.test", "subject": "s", "text": "x"}), outcome="done")
        wait_until("the others are dead", lambda: len(mailer.rig.dead()) == n)
        assert len(stub.mails) == 1 and mailer.left() == 0


def test_a_sender_that_the_message_chose_does_not_stop_the_others(mailer):
    with SmtpStub() as stub:
        stub.on("MAIL", "553 5.7.1 sender not owned", match="own@")
        daemon = mailer.start(stub, **SOON, allow_from="own@example.test")
        msg_id = mailer.rig.enqueue({"to": "p@example.test", "subject": "s", "text": "x", "from": "own@example.test"})
        daemon.wait_settled(msg_id=msg_id, outcome="release")
        daemon.wait_settled(msg_id=mailer.rig.enqueue({"to": "other@example.test", "subject": "s", "text": "x"}), outcome="done")
        daemon.wait_settled(msg_id=msg_id, outcome="fail")
        assert len(stub.mails) == 1


# ---- too fast is not wrong ----

class Throttled(SmtpStub):
    """Takes `most` mails within a second, and says `word` to the others."""

    def __init__(self, most, word):
        super().__init__()
        self.most, self.word, self.lock = most, word, threading.Lock()
        self.taken, self.answers = collections.deque(), collections.Counter()

    def _action(self, step, number, line):
        if step != "DOT":
            return super()._action(step, number, line)
        now = time.monotonic()
        with self.lock:
            while self.taken and now - self.taken[0] > 1:
                self.taken.popleft()
            good = len(self.taken) < self.most
            if good:
                self.taken.append(now)
            self.answers[good] += 1
        return ("250 2.0.0 Ok: queued" if good else self.word), 0


def test_a_rate_is_found(mailer):
    """Amazon's limit, with the default settings: no dead letter, and one mail in twenty refused at most."""
    n = 1500 if LONG else 300
    with Throttled(14, "454 Throttling failure: Maximum sending rate exceeded.") as stub:
        began = time.monotonic()
        mailer.start(stub)
        mailer.fill(n)
        wait_until("all sent", lambda: len(stub.mails) == n, 90 * n / 300)
        print(f"{n} mails in {time.monotonic() - began:.0f} s, {stub.answers[False]} refused")
        assert mailer.rig.dead() == []
        assert stub.answers[False] <= (0.05 if LONG else 0.1) * n, stub.answers  # the first moment's are among them


@pytest.mark.parametrize("step, word", [("MAIL", "421 4.7.0 Try again later"), ("MAIL", "450 4.7.1 too many messages"), ("RCPT", "452 4.4.5 insufficient"),
                                        ("DATA", "451 4.7.500 Server busy"), ("DOT", "451 4.3.2 slow down"), ("RCPT", "450 rate limited")])
def test_every_shape_of_throttling_lowers_the_rate(mailer, step, word):
    with SmtpStub() as stub:
        stub.on(step, word, times=1)
        daemon = mailer.start(stub, max_attempts=1, max_in_flight=1, ledger="no")
        msg_id = mailer.rig.enqueue({"to": "p@example.test", "subject": "s", "text": "x"})
        assert "too fast" in daemon.wait_log("too fast")["text"]
        assert daemon.wait_settled(msg_id=msg_id, outcome="done")["attempt"] == 1


def test_a_quota_that_is_used_up_waits(mailer):
    with SmtpStub() as stub:
        stub.on("DOT", "454 Throttling failure: Daily message quota exceeded.", times=1)
        daemon = mailer.start(stub, max_attempts=1)
        mailer.rig.enqueue({"to": "p@example.test", "subject": "s", "text": "x"})
        assert "trying again in 3600 s" in daemon.wait_log("queue waits")["text"]
        assert mailer.rig.dead() == [] and mailer.left() == 1
        # an operator who has bought more need not wait: "or at once on SIGHUP"
        daemon.reload()
        daemon.wait_settled(outcome="done")
        assert len(stub.mails) == 1


# ---- a spent connection is not used again ----

@pytest.mark.parametrize("at, word, n", [
    ("MAIL", "452 4.3.1 Too many messages in this session, reconnect", 500), ("MAIL", "421 4.7.0 enough", 100), ("MAIL", "451 4.5.0 no more", 100),
    ("MAIL", "550 5.7.0 Maximum number of messages per session exceeded", 60), ("RCPT", "452 4.5.3 Too many recipients in this session", 60),
    ("RCPT", "550 5.7.1 too many recipients on this connection", 60), ("DATA", "451 too many messages on this connection", 60),
    ("DOT", "452 session limit exceeded", 60), ("RCPT", "421 4.7.0 enough", 60), ("DOT", "421 4.7.0 enough", 60)])
def test_ten_mails_a_connection(mailer, at, word, n):
    class Ten(SmtpStub):
        def _action(self, step, number, line):
            if step == "MAIL":
                with self.lock:
                    self.carried[number] += 1
            if step == at and self.carried[number] > 10:
                return word, 0
            return super()._action(step, number, line)

    stub = Ten()
    stub.lock, stub.carried = threading.Lock(), collections.Counter()
    with stub:
        mailer.start(stub)
        mailer.fill(n)
        wait_until("all sent", lambda: len(stub.mails) == n, 60)
        assert mailer.rig.dead() == []
        assert all(r["outcome"] == "done" for r in mailer.rig.daemon.records() if r.get("text") == "settled")


def test_a_suppressed_recipient_costs_no_connection(mailer):
    for n in range(10):
        mailer.db.execute("select pgmqd.suppress(%s)", [f"gone{n}@example.test"])
    with SmtpStub() as stub:
        daemon = mailer.start(stub, connections=1, max_in_flight=1)
        for n in range(10):
            for who in ("gone", "here"):
                daemon.wait_settled(msg_id=mailer.rig.enqueue({"to": f"{who}{n}@example.test", "subject": "s", "text": "x"}), outcome="done")
        assert stub.connections == 1 and len(stub.mails) == 10


# ---- never twice behind our back ----

class Cutter:
    """An HTTP service that takes a second request on a connection, and cuts it instead of answering."""

    def __init__(self):
        self.listener, self.requests, self.threads = socket.create_server(("127.0.0.1", 0)), [], []
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        with s, s.makefile("rb") as f:
            for k in range(2):
                head = list(itertools.takewhile(lambda line: line not in (b"\r\n", b""), iter(f.readline, None)))
                if not head:
                    return  # the other side has closed it
                length = next(int(h.split(b":")[1]) for h in head if h.lower().startswith(b"content-length"))
                self.requests.append(f.read(length))
                if k == 0:
                    s.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nX-Message-Id: id\r\n\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.close()


def test_a_request_is_never_repeated_by_the_library(rig):
    with Cutter() as service:
        rig.start({"email_queue": {"plugin": "email", "provider": "sendgrid", "sendgrid_url": service.url, "on_unknown": "hold", "max_in_flight": 1}},
                  {"EMAIL_PROVIDER": None, "SENDGRID_API_KEY": "SG.x", "SMTP_HOST": None, "SMTP_PORT": None, "SMTP_USER": None, "SMTP_PASS": None})
        n = 1000 if LONG else 20
        ids = [rig.enqueue({"to": f"p{k}@example.test", "subject": "s", "text": "x"}) for k in range(n)]
        wait_until("all ended", lambda: rig.db.execute("select count(*) from pgmq.q_email_queue").fetchone()[0] == 0, 120)
        assert len(ids) == len(service.requests) == len(set(service.requests)) == n
        assert {row["state"] for row in app.rows(rig.db, "select state from pgmqd.mail_log")} == {"sent"}


# ---- what is known outranks what is new ----

def test_a_mail_is_sent_once_while_the_archive_cannot_be_written(mailer):
    with SmtpStub() as stub:
        daemon = mailer.start(stub, visibility_timeout="1s", backoff_min="20ms", backoff_max="20ms")
        mailer.db.execute("create function pg_temp_fail() returns trigger language plpgsql as $$ begin raise exception 'disk full' using errcode = '53100'; end $$")
        mailer.db.execute("create trigger full_disk before insert on pgmq.a_email_queue for each row execute function pg_temp_fail()")
        mailer.fill(20)
        stub.wait_mails(20)
        wait_until("refused", lambda: any("disk full" in r.get("text", "") + str(r.get("reason")) for r in daemon.records()))
        first = mailer.db.execute("select max(vt) from pgmq.q_email_queue").fetchone()[0]
        wait_until("three leases have passed, and the last one holds", lambda: mailer.db.execute(
            "select min(vt) > %s + interval '3 s' and min(vt) > clock_timestamp() from pgmq.q_email_queue", [first]).fetchone()[0], 60)
        mailer.db.execute("drop trigger full_disk on pgmq.a_email_queue")
        wait_until("settled", lambda: mailer.left() == 0, 60)
        assert len(stub.mails) == 20 and mailer.rig.dead() == []
        assert {row["state"] for row in app.rows(mailer.db, "select state from pgmqd.mail_log")} == {"sent"}
