/* version.c: the settings of one version: those of the daemon, with what a replay needs: one message at a time, no
 * waiting between tries, and the plugin's own options for replays.
 */
#include "config.h"

#include "cmd/replay/version.h"

#include "base/xalloc.h"
#include "cmd/replay/files.h"
#include "settings/load.h"
#include "settings/option.h"
#include "worker/plugin.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE "24h" /* of time that is skipped: what only waits ends at once, and is told apart from what works */

/* Settings without a file. */
static struct settings *bare_settings(void)
{
	struct settings *s = xcalloc(1, sizeof(*s));

	option_defaults(settings_global_options, s);
	s->path = xstrdup("defaults");
	return s;
}

/* Sets a host's option from the environment, where the file has not given it. */
static void take_env(struct settings *s, const char *name)
{
	const struct pgmqd_option *row = option_find(settings_global_options, name);
	const char *value = getenv(row->env);

	if (value && *value)
		free(option_set(row, s, value));
}

/* The queue's section; one is made when there is none and `plugin` names what would stand in it. */
static struct queue_settings *find_queue(struct settings *s, const char *queue, const char *plugin)
{
	for (size_t i = 0; i < s->nqueues; i++)
		if (strcmp(s->queues[i].name, queue) == 0)
			return &s->queues[i];
	if (!plugin)
		return NULL;
	s->queues = xrealloc(s->queues, s->nqueues + 1, sizeof(*s->queues));
	s->queues[s->nqueues] = (struct queue_settings){ .name = xstrdup(queue) };
	option_defaults(settings_queue_options, &s->queues[s->nqueues]);
	return &s->queues[s->nqueues++];
}

/* Adds the options that the plugin has for replays: "name=value name=value". NULL, or that there must be none. */
static char *take_replay(struct replay_version *v)
{
	char *error, *words, *word, *rest;
	struct plugin *p = plugin_open(v->settings, v->queue->plugin, &error);

	if (!p)
		return xasprintf("plugin \"%s\": %s", v->queue->plugin, error);
	words = xstrdup(p->d.replay);
	if (words && strcmp(words, "no") == 0)
		error = xasprintf("plugin \"%s\" is not to be replayed: its descriptor says so", p->d.name);
	else
		for (word = words ? strtok_r(words, " ", &rest) : NULL; word; word = strtok_r(NULL, " ", &rest)) {
			char *equals = strchr(word, '=');

			if (equals)
				*equals = '\0';
			files_add_pair(v->queue, word, equals ? equals + 1 : "yes");
		}
	free(words);
	plugin_free(p);
	return error;
}

/* The queue as a replay needs it. NULL, or what is wrong. */
static char *adapt(struct replay_version *v, const struct version_choice *choice)
{
	static const char *const fixed[][2] = { { "max_in_flight", "1" }, { "prefetch", "0" }, { "deadline", DEADLINE },
		{ "max_attempts", "1000000" } };
	char real[PATH_MAX];
	const char *plugin = choice->plugin;

	if (plugin && strchr(plugin, '/')) {
		if (!realpath(plugin, real))
			return xasprintf("%s: %s", plugin, strerror(errno));
		plugin = real;
	}
	if (plugin)
		free(option_set(option_find(settings_queue_options, "plugin"), v->queue, plugin));
	if (choice->template_dir) {
		if (!realpath(choice->template_dir, real))
			return xasprintf("%s: %s", choice->template_dir, strerror(errno));
		free(option_set(option_find(settings_global_options, "template_dir"), v->settings, real));
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
		free(option_set(option_find(settings_queue_options, fixed[i][0]), v->queue, fixed[i][1]));
	v->queue->backoff_min = v->queue->backoff_max =
		0; /* a delay that the plugin leaves to the queue is none of its own */
	v->queue->config_retry = 10;
	return take_replay(v);
}

char *version_make(struct replay_version *v, const char *name, const char *queue, const struct version_choice *choice)
{
	char *error = NULL;

	v->name = name;
	v->settings = choice->conf ? settings_load(choice->conf, &error) : bare_settings();
	if (!v->settings)
		return error;
	if (!choice->conf) {
		take_env(v->settings, "plugin_dir");
		take_env(v->settings, "template_dir");
	}
	v->queue = find_queue(v->settings, queue, choice->plugin);
	if (!v->queue)
		return xasprintf("%s has no section [queue %s]; name the plugin with --plugin",
			choice->conf ? choice->conf : "no settings file was found, so there", queue);
	return adapt(v, choice);
}

void version_free(struct replay_version *v)
{
	if (v->settings)
		settings_free(v->settings);
	free(v->records);
}
