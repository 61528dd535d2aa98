/* wirepart.c: a GMime part that is encoded while it is written, in large pieces.
 *
 * GMime's own part sends its content through a chain of filters, made for each mail, which look at every byte twice
 * more to make line ends. Here GMime's encoder works straight on the content, and its line ends are made of whole
 * lines. */
#include "config.h"

#include "wirepart.h"

#include <stdbool.h>
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

#define QP_LINE 76
#define QP_ROOM 8192

/* Whether a byte goes into quoted-printable as it is; a blank does only inside a line. */
static bool qp_plain(const unsigned char *p, const unsigned char *end)
{
	if (*p == ' ' || *p == '\t')
		return p + 1 < end && p[1] != '\r';
	return *p > 0x20 && *p < 0x7f && *p != '=';
}

/* Writes a text in quoted-printable; its lines end with CRLF already. GMime's encoder makes lines of 78 characters
 * where one ends with a blank. */
static gssize write_quoted(const struct wirepart *part, GMimeStream *stream)
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *p = part->content, *end = p + part->len;
	char out[QP_ROOM], *o = out;
	size_t column = 0;
	gssize total = 0;

	while (p < end) {
		bool line_end = p[0] == '\r' && p + 1 < end && p[1] == '\n', plain = qp_plain(p, end);
		size_t n = plain ? 1 : 3;
		/* The last place of a line is for the soft break, unless the line ends by itself. */
		bool last = p + 2 < end && p[1] == '\r' && p[2] == '\n';

		if (!line_end && column + n > QP_LINE - (last ? 0 : 1)) {
			memcpy(o, "=\r\n", 3);
			o += 3;
			column = 0;
		}
		if (line_end) {
			*o++ = *p++;
			*o++ = *p++;
			column = 0;
		} else if (plain) {
			*o++ = (char)*p++;
			column++;
		} else {
			*o++ = '=';
			*o++ = hex[*p >> 4];
			*o++ = hex[*p++ & 15];
			column += 3;
		}
		if ((size_t)(o - out) > QP_ROOM - 16 || p == end) {
			if (g_mime_stream_write(stream, out, (size_t)(o - out)) < 0)
				return -1;
			total += o - out;
			o = out;
		}
	}
	return total;
}

/* Writes the content, encoded. */
static gssize write_content(const struct wirepart *part, GMimeStream *stream)
{
	GMimeEncoding encoding;
	const char *in = (const char *)part->content;
	size_t left = part->len, room, piece, n;
	gssize total = 0, written = 0;
	char *out, *wire;

	if (g_mime_part_get_content_encoding((GMimePart *)part) == GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE)
		return write_quoted(part, stream);
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

/* The differences from GMime's part. */
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
