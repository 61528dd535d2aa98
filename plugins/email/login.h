/* login.h: which of SASL's mechanisms the pool logs in by, and the OAuth token, if it takes one. */
#ifndef EMAIL_LOGIN_H
#define EMAIL_LOGIN_H

#include "conn.h"

struct token;

/* Of one pool. All zero to begin with, but for the settings and the token. */
struct login {
	const struct smtp_settings *settings;
	struct token *token; /* NULL: there is a password */
	unsigned step;       /* of those in login.c */
	unsigned tried;      /* bits of those that were refused */
	bool refused;        /* the token was: the next one must be a new one */
};

/* How to log in now; NULL: not at all. */
const struct conn_login *login_now(struct login *l);
/* The login has failed on this connection. Whether there is another one to be tried at once. */
bool login_next(struct login *l, const struct conn *c);
/* It has worked, and is what the next connection begins with; or there is nothing left, and it all begins anew. */
void login_settled(struct login *l);

#endif
