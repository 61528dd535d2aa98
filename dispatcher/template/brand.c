/* brand.c: the variables that every template has: the brand of the settings, and what follows from it. */
#include "config.h"

#include "base/xalloc.h"
#include "template/brand.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One colour. */
struct shade {
	unsigned red, green, blue;
};

/* A string of an object, NULL when it is missing or empty. */
static const char *text_of(const cJSON *object, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

	return text && *text ? text : NULL;
}

/* Adds a copy of a text under a second name. */
static void add_alias(cJSON *all, const char *name, const char *from)
{
	const char *text = text_of(all, from);

	if (text)
		cJSON_AddStringToObject(all, name, text);
}

/* Adds the first character of the brand's name, for a mark where there is no logo. */
static void add_initial(cJSON *all)
{
	const char *name = text_of(all, "brand_name");
	size_t len = 1;

	if (!name)
		return;
	while (((unsigned char)name[len] & 0xc0) == 0x80)
		len++;
	char *initial = xstrndup(name, len);
	cJSON_AddStringToObject(all, "brand_initial", initial);
	free(initial);
}

/* One channel of a mixture: `percent` of a, the rest of b. */
static unsigned mix(unsigned a, unsigned b, unsigned percent)
{
	return (a * percent + b * (100 - percent)) / 100;
}

/* Adds a shade: so many percent of the colour, the rest of grey `other` (255 white, 0 black). */
static void add_shade(cJSON *all, const char *name, struct shade c, unsigned percent, unsigned other)
{
	char text[40];

	snprintf(text, sizeof text, "#%02x%02x%02x", mix(c.red, other, percent), mix(c.green, other, percent),
		mix(c.blue, other, percent));
	cJSON_AddStringToObject(all, name, text);
}

/* Adds the shades of the brand's colour: writing on it, and its tints. */
static void add_shades(cJSON *all)
{
	const char *colour = text_of(all, "brand_colour");
	struct shade c;

	if (!colour || sscanf(colour, "#%2x%2x%2x", &c.red, &c.green, &c.blue) != 3)
		return;
	unsigned light = (299 * c.red + 587 * c.green + 114 * c.blue) / 1000;
	cJSON_AddStringToObject(all, "brand_on_colour", light > 150 ? "#14211f" : "#ffffff");
	add_shade(all, "brand_link_colour", c, light > 150 ? 55 : 100, 0);
	add_shade(all, "brand_deep_colour", c, light > 150 ? 45 : 80, 0);
	add_shade(all, "brand_light_colour", c, light > 150 ? 100 : 45, 255);
	add_shade(all, "brand_tint", c, 6, 255);
	add_shade(all, "brand_pill_colour", c, 13, 255);
}

/* Completes the brand. */
cJSON *brand_variables(const cJSON *settings)
{
	cJSON *all = settings ? cJSON_Duplicate(settings, true) : cJSON_CreateObject();

	if (!all)
		abort();
	add_alias(all, "app_url", "brand_app_url");
	add_alias(all, "support_email", "brand_support_email");
	add_initial(all);
	add_shades(all);
	return all;
}
