/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <stdarg.h>
#include <string.h>

void trace_event(struct trace *trace, unsigned kind, uint64_t now, uint64_t a, uint64_t b)
{
    trace->events++;
    trace_mix(trace, kind);
    trace_mix(trace, now);
    trace_mix(trace, a);
    trace_mix(trace, b);
}

void trace_bytes(struct trace *trace, unsigned kind, uint64_t now, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    trace_event(trace, kind, now, len, 0);
    while (len) {
        uint64_t word = 0;
        size_t step = len < sizeof(word) ? len : sizeof(word);

        memcpy(&word, bytes, step);
        trace_mix(trace, word);
        bytes += step;
        len -= step;
    }
}

void trace_line(struct trace *trace, uint64_t now, const char *format, ...)
{
    va_list args;

    if (!trace->log)
        return;
    fprintf(trace->log, "%6llu.%09llu  ", (unsigned long long)(now / 1000000000u),
            (unsigned long long)(now % 1000000000u));
    va_start(args, format);
    vfprintf(trace->log, format, args);
    va_end(args);
    fputc('\n', trace->log);
}
