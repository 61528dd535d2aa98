/* timeline.c: whether a server that takes writes is the newest primary that this dispatcher has seen.
 *
 * A failover begins a new timeline of the cluster's history. An old primary that comes back takes writes, too, and a
 * connection string that names both would lead there: its messages are copies that the new one's workers handle as
 * well, and what is written there is lost when it is made a standby. So an older timeline of the same cluster is
 * refused. A restart of the dispatcher forgets, for the operator who has restored a backup on purpose.
 */
#include "config.h"

#include "pg/timeline.h"

#include "base/log.h"
#include "base/xalloc.h"

#include <stdlib.h>

static _Atomic uint64_t timeline_own[TIMELINE_WORDS];
static _Atomic uint64_t *timeline_words = timeline_own;

/* The name of the log file that is written to begins with the timeline; the control file learns of it only with the
 * first checkpoint. */
const char timeline_sql[] =
	"SELECT s.system_identifier, pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) "
	"FROM pg_catalog.pg_control_system() s";

void timeline_share(_Atomic uint64_t *words)
{
	timeline_words = words;
}

char *timeline_check(const PGresult *res)
{
	uint64_t system, timeline, newest;
	char *reason;

	if (PQntuples(res) != 1 || PQnfields(res) != 2)
		return NULL;
	system = strtoull(PQgetvalue(res, 0, 0), NULL, 10);
	timeline = strtoull(PQgetvalue(res, 0, 1), NULL, 16);
	if (system == 0 || timeline == 0)
		return NULL;
	newest = atomic_load(&timeline_words[TIMELINE_NEWEST]);
	if (atomic_exchange(&timeline_words[TIMELINE_SYSTEM], system) != system || timeline >= newest) {
		atomic_store(&timeline_words[TIMELINE_NEWEST], timeline);
		if (timeline != newest)
			atomic_store(&timeline_words[TIMELINE_REFUSED], 0);
		return NULL;
	}
	reason = xasprintf(
		"the server is an old primary: it is on timeline %llu, and pgmqd has worked on timeline %llu "
		"of this cluster; make it a standby of the new one, or restart pgmqd if it is the one to use",
		(unsigned long long)timeline, (unsigned long long)newest);
	if (atomic_exchange(&timeline_words[TIMELINE_REFUSED], timeline) != timeline)
		log_error("a server of the connection string is refused: %s", reason);
	return reason;
}
