"""Lost connections and restarts: what was committed is delivered, without anybody's help."""

import psycopg
import pytest

from lib.rig import email_queue


def kill_backends(rig, process):
    """Terminates the session of that process of pgmqd, and waits until it is gone."""
    (pid,) = [pid for pid, name in rig.backends().items() if name.startswith(f"pgmqd {process}")]
    assert rig.db.execute("select pg_terminate_backend(%s, 10000)", [pid]).fetchone()[0]


def wait_again(rig, process, start):
    """Until that process has logged that its connection stands again."""
    rig.daemon.wait_log(lambda r: r.get("process") == process and r.get("text") == "connected to the database again", start=start)


@pytest.mark.parametrize("process", ["listener", "worker"])
def test_terminated_session_comes_back(rig, process):
    """A message from while the session is gone is delivered too: there is a full look after every reconnect."""
    rig.start(fallback_poll="1h")
    rig.send("first@example.test")
    rig.catcher.wait_to("first@example.test")
    mark = rig.daemon.mark()
    kill_backends(rig, process)
    rig.send("second@example.test")
    rig.catcher.wait_to("second@example.test")
    wait_again(rig, process, mark)
    rig.send("third@example.test")
    rig.catcher.wait_to("third@example.test")
    assert [m.recipients[0] for m in rig.catcher.mails()] == [f"{n}@example.test" for n in ("first", "second", "third")]


def test_session_that_dies_with_a_message_in_hand_delivers_it_once(rig):
    """The lease and the fence: the mail was sent, its settling waits for the new connection, nobody sends it again."""
    gate = rig.catcher.hold("DATA")
    rig.start(fallback_poll="1h")
    msg_id = rig.send("held@example.test")
    gate.wait_held()
    kill_backends(rig, "worker")
    gate.release()
    rig.daemon.wait_settled(msg_id=msg_id, outcome="done")
    rig.send("next@example.test")
    rig.catcher.wait_to("next@example.test")
    rig.daemon.stop()
    assert [m.recipients[0] for m in rig.catcher.mails()] == ["held@example.test", "next@example.test"]
    assert rig.rows("q_email_queue") == [] and len(rig.rows("a_email_queue")) == 2


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_of_postgresql(own_rig, mode):
    """After a restart, clean or by a crash, the next message arrives by its notification alone."""
    rig = own_rig
    rig.start(fallback_poll="1h")
    rig.send("before@example.test")
    rig.catcher.wait_to("before@example.test")
    rig.daemon.wait_settled(outcome="done")
    mark = rig.daemon.mark()
    rig.cluster.restart(mode)
    wait_again(rig, "listener", mark)
    wait_again(rig, "worker", mark)
    with pytest.raises(psycopg.OperationalError):
        rig.db.execute("select 1")
    rig.send("after@example.test")
    rig.catcher.wait_to("after@example.test")
    assert [m.recipients[0] for m in rig.catcher.mails()] == ["before@example.test", "after@example.test"]


def test_start_without_postgresql(own_rig):
    """The daemon starts before its database does, says so, and connects when it can."""
    rig = own_rig
    rig.send("waiting@example.test")
    rig.db.close()
    rig.cluster.stop()
    rig.start(ready=False)
    rig.daemon.wait_log(lambda r: r.get("process") == "worker" and r.get("level") in ("warn", "error"))
    rig.cluster.start()
    rig.catcher.wait_to("waiting@example.test")


def test_mail_server_that_is_away_costs_time_not_mails(rig):
    """Refused connections are no attempts' end: the mail goes out once the server is back."""
    rig.catcher.stop()
    rig.start({"email_queue": email_queue(rig.catcher, backoff_min="100ms", max_attempts=1)})
    msg_id = rig.send("patient@example.test")
    rig.daemon.wait_log("queue waits, no attempt is counted")
    rig.catcher.start()
    rig.catcher.wait_to("patient@example.test")
    rig.daemon.wait_settled(msg_id=msg_id, outcome="done")


@pytest.mark.parametrize("child", ["worker", "listener"])
def test_killed_process_is_replaced(rig, child):
    """The supervisor makes another one; a message from in between is found by its full look."""
    rig.start(fallback_poll="1h")
    rig.send("first@example.test")
    rig.catcher.wait_to("first@example.test")
    rig.daemon.wait_settled(outcome="done")
    mark = rig.daemon.mark()
    pid = rig.daemon.kill_child(child)
    rig.send("second@example.test")
    rig.catcher.wait_to("second@example.test")
    rig.daemon.wait_log(lambda r: r.get("process") == child and r.get("text") == "connected to the database", start=mark)
    assert pid not in rig.daemon.children()
    rig.send("third@example.test")
    rig.catcher.wait_to("third@example.test")
    assert len(rig.catcher.mails()) == 3
