/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds many connections on libchimney and echoes what comes, for bench/idle.py.
 *
 *     idle_server PORT COUNT            (the daemon is that of CHIMNEY_RUNDIR)
 *
 * Ends when standard input does.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <chimney/chimney.h>

#define MAX_EVENTS 256

static void die(const char *what)
{
    fprintf(stderr, "idle_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void echo(struct chimney_conn *conn)
{
    char data[4096];
    ssize_t n;

    while ((n = chimney_recv(conn, data, sizeof(data), MSG_DONTWAIT)) > 0)
        if (chimney_send(conn, data, (size_t)n, MSG_NOSIGNAL) != n)
            die("chimney_send");
    if (n == 0 || errno != EAGAIN)
        chimney_close(conn);
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    struct epoll_event events[MAX_EVENTS], event = {.events = EPOLLIN};
    static char on_listener, on_input;
    struct chimney_session *session;
    struct chimney_set *set;
    int listener, attached = 0, wanted;

    if (argc != 3) {
        fprintf(stderr, "usage: idle_server PORT COUNT\n");
        return 2;
    }
    addr.sin_port = htons((uint16_t)atoi(argv[1]));
    wanted = atoi(argv[2]);
    session = chimney_open(NULL);
    if (!session || !chimney_connected(session) || !(set = chimney_set_create(session)))
        die("no chimneyd");
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(listener, 4096) < 0)
        die("listen");
    event.data.ptr = &on_listener;
    chimney_set_fd_ctl(set, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &on_input;
    chimney_set_fd_ctl(set, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    printf("{\"kind\":\"ready\"}\n");
    fflush(stdout);
    for (;;) {
        int n = chimney_set_wait(set, events, MAX_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd;

            if (events[i].data.ptr == &on_input)
                return 0;
            if (events[i].data.ptr != &on_listener) {
                echo(events[i].data.ptr);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                event.data.ptr = chimney_attach(session, fd, CHIMNEY_ATTACH_ACCEPTED);
                if (!event.data.ptr || chimney_set_add(set, event.data.ptr, &event) < 0)
                    die("chimney_attach");
                if (++attached == wanted) {
                    printf("{\"kind\":\"attached\"}\n");
                    fflush(stdout);
                }
            }
        }
    }
}
