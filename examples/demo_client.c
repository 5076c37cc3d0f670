/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of the demo: plain sockets, plain epoll, knows nothing of Chimney.  It sends and
 * receives on each of its connections at the same time.
 *
 * Commands on standard input, one per line:
 *   open N  open N more connections
 *   report  one line per connection on how far it is
 *   stop    shut down the sending direction of each, receive until the other end has closed, end
 */
#include "checked.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MAX_EVENTS 64
#define MAX_ADDRESSES 8
#define REPORT_MS 100

struct peer {
    int fd;
    struct checked_end end;
    struct peer *next, **link;
};

/* What an event points to, if not to a peer. */
static char on_tick, on_command;

static int epoll_fd;
static struct peer *peers;
static struct checked_sums sums;
static uint64_t rate;
static bool stopping;
static struct sockaddr_storage servers[MAX_ADDRESSES];
static unsigned server_count;

static void die(const char *what)
{
    fprintf(stderr, "demo_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};

    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static int every(unsigned ms)
{
    struct itimerspec spec = {{0, (long)ms * 1000000}, {0, (long)ms * 1000000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0 || timerfd_settime(fd, 0, &spec, NULL) < 0)
        die("timerfd");
    return fd;
}

static void server_add(const char *text, uint16_t port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&servers[server_count];
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)in;

    if (server_count == MAX_ADDRESSES) {
        errno = E2BIG;
        die(text);
    }
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
    } else {
        errno = EINVAL;
        die(text);
    }
    server_count++;
}

/* ---- one connection ------------------------------------------------------------------------- */

static void peer_open(void)
{
    struct epoll_event event = {.events = EPOLLIN | (rate ? 0 : EPOLLOUT)};
    const struct sockaddr_storage *server = &servers[sums.opened % server_count];
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    struct peer *p = calloc(1, sizeof(*p));

    if (!p)
        die("memory");
    p->fd = socket(server->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->fd < 0 || connect(p->fd, (const struct sockaddr *)server, sizeof(*server)) < 0)
        die("connect");
    getsockname(p->fd, (struct sockaddr *)&addr, &len);
    checked_begin(&p->end, (struct sockaddr *)&addr, true);
    event.data.ptr = p;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->fd, &event) < 0)
        die("epoll_ctl");
    p->next = peers;
    p->link = &peers;
    if (peers)
        peers->link = &p->next;
    peers = p;
    sums.connections++;
    sums.opened++;
}

static void peer_end(struct peer *p, int error)
{
    close(p->fd);
    checked_report_end(&p->end, error);
    checked_free(&p->end);
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    free(p);
    sums.connections--;
    sums.errors += error != 0;
}

/** Sends what the pace allows; false: the connection has ended. */
static bool peer_send(struct peer *p, uint64_t now_us)
{
    static uint8_t data[CHECKED_CHUNK];
    size_t len = stopping ? 0 : checked_allowance(&p->end, rate, now_us);
    ssize_t n;

    if (!len)
        return true;
    checked_fill(&p->end.out, data, len);
    n = send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        checked_sent(&p->end.out, data, (size_t)n);
        sums.sent += (uint64_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        peer_end(p, errno);
        return false;
    }
    return true;
}

/** Receives what is there; false: the connection has ended. */
static bool peer_receive(struct peer *p)
{
    static uint8_t data[CHECKED_CHUNK];
    ssize_t n = recv(p->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0) {
        checked_received(&p->end.in, data, (size_t)n, checked_now(), &sums);
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    peer_end(p, n < 0 ? errno : 0);
    return false;
}

/** The end of what we send; what the other end sends is received until it closes. */
static void peer_stop(struct peer *p)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};

    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, p->fd, &event);
    shutdown(p->fd, SHUT_WR);
}

/* ---- everything else that happens ----------------------------------------------------------- */

static void tick_ready(int timer)
{
    static uint64_t reported_us;
    uint64_t now_us = checked_now(), count;
    struct peer *next;

    if (read(timer, &count, sizeof(count)) < 0)
        return;
    for (struct peer *p = peers; rate && p; p = next) {
        next = p->next;
        peer_send(p, now_us);
    }
    if (now_us - reported_us >= REPORT_MS * 1000) {
        reported_us = now_us;
        checked_report_tick(&sums);
    }
}

static void command(const char *line)
{
    unsigned n = 0;

    if (sscanf(line, "open %u", &n) == 1) {
        while (n--)
            peer_open();
    } else if (strcmp(line, "report") == 0) {
        for (const struct peer *p = peers; p; p = p->next)
            checked_report_progress(&p->end);
        printf("{\"kind\":\"progress-end\"}\n");
        fflush(stdout);
    } else if (strcmp(line, "stop") == 0 && !stopping) {
        stopping = true;
        for (struct peer *p = peers; p; p = p->next)
            peer_stop(p);
    }
}

static void command_ready(void)
{
    char text[256], *rest = text, *line;
    ssize_t n = read(STDIN_FILENO, text, sizeof(text) - 1);

    if (n < 0)
        return;
    text[n] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL)
        command(line);
    if (n == 0) { /* whoever gave the commands has ended */
        command("stop");
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    }
}

static void run(int timer)
{
    struct epoll_event events[MAX_EVENTS];

    while (!stopping || peers) {
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        bool tick = false;

        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            void *tag = events[i].data.ptr;

            if (tag == &on_tick)
                tick = true;
            else if (tag == &on_command)
                command_ready();
            else if (!(events[i].events & EPOLLOUT) || peer_send(tag, 0))
                if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
                    peer_receive(tag);
        }
        /* Last, because it may end connections that other events of this round are about. */
        if (tick)
            tick_ready(timer);
    }
    checked_report_tick(&sums);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"connections", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    unsigned connections = 1;
    uint16_t port = 7000;
    int timer, option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p')
            port = (uint16_t)atoi(optarg);
        else if (option == 'r')
            rate = strtoull(optarg, NULL, 10);
        else if (option == 'c')
            connections = (unsigned)atoi(optarg);
        else
            optind = argc; /* usage, below */
    }
    for (int i = optind; i < argc; i++)
        server_add(argv[i], port);
    if (!server_count) {
        fprintf(stderr, "usage: demo_client [--port N] [--rate BYTES/S] [--connections N] "
                        "ADDRESS...\nrate: per connection; 0: no limit\n"
                        "connections take the addresses in turn\n");
        return 2;
    }

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer = every(CHECKED_TICK_MS);
    watch(timer, &on_tick);
    watch(STDIN_FILENO, &on_command);
    for (unsigned i = 0; i < connections; i++)
        peer_open();
    printf("{\"kind\":\"ready\"}\n");
    fflush(stdout);
    run(timer);
    close(timer);
    close(epoll_fd);
    return 0;
}
