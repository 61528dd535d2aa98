/* money.c: amounts of money as whole numbers of the smallest unit (kopecks, cents); a double is never involved. */
#include "config.h"

#include "money.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIGITS_MAX 15

/* How many decimal places a currency has (ISO 4217): two, but for these. */
static unsigned money_places(const char *currency)
{
	static const char *const none[] = { "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX",
		"VND", "VUV", "XAF", "XOF", "XPF" };
	static const char *const three[] = { "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND" };

	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
		if (strcmp(currency, none[i]) == 0)
			return 0;
	for (size_t i = 0; i < sizeof(three) / sizeof(*three); i++)
		if (strcmp(currency, three[i]) == 0)
			return 3;
	return 2;
}

bool money_is_currency(const char *code)
{
	return code && strlen(code) == 3 && strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3;
}

bool money_parse(const char *text, const char *currency, int64_t *minor)
{
	unsigned places = money_places(currency), seen = 0, digits = 0;
	bool point = false;
	int64_t value = 0;

	if (!text || !money_is_currency(currency))
		return false;
	for (const char *p = text; *p; p++) {
		if (*p == '.' && !point && p > text && p[1]) {
			point = true;
			continue;
		}
		if (*p < '0' || *p > '9')
			return false;
		if (point && seen == places) {
			if (*p != '0')
				return false; /* part of a kopeck */
			continue;
		}
		if (++digits > DIGITS_MAX)
			return false;
		value = value * 10 + (*p - '0');
		seen += point;
	}
	if (!digits)
		return false;
	for (; seen < places; seen++)
		value *= 10;
	*minor = value;
	return true;
}

const char *money_print(int64_t minor, const char *currency, char *buf, size_t size)
{
	unsigned places = money_places(currency);
	int64_t unit = places == 0 ? 1 : places == 3 ? 1000 : 100;

	if (places == 0)
		snprintf(buf, size, "%" PRId64, minor);
	else
		snprintf(buf, size, "%" PRId64 ".%0*" PRId64, minor / unit, (int)places, minor % unit);
	return buf;
}
