-- 041_mail_limits.sql: token buckets and daily caps that dispatchers share.
-- database: app
BEGIN;
SELECT plan(18);
CREATE FUNCTION take(provider text, rate float8, cap bigint, bulk boolean DEFAULT false, domain text DEFAULT NULL, domain_rate float8 DEFAULT 0) RETURNS bigint
LANGUAGE sql AS $$SELECT pgmqd.mail_limit_take(array_remove(ARRAY[provider, domain], NULL),
  CASE WHEN domain IS NULL THEN ARRAY[rate] ELSE ARRAY[rate, domain_rate] END, CASE WHEN domain IS NULL THEN ARRAY[cap] ELSE ARRAY[cap, 0] END, bulk)$$;
CREATE FUNCTION drain(provider text, rate float8, cap bigint, bulk boolean DEFAULT false) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE n integer := 0;
BEGIN
  WHILE n < 100 AND take(provider, rate, cap, bulk) = 0 LOOP n := n + 1; END LOOP;
  RETURN n;
END $$;

-- so slow that the clock adds nothing while the test runs
SELECT is(drain('a', 0.001, 0), 2, 'two at least');
SELECT cmp_ok(take('a', 0.001, 0), '>', 900000::bigint, 'then a wait');
SELECT is(drain('b', 0, 0), 100, 'no rate is no limit');
SELECT is(drain('c', 0, 10), 10, 'a cap');
SELECT cmp_ok(take('c', 0, 10), '<', 0::bigint, 'is told as a negative wait');
UPDATE pgmqd.mail_limits SET day = day - 1 WHERE name = 'c';
SELECT is(drain('c', 0, 10, true), 9, 'a new day; bulk leaves a tenth');
SELECT is(drain('c', 0, 10), 1, 'to the others');
UPDATE pgmqd.mail_limits SET tokens = 2, filled_at = clock_timestamp() WHERE name = 'a';
SELECT is(drain('a', 0.001, 0, true), 1, 'bulk leaves one token');
SELECT is(drain('a', 0.001, 0), 1);
SELECT is(take('d', 0.001, 0, false, 'example.test', 0.001), 0::bigint, 'a provider and a domain');
UPDATE pgmqd.mail_limits SET tokens = 0, filled_at = clock_timestamp() WHERE name = 'example.test';
SELECT cmp_ok(take('d', 0.001, 0, false, 'example.test', 0.001), '>', 0::bigint, 'what the domain stops');
SELECT cmp_ok((SELECT tokens FROM pgmqd.mail_limits WHERE name = 'd'), '>=', 1::float8, 'costs the provider nothing');
UPDATE pgmqd.mail_limits SET tokens = 0, filled_at = clock_timestamp() - interval '1000 s' WHERE name = 'd';
SELECT is(drain('d', 0.001, 0), 1, 'the bucket fills');
SELECT lives_ok($$SELECT pgmqd.mail_limit_halve('d'), pgmqd.mail_limit_halve('d')$$);
SELECT is((SELECT factor FROM pgmqd.mail_limits WHERE name = 'd'), 0.5::float8, 'half of it, once a second');
UPDATE pgmqd.mail_limits SET factor_at = clock_timestamp() - interval '3 min' WHERE name = 'd';
SELECT isnt(take('d', 0.001, 0), NULL);
SELECT cmp_ok((SELECT round(factor::numeric, 2) FROM pgmqd.mail_limits WHERE name = 'd'), '=', 0.8, 'a tenth comes back every minute');
INSERT INTO pgmqd.mail_log (dedupe_key, queue, msg_id, message_id, recipient, state, attempt, token, provider)
  SELECT 'k' || n, 'q', n, 'm', 'r', 'sent', 1, 't', 'e' FROM generate_series(1, 4) n;
SELECT is(drain('e', 0, 10), 6, 'the day''s count begins from the ledger');
SELECT * FROM finish();
ROLLBACK;
