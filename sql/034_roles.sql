-- 034_roles.sql: gives the roles of 028_roles.sql their rights on what the application's files have made.

-- pgmqd migrate reports this at its end.
DO $$
DECLARE
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect_roles() LOOP
    IF current_setting('pgmqd.migrating', true) IS DISTINCT FROM 'on' THEN
      RAISE NOTICE '%: %; %', missing.item, missing.problem, missing.remedy;
    END IF;
  END LOOP;
END $$;
