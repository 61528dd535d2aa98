"""Hostile settings of role, database and connection string: messages are claimed, settled, and wake the worker."""

import pytest

from lib.hostile import EVIL, SETTINGS, set_at


@pytest.mark.parametrize("place", ["role", "database", "conninfo"])
@pytest.mark.parametrize("name", SETTINGS)
def test_messages_flow_under(stand, name, place):
    """The fallback poll is an hour, so a notification wakes the worker, and each message is archived."""
    stand.db.execute(EVIL)
    daemon = stand.start(set_at(stand, place, name), fallback_poll="1h")
    for message in range(3):
        stand.send()
        daemon.wait_log(lambda r, n=message: r.get("text") == "settled" and r.get("outcome") == "done"
                        and len([x for x in daemon.records() if x.get("text") == "settled"]) > n, timeout=20)
    assert not [r for r in daemon.records() if r.get("level") == "error"], daemon.tail()
