"""Twenty abuse inputs, one test each, and the answer that each has to get. One pgmqd serves all but the last three tests.

What other files try in more forms is named in the test: test_mail_content.py (headers), test_mail_limits.py (many mails for one person),
test_webhook.py (addresses), test_http.py and test_processes.py (the HTTP port), test_plugin_load.py (files of plugins), tests/db/034_roles.sql
(every function and table).
"""

import json
import os
import socket

import psycopg
import psycopg.sql
import pytest

from lib import app
from lib.daemon import conf, run
from lib.httpstub import HttpStub
from lib.httpclient import Http, free_port
from lib.mailcatcher import MailCatcher
from lib.paths import TIMEOUT, directories
from lib.rig import Rig, email_queue

TOKEN = "a-token-of-the-abuse-tests"
EVIL = "evil@example.test"
ROLES = ("anon", "authenticated")


@pytest.fixture(scope="module")
def world(cluster, migrated, cert_dir, tmp_path_factory):
    """pgmqd with a mail queue, a queue of cheap messages, one of reports, a webhook and HTTP; the roles of a web API beside it."""
    name = "e2e_abuse"
    cluster.createdb(name, migrated)
    with MailCatcher(cert_dir=cert_dir) as catcher, HttpStub(default=(204, b"")) as hook, Rig(cluster, name, catcher) as rig:
        for role in ROLES:
            if not rig.db.execute("select to_regrole(%s)", [role]).fetchone()[0]:
                rig.db.execute(f"create role {role} nologin")
            rig.db.execute(f"grant usage on schema public to {role}")
        rig.db.execute("select pgmqd.create_queue('hooks')")
        rig.hook, rig.port = hook, free_port()
        rig.start({"email_queue": email_queue(catcher, strict_keys="yes"), "analytics_queue": {"plugin": "null"},
                   "report_generation_queue": {"plugin": "report", "report_dir": tmp_path_factory.mktemp("reports")},
                   "hooks": {"plugin": "webhook", "url": f"{hook.url}/hook", "allow_private": "yes"}},
                  env={"PGMQD_HTTP_TOKEN": TOKEN}, http_listen=f"127.0.0.1:{rig.port}", fallback_poll="1s")
        yield rig
    cluster.dropdb(name)


@pytest.fixture
def healthy(world):
    """After the test a good mail still goes through, none went elsewhere, and no process was lost."""
    processes = world.daemon.children()
    yield world
    good = f"good-{world.db.execute('select txid_current()').fetchone()[0]}@example.test"
    world.send(good)
    world.catcher.wait_to(good)
    assert not [m for m in world.catcher.mails() if EVIL in m.recipients or EVIL.encode() in m.bytes]
    assert world.daemon.children() == processes


def as_role(rig, role, sql, params=None):
    """The SQLSTATE with which a statement of that role ends; None when it does not fail."""
    with rig.connect() as db:
        db.execute(f"set role {role}")
        try:
            db.execute(sql, params)
        except psycopg.Error as e:
            return e.sqlstate
    return None


def refused(rig, message, *parts, queue="email_queue"):
    """Such a message is dead-lettered at its first attempt, and the reason has all the parts."""
    count = f"select count(*) from pgmq.q_{queue}_dlq"
    (before,) = rig.db.execute(count).fetchone()
    msg_id = rig.enqueue(message, queue)
    record = rig.daemon.wait_settled(queue=queue, msg_id=msg_id)
    assert record["outcome"] == "fail" and record["attempt"] == 1, record
    for part in parts:
        assert part in record["reason"], record
    assert rig.db.execute(count).fetchone()[0] == before + 1
    return record


MAIL = {"to": "ivan@example.test", "subject": "Test", "text": "A line.\n"}


# ---- who may call what ----

def test_01_anon_calls_every_function(world):
    """Whoever is nobody calls every function that pgmqd brings, with NULLs: not one lets it in."""
    functions = app.rows(world.db, """
        select format('select %s(%s)', p.oid::regproc, (select string_agg('null::' || format_type(t, null), ', ' order by n)
                 from unnest(p.proargtypes::oid[]) with ordinality a (t, n))) as call
        from pg_proc p join pg_namespace s on s.oid = p.pronamespace where s.nspname in ('public', 'pgmqd', 'pgmq') and p.prokind = 'f'
          and (s.nspname <> 'public' or p.prosrc ~ 'pgmq') and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')""")
    assert len(functions) > 50
    with world.connect() as db:
        db.execute("set role anon")
        for f in functions:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(f["call"])


def test_02_anon_reads_the_queues(world):
    for role in ROLES:
        for sql in ("select * from pgmq.q_email_queue", "select * from pgmq.email_queue", "select * from pgmq.read('email_queue', 1, 1)",
                    "select * from pgmqd.mail_log", "insert into pgmq.q_email_queue (vt, message) values (now(), '{}')"):
            assert as_role(world, role, sql) == "42501", (role, sql)


@pytest.mark.parametrize("name", ['q"; drop table pgmq.meta; --', "../x", "Mail", "x" * 300, "email_queue_dlq", "", "a_email_queue"])
def test_03_name_of_a_queue_that_is_none(world, name):
    before = world.db.execute("select count(*) from pg_class").fetchone()
    with world.connect() as db:
        db.execute("set role pgmqd_enqueuer")
        with pytest.raises(psycopg.Error) as e:
            db.execute("select pgmqd.submit(%s, '{}')", [name])
    assert e.value.sqlstate == "42704" and e.value.diag.message_primary == "submit: there is no such queue, or it is not attached"
    assert world.db.execute("select count(*) from pg_class").fetchone() == before


def test_04_message_too_large_too_deep_or_with_too_long_a_number(healthy):
    deep, number = "[" * 5000 + "]" * 5000, "9" * 100000
    for message in ('{"x": "%s"}' % ("x" * 10_000_000), '{"n": %s}' % number):
        assert as_role(healthy, "pgmqd_enqueuer", "select pgmqd.submit('email_queue', %s::jsonb)", [message]) == "22023"
    # what comes by another way
    refused(healthy, '{"to": "ivan@example.test", "subject": "x", "text": "y", "x": %s}' % deep, "not valid JSON")
    big = healthy.enqueue({"x": "x" * 10_000_000}, "analytics_queue")
    healthy.daemon.wait_settled(queue="analytics_queue", msg_id=big, outcome="done")
    huge = healthy.enqueue('{"to": %s}' % number)
    assert "to: it must be a string" in healthy.daemon.wait_settled(msg_id=huge, outcome="fail")["reason"]


# ---- what a message says ----

def test_05_keys_that_look_alike_and_keys_that_nobody_knows(healthy):
    refused(healthy, {**MAIL, "TO": EVIL}, "TO: ", "to")
    refused(healthy, {**MAIL, "envelope_to": EVIL}, "there is a key that is not known")
    refused(healthy, '{"to": "ivan@example.test", "to": {"x": "%s"}, "subject": "x", "text": "y"}' % EVIL, "to: ")


def test_06_address_that_ends_the_command(healthy):
    """test_mail_content.py has more of them."""
    refused(healthy, {**MAIL, "to": f"a@b>\r\nRCPT TO:<{EVIL}"}, "to: it has a line break")


def test_07_headers_in_the_subject(healthy):
    for text in ("x\r\nBcc: " + EVIL, "x\nBcc: " + EVIL, "x\rBcc: " + EVIL, "x\u2028Bcc: " + EVIL):
        refused(healthy, {**MAIL, "subject": text}, "subject: it has a line break")
        refused(healthy, {**MAIL, "to_name": text}, "to_name: it has a line break")
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        healthy.enqueue('{"subject": "a\\u0000b"}')
    healthy.enqueue({**MAIL, "to": "bidi@example.test", "subject": "a Bcc: x\u202egpj.exe"})
    mail = healthy.catcher.wait_to("bidi@example.test")
    assert mail.parsed["Bcc"] is None
    header = mail.bytes.split(b"\r\n\r\n")[0]
    assert not header.replace(b"\r\n", b"").count(b"\n") and header.isascii()


def test_08_many_recipients(healthy):
    """Many mails to one: test_mail_limits.py, test_cap_of_a_recipient. There is no limit by sender."""
    refused(healthy, {**MAIL, "to": [f"x{n}@example.test" for n in range(10000)]}, "a mail has up to 50 recipients")
    refused(healthy, {**MAIL, "to": ", ".join(f"x{n}@example.test" for n in range(10))}, "to: it ")
    refused(healthy, {**MAIL, "from": EVIL}, "from")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "ru/../../x", "report_ready%00", "report_ready\n", "x" * 300])
def test_09_template_outside_of_its_directory(healthy, name):
    refused(healthy, {"to": "ivan@example.test", "template": name, "variables": {}}, "not a template's name")


def test_10_template_language_in_a_value(healthy):
    name = "{{report_url}}{{{x}}}{{>layout_head}}<script>alert(1)</script>%n%s%x"
    healthy.send("template@example.test", variables=dict(app.sample("report_ready"), customer_name=name))
    mail = healthy.catcher.wait_to("template@example.test")
    assert name in mail.body("plain") and "<script" not in mail.body("html") and "{{report_url}}" in mail.body("html")


def test_11_another_users_row(healthy):
    """A report is made for the person whose check-up it is; and who is nobody enqueues nothing."""
    elena = app.new_customer(healthy.db, "elena@example.test", "Елена Примерова")
    evil = app.new_customer(healthy.db, EVIL, "Зло")
    checkup = app.start_checkup(healthy.db, elena)
    refused(healthy, {"assessment_id": str(checkup), "user_id": str(evil), "report_type": "comprehensive"}, queue="report_generation_queue")
    for role in ROLES:
        for call in ("public.queue_email_task('x@example.test')", "public.pgmq_send('email_queue', '{}')", "pgmqd.submit('email_queue', '{}')"):
            assert as_role(healthy, role, "select " + call) == "42501"


def test_12_time_that_never_comes(healthy):
    """The functions refuse it; where it stands in the table all the same, the queue goes on and the figures stay readable."""
    for delay in (-1, 2**31 - 1):
        assert as_role(healthy, "pgmqd_enqueuer", "select pgmqd.submit('email_queue', '{}', %s)", [delay]) == "22023"
    for vt in ("infinity", "294276-12-31"):
        healthy.db.execute("insert into pgmq.q_email_queue (vt, message) values (%s, '{}')", [vt])
    past = healthy.enqueue({}, "email_queue", delay=-3600)  # due since an hour: the fallback poll finds it
    lost = healthy.db.execute("insert into pgmq.q_email_queue (vt, message) values ('-infinity', '{}') returning msg_id").fetchone()[0]
    healthy.daemon.wait_settled(msg_id=past, outcome="fail")
    healthy.daemon.wait_settled(msg_id=lost, outcome="fail")
    (row,) = [q for q in Http(healthy.port).wait_json("/api/queues", 200)["queues"] if q["queue"] == "email_queue"]
    assert row["delayed"] == 2
    assert "infinity" in healthy.db.execute("select string_agg(vt::text, ' ') from pgmq.q_email_queue").fetchone()[0]
    healthy.db.execute("delete from pgmq.q_email_queue where vt > now() + interval '1 year'")


@pytest.mark.parametrize("message", [None, "null", '"str"', "[1]", "7"])
def test_13_message_that_is_no_object(healthy, message):
    with healthy.db.transaction():
        msg_id = healthy.db.execute("insert into pgmq.q_email_queue (vt, message) values (now(), %s) returning msg_id", [message]).fetchone()[0]
    record = healthy.daemon.wait_settled(queue="email_queue", msg_id=msg_id)
    assert record["outcome"] == "fail" and record["attempt"] == 1, record


def test_14_forged_headers(healthy):
    """What the dispatcher writes into headers is its own: a forged dead letter, root or history changes no decision, and no actor is believed."""
    forged = {"pgmqd_dead": {"msg_id": 1, "read_ct": 1, "reason": "forged"}, "pgmqd_root": "x", "pgmqd_history": [{"reason": "forged"}] * 3,
              "pgmqd_attempts": 99, "read_ct": 99, "actor": "root", "x-hmac": "00", "priority": "high"}
    send = "select * from pgmq.send('email_queue', %s::jsonb, %s::jsonb, 0)"
    good = healthy.db.execute(send, [json.dumps({**MAIL, "to": "forged@example.test"}), json.dumps(forged)]).fetchone()[0]
    record = healthy.daemon.wait_settled(queue="email_queue", msg_id=good)
    assert record["outcome"] == "done" and record["attempt"] == 1, record
    bad = healthy.db.execute(send, ["{}", json.dumps(forged)]).fetchone()[0]
    healthy.daemon.wait_settled(queue="email_queue", msg_id=bad, outcome="fail")
    sql = "select headers->'pgmqd_dead'->>'reason' from pgmq.q_email_queue_dlq where headers->'pgmqd_dead'->>'msg_id' = %s"
    assert healthy.db.execute(sql, [str(bad)]).fetchall() == [("to: it is missing",)]


# ---- too much of it ----

def test_15_flood_of_cheap_messages(healthy):
    """Another queue's mail does not wait for their end."""
    healthy.db.execute("select pgmq.send_batch('analytics_queue', array(select '{}'::jsonb from generate_series(1, 20000)))")
    healthy.send("beside@example.test")
    healthy.catcher.wait_to("beside@example.test")


def test_16_flood_of_notifications(healthy):
    """Junk, other queues' names, names of this one and operators' words, from any role that can log in: no line in the log for each, and few claims."""
    mark = healthy.daemon.mark()
    with healthy.connect() as db:
        db.execute("set role anon")
        for payload in ("x" * 7999, "no_such_queue", "email_queue", "!pause email_queue", "!canary 1 1", "é\u202e'\"; drop"):
            # equal ones of one transaction are one notification, so each has its own
            db.execute(psycopg.sql.SQL("do $$ begin for n in 1..500 loop perform pg_notify('pgmqd', {}); commit; end loop; end $$").format(payload))
    healthy.send("after-flood@example.test")
    healthy.catcher.wait_to("after-flood@example.test")
    assert len([r for r in healthy.daemon.records()[mark:] if r["text"] != "settled"]) < 20


def test_17_listening_in(healthy):
    """Whoever may connect may LISTEN, and learns the names of queues; nothing of a message."""
    heard = set()
    with healthy.connect() as db:
        db.add_notify_handler(lambda n: heard.add(n.payload))
        db.execute("set role anon")
        db.execute("listen pgmqd")
        healthy.send("listened@example.test")
        healthy.catcher.wait_to("listened@example.test")
        db.execute("select 1")  # takes what has come
    assert {p for p in heard if not p.startswith("!")} <= {"email_queue", "analytics_queue"}, heard


# ---- places to go ----

def test_18_webhook_to_where_it_must_not_go(healthy, tmp_path):
    """No URL comes from a message; the settings take http and https alone; a redirection is no way round (addresses: test_webhook.py)."""
    healthy.hook.reply = lambda request: (302, {"Location": f"http://[::1]:{healthy.hook.port}/inside"}, b"")
    mark = healthy.daemon.mark()
    msg_id = healthy.enqueue({"url": "http://169.254.169.254/latest"}, "hooks")
    healthy.daemon.wait_settled(queue="hooks", msg_id=msg_id, start=mark)
    assert {r.path for r in healthy.hook.requests()} == {"/hook"}
    healthy.db.execute("delete from pgmq.q_hooks")
    path = tmp_path / "pgmqd.conf"
    for url in ("gopher://127.0.0.1/x", "file:///etc/passwd", "dict://127.0.0.1:11211/stat", "javascript:x", "//evil.example.test/"):
        path.write_text(conf("", {"hooks": {"plugin": "webhook", "url": url}}))
        path.chmod(0o600)
        done = run("run", "--check", "-c", path)
        assert done.returncode == 78 and "url: " in done.stderr, done.stderr


def test_19_http_port(healthy):
    """No token, a wrong one, a body of a gigabyte, half a request, another site's name (more in test_http.py, test_processes.py)."""
    pause = {"method": "POST", "body": {}}
    for token in (None, "", TOKEN[:-1], TOKEN + "x"):
        status, answer = Http(healthy.port, token).json("/api/queues/email_queue/pause", **pause)
        assert status == 401 and answer["error"]["code"] == "unauthorized", answer
    client = Http(healthy.port, TOKEN)
    assert client.json("/api/queues", headers={"Host": "evil.example.test"})[0] == 421
    assert client.json("/api/queues/email_queue/pause", headers={"Origin": "https://evil.example.test"}, **pause)[0] == 403
    with socket.create_connection(("127.0.0.1", healthy.port), timeout=TIMEOUT) as slow, \
            socket.create_connection(("127.0.0.1", healthy.port), timeout=TIMEOUT) as large:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        large.sendall(b"POST /api/queues/email_queue/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() +
                      b"\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n")
        assert large.recv(12) == b"HTTP/1.1 413"
        assert client("/health")[0] == 200


# ---- on the same machine ----

def test_20_plugin_directory_of_others_and_preloaded_objects(rig, tmp_path):
    """Others' directories and links are refused (test_plugin_load.py has every form), an object in front of the libraries is told of."""
    plugins, path = tmp_path / "plugins", tmp_path / "pgmqd.conf"
    plugins.mkdir(mode=0o755)
    real = directories()["plugin_dir"]
    path.write_text(conf("", {"q": {"plugin": "null"}}, plugin_dir=plugins))
    path.chmod(0o600)
    plugins.chmod(0o777)
    os.symlink(os.path.join(real, "pgmqd-null-plugin.so"), plugins / "pgmqd-null-plugin.so")
    (tmp_path / "pgmqd-evil.so").write_bytes(b"\x7fELF")
    (tmp_path / "pgmqd-evil.so").chmod(0o777)
    os.unlink(plugins / "pgmqd-null-plugin.so")
    os.symlink(tmp_path / "pgmqd-evil.so", plugins / "pgmqd-null-plugin.so")
    done = run("run", "--check", "-c", path)
    assert done.returncode == 78 and "writable by everybody" in done.stderr, done.stderr
    daemon = rig.start(env={"LD_PRELOAD": "/nonexistent/evil.so"})
    record = daemon.wait_log("LD_PRELOAD")
    assert record["level"] == "warn"
