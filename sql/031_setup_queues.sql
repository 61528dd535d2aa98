-- 031_setup_queues.sql: the application's four queues, and the functions that put a task into each.
-- makes: pgmq.q_email_queue pgmq.q_report_generation_queue pgmq.q_payment_processing_queue pgmq.q_analytics_queue public.queue_email_task() public.queue_report_generation() public.queue_payment_processing()

SET search_path = pg_catalog, pg_temp;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['email_queue', 'report_generation_queue', 'payment_processing_queue', 'analytics_queue']
  LOOP
    PERFORM pgmqd.create_queue(name);
  END LOOP;
  PERFORM pgmqd.prioritize_queue('email_queue'); -- queue_email_task() takes a priority
END $$;

-- Attached PDF files are compressed already: trying again, in the queue and in its archive, would cost more than the rest.
DO $$
DECLARE
  target regclass;
BEGIN
  FOR target IN SELECT attrelid FROM pg_attribute WHERE attrelid IN (to_regclass('pgmq.q_email_queue'),
    to_regclass('pgmq.a_email_queue')) AND attname = 'message' AND attstorage <> 'e'
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN message SET STORAGE EXTERNAL', target);
  END LOOP;
END $$;

-- ---- mails ----

-- Checks a mail and puts it into email_queue; returns the message's number. Without a template, the variables "text"
-- and "html" are the mail itself. lang: "ru" or "en"; key: the same for all messages that must become only one mail.
CREATE OR REPLACE FUNCTION pgmqd.queue_email("to" text, subject text, template text, variables jsonb, priority integer,
  lang text DEFAULT NULL, key text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  message jsonb;
  problem text;
BEGIN
  variables := coalesce(nullif(variables, 'null'), '{}');
  problem := CASE
    WHEN coalesce(btrim("to"), '') = '' THEN '"to" is empty: a mail needs an address'
    WHEN "to" ~ '[[:cntrl:]]' THEN '"to" contains a line break or another control character'
    WHEN length("to") > 320 THEN '"to" is longer than the 320 characters of an address'
    WHEN subject ~ '[[:cntrl:]]' THEN '"subject" contains a line break or another control character'
    WHEN jsonb_typeof(variables) <> 'object' THEN '"variables" must be a JSON object'
    WHEN template IS NULL AND NOT variables ?| ARRAY['text', 'html']
      THEN '"template" is missing, and the variables have no "text" or "html" to send instead'
    WHEN template !~ '^[a-z0-9_-]{1,64}$' THEN '"template" must be a name of a-z, 0-9, _ and -'
  END;
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'queue_email_task: %', problem USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- for the links and the foot of the mail, where they are set; a template does without
  variables := coalesce((SELECT jsonb_object_agg(s.name, coalesce(s.value, s.default_value)) FROM pgmqd.settings s
    WHERE s.name IN ('app_url', 'support_email') AND coalesce(s.value, s.default_value) IS NOT NULL), '{}') || variables;
  message := jsonb_build_object('to', btrim("to"), 'subject', subject, 'template', template,
      'variables', variables, 'priority', coalesce(priority, 0))
    || jsonb_strip_nulls(jsonb_build_object('lang', lang, 'key', key));
  IF template IS NULL THEN
    message := message || jsonb_strip_nulls(jsonb_build_object('text', variables->'text', 'html', variables->'html'))
      || jsonb_build_object('variables', variables - 'text' - 'html');
  END IF;
  IF octet_length(message::text) > 65536 THEN
    RAISE EXCEPTION 'queue_email_task: the message has % bytes, and 65536 is the most', octet_length(message::text)
      USING ERRCODE = 'program_limit_exceeded';
  END IF;
  RETURN pgmqd.enqueue('email_queue', message);
END $f$;

-- A mail to somebody found by pgmqd.find_person(); name and language are added to the template's own variables.
CREATE OR REPLACE FUNCTION pgmqd.mail_person(person jsonb, template text, variables jsonb, key text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN pgmqd.queue_email(person->>'email', NULL, template, jsonb_strip_nulls(jsonb_build_object(
    'customer_name', person->>'name', 'lang', person->>'lang') || variables), 0, person->>'lang', key);
END $f$;

CREATE OR REPLACE FUNCTION public.queue_email_task("to" text, subject text DEFAULT NULL, template text DEFAULT NULL,
  variables jsonb DEFAULT '{}', priority integer DEFAULT 0) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.queue_email("to", subject, template, variables, priority)
$f$;
COMMENT ON FUNCTION public.queue_email_task IS 'puts a mail into email_queue and returns the number of the message';

-- ---- reports, payments, analytics ----

-- These take identifiers of any type as text, for triggers on tables whose keys are no uuids.
CREATE OR REPLACE FUNCTION pgmqd.queue_report(assessment_id text, user_id text, report_type text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF assessment_id IS NULL OR user_id IS NULL THEN
    RAISE EXCEPTION 'queue_report_generation: "%" is missing',
      CASE WHEN assessment_id IS NULL THEN 'assessment_id' ELSE 'user_id' END USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF report_type IS NULL OR report_type !~ '^[a-z0-9_-]{1,64}$' THEN
    RAISE EXCEPTION 'queue_report_generation: "report_type" must be a name of a-z, 0-9, _ and -'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN pgmqd.enqueue('report_generation_queue',
    jsonb_build_object('assessment_id', assessment_id, 'user_id', user_id, 'report_type', report_type));
END $f$;

CREATE OR REPLACE FUNCTION pgmqd.queue_payment(payment_id text, action text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF payment_id IS NULL THEN
    RAISE EXCEPTION 'queue_payment_processing: "payment_id" is missing' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF action IS NULL OR action !~ '^[a-z0-9_-]{1,64}$' THEN
    RAISE EXCEPTION 'queue_payment_processing: "action" must be a name of a-z, 0-9, _ and -'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN pgmqd.enqueue('payment_processing_queue', jsonb_build_object('payment_id', payment_id, 'action', action));
END $f$;

CREATE OR REPLACE FUNCTION pgmqd.queue_event(event text, properties jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  RETURN pgmqd.enqueue('analytics_queue',
    jsonb_build_object('event', event, 'occurred_at', pgmqd.iso_time(now()), 'properties', properties));
END $f$;

CREATE OR REPLACE FUNCTION public.queue_report_generation(assessment_id uuid, user_id uuid,
  report_type text DEFAULT 'checkup') RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.queue_report(assessment_id::text, user_id::text, report_type)
$f$;
COMMENT ON FUNCTION public.queue_report_generation IS 'asks for a report and returns the number of the message';

CREATE OR REPLACE FUNCTION public.queue_payment_processing(payment_id uuid, action text DEFAULT 'verify') RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.queue_payment(payment_id::text, action)
$f$;
COMMENT ON FUNCTION public.queue_payment_processing IS 'asks for a check of a payment and returns the number of the message';

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.queue_email_task(text,text,text,jsonb,integer)',
    'public.queue_report_generation(uuid,uuid,text)', 'public.queue_payment_processing(uuid,text)');
END $$;

RESET search_path;
