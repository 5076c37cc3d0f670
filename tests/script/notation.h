/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of a script line: times, names, and segments in relative numbers (see README.md).
 *
 * A segment is parsed into a struct note, and what the engine sends is turned into one as well, so
 * that comparing and printing know a single form.  Whatever cannot be understood ends the script
 * with its file and line.
 */
#ifndef TEST_SCRIPT_NOTATION_H
#define TEST_SCRIPT_NOTATION_H

#include <stdbool.h>
#include <stdint.h>
#include "tcp/tcp.h"

#define NOTE_ANY INT64_MIN        /* "*": any value will do */
#define NOTE_NONE (INT64_MIN + 1) /* "-": the option is absent */
#define LINE_WORDS 40

/** One line of a script, split at white space. */
struct line {
    const char *file;
    unsigned number;
    char text[512], split[512];
    char *word[LINE_WORDS];
    unsigned words, at; /* at: the next word to be read */
};

/** A segment in relative numbers. */
struct note {
    uint8_t flags, cares; /* cares: the flags that are compared */
    int64_t seq, end;     /* payload [seq, end) */
    int64_t ack, win;     /* win: the field as on the wire */
    int64_t tsval, tsecr;
    bool sack_any;
    unsigned sack_count;
    int64_t sack[TCP_MAX_SACK][2];
    int64_t ecn, gso;
};

/** Ends the script: prints file, line, its text and the message. */
void line_fail(const struct line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/** Splits @text (a line without its newline; "#" begins a comment) into @line's words. */
void line_split(struct line *line, const char *text);
/** The next word; ends the script if there is none. */
const char *line_next(struct line *line);
/** Takes the next word if it is @word. */
bool line_take(struct line *line, const char *word);

/** A number, decimal or 0x; may be negative. */
int64_t parse_number(const struct line *line, const char *word);
/** "300ms", "1.5s", "20us", "7ns", "2m", "2h", "24d" as nanoseconds. */
tcp_time parse_time(const struct line *line, const char *word);
/** A state's name ("established", "fin-wait-1", ...). */
uint8_t parse_state(const struct line *line, const char *word);
const char *state_name(uint8_t state);

/** Parses flags, range and options from the next word on.  Absent fields: NOTE_ANY; no SACK. */
void parse_note(struct line *line, struct note *note);
/** Prints a note in the notation of scripts. */
void format_note(const struct note *note, char *text, size_t size);
/** Does what was sent fit what the script says? */
bool note_fits(const struct note *expected, const struct note *got);

#endif
