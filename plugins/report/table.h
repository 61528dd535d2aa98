/* table.h: the table of results, over as many pages as it needs. */
#ifndef REPORT_TABLE_H
#define REPORT_TABLE_H

#include "data.h"
#include "pages.h"

/* Room that the table's beginning needs, so that a heading is not left alone above it. */
#define TABLE_BEGIN 110.0

void table_draw(struct pages *p, const GPtrArray *areas, enum lang lang);

#endif
