-- 011_pgmq_groups_topics.sql: the rest of pgmq's interface where schema pgmq is ours (010): groups, topics, notifications.

SET search_path = pg_catalog, pg_temp;

DO $install$
DECLARE
  f record;
BEGIN
  IF coalesce(obj_description(to_regnamespace('pgmq'), 'pg_namespace'), '') !~ 'made by pgmqd$' THEN
    RETURN;
  END IF;

  -- ---- groups ----

  -- Claims messages of groups (header x-pgmq-group) in their order: a message waits while an older one of its group is claimed. style:
  -- fill takes all of the oldest group first, rr one of each in turn, head one of each. Two readers never share a group.
  CREATE OR REPLACE FUNCTION pgmq._read_grouped(queue_name text, vt integer, qty integer, style text)
  RETURNS SETOF pgmq.message_record
  LANGUAGE plpgsql AS $f$
  BEGIN
    RETURN QUERY EXECUTE format('WITH m AS MATERIALIZED (SELECT msg_id, coalesce(headers->>''x-pgmq-group'', ''_default_fifo_group'') AS grp,'
      '   vt <= clock_timestamp() AS visible FROM pgmq.%1$I),'
      ' g AS MATERIALIZED (SELECT grp, head, blocked FROM (SELECT grp, min(msg_id) AS head, min(msg_id) FILTER (WHERE NOT visible) AS blocked'
      '   FROM m GROUP BY grp) x WHERE (blocked IS NULL OR blocked > head)'
      '   AND pg_try_advisory_xact_lock(hashtextextended(%1$L || '' '' || grp, 0))),'
      ' picked AS (SELECT * FROM (SELECT m.msg_id, g.head, row_number() OVER (PARTITION BY m.grp ORDER BY m.msg_id) AS nth'
      '   FROM m JOIN g USING (grp) WHERE m.visible AND (g.blocked IS NULL OR m.msg_id < g.blocked)) x'
      '   WHERE $3 <> ''head'' OR nth = 1 ORDER BY CASE WHEN $3 = ''rr'' THEN nth ELSE 0 END, head, msg_id LIMIT $1),'
      ' next AS MATERIALIZED (SELECT q.msg_id, row_number() OVER (ORDER BY CASE WHEN $3 = ''rr'' THEN p.nth ELSE 0 END, p.head, p.msg_id) AS place'
      '   FROM (SELECT msg_id FROM pgmq.%1$I WHERE msg_id IN (SELECT msg_id FROM picked) AND vt <= clock_timestamp() FOR UPDATE SKIP LOCKED) q'
      '   JOIN picked p USING (msg_id)),'
      ' claimed AS (UPDATE pgmq.%1$I q SET vt = clock_timestamp() + $2, read_ct = q.read_ct + 1, last_read_at = clock_timestamp() FROM next'
      '   WHERE q.msg_id = next.msg_id RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.last_read_at, q.vt, q.message, q.headers, next.place)'
      ' SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers FROM claimed ORDER BY place',
      pgmq.format_table_name(queue_name, 'q')) USING qty, make_interval(secs => vt), style;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq._read_grouped_with_poll(queue_name text, vt integer, qty integer, style text, max_poll_seconds integer,
    poll_interval_ms integer) RETURNS SETOF pgmq.message_record
  LANGUAGE plpgsql AS $f$
  DECLARE
    give_up_at timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
  BEGIN
    WHILE clock_timestamp() < give_up_at LOOP
      RETURN QUERY SELECT * FROM pgmq._read_grouped(queue_name, vt, qty, style);
      EXIT WHEN FOUND;
      PERFORM pg_sleep(poll_interval_ms / 1000.0);
    END LOOP;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_grouped(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._read_grouped(queue_name, vt, qty, 'fill')
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_grouped_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._read_grouped_with_poll(queue_name, vt, qty, 'fill', max_poll_seconds, poll_interval_ms)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_grouped_rr(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._read_grouped(queue_name, vt, qty, 'rr')
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_grouped_rr_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._read_grouped_with_poll(queue_name, vt, qty, 'rr', max_poll_seconds, poll_interval_ms)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_grouped_head(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._read_grouped(queue_name, vt, qty, 'head')
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.read_grouped_head_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
    poll_interval_ms integer DEFAULT 100) RETURNS SETOF pgmq.message_record
  LANGUAGE sql AS $f$
    SELECT * FROM pgmq._read_grouped_with_poll(queue_name, vt, qty, 'head', max_poll_seconds, poll_interval_ms)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.create_fifo_index(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
  BEGIN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgmq.%I USING gin (headers)', qtable || '_fifo_idx', qtable);
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.create_fifo_indexes_all() RETURNS void
  LANGUAGE sql AS $f$
    SELECT pgmq.create_fifo_index(m.queue_name) FROM pgmq.meta m
  $f$;

  -- ---- topics: a message goes to all queues that are bound to a pattern of its key ----

  CREATE OR REPLACE FUNCTION pgmq.validate_routing_key(routing_key text) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  BEGIN
    IF coalesce(routing_key, '') !~ '^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$' OR length(routing_key) > 255 THEN
      RAISE EXCEPTION 'routing_key "%" must be words of letters, digits, _ and -, with dots between them, at most 255 characters', routing_key;
    END IF;
    RETURN true;
  END $f$;

  -- In a pattern * stands for one word, and # for any text.
  CREATE OR REPLACE FUNCTION pgmq.validate_topic_pattern(pattern text) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  BEGIN
    IF coalesce(pattern, '') !~ '^([A-Za-z0-9_-]+|[*#])([.]([A-Za-z0-9_-]+|[*#]))*$' OR length(pattern) > 255 THEN
      RAISE EXCEPTION 'pattern "%" must be words of letters, digits, _ and -, or * or #, with dots between them, at most 255 characters', pattern;
    END IF;
    RETURN true;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.bind_topic(pattern text, queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    PERFORM pgmq.validate_topic_pattern(pattern);
    IF NOT EXISTS (SELECT FROM pgmq.meta m WHERE m.queue_name = bind_topic.queue_name) THEN
      RAISE EXCEPTION 'Queue "%" does not exist. Please create it first using pgmq.create()', queue_name;
    END IF;
    INSERT INTO pgmq.topic_bindings (pattern, queue_name, compiled_regex)
    VALUES (bind_topic.pattern, bind_topic.queue_name,
      '^' || replace(replace(replace(bind_topic.pattern, '.', '[.]'), '*', '[^.]+'), '#', '.*') || '$')
    ON CONFLICT DO NOTHING;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.unbind_topic(pattern text, queue_name text) RETURNS boolean
  LANGUAGE plpgsql AS $f$
  BEGIN
    DELETE FROM pgmq.topic_bindings b WHERE b.pattern = unbind_topic.pattern AND b.queue_name = unbind_topic.queue_name;
    RETURN FOUND;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.test_routing(routing_key text) RETURNS TABLE (pattern text, queue_name text, compiled_regex text)
  LANGUAGE sql AS $f$
    SELECT b.pattern, b.queue_name, b.compiled_regex FROM pgmq.topic_bindings b
    WHERE pgmq.validate_routing_key($1) AND $1 ~ b.compiled_regex ORDER BY b.pattern, b.queue_name
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.list_topic_bindings() RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
  LANGUAGE sql AS $f$
    SELECT b.pattern, b.queue_name, b.bound_at, b.compiled_regex FROM pgmq.topic_bindings b ORDER BY b.bound_at DESC, b.pattern, b.queue_name
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.list_topic_bindings(queue_name text)
  RETURNS TABLE (pattern text, queue_name text, bound_at timestamptz, compiled_regex text)
  LANGUAGE sql AS $f$
    SELECT b.* FROM pgmq.list_topic_bindings() b WHERE b.queue_name = $1
  $f$;

  CREATE OR REPLACE FUNCTION pgmq._topic_queues(routing_key text) RETURNS SETOF text
  LANGUAGE sql AS $f$
    SELECT DISTINCT t.queue_name FROM pgmq.test_routing(routing_key) t ORDER BY 1
  $f$;

  -- Returns how many queues got the message.
  CREATE OR REPLACE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, headers jsonb, delay integer) RETURNS integer
  LANGUAGE plpgsql AS $f$
  BEGIN
    IF msg IS NULL THEN
      RAISE EXCEPTION 'msg cannot be NULL';
    ELSIF delay < 0 THEN
      RAISE EXCEPTION 'delay cannot be negative, got: %', delay;
    END IF;
    RETURN (SELECT count(s) FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send(q, msg, headers, delay) s);
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_topic(routing_key text, msg jsonb) RETURNS integer
  LANGUAGE sql AS $f$
    SELECT pgmq.send_topic(routing_key, msg, NULL, 0)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_topic(routing_key text, msg jsonb, delay integer) RETURNS integer
  LANGUAGE sql AS $f$
    SELECT pgmq.send_topic(routing_key, msg, NULL, delay)
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[]) RETURNS TABLE (queue_name text, msg_id bigint)
  LANGUAGE sql AS $f$
    SELECT q, s FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send_batch(q, msgs, NULL::jsonb[], clock_timestamp()) s
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay integer) RETURNS TABLE (queue_name text, msg_id bigint)
  LANGUAGE sql AS $f$
    SELECT q, s FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send_batch(q, msgs, NULL::jsonb[], clock_timestamp() + make_interval(secs => delay)) s
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], delay timestamptz) RETURNS TABLE (queue_name text, msg_id bigint)
  LANGUAGE sql AS $f$
    SELECT q, s FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send_batch(q, msgs, NULL::jsonb[], delay) s
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[]) RETURNS TABLE (queue_name text, msg_id bigint)
  LANGUAGE sql AS $f$
    SELECT q, s FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send_batch(q, msgs, headers, clock_timestamp()) s
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay integer) RETURNS TABLE (queue_name text, msg_id bigint)
  LANGUAGE sql AS $f$
    SELECT q, s FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send_batch(q, msgs, headers, clock_timestamp() + make_interval(secs => delay)) s
  $f$;

  CREATE OR REPLACE FUNCTION pgmq.send_batch_topic(routing_key text, msgs jsonb[], headers jsonb[], delay timestamptz) RETURNS TABLE (queue_name text, msg_id bigint)
  LANGUAGE sql AS $f$
    SELECT q, s FROM pgmq._topic_queues(routing_key) q, LATERAL pgmq.send_batch(q, msgs, headers, delay) s
  $f$;

  -- ---- notifications of pgmq's own; pgmqd does without them ----

  -- At most one notification in each interval; a lock on the row means that somebody notifies just now.
  CREATE OR REPLACE FUNCTION pgmq.notify_queue_listeners() RETURNS trigger
  LANGUAGE plpgsql AS $f$
  DECLARE
    due text;
  BEGIN
    UPDATE pgmq.notify_insert_throttle n SET last_notified_at = clock_timestamp() FROM (SELECT t.queue_name FROM pgmq.notify_insert_throttle t
      WHERE t.queue_name = TG_ARGV[0] AND t.last_notified_at + make_interval(secs => t.throttle_interval_ms / 1000.0) <= clock_timestamp()
      FOR UPDATE SKIP LOCKED) d WHERE n.queue_name = d.queue_name RETURNING n.queue_name INTO due;
    IF due IS NOT NULL THEN
      PERFORM pg_notify('pgmq.' || TG_ARGV[1] || '.INSERT', NULL);
    END IF;
    RETURN NULL;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.enable_notify_insert(queue_name text, throttle_interval_ms integer DEFAULT 250) RETURNS void
  LANGUAGE plpgsql AS $f$
  DECLARE
    qtable text := pgmq.format_table_name(queue_name, 'q');
  BEGIN
    IF throttle_interval_ms < 0 THEN
      RAISE EXCEPTION 'throttle_interval_ms must be non-negative, got: %', throttle_interval_ms;
    ELSIF to_regclass(format('pgmq.%I', qtable)) IS NULL THEN
      RAISE EXCEPTION 'Queue "%" does not exist. Create it first using pgmq.create()', queue_name;
    END IF;
    INSERT INTO pgmq.notify_insert_throttle AS n (queue_name, throttle_interval_ms)
    VALUES (enable_notify_insert.queue_name, enable_notify_insert.throttle_interval_ms)
    ON CONFLICT ON CONSTRAINT notify_insert_throttle_pkey DO UPDATE SET throttle_interval_ms = excluded.throttle_interval_ms, last_notified_at = to_timestamp(0);
    EXECUTE format('CREATE OR REPLACE TRIGGER trigger_notify_queue_insert_listeners AFTER INSERT ON pgmq.%I FOR EACH STATEMENT'
      ' EXECUTE FUNCTION pgmq.notify_queue_listeners(%L, %L)', qtable, queue_name, qtable);
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.disable_notify_insert(queue_name text) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS trigger_notify_queue_insert_listeners ON pgmq.%I', pgmq.format_table_name(queue_name, 'q'));
    DELETE FROM pgmq.notify_insert_throttle n WHERE n.queue_name = disable_notify_insert.queue_name;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.update_notify_insert(queue_name text, throttle_interval_ms integer) RETURNS void
  LANGUAGE plpgsql AS $f$
  BEGIN
    UPDATE pgmq.notify_insert_throttle n SET throttle_interval_ms = update_notify_insert.throttle_interval_ms, last_notified_at = to_timestamp(0)
    WHERE n.queue_name = update_notify_insert.queue_name;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'Queue "%" has no notifications. Enable them first using pgmq.enable_notify_insert()', queue_name;
    END IF;
  END $f$;

  CREATE OR REPLACE FUNCTION pgmq.list_notify_insert_throttles()
  RETURNS TABLE (queue_name text, throttle_interval_ms integer, last_notified_at timestamptz)
  LANGUAGE sql AS $f$
    SELECT n.queue_name, n.throttle_interval_ms, n.last_notified_at FROM pgmq.notify_insert_throttle n ORDER BY 1
  $f$;

  -- ---- whoever calls them, with whatever search_path ----

  FOR f IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'pgmq'::regnamespace AND p.prokind = 'f'
    AND pg_has_role(p.proowner, 'USAGE') AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', f.name);
  END LOOP;
END $install$;

RESET search_path;
