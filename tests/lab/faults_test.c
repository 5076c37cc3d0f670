/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad input and faults, end to end: programs that die, scribble or talk nonsense, a daemon that is
 * told to end or is killed, full tables, sockets that cannot be offloaded, interfaces that cannot
 * be taken.  In each case whoever is not at fault keeps every byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "daemon/protocol.h"
#include "machine.h"
#include "sock.h"
#include "stream/layout.h"

#define CONNECTIONS 8
/** What every connection has to carry to be called moving. */
#define PROGRESS 20000
#define RATE "2000000"
/** Patience with anything that takes milliseconds on a machine that is not busy. */
#define PATIENCE_S 15

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static struct machine m;
static struct traffic server, client;
static struct ctl *ctl;
static uint32_t ids[CONNECTIONS];

/* ---- what the cases share -------------------------------------------------------------------- */

static void open_machine(const char *what, const char *const *daemon_arguments)
{
    printf("%s\n", what);
    machine_open(&m, 1, false);
    machine_daemon_start(&m, daemon_arguments);
    ctl = ctl_open(&m);
}

/* Eight connections of a program of libchimney, four of each family, with a plain peer. */
static void start_traffic(void)
{
    traffic_start(&m, m.a, &server, "server", "server",
                  (const char *[]){"--listen", "::,5000", "--accept", "8", "--rate", RATE, NULL});
    traffic_start(&m, m.b, &client, "client", "client",
                  (const char *[]){"--connect", MACHINE_A4 ",5000,4", "--connect",
                                   MACHINE_A6 ",5000,4", "--rate", RATE, NULL});
    traffic_await(&server, CONNECTIONS, PATIENCE_S);
    traffic_await(&client, CONNECTIONS, PATIENCE_S);
    LAB_CHECK(traffic_ids(&server, ids, CONNECTIONS) == CONNECTIONS);
}

static void all_move(void)
{
    traffic_await_progress(&server, PROGRESS, PATIENCE_S);
    traffic_await_progress(&client, PROGRESS, PATIENCE_S);
}

static void nothing_is_left(void)
{
    lab_must(m.a, "! tc filter show dev va ingress | grep .");
    lab_must(m.a, "! tc filter show dev va egress | grep .");
    lab_must(m.a, "! ip -d link show dev va | grep xdp");
    lab_must(-1, "! ls %s | grep '[.]sock$'", m.dir);
}

static unsigned daemon_descriptors(void)
{
    char command[64];
    unsigned n = 0;
    FILE *f;

    snprintf(command, sizeof(command), "ls /proc/%d/fd | wc -l", (int)m.daemon);
    f = popen(command, "re");
    LAB_CHECK(f && fscanf(f, "%u", &n) == 1);
    pclose(f);
    return n;
}

static void daemon_lives(void)
{
    int status = machine_wait(m.daemon, 0);

    if (status >= 0) {
        machine_print_logs(&m);
        LAB_FAIL("chimneyd ended with status %d", status);
    }
}

/* A connected socket of B, who is a plain peer of @address in A. */
static int peer_connect(const char *address, uint16_t port)
{
    int fd = -ECONNREFUSED;

    lab_enter(m.b);
    for (int i = 0; i < 500 && fd == -ECONNREFUSED; i++) {
        fd = sock_connect(address, port);
        if (fd == -ECONNREFUSED)
            lab_sleep_ms(10);
    }
    lab_enter(-1);
    if (fd < 0)
        LAB_FAIL("connect to %s: %s", address, strerror(-fd));
    return fd;
}

static void await_state(struct chimney_conn *conn, int state)
{
    uint64_t end = lab_now_ns() + PATIENCE_S * 1000000000ull;

    while (chimney_state(conn) != state) {
        if (lab_now_ns() > end)
            LAB_FAIL("connection %u does not reach state %d", chimney_id(conn), state);
        lab_sleep_ms(2);
    }
}

/* ---- (1) a program dies ---------------------------------------------------------------------- */

/** What the peer of a killed program has to expect: one connection of each family for each. */
enum death {
    DEATH_IDLE,   /* nothing on its way: FIN */
    DEATH_SENT,   /* what the program sent, then FIN */
    DEATH_UNREAD, /* the program has not read all it received: RST */
    DEATH_FULL,   /* more sent than the peer has read: all of it, then FIN */
    DEATHS
};
#define DYING (2 * DEATHS)
#define SENT_BEFORE_DEATH 5000

struct dying {
    const char *rundir; /* NULL: on sockets of the kernel */
    uint16_t port;
    int ready; /* written to: an unsigned when offloaded, then the bytes sent of each connection */
    int go;
};

static int dying_main(void *arg)
{
    const struct dying *dying = arg;
    struct chimney_session *session = dying->rundir ? chimney_open(dying->rundir) : NULL;
    int listener = sock_listen("::", dying->port);
    uint64_t sent[DYING] = {0};
    uint8_t data[8192];
    struct sock socks[DYING];
    char byte;

    LAB_CHECK(listener >= 0);
    for (unsigned i = 0; i < DYING; i++)
        LAB_ZERO(sock_init(&socks[i], accept(listener, NULL, NULL), session, 0));
    for (unsigned i = 0; session && i < DYING; i++) {
        LAB_ZERO(chimney_offload(socks[i].conn, NULL));
        await_state(socks[i].conn, CHIMNEY_OFFLOADED);
    }
    LAB_CHECK(write(dying->ready, "r", 1) == 1);
    LAB_CHECK(read(dying->go, &byte, 1) == 1);
    for (unsigned i = 0; i < DYING; i++) {
        ssize_t n = 1;

        switch (i % DEATHS) {
        case DEATH_SENT:
            lab_pattern(data, SENT_BEFORE_DEATH, i, 0);
            LAB_CHECK(sock_send(&socks[i], data, SENT_BEFORE_DEATH, 0) == SENT_BEFORE_DEATH);
            sent[i] = SENT_BEFORE_DEATH;
            break;
        case DEATH_UNREAD:
            LAB_CHECK(sock_poll(&socks[i], POLLIN, PATIENCE_S * 1000) > 0);
            LAB_CHECK(sock_recv(&socks[i], data, 10, MSG_WAITALL) == 10);
            break;
        case DEATH_FULL:
            while (n > 0) {
                lab_pattern(data, sizeof(data), i, sent[i]);
                n = sock_send(&socks[i], data, sizeof(data), MSG_DONTWAIT);
                if (n > 0)
                    sent[i] += (uint64_t)n;
            }
            LAB_CHECK(errno == EAGAIN);
            break;
        }
    }
    LAB_CHECK(write(dying->ready, sent, sizeof(sent)) == sizeof(sent));
    for (;;)
        pause();
}

struct end {
    uint64_t bytes;
    int error; /* 0: end of stream */
};

/* Reads until the connection ends, compares. */
static struct end read_to_end(int fd, uint32_t stream)
{
    struct timeval limit = {PATIENCE_S, 0};
    uint8_t data[8192];
    struct end end = {0};

    LAB_ZERO(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
    for (;;) {
        ssize_t n = recv(fd, data, sizeof(data), 0);

        if (n <= 0) {
            end.error = n < 0 ? errno : 0;
            return end;
        }
        LAB_CHECK(lab_pattern_check(data, (size_t)n, stream, end.bytes));
        end.bytes += (uint64_t)n;
    }
}

static void kill_program(bool offloaded, uint16_t port, struct end *ends)
{
    int ready[2], go[2], peers[DYING];
    struct dying dying = {.rundir = offloaded ? m.dir : NULL, .port = port};
    uint64_t sent[DYING];
    char byte;
    pid_t pid;

    LAB_ZERO(pipe2(ready, O_CLOEXEC));
    LAB_ZERO(pipe2(go, O_CLOEXEC));
    dying.ready = ready[1];
    dying.go = go[0];
    pid = lab_fork(m.a, dying_main, &dying);
    close(ready[1]); /* a program that fails ends the waiting for it */
    for (unsigned i = 0; i < DYING; i++)
        peers[i] = peer_connect(i < DEATHS ? MACHINE_A4 : MACHINE_A6, port);
    LAB_CHECK(read(ready[0], &byte, 1) == 1);
    if (offloaded)
        LAB_CHECK(ctl_status(ctl, "connections.offloaded") == DYING);
    for (unsigned i = DEATH_UNREAD; i < DYING; i += DEATHS)
        LAB_CHECK(send(peers[i], "twenty bytes to read", 20, 0) == 20);
    LAB_CHECK(write(go[1], "g", 1) == 1);
    LAB_CHECK(read(ready[0], sent, sizeof(sent)) == sizeof(sent));
    kill(pid, SIGKILL);
    LAB_CHECK(machine_wait(pid, PATIENCE_S) == 128 + SIGKILL);
    for (unsigned i = 0; i < DYING; i++) {
        ends[i] = read_to_end(peers[i], i);
        if (ends[i].bytes != sent[i] ||
            ends[i].error != (i % DEATHS == DEATH_UNREAD ? ECONNRESET : 0)) {
            machine_print_logs(&m);
            LAB_FAIL("peer %u of a killed program %s: %llu of %llu bytes, then %s", i,
                     offloaded ? "of libchimney" : "of the kernel",
                     (unsigned long long)ends[i].bytes, (unsigned long long)sent[i],
                     ends[i].error ? strerror(ends[i].error) : "end of stream");
        }
        close(peers[i]);
    }
    close(ready[0]);
    close(go[0]);
    close(go[1]);
}

/* rows: C460 */
static void program_is_killed(void)
{
    struct end kernel[DYING], offloaded[DYING];

    open_machine("a program is killed: its peers see what the kernel shows them", NULL);
    start_traffic();
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    ctl_do(ctl, "{\"command\":\"upload\",\"all\":true,\"wait\":true}");
    kill_program(false, 6000, kernel);
    kill_program(true, 6001, offloaded);
    for (unsigned i = 0; i < DYING; i++)
        LAB_CHECK(kernel[i].error == offloaded[i].error);
    ctl_await(ctl, "connections.attached", CONNECTIONS, PATIENCE_S);
    all_move();
    traffic_end(&client, &server);
    ctl_await(ctl, "connections.attached", 0, PATIENCE_S);
    ctl_await(ctl, "targets.0.connections", 0, PATIENCE_S);
    ctl_close(ctl);
    machine_close(&m);
}

/* ---- (2) the daemon is told to end ----------------------------------------------------------- */

static void daemon_is_ended(void)
{
    static const int signals[] = {SIGTERM, SIGINT};

    for (unsigned i = 0; i < 2; i++) {
        open_machine(i ? "SIGINT in traffic: everything is uploaded, nothing is left"
                       : "SIGTERM in traffic: everything is uploaded, nothing is left",
                     NULL);
        start_traffic();
        ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
        LAB_CHECK(ctl_status(ctl, "connections.offloaded") == CONNECTIONS);
        all_move();
        ctl_close(ctl);
        LAB_CHECK(machine_daemon_end(&m, signals[i]) == 0);
        nothing_is_left();
        all_move();
        traffic_end(&client, &server);
        machine_check_no_resets(&m);
        machine_close(&m);
    }
}

/* ---- (3) the daemon is killed ---------------------------------------------------------------- */

static void daemon_is_killed(void)
{
    struct traffic more_server, more_client;
    uint64_t end;

    open_machine("SIGKILL of the daemon: the next one cleans up", NULL);
    start_traffic();
    for (unsigned i = 0; i < CONNECTIONS; i += 2)
        ctl_do(ctl, "{\"command\":\"offload\",\"selector\":\"id %u\",\"wait\":true}", ids[i]);
    LAB_CHECK(ctl_status(ctl, "connections.offloaded") == CONNECTIONS / 2);
    all_move();
    ctl_close(ctl);
    LAB_CHECK(machine_daemon_end(&m, SIGKILL) == 128 + SIGKILL);

    /* The program sees ECONNRESET where a connection was offloaded, nothing where it was not. */
    end = lab_now_ns() + PATIENCE_S * 1000000000ull;
    for (unsigned i = 0; i < CONNECTIONS; i += 2) {
        const struct traffic_row *row = &server.table->rows[i];

        while (atomic_load(&row->state) == TRAFFIC_OPEN && lab_now_ns() < end)
            lab_sleep_ms(5);
        if (atomic_load(&row->state) != TRAFFIC_FAILED || atomic_load(&row->error) != ECONNRESET)
            LAB_FAIL("an offloaded connection of a killed daemon: state %u, %s",
                     atomic_load(&row->state), strerror(atomic_load(&row->error)));
    }
    traffic_await_progress(&server, PROGRESS, PATIENCE_S);

    machine_daemon_start(&m, NULL);
    ctl = ctl_open(&m);
    traffic_await_progress(&server, PROGRESS, PATIENCE_S);
    traffic_start(&m, m.a, &more_server, "server2", "server",
                  (const char *[]){"--listen", "::,5001", "--accept", "4", "--rate", RATE, NULL});
    traffic_start(&m, m.b, &more_client, "client2", "client",
                  (const char *[]){"--connect", MACHINE_A4 ",5001,2", "--connect",
                                   MACHINE_A6 ",5001,2", "--rate", RATE, NULL});
    traffic_await(&more_server, 4, PATIENCE_S);
    traffic_await(&more_client, 4, PATIENCE_S);
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    LAB_CHECK(ctl_status(ctl, "connections.offloaded") == 4);
    traffic_await_progress(&more_server, PROGRESS, PATIENCE_S);
    traffic_await_progress(&more_client, PROGRESS, PATIENCE_S);
    traffic_end(&more_client, &more_server);

    /* The first daemon's: those that were in the kernel agree on every byte. */
    kill(client.pid, SIGTERM);
    LAB_CHECK(machine_wait(server.pid, 45) == 1);
    LAB_CHECK(machine_wait(client.pid, 45) == 1);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        const struct traffic_row *at = &server.table->rows[i], *peer = NULL;

        for (unsigned j = 0; j < CONNECTIONS; j++)
            if (client.table->rows[j].number == at->number)
                peer = &client.table->rows[j];
        LAB_CHECK(peer);
        if (i % 2 == 0) {
            LAB_CHECK(at->error == ECONNRESET);
            continue;
        }
        LAB_CHECK(at->state == TRAFFIC_CLOSED && peer->state == TRAFFIC_CLOSED);
        LAB_CHECK(at->sent == peer->received && at->received == peer->sent);
    }
    ctl_close(ctl);
    LAB_CHECK(machine_daemon_end(&m, SIGTERM) == 0);
    nothing_is_left();
    machine_close(&m);
}

/* ---- (4) a program scribbles over shared memory ---------------------------------------------- */

#define SCRIBBLE_CONNECTIONS 4
#define SCRIBBLE_MS 1500
#define SCRIBBLE_ROUNDS 4

struct scribble {
    uint16_t port;
    int ready;
};

static uint8_t *find_arena(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    uint8_t *base = NULL;

    LAB_CHECK(maps);
    while (!base && fgets(line, sizeof(line), maps)) {
        unsigned long long from, to;

        if (strstr(line, "memfd:") && sscanf(line, "%llx-%llx", &from, &to) == 2 &&
            to - from == LAYOUT_SIZE)
            base = (uint8_t *)(uintptr_t)from;
    }
    fclose(maps);
    LAB_CHECK(base);
    return base;
}

/* The kick eventfd is among them. */
static void kick_everything(void)
{
    for (int fd = 3; fd < 64; fd++) {
        char link[64], path[64];
        uint64_t one = 1;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, link, sizeof(link) - 1);
        if (n <= 0)
            continue;
        link[n] = '\0';
        if (strstr(link, "[eventfd]") && write(fd, &one, sizeof(one)) < 0)
            LAB_CHECK(errno == EAGAIN);
    }
}

/* Now and then a value that is almost right. */
static uint64_t nonsense(uint64_t was)
{
    uint64_t r = lab_random();

    switch (r >> 60) {
    case 0:
        return was + (r & 0xffff);
    case 1:
        return was - (r & 0xffff);
    case 2:
        return was ^ 1ull << (r & 63);
    case 3:
        return r & 0xff;
    case 4:
        return 1ull << (r & 63);
    case 5:
        return UINT64_MAX;
    case 6:
    case 7:
        return (r & 7) << 32 | (r >> 8 & 7);
    default:
        return r;
    }
}

static int scribble_main(void *arg)
{
    const struct scribble *scribble = arg;
    struct chimney_session *session = chimney_open(m.dir);
    int listener = sock_listen("::", scribble->port);
    uint64_t end, pages = LAYOUT_SLOTS / STREAM_PAGE;
    uint8_t *arena;

    LAB_CHECK(listener >= 0 && chimney_connected(session));
    for (unsigned i = 0; i < SCRIBBLE_CONNECTIONS; i++) {
        struct chimney_conn *conn = chimney_attach(session, accept(listener, NULL, NULL), 0);

        LAB_CHECK(conn);
        LAB_ZERO(chimney_offload(conn, NULL));
        await_state(conn, CHIMNEY_OFFLOADED);
        LAB_CHECK(chimney_send(conn, "hello", 5, 0) == 5);
    }
    arena = find_arena();
    LAB_CHECK(write(scribble->ready, "r", 1) == 1);
    end = lab_now_ns() + SCRIBBLE_MS * 1000000ull;
    for (unsigned long i = 0; lab_now_ns() < end; i++) {
        uint64_t r = lab_random(), count, page;
        volatile uint64_t *words;

        /* Session page and queues; headers of the slots in use and a few more. */
        if (r % 2)
            words = (volatile uint64_t *)(arena + (r >> 8) % pages * STREAM_PAGE);
        else
            words = (volatile uint64_t *)(arena + LAYOUT_SLOTS + (r >> 8) % 6 * LAYOUT_SLOT_STRIDE);
        page = STREAM_PAGE / sizeof(*words);
        count = r % 3 ? 1 + (r >> 32) % 4 : page;
        for (uint64_t n = 0; n < count; n++) {
            /* Most of what matters is in a page's first lines. */
            uint64_t at = count == page ? n : lab_random() % (r % 5 ? 48 : page);

            words[at] = nonsense(words[at]);
        }
        kick_everything();
        if (i % 16 == 0)
            lab_sleep_ms(1);
    }
    kill(getpid(), SIGKILL);
    return 0;
}

/* Peers of the scribbler: send and read as it comes. */
static void stir(const int *fds, unsigned count)
{
    static char data[4096];

    for (unsigned i = 0; i < count; i++) {
        while (recv(fds[i], data, sizeof(data), MSG_DONTWAIT) > 0)
            ;
        if (send(fds[i], data, 1 + lab_random() % sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            LAB_CHECK(errno != EBADF);
    }
}

/* rows: C463 */
static void program_scribbles(void)
{
    open_machine("a program scribbles over shared memory", NULL);
    start_traffic();
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    for (unsigned round = 0; round < SCRIBBLE_ROUNDS; round++) {
        struct scribble scribble = {.port = (uint16_t)(6100 + round)};
        int ready[2], peers[SCRIBBLE_CONNECTIONS];
        char byte;
        pid_t pid;

        lab_random();
        LAB_ZERO(pipe2(ready, O_CLOEXEC));
        scribble.ready = ready[1];
        pid = lab_fork(m.a, scribble_main, &scribble);
        close(ready[1]);
        for (unsigned i = 0; i < SCRIBBLE_CONNECTIONS; i++)
            peers[i] = peer_connect(i % 2 ? MACHINE_A4 : MACHINE_A6, scribble.port);
        LAB_CHECK(read(ready[0], &byte, 1) == 1);
        for (unsigned i = 0; i < SCRIBBLE_MS / 10; i++) {
            stir(peers, SCRIBBLE_CONNECTIONS);
            lab_sleep_ms(10);
        }
        LAB_CHECK(machine_wait(pid, PATIENCE_S) >= 0);
        daemon_lives();
        all_move();
        for (unsigned i = 0; i < SCRIBBLE_CONNECTIONS; i++)
            close(peers[i]);
        close(ready[0]);
        ctl_await(ctl, "connections.attached", CONNECTIONS, PATIENCE_S);
    }
    ctl_do(ctl, "{\"command\":\"upload\",\"all\":true,\"wait\":true}");
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    LAB_CHECK(ctl_status(ctl, "targets.0.connections") == CONNECTIONS);
    all_move();
    traffic_end(&client, &server);
    ctl_await(ctl, "targets.0.connections", 0, PATIENCE_S);
    ctl_close(ctl);
    machine_close(&m);
}

/* ---- (5) a full table ------------------------------------------------------------------------ */

#define CAPACITY 4

/* Returns how many of the first @count are offloaded; those that are not say why. */
static unsigned offloaded(unsigned count, uint32_t *in, uint32_t *out)
{
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        json_t *row = ctl_conn(ctl, ids[i]);

        if (strcmp(ctl_text(row, "state"), "Offloaded") == 0) {
            *in = ids[i];
            n++;
        } else {
            LAB_ZERO(strcmp(ctl_text(row, "state"), "InHost"));
            if (!strstr(ctl_text(row, "why_not"), "NDIS_STATUS_OFFLOAD_TCP_ENTRIES"))
                LAB_FAIL("why not: %s", ctl_text(row, "why_not"));
            *out = ids[i];
        }
        json_decref(row);
    }
    return n;
}

/* rows: C167 C382 C460 C463 */
static void table_is_full(void)
{
    uint32_t in = 0, out = 0;
    json_t *row;

    open_machine("a full table: the rest stays in the kernel and works",
                 (const char *[]){"--max-connections", "4", NULL});
    start_traffic();
    json_decref(ctl_ask(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}"));
    ctl_await(ctl, "connections.offloaded", CAPACITY, PATIENCE_S);
    LAB_CHECK(offloaded(CONNECTIONS, &in, &out) == CAPACITY);
    all_move();
    /* Still full: one more is refused and goes on. */
    json_decref(
        ctl_ask(ctl, "{\"command\":\"offload\",\"selector\":\"id %u\",\"wait\":true}", out));
    LAB_CHECK(offloaded(CONNECTIONS, &in, &out) == CAPACITY);
    all_move();
    /* One goes, another one comes. */
    ctl_do(ctl, "{\"command\":\"upload\",\"selector\":\"id %u\",\"wait\":true}", in);
    ctl_do(ctl, "{\"command\":\"offload\",\"selector\":\"id %u\",\"wait\":true}", out);
    row = ctl_conn(ctl, out);
    LAB_ZERO(strcmp(ctl_text(row, "state"), "Offloaded"));
    json_decref(row);
    LAB_CHECK(ctl_status(ctl, "connections.offloaded") == CAPACITY);
    all_move();
    traffic_end(&client, &server);
    machine_check_no_resets(&m);
    ctl_close(ctl);
    machine_close(&m);
}

/* ---- (6) sockets that cannot be offloaded ---------------------------------------------------- */

static struct chimney_session *session;

static void no_handle(const char *what, int fd, int error)
{
    errno = 0;
    if (chimney_attach(session, fd, 0) || errno != error)
        LAB_FAIL("attaching %s: %s", what, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* A handle all the same: the program is told by the calls that it makes, as by the kernel's. */
static void not_connected(int fd)
{
    struct chimney_conn *conn = chimney_attach(session, fd, CHIMNEY_ATTACH_OFFLOAD);
    char text[96];

    LAB_CHECK(conn && chimney_id(conn) == 0 && chimney_state(conn) == CHIMNEY_IN_HOST);
    chimney_note(conn, text, sizeof(text));
    LAB_ZERO(strcmp(text, "not a connected TCP socket"));
    LAB_CHECK(chimney_offload(conn, NULL) < 0 && errno == ENOTCONN);
    LAB_CHECK(chimney_recv(conn, text, 1, 0) < 0 && errno == ENOTCONN);
    LAB_CHECK(chimney_send(conn, text, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    LAB_ZERO(chimney_close(conn));
}

/* A connection of A with @protocol: the program's end and its peer's. */
static int accept_one(uint16_t port, int protocol, int *peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x0a090001)};
    int listener, fd;

    lab_enter(m.a);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
    LAB_CHECK(listener >= 0);
    LAB_ZERO(bind(listener, (struct sockaddr *)&address, sizeof(address)));
    LAB_ZERO(listen(listener, 1));
    lab_enter(m.b);
    *peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
    LAB_CHECK(*peer >= 0);
    LAB_ZERO(connect(*peer, (struct sockaddr *)&to, sizeof(to)));
    lab_enter(-1);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    LAB_CHECK(fd >= 0);
    close(listener);
    return fd;
}

/* Attaches @fd; it must stay in the kernel, say why, and carry data both ways. */
static void stays(const char *what, int fd, int peer, const char *why)
{
    struct chimney_conn *conn = chimney_attach(session, fd, 0);
    char text[256] = "", data[16];
    chimney_status status;
    uint64_t end = lab_now_ns() + PATIENCE_S * 1000000000ull;
    uint32_t id;

    LAB_CHECK(conn);
    id = chimney_id(conn);
    if (chimney_offload(conn, &status) == 0 && id) {
        /* Taken up; the answer is in its row. */
        while (!strstr(text, why) && lab_now_ns() < end) {
            json_t *row = ctl_conn(ctl, id);

            snprintf(text, sizeof(text), "%s", ctl_text(row, "why_not"));
            json_decref(row);
            lab_sleep_ms(5);
        }
    } else {
        chimney_note(conn, text, sizeof(text));
    }
    printf("  %s: %s\n", what, text);
    if (!strstr(text, why))
        LAB_FAIL("%s: \"%s\" does not say \"%s\"", what, text, why);
    LAB_CHECK(chimney_state(conn) == CHIMNEY_IN_HOST);
    LAB_CHECK(chimney_send(conn, "there", 5, 0) == 5);
    LAB_CHECK(recv(peer, data, 5, MSG_WAITALL) == 5 && memcmp(data, "there", 5) == 0);
    if (send(peer, "back", 4, MSG_NOSIGNAL) == 4)
        LAB_CHECK(chimney_recv(conn, data, 4, MSG_WAITALL) == 4 && memcmp(data, "back", 4) == 0);
    LAB_ZERO(chimney_close(conn));
    close(peer);
}

/* rows: C460 */
static void sockets_that_stay(void)
{
    static const char ulp[] = "tls";
    struct pollfd urgent = {.events = POLLPRI};
    int fd, peer, pair[2];

    open_machine("sockets that cannot be attached or offloaded", NULL);
    session = chimney_open(m.dir);
    LAB_CHECK(session && chimney_connected(session));
    lab_enter(m.a);
    no_handle("no descriptor", -1, EBADF);
    no_handle("a file", open("/dev/null", O_RDWR | O_CLOEXEC), ENOTSOCK);
    no_handle("a listening socket", sock_listen("::", 6200), EOPNOTSUPP);
    no_handle("a datagram socket", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), EOPNOTSUPP);
    not_connected(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    lab_enter(-1);

    LAB_ZERO(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    stays("a socket of this machine", pair[0], pair[1], "not a connected TCP socket");

    fd = accept_one(6201, 0, &peer);
    LAB_CHECK(send(peer, "!", 1, MSG_OOB) == 1);
    urgent.fd = fd;
    LAB_CHECK(poll(&urgent, 1, PATIENCE_S * 1000) == 1);
    stays("urgent data pending", fd, peer, "urgent data");

    fd = accept_one(6202, 0, &peer);
    LAB_ZERO(shutdown(peer, SHUT_WR));
    urgent.events = POLLRDHUP;
    urgent.fd = fd;
    LAB_CHECK(poll(&urgent, 1, PATIENCE_S * 1000) == 1);
    stays("half closed", fd, peer, "not ");

    lab_enter(m.a);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    lab_enter(-1);
    if (fd < 0) {
        printf("  multipath TCP: left out, this kernel has none\n");
    } else {
        close(fd);
        fd = accept_one(6203, IPPROTO_MPTCP, &peer);
        stays("multipath TCP", fd, peer, "multipath TCP");
    }

    fd = accept_one(6204, 0, &peer);
    if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, sizeof(ulp)) < 0) {
        printf("  TLS in the kernel: left out, this kernel has none\n");
        close(fd);
        close(peer);
    } else {
        stays("TLS in the kernel", fd, peer, "TLS");
    }
    chimney_end(session);
    ctl_close(ctl);
    machine_close(&m);
}

/* ---- (7) interfaces that cannot be taken ------------------------------------------------------
 */

/* The daemon of @pid must end with 1 and have said one line with @text in it. */
static void refuses(pid_t pid, const char *tag, const char *text)
{
    int status = machine_wait(pid, PATIENCE_S * 2);
    char *said = machine_output(&m, tag);
    char *newline = strchr(said, '\n');

    if (status != 1 || strncmp(said, "chimneyd: ", 10) != 0 || !newline || newline[1] ||
        !strstr(said, text)) {
        kill(pid, SIGKILL);
        LAB_FAIL("%s: status %d, said: %s", tag, status, said);
    }
    printf("  %s", said);
    free(said);
}

static pid_t try_daemon(const char *tag, const char *port)
{
    return machine_spawn(
        &m, m.a, tag,
        (const char *[]){"src/daemon/chimneyd", "--port", port, "--rundir", m.dir, NULL});
}

/* Attaches "pass everything" to @ifname of A; it goes with the descriptor. */
static int foreign_xdp(const char *ifname)
{
    const struct bpf_insn code[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_XDP,
                           .insns = (uintptr_t)code,
                           .insn_cnt = sizeof(code) / sizeof(code[0]),
                           .license = (uintptr_t) "GPL"};
    union bpf_attr attach;
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)), link;

    LAB_CHECK(program >= 0);
    memset(&attach, 0, sizeof(attach));
    attach.link_create.prog_fd = (unsigned)program;
    attach.link_create.attach_type = BPF_XDP;
    attach.link_create.flags = XDP_FLAGS_SKB_MODE;
    lab_enter(m.a);
    attach.link_create.target_ifindex = if_nametoindex(ifname);
    link = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attach, sizeof(attach));
    lab_enter(-1);
    LAB_CHECK(link >= 0);
    close(program);
    return link;
}

struct nobody {
    const char *path, *out, *rundir;
};

static int nobody_main(void *arg)
{
    const struct nobody *nobody = arg;
    char *argv[] = {"chimneyd", "--port", "va", "--rundir", (char *)nobody->rundir, NULL};
    char *environment[] = {NULL};
    int program = open(nobody->path, O_PATH | O_CLOEXEC);
    int out = open(nobody->out, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (program < 0 || out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
        return 126;
    fexecve(program, argv, environment);
    return 127;
}

static void interfaces_that_cannot(void)
{
    struct nobody nobody;
    char out[128];
    int link;

    printf("interfaces that cannot be taken, and no privilege\n");
    machine_open(&m, 1, false);
    refuses(try_daemon("unknown", "va7"), "unknown", "no interface va7");
    link = foreign_xdp("va");
    refuses(try_daemon("taken", "va"), "taken", "va");
    lab_must(m.a, "ip -d link show dev va | grep -q xdp"); /* the other's is left alone */
    lab_must(m.a, "! tc filter show dev va ingress | grep .");
    lab_must(m.a, "! tc filter show dev va egress | grep .");
    close(link);
    snprintf(out, sizeof(out), "%s/nobody.log", m.dir);
    nobody = (struct nobody){machine_program("src/daemon/chimneyd"), out, m.dir};
    refuses(lab_fork(m.a, nobody_main, &nobody), "nobody", "root");
    refuses(
        machine_spawn(&m, m.a, "bare",
                      (const char *[]){"/usr/bin/setpriv", "--inh-caps", "-all", "--bounding-set",
                                       "-all", machine_program("src/daemon/chimneyd"), "--port",
                                       "va", "--rundir", m.dir, NULL}),
        "bare", "");
    /* After all that it can be had. */
    machine_daemon_start(&m, NULL);
    LAB_CHECK(machine_daemon_end(&m, SIGTERM) == 0);
    nothing_is_left();
    machine_close(&m);
}

/* ---- (8) nonsense on the session socket -------------------------------------------------------
 */

#define HOSTILE_SESSIONS 300
#define HOSTILE_PORT 6300
#define HOSTILE_MAX_FDS 4

/* A descriptor of some kind; a connection that could be attached is among them. */
static int some_descriptor(void)
{
    int pair[2];

    switch (lab_random() % 5) {
    case 0:
        return eventfd(0, EFD_CLOEXEC);
    case 1:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 2:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return -1;
        close(pair[1]);
        return pair[0];
    case 3:
        return socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    default:
        return sock_connect(MACHINE_B4, HOSTILE_PORT);
    }
}

static bool hostile_send(int sock)
{
    uint8_t bytes[512];
    struct protocol_message *message = (struct protocol_message *)bytes;
    struct iovec iov = {bytes, sizeof(*message)};
    union {
        char bytes[CMSG_SPACE(HOSTILE_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[HOSTILE_MAX_FDS], count = 0;
    bool sent;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)lab_random();
    if (lab_random() % 32) {
        message->op = lab_random() % 8 ? 1 + lab_random() % 6 : (uint32_t)lab_random();
        message->slot = lab_random() % 8 ? lab_random() % 4 : (uint32_t)lab_random();
        message->flags = (uint32_t)lab_random() % 4;
        message->reason = (uint32_t)lab_random() % 16;
    } else {
        iov.iov_len = lab_random() % 2 ? lab_random() % sizeof(bytes) : 0;
    }
    if (lab_random() % 2) {
        int most = lab_random() % 8 ? 1 : HOSTILE_MAX_FDS;

        while (count < most && (fds[count] = some_descriptor()) >= 0)
            count++;
    }
    if (count) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, (size_t)count * sizeof(int));
    }
    sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno == EAGAIN;
    while (count)
        close(fds[--count]);
    return sent;
}

static int hostile_main(void *arg)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", m.dir, PROTOCOL_SESSION_SOCKET);
    for (int i = 0; i < HOSTILE_SESSIONS; i++) {
        int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        struct protocol_message hello = {.op = PROTOCOL_HELLO, .slot = PROTOCOL_VERSION};
        int messages = (int)(lab_random() % 40), reads = lab_random() % 4;

        if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
            fprintf(stderr, "session %d: %s\n", i, strerror(errno));
            return 1;
        }
        if (lab_random() % 8)
            send(sock, &hello, sizeof(hello), MSG_NOSIGNAL);
        while (messages-- > 0 && hostile_send(sock))
            while (reads && recv(sock, &hello, sizeof(hello), MSG_DONTWAIT) > 0)
                ; /* descriptors that come with it are dropped by the kernel */
        close(sock);
    }
    return 0;
}

/* rows: C463 */
static void session_socket_nonsense(void)
{
    unsigned before, after = 0;
    uint64_t end;
    int listener;

    open_machine("nonsense on the session socket", NULL);
    start_traffic();
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    lab_enter(m.b);
    listener = sock_listen(MACHINE_B4, HOSTILE_PORT);
    lab_enter(-1);
    LAB_CHECK(listener >= 0 && sock_nonblocking(listener) == 0);
    before = daemon_descriptors();
    if (getenv("LAB_VERBOSE"))
        lab_run(-1, "ls -l /proc/%d/fd >&2", (int)m.daemon);
    for (unsigned round = 0; round < 2; round++) {
        pid_t pid;
        int status;

        lab_random();
        pid = lab_fork(m.a, hostile_main, NULL);
        end = lab_now_ns() + 30 * 1000000000ull;
        while ((status = machine_wait(pid, 0.002)) < 0) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

            if (fd >= 0)
                close(fd);
            daemon_lives();
            LAB_CHECK(lab_now_ns() < end);
        }
        LAB_CHECK(status == 0);
        all_move();
    }
    ctl_await(ctl, "connections.attached", CONNECTIONS, PATIENCE_S);
    for (end = lab_now_ns() + PATIENCE_S * 1000000000ull; lab_now_ns() < end; lab_sleep_ms(20))
        if ((after = daemon_descriptors()) <= before)
            break;
    if (after > before) {
        lab_run(-1, "ls -l /proc/%d/fd >&2", (int)m.daemon);
        LAB_FAIL("chimneyd had %u descriptors before and %u after", before, after);
    }
    ctl_do(ctl, "{\"command\":\"upload\",\"all\":true,\"wait\":true}");
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    all_move();
    traffic_end(&client, &server);
    close(listener);
    ctl_close(ctl);
    machine_close(&m);
}

int main(int argc, char **argv)
{
    void (*const tests[])(void) = {
        program_is_killed, daemon_is_ended,   daemon_is_killed,       program_scribbles,
        table_is_full,     sockets_that_stay, interfaces_that_cannot, session_socket_nonsense};

    lab_init("faults", 230);
    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (argc < 2 || strtoul(argv[1], NULL, 10) == i)
            tests[i]();
    puts("passed");
    return 0;
}
