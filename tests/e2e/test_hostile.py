"""With a copy of all that pg_catalog has in front of it, no statement of the daemon, its plugins or a command calls any of it."""

import json

import pytest

from lib.daemon import run
from lib.httpclient import Described, free_port
from lib.paths import SRCDIR
from lib.rig import email_queue
from lib.stand import wait_until

TOKEN = "test-token-0123456789"


@pytest.fixture
def world(rig):
    """The rig, in whose database every session begins with a hostile search_path, but for the test's own."""
    rig.db.execute((SRCDIR / "tests" / "lib" / "hostile.sql").read_text())
    rig.db.execute(f"alter database {rig.dbname} set search_path = hostile, pg_catalog, public, pgmqd, pgmq")
    rig.disconnect()
    with rig.connect() as victim:
        victim.execute("select lower('x'), 1 + 1, 'a'::text from pg_am")
    rig._db = rig.connect(options="-c search_path=pg_catalog")
    assert seen(rig) == ["function lower(text)", "operator +(integer,integer)", "relation pg_am", "type text"], "the trap works"
    rig.db.execute("truncate hostile.seen")
    return rig


def seen(world):
    return [row[0] for row in world.db.execute("select distinct what from hostile.seen order by 1")]


def command(world, name, *argv, conninfo=None):
    done = run(name, *argv, "-d", conninfo or world.conninfo)
    assert seen(world) == [], (name, argv)
    assert done.returncode == 0 or (name == "doctor" and done.stdout), (name, argv, done.stdout, done.stderr)
    return done


def test_the_daemon_and_its_commands_call_nothing_of_it(world):
    for queue in ("turns", "urgent", "unattended"):
        world.db.execute("select pgmqd.create_queue(%s), pgmqd.attach_queue(%s)", [queue, queue])
    world.db.execute("select pgmqd.group_queue('turns'), pgmqd.prioritize_queue('urgent')")
    port = free_port()
    queues = {"email_queue": {**email_queue(world.catcher), "bounce_address": "bounce@example.test", "limits": "recipient 50/d"}, "analytics_queue": {"plugin": "analytics"},
              "turns": {"plugin": "null", "ordered": "group"}, "urgent": {"plugin": "exec", "command": "false", "max_attempts": 2, "backoff_min": "10ms", "backoff_max": "10ms"}}
    world.start(queues, http_listen=f"127.0.0.1:{port}", http_token=TOKEN, jobs={"task": "turns"})
    for n in range(3):
        world.db.execute("select pgmq.send('turns'::text, '{}'::jsonb, '{\"group\": \"g\"}'::jsonb), pgmq.send('urgent', '{\"priority\": 5}'),"
                         " pgmq.send('analytics_queue', '{\"event\": \"x\"}')")
        world.enqueue({"to": f"a{n}@example.test", "subject": "s", "text": "t", "key": f"k{n}"})
    wait_until("all of it is through", lambda: world.value("select not exists (select from pgmq.q_turns) and not exists (select from pgmq.q_email_queue)"
                                                           " and (select count(*) from pgmq.q_urgent_dlq) = 3 and not exists (select from pgmq.q_analytics_queue)"))
    assert seen(world) == []
    http = Described(port)
    for path in ("/health", "/metrics", "/api/status", "/api/queues/urgent/dead-letters", "/api/schedules", "/api/queues/turns/events"):
        http(path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert seen(world) == [], path
    command(world, "status")
    command(world, "pause", "turns", "--reason", "x")
    command(world, "resume", "turns")
    command(world, "send", "turns", "{}")
    command(world, "dlq", "list", "urgent")
    command(world, "dlq", "show", "urgent", "--id", "1")
    command(world, "dlq", "redrive", "urgent", "--id", "1")
    command(world, "dlq", "purge", "urgent", "--yes")
    command(world, "schedule", "list")
    command(world, "schedule", "run", "delete-old-messages")
    command(world, "doctor", "--json")
    command(world, "migrate", "--with", "application", "--sql-dir", SRCDIR / "sql")
    assert json.loads(command(world, "status", "--json", conninfo=world.login).stdout)
