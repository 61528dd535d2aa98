-- hostile.sql: a schema with a copy of every operator of the common types, and of the functions that SQL calls most. Each leaves a trace of itself
-- in hostile.seen; whoever has the schema in front of pg_catalog calls them.
CREATE SCHEMA hostile;
CREATE TABLE hostile.seen (what text);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT ALL ON hostile.seen TO PUBLIC;
DO $$
DECLARE
  o record;
  f record;
BEGIN
  FOR o IN SELECT oprname, oprleft::regtype::text AS l, oprright::regtype::text AS r, oprresult::regtype::text AS res, oprcode::regproc::text AS code, op.oid
    FROM pg_catalog.pg_operator op WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
      AND oprleft IN (SELECT unnest(ARRAY['text', 'integer', 'bigint', 'jsonb', 'timestamptz', 'timestamp', 'interval', 'boolean', 'uuid', 'double precision', 'date', 'name', 'oid', 'numeric']::regtype[]))
      AND oprright IN (SELECT unnest(ARRAY['text', 'integer', 'bigint', 'jsonb', 'timestamptz', 'timestamp', 'interval', 'boolean', 'uuid', 'double precision', 'date', 'name', 'oid', 'numeric', 'text[]']::regtype[]))
  LOOP
    BEGIN
      EXECUTE pg_catalog.format('CREATE FUNCTION hostile.op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO hostile.seen VALUES (%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END $f$',
        o.oid, o.l, o.r, o.res, 'operator ' || o.oprname || '(' || o.l || ', ' || o.r || ')', o.oprname);
      EXECUTE pg_catalog.format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.op_%s)', o.oprname, o.l, o.r, o.oid);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOR f IN SELECT * FROM (VALUES ('lower(text)', 'text'), ('format(text, text)', 'text'), ('now()', 'timestamptz'), ('clock_timestamp()', 'timestamptz'), ('length(text)', 'integer'),
      ('btrim(text)', 'text'), ('to_regclass(text)', 'regclass'), ('quote_ident(text)', 'text'), ('pg_notify(text, text)', 'void'), ('octet_length(text)', 'integer'),
      ('jsonb_typeof(jsonb)', 'text'), ('left(text, integer)', 'text'), ('current_database()', 'name')) v (name, res)
  LOOP
    EXECUTE pg_catalog.format('CREATE FUNCTION hostile.%s RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO hostile.seen VALUES (%L); RETURN%s; END $f$', f.name, f.res, 'function ' || f.name,
      CASE f.res WHEN 'void' THEN '' ELSE ' NULL::' || f.res END);
  END LOOP;
END $$;
