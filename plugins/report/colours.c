/* colours.c: the colours of the brand, by the rules of mails; the others are fixed. */
#include "config.h"

#include "colours.h"

#include <stdio.h>

uint32_t colours_brand[4] = { 0x0f6e64, COLOUR_WHITE, 0x0f6e64, 0xe0f2ef };

/* So many percent of a colour, the rest of grey `other` (255 white, 0 black). */
static uint32_t mix(const unsigned c[3], unsigned percent, unsigned other)
{
	uint32_t mixed = 0;

	for (int i = 0; i < 3; i++)
		mixed = mixed << 8 | (c[i] * percent + other * (100 - percent)) / 100;
	return mixed;
}

void colours_set(const char *text)
{
	unsigned c[3];

	if (text == NULL || sscanf(text, "#%2x%2x%2x", &c[0], &c[1], &c[2]) != 3)
		return;
	int light = (299 * c[0] + 587 * c[1] + 114 * c[2]) / 1000 > 150;

	COLOUR_BRAND = mix(c, 100, 0);
	COLOUR_ON_BRAND = light ? COLOUR_INK : COLOUR_WHITE;
	COLOUR_BRAND_TEXT = mix(c, light ? 55 : 100, 0);
	COLOUR_PALE = mix(c, 13, 255);
}
