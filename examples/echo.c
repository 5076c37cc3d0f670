/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest server on libchimney: echoes what it receives, one connection after the other.
 * Chimney's calls are the socket calls with another first argument.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <chimney/chimney.h>

int main(void)
{
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_port = htons(7)};
    struct chimney_session *session = chimney_open(NULL); /* without a daemon: kernel only */
    int listener = socket(AF_INET6, SOCK_STREAM, 0), fd;

    if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listener, 16) < 0) {
        perror("echo");
        return 1;
    }
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct chimney_conn *conn = chimney_attach(session, fd, CHIMNEY_ATTACH_ACCEPTED);
        char data[65536];
        ssize_t n;

        while (conn && (n = chimney_recv(conn, data, sizeof(data), 0)) > 0)
            for (ssize_t done = 0, sent = 0; done < n && sent >= 0; done += sent)
                sent = chimney_send(conn, data + done, (size_t)(n - done), MSG_NOSIGNAL);
        chimney_close(conn);
    }
    chimney_end(session);
    return 0;
}
