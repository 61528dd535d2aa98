/* colours.h: the report's colours; those that mean something differ in lightness, too, and never stand without a shape
 * or a word. */
#ifndef REPORT_COLOURS_H
#define REPORT_COLOURS_H

#include <stdint.h>

#define COLOUR_INK 0x17312d
#define COLOUR_MUTED 0x5c6764
#define COLOUR_WHITE 0xffffff
#define COLOUR_LINE 0xe6e0d5
#define COLOUR_CARD 0xf7f4ee
#define COLOUR_TRACK 0xebe6dc
#define COLOUR_PALE 0xe0f2ef

#define COLOUR_GOOD 0x0f6e64
#define COLOUR_FAIR 0xe8a33d
#define COLOUR_POOR 0xc8501e

#define COLOUR_BRAND colours_brand
extern uint32_t colours_brand; /* 0xrrggbb */

/* Takes brand_colour, "#rrggbb"; anything else leaves the colour as it is. */
void colours_set(const char *text);

#endif
