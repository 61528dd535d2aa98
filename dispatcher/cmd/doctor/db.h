/* db.h: the checks of `pgmqd doctor` on the database that are more than one statement. */
#ifndef DOCTOR_DB_H
#define DOCTOR_DB_H

struct doctor;

void doctor_connect(struct doctor *d);
void doctor_disconnect(struct doctor *d);
void doctor_standby(struct doctor *d);
void doctor_pooler(struct doctor *d);
void doctor_clock(struct doctor *d);
void doctor_schema(struct doctor *d);
void doctor_notify(struct doctor *d);
void doctor_probe(struct doctor *d);
void doctor_triggers(struct doctor *d);
void doctor_cron(struct doctor *d);
void doctor_schedules(struct doctor *d);
void doctor_failover(struct doctor *d);

#endif
