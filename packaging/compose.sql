-- compose.sql: who owns the database of compose.yaml: no superuser, since pgmqd's functions may do there what their owner may.
CREATE ROLE clinic LOGIN CREATEROLE;
ALTER DATABASE app OWNER TO clinic;
