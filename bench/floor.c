/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor under a move: the same system calls with nothing around them, for bench/idle.py.
 *
 *     floor PORT COUNT
 *
 * Accepts COUNT connections.  "round" on standard input takes all of them out of the kernel (read
 * options, freeze, dump, park), then puts all of them back (restore, thaw), through
 * src/host/repair.h, in one loop: no steering, no guard, no barrier, no snapshot, no target, no
 * program, no second thread.  Prints the nanoseconds of every step as one line of JSON.  In between
 * it echoes what comes, so that somebody can see that the connections live.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include "host/repair.h"

#define MAX_EVENTS 256
#define RING (256u << 10)

enum step { OPTIONS, FREEZE, DUMP, PARK, RESTORE, THAW, STEPS };
static const char *const names[STEPS] = {"options", "freeze", "dump", "park", "restore", "thaw"};

static int *fds;
static struct repair_state *states;
static unsigned count;
/* One pair of rings for all: idle connections have nothing queued. */
static uint8_t ring[2][RING];

static void die(const char *what, int err)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(err));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t book(uint64_t *step, uint64_t start)
{
    uint64_t now = now_ns();

    *step += now - start;
    return now;
}

static void take_out(unsigned i, uint64_t took[STEPS])
{
    const struct repair_rings rings = {ring[0], ring[1], RING};
    uint64_t at = now_ns();
    bool parked;
    int err;

    memset(&states[i], 0, sizeof(states[i]));
    err = repair_read_options(fds[i], &states[i]);
    at = book(&took[OPTIONS], at);
    if (!err)
        err = repair_freeze(fds[i], &states[i]);
    at = book(&took[FREEZE], at);
    if (!err)
        err = repair_dump(fds[i], &rings, &states[i]);
    at = book(&took[DUMP], at);
    if (!err)
        err = repair_park(fds[i], &states[i], &parked);
    book(&took[PARK], at);
    if (err)
        die("out", -err);
}

static void put_back(unsigned i, uint64_t took[STEPS])
{
    const struct repair_state *s = &states[i];
    const struct repair_restore r = {.was = s,
                                     .snd_una = s->snd_una,
                                     .snd_max = s->snd_nxt_high,
                                     .rcv_nxt = s->rcv_nxt,
                                     .window = s->window,
                                     .send_base = ring[0],
                                     .receive_base = ring[1],
                                     .ring_size = RING};
    uint64_t at = now_ns();
    uint32_t left = 0; /* in: unsent bytes */
    int err;

    err = repair_restore(fds[i], &r);
    at = book(&took[RESTORE], at);
    if (!err)
        err = repair_thaw(fds[i], &r, &left);
    book(&took[THAW], at);
    if (err)
        die("back", -err);
}

static void measure(void)
{
    uint64_t took[STEPS] = {0}, start = now_ns(), middle;

    for (unsigned i = 0; i < count; i++)
        take_out(i, took);
    middle = now_ns();
    for (unsigned i = 0; i < count; i++)
        put_back(i, took);
    printf("{\"kind\":\"round\",\"offload_us\":%.1f,\"upload_us\":%.1f",
           (double)(middle - start) / 1000, (double)(now_ns() - middle) / 1000);
    for (int i = 0; i < STEPS; i++)
        printf(",\"%s_us\":%.3f", names[i], (double)took[i] / 1000 / count);
    printf("}\n");
    fflush(stdout);
}

static void echo(int fd)
{
    char data[4096];
    ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0)
        send(fd, data, (size_t)n, MSG_NOSIGNAL);
    else if (n == 0)
        exit(0); /* the client has ended */
}

static void serve(int listener)
{
    struct epoll_event events[MAX_EVENTS], event = {.events = EPOLLIN};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    for (unsigned i = 0; i < count; i++) {
        fds[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        event.data.fd = fds[i];
        if (fds[i] < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event) < 0)
            die("accept", errno);
    }
    event.data.fd = STDIN_FILENO;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    printf("{\"kind\":\"attached\"}\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        char line[64];

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != STDIN_FILENO)
                echo(events[i].data.fd);
            else if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
                return;
            else
                measure();
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (argc != 3) {
        fprintf(stderr, "usage: floor PORT COUNT\n");
        return 2;
    }
    addr.sin_port = htons((uint16_t)atoi(argv[1]));
    count = (unsigned)atoi(argv[2]);
    fds = calloc(count, sizeof(*fds));
    states = calloc(count, sizeof(*states));
    if (!fds || !states || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(listener, 4096) < 0)
        die("listen", errno);
    printf("{\"kind\":\"ready\"}\n");
    fflush(stdout);
    serve(listener);
    return 0;
}
