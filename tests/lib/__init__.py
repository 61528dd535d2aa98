"""Test harness of pgmqd: a private PostgreSQL, a mail server that keeps what it gets, and the daemon itself.

Works with Debian's own python3, python3-psycopg, python3-aiosmtpd and python3-pytest; nothing from elsewhere.
"""
