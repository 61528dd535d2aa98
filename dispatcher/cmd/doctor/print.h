/* print.h: the findings of `pgmqd doctor` as text and as JSON. */
#ifndef DOCTOR_PRINT_H
#define DOCTOR_PRINT_H

#include <stdbool.h>

struct doctor;

void doctor_print(const struct doctor *d, bool all);
void doctor_print_fixes(const struct doctor *d);
void doctor_print_summary(const struct doctor *d);
void doctor_print_json(const struct doctor *d);
int doctor_worst(const struct doctor *d); /* the worst status of all */

#endif
