/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket calls of the lab's test programs: of the kernel or of libchimney, the same names and
 * the same results.  What a test says about a program is thereby said about both.
 */
#ifndef CHIMNEY_TESTS_SOCK_H
#define CHIMNEY_TESTS_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <chimney/chimney.h>

/** A connection: a handle of libchimney, or a plain descriptor. */
struct sock {
    int fd;
    struct chimney_conn *conn; /* NULL: plain */
};

/** Turns @fd into a connection: attached to @session unless that is NULL.  0 or -errno. */
int sock_init(struct sock *s, int fd, struct chimney_session *session, unsigned flags);
ssize_t sock_send(struct sock *s, const void *data, size_t len, int flags);
ssize_t sock_sendv(struct sock *s, const struct iovec *iov, int count, int flags);
ssize_t sock_recv(struct sock *s, void *data, size_t len, int flags);
ssize_t sock_recvv(struct sock *s, const struct iovec *iov, int count, int flags);
int sock_poll(struct sock *s, int events, int timeout_ms);
int sock_shutdown(struct sock *s, int how);
int sock_setsockopt(struct sock *s, int level, int name, const void *value, socklen_t len);
int sock_getsockopt(struct sock *s, int level, int name, void *value, socklen_t *len);
int sock_close(struct sock *s);

/** An epoll instance or a wait set. */
struct sock_set {
    int epoll_fd;
    struct chimney_set *set; /* NULL: plain */
};

int sock_set_open(struct sock_set *set, struct chimney_session *session);
void sock_set_close(struct sock_set *set);
int sock_set_add(struct sock_set *set, struct sock *s, uint32_t events, void *tag);
int sock_set_mod(struct sock_set *set, struct sock *s, uint32_t events, void *tag);
int sock_set_del(struct sock_set *set, struct sock *s);
/** A descriptor that is no connection. */
int sock_set_add_fd(struct sock_set *set, int fd, void *tag);
int sock_set_wait(struct sock_set *set, struct epoll_event *events, int max, int timeout_ms);

/** A listening socket on @address (IPv4 or IPv6; "::" takes both) and @port, blocking.  -errno. */
int sock_listen(const char *address, uint16_t port);
/** A connected socket, blocking.  -errno. */
int sock_connect(const char *address, uint16_t port);
int sock_nonblocking(int fd);

#endif
