/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams through the switch while connections move at random: every byte, both directions, every
 * kind of call, and then the end, as the kernel would give it.
 */
#include "client_fixture.h"

#define CONNECTIONS 12
#define STREAM_BYTES (3u << 20)
#define MOVE_EVERY (2 * MS)

enum style { STYLE_BLOCKING, STYLE_NONBLOCKING, STYLE_DONTWAIT, STYLE_MIXED };
enum ending { END_PEER_CLOSES, END_PROGRAM_CLOSES, END_PEER_RESETS, END_PROGRAM_HALF_CLOSES };

struct flow {
    struct fixture *fixture;
    struct chimney_session *session;
    struct chimney_conn *conn;
    int peer, relay;
    uint64_t id;
    unsigned seed;
    enum style style;
    enum ending ending;
    bool detach;
    pthread_t threads[4];
};

/** Sends @len bytes of stream @id by the calls of the library, in pieces of random sizes. */
static void program_send(struct flow *w, unsigned *seed)
{
    static const int waits[] = {0, 0, MSG_DONTWAIT, 0};
    uint8_t *data = malloc(300000);

    for (uint64_t pos = 0; pos < STREAM_BYTES;) {
        size_t len = 1 + pick(seed, pick(seed, 4) ? 8000 : 300000);
        int flags = waits[w->style] | (pick(seed, 2) ? MSG_NOSIGNAL : 0);
        ssize_t n;

        if (w->style == STYLE_MIXED)
            flags |= pick(seed, 2) ? MSG_DONTWAIT : pick(seed, 2) ? MSG_MORE : 0;
        if (len > STREAM_BYTES - pos)
            len = STREAM_BYTES - pos;
        stream_fill(w->id, pos, data, len);
        if (pick(seed, 2)) {
            n = chimney_send(w->conn, data, len, flags);
        } else {
            struct iovec iov[100];
            size_t at = 0;
            int count = 0;

            while (at < len && count < 99) {
                size_t part = pick(seed, (uint32_t)(len / 8) + 3);

                if (part > len - at)
                    part = len - at;
                iov[count++] = (struct iovec){data + at, part};
                at += part;
            }
            iov[count++] = (struct iovec){data + at, len - at};
            n = chimney_sendv(w->conn, iov, count, flags);
        }
        if (n < 0) {
            MUST(errno == EAGAIN);
            MUST(w->style != STYLE_BLOCKING);
            MUST(chimney_poll(w->conn, POLLOUT, 60000) & POLLOUT);
            continue;
        }
        MUST(n > 0 && (size_t)n <= len);
        if (w->style == STYLE_BLOCKING)
            MUST((size_t)n == len);
        pos += (uint64_t)n;
        if (pick(seed, 64) == 0)
            usleep(pick(seed, 1000));
    }
    free(data);
}

static void program_receive(struct flow *w, unsigned *seed)
{
    uint8_t *data = malloc(300000), *again = malloc(300000);

    for (uint64_t pos = 0; pos < STREAM_BYTES;) {
        size_t len = 1 + pick(seed, pick(seed, 4) ? 8000 : 300000);
        int flags = 0, kind = (int)pick(seed, 8);
        ssize_t n;

        if (len > STREAM_BYTES - pos)
            len = STREAM_BYTES - pos;
        if (w->style == STYLE_DONTWAIT || (w->style == STYLE_MIXED && pick(seed, 2)))
            flags |= MSG_DONTWAIT;
        if (kind == 0) { /* look, then take: the same */
            ssize_t looked = chimney_recv(w->conn, again, len, flags | MSG_PEEK);

            if (looked < 0) {
                MUST(errno == EAGAIN);
                MUST(chimney_poll(w->conn, POLLIN, 60000) & POLLIN);
                continue;
            }
            MUST(looked > 0);
            stream_check(w->id + 1, pos, again, (size_t)looked);
            n = chimney_recv(w->conn, data, (size_t)looked, 0);
            MUST(n > 0 && n <= looked);
        } else if (kind == 1) {
            n = chimney_recv(w->conn, data, len, flags | MSG_WAITALL);
            if (n > 0 && w->style == STYLE_BLOCKING)
                MUST((size_t)n == len);
        } else if (kind == 2) {
            struct iovec iov[3] = {{data, len / 2}, {NULL, 0}, {data + len / 2, len - len / 2}};

            n = chimney_recvv(w->conn, iov, 3, flags);
        } else if (kind == 3) {
            size_t want = len < 5000 ? len : 5000; /* more than that need not fit anywhere */

            n = chimney_recv(w->conn, data, want, flags | MSG_PEEK | MSG_WAITALL);
            if (n > 0 && w->style == STYLE_BLOCKING && n != (ssize_t)want)
                MUST(n >= 1024); /* a full ring: the smallest of the fixture */
            if (n > 0) {
                stream_check(w->id + 1, pos, data, (size_t)n);
                n = chimney_recv(w->conn, NULL, (size_t)n, flags | MSG_TRUNC);
                if (n > 0) {
                    pos += (uint64_t)n;
                    continue;
                }
            }
        } else {
            n = chimney_recv(w->conn, data, len, flags);
        }
        if (n < 0) {
            MUST(errno == EAGAIN);
            MUST(w->style != STYLE_BLOCKING);
            MUST(chimney_poll(w->conn, POLLIN, 60000) & POLLIN);
            continue;
        }
        MUST(n > 0 && (size_t)n <= len);
        stream_check(w->id + 1, pos, data, (size_t)n);
        pos += (uint64_t)n;
        if (pick(seed, 64) == 0)
            usleep(pick(seed, 1000));
    }
    free(data);
    free(again);
}

static void *program_sender(void *arg)
{
    struct flow *w = arg;
    unsigned seed = w->seed ^ 1;

    program_send(w, &seed);
    return NULL;
}

static void *program_receiver(void *arg)
{
    struct flow *w = arg;
    unsigned seed = w->seed ^ 2;

    program_receive(w, &seed);
    return NULL;
}

static void *peer_sender(void *arg)
{
    struct flow *w = arg;
    unsigned seed = w->seed ^ 3;
    uint8_t data[20000];

    for (uint64_t pos = 0; pos < STREAM_BYTES;) {
        size_t len = 1 + pick(&seed, sizeof(data));

        if (len > STREAM_BYTES - pos)
            len = STREAM_BYTES - pos;
        stream_fill(w->id + 1, pos, data, len);
        MUST(send(w->peer, data, len, MSG_NOSIGNAL) == (ssize_t)len);
        pos += len;
        if (pick(&seed, 64) == 0)
            usleep(pick(&seed, 2000));
    }
    return NULL;
}

static void *peer_receiver(void *arg)
{
    struct flow *w = arg;
    unsigned seed = w->seed ^ 4;
    uint8_t data[20000];

    for (uint64_t pos = 0; pos < STREAM_BYTES;) {
        ssize_t n = recv(w->peer, data, 1 + pick(&seed, sizeof(data)), 0);

        MUST(n > 0);
        stream_check(w->id, pos, data, (size_t)n);
        pos += (uint64_t)n;
        if (pick(&seed, 64) == 0)
            usleep(pick(&seed, 2000));
    }
    return NULL;
}

/** The end of the connection, seen from both sides. */
static void flow_end(struct flow *w)
{
    char byte;

    switch (w->ending) {
    case END_PEER_CLOSES:
        shutdown(w->peer, SHUT_WR);
        MUST(chimney_poll(w->conn, POLLIN | POLLRDHUP, 60000) & POLLRDHUP);
        MUST(chimney_recv(w->conn, &byte, 1, MSG_WAITALL) == 0);
        MUST(chimney_recv(w->conn, &byte, 1, MSG_DONTWAIT) == 0);
        MUST(chimney_send(w->conn, "x", 1, 0) == 1); /* a half-closed connection still sends */
        MUST(recv(w->peer, &byte, 1, 0) == 1 && byte == 'x');
        break;
    case END_PROGRAM_CLOSES:
        break;
    case END_PEER_RESETS:
        abort_close(w->peer);
        w->peer = -1;
        MUST(chimney_poll(w->conn, 0, 60000) & (POLLHUP | POLLERR));
        MUST(chimney_recv(w->conn, &byte, 1, 0) == -1 && errno == ECONNRESET);
        MUST(chimney_recv(w->conn, &byte, 1, 0) == 0);
        MUST(chimney_send(w->conn, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        break;
    case END_PROGRAM_HALF_CLOSES:
        MUST(chimney_shutdown(w->conn, SHUT_WR) == 0);
        MUST(chimney_send(w->conn, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        MUST(recv(w->peer, &byte, 1, 0) == 0);
        MUST(send(w->peer, "y", 1, 0) == 1);
        MUST(chimney_recv(w->conn, &byte, 1, 0) == 1 && byte == 'y');
        break;
    }
    if (w->detach) {
        int fd = chimney_detach(w->conn);

        MUST(fd >= 0);
        close(fd);
    } else {
        MUST(chimney_close(w->conn) == 0);
    }
    if (w->peer >= 0) {
        MUST(recv(w->peer, &byte, 1, 0) == 0);
        close(w->peer);
    }
}

static void flow_open(struct flow *w, struct fixture *f, struct chimney_session *s, int i,
                      unsigned seed)
{
    int fd;

    *w = (struct flow){.fixture = f,
                       .session = s,
                       .id = (uint64_t)i * 2,
                       .seed = seed + (unsigned)i * 16,
                       .style = (enum style)(i % 4),
                       .ending = (enum ending)((i / 4) % 4),
                       .detach = i % 3 == 0};
    w->relay = fixture_pair(f, &fd, &w->peer);
    if (w->style == STYLE_NONBLOCKING)
        MUST(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
    w->conn = chimney_attach(s, fd, i & 1 ? CHIMNEY_ATTACH_OFFLOAD : CHIMNEY_ATTACH_ACCEPTED);
    MUST(w->conn != NULL && chimney_id(w->conn) != 0);
}

static void random_streams_random_moves(void **state)
{
    static void *(*const work[])(void *) = {program_sender, program_receiver, peer_sender,
                                            peer_receiver};
    unsigned seed = test_seed();
    struct fixture *f = fixture_start(seed, MOVE_EVERY);
    struct chimney_session *s = chimney_open(f->dir);
    struct flow *flows = calloc(CONNECTIONS, sizeof(*flows));

    assert_non_null(s);
    assert_true(chimney_connected(s));
    for (int i = 0; i < CONNECTIONS; i++)
        flow_open(&flows[i], f, s, i, seed);
    for (int i = 0; i < CONNECTIONS; i++)
        for (int k = 0; k < 4; k++)
            MUST(pthread_create(&flows[i].threads[k], NULL, work[k], &flows[i]) == 0);
    for (int i = 0; i < CONNECTIONS; i++)
        for (int k = 0; k < 4; k++)
            pthread_join(flows[i].threads[k], NULL);
    for (int i = 0; i < CONNECTIONS; i++)
        flow_end(&flows[i]);
    assert_true(f->offloads > 10);
    chimney_end(s);
    fixture_stop(f);
    free(flows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_streams_random_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
