/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For people's eyes: aligned tables, SI units, spans of time.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- tables ----------------------------------------------------------------------------------- */

struct table {
    size_t columns, used, size;
    char **cells; /* the heads first */
};

static void table_add(struct table *t, const char *text)
{
    char *cell = strdup(text);

    if (t->used == t->size) {
        t->size = t->size ? 2 * t->size : 64;
        t->cells = realloc(t->cells, t->size * sizeof(*t->cells));
    }
    if (!t->cells || !cell)
        exit(cli_fail("no memory for the output"));
    /* A program chose its name itself: nothing of it may steer a terminal. */
    for (char *p = cell; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = '?';
    t->cells[t->used++] = cell;
}

struct table *table_new(const char *const *heads, size_t columns)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        exit(cli_fail("no memory for the output"));
    t->columns = columns;
    for (size_t i = 0; i < columns; i++)
        table_add(t, heads[i]);
    return t;
}

void table_cell(struct table *t, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    table_add(t, text);
}

void table_print(struct table *t)
{
    size_t *width = calloc(t->columns, sizeof(*width));

    if (!width)
        exit(cli_fail("no memory for the output"));
    for (size_t i = 0; i < t->used; i++) {
        size_t len = strlen(t->cells[i]) - (i < t->columns && t->cells[i][0] == '>');

        if (len > width[i % t->columns])
            width[i % t->columns] = len;
    }
    for (size_t i = 0; i < t->used; i++) {
        size_t column = i % t->columns;
        bool right = t->cells[column][0] == '>', last = column == t->columns - 1;
        const char *text = t->cells[i] + (i < t->columns && right);

        if (right)
            printf("%*s", (int)width[column], text);
        else
            printf("%-*s", last ? 0 : (int)width[column], text);
        fputs(last ? "\n" : "  ", stdout);
    }
    for (size_t i = 0; i < t->used; i++)
        free(t->cells[i]);
    free(t->cells);
    free(width);
    free(t);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static const char *show_si(uint64_t n, const char *unit, char text[SHOW_TEXT])
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
    double value = (double)n;
    size_t i = 0;

    /* 999.95 would be shown as 1000.0 */
    while (value >= (i ? 999.95 : 999.5) && i + 1 < sizeof(prefixes) / sizeof(prefixes[0])) {
        value /= 1000;
        i++;
    }
    if (i == 0)
        snprintf(text, SHOW_TEXT, "%.0f%s%s", value, *unit ? " " : "", unit);
    else
        snprintf(text, SHOW_TEXT, "%.1f %s%s", value, prefixes[i], unit);
    return text;
}

const char *show_count(uint64_t n, char text[SHOW_TEXT])
{
    return show_si(n, "", text);
}
const char *show_bytes(uint64_t n, char text[SHOW_TEXT])
{
    return show_si(n, "B", text);
}

const char *show_us(double us, char text[SHOW_TEXT])
{
    if (us <= 0)
        snprintf(text, SHOW_TEXT, "-");
    else if (us < 9.95)
        snprintf(text, SHOW_TEXT, "%.1f us", us);
    else if (us < 999.5)
        snprintf(text, SHOW_TEXT, "%.0f us", us);
    else if (us < 999950)
        snprintf(text, SHOW_TEXT, "%.1f ms", us / 1000);
    else
        snprintf(text, SHOW_TEXT, "%.1f s", us / 1e6);
    return text;
}

const char *show_seconds(double s, char text[SHOW_TEXT])
{
    unsigned long long n = s > 0 ? (unsigned long long)s : 0;

    if (n < 60)
        snprintf(text, SHOW_TEXT, "%llu s", n);
    else if (n < 3600)
        snprintf(text, SHOW_TEXT, "%llu min %llu s", n / 60, n % 60);
    else if (n < 86400)
        snprintf(text, SHOW_TEXT, "%llu h %llu min", n / 3600, n % 3600 / 60);
    else
        snprintf(text, SHOW_TEXT, "%llu d %llu h", n / 86400, n % 86400 / 3600);
    return text;
}

double show_time(const char *rfc3339)
{
    struct tm tm = {0};
    const char *rest = strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm);
    double fraction = 0;

    if (!rest)
        return -1;
    if (*rest == '.')
        fraction = strtod(rest, NULL);
    return (double)timegm(&tm) + fraction;
}

void show_tuple(const char *tuple, char local[64], char remote[64])
{
    const char *dash = strchr(tuple, '-');

    snprintf(local, 64, "%.*s", dash ? (int)(dash - tuple) : (int)strlen(tuple), tuple);
    snprintf(remote, 64, "%s", dash ? dash + 1 : "");
}

/* --- fields ----------------------------------------------------------------------------------- */

const char *field_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

uint64_t field_number(const json_t *object, const char *name)
{
    json_int_t n = json_integer_value(json_object_get(object, name));

    return n > 0 ? (uint64_t)n : 0;
}

double field_real(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

bool field_bool(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}
