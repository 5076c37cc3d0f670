/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner of the simulator.  See README.md beside it.
 */
#include "mutant.h"
#include "shrink.h"
#include "world.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    uint64_t first, seeds;
    uint64_t slow;    /* seconds; 0: not asked */
    uint64_t minutes; /* 0: a number of seeds */
    bool one, verbose, twice, shrink, stats;
    enum mutant mutant;
    bool mutants;        /* run all of them */
    const char *events;  /* "3,17": only these; NULL: all */
    const char *without; /* "loss,jitter": impairments taken away */
};

struct totals {
    uint64_t worlds, failed, frames, bytes, moves, aborted, retransmits, virtual_ns;
    uint64_t moved_in[SIM_STATES], applied[RULE_COUNT];
};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void usage(FILE *out)
{
    fputs("usage: sim [--seeds N] [--first N]      run N worlds (default 200 from seed 1)\n"
          "       sim --minutes M [--first N]      run worlds for M minutes\n"
          "       sim --seed N [-v]                run one world; -v: print its scenario and log\n"
          "  --twice          run every world twice; the traces must be the same\n"
          "  --shrink         on failure look for a smaller scenario that still fails\n"
          "  --events A,B,C   only these events of the scenario (\"none\": no events)\n"
          "  --without X,Y    take impairments away: loss, burst, duplicate, corrupt, reorder,\n"
          "                   jitter, rate, queue, mark, poll\n"
          "  --mutant N|NAME  a broken stack: one that does what a certain mistake would do\n"
          "  --mutants        all of them; each must be noticed by its rule\n"
          "  --slow S         name worlds with a connection without progress for S seconds\n"
          "  --stats            how often each rule of the wire checker was applied\n",
          out);
}

/* Runs one world (twice if asked); true if nothing was wrong. */
static bool run_seed(uint64_t seed, const struct options *options, struct totals *totals)
{
    static struct scenario scenario;
    struct world_result result, again;
    const char *bad;

    scenario_draw(&scenario, seed);
    scenario.mutant = options->mutant;
    bad = shrink_restrict(&scenario, options->events, options->without);
    if (bad) {
        fprintf(stderr, "sim: unknown event or impairment in '%s'\n", bad);
        exit(2);
    }
    if (options->verbose)
        scenario_print(&scenario, stdout);
    world_run(&scenario, options->verbose ? stdout : NULL, &result);
    if (options->twice && !result.failed) {
        world_run(&scenario, NULL, &again);
        if (again.hash != result.hash) {
            result.failed = true;
            snprintf(result.message, sizeof(result.message),
                     "two runs differ: trace %016" PRIx64 " and %016" PRIx64, result.hash,
                     again.hash);
        }
    }
    totals->worlds++;
    if (options->slow && result.silence >= options->slow * 1000000000)
        printf("seed %" PRIu64 ": conn %u without progress for %.3f s until %.6f s\n", seed,
               result.silent_conn, (double)result.silence / 1e9, (double)result.silence_end / 1e9);
    totals->frames += result.frames;
    totals->bytes += result.bytes;
    totals->moves += result.moves;
    totals->aborted += result.aborted;
    totals->retransmits += result.retransmits;
    totals->virtual_ns += result.virtual_ns;
    for (int s = 0; s < SIM_STATES; s++)
        totals->moved_in[s] += result.moved_in[s];
    for (int r = 0; r < RULE_COUNT; r++)
        totals->applied[r] += result.applied[r];
    if (options->one)
        printf("seed %" PRIu64 ": %s, trace %016" PRIx64 ", %.3f s, %" PRIu64 " frames, %" PRIu64
               " bytes read, %" PRIu64 " moves\n",
               seed, result.failed ? "FAILED" : "ok", result.hash, (double)result.virtual_ns / 1e9,
               result.frames, result.bytes, result.moves);
    if (!result.failed)
        return true;
    totals->failed++;
    printf("seed %" PRIu64 " failed after %.6f s: %s\n", seed, (double)result.virtual_ns / 1e9,
           result.message);
    if (options->shrink) {
        char recipe[SHRINK_RECIPE];

        shrink_failure(&scenario, &result, recipe);
        printf("reproduce: sim --seed %" PRIu64 " -v%s\n", seed, recipe);
    } else {
        printf("reproduce: sim --seed %" PRIu64 " -v%s%s%s%s\n", seed,
               options->events ? " --events " : "", options->events ? options->events : "",
               options->without ? " --without " : "", options->without ? options->without : "");
    }
    fflush(stdout);
    return false;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    if (*end || end == text) {
        fprintf(stderr, "sim: '%s' is not a number\n", text);
        exit(2);
    }
    return value;
}

static struct options parse(int argc, char **argv)
{
    static const struct option table[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"first", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},
        {"minutes", required_argument, NULL, 'm'},
        {"verbose", no_argument, NULL, 'v'},
        {"twice", no_argument, NULL, 't'},
        {"shrink", no_argument, NULL, 'k'},
        {"events", required_argument, NULL, 'e'},
        {"without", required_argument, NULL, 'w'},
        {"stats", no_argument, NULL, 'S'},
        {"mutant", required_argument, NULL, 'M'},
        {"mutants", no_argument, NULL, 'A'},
        {"slow", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.first = 1, .seeds = 200};
    int c;

    while ((c = getopt_long(argc, argv, "vh", table, NULL)) != -1) {
        switch (c) {
        case 'n':
            options.seeds = number(optarg);
            break;
        case 'f':
            options.first = number(optarg);
            break;
        case 's':
            options.first = number(optarg);
            options.seeds = 1;
            options.one = true;
            break;
        case 'm':
            options.minutes = number(optarg);
            break;
        case 'v':
            options.verbose = true;
            break;
        case 't':
            options.twice = true;
            break;
        case 'k':
            options.shrink = true;
            break;
        case 'e':
            options.events = optarg;
            break;
        case 'w':
            options.without = optarg;
            break;
        case 'S':
            options.stats = true;
            break;
        case 'l':
            options.slow = number(optarg);
            break;
        case 'M':
            options.mutant = mutant_find(optarg);
            if (options.mutant == MUTANT_COUNT) {
                fprintf(stderr, "sim: no mutant '%s'\n", optarg);
                exit(2);
            }
            break;
        case 'A':
            options.mutants = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        usage(stderr);
        exit(2);
    }
    return options;
}

static void print_stats(const struct totals *totals)
{
    static const char *const states[SIM_STATES] = {
        "Closed",   "Listen",    "SynSent", "SynRcvd", "Established", "FinWait1",
        "FinWait2", "CloseWait", "Closing", "LastAck", "TimeWait",
    };

    for (int r = 1; r < RULE_COUNT; r++)
        printf("%12" PRIu64 "  %-16s %s\n", totals->applied[r],
               checker_rule_name((enum checker_rule)r), checker_rule_text((enum checker_rule)r));
    for (int s = 0; s < SIM_STATES; s++)
        if (totals->moved_in[s])
            printf("%12" PRIu64 "  moves in state %s\n", totals->moved_in[s], states[s]);
}

/* Runs worlds with one mutant until its rule notices it; how many it took, or 0. */
static uint64_t hunt(enum mutant mutant, const struct options *options, uint64_t *noticed)
{
    static struct scenario scenario;
    struct world_result result;

    *noticed = 0;
    for (uint64_t n = 0; n < options->seeds; n++) {
        scenario_draw(&scenario, options->first + n);
        scenario.mutant = mutant;
        world_run(&scenario, NULL, &result);
        *noticed += result.failed;
        if (result.failed && result.rule == mutant_rule(mutant))
            return n + 1;
    }
    return 0;
}

static int hunt_all(const struct options *options)
{
    unsigned alive = 0;

    for (enum mutant m = MUTANT_NONE + 1; m < MUTANT_COUNT; m++) {
        uint64_t noticed, worlds = hunt(m, options, &noticed);

        alive += !worlds;
        printf("%-12s %s by %-15s after %3" PRIu64 " worlds (%" PRIu64 " of them failed)\n",
               mutant_name(m), worlds ? "caught" : "ALIVE ", checker_rule_name(mutant_rule(m)),
               worlds ? worlds : options->seeds, noticed);
    }
    return alive ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    struct totals totals = {0};
    double start = seconds(), took;

    if (options.mutants)
        return hunt_all(&options);

    for (uint64_t seed = options.first;; seed++) {
        if (options.minutes ? seconds() - start >= 60.0 * (double)options.minutes
                            : seed - options.first >= options.seeds)
            break;
        run_seed(seed, &options, &totals);
    }
    took = seconds() - start;
    if (!options.one)
        printf("%" PRIu64 " worlds from seed %" PRIu64 ": %" PRIu64 " failed; %" PRIu64
               " frames, %" PRIu64 " retransmitted, %" PRIu64 " moves, %" PRIu64 " aborts, %" PRIu64
               " bytes compared, %.0f s of virtual time in %.1f s\n",
               totals.worlds, options.first, totals.failed, totals.frames, totals.retransmits,
               totals.moves, totals.aborted, totals.bytes, (double)totals.virtual_ns / 1e9, took);
    if (options.stats)
        print_stats(&totals);
    return totals.failed ? 1 : 0;
}
