/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>

/** Frames that could not be used before it is worth a word. */
#define HINT_FRAMES 100
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/** "30 Offloaded, 2 InHost": what there is of each state. */
static void print_connections(const json_t *connections)
{
    static const struct {
        const char *field, *word;
    } states[] = {{"offloaded", "Offloaded"},
                  {"offloading", "Offloading"},
                  {"uploading", "Uploading"},
                  {"in_host", "InHost"},
                  {"queued", "queued in a pause"}};
    const char *before = ": ";

    printf("connections  %llu attached", (unsigned long long)field_number(connections, "attached"));
    for (size_t i = 0; i < COUNT(states); i++) {
        uint64_t n = field_number(connections, states[i].field);

        if (!n)
            continue;
        printf("%s%llu %s", before, (unsigned long long)n, states[i].word);
        before = ", ";
    }
    putchar('\n');
}

static void print_head(const json_t *s)
{
    const json_t *moves = json_object_get(s, "moves"), *barrier = json_object_get(s, "barrier");
    const json_t *verifier = json_object_get(s, "verifier");
    const json_t *selftest = json_object_get(s, "selftest");
    uint64_t programs = field_number(s, "programs"), breaches = field_number(verifier, "breaches");
    const json_t *failure;
    char text[SHOW_TEXT];
    size_t i;

    printf("chimneyd %s, pid %llu, up %s, %llu program%s%s%s\n", field_text(s, "version"),
           (unsigned long long)field_number(s, "pid"),
           show_seconds(field_real(s, "uptime_s"), text), (unsigned long long)programs,
           programs == 1 ? "" : "s", field_bool(s, "auto_offload") ? ", offloads by itself" : "",
           field_bool(s, "stopping") ? ", stopping" : "");
    print_connections(json_object_get(s, "connections"));
    printf("moves        %llu offloads, %llu uploads, %llu failed, longest silence %s\n",
           (unsigned long long)field_number(moves, "offloads"),
           (unsigned long long)field_number(moves, "uploads"),
           (unsigned long long)field_number(moves, "failed"),
           show_us(field_real(moves, "longest_us"), text));
    if (json_is_object(barrier))
        printf("barrier      %s, %s\n", field_text(barrier, "method"),
               show_us(field_real(barrier, "cost_us"), text));
    if (!field_bool(verifier, "on"))
        printf("verifier     off\n");
    else if (breaches)
        printf("verifier     %llu breaches: see the daemon's log\n", (unsigned long long)breaches);
    else
        printf("verifier     %s calls, no breach\n",
               show_count(field_number(verifier, "calls"), text));
    printf(
        "self-test    %llu of %llu checks passed\n",
        (unsigned long long)(field_number(selftest, "checks") - field_number(selftest, "failed")),
        (unsigned long long)field_number(selftest, "checks"));
    json_array_foreach(json_object_get(selftest, "failures"), i, failure)
        printf("             failed: %s: %s\n", field_text(failure, "name"),
               field_text(failure, "detail"));
}

static void print_ports(const json_t *ports)
{
    static const char *const heads[] = {"PORT",        "KIND",       "MODE",       ">QUEUES",
                                        ">MTU",        "LINK",       ">RX FRAMES", ">RX",
                                        ">RX DROPPED", ">TX FRAMES", ">TX",        ">TX DROPPED"};
    struct table *t = table_new(heads, COUNT(heads));
    char text[SHOW_TEXT];
    const json_t *p;
    size_t i;

    json_array_foreach(ports, i, p)
    {
        table_cell(t, "%s", field_text(p, "name"));
        table_cell(t, "%s", field_text(p, "kind"));
        table_cell(t, "%s", field_text(p, "mode"));
        table_cell(t, "%llu", (unsigned long long)field_number(p, "queues"));
        table_cell(t, "%llu", (unsigned long long)field_number(p, "mtu"));
        table_cell(t, "%s", field_text(p, "link"));
        table_cell(t, "%s", show_count(field_number(p, "rx_frames"), text));
        table_cell(t, "%s", show_bytes(field_number(p, "rx_bytes"), text));
        table_cell(t, "%s", show_count(field_number(p, "rx_dropped"), text));
        table_cell(t, "%s", show_count(field_number(p, "tx_frames"), text));
        table_cell(t, "%s", show_bytes(field_number(p, "tx_bytes"), text));
        table_cell(t, "%s", show_count(field_number(p, "tx_dropped"), text));
    }
    table_print(t);
}

static uint64_t both(const json_t *target, const char *field)
{
    return field_number(json_object_get(target, "ipv4"), field) +
           field_number(json_object_get(target, "ipv6"), field);
}

static void print_targets(const json_t *targets)
{
    static const char *const heads[] = {"TARGET",       "STATE",   ">CONNECTIONS", ">PATHS",
                                        ">NEIGHBORS",   ">QUEUED", ">PAUSES",      ">RETRIEVES",
                                        ">SEGMENTS IN", ">OUT",    ">RESENT"};
    struct table *t = table_new(heads, COUNT(heads));
    char text[SHOW_TEXT];
    const json_t *p;
    size_t i;

    json_array_foreach(targets, i, p)
    {
        table_cell(t, "%s", field_text(p, "name"));
        table_cell(t, "%s", field_text(p, "state"));
        table_cell(t, "%llu of %llu", (unsigned long long)field_number(p, "connections"),
                   (unsigned long long)field_number(p, "capacity"));
        table_cell(t, "%llu", (unsigned long long)field_number(p, "paths"));
        table_cell(t, "%llu", (unsigned long long)field_number(p, "neighbors"));
        table_cell(t, "%llu", (unsigned long long)field_number(p, "queued"));
        table_cell(t, "%llu", (unsigned long long)field_number(p, "pauses"));
        table_cell(t, "%s", show_count(field_number(p, "retrieves"), text));
        table_cell(t, "%s", show_count(both(p, "in_segments"), text));
        table_cell(t, "%s", show_count(both(p, "out_segments"), text));
        table_cell(t, "%s", show_count(both(p, "retransmitted_segments"), text));
    }
    table_print(t);
}

/** Frames that cannot be used show nowhere else: the connections stand still. */
static void print_hints(const json_t *targets)
{
    const json_t *t;
    size_t i;

    json_array_foreach(targets, i, t)
    {
        uint64_t unused = field_number(t, "passed_up") + both(t, "in_errors");

        if (unused > HINT_FRAMES && unused > both(t, "in_segments"))
            printf("\n%s: most frames cannot be used (%llu of %llu): chimney doctor %s\n",
                   field_text(t, "name"), (unsigned long long)unused,
                   (unsigned long long)(unused + both(t, "in_segments")), field_text(t, "port"));
    }
}

static void print_steer(const json_t *steer)
{
    static const struct {
        const char *field, *line;
    } rows[] = {
        {"steered", "frames sent to a target"},
        {"passed", "frames passed to the kernel"},
        {"late", "frames of a steered flow that came up to the kernel"},
        {"late_dropped", "of these, dropped by the guard"},
        {"rst_suppressed", "resets of the kernel stopped by the guard"},
        {"no_queue_dropped", "frames dropped for want of an AF_XDP socket on their queue"},
        {"reinjected", "frames put back into the kernel"},
    };
    static const char *const heads[] = {"STEERING", ">COUNT"};
    struct table *t = table_new(heads, COUNT(heads));
    char text[SHOW_TEXT];

    for (size_t i = 0; i < COUNT(rows); i++) {
        table_cell(t, "%s", rows[i].line);
        table_cell(t, "%s", show_count(field_number(steer, rows[i].field), text));
    }
    table_print(t);
}

static void print_handoff(const json_t *steps)
{
    static const char *const heads[] = {"HAND-OFF STEP", ">COUNT", ">MEAN", ">MAX"};
    struct table *t = table_new(heads, COUNT(heads));
    char text[SHOW_TEXT];
    const json_t *step;
    size_t i;

    json_array_foreach(steps, i, step)
    {
        table_cell(t, "%s", field_text(step, "step"));
        table_cell(t, "%s", show_count(field_number(step, "count"), text));
        table_cell(t, "%s", show_us(field_real(step, "mean_us"), text));
        table_cell(t, "%s", show_us(field_real(step, "max_us"), text));
    }
    table_print(t);
}

int command_status(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {{"verbose", no_argument, NULL, 'v'}, {0}};
    bool verbose = false;
    json_t *answer;
    int c;

    while ((c = cli_option(cli, argc, argv, options)) != -1) {
        if (c >= CLI_STOP)
            return c - CLI_STOP;
        verbose = true;
    }
    if (optind < argc)
        return cli_usage(cli, "unexpected argument '%s'", argv[optind]);
    answer = link_ask(cli, json_pack("{s:s}", "command", "status"), CLI_ANSWER_S);
    if (!answer)
        return CLI_FAILED;
    if (cli->json || !field_bool(answer, "ok"))
        return link_finish(cli, answer);
    print_head(answer);
    putchar('\n');
    print_ports(json_object_get(answer, "ports"));
    putchar('\n');
    print_targets(json_object_get(answer, "targets"));
    print_hints(json_object_get(answer, "targets"));
    if (verbose) {
        putchar('\n');
        print_steer(json_object_get(answer, "steer"));
        putchar('\n');
        print_handoff(json_object_get(answer, "handoff"));
    }
    json_decref(answer);
    return CLI_OK;
}
