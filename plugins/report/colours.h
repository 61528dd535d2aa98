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

#define COLOUR_GOOD 0x0f6e64
#define COLOUR_FAIR 0xe8a33d
#define COLOUR_POOR 0xc8501e

/* 0xrrggbb: the brand's colour, what is written on it, a shade of it that can be read on white, and a pale one. */
#define COLOUR_BRAND colours_brand[0]
#define COLOUR_ON_BRAND colours_brand[1]
#define COLOUR_BRAND_TEXT colours_brand[2]
#define COLOUR_PALE colours_brand[3]
extern uint32_t colours_brand[4];

/* Takes brand_colour, "#rrggbb"; anything else leaves the colours as they are. */
void colours_set(const char *text);

#endif
