/* pdf.c: pages to the bytes of a PDF file, by cairo, and the document's language, which cairo 1.16 cannot set. */
#include "config.h"

#include "pdf.h"

#include <cairo-pdf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Collects what cairo writes. */
static cairo_status_t collect(void *closure, const unsigned char *data, unsigned length)
{
	g_byte_array_append(closure, data, length);
	return CAIRO_STATUS_SUCCESS;
}

/* The last place of a word before `end`; -1: it is not there. The bytes are no text: they have NULs. */
static long last_of(const GByteArray *out, size_t end, const char *word)
{
	size_t n = strlen(word);

	for (long at = (long)end - (long)n; at >= 0; at--)
		if (memcmp(out->data + at, word, n) == 0)
			return at;
	return -1;
}

/* Writes the language into the catalogue, and that readers show the title and not the file's name. The catalogue is the
 * last object before the table of places, so only the place of that table moves. False: the file looks otherwise, and
 * stays as it is. */
static bool set_language(GByteArray *out, const char *lang)
{
	static const char head[] = "/Type /Catalog", start[] = "startxref\n", xref[] = "xref\n";
	char *more, *tail;
	long at = last_of(out, out->len, start), catalogue, object;
	size_t place;

	if (at < 0)
		return false;
	g_byte_array_append(out, (const guint8 *)"", 1); /* so that the number ends, however the file does */
	place = strtoul((const char *)out->data + at + strlen(start), NULL, 10);
	g_byte_array_set_size(out, out->len - 1);
	if (place == 0 || place >= (size_t)at || memcmp(out->data + place, xref, strlen(xref)) != 0)
		return false;
	catalogue = last_of(out, place, head);
	object = last_of(out, place, " 0 obj");
	if (catalogue < 0 || object > catalogue)
		return false;
	more = g_strdup_printf("\n   /Lang (%s)\n   /ViewerPreferences << /DisplayDocTitle true >>", lang);
	tail = g_strdup_printf("%zu\n%%%%EOF\n", place + strlen(more));
	g_byte_array_set_size(out, (guint)((size_t)at + strlen(start)));
	g_byte_array_append(out, (const guint8 *)tail, (guint)strlen(tail));
	g_byte_array_append(out, (const guint8 *)more, (guint)strlen(more)); /* room for it */
	catalogue += (long)strlen(head);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): bytes, not text */
	memmove(out->data + catalogue + strlen(more), out->data + catalogue,
		out->len - (size_t)catalogue - strlen(more));
	memcpy(out->data + catalogue, more, strlen(more));
	g_free(more);
	g_free(tail);
	return true;
}

/* The reader's list of contents. */
static void add_outline(cairo_surface_t *surface, const struct pages *p)
{
	for (guint n = 0; n < p->chapters->len; n++) {
		const struct chapter *c = &g_array_index(p->chapters, struct chapter, n);
		char *place = g_strdup_printf("page=%u pos=[%d %d]", c->page + 1, (int)PAGE_LEFT, (int)c->y);

		cairo_pdf_surface_add_outline(
			surface, CAIRO_PDF_OUTLINE_ROOT, c->title, place, (cairo_pdf_outline_flags_t)0);
		g_free(place);
	}
}

GByteArray *pdf_make(const struct pages *p, const struct pdf_about *about, const char **reason)
{
	GByteArray *out = g_byte_array_sized_new(65536);
	cairo_surface_t *surface = cairo_pdf_surface_create_for_stream(collect, out, PAGE_WIDTH, PAGE_HEIGHT);
	cairo_t *cr = cairo_create(surface);
	cairo_status_t status;

	/* a later version has no plain table of places, which the language needs */
	cairo_pdf_surface_restrict_to_version(surface, CAIRO_PDF_VERSION_1_4);
	cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_TITLE, about->title);
	cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_AUTHOR, about->author);
	cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_SUBJECT, about->subject);
	cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_CREATOR, "pgmqd");
	cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_CREATE_DATE, about->created);
	for (unsigned n = 0; n < pages_count(p); n++) {
		pages_draw(p, n, cr);
		cairo_show_page(cr);
	}
	add_outline(surface, p);
	status = cairo_status(cr);
	cairo_destroy(cr);
	cairo_surface_finish(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	if (status != CAIRO_STATUS_SUCCESS) {
		*reason = cairo_status_to_string(status);
		g_byte_array_unref(out);
		return NULL;
	}
	if (!set_language(out, about->lang))
		*reason = "the PDF file has no language: this version of cairo writes it in an unknown form";
	return out;
}
