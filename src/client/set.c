/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wait sets: epoll over connections that change hands.
 *
 * Theory of operation
 *
 * A set is an epoll instance of our own and, with a daemon, a *channel*: a queue in the arena into
 * which the daemon puts the slots that have news, and an eventfd, a member of the epoll instance,
 * which it rings when we sleep.  Each connection is an *item*, and an item is looked at where its
 * connection is:
 *
 *   KERNEL  it is a member of the epoll instance; the kernel finds its events, edges included.
 *   STREAM  it is not; slot->set and slot->want say which news the daemon is to put into the queue.
 *           An item with news is *listed*.  Listed items are looked at in chimney_set_wait(): a
 *           level-triggered one stays listed as long as it is ready, an edge-triggered one is
 *           reported once.
 *   MOVING  neither: the daemon puts a slot into the queue whenever its route has changed.
 *
 * A parked socket reports a hang-up.  So a hang-up or an error from epoll is confirmed by poll(2)
 * inside a step, where the socket cannot be parked; what is not confirmed takes the item out of the
 * epoll instance and lists it.  When a connection comes back to the kernel its item is added, or
 * armed anew, which yields an edge if it is ready.
 *
 * News of room are asked for only after a send found none (as the kernel's SOCK_NOSPACE): otherwise
 * every acknowledgement would be news.
 *
 * Limits: STREAM_SETS sets with a channel per session.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "client/client.h"

#define SET_CHANNEL UINT64_MAX /* epoll data of the channel's eventfd */
#define SET_BATCH 256          /* events taken from the kernel at a time */
#define SET_EVENTS                                                                                 \
    (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDNORM | EPOLLRDBAND |             \
     EPOLLWRNORM | EPOLLWRBAND | EPOLLRDHUP)
#define SET_FLAGS ((uint32_t)EPOLLET | (uint32_t)EPOLLONESHOT)

struct item {
    struct item *next, **link; /* listed, or link is NULL */
    struct chimney_conn *conn; /* NULL: a descriptor of the program's own */
    int fd;
    uint32_t serial; /* tells it from an earlier item with the same descriptor */
    struct epoll_event user;
    bool in_epoll, disabled; /* disabled: EPOLLONESHOT has fired */
};

struct chimney_set {
    struct chimney_session *session;
    struct chimney_set *next, **prev; /* session->sets */
    uint32_t number;                  /* of the channel */
    struct channel *channel;          /* NULL: no daemon */
    struct stream_queue *queue;
    int epoll_fd;

    pthread_mutex_t lock;
    struct item **by_fd; /* fd_room of them */
    size_t fd_room;
    struct item **by_slot; /* STREAM_SLOTS of them; NULL without a channel */
    struct item *listed, **listed_end;
    uint32_t serial;
    unsigned sleepers; /* threads in epoll_wait */
    bool exported;     /* the program polls our descriptor */
    bool kernel_first; /* whose turn it is to be served first */
};

struct chimney_set *set_next(struct chimney_set *set)
{
    return set->next;
}

/* ---- items (set->lock is held) -------------------------------------------------------------- */

static void item_list(struct chimney_set *set, struct item *it)
{
    if (it->link != NULL)
        return;
    it->next = NULL;
    it->link = set->listed_end;
    *it->link = it;
    set->listed_end = &it->next;
}

static void item_unlist(struct chimney_set *set, struct item *it)
{
    if (it->link == NULL)
        return;
    *it->link = it->next;
    if (it->next != NULL)
        it->next->link = it->link;
    else
        set->listed_end = it->link;
    it->link = NULL;
}

static struct item *item_of(struct chimney_set *set, int fd)
{
    return fd >= 0 && (size_t)fd < set->fd_room ? set->by_fd[fd] : NULL;
}

static struct item *item_new(struct chimney_set *set, int fd)
{
    struct item *it;

    if (fd < 0) {
        errno = EBADF;
        return NULL;
    }
    if ((size_t)fd >= set->fd_room) {
        size_t room = ((size_t)fd + 64) * 2;
        struct item **grown = realloc(set->by_fd, room * sizeof(*grown));

        if (grown == NULL)
            return NULL;
        for (size_t i = set->fd_room; i < room; i++)
            grown[i] = NULL;
        set->by_fd = grown;
        set->fd_room = room;
    }
    it = calloc(1, sizeof(*it));
    if (it == NULL)
        return NULL;
    it->fd = fd;
    it->serial = ++set->serial;
    set->by_fd[fd] = it;
    return it;
}

static void item_free(struct chimney_set *set, struct item *it)
{
    item_unlist(set, it);
    set->by_fd[it->fd] = NULL;
    free(it);
}

/** Adds the item to the epoll instance, or arms it anew.  0 or -errno. */
static int item_arm(struct chimney_set *set, struct item *it)
{
    struct epoll_event ev = {.events = it->user.events,
                             .data.u64 = (uint64_t)it->serial << 32 | (uint32_t)it->fd};
    int op = it->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (it->conn != NULL && it->disabled)
        return 0;
    if (os_epoll_ctl(set->epoll_fd, op, it->fd, &ev) != 0)
        return -errno;
    it->in_epoll = true;
    return 0;
}

static void item_disarm(struct chimney_set *set, struct item *it)
{
    if (it->in_epoll)
        (void)os_epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, it->fd, NULL);
    it->in_epoll = false;
}

/** The events of a connection in the rings; says to the daemon which news are wanted from here on.
 */
static uint32_t item_look_stream(struct item *it, struct stream_slot *slot)
{
    uint32_t wanted = it->user.events, want = STREAM_READY_ROUTE, ready;

    if (it->disabled) {
        atomic_store(&slot->want, want);
        return 0;
    }
    if ((wanted & (EPOLLIN | EPOLLRDNORM)) != 0)
        want |= STREAM_READY_IN;
    /* What is wanted is said first, then looked at: what changes in between is news. */
    atomic_store(&slot->want, want);
    (void)atomic_load(&slot->events);
    ready = (uint32_t)ring_ready(it->conn, slot, 0);
    if ((wanted & (EPOLLOUT | EPOLLWRNORM)) != 0 && (ready & EPOLLOUT) == 0) {
        atomic_fetch_or(&slot->want, STREAM_READY_OUT);
        (void)atomic_load(&slot->events);
        ready |= (uint32_t)ring_ready(it->conn, slot, 0);
    }
    if (atomic_load_explicit(&it->conn->error, memory_order_relaxed) != 0)
        ready |= EPOLLERR;
    return ready & (wanted | EPOLLERR | EPOLLHUP);
}

/** Looks at an item where its connection is.  Returns events to report now. */
static uint32_t item_look(struct chimney_set *set, struct item *it, int *err)
{
    struct stream_slot *slot;
    uint32_t events = 0;

    *err = 0;
    switch (conn_enter(it->conn, &slot)) {
    case CARRIER_KERNEL:
        *err = item_arm(set, it);
        conn_leave(slot);
        break;
    case CARRIER_STREAM:
        item_disarm(set, it);
        events = item_look_stream(it, slot);
        conn_leave(slot);
        break;
    case CARRIER_LOST:
        item_disarm(set, it);
        if (!it->disabled)
            events = (uint32_t)conn_ready(it->conn, (int)(it->user.events & SET_EVENTS));
        break;
    case CARRIER_MOVING:
    case CARRIER_STRANDED:
        break;
    }
    return events;
}

/** Connects the item with its slot, so that the daemon's news reach this set. */
static void item_hook(struct chimney_set *set, struct item *it)
{
    struct stream_slot *slot = atomic_load(&it->conn->slot);

    if (slot == NULL || set->by_slot == NULL)
        return;
    set->by_slot[it->conn->index] = it;
    /* It may stand in the queue of an earlier set, where nobody clears this. */
    atomic_store(&slot->queued, 0);
    atomic_store(&slot->want, STREAM_READY_ROUTE);
    atomic_store(&slot->set, set->number + 1);
    (void)atomic_load(&slot->events);
}

static void item_unhook(struct chimney_set *set, struct item *it)
{
    struct stream_slot *slot = atomic_load(&it->conn->slot);

    if (slot == NULL || set->by_slot == NULL || set->by_slot[it->conn->index] != it)
        return;
    atomic_store(&slot->set, 0);
    atomic_store(&slot->want, 0);
    set->by_slot[it->conn->index] = NULL;
}

/* ---- waking ---------------------------------------------------------------------------------- */

/** Wakes a thread that sleeps in the set, and the program's own poll. */
static void set_ring(struct chimney_set *set)
{
    if (set->channel != NULL)
        os_event_ring(set->channel->event_fd);
}

/** Looks at one item outside of chimney_set_wait(); if it is ready, sleepers hear of it. */
static int set_touch(struct chimney_set *set, struct item *it)
{
    int err;

    if (item_look(set, it, &err) != 0) {
        item_list(set, it);
        set_ring(set);
    }
    return err;
}

void set_wake_all(struct chimney_set *set)
{
    pthread_mutex_lock(&set->lock);
    for (size_t fd = 0; fd < set->fd_room; fd++)
        if (set->by_fd[fd] != NULL && set->by_fd[fd]->conn != NULL)
            item_list(set, set->by_fd[fd]);
    set_ring(set);
    pthread_mutex_unlock(&set->lock);
}

/** Runs @fn for the connection's item, if it is in a set. */
static void set_with_item(struct chimney_conn *c,
                          void (*fn)(struct chimney_set *set, struct item *it))
{
    pthread_mutex_lock(&c->session->lock);
    if (c->set != NULL) {
        pthread_mutex_lock(&c->set->lock);
        fn(c->set, item_of(c->set, c->fd));
        pthread_mutex_unlock(&c->set->lock);
    }
    pthread_mutex_unlock(&c->session->lock);
}

static void touch(struct chimney_set *set, struct item *it)
{
    (void)set_touch(set, it);
}

static void rehook(struct chimney_set *set, struct item *it)
{
    item_hook(set, it);
    (void)set_touch(set, it);
}

void set_no_room(struct chimney_conn *c, struct stream_slot *slot)
{
    if (atomic_load_explicit(&slot->set, memory_order_relaxed) == 0)
        return;
    atomic_fetch_or(&slot->want, STREAM_READY_OUT);
    (void)atomic_load(&slot->events);
    /* Room came while we asked to be told: then nobody else tells. */
    if ((ring_ready(c, slot, 0) & POLLOUT) != 0)
        set_with_item(c, touch);
}

void set_unhook(struct chimney_conn *c)
{
    set_with_item(c, item_unhook);
}
void set_rehook(struct chimney_conn *c)
{
    set_with_item(c, rehook);
}

/* ---- waiting (set->lock is held) ------------------------------------------------------------- */

/** The daemon's news become listed items. */
static void set_drain(struct chimney_set *set)
{
    uint32_t index;

    if (set->channel == NULL)
        return;
    /* Bounded by the queue's length, so that this set's thread also gets to report. */
    for (uint32_t n = 0; n < STREAM_SLOTS; n++) {
        if (!stream_queue_pop(set->queue, &set->channel->tail, &index))
            break;
        /* Cleared before the item is looked at: what comes later is put in again. */
        atomic_exchange(&stream_slot_at(&set->session->arena, index)->queued, 0);
        if (set->by_slot[index] != NULL)
            item_list(set, set->by_slot[index]);
    }
}

/** Reports listed items, each at most once. */
static int set_gather(struct chimney_set *set, struct epoll_event *events, int max)
{
    struct item *it, *again = NULL, **again_end = &again;
    int n = 0, err;

    while (n < max && (it = set->listed) != NULL) {
        item_unlist(set, it);
        uint32_t ready = item_look(set, it, &err);
        if (ready == 0)
            continue;
        events[n].events = ready;
        events[n].data = it->user.data;
        n++;
        if ((it->user.events & (uint32_t)EPOLLONESHOT) != 0) {
            it->disabled = true;
        } else if ((it->user.events & (uint32_t)EPOLLET) == 0) {
            it->next = NULL;
            *again_end = it;
            again_end = &it->next;
        }
    }
    /* Those still ready go behind those that were not served. */
    while ((it = again) != NULL) {
        again = it->next;
        item_list(set, it);
    }
    return n;
}

/** One event of the kernel's.  True if *out is to be reported. */
static bool set_kernel_event(struct chimney_set *set, const struct epoll_event *in,
                             struct epoll_event *out)
{
    struct item *it = item_of(set, (int)(uint32_t)in->data.u64);
    struct stream_slot *slot;
    uint32_t ready = in->events;
    enum carrier carrier;

    if (in->data.u64 == SET_CHANNEL) {
        os_event_clear(set->channel->event_fd);
        return false;
    }
    if (it == NULL || it->serial != (uint32_t)(in->data.u64 >> 32))
        return false; /* taken out while we slept */
    if (it->conn != NULL) {
        if (it->disabled)
            return false; /* another thread got the one shot */
        carrier = conn_enter(it->conn, &slot);
        if (carrier == CARRIER_KERNEL) {
            if ((ready & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) {
                struct pollfd pfd = {.fd = it->fd, .events = (short)(it->user.events & SET_EVENTS)};

                ready = os_ppoll(&pfd, 1, &(struct timespec){0}) > 0
                            ? (uint32_t)(uint16_t)pfd.revents
                            : 0;
            }
        } else {
            ready = 0;
            item_disarm(set, it);
        }
        if (carrier == CARRIER_KERNEL || carrier == CARRIER_STREAM)
            conn_leave(slot);
        if (ready == 0) {
            item_list(set, it); /* also arms anew what a one-shot event of a park has used up */
            return false;
        }
        it->disabled = (it->user.events & (uint32_t)EPOLLONESHOT) != 0;
    }
    out->events = ready;
    out->data = it->user.data;
    return true;
}

/** Events of the kernel's, waiting for them up to @deadline (0: only a look).  -EINTR. */
static int set_kernel(struct chimney_set *set, struct epoll_event *events, int max,
                      int64_t deadline)
{
    struct epoll_event got[SET_BATCH];
    int timeout_ms = 0, n, reported = 0, err;

    if (deadline != 0) {
        int64_t left = deadline == CLIENT_NEVER ? -1 : deadline - client_now();

        timeout_ms = deadline == CLIENT_NEVER ? -1
                     : left <= 0              ? 0
                                              : (int)((left + 999999) / 1000000);
        set->sleepers++;
        pthread_mutex_unlock(&set->lock);
    }
    n = os_epoll_wait(set->epoll_fd, got, max < SET_BATCH ? max : SET_BATCH, timeout_ms);
    err = errno;
    if (deadline != 0) {
        pthread_mutex_lock(&set->lock);
        set->sleepers--;
    }
    if (n < 0)
        return err == EINTR && deadline != 0 ? -EINTR : 0;
    for (int i = 0; i < n; i++)
        reported += set_kernel_event(set, &got[i], &events[reported]);
    return reported;
}

/** Leaves the set so that others who wait in it, or for its descriptor, miss nothing. */
static void set_leave(struct chimney_set *set)
{
    if (set->channel == NULL)
        return;
    if (set->sleepers == 0 && !set->exported)
        stream_queue_disarm(set->queue);
    else if (set->listed != NULL || !stream_queue_arm(set->queue, set->channel->tail))
        set_ring(set);
}

static int set_wait(struct chimney_set *set, struct epoll_event *events, int max, int64_t deadline)
{
    bool last = false;
    int n;

    for (;;) {
        bool first = false;

        n = 0;
        set_drain(set);
        if (set->listed != NULL)
            first = set->kernel_first = !set->kernel_first;
        if (first)
            n = set_kernel(set, events, max, 0);
        if (n < max)
            n += set_gather(set, events + n, max - n);
        if (!first && n > 0 && n < max)
            n += set_kernel(set, events + n, max - n, 0);
        if (n > 0 || last)
            return n;
        if (set->listed != NULL)
            continue;
        if (set->channel != NULL && !stream_queue_arm(set->queue, set->channel->tail))
            continue;
        n = set_kernel(set, events, max, deadline);
        if (n != 0)
            return n;
        /* The time has passed: once more for what this look has listed. */
        last = deadline == 0 || (deadline != CLIENT_NEVER && client_now() >= deadline);
    }
}

EXPORT int chimney_set_wait(struct chimney_set *set, struct epoll_event *events, int max,
                            int timeout_ms)
{
    int64_t deadline = timeout_ms == 0 ? 0 : client_deadline((int64_t)timeout_ms * 1000000);
    int n;

    if (max <= 0 || events == NULL)
        return client_fail(EINVAL);
    if (set->session->forked)
        return client_fail(EBADFD);
    pthread_mutex_lock(&set->lock);
    n = set_wait(set, events, max, deadline);
    set_leave(set);
    pthread_mutex_unlock(&set->lock);
    return n < 0 ? client_fail(-n) : n;
}

EXPORT int chimney_set_fd(struct chimney_set *set)
{
    pthread_mutex_lock(&set->lock);
    set->exported = true;
    set_leave(set);
    pthread_mutex_unlock(&set->lock);
    return set->epoll_fd;
}

/* ---- members --------------------------------------------------------------------------------- */

EXPORT int chimney_set_add(struct chimney_set *set, struct chimney_conn *c,
                           const struct epoll_event *event)
{
    struct item *it;
    int err = 0;

    if (set->session != c->session || (event->events & ~(SET_EVENTS | SET_FLAGS)) != 0)
        return client_fail(EINVAL);
    if (set->session->forked)
        return client_fail(EBADFD);
    pthread_mutex_lock(&set->session->lock);
    pthread_mutex_lock(&set->lock);
    if (c->set != NULL || item_of(set, c->fd) != NULL) {
        err = c->set == NULL || c->set == set ? EEXIST : EBUSY;
    } else if ((it = item_new(set, c->fd)) == NULL) {
        err = errno;
    } else {
        it->conn = c;
        it->user = *event;
        c->set = set;
        item_hook(set, it);
        err = -set_touch(set, it);
        if (err != 0) {
            item_unhook(set, it);
            item_free(set, it);
            c->set = NULL;
        }
    }
    pthread_mutex_unlock(&set->lock);
    pthread_mutex_unlock(&set->session->lock);
    return err == 0 ? 0 : client_fail(err);
}

EXPORT int chimney_set_mod(struct chimney_set *set, struct chimney_conn *c,
                           const struct epoll_event *event)
{
    struct item *it;
    int err = ENOENT;

    if ((event->events & ~(SET_EVENTS | SET_FLAGS)) != 0)
        return client_fail(EINVAL);
    if (set->session->forked)
        return client_fail(EBADFD);
    pthread_mutex_lock(&set->lock);
    it = item_of(set, c->fd);
    if (it != NULL && it->conn == c) {
        it->user = *event;
        it->disabled = false;
        item_unlist(set, it);
        err = -set_touch(set, it);
    }
    pthread_mutex_unlock(&set->lock);
    return err == 0 ? 0 : client_fail(err);
}

/** Takes @c out; session->lock is held. */
static bool set_take_out(struct chimney_set *set, struct chimney_conn *c)
{
    struct item *it;

    pthread_mutex_lock(&set->lock);
    it = item_of(set, c->fd);
    if (it == NULL || it->conn != c) {
        pthread_mutex_unlock(&set->lock);
        return false;
    }
    item_unhook(set, it);
    item_disarm(set, it);
    item_free(set, it);
    c->set = NULL;
    pthread_mutex_unlock(&set->lock);
    return true;
}

EXPORT int chimney_set_del(struct chimney_set *set, struct chimney_conn *c)
{
    bool found;

    if (set->session->forked)
        return client_fail(EBADFD);
    pthread_mutex_lock(&set->session->lock);
    found = set_take_out(set, c);
    pthread_mutex_unlock(&set->session->lock);
    return found ? 0 : client_fail(ENOENT);
}

void set_remove(struct chimney_conn *c)
{
    pthread_mutex_lock(&c->session->lock);
    if (c->set != NULL)
        (void)set_take_out(c->set, c);
    pthread_mutex_unlock(&c->session->lock);
}

EXPORT int chimney_set_fd_ctl(struct chimney_set *set, int op, int fd, struct epoll_event *event)
{
    struct item *it;
    int err = 0;

    if (set->session->forked)
        return client_fail(EBADFD);
    if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
        return client_fail(EINVAL);
    pthread_mutex_lock(&set->lock);
    it = item_of(set, fd);
    if (it != NULL && it->conn != NULL) {
        err = op == EPOLL_CTL_ADD ? EEXIST : EINVAL;
    } else if (op == EPOLL_CTL_ADD) {
        bool made = it == NULL;

        /* An item that was left behind by a closed descriptor is used again. */
        if (made)
            it = item_new(set, fd);
        if (it == NULL) {
            err = errno;
        } else {
            struct epoll_event before = it->user;
            bool was = it->in_epoll;

            it->user = *event;
            it->in_epoll = false;
            err = -item_arm(set, it);
            if (err != 0) {
                it->user = before;
                it->in_epoll = was;
                if (made)
                    item_free(set, it);
            }
        }
    } else if (it == NULL) {
        err = ENOENT;
    } else if (op == EPOLL_CTL_MOD) {
        it->user = *event;
        err = -item_arm(set, it);
    } else {
        err = os_epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : errno;
        item_free(set, it);
    }
    pthread_mutex_unlock(&set->lock);
    return err == 0 ? 0 : client_fail(err);
}

/* ---- making and freeing ---------------------------------------------------------------------- */

/** A free channel of the session, with its eventfd; NULL and errno. */
static struct channel *channel_take(struct chimney_session *s)
{
    struct protocol_message ask = {.op = PROTOCOL_SET}, answer;
    struct channel *channel = NULL;
    int err, fd = -1;

    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < STREAM_SETS && channel == NULL; i++)
        if (!s->channels[i].used)
            channel = &s->channels[ask.slot = i];
    if (channel != NULL)
        channel->used = true;
    pthread_mutex_unlock(&s->lock);
    if (channel == NULL) {
        errno = EMFILE;
        return NULL;
    }
    if (channel->event_fd >= 0)
        return channel;
    err = session_request(s, &ask, -1, &answer, &fd);
    if (err == 0 && (answer.error != 0 || fd < 0))
        err = answer.error > 0 ? -answer.error : -EPROTO;
    if (err != 0) {
        if (fd >= 0)
            os_close(fd);
        channel->used = false;
        errno = -err;
        return NULL;
    }
    channel->event_fd = fd;
    return channel;
}

static int set_open_channel(struct chimney_set *set)
{
    struct chimney_session *s = set->session;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = SET_CHANNEL};

    if (!session_alive(s))
        return 0;
    set->by_slot = calloc(STREAM_SLOTS, sizeof(*set->by_slot));
    if (set->by_slot == NULL)
        return -ENOMEM;
    set->channel = channel_take(s);
    if (set->channel == NULL)
        return errno == EPIPE ? 0 : -errno; /* the daemon has just ended: nothing to hear from it */
    set->number = (uint32_t)(set->channel - s->channels);
    set->queue = stream_ready_queue(&s->arena, set->number);
    return os_epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, set->channel->event_fd, &ev) == 0 ? 0
                                                                                        : -errno;
}

EXPORT struct chimney_set *chimney_set_create(struct chimney_session *s)
{
    struct chimney_set *set = calloc(1, sizeof(*set));
    int err;

    if (set == NULL)
        return NULL;
    set->session = s;
    set->listed_end = &set->listed;
    pthread_mutex_init(&set->lock, NULL);
    session_hold(s);
    set->epoll_fd = os_epoll_create();
    err = set->epoll_fd < 0 ? -errno : s->forked ? -EBADFD : set_open_channel(set);
    pthread_mutex_lock(&s->lock);
    set->next = s->sets;
    set->prev = &s->sets;
    if (set->next != NULL)
        set->next->prev = &set->next;
    s->sets = set;
    pthread_mutex_unlock(&s->lock);
    if (err != 0) {
        chimney_set_destroy(set);
        errno = -err;
        return NULL;
    }
    return set;
}

EXPORT void chimney_set_destroy(struct chimney_set *set)
{
    struct chimney_session *s;

    if (set == NULL)
        return;
    s = set->session;
    pthread_mutex_lock(&s->lock);
    *set->prev = set->next;
    if (set->next != NULL)
        set->next->prev = set->prev;
    pthread_mutex_lock(&set->lock);
    for (size_t fd = 0; fd < set->fd_room; fd++) {
        struct item *it = set->by_fd[fd];

        if (it == NULL)
            continue;
        if (it->conn != NULL && !s->forked) {
            item_unhook(set, it);
            it->conn->set = NULL;
        }
        item_free(set, it);
    }
    pthread_mutex_unlock(&set->lock);
    if (set->channel != NULL)
        set->channel->used = false;
    pthread_mutex_unlock(&s->lock);
    if (set->epoll_fd >= 0)
        os_close(set->epoll_fd);
    pthread_mutex_destroy(&set->lock);
    free(set->by_fd);
    free(set->by_slot);
    free(set);
    session_drop(s);
}

void set_after_fork(struct chimney_set *set)
{
    pthread_mutex_init(&set->lock, NULL);
}
