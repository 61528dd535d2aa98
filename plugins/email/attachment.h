/* attachment.h: what is attached to a mail: files, images inside the HTML, invitations. */
#ifndef EMAIL_ATTACHMENT_H
#define EMAIL_ATTACHMENT_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;

struct email_attachment {
	char *filename;         /* cleaned: no folders, no controls */
	char *content_type;     /* type/subtype */
	char *charset, *method; /* its parameters; NULL: none. With a method it is an invitation. */
	char *cid;              /* an image that the HTML shows by cid:...; NULL: a file */
	char *url, *path; /* where the content still has to come from, else NULL: the web, or BUCKET/FILE of Storage */
	unsigned char *content; /* NULL until it has come */
	size_t len;
};

/* Reads one; *room is what contents may still take. NULL, or what is wrong (g_malloc'd). */
char *attachment_take(const struct cJSON *item, size_t *room, struct email_attachment *a);
/* The content has come, with its type ("", or as a server says it). */
void attachment_fill(struct email_attachment *a, const void *content, size_t len, const char *type);
/* Type and parameters, as a header has them; g_malloc'd. */
char *attachment_type(const struct email_attachment *a);
void attachment_clear(struct email_attachment *a);

#endif
