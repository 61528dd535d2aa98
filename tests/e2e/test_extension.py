"""The extension pgmq: queues move from our own schema to it and back under a running daemon, and each of its versions is served."""

import threading

import pytest

from lib import rig as rigs
from lib.pgextension import ExtensionCluster, real_files, versions
from lib.stand import wait_until


@pytest.fixture(scope="module")
def server():
    with ExtensionCluster() as c:
        yield c


@pytest.fixture
def moved(server, catcher, request):
    """A migrated database on a server without the extension."""
    server.withdraw()
    name = "move_" + request.node.name.split("[")[0].removeprefix("test_")[:40]
    assert rigs.migrate(server.createdb(name)).returncode == 0
    with rigs.Rig(server, name, catcher) as rig:
        yield rig
    server.dropdb(name)


def move(rig, way, status=0):
    """`pgmqd migrate --WAY-extension`; what it printed."""
    done = rigs.migrate(rig.conninfo, f"--{way}-extension")
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


SEEN = """select
 (select array_agg(q order by msg_id) from (select msg_id, read_ct, enqueued_at, vt, message, headers from pgmq."q_mixed q") q),
 (select array_agg((msg_id, message, headers)) from pgmq."a_mixed q"),
 (select array_agg(m order by queue_name) from pgmq.meta m),
 (select array_agg((pattern, queue_name, bound_at)) from pgmq.topic_bindings),
 (select array_agg((queue_name, throttle_interval_ms)) from pgmq.notify_insert_throttle),
 (select array_agg((relname, relacl) order by relname) from pg_class where relnamespace = 'pgmq'::regnamespace and relname ~ '^[qa]_'),
 (select array_agg(relname::text order by relname) from pg_class where relnamespace = 'pgmq'::regnamespace and relkind in ('r', 'v')),
 (select array_agg(tgrelid::regclass || ' ' || tgname order by tgrelid::regclass::text, tgname) from pg_trigger where not tgisinternal),
 has_function_privilege('shop', 'pgmq.send(text, jsonb)', 'execute'), has_function_privilege('pg_monitor', 'pgmq.purge_queue(text)', 'execute'),
 has_schema_privilege('shop', 'pgmq', 'usage')"""


def test_there_and_back(moved):
    """Messages, archives, numbers, topics, notifications and rights are what they were, while messages come in and are worked on."""
    rig = moved
    rig.db.execute("do $$ begin create role shop; exception when duplicate_object then null; end $$")
    rig.db.execute("select pgmqd.create_queue('live'), pgmq.create('MiXed q'), pgmq.create_unlogged('loose')")
    rig.db.execute("select pgmq.send('MiXed q', '{\"n\": 1}', '{\"x-pgmq-group\": \"a\"}', 0), pgmq.send('loose', '{}')")
    rig.db.execute("select pgmq.archive('MiXed q', pgmq.send('MiXed q', '{\"n\": 2}'))")
    rig.db.execute("select pgmq.bind_topic('a.*', 'MiXed q'), pgmq.enable_notify_insert('loose', 77)")
    rig.db.execute("grant usage on schema pgmq to shop; revoke execute on function pgmq.send(text, jsonb), pgmq.purge_queue(text) from public;"
                   " grant execute on function pgmq.send(text, jsonb) to shop, pgmqd; grant insert on pgmq.q_loose to shop")
    before = rig.db.execute(SEEN).fetchone()
    rig.start(queues={"live": {"plugin": "null"}}, fallback_poll="500ms")
    sent, done = [], threading.Event()

    def produce():
        with rig.connect() as db:
            while not done.is_set():
                sent.append(db.execute("select pgmq.send('live', '{}')").fetchone()[0])

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        wait_until("messages flow", lambda: rig.rows("a_live"))
        version = rig.cluster.offer()
        assert "belong to the extension pgmq" in move(rig, "adopt")
        assert rig.value("select extversion from pg_extension where extname = 'pgmq'") == version
        assert rig.db.execute(SEEN).fetchone() == before
        rig.db.execute("select pgmq.create('young'), pgmq.send('young', '{}')")
        assert "pgmqd's own schema" in move(rig, "leave")
        assert not rig.db.execute("select from pg_extension where extname = 'pgmq'").fetchall()
        assert rig.value("select count(*) from pgmq.read('young', 0, 5)") == 1 and rig.value("select pgmq.drop_queue('young')")
        assert rig.db.execute(SEEN).fetchone() == before
    finally:
        done.set()
        producer.join()
    wait_until("all archived", lambda: rig.value("select count(*) from pgmq.a_live") == len(sent))
    assert sorted(sent) == [r["msg_id"] for r in rig.rows("a_live")] and not rig.dead("live")
    assert "0 files applied" in rigs.migrate(rig.conninfo).stdout


def test_what_stands_in_the_way_is_named(moved):
    """Nothing is changed then."""
    rig = moved
    assert "does not have the extension" in move(rig, "adopt", 1)
    assert "is not installed in this database" in move(rig, "leave", 1)
    rig.cluster.offer()
    rig.db.execute("create function public.theirs() returns setof pgmq.message_record language sql as $$select * from pgmq.read('x', 1, 1)$$")
    assert "function public.theirs() depends on type pgmq.message_record" in move(rig, "adopt", 1)
    rig.db.execute("drop function public.theirs(); create view public.theirs as select queue_name from pgmq.meta")
    assert "view public.theirs depends on" in move(rig, "adopt", 1)
    rig.db.execute("drop view public.theirs")
    assert not rig.db.execute("select from pg_extension where extname = 'pgmq'").fetchall()
    move(rig, "adopt")
    assert "belong to the extension pgmq already" in move(rig, "adopt", 1)
    rig.db.execute("update pgmq.meta set is_partitioned = true where queue_name = 'email_queue'")
    assert "partitioned queues, and there are: email_queue" in move(rig, "leave", 1)


@pytest.mark.skipif(bool(real_files()), reason="only the stand-in can have any version")
def test_a_version_whose_dumps_lack_messages_is_refused(moved):
    moved.cluster.offer("1.5.1")
    assert "this server has pgmq 1.5.1, and a dump leaves out the messages" in move(moved, "adopt", 1)


@pytest.mark.skipif(not real_files(), reason="PGMQD_PGMQ_DIR does not name pgmq's own files; tests/matrix/run has them")
def test_each_step_of_the_extension(server, catcher):
    """After each ALTER EXTENSION UPDATE: SIGHUP, a lost connection, a restart of the server and of pgmqd; a message goes through each time."""
    _, way = versions(real_files())
    server.offer(way[0])
    assert rigs.migrate(server.createdb("steps")).returncode == 0
    with rigs.Rig(server, "steps", catcher) as rig:
        rig.db.execute("select pgmqd.create_queue('live')")
        queues = {"live": {"plugin": "null"}}
        rig.start(queues=queues, fallback_poll="500ms")

        def check(what):
            i = rig.enqueue({}, "live")
            wait_until(f"archived: {what}", lambda: rig.value("select exists (select from pgmq.a_live where msg_id = %s)", [i]))

        check(way[0])
        for version in way[1:]:
            rig.db.execute(f"alter extension pgmq update to '{version}'")
            check(version)
            mark = rig.daemon.mark()
            rig.daemon.reload()
            rig.daemon.wait_log("reloaded", start=mark)
            check(f"{version}, SIGHUP")
            rig.db.execute("select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name like 'pgmqd %'")
            check(f"{version}, reconnect")
            assert rigs.migrate(rig.conninfo).returncode == 0
            assert rig.daemon.stop() == 0
            rig.daemon.close()
            rig.start(queues=queues, fallback_poll="500ms")
            check(f"{version}, a new pgmqd")
            print("served:", version)
        assert not rig.dead("live")
