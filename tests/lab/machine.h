/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole machine in a lab: two namespaces, chimneyd in the first, traffic between them.
 *
 *   +--- namespace A ---------------------+          +--- namespace B ----------------+
 *   | chimneyd --port va                  | va    vb | peers: plain kernel TCP        |
 *   | programs of libchimney              10.9.0.1 -- 10.9.0.2   fd00:9::1 -- fd00:9::2 |
 *   +-------------------------------------+          +--------------------------------+
 */
#ifndef CHIMNEY_TESTS_MACHINE_H
#define CHIMNEY_TESTS_MACHINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lab.h"
#include "traffic.h"

#define MACHINE_A4 "10.9.0.1"
#define MACHINE_B4 "10.9.0.2"
#define MACHINE_A6 "fd00:9::1"
#define MACHINE_B6 "fd00:9::2"
#define MACHINE_MAX_ARGS 48

struct machine {
    int a, b;
    unsigned number; /* of this machine in the test */
    char dir[64];    /* run directory of the daemon, logs, summaries */
    pid_t daemon;    /* 0: none */
    pid_t tcpdump;   /* with LAB_PCAP=FILE in the environment: headers of everything seen in B */
    struct lab_witness *witness;
    unsigned resets_wire;        /* seen by the witness when they were forgotten */
    uint64_t resets_a, resets_b; /* TcpOutRsts then */
};

/** Namespaces, links and a witness; @gro: the veth holds packets back for GRO (handoff.md 3.2). */
void machine_open(struct machine *m, unsigned queues, bool gro);
/** Ends the daemon if it still runs, and removes everything.  Fails if the daemon complained. */
void machine_close(struct machine *m);

/** Path of a program of this build: "src/daemon/chimneyd". */
const char *machine_program(const char *path);
/**
 * Starts @argv in @ns, output to files in the machine's directory, named after @tag.  argv[0] is a
 * path as for machine_program(), or absolute.
 */
pid_t machine_spawn(struct machine *m, int ns, const char *tag, const char *const *argv);
/** What the program of @tag has written so far, both outputs; to be freed. */
char *machine_output(struct machine *m, const char *tag);
/** Prints the tail of what every program has written: for a test that is about to fail. */
void machine_print_logs(struct machine *m);
/** Waits at most @seconds; exit status, 128 + signal, or -1: still running. */
int machine_wait(pid_t pid, double seconds);

/** Starts chimneyd --port va with more arguments, ended by NULL, and waits until it serves. */
void machine_daemon_start(struct machine *m, const char *const *arguments);
/** Sends @signal and waits: exit status, or 128 + signal.  Fails if it takes too long. */
int machine_daemon_end(struct machine *m, int signal);
/** A line of the daemon's log contains @text. */
bool machine_daemon_said(struct machine *m, const char *text);

/** TcpOutRsts of a namespace. */
uint64_t machine_out_resets(int ns);
/** Forgets the resets so far: a connect() before the peer listens is answered by one. */
void machine_forget_resets(struct machine *m);
/** Nobody has sent a reset since then: neither on the wire nor by the kernels' own count. */
void machine_check_no_resets(struct machine *m);

/* ---- the control socket --------------------------------------------------------------------- */

struct ctl {
    struct machine *machine;
    int fd;
    size_t used;
    char data[1 << 20];
};

struct ctl *ctl_open(struct machine *m);
void ctl_close(struct ctl *ctl);
/** Sends one line; the answer is to be freed with json_decref(). */
json_t *ctl_ask(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The same; the test fails unless the answer is "ok". */
json_t *ctl_must(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** As ctl_must() for those who do not read the answer. */
void ctl_do(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Next line of a subscription; NULL after @timeout_ms. */
json_t *ctl_next(struct ctl *ctl, int timeout_ms);
/** Follows a path as "targets.0.queued"; the test fails if it leads nowhere. */
const json_t *ctl_at(const json_t *json, const char *path);
int64_t ctl_number(const json_t *json, const char *path);
const char *ctl_text(const json_t *json, const char *path);
/** A number of "status", asked for now. */
int64_t ctl_status(struct ctl *ctl, const char *path);
/** Waits until a number of "status" is @value. */
void ctl_await(struct ctl *ctl, const char *path, int64_t value, double seconds);
/** The row of connection @id in "list"; NULL: there is none.  To be freed. */
json_t *ctl_conn(struct ctl *ctl, uint32_t id);

/* ---- traffic -------------------------------------------------------------------------------- */

struct traffic {
    struct machine *machine;
    pid_t pid;
    char tag[16];
    struct traffic_table *table;
    json_t *summary;
};

/** Starts the traffic program in @ns with more arguments, ended by NULL; waits until it listens. */
void traffic_start(struct machine *m, int ns, struct traffic *t, const char *tag, const char *role,
                   const char *const *arguments);
/** Waits until @count connections are open. */
void traffic_await(struct traffic *t, unsigned count, double seconds);
/** Waits until every open connection has received and sent again since now: nothing stands still.
 */
void traffic_await_progress(struct traffic *t, uint64_t bytes, double seconds);
/** Bytes received so far, all connections. */
uint64_t traffic_received(const struct traffic *t);
/** Ids in the daemon, in the order of the table.  Returns how many. */
unsigned traffic_ids(const struct traffic *t, uint32_t *ids, unsigned most);
/** SIGTERM to @first, then both are waited for, must have succeeded and must agree on every byte.
 */
void traffic_end(struct traffic *first, struct traffic *second);
/** Ends it the hard way, for those who do not compare. */
void traffic_kill(struct traffic *t, int signal);

#endif
