"""What the demo application of sql/000_demo_app.sql does, as functions: sign up, finish a check-up, book, pay.

Each takes a psycopg connection and leaves transactions to the caller.
"""

import json
from datetime import datetime, timedelta, timezone

from psycopg.rows import dict_row

from .paths import SRCDIR

TEMPLATES = ("checkup_completed", "report_ready", "appointment_confirmation", "appointment_reminder", "payment_completed",
             "payment_failed")


def sample(template, lang="ru"):
    """Variables that the template can be rendered with."""
    name = f"{template}.json" if lang == "ru" else f"{template}.{lang}.json"
    return json.loads((SRCDIR / "templates" / "samples" / name).read_text(encoding="utf-8"))


def rows(db, sql, params=None):
    """All rows of a query, as dicts."""
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql, params).fetchall()


def _value(db, sql, params=None):
    return db.execute(sql, params).fetchone()[0]


# ---- the application's tables ----

def new_customer(db, email, name, lang="ru"):
    """A person who can be written to; returns the id."""
    return _value(db, "with u as (insert into auth.users (email) values (%s) returning id)"
                      " insert into public.profiles (id, full_name, language) select id, %s, %s from u returning id",
                  [email, name, lang])


def start_checkup(db, customer):
    """A check-up with the answers of the sample person who reads the customer's language."""
    return _value(db, "insert into public.assessments (user_id, score, answers) select c.id, s.score, s.answers"
                      " from public.profiles c, public.profiles p join public.assessments s on s.user_id = p.id"
                      " where c.id = %s and p.language = c.language and s.id::text like 'b0000000-%%' returning id", [customer])


def complete_checkup(db, checkup):
    db.execute("update public.assessments set status = 'completed', completed_at = now() where id = %s", [checkup])


def checkup_status(db, checkup):
    return _value(db, "select status from public.assessments where id = %s", [checkup])


def book_appointment(db, customer):
    """An appointment in three days, with a specialist who has a name and a room."""
    starts = (datetime.now(timezone.utc) + timedelta(days=3)).replace(hour=11, minute=30, second=0, microsecond=0)
    return _value(db, "insert into public.appointments (user_id, specialist_name, starts_at, ends_at, location)"
                      " values (%s, 'Борис Ильич Образцов', %s, %s, 'Кабинет 3') returning id",
                  [customer, starts, starts + timedelta(minutes=50)])


def appointment_status(db, appointment):
    return _value(db, "select status from public.appointments where id = %s", [appointment])


def new_payment(db, customer, appointment=None):
    """A payment of 1490 roubles that is under way."""
    return _value(db, "insert into public.payments (user_id, appointment_id, amount, description)"
                      " values (%s, %s, 1490, 'Консультация специалиста') returning id", [customer, appointment])


def set_payment_status(db, payment, status):
    db.execute("update public.payments set status = %s, paid_at = case when %s = 'completed' then now() end where id = %s",
               [status, status, payment])


# ---- queues ----

def queue_email_task(db, to, template, variables, subject=None, priority=0):
    """public.queue_email_task(); returns the message's id."""
    return _value(db, "select public.queue_email_task(%s, %s, %s, %s::jsonb, %s)",
                  [to, subject, template, json.dumps(variables), priority])


def enqueue(db, queue, message, delay=0):
    """pgmq.send() as any client would call it; `message` is a dict, or JSON text. Returns the message's id."""
    text = message if isinstance(message, str) else json.dumps(message)
    return _value(db, "select * from pgmq.send(%s::text, %s::jsonb, %s::integer)", [queue, text, delay])


def message_id(db, to):
    """The id of the message to that address, whether it waits or is archived."""
    return _value(db, "select msg_id from pgmq.q_email_queue where message->>'to' = %s"
                      " union all select msg_id from pgmq.a_email_queue where message->>'to' = %s order by msg_id", [to, to])


def report_of(db, checkup):
    """The row of pgmqd.reports about a check-up, as a dict; None while there is none."""
    found = rows(db, "select * from pgmqd.reports where assessment_id = %s", [str(checkup)])
    return found[0] if found else None
