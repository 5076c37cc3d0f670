/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections: attach, move on request, give back, close.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/sockios.h>
#include "client/client.h"

#define ATTACH_FLAGS (CHIMNEY_ATTACH_ACCEPTED | CHIMNEY_ATTACH_OFFLOAD)
_Static_assert(CHIMNEY_ATTACH_ACCEPTED == PROTOCOL_ATTACH_ACCEPTED &&
                   CHIMNEY_ATTACH_OFFLOAD == PROTOCOL_ATTACH_OFFLOAD,
               "the flags of the API are those of the protocol");

static void note_set(struct chimney_conn *c, const char *text)
{
    snprintf(c->note, sizeof(c->note), "%s", text);
}

static int64_t timeout_of(int fd, int name)
{
    struct timeval tv = {0};
    socklen_t len = sizeof(tv);

    if (os_getsockopt(fd, SOL_SOCKET, name, &tv, &len) != 0)
        return 0;
    return (int64_t)tv.tv_sec * 1000000000 + (int64_t)tv.tv_usec * 1000;
}

void conn_read_options(struct chimney_conn *c)
{
    int low = 1;
    socklen_t len = sizeof(low);

    (void)os_getsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &low, &len);
    atomic_store(&c->receive_low, low > 0 ? low : 1);
    atomic_store(&c->receive_timeout_ns, timeout_of(c->fd, SO_RCVTIMEO));
    atomic_store(&c->send_timeout_ns, timeout_of(c->fd, SO_SNDTIMEO));
}

/* ---- attach --------------------------------------------------------------------------------- */

/** Offers the connection to the daemon; if it does not take it, the kernel keeps it. */
static void attach_to_daemon(struct chimney_conn *c, unsigned flags)
{
    struct protocol_message ask = {.op = PROTOCOL_ATTACH, .flags = flags}, answer;
    int protocol = 0, err;
    socklen_t len = sizeof(protocol);

    if (os_getsockopt(c->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) != 0 ||
        protocol != IPPROTO_TCP || c->peer_len == 0) {
        note_set(c, protocol == IPPROTO_MPTCP ? "multipath TCP" : "not a connected TCP socket");
        return;
    }
    err = session_request(c->session, &ask, c->fd, &answer, NULL);
    if (err != 0) {
        note_set(c, err == -EPIPE ? "no daemon" : "the daemon did not answer");
        return;
    }
    note_set(c, answer.text);
    if (answer.error != 0 || answer.slot >= STREAM_SLOTS)
        return;
    c->index = answer.slot;
    c->id = answer.conn_id;
    atomic_store(&c->slot, stream_slot_at(&c->session->arena, c->index));
}

EXPORT struct chimney_conn *chimney_attach(struct chimney_session *s, int fd, unsigned flags)
{
    int type, listening = 0;
    socklen_t len = sizeof(type);
    struct chimney_conn *c;

    if ((flags & ~ATTACH_FLAGS) != 0) {
        errno = EINVAL;
        return NULL;
    }
    if (os_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0)
        return NULL;
    len = sizeof(listening);
    if (type != SOCK_STREAM ||
        (os_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening)) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->session = s;
    c->fd = fd;
    pthread_mutex_init(&c->control, NULL);
    pthread_mutex_init(&c->send_lock, NULL);
    pthread_mutex_init(&c->receive_lock, NULL);
    conn_read_options(c);
    c->local_len = sizeof(c->local);
    if (os_getsockname(fd, (struct sockaddr *)&c->local, &c->local_len) != 0)
        c->local_len = 0;
    c->peer_len = sizeof(c->peer);
    if (os_getpeername(fd, (struct sockaddr *)&c->peer, &c->peer_len) != 0)
        c->peer_len = 0;
    session_hold(s);
    attach_to_daemon(c, flags);
    pthread_mutex_lock(&s->lock);
    c->next = s->conns;
    c->link = &s->conns;
    if (c->next != NULL)
        c->next->link = &c->next;
    s->conns = c;
    pthread_mutex_unlock(&s->lock);
    return c;
}

/* ---- requests ------------------------------------------------------------------------------- */

/** One request about an attached connection (control is held).  The answer's error becomes -errno.
 */
static int conn_request(struct chimney_conn *c, uint32_t op, enum chimney_upload_reason reason,
                        chimney_status *status)
{
    struct protocol_message ask = {.op = op, .slot = c->index, .conn_id = c->id, .reason = reason};
    struct protocol_message answer;
    int err;

    err = session_request(c->session, &ask, -1, &answer, NULL);
    if (err != 0)
        return err;
    note_set(c, answer.text);
    if (status != NULL)
        *status = answer.status;
    return answer.error > 0 ? -answer.error : answer.error;
}

int conn_upload(struct chimney_conn *c, enum chimney_upload_reason reason)
{
    struct stream_slot *slot;
    int err = 0;

    pthread_mutex_lock(&c->control);
    slot = atomic_load(&c->slot);
    if (slot != NULL)
        err = conn_request(c, PROTOCOL_UPLOAD, reason, NULL);
    pthread_mutex_unlock(&c->control);
    if (err != -EPIPE)
        return err;
    /* The daemon has ended, in good order or not. */
    switch (conn_carrier(c, slot)) {
    case CARRIER_KERNEL:
        return 0;
    case CARRIER_STRANDED:
        return -EBADFD;
    default:
        return -ECONNRESET;
    }
}

/**
 * DETACH (control is held).  In any case the slot is no longer ours afterwards: the daemon may give
 * it away as soon as it has answered, also if the answer comes too late for us.
 */
static int conn_give_up_slot(struct chimney_conn *c, struct stream_slot *slot)
{
    int err;

    set_unhook(c);
    err = conn_request(c, PROTOCOL_DETACH, CHIMNEY_REASON_NONE, NULL);
    if (err != 0 && conn_carrier(c, slot) == CARRIER_KERNEL)
        err = 0;
    if (err != 0) {
        conn_lose(c);
        err = -ECONNRESET;
    }
    atomic_store(&c->slot, NULL);
    set_rehook(c);
    return err;
}

int conn_make_plain(struct chimney_conn *c)
{
    struct stream_slot *slot;
    int err;

    if (c->stranded)
        return -EBADFD;
    pthread_mutex_lock(&c->control);
    slot = atomic_load(&c->slot);
    if (slot == NULL || conn_carrier(c, slot) == CARRIER_LOST) {
        pthread_mutex_unlock(&c->control);
        return slot == NULL ? 0 : -ECONNRESET; /* what had arrived can still be read */
    }
    err = conn_give_up_slot(c, slot);
    pthread_mutex_unlock(&c->control);
    return err;
}

EXPORT int chimney_offload(struct chimney_conn *c, chimney_status *status)
{
    int err = -ENOTCONN;

    if (status != NULL)
        *status = NDIS_STATUS_FAILURE;
    if (c->stranded)
        return client_fail(EBADFD);
    pthread_mutex_lock(&c->control);
    if (atomic_load(&c->slot) != NULL)
        err = conn_request(c, PROTOCOL_OFFLOAD, CHIMNEY_REASON_NONE, status);
    pthread_mutex_unlock(&c->control);
    return err == 0 ? 0 : client_fail(err == -EPIPE ? ENOTCONN : -err);
}

EXPORT int chimney_upload(struct chimney_conn *c, enum chimney_upload_reason reason)
{
    struct stream_slot *slot;
    int err = 0;

    switch (conn_enter(c, &slot)) {
    case CARRIER_KERNEL:
        conn_leave(slot);
        break;
    case CARRIER_STREAM:
        conn_leave(slot);
        err = conn_upload(c, reason);
        break;
    case CARRIER_MOVING:
        err = conn_upload(c, reason);
        break;
    case CARRIER_LOST:
        err = -ECONNRESET;
        break;
    case CARRIER_STRANDED:
        err = -EBADFD;
        break;
    }
    return err == 0 ? 0 : client_fail(-err);
}

/* ---- the end -------------------------------------------------------------------------------- */

EXPORT int chimney_shutdown(struct chimney_conn *c, int how)
{
    struct stream_slot *slot;
    int err, rc;

    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return client_fail(EINVAL);
    /*
     * That the program reads no more is not part of what a park keeps: such a connection must not
     * be offloaded again.  One that has sent its FIN is not ESTABLISHED and will be refused anyway.
     */
    if (how != SHUT_WR) {
        err = conn_make_plain(c);
        if (err != 0)
            return client_fail(err == -ECONNRESET ? ENOTCONN : -err);
    }
    err = conn_enter_kernel(c, &slot);
    if (err != 0)
        return client_fail(err == -ECONNRESET ? ENOTCONN : -err);
    rc = os_shutdown(c->fd, how);
    err = errno;
    conn_leave(slot);
    errno = err;
    return rc;
}

static void conn_free(struct chimney_conn *c)
{
    struct chimney_session *s = c->session;

    pthread_mutex_lock(&s->lock);
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_destroy(&c->control);
    pthread_mutex_destroy(&c->send_lock);
    pthread_mutex_destroy(&c->receive_lock);
    free(c);
    session_drop(s);
}

EXPORT int chimney_close(struct chimney_conn *c)
{
    struct stream_slot *slot;
    int rc, err;

    if (c == NULL)
        return 0;
    set_remove(c);
    /* If this fails the daemon or the connection is gone, and close(2) does what can be done. */
    if (!c->stranded && (slot = atomic_load(&c->slot)) != NULL) {
        pthread_mutex_lock(&c->control);
        (void)conn_give_up_slot(c, slot);
        pthread_mutex_unlock(&c->control);
    }
    rc = os_close(c->fd);
    err = errno;
    conn_free(c);
    errno = err;
    return rc;
}

EXPORT int chimney_detach(struct chimney_conn *c)
{
    int err = conn_make_plain(c), fd = c->fd;

    if (err != 0)
        return client_fail(-err);
    set_remove(c);
    conn_free(c);
    return fd;
}

/* ---- looking -------------------------------------------------------------------------------- */

EXPORT int chimney_fd(const struct chimney_conn *c)
{
    return c->fd;
}

EXPORT uint32_t chimney_id(const struct chimney_conn *c)
{
    return atomic_load(&((struct chimney_conn *)c)->slot) != NULL ? c->id : 0;
}

EXPORT void chimney_note(struct chimney_conn *c, char *text, size_t len)
{
    size_t n;

    if (len == 0)
        return;
    pthread_mutex_lock(&c->control);
    n = strlen(c->note);
    if (n >= len)
        n = len - 1;
    memcpy(text, c->note, n);
    text[n] = '\0';
    pthread_mutex_unlock(&c->control);
}

EXPORT int chimney_state(struct chimney_conn *c)
{
    switch (conn_carrier(c, atomic_load(&c->slot))) {
    case CARRIER_STREAM:
        return CHIMNEY_OFFLOADED;
    case CARRIER_MOVING:
        return atomic_load(&c->state) == CHIMNEY_OFFLOADED ? CHIMNEY_UPLOADING : CHIMNEY_OFFLOADING;
    case CARRIER_LOST:
        return client_fail(ECONNRESET);
    case CARRIER_STRANDED:
        return client_fail(EBADFD);
    case CARRIER_KERNEL:
        break;
    }
    return CHIMNEY_IN_HOST;
}

/** SIOCINQ and SIOCOUTQ, from the socket or from a ring. */
static int conn_queued(struct chimney_conn *c, unsigned long request,
                       bool (*look)(struct stream_slot *slot, struct ring_view *view))
{
    struct ring_view view = {0};
    struct stream_slot *slot;
    int value = 0, rc;

    switch (conn_enter_rest(c, &slot)) {
    case CARRIER_KERNEL:
        rc = os_ioctl(c->fd, request, &value);
        conn_leave(slot);
        return rc < 0 ? -1 : value;
    case CARRIER_STREAM:
        rc = look(slot, &view) ? (int)view.used : 0;
        conn_leave(slot);
        return rc;
    case CARRIER_LOST:
        return request == SIOCINQ && look(slot, &view) ? (int)view.used : 0;
    case CARRIER_MOVING:
        return client_fail(ETIMEDOUT);
    case CARRIER_STRANDED:
        break;
    }
    return client_fail(EBADFD);
}

EXPORT int chimney_inq(struct chimney_conn *c)
{
    return conn_queued(c, SIOCINQ, ring_look_receive);
}

EXPORT int chimney_outq(struct chimney_conn *c)
{
    return conn_queued(c, SIOCOUTQ, ring_look_send);
}

static int name_copy(const struct sockaddr_storage *from, socklen_t from_len, struct sockaddr *addr,
                     socklen_t *len)
{
    if ((int)*len < 0)
        return client_fail(EINVAL);
    memcpy(addr, from, *len < from_len ? *len : from_len);
    *len = from_len;
    return 0;
}

EXPORT int chimney_getsockname(struct chimney_conn *c, struct sockaddr *addr, socklen_t *len)
{
    return c->local_len != 0 ? name_copy(&c->local, c->local_len, addr, len)
                             : os_getsockname(c->fd, addr, len);
}

EXPORT int chimney_getpeername(struct chimney_conn *c, struct sockaddr *addr, socklen_t *len)
{
    return c->peer_len != 0 ? name_copy(&c->peer, c->peer_len, addr, len)
                            : os_getpeername(c->fd, addr, len);
}
