/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct namespace
{
    char name[32];
    int fd;
};

static char test_name[16];

static struct {
    pid_t owner;
    int home;
    struct namespace ns[LAB_MAX_NS];
    int count;
    uint64_t random;
    void (*at_end)(void);
} lab = {.home = -1};

void lab_clear(void)
{
    if (lab.home >= 0 && setns(lab.home, CLONE_NEWNET) < 0)
        perror("lab: cannot return home");
    for (int i = 0; i < lab.count; i++) {
        char command[64];

        close(lab.ns[i].fd);
        snprintf(command, sizeof(command), "ip netns del %s", lab.ns[i].name);
        if (system(command))
            fprintf(stderr, "lab: %s failed\n", command);
    }
    lab.count = 0;
}

static void clean_up(void)
{
    if (getpid() != lab.owner)
        return;
    lab_clear();
    if (lab.at_end)
        lab.at_end();
}

void lab_at_end(void (*clean)(void))
{
    lab.at_end = clean;
}

static void on_signal(int number)
{
    const char *line = number == SIGALRM ? "lab: FAILED: out of time\n" : "lab: stopped\n";

    if (write(STDERR_FILENO, line, strlen(line)) < 0)
        _exit(1);
    if (getpid() == lab.owner)
        clean_up();
    _exit(1);
}

void lab_init(const char *name, unsigned limit_s)
{
    const char *seed = getenv("LAB_SEED");

    if (geteuid() != 0)
        lab_skip("needs root");
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(test_name, sizeof(test_name), "%.8s", name);
    lab.owner = getpid();
    lab.home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    LAB_CHECK(lab.home >= 0);
    lab.random = seed ? strtoull(seed, NULL, 0) : lab_now_ns() ^ ((uint64_t)getpid() << 40);
    printf("lab: LAB_SEED=0x%llx\n", (unsigned long long)lab.random);
    atexit(clean_up);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    alarm(limit_s);
}

void lab_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "%s:%d: FAILED: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void lab_skip(const char *format, ...)
{
    va_list args;

    printf("lab: skipped: ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    exit(LAB_SKIP);
}

uint64_t lab_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void lab_sleep_ms(unsigned ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000l};

    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

/* splitmix64 */
uint64_t lab_random(void)
{
    uint64_t x = lab.random += 0x9e3779b97f4a7c15ull;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

int lab_ns(const char *tag)
{
    struct namespace *ns = &lab.ns[lab.count];
    char path[64];

    LAB_CHECK(lab.count < LAB_MAX_NS);
    snprintf(ns->name, sizeof(ns->name), "ns-%s%d-%.2s", test_name, (int)getpid(), tag);
    lab_must(-1, "ip netns add %s", ns->name);
    snprintf(path, sizeof(path), "/run/netns/%s", ns->name);
    ns->fd = open(path, O_RDONLY | O_CLOEXEC);
    lab.count++;
    LAB_CHECK(ns->fd >= 0);
    lab_must(lab.count - 1, "ip link set lo up");
    return lab.count - 1;
}

const char *lab_ns_name(int ns)
{
    return lab.ns[ns].name;
}

void lab_enter(int ns)
{
    LAB_CHECK(ns < lab.count);
    LAB_ZERO(setns(ns < 0 ? lab.home : lab.ns[ns].fd, CLONE_NEWNET));
}

pid_t lab_fork(int ns, int (*body)(void *arg), void *arg)
{
    pid_t parent = getpid(), child;

    fflush(stdout);
    child = fork();
    LAB_CHECK(child >= 0);
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    lab_enter(ns);
    exit(body(arg));
}

int lab_wait(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        LAB_CHECK(errno == EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_shell(void *arg)
{
    execl("/bin/sh", "sh", "-c", (const char *)arg, (char *)NULL);
    return 127;
}

static int run(int ns, const char *format, va_list args)
{
    char command[1024];
    int status;

    vsnprintf(command, sizeof(command), format, args);
    status = lab_wait(lab_fork(ns, run_shell, command));
    if (status)
        fprintf(stderr, "lab: %s: exit status %d\n", command, status);
    return status;
}

int lab_run(int ns, const char *format, ...)
{
    va_list args;
    int status;

    va_start(args, format);
    status = run(ns, format, args);
    va_end(args);
    return status;
}

void lab_must(int ns, const char *format, ...)
{
    va_list args;
    int status;

    va_start(args, format);
    status = run(ns, format, args);
    va_end(args);
    if (status)
        LAB_FAIL("a command failed");
}

void lab_sysctl(int ns, const char *key, const char *value)
{
    lab_must(ns, "sysctl -qw '%s=%s'", key, value);
}

void lab_veth(int ns, const char *name, int peer_ns, const char *peer, unsigned queues,
              unsigned net)
{
    lab_must(-1,
             "ip link add %s netns %s numtxqueues %u numrxqueues %u type veth "
             "peer name %s netns %s numtxqueues %u numrxqueues %u",
             name, lab_ns_name(ns), queues, queues, peer, lab_ns_name(peer_ns), queues, queues);
    lab_must(ns,
             "ip addr add 10.%u.0.1/24 dev %s && ip addr add fd00:%x::1/64 dev %s nodad && "
             "ip link set %s up",
             net, name, net, name, name);
    lab_must(peer_ns,
             "ip addr add 10.%u.0.2/24 dev %s && ip addr add fd00:%x::2/64 dev %s nodad && "
             "ip link set %s up && ethtool -K %s tx off >/dev/null",
             net, peer, net, peer, peer, peer);
}

/* Two lines each: names, values; both begin with the group. */
static bool find_counter(const char *path, const char *group, const char *name, uint64_t *value)
{
    static char names[8192], values[8192];
    FILE *file = fopen(path, "r");
    bool found = false;

    LAB_CHECK(file);
    while (!found && fgets(names, sizeof(names), file) && fgets(values, sizeof(values), file)) {
        char *n, *v, *n_rest, *v_rest;

        n = strtok_r(names, " \n", &n_rest);
        v = strtok_r(values, " \n", &v_rest);
        if (!n || !v || strncmp(n, group, strlen(group)) || n[strlen(group)] != ':')
            continue;
        while (!found && (n = strtok_r(NULL, " \n", &n_rest)) &&
               (v = strtok_r(NULL, " \n", &v_rest))) {
            found = !strcmp(n, name);
            *value = strtoull(v, NULL, 10);
        }
    }
    fclose(file);
    return found;
}

uint64_t lab_counter(int ns, const char *name)
{
    int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    const char *colon = strchr(name, ':');
    char group[32];
    uint64_t value = 0;

    LAB_CHECK(here >= 0 && colon);
    snprintf(group, sizeof(group), "%.*s", (int)(colon - name), name);
    lab_enter(ns);
    if (!find_counter("/proc/thread-self/net/netstat", group, colon + 1, &value) &&
        !find_counter("/proc/thread-self/net/snmp", group, colon + 1, &value))
        value = 0;
    LAB_ZERO(setns(here, CLONE_NEWNET));
    close(here);
    return value;
}

/* ------------------------------------------------------------------------------------------------
 * The witness: a packet socket whose filter lets resets through only.
 */

struct lab_witness {
    int fd;
    unsigned resets;
};

struct lab_witness *lab_witness(int ns, const char *ifname)
{
    /* IPv4 without options, or IPv6 without extension headers; TCP; RST. */
    struct sock_filter code[] = {
        /* 0 */ BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        /* 1 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 4),
        /* 2 */ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 9),
        /* 3 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 8),
        /* 4 */ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 20 + 13),
        /* 5 */ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x04, 5, 6),
        /* 6 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 5),
        /* 7 */ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 6),
        /* 8 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 3),
        /* 9 */ BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40 + 13),
        /* 10 */ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x04, 0, 1),
        /* 11 */ BPF_STMT(BPF_RET | BPF_K, 128),
        /* 12 */ BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    struct lab_witness *w = calloc(1, sizeof(*w));
    int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    LAB_CHECK(w && here >= 0);
    lab_enter(ns);
    w->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    LAB_CHECK(w->fd >= 0);
    LAB_ZERO(setsockopt(w->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)));
    address.sll_ifindex = if_nametoindex(ifname);
    LAB_ZERO(bind(w->fd, (struct sockaddr *)&address, sizeof(address)));
    LAB_ZERO(setns(here, CLONE_NEWNET));
    close(here);
    return w;
}

unsigned lab_witness_resets(struct lab_witness *w)
{
    uint8_t frame[128];

    while (recv(w->fd, frame, sizeof(frame), 0) > 0)
        w->resets++;
    return w->resets;
}

void lab_witness_end(struct lab_witness *w)
{
    close(w->fd);
    free(w);
}

/* ------------------------------------------------------------------------------------------------
 * Test data
 */

/* Eight bytes at a time: a hash of the stream and the word's number. */
static uint64_t pattern_word(uint32_t stream, uint64_t number)
{
    uint64_t x = (number + 1) * 0x9e3779b97f4a7c15ull ^ (uint64_t)stream * 0xd1b54a32d192ed03ull;

    x = (x ^ x >> 31) * 0x7fb5d329728ea185ull;
    return x ^ x >> 29;
}

void lab_pattern(uint8_t *data, size_t len, uint32_t stream, uint64_t pos)
{
    while (len) {
        uint64_t word = pattern_word(stream, pos / 8);
        size_t skip = pos % 8, n = 8 - skip < len ? 8 - skip : len;

        memcpy(data, (uint8_t *)&word + skip, n);
        data += n;
        pos += n;
        len -= n;
    }
}

bool lab_pattern_check(const uint8_t *data, size_t len, uint32_t stream, uint64_t pos)
{
    while (len) {
        uint64_t word = pattern_word(stream, pos / 8);
        size_t skip = pos % 8, n = 8 - skip < len ? 8 - skip : len;

        if (memcmp(data, (uint8_t *)&word + skip, n)) {
            fprintf(stderr, "lab: stream %u differs in the word at byte %llu\n", stream,
                    (unsigned long long)(pos - skip));
            return false;
        }
        data += n;
        pos += n;
        len -= n;
    }
    return true;
}
