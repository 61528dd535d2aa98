/* colours.c: the colour of the brand; the others are fixed. */
#include "config.h"

#include "colours.h"

#include <stdio.h>

uint32_t colours_brand = 0x0f6e64;

void colours_set(const char *text)
{
	unsigned colour;

	if (text != NULL && sscanf(text, "#%6x", &colour) == 1)
		colours_brand = colour;
}
