"""Traces: what happens to messages goes to a collector as spans; what it does not take is dropped, and no message waits for it."""

import json

import pytest

from lib import app
from lib.httpclient import Http, free_port
from lib.httpstub import HttpStub
from lib.stand import wait_until
from psycopg.types.json import Jsonb

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    with HttpStub(default=(200, {})) as stub:
        yield stub


def spans(collector):
    found = []
    for request in collector.requests():
        for resource in json.loads(request.body)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                found += scope["spans"]
    for s in found:
        s["attributes"] = {a["key"]: next(iter(a["value"].values())) for a in s["attributes"]}
    return found


def start(rig, collector, port=None, **more):
    rig.start(queues={"analytics_queue": {"plugin": "exec", "command": "sh -c 'read x; case $x in *again*) exit 75;; esac'", "backoff_min": "1ms", "backoff_max": "2ms"}},
              env={"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=blue, authorization=Basic c2VjcmV0"}, otlp_endpoint=f"{collector.url}/v1/traces",
              **({"http_listen": f"127.0.0.1:{port}"} if port else {}), **more)


def send(rig, body, headers=None):
    return rig.db.execute("select pgmqd.enqueue('analytics_queue', %s, 0, %s)", [Jsonb(body), Jsonb(headers) if headers else None]).fetchone()[0]


def of(collector, msg_id):
    return {s["name"]: s for s in spans(collector) if s["attributes"]["messaging.message.id"] == str(msg_id)}


def test_a_message_is_a_span_with_its_parts_below(rig, collector):
    start(rig, collector)
    traced = send(rig, {"n": 1, "secret": "person@example.test"}, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    plain = send(rig, {"n": 2})
    unsampled = send(rig, {"n": 3}, {"traceparent": f"00-{'1' * 32}-{PARENT}-00"})
    wait_until("the spans", lambda: len(of(collector, traced)) == len(of(collector, plain)) == 4)
    for msg_id, trace, parent in ((traced, TRACE, PARENT), (plain, None, None)):
        found = of(collector, msg_id)
        assert set(found) == {"message", "claim", "plugin", "settle"}
        root = found["message"]
        assert {s["traceId"] for s in found.values()} == {trace or root["traceId"]} and len(root["traceId"]) == 32
        assert root.get("parentSpanId") == parent and root["kind"] == 5
        assert all(found[n]["parentSpanId"] == root["spanId"] for n in ("claim", "plugin", "settle"))
        times = [int(root["startTimeUnixNano"]), *(int(found[n][t]) for n in ("claim", "plugin", "settle") for t in ("startTimeUnixNano", "endTimeUnixNano")), int(root["endTimeUnixNano"])]
        assert times[-1] == max(times) and times[0] <= times[2] and times[2] <= times[3] <= times[4] <= times[5] <= times[6]
        assert root["attributes"] == {"messaging.system": "pgmq", "messaging.destination.name": "analytics_queue", "messaging.message.id": str(msg_id), "pgmqd.plugin": "exec",
                                      "pgmqd.attempt": "1", "pgmqd.outcome": "done"}
    assert of(collector, traced)["message"]["traceId"] != of(collector, plain)["message"]["traceId"]
    request = collector.requests()[0]
    assert (request.path, request.headers["x-tenant"], request.headers["authorization"]) == ("/v1/traces", "blue", "Basic c2VjcmV0")
    assert b"person@example" not in b"".join(r.body if isinstance(r.body, bytes) else r.body.encode() for r in collector.requests())
    rig.daemon.wait_log(lambda r: r.get("text") == "settled" and r.get("trace_id") == of(collector, plain)["message"]["traceId"])
    assert of(collector, unsampled) == {}


def test_attempts_belong_together(rig, collector):
    """Each retry is a claim and a call below the one span of the message, which comes with the last outcome."""
    start(rig, collector)
    msg_id = send(rig, {"again": True})
    wait_until("the message is dead", lambda: [s for s in spans(collector) if s["name"] == "message"])
    found = [s for s in spans(collector) if s["attributes"]["messaging.message.id"] == str(msg_id)]
    (root,) = [s for s in found if s["name"] == "message"]
    calls = [s for s in found if s["name"] == "plugin"]
    assert [s["attributes"]["pgmqd.attempt"] for s in calls] == ["1", "2", "3", "4", "5"] and {s["parentSpanId"] for s in calls} == {root["spanId"]}
    assert len({s["spanId"] for s in found}) == len(found) == 16 and len({s["traceId"] for s in found}) == 1
    assert root["status"] == {"code": 2, "message": "attempts"} and root["attributes"]["pgmqd.outcome"] == "fail"


@pytest.mark.parametrize("how", ["refuses", "is silent", "is away"])
def test_a_collector_that_does_not_take_them(rig, collector, how):
    """Messages are done as ever, and what is lost is counted; a silent one holds nothing up, also not the end."""
    collector.default = (503, {})
    if how == "is silent":
        collector.reply = lambda request: None
    port = free_port()
    if how == "is away":
        collector = HttpStub().start()
        collector.stop()
    start(rig, collector, port)
    for n in range(5):
        send(rig, {"n": n})
    wait_until("all done", lambda: app.rows(rig.db, "select count(*) as n from pgmq.a_analytics_queue")[0]["n"] == 5)
    if how != "is silent":
        def dropped():
            lines = [line for line in Http(port)("/metrics")[2].splitlines() if line.startswith("pgmqd_spans_dropped_total{")]
            return sum(float(line.rpartition(" ")[2]) for line in lines)
        wait_until("the loss is counted", lambda: dropped() >= 20)
        rig.daemon.wait_log(lambda r: r.get("level") == "warn" and "spans of traces were dropped" in r.get("text", ""))
    assert rig.daemon.stop() in (0, None)
