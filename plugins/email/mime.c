/* mime.c: makes a mail out of its texts by GMime; headers with free text come from header.c. */
#include "config.h"

#include "mime.h"

#include "header.h"
#include "wirepart.h"

#include <gmime/gmime.h>
#include <stdbool.h>
#include <string.h>

#define ESCAPED_PIECE 48U /* characters of an escaped file name on a line */

/* The parts that are the same in every mail. */
static GMimeContentType *plain_type, *html_type;
static GMimeObject *plain_part, *html_part; /* of a mail that has both; only their contents change */
static GMimeFormatOptions *format;

void mime_start(void)
{
	g_mime_init();
	wirepart_start();
	plain_type = g_mime_content_type_new("text", "plain");
	html_type = g_mime_content_type_new("text", "html");
	g_mime_content_type_set_parameter(plain_type, "charset", "utf-8");
	g_mime_content_type_set_parameter(html_type, "charset", "utf-8");
	plain_part = wirepart_new(plain_type);
	html_part = wirepart_new(html_type);
	format = g_mime_format_options_new();
	g_mime_format_options_set_newline_format(format, GMIME_NEWLINE_FORMAT_DOS);
}

void mime_stop(void)
{
	g_object_unref(plain_part);
	g_object_unref(html_part);
	g_object_unref(plain_type);
	g_object_unref(html_type);
	g_mime_format_options_free(format);
	g_mime_shutdown();
}

char *mime_digest(const char *const *parts, size_t n)
{
	GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
	char *hex;

	for (size_t i = 0; i < n; i++) {
		const char *part = parts[i] != NULL ? parts[i] : "";
		char *len = g_strdup_printf("%zu:", strlen(part));

		g_checksum_update(sum, (const guchar *)len, -1);
		g_checksum_update(sum, (const guchar *)part, -1);
		g_free(len);
	}
	hex = g_strdup(g_checksum_get_string(sum));
	g_checksum_free(sum);
	return hex;
}

/* How many bytes have eight bits. */
static size_t count_high(const char *data, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t word;
	size_t n = 0;

	for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		/* The product's highest byte is the sum of all eight. */
		n += (size_t)(((word >> 7 & ones) * ones) >> 56);
	}
	for (; len > 0; data++, len--)
		n += (unsigned char)*data >> 7;
	return n;
}

/* The text with every line end made CRLF, the last line's too: what base64 carries must be in that form already (RFC
 * 2045 6.8), and a mail cannot end in the middle of a line. */
static char *canonical_text(const char *text, size_t *len)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a part that is made has a text */
	const char *end = text + strlen(text);
	char *out = g_malloc((size_t)(end - text) * 2 + 2), *p = out;

	while (text < end) {
		const char *lf = memchr(text, '\n', (size_t)(end - text)), *stop = lf != NULL ? lf : end;
		const char *cr = memchr(text, '\r', (size_t)(stop - text));
		size_t run = (size_t)((cr != NULL ? cr : stop) - text);

		memcpy(p, text, run);
		p += run;
		*p++ = '\r';
		*p++ = '\n';
		text += run;
		if (text < end)
			text += text[0] == '\r' && text[1] == '\n' ? 2 : 1;
	}
	*len = (size_t)(p - out);
	return out;
}

/* Base64 when more than a quarter of the text is not ASCII (Russian), else quoted-printable, which stays readable.
 * Never plain 7bit: "=_", which boundaries begin with, then cannot occur in a body. */
static GMimeContentEncoding text_encoding(const char *text, size_t len)
{
	return count_high(text, len) * 4 > len ? GMIME_CONTENT_ENCODING_BASE64 : GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE;
}

/* Fills a part with a text; returns it. */
static GMimeObject *with_text(GMimeObject *part, const char *text)
{
	size_t len;
	char *bytes = canonical_text(text, &len);

	wirepart_fill(part, text_encoding(bytes, len), bytes, len, bytes);
	return part;
}

/* The name once more for readers that do not know RFC 2231: ASCII, or one encoded word, or something like it. */
static char *simple_name(const char *filename)
{
	const char *dot = strrchr(filename, '.');
	char *word;

	/* what looks like an encoded word would be decoded */
	if (g_str_is_ascii(filename) && strlen(filename) <= 60 && strstr(filename, "=?") == NULL)
		return g_strdup(filename);
	if ((word = header_word(filename)) != NULL)
		return word;
	return g_strconcat("attachment", dot != NULL && g_str_is_ascii(dot) && strlen(dot) <= 16 ? dot : "", NULL);
}

bool mime_is_inline(const struct mime_mail *mail, const struct email_attachment *a)
{
	return a->cid != NULL && mail->html != NULL && a->method == NULL;
}

/* The type of an attachment; `name`: what it is called, for readers that look there. */
static GMimeContentType *type_of(const struct email_attachment *a, const char *name)
{
	char *type = g_strndup(a->content_type, strcspn(a->content_type, "/"));
	GMimeContentType *content_type = g_mime_content_type_new(type, strchr(a->content_type, '/') + 1);

	if (a->method != NULL)
		g_mime_content_type_set_parameter(content_type, "method", a->method);
	if (a->charset != NULL || a->method != NULL)
		g_mime_content_type_set_parameter(content_type, "charset", a->charset != NULL ? a->charset : "utf-8");
	if (name != NULL)
		g_mime_content_type_set_parameter(content_type, "name", name);
	g_free(type);
	return content_type;
}

/* An invitation: mail programs show its buttons only when it is one of the mail's alternatives. */
static GMimeObject *invitation_part(const struct email_attachment *a)
{
	GMimeContentType *content_type = type_of(a, NULL);
	GMimeObject *object = wirepart_new(content_type);

	wirepart_fill(object, GMIME_CONTENT_ENCODING_BASE64, a->content, a->len, NULL);
	g_object_unref(content_type);
	return object;
}

/* Sets an ASCII name that looks like an encoded word: readers would decode it, so it is escaped, in pieces that GMime,
 * which leaves ASCII as it is, does not fold. */
static void escape_filename(GMimeObject *object, const char *filename)
{
	char *text = g_strconcat("UTF-8''", filename, NULL), *escaped = g_uri_escape_string(text, "'", FALSE);
	size_t n;
	unsigned k = 0;

	for (const char *p = escaped; *p != '\0'; p += n) {
		char *key = g_strdup_printf("filename*%u*", k++), *piece;

		n = MIN(strlen(p), ESCAPED_PIECE);
		while (p[n] != '\0' && (p[n - 1] == '%' || p[n - 2] == '%'))
			n--;
		piece = g_strndup(p, n);
		g_mime_object_set_content_disposition_parameter(object, key, piece);
		g_free(piece);
		g_free(key);
	}
	g_free(escaped);
	g_free(text);
}

/* Sets an attachment's name, by RFC 2231. */
static void set_filename(GMimeObject *object, const char *filename)
{
	GMimeParam *param;

	if (g_str_is_ascii(filename) && strstr(filename, "=?") != NULL) {
		escape_filename(object, filename);
		return;
	}
	g_mime_object_set_content_disposition_parameter(object, "filename", filename);
	param = g_mime_param_list_get_parameter(
		g_mime_content_disposition_get_parameters(g_mime_object_get_content_disposition(object)), "filename");
	/* GMime would look for an 8-bit charset that fits. */
	g_mime_param_set_charset(param, "utf-8");
	g_mime_param_set_encoding_method(param, GMIME_PARAM_ENCODING_METHOD_RFC2231);
}

/* An attachment, its name by RFC 2231 and in the old way too. */
static GMimeObject *attachment_part(const struct email_attachment *a, bool is_inline)
{
	char *name = simple_name(a->filename);
	GMimeContentType *content_type = type_of(a, name);
	GMimeObject *object = wirepart_new(content_type);

	wirepart_fill(object, GMIME_CONTENT_ENCODING_BASE64, a->content, a->len, NULL);
	g_mime_object_set_disposition(object, is_inline ? GMIME_DISPOSITION_INLINE : GMIME_DISPOSITION_ATTACHMENT);
	if (is_inline)
		g_mime_object_set_content_id(object, a->cid);
	set_filename(object, a->filename);
	g_object_unref(content_type);
	g_free(name);
	return object;
}

/* A multipart with a boundary that is the same next time. GMime's own way to make one reads /dev/urandom for another.
 */
static GMimeMultipart *multipart(const char *subtype, const char *seed)
{
	GMimeMultipart *m = g_object_new(GMIME_TYPE_MULTIPART, NULL);
	GMimeContentType *type = g_mime_content_type_new("multipart", subtype);
	char *boundary = g_strdup_printf("=_%.3s_%.40s", subtype, seed);

	g_mime_content_type_set_parameter(type, "boundary", boundary);
	g_mime_object_set_content_type(GMIME_OBJECT(m), type);
	g_object_unref(type);
	g_free(boundary);
	return m;
}

/* Adds `part` to `m`, which holds it from then on. */
static void multipart_take(GMimeMultipart *m, GMimeObject *part)
{
	g_mime_multipart_add(m, part);
	g_object_unref(part);
}

/* The HTML's part, which it takes, with the images that it shows. */
static GMimeObject *html_tree(const struct mime_mail *mail, GMimeObject *html)
{
	GMimeMultipart *related = NULL;

	for (size_t i = 0; i < mail->nattachments; i++) {
		if (!mime_is_inline(mail, &mail->attachments[i]))
			continue;
		if (related == NULL) {
			related = multipart("related", mail->seed);
			multipart_take(related, html);
		}
		multipart_take(related, attachment_part(&mail->attachments[i], true));
	}
	return related != NULL ? GMIME_OBJECT(related) : html;
}

/* The mail in its forms, from the plainest to the richest: text, HTML, invitation. */
static GMimeObject *forms(const struct mime_mail *mail)
{
	GMimeMultipart *alternative;
	size_t n = (mail->text != NULL) + (mail->html != NULL);

	for (size_t i = 0; i < mail->nattachments; i++)
		n += mail->attachments[i].method != NULL;
	/* Alone it becomes the root, which gets headers: not one of those that are used again. */
	if (n == 1)
		return mail->html != NULL ? html_tree(mail, with_text(wirepart_new(html_type), mail->html))
		                          : with_text(wirepart_new(plain_type), mail->text);
	alternative = multipart("alternative", mail->seed);
	if (mail->text != NULL)
		g_mime_multipart_add(alternative, with_text(plain_part, mail->text));
	if (mail->html != NULL)
		multipart_take(alternative, html_tree(mail, g_object_ref(with_text(html_part, mail->html))));
	for (size_t i = 0; i < mail->nattachments; i++)
		if (mail->attachments[i].method != NULL)
			multipart_take(alternative, invitation_part(&mail->attachments[i]));
	return GMIME_OBJECT(alternative);
}

/* The tree of parts. */
static GMimeObject *body(const struct mime_mail *mail)
{
	GMimeObject *texts = forms(mail);
	GMimeMultipart *mixed = NULL;

	for (size_t i = 0; i < mail->nattachments; i++) {
		const struct email_attachment *a = &mail->attachments[i];

		if (a->method != NULL || mime_is_inline(mail, a))
			continue;
		if (mixed == NULL) {
			mixed = multipart("mixed", mail->seed);
			multipart_take(mixed, texts);
		}
		multipart_take(mixed, attachment_part(a, false));
	}
	return mixed != NULL ? GMIME_OBJECT(mixed) : texts;
}

/* Puts a header before the others, with exactly `value`, which is freed; folded already, or short. */
static void prepend(GMimeObject *object, const char *name, char *value)
{
	GMimeHeaderList *list = g_mime_object_get_header_list(object);
	char *raw = g_strconcat(" ", value, "\n", NULL);

	g_mime_header_list_prepend(list, name, NULL, NULL);
	g_mime_header_set_raw_value(g_mime_header_list_get_header_at(list, 0), raw);
	g_free(raw);
	g_free(value);
}

/* The header with all recipients of a kind; none when there are none. */
static void set_recipients(GMimeObject *root, const char *name, const struct recipients *r, enum recipient_kind kind)
{
	GString *s = g_string_new(NULL);

	for (size_t i = 0; i < r->n; i++) {
		char *one;

		if (r->list[i].kind != kind)
			continue;
		one = header_mailbox(r->list[i].mailbox.name, r->list[i].mailbox.address, strlen(name));
		g_string_append_printf(s, "%s%s", s->len > 0 ? ",\n " : "", one);
		g_free(one);
	}
	if (s->len > 0)
		prepend(root, name, g_string_free(s, FALSE));
	else
		g_string_free(s, TRUE);
}

/* Makes a mail of the tree's root, which has its Content- headers: the others come before them, so the last one first.
 * GMime's message would take every address and date apart again. */
static void set_headers(GMimeObject *root, const struct mime_mail *mail)
{
	GDateTime *date = g_date_time_new_from_unix_utc(mail->date);

	prepend(root, "MIME-Version", g_strdup("1.0"));
	for (size_t i = mail->headers != NULL ? mail->headers->n : 0; i > 0; i--) {
		const struct pair *h = &mail->headers->list[i - 1];

		prepend(root, h->name,
			g_ascii_strncasecmp(h->name, "X-", 2) == 0 ? header_text(h->value, strlen(h->name))
								   : header_folded(h->value, strlen(h->name)));
	}
	for (size_t i = mail->nextra; i > 0; i--)
		prepend(root, mail->extra[i - 1].name, g_strdup(mail->extra[i - 1].value));
	prepend(root, "Message-ID", g_strdup_printf("<%s>", mail->message_id));
	prepend(root, "Date", g_mime_utils_header_format_date(date));
	prepend(root, "Subject", header_text(mail->subject, strlen("Subject")));
	set_recipients(root, "Cc", mail->rcpt, RECIPIENT_CC);
	set_recipients(root, "To", mail->rcpt, RECIPIENT_TO);
	if (mail->reply_to != NULL)
		prepend(root, "Reply-To", header_mailbox(mail->reply_name, mail->reply_to, strlen("Reply-To")));
	prepend(root, "From", header_mailbox(mail->from_name, mail->from, strlen("From")));
	g_date_time_unref(date);
}

/* Whether the bytes may go to any mail server as they are: seven bits, CRLF, lines of up to 998. */
static const char *check_wire(const char *data, size_t len)
{
	const char *end = data + len;

	if (memchr(data, '\0', len) != NULL || count_high(data, len) > 0)
		return "the mail would not be plain ASCII";
	while (data < end) {
		const char *lf = memchr(data, '\n', (size_t)(end - data));
		size_t line = (size_t)((lf != NULL ? lf : end) - data);

		if (lf != NULL && (line == 0 || data[--line] != '\r'))
			return "the mail would have a bare line break";
		if (memchr(data, '\r', line) != NULL)
			return "the mail would have a bare line break";
		if (line > 998)
			return "the mail would have a line of over 998 octets";
		data = lf != NULL ? lf + 1 : end;
	}
	return NULL;
}

/* Whether an ASCII value that becomes a header as it is holds nothing but printable characters. */
static int printable(const char *s, unsigned char lowest)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < lowest || (unsigned char)*s >= 0x7f)
			return 0;
	return 1;
}

/* About how long the mail will be, so that it need not be moved while it grows. */
static size_t size_guess(const struct mime_mail *mail)
{
	size_t n = 2048;

	if (mail->text != NULL)
		n += strlen(mail->text) * 2;
	if (mail->html != NULL)
		n += strlen(mail->html) * 2;
	for (size_t i = 0; i < mail->nattachments; i++)
		n += mail->attachments[i].len / 2 * 3 + 1024;
	return n;
}

char *mime_compose(const struct mime_mail *mail, size_t *len, const char **error)
{
	GMimeObject *root;
	GMimeStream *stream;
	GByteArray *bytes;

	/* These are written out as they are; the rest was checked where it came in. */
	*error = printable(mail->message_id, 0x21) ? NULL : "the Message-ID is not printable ASCII";
	for (size_t i = 0; i < mail->nextra; i++)
		if (!printable(mail->extra[i].value, 0x20))
			*error = "a header is not printable ASCII";
	if (*error != NULL)
		return NULL;
	root = body(mail);
	set_headers(root, mail);

	bytes = g_byte_array_sized_new((guint)MIN(size_guess(mail), G_MAXUINT / 4));
	stream = g_mime_stream_mem_new_with_byte_array(bytes);
	g_mime_stream_mem_set_owner(GMIME_STREAM_MEM(stream), FALSE);
	g_mime_object_write_to_stream(root, format, stream);
	g_object_unref(stream);
	g_object_unref(root);
	wirepart_empty(plain_part);
	wirepart_empty(html_part);

	if ((*error = check_wire((const char *)bytes->data, bytes->len)) != NULL) {
		g_byte_array_unref(bytes);
		return NULL;
	}
	*len = bytes->len;
	return (char *)g_byte_array_free(bytes, FALSE);
}
