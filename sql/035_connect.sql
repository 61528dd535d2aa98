-- 035_connect.sql: finds the application's tables and columns whatever they are called, and puts the triggers of 032 on them.

SET search_path = pg_catalog, pg_temp;

-- ---- names ----

-- A name in small letters, its words with _ between them: "scheduledAt" and "Scheduled at" are scheduled_at. The server's locale plays no part.
CREATE OR REPLACE FUNCTION pgmqd.plain_name(name text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT btrim(regexp_replace(translate(regexp_replace(name, '([a-zа-я0-9])([A-ZА-Я])', '\1_\2', 'g'),
    'ABCDEFGHIJKLMNOPQRSTUVWXYZАБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯё', 'abcdefghijklmnopqrstuvwxyzабвгдеежзийклмнопрстуфхцчшщъыьэюяе'), '[ .,:/-]+', '_', 'g'), '_')
$f$;

-- The place of a name (in plain form) in a list of words, of which a star ends those that may go on; NULL when it is not there.
CREATE OR REPLACE FUNCTION pgmqd.word_place(name text, words text) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT min(n) FROM regexp_split_to_table(words, ' +') WITH ORDINALITY w (word, n)
  WHERE name = word OR right(word, 1) = '*' AND left(name, length(word) - 1) = left(word, -1)
$f$;

-- The place of a table's name in a list of words: the whole name, in the singular or plural, before one that ends so (clinic_visits).
CREATE OR REPLACE FUNCTION pgmqd.table_place(name text, words text) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT min(n + CASE WHEN name ~ ('^' || word || ending) THEN 0 ELSE 100 END) FROM regexp_split_to_table(words, ' +') WITH ORDINALITY w (word, n),
    LATERAL (SELECT CASE WHEN word ~ '[а-я]' OR word ~ '^(chekap|obsledovani|osmotr|zapis|priem|vizit|plat|oplat|schet|polzovatel|pacient|patsient|klient)' THEN '[a-zа-я]{0,3}$'
      ELSE '(s|es)?$' END) e (ending)
  WHERE name ~ ('(^|_)' || word || ending)
$f$;

-- ---- tables ----

-- A column that holds the id of one row of another table, by its foreign key.
CREATE OR REPLACE FUNCTION pgmqd.column_target(tab regclass, attnum smallint) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT k.confrelid::regclass FROM pg_constraint k WHERE k.conrelid = tab AND k.contype = 'f' AND k.conkey = ARRAY[column_target.attnum] ORDER BY k.oid LIMIT 1
$f$;

-- The columns of a table that can be a field, the best first.
CREATE OR REPLACE FUNCTION pgmqd.field_candidates(tab regclass, thing text, field text, people regclass DEFAULT NULL)
RETURNS TABLE (name name, type text, place bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  WITH f AS (SELECT x.*, coalesce(x.words, CASE WHEN x.field = 'user_id' THEN 'user_id profile_id patient_id client_id customer_id person_id member_id account_id'
        ' owner_id user patient client customer пользователь_id пациент_id клиент_id пользовател* пациент* клиент* polzovatel* pacient* patsient* klient*'
      WHEN x.field = 'appointment_id' THEN 'appointment_id booking_id visit_id reservation_id consultation_id meeting_id appointment booking visit запись_id запис* прием* zapis* priem* vizit*'
      WHEN x.field = 'status' THEN 'status state stage status_code status_name status_id state_id статус* состояни* sostoyanie sostoianie'
        || CASE x.thing WHEN 'checkup' THEN ' completed is_completed done is_done finished is_finished завершен* пройден*' WHEN 'payment' THEN ' paid is_paid оплачен*' ELSE '' END
      WHEN x.field = 'email' THEN 'email e_mail email_address user_email patient_email client_email customer_email guest_email contact_email mail почта' END) AS list
    FROM pgmqd.application_fields() x WHERE x.thing = $2 AND x.field = $3),
    c AS (SELECT a.attname, a.attnum, a.atttypid, a.atttypmod, n.plain, regexp_replace(n.plain, '^(' || (SELECT replace(words, ' ', '|') FROM pgmqd.application_fields() t
        WHERE t.thing = coalesce(nullif($2, 'account'), 'person') AND t.field = 'table') || ')_', '') AS short
      FROM pg_attribute a, pgmqd.plain_name(a.attname) n (plain) WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped)
  SELECT c.attname, format_type(c.atttypid, c.atttypmod), least(
      CASE WHEN f.field = 'id' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1 AND i.indisprimary AND i.indnatts = 1 AND i.indkey[0] = c.attnum) THEN 0 END,
      CASE WHEN f.field = 'user_id' AND pgmqd.column_target($1, c.attnum) = people THEN coalesce(pgmqd.word_place(c.plain, f.list), 50) - 50 END,
      pgmqd.word_place(c.plain, f.list), CASE WHEN f.kind <> 'key' OR f.field = 'id' THEN pgmqd.word_place(c.short, f.list) + 40 END) AS place
  FROM c, f WHERE pgmqd.kind_fits(f.kind, c.atttypid)
    AND NOT (f.field = 'status' AND (SELECT t.typcategory FROM pg_type t WHERE t.oid = c.atttypid) = 'B' AND c.plain ~ '^(status|state|stage)')
    AND NOT (f.field = 'amount' AND c.plain ~ '(cents|minor|kop|коп)') ORDER BY 3, c.attnum
$f$;

-- The tables that can hold a thing, with how well they fit; the best first.
CREATE OR REPLACE FUNCTION pgmqd.table_candidates(thing text) RETURNS TABLE (name regclass, fit bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT c.oid::regclass, 1000 - place - CASE WHEN n.nspname = 'public' THEN 0 ELSE 2 END - 30 * (SELECT count(*) FROM pgmqd.application_fields() f
      WHERE f.thing = $1 AND f.needed AND f.kind NOT IN ('table', 'words')
        AND NOT EXISTS (SELECT FROM pgmqd.field_candidates(c.oid, $1, f.field) k WHERE k.place IS NOT NULL)
        AND NOT (f.field = 'starts_at' AND EXISTS (SELECT FROM pgmqd.field_candidates(c.oid, $1, 'date') k WHERE k.place IS NOT NULL))
        AND NOT (f.field = 'amount' AND EXISTS (SELECT FROM pgmqd.field_candidates(c.oid, $1, 'amount_minor') k WHERE k.place IS NOT NULL))) AS fit
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pgmqd.table_place(pgmqd.plain_name(c.relname),
    (SELECT f.words FROM pgmqd.application_fields() f WHERE f.thing = $1 AND f.field = 'table')) place
  WHERE place IS NOT NULL AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname !~ '^(pg_|pgmq|pgmqd|supabase|_)' AND n.nspname NOT IN ('information_schema', 'cron', 'auth', 'storage', 'realtime', 'vault',
      'extensions', 'graphql', 'graphql_public', 'net', 'partman', 'topology', 'tiger', 'tap')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY 2 DESC, c.oid::regclass::text
$f$;

-- The words of a status column, each with what it is called: those of its type or CHECK; of the table that it refers to; else those that its
-- rows have. A table of others' code is not read: only plain columns of plain tables without row security that applies.
CREATE OR REPLACE FUNCTION pgmqd.status_words(tab regclass, column_name name) RETURNS TABLE (word text, label text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET row_security = off AS $f$
DECLARE
  known text[] := pgmqd.column_words(tab, column_name);
  target record;
BEGIN
  IF known IS NOT NULL THEN
    RETURN QUERY SELECT w, w FROM unnest(known) w;
    RETURN;
  END IF;
  SELECT k.confrelid::regclass AS name, kc.attname AS key, (SELECT a.attname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
      WHERE a.attrelid = k.confrelid AND a.attnum > 0 AND NOT a.attisdropped AND t.typcategory = 'S' AND a.attnum <> k.confkey[1]
        AND pgmqd.plain_name(a.attname) IN ('code', 'slug', 'name', 'title', 'label', 'status', 'state', 'key', 'код', 'название', 'наименование')
      ORDER BY pgmqd.word_place(pgmqd.plain_name(a.attname), 'code slug key status state name title label') LIMIT 1) AS label INTO target
  FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = tab AND a.attname = column_name
    JOIN pg_attribute kc ON kc.attrelid = k.confrelid AND kc.attnum = k.confkey[1]
  WHERE k.conrelid = tab AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum] LIMIT 1;
  IF target.name IS NOT NULL AND (SELECT relkind = 'r' FROM pg_class WHERE oid = target.name) THEN
    RETURN QUERY EXECUTE format('SELECT %I::text, %I::text FROM %s LIMIT 200', target.key, coalesce(target.label, target.key), target.name);
  ELSIF (SELECT t.typnamespace = 'pg_catalog'::regnamespace FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = tab AND a.attname = column_name) THEN
    RETURN QUERY EXECUTE format('SELECT DISTINCT s, s FROM (SELECT %I::text AS s FROM %s LIMIT 5000) x WHERE s IS NOT NULL LIMIT 200', column_name, tab);
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RETURN;
END $f$;

-- ---- discovery of the application's tables ----

-- The columns of one thing's table, a row for each field that is there. No column is taken twice; a start in one column is preferred to a
-- date and a time, an amount in whole units to one in cents. "key": the column of the id, where it is known already.
CREATE OR REPLACE FUNCTION pgmqd.find_columns(thing text, tab regclass, people regclass DEFAULT NULL, key name DEFAULT NULL)
RETURNS TABLE (field text, name text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  taken text[] := '{}';
  found text[] := '{}';
  f record;
  c record;
BEGIN
  FOR f IN SELECT x.field FROM pgmqd.application_fields() x WHERE x.thing = find_columns.thing AND x.kind NOT IN ('table', 'words', 'constant') LOOP
    CONTINUE WHEN f.field IN ('date', 'time') AND 'starts_at' = ANY (found) OR f.field = 'time' AND NOT 'date' = ANY (found)
      OR f.field = 'end_time' AND ('ends_at' = ANY (found) OR NOT 'date' = ANY (found)) OR f.field = 'amount_minor' AND 'amount' = ANY (found);
    SELECT k.* INTO c FROM pgmqd.field_candidates(tab, thing, f.field, people) k
    WHERE k.place IS NOT NULL AND NOT k.name = ANY (taken) OR f.field = 'id' AND k.name = key ORDER BY k.name <> key, k.place LIMIT 1;
    IF c.name IS NOT NULL THEN
      taken := taken || c.name::text;
      found := found || f.field;
      field := f.field;
      name := c.name;
      note := c.type || coalesce(' of ' || pgmqd.column_target(tab, (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = c.name)), '')
        || CASE WHEN f.field = 'amount_minor' THEN ', in the smallest unit' WHEN f.field = 'amount' AND c.type ~ '^(big|small)?int' THEN ', taken for whole units' ELSE '' END;
      RETURN NEXT;
    END IF;
  END LOOP;
END $f$;

-- The words for each status of a thing, as far as they are known. A word belongs to one status; the weak words of a status count only where
-- none of the others is there.
CREATE OR REPLACE FUNCTION pgmqd.find_words(thing text, tab regclass, column_name name) RETURNS TABLE (field text, name text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  pairs jsonb;
  taken text[] := '{}';
  f record;
  part integer;
  list text[];
BEGIN
  SELECT jsonb_agg(jsonb_build_object('word', w.word, 'label', pgmqd.plain_name(w.label))) INTO pairs FROM pgmqd.status_words(tab, column_name) w WHERE w.word !~ '[|]' AND w.word <> '';
  IF pairs IS NULL THEN
    RETURN;
  END IF;
  IF (SELECT atttypid = 'boolean'::regtype FROM pg_attribute WHERE attrelid = tab AND attname = column_name) THEN
    RETURN QUERY SELECT v.f, v.w, 'boolean'::text FROM (VALUES ('status=completed', 'true'), ('status=' || CASE thing WHEN 'checkup' THEN 'in_progress' ELSE 'pending' END, 'false')) v (f, w);
    RETURN;
  END IF;
  FOR part IN 1..2 LOOP
    FOR f IN SELECT x.field, split_part(x.words, ';', part) AS words FROM pgmqd.application_fields() x WHERE x.thing = find_words.thing AND x.kind = 'words'
      ORDER BY part = 2 AND NOT x.needed LOOP -- a weak word goes first to the status that cannot do without
      CONTINUE WHEN f.field = ANY (taken);
      SELECT array_agg(w.word ORDER BY w.place) INTO list FROM (SELECT p->>'word' AS word, pgmqd.word_place(p->>'label', btrim(f.words)) AS place FROM jsonb_array_elements(pairs) p) w
      WHERE w.place IS NOT NULL AND NOT 'word ' || w.word = ANY (taken);
      CONTINUE WHEN list IS NULL;
      taken := taken || f.field || ARRAY(SELECT 'word ' || w FROM unnest(list) w);
      field := f.field;
      name := array_to_string(list, '|');
      note := (SELECT string_agg(p->>'label', ', ') FROM jsonb_array_elements(pairs) p WHERE p->>'word' = ANY (list) AND p->>'label' <> pgmqd.plain_name(p->>'word'));
      RETURN NEXT;
    END LOOP;
  END LOOP;
  FOR f IN SELECT x.field FROM pgmqd.application_fields() x WHERE x.thing = find_words.thing AND x.kind = 'words' AND NOT x.field = ANY (taken) LOOP
    field := f.field;
    name := '';
    note := 'no word for it';
    RETURN NEXT;
  END LOOP;
END $f$;

-- The columns of a table that refer to a row of another one: by a foreign key, or by their name.
CREATE OR REPLACE FUNCTION pgmqd.columns_to(tab regclass, target regclass) RETURNS SETOF name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT a.attname FROM pg_attribute a WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND tab <> target
    AND coalesce(pgmqd.column_target(tab, a.attnum) = target, pgmqd.plain_name(a.attname) ~ '_id$'
      AND pgmqd.table_place((SELECT pgmqd.plain_name(c.relname) FROM pg_class c WHERE c.oid = target), regexp_replace(pgmqd.plain_name(a.attname), '_id$', '')) < 100)
  ORDER BY pgmqd.column_target(tab, a.attnum) IS NULL, a.attnum
$f$;

-- The tables of people and of accounts, with the column by which the other tables know a person: {person, key, account}.
CREATE OR REPLACE FUNCTION pgmqd.find_people(tabs regclass[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  things CONSTANT text[] := ARRAY['checkup', 'appointment', 'payment'];
  accounts CONSTANT oid := coalesce(to_regclass('auth.users'), 0);
  own regclass := to_regclass((SELECT a.name FROM pgmqd.application a WHERE a.thing = 'person' AND a.field = 'table'));
  refers regclass;
  stem text;
  people regclass;
  key name;
  account regclass;
BEGIN
  -- the table of people is the one that most tables refer to by their best column
  SELECT k.target, k.stem INTO refers, stem FROM (SELECT (SELECT pgmqd.column_target(tabs[i], a.attnum) FROM pg_attribute a WHERE a.attrelid = tabs[i] AND a.attname = c.name) AS target,
      regexp_replace(pgmqd.plain_name(c.name), '_id$', '') AS stem
    FROM generate_series(1, 3) i, LATERAL (SELECT f.name FROM pgmqd.field_candidates(tabs[i], things[i], 'user_id') f WHERE f.place IS NOT NULL LIMIT 1) c WHERE tabs[i] IS NOT NULL) k
  GROUP BY 1, 2 ORDER BY k.target IS NULL, count(*) DESC, 2 LIMIT 1;
  people := coalesce(own, CASE WHEN refers <> accounts THEN refers END);
  IF people IS NULL THEN
    SELECT c.name INTO people FROM pgmqd.table_candidates('person') c
    ORDER BY c.name <> coalesce(to_regclass('public.profiles'), 0) OR coalesce(stem, 'user') NOT IN ('user', 'profile'),
      refers IS NOT NULL AND NOT EXISTS (SELECT FROM pgmqd.columns_to(c.name, refers)),
      coalesce(pgmqd.table_place((SELECT pgmqd.plain_name(r.relname) FROM pg_class r WHERE r.oid = c.name), stem), 1000), c.fit DESC LIMIT 1;
    key := (SELECT k FROM pgmqd.columns_to(people, refers) k LIMIT 1);
  END IF;
  -- a table of accounts without names has one of profiles beside it
  IF own IS NULL AND people IS NOT NULL AND NOT EXISTS (SELECT FROM pgmqd.find_columns('person', people) f WHERE f.field IN ('full_name', 'name', 'first_name')) THEN
    SELECT c.name, k INTO account, key FROM pgmqd.table_candidates('person') c, pgmqd.columns_to(c.name, people) k
    WHERE EXISTS (SELECT FROM pgmqd.find_columns('person', c.name) f WHERE f.field IN ('full_name', 'name', 'first_name')) ORDER BY c.fit DESC LIMIT 1;
    IF account IS NOT NULL THEN
      RETURN jsonb_build_object('person', account::text, 'key', key, 'account', people::text, 'refers', people::text);
    END IF;
  END IF;
  -- one of people without addresses has them in the accounts that it refers to
  IF people IS NOT NULL AND NOT EXISTS (SELECT FROM pgmqd.find_columns('person', people) f WHERE f.field = 'email') THEN
    SELECT k.target INTO account FROM (SELECT DISTINCT pgmqd.column_target(people, a.attnum) AS target FROM pg_attribute a WHERE a.attrelid = people AND a.attnum > 0) k
    WHERE EXISTS (SELECT FROM pgmqd.find_columns('account', k.target) f WHERE f.field = 'email') LIMIT 1;
  END IF;
  RETURN jsonb_build_object('person', people::text, 'key', key, 'account', nullif(account, accounts)::text, 'refers', coalesce(refers, people)::text);
END $f$;

-- The table of a thing: as pgmqd.application says, else of the usual name, else the one that fits best. More than one: they fit equally well.
CREATE OR REPLACE FUNCTION pgmqd.find_tables(thing text) RETURNS regclass[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN t IS NOT NULL THEN ARRAY[t] ELSE (SELECT array_agg(c.name ORDER BY c.name::text) FROM (SELECT k.*, max(k.fit) OVER () AS best FROM pgmqd.table_candidates(thing) k) c
    WHERE c.fit = c.best AND c.fit > 840) END
  FROM (SELECT (SELECT c.oid::regclass FROM pg_class c JOIN unnest(ARRAY[(SELECT a.name FROM pgmqd.application a WHERE a.thing = $1 AND a.field = 'table'),
    (SELECT f.usual FROM pgmqd.application_fields() f WHERE f.thing = $1 AND f.field = 'table')]) WITH ORDINALITY n (name, place) ON c.oid = to_regclass(n.name)
    WHERE c.relkind IN ('r', 'p') ORDER BY n.place LIMIT 1) AS t) x
$f$;

-- All that was found, and what was not: name is NULL then, and problem and remedy say what to do. stored: pgmqd.application has it so.
-- Rows that an operator has written stay as they are, unless their table or column is gone.
CREATE OR REPLACE FUNCTION pgmqd.find_application() RETURNS TABLE (thing text, field text, name text, note text, stored boolean, problem text, remedy text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  things CONSTANT text[] := ARRAY['checkup', 'appointment', 'payment', 'person', 'account'];
  tabs regclass[] := '{}';
  several regclass[];
  people jsonb;
  tab regclass;
  i integer;
  names jsonb;
  f record;
BEGIN
  FOR i IN 1..3 LOOP
    several := pgmqd.find_tables(things[i]);
    tabs[i] := CASE WHEN cardinality(several) = 1 AND array_position(tabs, several[1]) IS NULL THEN several[1] END;
  END LOOP;
  people := pgmqd.find_people(tabs);
  tabs := tabs || ARRAY[to_regclass(people->>'person'), to_regclass(people->>'account')];
  FOR i IN 1..5 LOOP
    thing := things[i];
    tab := tabs[i];
    field := 'table';
    problem := NULL; remedy := NULL; note := NULL; stored := false;
    IF tab IS NULL THEN
      CONTINUE WHEN i = 5 OR i = 4 AND to_regclass('auth.users') IS NOT NULL;
      name := NULL;
      several := CASE WHEN i < 4 THEN pgmqd.find_tables(thing) END;
      problem := CASE WHEN cardinality(several) > 1 THEN format('%s fit equally well', (SELECT string_agg(x::text, ', ') FROM unnest(several) x))
        ELSE coalesce((SELECT format('%s is no table, and only those can have our triggers', x.usual) FROM pgmqd.application_fields() x
          WHERE x.thing = things[i] AND x.field = 'table' AND to_regclass(nullif(x.usual, '')) IS NOT NULL), 'no table looks like it') END;
      remedy := format('if there is one: INSERT INTO pgmqd.application VALUES (%L, ''table'', %L), then pgmqd connect again', thing, coalesce(several[1]::text, 'SCHEMA.TABLE'));
      RETURN NEXT;
      CONTINUE;
    END IF;
    names := '{}';
    FOR f IN SELECT 'table' AS field, tab::text AS name, NULL AS note
      UNION ALL SELECT * FROM pgmqd.find_columns(thing, tab, to_regclass(people->>'refers'), CASE WHEN i = 4 THEN (people->>'key')::name END)
    LOOP
      names := names || jsonb_build_object(f.field, f.name);
    END LOOP;
    -- a stored name wins while its column exists; a stored start, date or amount excludes the others of its kind
    FOR f IN SELECT a.field, a.name FROM pgmqd.application a WHERE a.thing = find_application.thing
      AND (a.name = '' OR a.field = 'table' OR EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = tab AND k.attname = a.name AND NOT k.attisdropped))
    LOOP
      names := names - CASE f.field WHEN 'time' THEN 'starts_at' WHEN 'starts_at' THEN 'date' WHEN 'amount_minor' THEN 'amount' WHEN 'amount' THEN 'amount_minor' ELSE '' END;
      names := CASE WHEN f.field = 'table' THEN names ELSE names || jsonb_build_object(f.field, f.name) END;
    END LOOP;
    FOR f IN SELECT x.field, x.kind, x.needed, coalesce(names->>x.field, w.name) AS name, w.note, k.atttypid, k.attnum,
        (SELECT a.name FROM pgmqd.application a WHERE a.thing = x.thing AND a.field = x.field) AS said
      FROM pgmqd.application_fields() WITH ORDINALITY x (thing, field, kind, usual, needed, words, n)
        LEFT JOIN pgmqd.find_words(things[i], tab, (names->>'status')::name) w ON w.field = x.field
        LEFT JOIN pg_attribute k ON k.attrelid = tab AND k.attname = names->>x.field AND NOT k.attisdropped
      WHERE x.thing = things[i] ORDER BY n
    LOOP
      field := f.field; name := f.name; problem := NULL; remedy := NULL;
      name := CASE WHEN f.kind = 'words' THEN coalesce(nullif(f.said, ''), nullif(f.name, ''), f.said, f.name) ELSE f.name END;
      stored := name IS NOT DISTINCT FROM f.said;
      note := coalesce(f.note, format_type(f.atttypid, NULL) || coalesce(' of ' || pgmqd.column_target(tab, f.attnum), '')
        || CASE WHEN f.field = 'amount_minor' THEN ', in the smallest unit' WHEN f.field = 'amount' AND f.atttypid IN (20, 21, 23) THEN ', taken for whole units' ELSE '' END);
      IF field = 'table' AND pgmqd.app_table_problem(name) IS NOT NULL THEN
        problem := pgmqd.app_table_problem(name);
        remedy := format('if that role is the application: INSERT INTO pgmqd.trusted_owners VALUES (%L), then pgmqd connect again',
          (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = tab));
      ELSIF f.needed AND coalesce(name, '') = '' AND NOT (field = 'starts_at' AND names ? 'date' AND names ? 'time' OR field = 'amount' AND names ? 'amount_minor'
          OR field = 'user_id' AND (names ? 'email' OR i = 3 AND names ? 'appointment_id') OR f.kind = 'words' AND f.name IS NULL) THEN
        problem := CASE WHEN f.kind = 'words' THEN format('column %I of %s has no word for %s', names->>'status', tab, substr(field, 8))
          WHEN field = 'starts_at' AND names ? 'date' THEN format('%s has a date and no time of day', tab) ELSE format('no column of %s looks like it', tab) END;
        remedy := CASE WHEN f.kind = 'words' THEN format('if there is one: INSERT INTO pgmqd.application VALUES (%L, %L, ''WORD'') ON CONFLICT (thing, field) DO UPDATE SET name = excluded.name', thing, field)
          WHEN field = 'status' AND names ? 'completed_at' THEN format('ALTER TABLE %s ADD COLUMN status text GENERATED ALWAYS AS (CASE WHEN %I IS NULL THEN %L ELSE ''completed'' END) STORED',
            tab, names->>'completed_at', CASE thing WHEN 'checkup' THEN 'in_progress' ELSE 'pending' END)
          ELSE format('if there is one: INSERT INTO pgmqd.application VALUES (%L, %L, ''COLUMN'')', thing, field) END || ', then pgmqd connect again';
        name := NULL;
      END IF;
      CONTINUE WHEN name IS NULL AND problem IS NULL;
      RETURN NEXT;
    END LOOP;
    IF i < 4 AND NOT EXISTS (SELECT FROM pgmqd.find_words(thing, tab, (names->>'status')::name)) AND names ? 'status'
      AND NOT EXISTS (SELECT FROM pgmqd.application a WHERE a.thing = things[i] AND a.field ~ '^status=') THEN
      field := 'status'; name := NULL; stored := false; note := NULL;
      problem := format('no row of %s says yet what %I can be', tab, names->>'status');
      remedy := format('INSERT INTO pgmqd.application VALUES (%L, %L, ''WORD''), then pgmqd connect again (which finds the words itself when there are rows)', thing,
        CASE thing WHEN 'appointment' THEN 'status=scheduled' ELSE 'status=completed' END);
      IF tab::text <> (SELECT x.usual FROM pgmqd.application_fields() x WHERE x.thing = things[i] AND x.field = 'table') THEN
        RETURN NEXT;
      END IF;
    END IF;
  END LOOP;
END $f$;

-- Writes down what was found, and forgets names of tables and columns that are gone. Returns how many rows have changed.
CREATE OR REPLACE FUNCTION pgmqd.store_application() RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
  WITH found AS (SELECT * FROM pgmqd.find_application() f WHERE f.name IS NOT NULL AND NOT f.stored),
    gone AS (DELETE FROM pgmqd.application a WHERE NOT EXISTS (SELECT FROM found f WHERE f.thing = a.thing AND f.field = a.field)
      AND pgmqd.application_problem(a.thing, a.field, a.name) IS NOT NULL RETURNING 1),
    written AS (INSERT INTO pgmqd.application AS a (thing, field, name) SELECT f.thing, f.field, f.name FROM found f
      ON CONFLICT (thing, field) DO UPDATE SET name = excluded.name RETURNING 1)
  SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
$f$;

-- ---- the connection ----

-- The columns that a thing's trigger needs and its table lacks, as a sentence; NULL when there are none.
CREATE OR REPLACE FUNCTION pgmqd.connect_problem(thing text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb := pgmqd.app_names(thing);
  tab text := names->>'table';
  have text[];
  lacking text;
BEGIN
  IF to_regclass(tab) IS NULL THEN
    RETURN format('table %s does not exist', tab);
  ELSIF pgmqd.app_of(thing) IS NULL THEN
    RETURN pgmqd.app_table_problem(tab);
  ELSIF (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = to_regclass(tab)) THEN
    RETURN format('%s is no table', tab);
  END IF;
  SELECT coalesce(array_agg(c.field), '{}') INTO have FROM pgmqd.app_columns(thing, false) c;
  SELECT string_agg(quote_ident(coalesce(names->>f.field, f.field)), ', ') INTO lacking FROM pgmqd.application_fields() f
  WHERE f.thing = connect_problem.thing AND f.needed AND f.kind NOT IN ('table', 'words') AND NOT f.field = ANY (have)
    AND NOT (f.field = 'starts_at' AND have @> ARRAY['date', 'time'] OR f.field = 'amount' AND 'amount_minor' = ANY (have)
      OR f.field = 'user_id' AND ('email' = ANY (have) OR connect_problem.thing = 'payment' AND 'appointment_id' = ANY (have)));
  RETURN 'table ' || tab || ' has no column ' || lacking;
END $f$;

-- Installs one trigger, unless it is there in this form already, and takes it away from other tables. Returns what is missing for it, or NULL.
CREATE OR REPLACE FUNCTION pgmqd.connect_trigger(trigger_name text, thing text, function_name text, VARIADIC statuses text[]) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $f$
DECLARE
  target regclass := pgmqd.app_of(thing);
  problem text := pgmqd.connect_problem(thing);
  status text := pgmqd.app_names(thing)->>'status';
  words text[] := pgmqd.app_words(thing, VARIADIC statuses);
  form text := format('pgmqd: form 2, %s: %s', status, array_to_string(words, '|'));
  state record;
  other record;
BEGIN
  FOR other IN SELECT t.tgrelid::regclass AS tab FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgname = trigger_name AND p.proname = function_name
    AND p.pronamespace = 'public'::regnamespace AND t.tgparentid = 0 AND t.tgrelid IS DISTINCT FROM to_regclass(pgmqd.app_names(thing)->>'table') LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, other.tab);
  END LOOP;
  IF problem IS NOT NULL THEN
    RETURN problem;
  END IF;
  SELECT t.tgenabled, obj_description(t.oid, 'pg_trigger') AS form, p.proname INTO state
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = target AND t.tgname = trigger_name;
  IF state.tgenabled = 'D' THEN
    RETURN format('trigger %I is disabled', trigger_name);
  END IF;
  IF state.form IS DISTINCT FROM form OR state.proname <> function_name THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER INSERT OR UPDATE ON %s FOR EACH ROW'
      ' WHEN (NEW.%I::text = ANY (%L::text[])) EXECUTE FUNCTION public.%I()', trigger_name, target, status, words, function_name);
    EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', trigger_name, target, form);
  END IF;
  RETURN NULL;
EXCEPTION WHEN insufficient_privilege OR lock_not_available OR deadlock_detected THEN
  IF SQLSTATE <> '42501' AND current_setting('pgmqd.migrating', true) = 'on' THEN
    RAISE; -- pgmqd migrate tries it all again
  END IF;
  RETURN SQLERRM;
END $f$;

-- Connects pgmqd with as much of the application as is there, and returns one row for each thing that is missing. It
-- may be called at any time, and changes only what has to change.
CREATE OR REPLACE FUNCTION pgmqd.connect_application() RETURNS TABLE (item text, problem text, remedy text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  again CONSTANT text := 'SELECT * FROM pgmqd.connect_application(), or pgmqd migrate again';
BEGIN
  FOR item, problem IN
    VALUES ('on_checkup_completed', pgmqd.connect_trigger('on_checkup_completed', 'checkup', 'handle_completed_checkup', 'completed')),
      ('on_new_appointment', pgmqd.connect_trigger('on_new_appointment', 'appointment', 'handle_new_appointment', 'scheduled')),
      ('on_payment_status_change', pgmqd.connect_trigger('on_payment_status_change', 'payment', 'handle_payment_status_change', 'completed', 'failed'))
  LOOP
    CONTINUE WHEN problem IS NULL;
    remedy := CASE
      WHEN problem LIKE '%is disabled' THEN 'enable it with ALTER TABLE … ENABLE TRIGGER, unless that is meant'
      WHEN problem ~ 'not trusted' THEN 'if that role is the application: INSERT INTO pgmqd.trusted_owners VALUES (''ROLE''), then ' || again
      WHEN problem ~ 'does not exist|no column|no table' THEN 'pgmqd connect finds it under another name; or create it, then ' || again
      ELSE 'run ' || again || ', as a role that owns the table, when it is free' END;
    RETURN NEXT;
  END LOOP;

  item := 'e-mail addresses';
  IF pgmqd.app_table('auth.users') IS NULL AND NOT EXISTS (SELECT FROM pgmqd.app_columns('person', false) c WHERE c.field = 'email')
    AND NOT EXISTS (SELECT FROM pgmqd.app_columns('account', false) c WHERE c.field = 'email') AND NOT EXISTS (SELECT FROM pgmqd.app_columns('appointment', false) c WHERE c.field = 'email') THEN
    problem := format('neither %s.email nor auth.users exists, so nobody can be written to by a trigger', pgmqd.app_names('person')->>'table');
    remedy := 'pgmqd connect finds people under other names; or create one of them';
    RETURN NEXT;
  ELSIF to_regclass(pgmqd.app_names('person')->>'table') IS NULL AND NOT EXISTS (SELECT FROM pgmqd.app_columns('appointment', false) c WHERE c.field = 'email') THEN
    item := 'names and languages';
    problem := format('table %s does not exist', pgmqd.app_names('person')->>'table');
    remedy := 'create it with id, full_name and language; until then mails have no name and the default language';
    RETURN NEXT;
  END IF;

  FOR problem IN SELECT p FROM unnest(ARRAY['person', 'account']) x, pgmqd.app_table_problem(pgmqd.app_names(x)->>'table') p WHERE p IS NOT NULL LOOP
    item := 'people';
    remedy := 'if that role is the application: INSERT INTO pgmqd.trusted_owners VALUES (''ROLE''), then ' || again;
    RETURN NEXT;
  END LOOP;

  remedy := 'pgmqd connect finds it anew; or put the row of pgmqd.application right';
  FOR item, problem IN SELECT format('%s, %s', p.thing, p.field), p.problem FROM pgmqd.application_problems() p LOOP
    RETURN NEXT;
  END LOOP;

  RETURN QUERY SELECT * FROM pgmqd.connect_schedules();
  RETURN QUERY SELECT * FROM pgmqd.connect_roles();
  RETURN QUERY SELECT * FROM pgmqd.connect_application_role();
END $f$;

-- The rows of pgmqd.application whose table or column is gone.
CREATE OR REPLACE FUNCTION pgmqd.application_problems() RETURNS TABLE (thing text, field text, problem text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT a.thing, a.field, p FROM pgmqd.application a, pgmqd.application_problem(a.thing, a.field, a.name) p WHERE p IS NOT NULL ORDER BY 1, 2
$f$;

-- How the three triggers are, for `pgmqd doctor`: the table, whether it is there, and of the trigger its state and function.
CREATE OR REPLACE FUNCTION pgmqd.trigger_status() RETURNS TABLE (name text, tab text, there boolean, func text, enabled "char", calls text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT w.name, coalesce(c.oid::regclass::text, t), c.oid IS NOT NULL, w.func, tr.tgenabled, p.proname::text
  FROM (VALUES ('on_checkup_completed', 'checkup', 'handle_completed_checkup'), ('on_new_appointment', 'appointment', 'handle_new_appointment'),
      ('on_payment_status_change', 'payment', 'handle_payment_status_change')) w (name, thing, func)
    CROSS JOIN LATERAL (SELECT pgmqd.app_names(w.thing)->>'table') n (t) LEFT JOIN pg_class c ON c.oid = to_regclass(n.t) AND c.relkind IN ('r', 'p')
    LEFT JOIN pg_trigger tr ON tr.tgrelid = c.oid AND tr.tgname = w.name LEFT JOIN pg_proc p ON p.oid = tr.tgfoid
$f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'trigger_status', 'application_problems');
END $$;

-- pgmqd migrate reports this at its end.
DO $$
DECLARE
  missing record;
BEGIN
  FOR missing IN SELECT * FROM pgmqd.connect() LOOP
    IF current_setting('pgmqd.migrating', true) IS DISTINCT FROM 'on' THEN
      RAISE NOTICE 'not connected: %: %; %', missing.item, missing.problem, missing.remedy;
    END IF;
  END LOOP;
END $$;

RESET search_path;
