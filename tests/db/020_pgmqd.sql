-- 020_pgmqd.sql: settings, wake-ups, enqueue, dates and money, people, and failures that are written down.
-- database: app
BEGIN;
SELECT plan(85);

-- ---- settings ----
SELECT is(pgmqd.setting('time_zone'), 'Europe/Moscow', 'a default');
SELECT is(pgmqd.setting('no_such'), NULL, 'no setting of that name');
UPDATE pgmqd.settings SET value = 'Asia/Tokyo' WHERE name = 'time_zone';
SELECT is(pgmqd.setting('time_zone'), 'Asia/Tokyo', 'a value');
SELECT throws_ok($$UPDATE pgmqd.settings SET value = 'Europe/Moskau' WHERE name = 'time_zone'$$, '23514', NULL, 'no such time zone');
SELECT throws_ok($$UPDATE pgmqd.settings SET value = 'xx' WHERE name = 'default_lang'$$, '23514', NULL, 'no templates in that language');
UPDATE pgmqd.settings SET value = NULL WHERE name = 'time_zone';
SELECT is(pgmqd.setting('time_zone'), 'Europe/Moscow', 'NULL is the default again');
SELECT columns_are('pgmqd', 'schema_version', ARRAY['file', 'checksum', 'applied_at', 'version']);
SELECT columns_are('pgmqd', 'refunds', ARRAY['queue', 'msg_id', 'n', 'read_ct']);
SELECT col_is_pk('pgmqd', 'refunds', ARRAY['queue', 'msg_id'], 'one row for each message');

-- ---- wake-ups ----
CREATE FUNCTION wakeup_of(name text) RETURNS text LANGUAGE sql AS
  $$SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'pgmqd_wakeup' AND tgrelid = to_regclass('pgmq.' || name)$$;
DO $$ BEGIN PERFORM pgmq.create('MixedCase'), pgmq.create('weird "name" here'); END $$;
SELECT ok(pgmqd.attach_queue('mixedcase'), 'attach by another spelling');
SELECT is(wakeup_of('q_mixedcase'), 'CREATE TRIGGER pgmqd_wakeup AFTER INSERT ON pgmq.q_mixedcase FOR EACH STATEMENT'
  ' EXECUTE FUNCTION pgmqd.wakeup(''MixedCase'', ''pgmqd'')', 'the trigger knows the name as pgmq spells it');
SELECT ok(NOT pgmqd.attach_queue('MixedCase'), 'attach again changes nothing');
-- ---- order ----
SELECT ok(pgmqd.prioritize_queue('mixedcase'), 'an index for priorities');
SELECT ok(NOT pgmqd.prioritize_queue('MixedCase'), 'once');
SELECT lives_ok($$SELECT pgmq.send('MixedCase', m) FROM unnest(ARRAY['{"priority": "high"}', '{"priority": 1e300}', '[]', '1', 'null',
  '{"priority": {}}', '{"priority": -1.5}']::jsonb[]) m$$, 'whatever is in the message, it is taken');
SELECT ok(pgmqd.prioritize_queue('MixedCase', false) AND NOT pgmqd.prioritize_queue('MixedCase', false), 'and away again, once');
SELECT ok(pgmqd.group_queue('MixedCase'), 'an index for groups');
SELECT lives_ok($$SELECT pgmq.send('MixedCase', '{}', '[]'::jsonb)$$, 'headers of any kind');
SELECT throws_ok($$SELECT pgmqd.prioritize_queue('nowhere')$$, '42704', 'queue "nowhere" does not exist', 'no such queue');
SELECT has_index('pgmq', 'q_email_queue', 'q_email_queue_priority_idx', 'email_queue has priorities');
SELECT ok(pgmqd.attach_queue('weird "name" here'), 'attach a queue with a name that needs quotes');
SELECT lives_ok($$SELECT pgmq.send('weird "name" here', '{}')$$, 'and send to it');
ALTER TABLE pgmq.q_mixedcase DISABLE TRIGGER pgmqd_wakeup;
SELECT ok(pgmqd.attach_queue('MixedCase'), 'a disabled trigger is enabled');
UPDATE pgmqd.settings SET value = 'other' WHERE name = 'channel';
SELECT ok(pgmqd.attach_queue('MixedCase'), 'another channel is news');
UPDATE pgmqd.settings SET value = NULL WHERE name = 'channel';
SELECT ok(pgmqd.detach_queue('MixedCase'), 'detach');
SELECT is(wakeup_of('q_mixedcase'), NULL, 'the trigger is gone');
SELECT ok(NOT pgmqd.detach_queue('MixedCase'), 'detach again');
SELECT ok(NOT pgmqd.detach_queue('nope'), 'detach what does not exist');
SELECT throws_ok($$SELECT pgmqd.attach_queue('nope')$$, '42704', 'queue "nope" does not exist');
-- the trigger of a partitioned queue is on the parent, and knows the queue's name, not a partition's
CREATE TABLE pgmq.q_parts (msg_id bigint GENERATED ALWAYS AS IDENTITY, read_ct integer NOT NULL DEFAULT 0, last_read_at timestamptz,
  enqueued_at timestamptz NOT NULL DEFAULT now(), vt timestamptz NOT NULL, message jsonb, headers jsonb)
  PARTITION BY RANGE (msg_id);
CREATE TABLE pgmq.q_parts_p0 PARTITION OF pgmq.q_parts FOR VALUES FROM (0) TO (1000);
INSERT INTO pgmq.meta VALUES ('parts', true, false);
SELECT ok(pgmqd.attach_queue('parts'), 'attach a partitioned queue');
SELECT matches(wakeup_of('q_parts'), 'FOR EACH ROW EXECUTE FUNCTION pgmqd.wakeup\(''parts'', ''pgmqd''\)');
SELECT is(wakeup_of('q_parts_p0'), replace(wakeup_of('q_parts'), 'q_parts', 'q_parts_p0'), 'its partitions have it, too');
SELECT ok(NOT pgmqd.attach_queue('parts'), 'attach again changes nothing');
SELECT lives_ok($$SELECT pgmq.send('parts', '{}')$$, 'and send to it');
-- a wake-up that fails does not fail the message
SELECT ok(pgmqd.attach_queue('MixedCase'), 'attach');
DROP TRIGGER pgmqd_wakeup ON pgmq.q_mixedcase;
CREATE TRIGGER pgmqd_wakeup AFTER INSERT ON pgmq.q_mixedcase EXECUTE FUNCTION pgmqd.wakeup('MixedCase', '');
SELECT lives_ok($$SELECT pgmq.send('MixedCase', '{}')$$, 'a NOTIFY that fails lets the message through');
SELECT throws_ok($$SELECT pg_notify('', 'x')$$, '22023', NULL, '(and that one does fail)');

-- rows that an UPDATE makes due earlier, but for the dispatcher's own
CREATE FUNCTION woken_by(statement text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
  PERFORM set_config('pgmqd.woken', '', true);
  EXECUTE statement;
  RETURN current_setting('pgmqd.woken') = 'parts';
END $f$;
SELECT ok(woken_by('UPDATE pgmq.q_parts SET vt = vt - interval ''1 second'''), 'an earlier vt wakes, in a partition, too');
SELECT ok(NOT woken_by('UPDATE pgmq.q_parts SET vt = vt + interval ''1 hour'''), 'a later one does not');
SELECT ok(woken_by('SELECT pgmq.set_vt(''parts'', 1, 0)'), 'set_vt() to now does');
SET LOCAL pgmqd.worker = 'on';
SELECT ok(NOT woken_by('UPDATE pgmq.q_parts SET vt = vt - interval ''1 second'''), 'a dispatcher does not wake itself');
SELECT ok(woken_by('INSERT INTO pgmq.q_parts_p0 (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (500, now())'), 'a message that it puts into a partition does');
RESET pgmqd.worker;
DROP TRIGGER pgmqd_wakeup_earlier ON pgmq.q_mixedcase;
SELECT ok(pgmqd.attach_queue('MixedCase') AND NOT pgmqd.attach_queue('MixedCase'), 'the second trigger is made anew, once');
-- triggers as other versions had them
CREATE OR REPLACE TRIGGER pgmqd_wakeup_earlier AFTER UPDATE OF vt ON pgmq.q_mixedcase FOR EACH ROW
  WHEN (new.vt < old.vt AND new.read_ct = 0) EXECUTE FUNCTION pgmqd.wakeup('MixedCase', 'pgmqd');
SELECT ok(pgmqd.attach_queue('MixedCase') AND NOT pgmqd.attach_queue('MixedCase'), 'another condition is replaced, once');
SELECT alike(pg_get_triggerdef(oid), '% WHEN ((new.vt < old.vt)) EXECUTE %') FROM pg_trigger
  WHERE tgname = 'pgmqd_wakeup_earlier' AND tgrelid = 'pgmq.q_mixedcase'::regclass;
CREATE OR REPLACE TRIGGER pgmqd_wakeup AFTER INSERT ON pgmq.q_mixedcase FOR EACH ROW EXECUTE FUNCTION pgmqd.wakeup('MixedCase', 'pgmqd');
SELECT ok(pgmqd.attach_queue('MixedCase') AND wakeup_of('q_mixedcase') LIKE '%FOR EACH STATEMENT%', 'a trigger for rows becomes one for statements');
DROP TRIGGER pgmqd_wakeup ON pgmq.q_parts;
CREATE TRIGGER pgmqd_wakeup AFTER INSERT ON pgmq.q_parts EXECUTE FUNCTION pgmqd.wakeup('parts', 'pgmqd');
SELECT ok(pgmqd.attach_queue('parts') AND wakeup_of('q_parts_p0') LIKE '%FOR EACH ROW%', 'and the other way round, in partitions, too');
DO $$ BEGIN PERFORM pgmq.create(E'\\a b\\'); END $$;
SELECT ok(pgmqd.attach_queue(E'\\a b\\') AND NOT pgmqd.attach_queue(E'\\a b\\'), 'a name with backslashes, once');
DO $$ BEGIN PERFORM pgmqd.detach_queue('parts'); END $$;
SELECT ok(NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'pgmq.q_parts'::regclass AND tgname LIKE 'pgmqd%'), 'detach takes both away');

-- ---- queues ----
SELECT is(pgmqd.dead_letter_queue('email_queue'), 'email_queue_dlq', 'the name of a dead-letter queue');
SELECT lives_ok($$SELECT pgmqd.create_queue('fresh')$$, 'create_queue');
SELECT lives_ok($$SELECT pgmqd.create_queue('fresh')$$, 'create_queue again');
SELECT has_table('pgmq', t, t || ' is there') FROM unnest(ARRAY['q_fresh', 'a_fresh', 'q_fresh_dlq']) t;
SELECT isnt(wakeup_of('q_fresh'), NULL, 'it is attached');
SELECT is(wakeup_of('q_fresh_dlq'), NULL, 'its dead letters are not');
SELECT throws_ok(format('SELECT pgmqd.create_queue(%L)', name), '22023', NULL, 'refused: ' || coalesce(name, 'NULL'))
  FROM unnest(ARRAY[repeat('x', 48), repeat('я', 24), E'a\tb', '', NULL]) name;

-- ---- enqueue ----
SELECT is(pgmqd.enqueue('fresh', '{"a": 1}'), 1::bigint, 'enqueue returns the number');
SELECT is(pgmqd.enqueue('fresh', '{"a": 2}', 60, '{"h": 1}'), 2::bigint, 'with a delay and headers');
SELECT is(pgmqd.enqueue('fresh', '{"a": 3}', NULL), 3::bigint, 'delay NULL is none');
SELECT results_eq($$SELECT message->>'a', headers, vt > now() + interval '50 s' FROM pgmq.q_fresh ORDER BY msg_id$$,
  $$VALUES ('1', NULL::jsonb, false), ('2', '{"h": 1}', true), ('3', NULL, false)$$, 'what was put into the queue');
SELECT throws_ok($$SELECT pgmqd.enqueue('nope', '{}')$$, '42P01');
SELECT pgmq.create('theirs');
CREATE ROLE db_stranger;
ALTER TABLE pgmq.q_theirs OWNER TO db_stranger;
GRANT USAGE ON SCHEMA pgmqd, pgmq TO db_stranger;
GRANT EXECUTE ON FUNCTION pgmqd.enqueue(text, jsonb, integer, jsonb, text, interval, text), pgmqd.enqueue_for(text, jsonb, integer, jsonb) TO db_stranger;
SET ROLE db_stranger;
SELECT pgmqd.enqueue('theirs', '{}') AS theirs \gset
RESET ROLE;
SELECT is(:theirs, 1, 'the caller''s own rights suffice');

-- ---- dates and money ----
SELECT is(pgmqd.format_date('2026-05-05 20:59Z', 'ru'), '5 мая 2026 г.', 'a Russian date');
SELECT is(pgmqd.format_date('2026-05-05 21:00Z', 'en'), '6 May 2026', 'midnight is that of the time zone');
SELECT is(pgmqd.format_date(make_date(2026, m, 15)::timestamptz, 'ru'), '15 ' || name || ' 2026 г.')
  FROM (VALUES (1, 'января'), (8, 'августа'), (12, 'декабря')) v (m, name);
SELECT is(pgmqd.format_time('2026-05-05 06:05Z'), '09:05', 'a time');
SELECT is(pgmqd.iso_time('2026-05-05 09:05:07+03'), '2026-05-05T06:05:07Z', 'a time for machines');
SELECT is(pgmqd.row_time('2026-05-05T14:30:00'), '2026-05-05 11:30Z'::timestamptz, 'a time without a zone');
SELECT is(pgmqd.row_time('2026-05-05T14:30:00.5+05:30'), '2026-05-05 09:00:00.5Z'::timestamptz, 'a time with one');
SELECT is(pgmqd.format_money(1490, 'RUB', 'ru'), E'1\u00A0490,00\u00A0₽', 'roubles in Russian');
SELECT is(pgmqd.format_money(1234567.5, 'rub', 'en'), '1,234,567.50 RUB', 'roubles in English');
SELECT is(pgmqd.format_money(0.5, 'CHF', 'ru'), E'0,50\u00A0CHF', 'a currency without a sign');
SELECT is(pgmqd.app_link('payments', '1'), NULL, 'no link where the address of the application is not set');
UPDATE pgmqd.settings SET value = CASE name WHEN 'app_url' THEN 'https://app.example.test' ELSE 'support@example.test' END WHERE name IN ('app_url', 'support_email');
SELECT is(pgmqd.app_link('payments', 'a b/ü', 'x'), 'https://app.example.test/payments/%61%20%62%2F%C3%BC/x', 'a link');

-- ---- failures ----
SELECT lives_ok($$SELECT pgmqd.record_trigger_error('t', 'tab', 'key', '42P01', repeat('x', 9000))$$);
SELECT results_eq($$SELECT trigger, "table", row_key, sqlstate, length(message), at <= clock_timestamp() FROM pgmqd.trigger_errors$$,
  $$VALUES ('t', 'tab', 'key', '42P01', 2000, true)$$, 'is recorded');
DROP TABLE pgmqd.trigger_errors;
SET LOCAL client_min_messages = error;
SELECT lives_ok($$SELECT pgmqd.record_trigger_error('t', 'tab', 'key', '42P01', 'x')$$, 'recording never fails');

SELECT * FROM finish();
ROLLBACK;
