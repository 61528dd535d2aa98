"""test_cancel.py: an operator cancels what runs: the effect is stopped or it is done, and never both; in whichever dispatcher it is."""

import json
import random

import pytest

from lib.stand import wait_until

LONG = "1h"


def act(stand, action, **request):
    return stand.value("select pgmqd.act_on_messages('work', %s, %s::jsonb, 'anna')", [action, json.dumps(request)])


def number(stand, uuid):
    return stand.value("select msg_id from pgmq.q_work where message->>'uuid' = %s", [uuid])


def fates(stand):
    """{uuid: [whether it was cancelled, of each row of the archive]}."""
    found = {}
    for uuid, cancelled in stand.db.execute("select message->>'uuid', headers ? 'pgmqd_cancelled' is true from pgmq.a_work"):
        found.setdefault(uuid, []).append(cancelled)
    return found


def test_running_message_in_another_dispatcher(stand):
    """With no poll that could help: the plugin's cancel is called, the message is archived as cancelled, with who and why, and leaves its place."""
    for _ in range(2):
        stand.start(queue={"max_in_flight": 1, "prefetch": 0, "visibility_timeout": LONG}, fallback_poll=LONG)
    ids = stand.send(2, sleep_ms=3600000)
    stand.begun(ids)
    numbers = [number(stand, uuid) for uuid in ids]
    (answer,) = [act(stand, "cancel", ids=numbers, why="asked by phone")]
    assert sorted(answer["asked"]) == sorted(numbers) and not answer["changed"] and not answer["refused"]
    wait_until("both cancelled", lambda: fates(stand) == {uuid: [True] for uuid in ids})
    assert sorted((s.uuid, s.what) for s in stand.steps()) == sorted((uuid, what) for uuid in ids for what in "BC")
    assert stand.value("select distinct headers #>> '{pgmqd_cancelled,why}' from pgmq.a_work") == "asked by phone"
    wait_until("both logged", lambda: stand.logged("settled") == 2)
    assert {r["outcome"] for d in stand.daemons for r in d.records() if r.get("text") == "settled"} == {"cancelled"}
    after = stand.send(2)  # there is room again
    stand.effect_of(after)
    assert stand.value("select count(*) from pgmqd.cancels") == 0


def test_cancel_whose_notification_is_lost(stand):
    """It is found after a reconnect."""
    stand.start(queue={"visibility_timeout": LONG}, fallback_poll=LONG)
    ids = stand.send(1, sleep_ms=3600000)
    stand.begun(ids)
    stand.db.execute("insert into pgmqd.cancels (queue, msg_id, born, read_ct, asked_by) select 'work', msg_id, pgmqd.microseconds(enqueued_at), read_ct, 'sql' from pgmq.q_work")
    stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgmqd worker work' and datname = current_database()")
    wait_until("cancelled", lambda: fates(stand) == {ids[0]: [True]})


def test_cancel_of_another_claim(stand):
    """The wish was for a claim that is over: the one that runs now goes on."""
    stand.start(queue={"visibility_timeout": LONG}, fallback_poll=LONG)
    ids = stand.send(1, sleep_ms=300)
    stand.begun(ids)
    stand.db.execute("insert into pgmqd.cancels (queue, msg_id, born, read_ct, asked_by) select 'work', msg_id, pgmqd.microseconds(enqueued_at), read_ct + 1, 'sql' from pgmq.q_work")
    stand.db.execute("select pgmqd.tell_cancel('work')")
    wait_until("done", lambda: fates(stand) == {ids[0]: [False]})


@pytest.mark.parametrize("races", [1000])
def test_races_of_cancel_and_done(stand, seed, races):
    """Two dispatchers, messages of some milliseconds, each cancelled at a random time: every one is done or cancelled, and what is cancelled had no effect."""
    chance = random.Random(seed)
    for _ in range(2):
        stand.start(queue={"max_in_flight": 50}, fallback_poll=LONG, shared_poll="200ms")
    asked = refused = 0
    for _ in range(races // 50):
        stand.send(50, sleep_ms=chance.randrange(10, 200))
        rows = [n for (n,) in stand.db.execute("select msg_id from pgmq.q_work")]
        chance.shuffle(rows)
        while rows:
            some = [rows.pop() for _ in range(min(len(rows), chance.randrange(1, 6)))]
            answer = act(stand, "cancel", ids=some)
            asked += len(answer["asked"])
            refused += len(answer["refused"])
        stand.drain()
    found = fates(stand)
    had = {s.uuid for s in stand.steps() if s.what == "E"}
    assert {uuid for uuid, rows in found.items() if len(rows) != 1} == set() and len(found) == races
    cancelled = {uuid for uuid, rows in found.items() if rows == [True]}
    assert cancelled & had == set(), "cancelled, and had its effect"
    assert had | cancelled == set(found)
    assert cancelled and had and asked, (len(cancelled), len(had), asked, refused)
