/* SPDX-License-Identifier: Apache-2.0 */
#include "shrink.h"

#include <stdlib.h>
#include <string.h>

#define RUNS_LIMIT 2000 /* variants tried */

static const char *const impairments[] = {"loss",   "burst", "duplicate", "corrupt", "reorder",
                                          "jitter", "rate",  "queue",     "mark",    "poll"};
#define IMPAIRMENTS (sizeof(impairments) / sizeof(impairments[0]))

static void take_away(struct scenario *s, unsigned impairment)
{
    for (int d = 0; d < 2; d++) {
        struct sim_impair *impair = &s->impair[d];

        switch (impairment) {
        case 0:
            impair->loss_ppm = 0;
            break;
        case 1:
            impair->burst_ppm = 0;
            break;
        case 2:
            impair->dup_ppm = 0;
            break;
        case 3:
            impair->corrupt_ppm = 0;
            break;
        case 4:
            impair->reorder_ppm = 0;
            break;
        case 5:
            impair->jitter_ns = 0;
            break;
        case 6:
            impair->rate_bps = 0;
            break;
        case 7:
            impair->queue_frames = 0;
            break;
        case 8:
            impair->mark_frames = 0;
            break;
        default:
            s->poll_delay = 0;
            break;
        }
    }
}

static bool listed(unsigned number, const char *list)
{
    while (*list) {
        char *end;

        if (strtoul(list, &end, 10) == number && end != list)
            return true;
        if (*end != ',')
            return false;
        list = end + 1;
    }
    return false;
}

static const char *restrict_events(struct scenario *s, const char *list)
{
    unsigned kept = 0;

    if (!strcmp(list, "none")) {
        s->events = 0;
        return NULL;
    }
    if (strspn(list, "0123456789,") != strlen(list))
        return list;
    for (unsigned i = 0; i < s->events; i++)
        if (listed(s->event[i].number, list))
            s->event[kept++] = s->event[i];
    s->events = kept;
    return NULL;
}

const char *shrink_restrict(struct scenario *s, const char *events, const char *without)
{
    const char *bad = events ? restrict_events(s, events) : NULL;

    while (!bad && without && *without) {
        size_t len = strcspn(without, ",");
        unsigned i = 0;

        while (i < IMPAIRMENTS &&
               (strlen(impairments[i]) != len || strncmp(impairments[i], without, len) != 0))
            i++;
        if (i == IMPAIRMENTS)
            return without;
        take_away(s, i);
        without += len + (without[len] == ',');
    }
    return bad;
}

/* Two failures are the same if the same rule or the same kind of complaint was the first. */
static bool same_failure(const struct world_result *a, const struct world_result *b)
{
    size_t len = strcspn(a->message, ":");

    return a->failed && b->failed && a->rule == b->rule &&
           strncmp(a->message, b->message, len + 1) == 0;
}

static bool still_fails(const struct scenario *s, const struct world_result *wanted, int *runs)
{
    struct world_result result;

    if (*runs <= 0)
        return false;
    (*runs)--;
    world_run(s, NULL, &result);
    return same_failure(wanted, &result);
}

/* Takes runs of events away, long ones first. */
static void shrink_events(struct scenario *s, const struct world_result *wanted, int *runs)
{
    static struct scenario smaller;

    for (unsigned size = s->events; size; size /= 2)
        for (unsigned from = 0; from < s->events;) {
            unsigned count = s->events - from < size ? s->events - from : size;

            smaller = *s;
            memmove(smaller.event + from, smaller.event + from + count,
                    (s->events - from - count) * sizeof(smaller.event[0]));
            smaller.events -= count;
            if (still_fails(&smaller, wanted, runs))
                *s = smaller;
            else
                from += count;
        }
}

void shrink_failure(struct scenario *s, const struct world_result *result,
                    char recipe[SHRINK_RECIPE])
{
    static struct scenario smaller;
    bool taken[IMPAIRMENTS] = {false};
    int runs = RUNS_LIMIT;
    size_t at = 0;
    const char *comma = "";

    shrink_events(s, result, &runs);
    for (unsigned i = 0; i < IMPAIRMENTS; i++) {
        smaller = *s;
        take_away(&smaller, i);
        if (still_fails(&smaller, result, &runs)) {
            *s = smaller;
            taken[i] = true;
        }
    }
    shrink_events(s, result, &runs);

    at += (size_t)snprintf(recipe + at, SHRINK_RECIPE - at, " --events ");
    for (unsigned i = 0; i < s->events && at + 8 < SHRINK_RECIPE; i++)
        at += (size_t)snprintf(recipe + at, SHRINK_RECIPE - at, "%s%u", i ? "," : "",
                               s->event[i].number);
    if (!s->events)
        at += (size_t)snprintf(recipe + at, SHRINK_RECIPE - at, "none");
    for (unsigned i = 0; i < IMPAIRMENTS && at + 32 < SHRINK_RECIPE; i++)
        if (taken[i]) {
            at += (size_t)snprintf(recipe + at, SHRINK_RECIPE - at, "%s%s",
                                   *comma ? comma : " --without ", impairments[i]);
            comma = ",";
        }
}
