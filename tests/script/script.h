/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A script that runs: one engine, its rings, a clock, and what waits to be expected.
 *
 * fields.c names what an import line may set and an expect line may ask; taken.c takes the
 * connection over; link.c moves the clock and segments; program.c does what the program and the
 * host do; runner.c reads lines and counts.
 */
#ifndef TEST_SCRIPT_SCRIPT_H
#define TEST_SCRIPT_SCRIPT_H

#include "notation.h"

#define MAX_WAITING 2048
#define START (1000000 * TCP_SEC) /* virtual time of the import */
/* Events that have to be mentioned by an "events" line. */
#define NOTABLE                                                                                    \
    (TCP_EV_FIN | TCP_EV_RESET | TCP_EV_SYN | TCP_EV_URGENT | TCP_EV_TIMEOUT | TCP_EV_TIME_WAIT |  \
     TCP_EV_FIN_ACKED)

/** A segment that left and that no line has expected yet. */
struct waiting {
    tcp_time at;
    struct note note;
};

/** Everything about the script that runs. */
struct script {
    struct line line;
    struct tcp_params params;
    struct tcp_import in;
    struct tcp_conn *conn;
    const struct tcp_cc_ops *cc;
    uint8_t *snd, *rcv;
    bool open, hold, warm;
    uint32_t super;
    tcp_time now, script_time;
    uint32_t snd_zero, rcv_zero, ts_zero, peer_ts_zero; /* what relative 0 stands for */
    uint32_t written, in_flight, buffered;
    int64_t snd_offset, rcv_offset; /* relative number of the byte at position 0 */
    uint64_t end, tail;             /* announced, consumed */
    uint32_t events, last_events;
    struct tcp_export state;
    struct waiting waiting[MAX_WAITING];
    unsigned first, count;
    int64_t last_win, last_tsval, last_stamp;
};

/* fields.c */
enum kind {
    U8,
    U16,
    U32,
    U64,
    TICKS,
    TICKS4,
    TICKS8,
    SND_SEQ,
    RCV_SEQ,
    OUR_STAMP,
    PEER_STAMP,
    STATE
};
struct field {
    const char *name;
    size_t offset;
    enum kind kind;
};
struct bit {
    const char *name;
    uint32_t bit;
};
extern const struct field delegated_fields[], constant_fields[], cached_fields[], param_fields[],
    stat_fields[];
extern const struct bit constant_flags[], cached_flags[], event_names[];
/** The bit called @name, or 0. */
uint32_t find_bit(const struct bit *list, const char *name);
/** The field called @name, or NULL. */
const struct field *find_field(const struct field *list, const char *name);
/** A word as a value in the field's own unit; relative numbers become absolute. */
uint32_t parse_field(struct script *s, const struct field *field, const char *word);
void set_field(struct script *s, const struct field *field, void *base, const char *word);
uint64_t get_field(const struct field *field, const void *base);
/** A field's value as the script would write it. */
void format_field(const struct script *s, const struct field *field, uint64_t value, char *text,
                  size_t size);

/* taken.c */
void set_defaults(struct script *s);
/** One word of an import line, or of an update line. */
void setting(struct script *s, const char *word, struct tcp_cached_state *cached, bool update);
/** Lays out the rings and takes the connection over; returns what tcp_import() returned. */
int first_import(struct script *s);
/** The word for an error of tcp_import(). */
const char *refusal_name(int error);
/** The import that "import" lines have described; ends the script if it is refused. */
void open_now(struct script *s);
/** Takes the connection of the last export over again, with the settings of this line. */
void import_again(struct script *s);
void fill_send_ring(struct script *s, uint64_t from, uint64_t to);
/** The byte at a relative number of a stream; the two streams differ. */
uint8_t pattern(bool ours, int64_t at);

/* link.c */
/** Notes @out among what left, with its time, after checking its payload and stamp. */
void sent(struct script *s, const struct tcp_out *out);
/** Takes everything from the engine that wants to leave. */
void pull(struct script *s);
/** The clock goes to @time; timers that fall due on the way fire at their time. */
void advance(struct script *s, tcp_time time);
/** Ends the script because of what waits. */
void fail_waiting(struct script *s, const char *what) __attribute__((noreturn));
/** A ">" line. */
void expect_segment(struct script *s);
/** A "<" line. */
void incoming(struct script *s);
/** Gives a segment to the engine. */
void feed(struct script *s, const struct note *note);

/* program.c */
/** Executes the verb @word of the line; false if there is no such verb. */
bool program_verb(struct script *s, const char *word);
/** Reads @bytes, which must be refused if @fails, and checks them. */
void consume(struct script *s, uint64_t bytes, bool fails);

#endif
