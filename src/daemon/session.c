/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: programs that speak the session protocol (protocol.h).
 *
 * A session ends when its socket ends, however the program died.  What the program had open is then
 * closed as the kernel would close it: an offloaded connection is brought back first, so that the
 * peer sees the FIN, or the RST if unread data is thrown away, from the kernel itself.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/** Requests of one program taken per wake-up, so that no program starves another. */
#define SESSION_REQUESTS_PER_WAKE 64

int session_listen(struct daemon *d, char *err, size_t errlen)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, n;

    n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", d->options.rundir,
                 PROTOCOL_SESSION_SOCKET);
    if (n >= (int)sizeof(addr.sun_path)) {
        snprintf(err, errlen, "run directory %s: path too long", d->options.rundir);
        return -ENAMETOOLONG;
    }
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(addr.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0) {
        int rc = -errno;

        snprintf(err, errlen, "%s: %s", addr.sun_path, strerror(-rc));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    d->session_listen = fd;
    return 0;
}

/* Sends one message with up to two descriptors.  A program that does not read loses its session. */
static void session_send(struct session *s, const struct protocol_message *m, const int *fds, int n)
{
    struct iovec iov = {(void *)m, sizeof(*m)};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (s->dead)
        return;
    if (n > 0) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, (size_t)n * sizeof(int));
    }
    if (sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EPIPE &&
        errno != ECONNRESET)
        shutdown(s->fd, SHUT_RDWR);
}

void session_answer(struct session *s, uint32_t op, uint32_t serial, struct conn *c, int error,
                    chimney_status status, const char *text)
{
    struct protocol_message m = {.op = op, .serial = serial, .error = error, .status = status};

    if (c) {
        m.slot = c->slot;
        m.conn_id = c->id;
    }
    snprintf(m.text, sizeof(m.text), "%s", text ? text : "");
    session_send(s, &m, NULL, 0);
}

static void session_add_fn(struct daemon *d, void *arg)
{
    struct session *s = arg;
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = s->kick_fd};

    d->w_sessions[d->w_session_count++] = s;
    epoll_ctl(d->w_epoll_fd, EPOLL_CTL_ADD, s->kick_fd, &ev);
}

static void session_remove_fn(struct daemon *d, void *arg)
{
    for (unsigned i = 0; i < d->w_session_count; i++)
        if (d->w_sessions[i] == arg) {
            d->w_sessions[i] = d->w_sessions[--d->w_session_count];
            epoll_ctl(d->w_epoll_fd, EPOLL_CTL_DEL, ((struct session *)arg)->kick_fd, NULL);
            return;
        }
}

static void session_free(struct session *s)
{
    for (unsigned i = 0; i < STREAM_SETS; i++)
        if (s->set_fd[i] >= 0)
            close(s->set_fd[i]);
    if (s->kick_fd >= 0)
        close(s->kick_fd);
    if (s->fd >= 0)
        close(s->fd);
    if (s->arena.base)
        stream_arena_unmap(&s->arena);
    free(s);
}

void session_accept(struct daemon *d)
{
    struct session *s;
    struct ucred cred;
    socklen_t len = sizeof(cred);
    char path[64];
    FILE *f;
    int fd = accept4(d->session_listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (d->session_count >= DAEMON_MAX_SESSIONS || d->stopping) {
        close(fd);
        daemon_log("a program was turned away: %s",
                   d->stopping ? "stopping" : "all sessions are taken");
        return;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        close(fd);
        return;
    }
    s->fd = fd;
    s->arena.fd = -1;
    for (unsigned i = 0; i < STREAM_SETS; i++) {
        s->set_fd[i] = -1;
        atomic_init(&s->set_fd_shared[i], -1);
    }
    s->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->kick_fd < 0 || stream_arena_create(&s->arena) < 0) {
        daemon_log("a program was turned away: no memory for its arena");
        session_free(s);
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) {
        s->pid = cred.pid;
        s->uid = cred.uid;
        snprintf(path, sizeof(path), "/proc/%d/comm", (int)cred.pid);
        f = fopen(path, "re");
        if (f) {
            if (fgets(s->comm, sizeof(s->comm), f))
                s->comm[strcspn(s->comm, "\n")] = 0;
            fclose(f);
        }
    }
    s->next = d->sessions;
    d->sessions = s;
    d->session_count++;
    worker_call(d, session_add_fn, s);
    daemon_watch(d, fd, s, EPOLLIN);
}

static void session_end(struct daemon *d, struct session *s)
{
    if (s->dead)
        return;
    s->dead = true;
    daemon_unwatch(d, s->fd);
    for (uint32_t i = 0; i < STREAM_SLOTS && s->attached > 0; i++) {
        struct conn *c = s->conns[i];

        if (!c)
            continue;
        c->want_close = true;
        c->notify_detach = c->notify_upload = false;
        snprintf(c->want_why, sizeof(c->want_why), "program ended");
        move_release(d, c);
    }
}

/* Ended sessions whose last connection is gone. */
void session_reap(struct daemon *d)
{
    struct session **link = &d->sessions;

    while (*link) {
        struct session *s = *link;

        if (!s->dead || s->attached > 0) {
            link = &s->next;
            continue;
        }
        *link = s->next;
        d->session_count--;
        worker_call(d, session_remove_fn, s);
        session_free(s);
    }
}

static struct conn *session_conn(struct session *s, const struct protocol_message *m)
{
    return m->slot < STREAM_SLOTS ? s->conns[m->slot] : NULL;
}

static void do_hello(struct session *s, const struct protocol_message *m)
{
    struct protocol_message answer = {.op = PROTOCOL_HELLO, .serial = m->serial};
    int fds[2] = {s->arena.fd, s->kick_fd};

    if (m->slot != PROTOCOL_VERSION) {
        answer.error = EPROTONOSUPPORT;
        snprintf(answer.text, sizeof(answer.text),
                 "daemon speaks version %u: install matching versions of both", PROTOCOL_VERSION);
        session_send(s, &answer, NULL, 0);
        return;
    }
    s->hello = true;
    answer.slot = PROTOCOL_VERSION;
    session_send(s, &answer, fds, 2);
}

static void do_attach(struct daemon *d, struct session *s, const struct protocol_message *m, int fd)
{
    const char *line = "";
    struct conn *c = NULL;
    uint32_t slot = 0;
    int error = 0;

    if (fd < 0) {
        session_answer(s, m->op, m->serial, NULL, EINVAL, 0, "no descriptor came with the request");
        return;
    }
    if (s->attached >= STREAM_SLOTS) {
        error = ENOSPC;
        line = "all slots of this program are taken";
    } else {
        for (slot = s->next_slot; s->conns[slot]; slot = (slot + 1) % STREAM_SLOTS)
            ;
        s->next_slot = (slot + 1) % STREAM_SLOTS;
        c = conn_create(d, s, slot, fd, m->flags, &error, &line);
    }
    if (!c) {
        close(fd);
        session_answer(s, m->op, m->serial, NULL, error, 0, line);
        return;
    }
    session_answer(s, m->op, m->serial, c, 0, 0, NULL);
    event_simple(d, "attach", NULL, c, NULL);
    if (d->options.auto_offload || m->flags & PROTOCOL_ATTACH_OFFLOAD)
        move_offload(d, &c, 1, d->options.auto_offload ? "automatic" : "program");
}

static void do_set(struct session *s, const struct protocol_message *m)
{
    struct protocol_message answer = {.op = m->op, .serial = m->serial, .slot = m->slot};

    if (m->slot >= STREAM_SETS) {
        session_answer(s, m->op, m->serial, NULL, ENOSPC, 0, "all wait sets are taken");
        return;
    }
    if (s->set_fd[m->slot] < 0) {
        s->set_fd[m->slot] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        atomic_store(&s->set_fd_shared[m->slot], s->set_fd[m->slot]);
    }
    if (s->set_fd[m->slot] < 0) {
        session_answer(s, m->op, m->serial, NULL, errno, 0, "no eventfd");
        return;
    }
    session_send(s, &answer, &s->set_fd[m->slot], 1);
}

static void session_request(struct daemon *d, struct session *s, const struct protocol_message *m,
                            int fd)
{
    struct conn *c = session_conn(s, m);
    bool wants_conn =
        m->op == PROTOCOL_DETACH || m->op == PROTOCOL_UPLOAD || m->op == PROTOCOL_OFFLOAD;

    if (fd >= 0 && m->op != PROTOCOL_ATTACH)
        close(fd);
    if (!s->hello && m->op != PROTOCOL_HELLO) {
        if (fd >= 0 && m->op == PROTOCOL_ATTACH)
            close(fd);
        session_answer(s, m->op, m->serial, NULL, EPROTO, 0, "say HELLO first");
        return;
    }
    if (wants_conn && (!c || c->want_release)) {
        session_answer(s, m->op, m->serial, NULL, EBADF, 0,
                       "no connection is attached in this slot");
        return;
    }
    switch (m->op) {
    case PROTOCOL_HELLO:
        do_hello(s, m);
        break;
    case PROTOCOL_ATTACH:
        do_attach(d, s, m, fd);
        break;
    case PROTOCOL_DETACH:
        c->notify_detach = true;
        c->detach_serial = m->serial;
        snprintf(c->want_why, sizeof(c->want_why), "program closed");
        move_release(d, c);
        break;
    case PROTOCOL_UPLOAD:
        c->notify_upload = true;
        c->upload_serial = m->serial;
        move_upload(d, &c, 1,
                    m->reason <= HardwareFailure ? (enum chimney_upload_reason)m->reason
                                                 : CHIMNEY_REASON_NONE,
                    "program asked");
        break;
    case PROTOCOL_OFFLOAD: {
        bool paused = c->port && c->port->paused;

        session_answer(s, m->op, m->serial, c, paused ? EAGAIN : 0, paused ? NDIS_STATUS_PAUSED : 0,
                       paused ? "offloading is paused: it will be done at resume" : NULL);
        move_offload(d, &c, 1, "program");
        break;
    }
    case PROTOCOL_SET:
        do_set(s, m);
        break;
    default:
        session_answer(s, m->op, m->serial, NULL, EOPNOTSUPP, 0, "unknown request");
    }
}

void session_readable(struct daemon *d, struct session *s)
{
    for (int i = 0; i < SESSION_REQUESTS_PER_WAKE; i++) {
        struct protocol_message m;
        struct iovec iov = {&m, sizeof(m)};
        union {
            char bytes[CMSG_SPACE(4 * sizeof(int))];
            struct cmsghdr align;
        } control;
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        int fd = -1;
        ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n >= 0) { /* an empty message can bring descriptors, too */
            for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
                size_t count;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                    continue;
                count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t j = 0; j < count; j++) {
                    int got;

                    memcpy(&got, CMSG_DATA(c) + j * sizeof(int), sizeof(int));
                    if (fd < 0)
                        fd = got;
                    else
                        close(got); /* one is all that any request has */
                }
            }
        }
        if (n != (ssize_t)sizeof(m) || msg.msg_flags & MSG_TRUNC) {
            if (fd >= 0)
                close(fd);
            if (n > 0)
                daemon_log("%s[%d]: malformed request, session ended", s->comm, (int)s->pid);
            session_end(d, s);
            return;
        }
        session_request(d, s, &m, fd);
        if (s->dead)
            return;
    }
}

void session_goodbye(struct daemon *d)
{
    for (struct session *s = d->sessions; s; s = s->next) {
        struct protocol_message m = {.op = PROTOCOL_GOODBYE};

        session_send(s, &m, NULL, 0);
    }
    while (d->sessions) {
        struct session *s = d->sessions;

        d->sessions = s->next;
        session_free(s);
    }
}
