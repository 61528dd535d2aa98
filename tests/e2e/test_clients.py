"""The calls of pgmq's clients, as they send them: names of arguments, casts, and parameters without a type where theirs have none.

On the schema that 010 and 011 make, the clients need one option (README), since by default they create the extension or look for it.
"""

import datetime

import psycopg
import pytest
from psycopg.types.json import Jsonb

SOON = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
ONE, TWO = Jsonb({"a": 1}), [Jsonb({"a": 1}), Jsonb({"a": 2})]
MESSAGE = "msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers"
Q, M, H = "queue_name=>%s::text", "msg=>%s::jsonb", "headers=>%s::jsonb"
MS, HS = "msgs=>%s::jsonb[]", "headers=>%s::jsonb[]"
READ = f"{Q}, vt=>%s::integer, qty=>%s::integer"
POLL = f"{READ}, max_poll_seconds=>%s::integer, poll_interval_ms=>%s::integer"
KEY = "routing_key=>%s::text"

# methods of the Python client: (method, statement, parameters)
PYTHON = [
    ("create_queue", "select pgmq.create(queue_name=>%s)", ["pq"]),
    ("create_queue unlogged", "select pgmq.create_unlogged(queue_name=>%s)", ["pu"]),
    ("create_non_partitioned", "select pgmq.create_non_partitioned(queue_name=>%s)", ["pn"]),
    ("validate_queue_name", "select pgmq.validate_queue_name(queue_name=>%s)", ["pq"]),
    ("list_queues", "select queue_name, created_at, is_partitioned, is_unlogged from pgmq.list_queues()", []),
    ("send", f"select * from pgmq.send({Q}, {M})", ["pq", ONE]),
    ("send delay", f"select * from pgmq.send({Q}, {M}, delay=>%s::integer)", ["pq", ONE, 0]),
    ("send at", f"select * from pgmq.send({Q}, {M}, delay=>%s::timestamptz)", ["pq", ONE, SOON]),
    ("send headers", f"select * from pgmq.send({Q}, {M}, {H})", ["pq", ONE, ONE]),
    ("send headers delay", f"select * from pgmq.send({Q}, {M}, {H}, delay=>%s::integer)", ["pq", ONE, ONE, 0]),
    ("send headers at", f"select * from pgmq.send({Q}, {M}, {H}, delay=>%s::timestamptz)", ["pq", ONE, ONE, SOON]),
    ("send_batch", f"select * from pgmq.send_batch({Q}, {MS})", ["pq", TWO]),
    ("send_batch delay", f"select * from pgmq.send_batch({Q}, {MS}, delay=>%s::integer)", ["pq", TWO, 0]),
    ("send_batch at", f"select * from pgmq.send_batch({Q}, {MS}, delay=>%s::timestamptz)", ["pq", TWO, SOON]),
    ("send_batch headers", f"select * from pgmq.send_batch({Q}, {MS}, {HS})", ["pq", TWO, TWO]),
    ("send_batch headers delay", f"select * from pgmq.send_batch({Q}, {MS}, {HS}, delay=>%s::integer)", ["pq", TWO, TWO, 0]),
    ("send_batch headers at", f"select * from pgmq.send_batch({Q}, {MS}, {HS}, delay=>%s::timestamptz)", ["pq", TWO, TWO, SOON]),
    ("bind_topic", "select pgmq.bind_topic(pattern=>%s, queue_name=>%s)", ["a.*", "pq"]),
    ("list_topic_bindings", "select pattern, queue_name, bound_at, compiled_regex from pgmq.list_topic_bindings()", []),
    ("list_topic_bindings of", "select pattern, queue_name, bound_at, compiled_regex from pgmq.list_topic_bindings(queue_name=>%s)", ["pq"]),
    ("test_routing", "select pattern, queue_name, compiled_regex from pgmq.test_routing(routing_key=>%s)", ["a.b"]),
    ("validate_routing_key", "select pgmq.validate_routing_key(routing_key=>%s)", ["a.b"]),
    ("validate_topic_pattern", "select pgmq.validate_topic_pattern(pattern=>%s)", ["a.#"]),
    ("send_topic", f"select pgmq.send_topic({KEY}, {M})", ["a.b", ONE]),
    ("send_topic headers", f"select pgmq.send_topic({KEY}, {M}, {H}, delay=>%s::integer)", ["a.b", ONE, ONE, 0]),
    ("send_topic delay", f"select pgmq.send_topic({KEY}, {M}, delay=>%s::integer)", ["a.b", ONE, 0]),
    ("send_batch_topic", f"select * from pgmq.send_batch_topic({KEY}, {MS})", ["a.b", TWO]),
    ("send_batch_topic delay", f"select * from pgmq.send_batch_topic({KEY}, {MS}, delay=>%s::integer)", ["a.b", TWO, 0]),
    ("send_batch_topic at", f"select * from pgmq.send_batch_topic({KEY}, {MS}, delay=>%s::timestamptz)", ["a.b", TWO, SOON]),
    ("send_batch_topic headers", f"select * from pgmq.send_batch_topic({KEY}, {MS}, {HS})", ["a.b", TWO, TWO]),
    ("send_batch_topic headers delay", f"select * from pgmq.send_batch_topic({KEY}, {MS}, {HS}, delay=>%s::integer)", ["a.b", TWO, TWO, 0]),
    ("send_batch_topic headers at", f"select * from pgmq.send_batch_topic({KEY}, {MS}, {HS}, delay=>%s::timestamptz)", ["a.b", TWO, TWO, SOON]),
    ("unbind_topic", "select pgmq.unbind_topic(pattern=>%s, queue_name=>%s)", ["a.*", "pq"]),
    ("read", f"select {MESSAGE} from pgmq.read({READ})", ["pq", 0, 1]),
    ("read conditional", f"select {MESSAGE} from pgmq.read({READ}, conditional=>%s::jsonb)", ["pq", 0, 1, ONE]),
    ("read_with_poll", f"select {MESSAGE} from pgmq.read_with_poll({POLL})", ["pq", 0, 1, 1, 50]),
    ("read_with_poll conditional", f"select {MESSAGE} from pgmq.read_with_poll({POLL}, conditional=>%s::jsonb)", ["pq", 0, 1, 1, 50, ONE]),
    ("read_grouped", f"select {MESSAGE} from pgmq.read_grouped({READ})", ["pq", 0, 1]),
    ("read_grouped_rr", f"select {MESSAGE} from pgmq.read_grouped_rr({READ})", ["pq", 0, 1]),
    ("read_grouped_with_poll", f"select {MESSAGE} from pgmq.read_grouped_with_poll({POLL})", ["pq", 0, 1, 1, 50]),
    ("read_grouped_rr_with_poll", f"select {MESSAGE} from pgmq.read_grouped_rr_with_poll({POLL})", ["pq", 0, 1, 1, 50]),
    ("set_vt", f"select {MESSAGE} from pgmq.set_vt({Q}, msg_id=>%s::bigint, vt=>%s::integer)", ["pq", 1, 0]),
    ("set_vt at", f"select {MESSAGE} from pgmq.set_vt({Q}, msg_id=>%s::bigint, vt=>%s::timestamptz)", ["pq", 1, SOON]),
    ("set_vt batch", f"select {MESSAGE} from pgmq.set_vt({Q}, msg_ids=>%s::bigint[], vt=>%s::integer)", ["pq", [1, 2], 0]),
    ("set_vt batch at", f"select {MESSAGE} from pgmq.set_vt({Q}, msg_ids=>%s::bigint[], vt=>%s::timestamptz)", ["pq", [1], SOON]),
    ("pop", f"select {MESSAGE} from pgmq.pop({Q}, qty=>%s::integer)", ["pq", 2]),
    ("delete", f"select pgmq.delete({Q}, msg_id=>%s::bigint)", ["pq", 1]),
    ("delete_batch", f"select * from pgmq.delete({Q}, msg_ids=>%s::bigint[])", ["pq", [3, 5, 6, 7]]),
    ("archive", f"select pgmq.archive({Q}, msg_id=>%s::bigint)", ["pq", 8]),
    ("archive_batch", f"select * from pgmq.archive({Q}, msg_ids=>%s::bigint[])", ["pq", [9, 10]]),
    ("metrics", "select * from pgmq.metrics(queue_name=>%s)", ["pq"]),
    ("metrics_all", "select * from pgmq.metrics_all()", []),
    ("create_fifo_index", "select pgmq.create_fifo_index(queue_name=>%s)", ["pq"]),
    ("create_fifo_indexes_all", "select pgmq.create_fifo_indexes_all()", []),
    ("enable_notify", f"select pgmq.enable_notify_insert({Q}, throttle_interval_ms=>%s::integer)", ["pq", 10]),
    ("update_notify", f"select pgmq.update_notify_insert({Q}, throttle_interval_ms=>%s::integer)", ["pq", 20]),
    ("list_notify_throttles", "select queue_name, throttle_interval_ms, last_notified_at from pgmq.list_notify_insert_throttles()", []),
    ("disable_notify", f"select pgmq.disable_notify_insert({Q})", ["pq"]),
    ("detach_archive", "select pgmq.detach_archive(queue_name=>%s)", ["pq"]),
    ("purge", "select pgmq.purge_queue(queue_name=>%s)", ["pq"]),
    ("drop_queue", "select pgmq.drop_queue(queue_name=>%s)", ["pq"]),
]
# methods of the client for Node, whose parameters are all text without a type
NODE = [
    ("create", "select pgmq.create(%s)", ["nq"]), ("createUnlogged", "select pgmq.create_unlogged(%s)", ["nu"]), ("list", "select pgmq.list_queues()", []),
    ("send", "select * from pgmq.send(%s::text, %s::jsonb, %s::integer)", ["nq", "{}", "0"]),
    ("sendBatch", "select * from pgmq.send_batch(%s::text, %s::jsonb[], %s::integer)", ["nq", '{"{}","{}","{}","{}"}', "0"]),
    ("read", "select * from pgmq.read(%s, %s, %s)", ["nq", "0", "2"]), ("setVt", "select * from pgmq.set_vt(%s, %s, %s)", ["nq", "1", "0"]),
    ("pop", "select * from pgmq.pop(%s)", ["nq"]), ("archive", "select pgmq.archive(%s, %s::bigint)", ["nq", "2"]),
    ("archiveBatch", "select pgmq.archive(%s, %s::bigint[])", ["nq", "{3}"]), ("delete", "select pgmq.delete(%s, %s::bigint)", ["nq", "4"]),
    ("deleteBatch", "select pgmq.delete(%s, %s::bigint[])", ["nq", "{5}"]), ("getMetrics", "select * from pgmq.metrics(%s)", ["nq"]),
    ("getAllMetrics", "select * from pgmq.metrics_all()", []), ("detachArchive", "select pgmq.detach_archive(%s)", ["nq"]),
    ("purge", "select pgmq.purge_queue(%s)", ["nq"]), ("drop", "select pgmq.drop_queue(%s)", ["nq"]),
]
# the transport of Celery's kombu that sends its own statements; the other one is the Python client
KOMBU = [
    ("create", "select pgmq.create(%s)", ["celery"]), ("exists", "select 1 from pgmq.list_queues() where queue_name = %s", ["celery"]),
    ("send", "select pgmq.send(%s, %s)", ["celery", ONE]), ("size", "select queue_length from pgmq.metrics(%s)", ["celery"]),
    ("read", "select msg_id, message from pgmq.read(%s, %s, 1)", ["celery", 30]), ("ack", "select pgmq.delete(%s, %s)", ["celery", 1]),
    ("purge", "select pgmq.purge_queue(%s)", ["celery"]), ("drop", "select pgmq.drop_queue(%s)", ["celery"]),
]


@pytest.mark.parametrize("calls", [PYTHON, NODE, KOMBU], ids=["python", "node", "kombu"])
def test_each_call_answers(rig, calls):
    """No call fails or is ambiguous, and each that has something to say returns it."""
    if rig.db.execute("select obj_description('pgmq'::regnamespace, 'pg_namespace')").fetchone()[0] is None:
        pytest.skip("this is pgmq's own schema, of whichever version")
    failed = []
    for method, sql, params in calls:
        try:
            if not rig.db.execute(sql, params).fetchall():
                failed.append(f"{method}: no row")
        except psycopg.Error as e:
            failed.append(f"{method}: {e}")
    assert not failed, "\n".join(failed)


def test_partitions_are_refused_with_their_reason(rig):
    if rig.cluster.has_extension("pg_partman") or rig.cluster.has_extension("pgmq"):
        pytest.skip("there is pg_partman or the extension")
    for call in ("create_partitioned('pp', '10000', '100000')", "convert_archive_partitioned('email_queue', '10000', '100000', 10)"):
        with pytest.raises(psycopg.Error, match="pg_partman"):
            rig.db.execute(f"select pgmq.{call}")
