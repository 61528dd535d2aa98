-- 040_mail_log.sql: the mail ledger's states, whoever comes again.
-- database: app
BEGIN;
SELECT plan(28);
CREATE FUNCTION begin_mail(key text, token text, msg_id bigint DEFAULT 1, resend boolean DEFAULT true, attempt integer DEFAULT 1) RETURNS text LANGUAGE sql AS
  $$SELECT pgmqd.mail_begin(key, token, 'email_queue', msg_id, 'report_ready', key || '@example.test', 'Ivan@example.test', attempt, resend)$$;
CREATE FUNCTION state_of(key text) RETURNS text LANGUAGE sql AS $$SELECT state FROM pgmqd.mail_log WHERE dedupe_key = key$$;

SELECT is(begin_mail('a', 't1'), 'sending', 'a new mail');
SELECT is(state_of('a'), 'sending');
SELECT is(begin_mail('a', 't1'), 'sending', 'the same delivery asks again');
SELECT is((SELECT recipient FROM pgmqd.mail_log), pgmqd.mail_recipient(' ivan@EXAMPLE.test '), 'the recipient''s hash');
SELECT isnt(pgmqd.mail_recipient('a@example.test'), pgmqd.mail_recipient('b@example.test'), 'another one has another hash');
SELECT ok(NOT EXISTS (SELECT FROM pgmqd.mail_log l WHERE l::text ~* 'ivan'), 'no address is kept');
SELECT lives_ok($$SELECT pgmqd.mail_end('a', 'other', 'failed', 'x')$$, 'somebody who does not hold the row');
SELECT is(state_of('a'), 'sending', 'cannot close it');
SELECT lives_ok($$SELECT pgmqd.mail_sent('{a}', '{t1}', '{250 ok}', '{id1}')$$, 'sent');
SELECT is(state_of('a'), 'sent');
SELECT is(begin_mail('a', 't2', resend => false), 'sent', 'sent once is sent');
SELECT is(begin_mail('a', 't2', 2), 'sent', 'for another message of the same key, too');

SELECT ok(pgmqd.suppress('olga@example.test'));
SELECT results_eq($$SELECT nth, answer FROM pgmqd.mail_begin_many('{n1,n1,a,n2,n3}', '{x1,x2,x3,x4,x5}', '{11,12,13,14,15}', '{t,t,t,t,NULL}', '{m,m,m,m,m}',
    '{anna@example.test,anna@example.test,ivan@example.test,olga@example.test,petr@example.test}', '{1,1,1,1,1}', '{t,t,t,t,t}', '{smtp,smtp,smtp,smtp,smtp}',
    '{f,f,f,f,t}', '{NULL,NULL,NULL,NULL,token}', 'email_queue', '') ORDER BY nth$$,
  $$VALUES (1::bigint, 'sending'), (2, 'busy'), (3, 'sent'), (4, 'suppressed manual'), (5, 'sending')$$, 'many at once: each gets its own answer');
SELECT results_eq($$SELECT dedupe_key, token, state, msg_id, recipient = pgmqd.mail_recipient(CASE dedupe_key WHEN 'n1' THEN 'anna' WHEN 'n2' THEN 'olga' ELSE 'petr' END
    || '@example.test') FROM pgmqd.mail_log WHERE dedupe_key LIKE 'n%' ORDER BY 1$$,
  $$VALUES ('n1', 'x1', 'sending', 11::bigint, true), ('n2', 'x4', 'suppressed', 14, true), ('n3', 'x5', 'sending', 15, true)$$, 'and its own row');
SELECT is((SELECT recipient FROM pgmqd.unsubscribe_tokens WHERE token = 'token'), pgmqd.mail_recipient('petr@example.test'), 'and its token');

SELECT is(begin_mail('b', 't1'), 'sending', 'one that fails');
SELECT lives_ok($$SELECT pgmqd.mail_end('b', 't1', 'failed', '451 later')$$);
SELECT is(begin_mail('b', 't2', resend => false, attempt => 2), 'sending', 'is simply sent again');
SELECT is(begin_mail('b', 't3', 2), 'busy', 'another message has to wait meanwhile');
UPDATE pgmqd.mail_log SET changed_at = clock_timestamp() - interval '3 minutes' WHERE dedupe_key = 'b';
SELECT is(begin_mail('b', 't3', 2), 'again', 'but not for ever');
SELECT is(begin_mail('b', 't4', 2, false), 'unknown', 'the process died: it may have been sent');
SELECT is(state_of('b'), 'unknown');
SELECT is(begin_mail('b', 't5', 2, false), 'unknown', 'and stays held');
SELECT is(begin_mail('b', 't6', 2, true), 'again', 'until it is to be sent');

UPDATE pgmqd.mail_log SET changed_at = clock_timestamp() - interval '100 days' WHERE dedupe_key = 'a';
SELECT is(pgmqd.trim_mail_log(), 1::bigint, 'old rows are forgotten');
SET LOCAL client_min_messages = error;
ALTER TABLE pgmqd.mail_log RENAME COLUMN reply TO answer;
SELECT lives_ok($$SELECT pgmqd.mail_sent('{b}', '{t6}', '{250 ok}', '{NULL}')$$, 'the archive of a sent mail never fails because of the ledger');
SELECT is((SELECT count(*) FROM pg_proc p WHERE pronamespace = 'pgmqd'::regnamespace AND has_function_privilege('public', p.oid, 'execute')), 0::bigint,
  'nothing in schema pgmqd is for everybody');
SELECT * FROM finish();
ROLLBACK;
