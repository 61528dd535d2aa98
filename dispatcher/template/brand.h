/* brand.h: the variables that every template has: the brand of the settings, and what follows from it. */
#ifndef BRAND_H
#define BRAND_H

#include <cjson/cJSON.h>

/* The brand_* variables of the settings with app_url, support_email, brand_initial and the shades of brand_colour
 * added; the caller deletes the object. settings may be NULL. */
cJSON *brand_variables(const cJSON *settings);

#endif
