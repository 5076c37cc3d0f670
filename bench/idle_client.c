/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many idle connections to one server, on plain sockets, for bench/idle.py.
 *
 *     idle_client ADDR PORT COUNT
 *
 * "check" on standard input sends a message of its own on every connection and waits for its echo;
 * prints how many came back as they should, as one line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64
/** Connections asked at a time: a veth's ring takes 256 frames. */
#define WINDOW 64
#define ECHO_WAIT_MS 5000

static unsigned round_number;

static void message(char text[MESSAGE], unsigned connection)
{
    memset(text, 0, MESSAGE);
    snprintf(text, MESSAGE, "round %u connection %u", round_number, connection);
}

static int receive_echo(int fd, unsigned connection)
{
    char want[MESSAGE], got[MESSAGE];
    size_t have = 0;

    message(want, connection);
    while (have < MESSAGE) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, ECHO_WAIT_MS) != 1) {
            fprintf(stderr, "connection %u: no answer\n", connection);
            return 0;
        }
        n = recv(fd, got + have, MESSAGE - have, 0);
        if (n <= 0) {
            fprintf(stderr, "connection %u: %s\n", connection, n ? strerror(errno) : "end");
            return 0;
        }
        have += (size_t)n;
    }
    return memcmp(want, got, MESSAGE) == 0;
}

static void check(const int *fds, unsigned count)
{
    char text[MESSAGE];
    unsigned alive = 0;

    round_number++;
    for (unsigned first = 0; first < count; first += WINDOW) {
        unsigned end = first + WINDOW < count ? first + WINDOW : count;

        for (unsigned i = first; i < end; i++) {
            message(text, i);
            send(fds[i], text, MESSAGE, MSG_NOSIGNAL);
        }
        for (unsigned i = first; i < end; i++)
            alive += (unsigned)receive_echo(fds[i], i);
    }
    printf("{\"kind\":\"check\",\"alive\":%u,\"of\":%u}\n", alive, count);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    char line[64];
    unsigned count;
    int *fds;

    if (argc != 4 || inet_pton(AF_INET, argv[1], &addr.sin_addr) != 1) {
        fprintf(stderr, "usage: idle_client ADDR PORT COUNT\n");
        return 2;
    }
    addr.sin_port = htons((uint16_t)atoi(argv[2]));
    count = (unsigned)atoi(argv[3]);
    fds = calloc(count, sizeof(*fds));
    for (unsigned i = 0; fds && i < count; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0 || connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)) < 0) {
            fprintf(stderr, "idle_client: connection %u: %s\n", i, strerror(errno));
            return 1;
        }
    }
    printf("{\"kind\":\"ready\"}\n");
    fflush(stdout);
    while (fds && fgets(line, sizeof(line), stdin))
        if (strncmp(line, "check", 5) == 0)
            check(fds, count);
    free(fds);
    return 0;
}
