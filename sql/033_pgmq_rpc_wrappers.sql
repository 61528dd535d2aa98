-- 033_pgmq_rpc_wrappers.sql: the queues as functions in public (RPC), and as views with the message as "msg".
--
-- Only the owner and service_role may execute the functions. None returns a type of pgmq's: updates of pgmq drop
-- and make those anew, and everything that depends on them would go with them.
-- makes: pgmq.email_queue pgmq.report_generation_queue pgmq.payment_processing_queue pgmq.analytics_queue public.pgmq_read() public.pgmq_archive() public.pgmq_delete() public.pgmq_send() public.pgmq_metrics()

SET search_path = pg_catalog, pg_temp;

-- Claims one message for vt seconds: {msg_id, read_ct, enqueued_at, vt, msg}, or NULL when there is none.
CREATE OR REPLACE FUNCTION public.pgmq_read(queue_name text, vt integer DEFAULT 30) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT jsonb_build_object('msg_id', r.msg_id, 'read_ct', r.read_ct, 'enqueued_at', r.enqueued_at, 'vt', r.vt,
    'msg', r.message)
  FROM pgmq.read(pgmqd.trusted_queue(queue_name), vt, 1) r
$f$;

CREATE OR REPLACE FUNCTION public.pgmq_archive(queue_name text, msg_id bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmq.archive(pgmqd.trusted_queue(queue_name), msg_id)
$f$;

CREATE OR REPLACE FUNCTION public.pgmq_delete(queue_name text, msg_id bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmq.delete(pgmqd.trusted_queue(queue_name), msg_id)
$f$;

CREATE OR REPLACE FUNCTION public.pgmq_send(queue_name text, msg jsonb, delay integer DEFAULT 0) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT pgmqd.enqueue(pgmqd.trusted_queue(queue_name), msg, delay)
$f$;

-- By name, because the number and order of these columns differ between versions of pgmq.
DO $$
BEGIN
  -- the columns of a function cannot be changed in place
  IF pg_get_function_result(to_regprocedure('public.pgmq_metrics(text)')) NOT LIKE 'TABLE(queue_name text,%' THEN
    DROP FUNCTION public.pgmq_metrics(text);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION public.pgmq_metrics(queue_name text)
RETURNS TABLE (queue_name text, queue_length bigint, newest_msg_age_sec integer, oldest_msg_age_sec integer, total_messages bigint,
  scrape_time timestamptz, queue_visible_length bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  SELECT r.* FROM to_jsonb(pgmq.metrics(pgmqd.trusted_queue($1))) m,
    jsonb_to_record(m) AS r (queue_name text, queue_length bigint, newest_msg_age_sec integer, oldest_msg_age_sec integer,
      total_messages bigint, scrape_time timestamptz, queue_visible_length bigint)
$f$;

DO $$
BEGIN
  PERFORM pgmqd.restrict_functions('public.pgmq_read(text,integer)', 'public.pgmq_archive(text,bigint)',
    'public.pgmq_delete(text,bigint)', 'public.pgmq_send(text,jsonb,integer)', 'public.pgmq_metrics(text)');
END $$;

-- The waiting messages of each queue, as SELECT msg->>'to' FROM pgmq.email_queue. A view on the queue's table makes
-- pgmq.drop_queue() refuse to drop the queue until the view is gone.
DO $$
DECLARE
  queue text;
  who text;
BEGIN
  FOREACH queue IN ARRAY ARRAY['email_queue', 'report_generation_queue', 'payment_processing_queue', 'analytics_queue']
  LOOP
    EXECUTE format('CREATE OR REPLACE VIEW pgmq.%I AS'
      ' SELECT msg_id, read_ct, enqueued_at, vt, message AS msg FROM pgmq.%I', queue, 'q_' || queue);
    FOR who IN SELECT 'PUBLIC' UNION ALL
      SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'pg_monitor')
    LOOP
      EXECUTE format('REVOKE ALL ON pgmq.%I FROM %s', queue, who);
    END LOOP;
  END LOOP;
END $$;

RESET search_path;
