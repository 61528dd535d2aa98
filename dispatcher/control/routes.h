/* routes.h: every path that the control process answers, in one table. */
#ifndef ROUTES_H
#define ROUTES_H

#include "http/route.h"

extern const struct http_route control_routes[]; /* for the server: the first pattern that fits a path counts */

#endif
