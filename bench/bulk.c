/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of a one-way bulk transfer, over the kernel or over chimney, for bench/loss.py.
 *
 *     bulk recv PORT [--rundir DIR]           accepts one connection, reads until EOF
 *     bulk send ADDR PORT SECONDS [--rundir DIR]   connects, writes for that long, closes
 *
 * With --rundir the connection is attached to the chimneyd there and offloaded before the transfer
 * begins.  Both ends use CUBIC, the receiver compares every byte.  Prints one JSON line: bytes,
 * seconds from first to last byte, and what the kernel counted (retransmissions) where it carried
 * the connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <chimney/chimney.h>

#define BULK_CHUNK (256 * 1024)

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "bulk: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The byte at @pos of the stream: nobody can lose, repeat or exchange eight of them unnoticed. */
static inline unsigned char pattern(unsigned long long pos)
{
    return (unsigned char)((pos / 8 * 0x9E3779B97F4A7C15ull) >> (8 * (pos % 8)));
}

static void fill(unsigned char *data, size_t len, unsigned long long pos)
{
    for (size_t i = 0; i < len; i++)
        data[i] = pattern(pos + i);
}

static size_t count_wrong(const unsigned char *data, size_t len, unsigned long long pos)
{
    size_t wrong = 0;

    for (size_t i = 0; i < len; i++)
        wrong += data[i] != pattern(pos + i);
    return wrong;
}

static void prepare(int fd)
{
    static const char cubic[] = "cubic";

    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cubic, sizeof(cubic) - 1) < 0)
        die("cubic (allow it in the first namespace: sysctl "
            "net.ipv4.tcp_allowed_congestion_control)");
}

static struct chimney_conn *attach(int fd, const char *rundir)
{
    struct chimney_session *session = chimney_open(rundir);
    struct chimney_conn *conn;

    if (!session || (rundir && chimney_connected(session) != 1))
        die("no daemon");
    conn = chimney_attach(session, fd, 0);
    if (!conn)
        die("attach");
    if (rundir) {
        chimney_offload(conn, NULL);
        for (int i = 0; i < 2000 && chimney_state(conn) != CHIMNEY_OFFLOADED; i++)
            usleep(1000);
        if (chimney_state(conn) != CHIMNEY_OFFLOADED) {
            fprintf(stderr, "bulk: not offloaded\n");
            exit(1);
        }
    }
    return conn;
}

static int receive(uint16_t port, const char *rundir)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    static unsigned char buffer[BULK_CHUNK];
    struct chimney_conn *conn;
    double first = 0, last = 0;
    unsigned long long bytes = 0, wrong = 0;
    int one = 1, fd, listener = socket(AF_INET, SOCK_STREAM, 0);

    prepare(listener);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listener, 1) < 0)
        die("listen");
    printf("listening\n");
    fflush(stdout);
    fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    conn = attach(fd, rundir);
    if (chimney_send(conn, "g", 1, 0) != 1) /* go */
        die("send");
    for (;;) {
        ssize_t n = chimney_recv(conn, buffer, sizeof(buffer), 0);

        if (n < 0)
            die("recv");
        if (n == 0)
            break;
        last = now_s();
        if (!bytes)
            first = last;
        wrong += count_wrong(buffer, (size_t)n, bytes);
        bytes += (unsigned long long)n;
    }
    printf("{\"bytes\": %llu, \"seconds\": %.6f, \"wrong\": %llu}\n", bytes, last - first, wrong);
    chimney_close(conn);
    return wrong ? 1 : 0;
}

static int transmit(const char *address, uint16_t port, double seconds, const char *rundir)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    static unsigned char buffer[BULK_CHUNK];
    struct chimney_conn *conn;
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    unsigned long long bytes = 0;
    double end;
    char go;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    prepare(fd);
    if (inet_pton(AF_INET, address, &addr.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        die("connect");
    conn = attach(fd, rundir);
    if (chimney_recv(conn, &go, 1, 0) != 1)
        die("recv");
    for (end = now_s() + seconds; now_s() < end;) {
        ssize_t n;

        fill(buffer, sizeof(buffer), bytes);
        n = chimney_send(conn, buffer, sizeof(buffer), 0);
        if (n < 0)
            die("send");
        bytes += (unsigned long long)n;
    }
    if (!rundir)
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
    printf("{\"bytes\": %llu, \"retransmits\": %u, \"dsacks\": %u}\n", bytes,
           info.tcpi_total_retrans, info.tcpi_dsack_dups);
    chimney_close(conn);
    return 0;
}

int main(int argc, char **argv)
{
    const char *rundir = NULL;

    if (argc > 3 && strcmp(argv[argc - 2], "--rundir") == 0) {
        rundir = argv[argc - 1];
        argc -= 2;
    }
    if (argc == 3 && strcmp(argv[1], "recv") == 0)
        return receive((uint16_t)atoi(argv[2]), rundir);
    if (argc == 5 && strcmp(argv[1], "send") == 0)
        return transmit(argv[2], (uint16_t)atoi(argv[3]), atof(argv[4]), rundir);
    fprintf(stderr, "Usage: bulk recv PORT [--rundir DIR] | bulk send ADDR PORT SECONDS "
                    "[--rundir DIR]\n");
    return 2;
}
