/* sql.h: the checks of `pgmqd doctor` that are one statement; doctor_rows() says what it returns. */
#ifndef DOCTOR_SQL_H
#define DOCTOR_SQL_H

extern const char doctor_sql_role[], doctor_sql_grants[], doctor_sql_pgmq[], doctor_sql_queues[], doctor_sql_wakeups[],
	doctor_sql_triggers[], doctor_sql_trigger_errors[], doctor_sql_functions[], doctor_sql_access[],
	doctor_sql_schedules[], doctor_sql_cron[], doctor_sql_vacuum[], doctor_sql_snapshots[], doctor_sql_usage[],
	doctor_sql_dispatcher[], doctor_sql_defaults[], doctor_sql_unserved[], doctor_sql_limits[], doctor_sql_dump[],
	doctor_sql_locks[], doctor_sql_owner[];

#endif
