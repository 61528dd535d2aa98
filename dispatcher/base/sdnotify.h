/* sdnotify.h: telling systemd how the service is (sd_notify(3)), without its library. */
#ifndef SDNOTIFY_H
#define SDNOTIFY_H

#include <stdint.h>

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child can speak for the
 * service. */
void sdnotify_init(void);

/* Sends "KEY=VALUE" lines. 0, also without a listener; -1 with errno when the message could not be sent. Never
 * blocks. */
int sdnotify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* How often WATCHDOG=1 is due at the latest, in milliseconds; 0: not asked for. */
int64_t sdnotify_watchdog_ms(void);

#endif
