/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker: one thread that owns the targets.
 *
 * Theory of operation.  A round looks at messages, at the programs' kicks and at the targets, in
 * this order.  A round that found nothing to do is followed by a few more (polling is cheaper than
 * sleeping while traffic is near), then the worker sleeps: it arms every kick ring, looks once
 * more, and waits in epoll for frames, kicks, messages or the earliest timer.  While it is awake
 * nobody makes a system call to tell it anything.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/** Empty rounds before the worker sleeps. */
#define WORKER_IDLE_ROUNDS 64
/** Kicks taken from one program per round, so that no program starves another. */
#define WORKER_KICKS_PER_ROUND 256
/** Bursts that empty the ring of a queue, however full it was. */
#define WORKER_DRAIN_ROUNDS (XSK_FRAMES_PER_QUEUE / TARGET_BURST)
#define WORKER_MAX_FDS (DAEMON_MAX_PORTS * XSK_MAX_QUEUES)

static void worker_mail(struct daemon *d, const struct mail *mail)
{
    switch (mail->kind) {
    case MAIL_VERB: {
        struct port_ctx *p = mail->port;
        const struct chimney_target_ops *ops = p->top->ops;

        switch ((enum tree_verb)mail->verb) {
        case TREE_INITIATE:
            ops->initiate(p->top, mail->root);
            break;
        case TREE_QUERY:
            ops->query(p->top, mail->root);
            break;
        case TREE_UPDATE:
            ops->update(p->top, mail->root);
            break;
        case TREE_INVALIDATE:
            ops->invalidate(p->top, mail->root);
            break;
        case TREE_TERMINATE:
            host_terminating(mail->root);
            ops->terminate(p->top, mail->root);
            break;
        }
        break;
    }
    case MAIL_CAPS: {
        struct port_ctx *p = mail->port;
        struct chimney_capabilities caps;

        p->top->ops->get_capabilities(p->top, &caps);
        break;
    }
    case MAIL_CALL:
        mail->fn(mail->a, mail->b);
        atomic_store_explicit(mail->done, 1, memory_order_release);
        break;
    default:
        break;
    }
    (void)d;
}

static bool worker_kicks(struct daemon *d)
{
    bool any = false;

    for (unsigned i = 0; i < d->w_session_count; i++) {
        struct session *s = d->w_sessions[i];
        struct stream_queue *q = stream_kick_queue(&s->arena);
        uint32_t slot;

        for (int n = 0; n < WORKER_KICKS_PER_ROUND; n++) {
            if (!stream_queue_pop(q, &s->w_kick_tail, &slot))
                break;
            any = true;
            host_kick(d, s, slot);
        }
    }
    return any;
}

void worker_drain(struct daemon *d, void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < d->port_count; i++) {
        struct port_ctx *p = &d->ports[i];
        unsigned most = p->port->caps.queues * WORKER_DRAIN_ROUNDS;
        struct port_stats before, after;

        port_get_stats(p->port, &after);
        do {
            before = after;
            target_poll(p->target, daemon_now());
            port_get_stats(p->port, &after);
        } while (after.rx_frames - before.rx_frames >= TARGET_BURST && --most > 0);
    }
}

static bool worker_round(struct daemon *d)
{
    struct mail mail;
    bool any = false;

    while (mailbox_take(&d->to_worker, &mail)) {
        any = true;
        worker_mail(d, &mail);
    }
    any |= worker_kicks(d);
    for (unsigned i = 0; i < d->port_count; i++)
        any |= target_poll(d->ports[i].target, daemon_now());
    host_started(d);
    return any || d->w_started;
}

/* Sleeps until something happens; false if something had happened already. */
static bool worker_sleep(struct daemon *d)
{
    struct epoll_event events[64];
    uint64_t now, next = UINT64_MAX;
    struct timespec timeout, *wait = NULL;
    bool empty = true;
    int n;

    for (unsigned i = 0; i < d->w_session_count; i++)
        empty &= stream_queue_arm(stream_kick_queue(&d->w_sessions[i]->arena),
                                  d->w_sessions[i]->w_kick_tail);
    empty &= !atomic_load(&d->to_worker.pending);
    if (empty) {
        now = daemon_now();
        for (unsigned i = 0; i < d->port_count; i++) {
            uint64_t t = target_next_timeout(d->ports[i].target);

            next = t < next ? t : next;
        }
        if (next != UINT64_MAX) {
            uint64_t left = next > now ? next - now : 0;

            timeout =
                (struct timespec){(time_t)(left / 1000000000ull), (long)(left % 1000000000ull)};
            wait = &timeout;
        }
        n = epoll_pwait2(d->w_epoll_fd, events, 64, wait, NULL);
        for (int i = 0; i < n; i++) {
            uint64_t count;
            int fd = events[i].data.fd;

            /* Kick eventfds are drained here; the mailbox drains its own. */
            if (fd >= 0 && read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
                daemon_log("reading a kick: %s", strerror(errno));
        }
    }
    for (unsigned i = 0; i < d->w_session_count; i++)
        stream_queue_disarm(stream_kick_queue(&d->w_sessions[i]->arena));
    return empty;
}

static void *worker_main(void *arg)
{
    struct daemon *d = arg;
    int idle = 0;

    pthread_setname_np(pthread_self(), "worker");
    while (!d->w_stop) {
        if (worker_round(d)) {
            idle = 0;
        } else if (++idle > WORKER_IDLE_ROUNDS) {
            idle = 0;
            worker_sleep(d);
        }
    }
    return NULL;
}

static int worker_watch(struct daemon *d, int fd, bool drain)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = drain ? fd : -1};

    return epoll_ctl(d->w_epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int worker_start(struct daemon *d, char *err, size_t errlen)
{
    int fds[WORKER_MAX_FDS];
    int rc;

    d->w_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->w_epoll_fd < 0 || worker_watch(d, d->to_worker.event_fd, false) < 0)
        goto fail;
    for (unsigned i = 0; i < d->port_count; i++) {
        int n = port_poll_fds(d->ports[i].port, fds, WORKER_MAX_FDS);

        for (int j = 0; j < n; j++)
            if (worker_watch(d, fds[j], false) < 0)
                goto fail;
    }
    rc = pthread_create(&d->worker_thread, NULL, worker_main, d);
    if (rc) {
        errno = rc;
        goto fail;
    }
    d->worker_running = true;
    return 0;
fail:
    rc = -errno;
    snprintf(err, errlen, "starting the worker: %s", strerror(-rc));
    return rc;
}

static void stop_fn(void *a, void *b)
{
    (void)b;
    ((struct daemon *)a)->w_stop = true;
}

void worker_post(struct daemon *d, const struct mail *mail)
{
    mailbox_post(&d->to_worker, mail);
}

struct worker_call {
    void (*fn)(struct daemon *d, void *arg);
    void *arg;
};

static void call_fn(void *a, void *b)
{
    struct worker_call *call = b;

    call->fn(a, call->arg);
}

void worker_call(struct daemon *d, void (*fn)(struct daemon *d, void *arg), void *arg)
{
    struct worker_call call = {fn, arg};
    _Atomic uint32_t done = 0;
    struct mail mail = {.kind = MAIL_CALL, .fn = call_fn, .a = d, .b = &call, .done = &done};

    if (!d->worker_running) {
        fn(d, arg);
        return;
    }
    mailbox_post(&d->to_worker, &mail);
    for (int spins = 0; !atomic_load_explicit(&done, memory_order_acquire); spins++)
        if (spins > 1000)
            nanosleep(&(struct timespec){0, 20000}, NULL);
}

void worker_stop(struct daemon *d)
{
    _Atomic uint32_t done = 0;
    struct mail mail = {.kind = MAIL_CALL, .fn = stop_fn, .a = d, .done = &done};

    if (!d->worker_running)
        return;
    mailbox_post(&d->to_worker, &mail);
    pthread_join(d->worker_thread, NULL);
    d->worker_running = false;
    close(d->w_epoll_fd);
}
