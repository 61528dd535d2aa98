"""Kills while mails go out: each arrives, one that is known to be sent never again, and a second copy only of one that was unknown."""

import collections

import pytest

from lib import rig as rigs
from lib.smtpstub import SmtpStub
from lib.stand import wait_until

MAILS, KILLS = 120, 3


def arrivals(stub):
    """How often each recipient's mail has arrived whole."""
    return collections.Counter(m.recipients[0] for m in list(stub.bodies))


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_kills_round_the_ledger(cluster, policy):
    name = f"mail_{policy}"
    conninfo = cluster.createdb(name)
    assert rigs.migrate(conninfo, "--demo-app").returncode == 0

    class NoCatcher:
        host, port, user, password, ca_file = "127.0.0.1", 1, None, None, None

    with SmtpStub() as stub, rigs.Rig(cluster, name, NoCatcher()) as rig:
        rig.start({"email_queue": {"plugin": "email", "smtp_tls": "none", "visibility_timeout": "1s", "backoff_min": "10ms", "backoff_max": "10ms",
                                   "on_unknown": policy, "max_in_flight": 8}},
                  {"SMTP_HOST": stub.host, "SMTP_PORT": str(stub.port), "SMTP_USER": None, "SMTP_PASS": None}, fallback_poll="1s")
        known = {}
        for round_ in range(KILLS):
            seen = sum(arrivals(stub).values())
            rig.db.execute("select pgmq.send_batch('email_queue', array(select jsonb_build_object('to', format('u%%sx%%s@example.test', %s::int, n),"
                           " 'subject', 'Test', 'text', 'A line.', 'key', format('%%s %%s', %s::int, n)) from generate_series(1, %s) n))",
                           [round_, round_, MAILS // KILLS])
            stub.wait_for(lambda s, seen=seen: len(s.bodies) >= seen + 5 + 3 * round_)
            opened = stub.connections
            rig.daemon.kill_child("worker email_queue")
            # what the killed process had written is read by the server before an arrival counts as one that came after the kill
            stub.wait_for(lambda s, opened=opened: not [n for n in s.open if n <= opened])
            # what is known to be sent at this moment, and how often it has arrived by now
            sent = {row[0] for row in rig.db.execute("select key from (select message->>'to' as key from pgmq.a_email_queue) a")}
            now = arrivals(stub)
            known.update({to: now[to] for to in sent if to not in known})
        total = KILLS * (MAILS // KILLS)

        def settled():
            return rig.db.execute("select count(*) from pgmq.a_email_queue").fetchone()[0] + len(rig.dead()) == total

        wait_until("every mail is sent or dead", settled, 120)
        assert rig.daemon.stop() == 0  # and its whole log is read
        last = arrivals(stub)
        assert {to: last[to] for to in known} == known, "a mail that was known to be sent was sent again"
        doubled = sum(n - 1 for n in last.values())
        warned = sum("may have been sent before: sending it again" in r.get("text", "") for r in rig.daemon.records())
        held = [d for d in rig.dead() if d["headers"]["pgmqd_dead"]["class"] == "unknown"]
        if policy == "hold":
            assert doubled == 0 and len(last) + len([d for d in held if d["message"]["to"] not in last]) == total
        else:
            assert len(last) == total and held == [] and doubled <= warned
        print(f"{policy}: {total} mails, {KILLS} kills, {len(known)} known as sent, {doubled} doubled, {len(held)} held")
