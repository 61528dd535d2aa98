"""Payments: every answer of the provider, and what becomes of the row, of the message and of the mails."""

import json

import pytest

from lib import app
from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub

QUEUE = "payment_processing_queue"
LOGIN = ("123456", "test_secret")


@pytest.fixture
def stub():
    with HttpStub(login=LOGIN) as s:
        yield s


class Payments:
    """A customer with an appointment to pay for, and the provider's side of the payments."""

    def __init__(self, rig, stub):
        self.rig, self.stub = rig, stub
        self.customer = app.new_customer(rig.db, "olga@example.test", "Ольга Примерова")
        self.appointment = app.book_appointment(rig.db, self.customer)
        rig.db.execute("delete from pgmq.q_email_queue")

    def new(self, provider_id="2d9e-0001", status="pending", age="0 seconds", amount="1490.00"):
        payment = app.new_payment(self.rig.db, self.customer, self.appointment)
        # other statuses without the mails of the trigger
        self.rig.db.execute("alter table payments disable trigger on_payment_status_change")
        self.rig.db.execute("update payments set provider_payment_id = %s, status = %s, created_at = now() - %s::interval,"
                            " amount = %s where id = %s", [provider_id, status, age, amount, payment])
        self.rig.db.execute("alter table payments enable trigger on_payment_status_change")
        return str(payment)

    def object(self, payment, status="succeeded", provider_id="2d9e-0001", **more):
        body = {"id": provider_id, "status": status, "paid": status == "succeeded", "test": False,
                "amount": {"value": "1490.00", "currency": "RUB"}, "metadata": {"payment_id": payment},
                "created_at": "2026-11-20T10:00:00.000Z", "refundable": False}
        if status == "succeeded":
            body["captured_at"] = "2026-11-20T10:05:00.000Z"
        body.update(more)
        return body

    def start(self, max_attempts=2, settings=None, **more):
        options = {"plugin": "payment", "base_url": self.stub.url, "backoff_min": "10ms", "backoff_max": "20ms",
                   "config_retry": "200ms", "max_attempts": max_attempts, **more}
        self.rig.start(queues={QUEUE: options}, env={"YOOKASSA_SHOP_ID": LOGIN[0], "YOOKASSA_SECRET_KEY": LOGIN[1]}, **(settings or {}))

    def verify(self, payment, action="verify", age="0 seconds"):
        """Enqueues a message, as if that long ago."""
        return self.rig.db.execute(
            "insert into pgmq.q_payment_processing_queue (enqueued_at, vt, message) values (now() - %s::interval, now(), %s)"
            " returning msg_id", [age, json.dumps({"payment_id": payment, "action": action})]).fetchone()[0]

    def status(self, payment):
        return self.rig.db.execute("select status from payments where id = %s", [payment]).fetchone()[0]

    def templates(self):
        return [m["message"]["template"] for m in self.rig.rows("q_email_queue")]

    def alerts(self):
        return [kind for (kind,) in self.rig.db.execute("select kind from pgmqd.payment_alerts order by id").fetchall()]

    def state(self, payment):
        return app.rows(self.rig.db, "select * from pgmqd.payment_states where payment_id = %s", [payment])


@pytest.fixture
def payments(rig, stub):
    return Payments(rig, stub)


REFUND = {"value": "1490.00", "currency": "RUB"}
PART = {"value": "490.00", "currency": "RUB"}

# name: row before, message's age, payment's age, provider's answers (status, change of the object or body), then what must be:
# outcome, row after, mails, alerts
TABLE = {
    "succeeded": ("pending", 0, 0, [(200, {})], "done", "completed", ["payment_completed"], []),
    "succeeded, an amount without places": ("pending", 0, 0, [(200, {"amount": {"value": "1490", "currency": "RUB"}})], "done", "completed",
                                            ["payment_completed"], []),
    "canceled": ("pending", 0, 0, [(200, {"status": "canceled", "cancellation_details": {"party": "yoo_money", "reason": "insufficient_funds"}})],
                 "done", "failed", ["payment_failed"], []),
    "pending": ("pending", 0, 0, [(200, {"status": "pending"})], "release", "pending", [], []),
    "waiting_for_capture": ("pending", 0, 0, [(200, {"status": "waiting_for_capture", "paid": True})], "release", "pending", [], []),
    "pending for a day": ("pending", 0, 86401, [(200, {"status": "pending"})], "done", "failed", ["payment_failed"], []),
    "amount mismatch": ("pending", 0, 0, [(200, {"amount": {"value": "1490.01", "currency": "RUB"}})], "done", "pending", [], ["mismatch"]),
    "amount with half a kopeck": ("pending", 0, 0, [(200, {"amount": {"value": "1490.005", "currency": "RUB"}})], "done", "pending", [], ["mismatch"]),
    "amount as a number": ("pending", 0, 0, [(200, {"amount": {"value": 1490.0, "currency": "RUB"}})], "done", "pending", [], ["mismatch"]),
    "currency mismatch": ("pending", 0, 0, [(200, {"amount": {"value": "1490.00", "currency": "USD"}})], "done", "pending", [], ["mismatch"]),
    "another id": ("pending", 0, 0, [(200, {"id": "2d9e-0002"})], "done", "pending", [], ["mismatch"]),
    "metadata of another": ("pending", 0, 0, [(200, {"metadata": {"payment_id": "x"}})], "done", "pending", [], ["mismatch"]),
    "no metadata": ("pending", 0, 0, [(200, {"metadata": None})], "done", "pending", [], ["mismatch"]),
    "a test payment": ("pending", 0, 0, [(200, {"test": True})], "done", "pending", [], ["mismatch"]),
    "succeeded, not paid": ("pending", 0, 0, [(200, {"paid": False})], "done", "pending", [], ["mismatch"]),
    "an unknown state": ("pending", 0, 0, [(200, {"status": "dreaming"})], "done", "pending", [], ["mismatch"]),
    "404 at first": ("pending", 0, 0, [(404, None)], "release", "pending", [], []),
    "404 for minutes": ("pending", 301, 301, [(404, None)], "done", "failed", ["payment_failed"], ["not_found"]),
    "400": ("pending", 0, 0, [(400, None)], "fail", "pending", [], []),
    "429": ("pending", 0, 0, [(429, {"retry_after": 20000})], "release", "pending", [], []),
    "500": ("pending", 0, 0, [(500, None)], "release", "pending", [], []),
    "500, of an expired payment": ("pending", 0, 86401, [(500, None), (200, {})], "retry", "completed", ["payment_completed"], []),
    "500 for ever, of an expired payment": ("pending", 0, 86401, [(500, None)], "fail", "pending", [], []),
    "no JSON": ("pending", 0, 0, [(200, b"<html>busy</html>")], "release", "pending", [], []),
    "time-out": ("pending", 0, 0, ["hang"], "release", "pending", [], []),
    "late success": ("failed", 0, 0, [(200, {})], "done", "completed", ["payment_completed"], []),
    "failed, pending there": ("failed", 0, 0, [(200, {"status": "pending"})], "done", "failed", [], []),
    "failed, canceled there": ("failed", 0, 0, [(200, {"status": "canceled"})], "done", "failed", [], []),
    "refund": ("completed", 0, 0, [(200, {"refunded_amount": REFUND})], "done", "refunded", [], []),
    "refund before we knew of the payment": ("pending", 0, 0, [(200, {"refunded_amount": REFUND})], "done", "refunded", [], []),
    "refund of a part": ("completed", 0, 0, [(200, {"refunded_amount": PART})], "done", "completed", [], []),
    "completed, nothing new": ("completed", 0, 0, [(200, {})], "done", "completed", [], []),
    "completed, canceled there": ("completed", 0, 0, [(200, {"status": "canceled"})], "done", "completed", [], ["contradiction"]),
    "refunded is final": ("refunded", 0, 0, [], "done", "refunded", [], []),
}


@pytest.mark.parametrize("case", TABLE)
def test_every_answer(payments, stub, case):
    before, message_age, age, answers, outcome, after, mails, alerts = TABLE[case]
    payment = payments.new(status=before, age=f"{age} seconds")
    path = "/v3/payments/2d9e-0001"
    for answer in answers:
        if answer == "hang":
            stub.answer(path, hang=True)
            continue
        status, change = answer
        if isinstance(change, bytes):
            stub.answer(path, status, change)
        elif status != 200:
            stub.answer(path, status, {"type": "error", "code": "some_code", **(change or {})})
        else:
            stub.answer(path, 200, {**payments.object(payment, change.get("status", "succeeded")), **change})
    payments.start(**({"timeout": "500ms"} if "hang" in answers else {}))  # else a slow machine's answer would be none
    msg_id = payments.verify(payment, age=f"{message_age} seconds")
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome=outcome)
    if outcome == "retry":
        payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="done")
    assert payments.status(payment) == after
    assert payments.templates() == mails
    assert payments.alerts() == alerts
    assert app.appointment_status(payments.rig.db, payments.appointment) == ("confirmed" if mails == ["payment_completed"] else "scheduled")
    waiting = payments.rig.rows(f"q_{QUEUE}")
    assert len(waiting) == (1 if outcome == "release" else 0)
    if answers:
        assert all(r.method == "GET" and not r.body for r in stub.requests(path))
    if case == "429":
        delay = payments.rig.db.execute("select extract(epoch from vt - now()) from pgmq.q_payment_processing_queue").fetchone()[0]
        assert 15 < delay <= 20
    if case == "refund of a part":
        assert payments.state(payment)[0]["refunded_minor"] == 49000
    if case == "canceled":
        assert payments.state(payment)[0]["reason"] == "canceled by yoo_money: insufficient_funds"
    if case == "pending for a day":
        assert payments.state(payment)[0]["reason"].startswith("expired")


# What somebody else (a web hook of the provider, an operator) makes of the row while the provider is being asked.
# name: row before, meanwhile, provider's state, then row after and mails
RACES = {
    "canceled there, completed meanwhile": ("pending", "completed", "canceled", "completed", ["payment_completed"]),
    "canceled there, refunded meanwhile": ("pending", "refunded", "canceled", "refunded", []),
    "succeeded there, refunded meanwhile": ("pending", "refunded", "succeeded", "refunded", []),
    "succeeded there, completed meanwhile": ("pending", "completed", "succeeded", "completed", ["payment_completed"]),
    "late success, refunded meanwhile": ("failed", "refunded", "succeeded", "refunded", []),
    "expired, completed meanwhile": ("pending", "completed", "pending", "completed", ["payment_completed"]),
}


@pytest.mark.parametrize("case", RACES)
def test_what_happened_meanwhile_stays(payments, stub, case):
    """The answer is about a row that was read before: it is not written over what has become of the row since."""
    before, meanwhile, there, after, mails = RACES[case]
    payment = payments.new(status=before, age="25 hours" if case.startswith("expired") else "0 seconds")

    def change():
        with payments.rig.connect() as db:
            db.execute("update payments set status = %s where id = %s", [meanwhile, payment])

    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment, there), before=change)
    payments.start()
    msg_id = payments.verify(payment)
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="done")
    assert payments.status(payment) == after
    assert payments.templates() == mails
    assert payments.state(payment)[0]["provider_status"] == there


def test_pending_burns_no_attempts_and_ends_in_success(payments, stub):
    """Far more looks than max_attempts, and the last one finds it paid; the looks grow apart."""
    payment = payments.new()
    for _ in range(5):
        stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment, "pending"))
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment))
    payments.start(max_attempts=2)
    msg_id = payments.verify(payment)
    delays = []
    for n, age in enumerate((0, 5, 10, 20, 35)):
        mark = payments.rig.daemon.mark()
        if n:  # as if the time had gone by
            payments.rig.db.execute("update pgmq.q_payment_processing_queue set enqueued_at = now() - %s::interval, vt = now()", [f"{age + 0.5} seconds"])
            payments.rig.db.execute("notify pgmqd, 'payment_processing_queue'")
        else:
            mark = 0
        payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="release", start=mark)
        delays.append(round(float(payments.rig.db.execute(
            "select extract(epoch from vt - enqueued_at) from pgmq.q_payment_processing_queue").fetchone()[0])))
    assert delays == [5, 10, 20, 35, 60]
    payments.rig.db.execute("update pgmq.q_payment_processing_queue set vt = now()")
    payments.rig.db.execute("notify pgmqd, 'payment_processing_queue'")
    settled = payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="done")
    assert settled["attempt"] == 1
    assert payments.status(payment) == "completed"
    assert payments.templates() == ["payment_completed"]


def test_404_then_found(payments, stub):
    payment = payments.new()
    stub.answer("/v3/payments/2d9e-0001", 404, {"type": "error", "code": "not_found"})
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment))
    payments.start()
    msg_id = payments.verify(payment)
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="release")
    payments.rig.db.execute("update pgmq.q_payment_processing_queue set vt = now()")
    payments.rig.db.execute("notify pgmqd, 'payment_processing_queue'")
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="done")
    assert payments.status(payment) == "completed"


def test_wrong_secret_pauses_the_queue(payments, stub):
    """401 costs nothing: once the secret is right, the payment is settled at its first attempt."""
    payment = payments.new()
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment))
    stub.login = ("123456", "another")
    payments.start(max_attempts=1)
    msg_id = payments.verify(payment)
    payments.rig.daemon.wait_log("queue paused")
    stub.login = LOGIN
    settled = payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="done")
    assert settled["attempt"] == 1
    assert payments.status(payment) == "completed"
    assert LOGIN[1] not in payments.rig.daemon.tail(1000)


def test_the_same_message_twice(payments, stub):
    payment = payments.new()
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment))
    payments.start()
    ids = [payments.verify(payment) for _ in range(3)]
    for msg_id in ids:
        payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="done")
    assert payments.templates() == ["payment_completed"]


@pytest.mark.parametrize("message, reason", [
    ({"payment_id": "PAYMENT", "action": "refund"}, 'action "refund" is not known'),
    ({"payment_id": "PAYMENT"}, "is not known"),
    ({"action": "verify"}, "payment_id is missing"),
    ({"payment_id": "d0000000-0000-4000-8000-00000000ffff", "action": "verify"}, "there is no payment"),
    ({"payment_id": "nonsense", "action": "verify"}, "there is no payment"),
])
def test_bad_messages(payments, message, reason):
    payment = payments.new()
    message = {k: payment if v == "PAYMENT" else v for k, v in message.items()}
    payments.start()
    msg_id = payments.rig.enqueue(message, queue=QUEUE)
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="fail")
    assert reason in payments.rig.dead(QUEUE)[0]["headers"]["pgmqd_dead"]["reason"]
    assert payments.status(payment) == "pending"


def test_an_id_that_is_a_path(payments, stub):
    payment = payments.new(provider_id="../payments?x=")
    payments.start()
    msg_id = payments.verify(payment)
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=msg_id, outcome="fail")
    assert stub.requests() == []


def test_no_provider_id_yet(payments, stub):
    payment = payments.new(provider_id=None)
    old = payments.new(provider_id=None, age="25 hours")
    payments.start()
    first, second = payments.verify(payment), payments.verify(old)
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=first, outcome="release")
    payments.rig.daemon.wait_settled(queue=QUEUE, msg_id=second, outcome="done")
    assert (payments.status(payment), payments.status(old)) == ("pending", "failed")
    assert stub.requests() == []


def test_http_is_for_this_machine_only(payments):
    from lib.daemon import conf, run
    import tempfile, os
    text = conf(payments.rig.conninfo, {QUEUE: {"plugin": "payment", "base_url": "http://pay.example.test", "shop_id": "1", "secret_key": "2"}})
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write(text)
        f.flush()
        os.chmod(f.name, 0o600)
        done = run("run", "-c", f.name, "--check")
    assert done.returncode == 78
    assert "would send secret_key in the clear" in done.stderr + done.stdout


def test_money_that_is_held_is_never_failed(payments, stub):
    """waiting_for_capture, a day after expire_after: the row stays pending, no attempt is counted; then the shop takes the money."""
    payment = payments.new(age="25 hours")
    held = payments.object(payment, "waiting_for_capture", paid=True, expires_at="2126-12-05T20:00:00.000Z")
    stub.answer("/v3/payments/2d9e-0001", 200, held)
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment))
    payments.start()
    msg_id = payments.verify(payment)
    payments.rig.daemon.wait_settled(msg_id=msg_id, outcome="release")
    assert payments.status(payment) == "pending" and payments.templates() == [] and payments.alerts() == []
    assert payments.rig.daemon.wait_settled(msg_id=msg_id, outcome="done") and payments.status(payment) == "completed"


def test_held_beyond_its_time(payments, stub):
    payment = payments.new(age="9 days")
    stub.answer("/v3/payments/2d9e-0001", 200,
                payments.object(payment, "waiting_for_capture", paid=True, expires_at="2026-01-05T20:00:00.000Z"))
    payments.start()
    payments.rig.daemon.wait_settled(msg_id=payments.verify(payment), outcome="done")
    assert payments.status(payment) == "pending" and payments.templates() == [] and "held" in str(payments.alerts())


def test_the_provider_knows_when_a_payment_expires(payments, stub):
    payment = payments.new(age="25 hours")
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment, "pending", expires_at="2126-12-05T20:00:00.000Z"))
    payments.start()
    payments.rig.daemon.wait_settled(msg_id=payments.verify(payment), outcome="release")
    assert payments.status(payment) == "pending"


@pytest.mark.parametrize("networks, forwarded, status", [
    ("127.0.0.0/8", None, 200), ("203.0.113.0/24", None, 403), ("203.0.113.0/24, 2001:db8::/32", "203.0.113.9", 200), ("203.0.113.0/24 2001:db8::/32", "2001:db8::7", 200),
    ("203.0.113.0/24", "203.0.113.9, 198.51.100.1", 403), ("203.0.113.0/24", "198.51.100.1, 203.0.113.9", 200), ("127.0.0.1", "203.0.113.9", 403),
    ("203.0.113.0/24", "unknown", 403)])
def test_only_these_addresses_may_notify(payments, networks, forwarded, status):
    """Of a client on this machine, the address counts for which it asks: the last one, as a proxy adds it."""
    http = Http(free_port())
    payments.start(settings={"http_listen": f"127.0.0.1:{http.port}", "payment_networks": networks})
    http.wait_json("/health", 200)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert http("/api/payment/events/yookassa", method="POST", body={"object": {"id": "2d9e-0001"}}, headers=headers)[0] == status


def test_notifications(payments, stub):
    """YooKassa's own notification has the payment asked for at once; what it says is not believed, and a stranger's changes nothing."""
    rig, http = payments.rig, Http(free_port())
    payment = payments.new()
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment))
    payments.start(settings={"http_listen": f"127.0.0.1:{http.port}"})
    http.wait_json("/health", 200)

    def post(body, provider="yookassa"):
        return http(f"/api/payment/events/{provider}", method="POST", body=body)[0]

    lie = {"type": "notification", "event": "payment.succeeded", "object": payments.object(payment, provider_id="other-1")}
    for event in (lie, {**lie, "object": {"id": "2d9e-9999"}}, {"object": {"id": "2d9e-0001' OR true --"}}, {"object": {}}, "[]", "{"):
        assert post(event) in (200, 400)
    assert post(lie, "paypal") == 404
    assert rig.rows(f"q_{QUEUE}") == [] and stub.requests() == [] and payments.status(payment) == "pending"
    mark = rig.daemon.mark()
    assert post({"type": "notification", "event": "payment.canceled", "object": payments.object(payment, "canceled")}) == 200
    assert rig.daemon.wait_settled(start=mark, queue=QUEUE)["outcome"] == "done"
    assert payments.status(payment) == "completed", "the API says so, the notification did not"
    stub.reset()
    stub.answer("/v3/payments/2d9e-0001", 200, payments.object(payment, refunded_amount={"value": "1490.00", "currency": "RUB"}))
    mark = rig.daemon.mark()
    assert post({"event": "refund.succeeded", "object": {"id": "r-1", "payment_id": "2d9e-0001"}}) == 200
    assert rig.daemon.wait_settled(start=mark, queue=QUEUE)["outcome"] == "done" and payments.status(payment) == "refunded"
