/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>
#include <time.h>

/** Local time of day with microseconds. */
static void print_clock(const char *rfc3339)
{
    double at = show_time(rfc3339);
    time_t seconds = (time_t)at;
    struct tm tm;
    char text[16];

    localtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%H:%M:%S", &tm);
    printf("%s.%06d", text, (int)((at - (double)seconds) * 1e6));
}

/** What a move took along, and why it was made. */
static void print_move(const json_t *e)
{
    uint64_t in_flight = field_number(e, "in_flight"), queued = field_number(e, "queued_bytes");
    const char *reason = field_text(e, "reason"), *status = field_text(e, "status");
    char text[SHOW_TEXT];

    printf("  %s", field_text(e, "why"));
    if (strcmp(reason, "None") != 0)
        printf(" (%s)", reason);
    if (strcmp(status, "NDIS_STATUS_SUCCESS") != 0)
        printf(" %s", status);
    if (in_flight)
        printf(", %s in flight", show_bytes(in_flight, text));
    if (queued)
        printf(", %s queued", show_bytes(queued, text));
}

/** Time, what, how long, where, which connection, whose, and why. */
static void print_event(const json_t *e)
{
    bool move = strcmp(field_text(e, "kind"), "move") == 0;
    char span[SHOW_TEXT] = "";

    if (move && field_bool(e, "failed"))
        snprintf(span, sizeof(span), "failed");
    else if (move)
        show_us(field_real(e, "duration_us"), span);
    print_clock(field_text(e, "time"));
    printf("  %-10s  %8s", field_text(e, move ? "direction" : "kind"), span);
    if (*field_text(e, "port"))
        printf("  %s", field_text(e, "port"));
    if (json_object_get(e, "id"))
        printf("  %llu  %s", (unsigned long long)field_number(e, "id"), field_text(e, "tuple"));
    if (*field_text(e, "program"))
        printf("  %s[%llu]", field_text(e, "program"), (unsigned long long)field_number(e, "pid"));
    if (move)
        print_move(e);
    else if (*field_text(e, "text"))
        printf("  %s", field_text(e, "text"));
    putchar('\n');
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int follow(struct cli *cli, struct link *link, uint64_t count, double timeout_s)
{
    double deadline = now_s() + timeout_s;
    uint64_t seq = 0, shown = 0;
    bool stopped = false;

    while (count == 0 || shown < count) {
        bool end;
        json_t *e;

        if (timeout_s >= 0 && !link_wait(link, deadline - now_s()))
            return CLI_OK;
        e = link_read(link, -1, &end);
        if (!e) {
            if (stopped)
                return CLI_OK;
            return end ? cli_fail("the daemon is gone, or this command was too slow for it")
                       : CLI_FAILED;
        }
        if (seq && field_number(e, "seq") != seq + 1)
            cli_fail("%llu events were lost",
                     (unsigned long long)(field_number(e, "seq") - seq - 1));
        seq = field_number(e, "seq");
        stopped |= strcmp(field_text(e, "kind"), "stop") == 0;
        if (cli->json) {
            json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
            putchar('\n');
        } else {
            print_event(e);
        }
        json_decref(e);
        shown++;
        /* As they happen, but a burst with few writes. */
        if (!link_pending(link) && fflush(stdout) != 0)
            return CLI_FAILED;
    }
    return CLI_OK;
}

int command_events(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"count", required_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 't'},
        {0},
    };
    uint64_t count = 0, timeout_s = 0;
    bool timed = false, end;
    struct link link;
    json_t *answer;
    int c, rc;

    while ((c = cli_option(cli, argc, argv, options)) != -1) {
        if (c >= CLI_STOP)
            return c - CLI_STOP;
        if (c == 'n' && !cli_number(cli, "--count", optarg, 1, UINT32_MAX, &count))
            return CLI_USAGE;
        if (c == 't' && !cli_number(cli, "--timeout", optarg, 0, UINT32_MAX, &timeout_s))
            return CLI_USAGE;
        timed |= c == 't';
    }
    if (optind < argc)
        return cli_usage(cli, "unexpected argument '%s'", argv[optind]);
    if (!link_open(&link, cli))
        return CLI_FAILED;
    link_send(&link, json_pack("{s:s}", "command", "events"));
    answer = link_read(&link, CLI_ANSWER_S, &end);
    if (!answer && end)
        cli_fail("the daemon hung up without an answer: see its log");
    if (!answer || !field_bool(answer, "ok"))
        rc = answer ? link_finish(cli, answer) : CLI_FAILED;
    else {
        json_decref(answer);
        rc = follow(cli, &link, count, timed ? (double)timeout_s : -1);
    }
    link_close(&link);
    return rc;
}
