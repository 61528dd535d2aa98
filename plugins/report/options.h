/* options.h: the plugin's handle and its table of options. */
#ifndef REPORT_OPTIONS_H
#define REPORT_OPTIONS_H

#include "pgmqd-plugin.h"

#include <glib.h>

/* The handle: the options as the host fills them in, then what start() makes of them. */
struct report {
	const char *report_dir, *brand, *font;
	const char *shown_brand; /* brand, or brand_name of the settings; may be "" */
	int attach;
	uint64_t attach_max;
	const char *supabase_url, *service_key, *bucket;
	int64_t link_expires;

	struct fonts *fonts;
	GHashTable *jobs;     /* message → struct job */
	GHashTable *erasures; /* message → struct of erase.c */
};

extern const struct pgmqd_option report_options[];

/* Checks the options against each other. Returns NULL, or the fault (g_malloc'd). */
char *report_options_check(const struct report *h);

/* An option that is not given, or given empty, is NULL. */
const char *report_given(const char *s);

#endif
