/* hash.h: FNV-1a over 64 bits: tells contents apart, and keeps no secret. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

uint64_t hash_add(uint64_t hash, const void *bytes, size_t len); /* begin with HASH_START */

#endif
