/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeping: in poll(2) while the kernel has the connection, on the slot's futex while it has not.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "client/client.h"

#define NS_PER_S 1000000000ll
/** Wake-ups of poll(2) with no result before the next one is preceded by a pause. */
#define IDLE_WAKEUPS 4
/** The longest such pause, ns. */
#define IDLE_PAUSE_MOST 16000000ll

int64_t client_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t client_deadline(int64_t timeout_ns)
{
    int64_t now;

    if (timeout_ns <= 0)
        return CLIENT_NEVER;
    now = client_now();
    return timeout_ns < CLIENT_NEVER - now ? now + timeout_ns : CLIENT_NEVER;
}

void slot_wake(struct stream_slot *slot)
{
    atomic_fetch_add(&slot->events, 1);
    if (atomic_load(&slot->waiters) != 0)
        syscall(SYS_futex, &slot->events, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/**
 * Sleeps while *word is @value.
 *
 * Without a time limit the kernel restarts a futex wait after a signal as SA_RESTART asks, with one
 * it does not: the same rule as for a blocked recv(2).  Whoever wants EINTR in any case, as poll(2)
 * gives, therefore sleeps with a limit, a far one.
 */
static int futex_wait(_Atomic uint32_t *word, uint32_t value, const struct sleeper *sleeper)
{
    bool limited = sleeper->deadline != CLIENT_NEVER;
    int64_t until = limited ? sleeper->deadline : client_now() + 3600 * NS_PER_S;
    struct timespec ts = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};

    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value,
                limited || !sleeper->restart ? &ts : NULL, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
        return 0;
    if (errno == EINTR)
        return -EINTR;
    return errno == ETIMEDOUT && limited ? -EAGAIN : 0;
}

/**
 * poll(2) never restarts, a blocked recv(2) without a time limit does where SA_RESTART is set.
 * Which handler ran is not known; so go by all of them.
 */
static bool signals_restart(void)
{
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        struct sigaction act = {.sa_handler = SIG_DFL};

        /* A thread that sleeps commits no faults. */
        if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP ||
            sig == SIGABRT || sig == SIGSYS)
            continue;
        if (sigaction(sig, NULL, &act) != 0 || (act.sa_flags & SA_RESTART) != 0)
            continue;
        if ((act.sa_flags & SA_SIGINFO) != 0 ||
            (act.sa_handler != SIG_DFL && act.sa_handler != SIG_IGN))
            return false;
    }
    return true;
}

/** The socket's error queue, for one, makes poll(2) report what no call ever takes away. */
static void pause_if_idle(struct sleeper *sleeper)
{
    unsigned over = sleeper->idle > IDLE_WAKEUPS ? sleeper->idle - IDLE_WAKEUPS : 0;
    int64_t ns = over == 0 ? 0 : 1000000ll << (over < 5 ? over : 5);

    if (ns > IDLE_PAUSE_MOST)
        ns = IDLE_PAUSE_MOST;
    if (ns > 0)
        os_pause((long)ns);
}

static int poll_wait(struct chimney_conn *c, int events, struct sleeper *sleeper)
{
    struct pollfd pfd = {.fd = c->fd, .events = (short)events};
    struct timespec ts, *limit = NULL;
    int n;

    pause_if_idle(sleeper);
    if (sleeper->deadline != CLIENT_NEVER) {
        int64_t left = sleeper->deadline - client_now();

        if (left <= 0)
            return -EAGAIN;
        ts = (struct timespec){.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
        limit = &ts;
    }
    n = os_ppoll(&pfd, 1, limit);
    if (n < 0)
        return errno != EINTR || (sleeper->restart && limit == NULL && signals_restart()) ? 0
                                                                                          : -EINTR;
    if (n == 0)
        return -EAGAIN;
    sleeper->idle = (pfd.revents & events) != 0 ? 0 : sleeper->idle + 1;
    return 0;
}

/**
 * Waits until sleeper->need bytes are there, for a call that has peeked at fewer.  poll(2) cannot
 * say that; a peek that waits for all of them can.  It takes nothing, so it need not be a step, and
 * if the socket is parked meanwhile it returns early.
 */
static int peek_wait(struct chimney_conn *c, struct stream_slot *slot, struct sleeper *sleeper)
{
    uint32_t generation = slot != NULL ? atomic_load(&slot->generation) : 0;
    ssize_t n;

    if (sleeper->deadline != CLIENT_NEVER && client_now() >= sleeper->deadline)
        return -EAGAIN;
    n = os_recv(c->fd, NULL, sleeper->need, MSG_PEEK | MSG_TRUNC | MSG_WAITALL);
    if (n >= 0 && (size_t)n >= sleeper->need)
        return 0;
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return -errno;
    if (slot != NULL && (atomic_load(&c->slot) != slot || conn_carrier(c, slot) != CARRIER_KERNEL ||
                         atomic_load(&slot->generation) != generation))
        return 0;
    /* The kernel says that no more will come: a signal, an end, an error, the time has passed. */
    if (n < 0 && errno != EPIPE && errno != ENOTCONN && errno != EPERM)
        atomic_store(&c->error, errno);
    return n < 0 ? 0 : -EAGAIN;
}

int conn_sleep(struct chimney_conn *c, int events, struct sleeper *sleeper)
{
    struct stream_slot *slot = atomic_load(&c->slot);
    enum carrier carrier = CARRIER_KERNEL;
    uint32_t seen;
    int rc = 0;

    if (slot != NULL) {
        /*
         * Counted as a waiter, then events read, then the condition: whatever the daemon changes
         * from here on, it finds us waiting or we find events changed.  The slot is compared last,
         * so that events was read while the slot was still ours.
         */
        atomic_fetch_add(&slot->waiters, 1);
        seen = atomic_load(&slot->events);
        carrier = conn_carrier(c, slot);
        if (atomic_load(&c->slot) == slot) {
            if (carrier == CARRIER_MOVING ||
                (carrier == CARRIER_STREAM && (ring_ready(c, slot, sleeper->need) & events) == 0)) {
                sleeper->idle = 0;
                rc = futex_wait(&slot->events, seen, sleeper);
            }
        } else {
            carrier = CARRIER_MOVING; /* look again */
        }
        atomic_fetch_sub(&slot->waiters, 1);
    }
    if (carrier != CARRIER_KERNEL)
        return rc;
    return sleeper->peek && sleeper->need > 1 ? peek_wait(c, slot, sleeper)
                                              : poll_wait(c, events, sleeper);
}

bool conn_settle(struct chimney_conn *c, int64_t deadline)
{
    struct sleeper sleeper = {.deadline = deadline, .restart = true};
    struct stream_slot *slot;
    enum carrier carrier;
    uint32_t seen;
    int rc = 0;

    for (;;) {
        slot = atomic_load(&c->slot);
        if (slot == NULL)
            return true;
        atomic_fetch_add(&slot->waiters, 1);
        seen = atomic_load(&slot->events);
        carrier = conn_carrier(c, slot);
        if (carrier == CARRIER_MOVING && rc != -EAGAIN && atomic_load(&c->slot) == slot)
            rc = futex_wait(&slot->events, seen, &sleeper);
        atomic_fetch_sub(&slot->waiters, 1);
        if (carrier != CARRIER_MOVING)
            return true;
        if (rc == -EAGAIN)
            return false;
    }
}

bool conn_patience(struct chimney_conn *c, int64_t *deadline)
{
    if (*deadline == 0)
        *deadline = client_now() + CLIENT_PATIENCE_NS;
    return conn_settle(c, *deadline);
}

int conn_ready(struct chimney_conn *c, int events)
{
    struct pollfd pfd = {.fd = c->fd, .events = (short)events};
    struct stream_slot *slot;
    int ready = 0;

    switch (conn_enter(c, &slot)) {
    case CARRIER_KERNEL:
        /* Inside, the socket cannot be parked: a hang-up is a hang-up. */
        if (os_ppoll(&pfd, 1, &(struct timespec){0}) > 0)
            ready = pfd.revents;
        conn_leave(slot);
        break;
    case CARRIER_STREAM:
        ready = ring_ready(c, slot, 0) & events;
        conn_leave(slot);
        break;
    case CARRIER_MOVING:
        return -EINPROGRESS;
    case CARRIER_LOST:
        ready = ((POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP) & events) | POLLHUP;
        break;
    case CARRIER_STRANDED:
        return -EBADFD;
    }
    if (atomic_load_explicit(&c->error, memory_order_relaxed) != 0)
        ready |= POLLERR;
    return ready;
}

EXPORT int chimney_poll(struct chimney_conn *c, int events, int timeout_ms)
{
    struct sleeper sleeper = {.deadline = client_deadline((int64_t)timeout_ms * 1000000)};
    int64_t patience = 0;
    int ready, rc = 0;

    for (;;) {
        ready = conn_ready(c, events);
        if (ready == -EINPROGRESS && (timeout_ms == 0 || rc == -EAGAIN) &&
            conn_patience(c, &patience))
            continue;
        if (ready == -EINPROGRESS)
            ready = 0;
        if (ready < 0)
            return client_fail(-ready);
        if (ready > 0 || timeout_ms == 0 || rc == -EAGAIN)
            return ready;
        rc = conn_sleep(c, events, &sleeper);
        if (rc == -EINTR)
            return client_fail(EINTR);
    }
}
