-- connect.sql: applications that call their tables, columns and statuses otherwise are found, connected and served; by hand what cannot be.
-- database: connect
BEGIN;
SELECT plan(71);
SET LOCAL search_path = public, tap;
UPDATE pgmqd.settings SET value = CASE name WHEN 'app_url' THEN 'https://app.example.test' ELSE 'support@example.test' END WHERE name IN ('app_url', 'support_email');
CREATE VIEW mails AS SELECT message->>'template' AS template, message->>'to' AS "to", message->'variables' AS v FROM pgmq.q_email_queue ORDER BY msg_id;
CREATE FUNCTION found(t text) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_object_agg(field, name) FROM pgmqd.find_application() WHERE thing = t AND name <> '' $$;
CREATE FUNCTION connect() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  n := pgmqd.store_application();
  PERFORM pgmqd.connect_application();
  RETURN n;
END $$;
CREATE FUNCTION triggers() RETURNS text LANGUAGE sql AS $$
  SELECT coalesce(string_agg(format('%s on %s', tgname, tgrelid::regclass), ', ' ORDER BY tgname), 'none') FROM pg_trigger WHERE tgname ~ '^on_' AND NOT tgisinternal $$;

-- ---- a database without an application ----
SELECT is(triggers(), 'none', 'nothing to connect');
SELECT results_eq('SELECT thing, problem FROM pgmqd.find_application()', $$SELECT t, 'no table looks like it'::text
  FROM unnest(ARRAY['checkup', 'appointment', 'payment', 'person']) t$$, 'which is said of each');
SELECT is(connect(), 0::bigint, 'and nothing is stored');
SAVEPOINT empty;

-- ---- a view of the usual name: triggers do not go on it, and the rest is connected all the same ----
CREATE TABLE orders_2026 (id bigint PRIMARY KEY, customer_email text, amount numeric, status text DEFAULT 'paid' CHECK (status IN ('paid', 'failed')));
CREATE VIEW payments AS SELECT id, customer_email AS user_id, amount, status FROM orders_2026;
CREATE TABLE appointments (id bigint PRIMARY KEY, client_email text, starts_at timestamptz, status text);
SELECT is(found('payment'), NULL, 'a view is not taken');
SELECT results_eq($$SELECT problem FROM pgmqd.find_application() WHERE thing = 'payment'$$, ARRAY['public.payments is no table, and only those can have our triggers'],
  'which is said');
SELECT cmp_ok(connect(), '>', 0::bigint, 'and stands in the way of nothing');
SELECT is(triggers(), 'on_new_appointment on appointments', 'the rest is connected');
ROLLBACK TO empty;
CREATE TABLE zapisi (id bigint PRIMARY KEY, email text, nachalo timestamptz, status text CHECK (status IN ('новая', 'отменена')));
SELECT is(found('appointment')->>'status=scheduled', 'новая', 'a weak word goes to the status that cannot do without one');
ROLLBACK TO empty;

-- ---- a schema of its own: enum, CHECK, date and time, cents, payments that know only their visit ----
CREATE SCHEMA clinic;
CREATE TYPE clinic.visit_state AS ENUM ('booked', 'done', 'canceled');
CREATE TABLE clinic.patients (id uuid PRIMARY KEY, contact_email text, first_name text, last_name text, locale text, password_hash text);
CREATE TABLE clinic.visits (visit_id bigint PRIMARY KEY, patient_id uuid REFERENCES clinic.patients, state clinic.visit_state DEFAULT 'booked', visit_date date,
  visit_time time, doctor text, duration_min int, created_at timestamptz DEFAULT now());
CREATE TABLE clinic.health_checks (id bigint PRIMARY KEY, patient_id uuid REFERENCES clinic.patients, state text DEFAULT 'open' CHECK (state IN ('open', 'done', 'expired')),
  finished_at timestamptz, started_at timestamptz DEFAULT now());
CREATE TABLE clinic.invoices (id bigint PRIMARY KEY, visit_id bigint REFERENCES clinic.visits, amount_cents bigint, currency char(3),
  state text CHECK (state IN ('unpaid', 'paid', 'declined')));
INSERT INTO clinic.patients VALUES ('a0000000-0000-4000-8000-000000000001', ' anna@example.test', 'Anna', 'Sample', 'en_GB', 'secret');
SELECT is(found('appointment'), '{"table": "clinic.visits", "id": "visit_id", "user_id": "patient_id", "status": "state", "date": "visit_date", "time": "visit_time",
  "specialist_name": "doctor", "duration_minutes": "duration_min", "created_at": "created_at", "status=scheduled": "booked", "status=completed": "done",
  "status=cancelled": "canceled"}', 'the visits');
SELECT is(found('payment') - 'id', '{"table": "clinic.invoices", "appointment_id": "visit_id", "amount_minor": "amount_cents", "currency": "currency", "status": "state",
  "status=pending": "unpaid", "status=completed": "paid", "status=failed": "declined"}', 'the invoices');
SELECT is(found('checkup') - 'id', '{"table": "clinic.health_checks", "user_id": "patient_id", "status": "state", "started_at": "started_at", "completed_at": "finished_at",
  "status=in_progress": "open", "status=completed": "done", "status=abandoned": "expired"}', 'the health checks');
SELECT is(found('person') - 'id', '{"table": "clinic.patients", "email": "contact_email", "first_name": "first_name", "last_name": "last_name", "language": "locale"}', 'the patients');
SELECT is_empty('SELECT * FROM pgmqd.application', 'to look stores nothing');
SELECT cmp_ok(connect(), '>', 30::bigint, 'then it is stored');
SELECT is(triggers(), 'on_checkup_completed on clinic.health_checks, on_new_appointment on clinic.visits, on_payment_status_change on clinic.invoices', 'and connected');
SELECT is(connect(), 0::bigint, 'a second time changes nothing');
SELECT is_empty('SELECT * FROM pgmqd.find_application() WHERE NOT stored', 'all is stored');
SELECT ok(has_column_privilege('pgmqd_application', 'clinic.patients', 'contact_email', 'SELECT'), 'it reads the columns that are named');
SELECT ok(NOT has_column_privilege('pgmqd_application', 'clinic.patients', 'password_hash', 'SELECT'), 'and no others');
SELECT ok(has_column_privilege('pgmqd_application', 'clinic.visits', 'state', 'UPDATE') AND NOT has_column_privilege('pgmqd_application', 'clinic.visits', 'doctor', 'UPDATE'), 'it sets the status');
INSERT INTO clinic.visits VALUES (7, 'a0000000-0000-4000-8000-000000000001', 'booked', '2026-05-05', '14:30', 'Mary Specimen');
SELECT is(v - ARRAY['app_url', 'support_email', 'lang'], '{"customer_name": "Anna Sample", "appointment_id": "7", "specialist_name": "Mary Specimen", "appointment_date": "5 May 2026",
  "appointment_time": "14:30", "starts_at": "2026-05-05T11:30:00Z", "appointment_url": "https://app.example.test/appointments/7"}', 'a visit is confirmed') FROM mails;
SELECT is("to", 'anna@example.test') FROM mails;
INSERT INTO clinic.invoices VALUES (1, 7, 149050, 'EUR', 'unpaid');
UPDATE clinic.invoices SET state = 'paid';
SELECT results_eq($$SELECT "to", v->>'amount', v->>'amount_value', v->>'customer_name' FROM mails WHERE template = 'payment_completed'$$,
  $$VALUES ('anna@example.test', '1,490.50 EUR', '1490.50', 'Anna Sample')$$, 'cents, and the person of the visit');
SELECT is(state, 'booked', 'a visit without a word for "confirmed" stays as it is') FROM clinic.visits;
SELECT results_eq($$SELECT amount, status FROM pgmqd.payment_to_verify('1')$$, $$VALUES ('1490.50', 'completed')$$, 'the payment plugin sees it so, too');
UPDATE clinic.invoices SET state = 'unpaid';
SELECT ok(pgmqd.settle_payment('1', 'failed', 'test', 'x', 'canceled', 0, NULL, 'no', NULL), 'and settles it');
SELECT is(state, 'declined', 'in the words of the application') FROM clinic.invoices;
SELECT is(pgmqd.settle_payment('1', 'refunded', 'test', 'x', 'refunded', 0, NULL, 'no', NULL), false, 'a status that it does not have is not written');
INSERT INTO clinic.health_checks VALUES (1, 'a0000000-0000-4000-8000-000000000001');
UPDATE clinic.health_checks SET state = 'done', finished_at = '2026-05-05 11:30Z';
SELECT is(v->>'completed_date', '5 May 2026', 'a health check') FROM mails WHERE template = 'checkup_completed';
SELECT is(pgmqd.report_source('1', 'a0000000-0000-4000-8000-000000000001', 'checkup')->>'name', 'Anna Sample', 'its report');
UPDATE clinic.health_checks SET state = 'open', started_at = now() - interval '31 days';
SELECT is(cleanup_old_assessments(), 1, 'old ones');
SELECT is(state, 'expired', 'are given up in the words of the application') FROM clinic.health_checks;
UPDATE clinic.visits SET (visit_date, visit_time) = (SELECT t::date, t::time FROM (SELECT now() AT TIME ZONE 'Europe/Moscow' + interval '50 minutes') x (t)), created_at = now() - interval '3 days';
SELECT is(send_appointment_reminders(), 1, 'a reminder');
SELECT is(send_appointment_reminders(), 0, 'once');
UPDATE clinic.visits SET duration_min = 30, (visit_date, visit_time) = (SELECT t::date, t::time FROM (SELECT now() AT TIME ZONE 'Europe/Moscow' - interval '29 minutes') x (t));
SELECT is(update_appointment_statuses(), 0, 'it has begun, and there is no word for that');
UPDATE clinic.visits SET duration_min = 28;
SELECT is(update_appointment_statuses(), 1, 'it is over');
SELECT is(state, 'done') FROM clinic.visits;
SELECT is_empty('SELECT trigger, message FROM pgmqd.trigger_errors', 'no failures');
SELECT cmp_ok((pgmqd.erase_person('Anna@example.test')->>'pgmq.q_email_queue')::integer, '>', 3, 'the person is found by the names');
SELECT is(count(*), 0::bigint, 'and forgotten') FROM mails;
-- the application changes
ALTER TABLE clinic.visits RENAME COLUMN visit_time TO begins;
SELECT lives_ok($$INSERT INTO clinic.visits VALUES (8, 'a0000000-0000-4000-8000-000000000001', 'booked', '2026-05-05', '14:30', 'Mary')$$, 'a column that is gone breaks no statement');
SELECT results_eq('SELECT item FROM pgmqd.connect_application() WHERE problem ~ ''visit_time''', ARRAY['appointment, time'], 'it is said');
UPDATE pgmqd.application SET name = 'begins' WHERE thing = 'appointment' AND field = 'time';
SELECT is_empty($$SELECT * FROM pgmqd.connect_application() WHERE item ~ 'appointment'$$, 'and put right by hand');
ALTER TABLE clinic.visits RENAME COLUMN begins TO start_time;
SELECT is(connect(), 1::bigint, 'or by connecting again');
SELECT is(name, 'start_time') FROM pgmqd.application WHERE thing = 'appointment' AND field = 'time';
-- another table
CREATE TABLE clinic.slots (LIKE clinic.visits INCLUDING ALL);
UPDATE pgmqd.application SET name = 'clinic.slots' WHERE thing = 'appointment' AND field = 'table';
SELECT ok(connect() IS NOT NULL AND triggers() ~ 'clinic.slots' AND triggers() !~ 'clinic.visits', 'the trigger moves with the table');
ROLLBACK TO empty;

-- ---- camel case, as an ORM makes it; statuses in capitals; two tables with names that fit ----
CREATE TYPE "BookingStatus" AS ENUM ('PENDING', 'SCHEDULED', 'CONFIRMED', 'COMPLETED', 'CANCELLED');
CREATE TABLE "User" (id text PRIMARY KEY, email text, "fullName" text);
CREATE TABLE "Profile" (id text PRIMARY KEY, "userId" text REFERENCES "User", bio text);
CREATE TABLE "Booking" (id text PRIMARY KEY, "userId" text REFERENCES "User", status "BookingStatus" DEFAULT 'PENDING', "startsAt" timestamp, "createdAt" timestamp);
CREATE TABLE "Payment" (id text PRIMARY KEY, "bookingId" text REFERENCES "Booking", "userId" text REFERENCES "User", status text, amount money, "paidAt" timestamp);
CREATE TABLE "Assessment" (id text PRIMARY KEY, "userId" text REFERENCES "User", "completedAt" timestamp);
INSERT INTO "User" VALUES ('u1', 'anna@example.test', 'Anna Sample');
SELECT is(found('person'), '{"table": "public.\"User\"", "id": "id", "email": "email", "full_name": "fullName"}', 'people are those whom the others refer to');
SELECT results_eq($$SELECT thing, field FROM pgmqd.find_application() WHERE problem IS NOT NULL$$, $$VALUES ('checkup', 'status'), ('payment', 'status')$$, 'what is missing');
DO $$ DECLARE r text := (SELECT remedy FROM pgmqd.find_application() WHERE thing = 'checkup' AND problem IS NOT NULL);
BEGIN EXECUTE split_part(r, ', then pgmqd', 1); END $$;
SELECT is(found('checkup')->>'status', 'status', 'the remedy helps');
INSERT INTO pgmqd.application VALUES ('payment', 'status=completed', 'SUCCEEDED'), ('payment', 'status=pending', 'PENDING');
SELECT cmp_ok(connect(), '>', 20::bigint, 'stored');
INSERT INTO "Booking" VALUES ('b1', 'u1', 'PENDING', '2026-05-05 14:30');
SELECT is(count(*), 0::bigint, 'one that is pending is not confirmed') FROM mails;
UPDATE "Booking" SET status = 'SCHEDULED';
SELECT is(v->>'appointment_time', '14:30', 'one that is scheduled is') FROM mails;
INSERT INTO "Payment" VALUES ('p1', 'b1', 'u1', 'SUCCEEDED', 1490.5);
SELECT is(v->>'amount_value', '1490.50', 'type money') FROM mails WHERE template = 'payment_completed';
SELECT is(status::text, 'CONFIRMED', 'its booking is confirmed') FROM "Booking";
INSERT INTO "Assessment" VALUES ('c1', 'u1', '2026-05-05 14:30');
SELECT is(v->>'completed_at', '2026-05-05T11:30:00Z', 'a check-up') FROM mails WHERE template = 'checkup_completed';
SELECT is_empty('SELECT trigger, message FROM pgmqd.trigger_errors', 'no failures');
ROLLBACK TO empty;

-- ---- names in Russian ----
CREATE TABLE "Клиенты" ("Код" int PRIMARY KEY, "Имя" text, "Фамилия" text, "Почта" text);
CREATE TABLE "Записи" ("Код" int PRIMARY KEY, "Клиент_id" int REFERENCES "Клиенты", "Статус" text, "Дата" date, "Время" time, "Врач" text);
CREATE TABLE "Платежи" ("Код" int PRIMARY KEY, "Клиент_id" int REFERENCES "Клиенты", "Статус" text, "Сумма" numeric(12,2), "Дата_оплаты" date, "Запись_id" int);
INSERT INTO "Клиенты" VALUES (1, 'Анна', 'Примерова', 'anna@example.test');
INSERT INTO "Записи" VALUES (1, 1, 'Записан', '2026-05-05', '14:30'), (2, 1, 'Отменён', '2026-05-05', '14:30'), (3, 1, 'Подтверждена', '2026-05-05', '14:30');
INSERT INTO "Платежи" VALUES (1, 1, 'Не оплачен', 1490, NULL, 1), (2, 1, 'Оплачен', 1490, NULL, NULL), (3, 1, 'Ошибка', 1490, NULL, NULL);
SELECT cmp_ok(connect(), '>', 20::bigint, 'Russian names');
UPDATE "Платежи" SET "Статус" = 'Оплачен' WHERE "Код" = 1;
SELECT is(v->>'amount' || (v->>'customer_name'), E'1\u00A0490,00\u00A0₽Анна Примерова', 'a payment') FROM mails;
SELECT is("Статус", 'Подтверждена', 'its appointment is confirmed') FROM "Записи" WHERE "Код" = 1;
INSERT INTO "Записи" VALUES (4, 1, 'Записан', '2026-05-05', '14:30', 'Борис Примеров');
SELECT is(v->>'specialist_name' || (v->>'appointment_date'), 'Борис Примеров5 мая 2026 г.', 'an appointment') FROM mails WHERE template = 'appointment_confirmation';
ROLLBACK TO empty;

-- ---- accounts beside profiles, a table of statuses, guests, numbers for statuses ----
CREATE TABLE statuses (id int PRIMARY KEY, code text);
INSERT INTO statuses VALUES (1, 'new'), (2, 'paid'), (3, 'failed'), (4, 'returned');
CREATE TABLE users (id serial PRIMARY KEY, email text, encrypted_password text);
CREATE TABLE profiles (id serial PRIMARY KEY, user_id int REFERENCES users, display_name text, lang text);
CREATE TABLE app_checkup (id serial PRIMARY KEY, user_id int REFERENCES users, is_completed boolean DEFAULT false, completed_on date);
CREATE TABLE bookings (id serial PRIMARY KEY, customer_name text, customer_email text, state int, start_time timestamptz);
CREATE TABLE orders (id serial PRIMARY KEY, user_id int REFERENCES users, status_id int REFERENCES statuses, total_cents int);
INSERT INTO users VALUES (5, 'anna@example.test');
INSERT INTO profiles VALUES (1, 5, 'Anna Sample', 'en');
SELECT is(found('person'), '{"table": "public.profiles", "id": "user_id", "full_name": "display_name", "language": "lang"}', 'profiles by their user_id');
SELECT is(found('account'), '{"table": "public.users", "id": "id", "email": "email"}', 'and the addresses of users');
INSERT INTO pgmqd.application VALUES ('appointment', 'table', 'public.bookings'), ('appointment', 'status', 'state'), ('appointment', 'status=scheduled', '0|1'), ('appointment', 'status=completed', '2');
SELECT ok(connect() > 0, 'stored');
UPDATE pgmqd.application SET name = 'JPY' WHERE thing = 'payment' AND field = 'currency_code';
INSERT INTO pgmqd.application VALUES ('payment', 'currency_code', 'JPY');
INSERT INTO orders VALUES (1, 5, 1, 1490);
UPDATE orders SET status_id = 2;
SELECT is("to" || ' ' || (v->>'customer_name') || ' ' || (v->>'amount'), 'anna@example.test Anna Sample 1,490.00 JPY', 'a payment by the table of statuses') FROM mails;
INSERT INTO bookings VALUES (1, 'John Guest', 'guest@example.test', 1, '2026-05-05 11:30Z');
SELECT is("to" || ' ' || (v->>'customer_name'), 'guest@example.test John Guest', 'a guest has the address in the row') FROM mails WHERE template = 'appointment_confirmation';
INSERT INTO app_checkup VALUES (1, 5, false);
UPDATE app_checkup SET is_completed = true, completed_on = '2026-05-05';
SELECT is(v->>'completed_date', '5 May 2026', 'a boolean, and a date') FROM mails WHERE template = 'checkup_completed';
SELECT is_empty('SELECT trigger, message FROM pgmqd.trigger_errors', 'no failures');

-- ---- rows by hand ----
SELECT throws_ok(format('INSERT INTO pgmqd.application VALUES (%L, %L, %L)', t, f, n), '22023', NULL, format('%s %s %s is refused', t, f, n)) FROM (VALUES
  ('payment', 'amuont', 'total_cents'), ('payment', 'description', 'no_such'), ('checkup', 'completed_at', 'user_id'),
  ('payment', 'currency_code', 'rubles'), ('checkup', 'status=abandoned', 'a||b')) v (t, f, n)
  WHERE NOT EXISTS (SELECT FROM pgmqd.application a WHERE a.thing = t AND a.field = f);
SELECT throws_ok($$UPDATE pgmqd.application SET name = 'no such' WHERE thing = 'payment' AND field = 'table'$$, '22023', NULL, 'no such table');

SELECT * FROM finish();
ROLLBACK;
