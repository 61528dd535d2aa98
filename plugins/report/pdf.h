/* pdf.h: pages to the bytes of a PDF file. */
#ifndef REPORT_PDF_H
#define REPORT_PDF_H

#include "pages.h"

/* The file's metadata, UTF-8. `created` is RFC 3339: with it, the same pages give the same bytes. */
struct pdf_about {
	const char *title, *author, *subject, *lang, *created;
};

/* The file; NULL with *reason (static) when cairo failed. A file beside *reason is good, and has no language. */
GByteArray *pdf_make(const struct pages *p, const struct pdf_about *about, const char **reason);

#endif
