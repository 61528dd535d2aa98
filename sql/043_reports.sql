-- 043_reports.sql: the data of a report, the list of those that were made, and the mail that announces one.
-- makes: pgmqd.reports pgmqd.files_to_erase

SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS pgmqd.reports (
  id uuid PRIMARY KEY,
  assessment_id text NOT NULL,
  user_id text NOT NULL,
  report_type text NOT NULL,
  completed_at timestamptz NOT NULL,
  path text,
  object text,
  bytes integer NOT NULL,
  pages integer NOT NULL,
  sha256 text NOT NULL,
  mail_id bigint,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS reports_user_idx ON pgmqd.reports (user_id);
CREATE INDEX IF NOT EXISTS reports_assessment_idx ON pgmqd.reports (assessment_id);
COMMENT ON TABLE pgmqd.reports IS 'reports that the report plugin has made';
COMMENT ON COLUMN pgmqd.reports.path IS 'file, where report_dir is set';
COMMENT ON COLUMN pgmqd.reports.object IS 'BUCKET/PATH in Supabase Storage, where a bucket is set';
COMMENT ON COLUMN pgmqd.reports.mail_id IS 'message of email_queue; NULL: no address of the person was known';

-- Reports that pgmqd.erase_person() has found: the report plugin deletes them and then the row. A row that stays has a dead
-- letter that says why.
CREATE TABLE IF NOT EXISTS pgmqd.files_to_erase (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  path text,
  object text,
  asked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgmqd.files_to_erase IS 'reports whose file (path), or BUCKET/PATH in Storage (object), the report plugin has to delete';

-- The same check-up, type and completion always give the same number.
CREATE OR REPLACE FUNCTION pgmqd.report_id(assessment_id text, report_type text, completed_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $f$
  SELECT left(encode(sha256(convert_to(concat_ws('|', assessment_id, report_type, extract(epoch FROM completed_at)),
    'UTF8')), 'hex'), 32)::uuid
$f$;

-- All that a report shows, as one object; or {"problem": unknown | other_user | not_completed | abandoned | no_date}.
-- Replace this function where check-ups are kept in other tables.
CREATE OR REPLACE FUNCTION pgmqd.report_source(assessment_id text, user_id text, report_type text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
  r jsonb;
  profile jsonb;
  completed timestamptz;
  lang text;
  number uuid;
BEGIN
  r := pgmqd.app_find('checkup', 'id', assessment_id);
  IF r IS NULL THEN
    RETURN '{"problem": "unknown"}';
  ELSIF r->>'user_id' IS DISTINCT FROM user_id THEN
    RETURN '{"problem": "other_user"}';
  ELSIF r->>'status' = 'abandoned' THEN
    RETURN '{"problem": "abandoned"}';
  ELSIF r->>'status' IS DISTINCT FROM 'completed' THEN
    RETURN '{"problem": "not_completed"}';
  END IF;
  completed := pgmqd.row_time(coalesce(r->>'completed_at', r->>'updated_at', r->>'started_at', r->>'created_at'));
  IF completed IS NULL THEN
    RETURN '{"problem": "no_date"}';
  END IF;
  profile := pgmqd.app_find('person', 'id', user_id);
  lang := lower(left(btrim(profile->>'language'), 2));
  number := pgmqd.report_id(assessment_id, report_type, completed);
  RETURN jsonb_build_object('report_id', number, 'type', r->>'type',
    'name', nullif(btrim(profile->>'full_name'), ''),
    'lang', CASE WHEN lang IN ('ru', 'en') THEN lang ELSE pgmqd.setting('default_lang') END,
    'completed_at', completed, 'completed_utc', pgmqd.iso_time(completed),
    'date', to_char(completed AT TIME ZONE pgmqd.setting('time_zone'), 'YYYY-MM-DD'),
    'score', r->'score', 'answers', r->'answers',
    'made', (SELECT jsonb_build_object('path', m.path, 'object', m.object, 'bytes', m.bytes)
             FROM pgmqd.reports m WHERE m.id = number));
END $f$;

-- Records a report and queues the mail about it, with the PDF when `content` (base64) is given. A report that is
-- recorded already gets no second mail. True: it was new.
CREATE OR REPLACE FUNCTION pgmqd.finish_report(report_id uuid, assessment_id text, user_id text, report_type text,
  completed_at timestamptz, path text, object text, bytes integer, pages integer, sha256 text, link text,
  filename text, content text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$
#variable_conflict use_variable
DECLARE
  who jsonb;
  message jsonb;
BEGIN
  INSERT INTO pgmqd.reports AS r (id, assessment_id, user_id, report_type, completed_at, path, object, bytes, pages, sha256)
  VALUES (report_id, assessment_id, user_id, report_type, completed_at, path, object, bytes, pages, sha256)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    UPDATE pgmqd.reports r SET path = finish_report.path, object = finish_report.object, bytes = finish_report.bytes,
      pages = finish_report.pages, sha256 = finish_report.sha256
    WHERE r.id = report_id;
    RETURN false;
  END IF;
  BEGIN
    who := pgmqd.find_person(user_id);
  EXCEPTION WHEN no_data_found THEN
    RETURN true; -- there is no person to write to, but the report is made
  END;
  -- not by queue_email_task(), which takes no attachments and no more than 64 KiB
  message := jsonb_build_object('to', who->>'email', 'subject', NULL, 'template', 'report_ready', 'priority', 0,
    'lang', who->>'lang', 'key', 'report-' || report_id,
    'variables', jsonb_strip_nulls(jsonb_build_object('customer_name', who->>'name', 'lang', who->>'lang',
      'app_url', pgmqd.setting('app_url'), 'support_email', pgmqd.setting('support_email'),
      'report_id', report_id, 'assessment_id', assessment_id,
      'report_date', pgmqd.format_date(completed_at, who->>'lang'),
      'report_url', coalesce(link, pgmqd.app_link('reports', report_id::text)),
      'signed_link', nullif(link IS NOT NULL, false), 'attached', nullif(content IS NOT NULL, false))));
  IF content IS NOT NULL THEN
    message := message || jsonb_build_object('attachments', jsonb_build_array(jsonb_build_object(
      'filename', filename, 'content_type', 'application/pdf', 'content', content)));
  END IF;
  UPDATE pgmqd.reports r SET mail_id = pgmqd.enqueue('email_queue', message) WHERE r.id = report_id;
  RETURN true;
END $f$;

DO $$ BEGIN
  PERFORM pgmqd.restrict_functions();
  PERFORM pgmqd.allow_calls('pgmqd', 'report_source', 'finish_report');
END $$;

RESET search_path;
