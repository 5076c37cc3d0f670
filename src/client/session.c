/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: the connection to the daemon.
 *
 * One thread, the watcher, is the only reader of the session socket: it hands answers to the
 * threads that asked, and when the daemon ends it wakes everybody who sleeps on a route that will
 * not change any more.  Requests of several threads may be on their way at a time; answers carry
 * their serial.
 *
 * A request that is not answered in time is abandoned, not forgotten: the answer may still come,
 * and a descriptor in it must be closed, a connection that was attached after all must be let go.
 *
 * The daemon learns of our death by the end of the socket.  So a child must not keep it open; fork
 * handlers close it there and settle each connection of the child (see chimney.h).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "client/client.h"

#define HELLO_DESCRIPTORS 2
#define WATCHER_STACK (256u << 10)

struct request {
    struct request *next;
    uint32_t op, serial;
    bool done, abandoned;
    struct protocol_message answer;
    int fd;
};

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct chimney_session *all; /* (all_lock) */

/* ---- fork ----------------------------------------------------------------------------------- */

static void before_fork(void)
{
    pthread_mutex_lock(&all_lock);
    for (struct chimney_session *s = all; s != NULL; s = s->next)
        pthread_mutex_lock(&s->lock);
}

static void after_fork_parent(void)
{
    for (struct chimney_session *s = all; s != NULL; s = s->next)
        pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&all_lock);
}

/** Only the thread that forked exists in the child: locks held by others are free, sleepers gone.
 */
static void after_fork_child(void)
{
    pthread_mutex_init(&all_lock, NULL);
    for (struct chimney_session *s = all; s != NULL; s = s->next) {
        pthread_mutex_init(&s->lock, NULL);
        s->forked = true;
        s->watched = false;
        atomic_store(&s->error, EBADFD);
        if (s->sock >= 0)
            os_close(s->sock);
        s->sock = -1;
        for (struct chimney_conn *c = s->conns; c != NULL; c = c->next) {
            struct stream_slot *slot = atomic_load(&c->slot);

            pthread_mutex_init(&c->control, NULL);
            pthread_mutex_init(&c->send_lock, NULL);
            pthread_mutex_init(&c->receive_lock, NULL);
            if (slot != NULL && atomic_load(&slot->route) != STREAM_ROUTE_KERNEL)
                c->stranded = true;
            atomic_store(&c->slot, NULL);
            c->set = NULL;
        }
        for (struct chimney_set *set = s->sets; set != NULL; set = set_next(set))
            set_after_fork(set);
    }
}

static void fork_register(void)
{
    (void)pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- messages ------------------------------------------------------------------------------- */

static int message_send(int sock, const struct protocol_message *message, int fd)
{
    struct iovec iov = {.iov_base = (void *)message, .iov_len = sizeof(*message)};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    while (os_sendmsg(sock, &msg, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/** One message and up to @count descriptors (-1 where none).  0; -EPIPE at the end; -errno. */
static int message_receive(int sock, struct protocol_message *message, int *fds, size_t count)
{
    struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(HELLO_DESCRIPTORS * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    size_t got = 0;
    ssize_t n;

    for (size_t i = 0; i < count; i++)
        fds[i] = -1;
    do
        n = os_recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n == 0 ? -EPIPE : -errno;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(&msg); m != NULL; m = CMSG_NXTHDR(&msg, m)) {
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (m->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(m) + i * sizeof(int), sizeof(int));
            if (got < count)
                fds[got++] = fd;
            else
                os_close(fd);
        }
    }
    message->text[sizeof(message->text) - 1] = '\0';
    if (n == sizeof(*message))
        return 0;
    for (size_t i = 0; i < got; i++) {
        os_close(fds[i]);
        fds[i] = -1;
    }
    return -EPROTO;
}

/* ---- the watcher ---------------------------------------------------------------------------- */

/** An answer nobody waits for any more (session->lock is held). */
static void answer_late(struct chimney_session *s, const struct request *r)
{
    if (r->op == PROTOCOL_ATTACH && r->answer.error == 0) {
        struct protocol_message detach = {.op = PROTOCOL_DETACH,
                                          .serial = ++s->serial,
                                          .slot = r->answer.slot,
                                          .conn_id = r->answer.conn_id};
        (void)message_send(s->sock, &detach, -1);
    }
    if (r->fd >= 0)
        os_close(r->fd);
}

static void answer_deliver(struct chimney_session *s, const struct protocol_message *answer, int fd)
{
    struct request **link = &s->requests, *r;

    pthread_mutex_lock(&s->lock);
    while (*link != NULL && (*link)->serial != answer->serial)
        link = &(*link)->next;
    r = *link;
    if (r != NULL) {
        *link = r->next;
        r->answer = *answer;
        r->fd = fd;
        r->done = true;
        if (r->abandoned) {
            answer_late(s, r);
            free(r);
        } else {
            pthread_cond_broadcast(&s->answered);
        }
    } else if (fd >= 0) {
        os_close(fd);
    }
    pthread_mutex_unlock(&s->lock);
}

/** No daemon from now on: routes are what they are. */
static void session_end_of_daemon(struct chimney_session *s, int why)
{
    pthread_mutex_lock(&s->lock);
    if (atomic_load(&s->error) == 0)
        atomic_store(&s->error, why);
    for (struct chimney_conn *c = s->conns; c != NULL; c = c->next) {
        struct stream_slot *slot = atomic_load(&c->slot);

        if (slot != NULL)
            slot_wake(slot);
    }
    for (struct chimney_set *set = s->sets; set != NULL; set = set_next(set))
        set_wake_all(set);
    pthread_cond_broadcast(&s->answered);
    pthread_mutex_unlock(&s->lock);
}

static void *watcher(void *arg)
{
    struct chimney_session *s = arg;
    struct protocol_message message;
    int fd, err;

    while ((err = message_receive(s->sock, &message, &fd, 1)) == 0) {
        if (message.op < PROTOCOL_NOTICE) {
            answer_deliver(s, &message, fd);
            continue;
        }
        if (fd >= 0)
            os_close(fd);
        /* Every connection is in the kernel already; the end of the socket follows. */
        if (message.op == PROTOCOL_GOODBYE)
            break;
    }
    session_end_of_daemon(s, err == 0 ? EPIPE : -err);
    return NULL;
}

static int watcher_start(struct chimney_session *s)
{
    pthread_attr_t attr;
    sigset_t none, old;
    int err;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WATCHER_STACK);
    sigfillset(&none);
    pthread_sigmask(SIG_SETMASK, &none, &old);
    err = pthread_create(&s->watcher, &attr, watcher, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    s->watched = err == 0;
    if (s->watched)
        pthread_setname_np(s->watcher, "chimney");
    return -err;
}

/* ---- requests ------------------------------------------------------------------------------- */

int session_request(struct chimney_session *s, const struct protocol_message *ask, int fd,
                    struct protocol_message *answer, int *answer_fd)
{
    struct request *r = calloc(1, sizeof(*r));
    struct protocol_message message = *ask;
    struct timespec until;
    int err = 0, cancel;

    if (r == NULL)
        return -ENOMEM;
    /* The wait below is the only cancellation point in the library. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLIENT_ANSWER_SECONDS;
    pthread_mutex_lock(&s->lock);
    if (atomic_load(&s->error) != 0) {
        err = -EPIPE;
        goto out;
    }
    message.serial = r->serial = ++s->serial;
    r->op = message.op;
    r->fd = -1;
    r->next = s->requests;
    s->requests = r;
    err = message_send(s->sock, &message, fd);
    while (err == 0 && !r->done && atomic_load(&s->error) == 0)
        err = -pthread_cond_timedwait(&s->answered, &s->lock, &until);
    if (r->done) {
        err = 0;
    } else if (err == -ETIMEDOUT && atomic_load(&s->error) == 0) {
        r->abandoned = true;
        pthread_mutex_unlock(&s->lock);
        pthread_setcancelstate(cancel, NULL);
        return -ETIMEDOUT;
    } else {
        struct request **link = &s->requests;

        while (*link != r)
            link = &(*link)->next;
        *link = r->next;
        err = -EPIPE;
    }
out:
    pthread_mutex_unlock(&s->lock);
    pthread_setcancelstate(cancel, NULL);
    if (err == 0) {
        *answer = r->answer;
        if (answer_fd != NULL)
            *answer_fd = r->fd;
        else if (r->fd >= 0)
            os_close(r->fd);
    }
    free(r);
    return err;
}

/* ---- open and end --------------------------------------------------------------------------- */

static int session_connect(const char *rundir)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = CLIENT_HELLO_SECONDS};
    int n, err, sock;

    if (rundir == NULL)
        rundir = secure_getenv("CHIMNEY_RUNDIR");
    if (rundir == NULL || *rundir == '\0')
        rundir = PROTOCOL_RUNDIR;
    n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", rundir, PROTOCOL_SESSION_SOCKET);
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    sock = os_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return -errno;
    /* Also bounds the connect and the wait for HELLO's answer. */
    os_setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    os_setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (os_connect(sock, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        err = errno == EAGAIN ? -ETIMEDOUT : -errno;
        os_close(sock);
        return err;
    }
    return sock;
}

static int session_hello(struct chimney_session *s)
{
    struct protocol_message message = {.op = PROTOCOL_HELLO, .slot = PROTOCOL_VERSION};
    struct timeval forever = {0};
    int err, fds[HELLO_DESCRIPTORS];

    err = message_send(s->sock, &message, -1);
    if (err == 0)
        err = message_receive(s->sock, &message, fds, HELLO_DESCRIPTORS);
    if (err != 0)
        return err == -EAGAIN ? -ETIMEDOUT : err;
    s->kick_fd = fds[1];
    if (message.op != PROTOCOL_HELLO || message.error != 0 || fds[0] < 0 || fds[1] < 0) {
        if (fds[0] >= 0)
            os_close(fds[0]);
        return message.error > 0 ? -message.error : -EPROTO;
    }
    err = stream_arena_map(&s->arena, fds[0]);
    if (err != 0)
        return err;
    os_setsockopt(s->sock, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
    return watcher_start(s);
}

EXPORT struct chimney_session *chimney_open(const char *rundir)
{
    struct chimney_session *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;
    int err;

    if (s == NULL)
        return NULL;
    pthread_once(&fork_once, fork_register);
    atomic_store(&s->refs, 1);
    s->kick_fd = -1;
    s->arena.fd = -1;
    for (int i = 0; i < (int)STREAM_SETS; i++)
        s->channels[i].event_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->answered, &attr);
    pthread_condattr_destroy(&attr);

    pthread_mutex_lock(&all_lock);
    s->next = all;
    all = s;
    pthread_mutex_unlock(&all_lock);

    s->sock = session_connect(rundir);
    err = s->sock < 0 ? s->sock : session_hello(s);
    if (err != 0) {
        int none = 0;

        /* The watcher, if any, was first with the reason. */
        atomic_compare_exchange_strong(&s->error, &none, -err);
        if (s->sock >= 0)
            os_close(s->sock);
        s->sock = -1;
    }
    return s;
}

EXPORT int chimney_connected(struct chimney_session *s)
{
    int error = atomic_load(&s->error);

    errno = error != 0 ? error : errno;
    return error == 0;
}

void session_hold(struct chimney_session *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void session_drop(struct chimney_session *s)
{
    struct chimney_session **link = &all;

    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    pthread_mutex_lock(&all_lock);
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    pthread_mutex_unlock(&all_lock);
    for (struct request *r = s->requests; r != NULL;) {
        struct request *next = r->next;

        free(r); /* abandoned ones only: nobody else is left */
        r = next;
    }
    for (int i = 0; i < (int)STREAM_SETS; i++)
        if (s->channels[i].event_fd >= 0)
            os_close(s->channels[i].event_fd);
    if (s->kick_fd >= 0)
        os_close(s->kick_fd);
    stream_arena_unmap(&s->arena);
    /* The condition is not destroyed: in a child it may look as if somebody waited. */
    pthread_mutex_destroy(&s->lock);
    free(s);
}

EXPORT void chimney_end(struct chimney_session *s)
{
    if (s == NULL)
        return;
    for (;;) {
        struct chimney_conn *c;

        pthread_mutex_lock(&s->lock);
        for (c = s->conns; c != NULL && (c->ended || atomic_load(&c->slot) == NULL); c = c->next)
            ;
        if (c != NULL)
            c->ended = true;
        pthread_mutex_unlock(&s->lock);
        if (c == NULL)
            break;
        (void)conn_make_plain(c);
    }
    if (s->watched) {
        os_shutdown(s->sock, SHUT_RDWR);
        pthread_join(s->watcher, NULL);
        s->watched = false;
    }
    if (s->sock >= 0)
        os_close(s->sock);
    s->sock = -1;
    session_drop(s);
}
