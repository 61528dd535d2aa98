/* hash.c: FNV-1a over 64 bits: tells contents apart, and keeps no secret. */
#include "config.h"

#include "base/hash.h"

uint64_t hash_add(uint64_t hash, const void *bytes, size_t len)
{
	const unsigned char *p = bytes;

	while (len--)
		hash = (hash ^ *p++) * UINT64_C(0x100000001b3);
	return hash;
}
