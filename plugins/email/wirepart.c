/* wirepart.c: a GMime part that is encoded while it is written, in large pieces.
 *
 * GMime's own part sends its content through a chain of filters, made for each mail, which look at every byte twice
 * more to make line ends. Here GMime's encoder works straight on the content, and its line ends are made of whole
 * lines. */
#include "config.h"

#include "wirepart.h"

#include <string.h>

#define PIECE 4096 /* stays in the processor's first cache, with what comes of it */

struct wirepart {
	GMimePart parent;
	const unsigned char *content;
	size_t len;
	void *own;
};

static GType wirepart_type;
static GObjectClass *parent_class;

/* Writes what the encoder has made, with CRLF for its LF; `wire` has room for twice as much. */
static gssize write_lines(GMimeStream *stream, const char *data, size_t len, char *wire)
{
	const char *end = data + len;
	char *p = wire;

	while (data < end) {
		const char *lf = memchr(data, '\n', (size_t)(end - data));
		size_t run = (size_t)((lf != NULL ? lf : end) - data);

		memcpy(p, data, run);
		p += run;
		data += run;
		if (lf != NULL) {
			*p++ = '\r';
			*p++ = '\n';
			data++;
		}
	}
	return g_mime_stream_write(stream, wire, (size_t)(p - wire));
}

/* Writes the content, encoded. */
static gssize write_content(const struct wirepart *part, GMimeStream *stream)
{
	GMimeEncoding encoding;
	const char *in = (const char *)part->content;
	size_t left = part->len, room, piece, n;
	gssize total = 0, written = 0;
	char *out, *wire;

	g_mime_encoding_init_encode(&encoding, g_mime_part_get_content_encoding((GMimePart *)part));
	room = g_mime_encoding_outlen(&encoding, MIN(left, PIECE));
	out = g_malloc(room);
	wire = g_malloc(room * 2);
	do {
		piece = MIN(left, PIECE);
		left -= piece;
		n = left > 0 ? g_mime_encoding_step(&encoding, in, piece, out)
		             : g_mime_encoding_flush(&encoding, in, piece, out);
		in += piece;
		written = write_lines(stream, out, n, wire);
		total += written;
	} while (left > 0 && written >= 0);
	g_free(out);
	g_free(wire);
	return written < 0 ? -1 : total;
}

/* GMime's call for the part's bytes; the newline of its options is CRLF. */
static gssize wirepart_write(
	GMimeObject *object, GMimeFormatOptions *options, gboolean content_only, GMimeStream *stream)
{
	gssize head = 0, blank = 0, content;

	if (!content_only) {
		head = g_mime_header_list_write_to_stream(g_mime_object_get_header_list(object), options, stream);
		blank = g_mime_stream_write(stream, "\r\n", 2);
	}
	content = write_content((struct wirepart *)object, stream);
	return head < 0 || blank < 0 || content < 0 ? -1 : head + blank + content;
}

/* The part goes. */
static void wirepart_finalize(GObject *object)
{
	wirepart_empty(GMIME_OBJECT(object));
	parent_class->finalize(object);
}

/* What differs from GMime's part. */
static void wirepart_class_init(gpointer class, gpointer data)
{
	(void)data;
	parent_class = g_type_class_peek_parent(class);
	G_OBJECT_CLASS(class)->finalize = wirepart_finalize;
	GMIME_OBJECT_CLASS(class)->write_to_stream = wirepart_write;
}

void wirepart_start(void)
{
	if (wirepart_type == 0)
		wirepart_type = g_type_register_static_simple(GMIME_TYPE_PART, "PgmqdWirepart", sizeof(GMimePartClass),
			wirepart_class_init, sizeof(struct wirepart), NULL, 0);
}

GMimeObject *wirepart_new(GMimeContentType *type)
{
	GMimeObject *object = g_object_new(wirepart_type, NULL);

	g_mime_object_set_content_type(object, type);
	return object;
}

void wirepart_fill(GMimeObject *object, GMimeContentEncoding encoding, const void *content, size_t len, void *own)
{
	struct wirepart *part = (struct wirepart *)object;

	wirepart_empty(object);
	part->content = content;
	part->len = len;
	part->own = own;
	if (g_mime_part_get_content_encoding(&part->parent) != encoding)
		g_mime_part_set_content_encoding(&part->parent, encoding);
}

void wirepart_empty(GMimeObject *object)
{
	struct wirepart *part = (struct wirepart *)object;

	g_free(part->own);
	part->own = NULL;
	part->content = NULL;
	part->len = 0;
}
