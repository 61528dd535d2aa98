/* replay_private.h: what the files of `pgmqd replay` share: the messages, the versions that they are run through, and
 * what became of each. */
#ifndef REPLAY_PRIVATE_H
#define REPLAY_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;
struct queue_settings;
struct settings;

/* A message of the archive, or a dead letter. */
struct replay_message {
	int64_t id;          /* in the archive, or among the dead letters */
	int64_t number;      /* that the plugin sees: of the message when it lived */
	int64_t enqueued_us; /* as long before now as it was when it was handled */
	char *text, *headers;
	char *class, *reason; /* of a dead letter */
};

struct replay_messages {
	struct replay_message *list;
	size_t n;
};

/* How a plugin is run, for all versions alike. */
struct replay_way {
	const char *conninfo; /* for statements; NULL: there is no database */
	const char *snapshot; /* that they see; NULL: their own */
	const struct cJSON *answers;
	const char *scratch; /* directory */
	bool writes;         /* statements may write, before they are rolled back */
};

/* The record of a message's run. */
enum replay_state { REPLAY_OPEN = 0, REPLAY_RECORDED, REPLAY_CRASHED };
struct replay_record {
	enum replay_state state;
	unsigned process; /* whose file has it */
	int64_t at;       /* its place there */
	int32_t len;
	int status; /* of a process that died: as from waitpid(2); -1: it hung and was ended */
};

/* One version: settings, plugin and templates. */
struct replay_version {
	const char *name; /* "new" or "old": its directory in the scratch one */
	struct settings *settings;
	struct queue_settings *queue; /* inside them */
	struct replay_record *records;
	unsigned nprocesses;
};

/* The report of a process about a message. */
struct replay_note {
	int32_t recorded; /* 0: it begins */
	int32_t len;
	int64_t at;
	uint64_t message; /* its place in the list */
};

#endif
