/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of connections at random moments relative to moves: FIN, RST and half-close from both sides.
 *
 * Every connection follows a script drawn from the seed: some data both ways, a pause, then one
 * side acts and the other observes; both write down what each of their calls returned, and a
 * witness on the wire which FINs and RSTs passed.  All scripts run at the same time.
 *
 * The same scripts run three times: with the kernel only (the control), with a daemon and a mover
 * that offloads and uploads at random, and with everything offloaded.  All three tables must be the
 * same: the program sees what it would see from the kernel, and the peer what the kernel would have
 * sent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "machine.h"
#include "sock.h"

#define CONNECTIONS 240
#define MOST_BYTES 200000
#define MOST_NOTES 12
/** No call may take longer; one that does is written down as EAGAIN and fails the comparison. */
#define CALL_S 20
/** Runs with the kernel only. */
#define CONTROLS 3
#define PORT_A 6000
#define PORT_B 6001

/* What ends a connection.  The actor is the side that does it. */
enum end {
    END_CLOSE,          /* close(2) */
    END_CLOSE_AND_SEND, /* close(2), and the observer goes on sending */
    END_HALF,           /* shutdown(SHUT_WR), the observer sends more, then both close */
    END_BOTH_HALVES,    /* both shut down at the same time */
    END_SHUT_RDWR,      /* shutdown(SHUT_RDWR), close(2) */
    END_SHUT_RD,        /* shutdown(SHUT_RD), close(2) */
    END_RESET,          /* SO_LINGER 0, close(2) */
    END_UNREAD,         /* close(2) with data not read: RST */
    END_RESET_SENDER,   /* SO_LINGER 0, close(2) while the observer sends without end */
    END_KINDS
};
static const char *const end_names[END_KINDS] = {
    "close",       "close, peer sends on",   "half-close",
    "both halves", "shutdown(RDWR)",         "shutdown(RD)",
    "reset",       "close with unread data", "reset of a sender"};

struct script {
    enum end end;
    bool program_acts, program_accepts, v6, rush;
    uint32_t bytes[2], more; /* to the program, to the peer, after a half-close */
    uint32_t delay_us[3];
};

/* What one call returned. */
struct note {
    char call; /* 'p'oll 's'end 'r'eceive 'h'alf-close 'c'lose, 'e'nd of data: how much */
    int32_t result, error;
};
struct side {
    unsigned count;
    struct note notes[MOST_NOTES];
    uint64_t received;
    _Atomic uint32_t step; /* how far it is; the other side may wait for it */
};
#define WIRE_FIN 1
#define WIRE_RST 2
struct result {
    struct side side[2]; /* program, peer */
    uint8_t wire[2];     /* seen from A, from B */
};

/* Shared by the test and its children. */
static struct shared {
    struct script scripts[CONNECTIONS];
    struct result results[CONNECTIONS];
    _Atomic uint32_t ids[CONNECTIONS];     /* the daemon's */
    _Atomic uint16_t b_ports[CONNECTIONS]; /* ports in B ... */
    _Atomic uint32_t begun, done;
} * shared;
static struct machine m;
static struct chimney_session *session;

/* ---- scripts -------------------------------------------------------------------------------- */

static void draw_scripts(void)
{
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct script *s = &shared->scripts[i];
        uint64_t r = lab_random();

        s->end = (enum end)(i % END_KINDS);
        s->program_acts = r & 1;
        s->program_accepts = r & 2;
        s->v6 = r & 4;
        s->rush = r & 8;
        s->bytes[0] = r & 16 ? (uint32_t)(lab_random() % MOST_BYTES) : 0;
        s->bytes[1] = r & 32 ? (uint32_t)(lab_random() % MOST_BYTES) : 0;
        s->more = 1 + (uint32_t)(lab_random() % MOST_BYTES);
        for (int j = 0; j < 3; j++)
            s->delay_us[j] = (uint32_t)(lab_random() % (j ? 30000 : 1000000));
    }
}

static void note(struct side *side, char call, ssize_t result)
{
    struct note *n = &side->notes[side->count];

    if (side->count == MOST_NOTES)
        return;
    side->count++;
    n->call = call;
    n->result = (int32_t)result;
    n->error = result < 0 ? errno : 0;
}

static void nap(uint32_t us)
{
    struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};

    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

static void reach(struct side *side, uint32_t step)
{
    atomic_store(&side->step, step);
}

static void await(const struct side *other, uint32_t step)
{
    uint64_t end = lab_now_ns() + CALL_S * 1000000000ull;

    while (atomic_load(&other->step) < step && lab_now_ns() < end)
        nap(500);
}

static bool receive(struct sock *sock, struct side *side, uint32_t stream, size_t most, int flags,
                    ssize_t *n)
{
    static __thread uint8_t data[32768];

    *n = sock_recv(sock, data, most < sizeof(data) ? most : sizeof(data), flags);
    if (*n <= 0)
        return false;
    if (!lab_pattern_check(data, (size_t)*n, stream, side->received))
        note(side, '!', (ssize_t)side->received);
    side->received += (uint64_t)*n;
    return true;
}

/* Both directions at once, without blocking in either. */
static void exchange(struct sock *sock, struct side *side, uint32_t stream, uint64_t *sent,
                     uint32_t out, uint32_t in)
{
    static __thread uint8_t data[32768];

    while (*sent < out || side->received < in) {
        int events = (*sent < out ? POLLOUT : 0) | (side->received < in ? POLLIN : 0);
        int ready = sock_poll(sock, events, CALL_S * 1000);
        ssize_t n;

        if (ready <= 0 || ready & (POLLERR | POLLHUP | POLLNVAL)) {
            note(side, 'P', ready);
            return;
        }
        if (ready & POLLIN && side->received < in &&
            !receive(sock, side, stream ^ 1, in - side->received, MSG_DONTWAIT, &n) &&
            (n == 0 || errno != EAGAIN)) {
            note(side, 'R', n);
            return;
        }
        if (ready & POLLOUT && *sent < out) {
            size_t len = out - *sent < sizeof(data) ? out - *sent : sizeof(data);

            lab_pattern(data, len, stream, *sent);
            n = sock_send(sock, data, len, MSG_DONTWAIT);
            if (n > 0)
                *sent += (uint64_t)n;
            else if (errno != EAGAIN) {
                note(side, 'S', n);
                return;
            }
        }
    }
}

/* Waits for the end and reads up to it. */
static void observe_end(struct sock *sock, struct side *side, uint32_t stream, bool compare_poll)
{
    ssize_t n;
    int ready;

    do {
        ready = sock_poll(sock, POLLIN | POLLRDHUP, CALL_S * 1000);
        if (ready <= 0)
            break;
    } while (receive(sock, side, stream ^ 1, SIZE_MAX, 0, &n));
    if (ready <= 0) {
        note(side, 'p', ready);
        return;
    }
    note(side, 'r', n);
    if (compare_poll) {
        nap(10000); /* the traces of a reset appear one after the other */
        note(side, 'p', sock_poll(sock, POLLIN | POLLRDHUP, 0));
    }
    note(side, 'r', receive(sock, side, stream ^ 1, SIZE_MAX, MSG_DONTWAIT, &n) ? 1 : n);
}

/* Sends until an error comes, then once more. */
static void observe_sends(struct sock *sock, struct side *side)
{
    static __thread uint8_t data[16384];
    ssize_t n = 0;

    for (int i = 0; i < 100000 && n >= 0; i++)
        n = sock_send(sock, data, sizeof(data), 0);
    note(side, 's', n);
    note(side, 's', sock_send(sock, data, 1, 0));
}

static void act(struct sock *sock, const struct script *s, struct side *side,
                const struct side *other, uint32_t stream, uint64_t *sent)
{
    const struct linger reset = {1, 0};
    ssize_t n;

    nap(s->delay_us[0]);
    switch (s->end) {
    case END_HALF:
        note(side, 'h', sock_shutdown(sock, SHUT_WR));
        observe_end(sock, side, stream, true);
        note(side, 's', sock_send(sock, "x", 1, 0));
        break;
    case END_BOTH_HALVES:
        note(side, 'h', sock_shutdown(sock, SHUT_WR));
        observe_end(sock, side, stream, false);
        break;
    case END_SHUT_RDWR:
        note(side, 'h', sock_shutdown(sock, SHUT_RDWR));
        note(side, 'r', receive(sock, side, stream ^ 1, SIZE_MAX, 0, &n) ? 1 : n);
        note(side, 's', sock_send(sock, "x", 1, 0));
        break;
    case END_SHUT_RD:
        note(side, 'h', sock_shutdown(sock, SHUT_RD));
        note(side, 'r', receive(sock, side, stream ^ 1, SIZE_MAX, 0, &n) ? 1 : n);
        break;
    case END_RESET:
    case END_RESET_SENDER:
        sock_setsockopt(sock, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        break;
    case END_UNREAD:
        /* The observer says when what it has sent is here; nobody reads it. */
        await(other, 3);
        nap(20000);
        break;
    default:
        break;
    }
    note(side, 'c', sock_close(sock));
}

static void observe(struct sock *sock, const struct script *s, struct side *side, uint32_t stream,
                    uint64_t *sent)
{
    static __thread uint8_t data[1000];

    switch (s->end) {
    case END_HALF:
        observe_end(sock, side, stream, true);
        exchange(sock, side, stream, sent, (uint32_t)*sent + s->more, 0);
        nap(s->delay_us[1]);
        break;
    case END_BOTH_HALVES:
        nap(s->delay_us[0]);
        note(side, 'h', sock_shutdown(sock, SHUT_WR));
        observe_end(sock, side, stream, false);
        break;
    case END_UNREAD:
        note(side, 's', sock_send(sock, data, sizeof(data), 0));
        while (sock->conn ? chimney_outq(sock->conn) > 0 : false)
            nap(1000);
        nap(s->delay_us[1]);
        reach(side, 3);
        observe_end(sock, side, stream, true);
        note(side, 's', sock_send(sock, data, sizeof(data), 0));
        break;
    case END_RESET:
        observe_end(sock, side, stream, true);
        note(side, 's', sock_send(sock, data, sizeof(data), 0));
        break;
    case END_RESET_SENDER:
        observe_sends(sock, side);
        break;
    case END_CLOSE_AND_SEND:
        observe_end(sock, side, stream, true);
        nap(s->delay_us[1]);
        note(side, 's', sock_send(sock, data, sizeof(data), 0));
        /* The answer is a reset.  Its traces appear one after the other. */
        sock_poll(sock, 0, CALL_S * 1000);
        nap(10000);
        note(side, 'p', sock_poll(sock, POLLIN | POLLRDHUP, 0));
        note(side, 's', sock_send(sock, data, sizeof(data), 0));
        note(side, 'r', sock_recv(sock, data, sizeof(data), 0));
        break;
    default:
        observe_end(sock, side, stream, true);
        nap(s->delay_us[1]);
    }
    note(side, 'c', sock_close(sock));
}

/* One side of one connection, from the first byte to the close. */
static void play(struct sock *sock, unsigned i, bool program)
{
    const struct script *s = &shared->scripts[i];
    struct side *side = &shared->results[i].side[program ? 0 : 1];
    const struct side *other = &shared->results[i].side[program ? 1 : 0];
    uint32_t stream = 2 * i + (program ? 1 : 0);
    struct timeval limit = {CALL_S, 0};
    uint64_t sent = 0;

    sock_setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    sock_setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    exchange(sock, side, stream, &sent, s->bytes[program ? 1 : 0], s->bytes[program ? 0 : 1]);
    reach(side, 1);
    /* A reset overtakes data: without haste, wait until all of it was read. */
    if (!s->rush || s->end >= END_RESET)
        await(other, 1);
    if (s->program_acts == program)
        act(sock, s, side, other, stream, &sent);
    else
        observe(sock, s, side, stream, &sent);
    reach(side, 4);
}

/* ---- the two programs ----------------------------------------------------------------------- */

struct player {
    pthread_t thread;
    struct sock sock;
    unsigned i;
    bool program;
};

static void *player_main(void *arg)
{
    struct player *p = arg;

    play(&p->sock, p->i, p->program);
    atomic_fetch_add(&shared->done, 1);
    return NULL;
}

static uint16_t port_of(int fd, bool remote)
{
    struct sockaddr_in6 address;
    socklen_t len = sizeof(address);

    LAB_ZERO((remote ? getpeername : getsockname)(fd, (struct sockaddr *)&address, &len));
    return ntohs(address.sin6_port); /* at the same place in both families */
}

static void player_start(struct player *p, unsigned i, int fd, bool program)
{
    const struct script *s = &shared->scripts[i];

    p->i = i;
    p->program = program;
    if (!program)
        atomic_store(&shared->b_ports[i], port_of(fd, s->program_accepts ? false : true));
    LAB_ZERO(sock_init(&p->sock, fd, program ? session : NULL,
                       s->program_accepts ? CHIMNEY_ATTACH_ACCEPTED : 0));
    if (p->sock.conn)
        atomic_store(&shared->ids[i], chimney_id(p->sock.conn));
    LAB_ZERO(pthread_create(&p->thread, NULL, player_main, p));
}

/* Both sides do the same: accept what the other connects, connect the rest. */
static int side_main(void *arg)
{
    bool program = arg != NULL;
    struct player *players = calloc(CONNECTIONS, sizeof(*players));
    int listener = sock_listen("::", program ? PORT_A : PORT_B);
    unsigned accepts = 0;

    LAB_CHECK(players && listener >= 0);
    signal(SIGPIPE, SIG_IGN);
    if (program) {
        session = chimney_open(m.dir);
        LAB_CHECK(session);
    }
    atomic_fetch_add(&shared->begun, 1);
    while (atomic_load(&shared->begun) < 2)
        nap(1000);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        const struct script *s = &shared->scripts[i];
        int fd;

        if (s->program_accepts == program) {
            accepts++;
            continue;
        }
        fd = sock_connect(program ? (s->v6 ? MACHINE_B6 : MACHINE_B4)
                                  : (s->v6 ? MACHINE_A6 : MACHINE_A4),
                          program ? PORT_B : PORT_A);
        LAB_CHECK(fd >= 0);
        LAB_CHECK(send(fd, &i, sizeof(i), 0) == sizeof(i));
        player_start(&players[i], i, fd, program);
    }
    while (accepts--) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        unsigned i;

        LAB_CHECK(fd >= 0);
        LAB_CHECK(recv(fd, &i, sizeof(i), MSG_WAITALL) == sizeof(i) && i < CONNECTIONS);
        player_start(&players[i], i, fd, program);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++)
        LAB_ZERO(pthread_join(players[i].thread, NULL));
    if (session)
        chimney_end(session);
    return 0;
}

/* ---- the witness ---------------------------------------------------------------------------- */

static int wire_open(void)
{
    /* IPv4 without options, or IPv6 without extension headers; TCP; FIN or RST. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 4),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 8),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 20 + 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x05, 5, 6),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 6),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40 + 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x05, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 128),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int fd, room = 8 << 20;

    lab_enter(m.b);
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    LAB_CHECK(fd >= 0);
    LAB_ZERO(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)));
    LAB_ZERO(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)));
    address.sll_ifindex = (int)if_nametoindex("vb");
    LAB_ZERO(bind(fd, (struct sockaddr *)&address, sizeof(address)));
    lab_enter(-1);
    return fd;
}

/* Segments seen; whose they are is known when all connections are. */
static struct seen {
    bool v6, from_a;
    uint8_t flags;
    uint16_t source, to;
} seen[65536];
static unsigned seen_count;

static void wire_read(int fd)
{
    uint8_t frame[128];

    while (recv(fd, frame, sizeof(frame), 0) > 0) {
        const bool v6 = frame[12] == 0x86;
        const uint8_t *tcp = frame + 14 + (v6 ? 40 : 20);
        struct seen *s = &seen[seen_count];

        LAB_CHECK(seen_count < sizeof(seen) / sizeof(seen[0]));
        seen_count++;
        s->v6 = v6;
        /* The last byte of the source address: .1 is A. */
        s->from_a = frame[14 + (v6 ? 23 : 15)] == 1;
        s->source = (uint16_t)(tcp[0] << 8 | tcp[1]);
        s->to = (uint16_t)(tcp[2] << 8 | tcp[3]);
        s->flags = (uint8_t)((tcp[13] & 1 ? WIRE_FIN : 0) | (tcp[13] & 4 ? WIRE_RST : 0));
    }
}

static void wire_assign(void)
{
    for (unsigned j = 0; j < seen_count; j++)
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            const struct script *s = &shared->scripts[i];
            uint16_t port = atomic_load(&shared->b_ports[i]);
            uint16_t near = seen[j].from_a ? seen[j].to : seen[j].source;
            uint16_t far = seen[j].from_a ? seen[j].source : seen[j].to;

            if (s->v6 == seen[j].v6 && ((s->program_accepts && far == PORT_A && near == port) ||
                                        (!s->program_accepts && near == PORT_B && far == port)))
                shared->results[i].wire[seen[j].from_a ? 0 : 1] |= seen[j].flags;
        }
    seen_count = 0;
}

/* ---- runs ----------------------------------------------------------------------------------- */

/* Some connections go out, or come back; what is closed already does not matter. */
static void move_some(struct ctl *ctl)
{
    char selector[1024] = "id ";
    unsigned n = 1 + (unsigned)(lab_random() % 32), chosen = 0;

    for (unsigned j = 0; j < n; j++) {
        uint32_t id = atomic_load(&shared->ids[lab_random() % CONNECTIONS]);

        if (id)
            snprintf(selector + strlen(selector), sizeof(selector) - strlen(selector), "%s%u",
                     chosen++ ? "," : "", id);
    }
    if (chosen)
        json_decref(ctl_ask(ctl, "{\"command\":\"%s\",\"selector\":\"%s\"}",
                            lab_random() % 8 < 5 ? "offload" : "upload", selector));
}

enum mode { MODE_KERNEL, MODE_MOVES, MODE_OFFLOADED };

static void run(enum mode mode, struct result *results)
{
    static const char *const names[] = {"kernel only", "moves at random", "everything offloaded"};
    const char *const automatic[] = {"--auto", NULL};
    struct ctl *ctl = NULL;
    pid_t program, peer;
    int wire, status;

    printf("%s: %u connections\n", names[mode], CONNECTIONS);
    memset(shared->results, 0, sizeof(shared->results));
    memset((void *)shared->ids, 0, sizeof(shared->ids));
    memset((void *)shared->b_ports, 0, sizeof(shared->b_ports));
    atomic_store(&shared->begun, 0);
    atomic_store(&shared->done, 0);
    machine_open(&m, 1, false);
    if (mode != MODE_KERNEL) {
        machine_daemon_start(&m, mode == MODE_OFFLOADED ? automatic : NULL);
        ctl = ctl_open(&m);
    }
    wire = wire_open();
    program = lab_fork(m.a, side_main, &m);
    peer = lab_fork(m.b, side_main, NULL);
    while ((status = machine_wait(program, 0)) < 0) {
        wire_read(wire);
        if (mode == MODE_MOVES)
            move_some(ctl);
        lab_sleep_ms(1);
    }
    if (status) {
        machine_print_logs(&m);
        LAB_FAIL("the program ended with status %d", status);
    }
    LAB_ZERO(machine_wait(peer, 60));
    lab_sleep_ms(300); /* answers to the last segments */
    wire_read(wire);
    wire_assign();
    close(wire);
    if (ctl) {
        json_t *s = ctl_must(ctl, "{\"command\":\"status\"}");

        printf("  %lld offloads, %lld uploads, %lld failed, %lld asked back by the target\n",
               (long long)ctl_number(s, "moves.offloads"),
               (long long)ctl_number(s, "moves.uploads"), (long long)ctl_number(s, "moves.failed"),
               (long long)ctl_number(s, "targets.0.retrieves"));
        LAB_CHECK(ctl_number(s, "moves.uploads") >= CONNECTIONS / 3);
        LAB_ZERO(ctl_number(s, "verifier.breaches"));
        json_decref(s);
        ctl_await(ctl, "connections.attached", 0, 10);
        ctl_close(ctl);
    }
    machine_close(&m);
    memcpy(results, shared->results, sizeof(shared->results));
}

/* ---- comparison ----------------------------------------------------------------------------- */

static void print_side(const char *name, const struct side *s)
{
    fprintf(stderr, "    %s: received %llu;", name, (unsigned long long)s->received);
    for (unsigned i = 0; i < s->count; i++) {
        const struct note *n = &s->notes[i];

        if (n->result < 0)
            fprintf(stderr, " %c=%s", n->call, strerrorname_np(n->error));
        else
            fprintf(stderr, n->call == 'p' ? " %c=0x%x" : " %c=%d", n->call, n->result);
    }
    fprintf(stderr, "\n");
}

static void print_wire(const uint8_t wire[2])
{
    for (int i = 0; i < 2; i++)
        fprintf(stderr, "    from %c:%s%s\n", 'A' + i, wire[i] & WIRE_FIN ? " FIN" : "",
                wire[i] & WIRE_RST ? " RST" : "");
}

static bool same_side(const struct script *s, const struct side *a, const struct side *b)
{
    if (a->count != b->count || (s->end != END_RESET_SENDER && a->received != b->received))
        return false;
    for (unsigned i = 0; i < a->count; i++)
        if (a->notes[i].call != b->notes[i].call || a->notes[i].result != b->notes[i].result ||
            a->notes[i].error != b->notes[i].error)
            return false;
    return true;
}

static bool same(const struct script *s, const struct result *a, const struct result *b)
{
    return same_side(s, &a->side[0], &b->side[0]) && same_side(s, &a->side[1], &b->side[1]) &&
           memcmp(a->wire, b->wire, sizeof(a->wire)) == 0;
}

/* The kernel has its own races: what it showed in any control run is right. */
static unsigned compare(const char *name, const struct result control[CONTROLS][CONNECTIONS],
                        const struct result *got)
{
    unsigned differ = 0;

    for (unsigned i = 0; i < CONNECTIONS; i++) {
        const struct script *s = &shared->scripts[i];
        int j = 0;

        while (j < CONTROLS && !same(s, &control[j][i], &got[i]))
            j++;
        if (j < CONTROLS || differ++ >= 8)
            continue;
        fprintf(stderr, "%s: connection %u, %s by the %s, %s%s\n  kernel:\n", name, i,
                end_names[s->end], s->program_acts ? "program" : "peer", s->v6 ? "IPv6" : "IPv4",
                s->rush ? ", in haste" : "");
        print_side("program", &control[0][i].side[0]);
        print_side("peer", &control[0][i].side[1]);
        print_wire(control[0][i].wire);
        fprintf(stderr, "  chimney (id %u):\n", atomic_load(&shared->ids[i]));
        print_side("program", &got[i].side[0]);
        print_side("peer", &got[i].side[1]);
        print_wire(got[i].wire);
    }
    return differ;
}

static void print_table(const struct result *results)
{
    printf("  %-24s %5s %8s %8s %8s %8s\n", "end", "count", "FIN A", "RST A", "FIN B", "RST B");
    for (int end = 0; end < END_KINDS; end++)
        for (int acts = 1; acts >= 0; acts--) {
            unsigned n = 0, count[4] = {0};

            for (unsigned i = 0; i < CONNECTIONS; i++) {
                const struct script *s = &shared->scripts[i];

                if ((int)s->end != end || s->program_acts != acts)
                    continue;
                n++;
                for (int j = 0; j < 4; j++)
                    count[j] += (results[i].wire[j / 2] & (j % 2 ? WIRE_RST : WIRE_FIN)) != 0;
            }
            printf("  %-24s %5u %8u %8u %8u %8u  by the %s\n", end_names[end], n, count[0],
                   count[1], count[2], count[3], acts ? "program" : "peer");
        }
}

/* What the kernel showed, one connection of each kind, for whoever wants to see it. */
static void print_examples(const struct result *results)
{
    for (unsigned i = 0; i < CONNECTIONS && i < 2 * END_KINDS; i++) {
        fprintf(stderr, "  connection %u, %s by the %s\n", i, end_names[shared->scripts[i].end],
                shared->scripts[i].program_acts ? "program" : "peer");
        print_side("program", &results[i].side[0]);
        print_side("peer", &results[i].side[1]);
    }
}

/* rows: C60 C148 C214 C231 */
int main(void)
{
    static struct result control[CONTROLS][CONNECTIONS];
    static struct result moves[CONNECTIONS], offloaded[CONNECTIONS];
    unsigned differ;

    lab_init("closing", 280);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    LAB_CHECK(shared != MAP_FAILED);
    draw_scripts();
    for (int i = 0; i < CONTROLS; i++)
        run(MODE_KERNEL, control[i]);
    print_table(control[0]);
    if (getenv("LAB_VERBOSE"))
        print_examples(control[0]);
    run(MODE_MOVES, moves);
    differ = compare("moves at random", control, moves);
    run(MODE_OFFLOADED, offloaded);
    differ += compare("everything offloaded", control, offloaded);
    if (differ)
        LAB_FAIL("%u connections ended differently", differ);
    puts("passed");
    return 0;
}
