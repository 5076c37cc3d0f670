/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/** The last move and, for what is in the kernel, why it stays there. */
static void note(const json_t *c, char *text, size_t size)
{
    const json_t *last = json_object_get(c, "last_move");
    const char *why_not = field_text(c, "why_not"), *reason = field_text(last, "reason");
    char span[SHOW_TEXT];
    int n = 0;

    text[0] = '\0';
    if (json_is_object(last))
        n = snprintf(text, size, "%s %s%s%s: %s", field_text(last, "direction"),
                     field_bool(last, "failed") ? "failed"
                                                : show_us(field_real(last, "duration_us"), span),
                     strcmp(reason, "None") ? ", " : "", strcmp(reason, "None") ? reason : "",
                     field_text(last, "why"));
    /* A refusal is its own reason. */
    if (*why_not && !strstr(text, why_not) && (size_t)n < size && n >= 0 &&
        strncmp(why_not, "uploaded: ", 10) != 0)
        snprintf(text + n, size - (size_t)n, "%s%s", n ? "; " : "", why_not);
}

static void print_list(const json_t *connections)
{
    static const char *const heads[] = {">ID",  "STATE", "LOCAL", "REMOTE", "PROGRAM",  "PORT",
                                        ">FOR", ">IN",   ">OUT",  ">MOVES", "LAST MOVE"};
    struct table *t = table_new(heads, sizeof(heads) / sizeof(heads[0]));
    char text[SHOW_TEXT], local[64], remote[64], last[256];
    struct timespec now;
    const json_t *c;
    size_t i;

    clock_gettime(CLOCK_REALTIME, &now);
    json_array_foreach(connections, i, c)
    {
        show_tuple(field_text(c, "tuple"), local, remote);
        note(c, last, sizeof(last));
        table_cell(t, "%llu", (unsigned long long)field_number(c, "id"));
        table_cell(t, "%s%s", field_text(c, "state"), field_bool(c, "queued") ? ", queued" : "");
        table_cell(t, "%s", local);
        table_cell(t, "%s", remote);
        if (json_is_null(json_object_get(c, "pid")))
            table_cell(t, "-");
        else
            table_cell(t, "%s[%llu]", field_text(c, "program"),
                       (unsigned long long)field_number(c, "pid"));
        table_cell(t, "%s", *field_text(c, "port") ? field_text(c, "port") : "-");
        table_cell(t, "%s",
                   show_seconds((double)now.tv_sec - show_time(field_text(c, "since")), text));
        table_cell(t, "%s", show_bytes(field_number(c, "bytes_in"), text));
        table_cell(t, "%s", show_bytes(field_number(c, "bytes_out"), text));
        table_cell(t, "%llu",
                   (unsigned long long)(field_number(c, "offloads") + field_number(c, "uploads")));
        table_cell(t, "%s", last);
    }
    table_print(t);
}

/** Leaves only connections in @state. */
static void keep_state(json_t *connections, const char *state)
{
    for (size_t i = json_array_size(connections); i-- > 0;)
        if (strcmp(field_text(json_array_get(connections, i), "state"), state) != 0)
            json_array_remove(connections, i);
}

int command_list(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {{"state", required_argument, NULL, 's'}, {0}};
    static const char *const states[] = {"InHost", "Offloading", "Offloaded", "Uploading"};
    const char *state = NULL;
    json_t *request, *answer;
    char *selector;
    int c;

    while ((c = cli_option(cli, argc, argv, options)) != -1) {
        if (c >= CLI_STOP)
            return c - CLI_STOP;
        state = NULL;
        for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
            if (strcasecmp(optarg, states[i]) == 0)
                state = states[i];
        if (!state)
            return cli_usage(cli, "no state '%s': InHost, Offloading, Offloaded or Uploading",
                             optarg);
    }
    request = json_pack("{s:s}", "command", "list");
    selector = cli_join(argc, argv);
    if (selector)
        json_object_set_new(request, "selector", json_string(selector));
    free(selector);
    answer = link_ask(cli, request, CLI_ANSWER_S);
    if (!answer)
        return CLI_FAILED;
    if (state)
        keep_state(json_object_get(answer, "connections"), state);
    if (cli->json || !field_bool(answer, "ok"))
        return link_finish(cli, answer);
    if (json_array_size(json_object_get(answer, "connections")) == 0)
        fputs("no connections\n", stderr);
    else
        print_list(json_object_get(answer, "connections"));
    json_decref(answer);
    return CLI_OK;
}
