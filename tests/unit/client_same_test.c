/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same as the kernel: each scenario runs on a plain socket and writes down every result, then
 * on a handle without a daemon, in the kernel with one, offloaded, and moved between any two calls.
 * All five transcripts are equal.
 */
#include "client_fixture.h"

enum mode { MODE_PLAIN, MODE_NO_DAEMON, MODE_KERNEL, MODE_STREAM, MODE_MOVING, MODES };

static const char *const mode_name[MODES] = {"plain socket", "no daemon", "in the kernel",
                                             "offloaded", "moving"};

struct subject {
    enum mode mode;
    struct fixture *fixture;
    struct chimney_conn *c; /* NULL: plain */
    int fd, peer, relay;
    unsigned seed;
    bool stay; /* no moves for a while */
    char text[16384];
    size_t length;
};

static volatile sig_atomic_t pipes, alarms;

static void on_pipe(int sig)
{
    pipes++;
}
static void on_alarm(int sig)
{
    alarms++;
}

/* ---- calls on a subject ------------------------------------------------------------------------
 */

__attribute__((format(printf, 2, 3))) static void note(struct subject *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    s->length += (size_t)vsnprintf(s->text + s->length, sizeof(s->text) - s->length, format, ap);
    va_end(ap);
    MUST(s->length < sizeof(s->text));
}

/** Before each call the connection is put where this mode wants it, if it can be. */
static void place(struct subject *s)
{
    if (s->stay)
        return;
    if (s->mode == MODE_STREAM)
        (void)fixture_move(s->fixture, s->relay, STREAM_ROUTE_STREAM);
    if (s->mode == MODE_MOVING)
        (void)fixture_move(s->fixture, s->relay,
                           pick(&s->seed, 2) ? STREAM_ROUTE_STREAM : STREAM_ROUTE_KERNEL);
}

static void result(struct subject *s, const char *what, ssize_t n)
{
    int err = errno;

    if (n < 0)
        note(s, "%s = -1 %s", what, strerrorname_np(err));
    else
        note(s, "%s = %zd", what, n);
    if (pipes)
        note(s, " SIGPIPE");
    pipes = 0;
    note(s, "\n");
}

static ssize_t do_send(struct subject *s, const void *data, size_t len, int flags)
{
    place(s);
    return s->c ? chimney_send(s->c, data, len, flags) : send(s->fd, data, len, flags);
}

static ssize_t do_sendv(struct subject *s, const struct iovec *iov, int count, int flags)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};

    place(s);
    return s->c ? chimney_sendv(s->c, iov, count, flags) : sendmsg(s->fd, &msg, flags);
}

static ssize_t do_recv(struct subject *s, void *data, size_t len, int flags)
{
    place(s);
    return s->c ? chimney_recv(s->c, data, len, flags) : recv(s->fd, data, len, flags);
}

static ssize_t do_recvv(struct subject *s, const struct iovec *iov, int count, int flags)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};

    place(s);
    return s->c ? chimney_recvv(s->c, iov, count, flags) : recvmsg(s->fd, &msg, flags);
}

static int do_poll(struct subject *s, int events, int timeout_ms)
{
    struct pollfd pfd = {.fd = s->fd, .events = (short)events};
    int n;

    place(s);
    if (s->c)
        return chimney_poll(s->c, events, timeout_ms);
    n = poll(&pfd, 1, timeout_ms);
    return n > 0 ? pfd.revents : n;
}

static int do_shutdown(struct subject *s, int how)
{
    place(s);
    return s->c ? chimney_shutdown(s->c, how) : shutdown(s->fd, how);
}

static int do_get(struct subject *s, int level, int name, void *value, socklen_t *len)
{
    place(s);
    return s->c ? chimney_getsockopt(s->c, level, name, value, len)
                : getsockopt(s->fd, level, name, value, len);
}

static int do_set(struct subject *s, int level, int name, const void *value, socklen_t len)
{
    place(s);
    return s->c ? chimney_setsockopt(s->c, level, name, value, len)
                : setsockopt(s->fd, level, name, value, len);
}

static int do_inq(struct subject *s)
{
    int value = 0;

    place(s);
    if (s->c)
        return chimney_inq(s->c);
    return ioctl(s->fd, SIOCINQ, &value) < 0 ? -1 : value;
}

#define SEND(...) result(s, "send(" #__VA_ARGS__ ")", do_send(s, __VA_ARGS__))
#define SENDV(...) result(s, "sendv(" #__VA_ARGS__ ")", do_sendv(s, __VA_ARGS__))
#define RECVV(...) result(s, "recvv(" #__VA_ARGS__ ")", do_recvv(s, __VA_ARGS__))
#define SHUTDOWN(how) result(s, "shutdown(" #how ")", do_shutdown(s, how))
#define POLL(events)                                                                               \
    do {                                                                                           \
        int ready = do_poll(s, events, 0);                                                         \
        note(s, "poll(" #events ") = %#x\n", ready);                                               \
    } while (0)

/** A receive, with what was received. */
static void recv_noted(struct subject *s, const char *what, size_t len, int flags)
{
    char data[4096] = {0};
    ssize_t n = do_recv(s, data, len, flags);

    result(s, what, n);
    if (n > 0)
        note(s, "  \"%.*s\"\n", (int)n, data);
}
#define RECV(len, flags) recv_noted(s, "recv(" #len ", " #flags ")", len, flags)

/** Waits until the program's side has @n bytes, wherever they are. */
static void arrived(struct subject *s, int n)
{
    for (int i = 0; do_inq(s) < n; i++) {
        MUST(i < 20000);
        usleep(200);
    }
}

static void becomes(struct subject *s, int events)
{
    for (int i = 0; (do_poll(s, events, 0) & events) != events; i++) {
        MUST(i < 20000);
        usleep(200);
    }
}

static void peer_says(struct subject *s, const char *text)
{
    int before = do_inq(s);

    MUST(send(s->peer, text, strlen(text), 0) == (ssize_t)strlen(text));
    arrived(s, before + (int)strlen(text));
}

static void peer_hears(struct subject *s, size_t len)
{
    char data[4096];
    size_t got = 0;

    while (got < len) {
        ssize_t n = recv(s->peer, data + got, len - got, 0);

        MUST(n > 0);
        got += (size_t)n;
    }
    note(s, "peer: \"%.*s\"\n", (int)len, data);
}

/* ---- scenarios ---------------------------------------------------------------------------------
 */

static void nothing_there(struct subject *s)
{
    RECV(10, MSG_DONTWAIT);
    RECV(0, MSG_DONTWAIT);
    RECV(10, MSG_DONTWAIT | MSG_PEEK);
    RECV(10, MSG_DONTWAIT | MSG_WAITALL);
    RECV(10, MSG_DONTWAIT | MSG_TRUNC);
    RECV(1, MSG_OOB);
    RECV(10, MSG_ERRQUEUE);
    POLL(POLLIN | POLLOUT | POLLRDHUP | POLLPRI);
    POLL(0);
    note(s, "inq %d\n", do_inq(s));
}

static void some_data(struct subject *s)
{
    char a[5] = {0}, b[3] = {0}, c[100] = {0};
    struct iovec iov[5] = {{a, 4}, {NULL, 0}, {b, 2}, {NULL, 0}, {c, 99}};

    peer_says(s, "The quick brown fox jumps over the lazy dog");
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    POLL(POLLOUT);
    RECV(0, MSG_DONTWAIT);
    RECV(0, 0);
    RECV(3, MSG_PEEK);
    RECV(100, MSG_PEEK);
    RECV(4, 0);
    RECV(1, MSG_WAITALL);
    RECV(5, MSG_WAITALL);
    note(s, "trunc %zd\n", do_recv(s, NULL, 6, MSG_TRUNC));
    note(s, "trunc peek %zd\n", do_recv(s, NULL, 6, MSG_TRUNC | MSG_PEEK));
    note(s, "inq %d\n", do_inq(s));
    RECVV(iov, 5, 0);
    note(s, "  %s %s %s\n", a, b, c);
    POLL(POLLIN | POLLOUT);
    peer_says(s, "again");
    RECV(100, MSG_WAITALL | MSG_DONTWAIT);
    peer_says(s, "and again");
    RECVV(iov, 0, MSG_DONTWAIT);
    RECV(100, MSG_TRUNC | MSG_PEEK);
    RECV(9, MSG_PEEK | MSG_WAITALL);
    RECV(9, MSG_DONTWAIT);
}

static void sending(struct subject *s)
{
    struct iovec iov[4] = {{"gather ", 7}, {"x", 0}, {"these ", 6}, {"pieces", 6}};
    struct iovec bad = {"", SIZE_MAX};

    SEND("", 0, 0);
    SEND("hello", 5, 0);
    SEND(" there", 6, MSG_NOSIGNAL);
    SEND(", dont", 6, MSG_DONTWAIT);
    SEND(" wait", 5, MSG_MORE);
    SEND(".", 1, MSG_EOR);
    peer_hears(s, 23);
    SENDV(iov, 4, 0);
    SENDV(iov, 0, 0);
    SENDV(iov, 1025, 0);
    SENDV(&bad, 1, 0);
    peer_hears(s, 19);
}

/** A receiver that sleeps gets what comes, and not before. */
struct later {
    struct subject *s;
    const char *text;
    unsigned after_us;
    bool move;
};

static void *say_later(void *arg)
{
    struct later *l = arg;
    size_t half = strlen(l->text) / 2;

    usleep(l->after_us);
    if (l->move && l->s->mode >= MODE_STREAM)
        (void)fixture_move(l->s->fixture, l->s->relay, STREAM_ROUTE_KERNEL);
    MUST(send(l->s->peer, l->text, half, 0) == (ssize_t)half);
    usleep(l->after_us);
    if (l->move && l->s->mode >= MODE_STREAM)
        (void)fixture_move(l->s->fixture, l->s->relay, STREAM_ROUTE_STREAM);
    MUST(send(l->s->peer, l->text + half, strlen(l->text) - half, 0) > 0);
    return NULL;
}

static void sleeping(struct subject *s)
{
    struct later l = {s, "one two three four five", 10000, false};
    pthread_t thread;

    for (int i = 0; i < 2; i++) {
        l.move = i > 0;
        MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
        RECV(23, MSG_WAITALL);
        pthread_join(thread, NULL);
        MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
        RECV(23, MSG_PEEK | MSG_WAITALL);
        RECV(23, 0);
        pthread_join(thread, NULL);
        MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
        note(s, "poll sleeping %#x\n", do_poll(s, POLLIN, -1));
        RECV(23, MSG_WAITALL);
        pthread_join(thread, NULL);
        MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
        RECV(11, MSG_WAITALL);
        RECV(12, MSG_WAITALL);
        pthread_join(thread, NULL);
        MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
        RECV(0, 0); /* sleeps as well */
        RECV(23, MSG_WAITALL);
        pthread_join(thread, NULL);
    }
}

static void low_mark(struct subject *s)
{
    struct later l = {s, "one two three four five", 10000, false};
    int low = 20;
    pthread_t thread;

    result(s, "SO_RCVLOWAT", do_set(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
    MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
    RECV(20, 0); /* the text comes in two parts, both shorter */
    pthread_join(thread, NULL);
    RECV(3, MSG_WAITALL);
    peer_says(s, "few");
    POLL(POLLIN);
    RECV(3, 0);
    peer_says(s, "few");
    RECV(30, MSG_DONTWAIT);
    low = 1;
    result(s, "SO_RCVLOWAT", do_set(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
}

static int64_t waited(int64_t since_ns)
{
    return (now_ns() - since_ns) / MS;
}

/** Sends until nothing more goes in anywhere on the way; a move would make room. */
static void fill(struct subject *s, int flags)
{
    static char data[1 << 20];
    int64_t moved = now_ns();

    place(s);
    s->stay = true;
    while (now_ns() - moved < 300 * MS) {
        if (do_send(s, data, sizeof(data), flags) > 0)
            moved = now_ns();
        else
            MUST(errno == EAGAIN);
        (void)do_poll(s, POLLOUT, 20);
    }
    note(s, "full\n");
}

static void peer_drains(struct subject *s)
{
    static char data[1 << 20];

    while (recv(s->peer, data, sizeof(data), MSG_DONTWAIT) > 0 ||
           !(do_poll(s, POLLOUT, 0) & POLLOUT))
        ;
    becomes(s, POLLOUT);
}

static void timeouts(struct subject *s)
{
    struct timeval tv = {0, 60000}, got = {0};
    struct later l = {s, "short", 1000, false};
    socklen_t len = sizeof(got);
    pthread_t thread;
    int64_t start;

    result(s, "SO_RCVTIMEO", do_set(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
    result(s, "SO_RCVTIMEO?", do_get(s, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
    note(s, "%ld %ld\n", (long)got.tv_sec, (long)got.tv_usec);
    start = now_ns();
    RECV(10, 0);
    MUST(waited(start) >= 50);
    start = now_ns();
    RECV(10, MSG_PEEK);
    MUST(waited(start) >= 50);
    MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
    RECV(50, MSG_WAITALL);
    pthread_join(thread, NULL);
    MUST(pthread_create(&thread, NULL, say_later, &l) == 0);
    RECV(50, MSG_WAITALL | MSG_PEEK);
    pthread_join(thread, NULL);
    RECV(5, MSG_WAITALL);
    tv.tv_usec = 2000000;
    result(s, "SO_RCVTIMEO", do_set(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
    tv.tv_usec = 40000;
    result(s, "SO_SNDTIMEO", do_set(s, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
    fill(s, 0);
    start = now_ns();
    SEND("x", 1, 0);
    MUST(waited(start) >= 30); /* the kernel counts in jiffies */
    SEND("x", 1, MSG_DONTWAIT);
    POLL(POLLOUT | POLLIN);
    start = now_ns();
    note(s, "poll %d\n", do_poll(s, POLLOUT, 30));
    MUST(waited(start) >= 29);
    peer_drains(s);
    SEND("x", 1, MSG_DONTWAIT);
    s->stay = false;
}

static void not_blocking(struct subject *s)
{
    char c;

    MUST(fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK) == 0);
    RECV(10, 0);
    RECV(10, MSG_WAITALL);
    RECV(10, MSG_PEEK | MSG_WAITALL);
    fill(s, 0);
    POLL(POLLOUT);
    peer_drains(s);
    SEND("x", 1, 0);
    s->stay = false;
    peer_says(s, "part");
    RECV(10, MSG_WAITALL);
    MUST(fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) & ~O_NONBLOCK) == 0);
    MUST(recv(s->peer, &c, 1, 0) == 1);
}

static void peer_ends(struct subject *s)
{
    peer_says(s, "last words");
    shutdown(s->peer, SHUT_WR);
    becomes(s, POLLRDHUP);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    RECV(4, 0);
    RECV(100, MSG_PEEK | MSG_WAITALL);
    RECV(100, MSG_WAITALL);
    RECV(100, 0);
    RECV(0, 0);
    RECV(100, MSG_DONTWAIT | MSG_PEEK);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    SEND("still here", 10, 0);
    peer_hears(s, 10);
    SHUTDOWN(SHUT_WR);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    SEND("x", 1, 0);
    SEND("x", 1, MSG_NOSIGNAL);
    SEND("", 0, 0);
}

static void peer_resets(struct subject *s)
{
    int err = 0;
    socklen_t len = sizeof(err);

    peer_says(s, "last words");
    abort_close(s->peer);
    s->peer = -1;
    becomes(s, POLLHUP);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    RECV(4, 0);
    RECV(100, MSG_WAITALL);
    RECV(100, 0);
    RECV(100, 0);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    SEND("x", 1, 0);
    SEND("x", 1, MSG_NOSIGNAL);
    result(s, "SO_ERROR", do_get(s, SOL_SOCKET, SO_ERROR, &err, &len));
    note(s, "%d\n", err);
    SHUTDOWN(SHUT_WR);
}

static void peer_resets_a_sender(struct subject *s)
{
    abort_close(s->peer);
    s->peer = -1;
    becomes(s, POLLHUP);
    SEND("", 0, 0);
    SEND("x", 1, 0);
    RECV(100, 0);
}

static void peer_resets_and_is_asked(struct subject *s)
{
    int err = 0;
    socklen_t len = sizeof(err);

    abort_close(s->peer);
    s->peer = -1;
    becomes(s, POLLHUP);
    result(s, "SO_ERROR", do_get(s, SOL_SOCKET, SO_ERROR, &err, &len));
    note(s, "%s\n", strerrorname_np(err));
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    RECV(100, 0);
    SEND("x", 1, 0);
}

static void *reset_later(void *arg)
{
    struct subject *s = arg;

    usleep(30000);
    abort_close(s->peer);
    s->peer = -1;
    return NULL;
}

/** A blocked send has moved something when the reset comes: the count first, the error later. */
static void reset_in_a_blocked_send(struct subject *s)
{
    static char data[32 << 20];
    pthread_t thread;
    ssize_t n;

    MUST(pthread_create(&thread, NULL, reset_later, s) == 0);
    n = do_send(s, data, sizeof(data), 0);
    note(s, "blocked send: %s\n", n > 0 && n < (ssize_t)sizeof(data) ? "part" : "no");
    pthread_join(thread, NULL);
    becomes(s, POLLHUP);
    POLL(POLLIN | POLLOUT);
    RECV(10, 0);
    RECV(10, 0);
    SEND("x", 1, 0);
}

static void shutting_down(struct subject *s)
{
    result(s, "shutdown(7)", do_shutdown(s, 7));
    peer_says(s, "unread");
    SHUTDOWN(SHUT_RD);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    RECV(100, 0);
    RECV(100, 0);
    peer_says(s, "more");
    RECV(100, 0);
    RECV(100, 0);
    SEND("out", 3, 0);
    peer_hears(s, 3);
    SHUTDOWN(SHUT_WR);
    POLL(POLLIN | POLLOUT | POLLRDHUP);
    SEND("out", 3, 0);
    SHUTDOWN(SHUT_RDWR);
    MUST(recv(s->peer, (char[1]){0}, 1, 0) == 0);
}

static void options(struct subject *s)
{
    int on = 1, value = 0;
    socklen_t len = sizeof(value);
    struct timeval bad = {0, -1};
    struct tcp_info info = {0};
    struct linger linger = {1, 5};

    result(s, "NODELAY", do_set(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
    result(s, "NODELAY?", do_get(s, IPPROTO_TCP, TCP_NODELAY, &value, &len));
    note(s, "%d\n", value);
    result(s, "KEEPALIVE", do_set(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)));
    result(s, "KEEPALIVE?", do_get(s, SOL_SOCKET, SO_KEEPALIVE, &value, &len));
    note(s, "%d\n", value);
    result(s, "ERROR?", do_get(s, SOL_SOCKET, SO_ERROR, &value, &len));
    note(s, "%d\n", value);
    result(s, "RCVTIMEO", do_set(s, SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof(bad)));
    result(s, "RCVTIMEO", do_set(s, SOL_SOCKET, SO_RCVTIMEO, &bad, 1));
    result(s, "LINGER", do_set(s, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
    result(s, "unknown", do_set(s, SOL_SOCKET, 4711, &on, sizeof(on)));
    result(s, "unknown?", do_get(s, 4711, 4711, &value, &len));
    len = sizeof(info);
    result(s, "INFO", do_get(s, IPPROTO_TCP, TCP_INFO, &info, &len));
    note(s, "state %d\n", info.tcpi_state);
    len = sizeof(value);
    result(s, "TYPE", do_get(s, SOL_SOCKET, SO_TYPE, &value, &len));
    note(s, "%d\n", value);
    on = 4;
    result(s, "PEEK_OFF", do_set(s, SOL_SOCKET, 42 /* SO_PEEK_OFF */, &on, sizeof(on)));
    peer_says(s, "0123456789");
    RECV(3, MSG_PEEK);
    RECV(10, 0);
}

/** The thread's signals, until it has had enough of them. */
struct nagger {
    pthread_t thread;
    _Atomic bool enough;
};

static void *nag(void *arg)
{
    struct nagger *n = arg;

    while (!atomic_load(&n->enough)) {
        usleep(10000);
        pthread_kill(n->thread, SIGUSR1);
    }
    return NULL;
}

static void *say_much_later(void *arg)
{
    struct subject *s = arg;

    usleep(60000);
    MUST(send(s->peer, "!", 1, 0) == 1);
    return NULL;
}

static void *drain_later(void *arg)
{
    struct subject *s = arg;
    static char data[1 << 16];

    usleep(60000);
    while (recv(s->peer, data, sizeof(data), 0) > 0)
        usleep(1000); /* slow enough for a signal to find the sender asleep */
    return NULL;
}

static void signals(struct subject *s)
{
    static char data[24 << 20];
    struct sigaction act = {.sa_handler = on_alarm}, old;
    struct nagger n = {.thread = pthread_self()};
    struct timeval tv = {20, 0}, none = {0};
    pthread_t nagging, other;
    ssize_t sent;

    for (int restart = 0; restart < 2; restart++) {
        act.sa_flags = restart ? SA_RESTART : 0;
        sigaction(SIGUSR1, &act, &old);
        atomic_store(&n.enough, false);
        MUST(pthread_create(&nagging, NULL, nag, &n) == 0);
        note(s, "restart %d\n", restart);
        MUST(pthread_create(&other, NULL, say_much_later, s) == 0);
        RECV(1, 0);
        RECV(0, MSG_DONTWAIT);
        result(s, "poll", do_poll(s, POLLPRI, -1));
        pthread_join(other, NULL);
        arrived(s, restart ? 0 : 1);
        RECV(100, MSG_DONTWAIT);
        /* With a time limit the kernel does not restart. */
        MUST(do_set(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
        RECV(1, 0);
        MUST(do_set(s, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none)) == 0);
        /* Some bytes, then a signal. */
        peer_says(s, "abc");
        if (!restart)
            RECV(10, MSG_WAITALL);
        RECV(10, MSG_DONTWAIT);
        if (!restart) {
            fill(s, MSG_DONTWAIT);
            SEND("x", 1, 0);
        } else {
            MUST(pthread_create(&other, NULL, drain_later, s) == 0);
            sent = do_send(s, data, sizeof(data), 0);
            note(s, "sent %s\n", sent > 0 && sent < (ssize_t)sizeof(data) ? "part" : "no");
            MUST(do_shutdown(s, SHUT_WR) == 0);
            pthread_join(other, NULL);
        }
        atomic_store(&n.enough, true);
        pthread_join(nagging, NULL);
        sigaction(SIGUSR1, &old, NULL);
    }
}

static void names(struct subject *s)
{
    struct sockaddr_storage a = {0}, b = {0};
    socklen_t la = sizeof(a), lb = sizeof(b);

    place(s);
    if (s->c)
        MUST(chimney_getsockname(s->c, (struct sockaddr *)&a, &la) == 0 &&
             chimney_getpeername(s->c, (struct sockaddr *)&b, &lb) == 0);
    else
        MUST(getsockname(s->fd, (struct sockaddr *)&a, &la) == 0 &&
             getpeername(s->fd, (struct sockaddr *)&b, &lb) == 0);
    note(s, "%u %u %d %d\n", la, lb, a.ss_family, b.ss_family);
    MUST(((struct sockaddr_in *)&a)->sin_port != 0 && ((struct sockaddr_in *)&b)->sin_port != 0);
}

/* ---- running -----------------------------------------------------------------------------------
 */

static void run_mode(void (*scenario)(struct subject *), enum mode mode, unsigned seed,
                     struct subject *s)
{
    struct fixture *f = NULL;
    struct chimney_session *session = NULL;
    int pair[2];

    memset(s, 0, sizeof(*s));
    s->mode = mode;
    s->seed = seed;
    if (mode <= MODE_NO_DAEMON) {
        tcp_pair(pair);
        s->fd = pair[1];
        s->peer = pair[0];
    }
    if (mode >= MODE_KERNEL) {
        s->fixture = f = fixture_start(seed, 0);
        s->relay = fixture_pair(f, &s->fd, &s->peer);
    }
    if (mode >= MODE_NO_DAEMON) {
        session = chimney_open(f ? f->dir : "/nowhere");
        s->c = chimney_attach(session, s->fd, 0);
        MUST(s->c != NULL);
    }
    if (mode == MODE_STREAM) {
        MUST(fixture_move(f, s->relay, STREAM_ROUTE_STREAM));
        MUST(chimney_state(s->c) == CHIMNEY_OFFLOADED);
    }
    pipes = 0;
    scenario(s);
    if (s->c)
        MUST(chimney_close(s->c) == 0);
    else
        close(s->fd);
    if (s->peer >= 0)
        close(s->peer);
    chimney_end(session);
    if (f)
        fixture_stop(f);
}

static void compare(void (*scenario)(struct subject *))
{
    static struct subject plain, s;
    unsigned seed = test_seed();

    run_mode(scenario, MODE_PLAIN, seed, &plain);
    for (enum mode mode = MODE_NO_DAEMON; mode < MODES; mode++) {
        run_mode(scenario, mode, seed, &s);
        if (strcmp(s.text, plain.text) != 0)
            print_error("--- plain socket\n%s--- %s\n%s", plain.text, mode_name[mode], s.text);
        assert_string_equal(s.text, plain.text);
    }
    if (getenv("VERBOSE"))
        print_message("%s", plain.text);
}

#define SCENARIO(name)                                                                             \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        compare(name);                                                                             \
    }
SCENARIO(nothing_there)
SCENARIO(some_data)
SCENARIO(sending)
SCENARIO(sleeping)
SCENARIO(low_mark)
SCENARIO(timeouts)
SCENARIO(not_blocking)
SCENARIO(peer_ends)
SCENARIO(peer_resets)
SCENARIO(peer_resets_a_sender)
SCENARIO(peer_resets_and_is_asked)
SCENARIO(reset_in_a_blocked_send)
SCENARIO(shutting_down)
SCENARIO(options)
SCENARIO(signals)
SCENARIO(names)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_there),
        cmocka_unit_test(test_some_data),
        cmocka_unit_test(test_sending),
        cmocka_unit_test(test_sleeping),
        cmocka_unit_test(test_low_mark),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_not_blocking),
        cmocka_unit_test(test_peer_ends),
        cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_peer_resets_a_sender),
        cmocka_unit_test(test_peer_resets_and_is_asked),
        cmocka_unit_test(test_reset_in_a_blocked_send),
        cmocka_unit_test(test_shutting_down),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_names),
    };
    struct sigaction act = {.sa_handler = on_pipe, .sa_flags = SA_RESTART};

    sigaction(SIGPIPE, &act, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
