/* host.c: the doors between host and plugin: log context round every call, and the templates of the process. */
#include "config.h"

#include "host.h"

#include "xalloc.h"

#include <stdlib.h>

struct log_context host_enter(const struct pgmqd_worker *w, int64_t msg_id)
{
	struct log_context c = *w->log;

	c.msg_id = msg_id;
	return log_context_set(c);
}

void host_leave(struct log_context former)
{
	log_context_set(former);
}

struct template_set *host_templates(struct pgmqd_worker *w, char **error)
{
	*error = NULL;
	if (!*w->templates)
		*w->templates = template_load(w->template_dir, w->default_lang, error);
	return *w->templates;
}
