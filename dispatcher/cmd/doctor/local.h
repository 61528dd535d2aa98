/* local.h: the checks of `pgmqd doctor` that need no database. */
#ifndef DOCTOR_LOCAL_H
#define DOCTOR_LOCAL_H

struct doctor;

void doctor_settings(struct doctor *d);
void doctor_plugins(struct doctor *d);
void doctor_templates(struct doctor *d);

#endif
