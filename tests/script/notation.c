/* SPDX-License-Identifier: Apache-2.0 */
#include "notation.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const states[] = {
    "closed",     "listen",     "syn-sent", "syn-rcvd", "established", "fin-wait-1",
    "fin-wait-2", "close-wait", "closing",  "last-ack", "time-wait",
};
static const char *const ecn_names[] = {"not", "ect1", "ect0", "ce"};

/* Order of the letters when printed. */
static const struct {
    char letter;
    uint8_t flag;
} flag_letters[] = {
    {'S', TCP_SYN}, {'F', TCP_FIN}, {'R', TCP_RST}, {'P', TCP_PSH},
    {'U', TCP_URG}, {'E', TCP_ECE}, {'C', TCP_CWR}, {'A', TCP_ACK},
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void line_fail(const struct line *line, const char *format, ...)
{
    va_list args;

    printf("%s:%u: ", line->file, line->number);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n  line      %s\n", line->text);
    fflush(stdout);
    exit(1);
}

void line_split(struct line *line, const char *text)
{
    char *save, *word;

    line->words = line->at = 0;
    snprintf(line->text, sizeof(line->text), "%s", text);
    snprintf(line->split, sizeof(line->split), "%s", text);
    line->split[strcspn(line->split, "#")] = 0;
    for (word = strtok_r(line->split, " \t\r", &save); word;
         word = strtok_r(NULL, " \t\r", &save)) {
        if (line->words == LINE_WORDS)
            line_fail(line, "too many words");
        line->word[line->words++] = word;
    }
}

const char *line_next(struct line *line)
{
    if (line->at == line->words)
        line_fail(line, "the line ends too early");
    return line->word[line->at++];
}

bool line_take(struct line *line, const char *word)
{
    if (line->at == line->words || strcmp(line->word[line->at], word) != 0)
        return false;
    line->at++;
    return true;
}

int64_t parse_number(const struct line *line, const char *word)
{
    char *end;
    long long value = strtoll(word, &end, 0);

    if (end == word || *end)
        line_fail(line, "\"%s\" is no number", word);
    return value;
}

tcp_time parse_time(const struct line *line, const char *word)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6},   {"s", 1e9},
                 {"m", 6e10}, {"h", 3.6e12}, {"d", 8.64e13}};
    char *end;
    double value = strtod(word, &end);

    if (end == word || value < 0)
        line_fail(line, "\"%s\" is no time", word);
    if (!*end && value == 0)
        return 0;
    for (size_t i = 0; i < COUNT(units); i++)
        if (strcmp(end, units[i].name) == 0)
            return (tcp_time)llround(value * units[i].ns);
    line_fail(line, "\"%s\" is no time", word);
}

uint8_t parse_state(const struct line *line, const char *word)
{
    for (size_t i = 0; i < COUNT(states); i++)
        if (strcmp(word, states[i]) == 0)
            return (uint8_t)i;
    line_fail(line, "\"%s\" is no state", word);
}

const char *state_name(uint8_t state)
{
    return state < COUNT(states) ? states[state] : "?";
}

static void parse_flags(struct line *line, struct note *note)
{
    const char *word = line_next(line);

    if (strcmp(word, "*") == 0)
        return;
    note->cares = (uint8_t)~TCP_PSH;
    if (strcmp(word, "0") == 0)
        return;
    for (; *word; word++) {
        size_t i = 0;

        if (*word == 'p') { /* PSH must be clear */
            note->cares |= TCP_PSH;
            continue;
        }
        while (i < COUNT(flag_letters) && flag_letters[i].letter != *word)
            i++;
        if (i == COUNT(flag_letters))
            line_fail(line, "\"%c\" is no flag", *word);
        note->flags |= flag_letters[i].flag;
        note->cares |= flag_letters[i].flag;
    }
}

static int64_t parse_value(struct line *line, const char *word)
{
    return strcmp(word, "*") == 0 ? NOTE_ANY : parse_number(line, word);
}

/* "a:b" into two values; both may be "*". */
static void parse_pair(struct line *line, char *word, char separator, int64_t *a, int64_t *b)
{
    char *second = strchr(word, separator);

    if (!second)
        line_fail(line, "\"%s\": expected two values with a \"%c\" between", word, separator);
    *second++ = 0;
    *a = parse_value(line, word);
    *b = parse_value(line, second);
    second[-1] = separator;
}

static void parse_sack(struct line *line, struct note *note)
{
    if (line_take(line, "*")) {
        note->sack_any = true;
        return;
    }
    while (line->at < line->words && strchr(line->word[line->at], ':')) {
        if (note->sack_count == TCP_MAX_SACK)
            line_fail(line, "more than %d SACK blocks", TCP_MAX_SACK);
        parse_pair(line, line->word[line->at++], ':', &note->sack[note->sack_count][0],
                   &note->sack[note->sack_count][1]);
        note->sack_count++;
    }
    if (!note->sack_count)
        line_fail(line, "a SACK option without blocks");
}

static void parse_stamps(struct line *line, struct note *note)
{
    if (line_take(line, "-"))
        note->tsval = note->tsecr = NOTE_NONE;
    else
        parse_pair(line, (char *)line_next(line), '/', &note->tsval, &note->tsecr);
}

static int64_t parse_ecn(struct line *line)
{
    const char *word = line_next(line);

    for (size_t i = 0; i < COUNT(ecn_names); i++)
        if (strcmp(word, ecn_names[i]) == 0)
            return (int64_t)i;
    line_fail(line, "\"%s\" is no ECN field", word);
}

void parse_note(struct line *line, struct note *note)
{
    char *word;

    *note = (struct note){.seq = NOTE_ANY,
                          .end = NOTE_ANY,
                          .ack = NOTE_ANY,
                          .win = NOTE_ANY,
                          .tsval = NOTE_ANY,
                          .tsecr = NOTE_ANY,
                          .ecn = NOTE_ANY,
                          .gso = NOTE_ANY};
    parse_flags(line, note);
    word = (char *)line_next(line);
    if (strchr(word, ':'))
        parse_pair(line, word, ':', &note->seq, &note->end);
    else
        note->seq = note->end = parse_value(line, word);

    while (line->at < line->words) {
        if (line_take(line, "ack"))
            note->ack = parse_value(line, line_next(line));
        else if (line_take(line, "win"))
            note->win = parse_value(line, line_next(line));
        else if (line_take(line, "sack"))
            parse_sack(line, note);
        else if (line_take(line, "ecn"))
            note->ecn = parse_ecn(line);
        else if (line_take(line, "gso"))
            note->gso = parse_value(line, line_next(line));
        else if (line_take(line, "ts"))
            parse_stamps(line, note);
        else
            line_fail(line, "\"%s\" is no part of a segment", line->word[line->at]);
    }
}

static void add(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

static void add_value(char *text, size_t size, const char *before, int64_t value)
{
    if (value == NOTE_ANY)
        add(text, size, "%s*", before);
    else
        add(text, size, "%s%lld", before, (long long)value);
}

void format_note(const struct note *note, char *text, size_t size)
{
    text[0] = 0;
    for (size_t i = 0; i < COUNT(flag_letters); i++)
        if (note->flags & flag_letters[i].flag)
            add(text, size, "%c", flag_letters[i].letter);
    if (!note->flags)
        add(text, size, "%s", note->cares ? "0" : "*");
    add_value(text, size, " ", note->seq);
    if (note->end != note->seq)
        add_value(text, size, ":", note->end);
    add_value(text, size, " ack ", note->ack);
    add_value(text, size, " win ", note->win);
    if (note->tsval == NOTE_NONE) {
        add(text, size, " ts -");
    } else if (note->tsval != NOTE_ANY || note->tsecr != NOTE_ANY) {
        add_value(text, size, " ts ", note->tsval);
        add_value(text, size, "/", note->tsecr);
    }
    if (note->sack_count || note->sack_any)
        add(text, size, " sack%s", note->sack_any ? " *" : "");
    for (unsigned i = 0; i < note->sack_count; i++) {
        add_value(text, size, " ", note->sack[i][0]);
        add_value(text, size, ":", note->sack[i][1]);
    }
    if (note->ecn > 0)
        add(text, size, " ecn %s", ecn_names[note->ecn]);
    if (note->gso > 0)
        add_value(text, size, " gso ", note->gso);
}

static bool fits(int64_t expected, int64_t got)
{
    return expected == NOTE_ANY || expected == got;
}

bool note_fits(const struct note *expected, const struct note *got)
{
    if ((expected->flags ^ got->flags) & expected->cares || !fits(expected->seq, got->seq) ||
        !fits(expected->end, got->end) || !fits(expected->ack, got->ack) ||
        !fits(expected->win, got->win) || !fits(expected->tsval, got->tsval) ||
        !fits(expected->tsecr, got->tsecr))
        return false;
    /* What is not mentioned is not there. */
    if ((expected->ecn == NOTE_ANY ? TCP_ECN_NOT : expected->ecn) != got->ecn ||
        (expected->gso == NOTE_ANY ? 0 : expected->gso) != got->gso)
        return false;
    if (expected->sack_any)
        return true;
    if (expected->sack_count != got->sack_count)
        return false;
    for (unsigned i = 0; i < got->sack_count; i++)
        if (!fits(expected->sack[i][0], got->sack[i][0]) ||
            !fits(expected->sack[i][1], got->sack[i][1]))
            return false;
    return true;
}
