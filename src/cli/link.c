/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line to the daemon: requests and answers, one JSON object per line (docs/json.md).
 */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "daemon/protocol.h"

/** Longest answer: a list of the largest table. */
#define LINK_MAX_LINE (256u << 20)

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool link_open(struct link *link, const struct cli *cli)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", cli->rundir,
                     PROTOCOL_CONTROL_SOCKET);

    memset(link, 0, sizeof(*link));
    link->fd = -1;
    if (n < 0 || (size_t)n >= sizeof(address.sun_path)) {
        cli_fail("%s: too long for a socket's path", cli->rundir);
        return false;
    }
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd >= 0 && connect(link->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return true;
    if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR)
        cli_fail("no daemon at %s (start it with: chimneyd --port IFACE)", cli->rundir);
    else if (errno == EACCES || errno == EPERM)
        cli_fail("no permission for %s (run it as root)", address.sun_path);
    else
        cli_fail("%s: %s", address.sun_path, strerror(errno));
    link_close(link);
    return false;
}

void link_close(struct link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    free(link->buffer);
    link->fd = -1;
    link->buffer = NULL;
}

bool link_send(struct link *link, json_t *request)
{
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    size_t len = text ? strlen(text) : 0, sent = 0;

    json_decref(request);
    if (!text) {
        cli_fail("the request cannot be said in JSON: is an argument UTF-8?");
        return false;
    }
    text[len++] = '\n'; /* in place of the NUL */
    while (sent < len) {
        ssize_t n = send(link->fd, text + sent, len - sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break; /* what the daemon said before it hung up is read below */
        sent += (size_t)n;
    }
    free(text);
    return true;
}

/** Reads more; 1, 0 at the end, -1 after a line. */
static int link_fill(struct link *link, double deadline)
{
    struct pollfd p = {.fd = link->fd, .events = POLLIN};
    double left = deadline - now_s();
    ssize_t n;

    if (link->end == link->size) {
        size_t size = link->size ? link->size * 2 : 65536;
        char *buffer = size <= LINK_MAX_LINE ? realloc(link->buffer, size) : NULL;

        if (!buffer) {
            cli_fail("the daemon's answer is too long");
            return -1;
        }
        link->buffer = buffer;
        link->size = size;
    }
    if (deadline >= 0 && poll(&p, 1, left > 0 ? (int)(left * 1000) + 1 : 0) == 0) {
        if (now_s() < deadline)
            return 1;
        cli_fail("the daemon does not answer: see its log, or end it and start it again");
        return -1;
    }
    n = recv(link->fd, link->buffer + link->end, link->size - link->end, 0);
    if (n < 0 && errno == EINTR)
        return 1;
    if (n < 0 && errno != ECONNRESET) {
        cli_fail("reading from the daemon: %s", strerror(errno));
        return -1;
    }
    if (n <= 0)
        return 0;
    link->end += (size_t)n;
    return 1;
}

json_t *link_read(struct link *link, double timeout_s, bool *end)
{
    double deadline = timeout_s < 0 ? -1 : now_s() + timeout_s;
    size_t searched = link->start;
    json_error_t error;
    char *newline;
    json_t *json;

    *end = false;
    while (!(newline = link->end > searched
                           ? memchr(link->buffer + searched, '\n', link->end - searched)
                           : NULL)) {
        int rc;

        searched = link->end;
        if (link->start && link->end == link->size) {
            memmove(link->buffer, link->buffer + link->start, link->end - link->start);
            link->end -= link->start;
            searched -= link->start;
            link->start = 0;
        }
        rc = link_fill(link, deadline);
        if (rc <= 0) {
            *end = rc == 0;
            return NULL;
        }
    }
    json = json_loadb(link->buffer + link->start, (size_t)(newline - (link->buffer + link->start)),
                      0, &error);
    link->start = (size_t)(newline - link->buffer) + 1;
    if (!json)
        cli_fail("the daemon's answer is not JSON (%s): are chimney and chimneyd of one version?",
                 error.text);
    return json;
}

bool link_pending(const struct link *link)
{
    return link->end > link->start &&
           memchr(link->buffer + link->start, '\n', link->end - link->start);
}

bool link_wait(struct link *link, double timeout_s)
{
    struct pollfd p = {.fd = link->fd, .events = POLLIN};

    return link_pending(link) || poll(&p, 1, timeout_s > 0 ? (int)(timeout_s * 1000) + 1 : 0) > 0;
}

json_t *link_ask(const struct cli *cli, json_t *request, double timeout_s)
{
    struct link link;
    json_t *answer = NULL;
    bool end = false;

    if (!link_open(&link, cli)) {
        json_decref(request);
        return NULL;
    }
    if (link_send(&link, request)) {
        answer = link_read(&link, timeout_s, &end);
        if (!answer && end)
            cli_fail("the daemon hung up without an answer: see its log");
    }
    link_close(&link);
    return answer;
}

int link_finish(const struct cli *cli, json_t *answer)
{
    bool ok = field_bool(answer, "ok");

    if (cli->json) {
        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
    }
    if (!ok)
        cli_fail("%s", *field_text(answer, "error") ? field_text(answer, "error")
                                                    : "refused, without a reason");
    json_decref(answer);
    return ok ? CLI_OK : CLI_FAILED;
}
