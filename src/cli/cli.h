/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chimney command: what its files share.
 *
 * Exit codes: 0 done; 1 refused or failed, with one line on stderr that says what to do; 2 usage.
 */
#ifndef CHIMNEY_CLI_CLI_H
#define CHIMNEY_CLI_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CLI_OK 0
#define CLI_FAILED 1
#define CLI_USAGE 2

/** How long an answer may take that does not wait for anything, in seconds. */
#define CLI_ANSWER_S 10
/** Options of a command beside the common ones. */
#define CLI_MAX_OPTIONS 8

struct command;

/** One run of the command. */
struct cli {
    const struct command *command;
    const char *rundir;
    bool json;
};

/** A row of the table of commands. */
struct command {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv);
    const char *arguments; /* as in the first line of its help */
    const char *summary;   /* as in the list of commands */
    const char *help;      /* its own options and what it does */
};

/* main.c */
/** One line to stderr, prefixed by "chimney: "; returns CLI_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** The same for a mistake on the command line; returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/**
 * Next option of @extra (ended by a zero entry, all with has_arg and a val below 256), the common
 * ones being handled.  -1: no more, arguments begin at optind.  CLI_STOP + code: end with that
 * code.
 */
#define CLI_STOP 1000
int cli_option(struct cli *cli, int argc, char **argv, const struct option *extra);
/** Arguments joined by blanks: a selector need not be quoted.  To be freed; NULL if there are none.
 */
char *cli_join(int argc, char **argv);
/** Reads a whole number from @min to @max; false and a usage line if it is not one. */
bool cli_number(const struct cli *cli, const char *what, const char *text, uint64_t min,
                uint64_t max, uint64_t *out);

/* The commands. */
int command_status(struct cli *cli, int argc, char **argv);
int command_list(struct cli *cli, int argc, char **argv);
int command_offload(struct cli *cli, int argc, char **argv);
int command_upload(struct cli *cli, int argc, char **argv);
int command_pause(struct cli *cli, int argc, char **argv);
int command_resume(struct cli *cli, int argc, char **argv);
int command_events(struct cli *cli, int argc, char **argv);
int command_doctor(struct cli *cli, int argc, char **argv);

/* link.c: the line to the daemon */
struct link {
    int fd;
    char *buffer;
    size_t start, end, size;
};
/** Connects; false and a line on stderr. */
bool link_open(struct link *link, const struct cli *cli);
void link_close(struct link *link);
/** Sends one request, whose reference it takes; false and a line on stderr. */
bool link_send(struct link *link, json_t *request);
/**
 * Next line as JSON.  NULL: the daemon hung up (*@end is true, nothing is printed), or it failed or
 * took longer than @timeout_s (a line is printed).  A negative timeout waits for ever.
 */
json_t *link_read(struct link *link, double timeout_s, bool *end);
/** True if there is a line, or the end, to read within @timeout_s. */
bool link_wait(struct link *link, double timeout_s);
/** True if a line has been read from the socket but not by link_read(). */
bool link_pending(const struct link *link);
/**
 * One request, one answer.  NULL: no answer, a line was printed.  @timeout_s: how long the daemon
 * may take.
 */
json_t *link_ask(const struct cli *cli, json_t *request, double timeout_s);
/** Prints an answer with --json, or the error line of one that is not ok.  The exit code. */
int link_finish(const struct cli *cli, json_t *answer);

/* show.c: for people's eyes */
/** A table of text: all cells of a row, then the next row; widths fit the longest cell. */
struct table;
struct table *table_new(const char *const *heads, size_t columns);
/** Columns of numbers are flushed right: their head begins with '>'. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Prints and frees it. */
void table_print(struct table *table);

#define SHOW_TEXT 32
/** "999", "12.3 k", "4.5 M". */
const char *show_count(uint64_t n, char text[SHOW_TEXT]);
/** "999 B", "12.3 kB", "4.5 MB": powers of 1000. */
const char *show_bytes(uint64_t n, char text[SHOW_TEXT]);
/** "85 us", "1.2 ms", "3.4 s"; "-" for nothing. */
const char *show_us(double us, char text[SHOW_TEXT]);
/** "12 s", "2 min 10 s", "3 h 5 min", "4 d 2 h". */
const char *show_seconds(double s, char text[SHOW_TEXT]);
/** Seconds since the Epoch of an RFC 3339 time in UTC, or a negative number. */
double show_time(const char *rfc3339);
/** The first and second half of a tuple. */
void show_tuple(const char *tuple, char local[64], char remote[64]);

/* Fields of an answer; "", 0 and false if they are not there. */
const char *field_text(const json_t *object, const char *name);
uint64_t field_number(const json_t *object, const char *name);
double field_real(const json_t *object, const char *name);
bool field_bool(const json_t *object, const char *name);

#endif
