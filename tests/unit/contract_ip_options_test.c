/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a rule: a connection that needs IP options is never offered to a target. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "host/repair.h"

/** An established connection over loopback; fd[0] is the one that is asked about. */
static void connection(int fd[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &length), 0);
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd[0], (struct sockaddr *)&at, sizeof(at)), 0);
    fd[1] = accept(listener, NULL, NULL);
    assert_true(fd[1] >= 0);
    close(listener);
}

/* rows: C151 */
static void ip_options_are_refused(void **state)
{
    static const uint8_t nothing[4] = {1, 1, 1, 0}; /* three no-operations, end of list */
    const char *why;
    int fd[2];

    connection(fd);
    why = repair_why_not(fd[0]);
    if (why && strcmp(why, "IP options") != 0) {
        /* Whatever else this place lacks, it is not the options. */
        print_message("without options: %s\n", why);
    }
    assert_int_equal(setsockopt(fd[0], IPPROTO_IP, IP_OPTIONS, nothing, sizeof(nothing)), 0);
    why = repair_why_not(fd[0]);
    assert_non_null(why);
    assert_string_equal(why, "IP options");
    /* And offered again when they are gone. */
    assert_int_equal(setsockopt(fd[0], IPPROTO_IP, IP_OPTIONS, NULL, 0), 0);
    why = repair_why_not(fd[0]);
    assert_true(!why || strcmp(why, "IP options") != 0);
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ip_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
