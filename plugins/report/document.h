/* document.h: a report as a whole. */
#ifndef REPORT_DOCUMENT_H
#define REPORT_DOCUMENT_H

#include "data.h"
#include "fonts.h"

/* The PDF file of a report and the number of its pages; NULL with *reason (static) when it could not be made. */
GByteArray *document_make(
	const struct report_data *d, struct fonts *f, const char *brand, unsigned *pages, const char **reason);

#endif
