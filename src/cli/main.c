/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chimney: what operators type.  A table of commands, and what is common to them.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/protocol.h"

static int command_help(struct cli *cli, int argc, char **argv);
static int command_version(struct cli *cli, int argc, char **argv);

#define SELECTOR_HELP                                                                              \
    "SELECTOR is `id N[,N...]` or a filter as in pcap-filter(7), such as\n"                        \
    "`tcp port 6379 and host 10.0.0.2`; give addresses and port numbers, not names.\n"             \
    "A connection is meant if a packet of either direction matches.\n"
#define WAIT_HELP                                                                                  \
    "  -w, --wait           return when every connection has arrived or was refused\n"             \
    "  -t, --timeout S      with --wait: give up after S seconds (default 30)\n"

static const struct command commands[] = {
    {"status", command_status, "[-v]", "targets, ports and counters",
     "  -v, --verbose        also what each step of the hand-off costs, and steering\n"},
    {"list", command_list, "[SELECTOR]", "one line per connection",
     "  -s, --state STATE    only InHost, Offloading, Offloaded or Uploading\n\n" SELECTOR_HELP},
    {"offload", command_offload, "SELECTOR | --all", "move connections to the target",
     "  -a, --all            every connection\n" WAIT_HELP "\n" SELECTOR_HELP},
    {"upload", command_upload, "SELECTOR | --all", "move connections back to the kernel",
     "  -a, --all            every connection\n"
     "      --by-target      with --all: have the target ask for it (NDIS_STATUS_UPLOAD_ALL)\n"
     "      --target TARGET  with --by-target: only this one\n" WAIT_HELP "\n" SELECTOR_HELP},
    {"pause", command_pause, "[TARGET]", "have targets take no new connections",
     "      --on-initiate    not now, but when the next offload is under way: it is queued\n\n"
     "Connections that are offloaded stay so.  Without TARGET: all targets.\n"},
    {"resume", command_resume, "[TARGET]", "end a pause",
     "      --capacity N     the target takes at most N connections from now on\n\n"
     "Without TARGET: all targets.\n"},
    {"events", command_events, "", "every move, pause and resume as it happens",
     "  -n, --count N        end after N events\n"
     "  -t, --timeout S      end after S seconds\n"},
    {"doctor", command_doctor, "[IFACE...]", "what this machine can do, and what to change",
     "Reads only; changes nothing and attaches nothing.  Needs no daemon.\n"
     "Without IFACE: every Ethernet interface.  Exit code 1 if anything fails.\n"},
    {"help", command_help, "[COMMAND]", "this text, or that of a command", ""},
    {"version", command_version, "", "the version", ""},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const char common_help[] =
    "      --json               JSON, as documented in docs/json.md\n"
    "      --rundir DIR         where the daemon's sockets are (default " PROTOCOL_RUNDIR ")\n"
    "  -h, --help               help\n";

/* --- messages --------------------------------------------------------------------------------- */

int cli_fail(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fputs("chimney: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_FAILED;
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
    va_list args;

    fputs("chimney: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (cli->command)
        fprintf(stderr, " (see: chimney %s --help)\n", cli->command->name);
    else
        fputs(" (see: chimney help)\n", stderr);
    return CLI_USAGE;
}

static void help_all(void)
{
    puts("Usage: chimney COMMAND [OPTIONS]\n"
         "Moves TCP connections between the kernel and an offload target.\n\n"
         "Commands:");
    for (size_t i = 0; i < COMMANDS; i++) {
        char head[48];

        snprintf(head, sizeof(head), "%s %s", commands[i].name, commands[i].arguments);
        printf("  %-28s %s\n", head, commands[i].summary);
    }
    printf("\nOptions of every command:\n%s\n"
           "Exit codes: 0 done, 1 refused or failed, 2 usage.  See chimney(1), chimneyd(8).\n",
           common_help);
}

static void help_one(const struct command *c)
{
    printf("Usage: chimney %s %s [OPTIONS]\n%c%s.\n\n%s%s%s", c->name, c->arguments,
           c->summary[0] >= 'a' ? c->summary[0] - 32 : c->summary[0], c->summary + 1, c->help,
           c->help[0] ? "\n" : "", common_help);
}

/* --- options ---------------------------------------------------------------------------------- */

enum { OPTION_JSON = 256, OPTION_RUNDIR };

int cli_option(struct cli *cli, int argc, char **argv, const struct option *extra)
{
    struct option all[CLI_MAX_OPTIONS + 4] = {
        {"json", no_argument, NULL, OPTION_JSON},
        {"rundir", required_argument, NULL, OPTION_RUNDIR},
        {"help", no_argument, NULL, 'h'},
    };
    char letters[2 * CLI_MAX_OPTIONS + 4] = ":h", *p = letters + 2;
    size_t n = 3;

    for (; extra && extra->name; extra++) {
        all[n++] = *extra;
        if (extra->val < 128) {
            *p++ = (char)extra->val;
            if (extra->has_arg)
                *p++ = ':';
        }
    }
    for (;;) {
        int at = optind ? optind : 1, c = getopt_long(argc, argv, letters, all, NULL);

        switch (c) {
        case OPTION_JSON:
            cli->json = true;
            break;
        case OPTION_RUNDIR:
            cli->rundir = optarg;
            break;
        case 'h':
            help_one(cli->command);
            return CLI_STOP + CLI_OK;
        case ':':
            return CLI_STOP + cli_usage(cli, "%s needs a value", argv[optind - 1]);
        case '?':
            if (optopt && optopt < 128)
                return CLI_STOP + cli_usage(cli, "unknown option -%c", optopt);
            return CLI_STOP + cli_usage(cli, "unknown option %s", argv[at < argc ? at : argc - 1]);
        default:
            return c;
        }
    }
}

char *cli_join(int argc, char **argv)
{
    size_t size = 1;
    char *text;

    for (int i = optind; i < argc; i++)
        size += strlen(argv[i]) + 1;
    if (optind >= argc)
        return NULL;
    text = calloc(1, size);
    if (!text)
        return NULL;
    for (int i = optind; i < argc; i++) {
        if (i > optind)
            strcat(text, " ");
        strcat(text, argv[i]);
    }
    return text;
}

bool cli_number(const struct cli *cli, const char *what, const char *text, uint64_t min,
                uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno == 0 && text[0] >= '0' && text[0] <= '9' && !*end && *out >= min && *out <= max)
        return true;
    cli_usage(cli, "%s must be a number from %llu to %llu, not '%s'", what, (unsigned long long)min,
              (unsigned long long)max, text);
    return false;
}

/* --- the commands that are here --------------------------------------------------------------- */

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int command_help(struct cli *cli, int argc, char **argv)
{
    const struct command *command;
    int c = cli_option(cli, argc, argv, NULL);

    if (c >= CLI_STOP)
        return c - CLI_STOP;
    if (optind == argc) {
        help_all();
        return CLI_OK;
    }
    command = find(argv[optind]);
    if (!command || optind + 1 < argc) {
        cli->command = NULL;
        return cli_usage(cli, "no command '%s'", argv[optind + 1 < argc ? optind + 1 : optind]);
    }
    help_one(command);
    return CLI_OK;
}

static int command_version(struct cli *cli, int argc, char **argv)
{
    int c = cli_option(cli, argc, argv, NULL);

    if (c >= CLI_STOP)
        return c - CLI_STOP;
    if (optind < argc)
        return cli_usage(cli, "unexpected argument '%s'", argv[optind]);
    if (cli->json)
        puts("{\"ok\":true,\"version\":\"" CHIMNEY_VERSION "\"}");
    else
        puts("chimney " CHIMNEY_VERSION);
    return CLI_OK;
}

/**
 * Common options may stand before the command too.  Leaves the command's name in argv[0], so that
 * its own options begin after it.
 */
static int before_command(struct cli *cli, int *argc, char ***argv)
{
    char **a = *argv + 1;

    for (; *a && (*a)[0] == '-'; a++) {
        if (strcmp(*a, "--json") == 0) {
            cli->json = true;
        } else if (strcmp(*a, "--rundir") == 0) {
            if (!*++a)
                return cli_usage(cli, "--rundir needs a value");
            cli->rundir = *a;
        } else if (strncmp(*a, "--rundir=", 9) == 0) {
            cli->rundir = *a + 9;
        } else if (strcmp(*a, "--help") == 0 || strcmp(*a, "-h") == 0) {
            help_all();
            return CLI_OK;
        } else if (strcmp(*a, "--version") == 0 || strcmp(*a, "-V") == 0) {
            puts("chimney " CHIMNEY_VERSION);
            return CLI_OK;
        } else {
            return cli_usage(cli, "unknown option %s", *a);
        }
    }
    *argc -= (int)(a - *argv);
    *argv = a;
    return -1;
}

int main(int argc, char **argv)
{
    const char *rundir = getenv("CHIMNEY_RUNDIR");
    struct cli cli = {.rundir = rundir && *rundir ? rundir : PROTOCOL_RUNDIR};
    int rc = before_command(&cli, &argc, &argv);

    if (rc >= 0)
        return rc;
    if (argc == 0)
        return cli_usage(&cli, "which command?");
    cli.command = find(argv[0]);
    if (!cli.command)
        return cli_usage(&cli, "no command '%s'", argv[0]);
    rc = cli.command->run(&cli, argc, argv);
    if (fflush(stdout) || ferror(stdout))
        return rc ? rc : cli_fail("writing the output: %s", strerror(errno));
    return rc;
}
