/* money.h: amounts of money as whole numbers of the smallest unit (kopecks, cents); a double is never involved. */
#ifndef PAYMENT_MONEY_H
#define PAYMENT_MONEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads "1490.00", "1490" or "1490.5" in the currency's smallest unit. False: no such amount (signs, blanks, exponents,
 * more places than the currency has unless they are zeros, or more than 15 digits). */
bool money_parse(const char *text, const char *currency, int64_t *minor);
/* Writes it as the provider would: "1490.00". */
const char *money_print(int64_t minor, const char *currency, char *buf, size_t size);
/* Whether it is three capital letters. */
bool money_is_currency(const char *code);

#endif
