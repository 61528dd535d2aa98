/* fetch.h: attachments whose content is elsewhere: fetched one after the other before the mail is made. */
#ifndef EMAIL_FETCH_H
#define EMAIL_FETCH_H

struct fetch;
struct sending;

/* Fetches what the message's attachments lack, then calls `done`: at once when nothing is missing. What cannot be
 * fetched ends the sending instead. */
void fetch_begin(struct sending *s, void (*done)(struct sending *s));
void fetch_free(struct fetch *f);

#endif
