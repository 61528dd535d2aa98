-- 030_application.sql: the names of the application's tables, columns and statuses, and the only functions that use them.
--
-- pgmqd.application says which table holds the check-ups, appointments, payments and people, and which of its columns is what. A field
-- without a row there has its usual name (public.appointments, starts_at, "completed"). `pgmqd connect` (035) fills the table.
-- Everything else asks for a row by app_find() and app_canonical(), and sees it with the usual names.
-- makes: pgmqd.application pgmqd.trusted_owners

SET search_path = pg_catalog, pg_temp;

-- ---- the names ----

-- All names that pgmqd.application may hold. kind: table, column or status; usual: the name without a row; needed: pgmqd connects
-- nothing without it;
-- words: the names that `pgmqd connect` looks for, the best first, a star for any end ("strong; weak" for statuses).
CREATE OR REPLACE FUNCTION pgmqd.application_fields()
RETURNS TABLE (thing text, field text, kind text, usual text, needed boolean, words text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT v.* FROM (VALUES
    ('checkup', 'table', 'table', 'public.assessments', true, 'assessment check_?up health_check screening examination medical_exam exam diagnostic questionnaire survey'
      ' чекап обследовани чек_?ап осмотр анкет диагностик chekap obsledovani osmotr'),
    ('checkup', 'id', 'key', 'id', true, 'id uuid guid ид код'),
    ('checkup', 'user_id', 'key', 'user_id', true, NULL),
    ('checkup', 'status', 'status', 'status', true, NULL),
    ('checkup', 'status=in_progress', 'words', 'in_progress', false, 'in_progress started active running ongoing processing в_процессе начат* идет; new created draft open pending нов* создан*'),
    ('checkup', 'status=completed', 'words', 'completed', true, 'completed complete done finished заверш* выполнен* пройден* готов* окончен*; closed ready submitted закрыт*'),
    ('checkup', 'status=abandoned', 'words', 'abandoned', false, 'abandoned expired отказ* брошен* просрочен*; cancelled canceled отмен*'),
    ('checkup', 'type', 'text', 'type', false, 'type kind category тип вид'),
    ('checkup', 'score', 'any', 'score', false, 'score total_score result_score points балл* оценка'),
    ('checkup', 'answers', 'any', 'answers', false, 'answers responses results data ответы результаты'),
    ('checkup', 'started_at', 'time', 'started_at', false, 'started_at started start_time begun_at начат* начало'),
    ('checkup', 'completed_at', 'time', 'completed_at', false, 'completed_at finished_at done_at completed_on completed_date finished_on finish_date end_time заверш* дата_завершения'),
    ('checkup', 'created_at', 'time', 'created_at', false, 'created_at created created_on inserted_at date_created создан* дата_создания'),
    ('checkup', 'updated_at', 'time', 'updated_at', false, 'updated_at modified_at changed_at updated изменен*'),
    ('checkup', 'email', 'text', '', false, NULL),

    ('appointment', 'table', 'table', 'public.appointments', true, 'appointment booking visit reservation consultation meeting запис при[её]м визит консультаци бронировани zapis priem vizit'),
    ('appointment', 'id', 'key', 'id', true, 'id uuid guid ид код'),
    ('appointment', 'user_id', 'key', 'user_id', true, NULL),
    ('appointment', 'status', 'status', 'status', true, NULL),
    ('appointment', 'status=pending', 'words', 'pending', false, 'pending requested tentative hold awaiting unconfirmed awaiting_payment ожида*; new created draft нов*'),
    ('appointment', 'status=scheduled', 'words', 'scheduled', true, 'scheduled booked planned reserved запланирован* записан* назначен* забронирован*; new created open active confirmed нов* создан* активн* подтвержд*'),
    ('appointment', 'status=confirmed', 'words', 'confirmed', false, 'confirmed approved accepted paid подтвержд* оплачен*'),
    ('appointment', 'status=in_progress', 'words', 'in_progress', false, 'in_progress started ongoing running идет начат* в_процессе; active'),
    ('appointment', 'status=completed', 'words', 'completed', false, 'completed complete done finished ended attended fulfilled заверш* выполнен* окончен* состоял* проведен*; closed закрыт*'),
    ('appointment', 'status=cancelled', 'words', 'cancelled', false, 'cancelled canceled отмен*; rejected declined deleted'),
    ('appointment', 'starts_at', 'instant', 'starts_at', true, 'starts_at start_at scheduled_at scheduled_for starts start begins_at begin_at start_time start_date_time'
      ' start_datetime begin at datetime date_time date_and_time scheduled_time time slot_start slot booked_for scheduled date when начало дата_время время дата nachalo data_vremya'),
    ('appointment', 'date', 'date', '', false, 'date day scheduled_date start_date on scheduled_on booking_date appointment_date дата день data den'),
    ('appointment', 'time', 'clock', '', false, 'time start_time starts_at start hour begin_time from_time scheduled_time slot_time appointment_time время начало время_начала vremya nachalo'),
    ('appointment', 'ends_at', 'instant', 'ends_at', false, 'ends_at end_at ends end finishes_at finish_at end_time end_datetime until slot_end конец окончание'),
    ('appointment', 'end_time', 'clock', '', false, 'end_time ends_at end time_end to_time finish_time время_окончания конец окончание'),
    ('appointment', 'duration', 'span', 'duration', false, 'duration length duration_interval длительность продолжительность'),
    ('appointment', 'duration_minutes', 'span', 'duration_minutes', false, 'duration_minutes duration_min duration_mins minutes length_minutes minuty минут*'),
    ('appointment', 'specialist_name', 'text', 'specialist_name', false, 'specialist_name doctor_name specialist doctor provider_name practitioner staff_name therapist врач специалист имя_врача vrach'),
    ('appointment', 'location', 'text', 'location', false, 'location place address room office clinic место адрес кабинет'),
    ('appointment', 'created_at', 'time', 'created_at', false, 'created_at created created_on booked_at inserted_at date_created создан* дата_создания'),
    ('appointment', 'email', 'text', '', false, NULL),
    ('appointment', 'full_name', 'text', '', false, 'customer_name client_name patient_name user_name guest_name contact_name имя_клиента'),

    ('payment', 'table', 'table', 'public.payments', true, 'payment charge transaction invoice bill order плат[её]ж оплат счет plat[ie]zh oplat'),
    ('payment', 'id', 'key', 'id', true, 'id uuid guid ид код'),
    ('payment', 'user_id', 'key', 'user_id', true, NULL),
    ('payment', 'appointment_id', 'key', 'appointment_id', false, NULL),
    ('payment', 'status', 'status', 'status', true, NULL),
    ('payment', 'status=pending', 'words', 'pending', false, 'pending waiting awaiting unpaid awaiting_payment requires_payment processing authorized initiated ожида* не_оплач* обработ*; new created open draft нов* создан*'),
    ('payment', 'status=completed', 'words', 'completed', true, 'completed complete paid succeeded success successful captured settled done оплачен* проведен* заверш* успеш* выполнен*; approved confirmed'),
    ('payment', 'status=failed', 'words', 'failed', false, 'failed failure fail declined error rejected denied неуспеш* отклон* ошибк* неудач*; cancelled canceled expired отмен*'),
    ('payment', 'status=refunded', 'words', 'refunded', false, 'refunded refund reversed returned возвр*'),
    ('payment', 'amount', 'amount', 'amount', true, 'amount sum total total_amount amount_total value price cost amount_rub amount_usd amount_eur sum_rub'
      ' сумма сумма_руб стоимость цена итого summa summa_rub stoimost'),
    ('payment', 'amount_minor', 'number', '', false, 'amount_cents amount_minor amount_in_cents amount_minor_units cents amount_kopecks amount_kopeks amount_kop amount_in_kopecks amount_pence'
      ' total_cents price_cents sum_cents value_cents total_minor kopecks сумма_коп* коп* summa_kop*'),
    ('payment', 'currency', 'text', 'currency', false, 'currency currency_code ccy валюта valyuta valuta'),
    ('payment', 'currency_code', 'constant', '', false, NULL),
    ('payment', 'description', 'text', 'description', false, 'description purpose title comment note subject описание назначение'),
    ('payment', 'paid_at', 'time', 'paid_at', false, 'paid_at completed_at paid_on captured_at paid_date payment_date settled_at оплачен* дата_оплаты'),
    ('payment', 'created_at', 'time', 'created_at', false, 'created_at created created_on inserted_at date_created создан* дата_создания'),
    ('payment', 'provider_payment_id', 'text', 'provider_payment_id', false, 'provider_payment_id external_id gateway_id gateway_payment_id external_payment_id provider_id yookassa_id transaction_id'),
    ('payment', 'email', 'text', '', false, NULL),

    ('person', 'table', 'table', 'public.profiles', false, 'profile patient client customer user person people member account пользовател пациент клиент профил polzovatel pacient patsient klient'),
    ('person', 'id', 'key', 'id', true, 'id uuid guid user_id ид код'),
    ('person', 'email', 'text', 'email', false, 'email e_mail email_address mail contact_email login_email primary_email почта эл_почта адрес_почты pochta'),
    ('person', 'account_id', 'key', '', false, 'user_id auth_user_id auth_id account_id supabase_id'),
    ('person', 'full_name', 'text', 'full_name', false, 'full_name fullname display_name fio фио полное_имя'),
    ('person', 'first_name', 'text', '', false, 'first_name firstname given_name имя imya'),
    ('person', 'last_name', 'text', '', false, 'last_name lastname surname family_name second_name фамилия familiya'),
    ('person', 'name', 'text', 'name', false, 'name username nickname имя imya'),
    ('person', 'language', 'text', 'language', false, 'language lang locale preferred_language ui_language язык yazyk'),

    ('account', 'table', 'table', 'auth.users', false, NULL),
    ('account', 'id', 'key', 'id', true, 'id uuid'),
    ('account', 'email', 'text', 'email', true, 'email e_mail email_address mail почта')) v (thing, field, kind, usual, needed, words)
$f$;

CREATE TABLE IF NOT EXISTS pgmqd.application (
  thing text CHECK (thing IN ('checkup', 'appointment', 'payment', 'person', 'account')),
  field text,
  name text NOT NULL,
  PRIMARY KEY (thing, field)
);
COMMENT ON TABLE pgmqd.application IS 'what the application calls its tables, columns and statuses; one row for each that has not its usual name';
COMMENT ON COLUMN pgmqd.application.name IS 'a table with its schema, a column, or words of a status with | between them, of which the first one is written; empty: there is none';

-- The usual names and the kinds of all fields: {thing: {field: …}}. A plan has them as constants, so that nothing is looked up.
CREATE OR REPLACE FUNCTION pgmqd.usual_names() RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_object_agg(x.thing, x.fields) FROM (SELECT f.thing, jsonb_object_agg(f.field, f.usual) FILTER (WHERE f.usual <> '') AS fields
    FROM pgmqd.application_fields() f GROUP BY f.thing) x
$f$;
CREATE OR REPLACE FUNCTION pgmqd.field_kinds() RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_object_agg(x.thing, x.fields) FROM (SELECT f.thing, jsonb_object_agg(f.field, f.kind) AS fields FROM pgmqd.application_fields() f GROUP BY f.thing) x
$f$;

-- The names in force of one thing: {field: name}, without those that are empty. It is in PL/pgSQL like all that a trigger calls: a session
-- plans that once, and a function in SQL at each call.
CREATE OR REPLACE FUNCTION pgmqd.app_names(thing text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb := pgmqd.usual_names()->thing;
  own jsonb;
  none text[];
BEGIN
  SELECT jsonb_object_agg(a.field, a.name), array_agg(a.field) FILTER (WHERE a.name = '') INTO own, none FROM pgmqd.application a WHERE a.thing = $1;
  RETURN (names || coalesce(own, '{}')) - coalesce(none, '{}');
END $f$;

-- Whether a column's type is one that a field of this kind can have.
CREATE OR REPLACE FUNCTION pgmqd.kind_fits(kind text, type oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT coalesce((SELECT CASE kind
      WHEN 'key' THEN t.typcategory IN ('N', 'S') OR b IN ('uuid'::regtype)
      WHEN 'text' THEN t.typcategory IN ('S', 'E')
      WHEN 'status' THEN t.typcategory IN ('S', 'E', 'N', 'B')
      WHEN 'instant' THEN b IN ('timestamptz'::regtype, 'timestamp'::regtype)
      WHEN 'time' THEN b IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
      WHEN 'date' THEN b = 'date'::regtype
      WHEN 'clock' THEN b IN ('time'::regtype, 'timetz'::regtype)
      WHEN 'span' THEN b = 'interval'::regtype OR t.typcategory = 'N' AND b <> 'money'::regtype
      WHEN 'amount' THEN t.typcategory = 'N'
      WHEN 'number' THEN t.typcategory = 'N' AND b <> 'money'::regtype
      WHEN 'any' THEN true END
    FROM (SELECT p.typcategory, coalesce(nullif(p.typbasetype, 0), p.oid) AS b FROM pg_type p WHERE p.oid = type) t), false)
$f$;

-- The fault of a row of pgmqd.application; NULL when it has none.
CREATE OR REPLACE FUNCTION pgmqd.application_problem(thing text, field text, name text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  kind text := (SELECT f.kind FROM pgmqd.application_fields() f WHERE f.thing = $1 AND f.field = $2);
  tab text := pgmqd.app_names(thing)->>'table';
  type oid;
BEGIN
  IF kind IS NULL THEN
    RETURN format('%s has no field %s; it may be one of %s', thing, quote_literal(field),
      (SELECT string_agg(f.field, ', ') FROM pgmqd.application_fields() f WHERE f.thing = $1));
  ELSIF name = '' OR kind = 'words' THEN
    RETURN CASE WHEN name ~ '(^|[|])([|]|$)' AND name <> '' THEN format('%s: there is an empty word in %L', field, name) END;
  ELSIF kind = 'constant' THEN
    RETURN CASE WHEN name !~ '^[A-Z]{3}$' THEN format('%s: %L is no currency such as RUB', field, name) END;
  ELSIF kind = 'table' THEN
    RETURN CASE WHEN name !~ '[.]' OR to_regclass(name) IS NULL THEN format('there is no table %s (with its schema, quoted where SQL needs it)', name)
      WHEN (SELECT c.relkind NOT IN ('r', 'p') FROM pg_class c WHERE c.oid = to_regclass(name)) THEN format('%s is no table', name) END;
  END IF;
  type := (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = to_regclass(tab) AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped);
  RETURN CASE WHEN type IS NULL THEN format('table %s has no column %I (%s of %s)', tab, name, field, thing)
    WHEN NOT pgmqd.kind_fits(kind, type) THEN format('column %I of %s has type %s, which cannot be the field %s', name, tab, format_type(type, NULL), field) END;
EXCEPTION WHEN invalid_name OR syntax_error THEN
  RETURN format('%L is no name of a table with its schema', name);
END $f$;

-- Checks the rows of one statement together, so that a table and its columns may come in any order.
CREATE OR REPLACE FUNCTION pgmqd.check_application() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  problem text;
BEGIN
  SELECT p INTO problem FROM rows r, pgmqd.application_problem(r.thing, r.field, r.name) p WHERE p IS NOT NULL ORDER BY r.thing, r.field <> 'table' LIMIT 1;
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'pgmqd.application: %', problem USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN NULL;
END $f$;
CREATE OR REPLACE TRIGGER check_inserted AFTER INSERT ON pgmqd.application REFERENCING NEW TABLE AS rows
  FOR EACH STATEMENT EXECUTE FUNCTION pgmqd.check_application();
CREATE OR REPLACE TRIGGER check_updated AFTER UPDATE ON pgmqd.application REFERENCING NEW TABLE AS rows
  FOR EACH STATEMENT EXECUTE FUNCTION pgmqd.check_application();

-- ---- the only functions that touch the application's tables ----

-- They belong to the role pgmqd_application (034), which may do nothing but read the columns that are named and set a status, and may
-- not even use schema pgmqd: so whatever a trigger, view, policy or cast on such a table runs, it runs with these rights, and not with
-- those of our owner.
CREATE OR REPLACE FUNCTION pgmqd.app_select(query text) RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names CONSTANT text[] := ARRAY['default_transaction_read_only', 'default_transaction_isolation', 'default_transaction_deferrable', 'statement_timeout', 'lock_timeout',
    'idle_in_transaction_session_timeout', 'TimeZone', 'DateStyle', 'IntervalStyle', 'standard_conforming_strings', 'bytea_output', 'extra_float_digits', 'array_nulls',
    'transform_null_equals', 'quote_all_identifiers', 'row_security', 'client_encoding', 'client_min_messages'];
  were CONSTANT text[] := CASE WHEN pg_trigger_depth() = 0 THEN ARRAY(SELECT current_setting(s.name) FROM unnest(names) s (name)) END;
BEGIN
  RETURN QUERY EXECUTE query;
  IF pg_catalog.int4eq(pg_catalog.pg_trigger_depth(), 0) THEN
    SET CONSTRAINTS ALL IMMEDIATE; -- as below
  END IF;
  IF pg_catalog.textne(pg_catalog.current_setting('search_path'), 'pg_catalog, pg_temp') THEN
    RAISE EXCEPTION 'search_path was changed by something on the application''s tables';
  END IF;
  IF were IS NOT NULL THEN
    PERFORM set_config(s.name, s.value, false) FROM unnest(names, were) s (name, value) WHERE current_setting(s.name) <> s.value;
  END IF;
END $f$;

CREATE OR REPLACE FUNCTION pgmqd.app_execute(statement text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names CONSTANT text[] := ARRAY['default_transaction_read_only', 'default_transaction_isolation', 'default_transaction_deferrable', 'statement_timeout', 'lock_timeout',
    'idle_in_transaction_session_timeout', 'TimeZone', 'DateStyle', 'IntervalStyle', 'standard_conforming_strings', 'bytea_output', 'extra_float_digits', 'array_nulls',
    'transform_null_equals', 'quote_all_identifiers', 'row_security', 'client_encoding', 'client_min_messages'];
  were CONSTANT text[] := CASE WHEN pg_trigger_depth() = 0 THEN ARRAY(SELECT current_setting(s.name) FROM unnest(names) s (name)) END;
  n bigint;
BEGIN
  EXECUTE statement;
  GET DIAGNOSTICS n = ROW_COUNT;
  -- what is deferred would run at the end of the transaction, with the rights of the session; inside a trigger the transaction is the application's
  IF pg_catalog.int4eq(pg_catalog.pg_trigger_depth(), 0) THEN
    SET CONSTRAINTS ALL IMMEDIATE;
  END IF;
  -- a trigger that sets search_path for good would have our owner call its functions next
  IF pg_catalog.textne(pg_catalog.current_setting('search_path'), 'pg_catalog, pg_temp') THEN
    RAISE EXCEPTION 'search_path was changed by a trigger on the application''s tables';
  END IF;
  -- and other settings would stay in the dispatcher's session; inside a trigger it is the application's
  IF were IS NOT NULL THEN
    PERFORM set_config(s.name, s.value, false) FROM unnest(names, were) s (name, value) WHERE current_setting(s.name) <> s.value;
  END IF;
  RETURN n;
END $f$;

-- A row of one of these tables as JSON, whose casts may be anybody's.
CREATE OR REPLACE FUNCTION pgmqd.app_row(r anyelement) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  result jsonb := to_jsonb(r);
BEGIN
  IF pg_catalog.textne(pg_catalog.current_setting('search_path'), 'pg_catalog, pg_temp') THEN
    RAISE EXCEPTION 'search_path was changed by a cast';
  END IF;
  RETURN result;
END $f$;

-- Whose tables are taken for the application's, beside those of our owner and of the database's owner.
CREATE TABLE IF NOT EXISTS pgmqd.trusted_owners (
  role text PRIMARY KEY
);
COMMENT ON TABLE pgmqd.trusted_owners IS 'roles whose tables in public (and auth.users) are the application''s; add one with INSERT';

-- Whether the three functions above have the rights of pgmqd_application only.
CREATE OR REPLACE FUNCTION pgmqd.app_is_apart() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT coalesce(bool_and(p.proowner = to_regrole('pgmqd_application')), false) FROM pg_proc p
  WHERE p.oid IN ('pgmqd.app_select(text)'::regprocedure, 'pgmqd.app_execute(text)'::regprocedure, 'pgmqd.app_row(anyelement)'::regprocedure)
$f$;

-- Why a table is not used as the application's: NULL when it is, or when there is none. Anybody who may create in public could make one.
CREATE OR REPLACE FUNCTION pgmqd.app_table_problem(name text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass(name) AND NOT pgmqd.trusts(c.relowner));
BEGIN
  IF owner IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN (SELECT format('%s belongs to role %s, which is not trusted', name, r.rolname) FROM pg_roles r
    WHERE r.oid = owner AND NOT (pgmqd.app_is_apart() AND owner = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()))
      AND NOT EXISTS (SELECT FROM pgmqd.trusted_owners t WHERE t.role = r.rolname)
      -- on Supabase, where no other role can have this name
      AND NOT (r.rolname = 'supabase_auth_admin' AND EXISTS (SELECT FROM pg_roles s WHERE s.rolname = 'supabase_admin' AND s.rolsuper)));
END $f$;

-- A table of the application's; NULL when there is none, or when it is not trusted.
CREATE OR REPLACE FUNCTION pgmqd.app_table(name text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  tab regclass := to_regclass(name);
BEGIN
  -- most belong to somebody whom trusts() takes at once; the rest is for the others
  IF tab IS NULL OR (SELECT pg_has_role(c.relowner, n.nspowner, 'MEMBER') FROM pg_class c, pg_namespace n WHERE c.oid = tab AND n.nspname = 'pgmqd')
    OR pgmqd.app_table_problem(name) IS NULL THEN
    RETURN tab;
  END IF;
  RETURN NULL;
END $f$;

-- ---- a thing's table and columns ----

-- The table of a thing; NULL when there is none, or when it is not trusted.
CREATE OR REPLACE FUNCTION pgmqd.app_of(thing text) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN pgmqd.app_table(pgmqd.app_names(thing)->>'table');
END $f$;

-- Whether a table has a column that app_select() may read.
CREATE OR REPLACE FUNCTION pgmqd.app_reads(tab regclass, column_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN coalesce((SELECT has_column_privilege((SELECT p.proowner FROM pg_proc p WHERE p.oid = 'pgmqd.app_select(text)'::regprocedure), tab, a.attnum, 'SELECT')
    FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped), false);
END $f$;

-- The columns of a thing that are there; with `readable`, those that app_select() may read: one that the application has added since
-- connect_application() has run is not.
CREATE OR REPLACE FUNCTION pgmqd.app_columns(thing text, readable boolean DEFAULT true) RETURNS TABLE (field text, kind text, name name, type oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_column
DECLARE
  names jsonb := pgmqd.app_names(thing);
  target regclass := pgmqd.app_table(names->>'table');
  kinds jsonb := pgmqd.field_kinds()->thing;
BEGIN
  RETURN QUERY SELECT n.key, kinds->>n.key, a.attname, coalesce(nullif(t.typbasetype, 0), t.oid) FROM jsonb_each_text(names) n
    JOIN pg_attribute a ON a.attrelid = target AND a.attname = n.value AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
  WHERE kinds->>n.key NOT IN ('table', 'words', 'constant') AND (NOT readable
    OR has_column_privilege((SELECT p.proowner FROM pg_proc p WHERE p.oid = 'pgmqd.app_select(text)'::regprocedure), a.attrelid, a.attnum, 'SELECT'));
END $f$;

-- A column as an SQL expression of type timestamptz; NULL when there is no such column. A start or end may be a date and a time of day.
CREATE OR REPLACE FUNCTION pgmqd.time_column(thing text, field text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  WITH c AS (SELECT * FROM pgmqd.app_columns($1)),
    clock AS (SELECT * FROM c WHERE c.field = CASE $2 WHEN 'starts_at' THEN 'time' WHEN 'ends_at' THEN 'end_time' END)
  SELECT coalesce(
    (SELECT CASE WHEN c.type = 'timestamptz'::regtype THEN quote_ident(c.name)
       ELSE format('(%I::timestamp AT TIME ZONE %L)', c.name, pgmqd.setting('time_zone')) END FROM c WHERE c.field = $2 AND c.kind IN ('instant', 'time')),
    (SELECT CASE WHEN clock.type = 'timetz'::regtype THEN format('(%I + %I)', d.name, clock.name)
       ELSE format('((%I + %I) AT TIME ZONE %L)', d.name, clock.name, pgmqd.setting('time_zone')) END FROM c d, clock WHERE d.field = 'date'))
$f$;

-- When an appointment ends: its end, else its start and its duration (an interval, or minutes), else an hour later.
CREATE OR REPLACE FUNCTION pgmqd.appointment_end() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT 'coalesce(' || concat_ws(', ', pgmqd.time_column('appointment', 'ends_at'),
      string_agg(start || CASE WHEN c.type = 'interval'::regtype THEN ' + ' || quote_ident(c.name)
        ELSE ' + make_interval(mins => ' || quote_ident(c.name) || '::integer)' END, ', ' ORDER BY c.field),
      start || ' + interval ''1 hour''') || ')'
  FROM pgmqd.time_column('appointment', 'starts_at') start LEFT JOIN pgmqd.app_columns('appointment') c ON c.kind = 'span'
  WHERE start IS NOT NULL GROUP BY start
$f$;

-- ---- its statuses ----

-- The words that a column takes, as far as the database knows them: of an enum, a CHECK (x IN (...)), or a boolean; else NULL.
CREATE OR REPLACE FUNCTION pgmqd.column_words(tab regclass, column_name name) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  num smallint;
  type oid;
  kind "char";
  def text;
BEGIN
  SELECT a.attnum, t.oid, t.typtype INTO num, type, kind FROM pg_attribute a JOIN pg_type p ON p.oid = a.atttypid
    JOIN pg_type t ON t.oid = coalesce(nullif(p.typbasetype, 0), p.oid) WHERE a.attrelid = tab AND a.attname = column_name AND NOT a.attisdropped;
  IF kind = 'e' THEN
    RETURN (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = type);
  ELSIF type = 'boolean'::regtype THEN
    RETURN ARRAY['true', 'false'];
  END IF;
  SELECT d INTO def FROM pg_constraint k, pg_get_constraintdef(k.oid) d
  WHERE k.conrelid = tab AND k.contype = 'c' AND k.conkey = ARRAY[num] AND d ~ '= ANY \(+ARRAY\[' LIMIT 1;
  RETURN (SELECT array_agg(replace(m[1], '''''', '''')) FROM regexp_matches(def, '''((?:[^'']|'''')*)''', 'g') m);
END $f$;

-- The application's words for one of these statuses, those to write first.
CREATE OR REPLACE FUNCTION pgmqd.app_words(thing text, VARIADIC statuses text[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb := pgmqd.app_names(thing);
BEGIN
  RETURN (SELECT coalesce(array_agg(w.word ORDER BY w.n, s.n), '{}') FROM unnest(statuses) WITH ORDINALITY s (status, n),
    string_to_array(names->>('status=' || s.status), '|') list, unnest(list) WITH ORDINALITY w (word, n));
END $f$;

-- The word to write for a status; NULL when the application has none.
CREATE OR REPLACE FUNCTION pgmqd.app_word(thing text, status text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb := pgmqd.app_names(thing);
  word text := split_part(names->>('status=' || status), '|', 1);
  allowed text[] := pgmqd.column_words(pgmqd.app_table(names->>'table'), (names->>'status')::name);
BEGIN
  RETURN CASE WHEN allowed IS NULL OR word = ANY (allowed) THEN word END;
END $f$;

-- ---- its rows ----

-- How many digits stand behind the point of an amount that is kept in the smallest unit of its currency.
CREATE OR REPLACE FUNCTION pgmqd.minor_digits(currency text) RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN upper(currency) IN ('JPY', 'KRW', 'VND', 'CLP', 'ISK', 'XOF', 'XAF') THEN 0 WHEN upper(currency) IN ('KWD', 'BHD', 'OMR', 'TND', 'JOD', 'IQD') THEN 3 ELSE 2 END
$f$;

-- The usual status that a word of the application stands for; a word that stands for none is as the application writes it.
CREATE OR REPLACE FUNCTION pgmqd.app_status(thing text, names jsonb, word text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  status text := (SELECT min(substr(n.key, 8)) FROM jsonb_each_text(names) n WHERE n.key LIKE 'status=%' AND word = ANY (string_to_array(n.value, '|')));
BEGIN
  RETURN coalesce(status, CASE WHEN pgmqd.usual_names()->thing ? ('status=' || word) THEN 'other: ' ELSE '' END || word);
END $f$;

-- A row of a thing's table with the usual names: {id, user_id, status, starts_at, amount, …}, as far as it has them. names:
-- those of the thing, from a caller who has them.
DROP FUNCTION IF EXISTS pgmqd.app_canonical(text, jsonb);
CREATE OR REPLACE FUNCTION pgmqd.app_canonical(thing text, r jsonb, names jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  c jsonb;
BEGIN
  IF r IS NULL THEN
    RETURN NULL;
  END IF;
  names := coalesce(names, pgmqd.app_names(thing));
  SELECT coalesce(jsonb_object_agg(n.key, r->n.value) FILTER (WHERE n.key NOT IN ('table', 'currency_code') AND n.key NOT LIKE 'status=%' AND r ? n.value), '{}')
    INTO c FROM jsonb_each_text(names) n;
  IF c->>'status' IS NOT NULL THEN
    c := jsonb_set(c, '{status}', to_jsonb(pgmqd.app_status(thing, names, c->>'status')));
  END IF;
  IF names ? 'date' AND names ? 'time' AND c->>'starts_at' IS NULL THEN
    c := c || jsonb_build_object('starts_at', (c->>'date') || ' ' || (c->>'time'));
  END IF;
  IF thing = 'payment' THEN
    c := c || jsonb_build_object('currency', upper(coalesce(nullif(btrim(c->>'currency'), ''), names->>'currency_code', 'RUB')));
    IF c->>'amount_minor' IS NOT NULL THEN
      c := c || jsonb_build_object('amount', to_jsonb(round((c->>'amount_minor')::numeric / 10::numeric ^ pgmqd.minor_digits(c->>'currency'), pgmqd.minor_digits(c->>'currency'))));
    ELSIF jsonb_typeof(c->'amount') = 'string' THEN -- type money, as the server writes it
      c := c || jsonb_build_object('amount', to_jsonb((c->>'amount')::money::numeric));
    END IF;
  ELSIF thing = 'person' THEN
    c := c || jsonb_build_object('full_name', coalesce(nullif(btrim(c->>'full_name'), ''),
      CASE WHEN names ? 'last_name' THEN nullif(concat_ws(' ', nullif(btrim(c->>'first_name'), ''), nullif(btrim(c->>'last_name'), '')), '') END, nullif(btrim(c->>'name'), ''), nullif(btrim(c->>'first_name'), '')));
  END IF;
  RETURN c;
END $f$;

-- The row of a thing's table whose field has a value, with the usual names; NULL when there is none. Only columns that are named are read.
CREATE OR REPLACE FUNCTION pgmqd.app_find(thing text, field text, value text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  names jsonb := pgmqd.app_names(thing);
  tab regclass := pgmqd.app_table(names->>'table');
  columns text;
  known boolean;
  r jsonb;
BEGIN
  IF tab IS NULL OR value IS NULL THEN
    RETURN NULL;
  END IF;
  SELECT string_agg(quote_ident(a.attname), ', '), bool_or(a.attname = names->>field) INTO columns, known FROM pg_attribute a
  WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (ARRAY(SELECT n.value FROM jsonb_each_text(names) n))
    AND has_column_privilege((SELECT p.proowner FROM pg_proc p WHERE p.oid = 'pgmqd.app_select(text)'::regprocedure), a.attrelid, a.attnum, 'SELECT');
  IF known IS NOT TRUE THEN
    RETURN NULL;
  END IF;
  -- a literal, not a cast of the column, so that any type of id finds its index
  SELECT s INTO r FROM pgmqd.app_select(format('SELECT to_jsonb(r) FROM (SELECT %s FROM %s WHERE %I = %L LIMIT 1) r', columns, tab, names->>field, value)) s;
  RETURN pgmqd.app_canonical(thing, r, names);
END $f$;

-- A moment as a literal for a column of a thing.
CREATE OR REPLACE FUNCTION pgmqd.app_literal(thing text, field text, at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT CASE WHEN c.type = 'timestamptz'::regtype THEN quote_literal(at) ELSE quote_literal(at AT TIME ZONE pgmqd.setting('time_zone')) END
  FROM pgmqd.app_columns(thing) c WHERE c.field = app_literal.field
$f$;

-- Moves the rows that meet a condition (SQL) from one of these statuses to another, and writes more (", column = value"). Returns how many;
-- none where the application has no word for the status.
CREATE OR REPLACE FUNCTION pgmqd.app_move(thing text, condition text, origins text[], target text, more text DEFAULT '') RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  word text := pgmqd.app_word(thing, target);
  names jsonb := pgmqd.app_names(thing);
  tab regclass := pgmqd.app_table(names->>'table');
BEGIN
  IF word IS NULL OR condition IS NULL OR NOT pgmqd.app_reads(tab, names->>'status') THEN
    RETURN 0;
  END IF;
  RETURN pgmqd.app_execute(format('UPDATE %1$s SET %2$I = %3$L%4$s WHERE %5$s AND %2$I::text = ANY (%6$L::text[]) AND %2$I::text <> %3$L', tab, names->>'status', word,
    more, condition, pgmqd.app_words(thing, VARIADIC origins)));
END $f$;

-- The condition that a row of a thing has this id.
CREATE OR REPLACE FUNCTION pgmqd.app_is(thing text, id text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN (SELECT format('%I = %L', n->>'id', id) FROM pgmqd.app_names(thing) n WHERE id IS NOT NULL AND pgmqd.app_reads(pgmqd.app_table(n->>'table'), n->>'id'));
END $f$;

DO $$ BEGIN PERFORM pgmqd.restrict_functions(); END $$;

RESET search_path;
