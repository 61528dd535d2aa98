/* version.h: the settings with which one version of a queue's plugin is replayed. */
#ifndef VERSION_H
#define VERSION_H

#include "cmd/replay/replay_private.h"

/* The places of a version's files. NULL: as its settings have it. */
struct version_choice {
	const char *conf;   /* settings file; NULL: none is read */
	const char *plugin; /* name or file */
	const char *template_dir;
};

/* Fills the version in. NULL, or what is wrong; malloc'd. */
char *version_make(struct replay_version *v, const char *name, const char *queue, const struct version_choice *choice);
void version_free(struct replay_version *v);

#endif
