/* report.h: the figures of `pgmqd bench`, printed as text or JSON. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stddef.h>
#include <stdint.h>

struct bench;
struct bench_row;

void bench_add(struct bench_row *r, double value, int64_t messages);
void bench_print_latency(const struct bench *b, const char *what, const struct bench_row *rows, size_t n, size_t base);
void bench_print_rates(const struct bench *b, const char *what, const struct bench_row *rows, size_t n, size_t base);

#endif
