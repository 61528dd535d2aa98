/* files.h: directories that a replayed plugin writes to: it gets others, and what it leaves there is recorded. */
#ifndef FILES_H
#define FILES_H

#include <stddef.h>

struct cJSON;
struct plugin;
struct queue_settings;

/* Gives the plugin's options that name a directory a directory of their own below `dir`, as pairs of the queue. The
 * number of pairs that were added. */
size_t files_divert(const struct plugin *p, struct queue_settings *q, const char *dir);

/* Records the files that were written below `dir` since the last call, and moves them to `kept`. */
void files_take(const char *dir, const char *kept, void (*effect)(void *arg, struct cJSON *effect), void *arg);

/* Adds a pair to a queue's settings; both texts are copied. */
void files_add_pair(struct queue_settings *q, const char *key, const char *value);

#endif
