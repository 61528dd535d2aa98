"""A project as Supabase makes it, as far as its public sources say: roles, owners, default grants, Studio's queues and pgmq_public. docs/supabase.md
is true there: its commands, in their order, lead from the old worker to pgmqd."""

import os
import re
import shlex
import subprocess

import psycopg
import pytest

from lib import rig as rigs
from lib.daemon import clean_environment, command_line, conf
from lib.mailcatcher import MailCatcher
from lib.paths import SRCDIR, directories
from lib.pgcluster import Cluster
from lib.stand import wait_until

# `project` stands for the role postgres of a project, which is no superuser there; the superuser is supabase_admin.
ROLES = """
create role supabase_admin superuser createdb createrole replication bypassrls; create role anon noinherit; create role authenticated noinherit;
create role service_role noinherit bypassrls; alter role anon set statement_timeout = '3s'; alter role authenticated set statement_timeout = '8s';
create role authenticator login noinherit; grant anon, authenticated, service_role, supabase_admin to authenticator; alter role authenticator set statement_timeout = '8s'; alter role authenticator set lock_timeout = '8s';
create role supabase_auth_admin noinherit createrole login; create role supabase_storage_admin noinherit createrole login;
create role project login createdb createrole replication bypassrls; grant anon, authenticated, service_role to project with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to project;
create database project owner project"""
PROJECT = """
create schema auth authorization supabase_admin; create schema extensions authorization project; create schema storage authorization supabase_admin;
grant usage on schema auth, storage to anon, authenticated, service_role, project; grant all on schema auth to supabase_auth_admin;
grant usage on schema public to anon, authenticated, service_role; grant all on schema public to project;
create table auth.users (id uuid primary key, email varchar(255), encrypted_password varchar(255)); alter table auth.users owner to supabase_auth_admin;
grant all on auth.users to project with grant option;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public grant all on tables to project, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public grant all on functions to project, anon, authenticated, service_role;
alter default privileges for role project in schema public grant all on tables to project, anon, authenticated, service_role;
alter default privileges for role project in schema public grant all on functions to project, anon, authenticated, service_role;
alter default privileges for role project in schema public grant all on sequences to project, anon, authenticated, service_role;
alter role project set search_path = "$user", public, extensions;
insert into auth.users values ('a0000000-0000-4000-8000-000000000001', 'anna.supabase@example.test')"""
# What runs at each CREATE and DROP there: PostgREST hears of it, and pg_cron is opened to the project's role.
WATCHES = """
create function extensions.heard() returns event_trigger language plpgsql as $$
  declare c record; begin for c in select * from pg_event_trigger_ddl_commands() loop
    if coalesce(c.schema_name, '') not in ('pg_temp', 'auth', 'storage') then notify pgrst, 'reload schema'; end if; end loop; end $$;
create function extensions.dropped() returns event_trigger language plpgsql as $$
  declare o record; begin for o in select * from pg_event_trigger_dropped_objects() loop
    if not o.is_temporary and o.object_type in ('schema', 'table', 'view', 'function', 'type', 'trigger') then notify pgrst, 'reload schema'; end if; end loop; end $$;
create function extensions.open_cron() returns event_trigger language plpgsql as $$
  begin if exists (select from pg_event_trigger_ddl_commands() c join pg_extension e on e.oid = c.objid and e.extname = 'pg_cron') then
    grant usage on schema cron to project with grant option; grant all on all tables in schema cron to project with grant option;
    revoke all on cron.job from project; grant select on cron.job to project with grant option; end if; end $$;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.heard();
create event trigger pgrst_drop_watch on sql_drop execute function extensions.dropped();
create event trigger issue_pg_cron_access on ddl_command_end when tag in ('CREATE EXTENSION') execute function extensions.open_cron()"""
# The application: tables of the project's role, with row security, as Studio's editor makes them.
APPLICATION = """
create table public.profiles (id uuid primary key references auth.users, full_name text, language text);
create table public.bookings (id uuid primary key default gen_random_uuid(), profile_id uuid references public.profiles, state text default 'booked'
  check (state in ('booked', 'done', 'cancelled')), scheduled_at timestamptz, created_at timestamptz default now());
alter table public.profiles enable row level security; alter table public.bookings enable row level security;
create policy own on public.bookings to authenticated using (true) with check (true);
insert into public.profiles values ('a0000000-0000-4000-8000-000000000001', 'Anna Sample', 'en')"""
STUDIO = """
select pgmq.create('studio_queue'); alter table pgmq.q_studio_queue enable row level security;
create schema pgmq_public; grant usage on schema pgmq_public, pgmq to project, anon, authenticated, service_role;
create function pgmq_public.send(queue_name text, message jsonb, sleep_seconds integer default 0) returns setof bigint language plpgsql set search_path = '' as
  $$ begin return query select * from pgmq.send(queue_name := queue_name, msg := message, delay := sleep_seconds); end $$;
create function pgmq_public.read(queue_name text, sleep_seconds integer, n integer) returns setof pgmq.message_record language plpgsql set search_path = '' as
  $$ begin return query select * from pgmq.read(queue_name := queue_name, vt := sleep_seconds, qty := n); end $$;
create function pgmq_public.pop(queue_name text) returns setof pgmq.message_record language plpgsql set search_path = '' as
  $$ begin return query select * from pgmq.pop(queue_name := queue_name); end $$;
create function pgmq_public.archive(queue_name text, message_id bigint) returns boolean language plpgsql set search_path = '' as
  $$ begin return pgmq.archive(queue_name := queue_name, msg_id := message_id); end $$;
create function pgmq_public.delete(queue_name text, message_id bigint) returns boolean language plpgsql set search_path = '' as
  $$ begin return pgmq.delete(queue_name := queue_name, msg_id := message_id); end $$;
grant execute on all functions in schema pgmq_public to project, service_role, anon, authenticated;
grant execute on all functions in schema pgmq to project, service_role, anon, authenticated;
grant all on all tables in schema pgmq to project, service_role; grant all on all sequences in schema pgmq to project, service_role;
alter default privileges in schema pgmq grant all privileges on tables to project, service_role"""


@pytest.fixture(scope="module")
def site():
    with Cluster(tcp=True) as cluster:
        with cluster.connect() as db:
            for statement in ROLES.split(";"):
                db.execute(statement)
        with cluster.connect("project") as db:
            db.execute(PROJECT)
            db.execute("set role supabase_admin")
            db.execute(WATCHES)
        with cluster.connect("project", user="project") as db:
            db.execute(APPLICATION)
        yield cluster


def commands():
    """The page's commands, as one shell script."""
    script = []
    for kind, text in re.findall(r"^ *```(sh|sql)\n(.*?)^ *```$", (SRCDIR / "docs/supabase.md").read_text(encoding="utf-8"), re.M | re.S):
        script.append(text if kind == "sh" else f'psql -qAtX -v ON_ERROR_STOP=1 "$OWNER_URL" <<\'SQL\'\n{text}\nSQL\n')
    return script


def test_the_page(site, tmp_path):
    with MailCatcher() as catcher:
        env = rigs.email_environment(catcher)
        (tmp_path / ".env").write_text("".join(f'{k}="{v}"\n' for k, v in {**env, "DATABASE_URL": site.conninfo("project", user="pgmqd")}.items()))
        (tmp_path / ".env").chmod(0o600)
        # the catcher's certificate needs a setting, which no environment has
        (tmp_path / "pgmqd.conf").write_text(re.sub("^database.*\n", "", conf("", {"email_queue": rigs.email_queue(catcher)}), flags=re.M))
        (tmp_path / "pgmqd.conf").chmod(0o600)
        (tmp_path / "pgmqd").write_text("#!/bin/sh\nexec " + shlex.join(map(str, command_line())) + ' "$@"\n')
        (tmp_path / "pgmqd").chmod(0o755)
        places = {f"PGMQD_{name.upper()}": str(value) for name, value in directories().items()}
        shell = clean_environment({**places, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PGMQD_CONF": str(tmp_path / "pgmqd.conf"), "OWNER_URL": site.conninfo("project", user="project")})

        def do(text):
            done = subprocess.run(["bash", "-ec", text], env=shell, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
            assert done.returncode == 0, f"{text}\n{done.stdout}"
            return done.stdout

        script = commands()
        assert len(script) == 8, script
        do(script[0].splitlines()[0])  # migrate; then Studio makes a queue, as it does where pgmq is there
        with site.connect("project", user="project") as db:
            db.execute(STUDIO)
        assert "bookings" in do(script[0])
        for part in script[1:5]:  # attach_queue comes after the settings and the doctor: each as it stands
            do(part)
        with site.connect("project", user="project") as db, site.connect("project", user="authenticator") as client:
            client.execute("set role service_role")
            # the old worker at work, by the same functions
            sent = client.execute("select public.queue_email_task('old@example.test', 'Old', NULL, '{\"text\": \"x\"}')").fetchone()[0]
            assert client.execute("select (public.pgmq_read('email_queue', 30))->>'msg_id'").fetchone()[0] == str(sent)
            assert client.execute("select public.pgmq_archive('email_queue', %s)", [sent]).fetchone()[0] is True
            # Studio's functions
            sent = client.execute("select pgmq_public.send('studio_queue', '{\"a\": 1}')").fetchone()[0]
            assert client.execute("select msg_id from pgmq_public.read('studio_queue', 0, 1)").fetchone()[0] == sent
            assert client.execute("select pgmq_public.archive('studio_queue', %s)", [sent]).fetchone()[0] is True
            client.execute("set role anon")
            for call in ("select public.queue_email_task('x@example.test', 'x')", "select public.pgmq_read('email_queue')", "select * from pgmq.q_email_queue"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    client.execute(call)
            # a person books, with no right but on the table; the mail waits until pgmqd runs
            client.execute("set role authenticated")
            client.execute("insert into public.bookings (profile_id, scheduled_at) values ('a0000000-0000-4000-8000-000000000001', now() + interval '3 days')")
            assert db.execute("select message from pgmqd.trigger_errors").fetchall() == []
            for part in script[5:7]:
                do(part)
            run_line, status_line = [line.strip() for line in script[7].strip().splitlines()]
            daemon = subprocess.Popen(command_line(*shlex.split(run_line.rstrip("& "))[1:]), env=shell, cwd=tmp_path, stdin=subprocess.DEVNULL,
                                      stdout=open(tmp_path / "log", "wb"), stderr=subprocess.STDOUT)
            try:
                mail = catcher.wait_to("anna.supabase@example.test")
                assert "Anna Sample" in mail.body("plain")
                wait_until("archived", lambda: db.execute("select count(*) from pgmq.q_email_queue").fetchone()[0] == 0)
                assert "email_queue" in do(status_line)
            finally:
                daemon.terminate()
                assert daemon.wait(60) == 0, (tmp_path / "log").read_text()
            assert len([m for m in catcher.mails() if "old@example.test" in m.recipients]) == 0, "what the old worker archived is not sent again"
