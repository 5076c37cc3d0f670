/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libchimney, for programs: a connection handle that works the same whether the Linux kernel or an
 * offload target carries the connection, and that can turn back into a plain socket at any time.
 *
 * A program opens a *session* with chimneyd, attaches its connected TCP sockets, and then sends,
 * receives and waits with the functions below instead of send(2), recv(2), poll(2) and epoll(7).
 * chimneyd may move each connection out of the kernel and back at any moment.  No call returns
 * anything else because of it: same counts, same errno, same readiness, nothing lost, nothing
 * twice.
 *
 * Without a daemon everything works too; every connection then simply stays in the kernel.
 *
 * Errors.  As in the socket API: -1 (or NULL) and errno.
 *
 * Threads.  Any number of threads may use one session, one connection or one wait set at a time.
 * The exceptions are the functions that end an object (chimney_end, chimney_close, chimney_detach,
 * chimney_set_destroy): as with free(3), no other call on that object may be in progress or follow.
 * No function is async-signal-safe; none is a cancellation point.
 *
 * Blocking.  A call blocks as the socket call would: unless MSG_DONTWAIT is given or O_NONBLOCK is
 * set on the descriptor, until the time in SO_RCVTIMEO or SO_SNDTIMEO has passed.  Signals
 * interrupt it as they interrupt the socket call.  One approximation: a call that sleeps while the
 * kernel carries the connection is restarted after a signal if every handler installed in the
 * process has SA_RESTART; if some have and some have not, it fails with EINTR.
 *
 * The descriptor.  While a connection is attached, its descriptor must not be read, written, shut
 * down, polled or closed directly, and options must be set with chimney_setsockopt().  Duplicates
 * and copies in other processes count as the descriptor.  chimney_detach() ends that.
 *
 * fork(2).  A session belongs to the process that opened it.  In a child, a connection that was in
 * the kernel at the time of the fork is a plain socket shared with the parent, who must leave it
 * alone; with any other, every call fails with EBADFD, except chimney_close(), which closes the
 * child's copy of the descriptor and leaves the parent's connection as it is.  Wait sets of the
 * parent cannot be used.  exec(2) closes what libchimney opened.
 *
 * A lost target.  If chimneyd is killed while it carries a connection, the program can read what
 * was received, then sees ECONNRESET once, then end of file, or EPIPE if it sends.
 */
#ifndef CHIMNEY_CHIMNEY_H
#define CHIMNEY_CHIMNEY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <chimney/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct chimney_session;
struct chimney_conn;
struct chimney_set;

/* ---------------------------------------------------------------------------------------------
 * Sessions
 */

/**
 * Opens a session with the chimneyd of @rundir (NULL: the environment's CHIMNEY_RUNDIR, else
 * /run/chimney).  Waits at most a few seconds for the daemon.
 *
 * A daemon that is absent, refuses or does not answer is not an error: the session works, its
 * connections stay in the kernel, and chimney_connected() says why.
 *
 * Starts one thread, with all signals blocked, that listens to the daemon.
 *
 * Returns the session, to be ended with chimney_end(); NULL with ENOMEM only.
 */
struct chimney_session *chimney_open(const char *rundir);

/**
 * True if a daemon serves this session at the moment.  If not, returns 0 and sets errno to the
 * reason (ENOENT or ECONNREFUSED: none is running; EPROTO: another version; EPIPE: it has ended;
 * ...).
 */
int chimney_connected(struct chimney_session *session);

/**
 * Ends a session.  Connections that are still attached are brought back to the kernel and stay
 * valid as handles on plain sockets; each is still to be closed or detached, each wait set to be
 * destroyed. The session must not be used for anything new.  NULL is allowed.
 */
void chimney_end(struct chimney_session *session);

/* ---------------------------------------------------------------------------------------------
 * Connections
 */

/** The program accepted this connection (else: it connected it).  Policies distinguish the two. */
#define CHIMNEY_ATTACH_ACCEPTED 0x1u
/** Offload it at once, without waiting for a policy. */
#define CHIMNEY_ATTACH_OFFLOAD 0x2u

/**
 * Makes a handle for the connected stream socket @fd and tells the daemon of it.
 *
 * On success the handle owns @fd: chimney_close() closes it, chimney_detach() gives it back.  If
 * the daemon cannot take the connection (not TCP, not connected or reset already, tables full, no
 * daemon, ...) the handle is valid all the same and the connection stays in the kernel;
 * chimney_note() says why.
 *
 * @flags  CHIMNEY_ATTACH_*
 *
 * Returns the handle; NULL with EBADF, ENOTSOCK, EOPNOTSUPP (not a stream socket, or a listening
 * one), EINVAL (unknown flags) or ENOMEM, and @fd is still the caller's.
 */
struct chimney_conn *chimney_attach(struct chimney_session *session, int fd, unsigned flags);

/**
 * Sends as send(2) does.  @flags: any of send(2)'s.  MSG_MORE is a hint that a target may ignore;
 * a flag that only the kernel can serve (MSG_OOB, MSG_ZEROCOPY, ...) brings the connection back to
 * the kernel first.
 *
 * Returns the number of bytes taken over, less than @len only where the kernel's would be; -1 with
 * send(2)'s errors.  SIGPIPE comes with EPIPE unless MSG_NOSIGNAL is given.  Unlike send(2), a bad
 * address raises SIGSEGV while the connection is offloaded.
 */
ssize_t chimney_send(struct chimney_conn *conn, const void *data, size_t len, int flags);

/** As chimney_send() from @count pieces, at most IOV_MAX (else EMSGSIZE). */
ssize_t chimney_sendv(struct chimney_conn *conn, const struct iovec *iov, int count, int flags);

/**
 * Receives as recv(2) does.  @flags: MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_TRUNC (discard) and
 * their combinations are served in every state; others bring the connection back to the kernel
 * first.
 *
 * Returns the number of bytes, 0 at the end of the stream, -1 with recv(2)'s errors.
 */
ssize_t chimney_recv(struct chimney_conn *conn, void *data, size_t len, int flags);

/** As chimney_recv() into @count pieces, at most IOV_MAX (else EMSGSIZE). */
ssize_t chimney_recvv(struct chimney_conn *conn, const struct iovec *iov, int count, int flags);

/**
 * Waits until the connection is ready, as poll(2) on it would.
 *
 * @events      POLLIN, POLLOUT, POLLPRI, POLLRDHUP
 * @timeout_ms  milliseconds; negative: without limit; 0: only look
 *
 * Returns the events that hold, POLLERR and POLLHUP included; 0 when the time has passed; -1 with
 * EINTR or EBADFD.
 */
int chimney_poll(struct chimney_conn *conn, int events, int timeout_ms);

/**
 * As shutdown(2); the connection is brought back to the kernel first, where a half-closed
 * connection stays.  @how: SHUT_RD, SHUT_WR or SHUT_RDWR.  Returns 0; -1 with shutdown(2)'s errors.
 */
int chimney_shutdown(struct chimney_conn *conn, int how);

/**
 * Closes the connection as close(2) does (after it has been brought back to the kernel, so that the
 * peer sees exactly what the kernel would send, SO_LINGER included) and frees the handle.  It is
 * removed from its wait set.  Returns what close(2) returned.  NULL is allowed.
 */
int chimney_close(struct chimney_conn *conn);

/**
 * Turns the handle back into a plain socket: the connection is brought back to the kernel, the
 * handle is freed, and the descriptor, which works by itself from now on, is the caller's.  It is
 * removed from its wait set.
 *
 * Returns the descriptor.  -1 with ECONNRESET (lost with its target or its daemon) or EBADFD: the
 * handle is still there and can be closed.
 */
int chimney_detach(struct chimney_conn *conn);

/** The descriptor, for information (fstat, identification); see "The descriptor" above. */
int chimney_fd(const struct chimney_conn *conn);

/** The daemon's number of the connection, as in `chimney list`; 0 if the daemon does not have it.
 */
uint32_t chimney_id(const struct chimney_conn *conn);

/**
 * One line, without newline, about why the daemon does not have the connection or refused the last
 * request; empty if there is nothing to say.  Copied into @text (@len bytes, always terminated).
 */
void chimney_note(struct chimney_conn *conn, char *text, size_t len);

/**
 * Where the connection is: enum chimney_conn_state.  While it moves, the direction is inferred from
 * the state last seen.  -1 with ECONNRESET if it was lost with its target.
 */
int chimney_state(struct chimney_conn *conn);

/**
 * Asks the daemon to offload this connection.
 *
 * @status  if not NULL: gets the NDIS status of the answer (status.h), NDIS_STATUS_PAUSED for
 * example
 *
 * Returns 0 if the daemon took the request up: the connection is offloaded, or will be.  -1 with
 * ENOTCONN (the daemon does not have it; see chimney_note()), the errno of the daemon's refusal, or
 * ETIMEDOUT.  The connection works in any case.
 */
int chimney_offload(struct chimney_conn *conn, chimney_status *status);

/**
 * Brings the connection back to the kernel and waits for it.  A policy may offload it again later.
 *
 * @reason  recorded with the move; UploadRequested if in doubt
 *
 * Returns 0: it was in the kernel.  -1 with ECONNRESET, ETIMEDOUT, EBADFD or the daemon's errno.
 */
int chimney_upload(struct chimney_conn *conn, enum chimney_upload_reason reason);

/**
 * setsockopt(2).  SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT and SO_LINGER take effect in every state;
 * for anything else an offloaded connection is brought back to the kernel first.
 */
int chimney_setsockopt(struct chimney_conn *conn, int level, int name, const void *value,
                       socklen_t len);

/**
 * getsockopt(2).  What a parked socket cannot tell truthfully (TCP_INFO, TCP_MAXSEG, ...) is asked
 * of the kernel after the connection has been brought back.
 */
int chimney_getsockopt(struct chimney_conn *conn, int level, int name, void *value, socklen_t *len);

/** SIOCINQ: bytes that can be received now.  -1 with EBADFD, or ioctl(2)'s errors. */
int chimney_inq(struct chimney_conn *conn);
/** SIOCOUTQ: bytes sent by the program and not acknowledged by the peer. */
int chimney_outq(struct chimney_conn *conn);

/** getsockname(2), as it was when the connection was attached.  Works in every state. */
int chimney_getsockname(struct chimney_conn *conn, struct sockaddr *addr, socklen_t *len);
/** getpeername(2), likewise. */
int chimney_getpeername(struct chimney_conn *conn, struct sockaddr *addr, socklen_t *len);

/* ---------------------------------------------------------------------------------------------
 * Wait sets: epoll for connections in any state
 *
 * Events, flags and data are those of epoll(7): EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLPRI, EPOLLERR,
 * EPOLLHUP; EPOLLET, EPOLLONESHOT.  Level-triggered is the default.  With EPOLLET, every arrival of
 * data, every return of space after a send that found none, and every move of a ready connection
 * gives an event; an event without news may come as well, as with epoll.
 */

/**
 * Makes a wait set.  Returns it, to be freed with chimney_set_destroy(); NULL with ENOMEM, EMFILE
 * (the limit of 64 sets per session, or of descriptors) or another error of epoll_create1(2).
 */
struct chimney_set *chimney_set_create(struct chimney_session *session);

/** Frees a set.  Connections in it are taken out of it and stay open.  NULL is allowed. */
void chimney_set_destroy(struct chimney_set *set);

/**
 * Adds a connection.  @event is copied.  Returns 0; -1 with EEXIST (it is in this set), EBUSY (it
 * is in another set: a connection can be in one at a time), EINVAL (another session's, or flags
 * other than those above), ENOMEM, ENOSPC, EBADFD.
 */
int chimney_set_add(struct chimney_set *set, struct chimney_conn *conn,
                    const struct epoll_event *event);
/** Changes events and data, and re-arms EPOLLONESHOT.  0; -1 with ENOENT or EINVAL. */
int chimney_set_mod(struct chimney_set *set, struct chimney_conn *conn,
                    const struct epoll_event *event);
/** Takes a connection out.  0; -1 with ENOENT. */
int chimney_set_del(struct chimney_set *set, struct chimney_conn *conn);

/**
 * epoll_ctl(2) for a descriptor that is no connection (a listening socket, a timer, an eventfd), so
 * that one wait serves a whole event loop.  @op: EPOLL_CTL_ADD, _MOD or _DEL.  Take the descriptor
 * out before it is closed.  Returns as epoll_ctl(2).
 */
int chimney_set_fd_ctl(struct chimney_set *set, int op, int fd, struct epoll_event *event);

/**
 * Waits for events as epoll_wait(2) does.
 *
 * @max         room in @events, at least 1
 * @timeout_ms  milliseconds; negative: without limit; 0: only look
 *
 * Returns the number of events; 0 when the time has passed; -1 with EINTR or EINVAL.
 */
int chimney_set_wait(struct chimney_set *set, struct epoll_event *events, int max, int timeout_ms);

/**
 * A descriptor that polls readable when chimney_set_wait() would find something, to nest the set in
 * another event loop.  It belongs to the set.  It may be readable without cause.
 */
int chimney_set_fd(struct chimney_set *set);

#ifdef __cplusplus
}
#endif
#endif
