"""Settings that an application's role, database or connection string may have, and an attacker's schema in the search path."""

SETTINGS = {
    "search_path": "evil, public",
    "datestyle": "German, DMY",
    "timezone": "Asia/Jakarta",
    "intervalstyle": "sql_standard",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_session_timeout": "50ms",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "row_security": "off",
    "exit_on_error": "on",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "client_encoding": "SQL_ASCII",
}
EVIL = "create schema evil; grant usage on schema evil to public;" + "".join(f"""
create function evil.trap({type}, {type}) returns boolean language plpgsql as $$ begin raise exception 'an operator of a stranger ran'; end $$;
create operator evil.{operator} (leftarg = {type}, rightarg = {type}, function = evil.trap);"""
    for type, operator in (("bigint", "="), ("text", "="), ("integer", "="), ("timestamptz", "<="))) + """
create function evil.clock_timestamp() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
"""


def set_at(stand, place, name):
    """Sets it where the sessions of role pgmqd will find it: "role", "database" or "conninfo"; returns the connection string."""
    value = SETTINGS[name]
    literal = value if name == "search_path" else "'" + value + "'"
    conninfo = stand.cluster.conninfo(stand.dbname, user="pgmqd")
    if place == "role":
        stand.db.execute(f"alter role pgmqd in database {stand.dbname} set {name} = {literal}")
    elif place == "database":
        stand.db.execute(f"alter database {stand.dbname} set {name} = {literal}")
    else:
        conninfo += " options='-c {}={}'".format(name, value.replace(" ", "\\\\ "))
    return conninfo


def reset_at(stand, place, name):
    """Takes it back."""
    if place == "role":
        stand.db.execute(f"alter role pgmqd in database {stand.dbname} reset {name}")
    elif place == "database":
        stand.db.execute(f"alter database {stand.dbname} reset {name}")
