/* routes.c: every path that the control process answers, in one table. */
#include "config.h"

#include "control/routes.h"

#include "control/dead_letters.h"
#include "control/health.h"
#include "control/jobs.h"
#include "control/jobs_events.h"
#include "control/jobs_start.h"
#include "control/mail.h"
#include "control/messages.h"
#include "control/payment.h"
#include "control/metrics.h"
#include "control/page.h"
#include "control/queues.h"
#include "control/record.h"
#include "control/schedules.h"
#include "control/status.h"
#include "control/templates.h"

const struct http_route control_routes[] = {
	{ HTTP_GET, "/livez", HTTP_ROUTE_PROBE, health_live, 0 },
	{ HTTP_GET, "/readyz", HTTP_ROUTE_PROBE, health_ready, 0 },
	{ HTTP_GET, "/health", 0, health_get, 0 },
	{ HTTP_GET, "/ready", 0, health_ready, 0 },
	{ HTTP_GET, "/metrics", 0, metrics_get, 0 },

	{ HTTP_GET, "/api/queues", 0, queues_get, 0 },
	{ HTTP_POST, "/api/queues/{queue}/pause", HTTP_ROUTE_BODY, queues_pause, 0 },
	{ HTTP_POST, "/api/queues/{queue}/resume", HTTP_ROUTE_BODY, queues_resume, 0 },
	{ HTTP_GET, "/api/status", 0, status_get, 0 },
	{ HTTP_GET, "/api/history", 0, record_history, 0 },
	{ HTTP_GET, "/api/dispatchers", 0, record_dispatchers, 0 },

	{ HTTP_GET, "/api/schedules", 0, schedules_list, 0 },
	{ HTTP_GET, "/api/schedules/{name}", 0, schedules_show, 0 },
	{ HTTP_POST, "/api/schedules/{name}/run", HTTP_ROUTE_BODY, schedules_run, 0 },
	{ HTTP_POST, "/api/schedules/{name}/pause", HTTP_ROUTE_BODY, schedules_pause, 0 },
	{ HTTP_POST, "/api/schedules/{name}/resume", HTTP_ROUTE_BODY, schedules_resume, 0 },
	{ HTTP_POST, "/api/schedules/{name}/edit", HTTP_ROUTE_BODY, schedules_edit, 0 },
	{ HTTP_GET, "/api/cron/next", 0, schedules_next, 0 },

	{ HTTP_GET, "/api/failures", 0, dead_letters_failures, 0 },
	{ HTTP_GET, "/api/queues/{queue}/dead-letters", 0, dead_letters_list, 0 },
	{ HTTP_GET, "/api/queues/{queue}/dead-letters/{id}", HTTP_ROUTE_TOKEN, dead_letters_show, 0 },
	{ HTTP_POST, "/api/queues/{queue}/redrive", HTTP_ROUTE_BODY, dead_letters_redrive, 0 },
	{ HTTP_POST, "/api/queues/{queue}/purge", HTTP_ROUTE_BODY, dead_letters_purge, 0 },

	{ HTTP_GET, "/api/queues/{queue}/messages", 0, messages_list, 0 },
	{ HTTP_GET, "/api/queues/{queue}/messages/{id}", HTTP_ROUTE_TOKEN, messages_show, 0 },
	{ HTTP_POST, "/api/queues/{queue}/send", HTTP_ROUTE_BODY, messages_send, 0 },
	{ HTTP_POST, "/api/queues/{queue}/cancel", HTTP_ROUTE_BODY, messages_cancel, 0 },
	{ HTTP_POST, "/api/queues/{queue}/run-now", HTTP_ROUTE_BODY, messages_run_now, 0 },
	{ HTTP_POST, "/api/queues/{queue}/delay", HTTP_ROUTE_BODY, messages_delay, 0 },
	{ HTTP_POST, "/api/queues/{queue}/edit", HTTP_ROUTE_BODY, messages_edit, 0 },
	{ HTTP_POST, "/api/queues/{queue}/requeue", HTTP_ROUTE_BODY, messages_requeue, 0 },
	{ HTTP_GET, "/api/actions", HTTP_ROUTE_TOKEN, messages_actions, 0 },

	/* a preview shows sample data, so a frame, which cannot send the token, may have it */
	{ HTTP_GET, "/api/templates", 0, templates_list, 0 },
	{ HTTP_GET, "/api/templates/{name}/{lang}", HTTP_ROUTE_OPEN, templates_show, 0 },

	{ HTTP_POST, "/api/mail/events/{provider}", HTTP_ROUTE_PUBLIC, mail_event, MAIL_EVENT_MAX },
	{ HTTP_POST, "/api/payment/events/{provider}", HTTP_ROUTE_PUBLIC, payment_event, PAYMENT_EVENT_MAX },
	{ HTTP_GET, "/api/mail/unsubscribe/{token}", HTTP_ROUTE_PUBLIC, mail_unsubscribe_page, 0 },
	{ HTTP_POST, "/api/mail/unsubscribe/{token}", HTTP_ROUTE_PUBLIC, mail_unsubscribe, MAIL_FORM_MAX },

	{ HTTP_GET, "/api/openapi.json", 0, jobs_openapi, 0 },
	{ HTTP_GET, "/api/cron/retry-missing-data", 0, jobs_retry_due, 0 },
	{ HTTP_GET, "/api/{type}/status/{job_id}", HTTP_ROUTE_ASK, jobs_status, 0 },
	{ HTTP_GET, "/api/{type}/result/{job_id}", HTTP_ROUTE_TOKEN | HTTP_ROUTE_ASK, jobs_result, 0 },
	{ HTTP_GET, "/api/{type}/missing-sources/{job_id}", HTTP_ROUTE_ASK, jobs_missing, 0 },
	{ HTTP_GET, "/api/{type}/retry-status/{job_id}", HTTP_ROUTE_ASK, jobs_retry_status, 0 },
	{ HTTP_POST, "/api/{type}/start", HTTP_ROUTE_BODY | HTTP_ROUTE_ASK, jobs_start_post, 0 },
	{ HTTP_GET, "/api/{type}/events/{job_id}", HTTP_ROUTE_ASK, jobs_events_get, 0 },
	{ HTTP_POST, "/api/{type}/retry/{job_id}", HTTP_ROUTE_ASK, jobs_events_retry, 0 },

	{ HTTP_GET, "/", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/page.css", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/page.js", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/charts.js", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/messages.js", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/schedules.js", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/words.js", HTTP_ROUTE_OPEN, page_get, 0 },
	{ HTTP_GET, "/icon.svg", HTTP_ROUTE_OPEN, page_get, 0 },
	{ 0 },
};
