"""Queues with every name that pgmq takes are woken, delivered, dead-lettered, paused and shown."""

import pytest

from lib.daemon import run

NAMES = ["MixedCase", "queue-hyphen", "1digit", "with space", "dot.ted", "ünïcode", "b" * 44, "C" * 47, 'dou"ble', "back\\slash", "brack]et", "brack[et", "хвост" * 4, "emoji😀",
         "eq=ual#", "sl/ash?x=1&y", "per%cent", "-lead", "x_dlq", "select"]


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_of_any_name(rig, name):
    """The fallback poll is an hour away, so a message that is settled was heard of."""
    rig.db.execute("select pgmqd.create_queue(%s::text)", [name])
    # the settings may spell the name in another case than pgmq.meta does
    rig.start(queues={name.swapcase() if name.isascii() else name: {"plugin": "exec", "command": "/bin/false", "on_error": "fail"}})
    sent = rig.db.execute("select pgmq.send(%s::text, '{}'::jsonb)", [name]).fetchone()[0]
    rig.daemon.wait_settled(msg_id=sent, timeout=20)
    assert rig.db.execute("select count(*) from pgmqd.dead_letters(%s)", [name]).fetchone() == (1,)
    shown = run("dlq", "list", "-d", rig.conninfo, "--", name)
    assert shown.returncode == 0 and "1 dead letter" in shown.stdout, shown.stdout + shown.stderr
    paused = run("pause", "-d", rig.conninfo, "--", name)
    assert paused.returncode == 0, paused.stderr
    rig.daemon.wait_log("paused")
    sent = rig.db.execute("select pgmq.send(%s::text, '{}'::jsonb)", [name]).fetchone()[0]
    status = run("status", "-d", rig.conninfo, "--", name)
    assert status.returncode == 0 and name in status.stdout, status.stdout + status.stderr
    assert run("resume", "-d", rig.conninfo, "--", name).returncode == 0
    rig.daemon.wait_settled(msg_id=sent, timeout=20)
