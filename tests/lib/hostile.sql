-- hostile.sql: a schema with a copy of every function, aggregate, operator, type and relation of pg_catalog. A copy leaves a trace of itself in
-- hostile.seen, or fails; every statement calls them that is run with this schema in front and names one without its schema.
CREATE SCHEMA hostile;
CREATE TABLE hostile.seen (what text);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT ALL ON hostile.seen TO PUBLIC;
CREATE FUNCTION hostile.trap(what text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO hostile.seen VALUES (what); RETURN true; END $f$;
DO $$
DECLARE
  o record;
BEGIN
  PERFORM set_config('check_function_bodies', 'off', true); -- for speed
  -- Operators do what the real ones do.
  FOR o IN SELECT oprname, oprleft, oprright, oprresult, oid FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION hostile.op_%s(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM hostile.trap(%L); RETURN %s OPERATOR(pg_catalog.%s) %s; END $f$',
        o.oid, concat_ws(', ', nullif(o.oprleft, 0)::regtype, o.oprright::regtype), o.oprresult::regtype, 'operator ' || o.oid::regoperator,
        CASE WHEN o.oprleft <> 0 THEN '$1' END, o.oprname, CASE WHEN o.oprleft <> 0 THEN '$2' ELSE '$1' END);
      EXECUTE format('CREATE OPERATOR hostile.%s (%sRIGHTARG = %s, FUNCTION = hostile.op_%s)', o.oprname,
        'LEFTARG = ' || nullif(o.oprleft, 0)::regtype || ', ', o.oprright::regtype, o.oid);
    EXCEPTION WHEN OTHERS THEN NULL; -- of a type that only C knows
    END;
  END LOOP;
  -- Functions of plain types do so, too; all others, and aggregates, fail as this function of the server's does when it is called by name.
  FOR o IN SELECT p.oid, p.proname, p.prokind, 'hostile.' || quote_ident(p.proname) AS name, pg_get_function_arguments(p.oid) AS args, pg_get_function_result(p.oid) AS result,
      pg_get_function_identity_arguments(p.oid) AS types, (SELECT string_agg('$' || n, ', ') FROM generate_series(1, p.pronargs) n) AS numbers,
      p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0 AND p.proallargtypes IS NULL
        AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY (p.proargtypes || p.prorettype) AND t.typtype = 'p' AND t.typname <> 'void') AS plain
    FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace -- but for what is there for operators, types and indexes only
      AND NOT ('{internal,cstring}'::regtype[]::oid[] && (p.proargtypes::oid[] || p.prorettype)) AND NOT EXISTS (SELECT FROM pg_operator WHERE oprcode = p.oid AND p.proname NOT LIKE '%\_%')
  LOOP
    BEGIN
      IF o.plain THEN
        EXECUTE format('CREATE FUNCTION %s(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM hostile.trap(%L); %s pg_catalog.%I(%s); END $f$', o.name, o.args, o.result,
          'function ' || o.oid::regprocedure, CASE o.result WHEN 'void' THEN 'PERFORM' ELSE 'RETURN' END, o.proname, o.numbers);
      ELSIF o.prokind = 'a' THEN
        EXECUTE format('CREATE FUNCTION hostile.step_%s(%s) RETURNS bigint LANGUAGE internal AS ''unique_key_recheck''', o.oid, concat_ws(', ', 'bigint', nullif(o.types, '')));
        EXECUTE format('CREATE AGGREGATE %s(%s) (SFUNC = hostile.step_%s, STYPE = bigint, INITCOND = ''0'')', o.name, coalesce(nullif(o.types, ''), '*'), o.oid);
      ELSE
        EXECUTE format('CREATE FUNCTION %s(%s) RETURNS %s%s LANGUAGE internal AS ''unique_key_recheck''', o.name, o.args, o.result, CASE o.prokind WHEN 'w' THEN ' WINDOW' ELSE '' END);
      END IF;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  -- Types check their values; relations, whose rows have types of the same names, show what the real ones do.
  FOR o IN SELECT typname, oid FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typcategory <> 'A' LOOP
    BEGIN
      EXECUTE format('CREATE DOMAIN hostile.%I AS pg_catalog.%I CHECK (hostile.trap(%L))', o.typname, o.typname, 'type ' || o.typname);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOR o IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') LOOP
    BEGIN
      EXECUTE format('CREATE VIEW hostile.%I AS SELECT * FROM pg_catalog.%I WHERE hostile.trap(%L)', o.relname, o.relname, 'relation ' || o.relname);
      EXECUTE format('GRANT SELECT ON hostile.%I TO PUBLIC', o.relname);
    EXCEPTION WHEN OTHERS THEN NULL; -- pg_statistic
    END;
  END LOOP;
END $$;
