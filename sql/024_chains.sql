-- 024_chains.sql: what follows a message: the headers then and else, and the messages that a plugin sends along with an outcome.

SET search_path = pg_catalog, pg_temp;

-- Puts a message into an attached queue: {"queue": ..., "message" or "body": ..., "headers": ..., "delay": seconds}. It is a part of the transaction in which
-- the dispatcher stores an outcome. Errors: 22023 for what is no such object, 42704 for a queue that is not attached.
CREATE OR REPLACE FUNCTION pgmqd.send_next(next jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  target regclass;
  message jsonb := coalesce(next -> 'message', next -> 'body');
  headers jsonb := nullif(next -> 'headers', 'null');
  stranger text := (SELECT k FROM jsonb_object_keys(CASE jsonb_typeof(next) WHEN 'object' THEN next ELSE '{}' END) k
    WHERE k NOT IN ('queue', 'message', 'body', 'headers', 'delay') LIMIT 1);
  problem text := CASE
    WHEN jsonb_typeof(next) IS DISTINCT FROM 'object' THEN 'it is no object'
    WHEN stranger IS NOT NULL THEN format('it has "%s", which is none of queue, message, body, headers and delay', stranger)
    WHEN jsonb_typeof(next -> 'queue') IS DISTINCT FROM 'string' THEN 'it names no queue'
    WHEN message IS NULL THEN 'it has no message'
    WHEN jsonb_typeof(headers) <> 'object' THEN 'its headers are no object'
    WHEN jsonb_typeof(coalesce(nullif(next -> 'delay', 'null'), '0')) <> 'number' OR (next ->> 'delay')::numeric NOT BETWEEN 0 AND 31536000
      THEN 'its delay is no number of seconds from 0 to 31536000' END;
  id bigint;
BEGIN
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION '%', problem USING ERRCODE = 'invalid_parameter_value';
  END IF;
  target := pgmqd.attached_table(next ->> 'queue');
  IF target IS NULL THEN
    RAISE EXCEPTION 'queue "%" does not exist, or is not attached', next ->> 'queue' USING ERRCODE = 'undefined_object';
  END IF;
  EXECUTE format('INSERT INTO %s (vt, message%s) VALUES (clock_timestamp() + make_interval(secs => $1), $2%s) RETURNING msg_id', target,
    CASE WHEN headers IS NOT NULL THEN ', headers' ELSE '' END, CASE WHEN headers IS NOT NULL THEN ', $3' ELSE '' END)
  INTO id USING coalesce((next ->> 'delay')::float8, 0), message, headers;
  RETURN id;
END $f$;

-- Sends what the header `step` (then or else) of a message that has ended says, if its queue is one of those that the message's own queue allows. A text that is
-- {{result}} becomes `result`, which is JSON; one in a step after that is left to it. NULL, or what is wrong: then nothing was sent, and the outcome is stored all the same. Errors that pass (locks,
-- a full disk) are the transaction's: it is tried again as a whole.
CREATE OR REPLACE FUNCTION pgmqd.follow(step text, headers jsonb, allowed text[], result text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $f$
DECLARE
  next jsonb := headers -> step;
  later jsonb := '{}';
BEGIN
  IF jsonb_typeof(next) IS NULL OR jsonb_typeof(next) = 'null' THEN
    RETURN NULL;
  ELSIF jsonb_typeof(next -> 'queue') = 'string' AND NOT EXISTS (SELECT FROM unnest(allowed) a WHERE lower(a) = lower(next ->> 'queue')) THEN
    RETURN format('queue "%s" is none of those that the setting then allows', next ->> 'queue');
  END IF;
  IF jsonb_typeof(next -> 'headers') = 'object' THEN
    SELECT coalesce(jsonb_object_agg(h.key, h.value), '{}') INTO later FROM jsonb_each(next -> 'headers') h WHERE h.key IN ('then', 'else');
    next := next #- '{headers,then}' #- '{headers,else}';
  END IF;
  -- a text begins behind no backslash, and no colon follows it: so it is no part of another text, and no name
  next := regexp_replace(next::text, '(?<!\\)"\{\{result\}\}"(?!:)', replace(coalesce(result, 'null')::jsonb::text, '\', '\\'), 'g')::jsonb;
  IF later <> '{}' THEN
    next := jsonb_set(next, '{headers}', next -> 'headers' || later);
  END IF;
  IF jsonb_typeof(next) = 'object' AND headers ? 'traceparent' AND NOT coalesce(next -> 'headers' ? 'traceparent', false) THEN -- the trace goes on
    next := next || jsonb_build_object('headers', coalesce(nullif(next -> 'headers', 'null'), '{}') || jsonb_build_object('traceparent', headers -> 'traceparent'));
  END IF;
  PERFORM pgmqd.send_next(next);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  IF SQLSTATE ~ '^(08|25|40|53|55|57|58)' THEN
    RAISE;
  END IF;
  RETURN SQLERRM;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'send_next', 'follow');
END $$;

RESET search_path;
