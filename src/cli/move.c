/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload and upload.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

struct move_options {
    bool all, wait, by_target;
    const char *target;
    uint64_t timeout_s;
};

enum { OPTION_BY_TARGET = 200, OPTION_TARGET };

/** Reads the options; CLI_STOP + code, or 0. */
static int move_options(struct cli *cli, int argc, char **argv, bool upload, struct move_options *o)
{
    static const struct option options[] = {
        {"all", no_argument, NULL, 'a'},
        {"wait", no_argument, NULL, 'w'},
        {"timeout", required_argument, NULL, 't'},
        {"by-target", no_argument, NULL, OPTION_BY_TARGET},
        {"target", required_argument, NULL, OPTION_TARGET},
        {0},
    };
    struct option offered[6] = {0};
    int c;

    memcpy(offered, options, (upload ? 5 : 3) * sizeof(options[0]));
    while ((c = cli_option(cli, argc, argv, offered)) != -1) {
        if (c >= CLI_STOP)
            return c;
        if (c == 'a')
            o->all = true;
        else if (c == 'w')
            o->wait = true;
        else if (c == OPTION_BY_TARGET)
            o->by_target = true;
        else if (c == OPTION_TARGET)
            o->target = optarg;
        else if (!cli_number(cli, "--timeout", optarg, 0, 3600, &o->timeout_s))
            return CLI_STOP + CLI_USAGE;
    }
    if (o->all && optind < argc)
        return CLI_STOP + cli_usage(cli, "give a selector or --all, not both");
    if (!o->all && optind == argc)
        return CLI_STOP + cli_usage(cli, "which connections? give a selector, or --all");
    if (o->by_target && !o->all)
        return CLI_STOP + cli_usage(cli, "--by-target needs --all");
    if (o->target && !o->by_target)
        return CLI_STOP + cli_usage(cli, "--target needs --by-target");
    return 0;
}

/** One line per reason, with the connections it was given for. */
static void print_refusals(const json_t *refusals, uint64_t refused)
{
    size_t n = json_array_size(refusals);

    for (size_t i = 0; i < n; i++) {
        const char *why = field_text(json_array_get(refusals, i), "why");
        const char *before = "  id ";
        bool told = false;

        for (size_t k = 0; k < i; k++)
            told |= strcmp(field_text(json_array_get(refusals, k), "why"), why) == 0;
        if (told)
            continue;
        for (size_t k = i; k < n; k++) {
            const json_t *r = json_array_get(refusals, k);

            if (strcmp(field_text(r, "why"), why) != 0)
                continue;
            printf("%s%llu", before, (unsigned long long)field_number(r, "id"));
            before = ",";
        }
        printf(": %s\n", why);
    }
    if (refused > n)
        printf("  and %llu more\n", (unsigned long long)(refused - n));
}

static void print_answer(const json_t *a, bool upload)
{
    uint64_t selected = field_number(a, "selected"), already = field_number(a, "already");
    uint64_t refused = field_number(a, "refused"), waiting = field_number(a, "waiting");
    uint64_t queued = field_number(a, "queued");
    const char *place = upload ? "InHost" : "Offloaded";
    char span[SHOW_TEXT];

    if (selected == 0) {
        printf("no connections\n");
        return;
    }
    if (already == selected) {
        printf("%llu already %s\n", (unsigned long long)already, place);
        return;
    }
    if (json_object_get(a, "moved"))
        printf("%llu of %llu %s in %s", (unsigned long long)field_number(a, "moved"),
               (unsigned long long)selected, upload ? "uploaded" : "offloaded",
               show_us(field_real(a, "duration_us"), span));
    else
        printf("%llu of %llu on their way", (unsigned long long)field_number(a, "started"),
               (unsigned long long)selected);
    if (already)
        printf(", %llu already %s", (unsigned long long)already, place);
    if (queued)
        printf(", %llu queued in a pause", (unsigned long long)queued);
    if (waiting)
        printf(", %llu still under way", (unsigned long long)waiting);
    if (refused)
        printf(", %llu refused:", (unsigned long long)refused);
    putchar('\n');
    print_refusals(json_object_get(a, "refusals"), refused);
}

static int command_move(struct cli *cli, int argc, char **argv, bool upload)
{
    struct move_options o = {.timeout_s = 30};
    int rc = move_options(cli, argc, argv, upload, &o);
    json_t *request, *answer;

    if (rc)
        return rc - CLI_STOP;
    request = json_pack("{s:s, s:b, s:I}", "command",
                        o.by_target ? "upload-all"
                        : upload    ? "upload"
                                    : "offload",
                        "wait", o.wait, "timeout", (json_int_t)o.timeout_s);
    if (!o.all) {
        char *selector = cli_join(argc, argv);

        if (json_object_set_new(request, "selector", json_string(selector)) != 0) {
            free(selector);
            json_decref(request);
            return cli_usage(cli, "the selector is not UTF-8");
        }
        free(selector);
    } else if (!o.by_target) {
        json_object_set_new(request, "all", json_true());
    }
    if (o.target)
        json_object_set_new(request, "target", json_string(o.target));
    answer = link_ask(cli, request, CLI_ANSWER_S + (o.wait ? (double)o.timeout_s : 0));
    if (!answer)
        return CLI_FAILED;
    if (!cli->json && json_object_get(answer, "selected"))
        print_answer(answer, upload);
    return link_finish(cli, answer);
}

int command_offload(struct cli *cli, int argc, char **argv)
{
    return command_move(cli, argc, argv, false);
}

int command_upload(struct cli *cli, int argc, char **argv)
{
    return command_move(cli, argc, argv, true);
}
