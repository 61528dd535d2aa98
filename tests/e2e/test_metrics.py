"""Metrics, alert rules and dashboard: what is served is what Prometheus takes, and what rules and panels ask for is served."""

import json
import re
import shutil
import subprocess
import urllib.request

import pytest

from lib.paths import SRCDIR
from lib.pgcluster import free_port
from lib.rig import email_queue
from lib.stand import wait_until

MONITORING = SRCDIR / "docs" / "monitoring"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (apt-get install prometheus)")

ALERT_TESTS = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'pgmqd_build_info', values: '1x30'}}
      - {{series: 'pgmqd_queue_oldest_due_seconds{{queue="a",instance="x"}}', values: '0 90x30'}}
      - {{series: 'pgmqd_queue_oldest_due_seconds{{queue="b",instance="x"}}', values: '0 90x30'}}
      - {{series: 'pgmqd_paused{{queue="a",plugin="p",instance="x"}}', values: '0x30'}}
      - {{series: 'pgmqd_paused{{queue="b",plugin="p",instance="x"}}', values: '1x30'}}
      - {{series: 'pgmqd_held{{queue="b",plugin="p",instance="x"}}', values: '1x30'}}
      - {{series: 'pgmqd_dead_lettered_total{{queue="a",plugin="p",instance="x"}}', values: '5x10 6x20'}}
      - {{series: 'pgmqd_claims_failed_total{{queue="c",plugin="p",instance="x"}}', values: '0x5 0+5x25'}}
      - {{series: 'pgmqd_last_claim_timestamp_seconds{{queue="c",plugin="p",instance="x"}}', values: '0 60 120 180 240 300x25'}}
      - {{series: 'pgmqd_email_provider_circuit{{queue="m",plugin="email",provider="smtp",instance="x"}}', values: '0x5 1x25'}}
    alert_rule_test:
      - {{eval_time: 2m, alertname: PgmqdQueueLate}}
      - eval_time: 4m
        alertname: PgmqdQueueLate
        exp_alerts:
          - exp_labels: {{severity: critical, queue: a, instance: x}}
            exp_annotations: {{summary: messages of a have waited for 1m 30s, remedy: "pgmqd status, then pgmqd doctor"}}
      - {{eval_time: 20m, alertname: PgmqdQueuePaused}}
      - {{eval_time: 9m, alertname: PgmqdDeadLetters}}
      - eval_time: 15m
        alertname: PgmqdDeadLetters
        exp_alerts:
          - exp_labels: {{severity: warning, queue: a, plugin: p, instance: x}}
            exp_annotations: {{summary: messages of a failed for good, remedy: pgmqd dlq list a}}
      - {{eval_time: 20m, alertname: PgmqdDown}}
      - {{eval_time: 6m, alertname: PgmqdClaims}}
      - eval_time: 10m
        alertname: PgmqdClaims
        exp_alerts:
          - exp_labels: {{severity: critical, queue: c, plugin: p, instance: x}}
            exp_annotations: {{summary: no claim of c has succeeded for 5m 0s, remedy: "pgmqd status c has the error; then pgmqd doctor"}}
      - eval_time: 20m
        alertname: PgmqdMailProvider
        exp_alerts:
          - exp_labels: {{severity: warning, queue: m, plugin: email, provider: smtp, instance: x}}
            exp_annotations: {{summary: the mails of m do not reach smtp, remedy: "pgmqd status m says since when, and why"}}
"""


def scrape(port):
    """The text of /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return answer.read().decode()


def values(text, name, **labels):
    """The samples of a metric whose labels are these."""
    found = []
    for m in re.finditer(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.M):
        have = dict(re.findall(r'(\w+)="([^"]*)"', m[1] or ""))
        if all(have.get(k) == v for k, v in labels.items()):
            found.append(float(m[2]))
    return found


@pytest.fixture
def port(rig):
    """Of a daemon with a mail queue and an idle one; a mail, a dead letter and a delayed message have been through."""
    port = free_port()
    rig.start({"analytics_queue": {"plugin": "null"}, "email_queue": email_queue(rig.catcher)}, http_listen=f"127.0.0.1:{port}")
    rig.send("metrics@example.test")
    rig.send("metrics@example.test", "no_such", {})
    rig.enqueue({}, "analytics_queue", delay=3600)
    rig.daemon.wait_settled(outcome="fail")
    rig.daemon.wait_settled(outcome="done")
    return port


def test_figures(rig, port):
    text = scrape(port)
    for stage in ("wake", "claim", "wait", "run", "settle"):
        assert sum(values(text, f"pgmqd_{stage}_seconds_count", queue="email_queue")) == 2, stage
    assert values(text, "pgmqd_database_up") == [1]
    assert values(text, "pgmqd_queue_messages", queue="analytics_queue", state="delayed") == [1]
    assert values(text, "pgmqd_queue_dead_letters", queue="email_queue") == [1]
    assert values(text, "pgmqd_queue_oldest_due_seconds", queue="email_queue") == [0]
    assert values(text, "pgmqd_queue_attached", queue="email_queue") == [1]
    assert values(text, "pgmqd_notifications_missed_total", queue="email_queue") == [0]
    assert values(text, "pgmqd_held", queue="email_queue") == [0]
    wait_until("the loop's lag was measured", lambda: values(scrape(port), "pgmqd_loop_lag_seconds_count", queue="email_queue")[0] >= 1)


def test_a_missed_notification_is_counted(rig):
    """The trigger is gone, so that only the fallback poll finds a message."""
    port = free_port()
    rig.start({"analytics_queue": {"plugin": "null"}}, http_listen=f"127.0.0.1:{port}", fallback_poll="2s")
    rig.db.execute("drop trigger pgmqd_wakeup on pgmq.q_analytics_queue")

    def missed():
        rig.enqueue({}, "analytics_queue")
        return values(scrape(port), "pgmqd_notifications_missed_total", queue="analytics_queue") != [0]

    wait_until("one was missed", missed, every=0.5)


def test_without_the_database(rig, port):
    """The processes' own figures come all the same."""
    admin = rig.cluster.connect()
    admin.execute(f"alter database {rig.dbname} allow_connections false")
    try:
        rig.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        wait_until("the connection is lost", lambda: values(scrape(port), "pgmqd_database_up") == [0])
        text = scrape(port)
        assert values(text, "pgmqd_done_total", queue="email_queue") == [1] and not values(text, "pgmqd_queue_messages")
    finally:
        admin.execute(f"alter database {rig.dbname} allow_connections true")
        admin.close()


@needs_promtool
def test_promtool_takes_the_text(port):
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=scrape(port), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_alert_rules(tmp_path):
    """Their syntax, and some of them on made-up figures."""
    rules = MONITORING / "pgmqd-alerts.yml"
    done = subprocess.run([PROMTOOL, "check", "rules", rules], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "tests.yml").write_text(ALERT_TESTS.format(rules=rules))
    done = subprocess.run([PROMTOOL, "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_ask_for_what_is_there(port):
    text = scrape(port)
    there = set(re.findall(r"^# TYPE (\w+)", text, re.M))
    there |= {f"{name}_{part}" for name in re.findall(r"^# TYPE (\w+) histogram", text, re.M) for part in ("bucket", "sum", "count")}
    dashboard = json.loads((MONITORING / "pgmqd-dashboard.json").read_text())
    asked = re.findall(r"\bpgmqd_\w+", (MONITORING / "pgmqd-alerts.yml").read_text())
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["targets"]
        for target in panel["targets"]:
            asked += re.findall(r"\bpgmqd_\w+", target["expr"])
    mail = {name for name in asked if name.startswith("pgmqd_email_")}  # there when a provider's queue is served
    assert set(asked) - mail <= there, set(asked) - mail - there
    page = (SRCDIR / "dispatcher" / "pgmqd.8").read_text().partition(".Sh METRICS")[2].partition(".Sh ENVIRONMENT")[0]
    told = {f"pgmqd_{name}" for name in re.findall(r"^\.Ql (\w+)", page, re.M)}
    told |= set(re.findall(r"^\.Li (pgmqd_\w+)", (SRCDIR / "plugins" / "email" / "pgmqd-email.7").read_text(), re.M))
    families = set(re.findall(r"^# TYPE (\w+)", text, re.M))
    assert families <= told, families - told
    assert mail <= told and families <= {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} | set(asked), "no alert and no panel asks for it"
