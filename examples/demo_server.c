/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server on libchimney: accepts connections, sends and receives on each of them at the same time.
 *
 * What is different from a server on plain sockets?  accept4() is followed by chimney_attach(), and
 * from there on send, recv, epoll_wait and close have "chimney_" before them.  Nothing in this
 * file knows, or could find out from the results of its calls, whether the kernel or an offload
 * target carries a connection at the moment.  demo_client.c is its counterpart on plain sockets.
 *
 * Commands on standard input, one per line:
 *   report  one line per connection on how far it is
 *   stop    end when the last connection has ended
 */
#include "checked.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <chimney/chimney.h>

#define MAX_EVENTS 64
#define REPORT_MS 100

struct peer {
    struct chimney_conn *conn;
    struct checked_end end;
    struct peer *next, **link;
};

/* What a wait set's event points to, if not to a peer. */
static char on_listener, on_tick, on_command;

static struct chimney_session *session;
static struct chimney_set *set;
static struct peer *peers;
static struct checked_sums sums;
static uint64_t rate;
static bool stopping;

static void die(const char *what)
{
    fprintf(stderr, "demo_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};

    if (chimney_set_fd_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
        die("chimney_set_fd_ctl");
}

/** A dual-stack listener on every address. */
static int listen_on(uint16_t port)
{
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, zero = 0;

    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1024) < 0)
        die("listen");
    return fd;
}

static int every(unsigned ms)
{
    struct itimerspec spec = {{0, (long)ms * 1000000}, {0, (long)ms * 1000000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0 || timerfd_settime(fd, 0, &spec, NULL) < 0)
        die("timerfd");
    return fd;
}

/* ---- one connection ------------------------------------------------------------------------- */

static void peer_add(int fd)
{
    struct epoll_event event = {.events = EPOLLIN | (rate ? 0 : EPOLLOUT)};
    struct peer *p = calloc(1, sizeof(*p));
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);

    if (!p)
        die("memory");
    /* The handle owns the descriptor from here on. */
    p->conn = chimney_attach(session, fd, CHIMNEY_ATTACH_ACCEPTED);
    if (!p->conn)
        die("chimney_attach");
    chimney_getpeername(p->conn, (struct sockaddr *)&addr, &len);
    checked_begin(&p->end, (struct sockaddr *)&addr, false);
    event.data.ptr = p;
    if (chimney_set_add(set, p->conn, &event) < 0)
        die("chimney_set_add");
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
    /* As close(2): the peer sees what it would see from the kernel. */
    chimney_close(p->conn);
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
    size_t len = checked_allowance(&p->end, rate, now_us);
    ssize_t n;

    if (!len)
        return true;
    checked_fill(&p->end.out, data, len);
    n = chimney_send(p->conn, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
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
    ssize_t n = chimney_recv(p->conn, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0) {
        checked_received(&p->end.in, data, (size_t)n, checked_now(), &sums);
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    peer_end(p, n < 0 ? errno : 0);
    return false;
}

/* ---- everything else that happens ----------------------------------------------------------- */

static void listener_ready(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        peer_add(fd);
}

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

static void command_ready(void)
{
    char line[64];
    ssize_t n = read(STDIN_FILENO, line, sizeof(line) - 1);

    if (n < 0)
        return;
    line[n] = '\0';
    if (strncmp(line, "report", 6) == 0) {
        for (const struct peer *p = peers; p; p = p->next)
            checked_report_progress(&p->end);
        printf("{\"kind\":\"progress-end\"}\n");
        fflush(stdout);
        return;
    }
    stopping = true; /* "stop", or whoever gave the commands has ended */
    chimney_set_fd_ctl(set, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}

static void serve(int listener, int timer)
{
    struct epoll_event events[MAX_EVENTS];

    while (!stopping || peers) {
        int n = chimney_set_wait(set, events, MAX_EVENTS, -1);
        bool tick = false;

        if (n < 0 && errno != EINTR)
            die("chimney_set_wait");
        for (int i = 0; i < n; i++) {
            void *tag = events[i].data.ptr;

            if (tag == &on_listener)
                listener_ready(listener);
            else if (tag == &on_tick)
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
                                            {"rundir", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    const char *rundir = NULL;
    uint16_t port = 7000;
    int listener, timer, option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p')
            port = (uint16_t)atoi(optarg);
        else if (option == 'r')
            rate = strtoull(optarg, NULL, 10);
        else if (option == 'd')
            rundir = optarg;
        else {
            fprintf(stderr, "usage: demo_server [--port N] [--rate BYTES/S] [--rundir DIR]\n"
                            "rate: per connection; 0: no limit\n");
            return 2;
        }
    }

    session = chimney_open(rundir);
    if (!session)
        die("chimney_open");
    if (!chimney_connected(session)) /* not an error: everything stays in the kernel */
        fprintf(stderr, "demo_server: without chimneyd: %s\n", strerror(errno));
    set = chimney_set_create(session);
    if (!set)
        die("chimney_set_create");

    listener = listen_on(port);
    timer = every(CHECKED_TICK_MS);
    watch(listener, &on_listener);
    watch(timer, &on_tick);
    watch(STDIN_FILENO, &on_command);
    printf("{\"kind\":\"ready\"}\n");
    fflush(stdout);
    serve(listener, timer);

    chimney_set_destroy(set);
    chimney_end(session);
    close(timer);
    close(listener);
    return 0;
}
