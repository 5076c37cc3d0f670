/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wait sets: level- and edge-triggered servers on connections that move, without one event lost;
 * one-shot, nesting, several threads, membership while it moves.
 */
#include "client_fixture.h"

#define CONNECTIONS 16
#define ECHO_BYTES (1u << 20)
#define NOT_FOREVER_MS 120000 /* a lost event is a wait without end */

/* ---- an echo server on one set -----------------------------------------------------------------
 */

struct guest {
    struct chimney_conn *conn;
    int peer, relay;
    uint64_t id;
    unsigned seed;
    uint8_t data[8192];
    size_t start, end;
    bool eof, done;
    pthread_mutex_t lock;
    pthread_t thread;
};

struct echo {
    struct fixture *fixture;
    struct chimney_session *session;
    struct chimney_set *set;
    uint32_t flags; /* EPOLLET, EPOLLONESHOT */
    _Atomic int left;
    int stop_fd;
    _Atomic uint64_t events;
    struct guest guests[CONNECTIONS];
};

/** What the kernel would want of us: read to the end, write to the end, with calls that do not
 * block. */
static void echo_serve(struct echo *e, struct guest *g, unsigned *seed)
{
    bool edge = (e->flags & (uint32_t)EPOLLET) != 0;
    ssize_t n;

    do {
        if (g->start < g->end) {
            n = chimney_send(g->conn, g->data + g->start, g->end - g->start, MSG_DONTWAIT);
            if (n < 0) {
                MUST(errno == EAGAIN);
                return;
            }
            g->start += (size_t)n;
            if (!edge && pick(seed, 4) == 0)
                return;
            continue;
        }
        n = chimney_recv(g->conn, g->data, 1 + pick(seed, sizeof(g->data)), MSG_DONTWAIT);
        if (n < 0) {
            MUST(errno == EAGAIN);
            return;
        }
        if (n == 0) {
            g->eof = true;
            return;
        }
        g->start = 0;
        g->end = (size_t)n;
    } while (edge || pick(seed, 4));
}

static uint32_t echo_wanted(struct echo *e, struct guest *g)
{
    if ((e->flags & (uint32_t)EPOLLET) != 0 && (e->flags & (uint32_t)EPOLLONESHOT) == 0)
        return EPOLLIN | EPOLLOUT | EPOLLRDHUP | e->flags;
    return (g->start < g->end ? EPOLLOUT : EPOLLIN) | e->flags;
}

static void *echo_server(void *arg)
{
    struct echo *e = arg;
    struct epoll_event got[7], ev;
    unsigned seed = e->fixture->seed ^ (unsigned)(uintptr_t)pthread_self();

    while (atomic_load(&e->left) > 0) {
        int n = chimney_set_wait(e->set, got, 1 + (int)pick(&seed, 7), NOT_FOREVER_MS);

        MUST(n > 0);
        for (int i = 0; i < n; i++) {
            struct guest *g = got[i].data.ptr;
            uint32_t before;

            atomic_fetch_add(&e->events, 1);
            if (g == NULL)
                continue; /* the last guest has left */
            pthread_mutex_lock(&g->lock);
            if (g->done) {
                pthread_mutex_unlock(&g->lock);
                continue;
            }
            before = echo_wanted(e, g);
            echo_serve(e, g, &seed);
            if (g->eof) {
                g->done = true;
                if (pick(&seed, 2))
                    MUST(chimney_set_del(e->set, g->conn) == 0);
                MUST(chimney_close(g->conn) == 0);
                if (atomic_fetch_sub(&e->left, 1) == 1)
                    (void)eventfd_write(e->stop_fd, 1);
            } else if ((e->flags & (uint32_t)EPOLLONESHOT) != 0 || echo_wanted(e, g) != before) {
                ev.events = echo_wanted(e, g);
                ev.data.ptr = g;
                MUST(chimney_set_mod(e->set, g->conn, &ev) == 0);
            }
            pthread_mutex_unlock(&g->lock);
        }
    }
    return NULL;
}

static void *echo_guest_receiver(void *arg)
{
    struct guest *g = arg;
    uint8_t data[9000];
    uint64_t pos = 0;
    ssize_t n;

    while ((n = recv(g->peer, data, sizeof(data), 0)) > 0) {
        stream_check(g->id, pos, data, (size_t)n);
        pos += (uint64_t)n;
    }
    MUST(n == 0 && pos == ECHO_BYTES);
    return NULL;
}

static void *echo_guest(void *arg)
{
    struct guest *g = arg;
    uint8_t data[9000];
    unsigned seed = g->seed;
    pthread_t receiver;

    MUST(pthread_create(&receiver, NULL, echo_guest_receiver, g) == 0);
    for (uint64_t pos = 0; pos < ECHO_BYTES;) {
        size_t len = 1 + pick(&seed, sizeof(data));

        if (len > ECHO_BYTES - pos)
            len = ECHO_BYTES - pos;
        stream_fill(g->id, pos, data, len);
        MUST(send(g->peer, data, len, MSG_NOSIGNAL) == (ssize_t)len);
        pos += len;
        if (pick(&seed, 16) == 0)
            usleep(pick(&seed, 3000)); /* so that the server comes to sleep */
    }
    shutdown(g->peer, SHUT_WR);
    pthread_join(receiver, NULL);
    close(g->peer);
    return NULL;
}

static void echo(uint32_t flags, int threads, int64_t move_every)
{
    struct echo *e = calloc(1, sizeof(*e));
    unsigned seed = test_seed();
    pthread_t server[4];
    int fd;

    e->fixture = fixture_start(seed, move_every);
    e->session = chimney_open(e->fixture->dir);
    e->set = chimney_set_create(e->session);
    assert_non_null(e->set);
    e->flags = flags;
    atomic_store(&e->left, CONNECTIONS);
    e->stop_fd = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(chimney_set_fd_ctl(e->set, EPOLL_CTL_ADD, e->stop_fd,
                                        &(struct epoll_event){.events = EPOLLIN}),
                     0);
    for (int i = 0; i < CONNECTIONS; i++) {
        struct guest *g = &e->guests[i];
        struct epoll_event ev = {.data.ptr = g};

        g->id = (uint64_t)i;
        g->seed = seed + (unsigned)i;
        pthread_mutex_init(&g->lock, NULL);
        g->relay = fixture_pair(e->fixture, &fd, &g->peer);
        g->conn = chimney_attach(e->session, fd, i % 2 ? CHIMNEY_ATTACH_OFFLOAD : 0);
        ev.events = echo_wanted(e, g);
        assert_int_equal(chimney_set_add(e->set, g->conn, &ev), 0);
    }
    for (int i = 0; i < threads; i++)
        MUST(pthread_create(&server[i], NULL, echo_server, e) == 0);
    for (int i = 0; i < CONNECTIONS; i++)
        MUST(pthread_create(&e->guests[i].thread, NULL, echo_guest, &e->guests[i]) == 0);
    for (int i = 0; i < CONNECTIONS; i++)
        pthread_join(e->guests[i].thread, NULL);
    for (int i = 0; i < threads; i++)
        pthread_join(server[i], NULL);
    print_message("%llu events\n", (unsigned long long)atomic_load(&e->events));
    chimney_set_destroy(e->set);
    chimney_end(e->session);
    fixture_stop(e->fixture);
    close(e->stop_fd);
    free(e);
}

static void level(void **state)
{
    echo(0, 1, 3 * MS);
}
static void level_threads(void **state)
{
    echo(0, 3, 3 * MS);
}
static void edge(void **state)
{
    echo((uint32_t)EPOLLET, 1, 3 * MS);
}
static void edge_threads(void **state)
{
    echo((uint32_t)EPOLLET, 3, 3 * MS);
}
static void one_shot(void **state)
{
    echo((uint32_t)EPOLLONESHOT, 3, 3 * MS);
}
static void one_shot_edge(void **state)
{
    echo((uint32_t)EPOLLONESHOT | (uint32_t)EPOLLET, 3, 3 * MS);
}
static void edge_at_rest(void **state)
{
    echo((uint32_t)EPOLLET, 1, 0);
}
static void level_at_rest(void **state)
{
    echo(0, 2, 0);
}

/* ---- details -----------------------------------------------------------------------------------
 */

struct one {
    struct fixture *f;
    struct chimney_session *s;
    struct chimney_set *set;
    struct chimney_conn *c;
    int peer, relay;
};

static void one_open(struct one *o)
{
    int fd;

    o->f = fixture_start(test_seed(), 0);
    o->s = chimney_open(o->f->dir);
    o->set = chimney_set_create(o->s);
    o->relay = fixture_pair(o->f, &fd, &o->peer);
    o->c = chimney_attach(o->s, fd, 0);
    MUST(o->set != NULL && o->c != NULL && chimney_id(o->c) != 0);
}

static void one_close(struct one *o)
{
    if (o->c != NULL)
        chimney_close(o->c);
    chimney_set_destroy(o->set);
    chimney_end(o->s);
    fixture_stop(o->f);
    if (o->peer >= 0)
        close(o->peer);
}

static int wait_one(struct one *o, uint32_t *events, int timeout_ms)
{
    struct epoll_event ev = {0};
    int n = chimney_set_wait(o->set, &ev, 1, timeout_ms);

    *events = ev.events;
    return n;
}

static void add_one(struct one *o, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u64 = 1};

    assert_int_equal(chimney_set_add(o->set, o->c, &ev), 0);
}

static void say_one(struct one *o, const char *text)
{
    int before = chimney_inq(o->c);

    MUST(send(o->peer, text, strlen(text), 0) > 0);
    while (chimney_inq(o->c) < before + (int)strlen(text))
        usleep(100);
}

/** A ready edge-triggered connection is reported again after each move, an idle one is not. */
static void a_move_is_an_edge(void **state)
{
    struct one o;
    uint32_t events;

    one_open(&o);
    add_one(&o, EPOLLIN | (uint32_t)EPOLLET);
    assert_int_equal(wait_one(&o, &events, 0), 0);
    for (int i = 0; i < 20; i++) {
        assert_true(fixture_move(o.f, o.relay, i & 1 ? STREAM_ROUTE_KERNEL : STREAM_ROUTE_STREAM));
        assert_int_equal(wait_one(&o, &events, 2), 0);
    }
    say_one(&o, "x");
    assert_int_equal(wait_one(&o, &events, 5000), 1);
    for (int i = 0; i < 20; i++) {
        while (wait_one(&o, &events, 2) == 1)
            assert_int_equal(events, EPOLLIN); /* a move that was given up is an edge as well */
        assert_true(fixture_move(o.f, o.relay, i & 1 ? STREAM_ROUTE_KERNEL : STREAM_ROUTE_STREAM));
        assert_int_equal(wait_one(&o, &events, 5000), 1);
        assert_int_equal(events, EPOLLIN);
    }
    one_close(&o);
}

/** A sleeper in the set is woken by what comes after moves it slept through. */
struct sleeper_arg {
    struct one *o;
    uint32_t events;
    int n;
};

static void *sleep_in_set(void *arg)
{
    struct sleeper_arg *a = arg;

    a->n = wait_one(a->o, &a->events, NOT_FOREVER_MS);
    return NULL;
}

static void sleepers_are_woken_after_moves(void **state)
{
    static const uint32_t flags[] = {0, (uint32_t)EPOLLET, (uint32_t)EPOLLONESHOT};
    struct epoll_event ev = {0};
    struct one o;

    one_open(&o);
    add_one(&o, EPOLLIN);
    for (int i = 0; i < 30; i++) {
        struct sleeper_arg a = {&o, 0, 0};
        pthread_t thread;
        char c;

        ev.events = EPOLLIN | flags[i % 3];
        assert_int_equal(chimney_set_mod(o.set, o.c, &ev), 0);
        MUST(pthread_create(&thread, NULL, sleep_in_set, &a) == 0);
        usleep(3000);
        for (int k = 0; k <= i % 4; k++)
            assert_true(fixture_move(o.f, o.relay,
                                     (i + k) & 1 ? STREAM_ROUTE_STREAM : STREAM_ROUTE_KERNEL));
        MUST(send(o.peer, "x", 1, 0) == 1);
        pthread_join(thread, NULL);
        assert_int_equal(a.n, 1);
        assert_int_equal(a.events, EPOLLIN);
        assert_int_equal(chimney_recv(o.c, &c, 1, 0), 1);
    }
    one_close(&o);
}

/** The end of a connection that was offloaded is reported, and only when it has come. */
static void ends_are_reported(void **state)
{
    for (int reset = 0; reset < 2; reset++) {
        for (int edge_too = 0; edge_too < 2; edge_too++) {
            struct one o;
            uint32_t events;
            int n;

            one_open(&o);
            assert_true(fixture_move(o.f, o.relay, STREAM_ROUTE_STREAM));
            add_one(&o, EPOLLRDHUP | (edge_too ? (uint32_t)EPOLLET : 0));
            assert_int_equal(wait_one(&o, &events, 10), 0);
            if (reset)
                abort_close(o.peer);
            else
                shutdown(o.peer, SHUT_WR);
            do {
                n = wait_one(&o, &events, 5000);
                assert_int_equal(n, 1);
                assert_true((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
            } while ((events & EPOLLRDHUP) == 0);
            if (reset)
                o.peer = -1;
            else
                assert_int_equal(events, EPOLLRDHUP);
            one_close(&o);
        }
    }
}

static void rules_of_membership(void **state)
{
    struct epoll_event ev = {.events = EPOLLIN}, wrong = {.events = EPOLLEXCLUSIVE | EPOLLIN};
    struct chimney_session *other = chimney_open("/nowhere");
    struct chimney_set *second, *foreign = chimney_set_create(other);
    struct one o;
    uint32_t events;
    int fd = eventfd(1, 0);

    one_open(&o);
    second = chimney_set_create(o.s);
    assert_int_equal(chimney_set_mod(o.set, o.c, &ev), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(chimney_set_del(o.set, o.c), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(chimney_set_add(o.set, o.c, &wrong), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(chimney_set_add(foreign, o.c, &ev), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(chimney_set_add(o.set, o.c, &ev), 0);
    assert_int_equal(chimney_set_add(o.set, o.c, &ev), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(chimney_set_add(second, o.c, &ev), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(chimney_set_wait(o.set, &ev, 0, 0), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(chimney_set_del(o.set, o.c), 0);
    assert_int_equal(chimney_set_add(second, o.c, &ev), 0);
    say_one(&o, "x");
    assert_int_equal(wait_one(&o, &events, 0), 0);
    assert_int_equal(chimney_set_wait(second, &ev, 1, 0), 1);
    chimney_set_destroy(second); /* takes its members out */
    assert_int_equal(chimney_set_add(o.set, o.c, &(struct epoll_event){.events = EPOLLIN}), 0);
    assert_int_equal(wait_one(&o, &events, 0), 1);

    ev = (struct epoll_event){.events = EPOLLIN, .data.u64 = 99};
    assert_int_equal(chimney_set_fd_ctl(o.set, EPOLL_CTL_ADD, chimney_fd(o.c), &ev), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(chimney_set_fd_ctl(o.set, EPOLL_CTL_MOD, fd, &ev), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(chimney_set_fd_ctl(o.set, EPOLL_CTL_ADD, -1, &ev), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(chimney_set_fd_ctl(o.set, EPOLL_CTL_ADD, fd, &ev), 0);
    assert_int_equal(chimney_set_fd_ctl(o.set, EPOLL_CTL_ADD, fd, &ev), -1);
    assert_int_equal(errno, EEXIST);
    struct epoll_event two[2];
    assert_int_equal(chimney_set_wait(o.set, two, 2, 0), 2);
    assert_true(two[0].data.u64 == 99 || two[1].data.u64 == 99);
    assert_int_equal(chimney_set_fd_ctl(o.set, EPOLL_CTL_DEL, fd, NULL), 0);
    assert_int_equal(chimney_set_wait(o.set, two, 2, 0), 1);
    chimney_set_destroy(foreign);
    chimney_end(other);
    close(fd);
    one_close(&o);
}

/** The set's own descriptor in a loop of the program's. */
static void nested(void **state)
{
    struct one o;
    struct pollfd pfd;
    uint32_t events;
    char c;

    one_open(&o);
    add_one(&o, EPOLLIN);
    pfd = (struct pollfd){.fd = chimney_set_fd(o.set), .events = POLLIN};
    for (int i = 0; i < 40; i++) {
        assert_true(fixture_move(o.f, o.relay, i & 1 ? STREAM_ROUTE_KERNEL : STREAM_ROUTE_STREAM));
        /* Moves may wake it, but then there is nothing, and it is quiet again. */
        while (poll(&pfd, 1, 5) == 1)
            assert_int_equal(wait_one(&o, &events, 0), 0);
        MUST(send(o.peer, "x", 1, 0) == 1);
        assert_int_equal(poll(&pfd, 1, 5000), 1);
        while (wait_one(&o, &events, 0) == 0)
            assert_int_equal(poll(&pfd, 1, 5000), 1);
        /* Level-triggered and not read: it stays readable, also across a move. */
        assert_int_equal(poll(&pfd, 1, 0), 1);
        if (i % 3 == 0)
            assert_true(
                fixture_move(o.f, o.relay, i & 1 ? STREAM_ROUTE_STREAM : STREAM_ROUTE_KERNEL));
        assert_int_equal(poll(&pfd, 1, 1000), 1);
        while (wait_one(&o, &events, 0) == 0)
            assert_int_equal(poll(&pfd, 1, 5000), 1);
        assert_int_equal(chimney_recv(o.c, &c, 1, 0), 1);
    }
    one_close(&o);
}

/** Room is reported after a send that found none, level and edge. */
static void room_is_reported(void **state)
{
    static uint8_t data[1 << 16];

    for (int edge_too = 0; edge_too < 2; edge_too++) {
        for (int in_kernel = 0; in_kernel < 2; in_kernel++) {
            struct one o;
            uint32_t events;
            int n;

            one_open(&o);
            if (!in_kernel)
                assert_true(fixture_move(o.f, o.relay, STREAM_ROUTE_STREAM));
            fixture_do(o.f, FIXTURE_NEVER_ACK, o.relay, 1);
            add_one(&o, EPOLLOUT | (edge_too ? (uint32_t)EPOLLET : 0));
            assert_int_equal(wait_one(&o, &events, 1000), 1);
            assert_int_equal(events, EPOLLOUT);
            /* Until nothing moves any more. */
            do {
                while (chimney_send(o.c, data, sizeof(data), MSG_DONTWAIT) > 0)
                    ;
                assert_int_equal(errno, EAGAIN);
            } while (wait_one(&o, &events, 300) == 1);
            if (!in_kernel)
                fixture_do(o.f, FIXTURE_NEVER_ACK, o.relay, 0);
            for (int i = 0; (n = wait_one(&o, &events, 10)) == 0 && i < 500; i++)
                while (in_kernel && recv(o.peer, data, sizeof(data), MSG_DONTWAIT) > 0)
                    ;
            assert_int_equal(n, 1);
            assert_int_equal(events, EPOLLOUT);
            one_close(&o);
        }
    }
}

/** Timeouts, and a signal in between. */
static void on_signal(int sig)
{
    (void)sig;
}

static void *signal_later(void *arg)
{
    usleep(20000);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

static void times_and_signals(void **state)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    pthread_t self = pthread_self(), thread;
    struct one o;
    uint32_t events;
    int64_t start;

    one_open(&o);
    add_one(&o, EPOLLIN);
    for (int i = 0; i < 2; i++) {
        assert_true(fixture_move(o.f, o.relay, i ? STREAM_ROUTE_STREAM : STREAM_ROUTE_KERNEL));
        start = now_ns();
        assert_int_equal(wait_one(&o, &events, 30), 0);
        assert_true(now_ns() - start >= 30 * MS);
        sigaction(SIGUSR1, &act, NULL);
        MUST(pthread_create(&thread, NULL, signal_later, &self) == 0);
        assert_int_equal(wait_one(&o, &events, -1), -1);
        assert_int_equal(errno, EINTR);
        pthread_join(thread, NULL);
    }
    one_close(&o);
}

/** More sets than channels: an error; freed ones can be used again; a slot's next connection hears.
 */
static void sets_and_slots_are_used_again(void **state)
{
    struct chimney_set *sets[STREAM_SETS];
    struct one o;
    uint32_t events;
    int fd;

    one_open(&o);
    for (int round = 0; round < 2; round++) {
        uint32_t n = 0;

        while (n < STREAM_SETS && (sets[n] = chimney_set_create(o.s)) != NULL)
            n++;
        assert_int_equal(n, STREAM_SETS - 1);
        assert_int_equal(errno, EMFILE);
        while (n > 0)
            chimney_set_destroy(sets[--n]);
    }
    for (int i = 0; i < 20; i++) {
        add_one(&o, EPOLLIN);
        assert_true(fixture_move(o.f, o.relay, STREAM_ROUTE_STREAM));
        say_one(&o, "x");
        if (i % 2)
            assert_int_equal(wait_one(&o, &events, 1000), 1);
        chimney_close(o.c);
        close(o.peer);
        o.relay = fixture_pair(o.f, &fd, &o.peer);
        o.c = chimney_attach(o.s, fd, 0);
        assert_int_equal(wait_one(&o, &events, 0), 0);
    }
    one_close(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_of_membership),
        cmocka_unit_test(a_move_is_an_edge),
        cmocka_unit_test(sleepers_are_woken_after_moves),
        cmocka_unit_test(ends_are_reported),
        cmocka_unit_test(room_is_reported),
        cmocka_unit_test(nested),
        cmocka_unit_test(times_and_signals),
        cmocka_unit_test(sets_and_slots_are_used_again),
        cmocka_unit_test(level_at_rest),
        cmocka_unit_test(edge_at_rest),
        cmocka_unit_test(level),
        cmocka_unit_test(level_threads),
        cmocka_unit_test(edge),
        cmocka_unit_test(edge_threads),
        cmocka_unit_test(one_shot),
        cmocka_unit_test(one_shot_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
