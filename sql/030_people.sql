-- 030_people.sql: people, dates and money, as mails show them, and the ids of a person's rows.
--
-- The application's tables are read by the functions of 030_application.sql, but for auth_address() and app_ids(): each says why.

SET search_path = pg_catalog, pg_temp;

-- A time out of to_jsonb(row); one that was stored without a zone is meant in the zone of the settings.
CREATE OR REPLACE FUNCTION pgmqd.row_time(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN CASE WHEN value ~ ':.*(Z|[+-][0-9]{2}(:?[0-9]{2}){0,2})$' THEN value::timestamptz
    ELSE value::timestamp AT TIME ZONE pgmqd.setting('time_zone') END;
END $f$;

-- "5 мая 2026 г.", "5 May 2026". The months are spelled out here, so that the server's locale plays no part.
CREATE OR REPLACE FUNCTION pgmqd.format_date(at timestamptz, lang text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  d timestamp := at AT TIME ZONE pgmqd.setting('time_zone');
BEGIN
  RETURN extract(day FROM d) || ' ' || (CASE lang
        WHEN 'ru' THEN ARRAY['января', 'февраля', 'марта', 'апреля', 'мая', 'июня', 'июля', 'августа', 'сентября',
          'октября', 'ноября', 'декабря']
        ELSE ARRAY['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October',
          'November', 'December'] END)[extract(month FROM d)::integer]
    || ' ' || extract(year FROM d) || CASE lang WHEN 'ru' THEN ' г.' ELSE '' END;
END $f$;

CREATE OR REPLACE FUNCTION pgmqd.format_time(at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN to_char(at AT TIME ZONE pgmqd.setting('time_zone'), 'HH24:MI');
END $f$;

-- "1 490,00 ₽" with spaces that do not break, "1,490.00 RUB".
CREATE OR REPLACE FUNCTION pgmqd.format_money(amount numeric, currency text, lang text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  n text := to_char(amount, 'FM999,999,999,999,990.00');
  code text := upper(coalesce(currency, 'RUB'));
BEGIN
  RETURN CASE lang WHEN 'ru' THEN translate(n, ',.', E'\u00A0,') || E'\u00A0'
      || CASE code WHEN 'RUB' THEN '₽' WHEN 'EUR' THEN '€' WHEN 'USD' THEN '$' ELSE code END
    ELSE n || ' ' || code END;
END $f$;

-- An address below app_url, with its parts percent-encoded where they have to be; NULL where app_url is not set.
CREATE OR REPLACE FUNCTION pgmqd.app_link(VARIADIC parts text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  link text := rtrim(pgmqd.setting('app_url'), '/');
  part text;
BEGIN
  FOREACH part IN ARRAY array_remove(parts, NULL) LOOP
    link := link || '/' || CASE WHEN part ~ '^[A-Za-z0-9._~-]*$' THEN part
      ELSE regexp_replace(upper(encode(convert_to(part, 'UTF8'), 'hex')), '(..)', '%\1', 'g') END;
  END LOOP;
  RETURN link;
END $f$;

-- The address of a person in auth.users; on Supabase no role can grant rights on it, so our owner reads it. No code of others can run by
-- that: it is a plain table of built-in types, and row security that would apply is an error.
CREATE OR REPLACE FUNCTION pgmqd.auth_address(user_id text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $f$
DECLARE
  tab regclass := pgmqd.app_table('auth.users');
  plain boolean;
  is_uuid boolean;
  address text;
BEGIN
  SELECT count(*) = 2, bool_or(a.attname = 'id' AND t.typname = 'uuid') INTO plain, is_uuid
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
  WHERE c.oid = tab AND c.relkind IN ('r', 'p') AND a.attname IN ('id', 'email') AND NOT a.attisdropped AND t.typnamespace = 'pg_catalog'::regnamespace;
  IF plain AND is_uuid THEN -- planned once in a session
    SELECT nullif(btrim(u.email::text), '') INTO address FROM auth.users u WHERE u.id = user_id::uuid;
  ELSIF plain THEN
    EXECUTE format('SELECT nullif(btrim(u.email::text), '''') FROM auth.users u WHERE u.id = %L', user_id) INTO address;
  END IF;
  RETURN address;
END $f$;

-- A person as mails need one.
CREATE OR REPLACE FUNCTION pgmqd.person(email text, name text, language text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  lang text := lower(left(btrim(language), 2));
BEGIN
  RETURN jsonb_build_object('email', email, 'name', nullif(btrim(name), ''),
    'lang', CASE WHEN lang IN ('ru', 'en') THEN lang ELSE pgmqd.setting('default_lang') END);
END $f$;

-- {email, name, lang} of a person of the application. The address is in the table of people, if that has a column for it, or in that of
-- accounts (auth.users). A person without an address is an error.
CREATE OR REPLACE FUNCTION pgmqd.find_person(user_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  profile jsonb;
  address text;
  account text;
BEGIN
  IF user_id IS NULL THEN
    RAISE EXCEPTION 'the row has no user_id' USING ERRCODE = 'no_data_found';
  END IF;
  profile := pgmqd.app_find('person', 'id', user_id);
  address := nullif(btrim(profile->>'email'), '');
  IF address IS NULL THEN
    account := coalesce(profile->>'account_id', user_id);
    address := CASE pgmqd.app_names('account')->>'table' WHEN 'auth.users' THEN pgmqd.auth_address(account)
      ELSE nullif(btrim(pgmqd.app_find('account', 'id', account)->>'email'), '') END;
  END IF;
  IF address IS NULL THEN
    RAISE EXCEPTION 'no e-mail address is known of user %', user_id USING ERRCODE = 'no_data_found';
  END IF;
  RETURN pgmqd.person(address, profile->>'full_name', profile->>'language');
END $f$;

-- The person whom a row (with the usual names) is about: by its user_id; else by the appointment that it belongs to; else by an address in
-- the row itself.
CREATE OR REPLACE FUNCTION pgmqd.row_person(c jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  known jsonb := c;
BEGIN
  IF c->>'user_id' IS NULL AND c->>'email' IS NULL AND c->>'appointment_id' IS NOT NULL THEN
    known := coalesce(pgmqd.app_find('appointment', 'id', c->>'appointment_id'), '{}');
  END IF;
  IF known->>'user_id' IS NULL AND nullif(btrim(known->>'email'), '') IS NOT NULL THEN
    RETURN pgmqd.person(btrim(known->>'email'), known->>'full_name', known->>'language');
  END IF;
  RETURN pgmqd.find_person(known->>'user_id');
EXCEPTION WHEN no_data_found THEN
  IF nullif(btrim(known->>'email'), '') IS NULL THEN
    RAISE;
  END IF;
  RETURN pgmqd.person(btrim(known->>'email'), known->>'full_name', known->>'language');
END $f$;

-- The ids of the rows of a thing whose field has one of these values, in any case. The table has to
-- belong to an owner whom we trust, because its casts run with the caller's rights.
CREATE OR REPLACE FUNCTION pgmqd.app_ids(thing text, field text, wanted text[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  tab regclass := to_regclass(pgmqd.app_names(thing)->>'table');
  key text := pgmqd.app_names(thing)->>'id';
  col text := pgmqd.app_names(thing)->>app_ids.field;
  ids text[] := '{}';
BEGIN
  IF (SELECT count(DISTINCT a.attname) FROM pg_attribute a WHERE a.attrelid = tab AND a.attname IN (key, col) AND NOT a.attisdropped) = 1 + (key <> col)::integer
    AND EXISTS (SELECT FROM pg_class c WHERE c.oid = tab AND (pgmqd.trusts(c.relowner) OR c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_attribute b
      JOIN pg_type t ON t.oid = b.atttypid WHERE b.attrelid = tab AND b.attname IN (key, col) AND t.typnamespace <> 'pg_catalog'::regnamespace))) THEN
    EXECUTE format('SELECT coalesce(array_agg(r.%I::text), ''{}'') FROM %s r WHERE lower(btrim(r.%I::text)) = ANY ($1)', key, tab, col) INTO ids USING wanted;
  END IF;
  RETURN ids;
END $f$;

-- All ids in the application's tables that belong to the person with this address: the person's own, and those of check-ups, appointments
-- and payments. For pgmqd.erase_person() (025).
CREATE OR REPLACE FUNCTION pgmqd.person_ids(address text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  ids text[] := pgmqd.app_ids('account', 'email', ARRAY[address]);
  t text;
BEGIN
  ids := ids || pgmqd.app_ids('person', 'account_id', ids) || pgmqd.app_ids('person', 'email', ARRAY[address]);
  FOREACH t IN ARRAY ARRAY['checkup', 'appointment', 'payment'] LOOP
    -- a small number as an id would be found in rows of others: then only the person's own id counts
    ids := ids || ARRAY(SELECT i FROM unnest(pgmqd.app_ids(t, 'user_id', ids) || pgmqd.app_ids(t, 'email', ARRAY[address])) i WHERE length(i) >= 16);
  END LOOP;
  RETURN ids;
END $f$;

DO $$ BEGIN PERFORM pgmqd.restrict_functions(); END $$;

RESET search_path;
