/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the lab tests share: network namespaces and links of their own, programs inside them, and a
 * witness on the wire.
 *
 * Everything made here is removed at exit, also after a failed check or a signal.  Names carry the
 * process id, so that any number of lab tests may run at the same time.  Nothing outside the
 * namespaces is touched.
 */
#ifndef CHIMNEY_TESTS_LAB_H
#define CHIMNEY_TESTS_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** Exit code for "cannot run here". */
#define LAB_SKIP 77
#define LAB_MAX_NS 16

/**
 * First call of a test: exits with 77 if not root, arranges the clean-up, ends the test with a
 * failure after @limit_s seconds whatever happens.  @name is at most 8 letters.
 */
void lab_init(const char *name, unsigned limit_s);
/** Has @clean called at the end of the test, also after a failure or a signal: one per test. */
void lab_at_end(void (*clean)(void));
/** Prints a line and ends the test as failed. */
void lab_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));
#define LAB_FAIL(...) lab_fail(__FILE__, __LINE__, __VA_ARGS__)
#define LAB_CHECK(condition)                                                                       \
    do {                                                                                           \
        if (!(condition))                                                                          \
            lab_fail(__FILE__, __LINE__, "%s", #condition);                                        \
    } while (0)
/** Checks that a call returns 0, prints what it returned otherwise. */
#define LAB_ZERO(call)                                                                             \
    do {                                                                                           \
        long lab_result = (call);                                                                  \
        if (lab_result)                                                                            \
            lab_fail(__FILE__, __LINE__, "%s returned %ld", #call, lab_result);                    \
    } while (0)
/** The test cannot run here: prints why and exits with 77. */
void lab_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

uint64_t lab_now_ns(void);
void lab_sleep_ms(unsigned ms);

/* Namespaces, by number in order of creation. */

/** Makes a namespace with loopback up; returns its number.  @tag: one or two letters. */
int lab_ns(const char *tag);
/** "ns-<name><pid>-<tag>", for `ip netns exec`. */
const char *lab_ns_name(int ns);
/** Returns to where the test was started and removes all namespaces made so far. */
void lab_clear(void);
/** Moves the calling thread into @ns; -1: back to the namespace the test was started in. */
void lab_enter(int ns);
/** Runs a shell command inside @ns (-1: outside); returns its exit status.  Prints it if it fails.
 */
int lab_run(int ns, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** As lab_run(), but the test fails if the command does. */
void lab_must(int ns, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Runs @body in a child inside @ns; the child dies with the test.  Its exit status is @body's. */
pid_t lab_fork(int ns, int (*body)(void *arg), void *arg);
/** Waits for a child; returns its exit status, or 128 + signal. */
int lab_wait(pid_t child);
void lab_sysctl(int ns, const char *key, const char *value);

/**
 * Joins two namespaces by a veth pair with @queues queues each, both ends up.  On @peer's side
 * transmit offloads are off, so that its packets have checksums in them.
 * Addresses: 10.<net>.0.1 / fd00:<net>::1 in @ns, ...2 in @peer_ns.
 */
void lab_veth(int ns, const char *name, int peer_ns, const char *peer, unsigned queues,
              unsigned net);

/**
 * A counter of /proc/net/snmp or /proc/net/netstat of @ns, "Tcp:OutRsts", "TcpExt:PAWSEstab"; 0 if
 * the kernel has none of that name.
 */
uint64_t lab_counter(int ns, const char *name);

/** A witness: counts TCP segments with RST that pass an interface, both directions. */
struct lab_witness;
struct lab_witness *lab_witness(int ns, const char *ifname);
/** Resets seen so far. */
unsigned lab_witness_resets(struct lab_witness *witness);
/** Destroys it. */
void lab_witness_end(struct lab_witness *witness);

/* Test data: the byte at any position of any stream is known. */
void lab_pattern(uint8_t *data, size_t len, uint32_t stream, uint64_t pos);
/** True if @data is the pattern; prints the first difference otherwise. */
bool lab_pattern_check(const uint8_t *data, size_t len, uint32_t stream, uint64_t pos);

/** Random numbers from the seed in LAB_SEED, or a new one that lab_init() prints. */
uint64_t lab_random(void);

#endif
