"""Messages and plugins that do harm: their queue survives them, the other queues do not notice, and they end as dead letters."""

import json
import random
import statistics
import time

import pytest

from lib.proxy import Proxy
from lib.stand import memory_kb, wait_until

OTHER = {"visibility_timeout": "10s"}


def latencies(stand, n, queue="other"):
    """Milliseconds from an enqueue to the effect, for n messages one after the other."""
    from lib.campaign import Follower
    from lib.stand import boottime_ms
    follower, found = Follower(stand.effects), []
    for _ in range(n):
        at = boottime_ms()
        (i,) = stand.send(queue=queue)
        ms = wait_until("the effect", lambda: next((int(w[4]) - at + 1 for w in follower.lines() if w[0] == b"E" and w[1].decode() == i), 0), 15, 0.002)
        found.append(ms)
    return found


@pytest.mark.parametrize("what, reason, attempts", [
    ("crash", "the plugin crashed", 2), ("exit", "the plugin crashed", 2), ("loop", "the plugin crashed", 2), ("never", "deadline", 2)])
def test_poison_ends_as_dead_letter(stand, what, reason, attempts):
    """The message of a crash is in the dead-letter queue after max_attempts, good ones of its queue are done, the other queue went on."""
    daemon = stand.start(watchdog="2s", queues={
        "work": {"max_attempts": attempts, "visibility_timeout": "1s", "deadline": "1s"}, "other": OTHER})
    quiet = latencies(stand, 15)
    mark = daemon.mark()
    (bad,) = stand.send(do=what)
    good = stand.send(5)
    during = latencies(stand, 15)
    wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1, 60)
    stand.drain()
    verdict = stand.verdict()
    assert list(verdict.dead) == [bad] and set(verdict.archived) == set(good)
    why = stand.value("select headers->'pgmqd_dead' from pgmq.q_work_dlq")
    assert reason in why["reason"] and why["attempts"] >= attempts, why
    assert statistics.median(during) <= 2 * statistics.median(quiet) + 500, "they waited for the watchdog, or for a restart"
    assert not [r for r in daemon.records()[mark:] if r.get("queue") == "other" and r.get("level") == "error"]


def test_leak_is_the_workers_alone(stand):
    """200 MB leaked in one worker: no other process grows by it, and its end gives it back."""
    daemon = stand.start(queues={"work": {}, "other": OTHER})
    names = {title: pid for pid, title in daemon.children().items()}
    before = {title: memory_kb(pid) for title, pid in names.items()}
    stand.effect_of(stand.send(50, do="leak"))
    after = {title: memory_kb(pid) for title, pid in names.items()}
    for title in names:
        grown = after[title] - before[title]
        assert grown > 150000 if "worker work" in title else grown < 4096, (title, grown)
    stand.drain()


def test_crash_loop_leaves_the_others_alone(stand):
    """Five deaths within a minute: that worker waits, the other queue does not, and a reload tries again."""
    daemon = stand.start(queues={"work": {"max_attempts": 100, "visibility_timeout": "1s"}, "other": OTHER})
    (bad,) = stand.send(do="crash", until=6)
    daemon.wait_log("death number 5", 60)
    stand.effect_of(stand.send(10, queue="other"))
    daemon.reload()
    stand.effect_of([bad], 60)
    stand.drain()
    stand.verdict().check()


def refuse_updates(stand, condition):
    """The application's own trigger on the queue's table."""
    stand.db.execute("create function public.refuse() returns trigger language plpgsql as 'begin raise exception ''not this one''; end'")
    stand.db.execute(f"create trigger refuse before update on pgmq.q_work for each row when ({condition}) execute function public.refuse()")


@pytest.mark.parametrize("order", ["time", "priority", "group"])
def test_rows_that_a_trigger_refuses(stand, order):
    """Nothing can claim these two: they become dead letters with the trigger's words, and the others are done."""
    refuse_updates(stand, "new.message->>'stay' = 'yes'")
    if order == "priority":
        stand.db.execute("select pgmqd.prioritize_queue('work')")
    bad = stand.send(stay="yes")
    good = stand.send(20)
    bad += stand.send(stay="yes")
    good += stand.send(20)
    stand.start(queue={"ordered": "group"} if order == "group" else {})
    stand.drain()
    verdict = stand.verdict()
    assert set(verdict.dead) == set(bad) and set(verdict.archived) == set(good)
    why = stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq limit 1")
    assert why == "the database cannot claim the message: not this one", why


OTHER_STATES = ["42501", "42P01", "40001", "53100", "57P01", "25006"]  # rights, tables, locks, the disk, the connection, a standby


@pytest.mark.parametrize("state", OTHER_STATES)
def test_row_that_a_trigger_refuses_with_another_state(stand, state):
    """The SQLSTATE says that it passes, and it comes for this row only: the others are done, and then it is a dead letter."""
    stand.db.execute("create function public.refuse() returns trigger language plpgsql as "
                     f"$f$ begin raise exception 'not this one' using errcode = '{state}'; end $f$")
    stand.db.execute("create trigger refuse before update on pgmq.q_work for each row when (new.message->>'stay' = 'yes')"
                     " execute function public.refuse()")
    (bad,) = stand.send(stay="yes")
    good = stand.send(3)
    daemon = stand.start(queue={"max_attempts": 1}, fallback_poll="1h")
    stand.effect_of(good)
    stand.drain()
    verdict = stand.verdict()
    assert list(verdict.dead) == [bad] and set(verdict.archived) == set(good)
    daemon.wait_log("message 1 cannot be claimed: not this one")
    assert stand.logged("cannot claim messages: not this one") <= 1


def test_error_that_every_row_has_is_no_rows_fault(stand):
    """It is logged once and when it ends, no message is blamed, and all of them are done without it."""
    stand.db.execute("create sequence public.refused")  # which no rollback takes back
    stand.db.execute("create function public.refuse() returns trigger language plpgsql as $f$ begin perform nextval('public.refused');"
                     " raise exception 'not today' using errcode = '53100'; end $f$")
    stand.db.execute("create trigger refuse before update on pgmq.q_work for each row execute function public.refuse()")
    ids = stand.send(3)
    daemon = stand.start(queue={"max_attempts": 1}, fallback_poll="1h")
    daemon.wait_log("cannot claim messages: not today (53100)")
    wait_until("each was tried by itself", lambda: stand.value("select last_value from public.refused") >= 12)
    stand.db.execute("drop trigger refuse on pgmq.q_work")
    daemon.wait_log("messages can be claimed again")
    stand.drain()
    # twice, where a claim that passes them all by works in between
    assert set(stand.verdict().check().archived) == set(ids) and stand.logged("cannot claim messages") <= 2


def test_trigger_that_refuses_every_row(stand):
    """That is no message's fault: the queue is named in the log, nothing dies, and all goes on when the trigger is gone."""
    refuse_updates(stand, "true")
    ids = stand.send(5)
    daemon = stand.start()
    said = daemon.wait_log("none of the due messages can be claimed (a trigger on pgmq.q_work?)")
    assert said["level"] == "error" and said["queue"] == "work" and "not this one" in said["text"]
    stand.db.execute("drop trigger refuse on pgmq.q_work")
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()
    assert stand.logged("none of the due messages") == 1


def keep_rows(stand, event, table="q_work", condition="true"):
    """The application's own trigger, which says nothing and leaves the row as it is."""
    row = "new" if event == "insert" else "old"
    stand.db.execute("create function public.keep() returns trigger language plpgsql as 'begin return null; end'")
    stand.db.execute(f"create trigger keep before {event} on pgmq.{table} for each row when ({row}.message->>'stay' = 'yes' and {condition})"
                     " execute function public.keep()")


@pytest.mark.parametrize("order", ["time", "priority", "group", "limit"])
def test_rows_that_a_trigger_keeps_from_a_claim(stand, order):
    """As if it had raised an error: dead letters, and the others are done, though there are more of these than a claim takes."""
    keep_rows(stand, "update")
    if order == "priority":
        stand.db.execute("select pgmqd.prioritize_queue('work')")
    bad = stand.send(10, stay="yes")
    good = stand.send(20)
    bad += stand.send(stay="yes")
    good += stand.send(20)
    stand.start(queue={"ordered": "group"} if order == "group" else {"max_in_flight_cluster": 5} if order == "limit" else {"max_in_flight": 4})
    stand.drain()
    verdict = stand.verdict()
    assert set(verdict.dead) == set(bad) and set(verdict.archived) == set(good)
    why = stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq limit 1")
    assert why == "the database cannot claim the message: a trigger on the queue's table keeps the row as it is", why


def test_trigger_that_keeps_every_row_from_a_claim(stand):
    """The queue is named in the log, nothing dies, and all goes on when the trigger is gone."""
    keep_rows(stand, "update")
    ids = stand.send(5, stay="yes")
    daemon = stand.start()
    daemon.wait_log("none of the due messages can be claimed (a trigger on pgmq.q_work?)")
    stand.db.execute("drop trigger keep on pgmq.q_work")
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()


CHANGES = {
    "vt": ("before", "new.vt := clock_timestamp(); return new"),
    "fraction": ("before", "new.vt := date_trunc('second', new.vt); return new"),
    "msg_id": ("before", "new.msg_id := new.msg_id + 1000000; return new"),
    "vt after": ("after", "if pg_trigger_depth() = 1 then update pgmq.q_work set vt = clock_timestamp() where msg_id = new.msg_id; end if; return null"),
    "read_ct after": ("after", "if pg_trigger_depth() = 1 then update pgmq.q_work set read_ct = read_ct + 1 where msg_id = new.msg_id; end if; return null"),
    "vt at commit": ("deferred", "if pg_trigger_depth() = 1 then update pgmq.q_work set vt = clock_timestamp() where msg_id = new.msg_id; end if;"
                     " return null"),
}
HARMLESS = {
    "read_ct": ("before", "new.read_ct := new.read_ct + 1; return new"),
    "lease": ("before", "new.vt := new.vt + interval '1 hour'; return new"),
    "message": ("before", "new.message := new.message || '{\"seen\": true}'; return new"),
    "log": ("after", "insert into public.log values (new.msg_id); return null"),
}


def change_rows(stand, when, body):
    """The application's own trigger, which changes what an UPDATE writes, or writes again."""
    stand.db.execute("create table public.log (id bigint)")
    stand.db.execute("grant insert on public.log to public")
    stand.db.execute(f"create function public.change() returns trigger language plpgsql as $f$ begin {body}; end $f$")
    kind = {"before": "trigger change before", "after": "trigger change after", "deferred": "constraint trigger change after"}[when]
    late = "deferrable initially deferred" if when == "deferred" else ""
    stand.db.execute(f"create {kind} update on pgmq.q_work {late} for each row when (old.message->>'stay' = 'yes' and old.read_ct < new.read_ct)"
                     " execute function public.change()")


@pytest.mark.parametrize("change", CHANGES)
def test_rows_whose_claim_a_trigger_changes(stand, change):
    """Such a claim could not be settled, and the message would be handled again and again: it is a dead letter, and the others are done."""
    change_rows(stand, *CHANGES[change])
    bad = stand.send(2, stay="yes")
    good = stand.send(10)
    stand.start()
    stand.drain()
    verdict = stand.verdict()
    assert set(verdict.dead) == set(bad) and set(verdict.archived) == set(good) and effects(stand, bad) == [0, 0]
    assert stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq limit 1") == (
        "the database cannot claim the message: a trigger on the queue's table changes msg_id, read_ct or vt of a row that is claimed")
    assert stand.logged("lease lost") == 0


def test_trigger_that_changes_every_claim(stand):
    """The queue is named in the log, nothing runs, and all goes on when the trigger is gone."""
    change_rows(stand, *CHANGES["vt after"])
    ids = stand.send(5, stay="yes")
    daemon = stand.start()
    said = daemon.wait_log("none of the due messages can be claimed (a trigger on pgmq.q_work?)")
    assert said["queue"] == "work" and "changes msg_id, read_ct or vt" in said["text"] and effects(stand, ids) == [0] * 5
    stand.db.execute("drop trigger change on pgmq.q_work")
    stand.effect_of(ids)
    stand.drain()
    stand.verdict().check()


@pytest.mark.parametrize("change", HARMLESS)
def test_trigger_that_a_claim_can_do_with(stand, change):
    """Each message is handled once, though its claim is not what was written: the worker goes by what the row holds."""
    change_rows(stand, *HARMLESS[change])
    ids = stand.send(5, stay="yes")
    stand.start()
    stand.drain()
    assert effects(stand, ids) == [1] * 5 and set(stand.verdict().check().archived) == set(ids)
    assert stand.logged("lease lost") == 0


def test_trigger_that_comes_under_a_running_worker(stand):
    """The first lost lease tells that there is one: what comes then is not handled again and again."""
    daemon = stand.start(fallback_poll="1h")
    stand.effect_of(stand.send())
    change_rows(stand, *CHANGES["vt after"])
    (bad,) = stand.send(stay="yes")
    daemon.wait_log("none of the due messages can be claimed (a trigger on pgmq.q_work?)")
    had = effects(stand, [bad])[0]
    good = stand.send(3)
    stand.drain()
    verdict = stand.verdict()
    assert list(verdict.dead) == [bad] and set(good) <= set(verdict.archived)
    assert had <= 3 and effects(stand, [bad])[0] == had  # a claim may be on its way when the first lost lease is told


@pytest.mark.parametrize("change", ["vt", "fraction"])
def test_trigger_that_changes_the_claims_of_a_running_worker(stand, change):
    """The answer to the claim tells what the row holds: by that it is settled, before it is known that there is a trigger."""
    stand.start(fallback_poll="1h")
    stand.effect_of(stand.send())
    change_rows(stand, *CHANGES[change])
    (odd,) = stand.send(stay="yes")
    stand.drain()
    assert effects(stand, [odd]) == [1] and odd in stand.verdict().archived and not stand.logged("lease lost")


def effects(stand, ids):
    """How often each message has had its effect."""
    return [sum(s.uuid == i and s.what == "E" for s in stand.steps()) for i in ids]


@pytest.mark.parametrize("body, table, event", [
    ({}, "q_work", "delete"), ({"do": "done_with"}, "q_work", "delete"), ({"do": "fail"}, "q_work", "delete"), ({"do": "fail"}, "q_work_dlq", "insert")])
def test_outcome_that_a_trigger_does_not_let_through(stand, body, table, event):
    """The effect is had once: the outcome is kept, the lease goes on, and all is stored when the trigger is gone."""
    keep_rows(stand, event, table)
    (bad,) = stand.send(stay="yes", **body)
    daemon = stand.start(drain_timeout="1s", queue={"visibility_timeout": "1s"})
    (good,) = stand.send()
    stand.effect_of([good])
    daemon.wait_log("the outcome is kept in memory and the message is not run again")
    first = stand.value("select vt from pgmq.q_work")
    wait_until("two leases have passed, and the last one holds", lambda: stand.value(
        "select max(vt) > %s + interval '2 s' and max(vt) > clock_timestamp() from pgmq.q_work", [first]))
    assert stand.value("select read_ct from pgmq.q_work") == 1 and not stand.logged("lease lost")
    if event == "delete" and not body:  # once
        stand.db.execute(f"drop trigger keep on pgmq.{table}")
        # it would be tried again twice a minute, and is at once after a reconnect
        stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgmqd worker%' and datname = current_database()")
        stand.drain()
        stored = stand.verdict()
        assert (set(stored.archived), set(stored.dead)) == ({good}, {bad})
    assert all(n <= 1 for n in effects(stand, [bad, good]))


def raise_state(stand, event, state, condition, table="q_work"):
    """The application's own trigger, which refuses one row with an error that says that it passes."""
    stand.db.execute("create function public.refuse() returns trigger language plpgsql as "
                     f"$f$ begin raise exception 'not this one' using errcode = '{state}'; end $f$")
    stand.db.execute(f"create trigger refuse before {event} on pgmq.{table} for each row when ({condition}) execute function public.refuse()")


@pytest.mark.parametrize("state", ["42501", "42P01", "25006"])
def test_outcome_that_a_trigger_refuses_with_another_state(stand, state):
    """It goes on alone and is not run again; what was settled together with it is stored."""
    raise_state(stand, "insert", state, "new.message->>'stay' = 'yes'", "a_work")
    stand.send(30, sleep_ms=200)
    stand.send(stay="yes", sleep_ms=200)
    stand.start(queue={"visibility_timeout": "3s", "max_in_flight": 50}, drain_timeout="1s", fallback_poll="1h")
    wait_until("the others are stored", lambda: stand.value("select count(*) from pgmq.q_work") == 1)
    stand.db.execute("drop trigger refuse on pgmq.a_work")
    stand.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgmqd worker%' and datname = current_database()")
    stand.drain()
    assert all(n == 1 for n in effects(stand, stand.verdict().check().archived)) and not stand.logged("lease lost")


def test_lease_that_a_trigger_does_not_let_extend(stand):
    """The leases of the others are extended: none of them is taken back or run again."""
    raise_state(stand, "update", "42501", "new.message->>'stay' = 'yes' and new.read_ct = old.read_ct")
    good = stand.send(5, sleep_ms=2500)
    stand.send(stay="yes", sleep_ms=2500)
    stand.start(queue={"visibility_timeout": "1s", "max_in_flight": 10}, drain_timeout="1s", fallback_poll="1h")
    stand.effect_of(good)
    assert effects(stand, good) == [1] * 5 and sum(s.uuid in good and s.what == "B" for s in stand.steps()) == 5


def test_retry_that_a_trigger_does_not_let_through(stand):
    """The delay cannot be written down: the message becomes a dead letter, and does not run again at the end of its lease."""
    keep_rows(stand, "update", condition="new.read_ct = old.read_ct")
    stand.send(stay="yes", do="retry", delay_ms=1)
    stand.start()
    wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1)
    assert "a trigger on the queue's table keeps the row as it is" in stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq")


def test_archive_whose_trigger_puts_rows_elsewhere(stand):
    """As partitions were made before there were any: what the trigger has taken is settled."""
    stand.db.execute("create table public.elsewhere (like pgmq.a_work)")
    stand.db.execute("create function public.move() returns trigger language plpgsql as 'begin insert into public.elsewhere values (new.*); return null; end'")
    stand.db.execute("create trigger move before insert on pgmq.a_work for each row execute function public.move()")
    ids = stand.send(5) + stand.send(5, do="done_with")
    stand.start()
    stand.drain()
    assert effects(stand, ids) == [1] * 10 and stand.value("select count(*) from public.elsewhere") == 10
    assert not stand.logged("lease lost")


@pytest.mark.parametrize("table, event", [("q_work", "update"), ("q_work", "delete"), ("a_work", "insert")])
def test_table_with_a_rule(stand, table, event):
    """PostgreSQL has no way to claim or settle there: the log says so, nothing runs, and all goes on without the rule."""
    stand.db.execute(f"create rule odd as on {event} to pgmq.{table} do instead nothing")
    ids = stand.send(3)
    daemon = stand.start()
    said = daemon.wait_log("has a rule (CREATE RULE)")
    assert f"pgmq.{table}" in said["text"]
    stand.db.execute(f"drop rule odd on pgmq.{table}")
    stand.effect_of(ids, 60)
    stand.drain()
    stand.verdict().check()


def test_message_storm(stand):
    """16 MB, depth 10,000, numbers of 300 digits, SQL null, null, arrays, odd keys: handled or dead, and no crash."""
    daemon = stand.start(queue={"max_attempts": 2, "visibility_timeout": "20s"})
    deep = "[" * 5000 + "]" * 5000
    bodies = [json.dumps({"uuid": "big", "x": "y" * (16 << 20)}), '{"uuid": "deep", "x": %s}' % deep, '{"uuid": "num", "n": %s}' % ("9" * 300),
              "null", '"text"', "[1, 2, 3]", "{}", '{"uuid": 1}', '{"uuid": "a", "UUID": "b"}', '{"": "\\u0001\\u2028"}',
              '{"sleep_ms": 1e300}', '{"sleep_ms": -5}', '{"do": "retry", "delay_ms": -9e99}']
    for body in bodies[:-3]:
        stand.db.execute("select pgmq.send('work', %s::jsonb)", [body])
    stand.db.execute("select pgmq.send('work', %s::jsonb)", [bodies[-2]])
    stand.db.execute("select pgmq.send('work', %s::jsonb)", [bodies[-1]])
    stand.db.execute("insert into pgmq.q_work (vt, message) values (now(), null)")
    stand.effect_of(stand.send(10))
    stand.drain(60)
    counts = stand.value("select count(*) from pgmq.a_work") + stand.value("select count(*) from pgmq.q_work_dlq")
    assert counts == len(bodies) - 1 + 1 + 10
    assert stand.value("select count(*) from pgmq.q_work_dlq where message is null") == 1
    assert not [r for r in daemon.records() if "killed by" in r.get("text", "")]


def test_message_that_takes_longer_than_its_lease(stand, cluster):
    """It never comes in time, on no attempt: it ends as a dead letter that says so, and does not go round for ever."""
    with Proxy("127.0.0.1", cluster.port) as proxy:
        proxy.keep = lambda kind, body: kind != "D" or len(body) < 1000000 or time.sleep(1.5) is None
        stand.start(stand.tcp(proxy.port), queue={"max_attempts": 2, "visibility_timeout": "1s"})
        ids = stand.send(x="y" * 2000000)
        wait_until("dead", lambda: stand.value("select count(*) from pgmq.q_work_dlq") == 1)
        assert "raise visibility_timeout" in stand.value("select headers->'pgmqd_dead'->>'reason' from pgmq.q_work_dlq")
        stand.effect_of(stand.send())
        stand.drain()
        assert list(stand.verdict().check().dead) == ids


def test_storm_of_random_outcomes(stand, seed):
    """Retries, failures, replacements and transactions mixed: every message ends where its outcome says."""
    rng = random.Random(seed)
    stand.start(queue={"max_in_flight": 50})
    sent = {}
    for _ in range(300):
        what = rng.choice(("done", "done", "retry", "fail", "done_with"))
        (i,) = stand.send(do=what, until=0 if what == "fail" else 3 if what == "retry" else 0, delay_ms=10, sleep_ms=rng.choice((0, 1, 20)))
        sent[i] = what
    stand.drain()
    v = stand.verdict().check()
    assert set(v.dead) == {i for i, what in sent.items() if what == "fail"}
    assert stand.value("select count(*) from public.effects") == sum(what == "done_with" for what in sent.values())


def test_configuration_error_burns_no_attempt(stand):
    daemon = stand.start(queue={"max_attempts": 2, "config_retry": "100ms"})
    (i,) = stand.send(do="config")
    for _ in range(4):
        daemon.wait_log("queue paused", start=daemon.mark())
    stand.db.execute("update pgmq.q_work set message = message || '{\"do\": \"done\"}'")
    stand.effect_of([i])
    stand.drain()
    assert not stand.verdict().check().dead
