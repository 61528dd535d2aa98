-- 045_analytics.sql: events that the analytics plugin records, one row for each message, and how many of them a day.
-- makes: pgmqd.analytics_events pgmqd.analytics_daily

SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS pgmqd.analytics_events (
  queue text,
  msg_id bigint,
  event text NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  properties jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (queue, msg_id)
);
CREATE INDEX IF NOT EXISTS analytics_events_event_idx ON pgmqd.analytics_events (event, occurred_at);
CREATE INDEX IF NOT EXISTS analytics_events_user_idx ON pgmqd.analytics_events ((properties->>'user_id'));
COMMENT ON TABLE pgmqd.analytics_events IS 'what happened: one row for each message of the analytics queues';

CREATE TABLE IF NOT EXISTS pgmqd.analytics_daily (
  day date,
  event text,
  events bigint NOT NULL,
  PRIMARY KEY (day, event)
);
COMMENT ON TABLE pgmqd.analytics_daily IS 'events a day (by the time_zone of pgmqd.settings) and kind; kept when the events themselves are deleted';

-- Records events, one in each element of the arrays, in one statement; the plugin calls it. An event that is recorded
-- already is neither recorded nor counted a second time. Returns how many were new.
CREATE OR REPLACE FUNCTION pgmqd.record_events(queues text[], ids text[], kinds text[], times text[], bodies text[])
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
  WITH new AS (
    INSERT INTO pgmqd.analytics_events (queue, msg_id, event, occurred_at, properties)
    SELECT e.queue, e.id::bigint, e.kind, e.at::timestamptz, coalesce(nullif(e.body::jsonb->'properties', 'null'), '{}')
    FROM unnest(queues, ids, kinds, times, bodies) AS e (queue, id, kind, at, body)
    ON CONFLICT (queue, msg_id) DO NOTHING
    RETURNING event, (occurred_at AT TIME ZONE pgmqd.setting('time_zone'))::date AS day
  ), counted AS (
    INSERT INTO pgmqd.analytics_daily AS d (day, event, events)
    -- in order, so that two of these at the same time cannot wait for each other
    SELECT n.day, n.event, count(*) FROM new n GROUP BY n.day, n.event ORDER BY n.day, n.event
    ON CONFLICT (day, event) DO UPDATE SET events = d.events + excluded.events
  )
  SELECT count(*) FROM new
$f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'record_events');
END $$;

RESET search_path;
