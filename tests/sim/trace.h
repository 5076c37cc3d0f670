/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace of a run: a hash over everything that happened, in order, and on request a readable
 * log. Two runs of one seed must end with the same hash; if they do not, something reads a clock,
 * an address or memory that was never written.
 */
#ifndef CHIMNEY_SIM_TRACE_H
#define CHIMNEY_SIM_TRACE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct trace {
    uint64_t hash;
    uint64_t events; /* things mixed into the hash */
    FILE *log;       /* NULL: no log */
};

static inline void trace_mix(struct trace *trace, uint64_t value)
{
    uint64_t h = trace->hash ^ value;

    h *= 0xFF51AFD7ED558CCDu;
    trace->hash = h ^ (h >> 32);
}

/** Mixes a kind of event, its time and @len bytes into the hash. */
void trace_bytes(struct trace *trace, unsigned kind, uint64_t now, const void *data, size_t len);
/** The same for up to two numbers. */
void trace_event(struct trace *trace, unsigned kind, uint64_t now, uint64_t a, uint64_t b);
/** One line of the log: virtual time, then the text. */
void trace_line(struct trace *trace, uint64_t now, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** True if anybody reads the log; saves the work of formatting. */
static inline int trace_wanted(const struct trace *trace)
{
    return trace->log != NULL;
}

#endif
