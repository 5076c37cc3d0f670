/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls of this library, made directly.
 *
 * Not through libc, for two reasons: libc's functions are cancellation points, and a thread must
 * not vanish while it is counted in slot->users or holds a lock; and the preload shim puts its own
 * functions in the place of libc's, which must not be called from underneath them.
 *
 * Each returns what the libc function of that name returns, and sets errno.
 */
#ifndef CHIMNEY_CLIENT_OS_H
#define CHIMNEY_CLIENT_OS_H

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "system call arguments and struct timespec are 64-bit");

static inline int os_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static inline int os_socket(int domain, int type, int protocol)
{
    return (int)syscall(SYS_socket, domain, type, protocol);
}

static inline int os_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return (int)syscall(SYS_connect, fd, addr, len);
}

static inline int os_shutdown(int fd, int how)
{
    return (int)syscall(SYS_shutdown, fd, how);
}

static inline ssize_t os_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return syscall(SYS_sendmsg, fd, msg, flags);
}

static inline ssize_t os_recvmsg(int fd, struct msghdr *msg, int flags)
{
    return syscall(SYS_recvmsg, fd, msg, flags);
}

static inline ssize_t os_recv(int fd, void *data, size_t len, int flags)
{
    return syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL);
}

static inline int os_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

static inline int os_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

static inline int os_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return (int)syscall(SYS_getsockname, fd, addr, len);
}

static inline int os_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return (int)syscall(SYS_getpeername, fd, addr, len);
}

static inline int os_ioctl(int fd, unsigned long request, void *arg)
{
    return (int)syscall(SYS_ioctl, fd, request, arg);
}

/** fcntl(fd, F_GETFL) */
static inline int os_getfl(int fd)
{
    return (int)syscall(SYS_fcntl, fd, 3 /* F_GETFL */, 0);
}

/** Changes *@limit, as the system call does. */
static inline int os_ppoll(struct pollfd *fds, unsigned long count, struct timespec *limit)
{
    return (int)syscall(SYS_ppoll, fds, count, limit, NULL, _NSIG / 8);
}

static inline int os_epoll_create(void)
{
    return (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
}

static inline int os_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    return (int)syscall(SYS_epoll_ctl, epoll_fd, op, fd, event);
}

static inline int os_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms)
{
    return (int)syscall(SYS_epoll_pwait, epoll_fd, events, max, timeout_ms, NULL, _NSIG / 8);
}

/** Rings and empties an eventfd; that it is full or empty already is as good. */
static inline void os_event_ring(int fd)
{
    (void)!syscall(SYS_write, fd, &(uint64_t){1}, sizeof(uint64_t));
}

static inline void os_event_clear(int fd)
{
    uint64_t value;

    (void)!syscall(SYS_read, fd, &value, sizeof(value));
}

static inline void os_pause(long ns)
{
    (void)syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = ns}, NULL);
}

#endif
