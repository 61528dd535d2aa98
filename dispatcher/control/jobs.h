/* jobs.h: jobs over HTTP: starting them, and asking after them. */
#ifndef HTTPJOBS_H
#define HTTPJOBS_H

#include "http/request.h"
#include "settings/settings.h"

/* Whether the first parameter is a job type of the settings, and the second, where the route has it, a job id. False:
 * it was answered with 404. */
bool httpjobs_check(struct httpcall *call);
const struct job_settings *httpjobs_type(const struct control *c, const char *name); /* NULL: there is none */

/* Has jobs follow the messages of their queues; at every connection to the database. */
void httpjobs_attach(struct control *c);

/* Starts that wait for a statement to carry them; see jobs_start.c. */
struct httpstart *httpstart_new(struct control *c);
void httpstart_free(struct httpstart *s);

#endif
