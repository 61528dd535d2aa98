/* templates.h: previews of the mail templates with their sample data. */
#ifndef TEMPLATES_H
#define TEMPLATES_H

#include "http/request.h"

void templates_list(struct http_request *req); /* GET /api/templates */
void templates_show(struct http_request *req); /* GET /api/templates/NAME/LANG */

#endif
