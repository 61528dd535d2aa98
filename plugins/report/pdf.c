/* pdf.c: pages to the bytes of a PDF file, by cairo, and the document's language, which cairo 1.16 cannot set. */
#include "config.h"

#include "pdf.h"

#include <cairo-pdf.h>
#include <stdlib.h>
#include <string.h>

/* Collects what cairo writes. */
static cairo_status_t collect(void *closure, const unsigned char *data, unsigned length)
{
	g_byte_array_append(closure, data, length);
	return CAIRO_STATUS_SUCCESS;
}

/* The last place of a word in the file's end, or NULL. */
static char *last_of(const GByteArray *out, const char *word)
{
	size_t tail = out->len > 4096 ? out->len - 4096 : 0;

	return g_strrstr_len((const char *)out->data + tail, (gssize)(out->len - tail), word);
}

/* Writes the language into the catalogue, and that readers show the title and not the file's name. The catalogue is the last object
 * before the table of places, so only the place of that table moves. A file that looks otherwise stays as it is. */
static void set_language(GByteArray *out, const char *lang)
{
	char *more = g_strdup_printf("\n   /Lang (%s)\n   /ViewerPreferences << /DisplayDocTitle true >>", lang), *end;
	char *catalogue = last_of(out, "/Type /Catalog"), *xref = last_of(out, "\nxref\n"), *start = last_of(out, "startxref\n");
	size_t at;
	unsigned long place;

	if (catalogue == NULL || xref == NULL || start == NULL || catalogue > xref ||
		g_strstr_len(catalogue, xref - catalogue, " 0 obj") != NULL ||
		(place = strtoul(start + strlen("startxref\n"), &end, 10)) != (unsigned long)(xref + 1 - (char *)out->data)) {
		g_free(more);
		return;
	}
	at = (size_t)(catalogue + strlen("/Type /Catalog") - (char *)out->data);
	g_byte_array_set_size(out, (guint)((size_t)(start - (char *)out->data) + strlen("startxref\n")));
	end = g_strdup_printf("%lu\n%%%%EOF\n", place + strlen(more));
	g_byte_array_append(out, (const guint8 *)end, (guint)strlen(end));
	g_free(end);
	g_byte_array_append(out, (const guint8 *)more, (guint)strlen(more)); /* room for it */
	memmove(out->data + at + strlen(more), out->data + at, out->len - at - strlen(more));
	memcpy(out->data + at, more, strlen(more));
	g_free(more);
}

/* The reader's list of contents. */
static void add_outline(cairo_surface_t *surface, const struct pages *p)
{
	for (guint n = 0; n < p->chapters->len; n++) {
		const struct chapter *c = &g_array_index(p->chapters, struct chapter, n);
		char *place = g_strdup_printf("page=%u pos=[%d %d]", c->page + 1, (int)PAGE_LEFT, (int)c->y);

		cairo_pdf_surface_add_outline(surface, CAIRO_PDF_OUTLINE_ROOT, c->title, place, (cairo_pdf_outline_flags_t)0);
		g_free(place);
	}
}

GByteArray *pdf_make(const struct pages *p, const struct pdf_about *about, const char **reason)
{
	GByteArray *out = g_byte_array_sized_new(65536);
	cairo_surface_t *surface = cairo_pdf_surface_create_for_stream(collect, out, PAGE_WIDTH, PAGE_HEIGHT);
	cairo_t *cr = cairo_create(surface);
	cairo_status_t status;

	cairo_pdf_surface_restrict_to_version(surface, CAIRO_PDF_VERSION_1_5);
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
	set_language(out, about->lang);
	return out;
}
