-- uninstall.sql: what `pgmqd migrate --uninstall` runs in one transaction: takes out all of pgmqd's but queues and messages, and says what.
SET LOCAL client_min_messages = warning;

DO $$
DECLARE
  s record;
BEGIN
  -- pg_cron's jobs
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') AND to_regclass('pgmqd.schedule') IS NOT NULL THEN
    FOR s IN EXECUTE 'SELECT j.jobid FROM cron.job j JOIN pgmqd.schedule c ON c.name = j.jobname AND c.command = j.command
      WHERE j.database = current_database() AND j.username = current_user' LOOP
      EXECUTE format('SELECT cron.unschedule(%s)', s.jobid);
    END LOOP;
  END IF;
  FOR s IN
    -- triggers that call our functions, on queues and on the application's tables
    SELECT 1 AS n, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) AS statement FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
      JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND c.relnamespace <> to_regnamespace('pgmqd')
        AND (p.pronamespace = to_regnamespace('pgmqd') OR p.pronamespace = 'public'::regnamespace
          AND p.proname IN ('handle_completed_checkup', 'handle_new_appointment', 'handle_payment_status_change'))
    UNION ALL SELECT 2, format('DROP POLICY %I ON %s', polname, polrelid::regclass) FROM pg_policy
      WHERE polname IN ('pgmqd', 'pgmqd_application', 'pgmqd_monitor', 'pgmqd_operator')
    UNION ALL SELECT 3, format('DROP VIEW pgmq.%I', c.relname) FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace('pgmq')
      AND c.relname IN ('email_queue', 'report_generation_queue', 'payment_processing_queue', 'analytics_queue')
    UNION ALL SELECT 4, format('DROP FUNCTION %s', p.oid::regprocedure) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
      AND p.proname IN ('update_appointment_statuses', 'cleanup_old_assessments', 'send_appointment_reminders', 'queue_email_task',
        'queue_report_generation', 'queue_payment_processing', 'handle_completed_checkup', 'handle_new_appointment',
        'handle_payment_status_change', 'pgmq_read', 'pgmq_archive', 'pgmq_delete', 'pgmq_send', 'pgmq_metrics')
      AND 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig)
    -- the roles keep no right in this database
    UNION ALL SELECT 5, format('REVOKE ALL ON %s FROM %I', c.oid::regclass, r.rolname) FROM pg_class c, pg_roles r
      WHERE r.rolname ~ '^pgmqd(_monitor|_operator|_application|_mailer)?$' AND c.relkind IN ('r', 'p', 'v', 'S')
        AND (c.relnamespace = to_regnamespace('pgmq') OR r.rolname = 'pgmqd_application')
        AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = r.oid
          UNION ALL SELECT FROM pg_attribute b, aclexplode(b.attacl) a WHERE b.attrelid = c.oid AND a.grantee = r.oid)
    UNION ALL SELECT 5, format('REVOKE ALL ON SCHEMA %I FROM %I', n.nspname, r.rolname) FROM pg_namespace n, pg_roles r
      WHERE r.rolname ~ '^pgmqd(_monitor|_operator|_application|_mailer)?$' AND n.nspname <> 'pgmqd'
        AND EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = r.oid)
    UNION ALL SELECT 6, 'DROP SCHEMA pgmqd CASCADE' WHERE to_regnamespace('pgmqd') IS NOT NULL
    ORDER BY 1
  LOOP
    EXECUTE s.statement;
  END LOOP;
END $$;

SELECT 'pgmqd is removed; ' || count(*) || ' queues and their messages are left in schema pgmq, and the roles pgmqd… in the cluster'
FROM pgmq.meta;
