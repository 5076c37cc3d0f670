/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic: streams checked data in both directions of many connections, independently.
 *
 *   traffic server ...    a program of libchimney
 *   traffic client ...    the same on plain sockets of the kernel
 *
 * Either may listen, or connect, or both.  Who connects says the connection's number in 8 bytes;
 * then both send the pattern of lab.h, the number and the direction being its stream, and compare
 * every byte they receive.  Sizes of writes and reads, and the calls they are made with, are random
 * from one seed.
 *
 * A stream ends by SIGTERM or --seconds: who is told so shuts down its direction; who reads the end
 * of a stream does the same with its own.  When both have ended the connection is closed.  What was
 * sent and received is in the summary: the driver compares both ends.
 *
 * Three ways to write the program: a loop over a wait set, level-triggered or edge-triggered
 * (--edge), or two threads per connection that block (--threads).
 */
#include "traffic.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "lab.h"
#include "sha256.h"
#include "sock.h"

#define MAX_LISTEN 8
#define MAX_CONNECT 16
#define MAGIC 0x54524146u
/** The most one call may carry. */
#define MOST 65536u
/** Calls made for one connection before the next has its turn. */
#define TURN 4
/** A loop looks at the clock and at signals at least that often. */
#define LOOP_MS 20
/** After the streams were told to end. */
#define END_NS (30 * 1000000000ull)

struct hello {
    uint32_t magic, number;
};

/* One direction. */
struct half {
    uint64_t random, next_ns;
    bool ready; /* the last call did not say EAGAIN */
    bool ended; /* shut down, or end of stream */
    struct sha256 sha;
    uint8_t *data, *copy;
};

struct flow {
    struct sock sock;
    uint32_t number;
    bool opener;
    uint32_t interest; /* events asked for */
    bool closed;
    struct half out, in;
    uint64_t last_ns; /* of the last byte received */
    pthread_t sender, receiver;
    struct traffic_row *row;
};

static struct {
    bool server, edge, threads, sha, offload, quiet;
    const char *rundir, *progress, *summary;
    struct {
        const char *address;
        uint16_t port;
        unsigned count;
    } listen[MAX_LISTEN], connect[MAX_CONNECT];
    unsigned listens, connects, accept;
    unsigned first;
    uint64_t seed, rate, most;
    double seconds;
} opt = {.most = MOST, .seed = 1};

static struct chimney_session *session;
static struct sock_set set;
static struct traffic_table *table;
static struct flow **flows;
static unsigned flow_count, open_count;
static uint64_t start_ns, end_ns;
static volatile sig_atomic_t told;
static int listeners[MAX_LISTEN];

static void die(const char *what, int error)
{
    fprintf(stderr, "traffic: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(2);
}

static void on_term(int number)
{
    told = 1;
}

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* Sizes over all magnitudes: as many below 64 bytes as above 4 KiB. */
static size_t draw_size(uint64_t *state)
{
    size_t most = (size_t)1 << draw(state) % 17;

    most = 1 + draw(state) % most;
    return most < opt.most ? most : opt.most;
}

/* ---- flows ---------------------------------------------------------------------------------- */

static struct flow *flow_new(struct sock sock, uint32_t number, bool opener)
{
    struct flow *f = calloc(1, sizeof(*f));

    if (!f || flow_count == TRAFFIC_MAX)
        die("flows", ENOMEM);
    f->sock = sock;
    f->number = number;
    f->opener = opener;
    f->out.random = opt.seed ^ (uint64_t)number << 32 ^ (opener ? 1 : 2);
    f->in.random = opt.seed ^ (uint64_t)number << 32 ^ (opener ? 3 : 4);
    f->out.ready = f->in.ready = true;
    f->out.data = malloc(MOST);
    f->in.data = malloc(MOST);
    f->in.copy = malloc(MOST);
    if (!f->out.data || !f->in.data || !f->in.copy)
        die("flows", ENOMEM);
    sha256_init(&f->out.sha);
    sha256_init(&f->in.sha);
    f->last_ns = lab_now_ns();
    f->row = &table->rows[flow_count];
    atomic_store(&f->row->number, number);
    atomic_store(&f->row->id, sock.conn ? chimney_id(sock.conn) : 0);
    atomic_store(&f->row->state, TRAFFIC_OPEN);
    flows[flow_count++] = f;
    open_count++;
    atomic_store(&table->count, flow_count);
    return f;
}

static void flow_fail(struct flow *f, const char *what, int error)
{
    int none = 0;

    if (atomic_compare_exchange_strong(&f->row->error, &none, error))
        fprintf(stderr, "traffic %s: connection %u: %s: %s after %llu sent, %llu received\n",
                opt.server ? "server" : "client", f->number, what, strerror(error),
                (unsigned long long)f->row->sent, (unsigned long long)f->row->received);
    atomic_store(&f->row->state, TRAFFIC_FAILED);
    f->out.ended = f->in.ended = true;
}

/* True if every stream is to end now. */
static bool ending(void)
{
    return told || (end_ns && lab_now_ns() >= end_ns);
}

static uint32_t stream_of(const struct flow *f, bool outgoing)
{
    return 2 * f->number + (f->opener == outgoing);
}

/* One send of random size; false: it would block, or the stream has ended. */
static bool send_some(struct flow *f, int flags)
{
    struct half *h = &f->out;
    size_t len = draw_size(&h->random);
    uint64_t sent = atomic_load(&f->row->sent);
    ssize_t n;

    if (ending() || f->in.ended) {
        h->ended = true;
        if (sock_shutdown(&f->sock, SHUT_WR) < 0)
            flow_fail(f, "shutdown", errno);
        return false;
    }
    lab_pattern(h->data, len, stream_of(f, true), sent);
    if (len >= 3 && draw(&h->random) % 4 == 0) {
        size_t first = draw(&h->random) % len, second = draw(&h->random) % (len - first);
        const struct iovec iov[3] = {{h->data, first},
                                     {h->data + first, second},
                                     {h->data + first + second, len - first - second}};

        n = sock_sendv(&f->sock, iov, 3, flags);
    } else {
        n = sock_send(&f->sock, h->data, len, flags);
    }
    if (n < 0 && errno == EAGAIN) {
        h->ready = false;
        return false;
    }
    if (n < 0 && errno == EINTR)
        return true;
    if (n <= 0 || (size_t)n > len) {
        flow_fail(f, "send", n < 0 ? errno : EPROTO);
        return false;
    }
    if (opt.sha)
        sha256_add(&h->sha, h->data, (size_t)n);
    atomic_store(&f->row->sent, sent + (uint64_t)n);
    if (opt.rate)
        h->next_ns = lab_now_ns() + (uint64_t)n * 1000000000ull / opt.rate;
    return true;
}

static ssize_t receive(struct flow *f, size_t len, int flags)
{
    struct half *h = &f->in;
    ssize_t n;

    if (len >= 2 && draw(&h->random) % 4 == 0) {
        size_t first = 1 + draw(&h->random) % (len - 1);
        const struct iovec iov[2] = {{h->data, first}, {h->data + first, len - first}};

        return sock_recvv(&f->sock, iov, 2, flags);
    }
    if (draw(&h->random) % 8)
        return sock_recv(&f->sock, h->data, len, flags);
    /* What was peeked at must be what is received. */
    n = sock_recv(&f->sock, h->copy, len, flags | MSG_PEEK);
    if (n <= 0)
        return n;
    len = (size_t)n;
    n = sock_recv(&f->sock, h->data, len, flags | MSG_WAITALL);
    if (n < 0 && errno == EAGAIN && flags & MSG_DONTWAIT)
        return n; /* it has begun to move in between */
    if (n != (ssize_t)len || memcmp(h->data, h->copy, len) != 0) {
        fprintf(stderr, "traffic: peeked at %zu bytes, received %zd %s\n", len, n,
                n < 0 ? strerror(errno) : "");
        errno = EPROTO;
        return -1;
    }
    return n;
}

/* One receive of random size; false: it would block, or the stream has ended. */
static bool receive_some(struct flow *f, int flags)
{
    struct half *h = &f->in;
    size_t len = draw_size(&h->random);
    ssize_t n = receive(f, len, flags);
    uint64_t now, received;

    if (n < 0 && errno == EAGAIN) {
        h->ready = false;
        return false;
    }
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 || (size_t)n > len) {
        flow_fail(f, "recv", n < 0 ? errno : EPROTO);
        return false;
    }
    if (n == 0) {
        h->ended = true;
        return false;
    }
    received = atomic_load(&f->row->received);
    if (!lab_pattern_check(h->data, (size_t)n, stream_of(f, false), received)) {
        flow_fail(f, "recv", EILSEQ);
        return false;
    }
    if (opt.sha)
        sha256_add(&h->sha, h->data, (size_t)n);
    now = lab_now_ns();
    if (now - f->last_ns > atomic_load(&f->row->silence_ns))
        atomic_store(&f->row->silence_ns, now - f->last_ns);
    f->last_ns = now;
    atomic_store(&f->row->received, received + (uint64_t)n);
    return true;
}

static void flow_close(struct flow *f)
{
    if (sock_close(&f->sock) < 0)
        flow_fail(f, "close", errno);
    f->closed = true;
    open_count--;
    if (atomic_load(&f->row->state) != TRAFFIC_FAILED)
        atomic_store(&f->row->state, TRAFFIC_CLOSED);
}

/* ---- threads -------------------------------------------------------------------------------- */

static void *sender_main(void *arg)
{
    struct flow *f = arg;

    while (!f->out.ended) {
        uint64_t now = lab_now_ns();

        if (f->out.next_ns > now) {
            uint64_t left = f->out.next_ns - now;

            nanosleep(&(struct timespec){(time_t)(left / 1000000000ull), (long)(left % 1000000000)},
                      NULL);
        }
        send_some(f, 0);
    }
    return NULL;
}

static void *receiver_main(void *arg)
{
    struct flow *f = arg;

    while (!f->in.ended) {
        int ready;

        switch (draw(&f->in.random) % 8) {
        case 0:
            ready = sock_poll(&f->sock, POLLIN, 1000);
            if (ready < 0 && errno != EINTR)
                flow_fail(f, "poll", errno);
            break;
        case 1:
            /* A little at once, however it comes. */
            if (opt.most >= 64 && !receive_some(f, MSG_DONTWAIT) && !f->in.ended)
                f->in.ready = true;
            break;
        default:
            receive_some(f, 0);
        }
    }
    return NULL;
}

static void flow_threads(struct flow *f)
{
    if (pthread_create(&f->sender, NULL, sender_main, f) != 0 ||
        pthread_create(&f->receiver, NULL, receiver_main, f) != 0)
        die("thread", EAGAIN);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void flow_watch(struct flow *f)
{
    uint32_t events = 0;
    int rc;

    if (opt.edge) {
        events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET;
    } else {
        if (!f->in.ended)
            events |= EPOLLIN;
        if (!f->out.ready && !f->out.ended)
            events |= EPOLLOUT;
    }
    if (events == f->interest)
        return;
    rc = f->interest ? sock_set_mod(&set, &f->sock, events, f)
                     : sock_set_add(&set, &f->sock, events, f);
    if (rc < 0)
        die("wait set", errno);
    f->interest = events;
}

/* True if it would do more at once. */
static bool flow_turn(struct flow *f, uint64_t *wake)
{
    uint64_t now = opt.rate ? lab_now_ns() : 0;
    bool more;

    for (int i = 0; i < TURN && f->in.ready && !f->in.ended; i++)
        receive_some(f, MSG_DONTWAIT);
    for (int i = 0; i < TURN && f->out.ready && !f->out.ended && f->out.next_ns <= now; i++)
        if (send_some(f, MSG_DONTWAIT) && opt.rate)
            now = lab_now_ns();
    if (f->in.ended && f->out.ended) {
        if (f->interest)
            sock_set_del(&set, &f->sock);
        flow_close(f);
        return false;
    }
    /* The peer's end, or the word to stop, asks for our own, room or not. */
    if (!f->out.ended && (f->in.ended || ending()))
        f->out.ready = true;
    more =
        (f->in.ready && !f->in.ended) || (f->out.ready && !f->out.ended && f->out.next_ns <= now);
    if (f->out.ready && !f->out.ended && f->out.next_ns > now && f->out.next_ns < *wake)
        *wake = f->out.next_ns;
    flow_watch(f);
    return more;
}

static void accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct hello hello;
    struct sock sock;
    int rc;

    if (fd < 0)
        die("accept", errno);
    rc = sock_init(&sock, fd, session,
                   CHIMNEY_ATTACH_ACCEPTED | (opt.offload ? CHIMNEY_ATTACH_OFFLOAD : 0));
    if (rc < 0)
        die("attach", rc);
    if (sock_recv(&sock, &hello, sizeof(hello), MSG_WAITALL) != sizeof(hello) ||
        hello.magic != MAGIC)
        die("hello", EPROTO);
    if (opt.threads)
        flow_threads(flow_new(sock, hello.number, false));
    else
        flow_watch(flow_new(sock, hello.number, false));
}

static void connect_one(unsigned to, uint32_t number)
{
    struct hello hello = {MAGIC, number};
    struct sock sock;
    int fd, rc = -ECONNREFUSED;

    for (int tries = 0; tries < 100 && rc < 0; tries++) {
        rc = fd = sock_connect(opt.connect[to].address, opt.connect[to].port);
        if (rc == -ECONNREFUSED)
            lab_sleep_ms(50);
        else if (rc < 0)
            break;
    }
    if (rc < 0)
        die(opt.connect[to].address, rc);
    rc = sock_init(&sock, fd, session, opt.offload ? CHIMNEY_ATTACH_OFFLOAD : 0);
    if (rc < 0)
        die("attach", rc);
    if (sock_send(&sock, &hello, sizeof(hello), 0) != sizeof(hello))
        die("hello", errno);
    if (opt.threads)
        flow_threads(flow_new(sock, number, true));
    else
        flow_watch(flow_new(sock, number, true));
}

static bool all_here(void)
{
    unsigned expected = opt.accept;

    for (unsigned i = 0; i < opt.connects; i++)
        expected += opt.connect[i].count;
    return flow_count >= expected;
}

static void loop(void)
{
    struct epoll_event events[64];
    uint64_t give_up = 0;
    bool more = false;

    for (;;) {
        uint64_t now = lab_now_ns(), wake = UINT64_MAX;
        int timeout = more ? 0 : LOOP_MS, n;

        n = sock_set_wait(&set, events, 64, timeout);
        if (n < 0 && errno != EINTR)
            die("waiting", errno);
        for (int i = 0; i < n; i++) {
            struct flow *f = events[i].data.ptr;

            if ((int *)events[i].data.ptr >= listeners &&
                (int *)events[i].data.ptr < listeners + MAX_LISTEN) {
                accept_one(*(int *)events[i].data.ptr);
                continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                f->in.ready = true;
            if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
                f->out.ready = true;
        }
        more = false;
        for (unsigned i = 0; i < flow_count; i++)
            if (!flows[i]->closed)
                more |= flow_turn(flows[i], &wake);
        if (!more && wake != UINT64_MAX) {
            now = lab_now_ns();
            if (wake > now)
                nanosleep(
                    &(struct timespec){0, (long)(wake - now < 1000000 ? wake - now : 1000000)},
                    NULL);
            more = true;
        }
        if (open_count == 0 && all_here() && (flow_count || ending()))
            return;
        if (!give_up && ending())
            give_up = lab_now_ns() + END_NS;
        if (ending() && open_count == 0)
            return;
        if (give_up && lab_now_ns() > give_up) {
            for (unsigned i = 0; i < flow_count; i++)
                if (!flows[i]->closed)
                    flow_fail(flows[i], flows[i]->in.ended ? "never shut down" : "no end of stream",
                              ETIMEDOUT);
            return;
        }
    }
}

/* With threads only the listening sockets are left to wait for. */
static void wait_threads(void)
{
    struct epoll_event events[8];

    while (!ending() && !(all_here() && (!opt.listens || opt.accept))) {
        int n = sock_set_wait(&set, events, 8, LOOP_MS);

        for (int i = 0; i < n; i++)
            accept_one(*(int *)events[i].data.ptr);
    }
    for (unsigned i = 0; i < flow_count; i++) {
        pthread_join(flows[i]->receiver, NULL);
        pthread_join(flows[i]->sender, NULL);
        flow_close(flows[i]);
    }
}

/* ---- summary -------------------------------------------------------------------------------- */

static int summary(void)
{
    FILE *out = opt.summary ? fopen(opt.summary, "we") : stdout;
    uint64_t sent = 0, received = 0, silence = 0;
    unsigned failed = 0, mismatches = 0;

    if (!out)
        die(opt.summary, errno);
    fprintf(out, "{\"role\":\"%s\",\"seed\":%llu,\"connections\":[",
            opt.server ? "server" : "client", (unsigned long long)opt.seed);
    for (unsigned i = 0; i < flow_count; i++) {
        struct flow *f = flows[i];
        struct traffic_row *row = f->row;

        fprintf(out,
                "%s\n{\"number\":%u,\"id\":%u,\"sent\":%llu,\"received\":%llu,\"error\":\"%s\","
                "\"silence_us\":%llu",
                i ? "," : "", f->number, row->id, (unsigned long long)row->sent,
                (unsigned long long)row->received, row->error ? strerror(row->error) : "",
                (unsigned long long)row->silence_ns / 1000);
        if (opt.sha) {
            char out_hex[65], in_hex[65];

            sha256_hex(&f->out.sha, out_hex);
            sha256_hex(&f->in.sha, in_hex);
            fprintf(out, ",\"sha256_sent\":\"%s\",\"sha256_received\":\"%s\"", out_hex, in_hex);
        }
        fprintf(out, "}");
        sent += row->sent;
        received += row->received;
        failed += row->error != 0;
        mismatches += row->error == EILSEQ;
        if (row->silence_ns > silence)
            silence = row->silence_ns;
    }
    fprintf(out,
            "],\n\"count\":%u,\"failed\":%u,\"mismatches\":%u,\"sent\":%llu,\"received\":%llu,"
            "\"silence_us\":%llu,\"seconds\":%.3f}\n",
            flow_count, failed, mismatches, (unsigned long long)sent, (unsigned long long)received,
            (unsigned long long)silence / 1000, (double)(lab_now_ns() - start_ns) / 1e9);
    if (fflush(out) != 0)
        die("summary", errno);
    return failed ? 1 : 0;
}

/* ---- options -------------------------------------------------------------------------------- */

static void usage(void)
{
    fprintf(stderr,
            "usage: traffic server|client [--listen ADDRESS,PORT]... [--accept N]\n"
            "           [--connect ADDRESS,PORT,COUNT]... [--first NUMBER] [--edge | --threads]\n"
            "           [--seconds S] [--rate BYTES_PER_S] [--most BYTES] [--seed N] [--sha256]\n"
            "           [--offload] [--rundir DIR] [--progress FILE] [--summary FILE]\n");
    exit(2);
}

static void parse_endpoint(char *text, const char **address, uint16_t *port, unsigned *count)
{
    char *comma = strchr(text, ','), *second;

    if (!comma)
        usage();
    *comma = '\0';
    *address = text;
    *port = (uint16_t)strtoul(comma + 1, &second, 10);
    *count = *second == ',' ? (unsigned)strtoul(second + 1, NULL, 10) : 1;
}

static void parse(int argc, char **argv)
{
    enum {
        LISTEN,
        ACCEPT,
        CONNECT,
        FIRST,
        EDGE,
        THREADS,
        SECONDS,
        RATE,
        MOST_BYTES,
        SEED,
        SHA,
        OFFLOAD,
        RUNDIR,
        PROGRESS,
        SUMMARY
    };
    static const struct option options[] = {{"listen", required_argument, NULL, LISTEN},
                                            {"accept", required_argument, NULL, ACCEPT},
                                            {"connect", required_argument, NULL, CONNECT},
                                            {"first", required_argument, NULL, FIRST},
                                            {"edge", no_argument, NULL, EDGE},
                                            {"threads", no_argument, NULL, THREADS},
                                            {"seconds", required_argument, NULL, SECONDS},
                                            {"rate", required_argument, NULL, RATE},
                                            {"most", required_argument, NULL, MOST_BYTES},
                                            {"seed", required_argument, NULL, SEED},
                                            {"sha256", no_argument, NULL, SHA},
                                            {"offload", no_argument, NULL, OFFLOAD},
                                            {"rundir", required_argument, NULL, RUNDIR},
                                            {"progress", required_argument, NULL, PROGRESS},
                                            {"summary", required_argument, NULL, SUMMARY},
                                            {NULL, 0, NULL, 0}};
    int o;

    if (argc < 2 || (strcmp(argv[1], "server") && strcmp(argv[1], "client")))
        usage();
    opt.server = strcmp(argv[1], "server") == 0;
    while ((o = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1) {
        switch (o) {
        case LISTEN:
            if (opt.listens == MAX_LISTEN)
                usage();
            parse_endpoint(optarg, &opt.listen[opt.listens].address, &opt.listen[opt.listens].port,
                           &opt.listen[opt.listens].count);
            opt.listens++;
            break;
        case CONNECT:
            if (opt.connects == MAX_CONNECT)
                usage();
            parse_endpoint(optarg, &opt.connect[opt.connects].address,
                           &opt.connect[opt.connects].port, &opt.connect[opt.connects].count);
            opt.connects++;
            break;
        case ACCEPT:
            opt.accept = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case FIRST:
            opt.first = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case EDGE:
            opt.edge = true;
            break;
        case THREADS:
            opt.threads = true;
            break;
        case SECONDS:
            opt.seconds = strtod(optarg, NULL);
            break;
        case RATE:
            opt.rate = strtoull(optarg, NULL, 10);
            break;
        case MOST_BYTES:
            opt.most = strtoull(optarg, NULL, 10);
            if (opt.most == 0 || opt.most > MOST)
                usage();
            break;
        case SEED:
            opt.seed = strtoull(optarg, NULL, 0);
            break;
        case SHA:
            opt.sha = true;
            break;
        case OFFLOAD:
            opt.offload = true;
            break;
        case RUNDIR:
            opt.rundir = optarg;
            break;
        case PROGRESS:
            opt.progress = optarg;
            break;
        case SUMMARY:
            opt.summary = optarg;
            break;
        default:
            usage();
        }
    }
    if (!opt.listens && !opt.connects)
        usage();
}

static void open_table(void)
{
    int fd = -1;

    if (opt.progress) {
        fd = open(opt.progress, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(*table)) < 0)
            die(opt.progress, errno);
    }
    table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
                 MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    flows = calloc(TRAFFIC_MAX, sizeof(*flows));
    if (table == MAP_FAILED || !flows)
        die("progress", errno);
}

int main(int argc, char **argv)
{
    uint32_t number;
    int rc;

    parse(argc, argv);
    setvbuf(stderr, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term, .sa_flags = SA_RESTART}, NULL);
    open_table();
    start_ns = lab_now_ns();
    if (opt.seconds > 0)
        end_ns = start_ns + (uint64_t)(opt.seconds * 1e9);
    if (opt.server) {
        session = chimney_open(opt.rundir);
        if (!session)
            die("session", errno);
        if (!chimney_connected(session))
            fprintf(stderr, "traffic: no daemon: %s\n", strerror(errno));
    }
    rc = sock_set_open(&set, session);
    if (rc < 0)
        die("wait set", rc);
    for (unsigned i = 0; i < opt.listens; i++) {
        listeners[i] = sock_listen(opt.listen[i].address, opt.listen[i].port);
        if (listeners[i] < 0)
            die(opt.listen[i].address, listeners[i]);
        if (sock_set_add_fd(&set, listeners[i], &listeners[i]) < 0)
            die("wait set", errno);
    }
    atomic_store(&table->ready, 1);
    number = opt.first;
    for (unsigned i = 0; i < opt.connects; i++)
        for (unsigned j = 0; j < opt.connect[i].count; j++)
            connect_one(i, number++);
    if (opt.threads)
        wait_threads();
    else
        loop();
    rc = summary();
    sock_set_close(&set);
    if (session)
        chimney_end(session);
    return rc;
}
