-- 042_suppression.sql: who gets no mail, and what events and bounces do to that.
-- database: app
BEGIN;
SELECT plan(44);
CREATE FUNCTION begin_mail(key text, optional boolean DEFAULT false, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS
  $$SELECT pgmqd.mail_begin(key, 't', 'email_queue', 1, 'x', key || '@example.test', 'Ivan@example.test', 1, true, 'smtp', '', optional, token)$$;

SELECT is(begin_mail('a'), 'sending', 'nobody is suppressed at first');
SELECT is(pgmqd.suppress('ivan@example.test'), true);
SELECT is(pgmqd.suppress('ivan@example.test'), false, 'twice is once');
SELECT is(begin_mail('b'), 'suppressed manual');
SELECT is((SELECT state FROM pgmqd.mail_log WHERE dedupe_key = 'b'), 'suppressed', 'and the ledger knows');
SELECT is(pgmqd.unsuppress(' IVAN@example.test '), true);
SELECT is(begin_mail('b'), 'sending', 'then it can be sent after all');
SELECT is(pgmqd.suppress('ivan@example.test', 'hard_bounce', clock_timestamp() - interval '1 s'), true);
SELECT is(begin_mail('c'), 'sending', 'what is over is over');
SELECT pgmqd.unsuppress('ivan@example.test');

SELECT is(begin_mail('d', true, 'tok'), 'sending');
SELECT is(pgmqd.unsubscribe('nothing'), false);
SELECT is(pgmqd.unsubscribe('tok'), true);
SELECT is(begin_mail('e', true), 'suppressed unsubscribed', 'optional mails');
SELECT is(begin_mail('f'), 'sending', 'and no others');

SELECT is(pgmqd.record_mail_event('ses', 'e1', 'soft_bounce', 'ivan@example.test', NULL, NULL, NULL, NULL), true);
SELECT is(begin_mail('g'), 'sending', 'a soft bounce suppresses nobody');
SELECT is(pgmqd.record_mail_event('ses', 'e1', 'complaint', 'ivan@example.test', NULL, NULL, NULL, NULL), false, 'an event counts once');
SELECT pgmqd.mail_sent('{g}', '{t}', '{ok}', '{id7}');
SELECT is(pgmqd.record_mail_event('ses', 'e2', 'complaint', NULL, NULL, 'id7', NULL, NULL), true, 'by the service''s id');
SELECT is(begin_mail('h'), 'suppressed complaint');
SELECT is(pgmqd.record_bounce('x', '5.1.1', ''), 'unknown');
INSERT INTO pgmqd.mail_log (dedupe_key, queue, msg_id, message_id, recipient, state, attempt, token)
  VALUES (repeat('0a', 32), 'q', 1, 'm', pgmqd.mail_recipient('olga@example.test'), 'sent', 1, 't');
SELECT is(pgmqd.record_bounce(repeat('0a', 16), '5.1.1', 'no'), 'unknown', 'the key alone is no proof: it stands in the mail');
SELECT is(pgmqd.record_bounce(left(repeat('0a', 16), 12) || repeat('0', 20), '5.1.1', 'no'), 'unknown');
SELECT is(pgmqd.record_bounce(pgmqd.bounce_token(repeat('0a', 32)), '5.1.1 and so on', 'no'), 'unknown', 'a status is a status');
UPDATE pgmqd.bounce_secrets SET secret = repeat('0b', 32);
SELECT is(pgmqd.bounce_token(repeat('0a', 32)), '0a0a0a0a0a0a8514d205c9dcf3681701');
SELECT is(pgmqd.record_bounce(pgmqd.bounce_token(repeat('0a', 32)), '5.1.1', 'no'), 'hard_bounce');
SELECT is((SELECT reason FROM pgmqd.suppression WHERE recipient = pgmqd.mail_recipient('olga@example.test')), 'hard_bounce');

SELECT is(pgmqd.use_mail_event_token('t1', 'one'), true, 'a new token');
SELECT is(pgmqd.use_mail_event_token('t1', 'one'), false, 'it comes again with its event');
SELECT is(pgmqd.use_mail_event_token('t1', 'two'), NULL, 'not with another one');
SELECT is(pgmqd.queue_mail_event('mail_events_queue', 'mailgun', '{}', 'a', 't2') > 0, true);
SELECT is(ARRAY[pgmqd.queue_mail_event('mail_events_queue', 'mailgun', '{}', 'a', 't2'), pgmqd.queue_mail_event('mail_events_queue', 'mailgun', '{}', 'b', 't2')],
  ARRAY[0, NULL]::bigint[], 'nothing is stored twice, and nothing else for a token');

-- one table of what an answer means, for servers, reports and events
SELECT is(array_agg(s) FILTER (WHERE pgmqd.names_recipient(s)), '{5.1.1,5.1.2,5.1.3,5.1.6,5.1.10}', 'what names the recipient')
  FROM unnest('{5.0.0,5.1.0,5.1.1,5.1.2,5.1.3,5.1.4,5.1.6,5.1.7,5.1.8,5.1.9,5.1.10,5.2.1,5.4.4,5.7.1,4.1.1,NULL,""}'::text[]) s;
CREATE FUNCTION pg_temp.reset() RETURNS void LANGUAGE sql AS 'TRUNCATE pgmqd.suppression, pgmqd.mail_log, pgmqd.mail_events';
SELECT pg_temp.reset();
SELECT begin_mail('i' || s), pgmqd.mail_end('i' || s, 't', 'failed', 'the mail server refused the recipient: 550 ' || s || ' not 5.1.1', true)
  FROM unnest('{5.0.0,5.1.8,5.7.1}'::text[]) s;
SELECT is((SELECT count(*) FROM pgmqd.suppression), 0::bigint, 'a server''s answer that names somebody else');
SELECT begin_mail('j'), pgmqd.mail_end('j', 't', 'failed', 'the mail server refused the recipient: 550 5.1.1 nobody', true);
SELECT is((SELECT reason FROM pgmqd.suppression), 'hard_bounce');
SELECT pg_temp.reset();
INSERT INTO pgmqd.mail_log (dedupe_key, queue, msg_id, message_id, recipient, state, attempt, token)
  SELECT repeat(h, 32), 'q', 1, 'm', pgmqd.mail_recipient('olga@example.test'), 'sent', 1, 't' FROM unnest('{0b,0c}'::text[]) h;
SELECT is(pgmqd.record_bounce(pgmqd.bounce_token(repeat('0b', 32)), s, '', 'olga@example.test'), 'soft_bounce', s) FROM unnest('{5.0.0,5.1.8,5.7.1}'::text[]) s;
SELECT is((SELECT count(*) FROM pgmqd.suppression), 0::bigint);
SELECT is(pgmqd.record_bounce(pgmqd.bounce_token(repeat('0b', 32)), 'complaint', ''), 'complaint');
SELECT is((SELECT array_agg(reason) FROM pgmqd.suppression), '{complaint}');
SELECT pgmqd.record_mail_event('ses', 'e9', 'hard_bounce', 'petr@example.test', NULL, NULL, 'smtp; 550 5.7.1 spam', NULL);
SELECT is((SELECT kind FROM pgmqd.mail_events WHERE event_id = 'e9'), 'soft_bounce', 'an event whose answer names somebody else');

-- a mail to several: each for himself
SELECT is(pgmqd.mail_to_several(repeat('0c', 32), '{olga@example.test,petr@example.test,anna@example.test}', false), '{complaint,NULL,NULL}');
SELECT is(pgmqd.record_bounce(pgmqd.bounce_token(repeat('0c', 32)), '5.1.1', '', a), k, a) FROM (VALUES ('petr@example.test', 'hard_bounce'), ('ivan@example.test', 'unknown')) v (a, k);
SELECT * FROM finish();
ROLLBACK;
