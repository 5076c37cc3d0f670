/* SPDX-License-Identifier: Apache-2.0 */
#include "sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

int sock_init(struct sock *s, int fd, struct chimney_session *session, unsigned flags)
{
    s->fd = fd;
    s->conn = NULL;
    if (!session)
        return 0;
    s->conn = chimney_attach(session, fd, flags);
    return s->conn ? 0 : -errno;
}

ssize_t sock_send(struct sock *s, const void *data, size_t len, int flags)
{
    flags |= MSG_NOSIGNAL;
    return s->conn ? chimney_send(s->conn, data, len, flags) : send(s->fd, data, len, flags);
}

ssize_t sock_sendv(struct sock *s, const struct iovec *iov, int count, int flags)
{
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};

    flags |= MSG_NOSIGNAL;
    return s->conn ? chimney_sendv(s->conn, iov, count, flags) : sendmsg(s->fd, &message, flags);
}

ssize_t sock_recv(struct sock *s, void *data, size_t len, int flags)
{
    return s->conn ? chimney_recv(s->conn, data, len, flags) : recv(s->fd, data, len, flags);
}

ssize_t sock_recvv(struct sock *s, const struct iovec *iov, int count, int flags)
{
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};

    return s->conn ? chimney_recvv(s->conn, iov, count, flags) : recvmsg(s->fd, &message, flags);
}

int sock_poll(struct sock *s, int events, int timeout_ms)
{
    struct pollfd pfd = {.fd = s->fd, .events = (short)events};
    int n;

    if (s->conn)
        return chimney_poll(s->conn, events, timeout_ms);
    n = poll(&pfd, 1, timeout_ms);
    return n > 0 ? pfd.revents : n;
}

int sock_shutdown(struct sock *s, int how)
{
    return s->conn ? chimney_shutdown(s->conn, how) : shutdown(s->fd, how);
}

int sock_setsockopt(struct sock *s, int level, int name, const void *value, socklen_t len)
{
    return s->conn ? chimney_setsockopt(s->conn, level, name, value, len)
                   : setsockopt(s->fd, level, name, value, len);
}

int sock_getsockopt(struct sock *s, int level, int name, void *value, socklen_t *len)
{
    return s->conn ? chimney_getsockopt(s->conn, level, name, value, len)
                   : getsockopt(s->fd, level, name, value, len);
}

int sock_close(struct sock *s)
{
    int rc = s->conn ? chimney_close(s->conn) : close(s->fd);

    s->conn = NULL;
    s->fd = -1;
    return rc;
}

/* ---- sets ----------------------------------------------------------------------------------- */

int sock_set_open(struct sock_set *set, struct chimney_session *session)
{
    set->epoll_fd = -1;
    set->set = session ? chimney_set_create(session) : NULL;
    if (session)
        return set->set ? 0 : -errno;
    set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return set->epoll_fd < 0 ? -errno : 0;
}

void sock_set_close(struct sock_set *set)
{
    if (set->set)
        chimney_set_destroy(set->set);
    else
        close(set->epoll_fd);
}

int sock_set_add(struct sock_set *set, struct sock *s, uint32_t events, void *tag)
{
    struct epoll_event ev = {.events = events, .data.ptr = tag};

    return set->set ? chimney_set_add(set->set, s->conn, &ev)
                    : epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, s->fd, &ev);
}

int sock_set_mod(struct sock_set *set, struct sock *s, uint32_t events, void *tag)
{
    struct epoll_event ev = {.events = events, .data.ptr = tag};

    return set->set ? chimney_set_mod(set->set, s->conn, &ev)
                    : epoll_ctl(set->epoll_fd, EPOLL_CTL_MOD, s->fd, &ev);
}

int sock_set_del(struct sock_set *set, struct sock *s)
{
    return set->set ? chimney_set_del(set->set, s->conn)
                    : epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
}

int sock_set_add_fd(struct sock_set *set, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};

    return set->set ? chimney_set_fd_ctl(set->set, EPOLL_CTL_ADD, fd, &ev)
                    : epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

int sock_set_wait(struct sock_set *set, struct epoll_event *events, int max, int timeout_ms)
{
    return set->set ? chimney_set_wait(set->set, events, max, timeout_ms)
                    : epoll_wait(set->epoll_fd, events, max, timeout_ms);
}

/* ---- listening and connecting --------------------------------------------------------------- */

static socklen_t address_of(const char *text, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    struct sockaddr_in *in4 = (struct sockaddr_in *)out;

    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, text, &in4->sin_addr) == 1) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons(port);
        return sizeof(*in4);
    }
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        return sizeof(*in6);
    }
    return 0;
}

int sock_listen(const char *address, uint16_t port)
{
    struct sockaddr_storage storage;
    socklen_t len = address_of(address, port, &storage);
    int fd, one = 1;

    if (!len)
        return -EINVAL;
    fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&storage, len) < 0 || listen(fd, 1024) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

int sock_connect(const char *address, uint16_t port)
{
    struct sockaddr_storage storage;
    socklen_t len = address_of(address, port, &storage);
    int fd;

    if (!len)
        return -EINVAL;
    fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&storage, len) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

int sock_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}
