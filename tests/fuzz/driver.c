/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without libFuzzer: over every file of a corpus, then over seeded mutations of
 * them.  What it finds is found again by anybody: run number i of seed s is always the same input.
 *
 *     NAME_fuzz CORPUS [RUNS [SEED [ONLY]]]    ONLY: do run number ONLY alone
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fuzz.h"
#include "port/sim.h"

#define FILES_MAX 4096
#define INPUT_MAX 4096u
#define CHANGES_MAX 8u

/** Sanitizers die without a signal; they say so here, if they are there. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

struct input {
    uint8_t *data;
    size_t len;
};

static struct input corpus[FILES_MAX];
static unsigned corpus_count;
static char said[160]; /* what to print when the target dies */

static void say(void)
{
    (void)!write(STDERR_FILENO, said, strlen(said));
}

static void on_signal(int number)
{
    say();
    signal(number, SIG_DFL);
    raise(number);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/** Sorted by name: the order is part of what a seed means. */
static bool load(const char *dir)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, NULL, by_name);

    if (n < 0) {
        fprintf(stderr, "%s: %s\n", dir, strerror(errno));
        return false;
    }
    for (int i = 0; i < n; i++) {
        char path[4096];
        uint8_t buf[INPUT_MAX];
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && corpus_count < FILES_MAX &&
            (file = fopen(path, "rb"))) {
            struct input *in = &corpus[corpus_count++];

            in->len = fread(buf, 1, sizeof(buf), file);
            in->data = malloc(in->len + 1);
            if (!in->data)
                abort();
            memcpy(in->data, buf, in->len);
            fclose(file);
        }
        free(entries[i]);
    }
    free(entries);
    if (!corpus_count)
        fprintf(stderr, "%s: no input\n", dir);
    return corpus_count > 0;
}

/** The input at the very end of an allocation, so that one byte too many is seen. */
static void run_target(const uint8_t *data, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);

    if (!exact)
        abort();
    memcpy(exact, data, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static size_t change(struct sim_rng *rng, uint8_t *data, size_t len)
{
    static const uint8_t telling[] = {0,    1,    2,    3,    4,    5,    8,
                                      10,   0x0F, 0x10, 0x3F, 0x40, 0x45, 0x50,
                                      0x60, 0x7F, 0x80, 0x81, 0xF0, 0xFE, 0xFF};
    const size_t at = len ? sim_rng_below(rng, len) : 0;
    const struct input *other = &corpus[sim_rng_below(rng, corpus_count)];
    size_t n;

    switch (sim_rng_below(rng, 8)) {
    case 0: /* one bit */
        if (len)
            data[at] ^= (uint8_t)(1u << sim_rng_below(rng, 8));
        return len;
    case 1: /* one byte */
        if (len)
            data[at] = (uint8_t)sim_rng_next(rng);
        return len;
    case 2: /* one byte that often means something */
        if (len)
            data[at] = telling[sim_rng_below(rng, sizeof(telling))];
        return len;
    case 3: /* a little more or less */
        if (len)
            data[at] = (uint8_t)(data[at] + sim_rng_below(rng, 9) - 4);
        return len;
    case 4: /* cut off */
        return at;
    case 5: /* taken out */
        n = len ? sim_rng_below(rng, len - at) + 1 : 0;
        if (n > 16)
            n = 16;
        if (n > len - at)
            n = len - at;
        memmove(data + at, data + at + n, len - at - n);
        return len - n;
    case 6: /* put in */
        n = sim_rng_below(rng, 16) + 1;
        if (len + n > INPUT_MAX)
            return len;
        memmove(data + at + n, data + at, len - at);
        for (size_t i = 0; i < n; i++)
            data[at + i] = (uint8_t)sim_rng_next(rng);
        return len + n;
    default: /* the end of another */
        if (at >= other->len)
            return len;
        memcpy(data + at, other->data + at, other->len - at);
        return other->len;
    }
}

int main(int argc, char **argv)
{
    const uint64_t runs = argc > 2 ? strtoull(argv[2], NULL, 0) : 100000;
    const uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    const uint64_t only = argc > 4 ? strtoull(argv[4], NULL, 0) : UINT64_MAX;
    static const int deadly[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

    if (argc < 2) {
        fprintf(stderr, "usage: %s CORPUS [RUNS [SEED [ONLY]]]\n", argv[0]);
        return 2;
    }
    if (!load(argv[1]))
        return 1;
    for (unsigned i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        signal(deadly[i], on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(say);

    for (unsigned i = 0; i < corpus_count && only == UINT64_MAX; i++) {
        snprintf(said, sizeof(said), "died on file %u of the corpus, in order of name\n", i);
        run_target(corpus[i].data, corpus[i].len);
    }
    for (uint64_t i = only == UINT64_MAX ? 0 : only; i < runs; i++) {
        uint8_t data[INPUT_MAX];
        const struct input *in;
        struct sim_rng rng;
        uint64_t changes;
        size_t len;

        sim_rng_seed(&rng, seed ^ i * UINT64_C(0x9E3779B97F4A7C15));
        in = &corpus[sim_rng_below(&rng, corpus_count)];
        memcpy(data, in->data, in->len);
        len = in->len;
        for (changes = sim_rng_below(&rng, CHANGES_MAX) + 1; changes; changes--)
            len = change(&rng, data, len);
        snprintf(said, sizeof(said),
                 "died in run %llu of seed %llu; again: CORPUS %llu %llu %llu\n",
                 (unsigned long long)i, (unsigned long long)seed, (unsigned long long)i + 1,
                 (unsigned long long)seed, (unsigned long long)i);
        run_target(data, len);
        if (i == only)
            break;
    }
    printf("%u files, %llu mutations of seed %llu\n", corpus_count, (unsigned long long)runs,
           (unsigned long long)seed);
    while (corpus_count)
        free(corpus[--corpus_count].data);
    return 0;
}
