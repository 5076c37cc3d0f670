/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pause and resume.
 */
#include "cli/cli.h"

/** How long a target may take: a resume after an upload-all waits for it. */
#define PAUSE_ANSWER_S 40

enum { OPTION_ON_INITIATE = 200, OPTION_CAPACITY };

static int finish(struct cli *cli, json_t *request, int argc, char **argv, const char *word)
{
    json_t *answer, *targets;
    const json_t *target;
    size_t i;

    if (optind + 1 < argc) {
        json_decref(request);
        return cli_usage(cli, "unexpected argument '%s'", argv[optind + 1]);
    }
    if (optind < argc && json_object_set_new(request, "target", json_string(argv[optind])) != 0) {
        json_decref(request);
        return cli_usage(cli, "the target's name is not UTF-8");
    }
    answer = link_ask(cli, request, PAUSE_ANSWER_S);
    if (!answer)
        return CLI_FAILED;
    targets = json_object_get(answer, "armed");
    if (targets)
        word = "pauses when the next offload is under way";
    else
        targets = json_object_get(answer, "targets");
    if (!cli->json && field_bool(answer, "ok"))
        json_array_foreach(targets, i, target) printf("%s %s\n", json_string_value(target), word);
    return link_finish(cli, answer);
}

int command_pause(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"on-initiate", no_argument, NULL, OPTION_ON_INITIATE},
        {0},
    };
    json_t *request = json_pack("{s:s}", "command", "pause");
    int c;

    while ((c = cli_option(cli, argc, argv, options)) != -1) {
        if (c >= CLI_STOP) {
            json_decref(request);
            return c - CLI_STOP;
        }
        json_object_set_new(request, "on_initiate", json_true());
    }
    return finish(cli, request, argc, argv, "paused");
}

int command_resume(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"capacity", required_argument, NULL, OPTION_CAPACITY},
        {0},
    };
    json_t *request = json_pack("{s:s}", "command", "resume");
    uint64_t capacity;
    int c;

    while ((c = cli_option(cli, argc, argv, options)) != -1) {
        if (c >= CLI_STOP || !cli_number(cli, "--capacity", optarg, 1, UINT32_MAX, &capacity)) {
            json_decref(request);
            return c >= CLI_STOP ? c - CLI_STOP : CLI_USAGE;
        }
        json_object_set_new(request, "capacity", json_integer((json_int_t)capacity));
    }
    return finish(cli, request, argc, argv, "resumed");
}
