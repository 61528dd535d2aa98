/* check.h: what a table of options cannot say of a value. Errors are added to *errors, one line a fault. */
#ifndef CHECK_H
#define CHECK_H

#include "settings/settings.h"

void settings_check_global(const struct settings *s, unsigned line, char **errors);
void settings_check_queue(const struct settings *s, const struct queue_settings *q, char **errors);
void settings_check_job(
	const struct settings *s, const struct job_settings *j, char **errors); /* when all sections were read */
bool settings_check_queue_name(const char *name); /* false: our settings do not take it; adds nothing */

#endif
